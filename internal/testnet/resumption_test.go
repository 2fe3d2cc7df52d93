package testnet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/client"
	"vitrine/frames"
	"vitrine/internal/hop"
	"vitrine/internal/hostile"
	"vitrine/internal/tlsmsg"
	"vitrine/origin"
	"vitrine/proxy"
)

// hellos are the ClientHellos that left for the origin, one for each tunnel.
type hellos struct {
	mu    sync.Mutex
	tapes []*hostile.Tape
}

func (h *hellos) wrap(s hop.Session) hop.Session {
	return hostile.Wrap(s, func(uint64) hostile.Mangler {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.tapes = append(h.tapes, new(hostile.Tape))
		return h.tapes[len(h.tapes)-1].Mangler()
	})
}

// last is the newest, and how many there were.
func (h *hellos) last(t *testing.T) (*tlsmsg.ClientHello, int) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	m, err := tlsmsg.ParseClientHello(h.tapes[len(h.tapes)-1].Records()[0][tlsmsg.RecordHeaderLen:])
	if err != nil {
		t.Fatal(err)
	}
	return m, len(h.tapes)
}

// A session is resumed where nothing differs. Who reads is said and confirmed each time, and the client's
// certificate is known without being shown.
//
// spec: TLS-31 TLS-36 TLS-41
func TestInnerSessionsAreResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, err := newUsers(t)
		if err != nil {
			t.Fatal(err)
		}
		shown := u.client(t, "user")
		type request struct {
			resumed bool
			subject string
			proxies int
		}
		var served []request
		var sent hellos
		n := New(t, Config{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				i, _ := origin.InspectionOf(r.Context())
				served = append(served, request{r.TLS.DidResume, r.TLS.VerifiedChains[0][0].Subject.CommonName, len(i.Proxies)})
				w.Write([]byte("hello"))
			}),
			Origin: func(_ *Net, srv *http.Server, _ *origin.Config) {
				srv.TLSConfig.ClientAuth, srv.TLSConfig.ClientCAs = tls.RequireAndVerifyClientCert, u.pool()
			},
			Hop2: func(_ *proxy.Target, s hop.Session) hop.Session { return sent.wrap(s) },
			Client: func(_ *Net, tr *client.Transport) {
				tr.IdleTimeout, tr.Certificates = -1, []tls.Certificate{shown}
			},
		})
		for i := range 4 {
			rep := n.mustGet("/", "hello")
			if rep.Inner.Resumed != (i > 0) || !rep.Inner.Confirmed || rep.Level != client.Intact || rep.Evidence.Kind != "authenticator" || len(rep.Chains) == 0 {
				t.Errorf("exchange %d: %+v, evidence %+v", i, rep.Inner, rep.Evidence)
			}
			h, tunnels := sent.last(t)
			if tunnels != i+1 || h.HasPSK != (i > 0) || len(h.PSKIdentities) > 1 || h.EarlyData || h.Inspection == nil {
				t.Errorf("exchange %d: tunnel %d: %+v", i, tunnels, h)
			}
			if got := served[len(served)-1]; len(served) != i+1 || got.resumed != (i > 0) || got.proxies != 1 || got.subject == "" || got != (request{i > 0, served[0].subject, 1}) {
				t.Errorf("exchange %d: the origin saw %+v", i, got)
			}
		}
	})
}

