package origin

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/httpsig"
	"vitrine/internal/tlsmsg"
)

// signing serves h behind SignResponses; why collects why responses stay unsigned.
func signing(t *testing.T, h http.HandlerFunc, cfg *SignConfig) (w *world, why chan error) {
	t.Helper()
	w, why = newWorld(t, h), make(chan error, 100)
	if cfg == nil {
		cfg = &SignConfig{}
	}
	cfg.TLSConfig = w.srv.TLSConfig
	cfg.OnUnsigned = func(_ *http.Request, err error) { why <- err }
	w.srv.Handler = must(SignResponses(h, cfg))
	return w.serve(nil), why
}

// An asking is one request and what a client makes of the response.
type asking struct {
	method, path string
	body         []byte
	digest       string // of the request; "" is the true one where there is a body, "-" none
	chunked      bool
	header       http.Header
	stranger     bool // asks for no evidence
	nonce        [32]byte

	resp    *http.Response
	content []byte
	sig     *httpsig.Signature
	err     error // of Read, Check or Finish
}

func (a *asking) of(t *testing.T, w *world, c *http.Client) *asking {
	t.Helper()
	if a.method == "" {
		a.method = http.MethodGet
	}
	var body io.Reader
	if a.body != nil {
		body = bytes.NewReader(a.body)
	}
	if a.chunked && body != nil {
		body = struct{ io.Reader }{body}
	}
	req := must(http.NewRequestWithContext(t.Context(), a.method, "https://"+name+"/"+a.path, body))
	if a.header != nil {
		req.Header = a.header
	}
	req.Header.Set("Accept-Encoding", "identity")
	if !a.stranger {
		rand.Read(a.nonce[:])
		offer := w.visit().offer
		offer.Nonce = a.nonce
		raw := must(evidence.NewRequest(&offer, name))
		req.Header.Set(fields.EvidenceRequest, fields.FormatEvidenceRequest(raw))
	}
	switch {
	case a.digest == "-":
	case a.digest != "":
		req.Header.Set(httpsig.ContentDigest, a.digest)
	case a.body != nil:
		req.Header.Set(httpsig.ContentDigest, httpsig.FormatDigest(sha256.Sum256(a.body)))
	}
	a.resp, a.err = c.Do(req)
	if a.err != nil {
		return a
	}
	defer a.resp.Body.Close()
	var readErr error
	a.content, readErr = io.ReadAll(a.resp.Body)
	a.verify(req)
	if readErr != nil {
		a.err = readErr
	}
	return a
}

func (a *asking) verify(req *http.Request) {
	sent := &httpsig.Request{Method: a.method, TargetURI: httpsig.TargetURI(name, req.URL.RequestURI()), Header: req.Header}
	if a.sig, a.err = httpsig.Read(sent, a.resp.StatusCode, a.resp.Header); a.err != nil {
		return
	}
	if a.err = a.sig.Check(a.resp.TLS.PeerCertificates[0], a.nonce, time.Now()); a.err != nil {
		return
	}
	a.sig.Strip(a.resp.Header)
	a.sig.Body().Write(a.content)
	a.err = a.sig.Finish(a.resp.Trailer)
}

const long = 200 << 10

