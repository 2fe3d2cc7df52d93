package client

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"vitrine/internal/connectto"
	"vitrine/internal/hop"
	"vitrine/internal/hop/raw/pipe"
)

func refuseDial(t *testing.T) func(context.Context, string, string) (net.Conn, error) {
	return func(_ context.Context, _, addr string) (net.Conn, error) {
		t.Errorf("dialled %s", addr)
		return nil, errors.New("no network")
	}
}

func (w *world) dialer() *Dialer {
	d := &Dialer{
		Proxy: "https://" + proxyName + ":8443", ProxyRoots: w.proxies.Pool().CertPool, Roots: w.origins.Pool().CertPool,
		Consent: Once{}, NetDial: w.netDial,
	}
	w.onClose(func() { d.Close() })
	return d
}

func TestDialTunnelIsAConnection(t *testing.T) {
	w := newWorld(t)
	for _, level := range []Level{Intact, Blind, Direct} {
		d := w.dialer()
		d.Levels = []Level{level}
		conn, err := d.DialContext(t.Context(), "tcp", "origin.example:443")
		if err != nil {
			t.Fatal(err)
		}
		tun := conn.(*Tunnel)
		if tun.Level() != level || tun.Report().Level != level || tun.ConnectionState().NegotiatedProtocol != "http/1.1" {
			t.Errorf("%s: %+v", level, tun.Report())
		}
		if key, err := tun.ExportKeyingMaterial("EXPORTER-test", nil, 32); err != nil || len(key) != 32 {
			t.Errorf("%s: exporter: %v", level, err)
		}
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: origin.example\r\nConnection: close\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "hello" {
			t.Errorf("%s: %q, %v", level, body, err)
		}
		if conn.LocalAddr() == nil || conn.RemoteAddr() == nil {
			t.Errorf("%s: addresses %v, %v", level, conn.LocalAddr(), conn.RemoteAddr())
		}
		if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%s: %v after close_notify, want io.EOF", level, err)
		}
		if err := conn.Close(); err != nil && level != Direct { // whose TCP peer is gone before our goodbye
			t.Errorf("%s: Close: %v", level, err)
		}
		if err := conn.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: second Close: %v", level, err)
		}
	}
}

// A deadline that has passed is an error of its own and no fault of the tunnel, and half of a tunnel can end.
func TestATunnelsDeadlinesAndHalfClose(t *testing.T) {
	w := newWorld(t)
	for _, level := range []Level{Intact, Blind, Direct} {
		d := w.dialer()
		d.Levels = []Level{level}
		tun, err := d.DialTunnel(t.Context(), "origin.example:443")
		if err != nil {
			t.Fatal(err)
		}
		for name, set := range map[string]func(time.Time) error{"SetReadDeadline": tun.SetReadDeadline, "SetDeadline": tun.SetDeadline} {
			if err := set(time.Now().Add(-time.Second)); err != nil {
				t.Errorf("%s: %s: %v", level, name, err)
			}
			if _, err := tun.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: %s: Read: %v", level, name, err)
			}
			if err := tun.SetDeadline(time.Time{}); err != nil {
				t.Errorf("%s: %v", level, err)
			}
		}
		io.WriteString(tun, "GET / HTTP/1.1\r\nHost: origin.example\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(tun), nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "hello" {
			t.Errorf("%s: %q, %v", level, body, err)
		}
		if err := tun.CloseWrite(); err != nil {
			t.Errorf("%s: CloseWrite: %v", level, err)
		}
		if _, err := tun.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%s: %v after both have ended, want io.EOF", level, err)
		}
		if _, err := tun.Write([]byte("x")); err == nil {
			t.Errorf("%s: a Write behind CloseWrite", level)
		}
		tun.Close()

		if tun, err = d.DialTunnel(t.Context(), "origin.example:443"); err != nil {
			t.Fatal(err)
		}
		if err := tun.SetWriteDeadline(time.Now().Add(-time.Second)); err != nil {
			t.Errorf("%s: SetWriteDeadline: %v", level, err)
		}
		if _, err := tun.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: Write: %v", level, err)
		}
		tun.Close()
	}
}

func TestDialerAfterClose(t *testing.T) {
	w := newWorld(t)
	for _, level := range []Level{Intact, Direct} {
		d := w.dialer()
		d.Levels, d.NetDial = []Level{level}, refuseDial(t)
		d.Close()
		if _, err := d.DialTunnel(t.Context(), "origin.example:443"); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", level, err)
		}
		if err := d.Close(); err != nil {
			t.Errorf("%s: second Close: %v", level, err)
		}
	}
}

