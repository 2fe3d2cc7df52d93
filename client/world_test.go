package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"vitrine/frames"
	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/hop/h2"
	"vitrine/internal/hop/raw/pipe"
	"vitrine/internal/itls"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
	"vitrine/internal/verdict"
)

// A world is a proxy and an origin in memory, made of the carriers and the inner TLS themselves, whose
// proxy can be told to lie. One hop 2 is dialled for each tunnel.
type world struct {
	t        *testing.T
	origins  *pki.Authority
	proxies  *pki.Authority
	proxy    tls.Certificate
	origin   tls.Certificate
	handler  http.Handler
	closers  []func()
	wg       sync.WaitGroup
	requests chan string // each request that reached the origin: method and path

	// How the proxy behaves; set before the first request.
	clientCAs *x509.CertPool
	answer    func(in hop.Incoming, req *hop.Request) bool // true: it answered
	evidence  func(raw []byte) []byte                      // what is shown instead
	via       func(toOrigin bool, p []byte) (out []byte)   // what passes instead
	noAnswer  bool                                         // the origin says nothing of hop 2 in the inner session
	otherHop  bool                                         // the inner session is said to be on another hop 2
	cert      func(w *world) tls.Certificate               // hop 1's
	innerCert *tls.Certificate                             // the origin's, in the inner session
	dial      func(ctx context.Context) (net.Conn, error)  // instead of the proxy
	serve     func(conn *tls.Conn)                         // instead of h2
	stock     bool                                         // the origin is an ordinary TLS server
	tokens    []string                                     // what the proxy offers a stock origin
	modes     []fields.Mode                                // what a 470 lists
	limits    hop.Limits                                   // of its end of hop 1
	users     *x509.CertPool                               // whom the origin wants certificates of
	splitter  *splitter                                    // nil: it knows no split mode

	mu      sync.Mutex
	tunnels []*fakeTunnel
	hops    int // hop 1 connections
	fronts  []hop.Session
}

// A fakeTunnel is what the proxy knows of a tunnel.
type fakeTunnel struct {
	w         *world
	stream    hop.Stream
	authority string
	nonce     [32]byte
	back      net.Conn // to the origin
}

const (
	originName = "origin.example"
	proxyName  = "proxy.example"
)

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, requests: make(chan string, 1000), modes: []fields.Mode{fields.Intact}}
	var err error
	if w.origins, err = pki.NewAuthority("origins", time.Now()); err != nil {
		t.Fatal(err)
	}
	if w.proxies, err = pki.NewAuthority("proxies", time.Now()); err != nil {
		t.Fatal(err)
	}
	if w.proxy, err = w.proxies.Proxy(proxyName); err != nil {
		t.Fatal(err)
	}
	if w.origin, err = w.origins.Origin(originName, "second.example", "192.0.2.1", "2001:db8::1", "xn--bcher-kva.example"); err != nil {
		t.Fatal(err)
	}
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { io.WriteString(rw, "hello") })
	t.Cleanup(w.close)
	return w
}

func (w *world) close() {
	w.mu.Lock()
	closers := w.closers
	w.mu.Unlock()
	for i := len(closers) - 1; i >= 0; i-- {
		closers[i]()
	}
	w.wg.Wait()
}

func (w *world) onClose(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closers = append(w.closers, f)
}

// transport is a client of the world with consent; set changes it before use.
func (w *world) transport(set func(tr *Transport)) *Transport {
	tr := &Transport{
		Proxy:      "https://" + proxyName + ":8443",
		ProxyRoots: w.proxies.Pool().CertPool,
		Roots:      w.origins.Pool().CertPool,
		Consent:    Once{},
		NetDial:    w.netDial,
	}
	if set != nil {
		set(tr)
	}
	w.onClose(func() { tr.Close() })
	return tr
}

