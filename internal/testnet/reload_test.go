package testnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/client"
	"vitrine/proxy"
)

// reload puts a policy file and cert in the place of what the proxy has.
func (n *Net) reload(text string, change func(next *proxy.Proxy)) {
	n.Helper()
	if err := n.reloaded(text, change); err != nil {
		n.Fatal(err)
	}
}

func (n *Net) reloaded(text string, change func(next *proxy.Proxy)) error {
	n.Helper()
	next := &proxy.Proxy{Certificate: n.ProxyCert, Roots: n.Origins.Pool().CertPool}
	n.govern(next, text)
	if change != nil {
		change(next)
	}
	return n.Proxy.Reload(next)
}

// halves answers /big with the first half of body, and with the other one when gate is closed.
type halves struct {
	body []byte
	gate chan struct{}
}

func (h *halves) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/big" {
		io.WriteString(w, answer)
		return
	}
	w.Write(h.body[:len(h.body)/2])
	http.NewResponseController(w).Flush()
	select {
	case <-h.gate:
	case <-r.Context().Done():
		return
	}
	w.Write(h.body[len(h.body)/2:])
}

// An opened is an exchange that is half-way.
type opened struct {
	*http.Response
	first []byte
}

func (h *halves) open(n *Net, rt http.RoundTripper) *opened {
	n.Helper()
	resp, err := rt.RoundTrip(n.request(n.ctx, http.MethodGet, "/big", nil))
	if err != nil {
		n.Fatal(err)
	}
	o := &opened{Response: resp, first: make([]byte, len(h.body)/2)}
	if _, err := io.ReadFull(resp.Body, o.first); err != nil {
		n.Fatal(err)
	}
	return o
}

// rest reads what is left, and fails the test when it is not the truth.
func (h *halves) rest(n *Net, o *opened) error {
	n.Helper()
	defer o.Body.Close()
	rest, err := io.ReadAll(o.Body)
	if got := append(o.first, rest...); !bytes.HasPrefix(h.body, got) || err == nil && len(got) != len(h.body) {
		n.Errorf("%d bytes that are not the origin's", len(got))
	}
	return err
}

// New rules judge what begins behind them, in tunnels that are open too; what is half-way goes on under the rules
// that it began with.
func TestReloadOfRulesWithTunnelsOpen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &halves{body: pattern(300_000), gate: make(chan struct{})}
		var dials atomic.Int32
		n := New(t, Config{
			Handler: h,
			Proxy:   func(n *Net, p *proxy.Proxy) { n.govern(p, rule("old", "kill", `request.path == "/old"`)) },
			Client: func(n *Net, tr *client.Transport) {
				tr.NetDial = func(ctx context.Context, network, addr string) (net.Conn, error) {
					dials.Add(1)
					return n.DialContext(ctx, network, addr)
				}
			},
		})
		n.mustGet("/new", answer)
		_, _, err := n.get("/old")
		wantRule(t, err, "old")
		sibling := h.open(n, n.Client)
		n.mustGet("/", answer) // leaves a tunnel that rests
		n.reload(rule("new", "kill", `request.path == "/new" || response.body.contains("`+string(h.body[200_000:200_020])+`")`), nil)
		_, _, err = n.get("/new") // in the tunnel that rested
		wantRule(t, err, "new")
		n.mustGet("/old", answer)
		close(h.gate)
		if err := h.rest(n, sibling); err != nil {
			t.Errorf("the sibling: %v", err)
		}
		if dials.Load() != 1 {
			t.Errorf("%d connections to the proxy: a reload of rules costs nobody a connection", dials.Load())
		}
	})
}

// A file with an error changes nothing.
func TestReloadOfABadPolicyChangesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := New(t, Config{Proxy: func(n *Net, p *proxy.Proxy) { n.govern(p, rule("r", "kill", `request.path == "/r"`)) }})
		n.mustGet("/", "hello")
		other := n.certificate(n.Origins.Origin(ProxyHost)) // no proxy's
		if err := n.reloaded("", func(next *proxy.Proxy) { next.Certificate = other }); err == nil {
			t.Error("the proxy took a certificate that is no proxy's")
		}
		n.mustGet("/", "hello")
		_, _, err := n.get("/r")
		wantRule(t, err, "r")
	})
}

// A host that may no longer be read: what is half-way ends as it began, the next request in an open tunnel is
// killed, and a new tunnel refused. A blind tunnel, which nobody reads, is left alone.
func TestReloadOfModesWithTunnelsOpen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &halves{body: pattern(300_000), gate: make(chan struct{})}
		both := "[[host]]\nmatch = \"*\"\nmodes = [\"intact\", \"blind\"]\n"
		n := New(t, Config{Handler: h, Proxy: func(n *Net, p *proxy.Proxy) { n.govern(p, both) }})
		blind := n.NewClient(func(_ *Net, tr *client.Transport) { tr.Levels = []client.Level{client.Blind} })
		sibling, unread := h.open(n, n.Client), h.open(n, blind)
		n.mustGet("/", answer)
		n.reload("[[host]]\nmatch = \"*\"\nmodes = [\"blind\"]\n", nil)
		_, _, err := n.get("/")
		wantRule(t, err, "policy-mode")
		_, _, err = n.get("/")
		if e := wantError[*client.LevelError](t, err); strings.Join(e.Offered, ",") != "blind" {
			t.Errorf("%+v", e)
		}
		n.reload("[[host]]\nmatch = \"*\"\nmodes = []\n", nil)
		close(h.gate)
		if err := h.rest(n, sibling); err != nil {
			t.Errorf("the sibling: %v", err)
		}
		if err := h.rest(n, unread); err != nil {
			t.Errorf("the blind tunnel: %v", err)
		}
		_, _, err = fetch(n.NewClient(func(_ *Net, tr *client.Transport) { tr.Levels = []client.Level{client.Blind} }), n.request(n.ctx, http.MethodGet, "/", nil))
		if c := class(err); c != "unreachable:proxy" {
			t.Errorf("a new one: %s: %v", c, err)
		}
		n.reload(both, nil)
		n.mustGet("/", answer)
	})
}

