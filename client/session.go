package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"vitrine/frames"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/hop/h2"
	"vitrine/internal/pki"
)

// A session is hop 1 with what was verified about the proxy.
type session struct {
	hop.Session
	leaf *x509.Certificate
	root [32]byte // SHA-256 of the root's SubjectPublicKeyInfo
	name string   // that the leaf was verified for
	path pathMemory

	routes routes
}

// sessions holds the one hop 1 of a Dialer. Dials are the Dialer's own, so that a request that gives up
// does not fail the others that wait for the same one.
type sessions struct {
	mu      sync.Mutex
	current *session
	dialing *dialing
	tunnels int // open, and exchanges without one, for closeIdle
	ctx     context.Context
	cancel  context.CancelFunc
	closed  bool
	wg      sync.WaitGroup
}

type dialing struct {
	done chan struct{}
	s    *session
	fail func() error // a new error each time: callers put their own report into it
}

// closeTimeout bounds how long Close waits for goodbyes to leave.
const closeTimeout = time.Second

// session returns hop 1, dialling it when there is none that is good.
func (d *Dialer) session(ctx context.Context) (*session, error) {
	h := &d.hop1
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil, ErrClosed
	}
	if s := h.current; s != nil {
		if s.Err() == nil && !d.now().After(s.leaf.NotAfter) {
			h.mu.Unlock()
			return s, nil
		}
		h.retireLocked(s)
	}
	if h.ctx == nil {
		h.ctx, h.cancel = context.WithCancel(context.Background())
	}
	w := h.dialing
	if w == nil {
		w = &dialing{done: make(chan struct{})}
		h.dialing = w
		h.wg.Go(func() { d.dialSession(h.ctx, w) })
	}
	h.mu.Unlock()
	select {
	case <-w.done:
		if w.fail != nil {
			return nil, w.fail()
		}
		return w.s, nil
	case <-ctx.Done():
		return nil, step(ctx, nil)
	}
}

func (d *Dialer) dialSession(ctx context.Context, w *dialing) {
	s, fail := d.newSession(ctx)
	h := &d.hop1
	h.mu.Lock()
	h.dialing = nil
	switch {
	case h.closed:
		w.fail = func() error { return ErrClosed }
	case fail != nil:
		w.fail = fail
	default:
		h.current, w.s = s, s
	}
	h.mu.Unlock()
	close(w.done)
	if w.s == nil && s != nil {
		s.Close(hop.NoError, "")
		<-s.Done()
	}
}

// retire lets s end when its tunnels have.
func (h *sessions) retire(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.retireLocked(s)
}

func (h *sessions) retireLocked(s *session) {
	if h.current != s {
		return
	}
	h.current = nil
	s.routes.clear(true)
	ctx := h.ctx
	h.wg.Go(func() {
		s.Drain(ctx)
		s.Close(hop.NoError, "")
		<-s.Done()
	})
}

// count is called with 1 and -1 as tunnels open and close.
func (h *sessions) count(n int) {
	h.mu.Lock()
	h.tunnels += n
	h.mu.Unlock()
}

// forget drops the routes of the hop 1 that is in use.
func (h *sessions) forget() {
	h.mu.Lock()
	s := h.current
	h.mu.Unlock()
	if s != nil {
		s.routes.clear(false)
	}
}

// own runs f as a goroutine of the Dialer, which close waits for; not at all once it is closed, when
// there is nothing left to do.
func (h *sessions) own(f func()) {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return
	}
	h.wg.Add(1)
	h.mu.Unlock()
	defer h.wg.Done()
	f()
}

// closeIdle ends hop 1 when it carries no tunnel.
func (h *sessions) closeIdle() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.current != nil && h.tunnels == 0 {
		h.retireLocked(h.current)
	}
}

// life ends with close. There has been a session.
func (h *sessions) life() context.Context {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ctx
}

func (h *sessions) isClosed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.closed
}

func (h *sessions) close() {
	h.mu.Lock()
	h.closed = true
	s, cancel := h.current, h.cancel
	h.current = nil
	h.mu.Unlock()
	if s != nil {
		s.routes.clear(true)
		ctx, stop := context.WithTimeout(context.Background(), closeTimeout)
		s.Drain(ctx)
		stop()
		s.Close(hop.NoError, "")
		<-s.Done()
	}
	if cancel != nil {
		cancel()
	}
	h.wg.Wait()
}

func (d *Dialer) proxyAddress() (host string, port int, err error) {
	if d.Proxy == "" {
		return "", 0, errors.New("client: no proxy is configured, and level direct is not the only one accepted")
	}
	u, err := url.Parse(d.Proxy)
	if err != nil { // which may quote a password
		return "", 0, errors.New("client: proxy: not a URL; want https://host[:port]")
	}
	if u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Opaque != "" || (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" {
		return "", 0, errors.New("client: proxy: want https://host[:port] and nothing else")
	}
	// Consent is tied to the name, which must therefore have one spelling.
	authority, err := canonical(u.Hostname(), u.Port())
	if err == nil {
		host, port, err = fields.ParseAuthority(authority)
	}
	if err != nil {
		return "", 0, fmt.Errorf("client: proxy: %w", err)
	}
	return host, port, nil
}

