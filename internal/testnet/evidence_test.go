package testnet

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"vitrine/client"
	"vitrine/frames"
	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/hostile"
	"vitrine/internal/tlsmsg"
	"vitrine/origin"
	"vitrine/proxy"
)

// answers has the proxy give other answers to a client's CONNECT than the true ones.
func answers(lie func(req *hop.Request, resp *hop.Response)) func(hop.Session) hop.Session {
	return func(s hop.Session) hop.Session { return hostile.Lie(s, hostile.Lies{Answer: lie}) }
}

// edit changes parsed evidence.
func edit(t *testing.T, raw []byte, f func(e *evidence.Evidence)) []byte {
	t.Helper()
	e, err := evidence.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	f(e)
	out, err := e.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// P16: lying evidence. The first CONNECT is answered with the truth, whose evidence the liar keeps.
func TestP16FalseEvidenceIsRefused(t *testing.T) {
	const second = "second.example"
	for _, x := range []struct {
		name string
		lie  func(t *testing.T, kept, raw []byte) []byte
	}{
		{"dropped", func(*testing.T, []byte, []byte) []byte { return nil }},
		{"replayed from another CONNECT", func(_ *testing.T, kept, _ []byte) []byte { return kept }},
		{"replayed, with its time brought up to date", func(t *testing.T, kept, _ []byte) []byte {
			return edit(t, kept, func(e *evidence.Evidence) { e.Time = time.Now() })
		}},
		{"about another authority", func(t *testing.T, _, raw []byte) []byte {
			return edit(t, raw, func(e *evidence.Evidence) { e.Authority = second + ":443" })
		}},
		{"old", func(t *testing.T, _, raw []byte) []byte {
			return edit(t, raw, func(e *evidence.Evidence) { e.Time = e.Time.Add(-2 * time.Minute) })
		}},
		{"from the future", func(t *testing.T, _, raw []byte) []byte {
			return edit(t, raw, func(e *evidence.Evidence) { e.Time = e.Time.Add(2 * time.Minute) })
		}},
		{"with another suite for hop 2", func(t *testing.T, _, raw []byte) []byte {
			return edit(t, raw, func(e *evidence.Evidence) { e.Hop.Suite = tls.TLS_CHACHA20_POLY1305_SHA256 })
		}},
		{"with another protocol on hop 2", func(t *testing.T, _, raw []byte) []byte {
			return edit(t, raw, func(e *evidence.Evidence) { e.Hop.ALPN = "h2" })
		}},
		{"with another version on hop 2", func(t *testing.T, _, raw []byte) []byte {
			return edit(t, raw, func(e *evidence.Evidence) { e.Hop.Version = tls.VersionTLS12 })
		}},
		{"of another hop 2", func(t *testing.T, _, raw []byte) []byte {
			return edit(t, raw, func(e *evidence.Evidence) { e.HandshakeContext[0] ^= 1 })
		}},
		{"the authenticator alone, as it was on hop 2", func(t *testing.T, _, raw []byte) []byte {
			e, err := evidence.Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			out := []byte{1, 0x80, byte(len(e.Authenticator) >> 8), byte(len(e.Authenticator))}
			return append(out, e.Authenticator...)
		}},
		{"cut", func(_ *testing.T, _, raw []byte) []byte { return raw[:len(raw)-1] }},
		{"with a byte behind it", func(_ *testing.T, _, raw []byte) []byte { return append(bytes.Clone(raw), 0) }},
		{"garbage", func(*testing.T, []byte, []byte) []byte { return pattern(1000) }},
	} {
		t.Run(x.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var kept []byte
				served := 0
				n := New(t, Config{
					Names:   []string{OriginHost, second},
					Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served++ }),
					Client:  func(_ *Net, tr *client.Transport) { tr.IdleTimeout = -1 },
					Hop1: answers(func(_ *hop.Request, resp *hop.Response) {
						if kept == nil {
							kept = resp.Evidence
							return
						}
						resp.Evidence = x.lie(t, kept, resp.Evidence)
					}),
				})
				n.mustGet("/", "")
				_, _, err := n.get("/")
				e := wantError[*client.IntegrityError](t, err)
				if e.Report == nil || e.Report.Evidence != nil && e.Report.Evidence.Verified || e.Report.Inner != nil {
					t.Errorf("report: %+v", e.Report)
				}
				if served != 1 {
					t.Error("bytes of the request left although the evidence is false")
				}
			})
		})
	}
}

