package h2

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"

	"vitrine/internal/hop"
)

// End implements [hop.IncomingRequest].
func (in incomingRequest) End() bool { return in.ended }

// Answer implements [hop.IncomingRequest].
func (in incomingRequest) Answer() (hop.Answering, error) {
	s := in.st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.answered || in.streamed {
		return nil, errAnswered
	}
	in.streamed = true
	return &answering{stream: in.st, in: in.incoming}, nil
}

// An answering is a request of the peer's whose content streams.
type answering struct {
	*stream
	in *incoming

	mu          sync.Mutex // orders heads; it is taken before every other lock
	responded   bool
	interims    int
	interimSize int
}

// Interim implements [hop.Answering].
func (a *answering) Interim(status int, h http.Header) error {
	if status < 100 || status > 199 || status == http.StatusSwitchingProtocols {
		return fmt.Errorf("h2: %d is not the status of an interim response", status)
	}
	fields, err := appendFields([]hpack.HeaderField{{Name: ":status", Value: strconv.Itoa(status)}}, h)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.responded {
		return errAnswered
	}
	limit := a.s.lim.HeaderBytes
	if peers := a.s.w.maxHeaderList.Load(); peers > 0 {
		limit = min(limit, int(peers))
	}
	size := a.interimSize + listSize(fields)
	if a.interims == maxInterims || size > limit {
		return fmt.Errorf("h2: more than %d interim responses, or %d bytes of them", maxInterims, limit)
	}
	a.interims++
	a.interimSize = size
	a.s.sendHead(a.stream, &head{fields: fields, interim: true})
	return a.cutOff()
}

// Respond implements [hop.Answering].
func (a *answering) Respond(r *hop.Response, end bool) error {
	fields, place, err := a.in.prepare(r)
	if err != nil {
		return err
	}
	h := &head{fields: fields}
	declared, err := declaredLength(fields)
	switch {
	case err != nil:
		return err
	case noContent(a.in.req.Method == http.MethodHead, r.Status):
		h.empty = true
	case declared >= 0:
		h.exact, h.length = true, declared
	}
	if end && h.length > 0 {
		return errContentLength
	}
	switch place {
	case evidenceFirst:
		h.before = r.Evidence
	case evidenceLate:
		h.after = r.Evidence
		h.blank = len(r.Evidence) == 0 && !end
	}
	h.end = end && len(h.after) == 0

	a.mu.Lock()
	defer a.mu.Unlock()
	if a.responded {
		return errAnswered
	}
	a.responded = true
	a.in.finished()
	a.in.unwanted.Store(true)
	a.s.sendHead(a.stream, h)
	if end && !h.end {
		return a.s.w.finish(a.stream)
	}
	return a.cutOff()
}

// Reset implements [hop.Stream].
func (a *answering) Reset(code hop.ErrorCode) {
	a.in.finished()
	a.stream.Reset(code)
}

// Kill implements [hop.Stream].
func (a *answering) Kill(verdict []byte) {
	a.in.finished()
	a.stream.Kill(verdict)
}

// SendTrailer implements [hop.Exchange].
func (a *answering) SendTrailer(h http.Header) error { return a.sendTrailer(h) }

// Trailer implements [hop.Exchange].
func (a *answering) Trailer() http.Header { return a.receivedTrailer() }

// finished says that an answer was found.
func (in *incoming) finished() {
	s := in.st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	in.answered = true
	s.settle(in)
}

// stalled reports whether a request whose content somebody takes, and which is not answered yet, has brought
// fewer than 4 KiB within StallTimeout, although its window was open (Slowloris). While what came is not
// consumed the client waits for us, and after the answer's head it may be silent as long as it likes, as in
// a tunnel. The watch calls it.
func (in *incoming) stalled(now time.Time) bool {
	st := in.st
	st.mu.Lock()
	arrived, open := st.arrived, st.recvWindow > int64(st.s.lim.StreamWindow)/2
	st.mu.Unlock()
	if in.markedAt.IsZero() || !open || arrived-in.mark >= stallBytes {
		in.markedAt, in.mark = now, arrived
	}
	return now.Sub(in.markedAt) >= st.s.lim.StallTimeout
}

// A discard is the Sink of a request that was rejected: it throws content away, and gives window back for as
// much as may have been on its way. A client that sends more is stopped when it has the answer.
type discard struct {
	in  *incoming
	got int
}

func (d *discard) Data(b *hop.Buffer) {
	st := d.in.st
	if d.got += b.Len(); d.got > st.s.lim.StreamWindow {
		b.Owe(0, nil)
		d.in.unwanted.Store(true)
		st.stopPeer()
	}
	b.Release()
}

func (d *discard) Writable() {}

func (d *discard) End(error) {}
