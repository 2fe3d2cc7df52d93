package testnet

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/client"
	"vitrine/frames"
	"vitrine/internal/hop"
	"vitrine/internal/hostile"
	"vitrine/internal/pki"
	"vitrine/internal/verdict"
	"vitrine/proxy"
)

// A kill ends one tunnel, says why in the proxy's own hand, and touches no other: not the sibling that is
// half-way, and not the one that comes after.
func TestP19AKillIsSignedAndTouchesNoSibling(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := make(chan struct{})
		big := pattern(300_000)
		var hops atomic.Int32
		rec := newRecorder()
		rec.response = killBody("no-combinations", "4711")
		n := New(t, Config{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/big" {
					io.WriteString(w, answer)
					return
				}
				w.Write(big[:len(big)/2])
				http.NewResponseController(w).Flush()
				<-gate
				w.Write(big[len(big)/2:])
			}),
			Proxy: func(_ *Net, p *proxy.Proxy) { p.Inspectors = []proxy.Inspector{rec} },
			Client: func(n *Net, tr *client.Transport) {
				tr.NetDial = func(ctx context.Context, network, addr string) (net.Conn, error) {
					hops.Add(1)
					return n.DialContext(ctx, network, addr)
				}
			},
		})
		sibling, err := n.Client.RoundTrip(n.request(n.ctx, http.MethodGet, "/big", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer sibling.Body.Close()
		half := make([]byte, len(big)/2)
		if _, err := io.ReadFull(sibling.Body, half); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			_, _, err := n.get("/secret")
			k := wantError[*client.KilledError](t, err)
			if !k.SignatureVerified || k.Rule != "no-combinations" || k.Reason != "it says 4711" || k.Proxy != ProxyHost || !k.Time.Equal(time.Now()) {
				t.Errorf("%+v", k)
			}
			if r := k.Report; r == nil || r.Killed == nil || *r.Killed != (client.KilledReport{Rule: k.Rule, Reason: k.Reason, Proxy: ProxyHost, SignatureVerified: true}) || r.Bytes != 0 {
				t.Errorf("report %+v", r)
			}
		}
		close(gate)
		rest, err := io.ReadAll(sibling.Body)
		if err != nil || !bytes.Equal(append(half, rest...), big) {
			t.Errorf("the sibling: %d bytes, %v", len(half)+len(rest), err)
		}
		if hops.Load() != 1 {
			t.Errorf("%d connections to the proxy", hops.Load())
		}
	})
}

// net/http's own pool would send a request again that died on a reused connection, and a kill would be
// hidden by the second try.
func TestAKilledRequestOnAReusedTunnelIsSentOnce(t *testing.T) {
	for name, attack := range map[string]func() hostile.Mangler{
		"killed":  nil,
		"flipped": func() hostile.Mangler { return hostile.Flip([]byte("4711")) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var served, secrets atomic.Int32
				rec := newRecorder()
				cfg := Config{
					Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						served.Add(1)
						if r.URL.Path == "/secret" {
							secrets.Add(1)
							io.WriteString(w, answer)
						}
					}),
				}
				if attack == nil {
					rec.response = killBody("r", "4711")
					cfg.Proxy = func(_ *Net, p *proxy.Proxy) { p.Inspectors = []proxy.Inspector{rec} }
				} else {
					cfg.Hop1 = func(s hop.Session) hop.Session {
						return hostile.Wrap(s, func(uint64) hostile.Mangler { return attack() })
					}
				}
				n := New(t, cfg)
				n.mustGet("/", "")
				n.mustGet("/", "") // on the same tunnel
				_, _, err := n.get("/secret")
				if c := class(err); attack == nil && c != "killed" || attack != nil && c != "integrity" {
					t.Errorf("%s: %v", c, err)
				}
				if secrets.Load() != 1 || served.Load() != 3 {
					t.Errorf("the origin was asked %d times for the secret, %d times in all", secrets.Load(), served.Load())
				}
				n.mustGet("/", "") // on a new one
			})
		})
	}
}

