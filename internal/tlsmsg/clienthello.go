package tlsmsg

import (
	"crypto/tls"
	"slices"

	"golang.org/x/crypto/cryptobyte"
)

// A ClientHello is RFC 8446, section 4.1.2. Extensions is authoritative: the decoded fields below it
// are what ParseClientHello found there, and Append does not look at them.
type ClientHello struct {
	Raw           []byte // the whole message, after parsing
	LegacyVersion uint16
	Random        [32]byte
	SessionID     []byte // at most 32 bytes
	CipherSuites  []uint16
	Compression   []byte
	Extensions    []Extension // in order; nil is no extension block at all, as TLS 1.2 allows

	ServerName           string // "" when absent
	ALPN                 []string
	SupportedVersions    []uint16
	SupportedGroups      []tls.CurveID
	SignatureSchemes     []tls.SignatureScheme
	SignatureSchemesCert []tls.SignatureScheme
	KeyShares            []KeyShare // may be empty where the extension is present
	PSKModes             []uint8
	HasPSK               bool // pre_shared_key is present, which must be last
	PSKIdentities        []PSKIdentity
	PSKBinders           [][]byte
	Cookie               []byte
	Authorities          [][]byte
	EarlyData            bool
	ECH                  bool // encrypted_client_hello or ech_outer_extensions is present, whatever it holds
	OCSP                 bool
	SCT                  bool
	RecordSizeLimit      int // 0 when absent
	Inspection           *InspectionOffer
}

// A PSKIdentity is RFC 8446, section 4.2.11.
type PSKIdentity struct {
	Identity            []byte
	ObfuscatedTicketAge uint32
}

// ParseClientHello reads msg, one whole handshake message.
func ParseClientHello(msg []byte) (*ClientHello, error) {
	s, err := body(msg, TypeClientHello)
	if err != nil {
		return nil, err
	}
	h := &ClientHello{Raw: msg}
	var suites cryptobyte.String
	if !s.ReadUint16(&h.LegacyVersion) || !s.CopyBytes(h.Random[:]) ||
		!readVector8(&s, &h.SessionID) || len(h.SessionID) > 32 ||
		!s.ReadUint16LengthPrefixed(&suites) ||
		!readVector8(&s, &h.Compression) || len(h.Compression) == 0 {
		return nil, malformed("malformed ClientHello")
	}
	var ok bool
	if h.CipherSuites, ok = readUint16s[uint16](suites); !ok {
		return nil, malformed("malformed cipher suites in ClientHello")
	}
	if s.Empty() {
		return h, nil
	}
	if h.Extensions, err = readExtensions(&s); err != nil {
		return nil, err
	}
	if !s.Empty() {
		return nil, malformed("bytes after the extensions of ClientHello")
	}
	for _, e := range h.Extensions {
		if h.HasPSK {
			return nil, illegal("pre_shared_key is not the last extension")
		}
		if err := h.decode(e.Type, e.Data); err != nil {
			return nil, err
		}
	}
	return h, nil
}