// A new certificate: tunnels go on under the old one, verdicts included, and the next one is opened on a new
// hop 1, whose client verifies the new one. Nobody's request fails.
func TestReloadOfTheCertificateWithTunnelsOpen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &halves{body: pattern(300_000), gate: make(chan struct{})}
		n := New(t, Config{Handler: h, Proxy: func(n *Net, p *proxy.Proxy) {
			n.govern(p, rule("late", "kill", `response.body.contains("`+string(h.body[100:120])+`") && request.query == "kill"`))
		}})
		old := n.ProxyCert
		sibling := h.open(n, n.Client)
		tun, err := n.NewDialer(nil).DialTunnel(n.ctx, OriginHost+":443")
		if err != nil {
			t.Fatal(err)
		}
		defer tun.Close()
		n.ProxyCert = n.certificate(n.Proxies.Proxy(ProxyHost))
		if n.ProxyCert.Leaf.Equal(old.Leaf) {
			t.Fatal("the same certificate")
		}
		n.reload(rule("after", "kill", `request.path == "/after"`), nil)
		synctest.Wait()
		rep := n.mustGet("/", answer)
		if !rep.Proxy.Equal(n.ProxyCert.Leaf) || !rep.Inner.Confirmed {
			t.Errorf("the new tunnel is of %v", rep.Proxy.SerialNumber)
		}
		_, _, err = n.get("/after")
		if k := wantRule(t, err, "after"); !k.Report.Proxy.Equal(n.ProxyCert.Leaf) {
			t.Error("the verdict is of another certificate than the tunnel's")
		}
		io.WriteString(tun, "GET /after HTTP/1.1\r\nHost: origin.example\r\n\r\n")
		_, err = io.ReadAll(tun)
		if k := wantRule(t, err, "after"); !k.Report.Proxy.Equal(old.Leaf) {
			t.Error("the verdict in an old tunnel is not of the old certificate")
		}
		close(h.gate)
		if err := h.rest(n, sibling); err != nil {
			t.Errorf("the sibling: %v", err)
		}
	})
}

// Reloads without end, of rules and certificates, under load: every exchange is a success or killed by a rule
// that was in force, and none is broken, lost or asked twice.
func TestReloadUnderLoad(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const workers, each = 8, 40
		echo := new(echo)
		slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(300 * time.Millisecond) // the bubble's clock
			echo.ServeHTTP(w, r)
		})
		n := New(t, Config{Handler: slow, Proxy: func(n *Net, p *proxy.Proxy) { n.govern(p, rule("even", "kill", `request.path == "/even"`)) }})
		certs := []func(next *proxy.Proxy){nil, nil}
		other := n.certificate(n.Proxies.Proxy(ProxyHost))
		certs[1] = func(next *proxy.Proxy) { next.Certificate = other }
		done := make(chan struct{})
		var reloads atomic.Int32
		var reloading sync.WaitGroup
		reloading.Go(func() {
			// Opening a tunnel takes no time, by the bubble's clock, so that it meets one reload at most.
			for tick := time.NewTicker(250 * time.Millisecond); ; {
				select {
				case <-done:
					return
				case <-tick.C:
				}
				i := int(reloads.Add(1))
				name := []string{"odd", "even"}[i%2]
				if err := n.reloaded(rule(name, "kill", `request.path == "/`+name+`"`), certs[i/2%2]); err != nil {
					t.Error(err)
				}
			}
		})
		var wg sync.WaitGroup
		var succeeded, killed atomic.Int32
		for w := range workers {
			wg.Go(func() {
				tr := n.NewClient(nil)
				for i := range each {
					path := []string{"/odd", "/even"}[(w+i)%2]
					req := n.request(n.ctx, http.MethodGet, path, nil)
					req.Header.Set("X-Size", "3000")
					_, body, err := fetch(tr, req)
					var k *client.KilledError
					switch {
					case err == nil && bytes.Equal(body, pattern(3000)):
						succeeded.Add(1)
					case errors.As(err, &k) && k.SignatureVerified && k.Rule == path[1:]:
						killed.Add(1)
					default:
						t.Errorf("%s: %s after %d bytes: %v", path, class(err), len(body), err)
					}
				}
			})
		}
		wg.Wait()
		close(done)
		reloading.Wait()
		t.Logf("%d reloads; %d succeeded, %d were killed", reloads.Load(), succeeded.Load(), killed.Load())
		if reloads.Load() < 20 || succeeded.Load() == 0 || killed.Load() == 0 {
			t.Error("nothing was put to the test")
		}
		if echo.count() != int(succeeded.Load()) {
			t.Errorf("the origin was asked %d times for %d successes", echo.count(), succeeded.Load())
		}
	})
}
