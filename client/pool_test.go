package client

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/internal/hop"
	"vitrine/internal/hop/raw/pipe"
)

// What an origin says behind a response, whoever made it do so, must not answer the next request, not even
// when that begins before net/http has looked.
func TestBytesThatNobodyAskedForAnswerNothing(t *testing.T) {
	logged := log.Writer() // where net/http complains
	log.SetOutput(io.Discard)
	defer log.SetOutput(logged)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.handler = rawResponse("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\noneHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
		tr := w.transport(nil)
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://origin.example/", nil)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		look := make(chan struct{})
		for c := range tr.pool.all {
			c.cc.SetStateHook(func(cc *http.ClientConn) { // which net/http's reader calls
				c.stateChanged(cc)
				<-look
			})
		}
		var wg sync.WaitGroup
		wg.Go(func() { io.Copy(io.Discard, resp.Body) })
		synctest.Wait() // the tunnel is idle
		wg.Go(func() {
			if _, body, err := tryGet(t, tr, "https://origin.example/"); err != nil || string(body) != "one" {
				t.Errorf("%q, %v", body, err)
			}
		})
		synctest.Wait() // and taken
		close(look)
		wg.Wait()
	})
}

func TestAnOriginThatSpeaksFirstIsNotHeard(t *testing.T) {
	var logged strings.Builder
	out := log.Writer()
	log.SetOutput(&logged)
	defer log.SetOutput(out)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		speak := make(chan struct{})
		w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			conn, buf, err := rw.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			buf.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none")
			buf.Flush()
			<-speak
			buf.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
			buf.Flush()
			buf.ReadByte() // until the client is gone
		})
		tr := w.transport(nil)
		get(t, tr, "https://origin.example/")
		close(speak)
		synctest.Wait()
		if n := tr.open(); n != 0 {
			t.Errorf("%d tunnels left", n)
		}
		if _, body := get(t, tr, "https://origin.example/"); string(body) != "one" {
			t.Errorf("%q", body)
		}
	})
	if logged.Len() > 0 {
		t.Errorf("an origin's words in the log: %s", &logged)
	}
}

// A proxy may allow fewer streams than MaxTunnels.
func TestIdleTunnelsMakeRoomForStreamsThatTheProxyDoesNotAllow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.limits = hop.Limits{Streams: 2}
		tr := w.transport(nil)
		for _, host := range []string{"origin.example", "second.example", "192.0.2.1", "origin.example"} {
			if _, _, err := tryGet(t, tr, "https://"+host+"/"); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A body that nobody reads holds its own tunnel and no other.
func TestASlowReaderStallsNoOther(t *testing.T) {
	w := newWorld(t)
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Write(make([]byte, 4<<20))
	})
	tr := w.transport(nil)
	var slow []*http.Response
	for range 5 {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://origin.example/", nil)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		slow = append(slow, resp)
	}
	if _, body := get(t, tr, "https://origin.example/"); len(body) != 4<<20 {
		t.Errorf("%d bytes", len(body))
	}
	for _, resp := range slow {
		if n, err := io.Copy(io.Discard, resp.Body); n != 4<<20 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		resp.Body.Close()
	}
}

// What cannot be sent costs no tunnel, and its body is closed.
func TestARequestThatCannotBeSentCostsNoTunnel(t *testing.T) {
	w := newWorld(t)
	tr := w.transport(nil)
	get(t, tr, "https://origin.example/")
	for name, spoil := range map[string]func(*http.Request){
		"a line break in a field": func(r *http.Request) { r.Header.Set("X-Word", "a\r\nb") },
		"a field without a name":  func(r *http.Request) { r.Header[""] = []string{"x"} },
		"a trailer's name":        func(r *http.Request) { r.Trailer = http.Header{"a b": {"x"}} },
		"a method":                func(r *http.Request) { r.Method = "G T" },
		"CONNECT":                 func(r *http.Request) { r.Method = http.MethodConnect },
		"no header":               func(r *http.Request) { r.Header = nil },
	} {
		for _, again := range []bool{false, true} {
			body := &closeRecorder{Reader: strings.NewReader("body")}
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://origin.example/", body)
			if again {
				req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("body")), nil }
			}
			spoil(req)
			if _, _, err := do(tr, req); err == nil {
				t.Errorf("%s: sent", name)
			}
			if !body.closed {
				t.Errorf("%s: the body was left open", name)
			}
		}
	}
	get(t, tr, "https://origin.example/")
	if w.opened() != 1 {
		t.Errorf("%d tunnels, want 1", w.opened())
	}
}

// A tunnel that dies before the request is written to it leaves the body to be closed.
func TestBodyThatWasNeverWrittenIsClosed(t *testing.T) {
	w := newWorld(t)
	tr := w.transport(nil)
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	for range 20 {
		get(t, tr, "https://origin.example/")
		tr.pool.mu.Lock()
		all := slices.Collect(maps.Keys(tr.pool.all))
		tr.pool.mu.Unlock()
		for _, c := range all {
			c.tunnel.stream.Stream().Reset(hop.Cancel)
		}
		body := &closeRecorder{Reader: strings.NewReader("body")}
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://origin.example/", body)
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("body")), nil }
		do(tr, req)
		if !body.closed {
			t.Fatal("the body was left open")
		}
	}
}

