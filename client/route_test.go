package client

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
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
)

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
			w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				http.NewResponseController(rw).EnableFullDuplex() // else HTTP/1.1 drops what it has not read
				io.Copy(rw, r.Body)
			})
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
			// A body that can be had once, and of which much has left before the answer.
			sp.lose()
			once := strings.Repeat("once ", 1<<20)
			req, _ = http.NewRequestWithContext(t.Context(), http.MethodPost, "https://origin.example/", io.MultiReader(strings.NewReader(once)))
			_, body, err = do(tr, req)
			if err != nil || string(body) != once || w.took() != 3 {
				t.Errorf("%d bytes, %v, and %d requests at the origin", len(body), err, w.took())
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
	if !errors.As(err, &gone) || len(sp.asks)-before != 3 {
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

// spec: CLI-36
func TestEvidenceGrowsOld(t *testing.T) {
	w := newWorld(t)
	sp := w.split(t, new(tls.Config))
	tr := w.transport(accepting(Attested))
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

// spec: CLI-36
func TestEvidenceServesItsOwnAuthorityAlone(t *testing.T) {
	var rs routes
	d, a, now := new(Dialer), &attempt{agreement: new(Agreement)}, time.Now()
	rs.release(rs.add(d, a, &route{authority: "a.example:443", shared: true, at: now}), now)
	for _, authority := range []string{"b.example:443", "a.example:8443", "a.example", ""} {
		if rs.take(authority, now) != nil {
			t.Errorf("evidence about a.example:443 serves a request to %q", authority)
		}
	}
	if rs.take("a.example:443", now) == nil {
		t.Error("evidence does not serve its own authority")
	}
}

// A request that went out without a tunnel and was refused goes into the tunnel that is found for it then, at what that
// one is, and not out again as before.
//
// spec: CLI-39
func TestATunnelInThePlaceOfARoute(t *testing.T) {
	w := newWorld(t)
	sp := w.split(t, new(tls.Config))
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { io.Copy(rw, r.Body) })
	tr := w.transport(accepting(Attested, Blind))
	if resp, _ := get(t, tr, "https://origin.example/"); ReportOf(resp).Level != Attested {
		t.Fatal(ReportOf(resp).Level)
	}
	asks := len(sp.asks)
	w.modes = []fields.Mode{fields.Blind} // as a policy that was read again says
	w.answer = func(in hop.Incoming, req *hop.Request) bool {
		if req.Protocol == "" {
			return false
		}
		w.refuse(in, frames.StatusInspectionRequired, "", nil)
		return true
	}
	sp.refuse = func(*hop.Request) *hop.Response { return &hop.Response{Status: frames.StatusInspectionRequired} }
	for range 2 {
		// A body that can be had once, and of which some may have left.
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://origin.example/", io.MultiReader(strings.NewReader("once")))
		resp, body, err := do(tr, req)
		if err != nil || string(body) != "once" || ReportOf(resp).Level != Blind {
			t.Fatalf("%q, %v", body, err)
		}
	}
	if n := len(sp.asks) - asks; n != 1 {
		t.Errorf("it went out %d times without a tunnel", n)
	}
}
