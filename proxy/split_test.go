package proxy

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"vitrine/frames"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/verdict"
)

// A message as an end of it has it.
type message struct {
	line    string
	header  http.Header
	body    string
	trailer http.Header
}

// without is h as far as it is not one hop's, or the framing's.
func without(h http.Header, names ...string) http.Header {
	out := make(http.Header)
	for name, values := range h {
		if len(values) > 0 && !slices.Contains(names, name) {
			out[name] = values
		}
	}
	return out
}

func (m *message) equal(t *testing.T, what string, want *message) {
	t.Helper()
	if m.line != want.line {
		t.Errorf("%s: %q, want %q", what, m.line, want.line)
	}
	if !maps.EqualFunc(m.header, want.header, slices.Equal) {
		t.Errorf("%s: fields\n%v, want\n%v", what, m.header, want.header)
	}
	if m.body != want.body {
		t.Errorf("%s: %d bytes of content, want %d", what, len(m.body), len(want.body))
	}
	if !maps.EqualFunc(m.trailer, want.trailer, slices.Equal) {
		t.Errorf("%s: trailers %v, want %v", what, m.trailer, want.trailer)
	}
}

// What one end of an exchange sent is what the other got, but for what is a hop's: the fields that this test
// names, and no others.
//
// spec: PRX-50 PRX-51 PRX-52 PRX-53 PRX-63
func TestSplitChangesNothing(t *testing.T) {
	large := make([]byte, 300<<10)
	rand.Read(large)
	for _, tt := range []struct {
		name             string
		method, path     string
		request          http.Header
		content, trailer string // of the request; trailer is announced
		status           int
		response         http.Header
		body             string
		after            string // a trailer of the response
	}{
		{name: "GET", method: "GET", path: "/", status: 200, response: http.Header{"Content-Type": {"text/plain"}}, body: "hello"},
		{name: "a path as it is", method: "GET", path: "/a%2Fb/../c;d=e//f?x=%41&y=a+b&", status: 200, body: "x"},
		{name: "an empty query", method: "GET", path: "/a?", status: 200, body: "x"},
		{name: "two slashes", method: "GET", path: "//a//b?c", status: 200, body: "x"},
		{name: "OPTIONS *", method: "OPTIONS", path: "*", status: 200, body: ""},
		{
			name: "fields", method: "GET", path: "/", status: 200, body: "x",
			request: http.Header{
				"Cookie": {"a=b; c=d"}, "Accept": {"text/html", "image/png;q=0.5"}, "X-Empty": {""}, "Authorization": {"Bearer x"},
				"Accept-Encoding": {"br"}, "User-Agent": {"curl/8"}, "Range": {"bytes=0-"}, "Te": {"trailers"},
			},
			response: http.Header{
				"Set-Cookie": {"a=b", "c=d; Secure"}, "Pragma": {"no-cache"}, "Server": {"x"}, "X-Empty": {""}, "Content-Encoding": {"gzip"},
				"Proxy-Status": {"inner; received-status=200"}, "Date": {"Thu, 01 Jan 1970 00:00:00 GMT"}, "Content-Type": {"a/b"},
			},
		},
		{
			name: "Pragma beside Cache-Control", method: "GET", path: "/", status: 200, body: "x",
			response: http.Header{"Pragma": {"no-cache"}, "Cache-Control": {"no-cache"}, "Content-Type": {"a/b"}},
		},
		{name: "POST", method: "POST", path: "/p", content: "some content", status: 201, body: "made", request: http.Header{"Content-Length": {"12"}}},
		{name: "an unknown length", method: "PUT", path: "/p", content: string(large), status: 200, body: string(large)},
		{name: "trailers", method: "POST", path: "/p", content: "abc", trailer: "X-Sum", status: 200, body: "def", after: "X-After"},
		{name: "no content", method: "GET", path: "/", status: 204},
		{name: "not modified", method: "GET", path: "/", status: 304, response: http.Header{"Etag": {`"x"`}}},
		{name: "HEAD", method: "HEAD", path: "/", status: 200, response: http.Header{"Content-Length": {"1000"}}},
		{name: "an error of the origin's", method: "GET", path: "/", status: 470, response: http.Header{"Inspection-Options": {"blind"}}, body: "mine"},
		{name: "a redirect", method: "GET", path: "/", status: 302, response: http.Header{"Location": {"https://other.example/"}}},
		{name: "another method", method: "PURGE", path: "/x", status: 200, body: "gone"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			overBoth(t, func(t *testing.T, protocol string) {
				st := newStage(t, withSplit)
				var arrived message
				st.stock(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					p, err := io.ReadAll(r.Body)
					if err != nil {
						t.Errorf("the origin read %d bytes: %v", len(p), err)
					}
					arrived = message{
						fmt.Sprintf("%s %s %s", r.Method, r.Host, r.RequestURI),
						without(r.Header, "Evidence-Request", "Via"), string(p), without(r.Trailer),
					}
					if tt.request.Get("Content-Length") != "" {
						arrived.header.Set("Content-Length", fmt.Sprint(r.ContentLength))
					}
					if got := r.Header.Values("Via"); !slices.Equal(got, []string{"1.1 client.example", "2 " + proxyName}) {
						t.Errorf("via %q", got)
					}
					for name, values := range tt.response {
						w.Header()[name] = values
					}
					if tt.after != "" {
						w.Header().Set("Trailer", tt.after)
					}
					w.WriteHeader(tt.status)
					io.WriteString(w, tt.body)
					if tt.after != "" {
						w.Header().Set(tt.after, "sum")
					}
				}), protocol)
				c := st.split()
				header := tt.request.Clone()
				if header == nil {
					header = make(http.Header)
				}
				end := tt.content == ""
				a := c.ask(tt.method, tt.path, end, func(r *hop.Request) {
					for name, values := range header {
						r.Header[name] = values
					}
					r.Header.Set("Via", "1.1 client.example")
					r.Header.Set("Proxy-Authorization", "Basic secret")
					if tt.trailer != "" {
						r.Header.Set("Trailer", tt.trailer)
					}
				})
				if !end {
					if _, err := io.Copy(a.conn, strings.NewReader(tt.content)); err != nil {
						t.Fatal(err)
					}
					if tt.trailer != "" {
						if err := a.SendTrailer(http.Header{tt.trailer: {"sum"}}); err != nil {
							t.Fatal(err)
						}
					} else if err := a.conn.CloseWrite(); err != nil {
						t.Fatal(err)
					}
				}
				resp := a.head()
				c.isForwarded(resp, tt.status)
				body := a.body()
				want := message{line: fmt.Sprintf("%s %s %s", tt.method, originName, tt.path), header: without(header), body: tt.content}
				if tt.trailer != "" {
					want.trailer = http.Header{tt.trailer: {"sum"}}
				}
				arrived.equal(t, "at the origin", &want)
				version := map[string]string{"h2": "2", "http/1.1": "1.1"}[protocol]
				if got := resp.Header.Values("Via"); !slices.Equal(got, []string{version + " " + proxyName}) {
					t.Errorf("via of the response %q", got)
				}
				names := []string{"Via", "Evidence-Id", "Trailer"}
				for _, name := range []string{"Date", "Content-Type", "Content-Length"} { // which the server adds
					if _, ok := tt.response[name]; !ok {
						names = append(names, name)
					}
				}
				got := message{fmt.Sprint(resp.Status), without(resp.Header, names...), string(body), a.Trailer()}
				want = message{line: fmt.Sprint(tt.status), header: without(tt.response), body: tt.body}
				if tt.after != "" {
					want.trailer = http.Header{tt.after: {"sum"}}
				}
				got.equal(t, "at the client", &want)
				c.rest()
				if log := st.log.String(); !strings.Contains(log, "msg=passed") || !strings.Contains(log, "mode=split") || strings.Contains(log, "secret") || strings.Contains(log, "Bearer") {
					t.Error(log)
				}
			})
		})
	}
}

