package origin

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"vitrine/frames"
	"vitrine/internal/evidence"
	"vitrine/internal/hop"
	"vitrine/internal/hop/h2"
	"vitrine/internal/itls"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
)

const site = "https://" + name + "/"

func get(t testing.TB, c *http.Client, site string) (*http.Response, string) {
	t.Helper()
	resp, err := c.Get(site)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestOneHandlerServesTunnelsAndStockClients(t *testing.T) {
	w := start(t, func(w http.ResponseWriter, r *http.Request) {
		_, inspected := InspectionOf(r.Context())
		fmt.Fprintf(w, "%s %#x %s %v", r.Proto, r.TLS.CipherSuite, r.TLS.ServerName, inspected)
	})
	if _, got := get(t, w.client(w.hop(w.proxy)), site); got != "HTTP/1.1 0xc0b4 origin.example true" {
		t.Errorf("tunnel: %s", got)
	}
	_, got := get(t, w.stock(false), site)
	if !strings.HasPrefix(got, "HTTP/1.1 0x13") || !strings.HasSuffix(got, "false") {
		t.Errorf("http/1.1: %s", got)
	}
	_, got = get(t, w.stock(true), site)
	if !strings.HasPrefix(got, "HTTP/2.0 0x13") || !strings.HasSuffix(got, "false") {
		t.Errorf("h2: %s", got)
	}
}

func TestOwnProtocolsAndTLSNextProtoAreKept(t *testing.T) {
	w := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }))
	w.srv.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){} // the old way to switch HTTP/2 off
	w.serve(nil)
	if _, got := get(t, w.stock(true), site); got != "HTTP/1.1" {
		t.Error(got)
	}

	w = newWorld(t, http.NotFoundHandler())
	w.srv.Protocols = new(http.Protocols)
	w.srv.Protocols.SetHTTP2(true)
	if err := ConfigureServer(w.srv, nil); err == nil {
		t.Error("a server without HTTP/1 was accepted")
	}
}

func TestAListenerOfTheUsersOwnServesEveryone(t *testing.T) {
	w := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }))
	if err := ConfigureServer(w.srv, nil); err != nil {
		t.Fatal(err)
	}
	go func() { w.served <- w.srv.Serve(tls.NewListener(w.ln, w.srv.TLSConfig)) }()
	defer func() { w.srv.Close(); <-w.served }()
	for got, c := range map[string]*http.Client{"HTTP/1.1": w.client(w.hop(w.proxy)), "HTTP/2.0": w.stock(true)} {
		if _, body := get(t, c, site); body != got {
			t.Errorf("%s, not %s", body, got)
		}
	}
	tc := must(w.dial([]string{"http/1.1"}))
	roundTrip(t, tc)
	tc.Close()
}

func TestAServerWithoutACertificateIsRefused(t *testing.T) {
	for name, srv := range map[string]*http.Server{
		"no TLSConfig": {},
		"empty":        {TLSConfig: &tls.Config{}},
	} {
		// What ListenAndServeTLS would load from files later is out of our reach.
		if err := ConfigureServer(srv, nil); !errors.Is(err, ErrNoCertificate) {
			t.Errorf("%s: %v", name, err)
		}
		if srv.TLSNextProto != nil || srv.Protocols != nil || srv.ConnContext != nil {
			t.Errorf("%s: the server was changed", name)
		}
	}
	w := newWorld(t, nil)
	if err := ConfigureServer(w.srv, nil); err != nil {
		t.Fatal(err)
	}
	if err := ConfigureServer(w.srv, nil); err == nil {
		t.Error("configured twice")
	}
	long := newWorld(t, nil).srv
	leaf := long.TLSConfig.Certificates[0].Certificate[0]
	long.TLSConfig.Certificates[0].Certificate = slices.Repeat([][]byte{leaf}, tlsmsg.MaxCertificates+1)
	if err := ConfigureServer(long, nil); err == nil {
		t.Error("a chain that no client takes was taken")
	}
	if err := ConfigureServer(newWorld(t, nil).srv, &Config{Lifetime: MaxLifetime + 1}); err == nil {
		t.Error("a lifetime without end was accepted")
	}
}

