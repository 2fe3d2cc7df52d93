package inspect

import (
	"errors"
	"io"
	"time"

	"vitrine/frames"
)

// exchange is the request that is open and its response.
type exchange struct {
	id      uint64
	started time.Time
	method  string
	path    string
	http10  bool
	headEnd int64 // application offset behind the request's header section
	status  int   // of the final response

	request, response span

	expects   bool // 100-continue
	continued bool // a 100 was sent
	refused   bool // a final response came instead; the body has no sure place any more
	interim   int

	watches []*watch
}

// A span is where a message lies in its direction, in application offsets.
type span struct {
	start, end int64
	done       bool // end is known
}

// passed is how many bytes of the message were released.
func (p *span) passed(s *side) int64 {
	upTo := s.releasedApp
	if p.done {
		upTo = min(upTo, p.end)
	}
	return max(upTo-p.start, 0)
}

func (x *exchange) span(d frames.Direction) *span {
	if d == frames.ToOrigin {
		return &x.request
	}
	return &x.response
}

func (t *Tunnel) newExchange(r requestLine, f *framing) *exchange {
	t.serial++
	t.x = &exchange{
		id: t.serial, started: t.now(), method: r.method, path: r.path,
		http10: r.http10, expects: f.expect && !r.http10,
	}
	t.x.response.start = t.sides[frames.ToClient].app
	return t.x
}

// finish closes the exchange when both messages are complete and released, or when err ends it before.
func (t *Tunnel) finish(err error) {
	x := t.x
	if x == nil {
		return
	}
	request, response := &t.sides[frames.ToOrigin], &t.sides[frames.ToClient]
	whole := x.request.done && x.response.done &&
		request.releasedApp >= x.request.end && response.releasedApp >= x.response.end
	if whole {
		err = nil
	} else if err == nil {
		return
	}
	o := Outcome{Err: err, Sent: x.request.passed(request), Recved: x.response.passed(response)}
	if kill, ok := err.(*KillError); ok {
		o.Killed = &Decision{Action: Kill, Rule: kill.Rule, Reason: kill.Detail}
	}
	t.x = nil
	for _, w := range x.watches {
		if kill := w.close(o); kill != nil && t.broken == nil {
			t.broken = kill
		}
	}
	if t.broken != nil && err != nil {
		err = errors.Join(err, t.broken)
	}
	if t.cfg.Log != nil {
		t.cfg.Log(Passed{
			ID: x.id, Started: x.started, Method: x.method, Host: t.cfg.Authority, Path: x.path,
			Status: x.status, ToOrigin: o.Sent, ToClient: o.Recved, Err: err,
		})
	}
}

// early is the Outcome of an exchange that was open when the tunnel ended for err.
func early(err error) error {
	if err == nil {
		return io.ErrUnexpectedEOF
	}
	return err
}