// Each request goes out on the connection that its evidence is of.
//
// spec: PRX-54 PRX-55
func TestARequestTakesTheConnectionOfItsEvidence(t *testing.T) {
	overBoth(t, func(t *testing.T, protocol string) {
		st := newStage(t, withSplit)
		origin := st.stock(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }), protocol)
		c := st.split()
		for range 5 {
			resp, _ := c.get("/")
			c.isForwarded(resp, 200)
		}
		if n := st.dials(); n != 1 {
			t.Errorf("%d dials for one evidence", n)
		}
		first := c.id
		c.probe()
		resp, _ := c.get("/")
		c.isForwarded(resp, 200)
		c.id = first
		resp, _ = c.get("/")
		c.isForwarded(resp, 200)
		counts := origin.counts()
		slices.Sort(counts)
		if !slices.Equal(counts, []int{1, 6}) {
			t.Errorf("requests on each connection: %v", counts)
		}
	})
}

// Nothing of a request leaves without the connection that it names; what is answered is evidence of a new one,
// which then takes it.
//
// spec: PRX-54 PRX-56
func TestARequestWithoutItsConnectionGetsNewEvidence(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(c *splitClient)
	}{
		"an id that nobody gave": {func(c *splitClient) { c.id[0] ^= 1 }},
		"another session's":      {func(c *splitClient) { c.s = c.st.client(nil) }},
		"after the connection":   {func(c *splitClient) { c.st.cutHop2(); c.settle() }},
	} {
		t.Run(name, func(t *testing.T) {
			overBoth(t, func(t *testing.T, protocol string) {
				st := newStage(t, withSplit)
				origin := st.stock(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }), protocol)
				c := st.split()
				tt.spoil(c)
				a := c.ask("POST", "/", false)
				resp := a.head()
				c.isOwn(resp, 470, fields.ErrorHTTPRequestDenied)
				if got := resp.Header.Get(fields.InspectionOptions); got != "intact, split" {
					t.Errorf("options %q", got)
				}
				a.Reset(hop.Cancel)
				if n := origin.counts(); len(n) != 0 {
					t.Errorf("the origin saw %v requests", n)
				}
				a.probe.resp = resp
				a.probe.evidence()
				c.id = hashOf(resp.Evidence)
				a = c.ask("POST", "/", false)
				a.write([]byte("again"))
				c.isForwarded(a.head(), 200)
				if got := string(a.body()); got != "again" {
					t.Errorf("%q", got)
				}
			})
		})
	}
}

