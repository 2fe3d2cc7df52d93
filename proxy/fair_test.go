package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/internal/fields"
	"vitrine/internal/hop"
)

func TestAQuotaIsForEach(t *testing.T) {
	q := newQuota(3)
	if !q.take("alice", 2) || q.take("alice", 2) || !q.take("bob", 3) {
		t.Error("not three for each")
	}
	q.give("alice", 2)
	if !q.take("alice", 3) {
		t.Error("what was given back is gone")
	}
	q.give("alice", 3)
	q.give("bob", 3)
	if len(q.used) != 0 {
		t.Errorf("%d entries are left", len(q.used))
	}
}

// A client that fills its part of the dials with targets that never answer must not keep others waiting.
func TestOneClientsSilentTargetsDoNotStopOthersDials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := Limits{Dials: 8}.withDefaults()
		d := newDialer(new(TargetPolicy), nil, &limits, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var releases []func()
		for range 2 {
			release, err := d.acquire(ctx, "mallory")
			if err != nil {
				t.Fatal(err)
			}
			releases = append(releases, release)
		}
		waiting := make(chan error, 20)
		for range cap(waiting) {
			go func() {
				_, err := d.acquire(ctx, "mallory")
				waiting <- err
			}()
		}
		synctest.Wait()
		if len(waiting) != 0 {
			t.Error("got more than a part, or an error at once")
		}
		start := time.Now()
		release, err := d.acquire(t.Context(), "alice")
		if err != nil || time.Since(start) != 0 {
			t.Fatalf("another client: %v after %v", err, time.Since(start))
		}
		release()
		cancel()
		for range cap(waiting) {
			if err := <-waiting; !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
		}
		for _, release := range releases {
			release()
		}
		if len(d.turns.of) != 0 || len(d.slots) != 0 {
			t.Errorf("%d clients and %d slots are left", len(d.turns.of), len(d.slots))
		}
	})
}

