package hostile

import (
	"fmt"
	"net/http"

	"vitrine/internal/hop"
)

// incomingRequest is an ordinary request that a session made by [Lie] accepted.
type incomingRequest struct {
	incoming
	r hop.IncomingRequest
}

func (i *incomingRequest) End() bool { return i.r.End() }

func (i *incomingRequest) Answer() (hop.Answering, error) {
	a, err := i.r.Answer()
	if err != nil {
		return nil, err
	}
	var m Mangler
	if i.s.lies.Mangler != nil {
		m = i.s.lies.Mangler(a.ID())
	}
	return &answering{stream: stream{Stream: a, s: i.s, m: m}, a: a, req: i.Request()}, nil
}

// answering is an exchange in which the answer is lied about: its head by [Lies.Answer], its content by the
// Mangler, its trailer section by [Lies.Trailer].
type answering struct {
	stream
	a   hop.Answering
	req *hop.Request
}

func (x *answering) Trailer() http.Header { return x.a.Trailer() }

func (x *answering) Interim(status int, h http.Header) error { return x.a.Interim(status, h) }

func (x *answering) Respond(r *hop.Response, end bool) error {
	lie := x.s.answer(x.req, r)
	if lie.Status < http.StatusOK {
		x.Reset(hop.Cancel)
		return fmt.Errorf("hostile: %d is no final answer", lie.Status)
	}
	return x.a.Respond(lie, end)
}

func (x *answering) SendTrailer(h http.Header) error {
	if x.ended.Load() {
		return nil
	}
	if k, ok := x.m.(Holder); ok {
		if err := x.send(k.Flush()); err != nil {
			return err
		}
	}
	if x.s.lies.Trailer != nil {
		h = x.s.lies.Trailer(x.ID(), h.Clone())
	}
	return x.a.SendTrailer(h)
}
