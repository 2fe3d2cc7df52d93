package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"

	"vitrine/frames"
	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/itls"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
)

// intact opens a tunnel that s's proxy reads. refused is its 470.
func (d *Dialer) intact(ctx context.Context, s *session, a *attempt) (t *Tunnel, refused *refusal, err error) {
	p, err := newProbe(a.leaves(s), a.authority)
	if err != nil {
		return nil, nil, err
	}
	t = &Tunnel{level: Intact, authority: a.authority, proxy: s.leaf, name: s.name, nonce: &p.offer.Nonce, members: a.path.members}

	header := http.Header{}
	header.Set(fields.EvidenceRequest, fields.FormatEvidenceRequest(p.request))
	p.sent = d.now()
	resp, stream, err := d.connect(ctx, s, a, t, &hop.Request{Protocol: frames.Protocol, Authority: a.authority, Path: "/", Header: header})
	if err != nil {
		return nil, nil, err
	}
	a.rep.EvidenceBytes = resp.Evidence
	check := func() (*evidence.Result, error) { return p.verify(d, a, resp.Evidence) }
	if stream == nil {
		refused, err := refusalOf(resp, a.authority, d.now(), check)
		return nil, refused, err
	}
	if !a.accepts(Intact) {
		stream.Reset(hop.Cancel) // nothing is sent through it
		return nil, &refusal{served: true, options: []fields.Mode{fields.Intact}, why: "the origin speaks inner sessions, and intact is not among the accepted levels"}, nil
	}
	result, err := check()
	if err != nil {
		stream.Reset(hop.Cancel)
		return nil, nil, notAhead(err)
	}
	if err := d.innerTLS(ctx, a, t, stream, p.offer, result); err != nil {
		return nil, nil, err
	}
	d.memory().Remember(a.authority, Intact)
	return t.opened(d, a), nil, nil
}

// connect sends a CONNECT and waits for the answer. t says what a kill would be about.
func (d *Dialer) connect(ctx context.Context, s *session, a *attempt, t *Tunnel, req *hop.Request) (*hop.Response, hop.Stream, error) {
	if a.room != nil { // not earlier: a user who thinks about a question takes up none
		defer a.room()()
	}
	if err := a.standing(); err != nil { // ctx hears of it a moment later
		return nil, nil, err
	}
	tctx, cancel := context.WithTimeout(ctx, d.Timeouts.connect())
	defer cancel()
	resp, stream, err := s.Open(tctx, req)
	if err == nil {
		return resp, stream, nil
	}
	var again *hop.RetryError
	switch {
	case ctx.Err() != nil:
		return nil, nil, step(ctx, nil)
	case errors.As(err, &again):
		return nil, nil, err
	case tctx.Err() != nil:
		return nil, nil, &UnreachableError{Party: PartyProxy, Err: fmt.Errorf("no answer to CONNECT within %v", d.Timeouts.connect())}
	}
	if killed := t.killed(err); killed != nil {
		return nil, nil, killed
	}
	return nil, nil, &UnreachableError{Party: PartyProxy, Err: err}
}

// verifyEvidence verifies what the proxy showed about the origin and writes it into the report.
func (a *attempt) verifyEvidence(raw []byte, nonce [32]byte, v *evidence.Verifier) (*evidence.Result, error) {
	if len(raw) == 0 {
		return nil, &IntegrityError{What: "the proxy showed no evidence about the origin"}
	}
	e, err := evidence.Parse(raw)
	if err != nil {
		return nil, &IntegrityError{What: "the evidence is malformed", Err: err}
	}
	if e, err = a.walk(v, e); err != nil {
		return nil, err
	}
	rep := &EvidenceReport{
		Kind: e.Strength().String(), Authority: e.Authority, Nonce: hex.EncodeToString(nonce[:]), Hop: hopReport(&e.Hop),
	}
	a.rep.Evidence = rep
	result, err := v.Verify(e)
	if err != nil {
		return nil, evidenceError(err)
	}
	if err := a.checkOrigin(result.Chains); err != nil {
		return nil, &TrustError{Party: PartyOrigin, Err: err}
	}
	// A claim is the proxy's word, however good the chain in it.
	rep.Verified = result.Kind != evidence.Claim
	rep.OriginSubject, rep.OriginSPKI = result.Origin.Subject.String(), spki(result.Origin)
	return result, nil
}

var errSharedRoot = errors.New("its chain ends in the root that vouches for the proxy, which may vouch for no origin")

// checkOrigin refuses what could be the proxy itself: a certificate of a proxy, and a chain of the root that
// the proxy's ends in. x509's pools cannot be listed, so a root in both is noticed here.
func (a *attempt) checkOrigin(chains [][]*x509.Certificate) error {
	shared := true
	for _, chain := range chains {
		if err := pki.RefuseProxyAsOrigin(chain[0]); err != nil {
			return err
		}
		shared = shared && a.vouches(pki.SPKIHash(chain[len(chain)-1]))
	}
	if shared {
		return errSharedRoot
	}
	return nil
}