func TestOneClientsConnectionsLeaveRoomForOthers(t *testing.T) {
	p := newPoolTest(Limits{Upstreams: 8})
	defer p.finish(t)
	idle := p.must(t, poolKey{authority: "a:443", client: "mallory"}, false, true)
	p.must(t, poolKey{authority: "b:443", client: "mallory"}, false, true)
	if _, err := p.get(t.Context(), poolKey{authority: "c:443", client: "mallory"}, false, p.dial(true)); !errors.Is(err, errUpstreamsFull) {
		t.Errorf("a third of a quarter of eight: %v", err)
	}
	if _, err := p.reserve("mallory"); !errors.Is(err, errUpstreamsFull) {
		t.Errorf("a blind one: %v", err)
	}
	p.must(t, poolKey{authority: "a:443", client: "alice"}, false, true).Close()
	alice := p.last
	idle.Close() // mallory's own idle connection makes room for mallory's next, and not alice's
	release, err := p.reserve("mallory")
	if err != nil {
		t.Fatal(err)
	}
	if alice.ended() {
		t.Error("another client paid")
	}
	release()
	// Dials that fail, and those that find no token, leave nothing behind.
	fails := func(context.Context) (*Upstream, error) { return nil, io.ErrUnexpectedEOF }
	none := func(context.Context) (*Upstream, error) { return new(Upstream), nil }
	for i := range 10 {
		key := poolKey{authority: fmt.Sprintf("%d:443", i), client: "bob"}
		if _, err := p.get(t.Context(), key, false, fails); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
		if _, err := p.get(t.Context(), key, false, none); err != nil {
			t.Fatal(err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.clients["bob"] != 0 || p.clients["mallory"] != 1 || p.clients["alice"] != 1 {
		t.Errorf("counted %v", p.clients)
	}
}

// What one client's tunnels hold back leaves memory for what others' do.
func TestOneClientsHeldBodiesLeaveMemoryForOthers(t *testing.T) {
	all, clients := &budget{max: 8 * ownBuffer}, newQuota(2*ownBuffer)
	mine := heldBytes{own: &budget{max: 1 << 30}, all: all, clients: clients, client: "mallory"}
	other := heldBytes{own: &budget{max: 1 << 30}, all: all, clients: clients, client: "alice"}
	for i, want := range []bool{true, true, false} {
		if mine.take() != want {
			t.Errorf("mallory's buffer %d: want %v", i, want)
		}
	}
	if !other.take() {
		t.Error("alice has none")
	}
	mine.Credit(2 * ownBuffer)
	other.Credit(ownBuffer)
	if all.used.Load() != 0 || mine.own.used.Load() != 0 || len(clients.used) != 0 {
		t.Error("something is lost")
	}
}

func TestConnectionsOfOneCertificateAreBounded(t *testing.T) {
	clients := newAuthority(t, "clients")
	st := newStage(t, func(p *Proxy) {
		p.Limits.Connections = 8
		p.ClientCAs = clients.Pool().CertPool
	})
	mallory, err := clients.Client("mallory")
	if err != nil {
		t.Fatal(err)
	}
	alice, err := clients.Client("alice")
	if err != nil {
		t.Fatal(err)
	}
	own := &hop.Request{Method: http.MethodGet, Authority: proxyName, Path: "/", Header: http.Header{}}
	ask := func(s hop.Session) error {
		_, _, err := s.Open(t.Context(), own)
		return err
	}
	var open []hop.Session
	for range 2 {
		s := st.client(&mallory)
		if err := ask(s); err != nil {
			t.Fatal(err)
		}
		open = append(open, s)
	}
	if err := ask(st.client(&mallory)); err == nil {
		t.Error("a third connection of one certificate is served")
	}
	if err := ask(st.client(&alice)); err != nil {
		t.Errorf("another client: %v", err)
	}
	open[0].Close(hop.NoError, "")
	for ask(st.client(&mallory)) != nil { // until the proxy has seen the end of the first
		if t.Context().Err() != nil {
			t.Fatal("what was closed still counts")
		}
	}
	if !strings.Contains(st.log.String(), "too many connections of one client") {
		t.Error("the log says nothing")
	}
}

func TestWhoAStrangerIs(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7:1":            "192.0.2.7",
		"[::ffff:192.0.2.7]:1":   "192.0.2.7",
		"[2001:db8:1:2:3::4]:1":  "2001:db8:1:2::/64",
		"[fe80::1%eth0]:1":       "fe80::/64",
		"127.0.0.1:1":            "",
		"[::1]:1":                "",
		"[::ffff:127.0.0.5]:443": "",
	} {
		a, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := stranger(a); got != want {
			t.Errorf("%s: %q, want %q", addr, got, want)
		}
	}
	if got := stranger(&net.UnixAddr{Name: "/s"}); got != "" {
		t.Errorf("a Unix socket: %q", got)
	}
}

// Lines that a peer can provoke for nothing do not fill the log; that they were left out stays visible.
func TestTheLogIsNotFlooded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		l := slog.New(slog.NewTextHandler(&b, nil))
		th := newThrottle(1, 3)
		for range 100 {
			th.log(t.Context(), l, slog.LevelWarn, "again")
		}
		if n := strings.Count(b.String(), "\n"); n != 3 {
			t.Errorf("%d lines", n)
		}
		<-time.After(time.Second)
		th.log(t.Context(), l, slog.LevelWarn, "later")
		if !strings.Contains(b.String(), "lines_left_out=97") {
			t.Errorf("log %s", b.String())
		}
	})
}

