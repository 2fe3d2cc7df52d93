package testnet

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"vitrine/client"
	"vitrine/frames"
	"vitrine/origin"
	"vitrine/proxy"
)

// pump carries bytes both ways until both ends have ended.
func pump(a, b net.Conn) {
	var wg sync.WaitGroup
	one := func(to, from net.Conn) {
		io.Copy(to, from)
		to.Close()
	}
	wg.Go(func() { one(a, b) })
	wg.Go(func() { one(b, a) })
	wg.Wait()
}

// relay serves host: each connection is joined by join with one to address.
func (n *Net) relay(host, address string, join func(ctx context.Context, down, up net.Conn)) {
	ln := n.Listen(host)
	var wg sync.WaitGroup
	n.run(func() error {
		defer wg.Wait()
		for {
			down, err := ln.Accept()
			if err != nil {
				return err
			}
			wg.Go(func() {
				defer down.Close()
				up, err := n.DialContext(n.ctx, "tcp", address)
				if err != nil {
					n.Error(err)
					return
				}
				defer up.Close()
				join(n.ctx, down, up)
			})
		}
	}, ln.Close)
}

// via has the client dial host in the place of the proxy.
func via(host string) func(n *Net, tr *client.Transport) {
	return func(n *Net, tr *client.Transport) {
		tr.NetDial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return n.DialContext(ctx, network, host+":443")
		}
	}
}

// P5 (a): somebody ends TLS between client and proxy, with a certificate that the proxies' root gave out
// by mistake, and passes everything on unchanged. The hop's SETTINGS are bound to its TLS.
func TestP5ATerminatingRelayOnHop1IsDetected(t *testing.T) {
	bubble(t, func(t *testing.T) {
		served := 0
		n := New(t, Config{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served++ })})
		misissued := n.certificate(n.Proxies.Proxy(ProxyHost))
		asked := false
		n.relay("relay", ProxyHost+":443", func(ctx context.Context, down, up net.Conn) {
			server := tls.Server(down, &tls.Config{Certificates: []tls.Certificate{misissued}, NextProtos: []string{"h2"}})
			client := tls.Client(up, &tls.Config{RootCAs: n.Proxies.Pool().CertPool, ServerName: ProxyHost, NextProtos: []string{"h2"}})
			if server.HandshakeContext(ctx) != nil || client.HandshakeContext(ctx) != nil {
				return
			}
			pump(server, client)
		})
		n.Client = n.NewClient(func(n *Net, tr *client.Transport) {
			via("relay")(n, tr)
			tr.Consent = client.ConsentFunc(func(context.Context, *client.ConsentRequest) (*client.Agreement, error) {
				asked = true
				return new(client.Agreement), nil
			})
		})
		_, _, err := n.get("/")
		if c := class(err); c != "integrity" {
			t.Errorf("%s: %v", c, err)
		}
		if asked || served > 0 {
			t.Error("the client went on")
		}
	})
}

// P5 (a): the relay speaks our protocol: it is a proxy itself, for the same name by a certificate given out
// by mistake, and has no way to the origin but a tunnel of the honest proxy's. Two readers would need the
// origin's session in both, and its client's offer names one.
func TestP5ASecondProxyOnHop1IsDetected(t *testing.T) {
	bubble(t, func(t *testing.T) {
		served := 0
		n := New(t, Config{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served++ })})
		evil := &proxy.Proxy{Certificate: n.certificate(n.Proxies.Proxy(ProxyHost)), Roots: n.Origins.Pool().CertPool}
		evil.Targets = proxy.TargetPolicy{Allow: special(), Resolver: n.network, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			d := n.NewDialer(nil)
			return d.DialContext(ctx, "tcp", OriginHost+":443")
		}}
		n.StartProxy(evil, "relay")
		_, _, err := fetch(n.NewClient(via("relay")), n.request(n.ctx, http.MethodGet, "/", nil))
		if err == nil {
			t.Fatal("two proxies read, and the client was told of one")
		}
		if c := class(err); c != "unreachable:origin" {
			t.Errorf("%s: %v", c, err)
		}
		if served > 0 {
			t.Error("a request reached the origin")
		}
	})
}

// P5 (b), the honest negative: a relay that only carries bytes is invisible on both hops. It reads nothing.
func TestP5ABlindRelayIsInvisible(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var carried atomic.Int32
		carry := func(_ context.Context, down, up net.Conn) {
			carried.Add(1)
			pump(down, up)
		}
		n := New(t, Config{Proxy: func(n *Net, p *proxy.Proxy) {
			p.Targets.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
				return n.DialContext(ctx, network, "relay2:443")
			}
		}})
		n.relay("relay1", ProxyHost+":443", carry)
		n.relay("relay2", OriginHost+":443", carry)
		n.Client = n.NewClient(via("relay1"))
		if rep := n.mustGet("/", "hello"); !rep.Inner.Confirmed || len(rep.Proxies) != 1 {
			t.Errorf("%+v", rep)
		}
		if carried.Load() != 2 {
			t.Errorf("%d connections went through the relays", carried.Load())
		}
	})
}

