package hostile_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/client"
	"vitrine/frames"
	"vitrine/internal/hostile"
	"vitrine/internal/pki"
	"vitrine/internal/testnet"
	"vitrine/proxy"
)

// A stand is a Liar between an honest client and an honest origin, in memory.
type stand struct {
	*testnet.Net
	liar *hostile.Liar
	log  *lines

	mu      sync.Mutex
	strikes []hostile.Strike
}

// lines is a log that can be read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

const liarHost = "liar.example"

func newStand(t *testing.T, mode hostile.Mode, cfg testnet.Config, change ...func(*proxy.Proxy)) *stand {
	t.Helper()
	s := &stand{Net: testnet.New(t, cfg), log: new(lines)}
	cert, err := s.Proxies.Proxy(liarHost)
	if err != nil {
		t.Fatal(err)
	}
	s.liar = &hostile.Liar{
		Proxy: &proxy.Proxy{
			Certificate: cert, Roots: s.Origins.Pool().CertPool, Targets: s.Proxy.Targets,
			Log: slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		},
		Mode: mode,
		Struck: func(k hostile.Strike) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.strikes = append(s.strikes, k)
		},
	}
	for _, f := range change {
		f(s.liar.Proxy)
	}
	ln := s.Listen(liarHost)
	served := make(chan error, 1)
	go func() { served <- s.liar.Serve(ln) }()
	t.Cleanup(func() {
		if err := s.liar.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, proxy.ErrServerClosed) {
			t.Error(err)
		}
	})
	s.Client = s.NewClient(func(_ *testnet.Net, tr *client.Transport) { tr.Proxy, tr.IdleTimeout = "https://"+liarHost, -1 })
	return s
}

// taken returns the strikes since it was called last.
func (s *stand) taken() []hostile.Strike {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.strikes
	s.strikes = nil
	return taken
}

// get fetches path, or a whole URL, with a deadline that only withheld bytes can meet.
func (s *stand) get(path string) (*client.Report, []byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	if strings.HasPrefix(path, "/") {
		path = "https://" + testnet.OriginHost + path
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	if err != nil {
		s.Fatal(err)
	}
	resp, err := s.Client.RoundTrip(req)
	if err != nil {
		return client.ReportOfError(err), nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return client.ReportOf(resp), body, err
}

func page(n int) string {
	return strings.Repeat("The vase costs 100 crowns.\n", n/27+1)[:n]
}

// pages answers /N with N bytes, and /chunked/N with the same in chunks, each in a record of its own.
func pages(w http.ResponseWriter, r *http.Request) {
	n := 1
	chunked := strings.HasPrefix(r.URL.Path, "/chunked/")
	fmt.Sscanf(strings.TrimPrefix(r.URL.Path, "/chunked"), "/%d", &n)
	text := page(n)
	if !chunked {
		w.Header().Set("Content-Length", fmt.Sprint(n))
		io.WriteString(w, text)
		return
	}
	for i := 0; i < n; i += 1000 {
		io.WriteString(w, text[i:min(i+1000, n)])
		http.NewResponseController(w).Flush()
	}
}

func class(err error) string {
	var (
		killed    *client.KilledError
		level     *client.LevelError
		integrity *client.IntegrityError
		trust     *client.TrustError
	)
	switch {
	case err == nil:
		return "success"
	case errors.As(err, &killed):
		return fmt.Sprintf("killed, signature verified %v", killed.SignatureVerified)
	case errors.As(err, &integrity):
		return "integrity"
	case errors.As(err, &trust):
		return "trust:" + string(trust.Party)
	case errors.As(err, &level):
		return "level"
	}
	return fmt.Sprintf("%T: %v", err, err)
}

// tunnelModes are those that lie about tunnels.
func tunnelModes() []hostile.Mode { return slices.DeleteFunc(hostile.Modes(), hostile.Mode.Split) }

// outcomes is what an honest client has to make of each mode.
func outcomes() map[hostile.Mode]string {
	return map[hostile.Mode]string{
		hostile.ModeSwapCert:     "trust:origin",
		hostile.ModeStripToken:   "level",
		hostile.ModeNoAnswer:     "success",
		hostile.ModeFalseVerdict: "killed, signature verified false",
	}
}

// Every mode strikes in the first tunnel, and in each one after it, whatever the size and the shape of the
// response; the client says what it has to, and what it delivered is the truth as far as it goes.
func TestEveryModeStrikesAndIsCaught(t *testing.T) {
	for _, mode := range tunnelModes() {
		t.Run(string(mode), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				want := outcomes()[mode]
				if want == "" {
					want = "integrity"
				}
				s := newStand(t, mode, testnet.Config{Handler: http.HandlerFunc(pages)})
				for _, path := range []string{"/1", "/0", "/27", "/5000", "/300000", "/chunked/1", "/chunked/5000"} {
					n := 0
					fmt.Sscanf(path[strings.LastIndex(path, "/"):], "/%d", &n)
					rep, body, err := s.get(path)
					if got := class(err); got != want {
						t.Errorf("%s: %s, want %s: %v", path, got, want, err)
					}
					if !strings.HasPrefix(page(n), string(body)) {
						t.Errorf("%s: the client delivered %d bytes that are not the origin's", path, len(body))
					}
					if mode == hostile.ModeNoAnswer {
						if string(body) != page(n) || rep.Inner == nil || rep.Inner.Confirmed || rep.Evidence.Kind != "transcript" {
							t.Errorf("%s: %d bytes, report %+v %+v", path, len(body), rep.Inner, rep.Evidence)
						}
					}
					strikes := s.taken()
					if len(strikes) != 1 {
						t.Fatalf("%s: struck %d times: %+v\n%s", path, len(strikes), strikes, s.log)
					}
					k := strikes[0]
					if k.Mode != mode || k.Authority != testnet.OriginHost+":443" || k.Stream == 0 || k.What == "" || k.Direction != frames.ToClient || k.Hop < 1 || k.Hop > 2 {
						t.Errorf("%s: %+v", path, k)
					}
				}
				checkLog(t, s.log.String(), mode)
			})
		})
	}
}