func TestDialContextRefusesWhatNoTunnelIs(t *testing.T) {
	w := newWorld(t)
	d := w.dialer()
	d.NetDial = refuseDial(t)
	for _, tt := range []struct{ network, addr string }{{"udp", "origin.example:443"}, {"tcp", "origin.example"}, {"tcp", "origin.example:http"}, {"tcp", ":443"}} {
		if _, err := d.DialContext(t.Context(), tt.network, tt.addr); err == nil {
			t.Errorf("%s %s: dialled", tt.network, tt.addr)
		}
	}
}

func TestConnectToMovesTCPOnly(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	var dialled []string
	d := w.dialer()
	d.Levels = []Level{Direct}
	d.NetDial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		mu.Lock()
		dialled = append(dialled, addr)
		mu.Unlock()
		return w.netDial(ctx, network, addr)
	}
	rule, err := connectto.Parse("origin.example:443:127.0.0.1:8443")
	if err != nil {
		t.Fatal(err)
	}
	d.ConnectTo = connectto.Rules{rule}
	tun, err := d.DialTunnel(t.Context(), "origin.example:443")
	if err != nil {
		t.Fatal(err)
	}
	tun.Close()
	if len(dialled) != 1 || dialled[0] != "127.0.0.1:8443" {
		t.Errorf("dialled %v", dialled)
	}
}

func TestKeyLogHasAllSessionsInWholeLines(t *testing.T) {
	w := newWorld(t)
	var log strings.Builder // guarded by the Dialer: the race detector says if it is not
	tr := w.transport(func(tr *Transport) { tr.KeyLog = &log })
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { tryGet(t, tr, "https://origin.example/") })
	}
	wg.Wait()
	tr.Close()
	lines := strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
	for _, line := range lines {
		if len(strings.Fields(line)) != 3 {
			t.Errorf("line %q", line)
		}
	}
	if n := strings.Count(log.String(), "CLIENT_TRAFFIC_SECRET_0 "); n != 1+w.opened() {
		t.Errorf("%d sessions in the log, want hop 1 and %d tunnels", n, w.opened())
	}
}

// silence accepts a connection and never says a word, until the test ends.
func silence(w *world) func(context.Context) (net.Conn, error) {
	return func(context.Context) (net.Conn, error) {
		c, s := pipe.New()
		w.onClose(func() { s.Close() })
		return c, nil
	}
}

// spec: CLI-17
func TestASilentPeerIsWaitedForNoLongerThanItsStep(t *testing.T) {
	tests := []struct {
		name  string
		hush  func(w *world, stop <-chan struct{})
		level Level
		want  time.Duration
		party Party
	}{
		{"TCP", func(w *world, _ <-chan struct{}) {
			w.dial = func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
		}, Intact, 10 * time.Second, PartyProxy},
		{"TLS of hop 1", func(w *world, _ <-chan struct{}) { w.dial = silence(w) }, Intact, 10 * time.Second, PartyProxy},
		{"SETTINGS", func(w *world, stop <-chan struct{}) { w.serve = func(*tls.Conn) { <-stop } }, Intact, 10 * time.Second, PartyProxy},
		{"CONNECT", func(w *world, stop <-chan struct{}) {
			w.answer = func(hop.Incoming, *hop.Request) bool { <-stop; return true }
		}, Intact, 30 * time.Second, PartyProxy},
		{"plain CONNECT", func(w *world, stop <-chan struct{}) {
			w.answer = func(hop.Incoming, *hop.Request) bool { <-stop; return true }
		}, Blind, 30 * time.Second, PartyProxy},
		{"inner handshake", func(w *world, _ <-chan struct{}) { w.via = func(bool, []byte) []byte { return nil } }, Intact, 10 * time.Second, PartyOrigin},
		{"sealed handshake", func(w *world, _ <-chan struct{}) { w.via = func(bool, []byte) []byte { return nil } }, Blind, 10 * time.Second, PartyOrigin},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				stop := make(chan struct{})
				w.onClose(sync.OnceFunc(func() { close(stop) }))
				tt.hush(w, stop)
				tr := w.transport(func(tr *Transport) { tr.Levels = []Level{tt.level} })
				start := time.Now()
				_, _, err := tryGet(t, tr, "https://origin.example/")
				if waited := time.Since(start); waited > tt.want+time.Second || waited < tt.want-time.Second {
					t.Errorf("waited %v, want %v", waited, tt.want)
				}
				var u *UnreachableError
				if !errors.As(err, &u) || u.Party != tt.party {
					t.Errorf("%v, want %s unreachable", err, tt.party)
				}
			})
		})
	}
}

