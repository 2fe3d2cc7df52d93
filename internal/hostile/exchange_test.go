package hostile

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"

	"vitrine/internal/hop"
)

// fakeRequest is an ordinary request that notes what is done to it.
type fakeRequest struct{ fakeIncoming }

func (f fakeRequest) End() bool                      { return true }
func (f fakeRequest) Answer() (hop.Answering, error) { return fakeAnswering{fakeStream{f.fake}}, nil }

type fakeAnswering struct{ fakeStream }

func (f fakeAnswering) Trailer() http.Header { return http.Header{"Came": {"last"}} }

func (f fakeAnswering) Interim(status int, _ http.Header) error {
	f.note(fmt.Sprint("interim ", status))
	return nil
}

func (f fakeAnswering) Respond(r *hop.Response, end bool) error {
	f.note(fmt.Sprint("respond ", r.Status, r.Header, end))
	return nil
}

func (f fakeAnswering) SendTrailer(h http.Header) error {
	f.note(fmt.Sprint("trailer ", h))
	return nil
}

func TestLiesAboutExchanges(t *testing.T) {
	for _, x := range []struct {
		name string
		lies Lies
		do   func(a hop.Answering) error
		want []string
	}{
		{"the truth", Lies{}, func(a hop.Answering) error {
			return errors.Join(a.Interim(103, nil), a.Respond(&hop.Response{Status: 200}, false), a.Send(Buffers([]byte("bytes"))[0]), a.SendTrailer(http.Header{"X": {"y"}}))
		}, []string{"interim 103", "respond 200 map[] false", "bytes", "trailer map[X:[y]]"}},
		{"another head", Lies{Answer: func(_ *hop.Request, r *hop.Response) { r.Header.Set("X", "lie"); r.Status = 404 }}, func(a hop.Answering) error {
			return a.Respond(&hop.Response{Status: 200}, true)
		}, []string{"respond 404 map[X:[lie]] true"}},
		{"no final answer", Lies{Answer: func(_ *hop.Request, r *hop.Response) { r.Status = 100 }}, func(a hop.Answering) error {
			if a.Respond(&hop.Response{Status: 200}, true) == nil {
				return errors.New("100 counts as final")
			}
			return nil
		}, []string{"reset"}},
		{"other content", Lies{Mangler: func(uint64) Mangler { return Flip([]byte("bytes")) }}, func(a hop.Answering) error {
			return errors.Join(a.Respond(&hop.Response{Status: 200}, false), a.Send(Buffers([]byte("bytes"))[0]), a.CloseSend())
		}, []string{"respond 200 map[] false", "cytes", "end"}},
		{"other trailers, behind what was kept back", Lies{
			Mangler: func(uint64) Mangler { return Swap(0) },
			Trailer: func(_ uint64, h http.Header) http.Header { h.Set("X", "lie"); return h },
		}, func(a hop.Answering) error {
			return errors.Join(a.Send(Buffers(record(23, "kept"))[0]), a.SendTrailer(http.Header{"X": {"y"}}))
		}, []string{string(record(23, "kept")), "trailer map[X:[lie]]"}},
		{"a cut has no trailers", Lies{Mangler: func(uint64) Mangler { return Cut(0, 6) }}, func(a hop.Answering) error {
			return errors.Join(a.Send(Buffers(record(23, "first"))[0]), a.SendTrailer(http.Header{"X": {"y"}}))
		}, []string{string(record(23, "first")[:6]), "end"}},
		{"another verdict", Lies{Verdict: func(uint64, []byte) []byte { return []byte("lie") }}, func(a hop.Answering) error {
			a.Kill([]byte("why"))
			return nil
		}, []string{"kill lie"}},
	} {
		f := &fake{req: &hop.Request{Method: http.MethodGet}}
		s := Lie(fakeSession{f}, x.lies).(*session)
		in := s.lieTo(fakeRequest{fakeIncoming{f}})
		r, ok := in.(hop.IncomingRequest)
		if !ok || !r.End() || r.Session() != hop.Session(s) {
			t.Fatalf("%s: %T", x.name, in)
		}
		a, err := r.Answer()
		if err == nil && a.Session() != hop.Session(s) {
			t.Errorf("%s: the exchange is on another session", x.name)
		}
		if err == nil {
			err = x.do(a)
		}
		if err != nil || a.Trailer().Get("Came") != "last" {
			t.Errorf("%s: %v", x.name, err)
		}
		if !slices.Equal(f.did, x.want) {
			t.Errorf("%s: %q, want %q", x.name, f.did, x.want)
		}
	}
}
