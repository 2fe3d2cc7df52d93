package client

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"sync"
	"testing"

	"vitrine/frames"
	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/hop/raw/pipe"
	"vitrine/internal/pki"
)

// A splitter is the part of a world's proxy that ends TLS on both sides, in front of stock origins of net/http.
type splitter struct {
	w      *world
	origin *tls.Config // of the origin; its NextProtos say which protocols it has
	listen *chanListener

	mu    sync.Mutex
	kept  map[[32]byte]*keptHop
	dials int
	asks  []http.Header // the requests that came with evidence-id

	// How it behaves.
	tokens   []string
	evidence func(raw []byte) []byte
	refuse   func(req *hop.Request) *hop.Response
	onAsk    func(ans hop.Answering, nonce [32]byte) (taken bool) // before it goes on
	onHead   func(ans hop.Answering, nonce [32]byte, resp *http.Response) (taken bool)
	change   func(p []byte) // of the content
	toOrigin func(p []byte) // the same for requests
	strip    []string       // fields that do not reach the origin
	bare     bool           // trailer sections do not reach the client
	handler  http.Handler   // nil: the world's
}

// A keptHop is a hop 2 that made evidence.
type keptHop struct {
	cc        *http.ClientConn
	authority string
	busy      int
	h2        bool
}

// split makes w's origin a stock one with these protocols behind a proxy that allows split.
func (w *world) split(t *testing.T, cfg *tls.Config) *splitter {
	t.Helper()
	cfg = cfg.Clone()
	if cfg.Certificates == nil {
		cfg.Certificates = []tls.Certificate{w.origin}
	}
	if cfg.NextProtos == nil {
		cfg.NextProtos = []string{"h2", "http/1.1"}
	}
	sp := &splitter{
		w: w, origin: cfg, kept: make(map[[32]byte]*keptHop), listen: newChanListener(),
		tokens: []string{frames.ALPNH2, frames.ALPNRaw, "h2", "http/1.1"},
	}
	w.splitter = sp
	w.modes = []fields.Mode{fields.Intact, fields.Split}
	srv := &http.Server{
		Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			w.requests <- r.Method + " " + r.URL.Path
			if sp.handler != nil {
				sp.handler.ServeHTTP(rw, r)
				return
			}
			w.handler.ServeHTTP(rw, r)
		}),
		ErrorLog: discardLog(),
	}
	w.wg.Go(func() { srv.Serve(sp.listen) })
	w.onClose(func() {
		srv.Close()
		sp.mu.Lock()
		defer sp.mu.Unlock()
		for _, k := range sp.kept {
			k.cc.Close()
		}
	})
	return sp
}

