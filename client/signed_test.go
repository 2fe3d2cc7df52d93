package client

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/httpsig"
	"vitrine/internal/pki"
	"vitrine/origin"
)

// signing has w's origin sign what its handler answers, behind a proxy that allows split.
func (w *world) signing(t *testing.T, cfg *tls.Config) *splitter {
	t.Helper()
	sp := w.split(t, cfg)
	h, err := origin.SignResponses(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.handler.ServeHTTP(rw, r) }),
		&origin.SignConfig{TLSConfig: sp.origin, BufferBytes: 1 << 10})
	if err != nil {
		t.Fatal(err)
	}
	sp.handler = h
	return sp
}

// spec: CLI-40 CLI-43 SIG-12
func TestSignedResponses(t *testing.T) {
	for _, proto := range []string{"h2", "http/1.1"} {
		for _, size := range []int{0, 5, 100_000} {
			w := newWorld(t)
			w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Content-Type", "text/x-test")
				rw.Header().Set("X-Mine", "a")
				rw.Header().Add("Set-Cookie", "a=1")
				rw.Header().Add("Set-Cookie", "b=2")
				rw.WriteHeader(http.StatusTeapot)
				rw.Write(bytes.Repeat([]byte("x"), size))
			})
			sp := w.signing(t, &tls.Config{NextProtos: []string{proto}})
			sp.onHead = func(_ hop.Answering, _ [32]byte, resp *http.Response) bool {
				resp.Header.Set("X-Proxy", "here")
				resp.Header.Set("Via", "1.1 "+proxyName)
				return false
			}
			tr := w.transport(accepting(Intact, Signed))
			resp, body := get(t, tr, "https://origin.example/page?x=1")
			rep := ReportOf(resp)
			if rep.Level != Signed || rep.Status != 418 || len(body) != size {
				t.Fatalf("%s, %d bytes: level %q, status %d, %d bytes", proto, size, rep.Level, rep.Status, len(body))
			}
			sig := rep.Signature
			if sig == nil || !sig.Verified || !sig.Fresh || !sig.ReplayableUntil.IsZero() || sig.Expires.Sub(sig.Created) > httpsig.MaxLifetime || sig.Created.IsZero() {
				t.Fatalf("signature %+v", sig)
			}
			id := pki.SPKIHash(w.origin.Leaf)
			if sig.KeyID != hex.EncodeToString(id[:]) || !slices.Contains(sig.Covered, `"@status"`) || !slices.Contains(sig.Covered, `"evidence-request";req`) {
				t.Errorf("key %s, covered %v", sig.KeyID, sig.Covered)
			}
			h := resp.Header
			if h.Get("X-Proxy") != "" || h.Get("X-Mine") != "a" || h.Get("Via") == "" || len(h["Set-Cookie"]) != 2 || h.Get("Signature") != "" {
				t.Errorf("header %v", h)
			}
			for name := range resp.Trailer {
				if name != httpsig.ContentDigest {
					t.Errorf("trailer %v", resp.Trailer)
				}
			}
			if l, ok := tr.pool.dialer.memory().Reached("origin.example:443"); !ok || l != Signed {
				t.Errorf("remembered %q, %v", l, ok)
			}
		}
	}
}

// spec: CLI-43
func TestSignedResponsesWithoutContent(t *testing.T) {
	w := newWorld(t)
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			rw.WriteHeader(204)
		case "/304":
			rw.Header().Set("Etag", `"1"`)
			rw.WriteHeader(304)
		case "/head":
			rw.Header().Set("Content-Length", "1000")
		}
	})
	w.signing(t, new(tls.Config))
	tr := w.transport(accepting(Signed))
	for path, method := range map[string]string{"/204": "GET", "/304": "GET", "/head": "HEAD"} {
		req, _ := http.NewRequestWithContext(t.Context(), method, "https://origin.example"+path, nil)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if rep := ReportOf(resp); rep.Level != Signed || !rep.Signature.Verified {
			t.Errorf("%s: %+v", path, rep.Signature)
		}
	}
}