func TestCertificatesComeFromWhereverTheServerHasThem(t *testing.T) {
	for source, move := range map[string]func(*http.Server, *Config, tls.Certificate){
		"GetCertificate": func(srv *http.Server, _ *Config, cert tls.Certificate) {
			srv.TLSConfig = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }}
		},
		"GetConfigForClient": func(srv *http.Server, _ *Config, cert tls.Certificate) {
			srv.TLSConfig = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
				return &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}, nil
			}}
		},
		"Config.GetCertificate": func(srv *http.Server, cfg *Config, cert tls.Certificate) {
			srv.TLSConfig = nil
			cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }
		},
	} {
		t.Run(source, func(t *testing.T) {
			w := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }))
			cfg := new(Config)
			move(w.srv, cfg, w.srv.TLSConfig.Certificates[0])
			w.serve(cfg)
			if _, got := get(t, w.client(w.hop(w.proxy)), site); got != "HTTP/1.1" {
				t.Error(got)
			}
			if _, got := get(t, w.stock(true), site); got != "HTTP/2.0" {
				t.Error(got)
			}
		})
	}
}

func TestFilesGivenToServeTLSServeStockClients(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(pki.Init(dir), pki.IssueOrigin(dir, name)); err != nil {
		t.Fatal(err)
	}
	cert, key := filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	loaded := must(pki.LoadKeyPair(cert, key))
	w := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }))
	w.srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{loaded}}
	if err := ConfigureServer(w.srv, nil); err != nil {
		t.Fatal(err)
	}
	go func() { w.served <- w.srv.ServeTLS(w.ln, cert, key) }()
	defer func() { w.srv.Close(); <-w.served }()
	root := must(pki.LoadPool(filepath.Join(dir, "root.pem")))
	w.origins.Root = root.Certs[0]
	if _, got := get(t, w.client(w.hop(w.proxy)), site); got != "HTTP/1.1" {
		t.Error(got)
	}
}

// spec: ORG-4
func TestInspectionOfSaysWhoReads(t *testing.T) {
	var got *Inspection
	w := start(t, func(_ http.ResponseWriter, r *http.Request) { got, _ = InspectionOf(r.Context()) })
	s := w.hop(w.proxy)
	v := w.visit()
	c, err := w.enter(s, v)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	roundTrip(t, c)
	leaf := must(x509.ParseCertificate(w.proxy.Certificate[0]))
	hopState := s.Peer().TLS
	switch {
	case got == nil:
		t.Fatal("no inspection")
	case !reflect.DeepEqual(got.Proxies, v.offer.Proxies), got.Authority != authority, got.Nonce != v.offer.Nonce:
		t.Errorf("session: %+v", got)
	case !got.ProxyCertificate.Equal(leaf), got.ProxyVerified:
		t.Error("the proxy's certificate is wrong, or verified by nobody")
	case got.Hop.Version != hopState.Version, got.Hop.CipherSuite != hopState.CipherSuite, got.Hop.NegotiatedProtocol != frames.ALPNH2:
		t.Error("hop 2 is wrong")
	case !reflect.DeepEqual(got.Via, []string{"2 proxy.example"}):
		t.Errorf("via %q", got.Via)
	case got.HopID != c.InspectionAnswer().HopID:
		t.Error("the origin answers one hop id and tells its handler another")
	}
	mine := must(c.ExportKeyingMaterial("EXPORTER-test", []byte("x"), 32))
	theirs := must(got.ExportKeyingMaterial("EXPORTER-test", []byte("x"), 32))
	if !bytes.Equal(mine, theirs) {
		t.Error("the exporters differ")
	}
	sources := map[string]Source{}
	for _, f := range got.Facts() {
		sources[f.Name] = f.Source
	}
	if sources["proxy"] != BySession || sources["proxy-subject"] != ByHop || sources["via"] != ByProxy {
		t.Errorf("facts %v", got.Facts())
	}
	if _, ok := InspectionOf(context.Background()); ok {
		t.Error("an inspection from nowhere")
	}
}