// netDial is the network: the proxy, and stock origins.
func (w *world) netDial(ctx context.Context, _, addr string) (net.Conn, error) {
	if addr != proxyName+":8443" {
		c, s := pipe.New()
		w.wg.Go(func() { w.serveStock(s) })
		return c, nil
	}
	if w.dial != nil {
		return w.dial(ctx)
	}
	c, s := pipe.New()
	w.mu.Lock()
	w.hops++
	w.mu.Unlock()
	w.wg.Go(func() { w.serveHop1(s) })
	return c, nil
}

func (w *world) serveHop1(raw net.Conn) {
	cert := w.proxy
	if w.cert != nil {
		cert = w.cert(w)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13}
	if w.clientCAs != nil {
		cfg.ClientCAs, cfg.ClientAuth = w.clientCAs, tls.RequireAndVerifyClientCert
	}
	conn := tls.Server(hop.NewBatchConn(raw), cfg)
	if err := conn.HandshakeContext(context.Background()); err != nil {
		raw.Close()
		return
	}
	if w.serve != nil {
		w.serve(conn)
		return
	}
	s, err := h2.Server(conn, &h2.Config{Limits: w.limits, Ordinary: w.splitter != nil})
	if err != nil {
		raw.Close()
		return
	}
	w.onClose(func() { s.Close(hop.NoError, "") })
	w.mu.Lock()
	w.fronts = append(w.fronts, s)
	w.mu.Unlock()
	for {
		in, err := s.Accept(context.Background())
		if err != nil {
			<-s.Done()
			return
		}
		if in, ok := in.(hop.IncomingRequest); ok && w.splitter != nil {
			w.wg.Go(func() { w.splitter.serve(in) })
			continue
		}
		w.wg.Go(func() { w.connect(in) })
	}
}

// connect answers one CONNECT.
func (w *world) connect(in hop.Incoming) {
	req := in.Request()
	if w.answer != nil && w.answer(in, req) {
		return
	}
	if req.Protocol != frames.Protocol {
		w.connectBlind(in)
		return
	}
	raw, err := fields.ParseEvidenceRequest(req.Header.Values(fields.EvidenceRequest))
	if err != nil {
		w.refuse(in, http.StatusBadRequest, fields.ErrorHTTPRequest, nil)
		return
	}
	ereq, err := evidence.ParseRequest(raw)
	if err == nil {
		err = ereq.CheckProxy(req.Authority, pki.LeafHash(w.proxy.Leaf))
	}
	if err != nil {
		w.refuse(in, http.StatusBadRequest, fields.ErrorHTTPRequest, nil)
		return
	}
	if w.splitter != nil {
		w.refuse(in, frames.StatusInspectionRequired, "", w.splitter.shown(w.splitter.dial(ereq, req.Authority)))
		return
	}
	if w.stock {
		w.refuse(in, frames.StatusInspectionRequired, "", w.transcript(ereq, req.Authority))
		return
	}
	h, err := w.dialHop2(ereq)
	if err != nil {
		w.refuse(in, http.StatusBadGateway, fields.ErrorTLSProtocol, nil)
		return
	}
	defer h.close()
	show := h.evidence
	if w.evidence != nil {
		show = w.evidence(show)
	}
	stream, err := in.Accept(&hop.Response{Status: http.StatusOK, Evidence: show})
	if err != nil {
		return
	}
	w.join(stream, req.Authority, ereq.Nonce, func(end net.Conn) {
		inner := h.answer
		if w.otherHop {
			other, err := w.dialHop2(ereq)
			if err != nil {
				w.t.Error(err)
				return
			}
			defer other.close()
			inner = other.answer
		}
		w.serveInner(end, inner)
	})
}

func (w *world) connectBlind(in hop.Incoming) {
	stream, err := in.Accept(&hop.Response{Status: http.StatusOK})
	if err != nil {
		return
	}
	w.join(stream, in.Request().Authority, [32]byte{}, w.serveStock)
}

func (w *world) refuse(in hop.Incoming, status int, proxyError string, show []byte) {
	h := http.Header{}
	h.Set(fields.ProxyStatusName, fields.ProxyStatus{Proxy: proxyName, Error: proxyError, Details: "because of the test"}.String())
	if opts := fields.FormatOptions(w.modes); opts != "" && status == frames.StatusInspectionRequired {
		h.Set(fields.InspectionOptions, opts)
	}
	in.Reject(&hop.Response{Status: status, Header: h, Evidence: show})
}

