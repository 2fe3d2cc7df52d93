package testnet

import (
	"context"
	"crypto/sha256"
	"errors"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/client"
	"vitrine/client/consent"
	"vitrine/internal/hop"
	"vitrine/internal/hosts"
	"vitrine/internal/tlsmsg"
)

// store opens the user's grants at path; "" is a file of its own.
func (n *Net) store(path string) (*consent.Store, string) {
	n.Helper()
	if path == "" {
		path = filepath.Join(n.TempDir(), "state", "consent.json")
	}
	s, err := consent.Open(path)
	if err != nil {
		n.Fatal(err)
	}
	n.Cleanup(func() { s.Close() })
	return s, path
}

// grant stores that the proxy may read what is said to scope.
func (n *Net) grant(s *consent.Store, change func(g *consent.Grant), scope ...string) consent.Grant {
	n.Helper()
	g := consent.Grant{
		ProxyRootSPKI: sha256.Sum256(n.Proxies.Root.RawSubjectPublicKeyInfo), ProxyName: ProxyHost,
		Granted: time.Now(), Until: time.Now().Add(24 * time.Hour),
	}
	for _, text := range scope {
		p, err := hosts.Parse(text)
		if err != nil {
			n.Fatal(err)
		}
		g.Scope = append(g.Scope, p)
	}
	if change != nil {
		change(&g)
	}
	g, err := s.Add(g)
	if err != nil {
		n.Fatal(err)
	}
	return g
}

// consenting has the client ask s.
func (n *Net) consenting(s client.Consent, change func(tr *client.Transport)) *client.Transport {
	return n.NewClient(func(_ *Net, tr *client.Transport) {
		tr.Consent = s
		if change != nil {
			change(tr)
		}
	})
}

// connects counts the CONNECTs that reach the proxy.
type connects struct {
	mu  sync.Mutex
	all []string
}

func (c *connects) hop1(s hop.Session) hop.Session {
	return answers(func(req *hop.Request, _ *hop.Response) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.all = append(c.all, req.Authority)
	})(s)
}

func (c *connects) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.all)
}

// P16: what is stored is agreed to, and nothing else: not for another proxy, another root, another host, or another
// time. Without it no CONNECT leaves.
func TestP16StoredConsent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var c connects
		n := New(t, Config{Names: []string{OriginHost, "second.example", "deep.below.example"}, Hop1: c.hop1})
		for name, x := range map[string]struct {
			scope  []string
			change func(g *consent.Grant)
			url    string
			ok     bool
		}{
			"the host":                    {scope: []string{OriginHost}, url: originURL, ok: true},
			"every host":                  {scope: []string{"*"}, url: originURL, ok: true},
			"one of several":              {scope: []string{"a.example", OriginHost}, url: originURL, ok: true},
			"hosts below":                 {scope: []string{"*.example"}, url: "https://deep.below.example/", ok: true},
			"the port":                    {scope: []string{OriginHost + ":443"}, url: originURL, ok: true},
			"another port":                {scope: []string{OriginHost + ":443"}, url: originURL + ":8443/"},
			"another host":                {scope: []string{OriginHost}, url: "https://second.example/"},
			"hosts below, and not itself": {scope: []string{"*.origin.example"}, url: originURL},
			"another proxy":               {scope: []string{"*"}, change: func(g *consent.Grant) { g.ProxyName = "other.example" }, url: originURL},
			"another root": {scope: []string{"*"}, change: func(g *consent.Grant) {
				g.ProxyRootSPKI = sha256.Sum256(n.Origins.Root.RawSubjectPublicKeyInfo)
			}, url: originURL},
			"another time": {scope: []string{"*"}, change: func(g *consent.Grant) {
				g.Granted, g.Until = time.Now().Add(-2*time.Hour), time.Now().Add(time.Millisecond)
			}, url: originURL},
		} {
			s, _ := n.store("")
			n.grant(s, x.change, x.scope...)
			time.Sleep(time.Second) // the bubble's clock
			before := c.count()
			tr := n.consenting(s, nil)
			_, _, err := fetch(tr, n.request(n.ctx, http.MethodGet, x.url, nil))
			tr.Close()
			if x.ok {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				continue
			}
			if e := wantError[*client.TrustError](t, err); e.Party != client.PartyConsent || !errors.Is(err, consent.ErrNoGrant) || c.count() != before {
				t.Errorf("%s: %v, %d CONNECTs", name, err, c.count()-before)
			}
		}
		if c.count() != 5 {
			t.Errorf("%d CONNECTs", c.count())
		}
	})
}

