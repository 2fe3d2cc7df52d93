package testnet

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"vitrine/client"
	"vitrine/frames"
	"vitrine/origin"
	"vitrine/proxy"
)

// an echo is what the origin received, and answers as the request's fields ask: x-size bytes, x-chunked or
// with a Content-Length, x-trailer behind them, x-status.
type echo struct {
	mu       sync.Mutex
	requests []received
}

type received struct {
	method, uri, host string
	header            http.Header
	trailer           http.Header
	body              []byte
	err               error
	remote            string
	tls               *tls.ConnectionState
}

func (e *echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	e.mu.Lock()
	e.requests = append(e.requests, received{
		method: r.Method, uri: r.RequestURI, host: r.Host, header: r.Header.Clone(), trailer: r.Trailer.Clone(),
		body: body, err: err, remote: r.Header.Get("X-Tunnel"), tls: r.TLS,
	})
	e.mu.Unlock()
	size, _ := strconv.Atoi(r.Header.Get("X-Size"))
	status := http.StatusOK
	if s := r.Header.Get("X-Status"); s != "" {
		status, _ = strconv.Atoi(s)
	}
	reply := pattern(size)
	if r.Header.Get("X-Trailer") != "" {
		w.Header().Set("Trailer", "X-Behind")
		defer w.Header().Set("X-Behind", r.Header.Get("X-Trailer"))
	}
	if status != http.StatusNoContent && status != http.StatusNotModified && r.Header.Get("X-Chunked") == "" && r.Header.Get("X-Trailer") == "" {
		w.Header().Set("Content-Length", strconv.Itoa(size))
	}
	w.WriteHeader(status)
	if r.Header.Get("X-Chunked") != "" {
		for len(reply) > 0 {
			n := min(len(reply), 1+len(reply)/3)
			w.Write(reply[:n])
			http.NewResponseController(w).Flush()
			reply = reply[n:]
		}
	}
	w.Write(reply)
}

func (e *echo) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.requests)
}

func (e *echo) last() received {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.requests[len(e.requests)-1]
}