// newSession dials the proxy, verifies it, and waits for its SETTINGS.
func (d *Dialer) newSession(ctx context.Context) (*session, func() error) {
	unreachable := func(err error) func() error {
		return func() error { return &UnreachableError{Party: PartyProxy, Err: err} }
	}
	untrusted := func(err error) func() error {
		return func() error { return &TrustError{Party: PartyProxy, Err: err} }
	}
	host, port, err := d.proxyAddress()
	if err != nil {
		return nil, func() error { return err }
	}
	if d.ProxyRoots == nil {
		return nil, untrusted(errors.New("no proxy roots are configured, and there is no default"))
	}
	raw, err := d.dialTCP(ctx, PartyProxy, host, port)
	if err != nil {
		return nil, unreachable(rootCause(err))
	}
	s := &session{name: host}
	var me identity
	conn := tls.Client(hop.NewBatchConn(raw), d.hopConfig(s, &me))
	tctx, cancel := context.WithTimeout(ctx, d.Timeouts.hop())
	err = conn.HandshakeContext(tctx)
	cancel()
	if err != nil {
		raw.Close()
		var bad *tls.CertificateVerificationError
		var profile *profileError
		switch {
		case errors.As(err, &profile):
			return nil, untrusted(profile.err)
		case errors.As(err, &bad):
			return nil, untrusted(bad.Err)
		}
		if fail := me.refused(err, false); fail != nil {
			return nil, fail
		}
		return nil, unreachable(fmt.Errorf("TLS handshake with %s: %w", host, err))
	}
	if p := conn.ConnectionState().NegotiatedProtocol; p != "h2" {
		raw.Close()
		return nil, unreachable(fmt.Errorf("%s does not speak HTTP/2", host))
	}
	if s.Session, err = h2.Client(conn, &h2.Config{Limits: d.Limits, Late: d.LateEvidence}); err != nil {
		raw.Close()
		return nil, unreachable(err)
	}
	tctx, cancel = context.WithTimeout(ctx, d.Timeouts.settings())
	defer cancel()
	if err := s.Ready(tctx); err != nil {
		ended := s.Err() != nil
		s.Close(hop.NoError, "")
		<-s.Done()
		if errors.Is(err, frames.ErrHopBinding) {
			return nil, unbound(host)
		}
		if fail := me.refused(err, ended); fail != nil {
			return nil, fail
		}
		return nil, unreachable(fmt.Errorf("no SETTINGS from %s: %w", host, err))
	}
	if fail := checkSettings(s.Peer().Settings, host); fail != nil {
		s.Close(hop.NoError, "")
		<-s.Done()
		return nil, fail
	}
	return s, nil
}

func checkSettings(set hop.Settings, host string) func() error {
	switch {
	case !set.Evidence:
		return func() error {
			return &UnreachableError{Party: PartyProxy, Err: fmt.Errorf("%s is not a Vitrine proxy: it sent no SETTINGS_ITLS", host)}
		}
	case !set.Bound:
		return unbound(host)
	case !set.Connect:
		return func() error {
			return &UnreachableError{Party: PartyProxy, Err: fmt.Errorf("%s does not take Extended CONNECT", host)}
		}
	}
	return nil
}

func unbound(host string) func() error {
	return func() error {
		return &IntegrityError{What: fmt.Sprintf("hop 1 is not bound to its TLS connection: somebody between here and %s ends TLS", host)}
	}
}

// A profileError keeps what VerifyConnection found apart from what crypto/tls found.
type profileError struct{ err error }

func (e *profileError) Error() string { return e.err.Error() }
func (e *profileError) Unwrap() error { return e.err }

// hopConfig is the TLS of hop 1. What VerifyConnection finds goes into s, and what the proxy wants to know
// of us into me.
func (d *Dialer) hopConfig(s *session, me *identity) *tls.Config {
	cfg := &tls.Config{
		MinVersion:   tls.VersionTLS13,
		ServerName:   s.name,
		RootCAs:      d.ProxyRoots,
		NextProtos:   []string{"h2"},
		Time:         d.Time,
		KeyLogWriter: d.keyLogWriter(),
		// Hop 1 carries records of ours in whole records of its own.
		DynamicRecordSizingDisabled: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			chain, err := pki.VerifyProxy(cs.PeerCertificates, pki.ProxyOptions{Roots: d.ProxyRoots, Name: s.name, Time: d.now()})
			if err != nil {
				return &profileError{err}
			}
			s.leaf, s.root = chain[0], pki.SPKIHash(chain[len(chain)-1])
			return nil
		},
	}
	cfg.GetClientCertificate = func(req *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		me.asked = true
		if d.ClientCertificate == nil || req.SupportsCertificate(d.ClientCertificate) != nil {
			return new(tls.Certificate), nil
		}
		me.shown = true
		return d.ClientCertificate, nil
	}
	return cfg
}

// rootCause drops the UnreachableError that dialTCP puts around an error, for one that is built anew.
func rootCause(err error) error {
	var u *UnreachableError
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