// Whatever ends, switches off or differs: the next ClientHello has no PSK, or the origin does not take it, and the
// exchange goes well.
//
// spec: TLS-31 TLS-37 CLI-22
func TestInnerSessionsThatAreNotResumed(t *testing.T) {
	gone := errors.New("taken back")
	for _, c := range []struct {
		name    string
		change  func(cfg *Config)
		between func(n *Net, end context.CancelCauseFunc)
		offered bool
	}{
		{name: "the client wants none", change: func(cfg *Config) {
			own := cfg.Client
			cfg.Client = func(n *Net, tr *client.Transport) {
				own(n, tr)
				tr.NoResumption = true
			}
		}},
		{name: "the origin wants none", change: func(cfg *Config) {
			cfg.Origin = func(_ *Net, _ *http.Server, cfg *origin.Config) { cfg.ResumeFor = -1 }
		}},
		{name: "the server wants no tickets", change: func(cfg *Config) {
			cfg.Origin = func(_ *Net, srv *http.Server, _ *origin.Config) { srv.TLSConfig.SessionTicketsDisabled = true }
		}},
		{name: "the server wants no tickets from this client", change: func(cfg *Config) {
			cfg.Origin = func(_ *Net, srv *http.Server, _ *origin.Config) {
				own := srv.TLSConfig.Clone()
				own.SessionTicketsDisabled = true
				srv.TLSConfig.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return own, nil }
			}
		}},
		{name: "it is over", change: func(cfg *Config) {
			cfg.Origin = func(_ *Net, _ *http.Server, cfg *origin.Config) { cfg.ResumeFor = time.Hour }
		}, between: func(*Net, context.CancelCauseFunc) { time.Sleep(time.Hour) }},
		{name: "forgotten", between: func(n *Net, _ context.CancelCauseFunc) { n.Client.Forget(OriginHost + ":443") }},
		{name: "forgotten by another spelling", between: func(n *Net, _ context.CancelCauseFunc) { n.Client.Forget("ORIGIN.Example:0443") }},
		{name: "another authority is forgotten", between: func(n *Net, _ context.CancelCauseFunc) { n.Client.Forget("else.example:443") }, offered: true},
		{name: "consent ended between tunnels", between: func(_ *Net, end context.CancelCauseFunc) { end(gone) }},
		{name: "another client of the same user", between: func(n *Net, _ context.CancelCauseFunc) { n.Client = n.NewClient(n.cfg.Client) }},
		{name: "the proxy has a new certificate", between: func(n *Net, _ context.CancelCauseFunc) {
			p := *n.ProxyCert.Leaf
			n.ProxyCert = n.certificate(n.Proxies.Proxy(ProxyHost))
			if p.Equal(n.ProxyCert.Leaf) {
				n.Fatal("the same certificate")
			}
			if err := n.Proxy.Reload(proxyWith(n)); err != nil {
				n.Fatal(err)
			}
			n.Client.CloseIdleConnections()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var sent hellos
				ctx, end := context.WithCancelCause(context.Background())
				defer end(nil)
				cfg := Config{
					Hop2: func(_ *proxy.Target, s hop.Session) hop.Session { return sent.wrap(s) },
					Client: func(_ *Net, tr *client.Transport) {
						tr.IdleTimeout = -1
						tr.Consent = client.ConsentFunc(func(context.Context, *client.ConsentRequest) (*client.Agreement, error) {
							if ctx.Err() != nil { // agreed anew
								return &client.Agreement{}, nil
							}
							return &client.Agreement{Ends: ctx}, nil
						})
					},
				}
				if c.name == "the proxy has a new certificate" {
					cfg.Hop2 = nil // Reload is for a proxy that serves by itself
				}
				if c.change != nil {
					c.change(&cfg)
				}
				n := New(t, cfg)
				n.mustGet("/", "hello")
				if c.between != nil {
					if resumed := n.mustGet("/", "hello").Inner.Resumed; !resumed {
						t.Fatal("nothing is resumed")
					}
					synctest.Wait()
					c.between(n, end)
					synctest.Wait()
				}
				if resumed := n.mustGet("/", "hello").Inner.Resumed; resumed != c.offered {
					t.Errorf("resumed: %v", resumed)
				}
				if cfg.Hop2 != nil {
					if h, _ := sent.last(t); h.HasPSK != c.offered {
						t.Errorf("a PSK was offered: %v", h.HasPSK)
					}
				}
			})
		})
	}
}

// proxyWith is n's proxy with the certificate of now.
func proxyWith(n *Net) *proxy.Proxy {
	return &proxy.Proxy{Certificate: n.ProxyCert, Roots: n.Proxy.Roots, Targets: n.Proxy.Targets}
}