// Every kind of exchange, in a row on kept-alive tunnels: the origin receives what was sent, the client
// receives what was answered, and the plaintext that the inspector read is the same as both.
func TestP9WhatTheProxyReadsIsWhatIsSentAndWhatArrives(t *testing.T) {
	sizes := []int{0, 1, 16336, 16337, 16338, 16<<10 - 1, 16 << 10, 16<<10 + 1, 1 << 20}
	type exchange struct {
		method           string
		up, down         int
		upChunked        bool
		downChunked      bool
		upTrailer        bool
		downTrailer      bool
		status           int
		expectContinue   bool
		requestBodyIsNil bool
	}
	var all []exchange
	for _, size := range sizes {
		all = append(all,
			exchange{method: "GET", down: size, requestBodyIsNil: true},
			exchange{method: "GET", down: size, downChunked: true, requestBodyIsNil: true},
			exchange{method: "GET", down: size, downTrailer: true, requestBodyIsNil: true},
			exchange{method: "HEAD", down: size, requestBodyIsNil: true},
			exchange{method: "POST", up: size, down: 7},
			exchange{method: "PUT", up: size, down: size, upChunked: true, downChunked: true},
			exchange{method: "POST", up: size, down: size, upChunked: true, upTrailer: true, downTrailer: true},
			exchange{method: "POST", up: size, down: 1, expectContinue: true},
		)
	}
	all = append(all,
		exchange{method: "GET", status: 204, requestBodyIsNil: true},
		exchange{method: "GET", status: 304, requestBodyIsNil: true},
		exchange{method: "DELETE", status: 204, requestBodyIsNil: true},
		exchange{method: "POST", up: 100, status: 204},
		exchange{method: "GET", status: 404, down: 20, requestBodyIsNil: true},
		exchange{method: "OPTIONS", down: 0, requestBodyIsNil: true},
		exchange{method: "PROPFIND", up: 10, down: 10},
	)
	bubble(t, func(t *testing.T) {
		rec, echo := newRecorder(), new(echo)
		n := New(t, Config{Handler: echo, Proxy: func(_ *Net, p *proxy.Proxy) { p.Inspectors = []proxy.Inspector{rec} }})
		for i, x := range all {
			name := fmt.Sprintf("%d %+v", i, x)
			up := pattern(x.up)
			var body io.Reader
			if !x.requestBodyIsNil {
				body = bytes.NewReader(up)
			}
			if x.upChunked {
				body = struct{ io.Reader }{body} // of a length that nobody knows
			}
			path := fmt.Sprintf("/%d?x=%%20y", i)
			req := n.request(n.ctx, x.method, path, body)
			req.Header.Set("X-Size", strconv.Itoa(x.down))
			if x.status != 0 {
				req.Header.Set("X-Status", strconv.Itoa(x.status))
			}
			if x.downChunked {
				req.Header.Set("X-Chunked", "1")
			}
			if x.downTrailer {
				req.Header.Set("X-Trailer", "behind "+path)
			}
			if x.expectContinue {
				req.Header.Set("Expect", "100-continue")
			}
			if x.upTrailer {
				req.Trailer = http.Header{"X-After": {"after " + path}}
			}
			resp, got, err := fetch(n.Client, req)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			want := pattern(x.down)
			if x.method == "HEAD" {
				if resp.ContentLength != int64(x.down) {
					t.Errorf("%s: Content-Length %d", name, resp.ContentLength)
				}
				want = nil
			}
			wantStatus := max(x.status, 200)
			at := echo.last()
			saw := <-rec.over
			switch {
			case resp.StatusCode != wantStatus || saw.status != wantStatus:
				t.Errorf("%s: status %d, the proxy read %d", name, resp.StatusCode, saw.status)
			case !bytes.Equal(got, want):
				t.Errorf("%s: %d bytes arrived, not those that were sent", name, len(got))
			case !bytes.Equal(saw.got, want):
				t.Errorf("%s: the proxy read %d bytes of the response, not those that arrived", name, len(saw.got))
			case !bytes.Equal(at.body, up) || at.err != nil:
				t.Errorf("%s: the origin received %d bytes, %v", name, len(at.body), at.err)
			case !bytes.Equal(saw.sent, up):
				t.Errorf("%s: the proxy read %d bytes of the request, not those that were sent", name, len(saw.sent))
			case saw.head.Method != x.method || saw.head.Path+"?"+saw.head.Query != path || at.uri != path || at.method != x.method:
				t.Errorf("%s: the proxy read %+v", name, saw.head)
			case saw.head.Host != OriginHost+":443" || at.host != OriginHost:
				t.Errorf("%s: host %q at the proxy, %q at the origin", name, saw.head.Host, at.host)
			case x.downTrailer && (resp.Trailer.Get("X-Behind") != "behind "+path || saw.gotTrailer.Get("X-Behind") != "behind "+path):
				t.Errorf("%s: trailer %v, the proxy read %v", name, resp.Trailer, saw.gotTrailer)
			case x.upTrailer && (at.trailer.Get("X-After") != "after "+path || saw.sentTrailer.Get("X-After") != "after "+path):
				t.Errorf("%s: trailer %v, the proxy read %v", name, at.trailer, saw.sentTrailer)
			case !saw.requestEnd || !saw.replyEnd || saw.outcome.Err != nil || saw.outcome.Killed != nil:
				t.Errorf("%s: outcome %+v", name, saw.outcome)
			}
			for key, values := range at.header { // every field that the origin saw, the proxy saw
				if fmt.Sprint(saw.head.Header[key]) != fmt.Sprint(values) {
					t.Errorf("%s: field %s: %q at the proxy, %q at the origin", name, key, saw.head.Header[key], values)
				}
			}
			for key, values := range resp.Header {
				if fmt.Sprint(saw.responseHeader[key]) != fmt.Sprint(values) {
					t.Errorf("%s: field %s: %q at the proxy, %q at the client", name, key, saw.responseHeader[key], values)
				}
			}
			rep := client.ReportOf(resp)
			if rep.Bytes != int64(len(got)) || rep.Status != wantStatus || rep.Level != client.Intact || rep.Error != "" {
				t.Errorf("%s: report %+v", name, rep)
			}
		}
		if echo.count() != len(all) {
			t.Errorf("the origin received %d requests for %d", echo.count(), len(all))
		}
	})
}

