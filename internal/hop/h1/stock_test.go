package h1

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"vitrine/internal/hop"
	"vitrine/internal/hop/raw/pipe"
	"vitrine/internal/pki"
)

// one is a listener of one connection.
type one struct {
	conn chan net.Conn
	done chan struct{}
}

func (l one) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l one) Close() error   { return nil }
func (l one) Addr() net.Addr { return &net.TCPAddr{} }

func TestStockClientsReachAnOriginThroughATunnel(t *testing.T) {
	ca, err := pki.NewAuthority("all", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert := func(name string) *tls.Config {
		c, err := ca.Origin(name)
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Config{Certificates: []tls.Certificate{c}, NextProtos: []string{"http/1.1"}}
	}
	ln := pipe.Listen()
	origin := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello ", r.Host) })}
	l := one{make(chan net.Conn, 1), make(chan struct{})}
	served, proxied := make(chan struct{}), make(chan struct{})
	go func() { defer close(served); origin.Serve(tls.NewListener(l, cert("origin.example"))) }()
	go func() {
		defer close(proxied)
		c, err := ln.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		tc := tls.Server(c, cert("proxy.example"))
		if _, err := Server(tc, nil); err == nil {
			t.Error("a hop without a handshake was accepted")
		}
		if err := tc.Handshake(); err != nil {
			t.Error(err)
			return
		}
		s, err := Server(tc, nil)
		if err != nil {
			t.Error(err)
			return
		}
		in, err := s.Accept(context.Background())
		if err != nil {
			t.Error(err)
			return
		}
		if a := in.Request().Authority; a != "origin.example:443" || !s.Peer().TLS.HandshakeComplete {
			t.Errorf("authority %q", a)
		}
		st, err := in.Accept(&hop.Response{Status: 200})
		if err != nil {
			t.Error(err)
			return
		}
		l.conn <- hop.NewConn(st)
		<-s.Done()
	}()
	tr := &http.Transport{
		Proxy:           http.ProxyURL(&url.URL{Scheme: "https", Host: "proxy.example:8443"}),
		TLSClientConfig: &tls.Config{RootCAs: ca.Pool().CertPool},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return ln.Dial(ctx)
		},
	}
	resp, err := (&http.Client{Transport: tr}).Get("https://origin.example/")
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); string(body) != "hello origin.example" || err != nil {
		t.Errorf("%q %v", body, err)
	}
	resp.Body.Close()
	tr.CloseIdleConnections()
	<-proxied
	close(l.done)
	<-served
	origin.Close()
}
