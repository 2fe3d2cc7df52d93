package h1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"vitrine/internal/hop"
	"vitrine/internal/hop/raw/pipe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bucket is a Sink that keeps what arrives.
type bucket struct {
	data bytes.Buffer
	end  chan error
}

func newBucket() *bucket { return &bucket{end: make(chan error, 1)} }

func (b *bucket) Data(p *hop.Buffer) { b.data.Write(p.Bytes()); p.Release() }
func (b *bucket) Writable()          {}
func (b *bucket) End(err error)      { b.end <- err }

func buffer(s string) *hop.Buffer {
	b := hop.NewBuffer()
	b.Append([]byte(s))
	return b
}

func TestConnectBecomesATunnelAndKeepsEarlyData(t *testing.T) {
	client, server := pipe.New()
	s := newSession(server, nil)
	io.WriteString(client, "CONNECT origin.example:443 HTTP/1.1\r\nHost: origin.example:443\r\nX-A: b\r\n\r\nearly ")
	in, err := s.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	req := in.Request()
	if req.Method != "CONNECT" || req.Protocol != "" || req.Authority != "origin.example:443" || req.Header.Get("X-A") != "b" {
		t.Errorf("request %+v", req)
	}
	st, err := in.Accept(&hop.Response{Status: 200, Header: http.Header{"Via": {"1.1 proxy"}, "Content-Length": {"3"}}})
	if err != nil {
		t.Fatal(err)
	}
	b := newBucket()
	st.Start(b)
	io.WriteString(client, "late")
	if err := st.Send(buffer("answer")); err != nil {
		t.Fatal(err)
	}
	st.CloseSend()
	client.CloseWrite()
	if err := <-b.end; err != io.EOF {
		t.Errorf("end %v", err)
	}
	if got := b.data.String(); got != "early late" {
		t.Errorf("arrived %q", got)
	}
	got, err := io.ReadAll(client)
	if want := "HTTP/1.1 200 OK\r\nVia: 1.1 proxy\r\n\r\nanswer"; string(got) != want || err != nil {
		t.Errorf("client got %q, %v", got, err)
	}
	<-s.Done()
	if !errors.Is(s.Err(), net.ErrClosed) {
		t.Errorf("session error %v", s.Err())
	}
	if _, err := s.Accept(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second accept: %v", err)
	}
	client.Close()
}

func TestARefusalIsReadableAndFinal(t *testing.T) {
	for _, c := range []struct {
		name, request string
		resp          hop.Response
		body          string
	}{
		{"connect", "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n", hop.Response{Status: 470, Header: http.Header{"Inspection-Options": {"intact"}}, Body: []byte("no\n")}, "no\n"},
		{"get", "GET /x?y HTTP/1.1\r\nHost: proxy.example\r\n\r\n", hop.Response{Status: 421, Body: []byte("not here\n")}, "not here\n"},
		{"head", "HEAD / HTTP/1.1\r\nHost: proxy.example\r\n\r\n", hop.Response{Status: 421, Body: []byte("not here\n")}, ""},
		{"a body that nobody reads", "POST / HTTP/1.1\r\nHost: p\r\nContent-Length: 300000\r\n\r\n" + strings.Repeat("x", 300000), hop.Response{Status: 421, Body: []byte("no\n")}, "no\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, server := pipe.New()
			s := newSession(server, nil)
			wrote := make(chan struct{})
			go func() { defer close(wrote); io.WriteString(client, c.request) }()
			in, err := s.Accept(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := in.Reject(&c.resp); err != nil {
				t.Fatal(err)
			}
			if err := in.Reject(&c.resp); err == nil {
				t.Error("answered twice")
			}
			if _, err := in.Accept(&hop.Response{Status: 200}); err == nil {
				t.Error("accepted behind a refusal")
			}
			resp, err := http.ReadResponse(bufio.NewReader(client), &http.Request{Method: in.Request().Method})
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || string(body) != c.body || resp.StatusCode != c.resp.Status || !resp.Close {
				t.Errorf("%d %q %v close=%v", resp.StatusCode, body, err, resp.Close)
			}
			<-wrote
			client.Close()
			<-s.Done()
		})
	}
}

