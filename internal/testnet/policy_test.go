package testnet

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/client"
	"vitrine/frames"
	"vitrine/internal/hop"
	"vitrine/internal/hostile"
	"vitrine/proxy"
	"vitrine/proxy/policy"
)

// govern puts a policy file into p, as the command line does. The network's addresses are allowed as private ones.
func (n *Net) govern(p *proxy.Proxy, text string) {
	n.Helper()
	pol, err := policy.Parse("test.toml", []byte(text+"\n[targets]\nports = [443, 8443]\nprivate = [\"198.51.100.0/24\", \"2001:db8::/32\"]\n"))
	if err != nil {
		n.Fatal(err)
	}
	p.Policy.HostModes = pol.Modes
	p.Targets = proxy.TargetPolicy{Allow: pol.Private(), Ports: pol.Ports(), Resolver: n.network, DialContext: n.DialContext}
	p.Inspectors = nil
	if in := pol.Inspector(); in != nil {
		p.Inspectors = []proxy.Inspector{in}
	}
}

// rule is one [[rule]] of a policy file.
func rule(id, action, when string) string {
	text := fmt.Sprintf("[[rule]]\nid = %q\naction = %q\nwhen = '''%s'''\n", id, action, when)
	if action == "kill" {
		text += "reason = \"because\"\n"
	}
	return text
}

// wires keeps what leaves the proxy, as it is on the wire: nothing of an inner session is encrypted.
type wires struct {
	mu    sync.Mutex
	tapes [2][]*hostile.Tape
}

func (w *wires) tape(s hop.Session, d frames.Direction) hop.Session {
	return hostile.Wrap(s, func(uint64) hostile.Mangler {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.tapes[d] = append(w.tapes[d], new(hostile.Tape))
		return w.tapes[d][len(w.tapes[d])-1].Mangler()
	})
}

// text is the application data that left in direction d.
func (w *wires) text(d frames.Direction) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	for _, t := range w.tapes[d] {
		for _, r := range t.Records() {
			if r[0] == 23 {
				if p := unseal(r); p.typ == 23 {
					b.Write(p.content)
				}
			}
		}
	}
	return b.String()
}

func zipped(text string) []byte { return gzipped(text, "") }

// gzipped has a comment in its header, which no decoder shows.
func gzipped(text, comment string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Comment = comment
	io.WriteString(w, text)
	w.Close()
	return b.Bytes()
}

