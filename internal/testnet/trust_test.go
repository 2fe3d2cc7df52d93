package testnet

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vitrine/client"
	"vitrine/frames"
	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/hop/h2"
	"vitrine/internal/hostile"
	"vitrine/internal/itls"
	"vitrine/internal/pki"
	"vitrine/origin"
	"vitrine/proxy"
)

// badOrigins are certificates that no client may take for OriginHost's.
func badOrigins(n *Net) map[string]tls.Certificate {
	n.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		n.Fatal(err)
	}
	leaf := func(change func(c *x509.Certificate)) *x509.Certificate {
		c := &x509.Certificate{
			Subject: pkix.Name{CommonName: OriginHost}, DNSNames: []string{OriginHost},
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}
		change(c)
		return c
	}
	strangers := n.authority("Strangers", time.Now())
	selfSigned, err := pki.NewAuthority(OriginHost, time.Now())
	if err != nil {
		n.Fatal(err)
	}
	return map[string]tls.Certificate{
		"of another name": n.certificate(n.Origins.Origin("other.example")),
		"expired": n.certificate(n.Origins.Issue(leaf(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		}), key)),
		"not valid yet": n.certificate(n.Origins.Issue(leaf(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
		}), key)),
		"of another root":                   n.certificate(strangers.Origin(OriginHost)),
		"self-signed":                       {Certificate: [][]byte{selfSigned.Root.Raw}, PrivateKey: selfSigned.Key, Leaf: selfSigned.Root},
		"for clients alone":                 n.certificate(n.Origins.Issue(leaf(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), key)),
		"a proxy's":                         n.certificate(n.Proxies.Proxy(OriginHost)),
		"a proxy's, from the origins' root": n.certificate(n.Origins.Proxy(OriginHost)),
	}
}

// P1 with an honest proxy: it refuses the origin, and says so.
func TestP1ABadOriginBehindAnHonestProxy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var cert atomic.Pointer[tls.Certificate]
		var served atomic.Int32
		n := New(t, Config{
			Origin: func(_ *Net, srv *http.Server, _ *origin.Config) {
				srv.TLSConfig.Certificates = nil
				srv.TLSConfig.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert.Load(), nil }
			},
			Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) }),
		})
		for name, bad := range badOrigins(n) {
			cert.Store(&bad)
			_, _, err := n.get("/")
			if e := wantError[*client.TrustError](t, err); e.Party != client.PartyOrigin {
				t.Errorf("%s: %v", name, err)
			}
		}
		if served.Load() != 0 {
			t.Error("a request reached a bad origin")
		}
		cert.Store(&n.OriginCert)
		n.mustGet("/", "")
	})
}

// P1 with a proxy that does not care and shows all that the bad origin signs: the client refuses.
func TestP1ABadOriginBehindALyingProxy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var cert atomic.Pointer[tls.Certificate]
		var served atomic.Int32
		var n *Net
		n = New(t, Config{
			Origin: func(_ *Net, srv *http.Server, _ *origin.Config) {
				srv.TLSConfig.Certificates = nil
				srv.TLSConfig.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert.Load(), nil }
			},
			Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) }),
			Dial: func(ctx context.Context, target *proxy.Target) (*proxy.Upstream, error) {
				return n.dialHop2(ctx, target, OriginHost, nil)
			},
		})
		classes := make(map[string]int)
		for name, bad := range badOrigins(n) {
			cert.Store(&bad)
			_, _, err := n.get("/")
			c := class(err)
			// An origin that is honest about what it has not got a certificate for refuses the tunnel itself.
			if c != "trust:origin" && c != "unreachable:origin" || strings.Contains(err.Error(), "says the proxy") {
				t.Errorf("%s: %s: %v", name, c, err)
			}
			classes[c]++
		}
		if served.Load() != 0 {
			t.Error("a request reached a bad origin")
		}
		if classes["trust:origin"] < 5 {
			t.Errorf("%v", classes)
		}
		cert.Store(&n.OriginCert)
		n.mustGet("/", "")
	})
}