// Every byte of evidence, flipped: refused, unless it is in one of the fields that are the proxy's word.
func TestP16EveryByteOfEvidence(t *testing.T) {
	t.Parallel()
	step := 1
	if raceEnabled || testing.Short() {
		step = 17
	}
	accepted, total := 0, 0
	for first, length := 0, 1; first < length; first += 200 * step {
		bubble(t, func(t *testing.T) {
			flip := -1
			var truth, lie []byte
			n := New(t, Config{
				Client: func(_ *Net, tr *client.Transport) { tr.IdleTimeout = -1 },
				Hop1: answers(func(_ *hop.Request, resp *hop.Response) {
					truth = resp.Evidence
					if flip >= 0 && flip < len(truth) {
						lie = bytes.Clone(truth)
						lie[flip] ^= 1 << (flip % 8)
						resp.Evidence = lie
					}
				}),
			})
			n.mustGet("/", "hello")
			length = len(truth) - 2 // a signature may be shorter next time
			for flip = first; flip < min(first+200*step, length); flip += step {
				_, body, err := n.get("/")
				total++
				switch c := class(err); {
				case c == "integrity", c == "trust:origin":
				case c != "success":
					t.Errorf("byte %d: %s: %v", flip, c, err)
				default:
					accepted++
					a, err := evidence.Parse(truth)
					if err != nil {
						t.Fatal(err)
					}
					b, err := evidence.Parse(lie)
					if err != nil {
						t.Fatalf("byte %d: %v", flip, err)
					}
					// What is left when the proxy's word is taken away must be the same.
					for _, e := range []*evidence.Evidence{a, b} {
						e.Time, e.Hop.Group, e.Hop.Chain, e.Hop.OCSP, e.Hop.SCTs, e.Hop.Verified = time.Time{}, 0, nil, nil, nil, false
						// The MAC behind the signature is under a key of hop 2, which the proxy never shows.
						e.Authenticator = e.Authenticator[:len(e.Authenticator)-sha256.Size]
					}
					if fmt.Sprintf("%+v", a) != fmt.Sprintf("%+v", b) || string(body) != "hello" {
						t.Errorf("byte %d was accepted in silence", flip)
					}
				}
			}
		})
	}
	t.Logf("one byte in %d: %d bytes flipped; %d of them in fields that are the proxy's word", step, total, accepted)
	if accepted == 0 || accepted == total {
		t.Error("the oracle was not exercised")
	}
}

// Evidence for the right request that was made on another connection than the one that carries the
// tunnel: the origin names its hop in both, and they differ.
func TestP16EvidenceOfAnotherConnectionToTheSameOrigin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var borrowed []byte
		served := 0
		var n *Net
		n = New(t, Config{
			Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served++ }),
			Dial: func(ctx context.Context, target *proxy.Target) (*proxy.Upstream, error) {
				other := *target
				other.Client = "another" // a connection of its own
				var err error
				if borrowed, err = n.trueEvidence(ctx, &other); err != nil {
					return nil, err
				}
				return n.Proxy.Dial(ctx, target)
			},
			Hop1: answers(func(_ *hop.Request, resp *hop.Response) { resp.Evidence = borrowed }),
		})
		_, _, err := n.get("/")
		wantError[*client.IntegrityError](t, err)
		if served != 0 {
			t.Error("bytes of the request left")
		}
	})
}

type drain struct{}

func (drain) Data(b *hop.Buffer) { b.Release() }
func (drain) Writable()          {}
func (drain) End(error)          {}