func answers() map[string]http.HandlerFunc {
	text := func(n int) []byte { return bytes.Repeat([]byte("vitrine "), n/8) }
	return map[string]http.HandlerFunc{
		"small":        func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") },
		"nothing":      func(http.ResponseWriter, *http.Request) {},
		"status alone": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) },
		"fills buffer": func(w http.ResponseWriter, _ *http.Request) { w.Write(text(64 << 10)) },
		"over buffer":  func(w http.ResponseWriter, _ *http.Request) { w.Write(text(64 << 10)); w.Write([]byte("!")) },
		"large":        func(w http.ResponseWriter, _ *http.Request) { w.Write(text(long)) },
		"many writes": func(w http.ResponseWriter, _ *http.Request) {
			io.Copy(w, struct{ io.Reader }{bytes.NewReader(text(long))})
		},
		"declared": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5")
			fmt.Fprint(w, "hello")
		},
		"declared large": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(long))
			w.Write(text(long))
		},
		"flushed": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "he")
			w.(http.Flusher).Flush()
			fmt.Fprint(w, "llo")
		},
		"flushed empty": func(w http.ResponseWriter, _ *http.Request) { http.NewResponseController(w).Flush() },
		"no content":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"not modified": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Etag", `"a"`)
			w.WriteHeader(http.StatusNotModified)
		},
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/to, or, not", http.StatusPermanentRedirect)
		},
		"cookies": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Set-Cookie"] = []string{"a=b, c=d", "e=f"}
			fmt.Fprint(w, "hello")
		},
		"two lines": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Link"] = []string{"</a>", " </b>"}
			fmt.Fprint(w, "hello")
		},
		"latin-1": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Name", "caf\xe9")
			fmt.Fprint(w, "hello")
		},
		"odd name": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["x-odd"] = []string{"1"}
			fmt.Fprint(w, "hello")
		},
		"no type": func(w http.ResponseWriter, _ *http.Request) { w.Header()["Content-Type"] = nil; fmt.Fprint(w, "hello") },
		"coded": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			fmt.Fprint(w, "hello")
		},
		"right digest": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Digest", httpsig.FormatDigest(sha256.Sum256([]byte("hello")))+", md5=:AA==:")
			fmt.Fprint(w, "hello")
		},
		"wrong digest": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Digest", httpsig.FormatDigest([32]byte{}))
			fmt.Fprint(w, "hello")
		},
		"wrong and large": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Digest", httpsig.FormatDigest([32]byte{}))
			w.Write(text(long))
		},
		"served": func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "a.txt", time.Unix(1e9, 0), bytes.NewReader(text(long)))
		},
		"hints": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			fmt.Fprint(w, "hello")
		},
		"changed too late": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusOK)
			w.Header().Set("X-Late", "1")
			w.WriteHeader(http.StatusTeapot)
			fmt.Fprint(w, "hello")
		},
		"trailers": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "X-Sum")
			fmt.Fprint(w, "hello")
			w.Header().Set("X-Sum", "1")
			w.Header().Set(http.TrailerPrefix+"X-More", "2")
		},
		"large with trailers": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "X-Sum")
			w.Write(text(long))
			w.Header().Set("X-Sum", "1")
		},
		"its own digest behind": func(w http.ResponseWriter, _ *http.Request) {
			w.Write(text(long))
			w.Header().Set(http.TrailerPrefix+"content-digest", "other=:AAAA:")
			w.Header().Set(http.TrailerPrefix+"Signature", "other=:AAAA:")
		},
		"not modified, of a type": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusNotModified)
		},
		"chunked": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Transfer-Encoding", "chunked")
			fmt.Fprint(w, "hello")
		},
		"until it closes": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Transfer-Encoding", "identity")
			fmt.Fprint(w, "hello")
		},
		"declared twice": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Length"] = []string{"5", "5"}
			fmt.Fprint(w, "hello")
		},
		"several forms of a name": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["X-a"], w.Header()["X-A"], w.Header()["x-A"] = []string{"2"}, []string{"1"}, []string{"3"}
			fmt.Fprint(w, "hello")
		},
		"another's signature": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Signature-Input", `other=("@status");created=1;tag="other"`)
			w.Header().Set("Signature", `other=:AAAA:`)
			fmt.Fprint(w, "hello")
		},
	}
}

