package client

import (
	"context"
	"errors"
	"sync"
)

// errUnasked is what a tunnel fails with whose origin speaks before it is asked.
var errUnasked = errors.New("the origin sent bytes that no request asked for")

// turns is a Tunnel as net/http uses it, who asks and who answers in turn. What the origin says out of
// turn must answer no request: behind a response it would wait in net/http's buffer for the next one.
type turns struct {
	*Tunnel

	mu       sync.Mutex
	asked    bool          // a request has begun to leave, and its response is not over
	waiting  bool          // net/http has used all that it read, and reads on
	dead     bool          // it reads no more
	changed  chan struct{} // closed when waiting or dead become true; nil until someone waits
	breakOff func()        // for who sends, when there is nobody left to answer
}

func newTurns(t *Tunnel) *turns { return &turns{Tunnel: t} }

// Read fails for what comes out of turn.
func (t *turns) Read(p []byte) (int, error) {
	t.set(&t.waiting)
	n, err := t.Tunnel.Read(p)
	t.mu.Lock()
	t.waiting = false
	if n > 0 && !t.asked {
		n, err = 0, errUnasked
	}
	t.mu.Unlock()
	if err != nil {
		t.set(&t.dead)
		t.mu.Lock()
		breakOff := t.breakOff
		t.mu.Unlock()
		if breakOff != nil {
			breakOff()
		}
	}
	return n, err
}

// send begins to send. breakOff is called when the tunnel fails.
func (t *turns) send(breakOff func()) {
	t.mu.Lock()
	t.breakOff = breakOff
	t.mu.Unlock()
}

// Write begins a turn.
func (t *turns) Write(p []byte) (int, error) {
	t.mu.Lock()
	t.asked = true
	t.mu.Unlock()
	return t.Tunnel.Write(p)
}

// Close is net/http's last word.
func (t *turns) Close() error {
	t.set(&t.dead)
	return t.Tunnel.Close()
}

func (t *turns) set(what *bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	*what = true
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}

// over ends a turn.
func (t *turns) over() {
	t.mu.Lock()
	t.asked, t.breakOff = false, nil
	t.mu.Unlock()
}

// quiet waits until nothing of an earlier response is left. It returns false, without an error, for a
// tunnel that is of no more use.
func (t *turns) quiet(ctx context.Context) (bool, error) {
	for {
		t.mu.Lock()
		waiting, dead := t.waiting, t.dead
		if t.changed == nil {
			t.changed = make(chan struct{})
		}
		changed := t.changed
		t.mu.Unlock()
		if waiting || dead {
			return !dead, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false, step(ctx, nil)
		}
	}
}
