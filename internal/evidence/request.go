package evidence

import (
	"crypto/tls"
	"net/netip"
	"slices"

	"vitrine/internal/fields"
	"vitrine/internal/tlsmsg"
)

// MaxRequest is the largest request, in bytes. It travels in a header field.
const MaxRequest = 4 << 10

// NewRequest returns the RFC 9261 ClientCertificateRequest that asks an origin for evidence: a whole
// handshake message whose context is the offer's nonce. serverName is the host of the offer's authority,
// or "" when that is an IP address.
func NewRequest(offer *tlsmsg.InspectionOffer, serverName string) ([]byte, error) {
	var x tlsmsg.ExtensionBuilder
	x.SignatureAlgorithms(tlsmsg.Schemes())
	if serverName != "" {
		x.ServerName(serverName)
	}
	x.StatusRequest()
	x.SCTRequest()
	x.InspectionOffer(offer)
	exts, err := x.Extensions()
	if err != nil {
		return nil, err
	}
	msg, err := (&tlsmsg.CertificateRequest{
		Type:       tlsmsg.TypeClientCertificateRequest,
		Context:    offer.Nonce[:],
		Extensions: exts,
	}).Append(nil)
	if err != nil {
		return nil, err
	}
	// A client must not send what every proxy and origin would refuse.
	if _, err := ParseRequest(msg); err != nil {
		return nil, err
	}
	return msg, nil
}

// Request is a client's request for evidence. It says what the client will accept: all of Raw is signed.
type Request struct {
	Raw        []byte
	Nonce      [32]byte // N
	Offer      *tlsmsg.InspectionOffer
	ServerName string // "" when the offer's authority is an IP address
	Schemes    []tls.SignatureScheme

	msg *tlsmsg.CertificateRequest
}

// ParseRequest reads a request. It keeps raw. The error is an [*Error]. Extensions that it does not know
// are allowed.
func ParseRequest(raw []byte) (*Request, error) {
	if len(raw) > MaxRequest {
		return nil, malformed("a request of %d bytes, at most %d", len(raw), MaxRequest)
	}
	m, err := tlsmsg.ParseCertificateRequest(raw)
	if err != nil {
		return nil, malformedBy(err)
	}
	switch {
	case m.Type != tlsmsg.TypeClientCertificateRequest:
		return nil, malformed("a request of type %v", m.Type)
	case m.Inspection == nil:
		return nil, malformed("a request without an inspection offer")
	case string(m.Context) != string(m.Inspection.Nonce[:]):
		return nil, malformed("the context of the request is not the nonce of its offer")
	}
	host, err := hostOf(m.Inspection.Authority)
	if err != nil {
		return nil, malformedBy(err)
	}
	if isIP(host) {
		host = ""
	}
	if m.ServerName != host {
		return nil, malformed("the request names %q for %s", m.ServerName, m.Inspection.Authority)
	}
	schemes := tlsmsg.Schemes()
	if !slices.ContainsFunc(m.SignatureSchemes, func(s tls.SignatureScheme) bool { return slices.Contains(schemes, s) }) {
		return nil, malformed("a request without a signature scheme of TLS 1.3")
	}
	return &Request{
		Raw:        raw,
		Nonce:      m.Inspection.Nonce,
		Offer:      m.Inspection,
		ServerName: m.ServerName,
		Schemes:    m.SignatureSchemes,
		msg:        m,
	}, nil
}

// CheckProxy refuses a request that is not for this CONNECT: its offer must be for authority, and the
// last of its proxies must have the leaf with this hash. A proxy passes the hash of its own leaf, an
// origin that of hop 2's client certificate; the zero hash, for a proxy that showed none, fits every
// offer.
func (r *Request) CheckProxy(authority string, proxyLeaf [32]byte) error {
	if r.Offer.Authority != authority {
		return foreign("the request is for %s, not for %s", r.Offer.Authority, authority)
	}
	if proxyLeaf != [32]byte{} && r.Offer.Proxies[len(r.Offer.Proxies)-1] != proxyLeaf {
		return foreign("the request is for another proxy")
	}
	return nil
}

func hostOf(authority string) (string, error) {
	host, _, err := fields.ParseAuthority(authority)
	return host, err
}

func isIP(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}
