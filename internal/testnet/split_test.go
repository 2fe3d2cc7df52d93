package testnet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/client"
	"vitrine/client/consent"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/proxy"
)

// splitLevel is what split mode comes to with an origin of kind k; "" where it has none.
func splitLevel(k kind) client.Level {
	switch k {
	case kindToken:
		return ""
	case kindSigning:
		return client.Signed
	case kindRSA12:
		return client.Claimed
	}
	return client.Attested
}

// splitKinds are the origins that a proxy can only read in split mode.
func splitKinds() []kind {
	return slices.DeleteFunc(kinds(), func(k kind) bool { return splitLevel(k) == "" })
}

// inSplit is cfg with an origin of kind k, a proxy that allows split, and a client that accepts what comes of it.
func (k kind) inSplit(t *testing.T, cfg Config) Config {
	t.Helper()
	p, c := cfg.Proxy, cfg.Client
	cfg.Proxy = func(n *Net, next *proxy.Proxy) {
		next.Policy.Modes = []fields.Mode{fields.Intact, fields.Split}
		if p != nil {
			p(n, next)
		}
	}
	cfg.Client = func(n *Net, tr *client.Transport) {
		tr.Levels = []client.Level{splitLevel(k)}
		if c != nil {
			c(n, tr)
		}
	}
	return k.as(t, cfg)
}

// eachSplit runs f with each kind of origin that has a split mode.
func eachSplit(t *testing.T, f func(t *testing.T, k kind)) {
	for _, k := range splitKinds() {
		t.Run(string(k), func(t *testing.T) {
			bubble(t, func(t *testing.T) { f(t, k) })
		})
	}
}

// A rule kills in split mode as it does in a tunnel, with the proxy's signature, wherever it finds what it
// forbids; nothing of that gets to the other end, and the sibling that is half-way goes on.
func TestSplitAKillIsSignedAndTouchesNoSibling(t *testing.T) {
	t.Parallel()
	const forbidden = "4711"
	for where, path := range map[string]string{
		"in the request's head": "/4711", "in the request's body": "/upload", "in the response's head": "/head", "in the response's body": "/body",
		"far into the response": "/late",
	} {
		t.Run(where, func(t *testing.T) {
			eachSplit(t, func(t *testing.T, k kind) {
				h := &halves{body: pattern(300_000), gate: make(chan struct{})}
				rec := newRecorder()
				rec.request = func(s *seen, _ proxy.Part) proxy.Decision {
					if bytes.Contains(s.sent, []byte(forbidden)) || bytes.Contains([]byte(s.head.Path), []byte(forbidden)) {
						return proxy.Decision{Action: proxy.Kill, Rule: "no-combinations", Reason: "it says 4711"}
					}
					return proxy.Decision{}
				}
				rec.response = func(s *seen, p proxy.Part) proxy.Decision {
					if s.responseHeader.Get("X-Combination") == forbidden {
						return proxy.Decision{Action: proxy.Kill, Rule: "no-combinations", Reason: "it says 4711"}
					}
					return killBody("no-combinations", forbidden)(s, p)
				}
				var arrived atomic.Bool
				n := New(t, k.inSplit(t, Config{
					Proxy: func(_ *Net, p *proxy.Proxy) { p.Inspectors = []proxy.Inspector{rec} },
					Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						switch r.URL.Path {
						case "/big":
							h.ServeHTTP(w, r)
						case "/head":
							w.Header().Set("X-Combination", forbidden)
						case "/body":
							io.WriteString(w, answer)
						case "/late":
							w.Write(pattern(100_000))
							http.NewResponseController(w).Flush()
							io.WriteString(w, answer)
						default:
							body, _ := io.ReadAll(r.Body) // cut off, or forbidden
							if r.URL.Path == "/4711" || bytes.Contains(body, []byte(forbidden)) {
								arrived.Store(true)
							}
						}
					}),
				}))
				sibling := h.open(n, n.Client)
				ctx, cancel := context.WithTimeout(n.ctx, time.Minute)
				defer cancel()
				_, body, err := fetch(n.Client, n.request(ctx, http.MethodPost, path, io.MultiReader(bytes.NewReader(pattern(100_000)), bytes.NewReader([]byte(answer)))))
				killed := wantError[*client.KilledError](t, err)
				if !killed.SignatureVerified || killed.Rule != "no-combinations" || killed.Reason != "it says 4711" || killed.Proxy != ProxyHost {
					t.Errorf("%+v", killed)
				}
				if r := killed.Report; r == nil || r.Killed == nil || !r.Killed.SignatureVerified {
					t.Errorf("report %+v", r)
				}
				if bytes.Contains(body, []byte(forbidden)) || !bytes.HasPrefix(pattern(100_000), body) {
					t.Errorf("%d bytes got to the client", len(body))
				}
				synctest.Wait()
				if arrived.Load() {
					t.Error("what is forbidden got to the origin")
				}
				close(h.gate)
				if err := h.rest(n, sibling); err != nil {
					t.Errorf("the sibling: %v", err)
				}
				if resp, _, err := n.get("/again"); err != nil || client.ReportOf(resp).Level != splitLevel(k) {
					t.Errorf("the next one: %v", err)
				}
			})
		})
	}
}

