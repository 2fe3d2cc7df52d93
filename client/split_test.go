package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
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

func TestSplitRoutesAreReused(t *testing.T) {
	for _, proto := range []string{"h2", "http/1.1"} {
		t.Run(proto, func(t *testing.T) {
			w := newWorld(t)
			sp := w.split(t, &tls.Config{NextProtos: []string{proto}})
			tr := w.transport(accepting(Intact, Attested))
			for range 3 {
				get(t, tr, "https://origin.example/")
			}
			if n := sp.dialled(); n != 1 {
				t.Errorf("%d connections for three requests", n)
			}
			seen := make(map[string]bool)
			for _, h := range sp.asks {
				seen[h.Get(fields.EvidenceRequest)] = true
			}
			if len(seen) != 3 {
				t.Errorf("%d nonces for three requests", len(seen))
			}
		})
	}
}

// spec: CLI-32
func TestHTTP1CarriesOneExchangeAtATime(t *testing.T) {
	w := newWorld(t)
	sp := w.split(t, &tls.Config{NextProtos: []string{"http/1.1"}})
	var inside atomic.Int32
	both := make(chan struct{})
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if inside.Add(1) == 2 {
			close(both)
		}
		<-both
		io.WriteString(rw, "hello")
	})
	tr := w.transport(accepting(Attested))
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if _, _, err := tryGet(t, tr, "https://origin.example/"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := sp.dialled(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// spec: CLI-33 CLI-39
func TestEvidenceOfAnotherConnectionIsVerifiedAndTheRequestSentAgain(t *testing.T) {
	for _, proto := range []string{"h2", "http/1.1"} {
		t.Run(proto, func(t *testing.T) {
			w := newWorld(t)
			sp := w.split(t, &tls.Config{NextProtos: []string{proto}})
			w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { io.Copy(rw, r.Body) })
			tr := w.transport(accepting(Attested))
			get(t, tr, "https://origin.example/")
			sp.lose()
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://origin.example/", strings.NewReader("again"))
			resp, body, err := do(tr, req)
			if err != nil || string(body) != "again" {
				t.Fatalf("%q, %v", body, err)
			}
			if sp.dialled() != 2 || len(sp.asks) != 3 {
				t.Errorf("%d connections, %d requests", sp.dialled(), len(sp.asks))
			}
			if ReportOf(resp).Evidence == nil || !ReportOf(resp).Evidence.Verified {
				t.Error("not the new evidence")
			}
			// A body that can be had once is not sent in part.
			sp.lose()
			req, _ = http.NewRequestWithContext(t.Context(), http.MethodPost, "https://origin.example/", io.MultiReader(strings.NewReader("once")))
			_, _, err = do(tr, req)
			var gone *UnreachableError
			if !errors.As(err, &gone) || gone.Status != frames.StatusInspectionRequired || w.took() != 2 {
				t.Errorf("%v, and %d requests at the origin", err, w.took())
			}
		})
	}
}

// spec: CLI-39
func TestABodyOfOneUseIsSentAgainWhenNothingOfItWasRead(t *testing.T) {
	w := newWorld(t)
	sp := w.split(t, new(tls.Config))
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { io.Copy(rw, r.Body) })
	tr := w.transport(accepting(Attested))
	get(t, tr, "https://origin.example/")
	sp.lose()
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://origin.example/", io.MultiReader(strings.NewReader("once")))
	req.Header.Set("Expect", "100-continue")
	_, body, err := do(tr, req)
	if err != nil || string(body) != "once" {
		t.Errorf("%q, %v", body, err)
	}
}

// spec: CLI-33
func TestAProxyThatAlwaysHasOtherEvidence(t *testing.T) {
	w := newWorld(t)
	sp := w.split(t, new(tls.Config))
	tr := w.transport(accepting(Attested))
	get(t, tr, "https://origin.example/")
	before := len(sp.asks)
	sp.evidence = func(raw []byte) []byte {
		sp.lose()
		return raw
	}
	sp.lose()
	_, _, err := tryGet(t, tr, "https://origin.example/")
	var gone *UnreachableError
	if !errors.As(err, &gone) || len(sp.asks)-before != maxSplitSends {
		t.Errorf("%v after %d requests", err, len(sp.asks)-before)
	}
}

