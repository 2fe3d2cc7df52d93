package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"vitrine/client"
)

func hello(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }

// The http URL of a listed host is fetched as https, and says at what level.
func TestAListedHostIsFetchedAsHTTPS(t *testing.T) {
	r := newRig(t, answer(hello), nil)
	for _, c := range []struct{ target, fetched string }{
		{"http://shop.example/a?b;c=%zz&d", "https://shop.example:443/a?b;c=%zz&d"},
		{"http://SHOP.example:80/", "https://shop.example:443/"},
		{"http://shop.example:443", "https://shop.example:443"},
		{"http://shop.example:8080/%2e/x%2Fy", "https://shop.example:8080/%2e/x%2Fy"},
		{"https://shop.example/", "https://shop.example:443/"},
		{"http://a.wide.example:8443/", "https://a.wide.example:8443/"},
	} {
		resp, body := r.ask(r.proxy, "GET "+c.target+" HTTP/1.1\nHost: somewhere.else\nProxy-Connection: keep-alive\nProxy-Authorization: x\n\n")
		if resp.StatusCode != 200 || body != "hello" || resp.Header.Get(LevelField) != "intact" || resp.Header.Get("Via") != "1.1 vitrine-gateway" {
			t.Errorf("%s: %d %q %v", c.target, resp.StatusCode, body, resp.Header)
		}
		got := r.took()
		if got.URL.String() != c.fetched || got.Host != "" || got.Header.Get("Proxy-Authorization") != "" || got.Header.Get("Proxy-Connection") != "" || got.Header.Get("Via") != "1.1 vitrine-gateway" {
			t.Errorf("%s: %s, Host %q, %v", c.target, got.URL, got.Host, got.Header)
		}
	}
}