// spec: CLI-41 SIG-13
func TestWhatAProxyDoesToASignedResponseIsNoticed(t *testing.T) {
	var earlier http.Header
	for _, tt := range []struct {
		name   string
		large  bool
		change func(p []byte)
		bare   bool
		head   func(resp *http.Response)
		atHead bool // RoundTrip notices
	}{
		{name: "a byte", change: func(p []byte) { p[0] ^= 1 }},
		{name: "a byte of many", large: true, change: func(p []byte) { p[len(p)-1] ^= 1 }},
		{name: "the status", head: func(r *http.Response) { r.StatusCode = 201 }, atHead: true},
		{name: "a field", head: func(r *http.Response) { r.Header.Set("Content-Type", "text/evil") }, atHead: true},
		{name: "a cookie more", head: func(r *http.Response) { r.Header.Add("Set-Cookie", "evil=1") }, atHead: true},
		{name: "a field less", head: func(r *http.Response) { r.Header.Del("X-Mine") }, atHead: true},
		{name: "a location", head: func(r *http.Response) { r.Header.Set("Location", "https://evil.example/") }, atHead: true},
		{name: "the digest", head: func(r *http.Response) { r.Header.Set("Content-Digest", httpsig.FormatDigest([32]byte{})) }, atHead: true},
		{name: "the signature", head: func(r *http.Response) { r.Header.Set("Signature", httpsig.Label+"=:AAAA:") }, atHead: true},
		{name: "the trailer's signature", large: true, bare: true},
		{name: "an earlier response", head: func(r *http.Response) {
			if earlier == nil {
				earlier = r.Header.Clone()
				return
			}
			r.Header = earlier
		}, atHead: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("X-Mine", "a")
				size := 5
				if tt.large {
					size = 100_000
				}
				rw.Write(bytes.Repeat([]byte("x"), size))
			})
			sp := w.signing(t, new(tls.Config))
			tr := w.transport(accepting(Signed, Attested))
			sp.onHead = func(_ hop.Answering, _ [32]byte, resp *http.Response) bool {
				if tt.head != nil {
					tt.head(resp)
				}
				return false
			}
			if tt.name == "an earlier response" {
				get(t, tr, "https://origin.example/")
			}
			sp.change, sp.bare = tt.change, tt.bare
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://origin.example/", nil)
			resp, err := tr.RoundTrip(req)
			if tt.atHead {
				wantIntegrity(t, err, "signature")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			_, err = io.ReadAll(resp.Body)
			bad := "not what the origin signed"
			if tt.bare {
				bad = "without the signature that was announced"
			}
			wantIntegrity(t, err, bad)
			if rep := ReportOf(resp); rep.Signature.Verified || rep.Error == "" {
				t.Errorf("%+v", rep)
			}
			if _, ok := tr.pool.dialer.memory().Reached("origin.example:443"); ok {
				t.Error("remembered as signed")
			}
		})
	}
}

// spec: SIG-7
func TestASignatureOfAnotherOriginIsNone(t *testing.T) {
	w := newWorld(t)
	sp := w.signing(t, new(tls.Config))
	other, err := w.origins.Origin(originName)
	if err != nil {
		t.Fatal(err)
	}
	evil := sp.origin.Clone()
	evil.Certificates = []tls.Certificate{other}
	if sp.handler, err = origin.SignResponses(w.handler, &origin.SignConfig{TLSConfig: evil}); err != nil {
		t.Fatal(err)
	}
	_, _, err = tryGet(t, w.transport(accepting(Signed)), "https://origin.example/")
	wantIntegrity(t, err, "another key")
}

// spec: CLI-44
func TestAnOriginThatSignedAndDoesNotAnyMore(t *testing.T) {
	w := newWorld(t)
	sp := w.signing(t, new(tls.Config))
	strip := false
	sp.onHead = func(_ hop.Answering, _ [32]byte, resp *http.Response) bool {
		if strip {
			resp.Header.Del("Signature")
			resp.Header.Del("Signature-Input")
		}
		return false
	}
	tr := w.transport(accepting(Signed, Attested))
	get(t, tr, "https://origin.example/")
	strip = true
	_, _, err := tryGet(t, tr, "https://origin.example/")
	wantLevelError(t, err, "better level before", "attested")
	tr.Forget("origin.example:443")
	resp, _ := get(t, tr, "https://origin.example/")
	if l := ReportOf(resp).Level; l != Attested {
		t.Error(l)
	}
	// Who never wanted signatures is not asked.
	resp, _ = get(t, w.transport(accepting(Attested)), "https://origin.example/")
	if rep := ReportOf(resp); rep.Level != Attested || rep.Signature != nil {
		t.Errorf("%+v", rep)
	}
}

