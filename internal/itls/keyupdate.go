package itls

import (
	"errors"

	"vitrine/internal/tlsmsg"
)

// postHandshake takes handshake bytes that arrived after the handshake: a client's tickets, and
// KeyUpdates.
func (c *Conn) postHandshake(data []byte) error {
	c.in.hand = append(c.in.hand, data...)
	for {
		msg, rest, err := tlsmsg.SplitHandshake(c.in.hand, tlsmsg.MaxHandshake)
		if err == tlsmsg.ErrShort {
			if len(c.in.hand) == 0 {
				c.in.hand = nil // long-lived sessions keep no memory for rare messages
			}
			return nil
		}
		if err != nil {
			return err
		}
		c.in.hand = rest
		switch t := tlsmsg.MessageType(msg); {
		case t == tlsmsg.TypeNewSessionTicket && c.client:
			err = c.takeTicket(msg)
		case t == tlsmsg.TypeKeyUpdate:
			err = c.receiveKeyUpdate(msg)
		default:
			err = abort(tlsmsg.AlertUnexpectedMessage, "%s after the handshake", t)
		}
		if err != nil {
			return err
		}
	}
}

func (c *Conn) receiveKeyUpdate(msg []byte) error {
	u, err := tlsmsg.ParseKeyUpdate(msg)
	if err != nil {
		return err
	}
	c.in.keyUpdates++
	if c.in.keyUpdates > maxKeyUpdates {
		return abort(tlsmsg.AlertUnexpectedMessage, "more than %d KeyUpdates", maxKeyUpdates)
	}
	if err := c.countIdle(); err != nil {
		return err
	}
	if err := c.endOfKeys(); err != nil {
		return err
	}
	if err := c.in.update(); err != nil {
		return err
	}
	if u.Requested {
		// It is answered before the next application data: requests that arrive while nothing is sent
		// get one answer (RFC 8446, section 4.6.3).
		c.out.pending.Lock()
		c.out.pending.keyUpdate = true
		c.out.pending.Unlock()
	}
	return nil
}

// UpdateKeys changes the keys of what is sent from now on, and asks the peer to change its own (RFC 8446,
// section 4.6.3). Nothing calls it unasked: some peers fail on these suites' KeyUpdates. It fails before
// the handshake is complete.
func (c *Conn) UpdateKeys() error {
	if !c.complete.Load() {
		return errors.New("itls: UpdateKeys before the handshake is complete")
	}
	c.out.Lock()
	err := c.flushPending()
	if err == nil {
		err = c.sendKeyUpdate(true)
	}
	c.out.Unlock()
	c.sendPending()
	return err
}

// sendKeyUpdate changes the keys of what is sent. The caller holds c.out.
func (c *Conn) sendKeyUpdate(request bool) error {
	msg, err := (&tlsmsg.KeyUpdate{Requested: request}).Append(nil)
	if err == nil {
		err = c.writeRecord(tlsmsg.TypeHandshake, msg)
	}
	if err == nil {
		err = c.out.update()
	}
	if err != nil && c.out.err == nil {
		c.out.err = err
	}
	return err
}
