package proxy

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"vitrine/internal/fields"
	"vitrine/internal/hop"
)

// A TRACE or OPTIONS goes as far as Max-Forwards lets it. For other methods the field means nothing, and stays.
//
// spec: PRX-65 PRX-66
func TestMaxForwards(t *testing.T) {
	overBoth(t, func(t *testing.T, protocol string) {
		st := newStage(t, withSplit)
		o := st.stock(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Got", fmt.Sprintf("%s %q", r.Method, r.Header.Values("Max-Forwards")))
		}), protocol)
		c := st.split()
		asked := 0
		for _, tt := range []struct {
			method, given, got string
			status             int // of the proxy's own answer
		}{
			{"OPTIONS", "1", `OPTIONS ["0"]`, 0},
			{"TRACE", "10", `TRACE ["9"]`, 0},
			{"OPTIONS", strings.Repeat("9", 30), `OPTIONS ["2147483646"]`, 0},
			{"OPTIONS", "", `OPTIONS []`, 0},
			{"GET", "0", `GET ["0"]`, 0},
			{"GET", "x", `GET ["x"]`, 0},
			{"OPTIONS", "0", "", 200},
			{"TRACE", "000", "", 200},
			{"TRACE", "-1", "", 400},
		} {
			a := c.ask(tt.method, "/page?q", true, func(r *hop.Request) {
				if tt.given != "" {
					r.Header.Set("Max-Forwards", tt.given)
				}
				r.Header.Set("Cookie", "secret=1")
				r.Header.Set("X-Mine", "a")
			})
			resp := a.head()
			body := string(resp.Body) + string(a.body())
			if tt.status == 0 {
				asked++
				c.isForwarded(resp, 200)
				if got := resp.Header.Get("X-Got"); got != tt.got {
					t.Errorf("%s %s: the origin got %s", tt.method, tt.given, got)
				}
				continue
			}
			if _, own := resp.Header[http.CanonicalHeaderKey(fields.EvidenceID)]; own || resp.Status != tt.status {
				t.Errorf("%s %s: %d, %v", tt.method, tt.given, resp.Status, resp.Header)
			}
			if traced := resp.Header.Get("Content-Type") == "message/http"; traced != (tt.method == "TRACE" && tt.status == 200) {
				t.Errorf("%s %s: %v", tt.method, tt.given, resp.Header)
			} else if traced && (!strings.HasPrefix(body, "TRACE /page?q HTTP/1.1\r\n") || !strings.Contains(strings.ToLower(body), "x-mine: a\r\n") || strings.Contains(body, "secret")) {
				t.Errorf("%q", body)
			}
		}
		got := 0
		for _, n := range o.counts() {
			got += n
		}
		if got != asked {
			t.Errorf("the origin saw %d requests of %d", got, asked)
		}
	})
}
