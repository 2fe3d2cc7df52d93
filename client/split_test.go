package client

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vitrine/frames"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/verdict"
)

func accepting(levels ...Level) func(*Transport) {
	return func(tr *Transport) { tr.Levels = levels }
}

func wantLevelError(t *testing.T, err error, why, option string) *LevelError {
	t.Helper()
	var level *LevelError
	if !errors.As(err, &level) {
		t.Fatalf("%v (%T), want a LevelError", err, err)
	}
	if !strings.Contains(level.Why, why) || level.Option != option {
		t.Fatalf("why %q, option %q; want %q and %q", level.Why, level.Option, why, option)
	}
	return level
}

func wantIntegrity(t *testing.T, err error, what string) {
	t.Helper()
	var integrity *IntegrityError
	if !errors.As(err, &integrity) || !strings.Contains(err.Error(), what) {
		t.Fatalf("%v (%T), want an IntegrityError with %q", err, err, what)
	}
}

// spec: CLI-6 CLI-10 CLI-30 CLI-38
func TestLevelsBelowIntact(t *testing.T) {
	tls12 := &tls.Config{MaxVersion: tls.VersionTLS12}
	http1 := &tls.Config{NextProtos: []string{"http/1.1"}}
	for _, tt := range []struct {
		name    string
		origin  func(w *world) *tls.Config
		tokens  []string
		modes   []fields.Mode
		accepts []Level
		want    Level
		why     string // else a LevelError
		option  string
	}{
		{name: "h2", accepts: []Level{Intact, Attested}, want: Attested},
		{name: "http/1.1", origin: func(*world) *tls.Config { return http1 }, accepts: []Level{Intact, Attested}, want: Attested},
		{name: "TLS 1.2", origin: func(*world) *tls.Config { return tls12 }, accepts: []Level{Intact, Attested}, want: Attested},
		{name: "attested alone", accepts: []Level{Attested}, want: Attested},
		{name: "before blind", accepts: []Level{Intact, Attested, Blind}, want: Attested},
		{name: "not accepted", accepts: []Level{Intact}, why: "its signature shows", option: "intact,attested"},
		{name: "claimed is not attested", accepts: []Level{Intact, Claimed}, why: "its signature shows", option: "intact,claimed,attested"},
		{name: "not on offer", modes: []fields.Mode{fields.Intact}, accepts: []Level{Intact, Attested}, why: "its signature shows"},
		{name: "not on offer, blind is", modes: []fields.Mode{fields.Intact, fields.Blind}, accepts: []Level{Intact, Attested, Blind}, want: Blind},
		{name: "tokens not offered", tokens: []string{"h2", "http/1.1"}, accepts: []Level{Intact, Attested}, why: "did not offer"},
		{name: "tokens not offered, attested alone", tokens: []string{"h2", "http/1.1"}, accepts: []Level{Attested}, why: "did not offer", option: "attested,intact"},
		{name: "a claim", origin: (*world).rsaOrigin, accepts: []Level{Claimed}, want: Claimed},
		{name: "a claim is not attested", origin: (*world).rsaOrigin, accepts: []Level{Attested}, why: "word alone", option: "attested,claimed"},
		{name: "a claim does not justify less than intact", origin: (*world).rsaOrigin, accepts: []Level{Intact, Claimed}, why: "word alone", option: "claimed"},
		{name: "signed, and nobody signs", accepts: []Level{Signed}, why: "did not sign", option: "signed,attested"},
		{name: "signed or attested, and nobody signs", accepts: []Level{Intact, Signed, Attested}, want: Attested},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			cfg := new(tls.Config)
			if tt.origin != nil {
				cfg = tt.origin(w)
			}
			sp := w.split(t, cfg)
			if tt.tokens != nil {
				sp.tokens = tt.tokens
			}
			if tt.modes != nil {
				w.modes = tt.modes
			}
			resp, body, err := tryGet(t, w.transport(accepting(tt.accepts...)), "https://origin.example/page")
			if tt.want == "" {
				wantLevelError(t, err, tt.why, tt.option)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if rep := ReportOf(resp); rep.Level != tt.want || string(body) != "hello" {
				t.Errorf("level %q, body %q", rep.Level, body)
			}
		})
	}
}

