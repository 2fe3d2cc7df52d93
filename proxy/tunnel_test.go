package proxy

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/frames"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/verdict"
)

// A both is a tunnel with its two ends.
type both struct {
	t              *testing.T
	connect        *connect
	client, origin hop.Stream
	atOrigin       *atOrigin
	toClient       *tap
	toOrigin       *tap
	sent           [2][]byte // by direction
}

// open opens a tunnel and runs the inner handshake through it.
func (st *stage) open(s hop.Session, o *testOrigin) *both {
	st.t.Helper()
	c := st.connect(s, authority)
	c.says(200, "")
	return st.through(c, o.next(st.t))
}

// through runs the inner handshake.
func (st *stage) through(c *connect, at *atOrigin) *both {
	st.t.Helper()
	b := &both{t: st.t, connect: c, client: c.stream, origin: at.Stream, atOrigin: at, toClient: newTap(c.stream), toOrigin: newTap(at.Stream)}
	b.request(innerHello(st.t, c.offer, originName))
	b.response(innerServerFlight(st.t))
	b.request(innerClientFinished(st.t))
	b.settle()
	return b
}

func (b *both) request(p []byte) {
	b.sent[frames.ToOrigin] = append(b.sent[frames.ToOrigin], p...)
	send(b.t, b.client, p)
	b.toOrigin.atLeast(len(b.sent[frames.ToOrigin]))
}

func (b *both) response(p []byte) {
	b.sent[frames.ToClient] = append(b.sent[frames.ToClient], p...)
	send(b.t, b.origin, p)
	b.toClient.atLeast(len(b.sent[frames.ToClient]))
}

// settle waits until all that was sent arrived, and compares it.
func (b *both) settle() {
	b.t.Helper()
	for d, tap := range []*tap{b.toOrigin, b.toClient} {
		if got := tap.atLeast(len(b.sent[d])); !bytes.Equal(got, b.sent[d]) {
			b.t.Fatalf("%v: %d bytes arrived of %d, or others", frames.Direction(d), len(got), len(b.sent[d]))
		}
	}
}

// exchange sends a request and a response with body, and checks that the bytes arrive.
func (b *both) exchange(path string, body []byte) {
	b.t.Helper()
	b.request(data([]byte("GET " + path + " HTTP/1.1\r\nHost: " + originName + "\r\n\r\n")))
	b.response(data(append(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body)), body...)))
	b.settle()
}

// end closes both directions and waits for the ends.
func (b *both) end() {
	b.t.Helper()
	b.request(closeNotify())
	b.client.CloseSend()
	b.response(closeNotify())
	b.origin.CloseSend()
	for d, tap := range []*tap{b.toOrigin, b.toClient} {
		if got, err := tap.end(); err != io.EOF || !bytes.Equal(got, b.sent[d]) {
			b.t.Errorf("%v: ended with %v after %d bytes", frames.Direction(d), err, len(got))
		}
	}
}

func random(n int) []byte {
	p := make([]byte, n)
	rand.Read(p)
	return p
}

// spec: PRX-14 PRX-33
func TestWhatPassesIsWhatWasSent(t *testing.T) {
	st := newStage(t)
	origin := st.cooperating()
	s := st.client(nil)
	for _, size := range []int{0, 1, 100, 16384, 3 << 20} {
		b := st.open(s, origin)
		b.exchange("/a/page?with=secret", random(size))
		b.exchange("/again", []byte("x"))
		b.request(data([]byte("POST /again HTTP/1.1\r\nHost: " + originName + "\r\nCookie: secret\r\nContent-Length: 6\r\n\r\nsecret")))
		b.response(data([]byte("HTTP/1.1 200 OK\r\nSet-Cookie: secret\r\nContent-Length: 6\r\n\r\nsecret")))
		b.settle()
		b.end()
	}
	st.close()
	log := st.log.String()
	for _, want := range []string{"passed", "authority=" + authority, "method=GET", "path=/a/page", "status=200", "client="} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %s", want)
		}
	}
	if strings.Contains(log, "secret") {
		t.Error("the log holds a query, the value of a field, or a body")
	}
	if n := strings.Count(log, "msg=passed "); n != 15 {
		t.Errorf("%d lines for 15 exchanges", n)
	}
}

