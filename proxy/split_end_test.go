package proxy

import (
	"io"
	"net/http"
	"testing"
	"testing/synctest"

	"vitrine/internal/hop"
)

// An origin of HTTP/1.1 takes a request for complete with the last byte of its declared length. What comes behind that
// byte is judged before the origin has it.
//
// spec: RDR-40 PRX-64
func TestTheEndOfARequestIsJudgedBeforeTheOriginHasIt(t *testing.T) {
	atEnd := inspectorOf(func(response bool, p Part) Decision {
		if !response && p.End {
			return Decision{Action: Kill, Rule: "the-rule"}
		}
		return Decision{}
	})
	for name, tt := range map[string]struct {
		inspectors []Inspector
		protocols  []string
		end        func(a *sent) error
	}{
		"a kill": {[]Inspector{atEnd}, []string{"http/1.1", "h2"}, func(a *sent) error { return a.conn.CloseWrite() }},
		"a trailer section that may not be": {nil, []string{"http/1.1"}, func(a *sent) error {
			return a.SendTrailer(http.Header{"X-Late": {"1"}})
		}},
		"a reset": {nil, []string{"http/1.1", "h2"}, func(a *sent) error { a.Reset(hop.Cancel); return nil }},
	} {
		for _, protocol := range tt.protocols {
			t.Run(name+" "+protocol, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					st := newStage(t, withSplit, func(p *Proxy) { p.Inspectors = tt.inspectors })
					read := make(chan error, 1)
					st.stock(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
						_, err := io.ReadAll(r.Body)
						read <- err
					}), protocol)
					c := st.split()
					a := c.ask("POST", "/", false, func(req *hop.Request) { req.Header.Set("Content-Length", "8") })
					for _, p := range []string{"good", "good"} {
						if _, err := io.WriteString(a.conn, p); err != nil {
							t.Fatal(err)
						}
						synctest.Wait()
					}
					if err := tt.end(a); err != nil {
						t.Fatal(err)
					}
					if resp, err := a.Response(t.Context(), nil); err == nil {
						t.Fatalf("%+v, %v", resp, err)
					}
					if err := <-read; err == nil {
						t.Error("the origin has the whole request")
					}
					a.conn.Close()
					st.close()
					synctest.Wait()
				})
			})
		}
	}
}