// An origin without a name is lied about as well.
func TestEveryModeStrikesWhereTheOriginIsAnAddress(t *testing.T) {
	for _, mode := range tunnelModes() {
		synctest.Test(t, func(t *testing.T) {
			want := outcomes()[mode]
			if want == "" {
				want = "integrity"
			}
			s := newStand(t, mode, testnet.Config{Names: []string{"198.51.100.50", "2001:db8::50"}})
			for _, host := range []string{"198.51.100.50", "[2001:db8::50]"} {
				_, _, err := s.get("https://" + host + "/")
				if got := class(err); got != want || len(s.taken()) != 1 {
					t.Errorf("%s, %s: %s: %v\n%s", mode, host, got, err, s.log)
				}
			}
		})
	}
}

// Many tunnels at once are each lied in, once.
func TestEveryModeStrikesInEveryTunnel(t *testing.T) {
	const tunnels = 8
	for _, mode := range tunnelModes() {
		synctest.Test(t, func(t *testing.T) {
			want := outcomes()[mode]
			if want == "" {
				want = "integrity"
			}
			s := newStand(t, mode, testnet.Config{})
			var fetches sync.WaitGroup
			for range tunnels {
				fetches.Go(func() {
					if _, _, err := s.get("/"); class(err) != want {
						t.Errorf("%s: %s: %v", mode, class(err), err)
					}
				})
			}
			fetches.Wait()
			type tunnel struct {
				hop    int
				stream uint64
			}
			seen := make(map[tunnel]bool)
			strikes := s.taken()
			for _, k := range strikes {
				seen[tunnel{k.Hop, k.Stream}] = true
			}
			// On hop 2 a connection may be of one tunnel alone, and streams of two be called the same.
			if len(strikes) != tunnels || len(seen) != tunnels && strikes[0].Hop == 1 {
				t.Errorf("%s: %d strikes in %d tunnels", mode, len(strikes), len(seen))
			}
		})
	}
}

// What a liar cannot do it says, and tells the truth instead: a second way to the origin is not to be had here.
func TestALiarThatCannotStrikeSaysSo(t *testing.T) {
	for _, mode := range []hostile.Mode{hostile.ModeSplice, hostile.ModeStaleEvidence, hostile.ModeOtherProxy, hostile.ModeOtherHop} {
		synctest.Test(t, func(t *testing.T) {
			dialled := 0
			s := newStand(t, mode, testnet.Config{}, func(p *proxy.Proxy) {
				dial := p.Targets.DialContext
				p.Targets.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
					if dialled++; dialled > 1 {
						return nil, errors.New("one connection is enough")
					}
					return dial(ctx, network, address)
				}
			})
			_, body, err := s.get("/")
			if err != nil || string(body) != "hello" || len(s.taken()) != 0 {
				t.Errorf("%s: %q, %v", mode, body, err)
			}
			if !strings.Contains(s.log.String(), `msg="did not strike" hostile=`+string(mode)) || dialled < 2 {
				t.Errorf("%s: dialled %d times: %s", mode, dialled, s.log)
			}
		})
	}
}