// The match is at byte k: the client gets nothing from there on, and what it got is the beginning of the
// truth.
func TestP19AKillInABodyReleasesNothingBehindTheMatch(t *testing.T) {
	for _, k := range []int{1, 5000, 16337, 100_000} {
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				body := pattern(400_000)
				copy(body[k:], "4711")
				rec := newRecorder()
				rec.response = killBody("r", "4711")
				n := New(t, Config{
					Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(body) }),
					Proxy:   func(_ *Net, p *proxy.Proxy) { p.Inspectors = []proxy.Inspector{rec} },
				})
				resp, err := n.Client.RoundTrip(n.request(n.ctx, http.MethodGet, "/", nil))
				var got []byte
				if err == nil {
					got, err = io.ReadAll(resp.Body)
				}
				killed := wantError[*client.KilledError](t, err)
				if !killed.SignatureVerified || killed.Rule != "r" {
					t.Errorf("%+v", killed)
				}
				if !bytes.HasPrefix(body, got) || len(got) > k {
					t.Errorf("%d bytes arrived, the match is at %d", len(got), k)
				}
				if killed.Report.Bytes != int64(len(got)) {
					t.Errorf("the report says %d bytes, %d arrived", killed.Report.Bytes, len(got))
				}
			})
		})
	}
}

func TestAKillInARequestStopsItBeforeTheOrigin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		upload := pattern(300_000)
		const k = 200_000
		copy(upload[k:], "4711")
		received := make(chan []byte, 1)
		failed := make(chan error, 1)
		var served atomic.Int32
		rec := newRecorder()
		rec.request = func(s *seen, p proxy.Part) proxy.Decision {
			if s.head.Path == "/forbidden" || bytes.Contains(s.sent, []byte("4711")) {
				return proxy.Decision{Action: proxy.Kill, Rule: "upload", Reason: "no"}
			}
			return proxy.Decision{}
		}
		n := New(t, Config{
			Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				served.Add(1)
				p, err := io.ReadAll(r.Body)
				received <- p
				failed <- err
			}),
			Proxy: func(_ *Net, p *proxy.Proxy) { p.Inspectors = []proxy.Inspector{rec} },
		})
		_, _, err := n.get("/forbidden")
		if k := wantError[*client.KilledError](t, err); !k.SignatureVerified || k.Rule != "upload" {
			t.Errorf("%+v", k)
		}
		if served.Load() != 0 {
			t.Error("the head reached the origin")
		}
		_, _, err = fetch(n.Client, n.request(n.ctx, http.MethodPost, "/", bytes.NewReader(upload)))
		if k := wantError[*client.KilledError](t, err); !k.SignatureVerified || k.Rule != "upload" {
			t.Errorf("%+v", k)
		}
		if got := <-received; len(got) > k || !bytes.HasPrefix(upload, got) {
			t.Errorf("%d bytes reached the origin, the match is at %d", len(got), k)
		}
		if err := <-failed; err == nil {
			t.Error("the origin took the beginning for the whole")
		}
	})
}

func TestWhatCannotBeReadIsKilledAsOpaque(t *testing.T) {
	t.Run("101", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			n := New(t, Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				conn, rw, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: secret\r\n\r\nwhat nobody reads")
				rw.Flush()
				io.Copy(io.Discard, conn)
			})})
			req := n.request(n.ctx, http.MethodGet, "/", nil)
			req.Header.Set("Connection", "upgrade")
			req.Header.Set("Upgrade", "secret")
			_, _, err := fetch(n.Client, req)
			if k := wantError[*client.KilledError](t, err); !k.SignatureVerified || k.Rule != "opaque" {
				t.Errorf("%+v", k)
			}
		})
	})
	for name, raw := range map[string]string{
		"pipelined requests":          "GET /1 HTTP/1.1\r\nHost: origin.example\r\n\r\nGET /2 HTTP/1.1\r\nHost: origin.example\r\n\r\n",
		"pipelined behind a body":     "POST /1 HTTP/1.1\r\nHost: origin.example\r\nContent-Length: 2\r\n\r\nokGET /2 HTTP/1.1\r\nHost: origin.example\r\n\r\n",
		"HTTP/2 with prior knowledge": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var second atomic.Bool
				n := New(t, Config{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/2" {
						second.Store(true)
					}
				})})
				tun, err := n.NewDialer(nil).DialTunnel(n.ctx, OriginHost+":443")
				if err != nil {
					t.Fatal(err)
				}
				defer tun.Close()
				if _, err := io.WriteString(tun, raw); err != nil {
					t.Fatal(err)
				}
				_, err = io.ReadAll(tun)
				k := wantError[*client.KilledError](t, err)
				want := "opaque"
				if name == "HTTP/2 with prior knowledge" {
					want = "http-version"
				}
				if !k.SignatureVerified || k.Rule != want {
					t.Errorf("%+v", k)
				}
				synctest.Wait()
				if second.Load() {
					t.Error("the second request reached the origin")
				}
			})
		})
	}
}

