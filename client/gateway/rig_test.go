package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"vitrine/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A rig is a Gateway whose Transport is a handler: what it is asked for over https is answered at level intact.
type rig struct {
	*testing.T
	g     *Gateway
	proxy string // the address of Serve
	log   *lockedBuffer

	mu    sync.Mutex
	asked []*http.Request
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

type fetchFunc func(*http.Request) (*http.Response, error)

func (f fetchFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(h http.HandlerFunc) fetchFunc {
	return func(r *http.Request) (*http.Response, error) {
		rec := httptest.NewRecorder()
		h(rec, r)
		resp := rec.Result()
		resp.Request = r
		return resp, nil
	}
}

func newRig(t *testing.T, fetch fetchFunc, set func(g *Gateway)) *rig {
	t.Helper()
	r := &rig{T: t, log: &lockedBuffer{}}
	r.g = &Gateway{Hosts: patterns(t, "shop.example", "*.wide.example:8443"), Log: slog.New(slog.NewTextHandler(r.log, nil))}
	r.g.up = upstream{
		fetch: fetchFunc(func(req *http.Request) (*http.Response, error) {
			r.mu.Lock()
			r.asked = append(r.asked, req)
			r.mu.Unlock()
			return fetch(req)
		}),
		levelOf: func(*http.Response) client.Level { return client.Intact },
		carry:   func(context.Context, string) (tunnel, error) { return nil, errors.New("no tunnels here") },
	}
	if set != nil {
		set(r.g)
	}
	r.proxy = r.serve(r.g.Serve)
	t.Cleanup(func() {
		if err := r.g.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// serve runs a listener until the Gateway is closed.
func (r *rig) serve(serve func(net.Listener) error) string {
	r.Helper()
	ln := loopback(r.T)
	done := make(chan error, 1)
	go func() { done <- serve(ln) }()
	r.Cleanup(func() {
		r.g.Close()
		if err := <-done; !errors.Is(err, ErrClosed) {
			r.Error(err)
		}
	})
	return ln.Addr().String()
}

func loopback(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func patterns(t *testing.T, names ...string) (list []Pattern) {
	t.Helper()
	for _, s := range names {
		p, err := ParsePattern(s)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

// ask writes a head and what follows, and reads the response with its body.
func (r *rig) ask(addr, request string) (*http.Response, string) {
	r.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		r.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, strings.ReplaceAll(request, "\n", "\r\n"))
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		r.Fatalf("%q: %v", request, err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		body = append(body, " ("+err.Error()+")"...)
	}
	return resp, string(body)
}

// took is what the Transport was asked for, once.
func (r *rig) took() *http.Request {
	r.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.asked) != 1 {
		r.Fatalf("the Transport was asked %d times", len(r.asked))
	}
	req := r.asked[0]
	r.asked = nil
	return req
}

func (r *rig) untouched() {
	r.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.asked) != 0 {
		r.Errorf("the Transport was asked for %s", r.asked[0].URL)
	}
}