func (w *world) rsaOrigin() *tls.Config { return w.staticRSA(w.t) }

// spec: CLI-30
func TestSplitReport(t *testing.T) {
	w := newWorld(t)
	w.split(t, new(tls.Config))
	tr := w.transport(accepting(Attested))
	resp, body := get(t, tr, "https://origin.example/page?x=1")
	rep := ReportOf(resp)
	sum := sha256.Sum256(body)
	if rep.Level != Attested || rep.Status != 200 || rep.Bytes != 5 || rep.BodySHA256 != hex.EncodeToString(sum[:]) || rep.Inner != nil || rep.Signature != nil {
		t.Errorf("%+v", rep)
	}
	if ev := rep.Evidence; ev == nil || !ev.Verified || ev.Kind != "transcript" || ev.Authority != "origin.example:443" || ev.Hop.ALPN != "h2" {
		t.Errorf("evidence %+v", ev)
	}
	if len(rep.Proxies) != 1 || rep.Proxy == nil || len(rep.EvidenceBytes) == 0 || len(rep.Hops) != 1 {
		t.Errorf("proxies %v, %d bytes of evidence, hops %v", rep.Proxies, len(rep.EvidenceBytes), rep.Hops)
	}
	if resp.TLS != nil || resp.Header.Get(fields.EvidenceID) != "" || resp.ProtoMajor != 2 {
		t.Errorf("%+v", resp)
	}
}

// spec: CLI-31
func TestNothingIsSentOnATunnelThatTheUserDoesNotAccept(t *testing.T) {
	w := newWorld(t)
	_, _, err := tryGet(t, w.transport(accepting(Attested)), "https://origin.example/")
	wantLevelError(t, err, "speaks inner sessions", "attested,intact")
	if w.took() != 0 {
		t.Error("a request reached the origin")
	}
	resp, _ := get(t, w.transport(accepting(Attested, Blind)), "https://origin.example/")
	if l := ReportOf(resp).Level; l != Blind {
		t.Errorf("level %s, want blind, which is accepted", l)
	}
}

// spec: CLI-31
func TestATunnelThatTheUserDoesNotAcceptIsReset(t *testing.T) {
	w := newWorld(t)
	ended := make(chan error, 1)
	w.answer = func(in hop.Incoming, req *hop.Request) bool {
		stream, err := in.Accept(&hop.Response{Status: http.StatusOK})
		if err != nil {
			ended <- err
			return true
		}
		n, err := io.Copy(io.Discard, hop.NewConn(stream))
		if n > 0 {
			t.Errorf("%d bytes were sent through it", n)
		}
		ended <- err
		return true
	}
	_, _, err := tryGet(t, w.transport(accepting(Attested)), "https://origin.example/")
	wantLevelError(t, err, "speaks inner sessions", "attested,intact")
	select {
	case err := <-ended:
		var reset *hop.ResetError
		if !errors.As(err, &reset) || reset.Code != hop.Cancel {
			t.Errorf("the tunnel ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the tunnel is open still")
	}
}

// spec: CLI-34
func TestAResponseHasToNameItsEvidence(t *testing.T) {
	w := newWorld(t)
	sp := w.split(t, new(tls.Config))
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set(fields.EvidenceID, fields.FormatEvidenceID([32]byte{1}))
	})
	tr := w.transport(accepting(Attested))
	_, _, err := tryGet(t, tr, "https://origin.example/")
	wantIntegrity(t, err, "evidence of its request")
	sp.onHead = func(ans hop.Answering, _ [32]byte, resp *http.Response) bool {
		ans.Respond(&hop.Response{Status: 200}, true)
		return true
	}
	_, _, err = tryGet(t, tr, "https://origin.example/")
	var proxy *UnreachableError
	if !errors.As(err, &proxy) || proxy.Party != PartyProxy || proxy.Status != 200 {
		t.Errorf("%v: an answer of the proxy's own passes for the origin's", err)
	}
}