func TestASignatureIsNotLookedAtByWhoDoesNotAcceptIt(t *testing.T) {
	w := newWorld(t)
	sp := w.signing(t, new(tls.Config))
	sp.change = func(p []byte) { p[0] ^= 1 }
	resp, body := get(t, w.transport(accepting(Attested)), "https://origin.example/")
	if rep := ReportOf(resp); rep.Level != Attested || rep.Signature != nil || string(body) == "hello" || resp.Header.Get("Signature") == "" {
		t.Errorf("%+v, %q", rep, body)
	}
}

// spec: CLI-45
func TestARequestsContentIsSignedWithTheResponse(t *testing.T) {
	w := newWorld(t)
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { io.Copy(rw, r.Body) })
	sp := w.signing(t, new(tls.Config))
	tr := w.transport(accepting(Signed))
	for name, body := range map[string]io.Reader{
		"again": strings.NewReader("content"), "once": io.MultiReader(strings.NewReader("content")),
	} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://origin.example/", body)
		resp, got, err := do(tr, req)
		if err != nil || string(got) != "content" {
			t.Fatalf("%s: %q, %v", name, got, err)
		}
		if !slices.Contains(ReportOf(resp).Signature.Covered, `"content-digest";req`) {
			t.Errorf("%s: covered %v", name, ReportOf(resp).Signature.Covered)
		}
		if req.Header.Get(httpsig.ContentDigest) != "" || req.ContentLength != map[string]int64{"again": 7}[name] {
			t.Errorf("%s: the caller's request was changed: %v", name, req)
		}
	}
	sent := len(sp.asks)
	body := &closeCounter{Reader: io.LimitReader(new(counter), maxSpool+1)}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://origin.example/", body)
	if _, _, err := do(tr, req); !errors.Is(err, errSpool) || len(sp.asks) != sent || body.closed != 1 {
		t.Errorf("%v, closed %d times", err, body.closed)
	}
	// What the proxy changes on the way to the origin comes out.
	sp.onAsk = func(ans hop.Answering, nonce [32]byte) bool {
		sp.toOrigin = func(p []byte) { p[0] ^= 1 }
		return false
	}
	req, _ = http.NewRequestWithContext(t.Context(), http.MethodPost, "https://origin.example/", strings.NewReader("content"))
	_, got, err := do(tr, req)
	if err == nil {
		t.Errorf("%q passes for the answer to what was sent", got)
	}
}

type closeCounter struct {
	io.Reader
	closed int
}

func (c *closeCounter) Close() error { c.closed++; return nil }

// spec: CLI-46
func TestAReplayableSignatureIsReportedAsOne(t *testing.T) {
	w := newWorld(t)
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Cache-Control", "public, max-age=600")
		io.WriteString(rw, "hello")
	})
	sp := w.signing(t, new(tls.Config))
	sp.strip = []string{fields.EvidenceRequest} // a cache asks without
	resp, _ := get(t, w.transport(accepting(Signed)), "https://origin.example/")
	sig := ReportOf(resp).Signature
	if sig == nil || !sig.Verified || sig.Fresh || sig.ReplayableUntil.Before(time.Now()) || !sig.ReplayableUntil.Equal(sig.Expires) {
		t.Errorf("%+v", sig)
	}
}

// spec: CLI-40
func TestSignedOverAClaim(t *testing.T) {
	w := newWorld(t)
	w.signing(t, w.rsaOrigin())
	resp, _ := get(t, w.transport(accepting(Signed, Claimed)), "https://origin.example/")
	if rep := ReportOf(resp); rep.Level != Signed || rep.Evidence.Kind != "claim" || rep.Evidence.Verified {
		t.Errorf("%+v, %+v", rep, rep.Evidence)
	}
	_, _, err := tryGet(t, w.transport(accepting(Signed)), "https://origin.example/")
	wantLevelError(t, err, "word alone", "signed,claimed")
}

