package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/frames"
	"vitrine/internal/connectto"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/hop/raw/pipe"
	"vitrine/internal/pki"
)

// A fakeListener has an address and fails as it is told.
type fakeListener struct {
	addr   net.Addr
	errs   []error
	conns  chan net.Conn
	closed atomic.Bool
}

func (l *fakeListener) Addr() net.Addr { return l.addr }
func (l *fakeListener) Close() error {
	if !l.closed.Swap(true) {
		close(l.conns)
	}
	return nil
}

func (l *fakeListener) Accept() (net.Conn, error) {
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		return nil, err
	}
	c := <-l.conns
	if c == nil {
		return nil, net.ErrClosed
	}
	return c, nil
}

func newFakeListener(addr net.Addr, errs ...error) *fakeListener {
	return &fakeListener{addr: addr, errs: errs, conns: make(chan net.Conn)}
}

type otherAddr struct{ network, text string }

func (a otherAddr) Network() string { return a.network }
func (a otherAddr) String() string  { return a.text }

func newTestProxy(t *testing.T) *Proxy {
	t.Helper()
	cert, err := newAuthority(t, "proxies").Proxy(proxyName)
	if err != nil {
		t.Fatal(err)
	}
	return &Proxy{Certificate: cert}
}

// spec: PRX-24
func TestAProxyThatAnyoneReachesWantsCertificates(t *testing.T) {
	for _, c := range []struct {
		addr net.Addr
		open bool // it may be served without client certificates
	}{
		{&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, true},
		{&net.TCPAddr{IP: net.IPv4(127, 8, 0, 1)}, true},
		{&net.TCPAddr{IP: net.IPv6loopback}, true},
		{&net.TCPAddr{IP: net.ParseIP("::ffff:127.0.0.1")}, true},
		{&net.UnixAddr{Name: "/run/vitrine", Net: "unix"}, true},
		{otherAddr{"pipe", "pipe"}, true},
		{otherAddr{"tcp", "127.0.0.1:443"}, true},
		{&net.TCPAddr{}, false},
		{&net.TCPAddr{IP: net.IPv4zero}, false},
		{&net.TCPAddr{IP: net.IPv6unspecified}, false},
		{&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}, false},
		{&net.TCPAddr{IP: net.IPv4(192, 0, 1, 1)}, false},
		{otherAddr{"tcp", "somewhere"}, false},
		{otherAddr{"tcp", "[::]:443"}, false},
	} {
		p := newTestProxy(t)
		ln := newFakeListener(c.addr, syscall.EBADF)
		err := p.Serve(ln)
		if errors.Is(err, ErrOpenProxy) == c.open || c.open && !errors.Is(err, syscall.EBADF) {
			t.Errorf("%v: %v", c.addr, err)
		}
		if !ln.closed.Load() {
			t.Errorf("%v: not closed", c.addr)
		}
		p.Close()

		p = newTestProxy(t)
		p.ClientCAs = newAuthority(t, "clients").Pool().CertPool
		if err := p.Serve(newFakeListener(c.addr, syscall.EBADF)); !errors.Is(err, syscall.EBADF) {
			t.Errorf("%v with client certificates: %v", c.addr, err)
		}
		p.Close()
	}
}

func TestAConfigurationThatCannotWork(t *testing.T) {
	origins := newAuthority(t, "origins")
	origin, err := origins.Origin(originName)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Proxy){
		"no certificate":       func(p *Proxy) { p.Certificate = tls.Certificate{} },
		"an origin's":          func(p *Proxy) { p.Certificate = origin },
		"an unknown mode":      func(p *Proxy) { p.Policy.Modes = []fields.Mode{"other"} },
		"an expired one":       func(p *Proxy) { p.Time = func() time.Time { return time.Now().Add(31 * 24 * time.Hour) } },
		"a broken certificate": func(p *Proxy) { p.Certificate = tls.Certificate{Certificate: [][]byte{{1}}} },
	} {
		t.Run(name, func(t *testing.T) {
			p := newTestProxy(t)
			change(p)
			if err := p.Serve(pipe.Listen()); err == nil || errors.Is(err, ErrServerClosed) {
				t.Errorf("Serve: %v", err)
			}
			p.Close()
		})
	}
}

func TestAcceptErrorsThatPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTestProxy(t)
		ln := newFakeListener(otherAddr{"pipe", "pipe"}, &net.OpError{Op: "accept", Err: syscall.EMFILE}, syscall.ECONNABORTED, syscall.ENFILE)
		served := make(chan error, 1)
		start := time.Now()
		go func() { served <- p.Serve(ln) }()
		a, b := pipe.New()
		ln.conns <- b // taken, although three Accepts failed
		if d := time.Since(start); d < 3*shortestPause || d > time.Second {
			t.Errorf("after %v", d)
		}
		a.Close()
		p.Close()
		if err := <-served; !errors.Is(err, ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
}

func TestServeEndsWhenItsListenerFails(t *testing.T) {
	p := newTestProxy(t)
	defer p.Close()
	if err := p.Serve(newFakeListener(otherAddr{"pipe", "pipe"}, io.ErrUnexpectedEOF)); err != io.ErrUnexpectedEOF {
		t.Errorf("Serve: %v", err)
	}
	p.Close()
	if err := p.Serve(pipe.Listen()); !errors.Is(err, ErrServerClosed) {
		t.Errorf("Serve after Close: %v", err)
	}
}