// HTTP/1.1 carries one exchange at a time: the second request gets evidence of a connection of its own.
//
// spec: PRX-54
func TestABusyConnection(t *testing.T) {
	overBoth(t, func(t *testing.T, protocol string) {
		st := newStage(t, withSplit)
		let := make(chan struct{})
		st.stock(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				w.WriteHeader(200)
				w.(http.Flusher).Flush()
				<-let
			}
		}), protocol)
		c := st.split()
		slow := c.ask("GET", "/slow", true)
		c.isForwarded(slow.head(), 200)
		resp, _ := c.get("/")
		if protocol == "h2" {
			c.isForwarded(resp, 200)
		} else {
			c.isOwn(resp, 470, fields.ErrorHTTPRequestDenied)
			c.id = hashOf(resp.Evidence)
			resp, _ = c.get("/")
			c.isForwarded(resp, 200)
		}
		close(let)
		slow.body()
	})
}

// spec: PRX-57
func TestRequestsThatSplitModeRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*hop.Request)
		status int
		reason string
	}{
		"a malformed id": {func(r *hop.Request) { r.Header.Set(fields.EvidenceID, ":AAAA:") }, 400, fields.ErrorHTTPRequest},
		"two ids": {func(r *hop.Request) {
			r.Header["Evidence-Id"] = append(r.Header["Evidence-Id"], r.Header["Evidence-Id"]...)
		}, 400, fields.ErrorHTTPRequest},
		"no evidence-request":       {func(r *hop.Request) { r.Header.Del(fields.EvidenceRequest) }, 400, fields.ErrorHTTPRequest},
		"a malformed one":           {func(r *hop.Request) { r.Header.Set(fields.EvidenceRequest, ":AAAA:") }, 400, fields.ErrorHTTPRequest},
		"one of another authority":  {func(r *hop.Request) { r.Authority = "other.example" }, 400, fields.ErrorHTTPRequest},
		"no canonical authority":    {func(r *hop.Request) { r.Authority = "ORIGIN.example" }, 400, fields.ErrorHTTPRequest},
		"a loop":                    {func(r *hop.Request) { r.Header.Set("Via", "2 "+proxyName) }, 502, fields.ErrorProxyLoopDetected},
		"a via without an end":      {func(r *hop.Request) { r.Header.Set("Via", strings.Repeat("2 a, ", 1000)+"2 b") }, 400, fields.ErrorHTTPRequest},
		"another scheme":            {func(r *hop.Request) { r.Scheme = "http" }, 400, fields.ErrorHTTPRequest},
		"two names of the client's": {func(r *hop.Request) { r.Header["User-Agent"] = []string{"a", "b"} }, 400, fields.ErrorHTTPRequest},
		"a path that would change":  {func(r *hop.Request) { r.Path = "//a|b" }, 400, fields.ErrorHTTPRequest},
		"nothing of all this":       {func(r *hop.Request) { r.Header = http.Header{} }, 421, fields.ErrorHTTPRequestDenied},
	} {
		t.Run(name, func(t *testing.T) {
			st := newStage(t, withSplit)
			origin := st.stock(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), "h2")
			c := st.split()
			resp, _ := c.get("/", tt.change)
			c.isOwn(resp, tt.status, tt.reason)
			if n := origin.counts(); len(n) != 0 || st.dials() != 1 {
				t.Errorf("the origin saw %v requests, %d dials", n, st.dials())
			}
		})
	}
}