// spec: CLI-42
func TestFieldsThatNobodySignsAreNotShownEarly(t *testing.T) {
	for _, levels := range [][]Level{{Attested}, {Signed}, {Signed, Attested}} {
		w := newWorld(t)
		w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Link", "</evil.css>; rel=preload")
			rw.WriteHeader(http.StatusEarlyHints)
			io.WriteString(rw, "hello")
		})
		w.signing(t, new(tls.Config))
		shown := 0
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(int, textproto.MIMEHeader) error { shown++; return nil },
		})
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://origin.example/", nil)
		if _, _, err := do(w.transport(accepting(levels...)), req); err != nil {
			t.Fatal(err)
		}
		if slices.Contains(levels, Signed) != (shown == 0) {
			t.Errorf("%v: %d shown", levels, shown)
		}
	}
}

// Whatever a proxy does to one field, one byte or the status of a small signed response is noticed, or is not to be seen.
//
// spec: CLI-41 SIG-12
func TestNothingThatAProxyChangesInASignedResponseIsSeen(t *testing.T) {
	w := newWorld(t)
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Location", "/there")
		rw.Header().Set("Cache-Control", "no-store")
		rw.Header()["X-Mine"] = []string{"a", "b"}
		rw.Header()["Set-Cookie"] = []string{"a=1", "b=2"}
		rw.WriteHeader(http.StatusCreated)
		io.WriteString(rw, "hello")
	})
	sp := w.signing(t, new(tls.Config))
	var sent http.Header // as the origin sent it
	var lie func(resp *http.Response)
	sp.onHead = func(_ hop.Answering, _ [32]byte, resp *http.Response) bool {
		sent = resp.Header.Clone()
		if lie != nil {
			lie(resp)
		}
		return false
	}
	tr := w.transport(accepting(Signed))
	seen, unseen := 0, 0
	try := func(what string, l func(resp *http.Response)) {
		t.Helper()
		lie = l
		resp, body, err := tryGet(t, tr, "https://origin.example/")
		if err != nil {
			if !errors.As(err, new(*IntegrityError)) && !errors.As(err, new(*LevelError)) {
				t.Errorf("%s: %v", what, err)
			}
			seen++
			return
		}
		unseen++
		if string(body) != "hello" || resp.StatusCode != http.StatusCreated || ReportOf(resp).Level != Signed {
			t.Errorf("%s: %d, %q", what, resp.StatusCode, body)
		}
		for name, values := range resp.Header {
			if name != "Via" && name != "Proxy-Status" && name != "Content-Length" && strings.Join(values, ", ") != strings.Join(sent[name], ", ") {
				t.Errorf("%s: %s is %q, and the origin sent %q", what, name, values, sent[name])
			}
		}
	}
	try("nothing", nil)
	names := slices.Sorted(maps.Keys(sent))
	if seen != 0 || len(names) < 9 {
		t.Fatalf("%d, %v", seen, names)
	}
	for _, name := range append(names, "X-New", "Trailer", "Via", "Proxy-Status", "Age", "Content-Encoding", "Refresh") {
		for how, change := range map[string]func(values []string) []string{
			"without": func([]string) []string { return nil },
			"other":   func([]string) []string { return []string{"1"} },
			"twice":   func(values []string) []string { return append(values, values...) },
			"more":    func(values []string) []string { return append(values, "x=1") },
			"before":  func(values []string) []string { return append([]string{"x=1"}, values...) },
			"longer": func(values []string) []string {
				if len(values) > 0 {
					values[0] += "x"
				}
				return values
			},
		} {
			if name == "Content-Length" && how != "without" {
				continue // which the carrier judges
			}
			try(how+" "+name, func(resp *http.Response) {
				resp.Header[name] = change(slices.Clone(resp.Header[name]))
				if len(resp.Header[name]) == 0 {
					delete(resp.Header, name)
				}
			})
		}
	}
	for status := range 20 {
		if status != 1 {
			try("status", func(resp *http.Response) { resp.StatusCode = 200 + status })
		}
	}
	for i := range 5 {
		for bit := range 8 {
			sp.change = func(p []byte) {
				if len(p) == 5 {
					p[i] ^= 1 << bit
				}
			}
			try("a bit", nil)
		}
	}
	if seen < 100 || unseen < 5 {
		t.Errorf("%d noticed, %d had no effect", seen, unseen)
	}
	t.Logf("%d changes noticed, %d had no effect", seen, unseen)
}