// roundTrip does one GET on c.
func roundTrip(t testing.TB, c net.Conn) *http.Response {
	t.Helper()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+name+"\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp
}

// spec: ORG-3 ORG-5 ORG-6
func TestEvidenceIsTheOriginsAndConfirmsProxyAndHop(t *testing.T) {
	w := start(t, func(http.ResponseWriter, *http.Request) {})
	for _, certs := range [][]tls.Certificate{{w.proxy}, nil} {
		s := w.hop(certs...)
		v := w.visit()
		c, err := w.enter(s, v)
		if err != nil {
			t.Fatal(err)
		}
		req := must(evidence.ParseRequest(v.raw))
		e, err := evidence.FromAuthenticator(v.resp.Evidence, req, s.Peer().TLS, true)
		if err != nil {
			t.Fatal(err)
		}
		r, err := (&evidence.Verifier{Request: v.raw, Authority: authority, Proxies: v.offer.Proxies, Roots: w.origins.Pool().CertPool}).Verify(e)
		if err != nil {
			t.Fatal(err)
		}
		if r.Kind != evidence.Authenticator || r.Answer == nil {
			t.Errorf("%v, answer %+v", r.Kind, r.Answer)
		}
		if !r.Origin.Equal(c.ConnectionState().PeerCertificates[0]) {
			t.Error("the session shows another certificate than the evidence")
		}
		a := c.InspectionAnswer()
		if a == nil || *a != *r.Answer || a.HopID != r.HopID || a.HopALPN != frames.ALPNH2 || a.HopVersion != tls.VersionTLS13 {
			t.Errorf("the inner answer %+v is not the evidence's %+v", a, r.Answer)
		}
		if want := uint8(len(certs)); a.HopPeer != want {
			t.Errorf("hop_peer %d with %d certificates", a.HopPeer, len(certs))
		}
		c.Close()
	}
}

// spec: ORG-7 ORG-8 ORG-9 ORG-10
func TestConnectsThatAreNotInOrderAreRefusedInWords(t *testing.T) {
	w := start(t, func(http.ResponseWriter, *http.Request) { t.Error("the handler ran") })
	s := w.hop(w.proxy)
	other := must(x509.ParseCertificate(must(w.proxies.Proxy("other.example")).Certificate[0]))
	for _, c := range []struct {
		name   string
		status int
		change func(*visit)
	}{
		{"another host", 421, func(v *visit) { v.open.Authority, v.offer.Authority = "other.example:443", "other.example:443" }},
		{"an address not in the certificate", 421, func(v *visit) { v.open.Authority, v.offer.Authority = "127.0.0.2:443", "127.0.0.2:443" }},
		{"no port", 400, func(v *visit) { v.open.Authority = name }},
		{"upper case", 400, func(v *visit) { v.open.Authority = "Origin.example:443" }},
		{"no evidence-request", 400, func(v *visit) { v.bare = true }},
		{"garbage in evidence-request", 400, func(v *visit) { v.open.Header.Set("Evidence-Request", "garbage") }},
		{"a request that is not one", 400, func(v *visit) { v.raw = []byte{17, 0, 0, 1, 0} }},
		{"an offer for another authority", 403, func(v *visit) { v.offer.Authority = "other.example:443" }},
		{"an offer for another port", 403, func(v *visit) { v.offer.Authority = name + ":444" }},
		{"an offer for another proxy", 403, func(v *visit) { v.offer.Proxies = [][32]byte{pki.LeafHash(other)} }},
		{"this proxy, but not last", 403, func(v *visit) { v.offer.Proxies = [][32]byte{v.offer.Proxies[0], pki.LeafHash(other)} }},
		{"another path", 400, func(v *visit) { v.open.Path = "/x" }},
		{"plain CONNECT", 403, func(v *visit) { v.open.Protocol, v.open.Path = "", "" }},
		{"another protocol", 501, func(v *visit) { v.open.Protocol = "websocket" }},
		{"an ordinary request", 421, func(v *visit) { v.open.Protocol, v.open.Method = "", "GET" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := w.visit()
			c.change(v)
			if err := w.connect(s, v); err != nil {
				t.Fatal(err)
			}
			if v.resp.Status != c.status || v.stream != nil || v.resp.Evidence != nil {
				t.Errorf("status %d, evidence %x", v.resp.Status, v.resp.Evidence)
			}
			if b := string(v.resp.Body); strings.Count(b, "\n") != 1 || !strings.HasSuffix(b, "\n") {
				t.Errorf("body %q", b)
			}
		})
	}
	w.tunnel(s) // and the hop still works
}

