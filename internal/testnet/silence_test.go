package testnet

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"vitrine/client"
	"vitrine/frames"
	"vitrine/internal/hop"
	"vitrine/internal/hop/h2"
	"vitrine/internal/hostile"
	"vitrine/proxy"
)

// patience is how long anybody waits for a peer that says nothing, in any step of opening a tunnel.
const patience = 35 * time.Second

// A step is how far a peer comes before it falls silent, or says nonsense. It returns what it holds open.
type step func(ctx context.Context, conn net.Conn, cert tls.Certificate, alpn string) error

// serverSteps are those of a peer that was dialled.
func serverSteps() map[string]step {
	handshake := func(ctx context.Context, conn net.Conn, cert tls.Certificate, alpn string) (*tls.Conn, error) {
		tc := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{alpn}})
		return tc, tc.HandshakeContext(ctx)
	}
	return map[string]step{
		"silent from the start": func(context.Context, net.Conn, tls.Certificate, string) error { return nil },
		"silent behind the first byte of TLS": func(_ context.Context, conn net.Conn, _ tls.Certificate, _ string) error {
			_, err := conn.Write([]byte{22})
			return err
		},
		"silent behind TLS": func(ctx context.Context, conn net.Conn, cert tls.Certificate, alpn string) error {
			_, err := handshake(ctx, conn, cert, alpn)
			return err
		},
		"silent behind SETTINGS": func(ctx context.Context, conn net.Conn, cert tls.Certificate, alpn string) error {
			tc, err := handshake(ctx, conn, cert, alpn)
			if err != nil {
				return err
			}
			s, err := h2.Server(tc, nil)
			if err != nil {
				return err
			}
			defer func() { <-s.Done() }()
			defer s.Close(hop.NoError, "")
			for {
				if _, err := s.Accept(ctx); err != nil {
					return nil
				}
			}
		},
		"gone at once": func(_ context.Context, conn net.Conn, _ tls.Certificate, _ string) error { return conn.Close() },
		"gone behind TLS": func(ctx context.Context, conn net.Conn, cert tls.Certificate, alpn string) error {
			tc, err := handshake(ctx, conn, cert, alpn)
			if err != nil {
				return err
			}
			return tc.Close()
		},
		"garbage": func(_ context.Context, conn net.Conn, _ tls.Certificate, _ string) error {
			_, err := conn.Write(pattern(3000))
			return err
		},
		"HTTP in clear": func(_ context.Context, conn net.Conn, _ tls.Certificate, _ string) error {
			_, err := io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
			return err
		},
		"garbage behind TLS": func(ctx context.Context, conn net.Conn, cert tls.Certificate, alpn string) error {
			tc, err := handshake(ctx, conn, cert, alpn)
			if err != nil {
				return err
			}
			_, err = tc.Write(pattern(3000))
			return err
		},
		"another protocol": func(ctx context.Context, conn net.Conn, cert tls.Certificate, _ string) error {
			_, err := handshake(ctx, conn, cert, "smtp")
			return errIgnored(err)
		},
	}
}

// errIgnored is for steps in which the victim may be the first to go.
func errIgnored(error) error { return nil }

// serveStep serves host with a peer that comes as far as s.
func (n *Net) serveStep(host string, cert tls.Certificate, alpn string, s step) {
	ln := n.Listen(host)
	n.Go(func(ctx context.Context) {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			n.Go(func(ctx context.Context) {
				defer conn.Close()
				if err := s(ctx, conn, cert, alpn); err != nil {
					n.Log(err)
				}
				drained := make(chan struct{})
				go func() {
					defer close(drained)
					io.Copy(io.Discard, conn)
				}()
				select {
				case <-ctx.Done():
				case <-drained:
				}
				conn.Close()
				<-drained
			})
		}
	})
	n.Cleanup(func() { ln.Close() })
}