// P1: the certificate of hop 2 is right, and the one of the inner session, behind it, is another's. Evidence is
// about the first; what counts is the second.
func TestP1ABadCertificateBehindAGoodHop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := New(t, Config{Names: []string{"else.example"}, Client: func(_ *Net, tr *client.Transport) { tr.IdleTimeout = -1 }})
		o := &ownOrigin{talk: func(session net.Conn) {
			if _, err := session.Read(make([]byte, 1)); err == nil {
				t.Error("bytes of a request left")
			}
		}}
		n.serveOwnOrigin(o)
		for name, bad := range badOrigins(n) {
			o.inner = &bad
			_, _, err := n.get("/")
			if e := wantError[*client.TrustError](t, err); e.Party != client.PartyOrigin || !e.Report.Evidence.Verified {
				t.Errorf("%s: %v", name, err)
			}
		}
		o.inner, o.talk = &n.OriginCert, say("own") // of else.example
		_, _, err := n.get("/")
		wantError[*client.TrustError](t, err)
		good := n.certificate(n.Origins.Origin(OriginHost))
		o.inner = &good
		n.mustGet("/", "own")
	})
}

// dialHop2 makes hop 2 with whoever is at host, unverified.
func (n *Net) dialHop2(ctx context.Context, t *proxy.Target, host string, change func(cfg *tls.Config)) (*proxy.Upstream, error) {
	conn, err := n.DialContext(ctx, "tcp", host+":443")
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{
		InsecureSkipVerify: true, ServerName: OriginHost, NextProtos: []string{frames.ALPNH2, frames.ALPNRaw, "http/1.1"},
		Certificates: []tls.Certificate{n.ProxyCert},
	}
	if change != nil {
		change(cfg)
	}
	d, err := evidence.NewDial(cfg, t.Request, t.Request.Offer.Proxies, t.Authority)
	if err != nil {
		conn.Close()
		return nil, err
	}
	defer d.Discard()
	tc := tls.Client(d.Tap(conn), d.Config())
	if err := tc.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	up := &proxy.Upstream{State: tc.ConnectionState(), Verified: true}
	if up.Transcript, err = d.Evidence(up.State, true); err != nil {
		conn.Close()
		return nil, err
	}
	if alpn := up.State.NegotiatedProtocol; alpn != frames.ALPNH2 && alpn != frames.ALPNRaw {
		up.Done = func() { conn.Close() }
		return up, nil
	}
	if up.Session, err = h2.Client(tc, nil); err != nil {
		conn.Close()
		return nil, err
	}
	n.Cleanup(func() { up.Session.Close(hop.NoError, ""); <-up.Session.Done() })
	return up, nil
}

// P1, P7: the proxy shows true evidence, and then answers the inner session itself, with every key that it has: its own
// included, which is all that a thief of the proxy's keys has.
func TestP7AProxyCannotStandInForAnOrigin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var proof []byte
		var n *Net
		n = New(t, Config{
			Dial: func(ctx context.Context, target *proxy.Target) (*proxy.Upstream, error) {
				var err error
				if proof, err = n.trueEvidence(ctx, target); err != nil {
					return nil, err
				}
				return n.dialHop2(ctx, target, "impostor.example", nil)
			},
			Hop1: answers(func(_ *hop.Request, resp *hop.Response) { resp.Evidence = proof }),
		})
		var cert atomic.Pointer[tls.Certificate]
		var asked atomic.Int32
		n.serveImpostor("impostor.example", func() tls.Certificate { return *cert.Load() }, &asked)
		certs := badOrigins(n)
		certs["the proxy's own"] = n.ProxyCert
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		certs["the origin's, without its key"] = tls.Certificate{Certificate: n.OriginCert.Certificate, PrivateKey: key, Leaf: n.OriginCert.Leaf}
		for name, bad := range certs {
			cert.Store(&bad)
			_, _, err := n.get("/")
			if c := class(err); c != "trust:origin" && c != "integrity" {
				t.Errorf("%s: %s: %v", name, c, err)
			}
			if r := client.ReportOfError(err); err != nil && (r == nil || !r.Evidence.Verified || r.Inner != nil) {
				t.Errorf("%s: report %+v", name, r)
			}
		}
		if asked.Load() != 0 {
			t.Error("bytes of a request reached the impostor")
		}
		// With the origin's key it works, so the failures above are for want of it; what a stolen origin's key
		// cannot do is speak for the origin's hop.
		cert.Store(&n.OriginCert)
		if rep := n.mustGet("/", "impostor"); rep.Inner.Confirmed {
			t.Error("confirmed by an impostor")
		}
	})
}

