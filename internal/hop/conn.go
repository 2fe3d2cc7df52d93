package hop

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// unreadSlack is how many bytes may arrive after Close before the stream is reset: room for the
// goodbye of an inner TLS session, which is not worth a reset that could overtake our own last bytes.
const unreadSlack = 4 << 10

// A Conn makes one end of a tunnel a [net.Conn] with deadlines, for clients and origins; a join uses
// the [Stream] itself. All methods are safe for concurrent use.
type Conn struct {
	s      Stream
	high   int
	linger time.Duration

	mu       sync.Mutex
	change   sync.Cond // anything below has changed
	in       []*Buffer // arrived and not read
	unread   int       // bytes in it, and after Close those that were thrown away
	end      error     // what End brought
	closed   bool
	sendDone bool // CloseWrite or Close
	timer    *time.Timer

	read, write deadline

	// writing makes a Write's chunks contiguous, as net.Conn's callers expect.
	writing chan struct{}
}

// Watermarks is implemented by Streams whose [Limits] are not the default ones, so that [Conn] waits
// where the stream reports.
type Watermarks interface {
	Watermarks() (high, low int)
	LingerTime() time.Duration
}

// NewConn starts s and returns the connection over it.
func NewConn(s Stream) *Conn {
	l := Limits{}.WithDefaults()
	c := &Conn{s: s, high: l.HighWater, linger: l.Linger, writing: make(chan struct{}, 1)}
	if w, ok := s.(Watermarks); ok {
		c.high, _ = w.Watermarks()
		c.linger = w.LingerTime()
	}
	c.change.L = &c.mu
	s.Start((*connSink)(c))
	return c
}

// connSink keeps the Sink's methods out of Conn's API.
type connSink Conn

func (k *connSink) Data(b *Buffer) {
	c := (*Conn)(k)
	c.mu.Lock()
	if c.closed {
		c.unread += b.Len()
		c.mu.Unlock()
		b.Release()
		c.giveUp()
		return
	}
	c.unread += b.Len()
	if n := len(c.in); n == 0 || !c.in[n-1].Absorb(b) {
		c.in = append(c.in, b)
	}
	c.change.Broadcast()
	c.mu.Unlock()
}

func (k *connSink) Writable() {
	k.mu.Lock()
	k.change.Broadcast()
	closed := k.closed
	k.mu.Unlock()
	if closed {
		(*Conn)(k).giveUp()
	}
}

func (k *connSink) End(err error) {
	c := (*Conn)(k)
	c.mu.Lock()
	c.end = err
	if c.timer != nil {
		c.timer.Stop()
	}
	c.change.Broadcast()
	c.mu.Unlock()
}

// giveUp resets a closed stream whose peer goes on sending, unless bytes of ours are still leaving;
// those have until the linger timer.
func (c *Conn) giveUp() {
	c.mu.Lock()
	over := c.end == nil && c.unread > unreadSlack
	c.mu.Unlock()
	if over && c.s.Queued() == 0 {
		c.s.Reset(Cancel)
	}
}

// Read reads what arrived. After the peer's END_STREAM it returns [io.EOF], after a reset
// *[ResetError], after the end of the session the session's error; bytes that arrived before come
// first.
func (c *Conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	for {
		switch {
		case c.closed:
			c.mu.Unlock()
			return 0, net.ErrClosed
		case c.read.passed:
			c.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case len(c.in) > 0:
			n, spent := c.take(p)
			c.mu.Unlock()
			for _, b := range spent {
				b.Release()
			}
			return n, nil
		case c.end != nil:
			err := c.end
			c.mu.Unlock()
			return 0, err
		case len(p) == 0:
			c.mu.Unlock()
			return 0, nil
		}
		c.change.Wait()
	}
}

// take copies out of the queue; what it has emptied is released by the caller, without the lock.
func (c *Conn) take(p []byte) (n int, spent []*Buffer) {
	for n < len(p) && len(c.in) > 0 {
		b := c.in[0]
		m := copy(p[n:], b.Bytes())
		n += m
		if m < b.Len() {
			// Credit goes back with what was read, or a reader of few bytes could stall its sender.
			head := b.Split(m)
			spent = append(spent, head)
			break
		}
		spent = append(spent, b)
		c.in[0] = nil
		c.in = c.in[1:]
	}
	c.unread -= n
	return n, spent
}

