package testnet

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vitrine/client"
	"vitrine/frames"
	"vitrine/internal/hop"
	"vitrine/internal/hostile"
	"vitrine/internal/pki"
	"vitrine/internal/verdict"
	"vitrine/origin"
	"vitrine/proxy"
)

// A line is a Net whose proxy goes through others.
type line struct {
	*Net
	proxies []*proxy.Proxy // client side first
	certs   []tls.Certificate
	read    []*recorder
	others  *pki.Authority // for who is not one of Net's
	rounds  int            // of a lie

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
						} else if (s.x.Origin.Subject == "") != (i < length-1) || (s.x.Origin.Addr == "") != (i < length-1) {
							t.Errorf("proxy %d knows of the origin %+v", i, s.x.Origin)
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

// A kill is signed by the proxy that did it, whichever that is, and the client says so. The origin's verdict is its
// neighbour's. Neither says more to the origin than policy lets it.
//
// spec: PRX-76 PRX-77 CLI-64 VRD-2 VRD-4
func TestEachProxyOfAChainSignsItsKills(t *testing.T) {
	for killer := range 3 {
		t.Run(fmt.Sprint(killer), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				verdicts := make(chan []byte, 4)
				gone := make(chan struct{})
				c := newLine(t, 3, Config{
					Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						io.WriteString(w, answer)
						http.NewResponseController(w).Flush()
						<-r.Context().Done()
						close(gone)
					}),
					Hop2: func(_ *proxy.Target, s hop.Session) hop.Session {
						if s.Peer().TLS.NegotiatedProtocol != frames.ALPNH2 {
							return s
						}
						return hostile.Lie(s, hostile.Lies{Verdict: func(_ uint64, p []byte) []byte {
							verdicts <- p
							return p
						}})
					},
				}, func(c *line, i int, p *proxy.Proxy) {
					if i == killer {
						c.read[i].response = killBody("no-combinations", "4711")
					}
				})
				_, _, err := c.get("/")
				k := wantError[*client.KilledError](t, err)
				if !k.SignatureVerified || k.Proxy != chainHost(killer) || k.Rule != "no-combinations" || k.Reason != "it says 4711" {
					t.Errorf("%+v", k)
				}
				if r := k.Report.Killed; r == nil || r.Proxy != chainHost(killer) || len(k.Report.Proxies) != 3 || k.Report.Bytes != 0 {
					t.Errorf("%+v", k.Report)
				}
				<-gone
				nonce, err := hex.DecodeString(k.Report.Evidence.Nonce)
				if err != nil {
					t.Fatal(err)
				}
				tbs, err := verdict.Verify(<-verdicts, verdict.Expect{
					Proxy: c.certs[2].Leaf, Nonce: [32]byte(nonce), Authority: OriginHost + ":443", CheckLeaf: true,
				})
				if err != nil {
					t.Fatal(err)
				}
				if tbs.Rule != "" || tbs.Detail != "" || tbs.Reason != frames.ReasonInspector || tbs.Direction != frames.ToClient {
					t.Errorf("the origin's verdict: %+v", tbs)
				}
			})
		})
	}
}

