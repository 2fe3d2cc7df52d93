package client

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"vitrine/internal/hop"
)

// A pool holds the tunnels of a Transport. No method of an http.ClientConn is called while mu is held:
// its state hook takes mu.
type pool struct {
	dialer      *Dialer
	base        *http.Transport
	max         int
	idleTimeout time.Duration
	keep        bool

	mu      sync.Mutex
	idle    map[string][]*conn          // by authority, the last used at the end
	all     map[*conn]struct{}          // idle and busy
	slots   int                         // tunnels open or being opened, and exchanges without one
	changed chan struct{}               // closed and replaced when a slot or a tunnel became free
	splits  map[*splitExchange]struct{} // under way; each has a slot
	closed  bool
	wg      sync.WaitGroup // timers that run, and closings
}

// A conn is a tunnel with HTTP/1.1 on it.
type conn struct {
	p      *pool
	key    string // authority
	tunnel *Tunnel
	turns  *turns
	cc     *http.ClientConn

	// Guarded by pool.mu.
	idle  bool
	since time.Time
	timer *time.Timer
	gone  bool
	last  bool // no exchange follows the one under way
	// sending: a RoundTrip has not returned; rested: meanwhile its exchange has ended.
	sending, rested bool
}

type turnsKey struct{}

// roomPatience is how long a CONNECT waits before the oldest idle tunnel makes room for it: a proxy may
// allow fewer streams than max tunnels.
const roomPatience = time.Second

// take returns an idle tunnel to a's authority, reserved, or opens one; fresh says which. Where the exchange goes
// without a tunnel, it returns none and sets a's route, and the caller has a slot.
func (p *pool) take(ctx context.Context, a *attempt) (c *conn, fresh bool, err error) {
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, false, ErrClosed
		}
		if list := p.idle[a.authority]; len(list) > 0 {
			c := list[len(list)-1]
			p.unidleLocked(c)
			p.mu.Unlock()
			if c.cc.Reserve() != nil {
				if c.cc.Err() != nil {
					p.remove(c)
				}
				continue
			}
			quiet, err := c.turns.quiet(ctx)
			if quiet {
				return c, false, nil
			}
			c.cc.Close()
			p.remove(c)
			if err != nil {
				return nil, false, err
			}
			continue
		}
		if p.slots < p.max {
			p.slots++
			p.mu.Unlock()
			c, err := p.dial(ctx, a)
			return c, true, err
		}
		if c := p.oldestLocked(); c != nil {
			p.unidleLocked(c)
			p.mu.Unlock()
			c.cc.Close()
			p.remove(c)
			continue
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, false, step(ctx, nil)
		}
	}
}

// dial opens a tunnel on a slot that the caller took.
func (p *pool) dial(ctx context.Context, a *attempt) (*conn, error) {
	a.room = p.makeRoom
	t, err := p.dialer.open(ctx, a)
	if err != nil {
		p.release()
		return nil, err
	}
	if t == nil {
		return nil, nil
	}
	// What was chosen was chosen once.
	c := &conn{p: p, key: a.authority, tunnel: t, turns: newTurns(t), last: a.chosen == t.level}
	c.cc, err = p.base.NewClientConn(context.WithValue(ctx, turnsKey{}, c.turns), "https", a.authority)
	if err == nil {
		err = c.cc.Reserve()
	}
	if err != nil {
		switch fault := t.fault(); { // it ended before it was used
		case fault != nil:
			err = fault
		case t.ended.Load():
			err = errNoAnswer()
		}
		if c.cc != nil {
			c.cc.Close()
		}
		t.Close()
		p.release()
		return nil, err
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		c.cc.Close()
		t.Close()
		p.release()
		return nil, ErrClosed
	}
	p.all[c] = struct{}{}
	p.mu.Unlock()
	c.cc.SetStateHook(c.stateChanged)
	return c, nil
}

// permit says whether a's credentials, if it has any, may leave on c, which take reserved. c rests again when
// they may not.
func (p *pool) permit(ctx context.Context, c *conn, a *attempt, fresh bool) error {
	if len(a.fields) == 0 || !c.tunnel.level.Readable() || c.tunnel.credentials() {
		return nil
	}
	err := keptBack(a.fields, nil)
	if !fresh { // else the user was asked a moment ago
		err = p.dialer.askAgain(ctx, c.tunnel, a)
	}
	if err != nil {
		c.cc.Release()
	}
	return err
}

// stateChanged is called by net/http, on the goroutine that read the end of a body or closed it.
func (c *conn) stateChanged(cc *http.ClientConn) {
	switch {
	case cc.Err() != nil:
		c.p.remove(c)
	case cc.Available() > 0 && cc.InFlight() == 0:
		c.tunnel.busy.Store(false)
		c.turns.over()
		c.p.putIdle(c)
	}
}