// An inspector that kills what holds a word, and allows the rest.
type censor struct{ word string }

func (c censor) Begin(*Exchange) Inspection { return c }

func (c censor) judge(p Part) Decision {
	if strings.Contains(p.Body.String(), c.word) {
		return Decision{Action: Kill, Rule: "word", Reason: "the word was " + c.word}
	}
	return Decision{}
}
func (c censor) Request(p Part) Decision  { return c.judge(p) }
func (c censor) Response(p Part) Decision { return c.judge(p) }
func (censor) Close(Outcome)              {}

// spec: PRX-17 PRX-19
func TestAKillIsSignedAndCostsNoSibling(t *testing.T) {
	for _, tell := range []bool{false, true} {
		t.Run(fmt.Sprintf("TellOrigins %v", tell), func(t *testing.T) {
			st := newStage(t, func(p *Proxy) {
				p.Inspectors = []Inspector{censor{"forbidden"}}
				p.Policy.TellOrigins = tell
			})
			origin := st.cooperating()
			s := st.client(nil)
			sibling, b := st.open(s, origin), st.open(s, origin)
			if sibling.atOrigin.session != b.atOrigin.session {
				t.Fatal("not siblings")
			}
			sibling.request(data([]byte("GET /long HTTP/1.1\r\nHost: " + originName + "\r\n\r\n")))
			sibling.response(data([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n")))
			sibling.response(data(random(1000000)))

			b.request(data([]byte("GET /bad HTTP/1.1\r\nHost: " + originName + "\r\n\r\n")))
			head := data([]byte("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"))
			b.response(head)
			sendUntilReset(b.origin, append(data([]byte("this is forbidden")), data([]byte("and what follows"))...))

			atClient, err := b.toClient.end()
			killed := isKilled(err)
			if killed == nil {
				t.Fatalf("the client's end: %v", err)
			}
			if !bytes.Equal(atClient, b.sent[frames.ToClient]) {
				t.Errorf("%d bytes left, %d may", len(atClient), len(b.sent[frames.ToClient]))
			}
			tbs, err := verdict.Verify(killed.Verdict, verdict.Expect{
				Proxy: st.proxy.Certificate.Leaf, Nonce: b.connect.offer.Nonce, Authority: authority, CheckLeaf: true,
			})
			if err != nil {
				t.Fatal(err)
			}
			if tbs.Rule != "word" || tbs.Detail != "the word was forbidden" || tbs.Reason != frames.ReasonInspector ||
				tbs.Direction != frames.ToClient || tbs.ReleasedToClient != uint64(len(atClient)) ||
				tbs.ReleasedToOrigin != uint64(len(b.sent[frames.ToOrigin])) {
				t.Errorf("verdict %+v", tbs)
			}

			_, err = b.toOrigin.end()
			if killed = isKilled(err); killed == nil {
				t.Fatalf("the origin's end: %v", err)
			}
			tbs, err = verdict.Verify(killed.Verdict, verdict.Expect{
				Proxy: b.atOrigin.peer.PeerCertificate(), Nonce: b.connect.offer.Nonce, Authority: authority,
			})
			if err != nil {
				t.Fatal(err)
			}
			if told := tbs.Rule != "" || tbs.Detail != ""; told != tell || tbs.Reason != frames.ReasonInspector {
				t.Errorf("verdict %+v", tbs)
			}

			sibling.response(data(random(1000000)))
			sibling.settle()
			sibling.end()
			st.open(s, origin).end() // and the hops still take tunnels
			st.close()
			if log := st.log.String(); !strings.Contains(log, "msg=killed") || !strings.Contains(log, "rule=word") {
				t.Errorf("the log:\n%s", log)
			}
		})
	}
}

func TestWhatIsNoInnerSessionIsKilled(t *testing.T) {
	st := newStage(t)
	origin := st.cooperating()
	c := st.connect(st.client(nil), authority)
	at := origin.next(t)
	toClient, toOrigin := newTap(c.stream), newTap(at.Stream)
	send(t, c.stream, []byte("GET / HTTP/1.1\r\nHost: origin.example\r\n\r\n"))
	if _, err := toClient.end(); isKilled(err) == nil {
		t.Errorf("the client's end: %v", err)
	}
	if got, err := toOrigin.end(); isKilled(err) == nil || len(got) != 0 {
		t.Errorf("the origin got %q and %v", got, err)
	}
}

func TestAResetPassesOn(t *testing.T) {
	st := newStage(t)
	origin := st.cooperating()
	s := st.client(nil)
	b := st.open(s, origin)
	b.client.Reset(hop.Cancel)
	var reset *hop.ResetError
	if _, err := b.toOrigin.end(); !errors.As(err, &reset) || reset.Code != hop.Cancel {
		t.Errorf("the origin's end: %v", err)
	}
	b = st.open(s, origin)
	b.origin.Reset(hop.InternalError)
	if _, err := b.toClient.end(); !errors.As(err, &reset) || reset.Code != hop.ConnectError {
		t.Errorf("the client's end: %v", err)
	}
}

func TestTheOriginsConnectionBreaks(t *testing.T) {
	st := newStage(t)
	origin := st.cooperating()
	s := st.client(nil)
	b := st.open(s, origin)
	st.mu.Lock()
	st.raws[0].SetLinger(0)
	st.raws[0].Close()
	st.mu.Unlock()
	var reset *hop.ResetError
	if _, err := b.toClient.end(); !errors.As(err, &reset) || reset.Code != hop.ConnectError {
		t.Errorf("the client's end: %v", err)
	}
	st.open(s, origin).end()
}

func TestTheClientGoes(t *testing.T) {
	st := newStage(t)
	origin := st.cooperating()
	s := st.client(nil)
	b := st.open(s, origin)
	s.Close(hop.NoError, "")
	if _, err := b.toOrigin.end(); err == io.EOF {
		t.Error("the origin's tunnel looks ended")
	}
	<-b.atOrigin.session.Done() // the pool keeps nothing for a client that is gone
}

// spec: PRX-18
func TestATruncationIsPassedOnAsOne(t *testing.T) {
	st := newStage(t)
	origin := st.cooperating()
	b := st.open(st.client(nil), origin)
	b.request(data([]byte("GET / HTTP/1.1\r\nHost: " + originName + "\r\n\r\n")))
	b.response(data([]byte("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")))
	send(t, b.origin, data([]byte("more"))[:20])
	b.origin.CloseSend()
	if got, err := b.toClient.end(); err != io.EOF || !bytes.Equal(got, b.sent[frames.ToClient]) {
		t.Errorf("%d bytes, then %v", len(got), err)
	}
	b.client.Reset(hop.Cancel)
	b.toOrigin.end()
}

// spec: PRX-32
func TestAStalledClientStallsItsOriginAndNobodyElse(t *testing.T) {
	st := newStage(t)
	origin := st.cooperating()
	s := st.client(nil)
	stalled, other := st.open(s, origin), st.open(s, origin)
	stalled.toClient.mu.Lock()
	stalled.toClient.hold = true
	stalled.toClient.mu.Unlock()
	const size = 8 << 20
	stalled.request(data([]byte("GET / HTTP/1.1\r\nHost: " + originName + "\r\n\r\n")))
	body := data(append(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size), random(size)...))
	send(t, stalled.origin, body)
	other.exchange("/", random(4<<20))
	other.end()
	// What left the origin is what the windows of two hops take, and not the whole body.
	if left := len(body) - stalled.origin.Queued(); left > 2<<20 {
		t.Errorf("%d bytes left the origin for a client that takes none", left)
	}
	stalled.sent[frames.ToClient] = append(stalled.sent[frames.ToClient], body...)
	stalled.toClient.let()
	stalled.settle()
	stalled.end()
}

// A holder holds the response until it has ended.
type holder struct{}

func (holder) Begin(*Exchange) Inspection { return holder{} }
func (holder) Request(Part) Decision      { return Decision{} }
func (holder) Response(p Part) Decision {
	if p.End {
		return Decision{Action: Allow}
	}
	return Decision{Action: Hold}
}
func (holder) Close(Outcome) {}

// spec: PRX-16
func TestABodyLargerThanTheWindowIsHeldToItsEnd(t *testing.T) {
	st := newStage(t, func(p *Proxy) {
		p.Inspectors = []Inspector{holder{}}
		p.Policy.HeldBytes = 4 << 20
	})
	origin := st.cooperating()
	b := st.open(st.client(nil), origin)
	b.exchange("/", random(3<<20))
	b.end()
	waitFor(t, func() bool { return st.proxy.run.held.used.Load() == 0 })
}

func TestABodyLargerThanTheBudgetIsKilled(t *testing.T) {
	st := newStage(t, func(p *Proxy) { p.Inspectors = []Inspector{holder{}} })
	origin := st.cooperating()
	b := st.open(st.client(nil), origin)
	b.request(data([]byte("GET / HTTP/1.1\r\nHost: " + originName + "\r\n\r\n")))
	sendUntilReset(b.origin, data(append([]byte("HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n"), random(2<<20)...)))
	got, err := b.toClient.end()
	killed := isKilled(err)
	if killed == nil || !bytes.Equal(got, b.sent[frames.ToClient]) {
		t.Fatalf("%d bytes, then %v", len(got), err)
	}
	tbs, err := verdict.Verify(killed.Verdict, verdict.Expect{Proxy: st.proxy.Certificate.Leaf, Nonce: b.connect.offer.Nonce, Authority: authority})
	if err != nil || tbs.Reason != frames.ReasonLimit {
		t.Errorf("verdict %+v, %v", tbs, err)
	}
	b.toOrigin.end()
}

// waitFor waits for what another goroutine is about to do and nothing announces.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("never")
		}
	}
}