// Whatever a handler answers is signed, over both versions of HTTP, and is the same as without SignResponses.
//
// spec: SIG-2 SIG-15
func TestEveryAnswerIsSigned(t *testing.T) {
	handlers := answers()
	route := func(w http.ResponseWriter, r *http.Request) {
		handlers[strings.TrimPrefix(r.URL.Path, "/")](w, r)
	}
	w, why := signing(t, route, nil)
	plain := newWorld(t, http.HandlerFunc(route)).serve(nil)
	for _, h2 := range []bool{false, true} {
		signed, bare := w.stock(h2), plain.stock(h2)
		signed.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		bare.CheckRedirect = signed.CheckRedirect
		for what := range handlers {
			for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodDelete} {
				t.Run(fmt.Sprintf("%s %s over HTTP/2 %v", method, what, h2), func(t *testing.T) {
					path := strings.ReplaceAll(what, " ", "%20")
					if what == "served" {
						path += "?q=%2f&x"
					}
					a := (&asking{method: method, path: path}).of(t, w, signed)
					if a.err != nil {
						select {
						case err := <-why:
							t.Fatal(a.err, err)
						default:
							t.Fatal(a.err)
						}
					}
					if !a.sig.Verified() || !a.sig.Fresh || !a.sig.ReplayableUntil.IsZero() {
						t.Errorf("verified %v, fresh %v", a.sig.Verified(), a.sig.Fresh)
					}
					if vary := a.resp.Header.Values("Vary"); !slices.Contains(vary, "evidence-request") {
						t.Errorf("a cache may show it to another nonce: vary is %q", vary)
					}
					want := (&asking{method: method, path: path}).of(t, plain, bare)
					if a.resp.StatusCode != want.resp.StatusCode || !bytes.Equal(a.content, want.content) {
						t.Errorf("%d with %d bytes, without a signature %d with %d", a.resp.StatusCode, len(a.content), want.resp.StatusCode, len(want.content))
					}
					sameFields(t, want.resp.Header, a.resp.Header)
				})
			}
		}
	}
}

// What HTTP has no form for is sent in another form, or not at all, and the signature is over what is sent.
//
// spec: SIG-2
func TestFieldsThatHTTPDoesNotHave(t *testing.T) {
	for value, want := range map[string][]string{
		"a\r\nSet-Cookie: b": {"a  Set-Cookie: b"}, "a\n": {"a"}, "a\x00b": nil, "a\x7fb": nil, "a\tb": {"a\tb"},
	} {
		w, why := signing(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Text", value)
			fmt.Fprint(w, "hello")
		}, nil)
		for _, h2 := range []bool{false, true} {
			if a := new(asking).of(t, w, w.stock(h2)); a.err != nil || !slices.Equal(a.resp.Header["X-Text"], want) || len(why) > 0 {
				t.Errorf("%q over HTTP/2 %v: %v, %d reasons", value, h2, a.err, len(why))
			}
		}
	}
}

// A status that has no content keeps no length over HTTP/1.1, and no signature of one.
//
// spec: SIG-2
func TestALengthBesideNoContent(t *testing.T) {
	for _, status := range []int{http.StatusNoContent, http.StatusNotModified} {
		w, _ := signing(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5")
			w.WriteHeader(status)
		}, nil)
		if a := new(asking).of(t, w, w.stock(false)); a.err != nil || !a.sig.Verified() {
			t.Errorf("%d: %v", status, a.err)
		}
	}
}

// sameFields compares what a client sees of a signed response with the response that is not.
func sameFields(t *testing.T, plain, signed http.Header) {
	t.Helper()
	for name, lines := range plain {
		switch name {
		case "Content-Digest", "Signature", "Signature-Input", "Date":
			continue
		case "Content-Length", "Trailer": // HTTP/1.1 has no length beside trailers
			continue
		case "Vary":
		case "Set-Cookie":
			if !slices.Equal(signed[name], lines) {
				t.Errorf("%s is %q, was %q", name, signed[name], lines)
			}
			continue
		}
		for i := range lines {
			lines[i] = strings.TrimSpace(lines[i])
		}
		if got, want := strings.Join(signed[name], ", "), strings.Join(lines, ", "); got != want {
			t.Errorf("%s is %q, was %q", name, got, want)
		}
	}
	for name := range signed {
		switch name {
		case "Content-Digest", "Vary", "Date", "Content-Length", "Trailer":
		default:
			if _, ok := plain[name]; !ok {
				t.Errorf("%s: %q is not the handler's", name, signed[name])
			}
		}
	}
}

