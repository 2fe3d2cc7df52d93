package itls

import (
	"errors"
	"io"
	"net"
	"sync"

	"vitrine/internal/tlsmsg"
)

const (
	// maxIdleRecords is how much in a row may come that the session does not wait for: empty records,
	// change_cipher_spec, user_canceled, KeyUpdates, tickets that are not taken. It stops a peer that
	// keeps us busy for ever. A part of a message counts with its message, of which the size is bounded.
	maxIdleRecords = 32

	// maxKeyUpdates is how many KeyUpdates a peer may send in all. Each costs key derivations and,
	// when it asks for one, an answer; these suites have no limit that needs them.
	maxKeyUpdates = 64

	// maxEmptyReads is how often a carrier may return nothing and no error.
	maxEmptyReads = 100

	firstBuffer = 4 << 10 // enough for a handshake; bulk grows it to a whole record
	maxRecord   = tlsmsg.RecordHeaderLen + tlsmsg.MaxCiphertext
)

// input is the receiving direction. Its mutex is held by one Read, or by the handshake.
type input struct {
	sync.Mutex
	half

	err  error  // for ever
	buf  []byte // the carrier's bytes between r and w are unread
	r, w int
	data []byte // authenticated application data, in buf
	hand []byte // handshake bytes that are not yet a whole message

	idle       int // records and messages in a row without progress
	keyUpdates int
	compatCCS  bool // change_cipher_spec is dropped: between the first ClientHello and the peer's Finished
}

// Read reads application data. It returns [io.EOF] after the peer's close_notify and only then;
// [ErrTruncated] when the carrier ends without one; an [AlertError] wrapping a [RecordError] when a
// record fails authentication. None of a record's bytes are returned before it was authenticated.
func (c *Conn) Read(b []byte) (int, error) {
	if err := c.Handshake(); err != nil {
		return 0, err
	}
	if len(b) == 0 {
		return 0, nil
	}
	c.in.Lock()
	defer c.in.Unlock()
	for len(c.in.data) == 0 {
		if c.in.err != nil {
			return 0, c.in.err
		}
		if err := c.readApplication(); err != nil {
			if t, ok := errors.AsType[*transportError](err); ok {
				err = t.err
				if n, ok := errors.AsType[net.Error](err); ok && n.Timeout() {
					return 0, err
				}
			} else if err != io.EOF {
				err = c.fail(err)
			}
			c.in.err = err
		}
	}
	n := copy(b, c.in.data)
	c.in.data = c.in.data[n:]
	return n, nil
}

// readApplication reads one record after the handshake.
func (c *Conn) readApplication() error {
	t, data, err := c.readRecord()
	if err != nil {
		return err
	}
	if t == tlsmsg.TypeApplicationData && len(data) > 0 {
		c.in.idle = 0
		c.in.data = data
		return nil
	}
	if t == tlsmsg.TypeHandshake {
		return c.postHandshake(data)
	}
	return c.countIdle()
}

func (c *Conn) countIdle() error {
	c.in.idle++
	if c.in.idle > maxIdleRecords {
		return abort(tlsmsg.AlertUnexpectedMessage, "more than %d records or messages in a row without data", maxIdleRecords)
	}
	return nil
}

// readMessage returns the next handshake message of the handshake itself, which stays valid.
func (c *Conn) readMessage() ([]byte, error) {
	for {
		msg, rest, err := tlsmsg.SplitHandshake(c.in.hand, tlsmsg.MaxHandshake)
		if err == nil {
			c.in.hand = rest
			return msg, nil
		}
		if err != tlsmsg.ErrShort {
			return nil, err
		}
		t, data, err := c.readRecord()
		if err != nil {
			if err == io.EOF { // close_notify in place of an answer
				err = &AlertError{Alert: tlsmsg.AlertCloseNotify, Remote: true}
			}
			return nil, err
		}
		if t != tlsmsg.TypeHandshake {
			return nil, abort(tlsmsg.AlertUnexpectedMessage, "%s during the handshake", t)
		}
		c.in.idle = 0
		c.in.hand = append(c.in.hand, data...)
	}
}