func TestIntactIsConfirmedByTheOrigin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		inspections := make(chan *origin.Inspection, 1)
		n := New(t, Config{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			i, _ := origin.InspectionOf(r.Context())
			inspections <- i
		})})
		rep := n.mustGet("/", "")
		if rep.Evidence == nil || rep.Evidence.Kind != "authenticator" || !rep.Evidence.Verified || rep.Evidence.Authority != OriginHost+":443" ||
			rep.Evidence.Hop.ALPN != frames.ALPNH2 || rep.Evidence.Hop.Version != "TLS 1.3" {
			t.Errorf("evidence: %+v", rep.Evidence)
		}
		if rep.Inner == nil || !rep.Inner.Confirmed || rep.Inner.Suite != "TLS_SHA256_SHA256" || rep.Inner.PeerSPKI != rep.Evidence.OriginSPKI || rep.Inner.ALPN != "http/1.1" {
			t.Errorf("inner: %+v", rep.Inner)
		}
		// P5: the client is told who reads; P11: the origin sees the same certificate on its hop.
		if len(rep.Proxies) != 1 || !rep.Proxy.Equal(n.ProxyCert.Leaf) {
			t.Errorf("proxies: %+v", rep.Proxies)
		}
		if i := <-inspections; i == nil || !i.ProxyCertificate.Equal(n.ProxyCert.Leaf) || len(i.Proxies) != 1 {
			t.Errorf("the origin's view: %+v", i)
		}
	})
}

func TestATunnelIsReused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tunnels := make(map[[32]byte]int)
		n := New(t, Config{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			i, _ := origin.InspectionOf(r.Context())
			tunnels[i.Nonce]++
		})})
		for range 5 {
			n.mustGet("/", "")
		}
		if len(tunnels) != 1 {
			t.Errorf("5 requests took %d tunnels", len(tunnels))
		}
	})
}

func TestExpectContinueRefusedWith417KeepsTheBody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := New(t, Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusExpectationFailed)
			io.WriteString(w, "no")
		})})
		body := &countingReader{r: bytes.NewReader(pattern(1000))}
		req := n.request(n.ctx, http.MethodPost, "/", body)
		req.ContentLength = 1000
		req.Header.Set("Expect", "100-continue")
		resp, got, err := fetch(n.Client, req)
		if err != nil || resp.StatusCode != 417 || string(got) != "no" {
			t.Fatalf("%v %q %v", resp, got, err)
		}
		if body.n != 0 {
			t.Errorf("%d bytes of a body left that nobody wanted", body.n)
		}
		n.mustGetStatus("/", 417)
	})
}

func (n *Net) mustGetStatus(path string, status int) {
	n.Helper()
	resp, _, err := n.get(path)
	if err != nil || resp.StatusCode != status {
		n.Fatalf("%s: %v %v, want status %d", path, resp, err, status)
	}
}

type countingReader struct {
	r io.Reader
	n int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

// Each event arrives before the next one is written: a proxy or an end that waits for more would wait
// for ever.
func TestServerSentEventsFlowAtOnce(t *testing.T) {
	for _, inspected := range []bool{false, true} {
		t.Run(fmt.Sprintf("inspected=%v", inspected), func(t *testing.T) {
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
					Proxy: func(_ *Net, p *proxy.Proxy) {
						if inspected {
							p.Inspectors = []proxy.Inspector{newRecorder()}
						}
					},
				})
				go func() { next <- true }() // the head leaves with the first event
				start := time.Now()
				resp, err := n.Client.RoundTrip(n.request(n.ctx, http.MethodGet, "/", nil))
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				lines := bufio.NewReader(resp.Body)
				for i := range 20 {
					line, err := lines.ReadString('\n')
					if err != nil || line != fmt.Sprintf("data: %d\n", i) {
						t.Fatalf("event %d: %q %v", i, line, err)
					}
					lines.ReadString('\n')
					next <- i < 19
				}
				if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
					t.Errorf("end: %q %v", rest, err)
				}
				if waited := time.Since(start); waited > 0 {
					t.Errorf("events waited %v for a timer", waited)
				}
			})
		})
	}
}

