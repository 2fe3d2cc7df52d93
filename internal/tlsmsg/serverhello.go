package tlsmsg

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"

	"golang.org/x/crypto/cryptobyte"
)

// HelloRetryRandom is the Random of a ServerHello that is a HelloRetryRequest: SHA-256 of that name
// (RFC 8446, section 4.1.3).
func HelloRetryRandom() [32]byte { return sha256.Sum256([]byte("HelloRetryRequest")) }

// IsDowngrade says whether a server that knows TLS 1.3 (or 1.2) marked its Random because it was
// asked for less (RFC 8446, section 4.1.3).
func IsDowngrade(random [32]byte) bool {
	tail := random[24:]
	return bytes.Equal(tail[:7], []byte("DOWNGRD")) && tail[7] <= 1
}

// A ServerHello is RFC 8446, section 4.1.3, of which a HelloRetryRequest is a kind. Extensions is
// authoritative; Append does not look at what is below it. TLS 1.2's ServerHello parses too; then
// SupportedVersion is zero and LegacyVersion is the version.
type ServerHello struct {
	Raw           []byte
	LegacyVersion uint16
	Random        [32]byte
	SessionID     []byte
	CipherSuite   uint16
	Compression   uint8
	Extensions    []Extension // nil is no extension block at all

	IsHRR            bool // by Random
	SupportedVersion uint16
	KeyShare         *KeyShare   // nil in a HelloRetryRequest
	SelectedGroup    tls.CurveID // only in a HelloRetryRequest; zero when it asks for no other group
	SelectedPSK      *uint16
	Cookie           []byte
	ALPN             string // TLS 1.2 only: in TLS 1.3 it is in EncryptedExtensions
}

// ParseServerHello reads msg, one whole handshake message.
func ParseServerHello(msg []byte) (*ServerHello, error) {
	s, err := body(msg, TypeServerHello)
	if err != nil {
		return nil, err
	}
	h := &ServerHello{Raw: msg}
	if !s.ReadUint16(&h.LegacyVersion) || !s.CopyBytes(h.Random[:]) ||
		!readVector8(&s, &h.SessionID) || len(h.SessionID) > 32 ||
		!s.ReadUint16(&h.CipherSuite) || !s.ReadUint8(&h.Compression) {
		return nil, malformed("malformed ServerHello")
	}
	h.IsHRR = h.Random == HelloRetryRandom()
	if s.Empty() {
		return h, nil
	}
	if h.Extensions, err = readExtensions(&s); err != nil {
		return nil, err
	}
	if !s.Empty() {
		return nil, malformed("bytes after the extensions of ServerHello")
	}
	for _, e := range h.Extensions {
		if err := h.decode(e.Type, e.Data); err != nil {
			return nil, err
		}
	}
	return h, nil
}

func (h *ServerHello) decode(t uint16, data cryptobyte.String) (err error) {
	switch t {
	case ExtensionSupportedVersions:
		if !data.ReadUint16(&h.SupportedVersion) || !data.Empty() {
			return malformed("malformed supported_versions")
		}
		if h.SupportedVersion == 0 {
			return illegal("supported_versions selects version zero")
		}
	case ExtensionKeyShare:
		var group uint16
		if !data.ReadUint16(&group) {
			return malformed("malformed key_share")
		}
		if h.IsHRR {
			h.SelectedGroup = tls.CurveID(group)
			if group == 0 {
				return illegal("key_share selects group zero")
			}
		} else {
			h.KeyShare = &KeyShare{Group: tls.CurveID(group)}
			if !readVector16(&data, &h.KeyShare.Data) || len(h.KeyShare.Data) == 0 {
				return malformed("malformed key_share")
			}
		}
		if !data.Empty() {
			return malformed("malformed key_share")
		}
	case ExtensionPreSharedKey:
		h.SelectedPSK = new(uint16)
		if !data.ReadUint16(h.SelectedPSK) || !data.Empty() {
			return malformed("malformed pre_shared_key")
		}
	case ExtensionCookie:
		h.Cookie, err = parseCookie(data)
	case ExtensionALPN:
		h.ALPN, err = parseOneALPN(data)
	}
	return err
}

// Append appends the whole message to b: the fields up to Compression, then Extensions.
func (h *ServerHello) Append(b []byte) ([]byte, error) {
	if len(h.SessionID) > 32 {
		return nil, malformed("ServerHello out of range")
	}
	return appendMessage(b, TypeServerHello, func(b *cryptobyte.Builder) {
		b.AddUint16(h.LegacyVersion)
		b.AddBytes(h.Random[:])
		addVector8(b, h.SessionID)
		b.AddUint16(h.CipherSuite)
		b.AddUint8(h.Compression)
		if h.Extensions != nil {
			addExtensions(b, h.Extensions)
		}
	})
}

// EncryptedExtensions is RFC 8446, section 4.3.1. Extensions is authoritative.
type EncryptedExtensions struct {
	Raw        []byte
	Extensions []Extension

	ALPN            string // "" when the server chose none
	ServerNameAck   bool
	SupportedGroups []tls.CurveID // a hint for later; nil when absent
	RecordSizeLimit int           // 0 when absent
	EarlyData       bool
	Inspection      *InspectionAnswer
}

// ParseEncryptedExtensions reads msg, one whole handshake message.
func ParseEncryptedExtensions(msg []byte) (*EncryptedExtensions, error) {
	s, err := body(msg, TypeEncryptedExtensions)
	if err != nil {
		return nil, err
	}
	m := &EncryptedExtensions{Raw: msg}
	if m.Extensions, err = readExtensions(&s); err != nil {
		return nil, err
	}
	if !s.Empty() {
		return nil, malformed("bytes after EncryptedExtensions")
	}
	for _, e := range m.Extensions {
		switch e.Type {
		case ExtensionALPN:
			m.ALPN, err = parseOneALPN(e.Data)
		case ExtensionServerName:
			m.ServerNameAck = true
			err = mustBeEmpty(e.Data, "server_name")
		case ExtensionSupportedGroups:
			m.SupportedGroups, err = parseGroups(e.Data)
		case ExtensionRecordSizeLimit:
			m.RecordSizeLimit, err = parseRecordSizeLimit(e.Data)
		case ExtensionEarlyData:
			m.EarlyData = true
			err = mustBeEmpty(e.Data, "early_data")
		case ExtensionInspection:
			m.Inspection, err = ParseInspectionAnswer(e.Data)
		}
		if err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Append appends the whole message to b.
func (m *EncryptedExtensions) Append(b []byte) ([]byte, error) {
	return appendMessage(b, TypeEncryptedExtensions, func(b *cryptobyte.Builder) {
		addExtensions(b, m.Extensions)
	})
}
