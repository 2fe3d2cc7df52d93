package proxy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"

	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/hop/raw/pipe"
)

// withSplit is a proxy that allows split mode.
func withSplit(p *Proxy) { p.Policy.Modes = []Mode{Intact, Split} }

// A stockOrigin is net/http's server, which has not heard of us.
type stockOrigin struct {
	mu    sync.Mutex
	conns map[net.Conn]int // requests on each
}

func (o *stockOrigin) counts() (all []int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, n := range o.conns {
		all = append(all, n)
	}
	return all
}

type connOf struct{}

// stock serves h with the first of protocols ("h2", "http/1.1") that the proxy offers.
func (st *stage) stock(h http.Handler, protocols ...string) *stockOrigin {
	return st.stockTLS(h, st.originConfig(protocols...))
}

func (st *stage) stockTLS(h http.Handler, cfg *tls.Config) *stockOrigin {
	o := &stockOrigin{conns: make(map[net.Conn]int)}
	ln := pipe.Listen()
	st.mu.Lock()
	st.listeners["192.0.1.1:443"] = ln
	st.mu.Unlock()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		o.conns[r.Context().Value(connOf{}).(net.Conn)]++
		o.mu.Unlock()
		h.ServeHTTP(w, r)
	})).Config
	srv.TLSConfig = cfg
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connOf{}, c) }
	srv.DisableGeneralOptionsHandler = true
	served := make(chan struct{})
	go func() {
		defer close(served)
		srv.ServeTLS(ln, "", "")
	}()
	st.t.Cleanup(func() {
		st.close() // first, so that the origin's connections end
		srv.Close()
		<-served
	})
	return o
}

// A splitClient sends ordinary requests.
type splitClient struct {
	t  *testing.T
	st *stage
	s  hop.Session
	id [32]byte
}

// split makes a session with evidence of the origin in it.
func (st *stage) split() *splitClient {
	st.t.Helper()
	c := &splitClient{t: st.t, st: st, s: st.client(nil)}
	c.probe()
	return c
}

// probe gets evidence by a CONNECT.
func (c *splitClient) probe() {
	c.t.Helper()
	p := c.st.connect(c.s, authority)
	p.says(470, fields.ErrorHTTPRequestDenied)
	if got := p.resp.Header.Get(fields.InspectionOptions); got != "intact, split" {
		c.t.Errorf("options %q", got)
	}
	p.evidence()
	c.id = sha256.Sum256(p.resp.Evidence)
}

// A sent is a request on its way.
type sent struct {
	hop.Asked
	t     *testing.T
	conn  *hop.Conn
	probe *connect // its request for evidence
}

// request makes a request as a client does.
func (c *splitClient) request(method, path string, change ...func(*hop.Request)) (*hop.Request, *connect) {
	req := &hop.Request{Method: method, Authority: originName, Path: path, Header: http.Header{}}
	p := &connect{offer: c.st.offer(authority), t: c.t, roots: c.st}
	var err error
	if p.request, err = evidence.NewRequest(p.offer, originName); err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set(fields.EvidenceRequest, fields.FormatEvidenceRequest(p.request))
	req.Header.Set(fields.EvidenceID, fields.FormatEvidenceID(c.id))
	for _, f := range change {
		f(req)
	}
	return req, p
}

// ask sends a request whose content, if end is not set, the caller writes to sent.conn.
func (c *splitClient) ask(method, path string, end bool, change ...func(*hop.Request)) *sent {
	c.t.Helper()
	req, p := c.request(method, path, change...)
	asked, err := c.s.(hop.Requester).Request(c.st.ctx, req, end)
	if err != nil {
		c.t.Fatal(err)
	}
	return &sent{Asked: asked, t: c.t, conn: hop.NewConn(asked), probe: p}
}

// head waits for the response.
func (a *sent) head() *hop.Response {
	a.t.Helper()
	resp, err := a.Response(context.Background(), nil)
	if err != nil {
		a.t.Fatal(err)
	}
	return resp
}

// body reads the content to its end.
func (a *sent) body() []byte {
	a.t.Helper()
	p, err := io.ReadAll(a.conn)
	if err != nil {
		a.t.Fatalf("after %d bytes: %v", len(p), err)
	}
	return p
}

// write sends content and ends it.
func (a *sent) write(p []byte) {
	a.t.Helper()
	if _, err := io.Copy(a.conn, bytes.NewReader(p)); err != nil {
		a.t.Errorf("write: %v", err)
	}
	if err := a.conn.CloseWrite(); err != nil {
		a.t.Errorf("close: %v", err)
	}
}

// get is a GET and its whole response.
func (c *splitClient) get(path string, change ...func(*hop.Request)) (*hop.Response, []byte) {
	c.t.Helper()
	a := c.ask(http.MethodGet, path, true, change...)
	return a.head(), a.body()
}

// isForwarded checks what a response has that came from the origin.
func (c *splitClient) isForwarded(resp *hop.Response, status int) {
	c.t.Helper()
	id, err := fields.ParseEvidenceID(resp.Header.Values(fields.EvidenceID))
	if resp.Status != status || err != nil || id != c.id {
		c.t.Fatalf("status %d, evidence-id %v: %v (%s)", resp.Status, id == c.id, err, resp.Header.Get(fields.ProxyStatusName))
	}
	if via := resp.Header.Values("Via"); len(via) == 0 {
		c.t.Error("no via")
	}
}

// isOwn checks an answer of the proxy's own.
func (c *splitClient) isOwn(resp *hop.Response, status int, reason string) {
	c.t.Helper()
	says(c.t, resp, status, reason)
	if v, ok := resp.Header["Evidence-Id"]; ok {
		c.t.Errorf("evidence-id %q on the proxy's own answer", v)
	}
}

func overBoth(t *testing.T, f func(t *testing.T, protocol string)) {
	for _, protocol := range []string{"http/1.1", "h2"} {
		t.Run(protocol, func(t *testing.T) { f(t, protocol) })
	}
}

// killedWith waits for a kill and returns its verdict's bytes.
func (a *sent) killedWith() []byte {
	a.t.Helper()
	_, err := io.Copy(io.Discard, a.conn)
	reset := isKilled(err)
	if reset == nil {
		a.t.Fatalf("ended with %v", err)
	}
	return reset.Verdict
}

func hashOf(evidence []byte) [32]byte { return sha256.Sum256(evidence) }

// cutHop2 closes the proxy's connections to origins under it.
func (st *stage) cutHop2() {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, c := range st.raws {
		c.Close()
	}
	st.raws = nil
}

// settle waits until the proxy keeps no connection.
func (c *splitClient) settle() {
	c.st.sessions(func(s *session) bool {
		s.keeper.mu.Lock()
		defer s.keeper.mu.Unlock()
		return len(s.keeper.conns) == 0
	})
}

// rest waits until nothing passes the proxy.
func (c *splitClient) rest() {
	c.st.sessions(func(s *session) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.passages) == 0
	})
}

// sessions waits until f is true of each session.
func (st *stage) sessions(f func(*session) bool) {
	r := st.proxy.run
	r.mu.Lock()
	sessions := r.snapshot()
	r.mu.Unlock()
	for _, s := range sessions {
		for !f(s) {
			runtime.Gosched()
		}
	}
}

// helloProtocols tells what a ClientHello offers.
func helloProtocols(to chan<- []string) func(*tls.ClientHelloInfo) (*tls.Config, error) {
	return func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		select {
		case to <- h.SupportedProtos:
		default:
		}
		return nil, nil
	}
}
