package client_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"vitrine/client"
	"vitrine/internal/pki"
	"vitrine/origin"
	"vitrine/proxy"
)

// A page through a proxy that reads it: an ordinary http.Client does the rest.
func ExampleTransport() {
	town := startTown()
	defer town.close()

	tr := &client.Transport{
		Proxy:      "https://glass.example",
		ProxyRoots: town.proxyRoots,  // who may vouch for proxies
		Roots:      town.originRoots, // and who for origins; nil: the system's
		Consent:    client.Once{},    // the user was asked
		ConnectTo:  town.connectTo,
	}
	defer tr.Close()

	resp, err := (&http.Client{Transport: tr}).Get("https://shop.example/vase")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	report := client.ReportOf(resp)
	fmt.Printf("%s\n", body)
	fmt.Println("level:", report.Level)
	fmt.Println("read by:", report.Proxies[0].Subject)
	fmt.Println("confirmed by the origin:", report.Inner.Confirmed)
	fmt.Println("evidence:", report.Evidence.Kind)
	// Output:
	// The vase costs 100 crowns.
	// level: intact
	// read by: CN=glass.example
	// confirmed by the origin: true
	// evidence: authenticator
}

// A proxy can end an exchange, and then says why.
func ExampleKilledError() {
	town := startTown()
	defer town.close()
	tr := town.transport()
	defer tr.Close()

	_, err := (&http.Client{Transport: tr}).Get("https://shop.example/safe")
	if killed := (*client.KilledError)(nil); errors.As(err, &killed) {
		fmt.Println("killed by:", killed.Proxy)
		fmt.Println("rule:", killed.Rule)
		fmt.Println("signed by the proxy:", killed.SignatureVerified)
	}
	// Output:
	// killed by: glass.example
	// rule: no-safes
	// signed by the proxy: true
}

// A Consent may ask, or look up what the user said before. Package client/consent does both.
func ExampleConsent() {
	town := startTown()
	defer town.close()
	tr := town.transport()
	tr.Consent = client.ConsentFunc(func(_ context.Context, req *client.ConsentRequest) (*client.Agreement, error) {
		fmt.Println(req.Words)
		return nil, errors.New("not today")
	})
	defer tr.Close()

	_, err := (&http.Client{Transport: tr}).Get("https://shop.example/vase")
	if trust := (*client.TrustError)(nil); errors.As(err, &trust) && trust.Party == client.PartyConsent {
		fmt.Println(trust)
	}
	// Output:
	// The proxy glass.example, and whoever it lets in, reads everything that you and shop.example:443 say to each other: addresses, header fields, forms and pages. It can end an exchange; what it changes is noticed.
	// no consent: not today
}

// A Dialer gives connections to those who speak for themselves.
func ExampleDialer() {
	town := startTown()
	defer town.close()

	d := &client.Dialer{
		Proxy: "https://glass.example", ProxyRoots: town.proxyRoots, Roots: town.originRoots,
		Consent: client.Once{}, ConnectTo: town.connectTo,
	}
	defer d.Close()
	conn, err := d.DialTunnel(context.Background(), "shop.example:443")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Println("level:", conn.Level())
	io.WriteString(conn, "GET /vase HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		log.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	fmt.Printf("%s, %v\n", body, err)
	// Output:
	// level: intact
	// The vase costs 100 crowns., <nil>
}

// A town is a proxy and an origin on loopback sockets.
type town struct {
	proxyRoots, originRoots *x509.CertPool
	connectTo               client.ConnectTo
	stop                    []func() error
}

func (n *town) transport() *client.Transport {
	return &client.Transport{
		Proxy: "https://glass.example", ProxyRoots: n.proxyRoots, Roots: n.originRoots,
		Consent: client.Once{}, ConnectTo: n.connectTo,
	}
}

func (n *town) close() {
	for _, stop := range n.stop {
		stop()
	}
}

func startTown() *town {
	origins := must(pki.NewAuthority("Origins", time.Now()))
	proxies := must(pki.NewAuthority("Proxies", time.Now()))
	n := &town{proxyRoots: proxies.Pool().CertPool, originRoots: origins.Pool().CertPool}

	srv := &http.Server{
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{must(origins.Origin("shop.example"))}},
		ErrorLog:  log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "The vase costs 100 crowns.")
		}),
	}
	if err := origin.ConfigureServer(srv, nil); err != nil {
		log.Fatal(err)
	}
	shop := must(net.Listen("tcp", "127.0.0.1:0"))
	go srv.ServeTLS(shop, "", "")

	p := &proxy.Proxy{
		Certificate: must(proxies.Proxy("glass.example")),
		Roots:       n.originRoots,
		Inspectors:  []proxy.Inspector{noSafes{}},
		ConnectTo:   must(client.ParseConnectTo("shop.example:443:" + shop.Addr().String())),
	}
	glass := must(net.Listen("tcp", "127.0.0.1:0"))
	go p.Serve(glass)
	n.connectTo = must(client.ParseConnectTo("glass.example:443:" + glass.Addr().String()))
	n.stop = []func() error{p.Close, srv.Close}
	return n
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

// noSafes is a proxy's inspector.
type noSafes struct{}

func (noSafes) Begin(*proxy.Exchange) proxy.Inspection { return noSafes{} }

func (noSafes) Request(p proxy.Part) proxy.Decision {
	if p.Head != nil && strings.HasPrefix(p.Head.Path, "/safe") {
		return proxy.Decision{Action: proxy.Kill, Rule: "no-safes", Reason: "nobody asks for the safe"}
	}
	return proxy.Decision{Action: proxy.Allow}
}

func (noSafes) Response(proxy.Part) proxy.Decision { return proxy.Decision{Action: proxy.Done} }

func (noSafes) Close(proxy.Outcome) {}
