package evidence

import (
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"vitrine/internal/fields"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
)

// A Link is what a proxy shows of its connection to the next proxy of a path.
type Link struct {
	// Hop is that connection. Where Fresh, the next proxy signed it; else it is the word of the proxy before.
	Hop Hop
	// Proxy is the leaf that the next proxy showed, and Certs all that it showed, leaf first. They are parsed and
	// not verified: pki.VerifyProxy says whether this is a proxy to speak with.
	Proxy *x509.Certificate
	Certs []*x509.Certificate
	// Name is the name that the next proxy was dialled by; "" unless Fresh.
	Name string
	// Fresh says that the next proxy's key answered the client's nonce.
	Fresh bool
}

// A Path is what evidence leads along.
type Path struct {
	// Links are those between the proxies of the request, client side first.
	Links []Link
	// Ahead leads to a proxy that the request does not name; nil when the last one named speaks with the origin.
	Ahead *Link
	// Origin is the last proxy's evidence about the origin, for [Verifier.Verify]; nil with Ahead.
	Origin *Evidence
}

// NewProxyDial prepares a dial to the next proxy of a chain, whose name is cfg.ServerName. It is [NewDial] but
// for the name. What Evidence then returns is for [NewLink], and for nobody else.
func NewProxyDial(cfg *tls.Config, req *Request) (*Dial, error) {
	d, err := NewDial(cfg, req, req.Offer.Proxies, req.Offer.Authority)
	if err != nil {
		return nil, err
	}
	d.serverName = cfg.ServerName
	return d, nil
}

// NewLink is evidence of kind [Chain] about authority: the hop to the next proxy as cs has it, and behind it what
// that proxy shows, as it came; nil for a proxy that is to be added to the path. made is what the dial gave when it
// was made for this request, else nil.
func NewLink(cs tls.ConnectionState, made *Evidence, authority string, now time.Time, next []byte) (*Evidence, error) {
	e := &Evidence{Kind: Chain, Hop: HopOf(cs, true), Authority: authority, Time: now, Next: next}
	if made != nil && made.Kind == Transcript {
		e.Hop, e.Salt, e.Messages = made.Hop, made.Salt, made.Messages
	}
	if _, err := e.Append(nil); err == nil || len(next) == 0 {
		return e, err
	}
	// In a proxy that the client agreed to it is the hash of the leaf that counts.
	e.Salt, e.Messages = [32]byte{}, nil
	e.Hop.OCSP, e.Hop.SCTs, e.Hop.Chain = nil, nil, e.Hop.Chain[:1]
	_, err := e.Append(nil)
	return e, err
}

// Walk follows evidence along the proxies of the request. A client calls it on what it gets, and then, where the
// path is complete, Verify on its end. It verifies every link but for whether its proxy is one to trust. The error
// wraps an [*Error].
func (v *Verifier) Walk(e *Evidence) (*Path, error) {
	req, err := v.request()
	if err != nil {
		return nil, err
	}
	p := new(Path)
	// Links are at most one fewer than proxies: nobody makes us parse a nest without a floor.
	for at := 1; e.Kind == Chain; at++ {
		if at == tlsmsg.MaxProxies {
			return nil, malformed("a chain of more than %d proxies", tlsmsg.MaxProxies)
		}
		l, err := v.link(e, req)
		if err != nil {
			return nil, fmt.Errorf("the link behind proxy %d: %w", at, err)
		}
		hash := pki.LeafHash(l.Proxy)
		switch {
		case slices.Contains(v.Proxies[:at], hash):
			return nil, foreign("the chain is a loop: behind proxy %d comes one that was passed", at)
		case at < len(v.Proxies) && hash == v.Proxies[at]:
			p.Links = append(p.Links, *l)
		case len(e.Next) > 0:
			return nil, foreign("behind proxy %d it leads through one that the request does not name", at)
		default: // it is fresh: a link to nowhere has no form
			p.Ahead = l
			return p, nil
		}
		if e, err = Parse(e.Next); err != nil {
			return nil, fmt.Errorf("what proxy %d shows: %w", at+1, err)
		}
	}
	if len(p.Links) != len(v.Proxies)-1 {
		return nil, foreign("it passes %d of the %d proxies of the request", len(p.Links)+1, len(v.Proxies))
	}
	p.Origin = e
	return p, nil
}

// link verifies one link.
func (v *Verifier) link(e *Evidence, req *Request) (*Link, error) {
	if _, err := v.admit(e); err != nil {
		return nil, err
	}
	if e.Hop.Version != tls.VersionTLS13 || e.Hop.ALPN != "h2" {
		return nil, malformed("a hop between proxies with %s and ALPN %q", tls.VersionName(e.Hop.Version), e.Hop.ALPN)
	}
	l := &Link{Hop: e.Hop, Fresh: len(e.Messages) > 0}
	var err error
	if l.Fresh {
		l.Certs, l.Name, err = v.linkTranscript(e, req)
	} else {
		l.Certs, err = parseChain(e.Hop.Chain)
	}
	if err != nil {
		return nil, err
	}
	for _, c := range l.Certs {
		if key, ok := c.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > maxRSABits {
			return nil, malformed("an RSA key of %d bits, at most %d", key.N.BitLen(), maxRSABits)
		}
	}
	l.Proxy = l.Certs[0]
	return l, nil
}

// linkTranscript verifies the handshake of a link, whose name is the one that its proxy was dialled by.
func (v *Verifier) linkTranscript(e *Evidence, req *Request) ([]*x509.Certificate, string, error) {
	m := messages{e.Messages}
	msg, err := m.next(tlsmsg.TypeClientHello)
	if err != nil {
		return nil, "", err
	}
	hello, err := tlsmsg.ParseClientHello(msg)
	if err != nil {
		return nil, "", malformedBy(err)
	}
	// Consent is tied to the name, which must therefore have one spelling.
	if c, err := fields.CanonicalAuthority(hello.ServerName, 443); err != nil || c != hello.ServerName+":443" || isIP(hello.ServerName) {
		return nil, "", malformed("a link to %q, which is no canonical name", hello.ServerName)
	}
	t, err := readTranscript(e, expected{
		random:     transcriptRandom(req.Nonce, e.Salt, req.Offer.Proxies, req.Offer.Authority),
		serverName: hello.ServerName,
	})
	if err != nil {
		return nil, "", err
	}
	return t.certs, hello.ServerName, nil
}

// End is the evidence about the origin that e leads to, e itself where it is no chain, and the links on the way. It
// checks the form alone. The error is an [*Error], and the end is then as far as it leads: the last link, whose Next
// is empty where a proxy is to be added.
func (e *Evidence) End() (links []*Evidence, end *Evidence, err error) {
	for e.Kind == Chain && len(e.Next) > 0 {
		if len(links) == tlsmsg.MaxProxies-1 {
			return links, e, malformed("a chain of more than %d proxies", tlsmsg.MaxProxies)
		}
		links = append(links, e)
		next, err := Parse(e.Next)
		if err != nil {
			return links, e, err
		}
		e = next
	}
	return links, e, nil
}

func (e *Evidence) checkLink() error {
	switch {
	case len(e.Messages) == 0 && len(e.Next) == 0:
		return malformed("a link without messages that leads nowhere")
	case len(e.Messages) == 0 && e.Salt != [32]byte{}:
		return malformed("a link with a salt and no messages")
	case len(e.Messages) >= 1<<16 || len(e.Next) >= 1<<16:
		return malformed("a link that is too large")
	}
	return nil
}

// orNil makes one of the two forms of nothing.
func orNil(p []byte) []byte {
	if len(p) == 0 {
		return nil
	}
	return p
}
