package testnet

import (
	"bufio"
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"vitrine/internal/hop"
	"vitrine/internal/tlsmsg"
)

// A smith is the carrier below an inner session whose end has gone bad. It knows the session's keys, and sends
// other records than the session made, with true MACs. Its suite is TLS_SHA256_SHA256.
type smith struct {
	*hop.Conn
	t    *testing.T
	side string // CLIENT or SERVER
	keys *keyLog
	// flight, if set, is given the messages of its side's flight that are protected, without Finished, and
	// returns what is sent instead, with a Finished that fits. A nil list sends what the session made.
	flight func(messages [][]byte) [][]byte
	// forge, if set, is given each record behind its side's Finished, numbered from 0, and returns what is sent
	// in its place.
	forge func(n int, r piece) []piece

	mu       sync.Mutex
	received []byte // whole
	hello    []byte // ClientHello, on the client's side
	out      []byte // of a record that is not complete
	messages [][]byte
	forged   sealer
	open     bool // behind its Finished
	n        int
}

// A piece is what one record holds.
type piece struct {
	typ     tlsmsg.ContentType
	content []byte
}

// newSmith has what a session under keys' end writes to c forged. client says which end it is.
func newSmith(t *testing.T, c *hop.Conn, keys *keyLog, client bool) *smith {
	side := "SERVER"
	if client {
		side = "CLIENT"
	}
	return &smith{Conn: c, t: t, side: side, keys: keys}
}

func (s *smith) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.received = append(s.received, p[:n]...)
	return n, err
}

