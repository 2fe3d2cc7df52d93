package inspect

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

var dict = []string{
	"\r\n", "\n", "\r", "\r\n\r\n", " ", "\t", ":", ",", ";", "0\r\n\r\n", "0\r\n", "5\r\nhello\r\n", "Content-Length: 5\r\n", "Content-Length: 0\r\n",
	"content-length:5\r\n", "Transfer-Encoding: chunked\r\n", "Transfer-Encoding: identity\r\n", "transfer-encoding:\tchunked \r\n", "Transfer-Encoding: xchunked\r\n",
	"Transfer_Encoding: chunked\r\n", "Content_Length: 3\r\n", "Host: origin.example\r\n", "Host: evil\r\n", "Connection: close\r\n", "Connection: keep-alive\r\n", "Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
	"Connection: close, foo\r\n", "Connection: \"close\"\r\n", "Connection: ,close\r\n", "Expect: 100-continue\r\n", "Expect: 100-Continue\r\n", "Expect: x\r\n", "Trailer: X\r\n", "Trailer: Content-Length\r\n", "X: y\r\n", "X: y\r\n z\r\n", " X: y\r\n",
	"HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "http/1.1", "GET", "HEAD", "POST", "OPTIONS", "PRI", "TRACE", "DELETE", "*", "/", "//x/y", "https://origin.example/", "http://origin.example/", "https://origin.example", "/a?b#c", "/%zz", "/%41", "/a b", "/[x]", "/|",
	"GET / HTTP/1.1\r\nHost: origin.example\r\n\r\n", "\x00", "\x0b", "\x0c", "\x85", "\xa0", "\x7f", "\xff", "00000005", "5;a=b", "+5", "0x5", "05", "5 ", " 5", "ffffffff", "100000000", "fffffffffffffffff", "Pragma: no-cache\r\n", "Upgrade: websocket\r\n",
	"HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 E\r\n\r\n", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 204 N\r\n", "HTTP/1.1 304 N\r\n", "HTTP/1.1 205 N\r\n", "101", "199", "200", "204", "205", "304", "999", "099", "Content-Type: multipart/byteranges\r\n", "Content-Encoding: gzip\r\n", "Keep-Alive: x\r\n",
}

var reqSeeds = []string{
	get, post("Content-Length: 5\r\n", "hello"), post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
	post("Transfer-Encoding: chunked\r\nTrailer: X\r\n", "5\r\nhello\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n"),
	"HEAD / HTTP/1.1\r\nHost: origin.example\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: origin.example\r\n\r\n",
	"GET https://origin.example/x?y HTTP/1.1\r\nHost: origin.example:443\r\nConnection: close\r\n\r\n",
	"POST / HTTP/1.0\r\nHost: origin.example\r\nContent-Length: 5\r\n\r\nhello",
	post("Expect: 100-continue\r\nContent-Length: 5\r\n", "hello"),
	"GET / HTTP/1.0\r\nHost: origin.example\r\nConnection: keep-alive\r\n\r\n",
}
var resSeeds = []string{
	ok5, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "HTTP/1.1 204 No\r\n\r\n", "HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
	"HTTP/1.1 103 E\r\nLink: x\r\n\r\n" + ok5, "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\n\r\nHTTP/1.1 204 N\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 205 R\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 200 OK\r\n\r\nhello", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
	"HTTP/1.0 200 OK\r\n\r\nhello", "HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n",
}

func mutate(r *rand.Rand, s string) string {
	for range r.IntN(4) {
		at := r.IntN(len(s) + 1)
		// prefer line boundaries
		if r.IntN(2) == 0 {
			var ends []int
			for i := 0; i+1 < len(s); i++ {
				if s[i] == '\n' {
					ends = append(ends, i+1)
				}
			}
			if len(ends) > 0 {
				at = ends[r.IntN(len(ends))]
			}
		}
		d := dict[r.IntN(len(dict))]
		switch r.IntN(5) {
		case 0, 1:
			s = s[:at] + d + s[at:]
		case 2:
			end := min(len(s), at+r.IntN(12))
			s = s[:at] + s[end:]
		case 3:
			end := min(len(s), at+len(d))
			s = s[:at] + d + s[end:]
		case 4:
			if at < len(s) {
				b := []byte(s)
				b[at] = byte(r.IntN(256))
				s = string(b)
			}
		}
	}
	return s
}