// A proxy with a request that names it cannot get an authenticator through another proxy's connection, and
// none for a request that names the other.
func TestP16EvidenceBorrowedFromAnotherProxy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		answered := make(map[int]int)
		var n *Net
		n = New(t, Config{Dial: func(ctx context.Context, target *proxy.Target) (*proxy.Upstream, error) {
			// The accomplice's connection: its own certificate on hop 2, the liar's client's request.
			accomplice, err := n.Proxies.Proxy("accomplice.example")
			if err != nil {
				return nil, err
			}
			p := &proxy.Proxy{Certificate: accomplice, Roots: n.Origins.Pool().CertPool, Targets: n.Proxy.Targets}
			n.Cleanup(func() { p.Close() })
			up, err := p.Dial(ctx, target)
			if err != nil {
				return nil, err
			}
			if up.Session != nil {
				up.Session = hostile.Lie(up.Session, hostile.Lies{Answer: func(_ *hop.Request, resp *hop.Response) { answered[resp.Status]++ }})
			}
			return up, nil
		}})
		_, _, err := n.get("/")
		if c := class(err); c == "success" {
			t.Error("a proxy was read by another one, and the client was not told")
		} else if answered[http.StatusForbidden] != 1 || len(answered) != 1 {
			t.Errorf("the origin answered %v; the client: %s: %v", answered, c, err)
		}
	})
}

// A weaker kind of evidence than the origin gave: the exchange is as safe, because the inner session proves
// more than any evidence, and it is not called confirmed.
func TestStrippedEvidenceIsNotConfirmed(t *testing.T) {
	for _, kind := range []evidence.Kind{evidence.Transcript, evidence.Claim} {
		t.Run(kind.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var transcript *evidence.Evidence
				var n *Net
				n = New(t, Config{
					Dial: func(ctx context.Context, target *proxy.Target) (*proxy.Upstream, error) {
						target.Fresh = true
						up, err := n.Proxy.Dial(ctx, target)
						if err == nil {
							transcript = up.Transcript
						}
						return up, err
					},
					Hop1: answers(func(_ *hop.Request, resp *hop.Response) {
						e := *transcript
						if kind == evidence.Claim {
							e = evidence.Evidence{Kind: kind, Hop: e.Hop, Authority: e.Authority, Time: e.Time}
						}
						var err error
						if resp.Evidence, err = e.Append(nil); err != nil {
							t.Error(err)
						}
					}),
				})
				rep := n.mustGet("/", "hello")
				if rep.Evidence.Kind != kind.String() || rep.Evidence.Verified != (kind != evidence.Claim) || rep.Inner.Confirmed || rep.Level != client.Intact {
					t.Errorf("%+v %+v", rep.Evidence, rep.Inner)
				}
			})
		})
	}
}

// An origin that has the suites and the carrier and has not heard of `inspection`: it signs what it is asked
// to, and says nothing about who reads.
// spec: EVD-31
func TestAnAuthenticatorWithoutAnAnswerIsNotConfirmed(t *testing.T) {
	for _, x := range []struct{ evidence, inner, confirmed bool }{{false, false, false}, {false, true, false}, {true, false, false}, {true, true, true}} {
		t.Run(fmt.Sprintf("in the evidence=%v, in the session=%v", x.evidence, x.inner), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				n := New(t, Config{Names: []string{"else.example"}})
				n.serveOwnOrigin(&ownOrigin{silentEvidence: !x.evidence, silentInner: !x.inner})
				rep := n.mustGet("/", "own")
				kind := map[bool]string{true: "authenticator", false: "transcript"}[x.evidence]
				if rep.Evidence.Kind != kind || !rep.Evidence.Verified || rep.Inner.Confirmed != x.confirmed || rep.Level != client.Intact {
					t.Errorf("%+v %+v", rep.Evidence, rep.Inner)
				}
			})
		})
	}
}