// What is not to be fetched is answered here, with words, and nothing leaves.
func TestWhatIsRefused(t *testing.T) {
	r := newRig(t, answer(hello), nil)
	mapped := r.serve(func(ln net.Listener) error { return r.g.ServeMap(ln, "https://shop.example") })
	_, port, _ := net.SplitHostPort(mapped)
	for _, c := range []struct {
		name, addr, request string
		status              int
		words               string
	}{
		{"a host that is not listed", r.proxy, "GET http://other.example/ HTTP/1.1\nHost: other.example\n\n", 403, "not among the hosts"},
		{"a port that is not listed", r.proxy, "GET http://a.wide.example/ HTTP/1.1\nHost: a.wide.example\n\n", 403, "a.wide.example:443 is not among"},
		{"below a name that is listed", r.proxy, "GET http://www.shop.example/ HTTP/1.1\nHost: www.shop.example\n\n", 403, "not among"},
		{"another scheme", r.proxy, "GET ftp://shop.example/ HTTP/1.1\nHost: shop.example\n\n", 501, "ftp"},
		{"a password in the URL", r.proxy, "GET http://u:hunter2@shop.example/ HTTP/1.1\nHost: shop.example\n\n", 400, "Authorization"},
		{"no host", r.proxy, "GET http:///x HTTP/1.1\nHost: shop.example\n\n", 400, "no host"},
		{"port 0", r.proxy, "GET http://shop.example:0/ HTTP/1.1\nHost: shop.example\n\n", 400, "port"},
		{"HTTP/1.0", r.proxy, "GET http://shop.example/ HTTP/1.0\n\n", 505, "HTTP/1.1"},
		{"a loop", r.proxy, "GET http://shop.example/ HTTP/1.1\nHost: shop.example\nVia: 1.1 x, 1.1 Vitrine-Gateway\n\n", 508, "gateway"},
		{"WebSocket", r.proxy, "GET http://shop.example/ HTTP/1.1\nHost: shop.example\nConnection: keep-alive, upgrade\nUpgrade: websocket\n\n", 501, "WebSocket"},
		{"a CONNECT at level intact", r.proxy, "CONNECT shop.example:443 HTTP/1.1\nHost: shop.example:443\n\n", 502, "no tunnels here"},
		{"a CONNECT without a port", r.proxy, "CONNECT shop.example HTTP/1.1\nHost: shop.example\n\n", 400, "a host and a port"},

		// The gateway itself.
		{"a name that DNS was made to point here", r.proxy, "GET /proxy.pac HTTP/1.1\nHost: evil.example:" + portOf(r.proxy) + "\n\n", 421, r.proxy},
		{"another port's name", r.proxy, "GET /proxy.pac HTTP/1.1\nHost: 127.0.0.1:1\n\n", 421, r.proxy},
		{"another loopback address", r.proxy, "GET /proxy.pac HTTP/1.1\nHost: 127.0.0.2:" + portOf(r.proxy) + "\n\n", 421, r.proxy},
		{"a page elsewhere that reads the list of hosts", r.proxy, "GET /proxy.pac HTTP/1.1\nHost: " + r.proxy + "\nSec-Fetch-Site: cross-site\n\n", 403, "another site"},
		{"nothing there", r.proxy, "GET / HTTP/1.1\nHost: " + r.proxy + "\n\n", 404, "http_proxy"},
		{"nothing there, as a proxy", r.proxy, "GET http://localhost:" + portOf(r.proxy) + "/ HTTP/1.1\nHost: x\n\n", 404, "http_proxy"},
		{"a PAC file that is written", r.proxy, "PUT /proxy.pac HTTP/1.1\nHost: " + r.proxy + "\nContent-Length: 0\n\n", 405, "read"},
		{"OPTIONS *", r.proxy, "OPTIONS * HTTP/1.1\nHost: " + r.proxy + "\n\n", 404, "http_proxy"},

		// A map.
		{"a map under a name that DNS was made to point here", mapped, "GET / HTTP/1.1\nHost: evil.example:" + port + "\n\n", 421, "shop.example"},
		{"a map under its origin's name", mapped, "GET / HTTP/1.1\nHost: shop.example\n\n", 421, "shop.example"},
		{"a map as a proxy", mapped, "GET http://other.example/ HTTP/1.1\nHost: " + mapped + "\n\n", 421, "shop.example"},
		{"a map as a proxy for its origin", mapped, "GET https://" + mapped + "/ HTTP/1.1\nHost: " + mapped + "\n\n", 421, "shop.example"},
		{"a map, CONNECT", mapped, "CONNECT shop.example:443 HTTP/1.1\nHost: shop.example:443\n\n", 405, "no proxy"},
		{"a form of another site", mapped, "POST / HTTP/1.1\nHost: " + mapped + "\nSec-Fetch-Site: cross-site\nContent-Length: 0\n\n", 403, "types the address"},
		{"a link of another site", mapped, "GET / HTTP/1.1\nHost: " + mapped + "\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: document\n\n", 403, "types the address"},
		{"an image for another map's page", mapped, "GET / HTTP/1.1\nHost: " + mapped + "\nSec-Fetch-Site: same-site\nSec-Fetch-Mode: no-cors\nSec-Fetch-Dest: image\n\n", 403, "types the address"},
		{"a frame in another map's page", mapped, "GET / HTTP/1.1\nHost: " + mapped + "\nSec-Fetch-Site: same-site\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: iframe\n\n", 403, "types the address"},
		{"a form of another map's page", mapped, "POST / HTTP/1.1\nHost: " + mapped + "\nSec-Fetch-Site: same-site\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: document\nContent-Length: 0\n\n", 403, "types the address"},
		{"who says both", mapped, "GET / HTTP/1.1\nHost: " + mapped + "\nSec-Fetch-Site: same-origin\nSec-Fetch-Site: cross-site\n\n", 403, "types the address"},
		{"an old browser's form", mapped, "POST / HTTP/1.1\nHost: " + mapped + "\nOrigin: https://evil.example\nContent-Length: 0\n\n", 403, "types the address"},
		{"a sandboxed page's form", mapped, "POST / HTTP/1.1\nHost: " + mapped + "\nOrigin: null\nContent-Length: 0\n\n", 403, "types the address"},
		{"an old browser's image", mapped, "GET / HTTP/1.1\nHost: " + mapped + "\nReferer: http://evil.example/page\n\n", 403, "types the address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, body := r.ask(c.addr, c.request)
			if resp.StatusCode != c.status || !strings.Contains(body, c.words) || strings.Count(body, "\n") != 1 {
				t.Errorf("%d %q", resp.StatusCode, body)
			}
			if resp.Header.Get(LevelField) != NoLevel || resp.Header.Get(ErrorField) == "" || strings.Contains(body+r.log.String(), "hunter2") {
				t.Errorf("%v %q", resp.Header, body)
			}
			r.untouched()
		})
	}
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