// A range is covered as it is sent.
func TestAPartIsSigned(t *testing.T) {
	w, _ := signing(t, answers()["served"], nil)
	a := (&asking{header: http.Header{"Range": {"bytes=8-15"}}}).of(t, w, w.stock(true))
	if a.err != nil || a.resp.StatusCode != http.StatusPartialContent || string(a.content) != "vitrine " {
		t.Errorf("%v, %d %q", a.err, a.resp.StatusCode, a.content)
	}
	if a.resp.Header.Get("Content-Range") == "" {
		t.Error("content-range was not covered")
	}
}

// What the client sent is covered: its credentials, and its content where it has some.
func TestTheRequestIsCovered(t *testing.T) {
	w, _ := signing(t, func(w http.ResponseWriter, r *http.Request) { w.Write(must(io.ReadAll(r.Body))) }, nil)
	for _, h2 := range []bool{false, true} {
		for _, chunked := range []bool{false, true} {
			a := (&asking{
				method: http.MethodPost, body: []byte(strings.Repeat("x", 100_000)), chunked: chunked,
				header: http.Header{"Authorization": {"Bearer a"}, "Cookie": {"a=b; c=d; e=f"}},
			}).of(t, w, w.stock(h2))
			if a.err != nil {
				t.Fatal(a.err)
			}
			for _, id := range []string{`"authorization";req`, `"cookie";req`, `"content-digest";req`, `"evidence-request";req`, `"@method";req`, `"@target-uri";req`} {
				if !slices.Contains(a.sig.Covered(), id) {
					t.Errorf("%s is not covered: %v", id, a.sig.Covered())
				}
			}
		}
	}
}

// A handler may look at a part of the content: the rest is read for it, so far as it is not too much. What came without
// a digest may be there, and not be looked at.
//
// spec: SIG-14
func TestContentThatAHandlerLeaves(t *testing.T) {
	const some = `{"a": 1}`
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
		a       asking
		signed  bool
	}{
		{"not read at all", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusRequestEntityTooLarge) }, asking{body: make([]byte, 3<<20)}, true},
		{"JSON", func(_ http.ResponseWriter, r *http.Request) { json.NewDecoder(r.Body).Decode(new(any)) }, asking{body: []byte(some + strings.Repeat(" ", 100_000))}, true},
		{"too much", func(_ http.ResponseWriter, r *http.Request) { json.NewDecoder(r.Body).Decode(new(any)) }, asking{body: []byte(some + strings.Repeat(" ", 1_000_000))}, false},
		{"no digest, not read", func(http.ResponseWriter, *http.Request) {}, asking{body: []byte(some), digest: "-"}, true},
		{"no digest, read", func(_ http.ResponseWriter, r *http.Request) { io.ReadAll(r.Body) }, asking{body: []byte(some), digest: "-"}, false},
		{"no digest, read and flushed", func(w http.ResponseWriter, r *http.Request) {
			io.ReadAll(r.Body)
			http.NewResponseController(w).Flush()
		}, asking{body: []byte(some), digest: "-"}, false},
		{"taken away, and asked for", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "paid %q", r.FormValue("amount")) // which looks at no error
		}, asking{body: []byte{}, digest: httpsig.FormatDigest(sha256.Sum256([]byte("amount=1"))), header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}}, false},
		{"nothing, and asked for", func(_ http.ResponseWriter, r *http.Request) { io.ReadAll(r.Body) }, asking{body: []byte{}, digest: "-"}, true},
		{"no content and its digest", func(http.ResponseWriter, *http.Request) {}, asking{digest: httpsig.FormatDigest(sha256.Sum256(nil))}, true},
		{"no content and another digest", func(http.ResponseWriter, *http.Request) {}, asking{digest: httpsig.FormatDigest([32]byte{})}, false},
	} {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s over HTTP/2 %v", tc.name, h2), func(t *testing.T) {
				w, _ := signing(t, tc.handler, nil)
				a := tc.a
				a.method, a.chunked = http.MethodPost, true
				a.of(t, w, w.stock(h2))
				if signed := a.err == nil; signed != tc.signed {
					t.Errorf("signed %v: %v", signed, a.err)
				}
			})
		}
	}
}