// trueEvidence asks the true origin for an authenticator.
func (n *Net) trueEvidence(ctx context.Context, target *proxy.Target) ([]byte, error) {
	up, err := n.Proxy.Dial(ctx, target)
	if err != nil {
		return nil, err
	}
	defer up.Close()
	h := http.Header{}
	h.Set(fields.EvidenceRequest, fields.FormatEvidenceRequest(target.Request.Raw))
	resp, st, err := up.Session.Open(ctx, &hop.Request{Protocol: frames.Protocol, Authority: target.Authority, Path: "/", Header: h})
	if err != nil {
		return nil, err
	}
	st.Start(drain{})
	st.Reset(hop.Cancel)
	e, err := evidence.FromAuthenticator(resp.Evidence, target.Request, up.State, true)
	if err != nil {
		return nil, err
	}
	return e.Append(nil)
}

// serveImpostor takes tunnels at host and answers the inner sessions in them with cert.
func (n *Net) serveImpostor(host string, cert func() tls.Certificate, asked *atomic.Int32) {
	ln := n.Listen(host)
	var wg sync.WaitGroup
	serve := func(conn net.Conn) {
		tc := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{n.OriginCert}, NextProtos: []string{frames.ALPNH2}})
		if tc.HandshakeContext(n.ctx) != nil {
			return
		}
		s, err := h2.Server(tc, nil)
		if err != nil {
			n.Error(err)
			return
		}
		for {
			in, err := s.Accept(n.ctx)
			if err != nil {
				s.Close(hop.NoError, "")
				<-s.Done()
				return
			}
			st, err := in.Accept(&hop.Response{Status: 200})
			if err != nil {
				continue
			}
			own := cert()
			wg.Go(func() {
				inner := itls.Server(hop.NewConn(st), &itls.Config{
					TLS:         &tls.Config{Certificates: []tls.Certificate{own}, NextProtos: []string{"http/1.1"}},
					RequireALPN: true,
				})
				defer inner.Close()
				if _, err := inner.Read(make([]byte, 4096)); err != nil {
					return
				}
				asked.Add(1)
				io.WriteString(inner, "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nimpostor")
				inner.Read(make([]byte, 4096))
			})
		}
	}
	n.run(func() error {
		defer wg.Wait()
		for {
			conn, err := ln.Accept()
			if err != nil {
				return err
			}
			wg.Go(func() { serve(conn) })
		}
	}, ln.Close)
}

// P13: what is not a proxy's certificate opens no hop 1, whoever issued it.
func TestP13WhatIsNotAProxysCertificate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := New(t, Config{})
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		usage, err := pki.ProxyUsage()
		if err != nil {
			t.Fatal(err)
		}
		plain := &x509.Certificate{DNSNames: []string{ProxyHost}, KeyUsage: x509.KeyUsageDigitalSignature}
		lax := usage
		lax.Critical = false
		with := func(change func(c *x509.Certificate)) *x509.Certificate {
			c := *plain
			change(&c)
			return &c
		}
		strangers := n.authority("Strangers", time.Now())
		narrow, err := n.Proxies.Intermediate(&x509.Certificate{
			Subject: pkix.Name{CommonName: "servers only"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		})
		if err != nil {
			t.Fatal(err)
		}
		for name, cert := range map[string]tls.Certificate{
			"no extended key usage":   n.certificate(n.Proxies.Issue(plain, key)),
			"a server's":              n.certificate(n.Proxies.Origin(ProxyHost)),
			"a usage that is no must": n.certificate(n.Proxies.Issue(with(func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{lax} }), key)),
			"of another name":         n.certificate(n.Proxies.Proxy("other.example")),
			"of another root":         n.certificate(strangers.Proxy(ProxyHost)),
			"of the origins' root":    n.certificate(n.Origins.Proxy(ProxyHost)),
			"below a CA for servers":  n.certificate(narrow.Proxy(ProxyHost)),
			"expired": n.certificate(n.Proxies.Issue(with(func(c *x509.Certificate) {
				c.ExtraExtensions, c.NotBefore, c.NotAfter = []pkix.Extension{usage}, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
			}), key)),
		} {
			ln := n.Listen("fake " + name)
			n.Go(func(ctx context.Context) {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				tc := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}})
				if tc.HandshakeContext(ctx) == nil {
					io.Copy(io.Discard, tc)
				}
			})
			asked := false
			c := n.NewClient(func(n *Net, tr *client.Transport) {
				tr.NetDial = func(ctx context.Context, network, _ string) (net.Conn, error) {
					return n.DialContext(ctx, network, "fake "+name+":443")
				}
				tr.Consent = client.ConsentFunc(func(context.Context, *client.ConsentRequest) (*client.Agreement, error) {
					asked = true
					return new(client.Agreement), nil
				})
			})
			_, _, err := fetch(c, n.request(n.ctx, http.MethodGet, "/", nil))
			if e := wantError[*client.TrustError](t, err); e.Party != client.PartyProxy || asked {
				t.Errorf("%s: %v; the user was asked: %v", name, err, asked)
			}
		}
	})
}

