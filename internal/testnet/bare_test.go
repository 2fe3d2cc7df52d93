package testnet

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"vitrine/client"
	"vitrine/frames"
	"vitrine/internal/hop"
	"vitrine/internal/hop/raw"
	"vitrine/internal/itls"
	"vitrine/proxy"
)

// A bare is a server of inner sessions on naked TCP, which no origin of ours is, and a liar's way to it. What
// passes the naked wire is kept.
type bare struct {
	mu   sync.Mutex
	wire []*tap
	// flip changes what comes from the server.
	flip atomic.Bool
}

// seen says whether the wire carried text in clear.
func (b *bare) seen(text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.wire {
		sent, received := c.seen()
		if bytes.Contains(sent, []byte(text)) || bytes.Contains(received, []byte(text)) {
			return true
		}
	}
	return false
}

// serve serves at "bare", and puts a terminator of the liar's own in front of it.
func (b *bare) serve(n *Net) {
	server := n.Listen("bare")
	n.Cleanup(func() { server.Close() })
	n.Go(func(context.Context) {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			n.Go(func(context.Context) {
				defer conn.Close()
				inner := itls.Server(conn, &itls.Config{
					TLS:                 &tls.Config{Certificates: []tls.Certificate{n.OriginCert}, NextProtos: []string{"http/1.1"}},
					UnprotectedForTests: true,
				})
				defer inner.Close()
				say("naked")(inner)
			})
		}
	})
	n.relay("terminator", "bare:443", func(ctx context.Context, down, up net.Conn) {
		wire := &tap{Conn: up}
		b.mu.Lock()
		b.wire = append(b.wire, wire)
		b.mu.Unlock()
		hop2 := tls.Server(down, &tls.Config{Certificates: []tls.Certificate{n.ProxyCert}, NextProtos: []string{frames.ALPNRaw}})
		if hop2.HandshakeContext(ctx) != nil {
			return
		}
		if b.flip.Load() {
			pump(hop2, &flipped{Conn: wire})
			return
		}
		pump(hop2, wire)
	})
}

// A flipped is a naked wire on which somebody changes the word "naked".
type flipped struct{ net.Conn }

func (c *flipped) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if i := bytes.Index(p[:n], []byte("naked")); i >= 0 {
		p[i] ^= 1
	}
	return n, err
}

// dial shows the origin's own evidence, and leads the tunnel over the naked wire.
func (b *bare) dial(ctx context.Context, n *Net, t *proxy.Target) (*proxy.Upstream, error) {
	up, err := n.dialAs(ctx, t, func(*tls.Config) {})
	if err != nil {
		return nil, err
	}
	conn, err := n.DialContext(ctx, "tcp", "terminator:443")
	if err != nil {
		return nil, err
	}
	tc := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{frames.ALPNRaw}})
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	up.Session, err = raw.Client(tc, nil)
	return up, err
}

// P4: hop 2 over bare TCP, behind true evidence of a hop 2 that is encrypted. The honest negative: whoever
// taps that wire reads all, and the client cannot see it. What holds: nobody changes a byte, and the client never
// calls it confirmed, because no origin vouches for a hop that it does not have.
func TestP4Hop2OverBareTCP(t *testing.T) {
	for _, kind := range []string{"transcript", "authenticator"} {
		t.Run(kind, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := new(bare)
				var n *Net
				var proof []byte
				n = New(t, Config{
					Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the origin's own server was asked") }),
					Dial: func(ctx context.Context, target *proxy.Target) (*proxy.Upstream, error) {
						if kind == "authenticator" {
							var err error
							if proof, err = n.trueEvidence(ctx, target); err != nil {
								return nil, err
							}
						}
						return b.dial(ctx, n, target)
					},
					Hop1: answers(func(_ *hop.Request, resp *hop.Response) {
						if proof != nil {
							resp.Evidence = proof
						}
					}),
					Client: func(_ *Net, tr *client.Transport) { tr.IdleTimeout = -1 },
				})
				b.serve(n)
				rep := n.mustGet("/a-secret-path", "naked")
				if rep.Level != client.Intact || rep.Inner.Confirmed || !rep.Evidence.Verified || rep.Evidence.Kind != kind {
					t.Errorf("%+v %+v", rep.Inner, rep.Evidence)
				}
				if !b.seen("GET /a-secret-path") || !b.seen("naked") {
					t.Error("the weakness that the design admits is gone, or hidden")
				}
				b.flip.Store(true)
				_, _, err := n.get("/")
				wantError[*client.IntegrityError](t, err)
			})
		})
	}
}

// An origin of ours runs no inner session outside a hop: not on bare TCP, and not in an ordinary TLS connection.
func TestP4AnOriginRefusesABareSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := New(t, Config{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the origin was asked") })})
		for _, alpn := range []string{"", "http/1.1"} {
			conn, err := n.DialContext(n.ctx, "tcp", OriginHost+":443")
			if err != nil {
				t.Fatal(err)
			}
			if alpn != "" {
				conn = tls.Client(conn, &tls.Config{RootCAs: n.Origins.Pool().CertPool, ServerName: OriginHost, NextProtos: []string{alpn}})
			}
			c := itls.Client(conn, &itls.Config{
				TLS:                 &tls.Config{RootCAs: n.Origins.Pool().CertPool, ServerName: OriginHost, NextProtos: []string{"http/1.1"}},
				UnprotectedForTests: true,
			})
			if err := c.HandshakeContext(n.ctx); err == nil {
				t.Errorf("in %q: the origin took it", alpn)
			}
			c.Close()
		}
	})
}