// What a rule of a policy file forbids does not reach the other end, not a byte of it: a request that is killed
// for what it holds is not begun at the origin, and a response's head does not arrive before its body was read.
func TestNothingOfWhatARuleForbidsArrives(t *testing.T) {
	const (
		secret    = "THE-SECRET"
		nowhere   = -1
		bigger    = 200_000
		forbidden = "/forbidden"
	)
	split := strings.Repeat("x", 16330) + secret + strings.Repeat("y", 20_000) // over two records
	kill := func(when string) string { return rule("r", "kill", when) }
	for _, x := range []struct {
		name, rules    string
		method, target string
		header         string // one field of the request
		body           string // of the request
		chunked        bool
		status         int
		field          string // one of the response
		answer         string
		rule           string // "" when nothing forbids it
		stopped        int    // in which direction it was: what killed it must not be on that wire
	}{
		{name: "path", rules: kill(`request.path == "/forbidden"`), target: forbidden, rule: "r"},
		{name: "path, of another", rules: kill(`request.path == "/forbidden"`), stopped: nowhere},
		{name: "query", rules: kill(`request.query.contains("token=")`), target: "/?a=b&token=THE-SECRET", rule: "r"},
		{name: "method", rules: kill(`request.method == "DELETE"`), method: "DELETE", target: "/" + secret, rule: "r"},
		{name: "host", rules: kill(`request.host == "origin.example"`), target: "/" + secret, rule: "r"},
		{name: "field of the request", rules: kill(`request.header("X-Note").contains("SECRET")`), header: "X-Note: THE-SECRET", rule: "r"},
		{name: "field of the request, as a map", rules: kill(`"x-note" in request.headers`), header: "X-Note: THE-SECRET", rule: "r"},
		{name: "body of the request", rules: kill(`request.body.contains("THE-SECRET")`), method: "POST", body: "it is THE-SECRET", rule: "r"},
		{name: "body of the request, over two records", rules: kill(`request.body.contains("THE-SECRET")`), method: "POST", body: split, rule: "r"},
		{name: "body of the request, in chunks", rules: kill(`request.body.contains("THE-SECRET")`), method: "POST", body: split, chunked: true, rule: "r"},
		{name: "body of the request, behind what is scanned", rules: "scan_bytes = 1024\n" + kill(`request.body.contains("THE-SECRET")`), method: "POST", body: split, stopped: nowhere},
		{name: "body of the request, in the header of gzip", rules: kill(`request.body.contains("THE-SECRET")`), method: "POST", header: "Content-Encoding: gzip", body: string(gzipped("fine", secret)), rule: "r"},
		{name: "body of the request, with gzip", rules: kill(`request.body.contains("THE-SECRET")`), method: "POST", header: "Content-Encoding: gzip", body: string(zipped(split)), rule: "r"},
		{name: "size of the request, declared", rules: kill(`request.size > 1000`), method: "POST", target: "/" + secret, body: split, rule: "r"},
		{name: "size of the request, in chunks", rules: kill(`request.size > 1000`), method: "POST", target: "/" + secret, body: split, chunked: true, rule: "r"},
		{name: "status", rules: kill(`response.status == 403`), status: 403, answer: secret, rule: "r", stopped: 1},
		{name: "field of the response", rules: kill(`response.header("content-type").startsWith("application/")`), field: "Content-Type: application/x-msdownload", answer: secret, rule: "r", stopped: 1},
		{name: "body of the response", rules: kill(`response.body.contains("THE-SECRET")`), answer: "it is THE-SECRET", rule: "r", stopped: 1},
		{name: "body of the response, over two records", rules: kill(`response.body.contains("THE-SECRET")`), answer: split, rule: "r", stopped: 1},
		{name: "body of the response, with gzip", rules: kill(`response.body.contains("THE-SECRET")`), field: "Content-Encoding: gzip", answer: string(zipped(split)), rule: "r", stopped: 1},
		{name: "body of the response, unreadable", rules: kill(`response.body.contains("THE-SECRET")`), field: "Content-Encoding: br", answer: secret, rule: "unreadable", stopped: 1},
		{name: "body of the response, by a pattern", rules: kill(`response.body.matches("THE-[A-Z]+")`), answer: split, rule: "r", stopped: 1},
		{name: "size of the response, declared", rules: kill(`response.size > 100000`), answer: secret + strings.Repeat("z", bigger), rule: "r", stopped: 1},
		{name: "request and response together", rules: kill(`request.path == "/forbidden" && response.body.contains("SECRET")`), target: forbidden, answer: secret, rule: "r", stopped: 1},
		{name: "request and response together, of another request", rules: kill(`request.path == "/forbidden" && response.body.contains("SECRET")`), answer: secret, stopped: nowhere},
		{name: "allowed by an earlier rule", rules: rule("a", "allow", `request.path == "/"`) + kill(`response.body.contains("SECRET")`), answer: secret, stopped: nowhere},
		{name: "allowed by a later rule", rules: kill(`response.body.contains("SECRET")`) + rule("a", "allow", `request.path == "/"`), answer: secret, rule: "r", stopped: 1},
		{name: "behind an allow that looks at the response, which allows", rules: rule("a", "allow", `response.status == 200`) + kill(`request.path == "/forbidden"`), target: forbidden, answer: secret, stopped: nowhere},
		{name: "behind an allow that looks at the response, which does not", rules: rule("a", "allow", `response.status == 200`) + kill(`request.path == "/forbidden"`), target: forbidden, status: 403, answer: secret, rule: "r", stopped: 1},
		{name: "a rule that cannot be evaluated", rules: kill(`request.headers["x-none"] == "THE-SECRET"`), target: "/" + secret, rule: "rule-error"},
	} {
		t.Run(x.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var served atomic.Int32
				var w wires
				n := New(t, Config{
					Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
						served.Add(1)
						io.Copy(io.Discard, r.Body)
						if name, value, ok := strings.Cut(x.field, ": "); ok {
							rw.Header().Set(name, value)
						}
						rw.Header().Set("Content-Length", fmt.Sprint(len(x.answer)))
						if x.status != 0 {
							rw.WriteHeader(x.status)
						}
						io.WriteString(rw, x.answer)
					}),
					Proxy: func(n *Net, p *proxy.Proxy) { n.govern(p, x.rules) },
					Hop1:  func(s hop.Session) hop.Session { return w.tape(s, frames.ToClient) },
					Hop2:  func(_ *proxy.Target, s hop.Session) hop.Session { return w.tape(s, frames.ToOrigin) },
				})
				var body io.Reader
				if x.body != "" {
					body = strings.NewReader(x.body)
				}
				if x.chunked {
					body = struct{ io.Reader }{body}
				}
				if x.method == "" {
					x.method = http.MethodGet
				}
				if x.target == "" {
					x.target = "/"
				}
				req := n.request(n.ctx, x.method, x.target, body)
				if name, value, ok := strings.Cut(x.header, ": "); ok {
					req.Header.Set(name, value)
				}
				_, got, err := fetch(n.Client, req)
				synctest.Wait()
				if x.rule == "" {
					if err != nil || string(got) != x.answer || served.Load() != 1 {
						t.Errorf("%d bytes, %v, served %d", len(got), err, served.Load())
					}
					return
				}
				k := wantRule(t, err, x.rule)
				if x.rule == "r" && k.Reason != "because" {
					t.Errorf("reason %q", k.Reason)
				}
				if len(got) > 0 {
					t.Errorf("%d bytes were given to the client", len(got))
				}
				if x.stopped == int(frames.ToOrigin) && served.Load() != 0 {
					t.Error("the origin was asked")
				}
				if left := w.text(frames.Direction(x.stopped)); left != "" {
					t.Errorf("%.200q left the proxy", left)
				}
			})
		})
	}
}