// Who does not agree to the second proxy is not read by it: nothing of the request has left, and no proxy was
// named. Nor are credentials sent past a proxy that may not see them.
//
// spec: CLI-60 CLI-62
func TestConsentIsAskedForEachProxyOfAChain(t *testing.T) {
	no := errors.New("not that one")
	for name, tt := range map[string]struct {
		refuse      string
		credentials []string // who may see them
		send        bool
		want        string
	}{
		"the first is refused":            {refuse: chainHost(0), want: "trust:consent"},
		"the second is refused":           {refuse: chainHost(1), want: "trust:consent"},
		"the third is refused":            {refuse: chainHost(2), want: "trust:consent"},
		"nobody may see credentials":      {send: true, want: "trust:credentials"},
		"one may see credentials":         {send: true, credentials: []string{chainHost(0)}, want: "trust:credentials"},
		"all but one may see credentials": {send: true, credentials: []string{chainHost(0), chainHost(2)}, want: "trust:credentials"},
		"all may see credentials":         {send: true, credentials: []string{chainHost(0), chainHost(1), chainHost(2)}, want: "success"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := newLine(t, 3, Config{Client: func(_ *Net, tr *client.Transport) {
					tr.Consent = client.ConsentFunc(func(_ context.Context, r *client.ConsentRequest) (*client.Agreement, error) {
						if r.ProxyName == tt.refuse {
							return nil, no
						}
						if want := []string{"Authorization"}; tt.send != slices.Equal(r.Fields, want) {
							t.Errorf("%s: asked about %q", r.ProxyName, r.Fields)
						}
						return &client.Agreement{Credentials: slices.Contains(tt.credentials, r.ProxyName)}, nil
					})
				}}, nil)
				req := c.request(c.ctx, http.MethodGet, "/", nil)
				if tt.send {
					req.Header.Set("Authorization", "Basic secret")
				}
				_, _, err := fetch(c.Client, req)
				if got := class(err); got != tt.want {
					t.Fatalf("%s: %v", got, err)
				}
				if tt.refuse != "" && !errors.Is(err, no) {
					t.Error(err)
				}
				if tt.want != "success" && len(c.seen) > 0 {
					t.Error("the request reached the origin")
				}
			})
		})
	}
}

// Credentials that come later are asked about for those only that may not see them yet; a tunnel whose question
// was answered with no is as it was.
//
// spec: CLI-62
func TestCredentialsOnAnOpenTunnelOfAChain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var asked []string
		lets := map[string]bool{chainHost(0): true}
		c := newLine(t, 2, Config{Client: func(_ *Net, tr *client.Transport) {
			tr.Consent = client.ConsentFunc(func(_ context.Context, r *client.ConsentRequest) (*client.Agreement, error) {
				asked = append(asked, fmt.Sprint(r.ProxyName, " ", len(r.Fields)))
				return &client.Agreement{Credentials: lets[r.ProxyName]}, nil
			})
		}}, nil)
		send := func() error {
			req := c.request(c.ctx, http.MethodGet, "/", nil)
			req.Header.Set("Authorization", "Basic secret")
			_, _, err := fetch(c.Client, req)
			return err
		}
		c.mustGet("/", answer)
		if err := send(); class(err) != "trust:credentials" {
			t.Error(err)
		}
		lets[chainHost(1)] = true
		for range 2 {
			if err := send(); err != nil {
				t.Error(err)
			}
		}
		want := []string{chainHost(0) + " 0", chainHost(1) + " 0", chainHost(1) + " 1", chainHost(1) + " 1"}
		if !slices.Equal(asked, want) {
			t.Errorf("asked %q, want %q", asked, want)
		}
	})
}

// The end of consent to any proxy ends what is open through it, at once, and no session of before is resumed.
//
// spec: CLI-66
func TestTheEndOfConsentToAnyProxyEndsTheTunnel(t *testing.T) {
	for i := range 3 {
		t.Run(chainHost(i), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				over := errors.New("that was enough")
				var revoke [3]context.CancelCauseFunc
				c := newLine(t, 3, Config{
					Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						io.WriteString(w, "half")
						http.NewResponseController(w).Flush()
						<-r.Context().Done()
					}),
					Client: func(_ *Net, tr *client.Transport) {
						asked := 0
						tr.Consent = client.ConsentFunc(func(ctx context.Context, r *client.ConsentRequest) (*client.Agreement, error) {
							ends, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
							revoke[asked] = cancel
							asked++
							return &client.Agreement{Ends: ends}, nil
						})
					},
				}, nil)
				resp, err := c.Client.RoundTrip(c.request(c.ctx, http.MethodGet, "/", nil))
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if _, err := io.ReadFull(resp.Body, make([]byte, 4)); err != nil {
					t.Fatal(err)
				}
				revoke[i](over)
				_, err = io.ReadAll(resp.Body)
				if class(err) != "trust:consent" || !errors.Is(err, over) {
					t.Error(err)
				}
				for _, r := range revoke {
					r(over)
				}
			})
		})
	}
}

