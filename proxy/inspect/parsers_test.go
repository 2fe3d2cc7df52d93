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
	"strings"
	"testing"
	"time"
)

// mutations is how many messages each of the tests here tries.
const mutations = 4000

// pieces are what smuggled messages are made of.
func pieces() []string {
	return []string{
		"\r\n", "\n", "\r", "\r\n\r\n", " ", "\t", ":", ",", ";", "\x00", "\x0b", "\x7f", "\x85", "\xff",
		"0\r\n\r\n", "0\r\n", "5\r\nhello\r\n", "00000005", "5;a=b", "+5", "0x5", "05", "5 ", "ffffffff", "100000000", "fffffffffffffffff",
		"Content-Length: 5\r\n", "Content-Length: 0\r\n", "content-length:5\r\n", "Content_Length: 3\r\n",
		"Transfer-Encoding: chunked\r\n", "Transfer-Encoding: identity\r\n", "transfer-encoding:\tchunked \r\n", "Transfer-Encoding: xchunked\r\n", "Transfer_Encoding: chunked\r\n",
		"Host: origin.example\r\n", "Host: other.example\r\n", "Expect: 100-continue\r\n", "Expect: x\r\n", "Upgrade: websocket\r\n",
		"Connection: close\r\n", "Connection: keep-alive\r\n", "Connection: close, foo\r\n", "Connection: \"close\"\r\n", "Connection: ,close\r\n",
		"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
		"Trailer: X\r\n", "Trailer: Content-Length\r\n", "X: y\r\n", "X: y\r\n z\r\n", " X: y\r\n", "Content-Type: multipart/byteranges\r\n",
		"HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "http/1.1", "GET", "HEAD", "POST", "OPTIONS", "PRI", "TRACE",
		"*", "/", "//x/y", "https://origin.example/", "http://origin.example/", "https://origin.example", "/a?b#c", "/%zz", "/%41", "/[x]",
		get, "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 E\r\n\r\n", "HTTP/1.1 200 OK\r\n", "101", "199", "200", "204", "205", "304", "999", "099",
	}
}

// mutate puts pieces into s, cuts from it, and changes bytes, in the half of all cases where lines begin.
func mutate(r *rand.Rand, pieces []string, s string) string {
	for range r.IntN(4) {
		at := r.IntN(len(s) + 1)
		if lines := strings.SplitAfter(s, "\n"); r.IntN(2) == 0 {
			at = len(strings.Join(lines[:r.IntN(len(lines))], ""))
		}
		piece := pieces[r.IntN(len(pieces))]
		switch r.IntN(5) {
		case 0, 1:
			s = s[:at] + piece + s[at:]
		case 2:
			s = s[:at] + s[min(len(s), at+r.IntN(12)):]
		case 3:
			s = s[:at] + piece + s[min(len(s), at+len(piece)):]
		default:
			if at < len(s) {
				s = s[:at] + string([]byte{byte(r.IntN(256))}) + s[at+1:]
			}
		}
	}
	return s
}

// script is a connection whose peer sends in and then ends it.
type script struct {
	in  io.Reader
	out bytes.Buffer
	end chan struct{}
}

func (s *script) Read(p []byte) (int, error)       { return s.in.Read(p) }
func (s *script) Write(p []byte) (int, error)      { return s.out.Write(p) }
func (s *script) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

func (s *script) Close() error {
	select {
	case <-s.end:
	default:
		close(s.end)
	}
	return nil
}

// scripts is a listener for them.
type scripts struct{ conns chan net.Conn }