// A large body is not held whole for a rule: what decides is in its beginning, and what is behind scan_bytes flows.
func TestARuleHoldsNoMoreThanItScans(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := make(chan struct{})
		body := pattern(300_000)
		n := New(t, Config{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Write(body[:150_000])
				http.NewResponseController(w).Flush()
				<-gate
				w.Write(body[150_000:])
			}),
			Proxy: func(n *Net, p *proxy.Proxy) {
				n.govern(p, rule("r", "kill", `response.body.contains("THE-SECRET")`))
			},
		})
		resp, err := n.Client.RoundTrip(n.request(n.ctx, http.MethodGet, "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		first := make([]byte, 150_000)
		if _, err := io.ReadFull(resp.Body, first); err != nil { // while the origin waits
			t.Fatal(err)
		}
		close(gate)
		rest, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Equal(append(first, rest...), body) {
			t.Errorf("%d bytes, %v", len(first)+len(rest), err)
		}
	})
}

// Modes of each host, as the file says: the first that matches; a client that takes another one is told what
// there is, and [] refuses.
func TestModesOfEachHost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := New(t, Config{
			Names: []string{OriginHost, "blind.example", "never.example", "both.example"},
			Proxy: func(n *Net, p *proxy.Proxy) {
				n.govern(p, `
					[[host]]
					match = "blind.example"
					modes = ["blind"]
					[[host]]
					match = ["never.example", "nowhere.example"]
					modes = []
					[[host]]
					match = "both.example"
					modes = ["intact", "blind"]
					[[host]]
					match = "*.example"
					modes = ["intact"]`)
			},
		})
		blind := n.NewClient(func(_ *Net, tr *client.Transport) { tr.Levels = []client.Level{client.Blind} })
		for _, x := range []struct {
			rt      *client.Transport
			host    string
			class   string
			offered string
		}{
			{rt: n.Client, host: OriginHost, class: "success"},
			{rt: n.Client, host: "both.example", class: "success"},
			{rt: n.Client, host: "blind.example", class: "level", offered: "[blind]"},
			{rt: n.Client, host: "never.example", class: "unreachable:proxy"},
			{rt: n.Client, host: "nowhere.example", class: "unreachable:proxy"},
			{rt: blind, host: OriginHost, class: "level", offered: "[intact]"},
			{rt: blind, host: "both.example", class: "success"},
			{rt: blind, host: "blind.example", class: "success"},
			{rt: blind, host: "never.example", class: "unreachable:proxy"},
		} {
			_, body, err := fetch(x.rt, n.request(n.ctx, http.MethodGet, "https://"+x.host+"/", nil))
			c := class(err)
			if c != x.class || err == nil && string(body) != "hello" {
				t.Errorf("%v at %s: %s, want %s: %v", x.rt.Levels, x.host, c, x.class, err)
			}
			if c == "level" {
				if e := wantError[*client.LevelError](t, err); fmt.Sprint(e.Offered) != x.offered {
					t.Errorf("%v at %s: offered %v", x.rt.Levels, x.host, e.Offered)
				}
			}
		}
	})
}