// A proxy that changes a request's content is found out: the handler does not see its end, and nothing is signed.
//
// spec: SIG-14
func TestContentThatIsNotThatOfItsDigest(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		var seen error
		w, _ := signing(t, func(w http.ResponseWriter, r *http.Request) {
			_, seen = io.ReadAll(r.Body)
			if r.URL.Path == "/answers" {
				fmt.Fprint(w, "done")
			}
		}, nil)
		digest := httpsig.FormatDigest(sha256.Sum256([]byte("pay 1")))
		for path, want := range map[string]int{"": http.StatusBadRequest, "answers": http.StatusOK} {
			a := (&asking{method: http.MethodPost, path: path, body: []byte("pay 9"), digest: digest}).of(t, w, w.stock(h2))
			if a.resp.StatusCode != want || !errors.Is(a.err, httpsig.ErrUnsigned) {
				t.Errorf("%q: %d, %v", path, a.resp.StatusCode, a.err)
			}
			if !errors.Is(seen, httpsig.ErrAltered) {
				t.Errorf("the handler's read ended with %v", seen)
			}
		}
	}
}

// A handler that fails in the middle leaves no signature behind.
func TestAHandlerThatPanics(t *testing.T) {
	for _, part := range []int{10, long} {
		for _, h2 := range []bool{false, true} {
			w, _ := signing(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Write(make([]byte, part))
				panic(http.ErrAbortHandler)
			}, nil)
			a := (&asking{}).of(t, w, w.stock(h2))
			if a.err == nil {
				t.Errorf("%d bytes over HTTP/2 %v: the response is whole", part, h2)
			}
		}
	}
}

// A handler that sends less than it declared does not get a signature for it.
func TestLessThanDeclared(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		w, _ := signing(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "300000")
			w.Write(make([]byte, long))
		}, nil)
		if a := (&asking{}).of(t, w, w.stock(h2)); a.err == nil {
			t.Errorf("HTTP/2 %v: the response is whole", h2)
		}
		w, _ = signing(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "3")
			if _, err := w.Write(make([]byte, 4)); !errors.Is(err, http.ErrContentLength) {
				panic(err)
			}
		}, nil)
		if a := (&asking{}).of(t, w, w.stock(h2)); a.err == nil {
			t.Errorf("HTTP/2 %v: the response that is too long is whole", h2)
		}
	}
}