// Large bodies stream in both directions at once, and the proxy reads each byte that passes.
func TestSplitLargeBodiesBothWays(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	for _, k := range splitKinds() {
		t.Run(string(k), func(t *testing.T) {
			var saw summing
			up, down := sha256.New(), newSource(size)
			n := New(t, k.inSplit(t, Config{
				Proxy: func(_ *Net, p *proxy.Proxy) { p.Inspectors = []proxy.Inspector{&saw} },
				Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					http.NewResponseController(w).EnableFullDuplex()
					w.WriteHeader(http.StatusOK)
					http.NewResponseController(w).Flush()
					var both sync.WaitGroup
					both.Go(func() { io.Copy(up, r.Body) })
					if _, err := io.Copy(w, down); err != nil {
						t.Error(err)
					}
					both.Wait()
				}),
			}))
			sent, got := newSource(size), sha256.New()
			req := n.request(n.ctx, http.MethodPost, "/", sent)
			if k == kindSigning { // who wants a signature sends a digest, and has to have the whole body first
				req = n.request(n.ctx, http.MethodPost, "/", bytes.NewReader(pattern(size)))
				sent.sum.Write(pattern(size))
			}
			resp, err := n.Client.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if m, err := io.Copy(got, resp.Body); err != nil || m != size {
				t.Errorf("%d bytes: %v", m, err)
			}
			if !bytes.Equal(got.Sum(nil), down.sum.Sum(nil)) || !bytes.Equal(up.Sum(nil), sent.sum.Sum(nil)) {
				t.Error("the bytes differ")
			}
			n.Client.CloseIdleConnections()
			if p := saw.got.Load(); p == nil || *p != hex.EncodeToString(got.Sum(nil)) {
				t.Error("the proxy read another response")
			}
			if p := saw.sent.Load(); p == nil || *p != hex.EncodeToString(up.Sum(nil)) {
				t.Error("the proxy read another request")
			}
		})
	}
}

// Who does not read holds up nobody else, however little they read and however much is on its way to them.
func TestSplitASlowReaderHoldsUpNobody(t *testing.T) {
	eachSplit(t, func(t *testing.T, k kind) {
		n := New(t, k.inSplit(t, Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/big" {
				io.Copy(w, newSource(16<<20))
				return
			}
			io.WriteString(w, "hello")
		})}))
		var slow []*http.Response
		for range 5 {
			resp, err := n.Client.RoundTrip(n.request(n.ctx, http.MethodGet, "/big", nil))
			if err != nil {
				t.Fatal(err)
			}
			slow = append(slow, resp)
		}
		for range 20 {
			n.mustGet("/", "hello")
		}
		for _, resp := range slow {
			resp.Body.Close()
		}
		n.mustGet("/", "hello")
	})
}

