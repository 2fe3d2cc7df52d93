package itls

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"io"
	"net"

	"golang.org/x/crypto/chacha20poly1305"

	"vitrine/internal/tlsmsg"
)

// A bogoSuite is a suite that BoringSSL knows. The session runs with its code point and hash, and with
// the records of RFC 9150; a bogoConn turns these into the suite's own.
type bogoSuite struct {
	suite
	key  int
	aead func(key []byte) (cipher.AEAD, error)
}

func bogoSuites() []*bogoSuite {
	gcm := func(key []byte) (cipher.AEAD, error) {
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		return cipher.NewGCM(block)
	}
	return []*bogoSuite{
		{suite{0x1301, sha256.Size, sha256.New}, 16, gcm},
		{suite{0x1302, sha512.Size384, sha512.New384}, 32, gcm},
		{suite{0x1303, sha256.Size, sha256.New}, 32, chacha20poly1305.New},
	}
}

// A bogoConn carries the records of a session to a peer that encrypts them: it takes the tag of RFC 9150
// off a record and encrypts what is left, and the other way round. It uses the secrets that the session
// itself uses at that moment, so a record that a peer protects with other keys arrives with a wrong tag,
// as does one that does not decrypt. It reads as much from the peer as the session asks for: one record.
//
// The runner's server wants a client that behaves as RFC 8446, appendix D.4 describes, which ours does
// not: inside a hop there is no middlebox to be compatible with. So the bogoConn of a client sends
// change_cipher_spec in its place, where it belongs. No transcript covers it.
//
// It must be used by one goroutine.
type bogoConn struct {
	net.Conn
	session *Conn
	in, out bogoHalf
	rest    []byte // translated, not yet read
	written bool   // something left
	compat  bool   // change_cipher_spec left

	tail     [2][]byte // beginnings of messages that arrived, that were sent
	arrived  func(msg []byte)
	departed func(msg []byte)
}

// A bogoHalf protects one direction, both ways at once.
type bogoHalf struct {
	half
	aead cipher.AEAD
	iv   []byte
}

const (
	bogoTag   = 16
	bogoNonce = 12
)

// follow takes the session's keys where they are new.
func (h *bogoHalf) follow(session *half) error {
	if bytes.Equal(h.secret, session.secret) {
		return nil
	}
	for _, s := range bogoSuites() {
		if s.id != session.suite.id {
			continue
		}
		key, err := s.expandLabel(session.secret, "key", nil, s.key)
		if err != nil {
			return err
		}
		if h.iv, err = s.expandLabel(session.secret, "iv", nil, bogoNonce); err != nil {
			return err
		}
		if h.aead, err = s.aead(key); err != nil {
			return err
		}
		h.setSecret(&s.suite, session.secret)
		return nil
	}
	return errors.New("the session has another suite")
}

// nonce is that of the record that sum is called for next.
func (h *bogoHalf) nonce() []byte {
	nonce := append([]byte(nil), h.iv...)
	tail := nonce[bogoNonce-8:]
	binary.BigEndian.PutUint64(tail, binary.BigEndian.Uint64(tail)^h.seq)
	return nonce
}

// decrypt turns a record of the peer's into one of RFC 9150.
func (h *bogoHalf) decrypt(record []byte) ([]byte, error) {
	header, body := record[:tlsmsg.RecordHeaderLen], record[tlsmsg.RecordHeaderLen:]
	inner, err := h.aead.Open(nil, h.nonce(), body, header)
	good := err == nil
	if !good {
		inner = make([]byte, max(0, len(body)-bogoTag))
	}
	out := append([]byte(nil), header[:3]...)
	out = binary.BigEndian.AppendUint16(out, uint16(len(inner)+h.suite.size))
	out = append(out, inner...)
	if out, err = h.sum(out, out); err != nil {
		return nil, err
	}
	if !good {
		out[len(out)-1] ^= 1
	}
	return out, nil
}