type pipeListener struct{ c chan net.Conn }

func (l *pipeListener) Accept() (net.Conn, error) {
	c, ok := <-l.c
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (l *pipeListener) Close() error   { return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// bufConn: reads from a fixed reader then EOF; writes gathered.
type bufConn struct {
	r    io.Reader
	mu   sync.Mutex
	w    bytes.Buffer
	once sync.Once
	done chan struct{}
}

func (b *bufConn) Read(p []byte) (int, error) { return b.r.Read(p) }
func (b *bufConn) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.w.Write(p)
}
func (b *bufConn) Close() error                     { b.once.Do(func() { close(b.done) }); return nil }
func (b *bufConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (b *bufConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (b *bufConn) SetDeadline(time.Time) error      { return nil }
func (b *bufConn) SetReadDeadline(time.Time) error  { return nil }
func (b *bufConn) SetWriteDeadline(time.Time) error { return nil }

func iters() int {
	n, _ := strconv.Atoi(os.Getenv("DIFF"))
	return n
}

func TestZZRequests(t *testing.T) {
	if iters() == 0 {
		t.Skip()
	}
	type got struct {
		method, uri, host, body string
		err                     error
		header, trailer         http.Header
		cl                      int64
	}
	var reqs []got
	var mu sync.Mutex
	l := &pipeListener{c: make(chan net.Conn)}
	srv := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		mu.Lock()
		reqs = append(reqs, got{r.Method, r.RequestURI, r.Host, string(b), err, r.Header, r.Trailer, r.ContentLength})
		mu.Unlock()
	}), DisableGeneralOptionsHandler: true}
	go srv.Serve(l)
	defer close(l.c)
	seed, _ := strconv.ParseUint(os.Getenv("SEED"), 10, 64)
	rng := rand.New(rand.NewPCG(seed, 2))
	pass, refused := 0, 0
	for i := range iters() {
		s := mutate(rng, reqSeeds[rng.IntN(len(reqSeeds))])
		if s == "" {
			continue
		}
		watch := new(watcher)
		cfg := config()
		cfg.Inspectors = []Inspector{watch}
		r, w := connected(t, cfg, nil)
		err := r.all(t, c(w.app(s)))
		if err != nil || r.released != r.fed || len(watch.seen) != 1 || !watch.seen[0].msgs[0][0].end {
			r.tun.Close(nil)
			continue
		}
		m := watch.seen[0].msgs[0][0]
		r.tun.Close(nil)
		pass++
		reqs = nil
		bc := &bufConn{r: strings.NewReader(s), done: make(chan struct{})}
		l.c <- bc
		<-bc.done
		mu.Lock()
		rr := reqs
		mu.Unlock()
		bc.mu.Lock()
		out := bc.w.String()
		bc.mu.Unlock()
		if len(rr) == 0 {
			refused++
			if rng.IntN(50) == 0 || refused < 10 {
				line, _, _ := strings.Cut(out, "\r\n")
				t.Logf("refused %q: %q", s, line)
			}
			continue
		}
		if len(rr) != 1 || strings.Count(strings.ReplaceAll(out, "HTTP/1.1 100 Continue\r\n\r\n", ""), "HTTP/1.") != 1 {
			t.Errorf("%d %q: %d requests, out %q", i, s, len(rr), out)
			continue
		}
		g := rr[0]
		uri := m.head.Path
		if m.head.Query != "" {
			uri += "?" + m.head.Query
		}
		if g.err != nil || g.method != m.head.Method || g.body != string(m.body) || !strings.HasSuffix(strings.TrimSuffix(g.uri, "?"), uri) || g.cl != m.head.Size {
			t.Errorf("%d %q: server %+v ours %+v %q", i, s, g, m.head, m.body)
		}
		a, b := g.header.Clone(), m.head.Header.Clone()
		for _, k := range []string{"Transfer-Encoding", "Trailer", "Cache-Control", "Host", "Content-Length", "Connection"} {
			a.Del(k)
			b.Del(k)
		}
		if fmt.Sprint(a) != fmt.Sprint(b) {
			t.Errorf("%d %q: header %v ours %v", i, s, a, b)
		}
		if fmt.Sprint(g.trailer) != fmt.Sprint(m.trailer) && len(m.trailer)+len(g.trailer) > 0 {
			t.Errorf("%d %q: trailer %v ours %v", i, s, g.trailer, m.trailer)
		}
	}
	t.Logf("%d passed, %d refused by server", pass, refused)
}

