package client

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
)

// A body that ends before its length is not one that its digest makes whole.
//
// spec: CLI-45
func TestABodyThatIsShorterThanItsLengthIsNotSigned(t *testing.T) {
	for length, ok := range map[int64]bool{4: true, 10: false, 3: false, -1: true} {
		w := newWorld(t)
		w.signing(t, new(tls.Config))
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://origin.example/", io.MultiReader(strings.NewReader("once")))
		req.ContentLength = length
		_, _, err := do(w.transport(accepting(Signed)), req)
		if ok != (err == nil) || !ok && w.took() != 0 {
			t.Errorf("%d: %v", length, err)
		}
	}
}

// A cookie that the application has written in its own way is no forgery where HTTP/2 takes it apart.
//
// spec: SIG-2
func TestCookiesSurviveHTTP2(t *testing.T) {
	for _, proto := range []string{"h2", "http/1.1"} {
		for _, lines := range [][]string{{"a=1; b=2"}, {"a=1;b=2"}, {"a=1;  b=2;"}, {"a=1;;b=2"}, {"a=1", "b=2"}} {
			w := newWorld(t)
			w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { io.WriteString(rw, r.Header.Get("Cookie")) })
			w.signing(t, &tls.Config{NextProtos: []string{proto}})
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://origin.example/", nil)
			req.Header["Cookie"] = lines
			_, body, err := do(w.transport(func(tr *Transport) { tr.Levels, tr.Consent = []Level{Signed}, Once{Credentials: true} }), req)
			if err != nil || string(body) != "a=1; b=2" {
				t.Errorf("%s: %q: %q, %v", proto, lines, body, err)
			}
		}
	}
}