// A map passes its own pages' requests, programs' and typed addresses.
func TestAMapIsForItsOwnPages(t *testing.T) {
	r := newRig(t, answer(hello), nil)
	addr := r.serve(func(ln net.Listener) error { return r.g.ServeMap(ln, "https://git.example:8443/") })
	local := "localhost:" + portOf(addr)
	for _, c := range []struct{ name, target, host, more string }{
		{"curl", "/a?b", addr, ""},
		{"curl, through a proxy that is the map", "http://" + addr + "/a?b", addr, ""},
		{"by name", "/a?b", local, ""},
		{"typed", "/a?b", addr, "Sec-Fetch-Site: none\nSec-Fetch-Mode: navigate\n"},
		{"its own page", "/a?b", addr, "Sec-Fetch-Site: same-origin\nOrigin: http://" + addr + "\nReferer: http://" + addr + "/page?x=1\n"},
		{"its own page in an old browser", "/a?b", local, "Origin: http://" + local + "\nReferer: http://" + local + "/page?x=1\n"},
		{"a visit from another map", "/a?b", addr, "Sec-Fetch-Site: same-site\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: document\n"},
		{"h2c, which is ignored", "/a?b", addr, "Connection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABk\n"},
	} {
		resp, body := r.ask(addr, "GET "+c.target+" HTTP/1.1\nHost: "+c.host+"\n"+c.more+"\n")
		if resp.StatusCode != 200 || body != "hello" || resp.Header.Get(LevelField) != "intact" {
			t.Errorf("%s: %d %q", c.name, resp.StatusCode, body)
			continue
		}
		got := r.took()
		if got.URL.String() != "https://git.example:8443/a?b" || got.Header.Get("Upgrade") != "" || got.Header.Get("Http2-Settings") != "" {
			t.Errorf("%s: %s %v", c.name, got.URL, got.Header)
		}
		if o := got.Header.Get("Origin"); o != "" && o != "https://git.example:8443" {
			t.Errorf("%s: Origin %q", c.name, o)
		}
		if ref := got.Header.Get("Referer"); ref != "" && ref != "https://git.example:8443/page?x=1" {
			t.Errorf("%s: Referer %q", c.name, ref)
		}
	}
}