// encrypt does the opposite.
func (h *bogoHalf) encrypt(record []byte) ([]byte, error) {
	nonce := h.nonce()
	end := len(record) - h.suite.size
	tag, err := h.sum(nil, record[:end])
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(tag, record[end:]) {
		return nil, errors.New("the session sent a record under other keys than its own")
	}
	inner := record[tlsmsg.RecordHeaderLen:end]
	out := append([]byte(nil), record[:3]...)
	out = binary.BigEndian.AppendUint16(out, uint16(len(inner)+bogoTag))
	return h.aead.Seal(out, nonce, inner, out), nil
}

func (c *bogoConn) Read(b []byte) (int, error) {
	if len(c.rest) == 0 {
		if err := c.readRecord(); err != nil {
			return 0, err
		}
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *bogoConn) readRecord() error {
	record := make([]byte, tlsmsg.RecordHeaderLen, tlsmsg.RecordHeaderLen+tlsmsg.MaxCiphertext)
	if n, err := io.ReadFull(c.Conn, record); err != nil {
		c.rest = record[:n] // what is no record reaches the session as it is
		if n > 0 {
			err = nil
		}
		return err
	}
	c.rest = record
	header, err := tlsmsg.ParseRecordHeader(record)
	if err != nil {
		return nil // the session says so itself
	}
	record = record[:len(record)+header.Length]
	n, err := io.ReadFull(c.Conn, record[tlsmsg.RecordHeaderLen:])
	c.rest = record[:tlsmsg.RecordHeaderLen+n]
	if err != nil {
		return nil // the next Read says it
	}
	session := &c.session.in.half
	if session.mac == nil || header.Type != tlsmsg.TypeApplicationData {
		c.note(0, header.Type, record[tlsmsg.RecordHeaderLen:])
		return nil
	}
	if err := c.in.follow(session); err != nil {
		return err
	}
	if c.rest, err = c.in.decrypt(record); err == nil {
		c.noteInner(0, &c.in, c.rest)
	}
	return err
}

func (c *bogoConn) Write(b []byte) (int, error) {
	var out []byte
	if c.written && !c.compat && c.session.client && b[0] != byte(tlsmsg.TypeAlert) {
		c.compat = true
		out = tlsmsg.RecordHeader{Type: tlsmsg.TypeChangeCipherSpec, Version: tlsmsg.VersionTLS12, Length: 1}.Append(out)
		out = append(out, 1)
	}
	c.written = true
	for p := b; len(p) > 0; {
		header, err := tlsmsg.ParseRecordHeader(p)
		if err != nil {
			return 0, err
		}
		record := p[:tlsmsg.RecordHeaderLen+header.Length]
		p = p[len(record):]
		if header.Type != tlsmsg.TypeApplicationData {
			c.note(1, header.Type, record[tlsmsg.RecordHeaderLen:])
		} else {
			if err := c.out.follow(&c.session.out.half); err != nil {
				return 0, err
			}
			c.noteInner(1, &c.out, record)
			if record, err = c.out.encrypt(record); err != nil {
				return 0, err
			}
		}
		out = append(out, record...)
	}
	if _, err := c.Conn.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}

// noteInner notes what a record of RFC 9150 holds.
func (c *bogoConn) noteInner(direction int, h *bogoHalf, record []byte) {
	inner := record[tlsmsg.RecordHeaderLen : len(record)-h.suite.size]
	for i := len(inner) - 1; i >= 0; i-- {
		if inner[i] != 0 {
			c.note(direction, tlsmsg.ContentType(inner[i]), inner[:i])
			return
		}
	}
}

// note shows whole handshake messages to arrived and departed.
func (c *bogoConn) note(direction int, t tlsmsg.ContentType, content []byte) {
	if t != tlsmsg.TypeHandshake {
		return
	}
	c.tail[direction] = append(c.tail[direction], content...)
	for {
		msg, rest, err := tlsmsg.SplitHandshake(c.tail[direction], tlsmsg.MaxHandshake)
		if err != nil {
			return
		}
		c.tail[direction] = rest
		if f := [2]func([]byte){c.arrived, c.departed}[direction]; f != nil {
			f(msg)
		}
	}
}

// slowConn reads one byte at a time.
type slowConn struct{ net.Conn }

func (c slowConn) Read(b []byte) (int, error) { return c.Conn.Read(b[:min(1, len(b))]) }
