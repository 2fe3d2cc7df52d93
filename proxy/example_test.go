package proxy_test

import (
	"crypto/tls"
	"log"
	"log/slog"
	"net"
	"strings"

	"vitrine/proxy"
)

// noPasswords is an Inspector: it reads requests, and kills a form that has a password in it.
type noPasswords struct{}

func (noPasswords) Begin(*proxy.Exchange) proxy.Inspection { return &form{} }

// A form is one exchange.
type form struct{ seen strings.Builder }

func (f *form) Request(p proxy.Part) proxy.Decision {
	f.seen.WriteString(p.Body.String())
	if strings.Contains(f.seen.String(), "password=") {
		return proxy.Decision{Action: proxy.Kill, Rule: "no-passwords", Reason: "a form with a password does not leave"}
	}
	if !p.End {
		return proxy.Decision{Action: proxy.Hold} // not a byte of the body leaves before all of it was read
	}
	return proxy.Decision{Action: proxy.Allow}
}

func (f *form) Response(proxy.Part) proxy.Decision { return proxy.Decision{Action: proxy.Done} }

func (f *form) Close(proxy.Outcome) {}

// A proxy on loopback that reads, and carries what an origin does not let it read.
func Example() {
	cert, err := tls.LoadX509KeyPair("proxy.pem", "proxy.key")
	if err != nil {
		log.Fatal(err)
	}
	p := &proxy.Proxy{
		Certificate: cert,
		Policy:      proxy.Policy{Modes: []proxy.Mode{proxy.Intact, proxy.Blind}},
		Inspectors:  []proxy.Inspector{noPasswords{}},
		Log:         slog.Default(),
	}
	ln, err := net.Listen("tcp", "127.0.0.1:8444")
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(p.Serve(ln))
}