// A stock origin behind a chain is refused with evidence that leads to it, and what each proxy allows is what is on
// offer. At blind the tunnel goes through all of them, and none reads.
//
// spec: PRX-75 PRX-79
func TestAStockOriginBehindAChain(t *testing.T) {
	for name, tt := range map[string]struct {
		first, second []proxy.Mode
		levels        []client.Level
		want          string
		offered       []string
	}{
		"intact alone":            {nil, nil, nil, "level", []string{"intact"}},
		"blind, not accepted":     {modes("intact", "blind"), modes("intact", "blind"), nil, "level", []string{"intact", "blind"}},
		"blind by the first":      {modes("intact", "blind"), nil, levels("intact", "blind"), "level", []string{"intact"}},
		"blind by the second":     {nil, modes("intact", "blind"), levels("intact", "blind"), "level", []string{"intact"}},
		"blind by both":           {modes("intact", "blind"), modes("intact", "blind"), levels("intact", "blind"), "success", nil},
		"split by the second":     {nil, modes("intact", "split"), levels("intact", "attested"), "level", []string{"intact"}},
		"split by hosts at first": {modes("intact", "split"), modes("intact", "split"), levels("intact", "attested"), "level", []string{"intact"}},
		"blind alone":             {modes("intact", "blind"), modes("intact", "blind"), levels("blind"), "success", nil},
		"blind alone, not there":  {modes("intact", "blind"), nil, levels("blind"), "level", []string{"intact"}},
		"not intact at first":     {modes("blind"), nil, nil, "level", []string{"blind"}},
		"not intact at second":    {modes("intact", "blind"), modes("blind"), nil, "level", []string{"blind"}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := newLine(t, 2, Config{Stock: true, Client: func(_ *Net, tr *client.Transport) { tr.Levels = tt.levels }},
					func(_ *line, i int, p *proxy.Proxy) {
						p.Policy.Modes = [][]proxy.Mode{tt.first, tt.second}[i]
						if i == 0 && slices.Contains(tt.first, "split") { // by name it would be refused at once
							p.Policy.Modes, p.Policy.HostModes = nil, func(string) []proxy.Mode { return tt.first }
						}
					})
				resp, _, err := c.get("/")
				if got := class(err); got != tt.want {
					t.Fatalf("%s: %v", got, err)
				}
				if err != nil {
					level := wantError[*client.LevelError](t, err)
					if !slices.Equal(level.Offered, tt.offered) {
						t.Errorf("on offer: %v", level.Offered)
					}
					if r := level.Report; name == "intact alone" && (len(r.Hops) != 2 || len(r.Proxies) != 2 || r.Evidence.Kind != "transcript" || !r.Evidence.Verified) {
						t.Errorf("%+v", r)
					}
					return
				}
				if r := client.ReportOf(resp); r.Level != client.Blind {
					t.Errorf("level %s", r.Level)
				}
				for i, r := range c.read {
					if len(r.all) > 0 {
						t.Errorf("proxy %d read it", i)
					}
				}
			})
		})
	}
}

func modes(list ...proxy.Mode) []proxy.Mode      { return list }
func levels(list ...client.Level) []client.Level { return list }