// Without evidence-request only what any cache may keep is signed, and everybody else is served as ever.
//
// spec: SIG-9
func TestStrangersGetSignaturesOfWhatIsPublic(t *testing.T) {
	var hijacks bool
	w, _ := signing(t, func(w http.ResponseWriter, r *http.Request) {
		_, hijacks = w.(http.Hijacker)
		w.Header().Set("Cache-Control", r.URL.Query().Get("cc"))
		if r.URL.Path == "/large" {
			w.Write(make([]byte, long))
			return
		}
		fmt.Fprint(w, "hello")
	}, nil)
	c := w.stock(false)
	for _, tc := range []struct {
		a     asking
		until time.Duration // 0: unsigned
	}{
		{asking{path: "?cc=public,max-age%3D60"}, httpsig.MaxLifetime},
		{asking{path: "?cc=public,max-age%3D3600"}, time.Hour},
		{asking{path: "?cc=public,max-age%3D60,s-maxage%3D7200"}, 2 * time.Hour},
		{asking{path: "?cc=public,max-age%3D99999999"}, httpsig.MaxPublicLifetime},
		{asking{path: "?cc=public,max-age%3D60", method: http.MethodHead}, httpsig.MaxLifetime},
		{asking{path: "?cc=public,max-age%3D60", method: http.MethodPost}, 0},
		{asking{path: "large?cc=public,max-age%3D60"}, 0},
		{asking{path: "?cc=max-age%3D60"}, 0},
		{asking{path: "?cc=public"}, 0},
		{asking{path: "?cc=private,max-age%3D60"}, 0},
		{asking{path: "?cc=public,max-age%3D60", header: http.Header{"Cookie": {"a=b"}}}, 0},
		{asking{path: "?cc=public,max-age%3D60", header: http.Header{"Authorization": {"Bearer a"}}}, 0},
	} {
		tc.a.stranger = true
		a := tc.a.of(t, w, c)
		if tc.until == 0 {
			if !errors.Is(a.err, httpsig.ErrUnsigned) {
				t.Errorf("%s %s is signed: %v", a.method, a.path, a.err)
			}
			continue
		}
		if a.err != nil || a.sig.Fresh || a.sig.ReplayableUntil.Sub(a.sig.Params.Created) != tc.until {
			t.Errorf("%s %s: %v, %+v", a.method, a.path, a.err, a.sig)
		}
	}
	if (&asking{stranger: true, method: http.MethodPost}).of(t, w, c); !hijacks {
		t.Error("a request that is never signed lost what its ResponseWriter can do")
	}
}

// Requests for an upgrade, in a tunnel, or with a bad or foreign request for evidence, pass as they are.
//
// spec: SIG-1
func TestWhatPassesUnsigned(t *testing.T) {
	w, _ := signing(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }, nil)
	c := w.stock(false)
	foreign := must(evidence.NewRequest(&tlsmsg.InspectionOffer{Proxies: make([][32]byte, 1), Authority: "other.example:443"}, "other.example"))
	for what, h := range map[string]http.Header{
		"upgrade":           {"Upgrade": {"websocket"}, "Connection": {"Upgrade"}},
		"malformed":         {"Evidence-Request": {"::"}},
		"another authority": {"Evidence-Request": {fields.FormatEvidenceRequest(foreign)}},
		"malformed digest":  {"Content-Digest": {"sha-256=:AAAA:"}},
	} {
		a := (&asking{header: h, stranger: h.Get("Evidence-Request") != "", digest: "-"})
		if what == "malformed digest" {
			a.digest = h.Get("Content-Digest")
		}
		if a.of(t, w, c); !errors.Is(a.err, httpsig.ErrUnsigned) || string(a.content) != "hello" {
			t.Errorf("%s: %v, %q", what, a.err, a.content)
		}
	}
	s := w.hop(w.proxy)
	if a := (&asking{}).of(t, w, w.client(s)); !errors.Is(a.err, httpsig.ErrUnsigned) {
		t.Errorf("in a tunnel: %v", a.err)
	}
}