// Who leaves in the middle leaves nothing behind: the stand waits for everything when it ends.
func TestALiarClosesUnderAnOpenTunnel(t *testing.T) {
	for _, mode := range tunnelModes() {
		synctest.Test(t, func(t *testing.T) {
			begun, proceed := make(chan struct{}), make(chan struct{})
			s := newStand(t, mode, testnet.Config{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/wait" {
					close(begun)
					select {
					case <-proceed:
					case <-r.Context().Done():
					}
				}
			})})
			failed := make(chan error, 1)
			go func() {
				_, _, err := s.get("/wait")
				failed <- err
			}()
			select {
			case <-begun:
			case err := <-failed: // a lie that comes before any request
				failed <- err
			}
			if err := s.liar.Close(); err != nil {
				t.Errorf("%s: %v", mode, err)
			}
			if err := <-failed; err == nil {
				t.Errorf("%s: the fetch ended well", mode)
			}
			close(proceed)
		})
	}
}

// checkLog demands that no line of a liar's log could be an honest proxy's.
func checkLog(t *testing.T, log string, mode hostile.Mode) {
	t.Helper()
	if !strings.Contains(log, "msg=struck") {
		t.Error("the log does not say where it struck")
	}
	for line := range strings.Lines(log) {
		if !strings.Contains(line, " hostile="+string(mode)) {
			t.Errorf("not labelled: %s", line)
		}
	}
}

// Where a strike says that it is in a record, that is where it is: the first of the response's, behind the two
// or three of the handshake.
func TestAStrikeNamesRecordAndOffset(t *testing.T) {
	for mode, offset := range map[hostile.Mode]bool{
		hostile.ModeFlip: true, hostile.ModeDrop: false, hostile.ModeInsert: false, hostile.ModeReorder: true,
		hostile.ModeReplay: false, hostile.ModeTruncate: true, hostile.ModeSplice: false, hostile.ModeFalseVerdict: false,
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newStand(t, mode, testnet.Config{})
			s.get("/")
			k := s.taken()[0]
			if k.Record < 1 || k.Record > 3 || (k.Offset > 0) != offset || k.Hop != 1 {
				t.Errorf("%s: %+v", mode, k)
			}
			if want := fmt.Sprintf("record=%d offset=%d", k.Record, k.Offset); !strings.Contains(s.log.String(), want) {
				t.Errorf("%s: no %s in %s", mode, want, s.log)
			}
		})
	}
}

// A liar says who it is in what both ends see, and its own page does not call it honest.
func TestALiarIsLabelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, hostile.ModeFlip, testnet.Config{Stock: true})
		_, _, err := s.get("/")
		if class(err) != "level" || len(s.taken()) != 0 {
			t.Errorf("%v", err)
		}
		ordinary := &http.Transport{
			DialContext: s.DialContext, TLSClientConfig: &tls.Config{RootCAs: s.Proxies.Pool().CertPool}, ForceAttemptHTTP2: true,
		}
		defer ordinary.CloseIdleConnections()
		for path, want := range map[string]string{"/": "HOSTILE-liar.example lies on purpose", "/nothing": ""} {
			resp, err := (&http.Client{Transport: ordinary}).Get("https://" + liarHost + path)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || !strings.HasPrefix(string(body), want) || strings.Contains(string(body), "change nothing") {
				t.Errorf("%s: %q, %v", path, body, err)
			}
			if status := resp.Header.Get("Proxy-Status") + resp.Header.Get("Via"); !strings.Contains(status, "HOSTILE-liar.example") {
				t.Errorf("%s: %v", path, resp.Header)
			}
		}
	})
}