// P14: somebody with a certificate for the origin's name that the origins' root gave out by mistake ends TLS
// between proxy and origin. The proxy notices before any evidence goes out.
func TestP14ATerminatingRelayOnHop2IsDetected(t *testing.T) {
	bubble(t, func(t *testing.T) {
		served := 0
		n := New(t, Config{
			Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served++ }),
			Proxy: func(n *Net, p *proxy.Proxy) {
				p.Targets.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
					return n.DialContext(ctx, network, "relay:443")
				}
			},
		})
		misissued := n.certificate(n.Origins.Origin(OriginHost))
		n.relay("relay", OriginHost+":443", func(ctx context.Context, down, up net.Conn) {
			server := tls.Server(down, &tls.Config{Certificates: []tls.Certificate{misissued}, NextProtos: []string{frames.ALPNH2}})
			client := tls.Client(up, &tls.Config{RootCAs: n.Origins.Pool().CertPool, ServerName: OriginHost, NextProtos: []string{frames.ALPNH2}})
			if server.HandshakeContext(ctx) != nil || client.HandshakeContext(ctx) != nil {
				return
			}
			pump(server, client)
		})
		_, _, err := n.get("/")
		if c := class(err); c != "unreachable:origin" {
			t.Errorf("%s: %v", c, err)
		}
		if served > 0 {
			t.Error("a request reached the origin")
		}
	})
}

// P10, the honest negative: what a proxy reads it can use elsewhere. A cookie that the user allowed to leave
// is good on any connection.
func TestP10AReaderCanReplayACookie(t *testing.T) {
	bubble(t, func(t *testing.T) {
		rec := newRecorder()
		n := New(t, Config{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if c, err := r.Cookie("session"); err == nil && c.Value == "user" {
					_, inspected := origin.InspectionOf(r.Context())
					fmt.Fprintf(w, "the user's page, inspected=%v", inspected)
					return
				}
				w.WriteHeader(http.StatusUnauthorized)
			}),
			Proxy:  func(_ *Net, p *proxy.Proxy) { p.Inspectors = []proxy.Inspector{rec} },
			Client: func(_ *Net, tr *client.Transport) { tr.Consent = client.Once{Credentials: true} },
		})
		req := n.request(n.ctx, http.MethodGet, "/", nil)
		req.AddCookie(&http.Cookie{Name: "session", Value: "user"})
		if _, body, err := fetch(n.Client, req); err != nil || string(body) != "the user's page, inspected=true" {
			t.Fatalf("%q %v", body, err)
		}
		stolen := (<-rec.over).head.Header.Get("Cookie")
		thief := &http.Transport{
			DialContext: n.DialContext, TLSClientConfig: &tls.Config{RootCAs: n.Origins.Pool().CertPool},
		}
		defer thief.CloseIdleConnections()
		req = n.request(n.ctx, http.MethodGet, "/", nil)
		req.Header.Set("Cookie", stolen)
		if _, body, err := fetch(thief, req); err != nil || string(body) != "the user's page, inspected=false" {
			t.Errorf("the weakness that the design admits is gone, or hidden: %q %v", body, err)
		}
	})
}

// P10: without the user's word no credential leaves, so there is none to replay.
func TestP10WithoutTheUsersWordNoCredentialLeaves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		connects := 0
		n := New(t, Config{Proxy: func(n *Net, p *proxy.Proxy) {
			p.Targets.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				connects++
				return n.DialContext(ctx, network, addr)
			}
		}})
		for _, field := range []string{"Cookie", "Authorization", "Proxy-Authorization", "X-Api-Key", "X-Auth-Token"} {
			req := n.request(n.ctx, http.MethodGet, "/", nil)
			req.Header.Set(field, "secret")
			_, _, err := fetch(n.Client, req)
			if e := wantError[*client.TrustError](t, err); e.Party != client.PartyCredentials || e.Field != field {
				t.Errorf("%s: %v", field, err)
			}
		}
		if connects != 0 {
			t.Errorf("%d connections were made for requests that may not leave", connects)
		}
	})
}

// P10: a token that is bound to the inner session's exporter is worth nothing elsewhere.
func TestP10ABoundTokenCannotBeReplayed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const label = "EXPORTER-test-token"
		secret := []byte("shared by user and origin, and by nobody else")
		sign := func(exported []byte) string {
			mac := hmac.New(sha256.New, secret)
			mac.Write(exported)
			return hex.EncodeToString(mac.Sum(nil))
		}
		rec := newRecorder()
		n := New(t, Config{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				i, ok := origin.InspectionOf(r.Context())
				if !ok {
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				exported, err := i.ExportKeyingMaterial(label, nil, 32)
				if err != nil {
					t.Error(err)
				}
				if r.Header.Get("X-Bound") != sign(exported) {
					w.WriteHeader(http.StatusUnauthorized)
				}
			}),
			Proxy: func(_ *Net, p *proxy.Proxy) { p.Inspectors = []proxy.Inspector{rec} },
		})
		ask := func(token func(tun *client.Tunnel) string) int {
			t.Helper()
			tun, err := n.NewDialer(nil).DialTunnel(n.ctx, OriginHost+":443")
			if err != nil {
				t.Fatal(err)
			}
			defer tun.Close()
			fmt.Fprintf(tun, "GET / HTTP/1.1\r\nHost: %s\r\nX-Bound: %s\r\n\r\n", OriginHost, token(tun))
			resp, err := http.ReadResponse(bufio.NewReader(tun), nil)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			return resp.StatusCode
		}
		status := ask(func(tun *client.Tunnel) string {
			exported, err := tun.ExportKeyingMaterial(label, nil, 32)
			if err != nil {
				t.Error(err)
			}
			return sign(exported)
		})
		if status != http.StatusOK {
			t.Errorf("the user's own: %d", status)
		}
		stolen := (<-rec.over).head.Header.Get("X-Bound")
		if status := ask(func(*client.Tunnel) string { return stolen }); stolen == "" || status != http.StatusUnauthorized {
			t.Errorf("the replayed token %q: %d", stolen, status)
		}
	})
}