// spec: CLI-33
func TestNewEvidenceHasToHold(t *testing.T) {
	for _, tt := range []struct {
		name string
		lie  func(sp *splitter, first []byte)
		want func(t *testing.T, err error)
	}{
		{"altered", func(sp *splitter, _ []byte) {
			sp.evidence = func(raw []byte) []byte {
				raw[len(raw)-1] ^= 1
				return raw
			}
		}, func(t *testing.T, err error) { wantIntegrity(t, err, "evidence") }},
		{"replayed", func(sp *splitter, first []byte) {
			sp.evidence = func([]byte) []byte { return first }
		}, func(t *testing.T, err error) { wantIntegrity(t, err, "evidence") }},
		{"without the tokens", func(sp *splitter, _ []byte) { sp.tokens = []string{"h2"} }, func(t *testing.T, err error) {
			wantLevelError(t, err, "did not offer", "attested,intact")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			sp := w.split(t, new(tls.Config))
			tr := w.transport(accepting(Attested))
			resp, _ := get(t, tr, "https://origin.example/")
			tt.lie(sp, ReportOf(resp).EvidenceBytes)
			sp.lose()
			_, _, err := tryGet(t, tr, "https://origin.example/")
			tt.want(t, err)
			if w.took() != 1 {
				t.Error("a request reached the origin")
			}
		})
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

func TestHeadsTrailersAndInterimResponsesPass(t *testing.T) {
	w := newWorld(t)
	w.split(t, new(tls.Config))
	var got *http.Request
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		got = r
		rw.Header().Set("Link", "</s.css>; rel=preload")
		rw.WriteHeader(http.StatusEarlyHints)
		rw.Header().Set("Trailer", "X-Sum")
		p, _ := io.ReadAll(r.Body)
		rw.Write(p)
		rw.Header().Set("X-Sum", fmt.Sprint(len(p)))
	})
	var early []int
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, _ textproto.MIMEHeader) error { early = append(early, code); return nil },
	})
	req, _ := http.NewRequestWithContext(ctx, http.MethodPut, "https://origin.example:443/a%2Fb?q=%20", io.MultiReader(strings.NewReader("content")))
	req.Trailer = http.Header{"X-After": {"said"}}
	req.Header = http.Header{
		"Accept": {"text/html", "*/*"}, "Connection": {"X-Hop"}, "X-Hop": {"1"}, "X-End": {"2"}, "Te": {"trailers, gzip"},
		"Keep-Alive": {"5"}, "User-Agent": {""}, "Evidence-Id": {"mine"},
	}
	resp, body, err := do(w.transport(accepting(Attested)), req)
	if err != nil {
		t.Fatal(err)
	}
	if string(body) != "content" || resp.Trailer.Get("X-Sum") != "7" || !slices.Equal(early, []int{103}) {
		t.Errorf("body %q, trailer %v, interim %v", body, resp.Trailer, early)
	}
	if got.Host != "origin.example" || got.RequestURI != "/a%2Fb?q=%20" || got.Trailer.Get("X-After") != "said" {
		t.Errorf("host %q, target %q, trailer %v", got.Host, got.RequestURI, got.Trailer)
	}
	if h := got.Header; h.Get("X-Hop") != "" || h.Get("X-End") != "2" || len(h["Accept"]) != 2 || h["User-Agent"] != nil || h.Get(fields.EvidenceID) != "" || h.Get(fields.EvidenceRequest) == "" {
		t.Errorf("%v", h)
	}
}

func TestExpectContinueInSplit(t *testing.T) {
	for _, wants := range []bool{true, false} {
		w := newWorld(t)
		w.split(t, new(tls.Config))
		w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if !wants {
				rw.WriteHeader(http.StatusRequestEntityTooLarge)
				return
			}
			io.Copy(rw, r.Body)
		})
		body := &countingReader{r: strings.NewReader("content")}
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, "https://origin.example/", body)
		req.Header.Set("Expect", "100-continue")
		resp, got, err := do(w.transport(accepting(Attested)), req)
		if err != nil {
			t.Fatal(err)
		}
		if wants && string(got) != "content" || !wants && (resp.StatusCode != 413 || body.reads.Load() != 0) {
			t.Errorf("wanted %v: %d, %q, %d reads", wants, resp.StatusCode, got, body.reads.Load())
		}
	}
}

