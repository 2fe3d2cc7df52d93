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

// A request of a method that seldom has content keeps its trailer section where it has no content but that.
//
// spec: PRX-50
func TestTrailersBehindNoContent(t *testing.T) {
	for _, method := range []string{"GET", "DELETE", "POST"} {
		overBoth(t, func(t *testing.T, protocol string) {
			st := newStage(t, withSplit)
			st.stock(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if p, err := io.ReadAll(r.Body); len(p) > 0 || err != nil {
					t.Errorf("%d bytes, %v", len(p), err)
				}
				w.Header().Set("X-Got", r.Trailer.Get("X-Late"))
			}), protocol)
			c := st.split()
			a := c.ask(method, "/", false, func(req *hop.Request) { req.Header.Set("Trailer", "x-late") })
			if err := a.SendTrailer(http.Header{"X-Late": {"here"}}); err != nil {
				t.Fatal(err)
			}
			resp := a.head()
			c.isForwarded(resp, 200)
			if got := resp.Header.Get("X-Got"); got != "here" {
				t.Errorf("%s: the origin got %q", method, got)
			}
			a.body()
		})
	}
}

// Policy that has come to refuse a target is asked before a connection is made for a request, too.
//
// spec: PRX-34 PRX-58
func TestNoNewConnectionToATargetThatIsRefused(t *testing.T) {
	st := newStage(t, withSplit)
	st.stock(http.NotFoundHandler(), "h2")
	c := st.split()
	req, _ := c.request("GET", "/")
	dials := st.dials()
	st.sessions(func(s *session) bool {
		target, err := s.splitTarget(req)
		if err != nil {
			t.Fatal(err)
		}
		if a := anAnswer(s.anew(t.Context(), target, nil, connectionGone)); a == nil || a.status != http.StatusForbidden {
			t.Errorf("%+v", a)
		}
		return true
	})
	if st.dials() != dials {
		t.Error("it was dialled")
	}
}