// spec: ORG-11
func TestARepeatedNonceIsRefused(t *testing.T) {
	w := start(t, func(http.ResponseWriter, *http.Request) {})
	s := w.hop(w.proxy)
	v := w.visit()
	c, err := w.enter(s, v)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := w.connect(s, v); err != nil || v.resp.Status != 403 || v.resp.Evidence != nil {
		t.Errorf("%+v %v", v.resp, err)
	}
}

// spec: ORG-12 ORG-13
func TestAnInnerSessionThatContradictsItsTunnelIsAborted(t *testing.T) {
	w := start(t, func(http.ResponseWriter, *http.Request) { t.Error("the handler ran") })
	s := w.hop(w.proxy)
	for _, c := range []struct {
		name   string
		alert  tlsmsg.Alert
		change func(*visit)
	}{
		{"no offer", tlsmsg.AlertAccessDenied, func(v *visit) { v.inner = nil }},
		{"another nonce", tlsmsg.AlertAccessDenied, func(v *visit) { v.inner.Nonce[0]++ }},
		{"another authority", tlsmsg.AlertAccessDenied, func(v *visit) { v.inner.Authority = name + ":444" }},
		{"another proxy", tlsmsg.AlertAccessDenied, func(v *visit) { v.inner.Proxies = [][32]byte{{1}} }},
		{"one more proxy", tlsmsg.AlertAccessDenied, func(v *visit) { v.inner.Proxies = [][32]byte{{1}, v.offer.Proxies[0]} }},
		{"no ALPN", tlsmsg.AlertNoApplicationProtocol, func(v *visit) { v.tls.NextProtos = nil }},
		{"another ALPN", tlsmsg.AlertNoApplicationProtocol, func(v *visit) { v.tls.NextProtos = []string{"h2"} }},
		{"another server name", tlsmsg.AlertIllegalParameter, func(v *visit) { v.sni = "127.0.0.1" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := w.visit()
			c.change(v)
			conn, err := w.enter(s, v)
			if err == nil {
				conn.Close()
				t.Fatal("the session was served")
			}
			if v.stream == nil {
				t.Fatalf("the tunnel itself was refused: %v", err)
			}
			if alert, ok := errors.AsType[*itls.AlertError](err); !ok || !alert.Remote || alert.Alert != c.alert {
				t.Errorf("%v, want %v from the origin", err, c.alert)
			}
		})
	}
	conn := w.tunnel(s)
	if conn.InspectionAnswer() == nil {
		t.Error("the hop does not work any more")
	}
}

// spec: ORG-14
func TestProxyRootsRefuseStrangers(t *testing.T) {
	w := newWorld(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if i, _ := InspectionOf(r.Context()); !i.ProxyVerified {
			t.Error("the proxy is not said to be verified")
		}
	}))
	w.serve(&Config{ProxyRoots: w.proxies.Pool().CertPool})
	stranger := must(must(pki.NewAuthority("others", w.proxies.Root.NotBefore)).Proxy("proxy.example"))
	for name, certs := range map[string][]tls.Certificate{
		"no certificate":         nil,
		"another root":           {stranger},
		"not a proxy's profile":  {must(w.proxies.Client("proxy.example"))},
		"the origins' own roots": {must(w.origins.Proxy("proxy.example"))},
	} {
		v := w.visit()
		if len(certs) > 0 {
			v.offer.Proxies[0] = sha256.Sum256(certs[0].Certificate[0])
		}
		if err := w.connect(w.hop(certs...), v); err != nil || v.resp.Status != 403 {
			t.Errorf("%s: %+v %v", name, v.resp, err)
		}
	}
	roundTrip(t, w.tunnel(w.hop(w.proxy)))
}