type countingReader struct {
	r     io.Reader
	reads atomic.Int32
}

func (c *countingReader) Read(p []byte) (int, error) {
	c.reads.Add(1)
	return c.r.Read(p)
}

func TestResponsesWithoutContent(t *testing.T) {
	w := newWorld(t)
	w.split(t, new(tls.Config))
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			rw.WriteHeader(204)
		case "/304":
			rw.WriteHeader(304)
		case "/head":
			rw.Header().Set("Content-Length", "1000")
		case "/zero":
			rw.Header().Set("Content-Length", "0")
		}
	})
	tr := w.transport(accepting(Attested))
	for path, method := range map[string]string{"/204": "GET", "/304": "GET", "/head": "HEAD", "/zero": "POST"} {
		req, _ := http.NewRequestWithContext(t.Context(), method, "https://origin.example"+path, nil)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(path, err)
		}
		if resp.Body != http.NoBody || ReportOf(resp).Status != resp.StatusCode || path == "/head" && resp.ContentLength != 1000 {
			t.Errorf("%s: %v", path, resp)
		}
	}
	tr.pool.mu.Lock()
	defer tr.pool.mu.Unlock()
	if len(tr.pool.splits) != 0 || tr.pool.slots != 0 {
		t.Errorf("%d exchanges and %d slots are left", len(tr.pool.splits), tr.pool.slots)
	}
}

func TestLargeBodiesStreamBothWays(t *testing.T) {
	w := newWorld(t)
	w.split(t, new(tls.Config))
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.(http.Flusher).Flush()
		io.Copy(rw, r.Body)
	})
	const size = 20 << 20
	sum := sha256.New()
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://origin.example/", io.TeeReader(io.LimitReader(new(counter), size), sum))
	resp, err := w.transport(accepting(Attested)).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil || n != size || ReportOf(resp).BodySHA256 != hex.EncodeToString(sum.Sum(nil)) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// A counter is an endless stream that does not repeat soon.
type counter struct{ n byte }