func TestAResponseBeforeTheRequestHasEnded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := New(t, Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, "too much")
		})})
		r, w := io.Pipe()
		defer w.Close()
		go func() { w.Write(pattern(1000)) }()
		resp, err := n.Client.RoundTrip(n.request(n.ctx, http.MethodPost, "/", r))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if resp.StatusCode != 403 || string(body) != "too much" || err != nil {
			t.Errorf("%d %q %v", resp.StatusCode, body, err)
		}
		resp.Body.Close()
		n.mustGetStatus("/", 403)
	})
}

func TestLargeHeaders(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := New(t, Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			size, _ := strconv.Atoi(r.Header.Get("X-Reply"))
			w.Header().Set("X-Large", string(pattern(size)))
			io.WriteString(w, strconv.Itoa(len(r.Header.Get("X-Large"))))
		})})
		ask := func(up, down int) (*http.Response, []byte, error) {
			req := n.request(n.ctx, http.MethodGet, "/", nil)
			req.Header.Set("X-Large", string(pattern(up)))
			req.Header.Set("X-Reply", strconv.Itoa(down))
			return fetch(n.Client, req)
		}
		const fits, not = 64<<10 - 1000, 65 << 10
		resp, body, err := ask(fits, fits)
		if err != nil || string(body) != strconv.Itoa(fits) || len(resp.Header.Get("X-Large")) != fits {
			t.Fatalf("%d bytes: %q %v", fits, body, err)
		}
		for _, sizes := range [][2]int{{not, 1}, {1, not}} {
			_, _, err := ask(sizes[0], sizes[1])
			killed := wantError[*client.KilledError](t, err)
			if !killed.SignatureVerified || killed.Rule != "http-head-size" {
				t.Errorf("%v: %+v", sizes, killed)
			}
		}
	})
}

func TestAuthorities(t *testing.T) {
	names := []string{OriginHost, "2001:db8::1", "198.51.100.77", "bücher.example", "xn--bcher-kva.example", "UPPER.example"}
	for _, x := range []struct{ url, authority string }{
		{"https://[2001:db8::1]/", "[2001:db8::1]:443"},
		{"https://[2001:DB8:0::1]:443/", "[2001:db8::1]:443"},
		{"https://198.51.100.77/", "198.51.100.77:443"},
		{"https://bücher.example/", "xn--bcher-kva.example:443"},
		{"https://B%C3%9CCHER.example/", "xn--bcher-kva.example:443"},
		{"https://upper.EXAMPLE/", "upper.example:443"},
		{"https://origin.example:8443/", "origin.example:8443"},
	} {
		t.Run(x.authority, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				rec := newRecorder()
				n := New(t, Config{
					Names: names,
					Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						i, ok := origin.InspectionOf(r.Context())
						if !ok {
							t.Error("no inspection")
							return
						}
						io.WriteString(w, i.Authority)
					}),
					Proxy: func(_ *Net, p *proxy.Proxy) { p.Inspectors = []proxy.Inspector{rec} },
				})
				n.network.names["upper.example"] = n.network.names["UPPER.example"]
				rep := n.mustGet(x.url, x.authority)
				if rep.Evidence.Authority != x.authority {
					t.Errorf("evidence about %s", rep.Evidence.Authority)
				}
				if saw := <-rec.over; saw.head.Host != x.authority || saw.x.Authority != x.authority {
					t.Errorf("the proxy read %q for %q", saw.head.Host, saw.x.Authority)
				}
			})
		})
	}
}