// spec: PRX-58
func TestAHostThatMayNotBeSplit(t *testing.T) {
	for name, tt := range map[string]struct {
		modes   []Mode
		status  int
		options string
	}{
		"intact alone": {[]Mode{Intact}, 470, "intact"},
		"blind alone":  {[]Mode{Blind}, 470, "blind"},
		"nothing":      {[]Mode{}, 403, ""},
	} {
		t.Run(name, func(t *testing.T) {
			st := newStage(t, withSplit)
			origin := st.stock(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), "h2")
			c := st.split()
			resp, _ := c.get("/")
			c.isForwarded(resp, 200)
			st.reload(func(p *Proxy) { p.Policy.Modes = tt.modes })
			resp, _ = c.get("/")
			c.isOwn(resp, tt.status, fields.ErrorHTTPRequestDenied)
			if got := resp.Header.Get(fields.InspectionOptions); got != tt.options {
				t.Errorf("options %q, want %q", got, tt.options)
			}
			if n := origin.counts(); !slices.Equal(n, []int{1}) {
				t.Errorf("the origin saw %v requests", n)
			}
		})
	}
}

// What an origin is offered depends on what its host may get.
//
// spec: PRX-59
func TestSplitOffersOrdinaryHTTP(t *testing.T) {
	for _, tt := range []struct {
		modes []Mode
		want  []string
	}{
		{[]Mode{Intact}, []string{frames.ALPNH2, frames.ALPNRaw, "http/1.1"}},
		{[]Mode{Split}, []string{frames.ALPNH2, frames.ALPNRaw, "h2", "http/1.1"}},
		{[]Mode{Intact, Split, Blind}, []string{frames.ALPNH2, frames.ALPNRaw, "h2", "http/1.1"}},
	} {
		st := newStage(t, func(p *Proxy) { p.Policy.Modes = tt.modes })
		cfg := st.originConfig("http/1.1")
		offered := make(chan []string, 1)
		cfg.GetConfigForClient = helloProtocols(offered)
		st.stockTLS(http.NotFoundHandler(), cfg)
		c := st.connect(st.client(nil), authority)
		c.says(470, fields.ErrorHTTPRequestDenied)
		if got := <-offered; !slices.Equal(got, tt.want) {
			t.Errorf("%v: offered %q", tt.modes, got)
		}
	}
}

// A kill ends the client's stream with a verdict over the request's own nonce, and the origin's exchange, before
// and behind the response's head.
//
// spec: PRX-60 PRX-17 PRX-19
func TestKillsInSplitMode(t *testing.T) {
	for name, tt := range map[string]struct {
		kill    func(response bool, p Part) bool
		begun   bool // the client has a response's head
		arrived bool // the origin has the request
	}{
		"in the request's head":     {func(response bool, p Part) bool { return !response && p.Head != nil }, false, false},
		"in the request's content":  {func(response bool, p Part) bool { return !response && strings.Contains(p.Body.String(), "bad") }, false, true},
		"in the response's head":    {func(response bool, p Part) bool { return response && p.Head != nil }, false, true},
		"in the response's content": {func(response bool, p Part) bool { return response && strings.Contains(p.Body.String(), "evil") }, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			overBoth(t, func(t *testing.T, protocol string) {
				st := newStage(t, withSplit, func(p *Proxy) {
					p.Inspectors = []Inspector{inspectorOf(func(response bool, p Part) Decision {
						if tt.kill(response, p) {
							return Decision{Action: Kill, Rule: "the-rule", Reason: "because"}
						}
						return Decision{}
					})}
				})
				arrived, ended := make(chan struct{}, 1), make(chan struct{}, 1)
				began, read := make(chan struct{}), make(chan struct{})
				st.stock(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/sibling" {
						return
					}
					arrived <- struct{}{}
					close(began)
					defer func() { ended <- struct{}{} }()
					io.ReadAll(r.Body)
					w.WriteHeader(200)
					io.WriteString(w, "good")
					w.(http.Flusher).Flush()
					if tt.begun {
						<-read
					}
					io.WriteString(w, "evil")
					w.(http.Flusher).Flush()
					<-r.Context().Done()
				}), protocol)
				c := st.split()
				a := c.ask("POST", "/", false)
				go func() {
					a.conn.Write([]byte("good"))
					if tt.arrived {
						<-began
					}
					a.conn.Write([]byte("bad"))
					a.conn.CloseWrite()
				}()
				var wire []byte
				resp, err := a.Response(t.Context(), nil)
				if tt.begun {
					if err != nil {
						t.Fatal(err)
					}
					c.isForwarded(resp, 200)
					if _, err := io.ReadFull(a.conn, make([]byte, 4)); err != nil {
						t.Fatal(err)
					}
					close(read)
					wire = a.killedWith()
				} else if reset := isKilled(err); reset != nil {
					wire = reset.Verdict
				} else {
					t.Fatalf("%v, %v", resp, err)
				}
				tbs, err := verdict.Verify(wire, verdict.Expect{Proxy: st.proxy.Certificate.Leaf, Nonce: a.probe.offer.Nonce, Authority: authority})
				if err != nil || tbs.Rule != "the-rule" || tbs.Detail != "because" || tbs.Reason != frames.ReasonInspector {
					t.Errorf("verdict %+v, %v", tbs, err)
				}
				if tt.arrived {
					<-arrived
					<-ended
				} else if len(arrived) > 0 {
					t.Error("the origin saw the request")
				}
				c.rest()
				if log := st.log.String(); !strings.Contains(log, "msg=killed") || !strings.Contains(log, "mode=split") {
					t.Error(log)
				}
			})
		})
	}
}