func TestAnswersOfTheProxyItselfInSplit(t *testing.T) {
	w := newWorld(t)
	sp := w.split(t, new(tls.Config))
	sp.refuse = func(*hop.Request) *hop.Response {
		return &hop.Response{Status: http.StatusForbidden, Header: http.Header{"Proxy-Status": {fields.ProxyStatus{Proxy: proxyName, Error: fields.ErrorHTTPRequestDenied}.String()}}}
	}
	_, _, err := tryGet(t, w.transport(accepting(Attested)), "https://origin.example/")
	var refused *UnreachableError
	if !errors.As(err, &refused) || refused.Party != PartyProxy || refused.Status != http.StatusForbidden || refused.Report == nil {
		t.Errorf("%v", err)
	}
}

// spec: CLI-13 CLI-35
func TestKillInSplit(t *testing.T) {
	sign := func(w *world, nonce [32]byte) []byte {
		signed, err := verdict.Sign(&w.proxy, &frames.VerdictTBS{
			Nonce: nonce, Authority: "origin.example:443", Time: time.Now(), Direction: frames.ToClient,
			Reason: frames.ReasonInspector, Rule: "no-secrets", Detail: "the page has a secret in it",
		})
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	check := func(t *testing.T, err error, verified bool) {
		t.Helper()
		var killed *KilledError
		if !errors.As(err, &killed) || killed.SignatureVerified != verified || killed.Report.Killed == nil {
			t.Fatalf("%v", err)
		}
		if verified && (killed.Rule != "no-secrets" || killed.Reason != "the page has a secret in it") {
			t.Errorf("%+v", killed)
		}
	}
	t.Run("before the head", func(t *testing.T) {
		w := newWorld(t)
		sp := w.split(t, new(tls.Config))
		sp.onAsk = func(ans hop.Answering, nonce [32]byte) bool { ans.Kill(sign(w, nonce)); return true }
		_, _, err := tryGet(t, w.transport(accepting(Attested)), "https://origin.example/")
		check(t, err, true)
	})
	t.Run("behind the head", func(t *testing.T) {
		w := newWorld(t)
		sp := w.split(t, new(tls.Config))
		passed := make(chan struct{})
		sp.onHead = func(ans hop.Answering, nonce [32]byte, resp *http.Response) bool {
			ans.Respond(&hop.Response{Status: 200, Header: http.Header{fields.EvidenceID: {sp.asks[0].Get(fields.EvidenceID)}}}, false)
			<-passed
			ans.Kill(sign(w, nonce))
			return true
		}
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://origin.example/", nil)
		resp, err := w.transport(accepting(Attested)).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		close(passed)
		_, err = io.ReadAll(resp.Body)
		check(t, err, true)
		resp.Body.Close()
	})
	t.Run("with the verdict of another request", func(t *testing.T) {
		w := newWorld(t)
		sp := w.split(t, new(tls.Config))
		sp.onAsk = func(ans hop.Answering, nonce [32]byte) bool { ans.Kill(sign(w, [32]byte{1})); return true }
		_, _, err := tryGet(t, w.transport(accepting(Attested)), "https://origin.example/")
		check(t, err, false)
	})
}

// spec: CLI-35
func TestACutResponseIsNotWhole(t *testing.T) {
	w := newWorld(t)
	w.split(t, new(tls.Config))
	begun := make(chan struct{})
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		io.WriteString(rw, "part")
		rw.(http.Flusher).Flush()
		<-begun
		panic(http.ErrAbortHandler)
	})
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://origin.example/", nil)
	resp, err := w.transport(accepting(Attested)).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	close(begun)
	body, err := io.ReadAll(resp.Body)
	wantIntegrity(t, err, "cut")
	if !strings.HasPrefix("part", string(body)) {
		t.Errorf("body %q", body)
	}
	if _, again := io.ReadAll(resp.Body); again == nil {
		t.Error("the error is forgotten")
	}
}

