package tlsmsg

import (
	"encoding/binary"

	"golang.org/x/crypto/cryptobyte"
)

// A Finished is RFC 8446, section 4.4.4.
type Finished struct {
	VerifyData []byte // as long as the hash of the suite
}

// ParseFinished reads msg, one whole handshake message. Whoever knows the suite checks the length.
func ParseFinished(msg []byte) (*Finished, error) {
	s, err := body(msg, TypeFinished)
	if err != nil {
		return nil, err
	}
	if len(s) != 32 && len(s) != 48 {
		return nil, malformed("Finished is as long as no hash of TLS 1.3")
	}
	return &Finished{VerifyData: s}, nil
}

// Append appends the whole message to b.
func (m *Finished) Append(b []byte) ([]byte, error) {
	if n := len(m.VerifyData); n != 32 && n != 48 {
		return nil, malformed("Finished is as long as no hash of TLS 1.3")
	}
	return appendMessage(b, TypeFinished, func(b *cryptobyte.Builder) { b.AddBytes(m.VerifyData) })
}

// A NewSessionTicket is RFC 8446, section 4.6.1.
type NewSessionTicket struct {
	Lifetime   uint32 // seconds
	AgeAdd     uint32
	Nonce      []byte // at most 255 bytes
	Ticket     []byte // never empty
	Extensions []Extension

	MaxEarlyData uint32 // zero when absent
}

// ParseNewSessionTicket reads msg, one whole handshake message of TLS 1.3.
func ParseNewSessionTicket(msg []byte) (*NewSessionTicket, error) {
	s, err := body(msg, TypeNewSessionTicket)
	if err != nil {
		return nil, err
	}
	m := new(NewSessionTicket)
	if !s.ReadUint32(&m.Lifetime) || !s.ReadUint32(&m.AgeAdd) || !readVector8(&s, &m.Nonce) ||
		!readVector16(&s, &m.Ticket) || len(m.Ticket) == 0 {
		return nil, malformed("malformed NewSessionTicket")
	}
	if m.Extensions, err = readExtensions(&s); err != nil {
		return nil, err
	}
	if !s.Empty() {
		return nil, malformed("bytes after NewSessionTicket")
	}
	if err := misplaced(m.Extensions, ExtensionEarlyData); err != nil {
		return nil, err
	}
	for _, e := range m.Extensions {
		if e.Type != ExtensionEarlyData {
			continue
		}
		if len(e.Data) != 4 {
			return nil, malformed("malformed early_data in NewSessionTicket")
		}
		m.MaxEarlyData = binary.BigEndian.Uint32(e.Data)
	}
	return m, nil
}

// Append appends the whole message to b.
func (m *NewSessionTicket) Append(b []byte) ([]byte, error) {
	if len(m.Ticket) == 0 {
		return nil, malformed("empty ticket")
	}
	return appendMessage(b, TypeNewSessionTicket, func(b *cryptobyte.Builder) {
		b.AddUint32(m.Lifetime)
		b.AddUint32(m.AgeAdd)
		addVector8(b, m.Nonce)
		addVector16(b, m.Ticket)
		addExtensions(b, m.Extensions)
	})
}

// A KeyUpdate is RFC 8446, section 4.6.3.
type KeyUpdate struct {
	Requested bool // the receiver is to update its own sending keys too
}

// ParseKeyUpdate reads msg, one whole handshake message.
func ParseKeyUpdate(msg []byte) (*KeyUpdate, error) {
	s, err := body(msg, TypeKeyUpdate)
	if err != nil {
		return nil, err
	}
	if len(s) != 1 {
		return nil, malformed("malformed KeyUpdate")
	}
	if s[0] > 1 {
		return nil, illegal("KeyUpdate is neither requested nor not requested")
	}
	return &KeyUpdate{Requested: s[0] == 1}, nil
}

// Append appends the whole message to b.
func (m *KeyUpdate) Append(b []byte) ([]byte, error) {
	return appendMessage(b, TypeKeyUpdate, func(b *cryptobyte.Builder) {
		if m.Requested {
			b.AddUint8(1)
		} else {
			b.AddUint8(0)
		}
	})
}
