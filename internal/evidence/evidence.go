// Package evidence answers "why believe the proxy about the origin?": it builds and verifies what a
// proxy shows a client, signed by the origin, before a tunnel opens.
//
// A client calls [NewRequest] for each CONNECT, sends it in evidence-request, and gives what comes back
// to [Parse] and [Verifier.Verify]. An origin reads the request with [ParseRequest], refuses what
// [Request.CheckProxy] refuses, and answers with [NewAnswer] and [Authenticate]. A proxy reads it too, makes
// every connection to an origin through [NewDial], and turns what it got into [Evidence] with
// [FromAuthenticator] or [Dial.Evidence].
//
// There are three kinds about an origin, and a fourth about the next proxy of a chain, which [Verifier.Walk] reads.
// An authenticator (RFC 9261) is made by an origin that knows of us. A
// transcript works with any TLS origin: the handshake's ClientHello.random is a hash over the client's
// nonce, and the origin signs it unknowingly. A claim is the proxy's word.
//
// What evidence proves is that the origin's key answered the client's nonce for this proxy. It does not
// prove where later bytes come from, nor which address the proxy dialled.
package evidence

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"vitrine/frames"
)

// Kind says how strong evidence is.
type Kind uint8

const (
	// Claim is the chain alone: the proxy's word.
	Claim Kind = 1
	// Transcript is the origin's own handshake with the proxy, signed over the client's nonce.
	Transcript Kind = 2
	// Authenticator is an RFC 9261 authenticator for the client's request.
	Authenticator Kind = 3
	// Chain is the hop to another proxy, and behind it what that one shows. See [Verifier.Walk].
	Chain Kind = 4
)

// kindHop2 marks what travels on hop 2: an authenticator alone, which is not evidence until the proxy
// has added what it knows. A proxy that handed it on as it is would be refused.
const kindHop2 Kind = 0x80