// spec: CLI-5 CLI-20
func TestCredentialsStayBackInSplit(t *testing.T) {
	w := newWorld(t)
	sp := w.split(t, new(tls.Config))
	for _, levels := range [][]Level{{Attested}, {Attested, Blind}} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://origin.example/", nil)
		req.Header.Set("Authorization", "Bearer x")
		_, _, err := do(w.transport(accepting(levels...)), req)
		wantTrust(t, err, PartyCredentials)
		if len(sp.asks) != 0 {
			t.Fatal("it left")
		}
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://origin.example/", nil)
	req.Header["Cookie"] = []string{"a=1", "b=2"}
	if _, _, err := do(w.transport(func(tr *Transport) {
		tr.Levels, tr.Consent = []Level{Attested}, Once{Credentials: true}
	}), req); err != nil {
		t.Error(err)
	}
	if got := sp.asks[0].Values("Cookie"); len(got) != 1 || got[0] != "a=1; b=2" {
		t.Errorf("cookies %q", got)
	}
}

// spec: CLI-21
func TestConsentThatEndsCutsAnExchangeInSplit(t *testing.T) {
	w := newWorld(t)
	w.split(t, new(tls.Config))
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		io.WriteString(rw, "begin")
		rw.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	ends, revoke := context.WithCancelCause(t.Context())
	revoked := errors.New("revoked")
	var asked atomic.Int32
	tr := w.transport(func(tr *Transport) {
		tr.Levels = []Level{Attested}
		tr.Consent = ConsentFunc(func(context.Context, *ConsentRequest) (*Agreement, error) {
			asked.Add(1)
			return &Agreement{Ends: ends}, nil
		})
	})
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://origin.example/", nil)
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	revoke(revoked)
	_, err = io.ReadAll(resp.Body)
	wantTrust(t, err, PartyConsent)
	if !errors.Is(err, revoked) || asked.Load() != 1 {
		t.Errorf("%v, asked %d times", err, asked.Load())
	}
}

// spec: CLI-3
func TestEachRequestInSplitIsAskedFor(t *testing.T) {
	w := newWorld(t)
	w.split(t, new(tls.Config))
	var asked atomic.Int32
	tr := w.transport(func(tr *Transport) {
		tr.Levels = []Level{Attested}
		tr.Consent = ConsentFunc(func(context.Context, *ConsentRequest) (*Agreement, error) {
			if asked.Add(1) > 2 {
				return nil, errors.New("no more")
			}
			return &Agreement{}, nil
		})
	})
	get(t, tr, "https://origin.example/")
	get(t, tr, "https://origin.example/")
	_, _, err := tryGet(t, tr, "https://origin.example/")
	wantTrust(t, err, PartyConsent)
	if w.took() != 2 {
		t.Error("a request left without consent")
	}
}

func TestContextsEndExchangesInSplit(t *testing.T) {
	w := newWorld(t)
	w.split(t, new(tls.Config))
	entered := make(chan struct{}, 1)
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			rw.(http.Flusher).Flush()
		}
		entered <- struct{}{}
		<-r.Context().Done()
	})
	tr := w.transport(accepting(Attested))
	mine := errors.New("mine")
	for _, path := range []string{"/head", "/body"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://origin.example"+path, nil)
		go func() { <-entered; cancel(mine) }()
		_, _, err := do(tr, req)
		if !errors.Is(err, mine) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", path, err)
		}
	}
	late := w.transport(func(tr *Transport) { tr.Levels, tr.ResponseTimeout = []Level{Attested}, time.Millisecond })
	_, _, err := tryGet(t, late, "https://origin.example/head")
	var u *UnreachableError
	if !errors.As(err, &u) || u.Party != PartyOrigin || !errors.Is(err, errLate) {
		t.Errorf("%v", err)
	}
}

func TestCloseEndsExchangesInSplit(t *testing.T) {
	w := newWorld(t)
	w.split(t, new(tls.Config))
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	tr := w.transport(accepting(Attested))
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://origin.example/", nil)
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	tr.Close()
	if wait := time.Since(begun); wait > closeTimeout/2 {
		t.Errorf("Close waited %v for an exchange that it ends", wait)
	}
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, ErrClosed) {
		t.Errorf("%v, want ErrClosed", err)
	}
	resp.Body.Close()
}