// Fields that speak of https are put into the program's terms, and those that lead past the gateway are dropped.
func TestFieldsInTheProgramsTerms(t *testing.T) {
	var field, value string
	r := newRig(t, answer(func(w http.ResponseWriter, _ *http.Request) { w.Header()[field] = []string{value} }), nil)
	mapped := r.serve(func(ln net.Listener) error { return r.g.ServeMap(ln, "https://shop.example") })
	other := r.serve(func(ln net.Listener) error { return r.g.ServeMap(ln, "https://git.example:8443") })
	if resp, _ := r.ask(mapped, "GET / HTTP/1.1\nHost: "+mapped+"\n\n"); resp.StatusCode != 200 { // both are there
		t.Fatal(resp.Status)
	}
	if resp, _ := r.ask(other, "GET / HTTP/1.1\nHost: "+other+"\n\n"); resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	const same, gone = "(as it is)", ""
	for _, c := range []struct{ field, value, proxied, mapped string }{
		{"Location", "https://shop.example/x?y#z", "http://shop.example/x?y#z", "http://" + mapped + "/x?y#z"},
		{"Location", "https://shop.example:443", "http://shop.example", "http://" + mapped},
		{"Location", "https://shop.example:8443/", "http://shop.example:8443/", same},
		{"Location", "https://shop.example:80/", same, same},
		{"Location", "https://git.example:8443/", same, "http://" + other + "/"},
		{"Location", "https://other.example/", same, same},
		{"Location", "https://shop.example.evil.example/", same, same},
		{"Location", "https://u@shop.example/", "http://u@shop.example/", "http://u@" + mapped + "/"},
		{"Location", "/x", same, same},
		{"Location", "//shop.example/x", same, same},
		{"Location", "http://shop.example/x", same, same},
		{"Location", "https://%zz/", same, same},
		{"Content-Location", "https://shop.example/x", "http://shop.example/x", "http://" + mapped + "/x"},
		{"Strict-Transport-Security", "max-age=1", gone, gone},
		{"Alt-Svc", `h3=":443"`, gone, gone},
		{"Content-Security-Policy", "default-src 'self'", same, same},
		{"Content-Security-Policy", "upgrade-insecure-requests", gone, gone},
		{"Content-Security-Policy", "a b; Upgrade-Insecure-Requests ; c", "a b; c", "a b; c"},
		{"Content-Security-Policy", "a b; c, d, upgrade-insecure-requests", "a b; c, d", "a b; c, d"}, // several on one line
		{"Content-Security-Policy", "upgrade-insecure-requests,upgrade-insecure-requests\t1; a", "a", "a"},
		{"Content-Security-Policy", "upgrade-insecure-requests,", gone, gone},
		{"Set-Cookie", "a=b; Domain=shop.example; Secure; HttpOnly", same, "a=b; Secure; HttpOnly"},
		{"Set-Cookie", "domain=x; path=/;DOMAIN=.example", same, "domain=x; path=/"},
		{LevelField, "direct", "intact", "intact"},
		{ErrorField, "killed", gone, gone},
	} {
		field, value = c.field, c.value
		for _, way := range []struct{ addr, request, want string }{
			{r.proxy, "GET http://shop.example/ HTTP/1.1\nHost: shop.example\n\n", c.proxied},
			{mapped, "GET / HTTP/1.1\nHost: " + mapped + "\n\n", c.mapped},
		} {
			want := way.want
			if want == same {
				want = c.value
			}
			resp, _ := r.ask(way.addr, way.request)
			if got := resp.Header.Get(c.field); got != want || len(resp.Header.Values(c.field)) > 1 {
				t.Errorf("%s: %s, %q: %q, want %q", way.request[:20], c.field, c.value, resp.Header.Values(c.field), want)
			}
		}
	}
	// Who asks for https by itself gets https.
	field, value = "Location", "https://shop.example/x"
	if resp, _ := r.ask(r.proxy, "GET https://shop.example/ HTTP/1.1\nHost: x\n\n"); resp.Header.Get("Location") != value {
		t.Error(resp.Header)
	}
	// As the program knows a map, so it stays.
	local := "localhost:" + portOf(mapped)
	if resp, _ := r.ask(mapped, "GET / HTTP/1.1\nHost: "+local+"\n\n"); resp.Header.Get("Location") != "http://"+local+"/x" {
		t.Error(resp.Header)
	}
}