func (s *smith) Write(p []byte) (int, error) {
	s.mu.Lock()
	s.out = append(s.out, p...)
	var out []byte
	for _, r := range records(s.out) {
		s.out = s.out[len(r):]
		out = append(out, s.record(r)...)
	}
	s.mu.Unlock()
	if _, err := s.Conn.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// record returns what is sent in the place of a record.
func (s *smith) record(r []byte) (out []byte) {
	if tlsmsg.ContentType(r[0]) != tlsmsg.TypeApplicationData {
		if tlsmsg.ContentType(r[0]) == tlsmsg.TypeHandshake {
			s.hello = append(s.hello, r[tlsmsg.RecordHeaderLen:]...)
		}
		return r
	}
	p := unseal(r)
	if !s.open {
		return s.handshake(p)
	}
	if s.n == 0 {
		s.forged = newSealer(s.keys.secret(s.side + "_TRAFFIC_SECRET_0"))
	}
	list := []piece{p}
	if s.forge != nil {
		list = s.forge(s.n, p)
	}
	s.n++
	for _, p := range list {
		out = s.forged.seal(out, p)
		if p.typ == tlsmsg.TypeHandshake && tlsmsg.MessageType(p.content) == tlsmsg.TypeKeyUpdate {
			s.forged = newSealer(expandLabel(s.forged.secret, "traffic upd", nil))
		}
	}
	return out
}

// handshake collects the flight and sends it at its Finished.
func (s *smith) handshake(p piece) (out []byte) {
	if p.typ != tlsmsg.TypeHandshake {
		s.t.Errorf("the %s sent %v in its flight", s.side, p.typ)
	}
	for rest := p.content; len(rest) > 0; {
		msg, more, err := tlsmsg.SplitHandshake(rest, tlsmsg.MaxHandshake)
		if err != nil {
			s.t.Error(err)
			return nil
		}
		s.messages, rest = append(s.messages, bytes.Clone(msg)), more
	}
	last := len(s.messages) - 1
	if tlsmsg.MessageType(s.messages[last]) != tlsmsg.TypeFinished {
		return nil
	}
	secret := s.keys.secret(s.side + "_HANDSHAKE_TRAFFIC_SECRET")
	flight := newSealer(secret)
	if s.flight != nil {
		if other := s.flight(s.messages[:last]); other != nil {
			s.messages = append(slices.Clone(other), s.finished(secret, other))
		}
	}
	for _, msg := range s.messages {
		out = flight.seal(out, piece{tlsmsg.TypeHandshake, msg})
	}
	s.open = true
	return out
}

// finished is the client's over a flight of others' messages.
func (s *smith) finished(secret []byte, flight [][]byte) []byte {
	transcript := sha256.New()
	transcript.Write(s.hello)
	for _, r := range records(s.received) {
		switch tlsmsg.ContentType(r[0]) {
		case tlsmsg.TypeHandshake:
			transcript.Write(r[tlsmsg.RecordHeaderLen:])
		case tlsmsg.TypeApplicationData:
			transcript.Write(unseal(r).content)
		}
	}
	for _, msg := range flight {
		transcript.Write(msg)
	}
	mac := hmac.New(sha256.New, expandLabel(secret, "finished", nil))
	mac.Write(transcript.Sum(nil))
	msg, err := (&tlsmsg.Finished{VerifyData: mac.Sum(nil)}).Append(nil)
	if err != nil {
		s.t.Error(err)
	}
	return msg
}

// unseal returns what a protected record holds. Nothing is encrypted.
func unseal(r []byte) piece {
	inner := bytes.TrimRight(r[tlsmsg.RecordHeaderLen:len(r)-sha256.Size], "\x00")
	end := len(inner) - 1
	return piece{tlsmsg.ContentType(inner[end]), inner[:end]}
}

// A sealer makes the records of one epoch.
type sealer struct {
	secret, key, iv []byte
	seq             uint64
}

func newSealer(secret []byte) sealer {
	return sealer{secret: secret, key: expandLabel(secret, "key", nil), iv: expandLabel(secret, "iv", nil)}
}

func (s *sealer) seal(b []byte, p piece) []byte {
	nonce := bytes.Clone(s.iv)
	tail := nonce[len(nonce)-8:]
	binary.BigEndian.PutUint64(tail, binary.BigEndian.Uint64(tail)^s.seq)
	s.seq++
	h := tlsmsg.RecordHeader{Type: tlsmsg.TypeApplicationData, Version: tlsmsg.VersionTLS12, Length: len(p.content) + 1 + sha256.Size}
	record := append(h.Append(nil), p.content...)
	record = append(record, byte(p.typ))
	mac := hmac.New(sha256.New, s.key)
	mac.Write(nonce)
	mac.Write(record)
	return mac.Sum(append(b, record...))
}

// expandLabel is HKDF-Expand-Label of RFC 8446, section 7.1, for 32 bytes.
func expandLabel(secret []byte, label string, context []byte) []byte {
	info := binary.BigEndian.AppendUint16(nil, sha256.Size)
	info = append(info, byte(len("tls13 ")+len(label)))
	info = append(info, "tls13 "+label...)
	info = append(info, byte(len(context)))
	out, err := hkdf.Expand(sha256.New, secret, string(append(info, context...)), sha256.Size)
	if err != nil {
		panic(err) // 32 bytes are never too many
	}
	return out
}

// A keyLog keeps the secrets of a session in the format of a KeyLogWriter.
type keyLog struct {
	mu  sync.Mutex
	log bytes.Buffer
}

func (k *keyLog) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.log.Write(p)
}

// secret returns the last one that was logged as label, nil when none was.
func (k *keyLog) secret(label string) (secret []byte) {
	for name, value := range k.all() {
		if name == label {
			secret = value
		}
	}
	return secret
}

// all yields every secret, oldest first.
func (k *keyLog) all() func(yield func(label string, secret []byte) bool) {
	k.mu.Lock()
	text := k.log.String()
	k.mu.Unlock()
	return func(yield func(string, []byte) bool) {
		for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
			f := strings.Fields(lines.Text())
			if len(f) != 3 {
				panic(fmt.Sprintf("key log line %q", lines.Text()))
			}
			secret, err := hex.DecodeString(f[2])
			if err != nil {
				panic(err)
			}
			if !yield(f[0], secret) {
				return
			}
		}
	}
}