// dialAs makes hop 2 as change wants it, with a transcript for the client's request.
func (n *Net) dialAs(ctx context.Context, t *proxy.Target, change func(cfg *tls.Config)) (*proxy.Upstream, error) {
	conn, err := n.DialContext(ctx, "tcp", OriginHost+":443")
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{
		RootCAs: n.Origins.Pool().CertPool, ServerName: OriginHost, NextProtos: []string{frames.ALPNH2, frames.ALPNRaw, "http/1.1"},
		Certificates: []tls.Certificate{n.ProxyCert},
	}
	change(cfg)
	d, err := evidence.NewDial(cfg, t.Request, t.Request.Offer.Proxies, t.Authority)
	if err != nil {
		return nil, err
	}
	defer d.Discard()
	tc := tls.Client(d.Tap(conn), d.Config())
	if err := tc.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	e, err := d.Evidence(tc.ConnectionState(), true)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &proxy.Upstream{State: tc.ConnectionState(), Verified: true, Transcript: e, Done: sync.OnceFunc(func() { tc.Close() })}, nil
}

// P6: a proxy that would rather not be watched cannot invent "this origin does not speak inner sessions". The
// user here would take blind where the origin's own signature says that intact cannot be had.
func TestP6ALiarCannotInventA470(t *testing.T) {
	evidenceOf := func(f func(n *Net, ctx context.Context, t *proxy.Target) (*proxy.Upstream, error)) func(n *Net) proxy.DialFunc {
		return func(n *Net) proxy.DialFunc {
			return func(ctx context.Context, t *proxy.Target) (*proxy.Upstream, error) { return f(n, ctx, t) }
		}
	}
	for _, x := range []struct {
		name  string
		dial  func(n *Net) proxy.DialFunc
		lie   func(t *testing.T, resp *hop.Response)
		class string
	}{
		{
			name: "the tokens are not offered to the origin",
			dial: evidenceOf(func(n *Net, ctx context.Context, t *proxy.Target) (*proxy.Upstream, error) {
				return n.dialAs(ctx, t, func(cfg *tls.Config) { cfg.NextProtos = []string{"http/1.1"} })
			}),
			class: "level",
		},
		{
			name: "one of the tokens is not offered to the origin",
			dial: evidenceOf(func(n *Net, ctx context.Context, t *proxy.Target) (*proxy.Upstream, error) {
				return n.dialAs(ctx, t, func(cfg *tls.Config) { cfg.NextProtos = []string{frames.ALPNRaw, "http/1.1"} })
			}),
			class: "level",
		},
		{
			name: "other protocols are offered first",
			dial: evidenceOf(func(n *Net, ctx context.Context, t *proxy.Target) (*proxy.Upstream, error) {
				return n.dialAs(ctx, t, func(cfg *tls.Config) { cfg.NextProtos = []string{"http/1.1", frames.ALPNRaw, "itls-h3/1"} })
			}),
			class: "level",
		},
		{
			name: "the origin picked one all the same",
			dial: evidenceOf(func(n *Net, ctx context.Context, t *proxy.Target) (*proxy.Upstream, error) {
				return n.dialAs(ctx, t, func(*tls.Config) {})
			}),
			class: "level",
		},
		{
			name: "an authenticator",
			lie: func(_ *testing.T, resp *hop.Response) {
				resp.Status = frames.StatusInspectionRequired
				resp.Header.Set(fields.InspectionOptions, "blind")
			},
			class: "level",
		},
		{
			name: "no evidence",
			lie: func(_ *testing.T, resp *hop.Response) {
				resp.Status, resp.Evidence = frames.StatusInspectionRequired, nil
				resp.Header.Set(fields.InspectionOptions, "blind")
			},
			class: "level",
		},
		{
			name: "another status",
			lie:  func(_ *testing.T, resp *hop.Response) { resp.Status, resp.Evidence = http.StatusBadGateway, nil },
			// The proxy can always say that it cannot; nothing leaves.
			class: "unreachable:origin",
		},
		{
			name: "hop 2 is forced down to TLS 1.2, as a transcript",
			dial: evidenceOf(func(n *Net, ctx context.Context, t *proxy.Target) (*proxy.Upstream, error) {
				return n.dial12(ctx, t)
			}),
			class: "integrity",
		},
		{
			name: "hop 2 is forced down to TLS 1.2, as a claim",
			dial: evidenceOf(func(n *Net, ctx context.Context, t *proxy.Target) (*proxy.Upstream, error) {
				return n.dialAs(ctx, t, func(cfg *tls.Config) { cfg.MaxVersion = tls.VersionTLS12 })
			}),
			class: "level",
		},
	} {
		t.Run(x.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				served, options := 0, 0
				cfg := Config{
					Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served++ }),
					Proxy: func(_ *Net, p *proxy.Proxy) {
						p.Policy.Modes = []fields.Mode{fields.Intact, fields.Blind}
					},
					Client: func(_ *Net, tr *client.Transport) { tr.Levels = []client.Level{client.Intact, client.Blind} },
					Hop1: answers(func(_ *hop.Request, resp *hop.Response) {
						if x.lie != nil {
							x.lie(t, resp)
						}
						if resp.Status == frames.StatusInspectionRequired {
							options++
						}
					}),
				}
				var n *Net
				if x.dial != nil {
					cfg.Dial = func(ctx context.Context, target *proxy.Target) (*proxy.Upstream, error) {
						if target.Mode == fields.Blind {
							return n.Proxy.Dial(ctx, target) // the client has fallen for it
						}
						return x.dial(n)(ctx, target)
					}
				}
				n = New(t, cfg)
				_, _, err := n.get("/")
				if c := class(err); c != x.class {
					t.Errorf("%s: %v", c, err)
				}
				if served != 0 {
					t.Error("the request was sent all the same")
				}
				if x.class != "unreachable:origin" && options != 1 {
					t.Errorf("%d refusals", options)
				}
				if r := client.ReportOfError(err); err != nil && (r == nil || r.Inner != nil || r.Level != "") {
					t.Errorf("report: %+v", r)
				}
			})
		})
	}
}