// Many at once: where a connection carries one exchange at a time there are more of them, and each answers its
// own.
func TestSplitManyAtOnce(t *testing.T) {
	eachSplit(t, func(t *testing.T, k kind) {
		n := New(t, k.inSplit(t, Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second) // the bubble's clock
			io.WriteString(w, r.URL.Path)
		})}))
		var all sync.WaitGroup
		for i := range 25 {
			all.Go(func() {
				path := "/" + string(rune('a'+i))
				if _, body, err := n.get(path); err != nil || string(body) != path {
					t.Errorf("%s: %q, %v", path, body, err)
				}
			})
		}
		all.Wait()
	})
}

// origins counts the connections that requests came over.
type origins struct {
	mu    sync.Mutex
	conns []string // of each request
}

func (o *origins) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	o.conns = append(o.conns, r.RemoteAddr+" "+hex.EncodeToString(r.TLS.TLSUnique))
	o.mu.Unlock()
	io.WriteString(w, "hello")
}

// A proxy that is reloaded so that it may not split any more refuses the next request, and what is half-way
// ends as it began.
func TestSplitReloadEndsWhatComesNext(t *testing.T) {
	eachSplit(t, func(t *testing.T, k kind) {
		h := &halves{body: pattern(300_000), gate: make(chan struct{})}
		n := New(t, k.inSplit(t, Config{Handler: h}))
		half := h.open(n, n.Client)
		n.mustGet("/", answer)
		n.reload("[[host]]\nmatch = \"*\"\nmodes = [\"intact\"]\n", nil)
		want := "level"
		if k == kindRSA12 {
			want = "unreachable:origin" // the proxy offers RSA key exchange where it may split, and nowhere else
		}
		_, _, err := n.get("/")
		if c := class(err); c != want {
			t.Errorf("%s: %v", c, err)
		}
		close(h.gate)
		if err := h.rest(n, half); err != nil {
			t.Errorf("what was half-way: %v", err)
		}
		n.reload("[[host]]\nmatch = \"*\"\nmodes = [\"intact\", \"split\"]\n"+rule("r", "kill", `request.path == "/r"`), nil)
		n.mustGet("/", answer)
		_, _, err = n.get("/r")
		wantRule(t, err, "r")
	})
}

// P16: consent that ends takes with it what was opened under it, in the middle of a body, and hop 1 with the last
// of it.
func TestSplitConsentThatEndsInAnExchange(t *testing.T) {
	eachSplit(t, func(t *testing.T, k kind) {
		h := &halves{body: pattern(300_000), gate: make(chan struct{})}
		gone := make(chan struct{}, 10)
		n := New(t, k.inSplit(t, Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(w, r)
			if r.URL.Path == "/big" {
				gone <- struct{}{}
			}
		})}))
		s, _ := n.store("")
		g := n.grant(s, func(g *consent.Grant) {
			g.Until, g.Levels = time.Now().Add(time.Hour), []client.Level{splitLevel(k)}
		}, OriginHost)
		var wire tapped
		tr := n.consenting(s, func(tr *client.Transport) {
			tr.NetDial, tr.Levels, tr.IdleTimeout = wire.dial(n.DialContext), []client.Level{splitLevel(k)}, 100*time.Hour
		})
		half := h.open(n, tr)
		if _, _, err := fetch(tr, n.request(n.ctx, http.MethodGet, "/", nil)); err != nil {
			t.Fatal(err)
		}
		failed := make(chan error, 1)
		go func() { failed <- h.rest(n, half) }()
		synctest.Wait()
		if _, err := s.Revoke(g.ID); err != nil {
			t.Fatal(err)
		}
		err := <-failed
		if e := wantError[*client.TrustError](t, err); e.Party != client.PartyConsent || !errors.Is(err, consent.ErrRevoked) {
			t.Errorf("%v", err)
		}
		<-gone
		time.Sleep(20 * time.Second) // the bubble's clock
		if _, err := wire.taps[0].Conn.Write([]byte{0}); err == nil {
			t.Error("hop 1 is open, and carries nothing")
		}
		_, _, err = fetch(tr, n.request(n.ctx, http.MethodGet, "/", nil))
		if e := wantError[*client.TrustError](t, err); e.Party != client.PartyConsent {
			t.Errorf("the next one: %v", err)
		}
	})
}

