// Package tlsmsg parses and appends TLS messages and record headers: the one parser that the inner
// session, the evidence and the proxy's readers share, because two would be a parser difference.
// It has no keys and does no I/O.
//
// Cut a byte stream into records with [ParseRecordHeader], their handshake content into messages
// with [SplitHandshake], look at [MessageType], and call the Parse function of that type. Each
// message type has an Append method that writes it back; what Parse accepted, Append writes byte for
// byte. To build a hello, fill its fields and its Extensions, which an [ExtensionBuilder] makes.
//
// Parsers are strict: trailing bytes, a vector shorter or longer than RFC 8446 allows, and an
// extension that occurs twice are errors. Unknown extensions, GREASE among them, are kept and not
// looked into. Results alias the bytes that were parsed.
package tlsmsg

import (
	"errors"

	"golang.org/x/crypto/cryptobyte"
)

// ErrShort says that the input is a true beginning of something and more bytes are needed.
var ErrShort = errors.New("tlsmsg: more bytes are needed")

// A ParseError says what is wrong with a record header or a message.
type ParseError struct {
	What  string
	Alert Alert // what RFC 8446 answers: decode_error, illegal_parameter or record_overflow
}

func (e *ParseError) Error() string { return "tlsmsg: " + e.What }

func malformed(what string) error { return &ParseError{What: what, Alert: AlertDecodeError} }

func illegal(what string) error { return &ParseError{What: what, Alert: AlertIllegalParameter} }

const (
	// MaxHandshake is the largest body of a handshake message, in bytes, that any parser here
	// takes: a length field of 24 bits would let a peer make us hold 16 MiB.
	MaxHandshake = 64 << 10

	handshakeHeaderLen = 4

	// maxExtensions stops a message of thousands of empty extensions, for which the search for
	// duplicates would be quadratic.
	maxExtensions = 128

	// maxKeyShares does the same for key_share entries.
	maxKeyShares = 32

	// MaxCertificates stops chains whose only purpose is to be verified slowly.
	MaxCertificates = 16

	// maxPSKs bounds offered pre-shared keys: each costs a server a look-up.
	maxPSKs = 64
)

// SplitHandshake cuts the first handshake message off p. msg includes the 4-byte header. The
// declared length is checked against max, in bytes of body, before the message is complete, so that
// nobody collects more than that; max is at most [MaxHandshake]. The error is ErrShort when p holds
// only a beginning.
func SplitHandshake(p []byte, max int) (msg, rest []byte, err error) {
	if len(p) < handshakeHeaderLen {
		return nil, p, ErrShort
	}
	n := int(p[1])<<16 | int(p[2])<<8 | int(p[3])
	if n > min(max, MaxHandshake) {
		return nil, p, illegal("handshake message is longer than the limit")
	}
	if len(p) < handshakeHeaderLen+n {
		return nil, p, ErrShort
	}
	end := handshakeHeaderLen + n
	return p[:end:end], p[end:], nil
}

// MessageType is the type of a message that [SplitHandshake] returned, and zero (a type that TLS 1.3
// reserves) when msg is empty.
func MessageType(msg []byte) HandshakeType {
	if len(msg) == 0 {
		return 0
	}
	return HandshakeType(msg[0])
}

// body returns what follows the header of msg, which must be exactly one message of type t.
func body(msg []byte, t HandshakeType) (cryptobyte.String, error) {
	m, rest, err := SplitHandshake(msg, MaxHandshake)
	switch {
	case err == ErrShort:
		return nil, malformed(t.String() + " is cut short")
	case err != nil:
		return nil, err
	case len(rest) > 0:
		return nil, malformed("bytes after " + t.String())
	case MessageType(m) != t:
		return nil, &ParseError{What: "expected " + t.String() + ", got " + MessageType(m).String(), Alert: AlertUnexpectedMessage}
	}
	return m[handshakeHeaderLen:], nil
}

// appendMessage frames what f writes. A vector that outgrew its length field, or a body above
// MaxHandshake, is an error: a peer of ours would refuse it.
func appendMessage(b []byte, t HandshakeType, f cryptobyte.BuilderContinuation) ([]byte, error) {
	bb := cryptobyte.NewBuilder(b)
	bb.AddUint8(uint8(t))
	bb.AddUint24LengthPrefixed(f)
	out, err := bb.Bytes()
	if err != nil {
		return nil, malformed(t.String() + " does not fit its length fields")
	}
	if len(out)-len(b) > handshakeHeaderLen+MaxHandshake {
		return nil, malformed(t.String() + " is longer than the limit")
	}
	return out, nil
}

func addVector8(b *cryptobyte.Builder, p []byte) {
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(p) })
}

func addVector16(b *cryptobyte.Builder, p []byte) {
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(p) })
}

func addVector24(b *cryptobyte.Builder, p []byte) {
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(p) })
}

func addUint16s[T ~uint16](b *cryptobyte.Builder, list []T) {
	for _, v := range list {
		b.AddUint16(uint16(v))
	}
}

// readUint16s reads all of s as a list of at least one element.
func readUint16s[T ~uint16](s cryptobyte.String) ([]T, bool) {
	if len(s) == 0 || len(s)%2 != 0 {
		return nil, false
	}
	list := make([]T, 0, len(s)/2)
	for !s.Empty() {
		var v uint16
		if !s.ReadUint16(&v) {
			return nil, false
		}
		list = append(list, T(v))
	}
	return list, true
}

func readVector8(s *cryptobyte.String, out *[]byte) bool {
	return s.ReadUint8LengthPrefixed((*cryptobyte.String)(out))
}

func readVector16(s *cryptobyte.String, out *[]byte) bool {
	return s.ReadUint16LengthPrefixed((*cryptobyte.String)(out))
}

func readVector24(s *cryptobyte.String, out *[]byte) bool {
	return s.ReadUint24LengthPrefixed((*cryptobyte.String)(out))
}