func (l *scripts) Accept() (net.Conn, error) {
	if c, ok := <-l.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (l *scripts) Close() error   { return nil }
func (l *scripts) Addr() net.Addr { return &net.TCPAddr{} }

// A message as net/http's server or client read it.
type readMessage struct {
	start  string
	body   string
	err    error
	header http.Header
	// trailer has keys without values for what was announced and did not come.
	trailer http.Header
}

func (m *readMessage) compare(t *testing.T, in, start string, ours *messageSeen) {
	t.Helper()
	if m.err != nil || m.start != start || m.body != string(ours.body) {
		t.Fatalf("%q: net/http reads %s %q, %v; shown were %s %q", in, m.start, m.body, m.err, start, ours.body)
	}
	theirs, shown := m.header.Clone(), ours.head.Header.Clone()
	for _, h := range []http.Header{theirs, shown} {
		h.Del("Connection") // which a Transport may take out
	}
	sameHeader(t, theirs, shown)
	trailer := m.trailer.Clone()
	for k, v := range trailer {
		if len(v) == 0 {
			delete(trailer, k)
		}
	}
	if len(trailer)+len(ours.trailer) > 0 && fmt.Sprint(trailer) != fmt.Sprint(ours.trailer) {
		t.Fatalf("%q: net/http reads the trailer %v, shown was %v", in, trailer, ours.trailer)
	}
}

// Whatever mutants of requests pass, an http.Server, given the same bytes, hands its handler one request,
// the one that was shown, answers once and finds no byte that it takes for another.
//
// spec: RDR-13
func TestServersReadTheRequestThatWasShown(t *testing.T) {
	var got []*readMessage
	listener := &scripts{conns: make(chan net.Conn)}
	server := &http.Server{
		ErrorLog: log.New(io.Discard, "", 0), DisableGeneralOptionsHandler: true,
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			start := fmt.Sprint(r.Method, " ", r.RequestURI, " ", r.ContentLength)
			got = append(got, &readMessage{start, string(body), err, r.Header, r.Trailer})
		}),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		close(listener.conns)
		<-served
	}()
	seeds := []string{
		get, post("Content-Length: 5\r\n", "hello"), post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
		post("Transfer-Encoding: chunked\r\nTrailer: X\r\n", "5\r\nhello\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n"),
		"HEAD / HTTP/1.1\r\nHost: origin.example\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: origin.example\r\n\r\n",
		"GET https://origin.example/x?y HTTP/1.1\r\nHost: origin.example:443\r\nConnection: close\r\n\r\n",
		"POST / HTTP/1.0\r\nHost: origin.example\r\nContent-Length: 5\r\n\r\nhello",
		"GET / HTTP/1.0\r\nHost: origin.example\r\nConnection: keep-alive\r\n\r\n",
		post("Expect: 100-continue\r\nContent-Length: 5\r\n", "hello"),
	}
	r, pieces, passed := rand.New(rand.NewPCG(11, 2)), pieces(), 0
	for range mutations {
		in := mutate(r, pieces, seeds[r.IntN(len(seeds))])
		watch := new(watcher)
		cfg := config()
		cfg.Inspectors = judges(watch)
		run, w := connected(t, cfg, nil)
		err := run.all(t, c(w.app(in)))
		whole := err == nil && len(watch.seen) == 1 && run.released == run.fed && watch.seen[0].msgs[toOrigin][0].end
		run.tun.Close(err)
		if !whole {
			continue
		}
		passed++
		got = nil
		conn := &script{in: strings.NewReader(in), end: make(chan struct{})}
		listener.conns <- conn
		<-conn.end
		out := strings.ReplaceAll(conn.out.String(), "HTTP/1.1 100 Continue\r\n\r\n", "")
		if len(got) != 1 || strings.Count(out, "HTTP/1.") != 1 {
			t.Fatalf("%q: %d requests, answers %q", in, len(got), out)
		}
		ours := watch.seen[0].msgs[toOrigin][0]
		line, _, _ := strings.Cut(in, "\r\n")
		target := strings.Split(line, " ")[1]
		if path := strings.TrimPrefix(target, "https://"); path != target && !strings.HasSuffix(target, strings.TrimSuffix(ours.head.Path+"?"+ours.head.Query, "?")) {
			t.Fatalf("%q: shown were %q and %q", in, ours.head.Path, ours.head.Query)
		}
		got[0].compare(t, in, fmt.Sprint(ours.head.Method, " ", target, " ", ours.head.Size), ours)
	}
	if passed < mutations/8 {
		t.Fatalf("only %d of %d requests passed", passed, mutations)
	}
}

// Whatever mutants of responses pass, an http.Transport that asked for them reads as they were shown.
//
// spec: RDR-13
func TestClientsReadTheResponseThatWasShown(t *testing.T) {
	chunked := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
	seeds := []string{
		ok5, chunked + "\r\n5\r\nhello\r\n0\r\n\r\n", chunked + "Trailer: X\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
		"HTTP/1.1 204 No\r\n\r\n", "HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 205 R\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 103 E\r\nLink: x\r\n\r\n" + ok5, "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\n\r\nHTTP/1.1 204 N\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.0 200 OK\r\n\r\nhello", "HTTP/1.1 200 OK\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n",
	}
	r, pieces, passed := rand.New(rand.NewPCG(12, 3)), pieces(), 0
	for range mutations {
		in := mutate(r, pieces, seeds[r.IntN(len(seeds))])
		method := []string{http.MethodGet, http.MethodHead, http.MethodPost}[r.IntN(3)]
		watch := new(watcher)
		cfg := config()
		cfg.Inspectors = judges(watch)
		run, w := connected(t, cfg, nil)
		run.passes(t, c(w.app(method+" / HTTP/1.1\r\nHost: origin.example\r\nContent-Length: 0\r\n\r\n")))
		err := run.all(t, o(w.app(in)), o(w.closeNotify()), originEnds())
		run.tun.Close(err)
		msgs := watch.seen[0].msgs[toClient]
		if err != nil || run.released != run.fed || len(msgs) == 0 || !msgs[len(msgs)-1].end {
			continue
		}
		passed++
		ours := msgs[len(msgs)-1]
		got := fetched(t, method, in)
		got.compare(t, in, fmt.Sprint(ours.head.Status), ours)
	}
	if passed < mutations/8 {
		t.Fatalf("only %d of %d responses passed", passed, mutations)
	}
}

// fetched is what a Transport reads when the answer is in, which the connection's end follows.
func fetched(t *testing.T, method, in string) *readMessage {
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		if _, err := http.ReadRequest(bufio.NewReader(far)); err == nil {
			_, _ = io.WriteString(far, in) // a client that has read enough goes away
		}
	}()
	conns := make(chan net.Conn, 1)
	conns <- near
	tr := &http.Transport{DisableCompression: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		select {
		case c := <-conns:
			return c, nil
		default:
			return nil, errors.New("a second connection")
		}
	}}
	defer func() {
		tr.CloseIdleConnections()
		near.Close()
		<-done
	}()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://origin.example/", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := tr.RoundTrip(req)
	if err != nil {
		return &readMessage{err: err}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return &readMessage{fmt.Sprint(res.StatusCode), string(body), err, res.Header, res.Trailer}
}
