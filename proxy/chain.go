package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/hop/h2"
	"vitrine/internal/pki"
)

// An UpstreamProxy is the next proxy of a chain. Every tunnel goes through it; the client is told of it, and agrees
// to it or goes without.
type UpstreamProxy struct {
	// URL is https://name[:port]; the port defaults to 443. The name is a DNS name: clients know a proxy by it.
	// ConnectTo applies; Targets does not, since the operator wrote it down.
	URL string
	// Roots vouch for the next proxy, and never for origins. Required.
	Roots *x509.CertPool
}

// Check says what is wrong with u's URL, or that Roots are missing. It dials nobody.
func (u *UpstreamProxy) Check() error {
	_, err := parseUpstream(u)
	return err
}

// nextProxy is an UpstreamProxy, checked.
type nextProxy struct {
	name  string
	port  int
	roots *x509.CertPool
}

// newNext checks what p says of the next proxy; nil for none. Settings that say the same as old get old's.
func newNext(p *Proxy, old *settings) (*nextProxy, error) {
	if p.Upstream == nil {
		return nil, nil
	}
	n, err := parseUpstream(p.Upstream)
	if err != nil {
		return nil, fmt.Errorf("proxy: upstream: %w", err)
	}
	if slices.Contains(p.Policy.Modes, fields.Split) {
		return nil, errors.New("proxy: upstream: mode split does not go through another proxy in this version")
	}
	if old != nil && old.next != nil && old.next.name == n.name && old.next.port == n.port && old.next.roots.Equal(n.roots) {
		return old.next, nil
	}
	return n, nil
}

func parseUpstream(u *UpstreamProxy) (*nextProxy, error) {
	if u.Roots == nil {
		return nil, errors.New("no roots are configured that vouch for it, and there is no default")
	}
	parsed, err := url.Parse(u.URL)
	if err != nil { // which may quote a password
		return nil, errors.New("not a URL; want https://name[:port]")
	}
	if parsed.Scheme != "https" || parsed.Hostname() == "" || parsed.User != nil || parsed.Opaque != "" ||
		parsed.Path != "" && parsed.Path != "/" || parsed.RawQuery != "" || parsed.Fragment != "" {
		return nil, errors.New("want https://name[:port] and nothing else")
	}
	port := uint64(443)
	if p := parsed.Port(); p != "" {
		if port, err = strconv.ParseUint(p, 10, 16); err != nil {
			return nil, errors.New("bad port")
		}
	}
	authority, err := fields.CanonicalAuthority(parsed.Hostname(), int(port))
	if err != nil {
		return nil, err
	}
	n := &nextProxy{roots: u.Roots}
	if n.name, n.port, err = fields.ParseAuthority(authority); err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(n.name); err == nil {
		return nil, errors.New("it needs a DNS name, which clients verify it by, and not an address")
	}
	return n, nil
}

// withoutSplit leaves split out of what a policy gives a target.
func withoutSplit(modes func(authority string) []fields.Mode) func(string) []fields.Mode {
	if modes == nil {
		return nil
	}
	return func(authority string) []fields.Mode {
		return slices.DeleteFunc(slices.Clone(modes(authority)), func(m fields.Mode) bool { return m == fields.Split })
	}
}

// mayPass refuses what no proxy of a chain has to try. The addresses of a name are judged by the proxy that
// resolves it.
func (d *dialer) mayPass(authority string) error {
	host, port, err := fields.ParseAuthority(authority)
	if err != nil {
		return err
	}
	if err := d.policy.port(port); err != nil {
		return err
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return nil
	}
	return d.policy.address(addr.Unmap(), nil)
}

// dialNext returns a connection to t's next proxy: a pooled one, of this client and authority alone as every
// connection of hop 2, unless t.Fresh.
func (r *running) dialNext(ctx context.Context, t *Target) (*Upstream, error) {
	st := r.current.Load()
	f := t.front
	if f == nil || f.of != r {
		f = st.front
	}
	key := poolKey{authority: t.Authority, client: t.Client, proxy: f.hash, epoch: st.epoch, next: t.next}
	up, err := r.pool.get(ctx, key, t.Fresh, func(ctx context.Context) (*Upstream, error) {
		release, err := st.targets.acquire(ctx, t.Client)
		if err != nil {
			return nil, err
		}
		defer release()
		conn, err := st.targets.dialNext(ctx, t.next)
		if err != nil {
			return nil, err
		}
		up, err := r.shakeNext(ctx, f, t, conn)
		if err != nil {
			conn.Close()
			return nil, err
		}
		return up, nil
	})
	if err != nil {
		return nil, &nextError{err: err, next: t.next.name}
	}
	return up, nil
}

