package testnet

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/client"
	"vitrine/frames"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/hostile"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
	"vitrine/proxy"
)

// Split does not go through a chain, whatever the first proxy offers: an exchange without a tunnel would be under
// the consent to that one alone, credentials and all.
//
// spec: CLI-62 CLI-66 CLI-68
func TestSplitIsNotTakenBehindAChain(t *testing.T) {
	for name, levels := range map[string][]client.Level{
		"alone":       {client.Attested},
		"signed":      {client.Signed},
		"or blind":    {client.Attested, client.Blind},
		"with intact": {client.Intact, client.Attested},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				exchanges := 0
				c := newLine(t, 2, Config{
					Stock: true,
					Client: func(_ *Net, tr *client.Transport) {
						tr.Levels = levels
						tr.Consent = client.ConsentFunc(func(_ context.Context, r *client.ConsentRequest) (*client.Agreement, error) {
							return &client.Agreement{Credentials: r.ProxyName == ProxyHost || !slices.Contains(levels, client.Blind)}, nil
						})
					},
					Hop1: func(s hop.Session) hop.Session {
						return hostile.Lie(s, hostile.Lies{Answer: func(r *hop.Request, a *hop.Response) {
							if len(r.Header.Values(fields.Via)) > 0 {
								return // it is the second's
							}
							if r.Protocol == "" && r.Method != "" && r.Method != http.MethodConnect {
								exchanges++
							}
							if a.Status == frames.StatusInspectionRequired {
								a.Header.Set(fields.InspectionOptions, "split")
							}
						}})
					},
				}, nil)
				req := c.request(c.ctx, http.MethodGet, "/", nil)
				req.Header.Set("Authorization", "Basic secret")
				_, _, err := fetch(c.Client, req)
				e := wantError[*client.LevelError](t, err)
				if len(e.Offered) > 0 || e.Option != "" || exchanges > 0 || len(c.seen) > 0 {
					t.Errorf("on offer %v, to be accepted %q; %d exchanges", e.Offered, e.Option, exchanges)
				}
			})
		})
	}
}

// A proxy that carries blind alone passes on no other mode that the next one offers, at a CONNECT for blind either.
//
// spec: PRX-75
func TestOptionsOfTheNextProxyAtBlind(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newLine(t, 2, Config{Client: func(_ *Net, tr *client.Transport) { tr.Levels = levels("blind") }},
			func(_ *line, i int, p *proxy.Proxy) {
				p.Policy.Modes = [][]proxy.Mode{modes("blind"), modes("intact")}[i]
			})
		_, _, err := c.get("/")
		if e := wantError[*client.LevelError](t, err); len(e.Offered) > 0 {
			t.Errorf("on offer: %v", e.Offered)
		}
	})
}

// A path is remembered for as long as hop 1 lives. The certificate of a proxy on it may end before that, and then
// its successor is found as any other, without a question that was answered.
//
// spec: CLI-60 CLI-61
func TestARememberedProxyThatHasExpired(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newLine(t, 3, Config{Client: func(_ *Net, tr *client.Transport) { tr.IdleTimeout, tr.Limits.IdleTimeout = -1, 24*time.Hour }},
			func(c *line, i int, p *proxy.Proxy) {
				p.Limits.Hop.IdleTimeout = 24 * time.Hour
				if i != 1 {
					return
				}
				usage, err := pki.ProxyUsage()
				if err != nil {
					t.Fatal(err)
				}
				key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				p.Certificate = c.certificate(c.Net.Proxies.Issue(&x509.Certificate{
					DNSNames: []string{chainHost(1)}, NotAfter: time.Now().Add(time.Hour), ExtraExtensions: []pkix.Extension{usage},
				}, key))
			})
		c.mustGet("/", answer)
		time.Sleep(2 * time.Hour)
		p := c.proxies[1]
		next := &proxy.Proxy{
			Certificate: c.certificate(c.Net.Proxies.Proxy(chainHost(1))), Roots: p.Roots, ClientCAs: p.ClientCAs, Targets: p.Targets, Upstream: p.Upstream,
		}
		if err := p.Reload(next); err != nil {
			t.Fatal(err)
		}
		c.asked = nil
		rep := c.mustGet("/", answer)
		if want := []string{chainHost(0), chainHost(1), chainHost(2)}; !slices.Equal(subjects(rep), want) || !slices.Equal(c.questions(), want) {
			t.Errorf("proxies %v, asked about %v", subjects(rep), c.questions())
		}
	})
}