// spec: PRX-21
func TestATunnelOnWhichNothingMovesEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t)
		origin := st.cooperating()
		s := st.client(nil)
		quiet, lively := st.open(s, origin), st.open(s, origin)
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 8 {
				<-time.After(time.Minute)
				lively.exchange("/", []byte("x"))
			}
		})
		if _, err := quiet.toClient.end(); err == io.EOF {
			t.Error("it looks ended")
		}
		if d := time.Since(start); d < 5*time.Minute || d > 7*time.Minute {
			t.Errorf("after %v", d)
		}
		quiet.toOrigin.end()
		wg.Wait()
		lively.end()
		s.Close(hop.NoError, "")
		st.close()
	})
}

// spec: PRX-35
func TestASilentOriginIsGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		serve  func(st *stage) func(net.Conn)
		reason string
	}{
		"before its handshake": {func(*stage) func(net.Conn) {
			return func(c net.Conn) { io.Copy(io.Discard, c) }
		}, "connection_timeout"},
		"before its SETTINGS": {func(st *stage) func(net.Conn) {
			cfg := st.originConfig(frames.ALPNH2)
			return func(c net.Conn) {
				tc := serverTLS(c, cfg)
				io.Copy(io.Discard, tc)
			}
		}, "connection_read_timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newStage(t)
				st.listen(c.serve(st))
				s := st.client(nil)
				start := time.Now()
				st.connect(s, authority).says(504, c.reason)
				if d := time.Since(start); d > 11*time.Second {
					t.Errorf("after %v", d)
				}
				s.Close(hop.NoError, "")
				st.close()
			})
		})
	}
}