// dial12 makes a transcript of a TLS 1.2 handshake with an origin that speaks TLS 1.3, as package evidence
// would refuse to.
func (n *Net) dial12(ctx context.Context, t *proxy.Target) (*proxy.Upstream, error) {
	conn, err := n.DialContext(ctx, "tcp", OriginHost+":443")
	if err != nil {
		return nil, err
	}
	e := &evidence.Evidence{Kind: evidence.Transcript, Authority: t.Authority, Time: time.Now()}
	if _, err := rand.Read(e.Salt[:]); err != nil {
		return nil, err
	}
	proxies := sha256.New()
	for _, p := range t.Request.Offer.Proxies {
		proxies.Write(p[:])
	}
	random := sha256.Sum256(slices.Concat([]byte("vitrine transcript v1\x00"), t.Request.Nonce[:], e.Salt[:], proxies.Sum(nil), []byte(t.Authority)))
	tap := &tap{Conn: conn}
	tc := tls.Client(tap, &tls.Config{
		RootCAs: n.Origins.Pool().CertPool, ServerName: OriginHost, NextProtos: []string{frames.ALPNH2, frames.ALPNRaw, "http/1.1"},
		MaxVersion: tls.VersionTLS12, Rand: io.MultiReader(bytes.NewReader(random[:]), rand.Reader),
	})
	if err := tc.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	sent, received := tap.seen()
	hello := essence(records(sent)[:1])
	e.Messages = slices.Clone(hello)
	for rest := essence(records(received)); len(rest) > 0; {
		msg, more, err := tlsmsg.SplitHandshake(rest, tlsmsg.MaxHandshake)
		if err != nil {
			return nil, err
		}
		e.Messages = append(e.Messages, msg...)
		if rest = more; tlsmsg.MessageType(msg) == tlsmsg.TypeServerKeyExchange {
			break
		}
	}
	state := tc.ConnectionState()
	e.Hop = evidence.HopOf(state, true)
	return &proxy.Upstream{State: state, Verified: true, Transcript: e, Done: sync.OnceFunc(func() { tc.Close() })}, nil
}