func TestTheClientMeetsABadProxy(t *testing.T) {
	for name, s := range serverSteps() {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				n := New(t, Config{})
				n.serveStep("bad", n.ProxyCert, "h2", s)
				n.Client = n.NewClient(via("bad"))
				start := time.Now()
				_, _, err := n.get("/")
				if e := wantError[*client.UnreachableError](t, err); e.Party != client.PartyProxy {
					t.Error(err)
				}
				if waited := time.Since(start); waited > patience {
					t.Errorf("it waited %v", waited)
				}
				oneLine(t, err)
			})
		})
	}
	t.Run("nobody accepts", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			n := New(t, Config{})
			n.Listen("bad")
			n.Client = n.NewClient(via("bad"))
			start := time.Now()
			_, _, err := n.get("/")
			if e := wantError[*client.UnreachableError](t, err); e.Party != client.PartyProxy || time.Since(start) > patience {
				t.Errorf("%v, after %v", err, time.Since(start))
			}
		})
	})
}

func TestTheProxyMeetsABadOrigin(t *testing.T) {
	for name, s := range serverSteps() {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				n := New(t, Config{Names: []string{"good.example"}})
				n.OriginCert = n.certificate(n.Origins.Origin(OriginHost))
				n.serveStep(OriginHost, n.OriginCert, frames.ALPNH2, s)
				start := time.Now()
				_, _, err := n.get("/")
				want := "unreachable:origin"
				if c := class(err); c != want {
					t.Errorf("%s: %v", c, err)
				}
				if waited := time.Since(start); waited > patience {
					t.Errorf("it waited %v", waited)
				}
				oneLine(t, err)
				n.mustGet("https://good.example/", "hello")
			})
		})
	}
	t.Run("nobody accepts", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			n := New(t, Config{Names: []string{"good.example"}})
			n.Listen(OriginHost)
			start := time.Now()
			_, _, err := n.get("/")
			if c := class(err); c != "unreachable:origin" || time.Since(start) > patience {
				t.Errorf("%s: %v, after %v", c, err, time.Since(start))
			}
		})
	})
	t.Run("silent in the inner handshake", func(t *testing.T) {
		for _, d := range []frames.Direction{frames.ToOrigin, frames.ToClient} {
			bubble(t, func(t *testing.T) {
				l := newLab(t, lengths, nil)
				for n := range 2 {
					l.set(d, hostile.Stall(n))
					start := time.Now()
					r := l.exchange()
					if r.class != "unreachable:origin" && r.class != "integrity" || time.Since(start) > patience || r.lie != "" {
						t.Errorf("%v, record %d: %+v, after %v", d, n, r, time.Since(start))
					}
				}
			})
		}
	})
}

// oneLine: what the user is told is one line.
func oneLine(t *testing.T, err error) {
	t.Helper()
	if bytes.ContainsAny([]byte(err.Error()), "\r\n\x00\x1b") {
		t.Errorf("not a line: %q", err)
	}
}