// dialNext makes the TCP connection to n. ConnectTo applies, and what the operator wrote down is not judged.
func (d *dialer) dialNext(ctx context.Context, n *nextProxy) (net.Conn, error) {
	host, port := n.name, n.port
	if to, toPort, ok := d.rules.Lookup(host, port); ok {
		host, port = to, toPort
	}
	addrs, err := d.resolve(ctx, host, true)
	if err != nil {
		return nil, err
	}
	return d.connect(ctx, addrs, port)
}

// shakeNext makes hop 2 of a TCP connection to the next proxy: a hop 1 of its.
func (r *running) shakeNext(ctx context.Context, f *front, t *Target, conn net.Conn) (*Upstream, error) {
	ctx, cancel := context.WithTimeout(ctx, r.limits.Handshake)
	defer cancel()
	cfg := r.nextConfig(f, t.next)
	var made *evidence.Dial
	if t.Request != nil {
		var err error
		if made, err = evidence.NewProxyDial(cfg, t.Request); err != nil {
			return nil, err
		}
		defer made.Discard()
		cfg, conn = made.Config(), made.Tap(conn)
	}
	tc := tls.Client(hop.NewBatchConn(conn), cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, &handshakeError{err}
	}
	up := &Upstream{State: tc.ConnectionState(), Verified: true, shareable: true}
	if up.State.NegotiatedProtocol != "h2" {
		return nil, errNotAProxy
	}
	var err error
	if made != nil {
		if up.Transcript, err = made.Evidence(up.State, true); err != nil {
			return nil, fmt.Errorf("evidence of the hop: %w", err)
		}
	}
	if up.Session, err = h2.Client(tc, &h2.Config{Limits: r.limits.Hop}); err != nil {
		return nil, err
	}
	if err := nextReady(ctx, up.Session); err != nil {
		up.Session.Close(hop.ProtocolError, "")
		<-up.Session.Done()
		return nil, err
	}
	return up, nil
}

// errNotAProxy says that whoever answered does not speak this protocol.
var errNotAProxy = errors.New("it is no proxy of this kind: it sent no SETTINGS_ITLS with its binding")

func nextReady(ctx context.Context, s hop.Session) error {
	if err := s.Ready(ctx); errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", errNoSettings, err)
	} else if err != nil {
		return err
	}
	if set := s.Peer().Settings; !set.Connect || !set.Evidence || !set.Bound {
		return errNotAProxy
	}
	return nil
}

// nextConfig is for a client of the next proxy that shows its own certificate, whatever authorities are asked for.
func (r *running) nextConfig(f *front, n *nextProxy) *tls.Config {
	return &tls.Config{
		RootCAs:      n.roots,
		ServerName:   n.name,
		NextProtos:   []string{"h2"},
		MinVersion:   tls.VersionTLS13,
		Time:         r.now,
		KeyLogWriter: r.keyLog,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &f.certificate, nil
		},
		VerifyConnection: func(cs tls.ConnectionState) error {
			_, err := pki.VerifyProxy(cs.PeerCertificates, pki.ProxyOptions{Roots: n.roots, Name: n.name, Time: r.now()})
			return err
		},
		DynamicRecordSizingDisabled: true,
	}
}

// A nextError is about the next proxy, and not about the origin.
type nextError struct {
	err  error
	next string
}

func (e *nextError) Error() string { return "the next proxy, " + e.next + ": " + e.err.Error() }

func (e *nextError) Unwrap() error { return e.err }

// aNextProxy says of the next proxy what would else be said of the origin. That its certificate is no good is for
// the operator to mend, and must not look like the origin's.
func aNextProxy(err error) *answer {
	var n *nextError
	if !errors.As(err, &n) {
		return nil
	}
	a := answerTo(n.err)
	a.details = strings.NewReplacer("the origin", "the next proxy", "the target", "the next proxy", "the name's", "the next proxy's name's", "the name has", "the next proxy's name has").Replace(a.details)
	a.next, a.cause = n.next, err
	switch {
	case errors.Is(err, pki.ErrProfile):
		a.details = "the next proxy's certificate is not one of a proxy"
	case errors.Is(err, errNotAProxy):
		a.details = "the next proxy is not one"
	case a.reason != fields.ErrorTLSCertificate:
		return a
	}
	a.status, a.reason = http.StatusInternalServerError, fields.ErrorProxyConfiguration
	return a
}