func TestOtherRequestsKeepMethodAndTarget(t *testing.T) {
	for target, want := range map[string]string{
		"/a/b?c=d":           "proxy.example /a/b?c=d",
		"http://o.example/x": "o.example /x",
	} {
		req, _, err := readRequest(strings.NewReader("GET "+target+" HTTP/1.1\r\nHost: proxy.example\r\n\r\n"), 4096, 10)
		if err != nil {
			t.Fatal(err)
		}
		if got := req.Authority + " " + req.Path; got != want || req.Method != "GET" {
			t.Errorf("%s: %s %s", target, req.Method, got)
		}
	}
}

var malformed = []struct {
	name, header string
	status       int
}{
	{"bare LF", "CONNECT a:1 HTTP/1.1\nHost: a:1\n\n", 400},
	{"bare LF at the end", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\n\r\n", 400},
	{"bare CR", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\rX: y\r\n\r\n", 400},
	{"NUL", "CONNECT a:1 HTTP/1.1\r\nHost: a\x00:1\r\n\r\n", 400},
	{"obs-fold", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nX: y\r\n z\r\n\r\n", 400},
	{"space before the colon", "CONNECT a:1 HTTP/1.1\r\nHost : a:1\r\n\r\n", 400},
	{"no colon", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nX\r\n\r\n", 400},
	{"no Host", "CONNECT a:1 HTTP/1.1\r\n\r\n", 400},
	{"two Hosts", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nhost: b:1\r\n\r\n", 400},
	{"a space in Host", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
	{"user information in Host", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400},
	{"two spaces", "CONNECT  a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 400},
	{"a tab", "CONNECT\ta:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 400},
	{"empty line first", "\r\nCONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 400},
	{"HTTP/1.0", "CONNECT a:1 HTTP/1.0\r\nHost: a:1\r\n\r\n", 505},
	{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
	{"no port", "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"port 0", "CONNECT a:0 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"port 65536", "CONNECT a:65536 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"no host in the target", "CONNECT :443 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"user information", "CONNECT u@a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"CONNECT to a path", "CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"CONNECT with content", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 1\r\n\r\nx", 400},
	{"CONNECT with chunks", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
	{"length and chunks", "POST / HTTP/1.1\r\nHost: a:1\r\nTransfer-Encoding: gzip\r\nContent-Length: 3\r\n\r\n", 400},
	{"two lengths", "POST / HTTP/1.1\r\nHost: a:1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", 400},
	{"a length of nothing, twice", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 0\r\nContent-Length: 1\r\n\r\n", 400},
	{"a control character in a value", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nX: y\x01\r\n\r\n", 400},
	{"DEL in a value", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nX: y\x7f\r\n\r\n", 400},
	{"absolute form", "CONNECT https://a:1/ HTTP/1.1\r\nHost: a:1\r\n\r\n", 400},
	{"a signed port", "CONNECT a:+1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 400},
	{"a zone", "CONNECT [fe80::1%25eth0]:/1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 400},
	{"chunks unlike others", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nTransfer-Encoding: xchunked\r\n\r\n", 400},
	{"too large", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nX: " + strings.Repeat("y", 70<<10) + "\r\n\r\n", 431},
	{"too many fields", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n" + strings.Repeat("X: y\r\n", 200) + "\r\n", 431},
}

func TestMalformedHeadersAreRefused(t *testing.T) {
	for _, c := range malformed {
		t.Run(c.name, func(t *testing.T) {
			client, server := pipe.New()
			s := newSession(server, nil)
			wrote := make(chan struct{})
			go func() { defer close(wrote); io.WriteString(client, c.header) }()
			resp, err := http.ReadResponse(bufio.NewReader(client), nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != c.status {
				t.Errorf("status %d", resp.StatusCode)
			}
			client.Close()
			<-wrote
			if _, err := s.Accept(t.Context()); err == nil {
				t.Error("the request was handed on")
			}
			<-s.Done()
		})
	}
}

func TestASilentClientIsCutOff(t *testing.T) {
	for _, sent := range []string{"", "CONNECT a:1 HTTP/1.1\r\n"} {
		synctest.Test(t, func(t *testing.T) {
			client, server := pipe.New()
			defer client.Close()
			start := time.Now()
			s := newSession(server, nil)
			io.WriteString(client, sent)
			if _, err := s.Accept(context.Background()); err == nil {
				t.Error("accepted")
			}
			<-s.Done()
			if d := time.Since(start); d != 10*time.Second {
				t.Errorf("after %v", d)
			}
		})
	}
}

func TestARefusalDoesNotWaitForeverForItsReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pipe.New()
		defer client.Close()
		s := newSession(server, nil)
		io.WriteString(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		in, err := s.Accept(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		in.Reject(&hop.Response{Status: 404, Body: bytes.Repeat([]byte("x"), 1<<20)})
		<-s.Done()
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("after %v", d)
		}
	})
}

func TestAClientThatGivesUpEndsTheContext(t *testing.T) {
	client, server := pipe.New()
	s := newSession(server, nil)
	io.WriteString(client, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
	in, err := s.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client.Close()
	<-in.Context().Done()
	in.Refuse(hop.Cancel)
	<-s.Done()
}

func TestKillCutsTheConnectionWithoutAnEnd(t *testing.T) {
	client, server := pipe.New()
	s := newSession(server, nil)
	io.WriteString(client, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
	in, err := s.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	st, err := in.Accept(&hop.Response{Status: 200})
	if err != nil {
		t.Fatal(err)
	}
	b := newBucket()
	st.Start(b)
	st.Kill([]byte("verdict"))
	var re *hop.ResetError
	if err := <-b.end; !errors.As(err, &re) || re.Code != hop.Killed || re.Remote {
		t.Errorf("end %v", err)
	}
	if _, err := io.ReadAll(client); !errors.Is(err, pipe.ErrReset) {
		t.Errorf("the client sees %v", err)
	}
	<-s.Done()
	client.Close()
}

func TestDrainEndsAnUnusedSessionAndWaitsForAUsedOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c1, server := pipe.New()
		s := newSession(server, nil)
		if err := s.Drain(context.Background()); err != nil {
			t.Error(err)
		}
		<-s.Done()
		c1.Close()

		c2, server := pipe.New()
		s = newSession(server, nil)
		io.WriteString(c2, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
		in, _ := s.Accept(context.Background())
		st, _ := in.Accept(&hop.Response{Status: 200})
		b := newBucket()
		st.Start(b)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		start := time.Now()
		if err := s.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("drain %v after %v", err, time.Since(start))
		}
		<-b.end
		<-s.Done()
		c2.Close()
	})
}

func FuzzReadRequest(f *testing.F) {
	for _, c := range malformed {
		f.Add([]byte(c.header))
	}
	f.Add([]byte("CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: x\r\n\r\nrest"))
	f.Fuzz(func(t *testing.T, p []byte) {
		req, early, err := readRequest(bytes.NewReader(p), 4096, 20)
		if err != nil {
			return
		}
		head := p[:len(p)-len(early)]
		if !bytes.HasSuffix(head, []byte("\r\n\r\n")) || !bytes.HasSuffix(p, early) {
			t.Fatalf("the header ends at %q", head)
		}
		if len(head) > 4096 || bytes.Contains(bytes.ReplaceAll(head, []byte("\r\n"), nil), []byte("\n")) {
			t.Fatal("a header that should have been refused")
		}
		if req.Method == "CONNECT" {
			if _, _, err := net.SplitHostPort(req.Authority); err != nil {
				t.Fatal(err)
			}
		}
	})
}