// Every way in which proxies can lead in a circle, or too far, is refused, and none goes round.
//
// spec: PRX-6 PRX-73 CLI-67
func TestLoopsAreRefused(t *testing.T) {
	to := func(host string) func(*line, int, *proxy.Proxy) {
		return func(c *line, _ int, p *proxy.Proxy) {
			if p.Upstream == nil {
				p.Upstream = &proxy.UpstreamProxy{URL: "https://" + host, Roots: c.Net.Proxies.Pool().CertPool}
			}
			p.ClientCAs = c.Net.Proxies.Pool().CertPool // the first has other proxies for clients too
		}
	}
	for name, tt := range map[string]struct {
		length int
		back   string
		want   string
	}{
		"itself":             {1, chainHost(0), "proxy_loop_detected"},
		"the one before":     {2, chainHost(0), "proxy_loop_detected"},
		"the first of three": {3, chainHost(0), "proxy_loop_detected"},
		"the second":         {3, chainHost(1), "proxy_loop_detected"},
		"six":                {6, "", "proxy_configuration_error"},
	} {
		for _, level := range levels("intact", "blind") {
			if level == "blind" && name == "six" {
				continue // whom it passes nobody knows
			}
			t.Run(fmt.Sprint(name, " ", level), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					change := to(tt.back)
					if tt.back == "" {
						change = nil
					}
					c := newLine(t, tt.length, Config{Client: func(n *Net, tr *client.Transport) {
						me := n.certificate(n.Proxies.Proxy("me.example"))
						tr.ClientCertificate, tr.Levels = &me, levels(level)
					}}, func(c *line, i int, p *proxy.Proxy) {
						p.Policy.Modes = modes("intact", "blind")
						if change != nil {
							change(c, i, p)
						}
					})
					_, _, err := c.get("/")
					u := wantError[*client.UnreachableError](t, err)
					if u.ProxyError != tt.want || u.Party != client.PartyProxy {
						t.Errorf("%+v", u)
					}
					if len(c.seen) > 0 {
						t.Error("the request reached the origin")
					}
				})
			})
		}
	}
}

// Behind a proxy is only who is asked for, and shows, the certificate that stands there; and in front of one only
// who is a proxy, by the roots of the user and of the proxy alike.
//
// spec: PRX-70 PRX-72 CLI-60
func TestWhoIsNotWhoThePathSays(t *testing.T) {
	for name, tt := range map[string]struct {
		first, second func(c *line, p *proxy.Proxy)
		want, says    string
	}{
		"it asks for no certificate": {
			second: func(_ *line, p *proxy.Proxy) { p.ClientCAs = nil }, want: "unreachable:proxy", says: "asks its clients for no certificate",
		},
		"it does not know the first": {
			second: func(c *line, p *proxy.Proxy) { p.ClientCAs = c.authority("Others", time.Now()).Pool().CertPool }, want: "unreachable:proxy", says: "the next proxy",
		},
		"the proxy does not trust it": {
			first: func(c *line, p *proxy.Proxy) { p.Upstream.Roots = c.authority("Others", time.Now()).Pool().CertPool },
			want:  "unreachable:proxy", says: "proxy_configuration_error",
		},
		"the user does not trust it": {
			first: func(c *line, p *proxy.Proxy) {
				others := c.authority("Others", time.Now())
				c.others = others
				p.Upstream.Roots = others.Pool().CertPool
			},
			second: func(c *line, p *proxy.Proxy) { p.Certificate = c.certificate(c.others.Proxy(chainHost(1))) },
			want:   "trust:proxy", says: chainHost(1) + ", to which " + ProxyHost + " leads",
		},
		"it is not there": {
			first: func(_ *line, p *proxy.Proxy) { p.Upstream.URL = "https://nowhere.example" }, want: "unreachable:proxy", says: "the next proxy's name",
		},
		"it is an origin": {
			first: func(c *line, p *proxy.Proxy) {
				p.Upstream = &proxy.UpstreamProxy{URL: "https://" + OriginHost, Roots: c.Origins.Pool().CertPool}
			},
			want: "unreachable:proxy", says: "not one of a proxy",
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := newLine(t, 2, Config{}, func(c *line, i int, p *proxy.Proxy) {
					if f := []func(*line, *proxy.Proxy){tt.first, tt.second}[i]; f != nil {
						f(c, p)
					}
				})
				_, _, err := c.get("/")
				if got := class(err); got != tt.want || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%s: %v", got, err)
				}
				if len(c.seen) > 0 {
					t.Error("the request reached the origin")
				}
			})
		})
	}
}