// A tap keeps what passes a connection.
type tap struct {
	net.Conn
	mu            sync.Mutex
	out, received []byte
}

func (c *tap) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.out = append(c.out, p...)
	c.mu.Unlock()
	return c.Conn.Write(p)
}

func (c *tap) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.received = append(c.received, p[:n]...)
	return n, err
}

// seen returns what has passed, in each direction.
func (c *tap) seen() (sent, received []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.out), bytes.Clone(c.received)
}

// The honest cases of the same: an ordinary origin, of TLS 1.3 and of TLS 1.2. Its own signature says that it
// does not speak inner sessions, and the user decides.
func TestAStockOriginsOwnSignatureJustifiesA470(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS13, tls.VersionTLS12} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				n := New(t, Config{
					Stock: true,
					Proxy: func(_ *Net, p *proxy.Proxy) { p.Policy.Modes = []fields.Mode{fields.Intact, fields.Blind} },
					Origin: func(_ *Net, srv *http.Server, _ *origin.Config) {
						srv.TLSConfig.MaxVersion = version
					},
				})
				_, _, err := n.get("/")
				e := wantError[*client.LevelError](t, err)
				if !slices.Contains(e.Offered, "blind") || e.Option != "intact,blind" || e.Report.Evidence == nil ||
					!e.Report.Evidence.Verified || e.Report.Evidence.Kind != "transcript" || e.Report.Evidence.Hop.Version != tls.VersionName(version) {
					t.Errorf("%+v, report %+v", e, e.Report)
				}
				n.Client = n.NewClient(func(_ *Net, tr *client.Transport) { tr.Levels = []client.Level{client.Intact, client.Blind} })
				rep := n.mustGet("/", "hello")
				if rep.Level != client.Blind || rep.Inner.Version != tls.VersionName(version) {
					t.Errorf("%+v", rep)
				}
			})
		})
	}
}

// An authority that was reached at intact does not become less by itself, however well a 470 is justified:
// an origin that lost its configuration looks the same as one that an attacker stands in for.
func TestP6IntactIsRemembered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		stock := false
		var n *Net
		n = New(t, Config{
			Proxy: func(_ *Net, p *proxy.Proxy) { p.Policy.Modes = []fields.Mode{fields.Intact, fields.Blind} },
			Client: func(_ *Net, tr *client.Transport) {
				tr.Levels, tr.IdleTimeout = []client.Level{client.Intact, client.Blind}, -1
			},
			Dial: func(ctx context.Context, target *proxy.Target) (*proxy.Upstream, error) {
				if !stock {
					return n.Proxy.Dial(ctx, target)
				}
				if target.Mode == fields.Blind {
					conn, err := n.DialContext(ctx, "tcp", "stock:443")
					return &proxy.Upstream{Conn: conn}, err
				}
				saved := n.network.names[OriginHost]
				n.network.names[OriginHost] = n.network.names["stock"]
				defer func() { n.network.names[OriginHost] = saved }()
				return n.dialAs(ctx, target, func(*tls.Config) {})
			},
		})
		srv := &http.Server{
			Handler:   http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "stock") }),
			TLSConfig: &tls.Config{Certificates: []tls.Certificate{n.OriginCert}},
		}
		ln := n.Listen("stock")
		n.run(func() error { return srv.ServeTLS(ln, "", "") }, srv.Close)

		n.mustGet("/", "hello")
		stock = true
		_, _, err := n.get("/")
		if e := wantError[*client.LevelError](t, err); e.Report.Evidence == nil || !e.Report.Evidence.Verified {
			t.Errorf("%+v", e.Report)
		}
		n.Client.Forget(OriginHost + ":443") // the user was told, and says so
		if rep := n.mustGet("/", "stock"); rep.Level != client.Blind {
			t.Errorf("%+v", rep)
		}
	})
}
