package h2

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"vitrine/frames"
	"vitrine/internal/hop"
)

func TestTunnelCarriesBytesBothWays(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := sessions(t, nil, nil)
		near, far := tunnel(t, client, server)
		a, b := hop.NewConn(near), hop.NewConn(far)
		big := make([]byte, 3<<20)
		rand.Read(big)
		errc := make(chan error, 2)
		go func() {
			_, err := a.Write(big)
			errc <- errors.Join(err, a.CloseWrite())
		}()
		go func() {
			_, err := io.Copy(b, b) // echo
			errc <- errors.Join(err, b.CloseWrite())
		}()
		got, err := io.ReadAll(a)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, big) {
			t.Fatalf("%d bytes came back changed, of %d", len(got), len(big))
		}
		if err := errors.Join(<-errc, <-errc); err != nil {
			t.Fatal(err)
		}
	})
}

func TestPeerSaysWhatTheHopIs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := sessions(t, nil, &Config{Late: true})
		ctx := context.Background()
		if err := errors.Join(client.Ready(ctx), server.Ready(ctx)); err != nil {
			t.Fatal(err)
		}
		if got, want := client.Peer().Settings, (hop.Settings{Connect: true, Evidence: true, Late: true, Bound: true}); got != want {
			t.Errorf("server as the client sees it: %+v, want %+v", got, want)
		}
		if got, want := server.Peer().Settings, (hop.Settings{Evidence: true, Bound: true}); got != want {
			t.Errorf("client as the server sees it: %+v, want %+v", got, want)
		}
		if client.Peer().PeerCertificate() == nil || client.Peer().TLS.NegotiatedProtocol != "h2" {
			t.Error("the TLS state is not the hop's")
		}
	})
}

// spec: HOP-1
func TestRequestArrivesAsItWasSent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := sessions(t, nil, &Config{Ordinary: true})
		for _, req := range []*hop.Request{
			{Protocol: "itls", Authority: "origin.example:443", Header: http.Header{"Evidence-Request": {":YQ==:"}, "Via": {"a", "b"}}},
			{Authority: "[2001:db8::1]:443", Header: http.Header{}},
			{Method: "GET", Authority: "proxy.example", Path: "/x?y", Header: http.Header{"Accept": {"*/*"}}},
			{Method: "HEAD", Authority: "proxy.example", Header: http.Header{}},
		} {
			go client.Open(context.Background(), req)
			in, err := server.Accept(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			got := in.Request()
			want := *req
			if want.Method == "" {
				want.Method = "CONNECT"
			}
			if want.Path == "" && (want.Protocol != "" || want.Method != "CONNECT") {
				want.Path = "/"
			}
			if got.Protocol != want.Protocol || got.Method != want.Method || got.Authority != want.Authority || got.Path != want.Path {
				t.Errorf("got %+v, want %+v", got, want)
			}
			if len(got.Header) != len(want.Header) {
				t.Errorf("got fields %v, want %v", got.Header, want.Header)
			}
			for k, v := range want.Header {
				if len(got.Header[k]) != len(v) {
					t.Errorf("%s: got %q, want %q", k, got.Header[k], v)
				}
			}
			if err := in.Reject(&hop.Response{Status: 404}); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestRefusalComesWithStatusFieldsAndBody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := sessions(t, nil, nil)
		for _, body := range []string{"", "no\n", string(bytes.Repeat([]byte("x"), 100<<10))} {
			var wg sync.WaitGroup
			wg.Go(func() {
				in, err := server.Accept(context.Background())
				if err != nil {
					t.Error(err)
					return
				}
				h := http.Header{"Inspection-Options": {"intact"}}
				err = in.Reject(&hop.Response{Status: 470, Header: h, Body: []byte(body)})
				var reset *hop.ResetError
				// A client that has read as much of a refusal as it takes resets the stream.
				if err != nil && !(len(body) > 16<<10 && errors.As(err, &reset) && reset.Code == hop.Cancel) {
					t.Error(err)
				}
				if _, err := in.Accept(&hop.Response{Status: 200}); err == nil {
					t.Error("a request was answered twice")
				}
			})
			r, st, err := client.Open(context.Background(), connectRequest())
			if err != nil {
				t.Fatal(err)
			}
			want := body[:min(len(body), 16<<10)]
			if st != nil || r.Status != 470 || r.Header.Get("Inspection-Options") != "intact" || string(r.Body) != want {
				t.Errorf("status %d, fields %v, %d bytes of body, stream %v", r.Status, r.Header, len(r.Body), st)
			}
			wg.Wait()
		}
		eventually(t, func() bool { return open(client)+open(server) == 0 })
	})
}