// Inspectors that take their time.
func TestHold(t *testing.T) {
	body := pattern(700_000) // more than a stream's window
	for _, x := range []struct {
		name   string
		size   int
		decide *proxy.Decision // after a minute of thought, when the whole body is there; nil: never
		policy proxy.Policy
		rule   string // of the kill; "" for none
	}{
		{name: "released", size: len(body), decide: &proxy.Decision{}},
		{name: "killed", size: len(body), decide: &proxy.Decision{Action: proxy.Kill, Rule: "thought"}, rule: "thought"},
		{name: "too much to hold", size: len(body), policy: proxy.Policy{HeldBytes: 100_000}, rule: "held-bytes"},
		{name: "too long to hold", size: 1000, policy: proxy.Policy{HoldTime: 20 * time.Second}, rule: "hold-timeout"},
	} {
		t.Run(x.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				rec := newRecorder()
				whole := make(chan *seen, 1)
				rec.response = func(s *seen, p proxy.Part) proxy.Decision {
					if p.End {
						whole <- s
					}
					return proxy.Decision{Action: proxy.Hold}
				}
				n := New(t, Config{
					Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(body[:x.size]) }),
					Proxy: func(_ *Net, p *proxy.Proxy) {
						p.Inspectors, p.Policy = []proxy.Inspector{rec}, x.policy
						if p.Policy.HoldTime == 0 {
							p.Policy.HoldTime = time.Hour
						}
					},
				})
				if x.decide != nil {
					n.Go(func(context.Context) {
						s := <-whole
						time.Sleep(30 * time.Second) // the bubble's clock
						s.x.Decide(*x.decide)
					})
				}
				start := time.Now()
				_, got, err := n.get("/")
				if x.rule == "" {
					if err != nil || !bytes.Equal(got, body[:x.size]) || time.Since(start) < 30*time.Second {
						t.Errorf("%d bytes, %v, after %v", len(got), err, time.Since(start))
					}
					return
				}
				k := wantError[*client.KilledError](t, err)
				if !k.SignatureVerified || k.Rule != x.rule || len(got) > 0 {
					t.Errorf("%d bytes, %+v", len(got), k)
				}
				if x.policy.HoldTime != 0 && time.Since(start) > x.policy.HoldTime+time.Second {
					t.Errorf("held for %v", time.Since(start))
				}
			})
		})
	}
}

