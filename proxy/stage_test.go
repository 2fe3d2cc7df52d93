package proxy

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vitrine/frames"
	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/hop/h2"
	"vitrine/internal/hop/raw"
	"vitrine/internal/hop/raw/pipe"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
)

const (
	proxyName  = "proxy.example"
	originName = "origin.example"
	authority  = originName + ":443"
)

// A stage is a proxy that serves in memory, and the network that it dials into.
type stage struct {
	t                         *testing.T
	origins, proxies, clients *pki.Authority
	proxy                     *Proxy
	ln                        *pipe.Listener
	served                    chan error
	log                       *syncBuffer
	ctx                       context.Context // of CONNECTs

	mu        sync.Mutex
	listeners map[string]*pipe.Listener // by address:port
	dialled   []string
	raws      []*pipe.Conn // the proxy's ends of hop 2
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// newStage starts a proxy. Tests that change it pass configure. The proxy ends with the test.
func newStage(t *testing.T, configure ...func(*Proxy)) *stage {
	t.Helper()
	st := &stage{t: t, ln: pipe.Listen(), served: make(chan error, 1), log: new(syncBuffer), ctx: t.Context(), listeners: make(map[string]*pipe.Listener)}
	st.origins, st.proxies, st.clients = newAuthority(t, "origins"), newAuthority(t, "proxies"), newAuthority(t, "clients")
	cert, err := st.proxies.Proxy(proxyName)
	if err != nil {
		t.Fatal(err)
	}
	st.proxy = &Proxy{
		Certificate: cert,
		Roots:       st.origins.Pool().CertPool,
		Targets:     TargetPolicy{Resolver: st, DialContext: st.dial},
		Log:         slog.New(slog.NewTextHandler(st.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range configure {
		f(st.proxy)
	}
	go func() { st.served <- st.proxy.Serve(st.ln) }()
	t.Cleanup(st.close)
	return st
}

func newAuthority(t *testing.T, name string) *pki.Authority {
	t.Helper()
	a, err := pki.NewAuthority(name, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (st *stage) close() {
	st.proxy.Close()
	if err := <-st.served; !errors.Is(err, ErrServerClosed) {
		st.t.Errorf("Serve: %v", err)
	}
	st.served <- ErrServerClosed
}

// LookupNetIP resolves every name to one public address, and a few to others.
func (st *stage) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	switch host {
	case "nowhere.example":
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	case "inside.example":
		return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
	}
	return []netip.Addr{netip.MustParseAddr("192.0.1.1")}, nil
}

func (st *stage) dial(ctx context.Context, _, address string) (net.Conn, error) {
	st.mu.Lock()
	st.dialled = append(st.dialled, address)
	ln := st.listeners[address]
	st.mu.Unlock()
	if ln == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errRefused}
	}
	c, err := ln.Dial(ctx)
	if err != nil {
		return nil, err
	}
	st.mu.Lock()
	st.raws = append(st.raws, c)
	st.mu.Unlock()
	return c, nil
}

func (st *stage) dials() int {
	st.mu.Lock()
	defer st.mu.Unlock()
	return len(st.dialled)
}

// listen serves each connection to the origins' address with serve, until the test ends.
func (st *stage) listen(serve func(net.Conn)) {
	ln := pipe.Listen()
	st.mu.Lock()
	st.listeners["192.0.1.1:443"] = ln
	st.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	st.t.Cleanup(func() {
		ln.Close()
		st.close() // first, so that the origin's connections end
		wg.Wait()
	})
}

func (st *stage) originConfig(protocols ...string) *tls.Config {
	cert, err := st.origins.Origin(originName, "other.example")
	if err != nil {
		st.t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: protocols, ClientAuth: tls.RequestClientCert}
}

// An atOrigin is a tunnel as it came to the origin.
type atOrigin struct {
	hop.Stream
	req     *hop.Request
	peer    *hop.Peer
	session hop.Session
}

// A testOrigin speaks itls-h2/1.
type testOrigin struct {
	// silent origins give no evidence; their connections prove one request.
	silent atomic.Bool
	// refuse answers CONNECT with a status.
	refuse atomic.Int32
	// bad makes an authenticator that does not hold.
	bad atomic.Bool
	// mute origins do not answer at all.
	mute atomic.Bool
	// streams is how many tunnels it takes on a connection; 0 is the default.
	streams atomic.Int32
	tunnels chan *atOrigin
}

func (st *stage) cooperating() *testOrigin {
	o := &testOrigin{tunnels: make(chan *atOrigin, 100)}
	cfg := st.originConfig(frames.ALPNH2)
	st.listen(func(conn net.Conn) {
		tc := tls.Server(hop.NewBatchConn(conn), cfg)
		if err := tc.Handshake(); err != nil {
			return
		}
		s, err := h2.Server(tc, &h2.Config{Limits: hop.Limits{Streams: int(o.streams.Load())}})
		if err != nil {
			st.t.Error(err)
			return
		}
		for {
			in, err := s.Accept(context.Background())
			if err != nil {
				break
			}
			if err := o.answer(s, in, &cfg.Certificates[0]); err != nil && !isReset(err) {
				st.t.Errorf("origin: %v", err)
			}
		}
		<-s.Done()
	})
	return o
}

func (o *testOrigin) answer(s hop.Session, in hop.Incoming, cert *tls.Certificate) error {
	if o.mute.Load() {
		<-in.Context().Done()
		in.Refuse(hop.Cancel)
		return nil
	}
	if status := o.refuse.Load(); status != 0 {
		return in.Reject(&hop.Response{Status: int(status)})
	}
	resp := &hop.Response{Status: http.StatusOK, Header: http.Header{}}
	if !o.silent.Load() {
		rawRequest, err := fields.ParseEvidenceRequest(in.Request().Header.Values(fields.EvidenceRequest))
		if err != nil {
			return err
		}
		req, err := evidence.ParseRequest(rawRequest)
		if err != nil {
			return err
		}
		state := s.Peer().TLS
		answer, err := evidence.NewAnswer(&state, time.Now(), time.Minute)
		if err != nil {
			return err
		}
		if resp.Evidence, err = evidence.Authenticate(req, &state, cert, answer); err != nil {
			return err
		}
		if o.bad.Load() {
			resp.Evidence[len(resp.Evidence)-1] ^= 1
		}
	}
	stream, err := in.Accept(resp)
	if err != nil {
		return err
	}
	o.tunnels <- &atOrigin{Stream: stream, req: in.Request(), peer: s.Peer(), session: s}
	return nil
}

// client makes hop 1. A nil cert shows none.
func (st *stage) client(cert *tls.Certificate) hop.Session {
	st.t.Helper()
	s, err := h2.Client(st.hop1(cert, "h2"), nil)
	if err != nil {
		st.t.Fatal(err)
	}
	st.t.Cleanup(func() {
		s.Close(hop.NoError, "")
		<-s.Done()
	})
	return s
}

func (st *stage) hop1(cert *tls.Certificate, protocols ...string) *tls.Conn {
	st.t.Helper()
	conn, err := st.ln.Dial(st.t.Context())
	if err != nil {
		st.t.Fatal(err)
	}
	cfg := &tls.Config{RootCAs: st.proxies.Pool().CertPool, ServerName: proxyName, NextProtos: protocols}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	tc := tls.Client(hop.NewBatchConn(conn), cfg)
	if err := tc.Handshake(); err != nil {
		st.t.Fatal(err)
	}
	return tc
}

func (st *stage) proxyLeaf() [32]byte { return pki.LeafHash(st.proxy.Certificate.Leaf) }

// offer is a fresh offer for a CONNECT to target.
func (st *stage) offer(target string) *tlsmsg.InspectionOffer {
	o := &tlsmsg.InspectionOffer{Proxies: [][32]byte{st.proxyLeaf()}, Authority: target}
	rand.Read(o.Nonce[:])
	return o
}

// A connect is what a client asked and got.
type connect struct {
	offer   *tlsmsg.InspectionOffer
	request []byte
	resp    *hop.Response
	stream  hop.Stream
	t       *testing.T
	roots   *stage
}

// connect opens an intact tunnel. Each change edits the request before it leaves.
func (st *stage) connect(s hop.Session, target string, change ...func(*hop.Request, *tlsmsg.InspectionOffer)) *connect {
	st.t.Helper()
	c, err := st.tryConnect(s, target, change...)
	if err != nil {
		st.t.Fatal(err)
	}
	return c
}

func (st *stage) tryConnect(s hop.Session, target string, change ...func(*hop.Request, *tlsmsg.InspectionOffer)) (*connect, error) {
	c := &connect{offer: st.offer(target), t: st.t, roots: st}
	req := &hop.Request{Protocol: frames.Protocol, Authority: target, Path: "/", Header: http.Header{}}
	for _, f := range change {
		f(req, c.offer)
	}
	host, _, _ := strings.Cut(c.offer.Authority, ":")
	var err error
	if c.request, err = evidence.NewRequest(c.offer, host); err != nil {
		return nil, err
	}
	if _, set := req.Header["Evidence-Request"]; !set {
		req.Header.Set(fields.EvidenceRequest, fields.FormatEvidenceRequest(c.request))
	}
	c.resp, c.stream, err = s.Open(st.ctx, req)
	return c, err
}

// evidence verifies what came with the answer, as a client would.
func (c *connect) evidence() *evidence.Result {
	c.t.Helper()
	e, err := evidence.Parse(c.resp.Evidence)
	if err != nil {
		c.t.Fatal(err)
	}
	v := &evidence.Verifier{Request: c.request, Authority: c.offer.Authority, Proxies: c.offer.Proxies, Roots: c.roots.origins.Pool().CertPool}
	r, err := v.Verify(e)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// says checks the status and proxy-status of an answer.
func (c *connect) says(status int, reason string) *fields.ProxyStatus {
	c.t.Helper()
	return says(c.t, c.resp, status, reason)
}

func says(t *testing.T, resp *hop.Response, status int, reason string) *fields.ProxyStatus {
	t.Helper()
	if resp.Status != status {
		t.Fatalf("status %d, want %d (%s)", resp.Status, status, resp.Header.Get(fields.ProxyStatusName))
	}
	list, err := fields.ParseProxyStatus(resp.Header.Values(fields.ProxyStatusName))
	if err != nil || len(list) != 1 {
		t.Fatalf("proxy-status %q: %v", resp.Header.Values(fields.ProxyStatusName), err)
	}
	if list[0].Proxy != proxyName || list[0].Error != reason {
		t.Errorf("proxy-status %v, want error %s", list[0], reason)
	}
	if via := resp.Header.Get("Via"); !strings.HasSuffix(via, " "+proxyName) {
		t.Errorf("via %q", via)
	}
	return &list[0]
}

// next is the next tunnel that came to the origin.
func (o *testOrigin) next(t *testing.T) *atOrigin {
	t.Helper()
	select {
	case tn := <-o.tunnels:
		return tn
	case <-t.Context().Done():
		t.Fatal("no tunnel came to the origin")
		return nil
	}
}

// A tap collects what arrives on a stream.
type tap struct {
	mu   sync.Mutex
	cond sync.Cond
	b    bytes.Buffer
	err  error
	// hold keeps the buffers, and so their credit.
	hold bool
	held []*hop.Buffer
}

func newTap(s hop.Stream) *tap {
	p := new(tap)
	p.cond.L = &p.mu
	s.Start(p)
	return p
}

func (p *tap) Data(b *hop.Buffer) {
	p.mu.Lock()
	p.b.Write(b.Bytes())
	hold := p.hold
	if hold {
		p.held = append(p.held, b)
	}
	p.cond.Broadcast()
	p.mu.Unlock()
	if !hold {
		b.Release()
	}
}

func (p *tap) Writable() {}

func (p *tap) End(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
	p.cond.Broadcast()
}

// atLeast waits for n bytes, or the end.
func (p *tap) atLeast(n int) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.b.Len() < n && p.err == nil {
		p.cond.Wait()
	}
	return bytes.Clone(p.b.Bytes())
}

// end waits for the end.
func (p *tap) end() ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.err == nil {
		p.cond.Wait()
	}
	return bytes.Clone(p.b.Bytes()), p.err
}

func (p *tap) let() {
	p.mu.Lock()
	held := p.held
	p.hold, p.held = false, nil
	p.mu.Unlock()
	for _, b := range held {
		b.Release()
	}
}

func send(t *testing.T, s hop.Stream, p []byte) {
	t.Helper()
	for len(p) > 0 {
		b := hop.NewBuffer()
		p = p[b.Append(p):]
		if err := s.Send(b); err != nil {
			t.Errorf("send: %v", err)
			return
		}
	}
}

// sendUntilReset is send for a stream that is reset meanwhile.
func sendUntilReset(s hop.Stream, p []byte) {
	for len(p) > 0 {
		b := hop.NewBuffer()
		p = p[b.Append(p):]
		if s.Send(b) != nil {
			return
		}
	}
}

func isKilled(err error) *hop.ResetError {
	var r *hop.ResetError
	if errors.As(err, &r) && r.Code == hop.Killed && r.Remote {
		return r
	}
	return nil
}

// rawOrigin hands each connection that picked itls/1 on.
func (st *stage) rawOrigin() chan hop.Stream {
	streams := make(chan hop.Stream, 10)
	cfg := st.originConfig(frames.ALPNRaw)
	st.listen(func(conn net.Conn) {
		tc := tls.Server(conn, cfg)
		if tc.Handshake() != nil {
			return
		}
		s := raw.NewStream(tc)
		streams <- s
		<-s.Session().Done()
	})
	return streams
}

func serverTLS(conn net.Conn, cfg *tls.Config) *tls.Conn { return tls.Server(conn, cfg) }

// pair is hop 1 without a listener.
func (st *stage) pair() (client, server hop.Session) {
	st.t.Helper()
	a, b := pipe.New()
	tc := tls.Client(a, &tls.Config{RootCAs: st.proxies.Pool().CertPool, ServerName: proxyName, NextProtos: []string{"h2"}})
	ts := tls.Server(b, &tls.Config{Certificates: []tls.Certificate{st.proxy.Certificate}, NextProtos: []string{"h2"}})
	shaken := make(chan error, 1)
	go func() { shaken <- ts.Handshake() }()
	if err := errors.Join(tc.Handshake(), <-shaken); err != nil {
		st.t.Fatal(err)
	}
	client, err := h2.Client(tc, nil)
	if err != nil {
		st.t.Fatal(err)
	}
	if server, err = h2.Server(ts, &h2.Config{Ordinary: true}); err != nil {
		st.t.Fatal(err)
	}
	return client, server
}
