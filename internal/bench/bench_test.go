package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"vitrine/client"
	"vitrine/internal/connectto"
	"vitrine/internal/pki"
	"vitrine/origin"
	"vitrine/proxy"
)

const (
	host      = "origin.example"
	glass     = "glass.example"
	bulkBytes = 64 << 20
)

// A path is one way from client to origin.
type path struct {
	name string
	open func(*testing.B, *world) http.RoundTripper
}

func paths() []path {
	return []path{
		{"direct", openDirect},
		{"relay", openRelay},
		{"vitrine", func(b *testing.B, w *world) http.RoundTripper { return openVitrine(b, w) }},
		{"vitrine-inspecting", func(b *testing.B, w *world) http.RoundTripper { return openVitrine(b, w, scanner{}) }},
	}
}

// BenchmarkBulk downloads 64 MiB.
func BenchmarkBulk(b *testing.B) {
	for _, p := range paths() {
		b.Run(p.name, func(b *testing.B) {
			rt := p.open(b, newWorld(b))
			b.SetBytes(bulkBytes)
			b.ReportAllocs()
			for b.Loop() {
				fetch(b, rt, "/bulk", bulkBytes)
			}
		})
	}
}

// BenchmarkExchange fetches 1 KiB, again and again, on eight tunnels or connections.
func BenchmarkExchange(b *testing.B) {
	for _, p := range paths() {
		b.Run(p.name, func(b *testing.B) {
			rt := p.open(b, newWorld(b))
			fetch(b, rt, "/small", 1024)
			b.ReportAllocs()
			b.SetParallelism(4)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					fetch(b, rt, "/small", 1024)
				}
			})
		})
	}
}

// BenchmarkFresh makes every connection anew for each exchange of 1 KiB, hops and tunnels alike.
func BenchmarkFresh(b *testing.B) {
	for _, p := range paths() {
		b.Run(p.name, func(b *testing.B) {
			rt := p.open(b, newWorld(b))
			closer := rt.(interface{ CloseIdleConnections() })
			b.ReportAllocs()
			for b.Loop() {
				fetch(b, rt, "/small", 1024)
				closer.CloseIdleConnections()
			}
		})
	}
}

// BenchmarkTunnel opens a tunnel for each exchange of 1 KiB, evidence and inner handshake included, on
// hops that stay. Beside it, what makes a new connection each time.
func BenchmarkTunnel(b *testing.B) {
	for _, p := range paths()[:2] {
		b.Run(p.name, func(b *testing.B) {
			rt := p.open(b, newWorld(b))
			closer := rt.(interface{ CloseIdleConnections() })
			b.ReportAllocs()
			for b.Loop() {
				fetch(b, rt, "/small", 1024)
				closer.CloseIdleConnections()
			}
		})
	}
	b.Run("vitrine", func(b *testing.B) {
		tr := openVitrine(b, newWorld(b))
		tr.IdleTimeout = -1 // no tunnel outlives its exchange
		fetch(b, tr, "/small", 1024)
		b.ReportAllocs()
		for b.Loop() {
			fetch(b, tr, "/small", 1024)
		}
	})
}

func fetch(b *testing.B, rt http.RoundTripper, path string, want int64) {
	req, err := http.NewRequest(http.MethodGet, "https://"+host+path, nil)
	if err != nil {
		b.Error(err)
		return
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		b.Error(err)
		return
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); n != want || err != nil {
		b.Errorf("%s: %d bytes, %v", path, n, err)
	}
}

// world is an origin on a loopback socket, and the PKIs.
type world struct {
	origins, proxies *pki.Authority
	originAddr       *net.TCPAddr
	cert             tls.Certificate
}

func newWorld(b *testing.B) *world {
	w := &world{}
	now := time.Now()
	var err error
	if w.origins, err = pki.NewAuthority("Bench origins", now); err != nil {
		b.Fatal(err)
	}
	if w.proxies, err = pki.NewAuthority("Bench proxies", now); err != nil {
		b.Fatal(err)
	}
	if w.cert, err = w.origins.Origin(host); err != nil {
		b.Fatal(err)
	}
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<12)
	mux := http.NewServeMux()
	mux.HandleFunc("/bulk", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Length", strconv.Itoa(bulkBytes))
		for range bulkBytes / len(content) {
			rw.Write(content)
		}
	})
	mux.HandleFunc("/small", func(rw http.ResponseWriter, _ *http.Request) { rw.Write(content[:1024]) })
	srv := &http.Server{
		Handler: mux, TLSConfig: &tls.Config{Certificates: []tls.Certificate{w.cert}}, ErrorLog: log.New(io.Discard, "", 0),
	}
	if err := origin.ConfigureServer(srv, nil); err != nil {
		b.Fatal(err)
	}
	ln := listen(b)
	w.originAddr = ln.Addr().(*net.TCPAddr)
	own(b, func() error { return srv.ServeTLS(origin.NewListener(ln), "", "") }, srv.Close)
	return w
}