// Credentials do not leave at a level that somebody reads, unless the user said so.
func TestSplitCredentialsAreKeptBack(t *testing.T) {
	eachSplit(t, func(t *testing.T, k kind) {
		var asked atomic.Int32
		n := New(t, k.inSplit(t, Config{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			if r.Header.Get("Authorization") != "Basic c2VjcmV0" || r.Header.Get("Cookie") != "a=b; c=d" {
				t.Errorf("%v", r.Header)
			}
		})}))
		ask := func(tr *client.Transport) error {
			req := n.request(n.ctx, http.MethodGet, "/", nil)
			req.Header.Set("Authorization", "Basic c2VjcmV0")
			req.Header.Set("Cookie", "a=b; c=d")
			_, _, err := fetch(tr, req)
			return err
		}
		if e := wantError[*client.TrustError](t, ask(n.Client)); e.Party != client.PartyCredentials || asked.Load() != 0 {
			t.Errorf("%v; the origin was asked %d times", e, asked.Load())
		}
		willing := n.NewClient(func(_ *Net, tr *client.Transport) {
			tr.Levels, tr.Consent = []client.Level{splitLevel(k)}, client.Once{Credentials: true}
		})
		if err := ask(willing); err != nil || asked.Load() != 1 {
			t.Errorf("%v; the origin was asked %d times", err, asked.Load())
		}
	})
}

// A proxy that ends in the middle, an origin that ends in the middle: the client is given a beginning of the
// truth, and told that it is no more.
func TestSplitWhatIsCutIsNoWholeResponse(t *testing.T) {
	for name, x := range map[string]struct {
		cut  func(n *Net, w http.ResponseWriter)
		want string
	}{
		"by the proxy's end": {func(n *Net, _ http.ResponseWriter) { n.Proxy.Close() }, "killed"},
		"by the origin's":    {func(*Net, http.ResponseWriter) { panic(http.ErrAbortHandler) }, "integrity"},
		"by the origin's, behind more": {func(_ *Net, w http.ResponseWriter) {
			w.Write(pattern(150_000)[100_000:])
			panic(http.ErrAbortHandler)
		}, "integrity"},
	} {
		for _, length := range []string{"", "300000"} {
			t.Run(name+", length "+length, func(t *testing.T) {
				eachSplit(t, func(t *testing.T, k kind) {
					var n *Net
					n = New(t, k.inSplit(t, Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
						if length != "" {
							w.Header().Set("Content-Length", length)
						}
						w.Write(pattern(100_000))
						http.NewResponseController(w).Flush()
						time.Sleep(time.Second) // the bubble's clock
						x.cut(n, w)
					})}))
					_, body, err := n.get("/")
					if c := class(err); c != x.want {
						t.Errorf("%s: %v", c, err)
					}
					if !bytes.HasPrefix(pattern(150_000), body) {
						t.Errorf("%d bytes that are not the origin's", len(body))
					}
				})
			})
		}
	}
}