// silent is a resolver that never answers.
type silent struct{}

func (silent) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// spec: PRX-35
func TestASilentResolverIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, func(p *Proxy) { p.Targets.Resolver = silent{} })
		s := st.client(nil)
		start := time.Now()
		st.connect(s, authority).says(504, "dns_timeout")
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("after %v", d)
		}
		s.Close(hop.NoError, "")
		st.close()
	})
}

// spec: PRX-22
func TestBlindTunnels(t *testing.T) {
	for _, version := range []string{"h2", "http/1.1"} {
		t.Run(version, func(t *testing.T) {
			st := newStage(t, func(p *Proxy) { p.Policy.Modes = []fields.Mode{fields.Blind} })
			st.listen(func(c net.Conn) { // an echo that answers once the request has ended
				p, _ := io.ReadAll(c)
				c.Write(p)
			})
			body := random(1 << 20)
			if version == "http/1.1" {
				conn := st.hop1(nil, "http/1.1")
				defer conn.Close()
				go func() {
					fmt.Fprintf(conn, "CONNECT ORIGIN.example:443 HTTP/1.1\r\nHost: origin.example:443\r\n\r\n")
					conn.Write(body)
					conn.CloseWrite()
				}()
				got, err := io.ReadAll(conn)
				if err != nil {
					t.Fatal(err)
				}
				head, rest, _ := bytes.Cut(got, []byte("\r\n\r\n"))
				if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) || !bytes.Contains(head, []byte("Proxy-Status: "+proxyName)) {
					t.Errorf("head %q", head)
				}
				if !bytes.Equal(rest, body) {
					t.Errorf("%d bytes came back", len(rest))
				}
			} else {
				s := st.client(nil)
				resp, stream, err := s.Open(t.Context(), &hop.Request{Authority: authority, Header: http.Header{}})
				if err != nil {
					t.Fatal(err)
				}
				says(t, resp, 200, "")
				tap := newTap(stream)
				send(t, stream, body)
				stream.CloseSend()
				if got, err := tap.end(); err != io.EOF || !bytes.Equal(got, body) {
					t.Errorf("%d bytes came back, then %v", len(got), err)
				}
			}
			st.close()
			if log := st.log.String(); !strings.Contains(log, "passed unread") {
				t.Errorf("the log:\n%s", log)
			}
		})
	}
}

