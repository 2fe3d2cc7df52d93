package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"vitrine/client"
	"vitrine/internal/connectto"
	"vitrine/internal/fields"
	"vitrine/internal/hostile"
	"vitrine/internal/pki"
	"vitrine/origin"
	"vitrine/proxy"
)

const (
	shopHost  = "shop.example"  // an origin that enables the token
	stockHost = "stock.example" // an ordinary one
	signHost  = "signs.example" // an ordinary one that signs its responses
	oldHost   = "old.example"   // one of TLS 1.2, with RSA key exchange
	glassHost = "glass.example" // the proxy

	pageText   = "The vase costs 100 crowns.\n"
	secretText = "The combination of the safe is 4711.\n"
	forbidden  = "combination"
	killRule   = "demo.no-combinations"
	killReason = "pages that name a combination stay in the case"
	bigSize    = 4 << 20
)

// A stage is what the demo's steps play on: an origin of each kind and their proxies, on loopback sockets.
type stage struct {
	origins, proxies *pki.Authority
	proxyCert        tls.Certificate
	watch            *watcher
	gate             chan struct{} // the second half of /big waits for it
	opened           sync.Once
	reader           chan *origin.Inspection // whom the origin says it was read by, for each /page
	cleanup          []func() error
	rules            connectto.Rules // of the proxies: where the origins are

	mu     sync.Mutex
	copied int    // how often /copy was asked for
	copy   string // the last of them
}

func newStage(ctx context.Context) (*stage, error) {
	st := &stage{watch: newWatcher(), gate: make(chan struct{}), reader: make(chan *origin.Inspection, 16)}
	err := st.build(ctx)
	if err != nil {
		return nil, errors.Join(err, st.close())
	}
	return st, nil
}

func (st *stage) build(ctx context.Context) error {
	now := time.Now()
	var err error
	if st.origins, err = pki.NewAuthority("Demo origins", now); err != nil {
		return err
	}
	if st.proxies, err = pki.NewAuthority("Demo proxies", now); err != nil {
		return err
	}
	if st.proxyCert, err = st.proxies.Proxy(glassHost); err != nil {
		return err
	}
	for _, o := range []struct {
		host      string
		configure func(*http.Server) error
	}{
		{shopHost, func(srv *http.Server) error { return origin.ConfigureServer(srv, nil) }},
		{stockHost, func(*http.Server) error { return nil }},
		{signHost, makeSigning},
		{oldHost, st.makeOld},
	} {
		if err := st.serveOrigin(ctx, st.newServer(), o.host, o.configure); err != nil {
			return err
		}
	}
	return nil
}

// makeSigning makes srv's responses signed.
func makeSigning(srv *http.Server) (err error) {
	srv.Handler, err = origin.SignResponses(srv.Handler, &origin.SignConfig{TLSConfig: srv.TLSConfig})
	return err
}

// makeOld makes srv a server as there were before forward secrecy.
func (st *stage) makeOld(srv *http.Server) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	cert, err := st.origins.OriginOf(key, oldHost)
	if err != nil {
		return err
	}
	srv.TLSConfig = &tls.Config{
		Certificates: []tls.Certificate{cert},
		MaxVersion:   tls.VersionTLS12,
		CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256},
	}
	srv.Protocols = new(http.Protocols) // HTTP/2 forbids that suite
	srv.Protocols.SetHTTP1(true)
	return nil
}

func (st *stage) newServer() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /page", func(w http.ResponseWriter, r *http.Request) {
		info, _ := origin.InspectionOf(r.Context())
		select {
		case st.reader <- info:
		default:
		}
		io.WriteString(w, pageText)
	})
	mux.HandleFunc("GET /copy", st.copies)
	mux.HandleFunc("GET /secret", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, secretText) })
	mux.HandleFunc("GET /big", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(bigSize))
		half := bigText()[:bigSize/2]
		w.Write(half)
		http.NewResponseController(w).Flush()
		select {
		case <-st.gate:
			w.Write(bigText()[bigSize/2:])
		case <-r.Context().Done():
		}
	})
	return &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0),
	}
}

func bigText() []byte {
	return bytes.Repeat([]byte("glass "), bigSize/6+1)[:bigSize]
}

// serveOrigin gives srv a certificate for host and a socket, and tells the proxies where it is.
func (st *stage) serveOrigin(ctx context.Context, srv *http.Server, host string, configure func(*http.Server) error) error {
	cert, err := st.origins.Origin(host)
	if err != nil {
		return err
	}
	srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
	if err := configure(srv); err != nil {
		return err
	}
	ln, err := loopback(ctx)
	if err != nil {
		return err
	}
	st.own(func() error { return srv.ServeTLS(origin.NewListener(ln), "", "") }, srv.Close)
	st.rules = append(st.rules, to(host, ln))
	return nil
}

// serveProxy starts a proxy with the given modes and returns a transport that goes through it, and
// how many hop-1 connections it has accepted.
func (st *stage) serveProxy(ctx context.Context, modes ...fields.Mode) (*client.Transport, func() int, error) {
	ln, err := loopback(ctx)
	if err != nil {
		return nil, nil, err
	}
	p := st.newProxy(modes...)
	counted := &countingListener{Listener: ln}
	st.own(func() error { return p.Serve(counted) }, p.Close)
	return st.newTransport(ln), counted.count, nil
}

