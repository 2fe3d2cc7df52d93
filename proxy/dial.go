package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"

	"vitrine/frames"
	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/hop/h2"
	"vitrine/internal/hop/raw"
	"vitrine/internal/pki"
)

// Dial is the proxy's own way to a target: it applies Targets and ConnectTo, makes hop 2 so that its
// transcript is evidence for t.Request, and shares connections among the tunnels of one client. An
// origin that picks no itls token gives an Upstream without a Session.
func (p *Proxy) Dial(ctx context.Context, t *Target) (*Upstream, error) {
	r, err := p.start()
	if err != nil {
		return nil, err
	}
	if t.next != nil {
		return r.dialNext(ctx, t)
	}
	if t.Mode == fields.Blind {
		return r.dialBlind(ctx, t)
	}
	if t.Request == nil || t.Request.Offer == nil {
		return nil, errors.New("proxy: no request for evidence")
	}
	st := r.current.Load()
	f := t.front
	if f == nil || f.of != r { // another proxy's certificate is not ours to show
		f = st.front
	}
	key := poolKey{authority: t.Authority, client: t.Client, proxy: f.hash, epoch: st.epoch}
	return r.pool.get(ctx, key, t.Fresh, func(ctx context.Context) (*Upstream, error) {
		return r.dialHop(ctx, st, f, t)
	})
}

func (r *running) dialBlind(ctx context.Context, t *Target) (*Upstream, error) {
	done, err := r.pool.reserve(t.Client)
	if err != nil {
		return nil, err
	}
	targets := r.current.Load().targets
	release, err := targets.acquire(ctx, t.Client)
	if err != nil {
		done()
		return nil, err
	}
	defer release()
	conn, err := targets.dial(ctx, t.Authority)
	if err != nil {
		done()
		return nil, err
	}
	return &Upstream{Conn: conn, Done: done}, nil
}

// dialHop makes one hop-2 connection.
func (r *running) dialHop(ctx context.Context, st *settings, f *front, t *Target) (*Upstream, error) {
	release, err := st.targets.acquire(ctx, t.Client)
	if err != nil {
		return nil, err
	}
	defer release()
	host, _, err := fields.ParseAuthority(t.Authority)
	if err != nil {
		return nil, err
	}
	conn, err := st.targets.dial(ctx, t.Authority)
	if err != nil {
		return nil, err
	}
	up, err := r.handshake(ctx, st.roots, f, t, host, conn)
	if err != nil {
		conn.Close()
		return nil, err
	}
	up.epoch = st.epoch
	return up, nil
}

// handshake makes hop 2 of a TCP connection.
func (r *running) handshake(ctx context.Context, roots *x509.CertPool, f *front, t *Target, host string, conn net.Conn) (*Upstream, error) {
	made, err := evidence.NewDial(r.hop2Config(roots, f, host, t.Split), t.Request, t.Request.Offer.Proxies, t.Authority)
	if err != nil {
		return nil, err
	}
	defer made.Discard()
	ctx, cancel := context.WithTimeout(ctx, r.limits.Handshake)
	defer cancel()
	fin := &finWatch{Conn: conn}
	tc := tls.Client(hop.NewBatchConn(made.Tap(fin)), made.Config())
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, &handshakeError{err}
	}
	up := &Upstream{State: tc.ConnectionState(), Verified: true}
	if up.Transcript, err = made.Evidence(up.State, up.Verified); err != nil {
		return nil, fmt.Errorf("evidence of hop 2: %w", err)
	}
	switch token(&up.State) {
	case frames.ALPNH2:
		up.shareable = true
		up.Session, err = h2.Client(tc, &h2.Config{Limits: r.limits.Hop})
	case frames.ALPNRaw:
		up.Session, err = raw.Client(tc, &raw.Config{Limits: r.limits.Hop})
	default:
		if t.Split && ordinary(&up.State) {
			up.HTTP, up.fin = tc, fin
			return up, nil
		}
		tc.Close()
		return up, nil
	}
	if err != nil {
		return nil, err
	}
	if err := ready(ctx, up.Session); err != nil {
		up.Session.Close(hop.ProtocolError, "")
		<-up.Session.Done()
		return nil, err
	}
	return up, nil
}

// token is the itls token that the origin picked, "" for none. One picked in an older TLS counts for
// nothing: hops are TLS 1.3.
func token(cs *tls.ConnectionState) string {
	if cs.Version != tls.VersionTLS13 {
		return ""
	}
	switch cs.NegotiatedProtocol {
	case frames.ALPNH2, frames.ALPNRaw:
		return cs.NegotiatedProtocol
	}
	return ""
}

// ordinary says whether the origin picked ordinary HTTP.
func ordinary(cs *tls.ConnectionState) bool {
	switch cs.NegotiatedProtocol {
	case "h2", "http/1.1", "":
		return true
	}
	return false
}

// ready waits for the SETTINGS of an origin that speaks HTTP/2, and checks that a tunnel can follow.
func ready(ctx context.Context, s hop.Session) error {
	if err := s.Ready(ctx); errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", errNoSettings, err)
	} else if err != nil {
		return err
	}
	peer := s.Peer()
	if peer.TLS.NegotiatedProtocol == frames.ALPNH2 && !peer.Settings.Connect {
		return errNoConnect
	}
	return nil
}

var errNoConnect = errors.New("the origin picked " + frames.ALPNH2 + " and takes no Extended CONNECT")

// handshakeError says that hop 2's TLS handshake failed.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string { return "TLS with the origin: " + e.err.Error() }

func (e *handshakeError) Unwrap() error { return e.err }

// hop2Config is for a client that shows its certificate. TLS 1.2 carries no tunnel, and its transcript proves that
// the origin has nothing newer; only with split it carries anything. Then an origin without forward secrecy is
// reached, too: its evidence is a claim, which the user has to name.
func (r *running) hop2Config(roots *x509.CertPool, f *front, host string, split bool) *tls.Config {
	cfg := &tls.Config{
		RootCAs:      roots,
		ServerName:   host,
		NextProtos:   []string{frames.ALPNH2, frames.ALPNRaw, "http/1.1"},
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{f.certificate},
		Time:         r.now,
		KeyLogWriter: r.keyLog,
		VerifyConnection: func(cs tls.ConnectionState) error {
			return pki.RefuseProxyAsOrigin(cs.PeerCertificates[0])
		},
		DynamicRecordSizingDisabled: true,
	}
	if split {
		cfg.NextProtos = []string{frames.ALPNH2, frames.ALPNRaw, "h2", "http/1.1"}
		cfg.CipherSuites = splitSuites()
	}
	return cfg
}

// splitSuites are the suites of TLS 1.2 for split mode: those that crypto/tls thinks well of, and behind
// them the static RSA ones that old origins have.
func splitSuites() []uint16 {
	var ids []uint16
	for _, s := range tls.CipherSuites() {
		ids = append(ids, s.ID)
	}
	return append(ids,
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA)
}