func evidenceError(err error) error {
	var cert *evidence.CertificateError
	if errors.As(err, &cert) {
		return &TrustError{Party: PartyOrigin, Err: cert.Err}
	}
	return &IntegrityError{What: "the evidence does not hold", Err: err}
}

func hopReport(h *evidence.Hop) HopReport {
	return HopReport{Version: tls.VersionName(h.Version), Suite: suiteName(h.Suite), Group: tlsmsg.GroupName(h.Group), ALPN: h.ALPN}
}

// innerTLS runs the inner handshake over stream and compares what the origin says in it with the
// evidence.
func (d *Dialer) innerTLS(ctx context.Context, a *attempt, t *Tunnel, stream hop.Stream, offer *tlsmsg.InspectionOffer, result *evidence.Result) error {
	t.stream = hop.NewConn(stream)
	t.wire = &wire{Conn: t.stream}
	var refused error
	cfg := &itls.Config{
		TLS: &tls.Config{
			RootCAs:      d.Roots,
			ServerName:   a.host,
			NextProtos:   []string{"http/1.1"},
			Certificates: d.Certificates,
			Time:         d.Time,
			KeyLogWriter: d.keyLogWriter(),
			VerifyConnection: func(cs tls.ConnectionState) error {
				refused = a.checkOrigin(cs.VerifiedChains)
				return refused
			},
		},
		Inspection:  offer,
		RequireALPN: true,
	}
	if !d.NoResumption {
		cfg.Sessions = &d.inners
		cfg.SessionsUntil = a.until()
	}
	conn := itls.Client(&protected{t.wire, t.stream}, cfg)
	tctx, cancel := context.WithTimeout(ctx, d.Timeouts.inner())
	defer cancel()
	if err := conn.HandshakeContext(tctx); err != nil {
		stream.Reset(hop.Cancel)
		conn.Close()
		t.stream.Close()
		switch {
		case refused != nil:
			return &TrustError{Party: PartyOrigin, Err: refused}
		case ctx.Err() != nil:
			return step(ctx, nil)
		case tctx.Err() != nil:
			return &UnreachableError{Party: PartyOrigin, Err: fmt.Errorf("no inner handshake within %v", d.Timeouts.inner())}
		}
		return t.handshakeError(err)
	}
	t.inner = conn
	confirmed, err := confirm(result, conn.InspectionAnswer())
	if err != nil {
		stream.Reset(hop.Cancel)
		conn.Close()
		t.stream.Close()
		return err
	}
	cs := conn.ConnectionState()
	a.rep.Inner = innerReport(&cs)
	a.rep.Inner.Confirmed = confirmed
	return nil
}

// handshakeError says what an error of the inner handshake means.
func (t *Tunnel) handshakeError(err error) error {
	if killed := t.killed(err); killed != nil {
		return killed
	}
	var (
		cert  *itls.CertificateError
		alert *itls.AlertError
	)
	switch {
	case errors.As(err, &cert):
		return &TrustError{Party: PartyOrigin, Err: cert.Err}
	case errors.As(err, &alert) && alert.Remote && refuses(alert.Alert):
		return &UnreachableError{Party: PartyOrigin, Err: fmt.Errorf("it refused the inner handshake: %w", err)}
	case lost(err):
		// Nobody has authenticated anything yet: the origin may just not be there.
		return &UnreachableError{Party: PartyOrigin, Err: err}
	}
	return &IntegrityError{What: "the inner handshake does not hold", Err: err}
}

// refuses lists the alerts by which an honest origin that speaks inner sessions says no to this client. Any
// other says that what reached it makes no sense, and what left here did.
func refuses(alert tlsmsg.Alert) bool {
	switch alert {
	case tlsmsg.AlertInternalError, tlsmsg.AlertUserCanceled, tlsmsg.AlertUnrecognizedName:
		return true
	}
	return alert.AboutClient()
}

func lost(err error) bool {
	var (
		reset   *hop.ResetError
		session *hop.SessionError
	)
	return errors.As(err, &reset) || errors.As(err, &session) || errors.Is(err, itls.ErrTruncated)
}

// confirm compares the origin's answer in the inner session with the evidence. Both speak of hop 2; a
// difference means that evidence and session do not belong together.
func confirm(result *evidence.Result, answer *tlsmsg.InspectionAnswer) (bool, error) {
	if answer == nil {
		return false, nil
	}
	differs := func(what string) (bool, error) {
		return false, &IntegrityError{What: fmt.Sprintf("origin and proxy do not speak of the same hop 2: %s differs", what)}
	}
	switch h := &result.Hop; {
	case answer.HopVersion != h.Version:
		return differs("version")
	case answer.HopSuite != h.Suite:
		return differs("suite")
	case answer.HopALPN != h.ALPN:
		return differs("ALPN")
	case result.Kind != evidence.Authenticator:
		return false, nil
	case answer.HopID != result.HopID:
		return differs("hop_id")
	case result.Answer == nil:
		return false, nil
	case answer.HopPeer != result.Answer.HopPeer:
		return differs("hop_peer")
	}
	return answer.HopPeer == 1, nil
}
