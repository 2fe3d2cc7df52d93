package evidence

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"time"

	"vitrine/internal/tlsmsg"
)

// An Explanation is what evidence says to somebody who does not have the request that it answers.
type Explanation struct {
	// Chain is the origin's, or of a link the next proxy's, leaf first: that of the signature, and of a claim the one
	// that it holds. It is not verified; see [VerifyChain]. Nil when it does not parse.
	Chain []*x509.Certificate
	// Transcript and Statement are what the origin signed: one of them, or none for a claim.
	Transcript *TranscriptExplanation
	Statement  *Statement
}

// A TranscriptExplanation is a [Transcript] in words that a person can read.
type TranscriptExplanation struct {
	Messages   []tlsmsg.HandshakeType
	Random     [32]byte // of the ClientHello; a hash over the client's nonce among others
	ServerName string
	Offered    []string // ALPN, in order
	Picked     string   // "" for none
	Scheme     tls.SignatureScheme
	// OfferedTokens and PickedNone are those of [Result].
	OfferedTokens, PickedNone bool
}

// A Statement is what an [Authenticator] holds.
type Statement struct {
	Nonce  []byte // the certificate_request_context, 32 bytes when it answers a request of ours
	Scheme tls.SignatureScheme
	HopID  [32]byte
	Answer *tlsmsg.InspectionAnswer // nil: the origin said nothing about a proxy
}

// Explain reads what the origin signed. It finds what does not fit together without the request: the
// signature of a transcript, and what the proxy says of hop 2. It cannot see whether the evidence answers
// anybody's nonce, or for which proxy; [Recheck] can. With an error, which is an [*Error], the explanation
// goes as far as it could be read.
func Explain(e *Evidence) (*Explanation, error) {
	x := new(Explanation)
	if err := e.check(); err != nil {
		return x, err
	}
	var err error
	switch e.Kind {
	case Claim:
		x.Chain, err = parseChain(e.Hop.Chain)
	case Chain:
		if len(e.Messages) == 0 {
			x.Chain, err = parseChain(e.Hop.Chain)
			break
		}
		err = x.transcript(e)
	case Transcript:
		err = x.transcript(e)
	case Authenticator:
		err = x.statement(e)
	}
	return x, err
}

func (x *Explanation) transcript(e *Evidence) error {
	t := new(TranscriptExplanation)
	x.Transcript = t
	for rest := e.Messages; len(rest) > 0; {
		msg, next, err := tlsmsg.SplitHandshake(rest, tlsmsg.MaxHandshake)
		if err != nil {
			return malformedBy(err)
		}
		t.Messages, rest = append(t.Messages, tlsmsg.MessageType(msg)), next
	}
	m := messages{e.Messages}
	msg, err := m.next(tlsmsg.TypeClientHello)
	if err != nil {
		return err
	}
	ch, err := tlsmsg.ParseClientHello(msg)
	if err != nil {
		return malformedBy(err)
	}
	t.Random, t.ServerName, t.Offered = ch.Random, ch.ServerName, ch.ALPN
	host, err := hostOf(e.Authority)
	if err != nil {
		return malformedBy(err)
	}
	if isIP(host) {
		host = ""
	}
	if e.Kind == Chain {
		host = ch.ServerName
	}
	read, err := readTranscript(e, expected{ch.Random, host})
	if err != nil {
		return err
	}
	x.Chain, t.Picked, t.Scheme = read.certs, read.picked, read.scheme
	t.OfferedTokens, t.PickedNone = read.offeredTokens(), !isToken(read.picked)
	return nil
}

func (x *Explanation) statement(e *Evidence) error {
	a, err := parseAuthenticator(e.Authenticator)
	if err != nil {
		return err
	}
	s := &Statement{
		Nonce: a.cert.Context, Scheme: a.verification.Scheme, HopID: tlsmsg.HopID(e.HandshakeContext), Answer: a.leaf().Inspection,
	}
	x.Statement = s
	var chain [][]byte
	for _, entry := range a.cert.Entries {
		chain = append(chain, entry.Cert)
	}
	if x.Chain, err = parseChain(chain); err != nil {
		return err
	}
	if s.Answer == nil {
		return nil
	}
	return checkAnswer(s.Answer, e)
}

// RequestFor is the request of a client of ours for this CONNECT: [NewRequest] with the server name that
// belongs to the offer's authority.
func RequestFor(offer *tlsmsg.InspectionOffer) ([]byte, error) {
	host, err := hostOf(offer.Authority)
	if err != nil {
		return nil, malformedBy(err)
	}
	if isIP(host) {
		host = "" // no SNI for an address (RFC 6066, section 3)
	}
	return NewRequest(offer, host)
}

// Recheck verifies evidence that was kept, as of the time that it says itself: that it once answered the
// offer of this client, for its proxies and its authority. An authenticator is signed over the whole
// request, so that one which answers the request of another program is refused. Nil roots are the system's.
// The errors are those of [Verifier.Verify].
func Recheck(e *Evidence, offer *tlsmsg.InspectionOffer, roots *x509.CertPool) (*Result, error) {
	request, err := RequestFor(offer)
	if err != nil {
		return nil, err
	}
	v := &Verifier{
		Request: request, Authority: offer.Authority, Proxies: offer.Proxies, Roots: roots,
		Time: func() time.Time { return e.Time },
	}
	p, err := v.Walk(e)
	if err != nil {
		return nil, err
	}
	if p.Ahead != nil {
		return nil, foreign("it leads to the proxy %s, which the request does not name, and not to the origin", p.Ahead.Name)
	}
	return v.Verify(p.Origin)
}

// VerifyChain verifies the chain that an [Explanation] of e found, as of the time that e says itself: by roots,
// nil for the system's, and for the name of its authority. The error is a [*CertificateError].
func VerifyChain(e *Evidence, chain []*x509.Certificate, roots *x509.CertPool) error {
	if len(chain) == 0 {
		return &CertificateError{errors.New("there is none")}
	}
	v := &Verifier{Authority: e.Authority, Roots: roots}
	if _, err := v.verifyChain(chain, e.Time); err != nil {
		return &CertificateError{err}
	}
	return nil
}