func TestConnectionsOfHop1AreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, func(p *Proxy) { p.Limits.Connections = 2 })
		a, b := st.client(nil), st.client(nil)
		dialled := make(chan net.Conn, 1)
		go func() {
			c, err := st.ln.Dial(t.Context())
			if err != nil {
				t.Error(err)
			}
			dialled <- c
		}()
		synctest.Wait()
		if len(dialled) != 0 {
			t.Error("a third was taken")
		}
		a.Close(hop.NoError, "")
		(<-dialled).Close()
		b.Close(hop.NoError, "")
		st.close()
	})
}

func TestGarbageAndSilenceOnHop1(t *testing.T) {
	for name, say := range map[string]string{
		"garbage":          strings.Repeat("garbage", 1000),
		"HTTP":             "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"silence":          "",
		"a cut handshake":  "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"a huge handshake": "\x16\x03\x01\x40\x00\x01\xff\xff\xff",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newStage(t)
				conn, err := st.ln.Dial(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				start := time.Now()
				io.WriteString(conn, say)
				io.Copy(io.Discard, conn) // until the proxy gives up
				if d := time.Since(start); d > 10*time.Second {
					t.Errorf("after %v", d)
				}
				st.close()
				if n := strings.Count(st.log.String(), "no hop 1"); n != 1 {
					t.Errorf("%d lines:\n%s", n, st.log.String())
				}
			})
		})
	}
}

func TestHop1IsTLS13(t *testing.T) {
	st := newStage(t)
	conn, err := st.ln.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cfg := &tls.Config{RootCAs: st.proxies.Pool().CertPool, ServerName: proxyName, MaxVersion: tls.VersionTLS12}
	if err := tls.Client(conn, cfg).Handshake(); err == nil {
		t.Error("TLS 1.2 was taken")
	}
}

// spec: PRX-24
func TestClientsWithoutACertificateAreRefused(t *testing.T) {
	clients, others := newAuthority(t, "clients"), newAuthority(t, "others")
	st := newStage(t, func(p *Proxy) { p.ClientCAs = clients.Pool().CertPool })
	stranger, err := others.Client("mallory")
	if err != nil {
		t.Fatal(err)
	}
	for name, certs := range map[string][]tls.Certificate{"none": nil, "a stranger's": {stranger}} {
		conn, err := st.ln.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		tc := tls.Client(conn, &tls.Config{
			RootCAs: st.proxies.Pool().CertPool, ServerName: proxyName, NextProtos: []string{"h2"},
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if len(certs) == 0 {
					return new(tls.Certificate), nil
				}
				return &certs[0], nil
			},
		})
		if err := tc.Handshake(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		// TLS 1.3 refuses a client behind the client's own handshake.
		var op *net.OpError
		if _, err := tc.Read(make([]byte, 1)); !errors.As(err, &op) || op.Op != "remote error" {
			t.Errorf("%s: %v", name, err)
		}
		conn.Close()
	}
}

// Nothing of a proxy's shows its own certificate as an origin's, however it is reached.
func TestAProxyDoesNotReachItself(t *testing.T) {
	var inner *pipe.Listener
	st := newStage(t, func(p *Proxy) {
		rule, err := connectto.Parse("proxy.example:443:127.0.0.1:8443")
		if err != nil {
			t.Fatal(err)
		}
		p.ConnectTo = connectto.Rules{rule}
	})
	inner = st.ln
	st.mu.Lock()
	st.listeners["127.0.0.1:8443"] = inner
	st.mu.Unlock()
	c := st.connect(st.client(nil), proxyName+":443")
	c.says(502, "tls_certificate_error")
}

func TestNamesOfTheProxy(t *testing.T) {
	proxies := newAuthority(t, "proxies")
	for _, c := range []struct {
		names []string
		set   string
		name  string
		via   string
	}{
		{[]string{proxyName, "other.example"}, "", proxyName, proxyName},
		{[]string{"127.0.0.1"}, "", "127.0.0.1", "127.0.0.1"},
		{[]string{"::1"}, "", "::1", "__1"},
		{[]string{proxyName}, "the proxy, really", "the proxy, really", "the_proxy__really"},
	} {
		cert, err := proxies.Proxy(c.names...)
		if err != nil {
			t.Fatal(err)
		}
		p := &Proxy{Certificate: cert, Name: c.set}
		r, err := p.start()
		if err != nil {
			t.Fatal(err)
		}
		if f := r.current.Load().front; f.name != c.name || f.via != c.via {
			t.Errorf("%v: %q, via %q", c.names, f.name, f.via)
		}
		p.Close()
	}
}

// The proxy's leaf is what names it in offers, whether the caller parsed it or not.
func TestTheLeafIsParsedWhereTheCallerDidNot(t *testing.T) {
	p := newTestProxy(t)
	want := pki.LeafHash(p.Certificate.Leaf)
	p.Certificate.Leaf = nil
	r, err := p.start()
	if err != nil {
		t.Fatal(err)
	}
	if got := r.current.Load().front.hash; got != want {
		t.Errorf("%x, want %x", got, want)
	}
	p.Close()
}

func TestWhichTokensCount(t *testing.T) {
	for _, c := range []struct {
		version uint16
		alpn    string
		want    string
	}{
		{tls.VersionTLS13, frames.ALPNH2, frames.ALPNH2},
		{tls.VersionTLS13, frames.ALPNRaw, frames.ALPNRaw},
		{tls.VersionTLS12, frames.ALPNH2, ""},
		{tls.VersionTLS12, frames.ALPNRaw, ""},
		{tls.VersionTLS13, "http/1.1", ""},
		{tls.VersionTLS13, "", ""},
		{tls.VersionTLS13, frames.ALPNH3, ""},
	} {
		if got := token(&tls.ConnectionState{Version: c.version, NegotiatedProtocol: c.alpn}); got != c.want {
			t.Errorf("%x %q: %q", c.version, c.alpn, got)
		}
	}
}