func (k Kind) String() string {
	switch k {
	case Claim:
		return "claim"
	case Transcript:
		return "transcript"
	case Authenticator:
		return "authenticator"
	case Chain:
		return "chain"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

const (
	version = 1

	// maxChain stops chains whose only purpose is to be verified slowly.
	maxChain = 16
	// maxSCTs does the same for what nobody would ever need more of.
	maxSCTs = 32
	// maxTime is the last millisecond of the year 9999, past which times have no RFC 3339 form.
	maxTime = 253402300799999
)

// Hop is hop 2 as the proxy sees it. [Verifier.Verify] says what of it is proven.
type Hop struct {
	Version, Suite uint16
	Group          tls.CurveID // 0 where there was no (EC)DHE
	ALPN           string      // what the origin picked; "" for none
	Chain          [][]byte    // DER, leaf first; at most 16
	OCSP           []byte      // the staple, nil for none
	SCTs           [][]byte    // those that TLS carried; at most 32
	Verified       bool        // the proxy verified the chain by its own roots
}

// HopOf is the hop that cs describes, from the side of the TLS client.
func HopOf(cs tls.ConnectionState, verified bool) Hop {
	h := Hop{
		Version:  cs.Version,
		Suite:    cs.CipherSuite,
		Group:    cs.CurveID,
		ALPN:     cs.NegotiatedProtocol,
		OCSP:     cs.OCSPResponse,
		SCTs:     cs.SignedCertificateTimestamps,
		Verified: verified,
	}
	for _, c := range cs.PeerCertificates {
		h.Chain = append(h.Chain, c.Raw)
	}
	return h
}

func (h *Hop) equal(o *Hop) bool {
	return h.Version == o.Version && h.Suite == o.Suite && h.Group == o.Group && h.ALPN == o.ALPN &&
		equalLists(h.Chain, o.Chain) && bytes.Equal(h.OCSP, o.OCSP) && equalLists(h.SCTs, o.SCTs)
}

func equalLists(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }

// Evidence is one statement of a proxy about an origin. Its fields are claims until a [Verifier] took
// them.
type Evidence struct {
	Kind      Kind
	Hop       Hop
	Authority string    // of the CONNECT, canonical
	Time      time.Time // of the proxy's clock, to the millisecond

	// Authenticator and HandshakeContext are of kind [Authenticator]: the origin's messages, and the
	// exporter value of hop 2 that they were made for. The finished key never leaves the proxy: with
	// it anybody could forge a refusal.
	Authenticator, HandshakeContext []byte

	// Salt and Messages are of kind [Transcript]: the proxy's part of ClientHello.random, and whole
	// handshake messages in clear, in order. Of kind [Chain] too, where the connection to the next proxy was
	// made for the request; else they are zero and nil.
	Salt     [32]byte
	Messages []byte

	// Next is of kind [Chain]: the evidence that the next proxy showed. Nil where that proxy is to be added to
	// the path.
	Next []byte
}

// Strength is the kind that e counts as at most: an authenticator in which the origin does not answer
// `inspection` proves key and freshness, which is what a transcript proves.
func (e *Evidence) Strength() Kind {
	if e.Kind != Authenticator {
		return e.Kind
	}
	if a, err := parseAuthenticator(e.Authenticator); err != nil || a.leaf().Inspection == nil {
		return Transcript
	}
	return Authenticator
}

// Parse reads evidence. It checks the form only. The error is an [*Error]; slices alias p.
func Parse(p []byte) (*Evidence, error) {
	if len(p) > frames.MaxEvidence {
		return nil, malformed("%d bytes, at most %d", len(p), frames.MaxEvidence)
	}
	s := cryptobyte.String(p)
	var v, kind, verified uint8
	if !s.ReadUint8(&v) {
		return nil, malformed("empty")
	}
	if v != version {
		return nil, malformed("version %d", v)
	}
	e := new(Evidence)
	var group uint16
	var alpn, chain, scts, authority cryptobyte.String
	var millis uint64
	h := &e.Hop
	if !s.ReadUint8(&kind) || !s.ReadUint16(&h.Version) || !s.ReadUint16(&h.Suite) || !s.ReadUint16(&group) ||
		!s.ReadUint8LengthPrefixed(&alpn) || !s.ReadUint8(&verified) ||
		!s.ReadUint24LengthPrefixed(&chain) || !readVector24(&s, &h.OCSP) || !s.ReadUint16LengthPrefixed(&scts) ||
		!s.ReadUint8LengthPrefixed(&authority) || !s.ReadUint64(&millis) {
		return nil, malformed("it ends inside a field")
	}
	e.Kind, h.Group, h.ALPN, h.Verified, e.Authority = Kind(kind), tls.CurveID(group), string(alpn), verified == 1, string(authority)
	var err error
	if h.Chain, err = readList(chain, readVector24); err != nil {
		return nil, err
	}
	if h.SCTs, err = readList(scts, readVector16); err != nil {
		return nil, err
	}
	if len(h.OCSP) == 0 {
		h.OCSP = nil
	}
	if verified > 1 || millis > maxTime {
		return nil, malformed("a value is out of range")
	}
	e.Time = time.UnixMilli(int64(millis)).UTC()
	ok := true
	switch e.Kind {
	case Authenticator:
		ok = readVector8(&s, &e.HandshakeContext) && readVector16(&s, &e.Authenticator)
	case Transcript:
		ok = s.CopyBytes(e.Salt[:]) && readVector16(&s, &e.Messages)
	case Chain:
		ok = s.CopyBytes(e.Salt[:]) && readVector16(&s, &e.Messages) && readVector16(&s, &e.Next)
		e.Messages, e.Next = orNil(e.Messages), orNil(e.Next)
	}
	if !ok {
		return nil, malformed("it ends inside a field")
	}
	if !s.Empty() {
		return nil, malformed("%d bytes behind its end", len(s))
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	return e, nil
}

// Append appends the evidence to b. It refuses exactly what [Parse] would refuse.
func (e *Evidence) Append(b []byte) ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	start := len(b)
	bb := cryptobyte.NewBuilder(b)
	bb.AddUint8(version)
	bb.AddUint8(uint8(e.Kind))
	h := &e.Hop
	bb.AddUint16(h.Version)
	bb.AddUint16(h.Suite)
	bb.AddUint16(uint16(h.Group))
	addVector8(bb, []byte(h.ALPN))
	if h.Verified {
		bb.AddUint8(1)
	} else {
		bb.AddUint8(0)
	}
	bb.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, c := range h.Chain {
			addVector24(b, c)
		}
	})
	addVector24(bb, h.OCSP)
	bb.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, s := range h.SCTs {
			addVector16(b, s)
		}
	})
	addVector8(bb, []byte(e.Authority))
	bb.AddUint64(uint64(e.Time.UnixMilli()))
	switch e.Kind {
	case Authenticator:
		addVector8(bb, e.HandshakeContext)
		addVector16(bb, e.Authenticator)
	case Transcript:
		bb.AddBytes(e.Salt[:])
		addVector16(bb, e.Messages)
	case Chain:
		bb.AddBytes(e.Salt[:])
		addVector16(bb, e.Messages)
		addVector16(bb, e.Next)
	}
	out, err := bb.Bytes()
	if err != nil || len(out)-start > frames.MaxEvidence {
		return nil, malformed("more than %d bytes", frames.MaxEvidence)
	}
	return out, nil
}

