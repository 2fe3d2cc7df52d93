package origin

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vitrine/frames"
	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/hop/h2"
	"vitrine/internal/hop/raw/pipe"
	"vitrine/internal/itls"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	name      = "origin.example"
	authority = name + ":443"
)

// A world is an origin in memory, and what a proxy and a client need to reach it.
type world struct {
	t       testing.TB
	origins *pki.Authority
	proxies *pki.Authority
	proxy   tls.Certificate
	ln      *pipe.Listener
	srv     *http.Server
	served  chan error
	log     *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// newWorld makes the certificates and a server that is not started.
func newWorld(t testing.TB, h http.Handler) *world {
	now := time.Now()
	w := &world{
		t: t, log: new(lockedBuffer), ln: pipe.Listen(), served: make(chan error, 1),
		origins: must(pki.NewAuthority("origins", now)), proxies: must(pki.NewAuthority("proxies", now)),
	}
	w.proxy = must(w.proxies.Proxy("proxy.example"))
	cert := must(w.origins.Origin(name, "127.0.0.1", "::1"))
	w.srv = &http.Server{
		Handler:   h,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}},
		ErrorLog:  log.New(w.log, "", 0),
	}
	return w
}

// serve configures and starts the server.
func (w *world) serve(cfg *Config) *world {
	w.t.Helper()
	if err := ConfigureServer(w.srv, cfg); err != nil {
		w.t.Fatal(err)
	}
	go func() { w.served <- w.srv.ServeTLS(NewListener(w.ln), "", "") }()
	w.t.Cleanup(func() {
		w.srv.Close()
		if err := <-w.served; !errors.Is(err, http.ErrServerClosed) {
			w.t.Errorf("Serve returned %v", err)
		}
		if w.t.Failed() {
			w.t.Logf("server's log:\n%s", w.log.String())
		}
	})
	return w
}

func start(t testing.TB, h http.HandlerFunc) *world { return newWorld(t, h).serve(nil) }

// dial opens a TLS connection that offers protos, with the certificates certs.
func (w *world) dial(protos []string, certs ...tls.Certificate) (*tls.Conn, error) {
	return w.dialConfig(&tls.Config{NextProtos: protos, Certificates: certs})
}

func (w *world) dialConfig(cfg *tls.Config) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := w.ln.Dial(ctx)
	if err != nil {
		return nil, err
	}
	cfg.RootCAs, cfg.ServerName = w.origins.Pool().CertPool, name
	tc := tls.Client(conn, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return tc, nil
}

// tokens is what proxies offer on hop 2.
func tokens() []string { return []string{frames.ALPNH2, frames.ALPNRaw, "http/1.1"} }

// hop is a fake proxy's connection.
func (w *world) hop(certs ...tls.Certificate) hop.Session {
	w.t.Helper()
	tc, err := w.dial(tokens(), certs...)
	if err != nil {
		w.t.Fatal(err)
	}
	if p := tc.ConnectionState().NegotiatedProtocol; p != frames.ALPNH2 {
		w.t.Fatalf("the origin picked %q", p)
	}
	s, err := h2.Client(tc, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { s.Close(hop.NoError, ""); <-s.Done() })
	return s
}

// A visit is what a client asks for; tests change it to lie.
type visit struct {
	offer tlsmsg.InspectionOffer // what the evidence request says
	inner *tlsmsg.InspectionOffer
	sni   string
	tls   *tls.Config // of the inner session; ServerName and RootCAs are filled in
	open  hop.Request
	raw   []byte // the evidence request
	bare  bool   // leave it out

	resp   *hop.Response
	stream hop.Stream
}

// visit makes an honest one.
func (w *world) visit() *visit {
	v := &visit{sni: name, tls: &tls.Config{NextProtos: []string{"http/1.1"}}}
	leaf := must(x509.ParseCertificate(w.proxy.Certificate[0]))
	v.offer = tlsmsg.InspectionOffer{Proxies: [][32]byte{pki.LeafHash(leaf)}, Authority: authority}
	rand.Read(v.offer.Nonce[:])
	inner := v.offer
	v.inner = &inner
	v.open = hop.Request{Protocol: frames.Protocol, Authority: authority, Path: "/", Header: http.Header{"Via": {"2 proxy.example"}}}
	return v
}

func (w *world) connect(s hop.Session, v *visit) error {
	host, _, _ := fields.ParseAuthority(v.offer.Authority)
	if v.raw == nil {
		v.raw = must(evidence.NewRequest(&v.offer, sni(host)))
	}
	if !v.bare && v.open.Header.Get(fields.EvidenceRequest) == "" {
		v.open.Header.Set(fields.EvidenceRequest, fields.FormatEvidenceRequest(v.raw))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	v.resp, v.stream, err = s.Open(ctx, &v.open)
	return err
}

// enter opens a tunnel and the inner session in it.
func (w *world) enter(s hop.Session, v *visit) (*itls.Conn, error) {
	if err := w.connect(s, v); err != nil {
		return nil, err
	}
	if v.stream == nil {
		return nil, fmt.Errorf("refused with %d: %s", v.resp.Status, v.resp.Body)
	}
	cfg := v.tls.Clone()
	cfg.ServerName, cfg.RootCAs = v.sni, w.origins.Pool().CertPool
	conn := itls.Client(hop.NewConn(v.stream), &itls.Config{TLS: cfg, Inspection: v.inner})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// tunnel is enter for an honest visit.
func (w *world) tunnel(s hop.Session) *itls.Conn {
	w.t.Helper()
	c, err := w.enter(s, w.visit())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return c
}

// client is an HTTP client whose connections are tunnels on s.
func (w *world) client(s hop.Session) *http.Client {
	tr := &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
		return w.enter(s, w.visit())
	}}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// stock is a client that knows nothing of us.
func (w *world) stock(h2 bool) *http.Client {
	tr := &http.Transport{
		ForceAttemptHTTP2: h2,
		TLSClientConfig:   &tls.Config{RootCAs: w.origins.Pool().CertPool, ServerName: name},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := w.ln.Dial(ctx)
			if err != nil {
				return nil, err
			}
			return c, nil
		},
	}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}
