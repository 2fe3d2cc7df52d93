package proxy

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"net/http"
	"sync"
	"time"

	"vitrine/internal/evidence"
	"vitrine/internal/pki"
)

// A keeper has the connections to origins that a session's evidence is of, by the evidence's SHA-256. A
// request that names one goes out on it and on no other, so that what the client verified is about the
// connection that its request takes.
//
// No method of an http.ClientConn is called while mu is held: its state hook takes mu.
type keeper struct {
	run *running

	mu    sync.Mutex
	conns map[[32]byte]*kept // nil for one that is to come
	wg    sync.WaitGroup     // timers that run, and closings
}

// kept is a connection to an origin, with an HTTP client's end on it.
type kept struct {
	keeper    *keeper
	id        [32]byte
	authority string
	epoch     uint64 // of the settings that it was made under
	made      time.Time
	state     tls.ConnectionState
	origin    Party
	conn      *originConn
	cc        *http.ClientConn
	done      func() // gives its place in the pool back; may be nil

	// Guarded by keeper.mu.
	users int
	since time.Time   // when it was used last
	timer *time.Timer // runs while there are no users
	gone  bool        // nobody finds it any more
}

func newKeeper(r *running) *keeper { return &keeper{run: r, conns: make(map[[32]byte]*kept)} }

// name is the evidence e as it is shown, and its id, which is of the connection alone that keep is called for next:
// two claims about an origin within a millisecond would be the same bytes, so the later one is dated behind the other.
func (k *keeper) name(e *evidence.Evidence) (p []byte, id [32]byte, err error) {
	dated := *e
	for {
		if p, err = dated.Append(nil); err != nil {
			return nil, id, err
		}
		if id = sha256.Sum256(p); k.reserve(id) {
			return p, id, nil
		}
		dated.Time = dated.Time.Add(time.Millisecond)
	}
}

// reserve makes id that of a connection to come, unless it is another one's.
func (k *keeper) reserve(id [32]byte) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, taken := k.conns[id]; taken {
		return false
	}
	k.conns[id] = nil
	return true
}

// keep takes up's connection over, whose evidence name gave this id. After an error up is still the caller's, and
// the id nobody's.
func (k *keeper) keep(ctx context.Context, up *Upstream, authority string, id [32]byte) error {
	err := k.tryKeep(ctx, up, authority, id)
	if err != nil {
		k.mu.Lock()
		delete(k.conns, id)
		k.mu.Unlock()
	}
	return err
}

func (k *keeper) tryKeep(ctx context.Context, up *Upstream, authority string, id [32]byte) error {
	if !k.makeRoom() {
		return errUpstreamsFull
	}
	c := &kept{
		keeper: k, id: id, authority: authority, epoch: up.epoch, made: time.Now(), state: up.State,
		conn: newOriginConn(up), done: up.Done,
	}
	if addr := up.HTTP.RemoteAddr(); addr != nil {
		c.origin.Addr = addr.String()
	}
	if certs := up.State.PeerCertificates; len(certs) > 0 {
		c.origin.Subject, c.origin.SPKI = certs[0].Subject.String(), pki.SPKIHash(certs[0])
	}
	cc, err := k.run.origins.clientConn(ctx, c.conn, authority, k.run.limits.Handshake)
	if err != nil {
		return err
	}
	c.cc = cc
	up.HTTP, up.Done = nil, nil
	k.mu.Lock()
	k.conns[id] = c
	c.rest()
	k.mu.Unlock()
	if up.spare != nil {
		up.spare.offer(c.yield)
	}
	cc.SetStateHook(c.stateChanged)
	return nil
}

// makeRoom ends the connection that was used the longest ago when there are too many, and reports whether
// there is room then.
func (k *keeper) makeRoom() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.conns) <= k.run.limits.Kept { // the one to come is among them
		return true
	}
	var oldest *kept
	for _, c := range k.conns {
		if c != nil && c.users == 0 && (oldest == nil || c.since.Before(oldest.since)) {
			oldest = c
		}
	}
	if oldest == nil {
		return false
	}
	oldest.drop()
	return true
}

// take finds the connection for a request, with a place for it: nil where there is none that is as good as
// on the day it was made, or where it is busy. The caller gives it back with put.
func (k *keeper) take(id [32]byte, authority string, epoch uint64) *kept {
	k.mu.Lock()
	c := k.conns[id]
	if c == nil || c.authority != authority {
		k.mu.Unlock()
		return nil
	}
	if c.epoch != epoch || time.Since(c.made) > k.run.limits.KeptLife {
		c.drop()
		k.mu.Unlock()
		return nil
	}
	c.wake()
	k.mu.Unlock()
	if c.cc.Reserve() == nil {
		return c
	}
	c.put()
	return nil
}

// put gives a place on c back.
func (c *kept) put() {
	broken := c.cc.Err() != nil
	k := c.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	c.users--
	switch {
	case c.users > 0:
	case c.gone:
		k.wg.Go(c.close)
	case broken, time.Since(c.made) > k.run.limits.KeptLife:
		c.drop()
	default:
		c.rest()
	}
}

// wake counts a user. keeper.mu is held, and so it is in rest and drop.
func (c *kept) wake() {
	if c.users++; c.users == 1 && c.timer.Stop() {
		c.keeper.wg.Done()
	}
}

// rest starts the clock of a connection without users.
func (c *kept) rest() {
	c.since = time.Now()
	c.keeper.wg.Add(1)
	c.timer = time.AfterFunc(c.keeper.run.limits.KeptIdle, func() {
		defer c.keeper.wg.Done()
		c.keeper.mu.Lock()
		defer c.keeper.mu.Unlock()
		if c.users == 0 && time.Since(c.since) >= c.keeper.run.limits.KeptIdle {
			c.drop()
		}
	})
}

// drop lets nobody find c any more, and closes it once it has no users.
func (c *kept) drop() {
	if c.gone {
		return
	}
	c.gone = true
	delete(c.keeper.conns, c.id)
	if c.users > 0 {
		return
	}
	if c.timer.Stop() {
		c.keeper.wg.Done()
	}
	c.keeper.wg.Go(c.close)
}

// forget drops c.
func (c *kept) forget() {
	c.keeper.mu.Lock()
	defer c.keeper.mu.Unlock()
	c.drop()
}

// yield ends c for the sake of another connection, if it has no users.
func (c *kept) yield() bool {
	c.keeper.mu.Lock()
	defer c.keeper.mu.Unlock()
	if c.users > 0 || c.gone {
		return false
	}
	c.drop()
	return true
}

func (c *kept) close() {
	c.cc.Close()
	c.conn.Close() // its own error is of a connection that has ended, and nobody's business
	if c.done != nil {
		c.done()
	}
}

// stateChanged is called by net/http.
func (c *kept) stateChanged(cc *http.ClientConn) {
	if cc.Err() != nil {
		c.forget()
	}
}

// close ends every connection. Nobody uses one any more, and none is to come: the session has ended.
func (k *keeper) close() {
	k.mu.Lock()
	for _, c := range k.conns {
		c.drop()
	}
	k.mu.Unlock()
	k.wg.Wait()
}
