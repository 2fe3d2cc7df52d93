package gateway

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What is left of a request's content is never taken for a request. A page chooses the content of what it sends, and
// would so choose the fields by which a browser says that it is another site's.
func TestContentIsNoRequest(t *testing.T) {
	r := newRig(t, answer(hello), func(g *Gateway) { g.StallTimeout = time.Second }) // the origin reads no content
	mapped := r.serve(func(ln net.Listener) error { return r.g.ServeMap(ln, "https://shop.example") })
	const smuggled = "GET http://shop.example/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	long := smuggled + strings.Repeat("x", 400<<10)
	for _, x := range []struct{ name, addr, head, content, late string }{
		{"refused", r.proxy, "POST http://other.example/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", long, ""},
		{"refused by a map", mapped, "POST / HTTP/1.1\r\nHost: " + mapped + "\r\nSec-Fetch-Site: cross-site\r\nContent-Length: 1000000\r\n\r\n", "POST /smuggled HTTP/1.1\r\nHost: " + mapped + "\r\nSec-Fetch-Site: none\r\n\r\n" + long, ""},
		{"a CONNECT", r.proxy, "CONNECT shop.example:443 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", long, ""},
		{"answered early", r.proxy, "POST http://shop.example/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", long, ""},
		{"answered early, chunked", r.proxy, "POST http://shop.example/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "80000\r\n" + long, ""},
		{"answered without a 100", r.proxy, "POST http://shop.example/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n", long, ""},
		{"refused, and it comes late", r.proxy, "POST http://other.example/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", "", smuggled},
		{"answered early, and it comes late", r.proxy, "POST http://shop.example/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", "", smuggled},
	} {
		t.Run(x.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", x.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			io.WriteString(conn, x.head)
			sent := make(chan struct{})
			go func() { // as long as it is read
				io.WriteString(conn, x.content)
				close(sent)
			}()
			in := bufio.NewReader(conn)
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(resp.Body); err != nil {
				t.Error(err)
			}
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			if x.late != "" {
				if _, err := in.Peek(1); err != io.EOF { // it stalls, and has lost the connection
					t.Errorf("what stalls is not dropped: %v", err)
				}
				io.WriteString(conn, x.late)
			}
			if more, err := http.ReadResponse(in, nil); err == nil {
				t.Errorf("a second answer: %s", more.Status)
			}
			conn.Close()
			<-sent
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, req := range r.asked {
				if strings.Contains(req.URL.Path, "smuggled") {
					t.Errorf("%s was fetched", req.URL)
				}
			}
			r.asked = nil
		})
	}
}

// Who sends all that was announced may ask again on the same connection, whatever the answer was.
func TestAConnectionIsKeptBehindContent(t *testing.T) {
	r := newRig(t, answer(hello), nil) // the origin reads no content
	conn, err := net.Dial("tcp", r.proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	for _, host := range []string{"other.example", "shop.example", "other.example", "shop.example"} {
		for _, content := range []string{"Content-Length: 3\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"} {
			io.WriteString(conn, "POST http://"+host+"/ HTTP/1.1\r\nHost: x\r\n"+content)
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatalf("%s: %v", host, err)
			}
			if _, err := io.ReadAll(resp.Body); err != nil || resp.Close {
				t.Errorf("%s: %v, close %t", host, err, resp.Close)
			}
		}
	}
}

// What has no one meaning is refused, and nothing leaves.
func TestRequestsOfTwoMeanings(t *testing.T) {
	r := newRig(t, answer(hello), nil)
	mapped := r.serve(func(ln net.Listener) error { return r.g.ServeMap(ln, "https://shop.example") })
	r.g.up.carry = nil // it is not called
	host := "\nHost: " + mapped + "\n\n"
	for _, x := range []struct {
		addr, request string
		status        int
	}{
		{mapped, "GET http:evil HTTP/1.1" + host, 400},
		{mapped, "GET http:///evil HTTP/1.1" + host, 400},
		{mapped, "GET http://u:hunter2@" + mapped + "/ HTTP/1.1" + host, 400},
		{mapped, "GET * HTTP/1.1" + host, 400},
		{mapped, "GET / HTTP/1.1\nHost: 127.0.0.1:0" + portOf(mapped) + "\n\n", 421},
		{mapped, "GET / HTTP/1.1\nHost: localhost.:" + portOf(mapped) + "\n\n", 421},
		{mapped, "GET / HTTP/1.1\nHost: [::ffff:127.0.0.1]:" + portOf(mapped) + "\n\n", 421},
		{r.proxy, "GET http:shop.example/ HTTP/1.1\nHost: shop.example\n\n", 400},
		{r.proxy, "GET http://shop.example:0443/ HTTP/1.1\nHost: shop.example\n\n", 400},
		{r.proxy, "GET http://shop.example./ HTTP/1.1\nHost: shop.example\n\n", 400},
		{r.proxy, "CONNECT u:hunter2@shop.example:443 HTTP/1.1\nHost: shop.example:443\n\n", 400},
		{r.proxy, "CONNECT /path HTTP/1.1\nHost: shop.example:443\n\n", 400},
		{r.proxy, "CONNECT shop.example:443/path HTTP/1.1\nHost: shop.example:443\n\n", 400},
		{r.proxy, "CONNECT shop.example:443?q HTTP/1.1\nHost: shop.example:443\n\n", 400},
		{r.proxy, "CONNECT shop.example.:443 HTTP/1.1\nHost: shop.example:443\n\n", 400},
		{r.proxy, "CONNECT [fe80::1%25lo]:443 HTTP/1.1\nHost: shop.example:443\n\n", 400},
		{r.proxy, "CONNECT 127.1:443 HTTP/1.1\nHost: shop.example:443\n\n", 400},
		{r.proxy, "CONNECT shop.example:0443 HTTP/1.1\nHost: shop.example:443\n\n", 400},
	} {
		resp, body := r.ask(x.addr, x.request)
		if resp.StatusCode != x.status || resp.Header.Get(LevelField) != NoLevel || strings.Count(body, "\n") != 1 || strings.Contains(body, "hunter2") {
			t.Errorf("%q: %d %v %q", x.request, resp.StatusCode, resp.Header, body)
		}
	}
	r.untouched()
	if resp, _ := r.ask(mapped, "OPTIONS * HTTP/1.1"+host); resp.StatusCode != 200 || r.took().URL.RequestURI() != "*" {
		t.Error(resp.Status)
	}
	r.g.Close()
	if strings.Contains(r.log.String(), "hunter2") {
		t.Error("a password is in the log")
	}
}