func (c *counter) Read(p []byte) (int, error) {
	for i := range p {
		c.n += 7
		p[i] = c.n ^ byte(i>>8)
	}
	return len(p), nil
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
	if got := sp.asks[0]["cookie"]; len(got) == 0 {
		got = sp.asks[0]["Cookie"]
		if len(got) != 1 || got[0] != "a=1; b=2" {
			t.Errorf("cookies %q", got)
		}
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

func TestAnEarlyAnswerEndsTheUpload(t *testing.T) {
	w := newWorld(t)
	w.split(t, new(tls.Config))
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { http.Error(rw, "no", http.StatusForbidden) })
	pr, pw := io.Pipe()
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://origin.example/", pr)
	go pw.Write([]byte("some"))
	resp, body, err := do(w.transport(accepting(Attested)), req)
	if err != nil || resp.StatusCode != http.StatusForbidden || string(body) != "no\n" {
		t.Fatalf("%v, %q", err, body)
	}
	if _, err := pw.Write(bytes.Repeat([]byte("x"), 1<<20)); err == nil {
		t.Error("the request's body was not closed")
	}
}

func TestRequestBodiesThatFailOrLieEndTheExchange(t *testing.T) {
	w := newWorld(t)
	w.split(t, new(tls.Config))
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	tr := w.transport(accepting(Attested))
	broken := errors.New("the disk is gone")
	for _, tt := range []struct {
		body   io.Reader
		length int64
		want   string
	}{
		{io.MultiReader(strings.NewReader("some"), errReader{broken}), 0, broken.Error()},
		{io.MultiReader(strings.NewReader("short")), 10, "ContentLength 10"},
		{io.MultiReader(strings.NewReader("rather long")), 3, "ContentLength 3"},
	} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://origin.example/", tt.body)
		req.ContentLength = tt.length
		if _, _, err := do(tr, req); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
	get(t, tr, "https://origin.example/")
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

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

// spec: CLI-36
func TestEvidenceGrowsOld(t *testing.T) {
	w := newWorld(t)
	sp := w.split(t, new(tls.Config))
	var later atomic.Int64
	tr := w.transport(func(tr *Transport) {
		tr.Levels = []Level{Attested}
		tr.Time = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	})
	s := func() *routes {
		h := &tr.pool.dialer.hop1
		h.mu.Lock()
		defer h.mu.Unlock()
		return &h.current.routes
	}
	get(t, tr, "https://origin.example/")
	if r := s().take("origin.example:443", time.Now().Add(maxRouteIdle)); r != nil {
		t.Error("a connection that is idle for long is still used")
	}
	get(t, tr, "https://origin.example/")
	r := s().take("origin.example:443", time.Now())
	if r == nil {
		t.Fatal("no route")
	}
	if s().take("origin.example:443", time.Now().Add(maxRouteAge)) != nil {
		t.Error("evidence of ten minutes ago is still used, by a connection that is busy")
	}
	if sp.dialled() != 2 {
		t.Errorf("%d connections", sp.dialled())
	}
}

// spec: CLI-36
func TestEvidenceServesItsOwnHop1Alone(t *testing.T) {
	w := newWorld(t)
	sp := w.split(t, new(tls.Config))
	tr := w.transport(accepting(Attested))
	first, _ := get(t, tr, "https://origin.example/")
	w.mu.Lock()
	front := w.fronts[0]
	w.mu.Unlock()
	go front.Drain(t.Context())
	<-front.Done()
	second, _ := get(t, tr, "https://origin.example/")
	if w.dialled() != 2 || sp.dialled() != 2 {
		t.Errorf("%d times hop 1, %d times hop 2", w.dialled(), sp.dialled())
	}
	if bytes.Equal(ReportOf(first).EvidenceBytes, ReportOf(second).EvidenceBytes) {
		t.Error("the evidence of the first hop 1 is that of a request on the second")
	}
}

// A proxy that says goodbye has not taken what came after: the request goes to another hop 1.
func TestARequestThatCrossesAGoodbyeIsSentAgain(t *testing.T) {
	w := newWorld(t)
	w.split(t, new(tls.Config))
	hold := make(chan struct{})
	entered := make(chan struct{}, 1)
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			entered <- struct{}{}
			<-hold
		}
		io.Copy(rw, r.Body)
	})
	tr := w.transport(accepting(Attested))
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, _, err := tryGet(t, tr, "https://origin.example/held"); err != nil {
			t.Error("an exchange under way: ", err)
		}
	})
	<-entered
	w.mu.Lock()
	front := w.fronts[0]
	w.mu.Unlock()
	wg.Go(func() { front.Drain(t.Context()) })
	for range 3 { // the first may cross the GOAWAY
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://origin.example/", io.MultiReader(strings.NewReader("once")))
		if _, body, err := do(tr, req); err != nil || string(body) != "once" {
			t.Errorf("%q, %v", body, err)
		}
	}
	close(hold)
	wg.Wait()
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

