package itls

import (
	"errors"
	"net"
	"sync"
	"time"

	"vitrine/internal/tlsmsg"
)

// output is the sending direction. Its mutex is held by one Write, or by whoever sends an alert or
// a KeyUpdate. A Read never waits for it: it leaves what it wants sent in pending, and whoever holds
// the mutex sends it. So a Write that is stuck in the carrier does not stop a Read.
type output struct {
	sync.Mutex
	half

	err    error  // for ever
	closed bool   // close_notify was sent
	buf    []byte // one record, reused
	flight []byte // the handshake's records, sent with one Write

	pending struct {
		sync.Mutex
		keyUpdate bool
		fatal     *AlertError // to send once, and then the error of every Write
		sent      bool
	}
}

// Write writes application data, in records of which each is one Write of the carrier. An error is
// for ever, a deadline's too: part of a record may have left.
func (c *Conn) Write(b []byte) (int, error) {
	for {
		calls := c.calls.Load()
		if calls&1 != 0 {
			return 0, net.ErrClosed
		}
		if c.calls.CompareAndSwap(calls, calls+2) {
			break
		}
	}
	defer c.calls.Add(-2)
	if err := c.Handshake(); err != nil {
		return 0, err
	}
	c.out.Lock()
	n, err := c.writeData(b)
	c.out.Unlock()
	c.sendPending()
	return n, err
}

func (c *Conn) writeData(b []byte) (n int, err error) {
	for len(b) > 0 {
		if err := c.flushPending(); err != nil {
			return n, err
		}
		chunk := b[:min(len(b), c.suite.maxData(), c.out.limit()-1)]
		if err := c.writeRecord(tlsmsg.TypeApplicationData, chunk); err != nil {
			return n, err
		}
		n += len(chunk)
		b = b[len(chunk):]
	}
	return n, nil
}

// writeRecord sends one record. The caller holds c.out.
func (c *Conn) writeRecord(t tlsmsg.ContentType, data []byte) error {
	if c.out.err != nil {
		return c.out.err
	}
	if c.out.closed {
		return ErrClosedWrite
	}
	record, err := c.out.seal(c.out.buf[:0], t, data)
	if err != nil {
		c.out.err = err
		return err
	}
	c.out.buf = record
	if _, err := c.conn.Write(record); err != nil {
		c.out.err = err
		c.out.pending.Lock()
		defer c.out.pending.Unlock()
		// A fatal error of the other direction cut this Write short: say that.
		if f := c.out.pending.fatal; f != nil {
			c.out.err = f
		}
	}
	return c.out.err
}

// fail ends the session: the error is what every later call returns. For a failure of ours an alert
// goes out as soon as the carrier takes it, within closeTimeout.
func (c *Conn) fail(err error) error {
	a := alertFor(err)
	c.out.pending.Lock()
	if c.out.pending.fatal == nil {
		c.out.pending.fatal = a
		c.out.pending.sent = a.Remote
	}
	c.out.pending.Unlock()
	_ = c.conn.SetWriteDeadline(time.Now().Add(closeTimeout))
	c.sendPending()
	return a
}

// sendPending sends what is pending, unless somebody holds c.out, who then does it. Whoever unlocks
// c.out calls it, so that nothing that was left in between is forgotten.
func (c *Conn) sendPending() {
	for c.isPending() && c.out.TryLock() {
		_ = c.flushPending()
		c.out.Unlock()
	}
}

func (c *Conn) isPending() bool {
	p := &c.out.pending
	p.Lock()
	defer p.Unlock()
	return p.keyUpdate || p.fatal != nil && !p.sent
}

// flushPending sends what is pending, and returns the fatal error if there is one. The caller holds
// c.out.
func (c *Conn) flushPending() error {
	p := &c.out.pending
	p.Lock()
	fatal, sent, keyUpdate := p.fatal, p.sent, p.keyUpdate
	p.sent = fatal != nil
	p.keyUpdate = false
	p.Unlock()
	switch {
	case fatal != nil:
		if !sent && c.out.err == nil && !c.out.closed {
			_ = c.writeRecord(tlsmsg.TypeAlert, []byte{2, byte(fatal.Alert)})
		}
		c.out.err = fatal
	case keyUpdate && c.out.err == nil && !c.out.closed:
		if err := c.sendKeyUpdate(false); err != nil {
			return err
		}
	}
	return c.out.err
}

// closeNotify sends close_notify once, behind what was written.
func (c *Conn) closeNotify() error {
	c.out.Lock()
	err := c.flushPending()
	if err == nil && !c.out.closed {
		err = c.writeRecord(tlsmsg.TypeAlert, []byte{1, byte(tlsmsg.AlertCloseNotify)})
		c.out.closed = true
	}
	if _, ours := errors.AsType[*AlertError](err); ours {
		err = nil // the session has ended already, with an alert
	}
	c.out.Unlock()
	c.sendPending()
	return err
}

// queue appends handshake messages to the flight, under the keys of now, in as few records as they
// fit in.
func (c *Conn) queue(messages []byte) (err error) {
	for len(messages) > 0 && err == nil {
		n := min(len(messages), c.maxHandshakeData())
		c.out.flight, err = c.out.seal(c.out.flight, tlsmsg.TypeHandshake, messages[:n])
		messages = messages[n:]
	}
	return err
}

// flush sends the flight.
func (c *Conn) flush() error {
	c.out.Lock()
	_, err := c.conn.Write(c.out.flight)
	c.out.flight = c.out.flight[:0]
	if err != nil {
		c.out.err = err
		err = &transportError{err}
	}
	c.out.Unlock()
	return err
}