func TestZZResponses(t *testing.T) {
	if iters() == 0 {
		t.Skip()
	}
	seed, _ := strconv.ParseUint(os.Getenv("SEED"), 10, 64)
	rng := rand.New(rand.NewPCG(seed, 3))
	pass, refused := 0, 0
	for i := range iters() {
		s := mutate(rng, resSeeds[rng.IntN(len(resSeeds))])
		if s == "" {
			continue
		}
		method := []string{"GET", "HEAD", "POST"}[rng.IntN(3)]
		watch := new(watcher)
		cfg := config()
		cfg.Inspectors = []Inspector{watch}
		r, w := connected(t, cfg, nil)
		if err := r.all(t, c(w.app(method+" / HTTP/1.1\r\nHost: origin.example\r\nContent-Length: 0\r\n\r\n"))); err != nil {
			t.Fatal(err)
		}
		err := r.all(t, o(w.app(s)), o(w.closeNotify()), originEnds())
		e := watch.seen[0]
		if err != nil || r.released != r.fed || len(e.msgs[1]) == 0 || !e.msgs[1][len(e.msgs[1])-1].end {
			r.tun.Close(nil)
			continue
		}
		m := e.msgs[1][len(e.msgs[1])-1]
		r.tun.Close(nil)
		pass++
		used := false
		tr := &http.Transport{DisableCompression: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			if used {
				return nil, errors.New("second dial")
			}
			used = true
			a, b := net.Pipe()
			go func() {
				http.ReadRequest(bufio.NewReader(b))
				io.WriteString(b, s)
				b.Close()
			}()
			return a, nil
		}}
		req, _ := http.NewRequest(method, "http://origin.example/", nil)
		res, err := tr.RoundTrip(req)
		if err != nil {
			refused++
			if refused < 10 {
				t.Logf("refused %q: %v", s, err)
			}
			tr.CloseIdleConnections()
			continue
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != m.head.Status || string(body) != string(m.body) {
			t.Errorf("%d %s %q: client %d %q %v, ours %d %q", i, method, s, res.StatusCode, body, err, m.head.Status, m.body)
		}
		a, b := res.Header.Clone(), m.head.Header.Clone()
		for _, k := range []string{"Transfer-Encoding", "Trailer", "Cache-Control", "Host", "Content-Length", "Connection"} {
			a.Del(k)
			b.Del(k)
		}
		if fmt.Sprint(a) != fmt.Sprint(b) {
			t.Errorf("%d %q: header %v ours %v", i, s, a, b)
		}
		if false && fmt.Sprint(res.Trailer) != fmt.Sprint(m.trailer) {
			t.Logf("%d %q: trailer %v ours %v", i, s, res.Trailer, m.trailer)
		}
		tr.CloseIdleConnections()
	}
	t.Logf("%d passed, %d refused by client", pass, refused)
}