// spec: CLI-17
func TestTheCallersContextEndsEveryStep(t *testing.T) {
	for name, hush := range map[string]func(w *world, stop <-chan struct{}){
		"TCP": func(w *world, _ <-chan struct{}) {
			w.dial = func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
		},
		"TLS of hop 1": func(w *world, _ <-chan struct{}) { w.dial = silence(w) },
		"CONNECT": func(w *world, stop <-chan struct{}) {
			w.answer = func(hop.Incoming, *hop.Request) bool { <-stop; return true }
		},
		"inner handshake": func(w *world, _ <-chan struct{}) { w.via = func(bool, []byte) []byte { return nil } },
		"response": func(w *world, stop <-chan struct{}) {
			w.handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stop })
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				stop := make(chan struct{})
				w.onClose(sync.OnceFunc(func() { close(stop) }))
				hush(w, stop)
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				start := time.Now()
				req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://origin.example/", nil)
				_, _, err := do(w.transport(nil), req)
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 3*time.Second {
					t.Errorf("%v after %v, want the deadline", err, time.Since(start))
				}
				if ReportOfError(err) == nil {
					t.Error("no report")
				}
			})
		})
	}
}

func TestIdleTunnelIsClosedAfterItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		tr := w.transport(func(tr *Transport) { tr.IdleTimeout = time.Minute })
		get(t, tr, "https://origin.example/")
		time.Sleep(59 * time.Second) // the bubble's clock
		get(t, tr, "https://origin.example/")
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if n := tr.open(); n != 1 || w.opened() != 1 {
			t.Errorf("%d tunnels open of %d, want the one that is in use", n, w.opened())
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := tr.open(); n != 0 {
			t.Errorf("%d tunnels open, want none", n)
		}
	})
}

// What speaks HTTP/2 behind a proxy's certificate need not be a Vitrine proxy.
func TestAnHTTP2ServerThatIsNoVitrineProxyIsRefused(t *testing.T) {
	w := newWorld(t)
	w.serve = func(conn *tls.Conn) {
		defer conn.Close()
		preface := make([]byte, len(http2.ClientPreface))
		if _, err := io.ReadFull(conn, preface); err != nil {
			return
		}
		fr := http2.NewFramer(conn, conn)
		fr.WriteSettings(http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1})
		for {
			if _, err := fr.ReadFrame(); err != nil {
				return
			}
		}
	}
	_, _, err := tryGet(t, w.transport(nil), "https://origin.example/")
	var u *UnreachableError
	if !errors.As(err, &u) || u.Party != PartyProxy || !strings.Contains(err.Error(), "not a Vitrine proxy") {
		t.Errorf("%v", err)
	}
}

// spec: CLI-18
func TestSettingsOfHop1(t *testing.T) {
	for _, tt := range []struct {
		set  hop.Settings
		want string
	}{
		{hop.Settings{Connect: true, Evidence: true, Bound: true}, ""},
		{hop.Settings{Connect: true, Evidence: true}, "not bound"},
		{hop.Settings{Connect: true, Bound: true}, "not a Vitrine proxy"},
		{hop.Settings{Evidence: true, Bound: true}, "Extended CONNECT"},
	} {
		got := ""
		if fail := checkSettings(tt.set, proxyName); fail != nil {
			got = fail().Error()
		}
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%+v: %q, want %q", tt.set, got, tt.want)
		}
	}
}

// What is no TLS, and what is no HTTP/2, at the proxy's port.
func TestGarbageAtTheProxysPort(t *testing.T) {
	for name, say := range map[string]string{"text": "220 mail ready\r\n", "HTTP": "HTTP/1.1 400 Bad Request\r\n\r\n", "nothing": ""} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.dial = func(context.Context) (net.Conn, error) {
				c, s := pipe.New()
				io.WriteString(s, say)
				s.Close()
				return c, nil
			}
			_, _, err := tryGet(t, w.transport(nil), "https://origin.example/")
			var u *UnreachableError
			if !errors.As(err, &u) || u.Party != PartyProxy {
				t.Errorf("%v, want the proxy unreachable", err)
			}
		})
	}
}
