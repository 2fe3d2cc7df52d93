package tlsmsg

import (
	"crypto/tls"

	"golang.org/x/crypto/cryptobyte"
)

// A CertificateRequest is RFC 8446, section 4.3.2, or RFC 9261's ClientCertificateRequest, which
// differs by its type. Extensions is authoritative.
type CertificateRequest struct {
	Raw        []byte
	Type       HandshakeType // TypeCertificateRequest (also when zero) or TypeClientCertificateRequest
	Context    []byte        // at most 255 bytes
	Extensions []Extension

	SignatureSchemes     []tls.SignatureScheme // never empty after parsing
	SignatureSchemesCert []tls.SignatureScheme
	ServerName           string // ClientCertificateRequest only
	Authorities          [][]byte
	OCSP                 bool
	SCT                  bool
	Inspection           *InspectionOffer // ClientCertificateRequest only
}

// ParseCertificateRequest reads msg, one whole message of either type.
func ParseCertificateRequest(msg []byte) (*CertificateRequest, error) {
	m := &CertificateRequest{Raw: msg, Type: TypeCertificateRequest}
	if MessageType(msg) == TypeClientCertificateRequest {
		m.Type = TypeClientCertificateRequest
	}
	s, err := body(msg, m.Type)
	if err != nil {
		return nil, err
	}
	if !readVector8(&s, &m.Context) {
		return nil, malformed("malformed " + m.Type.String())
	}
	if m.Extensions, err = readExtensions(&s); err != nil {
		return nil, err
	}
	if !s.Empty() {
		return nil, malformed("bytes after the extensions of " + m.Type.String())
	}
	if m.Type == TypeCertificateRequest {
		if err := misplaced(m.Extensions, ExtensionStatusRequest, ExtensionSignatureAlgorithms, ExtensionSCT, ExtensionCompressCertificate,
			ExtensionDelegatedCredential, ExtensionCertificateAuthorities, ExtensionSignatureAlgorithmsCert); err != nil {
			return nil, err
		}
	}
	for _, e := range m.Extensions {
		if err := m.decode(e.Type, e.Data); err != nil {
			return nil, err
		}
	}
	if m.SignatureSchemes == nil {
		return nil, &ParseError{What: m.Type.String() + " without signature_algorithms", Alert: AlertMissingExtension}
	}
	return m, nil
}

func (m *CertificateRequest) decode(t uint16, data cryptobyte.String) (err error) {
	switch t {
	case ExtensionSignatureAlgorithms:
		m.SignatureSchemes, err = parseSchemes(data)
	case ExtensionSignatureAlgorithmsCert:
		m.SignatureSchemesCert, err = parseSchemes(data)
	case ExtensionCertificateAuthorities:
		m.Authorities, err = parseAuthorities(data)
	case ExtensionStatusRequest:
		// A server asks with an OCSPStatusRequest or, as RFC 8446, section 4.4.2.1 also allows,
		// with nothing inside.
		if len(data) == 0 {
			m.OCSP = true
			return nil
		}
		m.OCSP, err = parseStatusRequest(data)
	case ExtensionSCT:
		m.SCT = true
		err = mustBeEmpty(data, "signed_certificate_timestamp")
	case ExtensionServerName:
		m.ServerName, err = parseServerName(data)
	case ExtensionInspection:
		m.Inspection, err = ParseInspectionOffer(data)
	}
	return err
}

// Append appends the whole message to b.
func (m *CertificateRequest) Append(b []byte) ([]byte, error) {
	t := m.Type
	switch t {
	case 0:
		t = TypeCertificateRequest
	case TypeCertificateRequest, TypeClientCertificateRequest:
	default:
		return nil, malformed("not a type of certificate request")
	}
	return appendMessage(b, t, func(b *cryptobyte.Builder) {
		addVector8(b, m.Context)
		addExtensions(b, m.Extensions)
	})
}

// A Certificate is RFC 8446, section 4.4.2.
type Certificate struct {
	Raw     []byte
	Context []byte             // at most 255 bytes
	Entries []CertificateEntry // at most 16, the leaf first; a client may send none
}