// spec: ORG-2
func TestAProxyIsToldOfTheProxyRootsAlone(t *testing.T) {
	w := newWorld(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	w.srv.TLSConfig.ClientCAs, w.srv.TLSConfig.ClientAuth = w.origins.Pool().CertPool, tls.RequireAndVerifyClientCert
	w.serve(&Config{ProxyRoots: w.proxies.Pool().CertPool})
	var names [][]byte
	tc, err := w.dialConfig(&tls.Config{NextProtos: tokens(), GetClientCertificate: func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		names = info.AcceptableCAs
		return new(tls.Certificate), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	tc.Close()
	if len(names) != 1 || !bytes.Equal(names[0], w.proxies.Root.RawSubject) {
		t.Errorf("the origin names %q", names)
	}
}

// spec: ORG-2 ORG-20
func TestOrdinaryClientsAreAskedForNoCertificateButProxiesAre(t *testing.T) {
	w := start(t, func(http.ResponseWriter, *http.Request) {})
	for _, offer := range [][]string{tokens(), {"h2", "http/1.1"}, nil} {
		asked := false
		tc, err := w.dialConfig(&tls.Config{NextProtos: offer, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked = true
			return new(tls.Certificate), nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		tc.Close()
		if want := len(offer) == 3; asked != want {
			t.Errorf("%q: asked %v", offer, asked)
		}
	}
}

// spec: ORG-15
func TestAHopIsNeverResumed(t *testing.T) {
	w := start(t, func(http.ResponseWriter, *http.Request) {})
	for _, c := range []struct {
		offer  []string
		resume bool
	}{{tokens(), false}, {[]string{"http/1.1"}, true}} {
		cache := tls.NewLRUClientSessionCache(4)
		var resumed bool
		for range 2 {
			tc, err := w.dialConfig(&tls.Config{NextProtos: c.offer, ClientSessionCache: cache})
			if err != nil {
				t.Fatal(err)
			}
			resumed = tc.ConnectionState().DidResume
			if c.resume {
				roundTrip(t, tc) // reads the tickets
			} else {
				s := must(h2.Client(tc, nil))
				if err := s.Ready(t.Context()); err != nil {
					t.Error(err)
				}
				s.Close(hop.NoError, "")
				<-s.Done()
			}
			tc.Close()
		}
		if resumed != c.resume {
			t.Errorf("%q: resumed %v", c.offer, resumed)
		}
	}
}

// spec: ORG-1
func TestAHopBelowTLS13IsNotAHop(t *testing.T) {
	w := start(t, func(http.ResponseWriter, *http.Request) {})
	tc, err := w.dialConfig(&tls.Config{NextProtos: tokens(), MaxVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	if p := tc.ConnectionState().NegotiatedProtocol; p != "http/1.1" {
		t.Errorf("picked %q", p)
	}
	roundTrip(t, tc)
	tc.Close()
}

func TestClientCertificatesAreAskedForInsideOnly(t *testing.T) {
	w := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	w.srv.TLSConfig.ClientAuth = tls.RequireAndVerifyClientCert
	w.srv.TLSConfig.ClientCAs = w.origins.Pool().CertPool
	w.serve(nil)
	s := w.hop(w.proxy)
	v := w.visit()
	if c, err := w.enter(s, v); err == nil {
		if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Error("a client without a certificate was served")
		}
		c.Close()
	}
	v = w.visit()
	v.tls.Certificates = []tls.Certificate{must(w.origins.Client("alice"))}
	c, err := w.enter(s, v)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	resp := roundTrip(t, c)
	if body, _ := io.ReadAll(resp.Body); string(body) != "alice" {
		t.Errorf("%q", body)
	}
}

func TestAddressesAreServedWithTheCertificateThatHasThem(t *testing.T) {
	w := newWorld(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	w.srv.TLSConfig.Certificates = append([]tls.Certificate{must(w.origins.Origin("first.example"))}, w.srv.TLSConfig.Certificates...)
	w.serve(nil)
	s := w.hop(w.proxy)
	for host, a := range map[string]string{"127.0.0.1": "127.0.0.1:8443", "::1": "[::1]:443", "first.example": "first.example:1", name: authority} {
		v := w.visit()
		v.offer.Authority, v.inner.Authority, v.open.Authority, v.sni = a, a, a, host
		c, err := w.enter(s, v)
		if err != nil {
			t.Errorf("%s: %v", a, err)
			continue
		}
		if err := c.ConnectionState().PeerCertificates[0].VerifyHostname(host); err != nil {
			t.Errorf("%s: %v", a, err)
		}
		c.Close()
	}
}

func TestHooksOfTheServerSeeTunnels(t *testing.T) {
	type key struct{}
	w := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Context().Value(key{}), r.Context().Value(http.ServerContextKey) != nil)
	}))
	w.srv.BaseContext = func(net.Listener) context.Context { return context.WithValue(context.Background(), key{}, "base") }
	seen := make(chan bool, 4)
	w.srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		_, inside := InspectionOf(ctx)
		seen <- inside
		return context.WithValue(ctx, key{}, fmt.Sprint(ctx.Value(key{}), "+conn "))
	}
	w.serve(nil)
	if _, got := get(t, w.client(w.hop(w.proxy)), site); got != "base+conn true" {
		t.Errorf("%q", got)
	}
	if hop, inner := <-seen, <-seen; hop || !inner {
		t.Errorf("ConnContext saw %v for the hop and %v for the tunnel", hop, inner)
	}
}

func TestAHookThatForgetsItsContextDoesNotHideTheInspection(t *testing.T) {
	ok := false
	w := newWorld(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, ok = InspectionOf(r.Context()) }))
	w.srv.ConnContext = func(context.Context, net.Conn) context.Context { return context.Background() }
	w.serve(nil)
	roundTrip(t, w.tunnel(w.hop(w.proxy)))
	if !ok {
		t.Error("no inspection")
	}
}