func TestClientCertificateOnHop1(t *testing.T) {
	bubble(t, func(t *testing.T) {
		rec := newRecorder()
		users, err := newUsers(t)
		if err != nil {
			t.Fatal(err)
		}
		user := users.client(t, "user")
		n := New(t, Config{Proxy: func(_ *Net, p *proxy.Proxy) {
			p.ClientCAs, p.Inspectors = users.pool(), []proxy.Inspector{rec}
		}})
		_, _, err = n.get("/")
		if c := class(err); !strings.HasPrefix(c, "trust:") {
			t.Errorf("without a certificate: %s: %v", c, err)
		}
		n.Client = n.NewClient(func(_ *Net, tr *client.Transport) { tr.ClientCertificate = &user })
		n.mustGet("/", "hello")
		if saw := <-rec.over; saw.x.Client.Subject != user.Leaf.Subject.String() {
			t.Errorf("the proxy knows %+v", saw.x.Client)
		}
		// One of another root.
		strangers, err := newUsers(t)
		if err != nil {
			t.Fatal(err)
		}
		stranger := strangers.client(t, "user")
		n.Client = n.NewClient(func(_ *Net, tr *client.Transport) { tr.ClientCertificate = &stranger })
		_, _, err = n.get("/")
		if c := class(err); !strings.HasPrefix(c, "trust:") {
			t.Errorf("with a stranger's certificate: %s: %v", c, err)
		}
	})
}

// The client authenticates to the origin in the inner session; the proxy, which reads the whole handshake,
// has no key to do so.
func TestP2InnerClientCertificate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		users, err := newUsers(t)
		if err != nil {
			t.Fatal(err)
		}
		user := users.client(t, "user")
		n := New(t, Config{
			Origin: func(_ *Net, srv *http.Server, _ *origin.Config) {
				srv.TLSConfig.ClientAuth, srv.TLSConfig.ClientCAs = tls.RequireAndVerifyClientCert, users.pool()
			},
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName)
			}),
			Client: func(_ *Net, tr *client.Transport) { tr.Certificates = []tls.Certificate{user} },
		})
		n.mustGet("/", "user")

		n.Client = n.NewClient(nil)
		_, _, err = n.get("/")
		if err == nil {
			t.Fatal("the origin took a client without a certificate")
		}
		if c := class(err); c != "unreachable:origin" {
			t.Errorf("without a certificate: %s: %v", c, err)
		}
		// A proxy that shows its own certificate instead: it is on hop 2, and does not count inside.
		n.Client = n.NewClient(func(n *Net, tr *client.Transport) { tr.Certificates = []tls.Certificate{n.ProxyCert} })
		if _, _, err := n.get("/"); err == nil {
			t.Error("the origin took the proxy's certificate for a client's")
		}
	})
}

func TestEightExchangesAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		meet := make(chan struct{}, 8)
		all := make(chan struct{})
		n := New(t, Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			meet <- struct{}{}
			<-all // each is under way before any is answered
			w.Write(bytes.ToUpper(body))
		})})
		go func() {
			for range 8 {
				<-meet
			}
			close(all)
		}()
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				body := bytes.Repeat([]byte{'a' + byte(i)}, 100_000+i)
				resp, got, err := fetch(n.Client, n.request(n.ctx, http.MethodPost, "/", bytes.NewReader(body)))
				if err != nil || resp.StatusCode != 200 || !bytes.Equal(got, bytes.ToUpper(body)) {
					t.Errorf("%d: %d bytes, %v", i, len(got), err)
				}
			})
		}
		wg.Wait()
	})
}

func TestARequestThatGivesUpCostsOnlyItsTunnel(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := New(t, Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				io.WriteString(w, "begin")
				http.NewResponseController(w).Flush()
				<-r.Context().Done() // the origin is told
				return
			}
			io.WriteString(w, "fast")
		})})
		ctx, cancel := context.WithCancel(n.ctx)
		resp, err := n.Client.RoundTrip(n.request(ctx, http.MethodGet, "/slow", nil))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(resp.Body, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		n.mustGet("/fast", "fast")
		cancel()
		if _, err := io.ReadAll(resp.Body); err == nil || !strings.Contains(err.Error(), context.Canceled.Error()) {
			t.Errorf("the body after giving up: %v", err)
		}
		resp.Body.Close()
		n.mustGet("/fast", "fast")
	})
}
