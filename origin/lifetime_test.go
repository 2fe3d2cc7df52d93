package origin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/internal/hop"
	"vitrine/internal/hop/h2"
	"vitrine/internal/hop/raw/pipe"
)

// spec: ORG-16
func TestShutdownWaitsForExchangesAndDrainsHops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inside, finish := make(chan struct{}), make(chan struct{})
		w := start(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				close(inside)
				<-finish
			}
			io.WriteString(w, "done")
		})
		s := w.hop(w.proxy)
		idle := w.tunnel(s)
		roundTrip(t, idle)
		client := w.client(s)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, body := get(t, client, site+"slow"); body != "done" {
				t.Errorf("%q", body)
			}
		})
		<-inside
		down := make(chan error, 1)
		go func() { down <- w.srv.Shutdown(context.Background()) }()
		synctest.Wait()
		select {
		case err := <-down:
			t.Fatalf("Shutdown did not wait: %v", err)
		default:
		}
		var retry *hop.RetryError
		if err := w.connect(s, w.visit()); !errors.As(err, &retry) {
			t.Errorf("a new tunnel: %v", err)
		}
		close(finish)
		wg.Wait()
		if err := <-down; err != nil {
			t.Error(err)
		}
		<-s.Done()
		if _, err := idle.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the idle tunnel ended with %v", err)
		}
	})
}

func TestCloseEndsEverythingAtOnce(t *testing.T) {
	inside, finish := make(chan struct{}), make(chan struct{})
	w := start(t, func(http.ResponseWriter, *http.Request) { close(inside); <-finish })
	s := w.hop(w.proxy)
	c := w.tunnel(s)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-inside
	w.srv.Close()
	if _, err := io.ReadAll(c); err == nil {
		t.Error("a cut session looks complete")
	}
	<-s.Done()
	close(finish)
}

// silence measures, in a bubble's time, how long an origin bears it.
func silence(t *testing.T, set func(*http.Server), quiet func(w *world) (ended func())) time.Duration {
	var d time.Duration
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		if set != nil {
			set(w.srv)
		}
		w.serve(nil)
		ended := quiet(w)
		start := time.Now()
		ended()
		d = time.Since(start)
	})
	return d
}

// spec: ORG-17
func TestSilentPeersAreCutOffAtEveryStep(t *testing.T) {
	for _, c := range []struct {
		name  string
		set   func(*http.Server)
		quiet func(*world) func()
		want  time.Duration
	}{
		{"before the hop's handshake", func(s *http.Server) { s.ReadHeaderTimeout = 7 * time.Second }, func(w *world) func() {
			c := must(w.ln.Dial(context.Background()))
			return func() { io.ReadAll(c); c.Close() }
		}, 7 * time.Second},
		{"before SETTINGS", func(s *http.Server) { s.ReadHeaderTimeout = 7 * time.Second }, func(w *world) func() {
			tc := must(w.dial(tokens(), w.proxy))
			return func() { io.ReadAll(tc); tc.Close() }
		}, 7 * time.Second},
		{"before the inner ClientHello", nil, func(w *world) func() {
			v := w.visit()
			if err := w.connect(w.hop(w.proxy), v); err != nil {
				t.Fatal(err)
			}
			return func() { io.ReadAll(hop.NewConn(v.stream)) }
		}, 10 * time.Second},
		{"before the inner ClientHello, by the server's own timeout", func(s *http.Server) { s.ReadHeaderTimeout = 3 * time.Second }, func(w *world) func() {
			v := w.visit()
			if err := w.connect(w.hop(w.proxy), v); err != nil {
				t.Fatal(err)
			}
			return func() { io.ReadAll(hop.NewConn(v.stream)) }
		}, 3 * time.Second},
		{"before the first request", func(s *http.Server) { s.ReadHeaderTimeout = 4 * time.Second }, func(w *world) func() {
			c := w.tunnel(w.hop(w.proxy))
			return func() { io.ReadAll(c) }
		}, 4 * time.Second},
		{"between requests", func(s *http.Server) { s.IdleTimeout = 20 * time.Second }, func(w *world) func() {
			c := w.tunnel(w.hop(w.proxy))
			roundTrip(w.t, c)
			return func() { io.ReadAll(c) }
		}, 20 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := silence(t, c.set, c.quiet); d < c.want || d > c.want+2*time.Second {
				t.Errorf("after %v", d)
			}
		})
	}
}