// revocations are the ways in which a grant ends while an exchange is under way.
func revocations() map[string]struct {
	cause error
	end   func(t *testing.T, n *Net, s *consent.Store, path string, g consent.Grant)
} {
	type x = struct {
		cause error
		end   func(t *testing.T, n *Net, s *consent.Store, path string, g consent.Grant)
	}
	return map[string]x{
		"by this process": {consent.ErrRevoked, func(t *testing.T, _ *Net, s *consent.Store, _ string, g consent.Grant) {
			if _, err := s.Revoke(g.ID); err != nil {
				t.Error(err)
			}
		}},
		"by another process": {consent.ErrRevoked, func(t *testing.T, n *Net, _ *consent.Store, path string, g consent.Grant) {
			other, _ := n.store(path)
			if _, err := other.Revoke(g.ID); err != nil {
				t.Error(err)
			}
		}},
		"by its time": {consent.ErrExpired, func(*testing.T, *Net, *consent.Store, string, consent.Grant) {
			time.Sleep(2 * time.Minute) // the bubble's clock
		}},
		"by the end of the store": {consent.ErrClosed, func(_ *testing.T, _ *Net, s *consent.Store, _ string, _ consent.Grant) { s.Close() }},
	}
}

// P16: consent that ends takes with it what was opened under it, in the middle of a body: the exchange fails with
// the reason, the origin learns that nobody reads on, what rests is closed, and hop 1 with the last of it. What
// was delivered is the truth as far as it goes. Later ClientHellos offer nothing of the past.
func TestP16ConsentThatEndsInAnExchange(t *testing.T) {
	for name, x := range revocations() {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := &halves{body: pattern(300_000), gate: make(chan struct{})}
				var wire tapped
				gone := make(chan struct{}, 10)
				n := New(t, Config{
					Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						h.ServeHTTP(w, r)
						if r.URL.Path == "/big" {
							gone <- struct{}{}
						}
					}),
				})
				s, path := n.store("")
				g := n.grant(s, func(g *consent.Grant) { g.Until = time.Now().Add(time.Minute) }, OriginHost)
				tr := n.consenting(s, func(tr *client.Transport) { tr.NetDial, tr.IdleTimeout = wire.dial(n.DialContext), 100*time.Hour })
				half := h.open(n, tr)
				if _, _, err := fetch(tr, n.request(n.ctx, http.MethodGet, "/", nil)); err != nil { // leaves a tunnel that rests
					t.Fatal(err)
				}
				start := time.Now()
				failed := make(chan error, 1)
				go func() { failed <- h.rest(n, half) }()
				synctest.Wait()
				x.end(t, n, s, path, g)
				err := <-failed
				if e := wantError[*client.TrustError](t, err); e.Party != client.PartyConsent || !errors.Is(err, x.cause) {
					t.Errorf("%v", err)
				}
				if took := time.Since(start); x.cause == consent.ErrRevoked && took > 2*time.Second {
					t.Errorf("it took %v", took)
				}
				<-gone
				time.Sleep(20 * time.Second) // the bubble's clock; the tunnels' goodbyes have their time
				if _, err := wire.taps[0].Conn.Write([]byte{0}); err == nil {
					t.Error("hop 1 is open, and carries nothing")
				}
				_, _, err = fetch(tr, n.request(n.ctx, http.MethodGet, "/", nil))
				if e := wantError[*client.TrustError](t, err); e.Party != client.PartyConsent {
					t.Errorf("the next one: %v", err)
				}
				again, _ := n.store(path)
				n.grant(again, nil, OriginHost)
				fresh := n.consenting(again, func(tr *client.Transport) { tr.NetDial = wire.dial(n.DialContext) })
				if _, _, err := fetch(fresh, n.request(n.ctx, http.MethodGet, "/", nil)); err != nil {
					t.Errorf("with a new grant: %v", err)
				}
				if x.cause != consent.ErrClosed {
					n.grant(s, nil, OriginHost)
					if _, _, err := fetch(tr, n.request(n.ctx, http.MethodGet, "/", nil)); err != nil {
						t.Errorf("the same client with a new grant: %v", err)
					}
				}
				if len(wire.taps) < 3 {
					t.Errorf("%d connections to the proxy", len(wire.taps))
				}
				for _, c := range wire.taps {
					sent, _ := c.seen()
					hello, err := tlsmsg.ParseClientHello(records(sent)[0][tlsmsg.RecordHeaderLen:])
					if err != nil || hello.HasPSK || hello.EarlyData {
						t.Errorf("%v: PSK %v", err, hello.HasPSK)
					}
				}
			})
		})
	}
}