// Every wait of a request ends with its context, and leaves the others alone.
func TestContextEndsTheWaitForATunnel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		release := make(chan struct{})
		w.handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release })
		tr := w.transport(func(tr *Transport) { tr.MaxTunnels = 1 })
		var wg sync.WaitGroup
		wg.Go(func() { get(t, tr, "https://origin.example/") })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for _, host := range []string{"origin.example", "second.example"} {
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/", nil)
			if _, _, err := do(tr, req); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v, want the deadline", host, err)
			}
		}
		close(release)
		wg.Wait()
		get(t, tr, "https://origin.example/")
		if w.opened() != 1 {
			t.Errorf("%d tunnels, want 1", w.opened())
		}
	})
}

// A user who takes long to answer holds up the request that needs the answer, and Close.
func TestConsentIsAskedWithTheRequestsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		tr := w.transport(func(tr *Transport) {
			tr.Consent = ConsentFunc(func(ctx context.Context, req *ConsentRequest) (*Agreement, error) {
				if req.Authority == "second.example:443" {
					return new(Agreement), nil
				}
				<-ctx.Done()
				return nil, ctx.Err()
			})
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://origin.example/", nil)
			_, _, err := do(tr, req)
			var trust *TrustError
			if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &trust) {
				t.Errorf("%v, want the deadline alone", err)
			}
		})
		synctest.Wait()
		get(t, tr, "https://second.example/")
		wg.Wait()
	})
}

// A request that gives up while hop 1 is being dialled does not take it from the others.
func TestOneWhoGivesUpLeavesHop1ToTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		dial := make(chan struct{})
		w.dial = func(ctx context.Context) (net.Conn, error) {
			select {
			case <-dial:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			c, s := pipe.New()
			w.wg.Go(func() { w.serveHop1(s) })
			return c, nil
		}
		tr := w.transport(nil)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://origin.example/", nil)
			if _, _, err := do(tr, req); !errors.Is(err, context.Canceled) {
				t.Errorf("%v, want context.Canceled", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if _, _, err := tryGet(t, tr, "https://origin.example/"); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(dial)
		wg.Wait()
	})
}

// Close at any moment of an exchange ends it with ErrClosed, and leaves nothing behind.
func TestCloseAtEveryStep(t *testing.T) {
	for _, level := range []Level{Intact, Blind} {
		for name, hush := range map[string]func(w *world, stop <-chan struct{}){
			"TCP": func(w *world, _ <-chan struct{}) {
				w.dial = func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
			},
			"TLS of hop 1": func(w *world, _ <-chan struct{}) { w.dial = silence(w) },
			"SETTINGS":     func(w *world, stop <-chan struct{}) { w.serve = func(*tls.Conn) { <-stop } },
			"CONNECT": func(w *world, stop <-chan struct{}) {
				w.answer = func(hop.Incoming, *hop.Request) bool { <-stop; return true }
			},
			"handshake": func(w *world, _ <-chan struct{}) { w.via = func(bool, []byte) []byte { return nil } },
			"response": func(w *world, stop <-chan struct{}) {
				w.handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stop })
			},
		} {
			t.Run(string(level)+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					stop := make(chan struct{})
					w.onClose(sync.OnceFunc(func() { close(stop) }))
					hush(w, stop)
					tr := w.transport(func(tr *Transport) { tr.Levels = []Level{level} })
					var wg sync.WaitGroup
					wg.Go(func() {
						if _, _, err := tryGet(t, tr, "https://origin.example/"); !errors.Is(err, ErrClosed) {
							t.Errorf("%v, want ErrClosed", err)
						}
					})
					synctest.Wait()
					start := time.Now()
					tr.Close()
					wg.Wait()
					if took := time.Since(start); took > 6*time.Second {
						t.Errorf("it took %v", took)
					}
				})
			})
		}
	}
}

// The proxy treats an HTTP/1.0 exchange as the last one of its tunnel.
func TestAnHTTP10ResponseIsTheLastOfItsTunnel(t *testing.T) {
	for _, response := range []string{
		"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nbody",
		"HTTP/1.0 204 No Content\r\nConnection: keep-alive\r\n\r\n",
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			hold := make(chan struct{})
			w.handler = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
				conn, buf, err := rw.(http.Hijacker).Hijack()
				if err != nil {
					return
				}
				defer conn.Close()
				buf.WriteString(response)
				buf.Flush()
				<-hold // it keeps its side of the connection
			})
			tr := w.transport(func(tr *Transport) { tr.ResponseTimeout = time.Second })
			for i := range 2 {
				if _, _, err := tryGet(t, tr, "https://origin.example/"); err != nil {
					t.Errorf("request %d: %v", i, err)
				}
				synctest.Wait()
			}
			if got := w.opened(); got != 2 {
				t.Errorf("%d tunnels for two exchanges", got)
			}
			close(hold)
		})
	}
}