// The way on may change under a client: another certificate, another proxy, none. What is open goes on, the next
// tunnel goes the new way with the user's consent, and no inner session is resumed on another path than its own.
//
// spec: CLI-61 TLS-31
func TestTheWayOnChanges(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newLine(t, 2, Config{Client: func(_ *Net, tr *client.Transport) { tr.IdleTimeout = -1 }}, nil)
		other := c.proxyAt("other.example")
		other.ClientCAs = c.Net.Proxies.Pool().CertPool
		c.StartProxy(other, "other.example")
		reload := func(p *proxy.Proxy, change func(next *proxy.Proxy)) {
			next := &proxy.Proxy{
				Certificate: p.Certificate, Roots: p.Roots, ClientCAs: p.ClientCAs, Targets: p.Targets, Upstream: p.Upstream,
			}
			change(next)
			if err := p.Reload(next); err != nil {
				t.Fatal(err)
			}
		}
		for i, step := range []struct {
			name    string
			change  func()
			want    []string // the path
			asked   int
			resumed bool
		}{
			{"at first", func() {}, []string{ProxyHost, chainHost(1)}, 2, false},
			{"again", func() {}, []string{ProxyHost, chainHost(1)}, 2, true},
			{"a new certificate", func() {
				reload(c.proxies[1], func(next *proxy.Proxy) { next.Certificate = c.certificate(c.Net.Proxies.Proxy(chainHost(1))) })
			}, []string{ProxyHost, chainHost(1)}, 2, false},
			{"another proxy", func() {
				reload(c.proxies[0], func(next *proxy.Proxy) {
					next.Upstream = &proxy.UpstreamProxy{URL: "https://other.example", Roots: c.Net.Proxies.Pool().CertPool}
				})
			}, []string{ProxyHost, "other.example"}, 3, false},
			{"none", func() { reload(c.proxies[0], func(next *proxy.Proxy) { next.Upstream = nil }) }, []string{ProxyHost}, 2, false},
			{"back", func() {
				reload(c.proxies[0], func(next *proxy.Proxy) {
					next.Upstream = &proxy.UpstreamProxy{URL: "https://" + chainHost(1), Roots: c.Net.Proxies.Pool().CertPool}
				})
			}, []string{ProxyHost, chainHost(1)}, 2, true},
		} {
			step.change()
			c.asked = nil
			rep := c.mustGet("/", answer)
			if got := subjects(rep); !slices.Equal(got, step.want) || rep.Inner.Resumed != step.resumed || !rep.Inner.Confirmed {
				t.Errorf("%d %s: %v, %+v", i, step.name, got, rep.Inner)
			}
			if len(c.asked) != step.asked {
				t.Errorf("%d %s: asked about %v", i, step.name, c.questions())
			}
		}
	})
}

// Two clients of one proxy share no connection behind it, to the next proxy or to the origin.
//
// spec: PRX-12 PRX-78
func TestClientsBehindAProxyShareNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newLine(t, 2, Config{}, nil)
		second := c.NewClient(nil)
		for _, tr := range []*client.Transport{c.Client, second, c.Client, second} {
			if _, _, err := fetch(tr, c.request(c.ctx, http.MethodGet, "/", nil)); err != nil {
				t.Fatal(err)
			}
		}
		ids := map[[32]byte]int{}
		for _, s := range c.seen {
			ids[s.HopID]++
		}
		if len(ids) != 2 {
			t.Errorf("hops %v", ids)
		}
	})
}