func TestRequestsThatSplitDoesNotCarry(t *testing.T) {
	w := newWorld(t)
	sp := w.split(t, new(tls.Config))
	tr := w.transport(accepting(Attested))
	for name, set := range map[string]func(r *http.Request){
		"another protocol": func(r *http.Request) { r.Header.Set("Upgrade", "websocket") },
		"Host":             func(r *http.Request) { r.Host = "other.example" },
	} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://origin.example/", nil)
		set(req)
		if _, _, err := do(tr, req); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(sp.asks) != 0 {
		t.Error("it left")
	}
}

// spec: CLI-21 CLI-22
func TestConsentThatEndsClosesAHop1ThatHasOnlyEvidence(t *testing.T) {
	w := newWorld(t)
	w.split(t, new(tls.Config))
	ends, revoke := context.WithCancel(t.Context())
	tr := w.transport(func(tr *Transport) {
		tr.Levels = []Level{Attested}
		tr.Consent = ConsentFunc(func(context.Context, *ConsentRequest) (*Agreement, error) { return &Agreement{Ends: ends}, nil })
	})
	get(t, tr, "https://origin.example/")
	w.mu.Lock()
	front := w.fronts[0]
	w.mu.Unlock()
	revoke()
	<-front.Done()
}

func TestMaxTunnelsCountsExchangesWithoutOne(t *testing.T) {
	w := newWorld(t)
	w.split(t, new(tls.Config))
	var inside, most atomic.Int32
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		n := inside.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		io.WriteString(rw, "hello")
		inside.Add(-1)
	})
	tr := w.transport(func(tr *Transport) { tr.Levels, tr.MaxTunnels = []Level{Attested}, 2 })
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, _, err := tryGet(t, tr, "https://origin.example/"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most.Load() > 2 {
		t.Errorf("%d at once", most.Load())
	}
}

func TestReadingBehindCloseInSplit(t *testing.T) {
	w := newWorld(t)
	w.split(t, new(tls.Config))
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { io.CopyN(rw, new(counter), 1<<20) })
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://origin.example/", nil)
	tr := w.transport(accepting(Attested))
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if _, err := resp.Body.Read(make([]byte, 1)); err != http.ErrBodyReadAfterClose {
		t.Errorf("%v", err)
	}
	if rep := ReportOf(resp); rep.Error != "" || rep.BodySHA256 == "" {
		t.Errorf("%+v", rep)
	}
	get(t, tr, "https://origin.example/")
}

// spec: CLI-19
func TestAttestedAfterIntactNeedsTheUser(t *testing.T) {
	w := newWorld(t)
	shared := new(memory)
	set := func(tr *Transport) { tr.Levels, tr.Memory = []Level{Intact, Attested}, shared }
	get(t, w.transport(set), "https://origin.example/")
	if l, ok := shared.Reached("origin.example:443"); !ok || l != Intact {
		t.Fatal("not remembered")
	}
	w.split(t, new(tls.Config))
	tr := w.transport(set)
	_, _, err := tryGet(t, tr, "https://origin.example/")
	wantLevelError(t, err, "intact before", "attested")
	tr.Forget("origin.example")
	if _, ok := shared.Reached("origin.example:443"); !ok {
		t.Error("forgotten under another name")
	}
	tr.Forget("origin.example:443")
	resp, _ := get(t, tr, "https://origin.example/")
	if l := ReportOf(resp).Level; l != Attested {
		t.Error(l)
	}
}

func TestAProxyWithoutRequests(t *testing.T) {
	// Its 470 offers what the carrier cannot do: the request is answered as any other that it does not take.
	w := newWorld(t)
	w.stock, w.modes = true, []fields.Mode{fields.Split}
	_, _, err := tryGet(t, w.transport(accepting(Attested)), "https://origin.example/")
	var u *UnreachableError
	if !errors.As(err, &u) || u.Party != PartyProxy {
		t.Errorf("%v", err)
	}
}