// A field that the program names for its next hop alone goes no further, whichever it is.
func TestWhatIsForTheGatewayAloneStays(t *testing.T) {
	r := newRig(t, answer(hello), nil)
	r.ask(r.proxy, "GET http://shop.example/ HTTP/1.1\nHost: x\nConnection: x-forwarded-for, Cookie\nX-Forwarded-For: 192.0.2.7\nX-Forwarded-Host: a\nCookie: a=b\n\n")
	if h := r.took().Header; h["X-Forwarded-For"] != nil || h["Cookie"] != nil || h.Get("X-Forwarded-Host") != "a" {
		t.Error(h)
	}
}

// What is no status of a response is an error that says so.
func TestAStatusThatIsNone(t *testing.T) {
	for _, status := range []int{0, 42, 100, 199, 1000} {
		r := newRig(t, func(req *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: status, Proto: "HTTP/1.1", Header: http.Header{}, Body: io.NopCloser(strings.NewReader("x")), ContentLength: 1, Request: req}, nil
		}, nil)
		if resp, body := r.ask(r.proxy, "GET http://shop.example/ HTTP/1.1\nHost: x\n\n"); resp.StatusCode != 502 || resp.Header.Get(ErrorField) != "other" || !strings.Contains(body, "status") {
			t.Errorf("%d: %s %q", status, resp.Status, body)
		}
	}
}

// Behind content without an end, a head that HTTP/1.0 has a length of its own for, or a CONNECT that is refused, nothing
// is a request, though it has come already.
func TestNothingIsReadBehindWhatHasNoEnd(t *testing.T) {
	const smuggled = "GET http://shop.example/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	chunked := "POST http://shop.example/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, wants := range []bool{false, true} {
		r := newRig(t, answer(func(w http.ResponseWriter, req *http.Request) {
			if wants {
				io.Copy(io.Discard, req.Body)
			}
			io.WriteString(w, "hello")
		}), nil)
		for _, x := range []struct{ name, request string }{
			{"a chunk's length that is none", chunked + "zz\r\n"},
			{"a chunk that is longer than it says", chunked + "3\r\nabcd"},
			{"a trailer section that is none", chunked + "3\r\nabc\r\n0\r\n: x\r\n\r\n"},
			{"HTTP/1.0", "POST http://shop.example/ HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"},
			{"a CONNECT that is refused", "CONNECT shop.example:443 HTTP/1.1\r\nHost: x\r\n\r\n"},
			{"a CONNECT that names nothing", "CONNECT / HTTP/1.1\r\nHost: x\r\n\r\n"},
		} {
			conn, err := net.Dial("tcp", r.proxy)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			io.WriteString(conn, x.request+smuggled)
			in := bufio.NewReader(conn)
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatalf("%s: %v", x.name, err)
			}
			if _, err := io.ReadAll(resp.Body); err != nil {
				t.Errorf("%s: %v", x.name, err)
			}
			if more, err := http.ReadResponse(in, nil); err == nil {
				t.Errorf("%s: a second answer: %s", x.name, more.Status)
			}
			conn.Close()
			r.mu.Lock()
			for _, req := range r.asked {
				if req.Method != http.MethodPost {
					t.Errorf("%s: %s %s was fetched", x.name, req.Method, req.URL)
				}
			}
			r.asked = nil
			r.mu.Unlock()
		}
	}
}

// A path is passed on as it was asked for. Where it has something that a URL cannot have, that alone is escaped: the
// rest would otherwise be unescaped with it, and be another path.
func TestAPathStaysWhatItIs(t *testing.T) {
	r := newRig(t, answer(hello), nil)
	mapped := r.serve(func(ln net.Listener) error { return r.g.ServeMap(ln, "https://shop.example") })
	for path, want := range map[string]string{
		"/":                      "/",
		"//a/../b?":              "//a/../b?",
		"/a%2fb%3B%25?q=%2f|":    "/a%2fb%3B%25?q=%2f|",
		"/a%2fb%3B%25|c":         "/a%2fb%3B%25%7Cc",
		"/%2e%2e%2f\\\"\xc3\xa4": "/%2e%2e%2f%5C%22%C3%A4",
		"/a;b=[c]'(d)!*@:~":      "/a;b=[c]'(d)!*@:~",
	} {
		for _, request := range []string{"GET http://shop.example" + path + " HTTP/1.1\nHost: shop.example\n\n", "GET " + path + " HTTP/1.1\nHost: " + mapped + "\n\n"} {
			addr := r.proxy
			if strings.HasPrefix(request, "GET /") {
				addr = mapped
			}
			r.ask(addr, request)
			if got := r.took().URL.RequestURI(); got != want {
				t.Errorf("%q: %q is asked for, want %q", request, got, want)
			}
		}
	}
}
