package testnet

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"vitrine/client"
	"vitrine/frames"
	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/hostile"
	"vitrine/proxy"
)

// requestOf is the request for evidence in a CONNECT.
func requestOf(t *testing.T, r *hop.Request) *evidence.Request {
	t.Helper()
	raw, err := fields.ParseEvidenceRequest(r.Header.Values(fields.EvidenceRequest))
	if err != nil {
		t.Fatal(err)
	}
	req, err := evidence.ParseRequest(raw)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// linkFor is an honest link to the proxy at host, as a proxy makes it for req.
func (c *line) linkFor(host string, req *evidence.Request, next []byte) []byte {
	c.Helper()
	conn, err := c.DialContext(c.ctx, "tcp", host+":443")
	if err != nil {
		c.Fatal(err)
	}
	defer conn.Close()
	d, err := evidence.NewProxyDial(&tls.Config{
		RootCAs: c.Net.Proxies.Pool().CertPool, ServerName: host, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13,
		Certificates: []tls.Certificate{c.certs[0]},
	}, req)
	if err != nil {
		c.Fatal(err)
	}
	tc := tls.Client(d.Tap(conn), d.Config())
	if err := tc.HandshakeContext(c.ctx); err != nil {
		c.Fatal(err)
	}
	made, err := d.Evidence(tc.ConnectionState(), true)
	if err != nil {
		c.Fatal(err)
	}
	e, err := evidence.NewLink(tc.ConnectionState(), made, req.Offer.Authority, time.Now(), next)
	if err != nil {
		c.Fatal(err)
	}
	p, err := e.Append(nil)
	if err != nil {
		c.Fatal(err)
	}
	return p
}

// A first proxy that lies about who is behind it: nobody reads whom the user has not agreed to, and nothing leaves.
//
// spec: EVD-41 CLI-65 CLI-67
func TestTheFirstProxyOfAChainLies(t *testing.T) {
	for name, tt := range map[string]struct {
		lie  func(c *line, req *evidence.Request, r *hop.Response)
		want string
		says string
	}{
		"it opens a tunnel through a proxy that nobody agreed to": {
			func(c *line, req *evidence.Request, r *hop.Response) {
				if r.Status == http.StatusOK {
					r.Evidence = c.linkFor("third.example", req, nil)
				}
			}, "integrity", "another one that nobody agreed to",
		},
		"it hides the second": {
			func(_ *line, _ *evidence.Request, r *hop.Response) {
				if r.Status == http.StatusOK {
					e, err := evidence.Parse(r.Evidence)
					if err != nil {
						panic(err)
					}
					r.Evidence = e.Next
				}
			}, "integrity", "passes 1 of the 2 proxies",
		},
		"it names another for the second": {
			func(c *line, req *evidence.Request, r *hop.Response) {
				if r.Status == http.StatusOK {
					e, err := evidence.Parse(r.Evidence)
					if err != nil {
						panic(err)
					}
					r.Evidence = c.linkFor("third.example", req, e.Next)
				}
			}, "integrity", "leads through one that the request does not name",
		},
		"it leads on for ever": {
			func(c *line, req *evidence.Request, r *hop.Response) {
				hosts := []string{chainHost(1), "third.example"}
				r.Status = frames.StatusInspectionRequired
				r.Evidence = c.linkFor(hosts[c.rounds%2], req, nil)
				c.rounds++
			}, "unreachable:proxy", "leads to another proxy each time",
		},
		"it shows a link in place of the answer": {
			func(c *line, req *evidence.Request, r *hop.Response) {
				if r.Status == http.StatusOK {
					r.Evidence = c.linkFor(chainHost(1), req, nil)
				}
			}, "integrity", "malformed: empty",
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var c *line
				c = newLine(t, 2, Config{
					Hop1: func(s hop.Session) hop.Session {
						return hostile.Lie(s, hostile.Lies{Answer: func(r *hop.Request, a *hop.Response) {
							if len(r.Header.Values(fields.Via)) == 0 { // else it is the second's
								tt.lie(c, requestOf(t, r), a)
							}
						}})
					},
				}, nil)
				third := c.proxyAt("third.example")
				third.ClientCAs = c.Net.Proxies.Pool().CertPool
				c.StartProxy(third, "third.example")
				_, _, err := c.get("/")
				if got := class(err); got != tt.want || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%s: %v", got, err)
				}
				if len(c.seen) > 0 || c.rounds > 10 {
					t.Errorf("%d requests reached the origin, %d rounds", len(c.seen), c.rounds)
				}
			})
		})
	}
}

// A first proxy that goes to the origin itself and says that it went through another one, which nobody agreed to.
//
// spec: CLI-65
func TestATunnelBehindAnUnnamedProxyIsNotUsed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var c *line
		c = newLine(t, 1, Config{
			Hop1: func(s hop.Session) hop.Session {
				return hostile.Lie(s, hostile.Lies{Answer: func(r *hop.Request, a *hop.Response) {
					if len(r.Header.Values(fields.Via)) == 0 && a.Status == http.StatusOK {
						a.Evidence = c.linkFor("third.example", requestOf(t, r), nil)
					}
				}})
			},
		}, nil)
		third := c.proxyAt("third.example")
		third.ClientCAs = c.Net.Proxies.Pool().CertPool
		c.StartProxy(third, "third.example")
		_, _, err := c.get("/")
		if e := wantError[*client.IntegrityError](t, err); !strings.Contains(e.What, "another one that nobody agreed to") {
			t.Error(err)
		}
		if got := c.questions(); !slices.Equal(got, []string{ProxyHost}) || len(c.seen) > 0 {
			t.Errorf("asked about %v, the origin saw %d requests", got, len(c.seen))
		}
	})
}

