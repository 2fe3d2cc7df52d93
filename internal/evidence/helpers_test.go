package evidence

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"vitrine/frames"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
)

const (
	testHost      = "origin.example"
	testAuthority = "origin.example:443"
)

// party is the certificates of a test, made once: keys are slow.
type party struct {
	origins, proxies, strangers *pki.Authority
	proxy                       tls.Certificate
	origin                      tls.Certificate // with an intermediate
}

var parties = sync.OnceValue(func() *party {
	p := new(party)
	var err error
	must := func(e error) {
		if e != nil {
			panic(e)
		}
	}
	now := time.Now()
	p.origins, err = pki.NewAuthority("origin root", now)
	must(err)
	p.proxies, err = pki.NewAuthority("proxy root", now)
	must(err)
	p.strangers, err = pki.NewAuthority("a root nobody knows", now)
	must(err)
	p.proxy, err = p.proxies.Proxy("proxy.example")
	must(err)
	inter, err := p.origins.Intermediate(&x509.Certificate{})
	must(err)
	p.origin, err = inter.Origin(testHost, "127.0.0.1", "::1")
	must(err)
	return p
})

func key(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	var k crypto.Signer
	var err error
	switch kind {
	case "P-256":
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "P-384":
		k, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "P-521":
		k, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "RSA":
		k, err = rsa.GenerateKey(rand.Reader, 2048)
	case "Ed25519":
		_, k, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func originCert(t testing.TB, kind string) tls.Certificate {
	t.Helper()
	c, err := parties().origins.Issue(&x509.Certificate{
		DNSNames:    []string{testHost},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, key(t, kind))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// connect is one CONNECT of a client: its request, and the verifier for what comes back.
type connect struct {
	req      *Request
	verifier *Verifier
}

func newConnect(t testing.TB, authority string) *connect {
	t.Helper()
	offer := &tlsmsg.InspectionOffer{Proxies: [][32]byte{pki.LeafHash(parties().proxy.Leaf)}, Authority: authority}
	rand.Read(offer.Nonce[:])
	return connectWith(t, offer)
}

func connectWith(t testing.TB, offer *tlsmsg.InspectionOffer) *connect {
	t.Helper()
	host, err := hostOf(offer.Authority)
	if err != nil {
		t.Fatal(err)
	}
	if isIP(host) {
		host = ""
	}
	raw, err := NewRequest(offer, host)
	if err != nil {
		t.Fatal(err)
	}
	req, err := ParseRequest(raw)
	if err != nil {
		t.Fatal(err)
	}
	return &connect{req, &Verifier{
		Request:   raw,
		Authority: offer.Authority,
		Proxies:   offer.Proxies,
		Roots:     parties().origins.Pool().CertPool,
	}}
}

// proxyConfig is what a proxy dials origins with.
func proxyConfig() *tls.Config {
	return &tls.Config{
		RootCAs:    parties().origins.Pool().CertPool,
		ServerName: testHost,
		NextProtos: []string{frames.ALPNH2, frames.ALPNRaw, "http/1.1"},
	}
}

// dialed is both ends of a hop 2 after its handshake.
type dialed struct {
	dial           *Dial
	client, server tls.ConnectionState
	serverConn     *tls.Conn
	clientConn     *tls.Conn
}

// connPair is a connection on loopback: net.Pipe has no buffer, and both sides of a TLS handshake may write.
func connPair(t testing.TB) (near, far net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if near, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// handshake runs hop 2. server and cfg may be changed by the caller before.
func handshake(t testing.TB, c *connect, cfg, server *tls.Config) (*dialed, error) {
	t.Helper()
	d, err := NewDial(cfg, c.req, c.req.Offer.Proxies, c.req.Offer.Authority)
	if err != nil {
		return nil, err
	}
	near, far := connPair(t)
	srv := tls.Server(far, server)
	var wg sync.WaitGroup
	var serverErr error
	wg.Go(func() {
		if serverErr = srv.HandshakeContext(t.Context()); serverErr != nil {
			far.Close()
		}
	})
	conn := tls.Client(d.Tap(near), d.Config())
	if err := conn.HandshakeContext(t.Context()); err != nil {
		near.Close()
		wg.Wait()
		d.Discard()
		return nil, fmt.Errorf("%w; the server: %v", err, serverErr)
	}
	wg.Wait()
	if serverErr != nil {
		return nil, serverErr
	}
	return &dialed{d, conn.ConnectionState(), srv.ConnectionState(), srv, conn}, nil
}

// serverConfig is a stock origin.
func serverConfig(cert tls.Certificate) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{cert},
		NextProtos:   []string{"h2", "http/1.1"},
	}
}

// transcriptOf is good evidence of kind Transcript for c.
func transcriptOf(t testing.TB, c *connect, mods ...func(cfg, server *tls.Config)) *Evidence {
	t.Helper()
	cfg, server := proxyConfig(), serverConfig(parties().origin)
	for _, mod := range mods {
		mod(cfg, server)
	}
	d, err := handshake(t, c, cfg, server)
	if err != nil {
		t.Fatal(err)
	}
	e, err := d.dial.Evidence(d.client, true)
	if err != nil {
		t.Fatal(err)
	}
	if e.Kind != Transcript {
		t.Fatalf("got a %v", e.Kind)
	}
	return e
}

// overTheWire is what a client sees of e.
func overTheWire(t testing.TB, e *Evidence) *Evidence {
	t.Helper()
	p, err := e.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(p)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func wantReason(t testing.TB, err error, want Reason) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *Error for %q", err, want)
	}
	if e.Reason != want {
		t.Fatalf("got %v, want the reason %q", err, want)
	}
}

func wantUntrusted(t testing.TB, err error) {
	t.Helper()
	var e *CertificateError
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a *CertificateError", err)
	}
}

func writePEM(t testing.TB, dir string, cert tls.Certificate) (certFile, keyFile string) {
	t.Helper()
	var chain []byte
	for _, der := range cert.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := os.WriteFile(certFile, chain, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile
}