// A response says by which protocol it came (RFC 9110, section 7.6.3): below intact it is the proxy's hop.
func TestViaHasTheVersion(t *testing.T) {
	for proto, want := range map[string]string{"HTTP/1.0": "1.0 vitrine-gateway", "HTTP/1.1": "1.1 vitrine-gateway", "HTTP/2.0": "2 vitrine-gateway"} {
		r := newRig(t, func(req *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Proto: proto, Header: http.Header{"Via": {"2 glass"}}, Body: http.NoBody, Request: req}, nil
		}, nil)
		if resp, _ := r.ask(r.proxy, "GET http://shop.example/ HTTP/1.1\nHost: x\n\n"); !slices.Equal(resp.Header["Via"], []string{"2 glass", want}) {
			t.Errorf("%s: %q", proto, resp.Header["Via"])
		}
	}
}

// Who may read a response is asked in the origin's terms and told in the program's.
func TestOriginsGoBothWays(t *testing.T) {
	var allow string
	r := newRig(t, answer(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Access-Control-Allow-Origin", allow) }), nil)
	for _, c := range []struct{ origin, there, allow, back string }{
		{"http://shop.example", "https://shop.example", "https://shop.example", "http://shop.example"},
		{"http://shop.example:80", "https://shop.example", "https://shop.example", "http://shop.example:80"},
		{"http://shop.example", "https://shop.example", "*", "*"},
		{"http://shop.example", "https://shop.example", "https://third.example", "https://third.example"},
		{"http://other.example", "http://other.example", "http://other.example", "http://other.example"},
		{"https://shop.example", "https://shop.example", "https://shop.example", "https://shop.example"},
		{"null", "null", "null", "null"},
	} {
		allow = c.allow
		resp, _ := r.ask(r.proxy, "GET http://shop.example/ HTTP/1.1\nHost: x\nOrigin: "+c.origin+"\n\n")
		if got := r.took().Header.Get("Origin"); got != c.there || resp.Header.Get("Access-Control-Allow-Origin") != c.back {
			t.Errorf("%+v: %q, %q", c, got, resp.Header.Get("Access-Control-Allow-Origin"))
		}
	}
}

// An error has its words, its kind and a status that is none of the origin's.
func TestErrorsSayWhy(t *testing.T) {
	var failure error
	r := newRig(t, func(*http.Request) (*http.Response, error) { return nil, failure }, func(g *Gateway) {
		g.Explain = func(authority string, err error) string { return err.Error() + "; advice about " + authority }
	})
	for _, c := range []struct {
		err    error
		status int
		class  string
	}{
		{&client.KilledError{Proxy: "p", Rule: "no-macros", Reason: "no <b>macros</b>", SignatureVerified: true}, 403, "killed"},
		{&client.LevelError{Authority: "shop.example:443", Accepted: []client.Level{client.Intact}, Option: "intact,blind"}, 403, "level"},
		{&client.IntegrityError{What: "bytes were changed"}, 502, "integrity"},
		{&client.TrustError{Party: client.PartyConsent}, 403, "consent"},
		{&client.TrustError{Party: client.PartyCredentials, Field: "Cookie"}, 403, "credentials"},
		{&client.TrustError{Party: client.PartyOrigin}, 502, "origin-trust"},
		{&client.TrustError{Party: client.PartyProxy}, 502, "proxy-trust"},
		{&client.TrustError{Party: client.PartyClient}, 502, "proxy-trust"},
		{&client.UnreachableError{Party: client.PartyOrigin, Err: errors.New("line 1\r\nline 2\x1b[2J")}, 502, "unreachable"},
		{client.ErrClosed, 502, "other"},
	} {
		failure = c.err
		resp, body := r.ask(r.proxy, "GET http://shop.example/ HTTP/1.1\nHost: x\nAccept: */*\n\n")
		if resp.StatusCode != c.status || resp.Header.Get(ErrorField) != c.class || resp.Header.Get(LevelField) != NoLevel {
			t.Errorf("%T: %d %v", c.err, resp.StatusCode, resp.Header)
		}
		if want := "vitrine gateway: " + printable(c.err.Error()) + "; advice about shop.example:443\n"; body != want || strings.ContainsAny(body[:len(body)-1], "\r\n\x1b") {
			t.Errorf("%q, want %q", body, want)
		}
		resp, body = r.ask(r.proxy, "GET http://shop.example/ HTTP/1.1\nHost: x\nAccept: text/html,*/*\n\n")
		if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") || strings.Contains(body, "<b>") || !strings.Contains(body, "advice about shop.example:443") {
			t.Errorf("%v %q", resp.Header, body)
		}
	}
}

// What has no level is not passed on.
func TestWithoutALevelNothingPasses(t *testing.T) {
	r := newRig(t, answer(hello), func(g *Gateway) { g.up.levelOf = levelOf })
	if resp, body := r.ask(r.proxy, "GET http://shop.example/ HTTP/1.1\nHost: x\n\n"); resp.StatusCode != 502 || strings.Contains(body, "hello") {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
}

// A response that fails behind its head is broken off, whatever its framing, and the log says why.
func TestABrokenResponseIsNotWhole(t *testing.T) {
	killed := &client.KilledError{Proxy: "p", Rule: "no-macros", SignatureVerified: true}
	for _, length := range []int64{-1, 100} {
		r := newRig(t, func(req *http.Request) (*http.Response, error) {
			body := io.NopCloser(io.MultiReader(strings.NewReader("first part"), &failing{killed}))
			return &http.Response{StatusCode: 200, Proto: "HTTP/1.1", Header: http.Header{}, Body: body, ContentLength: length, Request: req}, nil
		}, nil)
		_, body := r.ask(r.proxy, "GET http://shop.example/ HTTP/1.1\nHost: x\n\n")
		if body != "first part (unexpected EOF)" {
			t.Errorf("length %d: %q", length, body)
		}
		r.g.Close() // behind which every line is written
		if log := r.log.String(); !strings.Contains(log, "no-macros") || !strings.Contains(log, "bytes=10") || !strings.Contains(log, "level=intact") {
			t.Error(log)
		}
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

// Both directions flow at once: a program may wait for the answer to what it has sent before it sends more.
func TestBodiesStreamBothWays(t *testing.T) {
	r := newRig(t, func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Proto: "HTTP/1.1", Header: http.Header{}, Body: req.Body, ContentLength: -1, Request: req}, nil
	}, nil)
	conn, err := net.Dial("tcp", r.proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "POST http://shop.example/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na\n\r\n")
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(resp.Body)
	for i := range 5 {
		want := "a\n"
		if i > 0 {
			want = fmt.Sprintf("%d\n", i)
			io.WriteString(conn, "2\r\n"+want+"\r\n")
		}
		if got, err := lines.ReadString('\n'); got != want {
			t.Fatalf("%q, want %q: %v", got, want, err)
		}
	}
	io.WriteString(conn, "0\r\n\r\n")
	if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
		t.Errorf("%q %v", rest, err)
	}
}

// The level is not for an origin to say, in no part of a response.
func TestAnOriginCannotSayItsLevel(t *testing.T) {
	r := newRig(t, func(req *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: 200, Proto: "HTTP/1.1", Header: http.Header{LevelField: {"direct", "blind"}}, Body: io.NopCloser(strings.NewReader("x")), ContentLength: -1, Request: req,
			Trailer: http.Header{LevelField: {"direct"}, "X-Sum": {"1"}},
		}, nil
	}, nil)
	resp, body := r.ask(r.proxy, "GET http://shop.example/ HTTP/1.1\nHost: x\nTE: trailers\n\n")
	if body != "x" || !slices.Equal(resp.Header.Values(LevelField), []string{"intact"}) || resp.Trailer.Get(LevelField) != "" || resp.Trailer.Get("X-Sum") != "1" {
		t.Errorf("%q %v %v", body, resp.Header, resp.Trailer)
	}
}