// clientSteps are those of a peer that dialled.
func clientSteps() map[string]func(ctx context.Context, conn net.Conn, cfg *tls.Config) error {
	handshake := func(ctx context.Context, conn net.Conn, cfg *tls.Config) (*tls.Conn, error) {
		tc := tls.Client(conn, cfg)
		return tc, tc.HandshakeContext(ctx)
	}
	return map[string]func(ctx context.Context, conn net.Conn, cfg *tls.Config) error{
		"silent from the start": func(context.Context, net.Conn, *tls.Config) error { return nil },
		"silent in a ClientHello": func(_ context.Context, conn net.Conn, _ *tls.Config) error {
			_, err := conn.Write([]byte{22, 3, 1, 2, 0, 1, 0, 1, 0xfc})
			return err
		},
		"silent behind TLS": func(ctx context.Context, conn net.Conn, cfg *tls.Config) error {
			_, err := handshake(ctx, conn, cfg)
			return err
		},
		"silent in the preface": func(ctx context.Context, conn net.Conn, cfg *tls.Config) error {
			tc, err := handshake(ctx, conn, cfg)
			if err == nil {
				_, err = io.WriteString(tc, http2.ClientPreface[:5])
			}
			return err
		},
		"silent behind the preface": func(ctx context.Context, conn net.Conn, cfg *tls.Config) error {
			tc, err := handshake(ctx, conn, cfg)
			if err == nil {
				_, err = io.WriteString(tc, http2.ClientPreface)
			}
			return err
		},
		"silent in HEADERS": func(ctx context.Context, conn net.Conn, cfg *tls.Config) error {
			tc, err := handshake(ctx, conn, cfg)
			if err != nil {
				return err
			}
			io.WriteString(tc, http2.ClientPreface)
			fr := http2.NewFramer(tc, nil)
			fr.WriteSettings()
			return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}})
		},
		"silent behind SETTINGS": func(ctx context.Context, conn net.Conn, cfg *tls.Config) error {
			tc, err := handshake(ctx, conn, cfg)
			if err != nil {
				return err
			}
			io.WriteString(tc, http2.ClientPreface)
			return http2.NewFramer(tc, nil).WriteSettings() // and never an acknowledgement
		},
		"garbage": func(_ context.Context, conn net.Conn, _ *tls.Config) error {
			_, err := conn.Write(pattern(3000))
			return err
		},
		"HTTP in clear": func(_ context.Context, conn net.Conn, _ *tls.Config) error {
			_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: "+ProxyHost+"\r\n\r\n")
			return err
		},
		"garbage behind TLS": func(ctx context.Context, conn net.Conn, cfg *tls.Config) error {
			tc, err := handshake(ctx, conn, cfg)
			if err == nil {
				_, err = tc.Write(pattern(3000))
			}
			return err
		},
		"a frame of 16 MiB": func(ctx context.Context, conn net.Conn, cfg *tls.Config) error {
			tc, err := handshake(ctx, conn, cfg)
			if err == nil {
				io.WriteString(tc, http2.ClientPreface)
				_, err = tc.Write([]byte{0xff, 0xff, 0xff, byte(frames.TypeVerdict), 0, 0, 0, 0, 0})
			}
			return err
		},
		"gone at once": func(_ context.Context, conn net.Conn, _ *tls.Config) error { return conn.Close() },
	}
}

// Whoever connects and goes silent, or talks nonsense, is shown out within a bounded time, on both ports,
// and others are served meanwhile.
func TestBadPeersAreShownOut(t *testing.T) {
	for _, port := range []struct{ host, alpn string }{{ProxyHost, "h2"}, {OriginHost, frames.ALPNH2}} {
		for name, s := range clientSteps() {
			t.Run(port.host+"/"+name, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					n := New(t, Config{})
					conn, err := n.DialContext(n.ctx, "tcp", port.host+":443")
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					cfg := &tls.Config{InsecureSkipVerify: true, ServerName: port.host, NextProtos: []string{port.alpn}}
					if err := s(n.ctx, conn, cfg); err != nil && name != "garbage behind TLS" {
						t.Fatal(err)
					}
					n.mustGet("/", "hello")
					start := time.Now()
					gone := make(chan error, 1)
					go func() {
						_, err := io.Copy(io.Discard, conn)
						gone <- err
					}()
					select {
					case <-gone:
						t.Logf("shown out after %v", time.Since(start))
					case <-time.After(6 * time.Minute): // the idle timeout, where the handshakes were complete
						t.Error("it may stay for ever")
					}
					if waited := time.Since(start); name != "silent behind SETTINGS" && waited > patience {
						t.Errorf("after %v", waited)
					}
				})
			})
		}
	}
}

// A client that sends half a request and stops.
func TestHalfARequestEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := New(t, Config{
			Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }),
			Proxy:   func(_ *Net, p *proxy.Proxy) { p.Limits.TunnelIdle = time.Minute },
		})
		for _, half := range []string{"GET / HT", "POST / HTTP/1.1\r\nHost: origin.example\r\nContent-Length: 10\r\n\r\nhalf"} {
			tun, err := n.NewDialer(nil).DialTunnel(n.ctx, OriginHost+":443")
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(tun, half)
			start := time.Now()
			tun.SetReadDeadline(start.Add(time.Hour))
			_, err = io.ReadAll(tun)
			if waited := time.Since(start); waited > 2*time.Minute {
				t.Errorf("%q is kept for %v", half, waited)
			}
			if err != nil && class(err) != "integrity" {
				t.Errorf("%q: %v", half, err)
			}
			tun.Close()
		}
	})
}
