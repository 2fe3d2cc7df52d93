package client

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"vitrine/internal/hop"
	"vitrine/internal/httpsig"
)

// A caller that reads as much as Content-Length says, and not the end behind it, must not have it all of a response
// that was changed.
//
// spec: SIG-13 SIG-17 CLI-40 CLI-41
func TestAChangedResponseIsNeverWhole(t *testing.T) {
	for _, tt := range []struct {
		name string
		size int
	}{{"signed in its head", 5}, {"signed in its trailer section", 100_000}} {
		for _, changed := range []bool{false, true} {
			w := newWorld(t)
			w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				rw.Write(bytes.Repeat([]byte("x"), tt.size))
			})
			sp := w.signing(t, new(tls.Config))
			sp.onHead = func(_ hop.Answering, _ [32]byte, resp *http.Response) bool {
				resp.Header.Set("Content-Length", map[int]string{5: "5", 100_000: "100000"}[tt.size])
				return false
			}
			if changed {
				sp.change = func(p []byte) { p[0] ^= 1 }
			}
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://origin.example/", nil)
			resp, err := w.transport(accepting(Signed)).RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.ContentLength != int64(tt.size) {
				t.Fatalf("%s: ContentLength %d", tt.name, resp.ContentLength)
			}
			_, err = io.ReadFull(resp.Body, make([]byte, tt.size))
			if !changed {
				if err != nil || !ReportOf(resp).Signature.Verified {
					t.Errorf("%s: %v, verified %v", tt.name, err, ReportOf(resp).Signature.Verified)
				}
				continue
			}
			wantIntegrity(t, err, "not what the origin signed")
			if rep := ReportOf(resp); rep.Level != "" || rep.Signature.Verified {
				t.Errorf("%s: the report says %q, verified %v", tt.name, rep.Level, rep.Signature.Verified)
			}
		}
	}
}

// A proxy that says that the signature will come behind the content must not have anybody follow where it points
// before.
//
// spec: SIG-17
func TestARedirectIsFollowedOnlyWhenItsSignatureHolds(t *testing.T) {
	for _, tt := range []struct {
		name string
		lie  func(sp *splitter)
		bad  string
	}{
		{"true", func(*splitter) {}, ""},
		{"another location", func(sp *splitter) {
			sp.onHead = func(_ hop.Answering, _ [32]byte, resp *http.Response) bool {
				if resp.Header.Get("Location") != "" {
					resp.Header.Set("Location", "/evil")
				}
				return false
			}
		}, "not what the origin signed"},
		{"without an end", func(sp *splitter) {
			sp.onHead = func(_ hop.Answering, _ [32]byte, resp *http.Response) bool {
				resp.Header.Del("Content-Length")
				resp.Body = io.NopCloser(io.MultiReader(resp.Body, strings.NewReader(strings.Repeat("x", 2<<20))))
				return false
			}
		}, "longer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/" {
					rw.Header().Set("Location", "/there")
					rw.WriteHeader(http.StatusFound)
				}
				rw.Write(bytes.Repeat([]byte("x"), 4<<10)) // more than the origin keeps
			})
			sp := w.signing(t, new(tls.Config))
			tt.lie(sp)
			tr := w.transport(accepting(Signed))
			c := &http.Client{Transport: tr, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
				if r.URL.Path == "/evil" {
					t.Error("a redirect that nobody signed is followed")
				}
				return nil
			}}
			resp, err := c.Get("https://origin.example/")
			if tt.bad != "" {
				if u, ok := err.(*url.Error); ok {
					err = u.Err
				}
				wantIntegrity(t, err, tt.bad)
				if took := w.took(); took != 1 {
					t.Errorf("%d requests", took)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || len(body) != 4<<10 || resp.Request.URL.Path != "/there" || ReportOf(resp).Level != Signed {
				t.Errorf("%v, %d bytes of %s", err, len(body), resp.Request.URL)
			}
			// The content of the redirect itself is there, too.
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://origin.example/", nil)
			resp, body, err = do(tr, req)
			if err != nil || len(body) != 4<<10 || resp.StatusCode != http.StatusFound || !ReportOf(resp).Signature.Verified || ReportOf(resp).Bytes != 4<<10 {
				t.Errorf("%v, %d bytes, %d", err, len(body), resp.StatusCode)
			}
			for name := range resp.Trailer {
				if name != httpsig.ContentDigest {
					t.Errorf("trailer %v", resp.Trailer)
				}
			}
		})
	}
}

// A proxy that says that the signature will come behind the content must not plant a cookie: whoever keeps cookies takes
// them from the head, before there is an error.
//
// spec: SIG-17
func TestACookieIsTakenOnlyWhenItsSignatureHolds(t *testing.T) {
	evil := func(sp *splitter) {
		sp.onHead = func(_ hop.Answering, _ [32]byte, resp *http.Response) bool {
			resp.Header.Set("Set-Cookie", "a=evil")
			return false
		}
	}
	for _, tt := range []struct {
		name string
		size int
		lie  func(sp *splitter)
		kept string
		bad  string
	}{
		{"true", 4 << 10, func(*splitter) {}, "a=true", ""},
		{"another", 4 << 10, evil, "", "not what the origin signed"},
		{"true, before content that is long", 2 << 20, func(*splitter) {}, "", ""},
		{"another, before content that is long", 2 << 20, evil, "", "not what the origin signed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Set-Cookie", "a=true")
				rw.Write(bytes.Repeat([]byte("x"), tt.size))
			})
			sp := w.signing(t, new(tls.Config))
			tt.lie(sp)
			jar, err := cookiejar.New(nil)
			if err != nil {
				t.Fatal(err)
			}
			c := &http.Client{Transport: w.transport(accepting(Signed)), Jar: jar}
			resp, err := c.Get("https://origin.example/")
			var body []byte
			if err == nil {
				body, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
			if u, ok := err.(*url.Error); ok {
				err = u.Err
			}
			if tt.bad != "" {
				wantIntegrity(t, err, tt.bad)
			} else if err != nil || len(body) != tt.size || !ReportOf(resp).Signature.Verified {
				t.Errorf("%d bytes, %v", len(body), err)
			}
			kept := ""
			for _, cookie := range jar.Cookies(&url.URL{Scheme: "https", Host: "origin.example", Path: "/"}) {
				kept += cookie.String()
			}
			if kept != tt.kept {
				t.Errorf("kept %q, want %q", kept, tt.kept)
			}
		})
	}
}