func TestTheClockIsOff(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, x := range []struct {
		name                  string
		client, proxy, origin time.Duration
		class                 string
		says                  string
	}{
		{name: "the client's, years ahead", client: 2 * year, class: "trust:proxy", says: "expired"},
		{name: "the client's, years behind", client: -2 * year, class: "trust:proxy", says: "not yet valid"},
		{name: "the client's, a month ahead", client: 31 * 24 * time.Hour, class: "trust:proxy", says: "expired"},
		{name: "the client's, ten minutes ahead", client: 10 * time.Minute, class: "integrity", says: "clock"},
		{name: "the client's, ten minutes behind", client: -10 * time.Minute, class: "integrity", says: "clock"},
		{name: "the client's, half a minute ahead", client: 30 * time.Second, class: "success"},
		{name: "the client's, half a minute behind", client: -30 * time.Second, class: "success"},
		{name: "the proxy's, ten minutes ahead", proxy: 10 * time.Minute, class: "integrity", says: "clock"},
		{name: "the proxy's, ten minutes behind", proxy: -10 * time.Minute, class: "integrity", says: "clock"},
		{name: "the proxy's, a hundred days ahead", proxy: 100 * 24 * time.Hour, class: "trust:origin", says: "not valid at this time"},
		{name: "the origin's, years behind", origin: -2 * year, class: "success"},
	} {
		t.Run(x.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				clock := func(off time.Duration) func() time.Time {
					return func() time.Time { return time.Now().Add(off) }
				}
				n := New(t, Config{
					Client: func(_ *Net, tr *client.Transport) { tr.Time = clock(x.client) },
					Proxy:  func(_ *Net, p *proxy.Proxy) { p.Time = clock(x.proxy) },
					Hop1:   func(s hop.Session) hop.Session { return hostile.Lie(s, hostile.Lies{}) }, // Serve would refuse its own certificate
					Origin: func(_ *Net, srv *http.Server, cfg *origin.Config) {
						srv.TLSConfig.Time, cfg.Time = clock(x.origin), clock(x.origin)
					},
				})
				_, _, err := n.get("/")
				if c := class(err); c != x.class || err != nil && !strings.Contains(err.Error(), x.says) {
					t.Errorf("%s: %v", c, err)
				}
			})
		})
	}
}

// P16: no consent, no CONNECT. Each authority needs its own, a redirect's too.
func TestP16WithoutConsentNothingLeaves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		rec := newRecorder()
		connects := 0
		allowed := map[string]bool{OriginHost + ":443": true}
		var asked []string
		n := New(t, Config{
			Names: []string{OriginHost, "second.example"},
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "https://second.example/", http.StatusFound)
			}),
			Proxy: func(_ *Net, p *proxy.Proxy) { p.Inspectors = []proxy.Inspector{rec} },
			Hop1:  answers(func(*hop.Request, *hop.Response) { connects++ }),
			Client: func(_ *Net, tr *client.Transport) {
				tr.Consent = client.ConsentFunc(func(_ context.Context, r *client.ConsentRequest) (*client.Agreement, error) {
					asked = append(asked, r.Authority)
					if r.ProxyName != ProxyHost || r.Words == "" || r.ProxyRootSPKI == [32]byte{} {
						t.Errorf("%+v", r)
					}
					if !allowed[r.Authority] {
						return nil, io.EOF // any error
					}
					return new(client.Agreement), nil
				})
			},
		})
		_, err := (&http.Client{Transport: n.Client}).Get(originURL)
		if e := wantError[*client.TrustError](t, err); e.Party != client.PartyConsent {
			t.Error(err)
		}
		if connects != 1 || len(asked) != 2 || asked[1] != "second.example:443" {
			t.Errorf("%d CONNECTs, asked for %v", connects, asked)
		}
		n.Client = n.NewClient(func(_ *Net, tr *client.Transport) { tr.Consent = nil })
		_, _, err = n.get("/")
		if e := wantError[*client.TrustError](t, err); e.Party != client.PartyConsent || connects != 1 {
			t.Errorf("without anybody to ask: %v, %d CONNECTs", err, connects)
		}
	})
}