// The certificate is all that gives a swapped session away: who trusts the liar's own root reads the liar's page.
func TestASwappedCertificateWouldDoForWhoTrustsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, hostile.ModeSwapCert, testnet.Config{})
		root, err := s.liar.ImpostorRoot()
		if err != nil {
			t.Fatal(err)
		}
		s.Client = s.NewClient(func(_ *testnet.Net, tr *client.Transport) {
			tr.Proxy, tr.Roots = "https://"+liarHost, pki.NewPool(s.Origins.Root, root).CertPool
		})
		rep, body, err := s.get("/")
		if err != nil || string(body) != "This page was written by the proxy.\n" || !rep.Inner.Confirmed {
			t.Errorf("%q, %v", body, err)
		}
		if !strings.Contains(s.log.String(), "FELL FOR IT") {
			t.Error("the log does not say it")
		}
	})
}

// An origin that knows nothing of us gives a transcript, and false ones are found out as well.
func TestFalseEvidenceAboutAStockOrigin(t *testing.T) {
	for mode, want := range map[hostile.Mode]string{
		hostile.ModeFakeEvidence:  "integrity",
		hostile.ModeStaleEvidence: "integrity",
		hostile.ModeOtherProxy:    "integrity",
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newStand(t, mode, testnet.Config{Stock: true})
			_, _, err := s.get("/")
			if got := class(err); got != want || len(s.taken()) != 1 {
				t.Errorf("%s: %s: %v\n%s", mode, got, err, s.log)
			}
		})
	}
}

func TestALiarServesLoopbackOnly(t *testing.T) {
	s := newStand(t, hostile.ModeFlip, testnet.Config{})
	for _, ip := range []net.IP{net.IPv4(198, 51, 100, 7), net.IPv4zero, net.IPv6unspecified} {
		ln := s.Listen("elsewhere.example")
		if err := s.liar.Serve(at{ln, &net.TCPAddr{IP: ip, Port: 443}}); !errors.Is(err, hostile.ErrBeyondLoopback) {
			t.Errorf("%v: %v", ip, err)
		}
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v: the listener is open: %v", ip, err)
		}
	}
}

// A liar serves so many connections and no more, and none that says nothing for long.
func TestALiarIsNotFilledBySilentClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, hostile.ModeFlip, testnet.Config{})
		for range hostile.MaxConnections {
			conn, err := s.DialContext(t.Context(), "tcp", liarHost+":443")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
		}
		time.Sleep(hostile.Patience - time.Second) // the bubble's clock
		begun := time.Now()
		if _, _, err := s.get("/"); class(err) != "integrity" || len(s.taken()) != 1 {
			t.Error(err)
		}
		if waited := time.Since(begun); waited != time.Second {
			t.Errorf("served after %v", waited)
		}
		synctest.Wait() // the first that is given up makes room before the last has its line
		if n := strings.Count(s.log.String(), `msg="no hop 1"`); n != hostile.MaxConnections {
			t.Errorf("%d silent connections were given up", n)
		}
	})
}

// at is a listener with another address.
type at struct {
	net.Listener
	addr net.Addr
}

func (l at) Addr() net.Addr { return l.addr }

func TestWhatIsNoLiarServesNobody(t *testing.T) {
	origins, err := pki.NewAuthority("origins", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	proxies, err := pki.NewAuthority("proxies", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	good, err := proxies.Proxy(liarHost)
	if err != nil {
		t.Fatal(err)
	}
	noProxy, err := origins.Origin(liarHost)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		name string
		cert tls.Certificate
		mode hostile.Mode
		want string
	}{
		{"no mode", good, "", "none of flip"},
		{"a mode that there is not", good, "smile", "none of flip"},
		{"no certificate", tls.Certificate{}, hostile.ModeFlip, "certificate"},
		{"an origin's certificate", noProxy, hostile.ModeFlip, "proxyAuthentication"},
	} {
		l := &hostile.Liar{Proxy: &proxy.Proxy{Certificate: x.cert}, Mode: x.mode}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Serve(ln); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v", x.name, err)
		}
	}
}

func TestModes(t *testing.T) {
	if n := len(hostile.Modes()); n != 18 {
		t.Errorf("%d modes", n)
	}
	for _, m := range hostile.Modes() {
		if got, err := hostile.ParseMode(string(m)); got != m || err != nil {
			t.Errorf("%s: %s, %v", m, got, err)
		}
		if m.About() == "" || strings.ContainsAny(m.About(), "\n.") {
			t.Errorf("%s: %q", m, m.About())
		}
	}
	if hostile.Mode("smile").About() != "" {
		t.Error("there is a mode too many")
	}
}