// dial makes a hop 2 for req and keeps it. It returns the evidence.
func (sp *splitter) dial(req *evidence.Request, authority string) []byte {
	w := sp.w
	host, _, err := fields.ParseAuthority(authority)
	if err != nil {
		w.t.Error(err)
		return nil
	}
	d, err := evidence.NewDial(&tls.Config{RootCAs: w.origins.Pool().CertPool, ServerName: host, NextProtos: sp.tokens, CipherSuites: sp.origin.CipherSuites}, req, req.Offer.Proxies, authority)
	if err != nil {
		w.t.Error(err)
		return nil
	}
	defer d.Discard()
	a, b := pipe.New()
	sp.listen.conns <- tls.Server(b, sp.origin)
	conn := tls.Client(d.Tap(a), d.Config())
	raw := w.shake(d, conn)
	if raw == nil {
		return nil
	}
	tr := &http.Transport{
		DialTLSContext:     func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		ForceAttemptHTTP2:  true,
		DisableCompression: true,
	}
	cc, err := tr.NewClientConn(context.Background(), "https", authority)
	if err != nil {
		w.t.Error(err)
		return nil
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.dials++
	sp.kept[sha256.Sum256(raw)] = &keptHop{cc: cc, authority: authority, h2: conn.ConnectionState().NegotiatedProtocol == "h2"}
	return raw
}

// lose forgets all connections, as when their origins closed them.
func (sp *splitter) lose() {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	for id, k := range sp.kept {
		k.cc.Close()
		delete(sp.kept, id)
	}
}

func (sp *splitter) dialled() int {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.dials
}

func (sp *splitter) take(id [32]byte, authority string) *keptHop {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	k := sp.kept[id]
	if k == nil || k.authority != authority || !k.h2 && k.busy > 0 || k.cc.Err() != nil {
		return nil
	}
	k.busy++
	return k
}

// serve answers an ordinary request.
func (sp *splitter) serve(in hop.IncomingRequest) {
	w := sp.w
	req := in.Request()
	id, err := fields.ParseEvidenceID(req.Header.Values(fields.EvidenceID))
	raw, rerr := fields.ParseEvidenceRequest(req.Header.Values(fields.EvidenceRequest))
	authority := req.Authority
	if _, _, perr := fields.ParseAuthority(authority); perr != nil {
		authority += ":443"
	}
	var ereq *evidence.Request
	if rerr == nil {
		ereq, rerr = evidence.ParseRequest(raw)
	}
	if rerr == nil {
		rerr = ereq.CheckProxy(authority, pki.LeafHash(w.proxy.Leaf))
	}
	if err != nil || rerr != nil {
		w.t.Errorf("a request without what it needs: %v, %v", err, rerr)
		in.Reject(&hop.Response{Status: http.StatusBadRequest})
		return
	}
	sp.mu.Lock()
	sp.asks = append(sp.asks, req.Header)
	refuse := sp.refuse
	sp.mu.Unlock()
	if refuse != nil {
		if resp := refuse(req); resp != nil {
			in.Reject(resp)
			return
		}
	}
	k := sp.take(id, authority)
	if k == nil {
		w.refuse(in, frames.StatusInspectionRequired, "", sp.shown(sp.dial(ereq, authority)))
		return
	}
	defer func() {
		sp.mu.Lock()
		k.busy--
		sp.mu.Unlock()
	}()
	ans, err := in.Answer()
	if err != nil {
		return
	}
	if sp.onAsk != nil && sp.onAsk(ans, ereq.Nonce) {
		return
	}
	sp.forward(in, ans, k, ereq.Nonce, id)
}

func (sp *splitter) shown(raw []byte) []byte {
	if sp.evidence != nil {
		return sp.evidence(raw)
	}
	return raw
}

// forward is one exchange.
func (sp *splitter) forward(in hop.IncomingRequest, ans hop.Answering, k *keptHop, nonce, id [32]byte) {
	change := sp.change // the test may have another one for the next exchange, which this one's end can outlast
	ctx, cancel := context.WithCancel(in.Context())
	defer cancel()
	conn := hop.NewConn(ans)
	defer conn.Close()
	req := in.Request()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error { return ans.Interim(code, http.Header(h)) },
	})
	out, err := http.NewRequestWithContext(ctx, req.Method, "https://"+req.Authority+req.Path, nil)
	if err != nil {
		sp.w.t.Error(err)
		ans.Reset(hop.InternalError)
		return
	}
	out.Header = req.Header.Clone()
	out.Header.Del(fields.EvidenceID)
	for _, name := range sp.strip {
		out.Header.Del(name)
	}
	if !in.End() {
		out.ContentLength = contentLength(out.Header)
		out.Trailer = announced(out.Header)
		out.Body = &trailerBody{ReadCloser: io.NopCloser(conn), ex: ans, req: out, change: sp.toOrigin}
	}
	out.Header.Del("Content-Length")
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = nil // or net/http would have one of its own
	}
	resp, err := k.cc.RoundTrip(out)
	if err != nil {
		ans.Respond(&hop.Response{Status: http.StatusBadGateway, Header: http.Header{
			"Proxy-Status": {fields.ProxyStatus{Proxy: proxyName, Error: fields.ErrorConnectionTerminated}.String()},
		}}, true)
		return
	}
	defer resp.Body.Close()
	if sp.onHead != nil && sp.onHead(ans, nonce, resp) {
		return
	}
	h := resp.Header
	for _, name := range []string{"Connection", "Transfer-Encoding", "Keep-Alive"} {
		h.Del(name)
	}
	for name := range resp.Trailer {
		h.Add("Trailer", name)
	}
	if h.Get(fields.EvidenceID) == "" {
		h.Set(fields.EvidenceID, fields.FormatEvidenceID(id))
	}
	if err := ans.Respond(&hop.Response{Status: resp.StatusCode, Header: h}, false); err != nil {
		ans.Reset(hop.InternalError) // unless the client did, which has given up
		return
	}
	buf := make([]byte, 16<<10)
	for {
		n, err := resp.Body.Read(buf)
		if change != nil && n > 0 {
			change(buf[:n])
		}
		if _, werr := conn.Write(buf[:n]); werr != nil {
			return
		}
		switch {
		case err == io.EOF:
			if sp.bare {
				resp.Trailer = nil
			}
			ans.SendTrailer(resp.Trailer)
			return
		case err != nil:
			ans.Reset(hop.Cancel)
			return
		}
	}
}

// trailerBody fills its request's trailer at its end.
type trailerBody struct {
	io.ReadCloser
	ex     hop.Exchange
	req    *http.Request
	change func(p []byte)
}

func (b *trailerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.change != nil && n > 0 {
		b.change(p[:n])
	}
	if err == io.EOF {
		for name, values := range b.ex.Trailer() {
			b.req.Trailer[http.CanonicalHeaderKey(name)] = values
		}
	}
	return n, err
}

// A chanListener is a net.Listener of connections that are put into it.
type chanListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newChanListener() *chanListener {
	return &chanListener{conns: make(chan net.Conn, 100), done: make(chan struct{})}
}

func (l *chanListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *chanListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *chanListener) Addr() net.Addr { return &net.TCPAddr{} }

// staticRSA is an origin that signs nothing in its handshake, so that a proxy can only claim.
func (w *world) staticRSA(t *testing.T) *tls.Config {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := w.origins.OriginOf(key, originName)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12,
		CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}, NextProtos: []string{"http/1.1"},
	}
}
