package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/internal/itls"
	"vitrine/internal/pki"
)

// TestInnerIsNotHeldByAPeerThatTakesNothing: a Write that is stuck ends when the other direction fails.
func TestInnerIsNotHeldByAPeerThatTakesNothing(t *testing.T) {
	dir, _, _ := innerWorld(t)
	cert, err := pki.LoadKeyPair(filepath.Join(dir, "shop.example.pem"), filepath.Join(dir, "shop.example.key"))
	if err != nil {
		t.Fatal(err)
	}
	roots, err := pki.LoadPool(filepath.Join(dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		fail func(c *deafConn, server *itls.Conn)
		want int
	}{
		{"cut", func(c *deafConn, _ *itls.Conn) { c.end() }, 22},
		{"standard output", func(_ *deafConn, server *itls.Conn) { server.Write([]byte("x")) }, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			near, far := net.Pipe()
			defer far.Close()
			carrier := &deafConn{Conn: near}
			setup := &innerSetup{std: stdio{nil, io.Discard, io.Discard}, config: &itls.Config{
				UnprotectedForTests: true, TLS: &tls.Config{ServerName: "shop.example", RootCAs: roots.CertPool},
			}}
			server := itls.Server(far, &itls.Config{UnprotectedForTests: true, TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
			shaken := make(chan error, 1)
			go func() { shaken <- server.Handshake() }()
			s := newInnerSession(setup, "client", itls.Client(carrier, setup.config))
			if err := errors.Join(s.handshake(t.Context(), time.Minute), <-shaken); err != nil {
				t.Fatal(err)
			}
			// The second read begins when the first chunk is on its way, to where nobody takes it.
			began := make(chan struct{})
			in := readStandardInput(io.MultiReader(bytes.NewReader(innerBytes(64<<10)), readerFunc(func([]byte) (int, error) {
				close(began)
				return 0, io.EOF
			})))
			ended := make(chan error, 1)
			go func() { ended <- s.pass(t.Context(), in, brokenWriter{}) }()
			<-began
			tt.fail(carrier, server)
			select {
			case err := <-ended:
				if exitCode(err) != tt.want {
					t.Errorf("got %v", err)
				}
			case <-time.After(20 * time.Second):
				t.Error("it is held")
			}
		})
	}
}

// TestInnerServerWhoseInputStaysOpen: the client's end ends the session, once standard input gives nothing
// for a while; what it gives before that still leaves. A client whose input stays open goes on.
func TestInnerServerWhoseInputStaysOpen(t *testing.T) {
	dir, _, _ := innerWorld(t)
	cert, err := pki.LoadKeyPair(filepath.Join(dir, "shop.example.pem"), filepath.Join(dir, "shop.example.key"))
	if err != nil {
		t.Fatal(err)
	}
	roots, err := pki.LoadPool(filepath.Join(dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"server", "client"} {
		t.Run(role, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := net.Pipe()
				// The PKI is of now, and the bubble's clock is not.
				at := func() time.Time { return cert.Leaf.NotBefore.Add(time.Minute) }
				client := itls.Client(a, &itls.Config{UnprotectedForTests: true, TLS: &tls.Config{ServerName: "shop.example", RootCAs: roots.CertPool, Time: at}})
				server := itls.Server(b, &itls.Config{UnprotectedForTests: true, TLS: &tls.Config{Certificates: []tls.Certificate{cert}, Time: at}})
				end, peer := server, client
				if role == "client" {
					end, peer = client, server
				}
				shaken := make(chan error, 1)
				go func() { shaken <- peer.Handshake() }()
				if err := errors.Join(end.Handshake(), <-shaken); err != nil {
					t.Fatal(err)
				}
				in, typing := io.Pipe()
				var said bytes.Buffer
				s := newInnerSession(&innerSetup{std: stdio{nil, io.Discard, &said}}, role, end)
				ended := make(chan error, 1)
				go func() { ended <- s.pass(t.Context(), readStandardInput(in), io.Discard) }()
				got := make(chan []byte, 1)
				go func() {
					text, _ := io.ReadAll(peer)
					got <- text
				}()
				time.Sleep(time.Hour) // nobody has ended
				if err := peer.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				want := ""
				for range 5 {
					time.Sleep(stillness - 1)
					typing.Write([]byte("late "))
					want += "late "
				}
				time.Sleep(stillness + 1)
				synctest.Wait()
				if over := len(ended) == 1; over != (role == "server") {
					t.Fatalf("it has ended: %v; %s", over, &said)
				}
				if n := strings.Count(said.String(), "has ended"); n != 1 {
					t.Errorf("it says %q", &said)
				}
				if role == "client" {
					time.Sleep(time.Hour)
					typing.Write([]byte("later"))
					want += "later"
				}
				typing.Close()
				if role == "server" {
					in.Close()
				}
				if err := <-ended; err != nil {
					t.Error(err)
				}
				if text := <-got; string(text) != want {
					t.Errorf("got %q, want %q", text, want)
				}
				a.Close()
				b.Close()
			})
		})
	}
}

// A deafConn can be ended in one direction, that of Read.
type deafConn struct {
	net.Conn
	over atomic.Bool
}

func (c *deafConn) end() {
	c.over.Store(true)
	_ = c.Conn.SetReadDeadline(time.Unix(1, 0))
}

func (c *deafConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil && c.over.Load() {
		err = io.EOF
	}
	return n, err
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
