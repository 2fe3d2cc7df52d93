package raw

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"testing"
	"time"

	"vitrine/frames"
	"vitrine/internal/hop"
	"vitrine/internal/hop/raw/pipe"
	"vitrine/internal/itls"
	"vitrine/internal/pki"
)

// terminated is what a TLS terminator hands to an RFC 9150 server behind it.
type terminated struct{ *tls.Conn }

func (c terminated) HopState() tls.ConnectionState { return c.ConnectionState() }

// origin returns the proxy's end of a hop whose other end runs serve behind a TLS terminator.
func origin(t *testing.T, alpn string, serve func(terminated)) *tls.Conn {
	t.Helper()
	ca, err := pki.NewAuthority("origins", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Origin("origin.example")
	if err != nil {
		t.Fatal(err)
	}
	c, s := pipe.New()
	server := tls.Server(s, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{alpn}})
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer server.Close()
		if server.Handshake() == nil {
			serve(terminated{server})
		}
	}()
	client := tls.Client(c, &tls.Config{RootCAs: ca.Pool().CertPool, ServerName: "origin.example", NextProtos: []string{alpn}})
	if err := client.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); <-done })
	return client
}

func TestAnOriginBehindATerminatorTakesOneTunnel(t *testing.T) {
	ca, err := pki.NewAuthority("inner", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Origin("origin.example")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Client(origin(t, frames.ALPNRaw, func(c terminated) {
		inner := itls.Server(c, &itls.Config{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
		defer inner.Close()
		io.Copy(inner, inner)
		inner.CloseWrite()
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(t.Context()); err != nil || s.Peer().TLS.NegotiatedProtocol != frames.ALPNRaw || s.Peer().Settings != (hop.Settings{}) {
		t.Errorf("%v %+v", err, s.Peer())
	}
	if _, _, err := s.Open(t.Context(), &hop.Request{Authority: "origin.example:443"}); err == nil {
		t.Error("a plain CONNECT was opened")
	}
	resp, st, err := s.Open(t.Context(), &hop.Request{Protocol: frames.Protocol, Authority: "origin.example:443"})
	if err != nil || resp.Status != 200 || resp.Evidence != nil || st.Session() != s {
		t.Fatal(resp, err)
	}
	var again *hop.RetryError
	if _, _, err := s.Open(t.Context(), &hop.Request{Protocol: frames.Protocol}); !errors.As(err, &again) {
		t.Errorf("a second tunnel: %v", err)
	}
	if err := s.SendVerdict(st.ID(), nil); !errors.Is(err, ErrNoVerdict) {
		t.Error(err)
	}
	if _, err := s.Accept(t.Context()); !errors.Is(err, ErrClientOnly) {
		t.Error(err)
	}
	c := itls.Client(hop.NewConn(st), &itls.Config{TLS: &tls.Config{RootCAs: ca.Pool().CertPool, ServerName: "origin.example"}})
	if err := c.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	go func() { c.Write(random(1 << 20)); c.CloseWrite() }()
	got, err := io.ReadAll(c)
	if err != nil || string(got) != string(random(1<<20)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	c.Close()
	<-s.Done()
}

func TestEarlyBytesGoFirst(t *testing.T) {
	first := make(chan string, 1)
	s, err := Client(origin(t, frames.ALPNRaw, func(c terminated) {
		p, _ := io.ReadAll(c)
		first <- string(p)
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, st, err := s.Open(t.Context(), &hop.Request{Protocol: frames.Protocol, Early: []byte("early ")})
	if err != nil {
		t.Fatal(err)
	}
	st.Start(Discard{})
	st.Send(buffer([]byte("late")))
	st.CloseSend()
	if got := <-first; got != "early late" {
		t.Errorf("%q", got)
	}
	<-s.Done()
}

func TestAnotherALPNIsNotARawHop(t *testing.T) {
	if _, err := Client(origin(t, "h2", func(terminated) {}), nil); err == nil {
		t.Error("accepted")
	}
	c, server := pipe.New()
	defer c.Close()
	defer server.Close()
	if _, err := Client(tls.Client(c, &tls.Config{ServerName: "x"}), nil); err == nil {
		t.Error("a hop without a handshake was accepted")
	}
}

func TestDrainAndCloseOfARawHop(t *testing.T) {
	for name, end := range map[string]func(hop.Session){
		"unused, drained": func(s hop.Session) { s.Drain(context.Background()) },
		"unused, closed":  func(s hop.Session) { s.Close(hop.NoError, "") },
		"used, closed": func(s hop.Session) {
			s.Open(context.Background(), &hop.Request{Protocol: frames.Protocol})
			s.Close(hop.NoError, "")
		},
		"used, drained for too long": func(s hop.Session) {
			s.Open(context.Background(), &hop.Request{Protocol: frames.Protocol})
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			s.Drain(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Client(origin(t, frames.ALPNRaw, func(c terminated) { io.ReadAll(c) }), nil)
			if err != nil {
				t.Fatal(err)
			}
			end(s)
			<-s.Done()
			if s.Err() == nil {
				t.Error("no reason")
			}
			if _, _, err := s.Open(t.Context(), &hop.Request{Protocol: frames.Protocol}); err == nil {
				t.Error("opened on a session that has ended")
			}
		})
	}
}