// join carries stream to an origin that far serves.
func (w *world) join(stream hop.Stream, authority string, nonce [32]byte, far func(net.Conn)) {
	front := hop.NewConn(stream)
	back, end := pipe.New()
	tun := &fakeTunnel{w: w, stream: stream, authority: authority, nonce: nonce, back: back}
	w.mu.Lock()
	w.tunnels = append(w.tunnels, tun)
	w.mu.Unlock()
	w.onClose(func() { back.Close(); end.Close() })
	w.wg.Go(func() { far(end) })
	var pumps sync.WaitGroup
	pumps.Go(func() { w.pump(front, back, true); back.CloseWrite() })
	pumps.Go(func() { w.pump(back, front, false); front.CloseWrite() })
	pumps.Wait()
	front.Close()
	back.Close()
}

func (w *world) pump(from, to net.Conn, toOrigin bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p := buf[:n]
		if w.via != nil && n > 0 {
			p = w.via(toOrigin, p)
		}
		if len(p) > 0 {
			if _, werr := to.Write(p); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// hop2 is both ends' view of a connection between proxy and origin.
type hop2 struct {
	evidence []byte
	answer   *tlsmsg.InspectionAnswer
	close    func()
}

// dialHop2 makes a hop 2 in memory and has the origin authenticate for req on it.
func (w *world) dialHop2(req *evidence.Request) (*hop2, error) {
	a, b := pipe.New()
	client := tls.Client(a, &tls.Config{
		RootCAs: pki.NewPool(w.origins.Root, w.proxies.Root).CertPool, ServerName: originName, NextProtos: []string{frames.ALPNH2},
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{w.proxy},
	})
	server := tls.Server(b, &tls.Config{
		Certificates: []tls.Certificate{w.origin}, NextProtos: []string{frames.ALPNH2}, ClientAuth: tls.RequestClientCert,
	})
	both := func() { a.Close(); b.Close() }
	done := make(chan error, 1)
	w.wg.Go(func() { done <- server.HandshakeContext(context.Background()) })
	if err := errors.Join(client.HandshakeContext(context.Background()), <-done); err != nil {
		both()
		return nil, err
	}
	proxySide, originSide := client.ConnectionState(), server.ConnectionState()
	answer, err := evidence.NewAnswer(&originSide, time.Now(), time.Minute)
	if err != nil {
		both()
		return nil, err
	}
	payload, err := evidence.Authenticate(req, &originSide, &w.origin, answer)
	if err != nil {
		both()
		return nil, err
	}
	e, err := evidence.FromAuthenticator(payload, req, proxySide, true)
	if err != nil {
		both()
		return nil, err
	}
	raw, err := e.Append(nil)
	if err != nil {
		both()
		return nil, err
	}
	return &hop2{evidence: raw, answer: answer, close: both}, nil
}

// transcript is the evidence about a stock origin that was offered all tokens.
func (w *world) transcript(req *evidence.Request, authority string) []byte {
	w.t.Helper()
	tokens := w.tokens
	if tokens == nil {
		tokens = []string{frames.ALPNH2, frames.ALPNRaw, "http/1.1"}
	}
	d, err := evidence.NewDial(&tls.Config{
		RootCAs: w.origins.Pool().CertPool, ServerName: originName, NextProtos: tokens,
	}, req, req.Offer.Proxies, authority)
	if err != nil {
		w.t.Error(err)
		return nil
	}
	defer d.Discard()
	a, b := pipe.New()
	defer a.Close()
	defer b.Close()
	w.wg.Go(func() {
		tls.Server(b, &tls.Config{Certificates: []tls.Certificate{w.origin}, NextProtos: []string{"h2", "http/1.1"}}).HandshakeContext(context.Background())
	})
	return w.shake(d, tls.Client(d.Tap(a), d.Config()))
}

// shake makes the handshake of conn, which is d's, and returns the evidence; nil where there is none.
func (w *world) shake(d *evidence.Dial, conn *tls.Conn) []byte {
	if err := conn.HandshakeContext(context.Background()); err != nil {
		w.t.Error(err)
		return nil
	}
	e, err := d.Evidence(conn.ConnectionState(), true)
	if err != nil {
		w.t.Error(err)
		return nil
	}
	raw, err := e.Append(nil)
	if err != nil {
		w.t.Error(err)
	}
	return raw
}

func (w *world) serveInner(end net.Conn, answer *tlsmsg.InspectionAnswer) {
	cert := w.origin
	if w.innerCert != nil {
		cert = *w.innerCert
	}
	w.serveHTTP(itls.Server(end, &itls.Config{
		TLS: w.originTLS(cert),
		AnswerInspection: func(offer *tlsmsg.InspectionOffer) (*tlsmsg.InspectionAnswer, error) {
			if w.noAnswer || offer == nil {
				return nil, nil
			}
			return answer, nil
		},
		RequireALPN:         true,
		UnprotectedForTests: true,
	}))
}

func (w *world) serveStock(end net.Conn) {
	cert := w.origin
	if w.innerCert != nil {
		cert = *w.innerCert
	}
	w.serveHTTP(tls.Server(end, w.originTLS(cert)))
}

func (w *world) originTLS(cert tls.Certificate) *tls.Config {
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}}
	if w.users != nil {
		cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, w.users
	}
	return cfg
}