// expect reads the next message, which must be of type t.
func (c *Conn) expect(t tlsmsg.HandshakeType) ([]byte, error) {
	msg, err := c.readMessage()
	if err != nil {
		return nil, err
	}
	return msg, c.mustBe(msg, t)
}

func (c *Conn) mustBe(msg []byte, t tlsmsg.HandshakeType) error {
	if got := tlsmsg.MessageType(msg); got != t {
		return abort(tlsmsg.AlertUnexpectedMessage, "expected %s, got %s", t, got)
	}
	return nil
}

// endOfKeys checks that no message spans a change of the peer's keys (RFC 8446, section 5.1).
func (c *Conn) endOfKeys() error {
	if len(c.in.hand) > 0 {
		return abort(tlsmsg.AlertUnexpectedMessage, "handshake bytes beyond a change of keys")
	}
	c.in.hand = nil
	return nil
}

// setReadSecret protects what arrives from now on.
func (c *Conn) setReadSecret(secret []byte) error {
	if err := c.endOfKeys(); err != nil {
		return err
	}
	c.in.setSecret(c.suite, secret)
	return nil
}

// readRecord returns the next record that matters, with its protection removed; change_cipher_spec
// and a protected user_canceled do not. data is valid until the next call. close_notify is io.EOF.
func (c *Conn) readRecord() (t tlsmsg.ContentType, data []byte, err error) {
	for {
		if t, data, err = c.nextRecord(); err != nil {
			return 0, nil, err
		}
		if t == tlsmsg.TypeAlert {
			if err := c.receiveAlert(data); err != nil {
				return 0, nil, err
			}
		} else if len(c.in.hand) > 0 && t != tlsmsg.TypeHandshake {
			return 0, nil, abort(tlsmsg.AlertUnexpectedMessage, "%s inside a handshake message", t)
		} else if t != tlsmsg.TypeChangeCipherSpec {
			if t == tlsmsg.TypeHandshake && len(data) == 0 {
				return 0, nil, abort(tlsmsg.AlertUnexpectedMessage, "empty handshake record")
			}
			return t, data, nil
		}
		if err := c.countIdle(); err != nil {
			return 0, nil, err
		}
	}
}

// nextRecord reads one record and removes its protection. A change_cipher_spec that it returns is a
// tolerated one.
func (c *Conn) nextRecord() (tlsmsg.ContentType, []byte, error) {
	if err := c.fill(tlsmsg.RecordHeaderLen); err != nil {
		return 0, nil, err
	}
	header, err := tlsmsg.ParseRecordHeader(c.in.buf[c.in.r:c.in.w])
	if err != nil {
		return 0, nil, err
	}
	if err := c.admit(header); err != nil {
		return 0, nil, err
	}
	end := tlsmsg.RecordHeaderLen + header.Length
	if err := c.fill(end); err != nil {
		return 0, nil, err
	}
	record := c.in.buf[c.in.r : c.in.r+end]
	c.in.r += end
	switch {
	case header.Type == tlsmsg.TypeChangeCipherSpec:
		if record[tlsmsg.RecordHeaderLen] != 1 {
			return 0, nil, abort(tlsmsg.AlertUnexpectedMessage, "change_cipher_spec of an unknown value")
		}
		return header.Type, nil, nil
	case c.in.mac == nil || header.Type == tlsmsg.TypeAlert:
		data := record[tlsmsg.RecordHeaderLen:]
		if header.Type == tlsmsg.TypeAlert && len(data) == 2 && tlsmsg.Alert(data[1]) == tlsmsg.AlertUserCanceled {
			// To drop it would be to let whoever is on the way insert a record that nobody notices.
			return 0, nil, abort(tlsmsg.AlertUnexpectedMessage, "unprotected user_canceled")
		}
		return header.Type, data, nil
	}
	t, data, err := c.in.open(record)
	if err != nil {
		return 0, nil, err
	}
	if t != tlsmsg.TypeAlert && t != tlsmsg.TypeHandshake && t != tlsmsg.TypeApplicationData {
		return 0, nil, abort(tlsmsg.AlertUnexpectedMessage, "protected record of type %d", uint8(t))
	}
	return t, data, nil
}