func listen(b *testing.B) net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	return ln
}

func own(b *testing.B, serve, stop func() error) {
	var wg sync.WaitGroup
	wg.Go(func() { _ = serve() })
	b.Cleanup(func() {
		if err := stop(); err != nil && !errors.Is(err, net.ErrClosed) {
			b.Error(err)
		}
		wg.Wait()
	})
}

// stockTransport is net/http's own, with HTTP/1.1, to addr.
func stockTransport(b *testing.B, w *world, addr net.Addr) http.RoundTripper {
	tr := &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: w.origins.Pool().CertPool, NextProtos: []string{"http/1.1"}},
		MaxIdleConnsPerHost: 64,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr.String())
		},
	}
	b.Cleanup(tr.CloseIdleConnections)
	return tr
}

func openDirect(b *testing.B, w *world) http.RoundTripper { return stockTransport(b, w, w.originAddr) }

// openRelay is the floor for anything that reads: a relay that terminates TLS on both sides, with the
// origin's own key, and copies.
func openRelay(b *testing.B, w *world) http.RoundTripper {
	ln := listen(b)
	var wg sync.WaitGroup
	relay := func(conn net.Conn) {
		in := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{w.cert}, NextProtos: []string{"http/1.1"}})
		defer in.Close()
		out, err := tls.Dial("tcp", w.originAddr.String(), &tls.Config{
			RootCAs: w.origins.Pool().CertPool, ServerName: host, NextProtos: []string{"http/1.1"},
		})
		if err != nil {
			return
		}
		defer out.Close()
		wg.Go(func() {
			io.Copy(out, in)
			out.CloseWrite()
		})
		io.Copy(in, out)
	}
	own(b, func() error {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return err
			}
			wg.Go(func() { relay(conn) })
		}
	}, ln.Close)
	b.Cleanup(wg.Wait)
	return stockTransport(b, w, ln.Addr())
}

func openVitrine(b *testing.B, w *world, inspectors ...proxy.Inspector) *client.Transport {
	cert, err := w.proxies.Proxy(glass)
	if err != nil {
		b.Fatal(err)
	}
	ln := listen(b)
	p := &proxy.Proxy{
		Certificate: cert, Roots: w.origins.Pool().CertPool, Inspectors: inspectors,
		ConnectTo: connectto.Rules{rule(host, w.originAddr)},
	}
	own(b, func() error { return p.Serve(ln) }, p.Close)
	tr := &client.Transport{
		Proxy: "https://" + glass, ProxyRoots: w.proxies.Pool().CertPool, Roots: w.origins.Pool().CertPool,
		Consent: client.Once{}, ConnectTo: connectto.Rules{rule(glass, ln.Addr().(*net.TCPAddr))}, SkipDigest: true,
	}
	b.Cleanup(func() {
		if err := tr.Close(); err != nil {
			b.Error(fmt.Errorf("closing the transport: %w", err))
		}
	})
	return tr
}

func rule(name string, addr *net.TCPAddr) connectto.Rule {
	return connectto.Rule{Host: name, Port: 443, Addr: addr.IP.String(), To: addr.Port}
}

// A scanner looks at every byte of every body, as the cheapest content filter does.
type scanner struct{}

func (s scanner) Begin(*proxy.Exchange) proxy.Inspection { return s }

func (scanner) Request(p proxy.Part) proxy.Decision  { return scan(p) }
func (scanner) Response(p proxy.Part) proxy.Decision { return scan(p) }
func (scanner) Close(proxy.Outcome)                  {}

func scan(p proxy.Part) proxy.Decision {
	r := p.Body.Reader()
	var chunk [4096]byte
	for {
		n, err := r.Read(chunk[:])
		if bytes.Contains(chunk[:n], []byte("no body has this in it")) {
			return proxy.Decision{Action: proxy.Kill, Rule: "bench"}
		}
		if err != nil {
			return proxy.Decision{}
		}
	}
}