// A user who does not agree to a proxy of the remembered path is told so, and not for ever: the next attempt finds
// out whether the way still leads there.
//
// spec: CLI-60 CLI-61
func TestARememberedProxyThatTheUserRefuses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		refused := false
		c := newLine(t, 2, Config{Client: func(_ *Net, tr *client.Transport) {
			tr.IdleTimeout = -1
			tr.Consent = client.ConsentFunc(func(_ context.Context, r *client.ConsentRequest) (*client.Agreement, error) {
				if refused && r.ProxyName == chainHost(1) {
					return nil, errors.New("not that one")
				}
				return new(client.Agreement), nil
			})
		}}, nil)
		c.mustGet("/", answer)
		refused = true
		for range 2 {
			if _, _, err := c.get("/"); class(err) != "trust:consent" {
				t.Error(err)
			}
		}
		p := c.proxies[0]
		if err := p.Reload(&proxy.Proxy{Certificate: p.Certificate, Roots: p.Roots, Targets: p.Targets}); err != nil {
			t.Fatal(err)
		}
		if rep := c.mustGet("/", answer); !slices.Equal(subjects(rep), []string{ProxyHost}) {
			t.Errorf("proxies %v", subjects(rep))
		}
	})
}

// Consent that ends when the tunnel is closed already ends what the tunnel left for resumption, whichever proxy of
// the path it was for.
//
// spec: CLI-22 CLI-66
func TestConsentThatEndsBetweenTunnelsOfAChain(t *testing.T) {
	for i := range 2 {
		t.Run(chainHost(i), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var revoke []context.CancelCauseFunc
				c := newLine(t, 2, Config{Client: func(_ *Net, tr *client.Transport) {
					tr.IdleTimeout = -1
					tr.Consent = client.ConsentFunc(func(context.Context, *client.ConsentRequest) (*client.Agreement, error) {
						ends, cancel := context.WithCancelCause(context.Background())
						revoke = append(revoke, cancel)
						return &client.Agreement{Ends: ends}, nil
					})
				}}, nil)
				c.mustGet("/", answer)
				if !c.mustGet("/", answer).Inner.Resumed {
					t.Fatal("nothing is resumed")
				}
				synctest.Wait()
				for j := i; j < len(revoke); j += 2 {
					revoke[j](errors.New("that was enough"))
				}
				synctest.Wait()
				if c.mustGet("/", answer).Inner.Resumed {
					t.Error("a session of before is resumed")
				}
				for _, r := range revoke {
					r(nil)
				}
			})
		})
	}
}

// One client of a proxy cannot take all the connections that the next proxy allows it, and with them everybody
// else's.
//
// spec: PRX-78
func TestAClientBehindAProxyLeavesConnectionsToTheOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const most = 16 // that a proxy of 64 allows a client
		names := []string{OriginHost}
		for i := range most {
			names = append(names, fmt.Sprintf("o%d.example", i))
		}
		c := newLine(t, 2, Config{Names: names}, func(_ *line, _ int, p *proxy.Proxy) { p.Limits.Connections = 4 * most })
		greedy := c.NewDialer(nil)
		opened := 0
		for _, name := range names[1:] {
			tunnel, err := greedy.DialTunnel(c.ctx, name+":443")
			if err == nil {
				opened++
				defer tunnel.Close()
			} else if u := wantError[*client.UnreachableError](t, err); u.ProxyError != fields.ErrorConnectionLimitReached {
				t.Fatal(err)
			}
		}
		if opened != most/4 {
			t.Errorf("%d tunnels, want %d", opened, most/4)
		}
		c.mustGet("/", answer)
	})
}