// spec: PRX-5 PRX-22
func TestABlindTunnelThatPolicyForbids(t *testing.T) {
	st := newStage(t)
	resp, _, err := st.client(nil).Open(t.Context(), &hop.Request{Authority: authority, Header: http.Header{}})
	if err != nil {
		t.Fatal(err)
	}
	says(t, resp, 470, "http_request_denied")
	if got := resp.Header.Get(fields.InspectionOptions); got != "intact" {
		t.Errorf("options %q", got)
	}
	conn := st.hop1(nil, "http/1.1")
	defer conn.Close()
	fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", authority, authority)
	got, _ := io.ReadAll(conn)
	if !bytes.HasPrefix(got, []byte("HTTP/1.1 470 Inspection Required\r\n")) || !bytes.Contains(got, []byte("Inspection-Options: intact\r\n")) {
		t.Errorf("answer %q", got)
	}
	if st.dials() != 0 {
		t.Error("dialled")
	}
}

func TestBlindTunnelsObeyTheTargetPolicy(t *testing.T) {
	st := newStage(t, func(p *Proxy) { p.Policy.Modes = []fields.Mode{fields.Blind} })
	s := st.client(nil)
	for target, want := range map[string]string{
		"inside.example:443":  "destination_ip_prohibited",
		"10.0.0.1:443":        "destination_ip_prohibited",
		"origin.example:22":   "http_request_denied",
		"nowhere.example:443": "dns_error",
		"origin.example":      "http_request_error",
		"origin.example:0":    "http_request_error",
	} {
		resp, _, err := s.Open(t.Context(), &hop.Request{Authority: target, Header: http.Header{}})
		if err != nil {
			t.Fatal(err)
		}
		list, _ := fields.ParseProxyStatus(resp.Header.Values(fields.ProxyStatusName))
		if len(list) != 1 || list[0].Error != want {
			t.Errorf("%s: %d %v", target, resp.Status, list)
		}
	}
	if st.dials() != 0 {
		t.Error("dialled")
	}
}

// spec: PRX-23
func TestShutdownWaitsForTunnels(t *testing.T) {
	st := newStage(t)
	origin := st.cooperating()
	s := st.client(nil)
	b := st.open(s, origin)
	down := make(chan error)
	go func() { down <- st.proxy.Shutdown(context.Background()) }()
	if err := <-st.served; !errors.Is(err, ErrServerClosed) {
		t.Errorf("Serve: %v", err)
	}
	st.served <- ErrServerClosed
	if _, err := st.ln.Dial(t.Context()); err == nil {
		t.Error("it still listens")
	}
	b.exchange("/", random(1<<20)) // what is open goes on
	waitFor(t, func() bool {
		_, err := st.tryConnect(s, authority)
		return errors.As(err, new(*hop.RetryError))
	})
	select {
	case err := <-down:
		t.Fatalf("Shutdown returned %v with a tunnel open", err)
	default:
	}
	b.end()
	for len(origin.tunnels) > 0 { // those that came before GOAWAY did
		(<-origin.tunnels).Reset(hop.Cancel)
	}
	if err := <-down; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	<-s.Done()
}

