package testnet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vitrine/client"
	"vitrine/frames"
	"vitrine/internal/pki"
	"vitrine/origin"
	"vitrine/proxy"
)

// A line is a Net whose proxy goes through others.
type line struct {
	*Net
	proxies []*proxy.Proxy // client side first
	certs   []tls.Certificate
	read    []*recorder

	mu    sync.Mutex
	asked []client.ConsentRequest
	seen  []*origin.Inspection
}

func chainHost(i int) string {
	if i == 0 {
		return ProxyHost
	}
	return fmt.Sprintf("proxy%d.example", i+1)
}

// newLine starts a chain of length proxies. change, if not nil, changes each before it serves.
func newLine(t *testing.T, length int, cfg Config, change func(c *line, i int, p *proxy.Proxy)) *line {
	t.Helper()
	c := &line{proxies: make([]*proxy.Proxy, length), certs: make([]tls.Certificate, length)}
	prepare := func(n *Net, i int, p *proxy.Proxy) {
		c.certs[i], c.proxies[i] = p.Certificate, p
		c.read = append(c.read, newRecorder())
		p.Inspectors = []proxy.Inspector{c.read[i]}
		if i > 0 {
			p.ClientCAs = n.Proxies.Pool().CertPool
		}
		if i < length-1 {
			p.Upstream = &proxy.UpstreamProxy{URL: "https://" + chainHost(i+1), Roots: n.Proxies.Pool().CertPool}
		}
		if change != nil {
			change(c, i, p)
		}
	}
	cfg.Proxy = func(n *Net, p *proxy.Proxy) {
		c.Net = n
		prepare(n, 0, p)
	}
	if cfg.Handler == nil {
		cfg.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			i, _ := origin.InspectionOf(r.Context())
			c.mu.Lock()
			c.seen = append(c.seen, i)
			c.mu.Unlock()
			w.Write([]byte(answer))
		})
	}
	ask := cfg.Client
	cfg.Client = func(n *Net, tr *client.Transport) {
		tr.Consent = client.ConsentFunc(func(_ context.Context, req *client.ConsentRequest) (*client.Agreement, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.asked = append(c.asked, *req)
			return new(client.Agreement), nil
		})
		if ask != nil {
			ask(n, tr)
		}
	}
	c.Net = New(t, cfg)
	for i := 1; i < length; i++ {
		p := c.proxyAt(chainHost(i))
		prepare(c.Net, i, p)
		c.StartProxy(p, chainHost(i))
	}
	return c
}

// proxyAt is a proxy with a certificate for host, which is not serving yet.
func (c *line) proxyAt(host string) *proxy.Proxy {
	c.Helper()
	return &proxy.Proxy{
		Certificate: c.certificate(c.Proxies.Proxy(host)),
		Roots:       c.Origins.Pool().CertPool,
		Targets:     proxy.TargetPolicy{Allow: special(), Ports: []int{443, 8443}, Resolver: c.network, DialContext: c.network.DialContext},
	}
}

// questions is whom the user was asked about, in order.
func (c *line) questions() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for _, r := range c.asked {
		names = append(names, r.ProxyName)
	}
	return names
}

func subjects(rep *client.Report) []string {
	var names []string
	for _, p := range rep.Proxies {
		names = append(names, strings.TrimPrefix(p.Subject, "CN="))
	}
	return names
}

// An exchange through a chain is intact and confirmed. Each proxy reads it, the user was asked about each, and
// client and origin know of each, in order.
//
// spec: PRX-70 PRX-71 PRX-72 CLI-60 CLI-61 CLI-63 EVD-40 EVD-41
func TestAChainIsReadByEachAndKnownToAll(t *testing.T) {
	for length := 2; length <= 5; length++ {
		t.Run(fmt.Sprint(length), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := newLine(t, length, Config{}, nil)
				var want []string
				for i := range length {
					want = append(want, chainHost(i))
				}
				for round := range 2 {
					rep := c.mustGet("/", answer)
					if rep.Level != client.Intact || !rep.Inner.Confirmed || rep.Evidence.Kind != "authenticator" || !rep.Evidence.Verified {
						t.Errorf("%+v, %+v", rep, rep.Inner)
					}
					if got := subjects(rep); !slices.Equal(got, want) {
						t.Errorf("proxies %v, want %v", got, want)
					}
					if len(rep.Hops) != length || rep.Hops[length-1] != rep.Evidence.Hop {
						t.Errorf("hops %+v", rep.Hops)
					}
					for i, h := range rep.Hops {
						alpn := "h2"
						if i == length-1 {
							alpn = frames.ALPNH2
						}
						if h.ALPN != alpn || h.Version != "TLS 1.3" {
							t.Errorf("hop %d: %+v", i, h)
						}
					}
					if got := c.questions(); !slices.Equal(got, want) {
						t.Errorf("the user was asked about %v", got)
					}
					c.Client.CloseIdleConnections()
					for i, r := range c.read {
						if s := <-r.over; string(s.got) != answer || s.x.Proxy.Subject != "CN="+chainHost(i) {
							t.Errorf("round %d: proxy %d read %q as %s", round, i, s.got, s.x.Proxy.Subject)
						}
					}
					seen := c.seen[round]
					if len(seen.Proxies) != length || !seen.ProxyCertificate.Equal(c.certs[length-1].Leaf) {
						t.Errorf("the origin saw %x", seen.Proxies)
					}
					for i, cert := range c.certs {
						if seen.Proxies[i] != pki.LeafHash(cert.Leaf) {
							t.Errorf("the origin knows another proxy %d", i)
						}
					}
					if via := strings.Join(seen.Via, ", "); via != "2 "+strings.Join(want, ", 2 ") {
						t.Errorf("via %q", via)
					}
					c.asked = nil
				}
			})
		})
	}
}

var (
	_ = errors.Is
	_ time.Duration
)