// admit refuses by its header a record that cannot come now, before waiting for its bytes.
func (c *Conn) admit(h tlsmsg.RecordHeader) error {
	switch {
	case h.Type == tlsmsg.TypeChangeCipherSpec:
		if !c.in.compatCCS || h.Length != 1 {
			return abort(tlsmsg.AlertUnexpectedMessage, "change_cipher_spec out of place")
		}
	case c.in.mac == nil:
		if h.Type == tlsmsg.TypeApplicationData {
			return abort(tlsmsg.AlertUnexpectedMessage, "application data before the handshake")
		}
		if h.Length > tlsmsg.MaxPlaintext {
			return abort(tlsmsg.AlertRecordOverflow, "plain record is longer than its limit")
		}
	case h.Type == tlsmsg.TypeApplicationData:
	case h.Type == tlsmsg.TypeAlert && !c.client && c.in.compatCCS && c.in.seq == 0:
		// A client that refuses our ServerHello has no keys to say so with. Nobody vouches for
		// this alert, but all it can do is end the handshake.
		if h.Length > 2 {
			return abort(tlsmsg.AlertDecodeError, "alert of %d bytes", h.Length)
		}
	default:
		return abort(tlsmsg.AlertUnexpectedMessage, "unprotected %s record", h.Type)
	}
	return nil
}

// receiveAlert returns nil for an alert that means nothing by itself.
func (c *Conn) receiveAlert(data []byte) error {
	if len(data) == 0 {
		return abort(tlsmsg.AlertUnexpectedMessage, "empty alert") // RFC 8446, section 5.4
	}
	if len(data) != 2 {
		return abort(tlsmsg.AlertDecodeError, "alert of %d bytes", len(data))
	}
	// The level byte means nothing in TLS 1.3 (RFC 8446, section 6).
	switch alert := tlsmsg.Alert(data[1]); alert {
	case tlsmsg.AlertCloseNotify:
		if len(c.in.hand) > 0 {
			return abort(tlsmsg.AlertUnexpectedMessage, "close_notify inside a handshake message")
		}
		return io.EOF
	case tlsmsg.AlertUserCanceled:
		return nil
	default:
		return &AlertError{Alert: alert, Remote: true}
	}
}

func isRemoteAlert(err error) bool {
	a, ok := err.(*AlertError)
	return ok && a.Remote
}

// fill makes n bytes available between r and w. n is at most maxRecord.
func (c *Conn) fill(n int) error {
	in := &c.in
	if in.w-in.r >= n {
		return nil
	}
	if in.r == in.w {
		in.r, in.w = 0, 0
	}
	if len(in.buf)-in.r < n {
		buf := in.buf
		if len(buf) < n {
			size := firstBuffer
			if n > size {
				size = maxRecord
			}
			buf = make([]byte, size)
		}
		in.w = copy(buf, in.buf[in.r:in.w])
		in.r = 0
		in.buf = buf
	}
	empty := 0
	for in.w-in.r < n {
		m, err := c.conn.Read(in.buf[in.w:])
		in.w += m
		if in.w-in.r >= n {
			return nil // a lasting error comes again
		}
		if err != nil {
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				err = ErrTruncated
			}
			return &transportError{err}
		}
		if m > 0 {
			empty = 0
		} else if empty++; empty == maxEmptyReads {
			return &transportError{io.ErrNoProgress}
		}
	}
	return nil
}