// spec: PRX-23
func TestShutdownKillsWhatIsLeftAndSaysSo(t *testing.T) {
	for _, how := range []string{"Shutdown", "Close"} {
		t.Run(how, func(t *testing.T) {
			st := newStage(t)
			origin := st.cooperating()
			s := st.client(nil)
			b := st.open(s, origin)
			if how == "Close" {
				if err := st.proxy.Close(); err != nil {
					t.Error(err)
				}
			} else {
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				if err := st.proxy.Shutdown(ctx); !errors.Is(err, context.Canceled) {
					t.Errorf("Shutdown: %v", err)
				}
			}
			for i, tap := range []*tap{b.toClient, b.toOrigin} {
				_, err := tap.end()
				killed := isKilled(err)
				if killed == nil {
					t.Fatalf("end %d: %v", i, err)
				}
				tbs, err := verdict.Verify(killed.Verdict, verdict.Expect{Proxy: st.proxy.Certificate.Leaf, Nonce: b.connect.offer.Nonce, Authority: authority})
				if err != nil || tbs.Reason != frames.ReasonShutdown {
					t.Errorf("end %d: verdict %+v, %v", i, tbs, err)
				}
			}
			<-s.Done()
			<-b.atOrigin.session.Done()
		})
	}
}

func TestCloseDoesNotWaitForTheSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t, func(p *Proxy) { p.Policy.Modes = []fields.Mode{fields.Intact, fields.Blind} })
		st.listen(func(c net.Conn) { io.Copy(io.Discard, c) })
		s := st.client(nil)
		_, stream, err := s.Open(t.Context(), &hop.Request{Authority: authority, Header: http.Header{}})
		if err != nil {
			t.Fatal(err)
		}
		newTap(stream)
		var wg sync.WaitGroup
		wg.Go(func() { st.tryConnect(s, authority) }) // hangs in the origin's handshake
		half, err := st.ln.Dial(t.Context())          // says nothing
		if err != nil {
			t.Fatal(err)
		}
		defer half.Close()
		synctest.Wait()
		start := time.Now()
		st.close()
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("after %v", d)
		}
		wg.Wait()
	})
}

// A session that the caller made, over a carrier of the caller's choice, with a dial of the caller's.
func TestServeSession(t *testing.T) {
	st := newStage(t)
	origin := st.cooperating()
	client, server := st.pair()
	var targets []*Target
	served := make(chan error, 1)
	go func() {
		served <- st.proxy.ServeSession(t.Context(), server, func(ctx context.Context, target *Target) (*Upstream, error) {
			targets = append(targets, target)
			return st.proxy.Dial(ctx, target)
		})
	}()
	b := st.open(client, origin)
	b.exchange("/", []byte("x"))
	b.end()
	client.Close(hop.NoError, "")
	if err := <-served; err == nil {
		t.Error("no reason why it ended")
	}
	if len(targets) != 1 || targets[0].Authority != authority || targets[0].Mode != fields.Intact || targets[0].Client == "" {
		t.Errorf("targets %+v", targets)
	}
	ctx, cancel := context.WithCancel(t.Context())
	client, server = st.pair()
	go func() { served <- st.proxy.ServeSession(ctx, server, nil) }()
	b = st.open(client, origin)
	cancel()
	if err := <-served; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	<-client.Done()
	b.toOrigin.end()
	st.proxy.Close()
	client, server = st.pair()
	if err := st.proxy.ServeSession(t.Context(), server, nil); !errors.Is(err, ErrServerClosed) {
		t.Errorf("after Close: %v", err)
	}
	<-client.Done()
}

func TestAClientThatGivesUpStopsTheDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t)
		ended := make(chan error, 1)
		st.listen(func(c net.Conn) {
			_, err := io.Copy(io.Discard, c) // says nothing
			ended <- err
		})
		s := st.client(nil)
		ctx, giveUp := context.WithCancel(t.Context())
		st.ctx = ctx
		done := make(chan struct{})
		go func() {
			defer close(done)
			if _, err := st.tryConnect(s, authority); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
		}()
		synctest.Wait()
		start := time.Now()
		giveUp()
		<-done
		<-ended
		if d := time.Since(start); d > time.Second {
			t.Errorf("after %v", d)
		}
		s.Close(hop.NoError, "")
		st.close()
	})
}

