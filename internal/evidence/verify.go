package evidence

import (
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
)

const (
	// MaxAge is how long after the request evidence is taken, and how old it may say that it is.
	MaxAge = 60 * time.Second
	// MaxSkew is how far the proxy's clock may be ahead of the client's.
	MaxSkew = 60 * time.Second
)

// Verifier is what a client knows of a CONNECT when evidence comes back.
type Verifier struct {
	// Request is what the client sent, as it made it. It holds N, which makes evidence fresh.
	Request []byte
	// Sent is when it did, by the clock of Time. Zero: not checked; the caller then bounds the wait.
	Sent time.Time
	// Authority is that of the CONNECT, and Proxies are the hashes of the proxies' leaves, client side
	// first. Both must be those of Request.
	Authority string
	Proxies   [][32]byte
	// Roots are the ORIGIN roots. Default: the system's.
	Roots *x509.CertPool
	// Time is the clock. Default: time.Now.
	Time func() time.Time
}

// Result is what evidence proves.
type Result struct {
	Kind Kind
	// Origin is the leaf that was verified, by its chain in all kinds, and by its signature over the
	// nonce in all but a claim. Chains are those that x509 found.
	Origin *x509.Certificate
	Chains [][]*x509.Certificate
	// Hop is hop 2. With a transcript of TLS 1.3 the origin signed it; with an answer it said
	// version, suite and ALPN itself; all else is the proxy's word, and Verified always is.
	Hop Hop
	// Answer is the origin's statement that it knows of the proxy and allows it. Nil: it made none, and
	// an authenticator proves as much as a transcript.
	Answer *tlsmsg.InspectionAnswer
	// HopID names hop 2, for the comparison with an inner session's answer. Zero unless Kind is
	// [Authenticator].
	HopID [32]byte
	// OfferedTokens and PickedNone justify a level below intact when both are true: the proxy offered
	// the origin every token for inner sessions before anything else, and the origin picked none of
	// them. Both are false unless Kind is [Transcript]. In TLS 1.2 OfferedTokens is the proxy's word; what
	// counts there is that the origin's signature says that it does not speak TLS 1.3.
	OfferedTokens, PickedNone bool
}

// Verify verifies evidence. The error is an [*Error] when somebody altered, replayed or borrowed it, and
// a [*CertificateError] when it holds and the origin is not to be trusted.
func (v *Verifier) Verify(e *Evidence) (*Result, error) {
	req, err := v.request()
	if err != nil {
		return nil, err
	}
	now, err := v.admit(e)
	if err != nil {
		return nil, err
	}
	r := &Result{Kind: e.Kind, Hop: e.Hop}
	var certs []*x509.Certificate
	switch e.Kind {
	case Claim:
		certs, err = parseChain(e.Hop.Chain)
	case Transcript:
		certs, err = r.transcript(e, req)
	case Authenticator:
		certs, err = r.authenticator(e, req)
	case Chain:
		err = foreign("it is about another proxy")
	}
	if err != nil {
		return nil, err
	}
	r.Origin = certs[0]
	if r.Chains, err = v.verifyChain(certs, now); err != nil {
		return nil, &CertificateError{err}
	}
	return r, nil
}

// request is what evidence has to answer, parsed.
func (v *Verifier) request() (*Request, error) {
	req, err := ParseRequest(v.Request)
	if err != nil {
		return nil, err
	}
	if req.Offer.Authority != v.Authority || !slices.Equal(req.Offer.Proxies, v.Proxies) {
		return nil, errors.New("evidence: the verifier's request is not for its authority and proxies")
	}
	return req, nil
}

// admit checks what evidence of every kind says of itself, and returns the time that it was judged at.
func (v *Verifier) admit(e *Evidence) (now time.Time, err error) {
	if err := e.check(); err != nil {
		return now, err
	}
	if e.Authority != v.Authority {
		return now, foreign("it is about %s", e.Authority)
	}
	now = time.Now()
	if v.Time != nil {
		now = v.Time()
	}
	return now, v.checkTime(e, now)
}

// checkTime bounds how long a proxy can sit on evidence, and tells a wrong clock by its name before a
// certificate seems to have expired. That evidence is fresh is proven by the nonce, not by this.
func (v *Verifier) checkTime(e *Evidence, now time.Time) error {
	if age := now.Sub(v.Sent); !v.Sent.IsZero() && age > MaxAge {
		return fail(ReasonStale, "it came %v after the request, at most %v", age.Round(time.Second), MaxAge)
	}
	age := now.Sub(e.Time)
	if age > MaxAge {
		return fail(ReasonStale, "by the proxy's clock it is from %s, %v ago by ours: it is old, or one of the clocks is wrong",
			e.Time.UTC().Format(time.RFC3339), age.Round(time.Second))
	}
	if age < -MaxSkew {
		return fail(ReasonStale, "by the proxy's clock it is from %s, in %v by ours: one of the clocks is wrong",
			e.Time.UTC().Format(time.RFC3339), e.Time.Sub(now).Round(time.Second))
	}
	return nil
}

func (r *Result) transcript(e *Evidence, req *Request) ([]*x509.Certificate, error) {
	t, err := readTranscript(e, expected{
		random:     transcriptRandom(req.Nonce, e.Salt, req.Offer.Proxies, req.Offer.Authority),
		serverName: req.ServerName,
	})
	if err != nil {
		return nil, err
	}
	r.OfferedTokens = t.offeredTokens()
	r.PickedNone = !isToken(t.picked)
	return t.certs, nil
}

func (r *Result) authenticator(e *Evidence, req *Request) ([]*x509.Certificate, error) {
	s, ok := suiteOf(e.Hop.Suite)
	if !ok || e.Hop.Version != tlsmsg.VersionTLS13 {
		return nil, malformed("an authenticator for version %04x and cipher suite %04x", e.Hop.Version, e.Hop.Suite)
	}
	a, err := parseAuthenticator(e.Authenticator)
	if err != nil {
		return nil, err
	}
	certs, err := a.verify(req, s, e.HandshakeContext)
	if err != nil {
		return nil, err
	}
	if r.Answer = a.leaf().Inspection; r.Answer != nil {
		if err := checkAnswer(r.Answer, e); err != nil {
			return nil, err
		}
	}
	r.HopID = tlsmsg.HopID(e.HandshakeContext)
	return certs, nil
}

// verifyChain verifies chain, name and time by the origin roots.
func (v *Verifier) verifyChain(certs []*x509.Certificate, now time.Time) ([][]*x509.Certificate, error) {
	host, err := hostOf(v.Authority)
	if err != nil {
		return nil, err
	}
	if err := pki.RefuseProxyAsOrigin(certs[0]); err != nil {
		return nil, err
	}
	opts := x509.VerifyOptions{
		DNSName:       host,
		Roots:         v.Roots,
		Intermediates: x509.NewCertPool(),
		CurrentTime:   now,
	}
	for i, c := range certs {
		// crypto/tls has the same limit: verifying an RSA key of megabits takes seconds.
		if key, ok := c.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > maxRSABits {
			return nil, fmt.Errorf("an RSA key of %d bits, at most %d", key.N.BitLen(), maxRSABits)
		}
		if i > 0 {
			opts.Intermediates.AddCert(c)
		}
	}
	return certs[0].Verify(opts)
}