// serveHTTP serves one connection and returns when it is over.
func (w *world) serveHTTP(conn net.Conn) {
	ln := &oneListener{conn: make(chan net.Conn, 1), done: make(chan struct{})}
	ln.conn <- &closeConn{Conn: conn, done: sync.OnceFunc(func() { ln.Close() })}
	srv := &http.Server{
		Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			w.requests <- r.Method + " " + r.URL.Path
			w.handler.ServeHTTP(rw, r)
		}),
		ErrorLog: discardLog(),
	}
	srv.Serve(ln)
	srv.Close()
}

// kill has the proxy kill the last tunnel with a verdict that forge may change.
func (w *world) kill(forge func(tbs *frames.VerdictTBS, cert *tls.Certificate)) {
	w.mu.Lock()
	tun := w.tunnels[len(w.tunnels)-1]
	w.mu.Unlock()
	tun.kill(forge)
}

func (tun *fakeTunnel) kill(forge func(tbs *frames.VerdictTBS, cert *tls.Certificate)) {
	cert := tun.w.proxy
	tbs := &frames.VerdictTBS{
		Nonce: tun.nonce, Authority: tun.authority, Time: time.Now(), Direction: frames.ToClient,
		Reason: frames.ReasonInspector, Rule: "no-secrets", Detail: "the page has a secret in it",
	}
	if forge != nil {
		forge(tbs, &cert)
	}
	signed, err := verdict.Sign(&cert, tbs)
	if err != nil {
		tun.w.t.Error(err)
		return
	}
	tun.stream.Kill(signed)
	tun.back.Close()
}

// took is how many requests reached the origin so far.
func (w *world) took() int { return len(w.requests) }

// opened is how many tunnels the proxy has opened so far, and dialled how many hop 1 connections.
func (w *world) opened() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.tunnels)
}

func (w *world) dialled() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hops
}

// open is how many tunnels the pool holds.
func (t *Transport) open() int {
	t.pool.mu.Lock()
	defer t.pool.mu.Unlock()
	return len(t.pool.all)
}

type oneListener struct {
	conn chan net.Conn
	done chan struct{}
	once sync.Once
}

func (l *oneListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	default:
	}
	<-l.done
	return nil, net.ErrClosed
}
func (l *oneListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *oneListener) Addr() net.Addr { return &net.TCPAddr{} }

type closeConn struct {
	net.Conn
	done func()
}

func (c *closeConn) Close() error {
	err := c.Conn.Close()
	c.done()
	return err
}