// Consent that ends while a tunnel is open takes the session of that tunnel with it, its ticket not yet read
// included.
//
// spec: CLI-22
func TestConsentThatEndsInATunnelEndsItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent hellos
		var end context.CancelCauseFunc
		release := make(chan struct{})
		n := New(t, Config{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/slow" {
					<-release
				}
				w.Write([]byte("hello"))
			}),
			Hop2: func(_ *proxy.Target, s hop.Session) hop.Session { return sent.wrap(s) },
			Client: func(_ *Net, tr *client.Transport) {
				tr.IdleTimeout = -1
				tr.Consent = client.ConsentFunc(func(context.Context, *client.ConsentRequest) (*client.Agreement, error) {
					ctx, cancel := context.WithCancelCause(context.Background())
					end = cancel
					return &client.Agreement{Ends: ctx}, nil
				})
			},
		})
		for i := range 3 {
			failed := make(chan error, 1)
			go func() {
				_, _, err := n.get("/slow")
				failed <- err
			}()
			synctest.Wait() // the ticket is there, before the response
			end(errors.New("taken back"))
			if wantError[*client.TrustError](t, <-failed).Party != client.PartyConsent {
				t.Error("it ended otherwise")
			}
			if h, tunnels := sent.last(t); tunnels != i+1 || h.HasPSK {
				t.Errorf("tunnel %d offers a session from before", tunnels)
			}
		}
		close(release)
		n.mustGet("/", "hello")
		if rep := n.mustGet("/", "hello"); !rep.Inner.Resumed {
			t.Error("what is agreed to now is not resumed")
		}
		end(nil)
	})
}

// P3 for a session that is resumed: each operation on each record, and bits of each byte.
func TestP3AResumedExchange(t *testing.T) {
	t.Parallel()
	step := 3
	if raceEnabled || testing.Short() {
		step = 8*7 + 1
	}
	resuming := func(cfg *Config) {
		cfg.Client = func(_ *Net, tr *client.Transport) { tr.IdleTimeout = -1 }
	}
	// attack does one exchange that would be resumed.
	attack := func(l *lab, ty *tally, name string, d frames.Direction, n int, m hostile.Mangler) {
		if r := l.exchange(); r.err != nil || r.lie != "" {
			l.Fatalf("honest exchange: %+v", r)
		}
		l.judge(ty, name, d, n, m)
	}
	for d := range 2 {
		d := frames.Direction(d)
		t.Run(fmt.Sprintf("operations %v", d), func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				l := newLab(t, lengths, resuming)
				full := l.tapes()
				tape := l.tapes()[d]
				if d == frames.ToClient && len(tape[1]) >= len(full[d][1]) {
					t.Fatal("the second exchange is not resumed")
				}
				var ty tally
				for n, record := range tape {
					for _, keep := range []int{0, 1, 5, 6, len(record) - 1, 1 << 20} {
						attack(l, &ty, fmt.Sprintf("cut behind %d bytes", keep), d, n, hostile.Cut(n, keep))
					}
					attack(l, &ty, "drop", d, n, hostile.Drop(n))
					attack(l, &ty, "replay", d, n, hostile.Replay(n))
					attack(l, &ty, "swap with the next", d, n, hostile.Swap(n))
					for name, extra := range forgeries() {
						attack(l, &ty, "insert "+name, d, n, hostile.Insert(n, extra))
						attack(l, &ty, "replace by "+name, d, n, hostile.Replace(n, extra))
					}
					for m, old := range full[d] {
						attack(l, &ty, fmt.Sprintf("replace by record %d of the full session", m), d, n, hostile.Replace(n, old))
					}
					for m, old := range tape {
						attack(l, &ty, fmt.Sprintf("replace by record %d of another resumed session", m), d, n, hostile.Replace(n, old))
					}
				}
				ty.log(t)
				if ty.classes["integrity"] == 0 {
					t.Error("the oracle was not exercised")
				}
			})
		})
		t.Run(fmt.Sprintf("bits %v", d), func(t *testing.T) {
			t.Parallel()
			var ty tally
			const batch = 300
			for bit, more := 0, true; more; {
				bubble(t, func(t *testing.T) {
					l := newLab(t, lengths, resuming)
					l.tapes()
					tape := l.tapes()[d]
					for end := bit + batch*step; bit < end && more; bit += step {
						n, offset := 0, bit/8
						for n < len(tape) && offset >= len(tape[n]) {
							offset -= len(tape[n])
							n++
						}
						if more = n < len(tape); more {
							attack(l, &ty, fmt.Sprintf("flip bit %d of byte %d", bit%8, offset), d, n, hostile.FlipByte(int64(bit/8), 1<<(bit%8)))
						}
					}
				})
			}
			ty.log(t)
			if ty.classes["integrity"] == 0 {
				t.Error("the oracle was not exercised")
			}
		})
	}
}