// The tunnel was open on hop 2 when the client gave it up on hop 1.
func TestATunnelThatNobodyWaitsForEndsAtTheOrigin(t *testing.T) {
	st := newStage(t)
	origin := st.cooperating()
	client, server := st.pair()
	served := make(chan error, 1)
	go func() {
		served <- st.proxy.ServeSession(t.Context(), refusing{server}, nil)
	}()
	_, err := st.tryConnect(client, authority)
	var reset *hop.ResetError
	if !errors.As(err, &reset) || reset.Code != hop.InternalError {
		t.Errorf("the client: %v", err)
	}
	if _, err := newTap(origin.next(t).Stream).end(); !errors.As(err, &reset) || reset.Code != hop.Cancel {
		t.Errorf("the origin: %v", err)
	}
	client.Close(hop.NoError, "")
	<-served
}

// refusing is a session whose requests cannot be accepted.
type refusing struct{ hop.Session }

type refusingIncoming struct{ hop.Incoming }

func (r refusing) Accept(ctx context.Context) (hop.Incoming, error) {
	in, err := r.Session.Accept(ctx)
	return refusingIncoming{in}, err
}

func (refusingIncoming) Accept(*hop.Response) (hop.Stream, error) {
	return nil, errors.New("the header list is larger than the client takes")
}

// A session without SETTINGS_ITLS could not be shown evidence.
func TestAClientThatTakesNoEvidence(t *testing.T) {
	p := newTestProxy(t)
	defer p.Close()
	r, err := p.start()
	if err != nil {
		t.Fatal(err)
	}
	s := &session{run: r, front: r.current.Load().front, hop: peerOnly{}}
	var a *answer
	if _, err := s.target(&hop.Request{Protocol: frames.Protocol, Authority: authority}); !errors.As(err, &a) || a.status != 400 {
		t.Errorf("error %v", err)
	}
}

type peerOnly struct{ hop.Session }

func (peerOnly) Peer() *hop.Peer { return new(hop.Peer) }

// What an idle tunnel costs the proxy, and here the two ends in the same process too.
func TestATunnelHasNoGoroutineAndLittleMemory(t *testing.T) {
	st := newStage(t)
	origin := st.cooperating()
	s := st.client(nil)
	st.open(s, origin)
	const tunnels = 90 // on one connection of hop 2
	measure := func() (goroutines int, heap uint64) {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return runtime.NumGoroutine(), m.HeapAlloc
	}
	goroutines, heap := measure()
	for range tunnels {
		st.open(s, origin).sent = [2][]byte{}
	}
	waitFor(t, func() bool { n, _ := measure(); return n <= goroutines })
	_, after := measure()
	each := int64(after-heap) / tunnels
	t.Logf("%d bytes each, both ends included", each)
	if each > 24<<10 {
		t.Errorf("%d bytes each", each)
	}
}

// faulty is an inspector with a bug.
type faulty struct{}

func (faulty) Begin(*Exchange) Inspection { panic("a bug in " + "the inspector") }

func TestAPanicOfAnInspectorIsTheOperatorsToRead(t *testing.T) {
	st := newStage(t, func(p *Proxy) { p.Inspectors = []Inspector{faulty{}} })
	b := st.open(st.client(nil), st.cooperating())
	sendUntilReset(b.client, data([]byte("GET / HTTP/1.1\r\nHost: "+originName+"\r\n\r\n")))
	_, err := b.toClient.end()
	killed := isKilled(err)
	if killed == nil {
		t.Fatalf("the client's end: %v", err)
	}
	tbs, err := verdict.Verify(killed.Verdict, verdict.Expect{
		Proxy: st.proxy.Certificate.Leaf, Nonce: b.connect.offer.Nonce, Authority: authority, CheckLeaf: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if tbs.Rule != "inspector-panic" || strings.Contains(tbs.Detail, "bug") {
		t.Errorf("verdict %+v", tbs)
	}
	b.toOrigin.end()
	st.close() // the line is written by then
	for _, want := range []string{"a bug in the inspector", "faulty.Begin"} {
		if !strings.Contains(st.log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, st.log)
		}
	}
}