// What one grant's end closes is its own: another host's exchange, under another grant, goes on in the same hop 1.
func TestP16AnEndTouchesNoOtherGrant(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &halves{body: pattern(300_000), gate: make(chan struct{})}
		n := New(t, Config{Handler: h, Names: []string{OriginHost, "second.example"}})
		s, _ := n.store("")
		mine, _ := n.grant(s, nil, OriginHost), n.grant(s, nil, "second.example")
		var wire tapped
		tr := n.consenting(s, func(tr *client.Transport) { tr.NetDial = wire.dial(n.DialContext) })
		first := h.open(n, tr)
		resp, err := tr.RoundTrip(n.request(n.ctx, http.MethodGet, "https://second.example/big", nil))
		if err != nil {
			t.Fatal(err)
		}
		second := &opened{Response: resp}
		if _, err := s.Revoke(mine.ID); err != nil {
			t.Fatal(err)
		}
		if err := h.rest(n, first); !errors.Is(err, consent.ErrRevoked) {
			t.Errorf("%v", err)
		}
		close(h.gate)
		if err := h.rest(n, second); err != nil {
			t.Errorf("the other: %v", err)
		}
		if len(wire.taps) != 1 {
			t.Errorf("%d connections to the proxy", len(wire.taps))
		}
	})
}

// P16: a redirect is a new request: it goes where the grant goes, and no farther.
func TestP16RedirectsObeyTheScope(t *testing.T) {
	for name, x := range map[string]struct {
		scope []string
		path  string
		ok    bool
		asked []string
	}{
		"inside":                   {[]string{"*.example"}, "/to-second", true, []string{OriginHost, "second.example"}},
		"outside":                  {[]string{OriginHost}, "/to-second", false, []string{OriginHost}},
		"to another port":          {[]string{OriginHost + ":443"}, "/to-port", false, []string{OriginHost}},
		"outside and back":         {[]string{OriginHost}, "/there-and-back", false, []string{OriginHost}},
		"to the same":              {[]string{OriginHost}, "/to-self", true, []string{OriginHost, OriginHost}},
		"outside, with the body":   {[]string{OriginHost}, "/with-body", false, []string{OriginHost}},
		"inside, then outside":     {[]string{OriginHost, "second.example"}, "/far", false, []string{OriginHost, "second.example"}},
		"to a name that is a trap": {[]string{OriginHost}, "/to-trap", false, []string{OriginHost}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var mu sync.Mutex
				var asked []string
				var c connects
				n := New(t, Config{
					Names: []string{OriginHost, "second.example", "third.example", "origin.example.trap.example"},
					Hop1:  c.hop1,
					Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						mu.Lock()
						asked = append(asked, r.Host)
						mu.Unlock()
						to := map[string]string{
							"/to-second": "https://second.example/", "/to-port": "https://origin.example:8443/", "/to-self": "/",
							"/there-and-back": "https://second.example/back", "/back": originURL, "/with-body": "https://second.example/",
							"/far": "https://second.example/farther", "/farther": "https://third.example/", "/to-trap": "https://origin.example.trap.example/",
						}[r.URL.Path]
						if to != "" {
							http.Redirect(w, r, to, http.StatusTemporaryRedirect)
						}
					}),
				})
				s, _ := n.store("")
				n.grant(s, nil, x.scope...)
				hc := &http.Client{Transport: n.consenting(s, nil)}
				resp, err := hc.Post(originURL+x.path, "text/plain", http.NoBody)
				if err == nil {
					resp.Body.Close()
				}
				if (err == nil) != x.ok {
					t.Errorf("%v", err)
				}
				if !x.ok {
					if e := wantError[*client.TrustError](t, err); e.Party != client.PartyConsent {
						t.Errorf("%v", err)
					}
				}
				if !slices.Equal(asked, x.asked) {
					t.Errorf("asked %v, want %v", asked, x.asked)
				}
				for _, authority := range c.all {
					if host, _, _ := net.SplitHostPort(authority); !slices.Contains(x.asked, host) {
						t.Errorf("a CONNECT to %s left", authority)
					}
				}
			})
		})
	}
}