func TestConnStateRunsThroughItsStatesForATunnel(t *testing.T) {
	var mu sync.Mutex
	var states []http.ConnState
	closed := make(chan struct{})
	w := newWorld(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	w.srv.ConnState = func(c net.Conn, s http.ConnState) {
		if _, tunnel := c.(*conn); !tunnel {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		states = append(states, s)
		if s == http.StateClosed {
			close(closed)
		}
	}
	w.serve(nil)
	c := w.tunnel(w.hop(w.proxy))
	roundTrip(t, c)
	roundTrip(t, c)
	c.Close()
	<-closed
	want := []http.ConnState{http.StateNew, http.StateActive, http.StateIdle, http.StateActive, http.StateIdle, http.StateClosed}
	if !reflect.DeepEqual(states, want) {
		t.Errorf("%v", states)
	}
}

func TestAPanicInACallbackCostsOneTunnel(t *testing.T) {
	w := newWorld(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	cert := w.srv.TLSConfig.Certificates[0]
	var mu sync.Mutex
	armed := false
	w.srv.TLSConfig = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		if armed {
			armed = false
			panic("in a callback")
		}
		return &cert, nil
	}}
	w.serve(nil)
	s := w.hop(w.proxy)
	mu.Lock()
	armed = true
	mu.Unlock()
	var re *hop.ResetError
	if err := w.connect(s, w.visit()); !errors.As(err, &re) || re.Code != hop.InternalError {
		t.Errorf("the tunnel: %v", err)
	}
	if !strings.Contains(w.log.String(), "in a callback") {
		t.Error("the panic is not in the log")
	}
	roundTrip(t, w.tunnel(s))
}
