// Package testnet is a client, a proxy and an origin in one process, on a network in memory, with places
// where each can be made to lie.
//
// Call [New] in a test. The tests of the package are what it is for: they hold the three roles together
// against honest traffic and against every attack that the design knows.
package testnet

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"vitrine/client"
	"vitrine/internal/hop"
	"vitrine/internal/hop/h2"
	"vitrine/internal/pki"
	"vitrine/origin"
	"vitrine/proxy"
)

// The names of the parties.
const (
	OriginHost = "origin.example"
	ProxyHost  = "proxy.example"
)

// Config says how a Net differs from one of three honest parties. The zero value does not.
type Config struct {
	// Handler is the origin's. Default: 200 and "hello".
	Handler http.Handler
	// Names are those of the origin, all in its certificate. Default: OriginHost.
	Names []string
	// Stock makes the origin an ordinary http.Server.
	Stock bool
	// Origin changes the server before it is configured. It may set its TLSConfig's Certificates.
	Origin func(n *Net, srv *http.Server, cfg *origin.Config)
	// Proxy changes the proxy.
	Proxy func(n *Net, p *proxy.Proxy)
	// Client changes the client.
	Client func(n *Net, tr *client.Transport)
	// Hop1 puts a lying session in the place of hop 1's at the proxy, Hop2 of hop 2's.
	Hop1 func(s hop.Session) hop.Session
	Hop2 func(t *proxy.Target, s hop.Session) hop.Session
	// Dial comes in the place of the proxy's own.
	Dial proxy.DialFunc
}

// A Net is the three parties. Its end is that of the test.
type Net struct {
	*testing.T
	Origins, Proxies *pki.Authority
	ProxyCert        tls.Certificate
	OriginCert       tls.Certificate
	Server           *http.Server
	Proxy            *proxy.Proxy
	Client           *client.Transport

	cfg     Config
	network *network
	ctx     context.Context // ends with the test
	wg      sync.WaitGroup
}

// New starts the three parties. What fails is fatal to the test, and when it ends they are closed and
// waited for.
func New(t *testing.T, cfg Config) *Net {
	t.Helper()
	n := &Net{T: t, cfg: cfg, network: newNetwork()}
	if n.cfg.Names == nil {
		n.cfg.Names = []string{OriginHost}
	}
	if n.cfg.Handler == nil {
		n.cfg.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
	}
	var stop context.CancelFunc
	n.ctx, stop = context.WithCancel(context.Background())
	t.Cleanup(func() {
		stop()
		n.wg.Wait()
	})
	now := time.Now()
	n.Origins = n.authority("Origins of the test", now)
	n.Proxies = n.authority("Proxies of the test", now)
	n.OriginCert = n.certificate(n.Origins.Origin(n.cfg.Names...))
	n.ProxyCert = n.certificate(n.Proxies.Proxy(ProxyHost))
	n.Server = n.startOrigin()
	n.Proxy = n.startProxy()
	n.Client = n.NewClient(n.cfg.Client)
	return n
}

func (n *Net) authority(name string, now time.Time) *pki.Authority {
	n.Helper()
	a, err := pki.NewAuthority(name, now)
	if err != nil {
		n.Fatal(err)
	}
	return a
}

func (n *Net) certificate(cert tls.Certificate, err error) tls.Certificate {
	n.Helper()
	if err != nil {
		n.Fatal(err)
	}
	return cert
}

// Listen puts a listener behind names of its own.
func (n *Net) Listen(names ...string) net.Listener {
	ln := n.network.listen(names...)
	n.Cleanup(func() { ln.Close() })
	return ln
}

// DialContext connects to whoever listens at address.
func (n *Net) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return n.network.DialContext(ctx, network, address)
}

// Go runs f and waits for it when the test ends; f's context ends then.
func (n *Net) Go(f func(ctx context.Context)) { n.wg.Go(func() { f(n.ctx) }) }

// run runs serve, and stop at the end of the test.
func (n *Net) run(serve, stop func() error) {
	done := make(chan error, 1)
	go func() { done <- serve() }()
	n.Cleanup(func() {
		if err := stop(); err != nil && !errors.Is(err, net.ErrClosed) {
			n.Error(err)
		}
		if err := <-done; err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
			n.Error(err)
		}
	})
}