// spec: PRX-26
//
// Also what is no request gets an answer that says who gives it.
func TestAnAnswerToNonsenseNamesTheProxy(t *testing.T) {
	st := newStage(t)
	for request, status := range map[string]int{
		"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n":                         400,
		"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n":                           400,
		"CONNECT a:443 HTTP/1.1\r\n\r\n":                                  400,
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":                                505,
		"GET / HTTP/1.1\r\nHost: " + strings.Repeat("a", 70<<10) + "\r\n": 431,
	} {
		c := st.hop1(nil, "http/1.1")
		go io.WriteString(c, request)
		resp := readAnswer(t, c)
		if resp.StatusCode != status {
			t.Errorf("%.30q: %s", request, resp.Status)
		}
		list, err := fields.ParseProxyStatus(resp.Header.Values(fields.ProxyStatusName))
		reason := fields.ErrorHTTPRequest
		if status >= 500 {
			reason = fields.ErrorProxyInternalResponse
		}
		if err != nil || len(list) != 1 || list[0].Proxy != proxyName || list[0].Error != reason {
			t.Errorf("%.30q: proxy-status %v, %v", request, resp.Header.Values(fields.ProxyStatusName), err)
		}
		if via := resp.Header.Get("Via"); via != "1.1 "+proxyName {
			t.Errorf("%.30q: via %q", request, via)
		}
		c.Close()
	}
}

func TestPortsOfAPlainConnectAreDigits(t *testing.T) {
	for _, a := range []string{"origin.example:+443", "origin.example:-1", "origin.example:", "origin.example: 443", "origin.example:4_43", "origin.example:443\x00", "origin.example:65979"} {
		if got, err := lenient(a); err == nil {
			t.Errorf("%q is taken for %q", a, got)
		}
	}
	for a, want := range map[string]string{"ORIGIN.example:443": "origin.example:443", "bücher.example:443": "xn--bcher-kva.example:443", "[::1]:443": "[::1]:443"} {
		if got, err := lenient(a); err != nil || got != want {
			t.Errorf("%q: %q, %v", a, got, err)
		}
	}
	for _, a := range []string{"origin.example.:443", "127.1:443", "0x7f.1:443", "[::ffff:127.0.0.1]:443", "[fe80::1%25eth0]:443", "[fe80::1%eth0]:443", "user@origin.example:443", "a\tb:443", "１２７.0.0.1:443"} {
		if got, err := lenient(a); err == nil {
			if a == "１２７.0.0.1:443" && got == "127.0.0.1:443" {
				continue // full-width digits are digits; the address is judged as what it is
			}
			t.Errorf("%q is taken for %q", a, got)
		}
	}
}

func readAnswer(t *testing.T, r io.Reader) *http.Response {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(r), nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestAClientsPartHoldsWhatPolicyLetsATunnelHold(t *testing.T) {
	for _, c := range []struct{ all, tunnel, want int }{
		{64 << 20, 1 << 20, 16 << 20},
		{64 << 20, 20 << 20, 40 << 20},
		{64 << 20, 100 << 20, 64 << 20},
	} {
		st := newStage(t, func(p *Proxy) { p.Limits.HeldBytes, p.Policy.HeldBytes = c.all, c.tunnel })
		r, err := st.proxy.start()
		if err != nil {
			t.Fatal(err)
		}
		if r.holders.max != int64(c.want) {
			t.Errorf("of %d, with %d for a tunnel: %d", c.all, c.tunnel, r.holders.max)
		}
	}
}

// What one client has asked for and not got yet is bounded; more of it waits unread.
func TestOneClientsConnectsUnderWayAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		dialling := 0
		unblock := make(chan struct{})
		st := newStage(t, func(p *Proxy) {
			p.Limits.Setups = 2
			p.Targets.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
				mu.Lock()
				dialling++
				mu.Unlock()
				select {
				case <-unblock:
				case <-ctx.Done():
				}
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errRefused}
			}
		})
		s := st.client(nil)
		var wg sync.WaitGroup
		for i := range 5 { // to as many origins, because CONNECTs to one share a dial
			wg.Go(func() {
				c, err := st.tryConnect(s, fmt.Sprintf("origin%d.example:443", i))
				if err != nil {
					t.Error(err)
				} else if c.resp.Status/100 != 5 {
					t.Errorf("status %d", c.resp.Status)
				}
			})
		}
		synctest.Wait()
		mu.Lock()
		if dialling != 2 {
			t.Errorf("%d CONNECTs are being answered, want 2", dialling)
		}
		mu.Unlock()
		close(unblock)
		wg.Wait()
		if dialling != 5 {
			t.Errorf("%d CONNECTs were answered, want 5", dialling)
		}
		st.close()
	})
}
