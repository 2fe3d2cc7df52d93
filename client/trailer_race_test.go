package client

import (
	"crypto/tls"
	"io"
	"net/http"
	"sync"
	"testing"

	"vitrine/frames"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
)

// slowTrailer sets its request's trailer while a second send of it may begin.
type slowTrailer struct {
	req             *http.Request
	refused, second chan struct{}
	once            sync.Once
}

func (b *slowTrailer) Read(p []byte) (int, error) {
	n, err := 0, io.EOF
	b.once.Do(func() {
		<-b.refused
		b.req.Trailer.Set("X-Sum", "7")
		<-b.second
		n, err = copy(p, "content"), nil
	})
	return n, err
}

// A Read of the first send may go on while the second begins, and its body may say then what comes behind it.
func TestATrailerIsSetDuringTheSecondSend(t *testing.T) {
	for name, tunnel := range map[string]bool{"without a tunnel": false, "into a tunnel": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			sp := w.split(t, new(tls.Config))
			body := &slowTrailer{refused: make(chan struct{}), second: make(chan struct{})}
			got := make(chan http.Header, 1)
			w.handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				got <- r.Trailer
			})
			tr := w.transport(accepting(Attested, Blind))
			get(t, tr, "https://origin.example/") // which makes the evidence
			<-got
			asks := 0
			sp.refuse = func(*hop.Request) *hop.Response {
				if asks++; asks > 1 {
					close(body.second)
					return nil
				}
				close(body.refused)
				if tunnel {
					return &hop.Response{Status: frames.StatusInspectionRequired}
				}
				sp.lose()
				return nil
			}
			if tunnel { // a policy that was read again
				w.modes = []fields.Mode{fields.Blind}
				w.answer = func(in hop.Incoming, req *hop.Request) bool {
					if req.Protocol == "" {
						close(body.second)
						return false
					}
					w.refuse(in, frames.StatusInspectionRequired, "", nil)
					return true
				}
			}
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, "https://origin.example/", body)
			req.Trailer = http.Header{"X-Sum": nil}
			body.req = req
			if _, _, err := do(tr, req); err != nil {
				t.Fatal(err)
			}
			if h := <-got; h.Get("X-Sum") != "7" {
				t.Errorf("%v", h)
			}
		})
	}
}
