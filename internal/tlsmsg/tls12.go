package tlsmsg

import (
	"crypto/tls"

	"golang.org/x/crypto/cryptobyte"
)

// ParseCertificate12 reads msg, a whole Certificate message of TLS 1.2 (RFC 5246, section 7.4.2), and
// returns its 1 to 16 certificates, the leaf first.
func ParseCertificate12(msg []byte) ([][]byte, error) {
	s, err := body(msg, TypeCertificate)
	if err != nil {
		return nil, err
	}
	var list cryptobyte.String
	if !s.ReadUint24LengthPrefixed(&list) || !s.Empty() || list.Empty() {
		return nil, malformed("malformed TLS 1.2 Certificate")
	}
	var certs [][]byte
	for !list.Empty() {
		var cert []byte
		if !readVector24(&list, &cert) || len(cert) == 0 {
			return nil, malformed("malformed TLS 1.2 Certificate")
		}
		if len(certs) == MaxCertificates {
			return nil, illegal("more certificates than the limit")
		}
		certs = append(certs, cert)
	}
	return certs, nil
}

// A ServerKeyExchange is that of an ECDHE suite of TLS 1.2 over a named curve (RFC 8422, section 5.4).
type ServerKeyExchange struct {
	Curve     tls.CurveID
	Public    []byte
	Params    []byte // ServerECDHParams: what the signature covers, behind both randoms
	Scheme    tls.SignatureScheme
	Signature []byte
}

// ParseServerKeyExchange reads msg, one whole handshake message.
func ParseServerKeyExchange(msg []byte) (*ServerKeyExchange, error) {
	s, err := body(msg, TypeServerKeyExchange)
	if err != nil {
		return nil, err
	}
	whole := s
	m := new(ServerKeyExchange)
	var kind uint8
	var curve, scheme uint16
	if !s.ReadUint8(&kind) || !s.ReadUint16(&curve) || !readVector8(&s, &m.Public) || len(m.Public) == 0 {
		return nil, malformed("malformed ServerKeyExchange")
	}
	if kind != 3 {
		return nil, illegal("ServerKeyExchange is not over a named curve")
	}
	m.Params = whole[:len(whole)-len(s)]
	if !s.ReadUint16(&scheme) || !readVector16(&s, &m.Signature) || !s.Empty() {
		return nil, malformed("malformed ServerKeyExchange")
	}
	m.Curve, m.Scheme = tls.CurveID(curve), tls.SignatureScheme(scheme)
	return m, nil
}

// Append appends the whole message to b. Params is made from Curve and Public.
func (m *ServerKeyExchange) Append(b []byte) ([]byte, error) {
	return appendMessage(b, TypeServerKeyExchange, func(b *cryptobyte.Builder) {
		b.AddUint8(3)
		b.AddUint16(uint16(m.Curve))
		addVector8(b, m.Public)
		b.AddUint16(uint16(m.Scheme))
		addVector16(b, m.Signature)
	})
}
