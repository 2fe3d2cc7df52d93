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
