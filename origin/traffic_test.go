package origin

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
)

func noise(n int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{7}), n)
}

func sum(r io.Reader) string {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return err.Error()
	}
	return hex.EncodeToString(h.Sum(nil))
}

func TestBodiesOfAllSizesPassBothWays(t *testing.T) {
	w := start(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.(http.Flusher).Flush()
		h := sha256.New()
		if _, err := io.Copy(w, io.TeeReader(r.Body, h)); err != nil {
			t.Error(err)
		}
		w.Header().Set(http.TrailerPrefix+"Sum", hex.EncodeToString(h.Sum(nil)))
	})
	client := w.client(w.hop(w.proxy))
	for _, n := range []int64{0, 1, 16337, 16338, 1 << 20, 16 << 20} {
		resp, err := client.Post(site, "", io.NopCloser(noise(n)))
		if err != nil {
			t.Fatal(err)
		}
		got := sum(resp.Body)
		resp.Body.Close()
		if want := sum(noise(n)); got != want || resp.Trailer.Get("Sum") != want {
			t.Errorf("%d bytes: %s, trailer %s", n, got, resp.Trailer.Get("Sum"))
		}
	}
}

func TestTunnelsOfOneHopRunSideBySide(t *testing.T) {
	w := start(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, noise(1<<20)) })
	s := w.hop(w.proxy)
	want := sum(noise(1 << 20))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			resp, err := w.client(s).Get(site)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if got := sum(resp.Body); got != want {
				t.Error(got)
			}
		})
	}
	wg.Wait()
}

func TestEventsFlowAtOnce(t *testing.T) {
	next := make(chan string, 1)
	w := start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for e := range next {
			fmt.Fprintf(w, "data: %s\n\n", e)
			w.(http.Flusher).Flush()
		}
	})
	next <- "first"
	resp, err := w.client(w.hop(w.proxy)).Get(site)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for _, want := range []string{"first", "second", "third"} {
		if want != "first" {
			next <- want
		}
		if lines.Scan(); lines.Text() != "data: "+want {
			t.Errorf("%q", lines.Text())
		}
		lines.Scan()
	}
	close(next)
}

func TestInformationalAndBodilessResponses(t *testing.T) {
	w := start(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(204)
		case "/304":
			w.WriteHeader(304)
		default:
			io.Copy(w, r.Body)
		}
	})
	client := w.client(w.hop(w.proxy))
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "204", "", 204, ""},
		{"GET", "304", "", 304, ""},
		{"HEAD", "", "", 200, ""},
		{"PUT", "", "asked first", 200, "asked first"},
	} {
		req := must(http.NewRequest(c.method, site+c.path, strings.NewReader(c.body)))
		req.Header.Set("Expect", "100-continue")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.status || string(body) != c.want || err != nil {
			t.Errorf("%s %s: %d %q %v", c.method, c.path, resp.StatusCode, body, err)
		}
	}
}

func TestAHandlerMayHijackATunnel(t *testing.T) {
	w := start(t, func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		line, err := rw.ReadString('\n')
		if err != nil {
			t.Error(err)
		}
		io.WriteString(c, line)
	})
	c := w.tunnel(w.hop(w.proxy))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+name+"\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatal(resp, err)
	}
	io.WriteString(c, "hello\n")
	if got, err := io.ReadAll(r); string(got) != "hello\n" || err != nil {
		t.Errorf("%q %v", got, err)
	}
}

func TestAnAbortedResponseDoesNotLookComplete(t *testing.T) {
	w := start(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	resp, err := w.client(w.hop(w.proxy)).Get(site)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("%q without an error", got)
	}
}

// gateway serves an upstream through a gateway and a tunnel.
func gateway(t *testing.T, upstream http.HandlerFunc) (*world, *http.Client) {
	up := httptest.NewServer(upstream)
	t.Cleanup(up.Close)
	g := NewGateway(must(url.Parse(up.URL + "/base")))
	t.Cleanup(g.CloseIdleConnections)
	w := newWorld(t, g).serve(nil)
	return w, w.client(w.hop(w.proxy))
}

func TestGatewayForwardsAndSaysForWhom(t *testing.T) {
	_, client := gateway(t, func(w http.ResponseWriter, r *http.Request) {
		h := r.Header
		w.Header().Set("Trailer", "T")
		fmt.Fprint(w, r.Method, " ", r.URL.RequestURI(), " ", h.Get("X-Forwarded-Host"), " ", h.Get("X-Forwarded-Proto"), " ", h.Get("Accept-Encoding") == "", " ", h["X-Forwarded-For"])
		w.Header().Set("T", "trailer")
	})
	req := must(http.NewRequest("GET", site+"a?b=c", nil))
	req.Header.Set("X-Forwarded-For", "spoofed")
	req.Header.Set("Accept-Encoding", "")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if got := string(body); !strings.HasPrefix(got, "GET /base/a?b=c origin.example https true ") || strings.Contains(got, "spoofed") {
		t.Errorf("%s", got)
	}
	if resp.Trailer.Get("T") != "trailer" {
		t.Error("the trailer is lost")
	}
}