// check is what both directions demand of the values.
func (e *Evidence) check() error {
	switch ms := e.Time.UnixMilli(); {
	case e.Kind < Claim || e.Kind > Chain:
		return malformed("%v", e.Kind)
	case !visibleASCII(e.Authority) || len(e.Authority) == 0 || len(e.Authority) > 255:
		return malformed("the authority is not 1 to 255 bytes of visible ASCII")
	case ms < 0 || ms > maxTime:
		return malformed("its time is not between 1970 and 9999")
	case len(e.Hop.Chain) == 0 || len(e.Hop.Chain) > maxChain:
		return malformed("a chain of %d certificates, must be 1 to %d", len(e.Hop.Chain), maxChain)
	case len(e.Hop.SCTs) > maxSCTs:
		return malformed("%d timestamps, at most %d", len(e.Hop.SCTs), maxSCTs)
	case slices.ContainsFunc(e.Hop.Chain, isEmpty) || slices.ContainsFunc(e.Hop.SCTs, isEmpty):
		return malformed("an empty certificate or timestamp")
	case e.Kind == Authenticator && len(e.HandshakeContext) != 32 && len(e.HandshakeContext) != 48:
		return malformed("a handshake context of %d bytes, must be 32 or 48", len(e.HandshakeContext))
	case e.Kind == Authenticator && len(e.Authenticator) == 0:
		return malformed("no authenticator")
	case e.Kind == Transcript && len(e.Messages) == 0:
		return malformed("no messages")
	case e.Kind == Chain:
		return e.checkLink()
	}
	return nil
}

func isEmpty(p []byte) bool { return len(p) == 0 }

func visibleASCII(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// parseChain reads the DER of a chain, leaf first, which is not empty.
func parseChain(chain [][]byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for _, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, &Error{Reason: ReasonMalformed, Err: err}
		}
		certs = append(certs, c)
	}
	return certs, nil
}

func readList(s cryptobyte.String, read func(*cryptobyte.String, *[]byte) bool) ([][]byte, error) {
	var list [][]byte
	for !s.Empty() {
		var p []byte
		if !read(&s, &p) {
			return nil, malformed("a list ends inside an element")
		}
		list = append(list, p)
	}
	return list, nil
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

func addVector8(b *cryptobyte.Builder, p []byte) {
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(p) })
}

func addVector16(b *cryptobyte.Builder, p []byte) {
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(p) })
}

func addVector24(b *cryptobyte.Builder, p []byte) {
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(p) })
}