func (h *ClientHello) decode(t uint16, data cryptobyte.String) (err error) {
	switch t {
	case ExtensionServerName:
		h.ServerName, err = parseServerName(data)
	case ExtensionALPN:
		h.ALPN, err = parseALPN(data)
	case ExtensionSupportedVersions:
		var list cryptobyte.String
		ok := data.ReadUint8LengthPrefixed(&list) && data.Empty()
		if ok {
			h.SupportedVersions, ok = readUint16s[uint16](list)
		}
		if !ok {
			return malformed("malformed supported_versions")
		}
	case ExtensionSupportedGroups:
		h.SupportedGroups, err = parseGroups(data)
	case ExtensionSignatureAlgorithms:
		h.SignatureSchemes, err = parseSchemes(data)
	case ExtensionSignatureAlgorithmsCert:
		h.SignatureSchemesCert, err = parseSchemes(data)
	case ExtensionKeyShare:
		h.KeyShares, err = parseKeyShares(data)
	case ExtensionPSKKeyExchangeModes:
		if !readVector8(&data, &h.PSKModes) || !data.Empty() || len(h.PSKModes) == 0 {
			return malformed("malformed psk_key_exchange_modes")
		}
	case ExtensionPreSharedKey:
		h.HasPSK = true
		err = h.decodePSK(data)
	case ExtensionCookie:
		h.Cookie, err = parseCookie(data)
	case ExtensionCertificateAuthorities:
		h.Authorities, err = parseAuthorities(data)
	case ExtensionEarlyData:
		h.EarlyData = true
		err = mustBeEmpty(data, "early_data")
	case ExtensionEncryptedClientHello, ExtensionECHOuterExtensions:
		h.ECH = true
	case ExtensionStatusRequest:
		h.OCSP, err = parseStatusRequest(data)
	case ExtensionSCT:
		h.SCT = true
		err = mustBeEmpty(data, "signed_certificate_timestamp")
	case ExtensionRecordSizeLimit:
		h.RecordSizeLimit, err = parseRecordSizeLimit(data)
	case ExtensionInspection:
		h.Inspection, err = ParseInspectionOffer(data)
	}
	return err
}

func parseKeyShares(data cryptobyte.String) ([]KeyShare, error) {
	var list cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&list) || !data.Empty() {
		return nil, malformed("malformed key_share")
	}
	shares := []KeyShare{}
	for !list.Empty() {
		var group uint16
		var k KeyShare
		if !list.ReadUint16(&group) || !readVector16(&list, &k.Data) || len(k.Data) == 0 {
			return nil, malformed("malformed key_share")
		}
		k.Group = tls.CurveID(group)
		if slices.ContainsFunc(shares, func(o KeyShare) bool { return o.Group == k.Group }) {
			return nil, illegal("two key shares for one group")
		}
		if len(shares) == maxKeyShares {
			return nil, illegal("more key shares than the limit")
		}
		shares = append(shares, k)
	}
	return shares, nil
}

func (h *ClientHello) decodePSK(data cryptobyte.String) error {
	var identities, binders cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&identities) || !data.ReadUint16LengthPrefixed(&binders) || !data.Empty() {
		return malformed("malformed pre_shared_key")
	}
	for !identities.Empty() {
		var id PSKIdentity
		if !readVector16(&identities, &id.Identity) || len(id.Identity) == 0 || !identities.ReadUint32(&id.ObfuscatedTicketAge) {
			return malformed("malformed pre_shared_key identity")
		}
		if len(h.PSKIdentities) == maxPSKs {
			return illegal("more pre-shared keys than the limit")
		}
		h.PSKIdentities = append(h.PSKIdentities, id)
	}
	for !binders.Empty() {
		var binder []byte
		if !readVector8(&binders, &binder) || len(binder) < 32 {
			return malformed("malformed pre_shared_key binder")
		}
		h.PSKBinders = append(h.PSKBinders, binder)
	}
	if len(h.PSKIdentities) == 0 || len(h.PSKBinders) == 0 {
		return malformed("empty list in pre_shared_key")
	}
	if len(h.PSKIdentities) != len(h.PSKBinders) {
		return illegal("pre_shared_key without one binder for each identity")
	}
	return nil
}

// Append appends the whole message to b: the fields up to Compression, then Extensions.
func (h *ClientHello) Append(b []byte) ([]byte, error) {
	if len(h.SessionID) > 32 || len(h.CipherSuites) == 0 || len(h.Compression) == 0 {
		return nil, malformed("ClientHello out of range")
	}
	return appendMessage(b, TypeClientHello, func(b *cryptobyte.Builder) {
		b.AddUint16(h.LegacyVersion)
		b.AddBytes(h.Random[:])
		addVector8(b, h.SessionID)
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { addUint16s(b, h.CipherSuites) })
		addVector8(b, h.Compression)
		if h.Extensions != nil {
			addExtensions(b, h.Extensions)
		}
	})
}
