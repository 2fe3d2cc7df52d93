// Package pipe is a connection in memory for tests: buffered, with half-close, deadlines and reset,
// as TCP has them and [net.Pipe] does not. Call [New] for its two ends, [Listen] for a listener.
package pipe

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Size is how many bytes wait in each direction before a writer blocks.
const Size = 64 << 10

// ErrReset is what the other end reads after Close with SetLinger(0).
var ErrReset error = syscall.ECONNRESET

// A Conn is one end. It is a [net.Conn] with CloseWrite and SetLinger.
type Conn struct {
	in, out *half
	linger  bool
	addr    addr
}

type addr string

func (addr) Network() string  { return "pipe" }
func (a addr) String() string { return string(a) }

// half is one direction.
type half struct {
	mu     sync.Mutex
	cond   sync.Cond
	buf    []byte
	eof    bool  // the writer has finished
	broken error // nobody reads or writes any more
	rd, wr deadline
}

type deadline struct {
	timer *time.Timer
	past  bool
}

func newHalf() *half {
	h := new(half)
	h.cond.L = &h.mu
	return h
}

// New returns the two ends of a connection.
func New() (a, b *Conn) {
	x, y := newHalf(), newHalf()
	return &Conn{in: x, out: y, linger: true, addr: "a"}, &Conn{in: y, out: x, linger: true, addr: "b"}
}

func (c *Conn) Read(p []byte) (int, error) {
	h := c.in
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.broken != nil:
			return 0, h.broken
		case h.rd.past:
			return 0, os.ErrDeadlineExceeded
		case len(h.buf) > 0 || len(p) == 0:
			n := copy(p, h.buf)
			h.buf = h.buf[n:]
			h.cond.Broadcast()
			return n, nil
		case h.eof:
			return 0, io.EOF
		}
		h.cond.Wait()
	}
}

func (c *Conn) Write(p []byte) (n int, err error) {
	h := c.out
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.broken != nil:
			return n, h.broken
		case h.eof:
			return n, net.ErrClosed
		case h.wr.past:
			return n, os.ErrDeadlineExceeded
		case len(p) == 0:
			return n, nil
		case len(h.buf) < Size:
			m := min(len(p), Size-len(h.buf))
			h.buf = append(h.buf, p[:m]...)
			p, n = p[m:], n+m
			h.cond.Broadcast()
			continue
		}
		h.cond.Wait()
	}
}

// CloseWrite ends this end's direction.
func (c *Conn) CloseWrite() error {
	h := c.out
	h.mu.Lock()
	defer h.mu.Unlock()
	h.eof = true
	h.cond.Broadcast()
	return nil
}

// SetLinger with 0 makes Close a reset.
func (c *Conn) SetLinger(sec int) error {
	c.linger = sec != 0
	return nil
}

// Close ends both directions. What was written before is still read by the other end.
func (c *Conn) Close() error {
	c.in.end(net.ErrClosed, syscall.EPIPE)
	if !c.linger {
		c.out.fail(ErrReset)
		return nil
	}
	return c.CloseWrite()
}

// end makes reads fail with r; the writer of this half learns w.
func (h *half) end(r, w error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broken == nil {
		h.broken = fmt.Errorf("%w: %w", r, w)
	}
	h.buf = nil
	h.cond.Broadcast()
}

func (h *half) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broken == nil {
		h.broken = err
	}
	h.buf = nil
	h.cond.Broadcast()
}

func (h *half) set(d *deadline, t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	d.past, d.timer = !t.IsZero() && time.Until(t) <= 0, nil
	if !t.IsZero() && !d.past {
		var timer *time.Timer
		timer = time.AfterFunc(time.Until(t), func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			if d.timer == timer {
				d.past = true
				h.cond.Broadcast()
			}
		})
		d.timer = timer
	}
	h.cond.Broadcast()
}

// SetDeadline implements [net.Conn].
func (c *Conn) SetDeadline(t time.Time) error {
	c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements [net.Conn].
func (c *Conn) SetReadDeadline(t time.Time) error { c.in.set(&c.in.rd, t); return nil }

// SetWriteDeadline implements [net.Conn].
func (c *Conn) SetWriteDeadline(t time.Time) error { c.out.set(&c.out.wr, t); return nil }

// LocalAddr implements [net.Conn].
func (c *Conn) LocalAddr() net.Addr { return c.addr }

// RemoteAddr implements [net.Conn].
func (c *Conn) RemoteAddr() net.Addr { return addr("pipe") }

// A Listener is a [net.Listener] whose connections are made with Dial.
type Listener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// Listen returns a listener in memory.
func Listen() *Listener {
	return &Listener{conns: make(chan net.Conn), done: make(chan struct{})}
}

// Dial makes a connection and waits until it is accepted.
func (l *Listener) Dial(ctx context.Context) (*Conn, error) {
	a, b := New()
	select {
	case l.conns <- b:
		return a, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements [net.Listener].
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr implements [net.Listener].
func (l *Listener) Addr() net.Addr { return addr("pipe") }