// The next proxy goes down under an exchange, and comes back with another certificate: who killed is known, and the
// user is asked about nobody new.
//
// spec: PRX-76 CLI-61 CLI-64
func TestTheNextProxyRestarts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newLine(t, 3, Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, answer)
			if r.URL.Path == "/half" {
				http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}
		})}, nil)
		resp, err := c.Client.RoundTrip(c.request(c.ctx, http.MethodGet, "/half", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.ReadFull(resp.Body, make([]byte, len(answer))); err != nil {
			t.Fatal(err)
		}
		c.proxies[1].Close()
		_, err = io.ReadAll(resp.Body)
		if k := wantError[*client.KilledError](t, err); !k.SignatureVerified || k.Proxy != chainHost(1) || k.Rule != "shutdown" {
			t.Errorf("%+v", k)
		}
		if _, _, err := c.get("/"); class(err) != "unreachable:proxy" {
			t.Error(err)
		}
		p := c.proxyAt(chainHost(1))
		p.ClientCAs, p.Upstream = c.proxies[1].ClientCAs, c.proxies[1].Upstream
		c.StartProxy(p, chainHost(1))
		c.asked = nil
		rep := c.mustGet("/", answer)
		if want := []string{chainHost(0), chainHost(1), chainHost(2)}; !slices.Equal(subjects(rep), want) || !slices.Equal(c.questions(), want) {
			t.Errorf("proxies %v, asked about %v", subjects(rep), c.questions())
		}
	})
}

// Nobody kills in another's name: who says that the second proxy did needs that one's key.
//
// spec: CLI-64
func TestTheFirstProxyKillsInTheNameOfTheSecond(t *testing.T) {
	for name, tt := range map[string]struct {
		says, signs int
		want        string
	}{
		"by its own key":                     {1, 0, "killed without a verdict"},
		"the second's key, and its own name": {0, 1, "killed without a verdict"},
		"a stranger of the path":             {2, 0, "killed without a verdict"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var c *line
				forge := func(_ uint64, p []byte) []byte {
					v, err := frames.ParseSignedVerdict(p)
					if err != nil {
						t.Error(err)
						return p
					}
					tbs, err := frames.ParseVerdictTBS(v.TBS)
					if err != nil {
						t.Error(err)
						return p
					}
					leaf := [32]byte{1}
					if tt.says < 2 {
						leaf = pki.LeafHash(c.certs[tt.says].Leaf)
					}
					tbs.ProxyLeaf = leaf
					if v.TBS, err = tbs.Append(nil); err != nil {
						t.Error(err)
						return p
					}
					key := c.certs[tt.signs].PrivateKey.(crypto.Signer)
					content := tlsmsg.SignedContent("vitrine verdict v1", v.TBS)
					if v.Signature, err = tlsmsg.Sign(rand.Reader, key, tls.SignatureScheme(v.Scheme), content); err != nil {
						t.Error(err)
						return p
					}
					if p, err = v.Append(nil); err != nil {
						t.Error(err)
					}
					return p
				}
				c = newLine(t, 2, Config{Hop1: func(s hop.Session) hop.Session {
					if s.Peer().PeerCertificate() != nil {
						return s // the second's
					}
					return hostile.Lie(s, hostile.Lies{Verdict: forge})
				}}, func(c *line, i int, _ *proxy.Proxy) {
					if i == 0 {
						c.read[i].response = killBody("no-combinations", "4711")
					}
				})
				_, _, err := c.get("/")
				if got := class(err); got != tt.want {
					t.Errorf("%s: %v", got, err)
				}
			})
		})
	}
}
