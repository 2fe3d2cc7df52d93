package client

import (
	"io"
	"log"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"vitrine/internal/hop"
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