// P10: credentials leave where a grant says so. A cookie jar does not carry them to a host whose grant does not,
// and a request that may not leave costs the others nothing.
func TestP10CredentialsLeaveWhereAGrantSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		cookies := make(map[string]string)
		n := New(t, Config{
			Names: []string{OriginHost, "second.example"},
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				cookies[r.Host] = r.Header.Get("Cookie")
				mu.Unlock()
				if r.URL.Path == "/to-second" {
					http.Redirect(w, r, "https://second.example/", http.StatusFound)
				}
			}),
		})
		s, _ := n.store("")
		n.grant(s, func(g *consent.Grant) { g.Credentials = true }, OriginHost)
		plain := n.grant(s, nil, "second.example")
		tr := n.consenting(s, nil)
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range []string{OriginHost, "second.example"} {
			jar.SetCookies(&url.URL{Scheme: "https", Host: host}, []*http.Cookie{{Name: "session", Value: host}})
		}
		hc := &http.Client{Transport: tr, Jar: jar}
		get := func(url string) error {
			resp, err := hc.Get(url)
			if err == nil {
				resp.Body.Close()
			}
			return err
		}
		if err := get(originURL); err != nil || cookies[OriginHost] != "session="+OriginHost {
			t.Errorf("where it is granted: %v %v", err, cookies)
		}
		for _, url := range []string{"https://second.example/", originURL + "/to-second"} {
			if e := wantError[*client.TrustError](t, get(url)); e.Party != client.PartyCredentials || e.Field != "Cookie" {
				t.Errorf("%s: %v", url, e)
			}
		}
		if _, asked := cookies["second.example"]; asked {
			t.Error("a cookie left without the user's word")
		}
		if _, _, err := fetch(tr, n.request(n.ctx, http.MethodGet, "https://second.example/", nil)); err != nil {
			t.Errorf("without a cookie: %v", err)
		}
		if _, _, err := fetch(tr, n.request(n.ctx, http.MethodGet, "https://user:word@second.example/", nil)); err == nil {
			t.Error("a password in the URL left")
		} else if e := wantError[*client.TrustError](t, err); e.Party != client.PartyCredentials {
			t.Error(err)
		}
		if _, err := s.Revoke(plain.ID); err != nil {
			t.Fatal(err)
		}
		n.grant(s, func(g *consent.Grant) { g.Credentials = true }, "second.example")
		if err := get("https://second.example/"); err != nil || cookies["second.example"] != "session=second.example" {
			t.Errorf("with a new grant: %v %v", err, cookies)
		}
	})
}

// P16: consent is asked of whoever is verified. A proxy that is not is not asked about, however it is granted.
func TestP16ConsentIsNoProofOfAProxy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := New(t, Config{})
		strangers := n.authority("Strangers", time.Now())
		s, _ := n.store("")
		n.grant(s, nil, "*")
		n.grant(s, func(g *consent.Grant) { g.ProxyRootSPKI = sha256.Sum256(strangers.Root.RawSubjectPublicKeyInfo) }, "*")
		asked := 0
		tr := n.consenting(client.ConsentFunc(func(ctx context.Context, req *client.ConsentRequest) (*client.Agreement, error) {
			asked++
			return s.Ask(ctx, req)
		}), func(tr *client.Transport) { tr.ProxyRoots = strangers.Pool().CertPool })
		_, _, err := fetch(tr, n.request(n.ctx, http.MethodGet, "/", nil))
		if e := wantError[*client.TrustError](t, err); e.Party != client.PartyProxy || asked != 0 {
			t.Errorf("%v, asked %d times", err, asked)
		}
	})
}