// A CertificateEntry is one certificate with its extensions, which are authoritative.
type CertificateEntry struct {
	Cert       []byte // DER
	Extensions []Extension

	OCSP       []byte
	SCTs       [][]byte
	Inspection *InspectionAnswer // the leaf's only
}

// ParseCertificate reads msg, one whole handshake message of TLS 1.3.
func ParseCertificate(msg []byte) (*Certificate, error) {
	s, err := body(msg, TypeCertificate)
	if err != nil {
		return nil, err
	}
	m := &Certificate{Raw: msg}
	var list cryptobyte.String
	if !readVector8(&s, &m.Context) || !s.ReadUint24LengthPrefixed(&list) || !s.Empty() {
		return nil, malformed("malformed Certificate")
	}
	for !list.Empty() {
		var e CertificateEntry
		if !readVector24(&list, &e.Cert) || len(e.Cert) == 0 {
			return nil, malformed("malformed CertificateEntry")
		}
		if e.Extensions, err = readExtensions(&list); err != nil {
			return nil, err
		}
		for _, x := range e.Extensions {
			if err := e.decode(x.Type, x.Data, len(m.Entries) == 0); err != nil {
				return nil, err
			}
		}
		if len(m.Entries) == MaxCertificates {
			return nil, illegal("more certificates than the limit")
		}
		m.Entries = append(m.Entries, e)
	}
	return m, nil
}

func (e *CertificateEntry) decode(t uint16, data cryptobyte.String, leaf bool) (err error) {
	switch t {
	case ExtensionStatusRequest:
		var kind uint8
		if !data.ReadUint8(&kind) || kind != 1 || !readVector24(&data, &e.OCSP) || !data.Empty() || len(e.OCSP) == 0 {
			return malformed("malformed status_request in CertificateEntry")
		}
	case ExtensionSCT:
		var list cryptobyte.String
		if !data.ReadUint16LengthPrefixed(&list) || !data.Empty() || list.Empty() {
			return malformed("malformed signed_certificate_timestamp in CertificateEntry")
		}
		for !list.Empty() {
			var sct []byte
			if !readVector16(&list, &sct) || len(sct) == 0 {
				return malformed("malformed signed_certificate_timestamp in CertificateEntry")
			}
			e.SCTs = append(e.SCTs, sct)
		}
	case ExtensionInspection:
		if !leaf {
			return illegal("inspection beside a certificate that is not the leaf")
		}
		e.Inspection, err = ParseInspectionAnswer(data)
	}
	return err
}

// Append appends the whole message to b.
func (m *Certificate) Append(b []byte) ([]byte, error) {
	if len(m.Entries) > MaxCertificates {
		return nil, malformed("more certificates than the limit")
	}
	for _, e := range m.Entries {
		if len(e.Cert) == 0 {
			return nil, malformed("empty certificate")
		}
	}
	return appendMessage(b, TypeCertificate, func(b *cryptobyte.Builder) {
		addVector8(b, m.Context)
		b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, e := range m.Entries {
				addVector24(b, e.Cert)
				addExtensions(b, e.Extensions)
			}
		})
	})
}

// A CertificateVerify is RFC 8446, section 4.4.3.
type CertificateVerify struct {
	Scheme    tls.SignatureScheme
	Signature []byte
}

// ParseCertificateVerify reads msg, one whole handshake message.
func ParseCertificateVerify(msg []byte) (*CertificateVerify, error) {
	s, err := body(msg, TypeCertificateVerify)
	if err != nil {
		return nil, err
	}
	m := new(CertificateVerify)
	var scheme uint16
	if !s.ReadUint16(&scheme) || !readVector16(&s, &m.Signature) || !s.Empty() {
		return nil, malformed("malformed CertificateVerify")
	}
	m.Scheme = tls.SignatureScheme(scheme)
	return m, nil
}

// Append appends the whole message to b.
func (m *CertificateVerify) Append(b []byte) ([]byte, error) {
	return appendMessage(b, TypeCertificateVerify, func(b *cryptobyte.Builder) {
		b.AddUint16(uint16(m.Scheme))
		addVector16(b, m.Signature)
	})
}