// spec: ORG-17
func TestAnIdleHopEndsByTheServersIdleTimeout(t *testing.T) {
	d := silence(t, func(s *http.Server) { s.IdleTimeout = 20 * time.Second }, func(w *world) func() {
		s := w.hop(w.proxy)
		if err := s.Ready(context.Background()); err != nil {
			t.Fatal(err)
		}
		return func() { <-s.Done() }
	})
	if d < 20*time.Second || d > 30*time.Second {
		t.Errorf("after %v", d)
	}
}

func TestGarbageOnTheHopEndsTheHop(t *testing.T) {
	for _, garbage := range [][]byte{
		[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		bytes.Repeat([]byte{0xff}, 100),
		append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), bytes.Repeat([]byte{0xff}, 100)...),
	} {
		synctest.Test(t, func(t *testing.T) {
			w := start(t, func(http.ResponseWriter, *http.Request) {})
			tc := must(w.dial(tokens(), w.proxy))
			defer tc.Close()
			begin := time.Now()
			tc.Write(garbage)
			io.ReadAll(tc)
			if d := time.Since(begin); d > 2*time.Second {
				t.Errorf("the hop stays open for %v", d)
			}
			roundTrip(t, w.tunnel(w.hop(w.proxy)))
		})
	}
}

// spec: ORG-18
func TestGarbageInATunnelEndsTheTunnelAlone(t *testing.T) {
	w := start(t, func(http.ResponseWriter, *http.Request) {})
	s := w.hop(w.proxy)
	sibling := w.tunnel(s)
	v := w.visit()
	if err := w.connect(s, v); err != nil {
		t.Fatal(err)
	}
	c := hop.NewConn(v.stream)
	c.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the tunnel stays open")
	}
	c.Close()
	roundTrip(t, sibling)
}

func TestAProxyThatVanishesEndsItsExchanges(t *testing.T) {
	inside, gone := make(chan struct{}), make(chan struct{})
	w := start(t, func(_ http.ResponseWriter, r *http.Request) {
		close(inside)
		<-r.Context().Done()
		close(gone)
	})
	tc := must(w.dial(tokens(), w.proxy))
	s := must(h2.Client(tc, nil))
	c := w.tunnel(s)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-inside
	s.Close(hop.NoError, "")
	<-gone
	<-s.Done()
}

// spec: ORG-11
func TestAHopGivesItsThousandAnswersAndIsReplaced(t *testing.T) {
	if testing.Short() {
		t.Skip("1,024 signatures")
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		w.serve(&Config{})
		s := w.hop(w.proxy)
		start := time.Now()
		for i := range 1024 {
			v := w.visit()
			if err := w.connect(s, v); err != nil || v.stream == nil || len(v.resp.Evidence) == 0 {
				t.Fatalf("tunnel %d: %v %+v", i, err, v.resp)
			}
			c := hop.NewConn(v.stream)
			c.CloseWrite()
			io.ReadAll(c)
			c.Close()
		}
		// 256 at once, then 256 a second.
		if d := time.Since(start); d < 2900*time.Millisecond || d > 6*time.Second {
			t.Errorf("1,024 answers took %v", d)
		}
		v := w.visit()
		var retry *hop.RetryError
		if err := w.connect(s, v); !errors.As(err, &retry) {
			t.Errorf("the 1,025th: %v %+v", err, v.resp)
		}
		<-s.Done()
		roundTrip(t, w.tunnel(w.hop(w.proxy)))
	})
}

// spec: ORG-19
func TestHandshakesUnderWayAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		w.serve(&Config{Handshakes: 4, HandshakeTimeout: 10 * time.Second})
		s := w.hop(w.proxy)
		v := w.visit()
		if err := w.connect(s, v); err != nil || v.stream == nil {
			t.Fatal(err)
		}
		// The hop's quarter is taken by a tunnel that says nothing. The next one waits for it to be
		// cut off, another hop's does not.
		begin := time.Now()
		roundTrip(t, w.tunnel(w.hop(w.proxy)))
		if d := time.Since(begin); d > time.Second {
			t.Errorf("another hop waited %v", d)
		}
		later := w.visit()
		done := make(chan error, 1)
		go func() { done <- w.connect(s, later) }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Errorf("a second handshake was let in: %v", err)
		default:
		}
		v.stream.Reset(hop.Cancel)
		if err := <-done; err != nil || later.stream == nil {
			t.Errorf("after the first had gone: %v", err)
		}
		later.stream.Reset(hop.Cancel)
	})
}

func TestABatchingListenerChangesNothingForStockClients(t *testing.T) {
	ln := pipe.Listen()
	defer ln.Close()
	go ln.Dial(context.Background())
	c, err := NewListener(ln).Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, ok := c.(*hop.BatchConn); !ok {
		t.Errorf("%T", c)
	}
}
