package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/internal/evidence"
	"vitrine/internal/hop"
	"vitrine/internal/tlsmsg"
)

func get(t *testing.T, tr *Transport, url string) (*http.Response, []byte) {
	t.Helper()
	resp, body, err := tryGet(t, tr, url)
	if err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
	return resp, body
}

// tryGet returns the error of the request or of its body.
func tryGet(t *testing.T, tr *Transport, url string) (*http.Response, []byte, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(tr, req)
}

func do(rt http.RoundTripper, req *http.Request) (*http.Response, []byte, error) {
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

// spec: CLI-1 CLI-12
func TestFetchAtIntactIsConfirmedAndReported(t *testing.T) {
	w := newWorld(t)
	tr := w.transport(nil)
	resp, body := get(t, tr, "https://origin.example/page")
	if string(body) != "hello" {
		t.Fatalf("body %q", body)
	}
	if resp.TLS == nil || resp.TLS.CipherSuite != 0xC0B4 {
		t.Errorf("resp.TLS = %+v, want the inner session's state", resp.TLS)
	}
	r := ReportOf(resp)
	if r == nil {
		t.Fatal("no report")
	}
	if len(r.EvidenceBytes) == 0 || r.Proxy == nil || len(r.Chains) == 0 {
		t.Error("evidence, proxy or chains are missing from the report")
	}
	got, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("hello"))
	want := `{"level":"intact","status":200,"exit":0,"body_sha256":"` + hex.EncodeToString(sum[:]) + `","bytes":5,` +
		`"proxies":[{"subject":"CN=proxy.example","spki_sha256":"` + spki(w.proxy.Leaf) + `","leaf_sha256":"` + r.Proxies[0].Leaf + `"}],` +
		`"hops":[{"version":"TLS 1.3","suite":"TLS_AES_128_GCM_SHA256","group":"X25519MLKEM768","alpn":"itls-h2/1"}],` +
		`"evidence":{"kind":"authenticator","authority":"origin.example:443","nonce":"` + r.Evidence.Nonce + `","verified":true,"origin_subject":"CN=origin.example",` +
		`"origin_spki_sha256":"` + spki(w.origin.Leaf) + `","hop":{"version":"TLS 1.3","suite":"TLS_AES_128_GCM_SHA256","group":"X25519MLKEM768","alpn":"itls-h2/1"}},` +
		`"inner":{"version":"TLS 1.3","suite":"TLS_SHA256_SHA256","group":"X25519","alpn":"http/1.1","resumed":false,"confirmed":true,` +
		`"peer_spki_sha256":"` + spki(w.origin.Leaf) + `"},"signature":null,"killed":null,"error":null}`
	if string(got) != want {
		t.Errorf("report\n%s\nwant\n%s", got, want)
	}
}

// What was saved of an exchange is enough to verify its evidence again.
func TestAReportHoldsWhatItsEvidenceAnswers(t *testing.T) {
	w := newWorld(t)
	tr := w.transport(nil)
	resp, _ := get(t, tr, "https://origin.example/page")
	r := ReportOf(resp)
	offer := &tlsmsg.InspectionOffer{Authority: r.Evidence.Authority, Proxies: make([][32]byte, 1)}
	decode := func(to []byte, from string) {
		if n, err := hex.Decode(to, []byte(from)); n != len(to) || err != nil {
			t.Fatalf("%q is not %d bytes: %v", from, len(to), err)
		}
	}
	decode(offer.Nonce[:], r.Evidence.Nonce)
	decode(offer.Proxies[0][:], r.Proxies[0].Leaf)
	e, err := evidence.Parse(r.EvidenceBytes)
	if err != nil {
		t.Fatal(err)
	}
	result, err := evidence.Recheck(e, offer, tr.Roots)
	if err != nil || result.Answer == nil || spki(result.Origin) != r.Evidence.OriginSPKI {
		t.Errorf("%+v, %v", result, err)
	}
}