// Each client has connections of its own to an origin, and uses them again while their evidence is good. When they
// are gone or too old the proxy shows new evidence, the client verifies that, and the origin is asked once.
func TestSplitConnectionsAreOfOneClientAndOfOneTime(t *testing.T) {
	eachSplit(t, func(t *testing.T, k kind) {
		var o origins
		var mu sync.Mutex
		dials := 0
		n := New(t, k.inSplit(t, Config{
			Handler: &o,
			Proxy: func(n *Net, p *proxy.Proxy) {
				dial := p.Targets.DialContext
				p.Targets.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
					mu.Lock()
					dials++
					mu.Unlock()
					return dial(ctx, network, address)
				}
			},
		}))
		dialled := func() int {
			mu.Lock()
			defer mu.Unlock()
			return dials
		}
		var evidence []string
		for range 3 {
			evidence = append(evidence, n.mustGet("/", "hello").Evidence.Nonce)
		}
		if dialled() != 1 || evidence[0] != evidence[2] {
			t.Errorf("%d connections for one client, evidence %q", dialled(), evidence)
		}
		other := n.NewClient(func(_ *Net, tr *client.Transport) { tr.Levels = []client.Level{splitLevel(k)} })
		if _, _, err := fetch(other, n.request(n.ctx, http.MethodGet, "/", nil)); err != nil || dialled() != 2 {
			t.Errorf("%d connections for two clients: %v", dialled(), err)
		}
		time.Sleep(3 * time.Minute) // the bubble's clock: what rests is closed
		if rep := n.mustGet("/", "hello"); dialled() != 3 || rep.Evidence.Nonce == evidence[0] {
			t.Errorf("%d connections, after a rest; evidence %q", dialled(), rep.Evidence.Nonce)
		}
		begun := time.Now()
		for time.Since(begun) < 11*time.Minute {
			n.mustGet("/", "hello")
			time.Sleep(time.Minute) // the bubble's clock: never idle, and too old at last
		}
		if dialled() != 4 {
			t.Errorf("%d connections", dialled())
		}
		if len(o.conns) != 3+1+1+11 {
			t.Errorf("the origin was asked %d times", len(o.conns))
		}
	})
}

// A proxy that says at any time that it has another connection now, and shows the evidence, costs a round trip and
// no second request: the body goes out on the new one, whether or not its caller can make it again.
func TestSplitNewEvidenceCostsNoRequest(t *testing.T) {
	eachSplit(t, func(t *testing.T, k kind) {
		var mu sync.Mutex
		var conns []net.Conn
		var got []string
		n := New(t, k.inSplit(t, Config{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				got = append(got, string(body))
				io.WriteString(w, "hello")
			}),
			Proxy: func(n *Net, p *proxy.Proxy) {
				dial := p.Targets.DialContext
				p.Targets.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
					c, err := dial(ctx, network, address)
					mu.Lock()
					defer mu.Unlock()
					conns = append(conns, c)
					return c, err
				}
			},
		}))
		cut := func() {
			mu.Lock()
			conns[len(conns)-1].Close()
			mu.Unlock()
			synctest.Wait()
		}
		n.mustGet("/", "hello")
		cut()
		if _, _, err := fetch(n.Client, n.request(n.ctx, http.MethodPut, "/", bytes.NewReader([]byte("again and again")))); err != nil {
			t.Fatal(err)
		}
		cut()
		_, _, err := fetch(n.Client, n.request(n.ctx, http.MethodPut, "/", struct{ io.Reader }{bytes.NewReader([]byte("once"))}))
		if err != nil || !slices.Equal(got, []string{"", "again and again", "once"}) || len(conns) != 3 {
			t.Errorf("the origin was sent %q over %d connections: %v", got, len(conns), err)
		}
	})
}

// A dialer has no tunnels at these levels, and says so before anything is sent.
func TestSplitADialerHasNoTunnels(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var c connects
		n := New(t, kindStock.inSplit(t, Config{Hop1: func(s hop.Session) hop.Session { return c.hop1(s) }}))
		d := n.NewDialer(func(d *client.Dialer) { d.Levels = []client.Level{client.Attested, client.Signed, client.Claimed} })
		_, err := d.DialTunnel(n.ctx, OriginHost+":443")
		wantError[*client.LevelError](t, err)
		if c.count() != 0 {
			t.Errorf("%d CONNECTs", c.count())
		}
	})
}