// What the next proxy answers is passed on where it makes sense, and is its own fault where it does not.
//
// spec: PRX-74 PRX-75
func TestTheSecondProxyOfAChainLies(t *testing.T) {
	ok := func(f func(*hop.Response)) func(*hop.Response) {
		return func(r *hop.Response) {
			if r.Status == http.StatusOK {
				f(r)
			}
		}
	}
	for name, tt := range map[string]struct {
		stock bool
		lie   func(r *hop.Response)
		want  string
		says  string
	}{
		"no evidence":            {false, ok(func(r *hop.Response) { r.Evidence = nil }), "unreachable:proxy", "the next proxy's evidence does not hold"},
		"no evidence, but bytes": {false, ok(func(r *hop.Response) { r.Evidence = []byte("hello") }), "unreachable:proxy", "the next proxy's evidence does not hold"},
		"changed evidence":       {false, ok(func(r *hop.Response) { r.Evidence[len(r.Evidence)-80] ^= 1 }), "integrity", ""},
		"a bad option":           {true, func(r *hop.Response) { r.Header.Set(fields.InspectionOptions, "((") }, "unreachable:proxy", "the next proxy's answer makes no sense"},
		"a redirect":             {true, func(r *hop.Response) { r.Status = http.StatusFound }, "unreachable:proxy", "the next proxy's answer makes no sense"},
		"470 with other bytes":   {true, func(r *hop.Response) { r.Evidence = []byte("hello") }, "unreachable:proxy", "the next proxy's evidence does not hold"},
		"470 with nothing":       {true, func(r *hop.Response) { r.Evidence = nil }, "level", "shows no evidence"},
		"401":                    {true, func(r *hop.Response) { r.Status = http.StatusUnauthorized }, "unreachable:proxy", "401"},
		"a status that is none":  {true, func(r *hop.Response) { r.Header.Set(fields.ProxyStatusName, "((") }, "level", ""},
		"a via without end":      {true, func(r *hop.Response) { r.Header.Set(fields.Via, "2 "+strings.Repeat("a", 5000)) }, "level", ""},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := newLine(t, 2, Config{
					Stock: tt.stock,
					Hop1: func(s hop.Session) hop.Session {
						return hostile.Lie(s, hostile.Lies{Answer: func(r *hop.Request, a *hop.Response) {
							if len(r.Header.Values(fields.Via)) > 0 {
								tt.lie(a)
							}
						}})
					},
				}, nil)
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

// A verdict that another proxy of the path changed is none: the client says that it knows no reason, and the origin
// gets no verdict for it.
//
// spec: PRX-77 CLI-64
func TestAVerdictThatIsChangedOnItsWay(t *testing.T) {
	change := func(_ uint64, p []byte) []byte {
		p = bytes.Clone(p)
		p[len(p)-1] ^= 1
		return p
	}
	for name, tt := range map[string]struct {
		killer   int
		hop1     hostile.Lies
		between  hostile.Lies // hop 2 of the first
		want     string
		verdicts int // that the origin's hop carries
	}{
		"the second's, to the client": {1, hostile.Lies{Verdict: change}, hostile.Lies{}, "killed without a verdict", 1},
		"the first's, to the second":  {0, hostile.Lies{}, hostile.Lies{Verdict: change}, "killed", 0},
		"the first's, dropped":        {0, hostile.Lies{}, hostile.Lies{Verdict: func(uint64, []byte) []byte { return nil }}, "killed", 0},
		"nobody's":                    {0, hostile.Lies{}, hostile.Lies{}, "killed", 1},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				verdicts := make(chan []byte, 4)
				gone := make(chan struct{})
				c := newLine(t, 2, Config{
					Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						io.WriteString(w, answer)
						http.NewResponseController(w).Flush()
						<-r.Context().Done()
						close(gone)
					}),
					Hop1: func(s hop.Session) hop.Session {
						if s.Peer().PeerCertificate() != nil {
							return s // the second's
						}
						return hostile.Lie(s, tt.hop1)
					},
					Hop2: func(_ *proxy.Target, s hop.Session) hop.Session {
						if s.Peer().TLS.NegotiatedProtocol != frames.ALPNH2 {
							return hostile.Lie(s, tt.between)
						}
						return hostile.Lie(s, hostile.Lies{Verdict: func(_ uint64, p []byte) []byte {
							verdicts <- p
							return p
						}})
					},
				}, func(c *line, i int, _ *proxy.Proxy) {
					if i == tt.killer {
						c.read[i].response = killBody("no-combinations", "4711")
					}
				})
				_, _, err := c.get("/")
				if got := class(err); got != tt.want {
					t.Errorf("%s: %v", got, err)
				}
				<-gone
				if len(verdicts) != tt.verdicts {
					t.Errorf("%d verdicts to the origin, want %d", len(verdicts), tt.verdicts)
				}
			})
		})
	}
}