func (st *stage) newProxy(modes ...fields.Mode) *proxy.Proxy {
	return &proxy.Proxy{
		Certificate: st.proxyCert,
		Roots:       st.origins.Pool().CertPool,
		Policy:      proxy.Policy{Modes: modes},
		Inspectors:  []proxy.Inspector{st.watch},
		ConnectTo:   st.rules,
	}
}

// serveLiar starts a proxy with the given modes that lies in the way of mode and returns a transport that goes
// through it, and where it says that it struck.
func (st *stage) serveLiar(ctx context.Context, mode hostile.Mode, modes ...fields.Mode) (*client.Transport, <-chan hostile.Strike, error) {
	ln, err := loopback(ctx)
	if err != nil {
		return nil, nil, err
	}
	strikes := make(chan hostile.Strike, 16)
	l := &hostile.Liar{Proxy: st.newProxy(modes...), Mode: mode, Struck: func(s hostile.Strike) {
		select {
		case strikes <- s:
		default:
		}
	}}
	st.own(func() error { return l.Serve(ln) }, l.Close)
	return st.newTransport(ln), strikes, nil
}

// newTransport returns a transport through the proxy on ln.
func (st *stage) newTransport(ln net.Listener) *client.Transport {
	tr := &client.Transport{}
	tr.Proxy = "https://" + glassHost
	tr.ProxyRoots = st.proxies.Pool().CertPool
	tr.Roots = st.origins.Pool().CertPool
	tr.Consent = client.Once{}
	tr.ConnectTo = connectto.Rules{to(glassHost, ln)}
	st.cleanup = append(st.cleanup, tr.Close)
	return tr
}

// own runs serve until stop ends it; close waits for both.
func (st *stage) own(serve, stop func() error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = serve() // it ends with an error that says it was stopped, always
	}()
	st.cleanup = append(st.cleanup, func() error {
		err := stop()
		<-done
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		return err
	})
}

// open lets /big write its second half.
func (st *stage) open() { st.opened.Do(func() { close(st.gate) }) }

// close ends clients, proxies and origins, in this order.
func (st *stage) close() error {
	st.open()
	var err error
	for i := len(st.cleanup) - 1; i >= 0; i-- {
		err = errors.Join(err, st.cleanup[i]())
	}
	st.cleanup = nil
	return err
}

func loopback(ctx context.Context) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
}

// to sends connections for host to ln.
func to(host string, ln net.Listener) connectto.Rule {
	addr := ln.Addr().(*net.TCPAddr)
	return connectto.Rule{Host: host, Port: 443, Addr: addr.IP.String(), To: addr.Port}
}

// A countingListener counts what it accepts.
type countingListener struct {
	net.Listener
	mu sync.Mutex
	n  int
}

func (l *countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.mu.Lock()
		l.n++
		l.mu.Unlock()
	}
	return conn, err
}

func (l *countingListener) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

// A watcher is the demo's inspector: it notes the plaintext that it reads, by path, and kills a
// response that names what is forbidden.
type watcher struct {
	mu   sync.Mutex
	seen map[string]*sighting
	news chan struct{} // holds a token when seen has grown
}

// a sighting is the plaintext of one exchange, as the proxy read it.
type sighting struct {
	method  string
	status  int
	bytes   int
	hash    [32]byte
	content []byte
}

func newWatcher() *watcher {
	return &watcher{seen: map[string]*sighting{}, news: make(chan struct{}, 1)}
}

// take returns what was read of path last.
func (w *watcher) take(path string) *sighting {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.seen[path]
	delete(w.seen, path)
	return s
}

// Begin implements [proxy.Inspector].
func (w *watcher) Begin(*proxy.Exchange) proxy.Inspection { return &watching{w: w} }

type watching struct {
	w    *watcher
	path string
	s    sighting
}

func (x *watching) Request(p proxy.Part) proxy.Decision {
	if p.Head != nil {
		x.path, x.s.method = p.Head.Path, p.Head.Method
	}
	return proxy.Decision{}
}

func (x *watching) Response(p proxy.Part) proxy.Decision {
	if p.Head != nil {
		x.s.status = p.Head.Status
	}
	x.s.content = p.Body.Append(x.s.content)
	if bytes.Contains(x.s.content, []byte(forbidden)) {
		return proxy.Decision{Action: proxy.Kill, Rule: killRule, Reason: killReason}
	}
	return proxy.Decision{}
}

func (x *watching) Close(proxy.Outcome) {
	x.s.bytes, x.s.hash = len(x.s.content), sha256.Sum256(x.s.content)
	x.w.mu.Lock()
	defer x.w.mu.Unlock()
	s := x.s
	x.w.seen[x.path] = &s
	select {
	case x.w.news <- struct{}{}:
	default:
	}
}

// sighting waits until the proxy has seen an exchange of path end.
func (st *stage) sighting(ctx context.Context, path string) (*sighting, error) {
	for {
		if s := st.watch.take(path); s != nil {
			return s, nil
		}
		select {
		case <-st.watch.news:
		case <-ctx.Done():
			return nil, fmt.Errorf("the proxy has not read %s: %w", path, ctx.Err())
		}
	}
}