func (n *Net) startOrigin() *http.Server {
	srv := &http.Server{
		Handler:           n.cfg.Handler,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{n.OriginCert}},
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	cfg := new(origin.Config)
	if n.cfg.Origin != nil {
		n.cfg.Origin(n, srv, cfg)
	}
	if !n.cfg.Stock {
		if err := origin.ConfigureServer(srv, cfg); err != nil {
			n.Fatal(err)
		}
	}
	ln := n.Listen(n.cfg.Names...)
	n.run(func() error { return srv.ServeTLS(ln, "", "") }, srv.Close)
	return srv
}

func (n *Net) startProxy() *proxy.Proxy {
	p := &proxy.Proxy{
		Certificate: n.ProxyCert,
		Roots:       n.Origins.Pool().CertPool,
		Targets: proxy.TargetPolicy{
			Allow: special(), Ports: []int{443, 8443}, Resolver: n.network, DialContext: n.network.DialContext,
		},
	}
	if n.cfg.Proxy != nil {
		n.cfg.Proxy(n, p)
	}
	n.StartProxy(p, ProxyHost)
	return p
}

// StartProxy serves p at host. It lies as the Config says.
func (n *Net) StartProxy(p *proxy.Proxy, host string) {
	ln := n.Listen(host)
	if n.cfg.Hop1 == nil && n.cfg.Hop2 == nil && n.cfg.Dial == nil {
		n.run(func() error { return p.Serve(ln) }, p.Close)
		return
	}
	n.run(func() error { return n.serveLiar(p, ln) }, func() error {
		ln.Close()
		return p.Close()
	})
}

// serveLiar does what p.Serve does, with sessions that lie.
func (n *Net) serveLiar(p *proxy.Proxy, ln net.Listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		wg.Go(func() {
			defer conn.Close()
			tc := tls.Server(conn, &tls.Config{
				Certificates: []tls.Certificate{p.Certificate}, MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}, Time: p.Time,
				KeyLogWriter: p.KeyLog, ClientAuth: clientAuth(p), ClientCAs: p.ClientCAs,
			})
			if tc.HandshakeContext(n.ctx) != nil {
				return
			}
			s, err := h2.Server(tc, &h2.Config{Limits: p.Limits.Hop, Ordinary: true})
			if err != nil {
				n.Error(err)
				return
			}
			if n.cfg.Hop1 != nil {
				s = n.cfg.Hop1(s)
			}
			_ = p.ServeSession(n.ctx, s, n.dial(p)) // it ends with the reason of its end, always
		})
	}
}

func clientAuth(p *proxy.Proxy) tls.ClientAuthType {
	if p.ClientCAs == nil {
		return tls.NoClientCert
	}
	return tls.RequireAndVerifyClientCert
}

func (n *Net) dial(p *proxy.Proxy) proxy.DialFunc {
	dial := p.Dial
	if n.cfg.Dial != nil {
		dial = n.cfg.Dial
	}
	return func(ctx context.Context, t *proxy.Target) (*proxy.Upstream, error) {
		up, err := dial(ctx, t)
		if err == nil && up.Session != nil && n.cfg.Hop2 != nil {
			up.Session = n.cfg.Hop2(t, up.Session)
		}
		return up, err
	}
}

// NewClient returns one more client, with the user's consent. change, if not nil, changes it before use.
func (n *Net) NewClient(change func(n *Net, tr *client.Transport)) *client.Transport {
	tr := &client.Transport{
		Proxy:      "https://" + ProxyHost,
		ProxyRoots: n.Proxies.Pool().CertPool,
		Roots:      n.Origins.Pool().CertPool,
		Consent:    client.Once{},
		NetDial:    n.network.DialContext,
	}
	if change != nil {
		change(n, tr)
	}
	n.Cleanup(func() { tr.Close() })
	return tr
}

// NewDialer returns a Dialer that is otherwise like NewClient's Transport.
func (n *Net) NewDialer(change func(d *client.Dialer)) *client.Dialer {
	d := &client.Dialer{
		Proxy:      "https://" + ProxyHost,
		ProxyRoots: n.Proxies.Pool().CertPool,
		Roots:      n.Origins.Pool().CertPool,
		Consent:    client.Once{},
		NetDial:    n.network.DialContext,
	}
	if change != nil {
		change(d)
	}
	n.Cleanup(func() { d.Close() })
	return d
}