// Nor in what comes before the response.
func TestAnOriginCannotSayItsLevelEarly(t *testing.T) {
	r := newRig(t, func(req *http.Request) (*http.Response, error) {
		early := textproto.MIMEHeader{LevelField: {"direct"}, "Alt-Svc": {"h3"}, "Link": {"</style.css>"}}
		if err := httptrace.ContextClientTrace(req.Context()).Got1xxResponse(http.StatusEarlyHints, early); err != nil {
			t.Error(err)
		}
		return answer(hello)(req)
	}, nil)
	conn, err := net.Dial("tcp", r.proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET http://shop.example/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	all, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	early, late, _ := strings.Cut(string(all), "\r\n\r\n")
	if !strings.HasPrefix(early, "HTTP/1.1 103 ") || !strings.Contains(early, "Link: </style.css>") || strings.Contains(early, LevelField) || strings.Contains(early, "Alt-Svc") {
		t.Errorf("%q", early)
	}
	if strings.Count(late, LevelField+": intact\r\n") != 1 {
		t.Errorf("%q", late)
	}
}

// What a program says of itself arrives, and the gateway adds nothing about the user.
func TestFieldsOfTheProgramStay(t *testing.T) {
	r := newRig(t, answer(hello), nil)
	r.ask(r.proxy, "GET http://shop.example/ HTTP/1.1\nHost: x\nX-Forwarded-For: 192.0.2.7\nForwarded: for=x\nAccept-Encoding: br\nX-Hop: 1\nX-End: 2\nConnection: X-Hop\nVia: 1.0 inner\n\n")
	want := http.Header{
		"X-Forwarded-For": {"192.0.2.7"}, "Forwarded": {"for=x"}, "Accept-Encoding": {"br"}, "X-End": {"2"}, "Via": {"1.0 inner", "1.1 vitrine-gateway"},
		"User-Agent": {""}, // which net/http takes for none
	}
	if got := r.took().Header; !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	r.ask(r.proxy, "GET http://shop.example/ HTTP/1.1\nHost: x\n\n")
	if got := r.took().Header; got["X-Forwarded-For"] != nil {
		t.Errorf("%v", got)
	}
}

func TestOnlyLoopbackListens(t *testing.T) {
	g := &Gateway{}
	defer g.Close()
	for _, addr := range []net.Addr{&net.TCPAddr{IP: net.IPv4zero, Port: 1}, &net.TCPAddr{IP: net.IPv6unspecified, Port: 1}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, &net.TCPAddr{Port: 1}, &net.UnixAddr{Name: "x", Net: "unix"}} {
		ln := &addrListener{addr: addr}
		if err := g.Serve(ln); !errors.Is(err, ErrNotLoopback) || !ln.closed {
			t.Errorf("%v: %v, closed %t", addr, err, ln.closed)
		}
	}
}

type addrListener struct {
	net.Listener
	addr   net.Addr
	closed bool
}

func (l *addrListener) Addr() net.Addr { return l.addr }
func (l *addrListener) Close() error   { l.closed = true; return nil }

func TestAMapIsOfAnOrigin(t *testing.T) {
	r := newRig(t, answer(hello), nil)
	for _, bad := range []string{"", "shop.example", "http://shop.example", "https://", "https://u:hunter2@shop.example", "https://shop.example/path", "https://shop.example?q", "https://shop.example#f", "https://shop.example:0", "https://a b", "https://%zz"} {
		err := r.g.ServeMap(loopback(t), bad)
		if err == nil || errors.Is(err, ErrClosed) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	addr := r.serve(func(ln net.Listener) error { return r.g.ServeMap(ln, "https://Shop.example:443") })
	r.ask(addr, "GET / HTTP/1.1\nHost: "+addr+"\n\n")
	if err := r.g.ServeMap(loopback(t), "https://shop.example"); err == nil || !strings.Contains(err.Error(), "already") {
		t.Error(err)
	}
}

// A program that does not read, or does not send, is dropped, and what it held is free.
func TestAProgramThatHangsIsDropped(t *testing.T) {
	ended := make(chan error, 2)
	r := newRig(t, func(req *http.Request) (*http.Response, error) {
		if req.Method == http.MethodPost {
			_, err := io.Copy(io.Discard, req.Body)
			ended <- err
			return nil, err
		}
		body := &endless{ended: ended}
		return &http.Response{StatusCode: 200, Proto: "HTTP/1.1", Header: http.Header{}, Body: body, ContentLength: -1, Request: req}, nil
	}, func(g *Gateway) { g.StallTimeout = 50 * time.Millisecond })
	for _, request := range []string{
		"GET http://shop.example/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST http://shop.example/ HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345",
	} {
		conn, err := net.Dial("tcp", r.proxy)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, request)
		select {
		case err := <-ended:
			if err == nil {
				t.Errorf("%q: it ended in order", request)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%q: it hangs", request)
		}
	}
}

type endless struct{ ended chan error }

func (b *endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }
func (b *endless) Close() error               { b.ended <- errors.New("closed"); return nil }

// Slow is not hung: an origin may think for longer than a program may hang.
func TestAnOriginMayBeSlow(t *testing.T) {
	const stall = 50 * time.Millisecond
	r := newRig(t, func(req *http.Request) (*http.Response, error) {
		io.Copy(io.Discard, req.Body)
		body := io.MultiReader(&slow{4 * stall}, strings.NewReader(strings.Repeat("a", 100000)), &slow{4 * stall}, strings.NewReader(strings.Repeat("b", 100000)))
		select {
		case <-time.After(4 * stall):
			return &http.Response{StatusCode: 200, Proto: "HTTP/1.1", Header: http.Header{}, Body: io.NopCloser(body), ContentLength: -1, Request: req}, nil
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}, func(g *Gateway) { g.StallTimeout = stall })
	if resp, body := r.ask(r.proxy, "POST http://shop.example/ HTTP/1.1\nHost: x\nContent-Length: 2\n\nab"); resp.StatusCode != 200 || len(body) != 200000 {
		t.Errorf("%d, %d bytes", resp.StatusCode, len(body))
	}
}

// A slow comes to its end late.
type slow struct{ after time.Duration }

func (s *slow) Read([]byte) (int, error) {
	<-time.After(s.after)
	return 0, io.EOF
}

// More connections than the bound wait for a place, and get one.
func TestConnectionsAreBounded(t *testing.T) {
	r := newRig(t, answer(hello), func(g *Gateway) { g.MaxConns = 1 })
	first, err := net.Dial("tcp", r.proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	io.WriteString(first, "GET http://shop.example/ HTTP/1.1\r\nHost: x\r\n\r\n")
	if resp, err := http.ReadResponse(bufio.NewReader(first), nil); err != nil || resp.StatusCode != 200 {
		t.Fatal(err)
	}
	second, err := net.Dial("tcp", r.proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	io.WriteString(second, "GET http://shop.example/ HTTP/1.1\r\nHost: x\r\n\r\n")
	second.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := second.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error("the second was served beside the first")
	}
	first.Close()
	second.SetReadDeadline(time.Time{})
	if resp, err := http.ReadResponse(bufio.NewReader(second), nil); err != nil || resp.StatusCode != 200 {
		t.Error(err)
	}
}

// Shutdown lets what is under way end, and takes nothing new.
func TestShutdownWaits(t *testing.T) {
	reached, release := make(chan struct{}), make(chan struct{})
	r := newRig(t, func(req *http.Request) (*http.Response, error) {
		close(reached)
		<-release
		return answer(hello)(req)
	}, nil)
	conn, err := net.Dial("tcp", r.proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET http://shop.example/ HTTP/1.1\r\nHost: x\r\n\r\n")
	<-reached
	late, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.g.Shutdown(late); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := r.g.Serve(loopback(t)); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	done := make(chan error, 1)
	go func() { done <- r.g.Shutdown(t.Context()) }()
	close(release)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); string(body) != "hello" || err != nil {
		t.Errorf("%q %v", body, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