func TestGatewayFlushesWhatTheUpstreamFlushes(t *testing.T) {
	next := make(chan string, 1)
	_, client := gateway(t, func(w http.ResponseWriter, r *http.Request) {
		for e := range next {
			io.WriteString(w, e)
			w.(http.Flusher).Flush()
		}
	})
	next <- "first\n"
	resp, err := client.Get(site)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	r := bufio.NewReader(resp.Body)
	for _, want := range []string{"first\n", "second\n"} {
		if want == "second\n" {
			next <- want
		}
		if got, err := r.ReadString('\n'); got != want {
			t.Errorf("%q %v", got, err)
		}
	}
	close(next)
}

// A WebSocket passes a gateway for a client that nobody inspects, and what is meant for one hop does not.
func TestGatewayCarriesUpgradesAndDropsHopByHopFields(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "echo" || r.Header.Get("X-Hop") != "" || r.Header.Get("Proxy-Authorization") != "" {
			t.Errorf("the upstream got %v", r.Header)
		}
		conn, buf, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		buf.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		buf.Flush()
		io.Copy(conn, buf)
	}))
	defer upstream.Close()
	g := NewGateway(must(url.Parse(upstream.URL)))
	defer g.CloseIdleConnections()
	w := newWorld(t, g).serve(nil)
	c := must(w.dial([]string{"http/1.1"}))
	defer c.Close()
	io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: "+name+"\r\nConnection: upgrade, x-hop\r\nUpgrade: echo\r\nX-Hop: 1\r\nProxy-Authorization: Basic eA==\r\n\r\n")
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v %v", resp, err)
	}
	io.WriteString(c, "hello\n")
	if line, err := r.ReadString('\n'); line != "hello\n" {
		t.Errorf("%q %v", line, err)
	}
}

func TestGatewayAnswers502InOneLine(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close() // nobody listens there now
	w := newWorld(t, NewGateway(must(url.Parse("http://user:secret@"+addr)))).serve(nil)
	resp, body := get(t, w.client(w.hop(w.proxy)), site)
	if resp.StatusCode != 502 || strings.Count(body, "\n") != 1 {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	if log := w.log.String(); !strings.Contains(log, addr) || strings.Contains(log, "secret") {
		t.Errorf("log %q", log)
	}
}

// Who runs the origin learns of an upstream that breaks off: the client learns that from the cut alone.
func TestGatewayLogsAnUpstreamThatBreaksOff(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "the first part")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer upstream.Close()
	g := NewGateway(must(url.Parse(upstream.URL)))
	defer g.CloseIdleConnections()
	w := newWorld(t, g).serve(nil)
	resp, err := w.client(w.hop(w.proxy)).Get(site)
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("the response looks complete")
	}
	if log := w.log.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, upstream.URL+" broke off its response to GET /") {
		t.Errorf("log %q", log)
	}
}

// An upstream that answers an upload at once and closes is heard, though the connection is reset while its answer is
// read: it comes in two parts, with the reset behind them.
func TestGatewayPassesAnEarlyAnswerToAnUpload(t *testing.T) {
	ln := must(net.Listen("tcp", "127.0.0.1:0"))
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				io.WriteString(conn, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\n\r\ntoo")
				io.WriteString(conn, " large")
			}
			conn.Close() // with a reset, since there is more to read
		}
	}()
	g := NewGateway(must(url.Parse("http://" + ln.Addr().String())))
	defer g.CloseIdleConnections()
	for range 30 {
		w := httptest.NewRecorder()
		g.ServeHTTP(w, httptest.NewRequest(http.MethodPost, site, noise(8<<20)))
		if w.Code != http.StatusRequestEntityTooLarge || w.Body.String() != "too large" {
			t.Fatalf("%d %q", w.Code, w.Body)
		}
	}
}

// net/http closes the body of a request over HTTP/1.1 when the response begins, and an upstream may begin it before
// net/http has looked, for no use, whether there is more than the declared length.
func TestGatewayReadsNothingBehindTheEnd(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, sum(r.Body))
	}))
	defer upstream.Close()
	g := NewGateway(must(url.Parse(upstream.URL)))
	defer g.CloseIdleConnections()
	for range 20 {
		r := httptest.NewRequest(http.MethodPost, site, &closedAtItsEnd{content: noise(1 << 20), left: 1 << 20})
		r.ContentLength = 1 << 20
		w := httptest.NewRecorder()
		g.ServeHTTP(w, r)
		if want := sum(noise(1 << 20)); w.Code != http.StatusOK || w.Body.String() != want {
			t.Fatalf("%d %q", w.Code, w.Body)
		}
	}
}

// closedAtItsEnd is a body that is closed by the time that it is read behind its end.
type closedAtItsEnd struct {
	content io.Reader
	left    int
}

func (b *closedAtItsEnd) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.content.Read(p)
	if b.left -= n; b.left == 0 {
		err = io.EOF
	}
	return n, err
}

func TestGatewayPassesBytesAsTheyAre(t *testing.T) {
	var coded bytes.Buffer
	coded.WriteString("\x1f\x8bnot really gzip")
	_, client := gateway(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(coded.Bytes())
	})
	req := must(http.NewRequest("GET", site, nil))
	req.Header.Set("Accept-Encoding", "gzip")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); !bytes.Equal(got, coded.Bytes()) {
		t.Errorf("%q %v", got, err)
	}
}