// Write queues p and blocks while Limits.HighWater bytes are queued already. After a write deadline
// it reports how much of p was queued.
func (c *Conn) Write(p []byte) (n int, err error) {
	if err := c.acquire(); err != nil {
		return 0, err
	}
	defer func() { <-c.writing }()
	for {
		if err := c.awaitRoom(); err != nil {
			return n, err
		}
		if len(p) == 0 {
			return n, nil
		}
		b := NewBufferSize(min(len(p), MaxChunk))
		m := b.Append(p)
		if err := c.s.Send(b); err != nil {
			return n, c.sendError(err)
		}
		n += m
		p = p[m:]
		if len(p) == 0 {
			return n, nil
		}
	}
}

// acquire waits for other Writes, but not past the deadline.
func (c *Conn) acquire() error {
	select {
	case c.writing <- struct{}{}:
		return nil
	default:
	}
	c.mu.Lock()
	expired := c.write.channel()
	c.mu.Unlock()
	select {
	case c.writing <- struct{}{}:
		return nil
	case <-expired:
		return os.ErrDeadlineExceeded
	}
}

func (c *Conn) awaitRoom() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.sendDone:
			return net.ErrClosed
		case c.write.passed:
			return os.ErrDeadlineExceeded
		case c.end != nil && !errors.Is(c.end, io.EOF):
			return c.end
		case c.s.Queued() < c.high:
			return nil
		}
		c.change.Wait()
	}
}

// sendError prefers what ended the stream to what Send says about it.
func (c *Conn) sendError(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil && !errors.Is(c.end, io.EOF) {
		return c.end
	}
	return err
}

// CloseWrite ends the sending side behind everything written.
func (c *Conn) CloseWrite() error {
	c.mu.Lock()
	if c.sendDone {
		c.mu.Unlock()
		return net.ErrClosed
	}
	c.sendDone = true
	c.change.Broadcast()
	c.mu.Unlock()
	return c.s.CloseSend()
}

// Close ends the sending side behind everything written, as a TCP close does, and throws away what
// arrives. The stream is reset with [Cancel] when the peer goes on sending, or has not ended its side
// within Limits.Linger. To drop everything at once, call Stream().Reset.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return net.ErrClosed
	}
	c.closed = true
	sendDone := c.sendDone
	c.sendDone = true
	in := c.in
	c.in = nil
	open := c.end == nil
	if open {
		c.timer = time.AfterFunc(c.linger, func() { c.s.Reset(Cancel) })
	}
	c.read.set(&c.mu, &c.change, time.Time{})
	c.write.set(&c.mu, &c.change, time.Time{})
	c.change.Broadcast()
	c.mu.Unlock()
	for _, b := range in {
		b.Release()
	}
	if !sendDone {
		c.s.CloseSend() // an error says that the stream has ended, which is what Close wants
	}
	if open {
		c.giveUp()
	}
	return nil
}

// HopState is the TLS state of the hop that the stream is on.
func (c *Conn) HopState() tls.ConnectionState { return c.s.Session().Peer().TLS }

// Stream is what c reads and writes.
func (c *Conn) Stream() Stream { return c.s }

// LocalAddr is the hop's.
func (c *Conn) LocalAddr() net.Addr { return c.s.Session().Peer().Local }

// RemoteAddr is the neighbour's, not that of the far end of the tunnel.
func (c *Conn) RemoteAddr() net.Addr { return c.s.Session().Peer().Remote }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline bounds pending and later Reads; zero means no bound.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadline(&c.read, t) }

// SetWriteDeadline bounds pending and later Writes; zero means no bound.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadline(&c.write, t) }

func (c *Conn) setDeadline(d *deadline, t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	d.set(&c.mu, &c.change, t)
	return nil
}

// A deadline is guarded by its Conn's mutex.
type deadline struct {
	passed bool
	timer  *time.Timer
	gen    int           // of the last set; an older timer that fires late counts for nothing
	expiry chan struct{} // closed when passed; nil until someone selects on it
}

func (d *deadline) set(mu *sync.Mutex, change *sync.Cond, t time.Time) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.gen++
	if d.passed {
		d.passed, d.expiry = false, nil
	}
	if t.IsZero() {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		d.pass(change)
		return
	}
	gen := d.gen
	d.timer = time.AfterFunc(wait, func() {
		mu.Lock()
		defer mu.Unlock()
		if d.gen == gen {
			d.pass(change)
		}
	})
}

func (d *deadline) pass(change *sync.Cond) {
	d.passed = true
	if d.expiry != nil {
		close(d.expiry)
	}
	change.Broadcast()
}

func (d *deadline) channel() <-chan struct{} {
	if d.expiry == nil {
		d.expiry = make(chan struct{})
		if d.passed {
			close(d.expiry)
		}
	}
	return d.expiry
}