// A flood of requests makes no more signatures at once than SignConfig.Signatures says, and all are answered.
func TestSignaturesWaitForASlot(t *testing.T) {
	w, _ := signing(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }, &SignConfig{Signatures: 1})
	c, done := w.stock(true), make(chan error)
	const flood = 32
	for range flood {
		go func() { done <- (&asking{}).of(t, w, c).err }()
	}
	for range flood {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// A server with several certificates signs with the one that the connection showed, whatever its key.
//
// spec: SIG-7
func TestTheCertificateThatWasShownSigns(t *testing.T) {
	made := newWorld(t, nil)
	other := must(made.origins.Origin("other.example"))
	keys := map[string]crypto.Signer{
		"P-256": must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), "P-384": must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)),
		"RSA": must(rsa.GenerateKey(rand.Reader, 2048)),
	}
	_, keys["Ed25519"], _ = ed25519.GenerateKey(rand.Reader)
	for kind, key := range keys {
		own := must(made.origins.OriginOf(key, name))
		for what, c := range map[string]*tls.Config{
			"second of two":      {Certificates: []tls.Certificate{other, own}},
			"GetCertificate":     {GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &own, nil }},
			"GetConfigForClient": {GetConfigForClient: configFor(own)},
		} {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				t.Run(fmt.Sprintf("%s %s %s", kind, what, tls.VersionName(version)), func(t *testing.T) {
					w := newWorld(t, nil)
					w.origins, w.srv.TLSConfig = made.origins, c.Clone()
					w.srv.TLSConfig.MaxVersion = version
					w.srv.Handler = must(SignResponses(http.HandlerFunc(answers()["large"]), &SignConfig{TLSConfig: w.srv.TLSConfig}))
					w.serve(nil)
					if a := (&asking{}).of(t, w, w.stock(true)); a.err != nil {
						t.Error(a.err)
					}
				})
			}
		}
	}
}

// configFor is a callback that wants to know who calls.
func configFor(own tls.Certificate) func(*tls.ClientHelloInfo) (*tls.Config, error) {
	return func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if hello.Conn.RemoteAddr().String() == "" || hello.Conn.LocalAddr().Network() == "" {
			return nil, errors.New("a connection without addresses")
		}
		return &tls.Config{Certificates: []tls.Certificate{own}, NextProtos: []string{"h2", "http/1.1"}}, nil
	}
}

func TestSignConfigThatCannotWork(t *testing.T) {
	w := newWorld(t, nil)
	p521 := must(w.origins.OriginOf(must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)), name))
	for what, cfg := range map[string]*SignConfig{
		"nil":           nil,
		"no TLSConfig":  {},
		"long":          {TLSConfig: w.srv.TLSConfig, Lifetime: httpsig.MaxLifetime + 1},
		"under 1s":      {TLSConfig: w.srv.TLSConfig, Lifetime: time.Millisecond},
		"large buffer":  {TLSConfig: w.srv.TLSConfig, BufferBytes: 1<<20 + 1},
		"curve of P521": {TLSConfig: &tls.Config{Certificates: []tls.Certificate{p521}}},
	} {
		if _, err := SignResponses(http.NotFoundHandler(), cfg); err == nil {
			t.Errorf("%s is no error", what)
		}
	}
}

// A client that waits for the answer before it sends the rest is not waited for, also where the handler has left
// somebody who reads on, as net/http/httputil does.
func TestContentThatNeverEnds(t *testing.T) {
	for i := range 3 {
		h2, reader := i > 0, i > 1
		synctest.Test(t, func(t *testing.T) {
			w, why := signing(t, func(w http.ResponseWriter, r *http.Request) {
				io.ReadFull(r.Body, make([]byte, 3))
				if reader {
					go io.Copy(io.Discard, r.Body)
					synctest.Wait()
				}
				fmt.Fprint(w, "hello")
			}, nil)
			body, more := io.Pipe()
			go more.Write([]byte("rest"))
			req := must(http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+name+"/", body))
			offer := w.visit().offer
			req.Header.Set(fields.EvidenceRequest, fields.FormatEvidenceRequest(must(evidence.NewRequest(&offer, name))))
			req.Header.Set(httpsig.ContentDigest, httpsig.FormatDigest([32]byte{}))
			c := w.stock(h2)
			start := time.Now()
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			content, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			more.Close()
			if took := time.Since(start); string(content) != "hello" || resp.Header.Get("Signature") != "" || took < drainTime || took > 2*drainTime {
				t.Errorf("%q after %v, signature %q", content, took, resp.Header.Get("Signature"))
			}
			if err := <-why; !errors.Is(err, errUnread) {
				t.Error(err)
			}
			c.CloseIdleConnections()
			w.srv.Close()
			synctest.Wait()
		})
	}
}

