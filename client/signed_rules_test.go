package client

import (
	"crypto/tls"
	"io"
	"net/http"
	"testing"
)

// Until the content is complete nobody is told that a signature over it holds, and nothing is remembered.
//
// spec: CLI-43
func TestASignatureIsNotVerifiedBeforeTheEnd(t *testing.T) {
	for name, flush := range map[string]bool{"in the head": false, "behind the content": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				io.WriteString(rw, "hel")
				if flush {
					rw.(http.Flusher).Flush()
				}
				io.WriteString(rw, "lo")
			})
			w.signing(t, new(tls.Config))
			tr := w.transport(accepting(Signed))
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://origin.example/", nil)
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			verified := func() (reported, remembered bool) {
				_, remembered = tr.pool.dialer.memory().Reached("origin.example:443")
				return ReportOf(resp).Signature.Verified, remembered
			}
			if _, err := io.ReadFull(resp.Body, make([]byte, 4)); err != nil {
				t.Fatal(err)
			}
			if reported, remembered := verified(); reported || remembered {
				t.Errorf("before the end: reported %v, remembered %v", reported, remembered)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				t.Fatal(err)
			}
			if reported, remembered := verified(); !reported || !remembered {
				t.Errorf("at the end: reported %v, remembered %v", reported, remembered)
			}
		})
	}
}

// What was reached at intact is not had without a signature either.
//
// spec: CLI-44
func TestAnOriginThatWasReachedAtIntactAndDoesNotSign(t *testing.T) {
	w := newWorld(t)
	w.split(t, new(tls.Config))
	tr := w.transport(accepting(Signed, Attested))
	get(t, tr, "https://origin.example/")
	tr.pool.dialer.memory().Remember("origin.example:443", Intact)
	_, _, err := tryGet(t, tr, "https://origin.example/")
	wantLevelError(t, err, "better level before", "attested")
}