// The end of a closed connection whose peer says nothing is not waited for longer than Limits.Linger.
func TestACloseThatNobodyAnswersEndsByItself(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := sessions(t, nil, nil)
		accepted := make(chan hop.Stream, 1)
		go func() {
			in, err := server.Accept(context.Background())
			if err != nil {
				t.Error(err)
				return
			}
			st, err := in.Accept(&hop.Response{Status: 200})
			if err != nil {
				t.Error(err)
			}
			accepted <- st
		}()
		_, st, err := client.Open(context.Background(), connectRequest())
		if err != nil {
			t.Fatal(err)
		}
		<-accepted
		begin := time.Now()
		hop.NewConn(st).Close()
		eventually(t, func() bool { return open(client)+open(server) == 0 })
		if took := time.Since(begin); took < 5*time.Second || took > 6*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// open is how many streams a session has.
func open(s *session) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}

// eventually waits in a bubble for what other goroutines do.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for range 600 {
		if ok() {
			return
		}
		timer := time.NewTimer(100 * time.Millisecond)
		<-timer.C
	}
	t.Fatal("it did not happen")
}

func TestEarlyBytesFollowTheRequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := sessions(t, nil, nil)
		req := connectRequest()
		req.Early = bytes.Repeat([]byte("hello "), 5000)
		go client.Open(context.Background(), req)
		in, err := server.Accept(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		st, err := in.Accept(&hop.Response{Status: 200})
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(req.Early))
		if _, err := io.ReadFull(hop.NewConn(st), got); err != nil || !bytes.Equal(got, req.Early) {
			t.Fatal("the early bytes did not arrive", err)
		}
	})
}

func TestKillTakesOneTunnelAndBringsTheVerdict(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := sessions(t, nil, nil)
		near1, far1 := tunnel(t, client, server)
		near2, far2 := tunnel(t, client, server)
		sink, farSink := newCollector(), newCollector()
		near1.Start(sink)
		far1.Start(farSink)
		verdict := []byte("a verdict is opaque here, but long enough to be split from its stream")
		send(t, far1, []byte("prefix"))
		send(t, far1, make([]byte, 300<<10))
		far1.Kill(verdict)
		var reset *hop.ResetError
		if err := sink.wait(t); !errors.As(err, &reset) {
			t.Fatal(err)
		}
		if reset.Code != hop.Killed || !reset.Remote || !bytes.Equal(reset.Verdict, verdict) {
			t.Errorf("got %+v", reset)
		}
		if err := farSink.wait(t); !errors.As(err, &reset) || reset.Remote {
			t.Errorf("the killer was told %v", err)
		}
		if err := far1.Send(hop.NewBuffer()); err != nil {
			t.Error("an empty buffer is no news:", err)
		}
		b := hop.NewBuffer()
		b.Append([]byte("x"))
		if err := far1.Send(b); !errors.As(err, &reset) {
			t.Errorf("Send after Kill: %v", err)
		}
		a, z := hop.NewConn(near2), hop.NewConn(far2)
		if _, err := a.Write([]byte("sibling")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 7)
		if _, err := io.ReadFull(z, got); err != nil || string(got) != "sibling" {
			t.Fatal("the sibling noticed:", err)
		}
	})
}

func TestOpenEndsWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := sessions(t, nil, nil)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		errc := make(chan error, 1)
		go func() {
			in, err := server.Accept(context.Background())
			if err != nil {
				errc <- err
				return
			}
			<-in.Context().Done()
			errc <- context.Cause(in.Context())
		}()
		if _, _, err := client.Open(ctx, connectRequest()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Open: %v", err)
		}
		var reset *hop.ResetError
		if err := <-errc; !errors.As(err, &reset) || reset.Code != hop.Cancel {
			t.Errorf("the request's context ended with %v", err)
		}
	})
}

func TestSlotsAreWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := sessions(t, nil, &Config{Limits: hop.Limits{Streams: 2}})
		near, _ := tunnel(t, client, server)
		tunnel(t, client, server)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, _, err := client.Open(ctx, connectRequest()); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a third stream: %v", err)
		}
		time.AfterFunc(time.Second, func() { near.Reset(hop.Cancel) })
		tunnel(t, client, server)
	})
}

func TestPlainSessionHasNoFramesOfOurs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := net.Pipe()
		client, server := startPlain(a, nil, false), startPlain(b, nil, true)
		defer func() {
			client.Close(hop.NoError, "")
			<-client.Done()
			<-server.Done()
		}()
		near, far := tunnel(t, client, server)
		if s := client.Peer().Settings; s.Evidence || s.Bound || !s.Connect {
			t.Errorf("%+v", s)
		}
		sink := newCollector()
		near.Start(sink)
		far.Kill([]byte("verdict"))
		var reset *hop.ResetError
		if err := sink.wait(t); !errors.As(err, &reset) || reset.Code != frames.CodeKilled || reset.Verdict != nil {
			t.Errorf("%v", err)
		}
	})
}