func TestRoutesAreBounded(t *testing.T) {
	var rs routes
	d := new(Dialer)
	a := &attempt{agreement: new(Agreement)}
	for i := range maxRoutes + 10 {
		rs.release(rs.add(d, a, &route{authority: fmt.Sprint(i), at: time.Now()}), time.Now())
	}
	if len(rs.list) != maxRoutes || rs.list[0].authority != "10" {
		t.Errorf("%d routes, the first to %s", len(rs.list), rs.list[0].authority)
	}
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

// spec: CLI-37
func TestChoose(t *testing.T) {
	var offers []*Offer
	answer := Level("")
	var fail error
	choosing := func(w *world, levels ...Level) *Transport {
		return w.transport(func(tr *Transport) {
			tr.Levels = levels
			tr.Choose = func(_ context.Context, o *Offer) (Level, error) {
				offers = append(offers, o)
				return answer, fail
			}
		})
	}
	fetch := func(t *testing.T, tr *Transport) (Level, error) {
		t.Helper()
		resp, _, err := tryGet(t, tr, "https://origin.example/")
		if err != nil {
			return "", err
		}
		return ReportOf(resp).Level, nil
	}
	names := func(o *Offer) (l []Level) {
		for _, c := range o.Choices {
			if !strings.Contains(c.Words, proxyName) {
				t.Errorf("%s: %q", c.Level, c.Words)
			}
			l = append(l, c.Level)
		}
		return l
	}

	t.Run("attested or blind", func(t *testing.T) {
		w := newWorld(t)
		sp := w.split(t, new(tls.Config))
		w.modes = []fields.Mode{fields.Intact, fields.Split, fields.Blind}
		tr := choosing(w, Intact)
		offers, answer = nil, ""
		_, err := fetch(t, tr)
		wantLevelError(t, err, "its signature shows", "intact,blind")
		answer, fail = Attested, errors.New("asked and left")
		_, err = fetch(t, tr)
		if !errors.Is(wantLevelError(t, err, "its signature shows", "intact,blind"), fail) {
			t.Error("why nobody chose is lost")
		}
		fail = nil
		for range 2 {
			if l, err := fetch(t, tr); err != nil || l != Attested {
				t.Fatalf("%s, %v", l, err)
			}
		}
		if len(offers) != 4 {
			t.Fatalf("%d questions", len(offers))
		}
		for _, o := range offers {
			if !o.Justified || o.Worked || o.Authority != "origin.example:443" || o.ProxyName != proxyName || o.Evidence == nil || !slices.Equal(names(o), []Level{Blind, Attested}) {
				t.Errorf("%+v", o)
			}
		}
		if n := sp.dialled(); n != 3 {
			t.Errorf("%d connections: the fourth question needs none", n)
		}
		answer = Blind
		if l, err := fetch(t, tr); err != nil || l != Blind {
			t.Errorf("%s, %v", l, err)
		}
		answer = ""
		if _, err := fetch(t, tr); err == nil {
			t.Error("blind, which was chosen once, was used again")
		}
		answer = Claimed
		if _, err := fetch(t, tr); err == nil || !strings.Contains(err.Error(), "not on offer") {
			t.Error(err)
		}
	})
	t.Run("claimed", func(t *testing.T) {
		w := newWorld(t)
		w.split(t, w.rsaOrigin())
		offers, answer = nil, Claimed
		if l, err := fetch(t, choosing(w, Intact)); err != nil || l != Claimed {
			t.Errorf("%s, %v", l, err)
		}
		if o := offers[0]; o.Justified || !slices.Equal(names(o), []Level{Claimed}) {
			t.Errorf("%+v", o)
		}
	})
	t.Run("nothing on offer", func(t *testing.T) {
		w := newWorld(t)
		sp := w.split(t, new(tls.Config))
		sp.tokens = []string{"h2"}
		offers = nil
		_, err := fetch(t, choosing(w, Intact))
		wantLevelError(t, err, "did not offer", "")
		if len(offers) != 0 {
			t.Error("the user was asked to choose among nothing")
		}
	})
	t.Run("it worked before", func(t *testing.T) {
		w := newWorld(t)
		tr := choosing(w, Intact)
		offers, answer = nil, Attested
		get(t, tr, "https://origin.example/")
		w.split(t, new(tls.Config))
		tr.CloseIdleConnections()
		if l, err := fetch(t, tr); err != nil || l != Attested || !offers[0].Worked {
			t.Errorf("%s, %v, %+v", l, err, offers)
		}
		if l, err := fetch(t, tr); err != nil || l != Attested || len(offers) != 2 || !offers[1].Worked {
			t.Errorf("%s, %v, %d questions", l, err, len(offers))
		}
	})
	t.Run("a Dialer has tunnels only", func(t *testing.T) {
		w := newWorld(t)
		w.split(t, new(tls.Config))
		d := &Dialer{
			Proxy: "https://" + proxyName + ":8443", ProxyRoots: w.proxies.Pool().CertPool, Roots: w.origins.Pool().CertPool,
			Consent: Once{}, NetDial: w.netDial, Levels: []Level{Intact, Attested},
			Choose: func(context.Context, *Offer) (Level, error) { t.Error("asked"); return "", nil },
		}
		defer d.Close()
		_, err := d.DialTunnel(t.Context(), "origin.example:443")
		wantLevelError(t, err, "its signature shows", "")
	})
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