func TestReportOfNothingIsNulls(t *testing.T) {
	got, err := json.Marshal(new(Report))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"level":null,"status":null,"exit":0,"body_sha256":null,"bytes":0,"proxies":[],"hops":[],"evidence":null,"inner":null,"signature":null,"killed":null,"error":null}`
	if string(got) != want {
		t.Errorf("report\n%s\nwant\n%s", got, want)
	}
	if ReportOf(nil) != nil || ReportOf(&http.Response{}) != nil || ReportOfError(errors.New("x")) != nil {
		t.Error("a report out of nowhere")
	}
}

func TestEvidenceInTheAlternativePlace(t *testing.T) {
	w := newWorld(t)
	tr := w.transport(func(tr *Transport) { tr.LateEvidence = true })
	resp, body := get(t, tr, "https://origin.example/")
	if r := ReportOf(resp); string(body) != "hello" || !r.Inner.Confirmed {
		t.Errorf("%q, report %+v", body, r)
	}
	w.stock = true
	_, _, err := tryGet(t, w.transport(func(tr *Transport) { tr.LateEvidence = true }), "https://origin.example/")
	var level *LevelError
	if !errors.As(err, &level) || level.Report.Evidence == nil || !level.Report.Evidence.Verified {
		t.Errorf("%v, want a LevelError with evidence", err)
	}
}

// A Body wrapper is lost under http.Client.Timeout; the report is not.
func TestReportSurvivesClientTimeout(t *testing.T) {
	w := newWorld(t)
	hc := &http.Client{Transport: w.transport(nil), Timeout: time.Minute}
	resp, err := hc.Get("https://origin.example/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	if r := ReportOf(resp); r == nil || r.Bytes != 5 {
		t.Errorf("report %+v", r)
	}
}

func TestTunnelIsReusedOneExchangeAtATime(t *testing.T) {
	w := newWorld(t)
	tr := w.transport(nil)
	for range 5 {
		get(t, tr, "https://origin.example/")
	}
	if n := w.opened(); n != 1 {
		t.Errorf("%d tunnels for 5 exchanges one after another, want 1", n)
	}
	const parallel = 8
	release := make(chan struct{})
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { <-release })
	var wg sync.WaitGroup
	for range parallel {
		wg.Go(func() {
			if _, _, err := tryGet(t, tr, "https://origin.example/"); err != nil {
				t.Error(err)
			}
		})
	}
	for range parallel + 5 {
		<-w.requests
	}
	close(release)
	wg.Wait()
	if n := w.opened(); n != parallel {
		t.Errorf("%d tunnels for %d exchanges at once, want one each", n, parallel)
	}
	if w.dialled() != 1 {
		t.Errorf("%d hop 1 connections, want 1", w.dialled())
	}
}

func TestMaxTunnelsMakesRequestsWait(t *testing.T) {
	w := newWorld(t)
	tr := w.transport(func(tr *Transport) { tr.MaxTunnels = 2 })
	var mu sync.Mutex
	busy, most := 0, 0
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		busy++
		most = max(most, busy)
		mu.Unlock()
		io.WriteString(rw, strings.Repeat("x", 10_000))
		mu.Lock()
		busy--
		mu.Unlock()
	})
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			host := []string{"origin.example", "second.example"}[i%2]
			if _, _, err := tryGet(t, tr, "https://"+host+"/"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most > 2 {
		t.Errorf("%d exchanges at once, want at most 2", most)
	}
}

func TestMessagesOfEveryShape(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	sink := func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		sum := sha256.Sum256(body)
		rw.Header().Set("X-Got", hex.EncodeToString(sum[:]))
		rw.Header().Set("X-Sent-Trailer", r.Trailer.Get("X-After"))
	}
	tests := []struct {
		name    string
		method  string
		body    io.Reader
		header  http.Header
		handler http.HandlerFunc
		want    []byte
		check   func(t *testing.T, resp *http.Response)
	}{
		{name: "empty body", handler: func(http.ResponseWriter, *http.Request) {}},
		{name: "one byte", handler: func(rw http.ResponseWriter, _ *http.Request) { rw.Write([]byte("x")) }, want: []byte("x")},
		{name: "large body with a length", want: big, handler: func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", "1048576")
			rw.Write(big)
		}},
		{name: "large chunked body", want: big, handler: func(rw http.ResponseWriter, _ *http.Request) {
			for p := range slices.Chunk(big, 70_000) {
				rw.Write(p)
				rw.(http.Flusher).Flush()
			}
		}},
		{name: "trailers", want: []byte("body"), handler: func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Trailer", "X-End")
			io.WriteString(rw, "body")
			rw.Header().Set("X-End", "yes")
		}, check: func(t *testing.T, resp *http.Response) {
			if resp.Trailer.Get("X-End") != "yes" {
				t.Errorf("trailer %v", resp.Trailer)
			}
		}},
		{name: "HEAD", method: http.MethodHead, handler: func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", "1000000")
		}, check: func(t *testing.T, resp *http.Response) {
			if resp.ContentLength != 1_000_000 {
				t.Errorf("length %d", resp.ContentLength)
			}
		}},
		{name: "204", handler: func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(204) }},
		{name: "304", handler: func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(304) }},
		{name: "request with a length", method: http.MethodPost, body: bytes.NewReader(big), handler: sink},
		{name: "request of unknown length", method: http.MethodPut, body: io.MultiReader(bytes.NewReader(big)), handler: sink},
		{name: "100-continue", method: http.MethodPost, body: bytes.NewReader(big), header: http.Header{"Expect": {"100-continue"}}, handler: sink},
	}
	w := newWorld(t)
	tr := w.transport(nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w.handler = tt.handler
			method := tt.method
			if method == "" {
				method = http.MethodGet
			}
			req, err := http.NewRequestWithContext(t.Context(), method, "https://origin.example/", tt.body)
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range tt.header {
				req.Header[k] = v
			}
			resp, body, err := do(tr, req)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(body, tt.want) {
				t.Errorf("%d bytes of body, want %d", len(body), len(tt.want))
			}
			sum := sha256.Sum256(tt.want)
			if r := ReportOf(resp); r.BodySHA256 != hex.EncodeToString(sum[:]) || r.Bytes != int64(len(tt.want)) || r.Status != resp.StatusCode {
				t.Errorf("report says %d bytes, %s, status %d", r.Bytes, r.BodySHA256, r.Status)
			}
			if tt.body != nil {
				sum := sha256.Sum256(big)
				if got := resp.Header.Get("X-Got"); got != hex.EncodeToString(sum[:]) {
					t.Errorf("the origin got another body: %s", got)
				}
			}
			if tt.check != nil {
				tt.check(t, resp)
			}
		})
	}
	if w.opened() != 1 {
		t.Errorf("%d tunnels, want 1: every message ended by its own framing", w.opened())
	}
}

func TestRequestTrailers(t *testing.T) {
	w := newWorld(t)
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(rw, r.Trailer.Get("X-After"))
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://origin.example/", io.MultiReader(strings.NewReader("body")))
	if err != nil {
		t.Fatal(err)
	}
	req.Trailer = http.Header{"X-After": {"seen"}}
	if _, body, err := do(w.transport(nil), req); err != nil || string(body) != "seen" {
		t.Errorf("%q, %v", body, err)
	}
}

func TestEventsFlowAtOnce(t *testing.T) {
	w := newWorld(t)
	next := make(chan struct{})
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream")
		for range 3 {
			io.WriteString(rw, "data: x\n\n")
			rw.(http.Flusher).Flush()
			<-next // the next event comes only after this one was read
		}
	})
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://origin.example/", nil)
	resp, err := w.transport(nil).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	buf := make([]byte, len("data: x\n\n"))
	for range 3 {
		if _, err := io.ReadFull(resp.Body, buf); err != nil {
			t.Fatal(err)
		}
		next <- struct{}{}
	}
}

func TestAuthoritiesOfEveryKind(t *testing.T) {
	for _, tt := range []struct{ url, authority, host string }{
		{"https://origin.example/", "origin.example:443", "origin.example"},
		{"https://ORIGIN.example:443/", "origin.example:443", "origin.example"},
		{"https://origin.example:8443/", "origin.example:8443", "origin.example:8443"},
		{"https://192.0.2.1/", "192.0.2.1:443", "192.0.2.1"},
		{"https://[2001:DB8::1]:444/", "[2001:db8::1]:444", "[2001:db8::1]:444"},
		{"https://[2001:db8:0:0::1]/", "[2001:db8::1]:443", "[2001:db8::1]"},
		{"https://bücher.example/", "xn--bcher-kva.example:443", "xn--bcher-kva.example"},
	} {
		t.Run(tt.authority, func(t *testing.T) {
			w := newWorld(t)
			w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { io.WriteString(rw, r.Host) })
			resp, body := get(t, w.transport(nil), tt.url)
			if string(body) != tt.host {
				t.Errorf("Host %q, want %q", body, tt.host)
			}
			if a := ReportOf(resp).Evidence.Authority; a != tt.authority {
				t.Errorf("authority %q, want %q", a, tt.authority)
			}
		})
	}
}

func TestURLsThatNoTunnelCarries(t *testing.T) {
	w := newWorld(t)
	tr := w.transport(nil)
	for _, u := range []string{"http://origin.example/", "ftp://origin.example/", "https://origin.example:99999/", "https://origin.example:0/", "https://[fe80::1%25eth0]/", "https://a_b!.example/"} {
		if _, _, err := tryGet(t, tr, u); err == nil {
			t.Errorf("GET %s succeeded", u)
		}
	}
	if w.opened() != 0 {
		t.Error("a tunnel was opened")
	}
}

func TestCancelledWhileWaitingForTheResponse(t *testing.T) {
	w := newWorld(t)
	gone := make(chan struct{})
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		close(gone)
	})
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://origin.example/", nil)
	go func() {
		<-w.requests
		cancel()
	}()
	if _, _, err := do(w.transport(nil), req); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
	<-gone // the origin learns of it
}

func TestCancelledWhileReadingTheBody(t *testing.T) {
	w := newWorld(t)
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		io.WriteString(rw, "first")
		rw.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://origin.example/", nil)
	resp, err := w.transport(nil).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	cancel()
	_, err = io.ReadAll(resp.Body)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
	var integrity *IntegrityError
	if errors.As(err, &integrity) {
		t.Error("the user's own cancel is no attack")
	}
	if r := ReportOf(resp); r.Bytes != 5 || r.Error == "" || r.BodySHA256 == "" {
		t.Errorf("report is not complete: %+v", r)
	}
}

func TestBodyClosedEarlyCompletesTheReport(t *testing.T) {
	w := newWorld(t)
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Write(make([]byte, 1<<20))
	})
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://origin.example/", nil)
	tr := w.transport(nil)
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if r := ReportOf(resp); r.Bytes != 10 || r.BodySHA256 == "" || r.Error != "" {
		t.Errorf("report %+v", r)
	}
	w.handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	get(t, tr, "https://origin.example/") // on a new tunnel: what is left of the old body must not answer
	if w.opened() != 2 {
		t.Errorf("%d tunnels, want 2", w.opened())
	}
}

func TestResponseTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		_, _, err := tryGet(t, w.transport(func(tr *Transport) { tr.ResponseTimeout = time.Minute }), "https://origin.example/")
		var u *UnreachableError
		if !errors.As(err, &u) || u.Party != PartyOrigin {
			t.Errorf("%v, want the origin unreachable", err)
		}
	})
}

func TestIdleTunnels(t *testing.T) {
	t.Run("closed on demand, with hop 1", func(t *testing.T) {
		w := newWorld(t)
		tr := w.transport(nil)
		get(t, tr, "https://origin.example/")
		tr.CloseIdleConnections()
		get(t, tr, "https://origin.example/")
		if w.opened() != 2 || w.dialled() != 2 {
			t.Errorf("%d tunnels on %d hops, want 2 on 2", w.opened(), w.dialled())
		}
	})
	t.Run("not kept", func(t *testing.T) {
		w := newWorld(t)
		tr := w.transport(func(tr *Transport) { tr.IdleTimeout = -1 })
		get(t, tr, "https://origin.example/")
		get(t, tr, "https://origin.example/")
		if w.opened() != 2 || w.dialled() != 1 {
			t.Errorf("%d tunnels on %d hops, want 2 on 1", w.opened(), w.dialled())
		}
	})
	t.Run("make room for another authority", func(t *testing.T) {
		w := newWorld(t)
		tr := w.transport(func(tr *Transport) { tr.MaxTunnels = 1 })
		get(t, tr, "https://origin.example/")
		get(t, tr, "https://second.example/")
		get(t, tr, "https://origin.example/")
		if w.opened() != 3 {
			t.Errorf("%d tunnels, want 3", w.opened())
		}
	})
}

func TestCloseEndsExchangesAndRefusesNewOnes(t *testing.T) {
	w := newWorld(t)
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	tr := w.transport(nil)
	failed := make(chan error, 1)
	go func() {
		_, _, err := tryGet(t, tr, "https://origin.example/")
		failed <- err
	}()
	<-w.requests
	tr.Close()
	if err := <-failed; !errors.Is(err, ErrClosed) {
		t.Errorf("the exchange under way: %v, want ErrClosed", err)
	}
	if _, _, err := tryGet(t, tr, "https://origin.example/"); !errors.Is(err, ErrClosed) {
		t.Errorf("%v, want ErrClosed", err)
	}
}

func TestHop1ThatEndedIsDialledAgain(t *testing.T) {
	w := newWorld(t)
	tr := w.transport(nil)
	get(t, tr, "https://origin.example/")
	s := tr.pool.dialer.hop1.current
	s.Close(hop.NoError, "")
	<-s.Done()
	get(t, tr, "https://origin.example/")
	if w.dialled() != 2 {
		t.Errorf("%d hops, want 2", w.dialled())
	}
}

// spec: CLI-16
func TestRefusedStreamIsTriedOnceMoreOnAFreshHop(t *testing.T) {
	t.Run("then carried", func(t *testing.T) {
		w := newWorld(t)
		var once sync.Once
		w.answer = func(in hop.Incoming, _ *hop.Request) (done bool) {
			once.Do(func() { in.Refuse(hop.RefusedStream); done = true })
			return done
		}
		get(t, w.transport(nil), "https://origin.example/")
		if w.dialled() != 2 {
			t.Errorf("%d hops, want 2", w.dialled())
		}
	})
	t.Run("refused again", func(t *testing.T) {
		w := newWorld(t)
		w.answer = func(in hop.Incoming, _ *hop.Request) bool { in.Refuse(hop.RefusedStream); return true }
		_, _, err := tryGet(t, w.transport(nil), "https://origin.example/")
		var u *UnreachableError
		if !errors.As(err, &u) || u.Party != PartyProxy {
			t.Errorf("%v, want the proxy unreachable", err)
		}
		if w.dialled() != 2 {
			t.Errorf("%d hops, want 2", w.dialled())
		}
	})
}

// A dead tunnel that nobody noticed: no byte of the request leaves on it.
//
// spec: CLI-14
func TestRequestIsRepeatedOnlyWhenNoneOfItLeft(t *testing.T) {
	for name, body := range map[string]func() io.Reader{
		"no body":                          func() io.Reader { return nil },
		"a body that can be had again":     func() io.Reader { return strings.NewReader("body") },
		"a body that can be had only once": func() io.Reader { return io.MultiReader(strings.NewReader("body")) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tr := w.transport(nil)
			get(t, tr, "https://origin.example/1")
			for c := range tr.pool.all {
				c.tunnel.inner.SetWriteDeadline(time.Unix(1, 0)) // writes fail before they begin
			}
			method := http.MethodGet
			if body() != nil {
				method = http.MethodPost
			}
			w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { io.Copy(rw, r.Body) })
			req, _ := http.NewRequestWithContext(t.Context(), method, "https://origin.example/2", body())
			_, got, err := do(tr, req)
			if err != nil {
				t.Fatal(err)
			}
			if want := map[bool]string{false: "", true: "body"}[body() != nil]; string(got) != want {
				t.Errorf("the origin got %q, want %q", got, want)
			}
			if n := w.took(); n != 2 {
				t.Errorf("the origin saw %d requests, want 2", n)
			}
		})
	}
}

func TestABodyThatWasReadIsNotSentAgain(t *testing.T) {
	for _, tt := range []struct {
		name      string
		use       func(b *onceBody)
		untouched bool
	}{
		{"untouched", func(*onceBody) {}, true},
		{"closed", func(b *onceBody) { b.Close() }, true},
		{"read", func(b *onceBody) { b.Read(make([]byte, 1)) }, false},
		{"read and closed", func(b *onceBody) { b.Read(make([]byte, 1)); b.Close() }, false},
	} {
		rc := &closeRecorder{Reader: strings.NewReader("body")}
		b := &onceBody{rc: rc}
		tt.use(b)
		if rc.closed {
			t.Errorf("%s: closed before it is known that nothing follows", tt.name)
		}
		if got := b.untouched(); got != tt.untouched {
			t.Errorf("%s: untouched %v, want %v", tt.name, got, tt.untouched)
		}
		if b.settle(true); !rc.closed {
			t.Errorf("%s: never closed", tt.name)
		}
	}
}

func TestBodyOfARefusedRequestIsClosed(t *testing.T) {
	w := newWorld(t)
	for _, u := range []string{"http://origin.example/", "https://origin.example/"} {
		body := &closeRecorder{Reader: strings.NewReader("x")}
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, u, body)
		tr := w.transport(func(tr *Transport) { tr.Consent = nil })
		if _, err := tr.RoundTrip(req); err == nil {
			t.Fatal("succeeded")
		}
		if !body.closed {
			t.Errorf("%s: the request's body was left open", u)
		}
	}
}

type closeRecorder struct {
	io.Reader
	closed bool
}

func (c *closeRecorder) Close() error { c.closed = true; return nil }

func TestManyExchangesAtOnce(t *testing.T) {
	w := newWorld(t)
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { io.WriteString(rw, r.URL.Path) })
	tr := w.transport(func(tr *Transport) { tr.MaxTunnels = 7 })
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for j := range 5 {
				path := "/" + strings.Repeat("x", i*5+j+1)
				_, body, err := tryGet(t, tr, "https://origin.example"+path)
				if err != nil || string(body) != path {
					t.Errorf("%s: %q, %v", path, body, err)
				}
			}
		})
	}
	wg.Wait()
	if n := w.opened(); n > 7 {
		t.Errorf("%d tunnels for at most 7 at once that all stay good", n)
	}
}