// inspectorOf decides part by part.
type inspectorOf func(response bool, p Part) Decision

func (f inspectorOf) Begin(*Exchange) Inspection { return inspectionOf(f) }

type inspectionOf func(response bool, p Part) Decision

func (f inspectionOf) Request(p Part) Decision  { return f(false, p) }
func (f inspectionOf) Response(p Part) Decision { return f(true, p) }
func (inspectionOf) Close(Outcome)              {}

// Held content is content that nobody has: to the bound it is read on, larger than any window.
//
// spec: PRX-16 RDR-40
func TestHeldContentInSplitMode(t *testing.T) {
	overBoth(t, func(t *testing.T, protocol string) {
		content := bytes.Repeat([]byte("0123456789abcdef"), 40<<10) // 640 KiB
		for _, held := range []string{"request", "response"} {
			st := newStage(t, withSplit, func(p *Proxy) {
				p.Inspectors = []Inspector{inspectorOf(func(response bool, p Part) Decision {
					if response == (held == "response") && !p.End {
						return Decision{Action: Hold}
					}
					return Decision{}
				})}
			})
			st.stock(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				p, _ := io.ReadAll(r.Body)
				w.Write(p)
			}), protocol)
			c := st.split()
			a := c.ask("POST", "/", false)
			a.write(content)
			c.isForwarded(a.head(), 200)
			if got := a.body(); !bytes.Equal(got, content) {
				t.Errorf("%s held: %d bytes came back", held, len(got))
			}
			if n := st.proxy.run.held.used.Load(); n != 0 {
				t.Errorf("%d bytes are still taken", n)
			}
		}
	})
}

// Responses that come in pieces reach the client in pieces, and interim ones do.
//
// spec: PRX-51
func TestSplitStreams(t *testing.T) {
	overBoth(t, func(t *testing.T, protocol string) {
		st := newStage(t, withSplit)
		st.stock(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "</a>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
			http.NewResponseController(w).EnableFullDuplex()
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			buf := make([]byte, 100)
			for {
				n, err := r.Body.Read(buf)
				w.Write(buf[:n])
				w.(http.Flusher).Flush()
				if err != nil {
					return
				}
			}
		}), protocol)
		c := st.split()
		a := c.ask("POST", "/", false, func(r *hop.Request) { r.Header.Set("Expect", "100-continue") })
		var hints []string
		resp, err := a.Response(t.Context(), func(status int, h http.Header) {
			hints = append(hints, fmt.Sprint(status, h.Get("Link")))
		})
		if err != nil {
			t.Fatal(err)
		}
		c.isForwarded(resp, 200)
		if !slices.Contains(hints, "103</a>; rel=preload") {
			t.Errorf("interim responses %q", hints)
		}
		for _, word := range []string{"one", "two", "three"} {
			io.WriteString(a.conn, word)
			got := make([]byte, len(word))
			if _, err := io.ReadFull(a.conn, got); err != nil || string(got) != word {
				t.Fatalf("%q, %v", got, err)
			}
		}
		a.conn.CloseWrite()
		if rest := a.body(); len(rest) != 0 {
			t.Errorf("%q", rest)
		}
	})
}
