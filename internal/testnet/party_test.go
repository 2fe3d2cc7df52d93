package testnet

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"vitrine/client"
	"vitrine/frames"
	"vitrine/internal/hop"
	"vitrine/internal/hostile"
	"vitrine/internal/tlsmsg"
	"vitrine/origin"
	"vitrine/proxy"
)

// P8: a proxy may kill what it does not like, and strips nothing: a ClientHello with things that nobody has
// heard of arrives byte for byte, and so does everything behind it.
func TestP8WhatAClientOffersArrivesByteForByte(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var left, arrived hostile.Tape
		n := New(t, Config{Hop2: func(_ *proxy.Target, s hop.Session) hop.Session {
			return hostile.Wrap(s, func(uint64) hostile.Mangler { return arrived.Mangler() })
		}})
		grease := hostile.NewAttack(func(i int, record []byte) [][]byte {
			if i != 0 {
				return [][]byte{record}
			}
			h, err := tlsmsg.ParseClientHello(record[tlsmsg.RecordHeaderLen:])
			if err != nil {
				t.Fatal(err)
			}
			h.CipherSuites = append([]uint16{0x3a3a}, h.CipherSuites...)
			h.Extensions = append([]tlsmsg.Extension{{Type: 0x1a1a}}, h.Extensions...)
			h.Extensions = append(h.Extensions, tlsmsg.Extension{Type: 0x8b47, Data: []byte("tomorrow")}, tlsmsg.Extension{Type: 0x2a2a, Data: []byte{0}})
			msg, err := h.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			return [][]byte{tlsmsg.RecordHeader{Type: tlsmsg.TypeHandshake, Version: 0x0301, Length: len(msg)}.Append(nil), msg}
		})
		s := hostile.Wrap(n.hop1(), func(uint64) hostile.Mangler { return chain{grease, left.Mangler()} })
		st, offer := n.connect(s)
		c := n.inner(st, offer, nil)
		defer c.Close()
		if c.HandshakeContext(n.ctx) == nil {
			t.Error("the client did not notice that its ClientHello was changed")
		}
		a, b := left.Records(), arrived.Records()
		if len(a) == 0 || len(b) == 0 || !bytes.Equal(a[0], b[0]) || !bytes.Contains(b[0], []byte("tomorrow")) {
			t.Errorf("left:\n%x\narrived:\n%x", a, b)
		}
	})
	bubble(t, func(t *testing.T) {
		var left, arrived hostile.Tape
		n := New(t, Config{Hop2: func(_ *proxy.Target, s hop.Session) hop.Session {
			return hostile.Wrap(s, func(uint64) hostile.Mangler { return arrived.Mangler() })
		}})
		st, offer := n.connect(hostile.Wrap(n.hop1(), func(uint64) hostile.Mangler { return left.Mangler() }))
		c := n.inner(st, offer, nil)
		if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: origin.example\r\nConnection: close\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4096)
		for {
			if _, err := c.Read(buf); err != nil {
				break
			}
		}
		c.Close()
		time.Sleep(time.Second) // the bubble's clock
		a, b := bytes.Join(left.Records(), nil), bytes.Join(arrived.Records(), nil)
		if len(a) < 400 || !bytes.Equal(a, b) {
			t.Errorf("%d bytes left, %d arrived, and they are not the same", len(a), len(b))
		}
	})
}

// P11, P12: an origin can demand to know the proxy. One that it does not know, or that shows no certificate,
// gets no tunnel; an origin that demands nothing says in its statement that it was shown none.
func TestP12AnOriginCanDemandToKnowTheProxy(t *testing.T) {
	for _, x := range []struct {
		name      string
		roots     func(n *Net) *x509.CertPool
		anonymous bool
		class     string
		confirmed bool
	}{
		{name: "known", roots: func(n *Net) *x509.CertPool { return n.Proxies.Pool().CertPool }, class: "success", confirmed: true},
		{name: "of another root", roots: func(n *Net) *x509.CertPool { return n.Origins.Pool().CertPool }, class: "unreachable:origin"},
		{name: "anonymous, where it has to be known", roots: func(n *Net) *x509.CertPool { return n.Proxies.Pool().CertPool }, anonymous: true, class: "unreachable:origin"},
		{name: "anonymous, where it may be", roots: func(*Net) *x509.CertPool { return nil }, anonymous: true, class: "success"},
	} {
		t.Run(x.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var served atomic.Int32
				var n *Net
				cfg := Config{
					Origin: func(n *Net, _ *http.Server, cfg *origin.Config) { cfg.ProxyRoots = x.roots(n) },
					Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
						served.Add(1)
						i, _ := origin.InspectionOf(r.Context())
						if (i.ProxyCertificate == nil) != x.anonymous || i.ProxyVerified != x.confirmed {
							t.Errorf("%+v", i)
						}
					}),
				}
				if x.anonymous {
					cfg.Dial = func(ctx context.Context, target *proxy.Target) (*proxy.Upstream, error) {
						return n.dialHop2(ctx, target, OriginHost, func(cfg *tls.Config) { cfg.Certificates = nil })
					}
				}
				n = New(t, cfg)
				resp, _, err := n.get("/")
				if c := class(err); c != x.class || (served.Load() == 1) != (err == nil) {
					t.Fatalf("%s: %v; served %d", c, err, served.Load())
				}
				if err == nil {
					if rep := client.ReportOf(resp); rep.Inner.Confirmed != x.confirmed || rep.Level != client.Intact {
						t.Errorf("%+v", rep.Inner)
					}
				}
			})
		})
	}
}

// A tunnel that the origin has closed in the meantime is not an error for the next request: none of its
// bytes had left.
func TestAnIdleTunnelThatEndedIsReplaced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var served atomic.Int32
		n := New(t, Config{
			Origin:  func(_ *Net, srv *http.Server, _ *origin.Config) { srv.IdleTimeout = 10 * time.Second },
			Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) }),
		})
		for range 3 {
			n.mustGet("/", "")
			time.Sleep(time.Minute) // the bubble's clock
		}
		if served.Load() != 3 {
			t.Errorf("the origin served %d requests", served.Load())
		}
	})
}

// A proxy that says 200 where the origin would not talk to it gains nothing: in the tunnel nobody answers.
func TestA200WithoutAnOrigin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := New(t, Config{Stock: true, Hop1: answers(func(_ *hop.Request, resp *hop.Response) {
			if resp.Status == frames.StatusInspectionRequired {
				resp.Status = 200
			}
		})})
		_, _, err := n.get("/")
		if c := class(err); c != "unreachable:origin" {
			t.Errorf("%s: %v", c, err)
		}
		if r := client.ReportOfError(err); r.Inner != nil || r.Level != "" {
			t.Errorf("%+v", r)
		}
	})
}