// Rules that need everything and match nothing, on every kind of exchange: nothing is changed, lost or late.
func TestRulesThatNeedEverythingPassEveryExchange(t *testing.T) {
	bubble(t, func(t *testing.T) {
		echo := new(echo)
		n := New(t, Config{Handler: echo, Proxy: func(n *Net, p *proxy.Proxy) {
			n.govern(p, rule("a", "kill", `request.body.contains("NOPE") || response.body.contains("NOPE")`)+
				rule("b", "allow", `request.size == 1234567 && response.size == 7654321`)+
				rule("c", "kill", `response.status == 599 || response.body.matches("^NO[A-Z]+$")`))
		}})
		for _, size := range []int{0, 1, 5000, 65535, 65536, 65537, 300_000} {
			for _, x := range []struct {
				method  string
				up      bool
				chunked bool
				trailer bool
				expect  bool
				status  int
			}{
				{method: "GET"},
				{method: "GET", chunked: true},
				{method: "GET", trailer: true},
				{method: "HEAD"},
				{method: "POST", up: true},
				{method: "POST", up: true, chunked: true, trailer: true},
				{method: "PUT", up: true, expect: true},
				{method: "GET", status: 204},
				{method: "GET", status: 304},
				{method: "DELETE", status: 404},
			} {
				name := fmt.Sprintf("%d bytes, %+v", size, x)
				sent := pattern(size)
				var body io.Reader
				if x.up {
					body = bytes.NewReader(sent)
				}
				if x.up && x.chunked {
					body = struct{ io.Reader }{body}
				}
				req := n.request(n.ctx, x.method, "/", body)
				down := size
				if x.status == 204 || x.status == 304 {
					down = 0
				}
				req.Header.Set("X-Size", fmt.Sprint(down))
				if x.status != 0 {
					req.Header.Set("X-Status", fmt.Sprint(x.status))
				}
				if x.chunked {
					req.Header.Set("X-Chunked", "1")
				}
				if x.trailer {
					req.Header.Set("X-Trailer", "behind")
				}
				if x.expect {
					req.Header.Set("Expect", "100-continue")
				}
				start := time.Now()
				resp, got, err := fetch(n.Client, req)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					continue
				}
				want := pattern(down)
				if x.method == "HEAD" {
					want = nil
				}
				if !bytes.Equal(got, want) || x.up && !bytes.Equal(echo.last().body, sent) || x.trailer && resp.Trailer.Get("X-Behind") != "behind" {
					t.Errorf("%s: %d bytes arrived, the origin has %d, trailer %v", name, len(got), len(echo.last().body), resp.Trailer)
				}
				if took := time.Since(start); took > 2*time.Second {
					t.Errorf("%s: took %v", name, took)
				}
			}
		}
	})
}

// A rule that the head of a response decides holds no event of it back.
func TestARuleThatExcludesEventsLetsThemFlow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		next := make(chan bool)
		n := New(t, Config{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				for i := 0; <-next; i++ {
					fmt.Fprintf(w, "data: %d\n\n", i)
					http.NewResponseController(w).Flush()
				}
			}),
			Proxy: func(n *Net, p *proxy.Proxy) {
				n.govern(p, rule("r", "kill", `!response.header("content-type").startsWith("text/event-stream") && response.body.contains("data: 3")`))
			},
		})
		n.Go(func(context.Context) { next <- true }) // the head leaves with the first event
		start := time.Now()
		resp, err := n.Client.RoundTrip(n.request(n.ctx, http.MethodGet, "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		for i := range 10 {
			event := fmt.Sprintf("data: %d\n\n", i)
			got := make([]byte, len(event))
			if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != event {
				t.Fatalf("event %d: %q %v", i, got, err)
			}
			next <- i < 9
		}
		if waited := time.Since(start); waited > 0 {
			t.Errorf("events waited %v", waited)
		}
	})
}