// A lie about a kill: a verdict that was not signed for this tunnel by this proxy is never believed, and
// its words are never shown.
func TestFalseVerdicts(t *testing.T) {
	var other []byte // a true verdict, of the first tunnel
	strangers, err := pki.NewAuthority("Strangers", time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := strangers.Proxy(ProxyHost)
	if err != nil {
		t.Fatal(err)
	}
	resign := func(t *testing.T, p []byte, forge func(tbs *frames.VerdictTBS)) []byte {
		v, err := frames.ParseSignedVerdict(p)
		if err != nil {
			t.Fatal(err)
		}
		tbs, err := frames.ParseVerdictTBS(v.TBS)
		if err != nil {
			t.Fatal(err)
		}
		forge(tbs)
		if v.TBS, err = tbs.Append(nil); err != nil {
			t.Fatal(err)
		}
		out, err := v.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for _, x := range []struct {
		name string
		lie  func(t *testing.T, p []byte) []byte
		last bool // the reset comes first
	}{
		{name: "none", lie: func(*testing.T, []byte) []byte { return nil }},
		{name: "of another tunnel", lie: func(*testing.T, []byte) []byte { return other }},
		{name: "signed by another key", lie: func(t *testing.T, p []byte) []byte {
			v, err := frames.ParseSignedVerdict(p)
			if err != nil {
				t.Fatal(err)
			}
			tbs, err := frames.ParseVerdictTBS(v.TBS)
			if err != nil {
				t.Fatal(err)
			}
			out, err := verdict.Sign(&stranger, tbs)
			if err != nil {
				t.Fatal(err)
			}
			return out
		}},
		{name: "with another rule", lie: func(t *testing.T, p []byte) []byte {
			return resign(t, p, func(tbs *frames.VerdictTBS) { tbs.Rule = "another" })
		}},
		{name: "with another reason", lie: func(t *testing.T, p []byte) []byte {
			return resign(t, p, func(tbs *frames.VerdictTBS) { tbs.Detail = "another" })
		}},
		{name: "about another authority", lie: func(t *testing.T, p []byte) []byte {
			return resign(t, p, func(tbs *frames.VerdictTBS) { tbs.Authority = "other.example:443" })
		}},
		{name: "with a flipped signature", lie: func(_ *testing.T, p []byte) []byte {
			p = bytes.Clone(p)
			p[len(p)-1] ^= 1
			return p
		}},
		{name: "garbage", lie: func(*testing.T, []byte) []byte { return pattern(200) }},
		{name: "behind the reset", lie: func(_ *testing.T, p []byte) []byte { return p }, last: true},
	} {
		t.Run(x.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				rec := newRecorder()
				rec.response = killBody("rule", "4711")
				kills := 0
				n := New(t, Config{
					Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, answer) }),
					Proxy:   func(_ *Net, p *proxy.Proxy) { p.Inspectors = []proxy.Inspector{rec} },
					Hop1: func(s hop.Session) hop.Session {
						return hostile.Lie(s, hostile.Lies{
							ResetFirst: x.last,
							Verdict: func(_ uint64, p []byte) []byte {
								if kills++; kills == 1 && !x.last {
									other = p
									return p
								}
								return x.lie(t, p)
							},
						})
					},
				})
				if !x.last {
					_, _, err := n.get("/")
					if k := wantError[*client.KilledError](t, err); !k.SignatureVerified {
						t.Fatalf("the true verdict: %v", err)
					}
				}
				_, _, err := n.get("/")
				k := wantError[*client.KilledError](t, err)
				if k.SignatureVerified || k.Rule != "" || k.Reason != "" || k.Report.Killed.SignatureVerified || k.Report.Killed.Rule != "" {
					t.Errorf("believed: %+v", k)
				}
			})
		})
	}
}

// The origin's side of a kill is reset with the same code, and its verdict does not say what the client's
// side looks for.
func TestTheOriginLearnsOfAKill(t *testing.T) {
	for _, tell := range []bool{false, true} {
		t.Run(fmt.Sprintf("tell=%v", tell), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				verdicts := make(chan []byte, 1)
				gone := make(chan struct{})
				rec := newRecorder()
				rec.response = killBody("rule", "4711")
				n := New(t, Config{
					Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						io.WriteString(w, answer)
						http.NewResponseController(w).Flush()
						<-r.Context().Done()
						close(gone)
					}),
					Proxy: func(_ *Net, p *proxy.Proxy) {
						p.Inspectors, p.Policy.TellOrigins = []proxy.Inspector{rec}, tell
					},
					Hop2: func(_ *proxy.Target, s hop.Session) hop.Session {
						return hostile.Lie(s, hostile.Lies{Verdict: func(_ uint64, p []byte) []byte {
							verdicts <- p
							return p
						}})
					},
				})
				_, _, err := n.get("/")
				wantError[*client.KilledError](t, err)
				<-gone
				v, err := frames.ParseSignedVerdict(<-verdicts)
				if err != nil {
					t.Fatal(err)
				}
				tbs, err := frames.ParseVerdictTBS(v.TBS)
				if err != nil {
					t.Fatal(err)
				}
				if tbs.Reason != frames.ReasonInspector || tbs.Direction != frames.ToClient || tbs.Authority != OriginHost+":443" ||
					(tbs.Rule == "rule") != tell || (tbs.Detail != "") != tell {
					t.Errorf("%+v", tbs)
				}
				if tbs.ProxyLeaf != pki.LeafHash(n.ProxyCert.Leaf) {
					t.Errorf("signed by %s", hex.EncodeToString(tbs.ProxyLeaf[:]))
				}
			})
		})
	}
}