// A handler finds what http.ResponseController offers, but for what would go past the signature.
func TestWhatTheResponseWriterCan(t *testing.T) {
	w, _ := signing(t, func(w http.ResponseWriter, _ *http.Request) {
		control := http.NewResponseController(w)
		later := time.Now().Add(time.Hour)
		if err := errors.Join(control.EnableFullDuplex(), control.SetReadDeadline(later), control.SetWriteDeadline(later), control.Flush()); err != nil {
			panic(err)
		}
		if _, _, err := control.Hijack(); !errors.Is(err, http.ErrNotSupported) {
			panic("a signed response can be hijacked")
		}
	}, nil)
	for _, h2 := range []bool{false, true} {
		if a := (&asking{}).of(t, w, w.stock(h2)); a.err != nil {
			t.Errorf("HTTP/2 %v: %v", h2, a.err)
		}
	}
}

// Where no signature can be made the response is served as ever, and the server's owner hears why.
func TestWhyAResponseIsUnsigned(t *testing.T) {
	key := must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))
	for _, part := range []int{10, long} {
		made := newWorld(t, nil)
		cert := must(made.origins.OriginOf(key, name))
		why := make(chan error, 1)
		made.srv.TLSConfig = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }}
		made.srv.Handler = must(SignResponses(
			http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, part)) }),
			&SignConfig{TLSConfig: made.srv.TLSConfig, OnUnsigned: func(_ *http.Request, err error) { why <- err }},
		))
		made.serve(nil)
		if a := (&asking{}).of(t, made, made.stock(true)); !errors.Is(a.err, httpsig.ErrUnsigned) || len(a.content) != part {
			t.Errorf("%v, %d bytes", a.err, len(a.content))
		}
		if err := <-why; !errors.Is(err, httpsig.ErrKey) {
			t.Error(err)
		}
	}
}

// HTTP/1.0 has no trailer section: what does not fit the buffer stays unsigned, and whole.
func TestHTTP10(t *testing.T) {
	w, why := signing(t, func(w http.ResponseWriter, r *http.Request) {
		w.Write(make([]byte, map[string]int{"/large": long, "/small": 10}[r.URL.Path]))
	}, nil)
	offer := w.visit().offer
	request := fields.FormatEvidenceRequest(must(evidence.NewRequest(&offer, name)))
	for path, want := range map[string]int{"/large": long, "/small": 10} {
		conn := must(w.dial([]string{"http/1.1"}))
		fmt.Fprintf(conn, "GET %s HTTP/1.0\r\nHost: %s\r\nEvidence-Request: %s\r\n\r\n", path, name, request)
		resp := must(http.ReadResponse(bufio.NewReader(conn), nil))
		content := must(io.ReadAll(resp.Body))
		conn.Close()
		if signed := resp.Header.Get("Signature") != ""; len(content) != want || signed != (path == "/small") {
			t.Errorf("%s: %d bytes, signed %v", path, len(content), signed)
		}
	}
	if err := <-why; err == nil || !strings.Contains(err.Error(), "HTTP/1.0") {
		t.Error(err)
	}
}

// Interim responses leave at once, with the fields of their moment.
func TestInterimResponsesPass(t *testing.T) {
	w, _ := signing(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		fmt.Fprint(w, "hello")
	}, nil)
	for _, h2 := range []bool{false, true} {
		var hint string
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
			hint = h.Get("Link")
			return nil
		}})
		resp := must(w.stock(h2).Do(must(http.NewRequestWithContext(ctx, http.MethodGet, "https://"+name+"/", nil))))
		resp.Body.Close()
		if hint != "</style.css>" || resp.Header.Get("Link") != "" {
			t.Errorf("HTTP/2 %v: the hint was %q, and then %q", h2, hint, resp.Header.Get("Link"))
		}
	}
}