func (p *pool) putIdle(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.gone || c.idle || p.closed { // close closes what it found
		return
	}
	if c.sending {
		c.rested = true
		return
	}
	if !p.keep || c.last {
		// On a goroutine of its own: net/http calls the state hook where a goodbye to a slow peer must
		// not hold it up.
		p.wg.Go(func() {
			c.cc.Close()
			p.remove(c)
		})
		return
	}
	c.idle, c.since = true, time.Now()
	p.idle[c.key] = append(p.idle[c.key], c)
	p.wg.Add(1)
	c.timer = time.AfterFunc(p.idleTimeout, func() {
		defer p.wg.Done()
		p.expire(c)
	})
	p.wakeLocked()
}

// sent begins and ends a RoundTrip on c. net/http calls the state hook of an exchange without a response
// body before it hands the response over: who closed c then would have an error in its place.
func (p *pool) sent(c *conn, over bool) {
	p.mu.Lock()
	c.sending = !over
	rested := c.rested && over
	c.rested = false
	p.mu.Unlock()
	if rested {
		p.putIdle(c)
	}
}

// noMore says that no exchange follows on c. c may have become idle already.
func (p *pool) noMore(c *conn) {
	p.mu.Lock()
	c.last = true
	idle := c.idle
	p.unidleLocked(c)
	p.mu.Unlock()
	if idle {
		c.cc.Close()
		p.remove(c)
	}
}

// expire closes c unless it was taken while its timer fired.
func (p *pool) expire(c *conn) {
	p.mu.Lock()
	if !c.idle || time.Since(c.since) < p.idleTimeout {
		p.mu.Unlock()
		return
	}
	p.unidleLocked(c)
	p.mu.Unlock()
	c.cc.Close()
	p.remove(c)
}

// unidleLocked takes c off the idle list.
func (p *pool) unidleLocked(c *conn) {
	if !c.idle {
		return
	}
	c.idle = false
	if c.timer.Stop() {
		p.wg.Done()
	}
	list := p.idle[c.key]
	list = slices.DeleteFunc(list, func(o *conn) bool { return o == c })
	if len(list) == 0 {
		delete(p.idle, c.key)
	} else {
		p.idle[c.key] = list
	}
}

// makeRoom closes an idle tunnel each time that roomPatience has passed, until enough is called.
func (p *pool) makeRoom() (enough func()) {
	var mu sync.Mutex
	var timer *time.Timer
	over := false
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(roomPatience, func() {
		p.closeOldest()
		mu.Lock()
		defer mu.Unlock()
		if !over {
			timer.Reset(roomPatience)
		}
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
		timer.Stop()
	}
}

func (p *pool) closeOldest() {
	p.mu.Lock()
	c := p.oldestLocked()
	if c == nil || p.closed {
		p.mu.Unlock()
		return
	}
	p.unidleLocked(c)
	p.wg.Add(1)
	p.mu.Unlock()
	defer p.wg.Done()
	c.cc.Close()
	p.remove(c)
}

func (p *pool) oldestLocked() *conn {
	var oldest *conn
	for _, list := range p.idle {
		if c := list[0]; oldest == nil || c.since.Before(oldest.since) {
			oldest = c
		}
	}
	return oldest
}

// remove forgets a tunnel that is closed, and closes what net/http may have left.
func (p *pool) remove(c *conn) {
	p.mu.Lock()
	if c.gone {
		p.mu.Unlock()
		return
	}
	c.gone = true
	p.unidleLocked(c)
	delete(p.all, c)
	p.slots--
	p.wakeLocked()
	p.mu.Unlock()
	c.tunnel.Close()
}

func (p *pool) release() {
	p.mu.Lock()
	p.slots--
	p.wakeLocked()
	p.mu.Unlock()
}

func (p *pool) wakeLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *pool) closeIdle() {
	p.mu.Lock()
	var idle []*conn
	for _, list := range p.idle {
		idle = append(idle, list...)
	}
	for _, c := range idle {
		p.unidleLocked(c)
	}
	p.mu.Unlock()
	for _, c := range idle {
		c.cc.Close()
		p.remove(c)
	}
	p.dialer.hop1.forget()
	p.dialer.hop1.closeIdle()
}

func (p *pool) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

func (p *pool) close() error {
	p.mu.Lock()
	p.closed = true
	var all []*conn
	for c := range p.all {
		all = append(all, c)
	}
	for _, c := range all {
		p.unidleLocked(c)
	}
	for e := range p.splits {
		e.asked.Reset(hop.Cancel)
	}
	p.wakeLocked()
	p.mu.Unlock()
	for _, c := range all {
		p.wg.Go(func() {
			c.cc.Close()
			p.remove(c)
		})
	}
	p.wg.Wait()
	return p.dialer.Close()
}
