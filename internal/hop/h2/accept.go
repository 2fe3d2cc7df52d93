package h2

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"vitrine/frames"
	"vitrine/internal/hop"
)

var errAnswered = errors.New("h2: the request was answered already")

// An incoming is a request of the peer's.
type incoming struct {
	st     *stream
	req    *hop.Request
	tunnel bool // a CONNECT
	ended  bool // its HEADERS carried END_STREAM
	ctx    context.Context
	cancel context.CancelCauseFunc

	// unwanted says that the rest of the request is of no use once the answer is complete.
	unwanted atomic.Bool

	// Guarded by session.mu.
	size     int       // of its header list, and of its trailers
	since    time.Time // when it came, or was rejected: the peer has FrameTimeout to end its side
	rejected bool
	complete bool // a CONNECT, or an ordinary request whose END_STREAM has come
	taken    bool // by Accept
	streamed bool // by Answer
	answered bool
	over     bool // its stream is
	settled  bool // it does not count as work any more

	// Of the watch: how much content had come when it last saw progress, and when that was.
	mark     int64
	markedAt time.Time
}

// An incomingRequest is an incoming that is no CONNECT.
type incomingRequest struct{ *incoming }

// Accept implements [hop.Session].
func (s *session) Accept(ctx context.Context) (hop.Incoming, error) {
	if !s.server {
		return nil, errors.New("h2: a client accepts no streams")
	}
	defer context.AfterFunc(ctx, func() {
		s.mu.Lock()
		s.accepting.Broadcast()
		s.mu.Unlock()
	})()
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case len(s.pending) > 0 && s.err == nil:
			in := s.pending[0]
			s.pending[0] = nil
			s.pending = s.pending[1:]
			in.taken = true
			if !in.tunnel {
				return incomingRequest{in}, nil
			}
			return in, nil
		case s.err != nil:
			return nil, s.err
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		}
		s.accepting.Wait()
	}
}

// onRequest takes the HEADERS that open a stream of the peer's. Its header list was decoded in any case:
// both sides must agree on the compression state.
func (s *session) onRequest(mh *http2.MetaHeadersFrame) error {
	id := mh.StreamID
	err := s.checkList(mh)
	var req *hop.Request
	declared := int64(-1)
	if err == nil {
		req, declared, err = parseRequest(mh.Fields)
	}
	if err != nil {
		code := http2.ErrCodeProtocol
		if _, ok := err.(tooLarge); ok {
			code = http2.ErrCodeEnhanceYourCalm
		}
		s.passOver(id)
		return s.fault(id, code, err.Error())
	}
	st := s.newStream(id, false)
	in := &incoming{st: st, req: req, tunnel: req.Method == http.MethodConnect, size: listSize(mh.Fields)}
	in.ended = mh.StreamEnded()
	in.complete = in.tunnel || in.ended
	in.since = time.Now()
	in.ctx, in.cancel = context.WithCancelCause(context.Background())
	st.incoming = in
	st.rx.tunnel, st.rx.content, st.rx.declared = in.tunnel, !in.tunnel, declared
	if refused := s.admit(in); refused != "" {
		in.cancel(errors.New(refused))
		return s.fault(id, http2.ErrCodeRefusedStream, refused)
	}
	if in.ended {
		if err := s.onRecvEnd(st); err != nil {
			return err
		}
	}
	s.offer(in)
	return nil
}

// admit makes room for a request, or says why there is none.
func (s *session) admit(in *incoming) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastPeer = in.st.id
	var refused string
	switch {
	case s.err != nil || s.refusing:
		refused = "the session takes no new streams"
	case s.work >= s.lim.Streams:
		refused = fmt.Sprintf("%d streams are pending or open", s.work)
	case s.headerSize+in.size > s.lim.HeaderTotal:
		refused = fmt.Sprintf("the header lists of open requests are over %d bytes", s.lim.HeaderTotal)
	}
	if refused != "" {
		s.past.add(in.st.id, pastResetByUs)
		return refused
	}
	s.lastTaken = in.st.id
	s.work++
	s.headerSize += in.size
	s.streams[in.st.id] = in.st
	s.lastUsed = time.Now()
	s.w.openStream(in.st)
	return ""
}

// offer hands a request to Accept.
func (s *session) offer(in *incoming) {
	s.mu.Lock()
	if in.tunnel || s.cfg.Ordinary {
		if !in.over {
			s.pending = append(s.pending, in) // at most as many as there is work
			s.accepting.Signal()
		}
		s.mu.Unlock()
		return
	}
	in.taken = true
	s.mu.Unlock()
	in.Reject(&hop.Response{Status: http.StatusMisdirectedRequest}) // an error says that the stream has ended
}

// passOver counts a stream as opened that never becomes one of ours.
func (s *session) passOver(id uint32) {
	s.mu.Lock()
	s.lastPeer = max(s.lastPeer, id)
	s.past.add(id, pastResetByUs)
	s.mu.Unlock()
}

// ID implements [hop.Incoming].
func (in *incoming) ID() uint64 { return uint64(in.st.id) }

// Request implements [hop.Incoming].
func (in *incoming) Request() *hop.Request { return in.req }

// Session implements [hop.Incoming].
func (in *incoming) Session() hop.Session { return in.st.s }

// Context implements [hop.Incoming].
func (in *incoming) Context() context.Context { return in.ctx }

// Accept implements [hop.Incoming].
func (in *incoming) Accept(r *hop.Response) (hop.Stream, error) {
	if !in.tunnel {
		return nil, errors.New("h2: a request that is not CONNECT cannot become a tunnel")
	}
	if r.Status < 200 || r.Status > 299 {
		return nil, fmt.Errorf("h2: status %d opens no tunnel", r.Status)
	}
	fields, place, err := in.prepare(r)
	if err != nil {
		return nil, err
	}
	h := &head{fields: fields}
	var first []byte
	switch place {
	case evidenceFirst:
		h.before = r.Evidence
	case evidenceLate:
		if first, err = appendLate(nil, r.Evidence); err != nil {
			return nil, err
		}
	}
	if err := in.send(h, first, false); err != nil {
		return nil, err
	}
	return in.st, nil
}

// Reject implements [hop.Incoming].
func (in *incoming) Reject(r *hop.Response) error {
	if in.tunnel && r.Status < 300 {
		return fmt.Errorf("h2: status %d would open a tunnel", r.Status)
	}
	fields, place, err := in.prepare(r)
	if err != nil {
		return err
	}
	body := r.Body
	if in.req.Method == http.MethodHead {
		body = nil
	}
	h := &head{fields: fields}
	late := false
	switch place {
	case evidenceFirst:
		h.before = r.Evidence
	case evidenceLate:
		h.after = r.Evidence
		late = len(r.Evidence) > 0
	}
	h.end = len(body) == 0 && !late
	return in.send(h, body, !h.end)
}

// Refuse implements [hop.Incoming].
func (in *incoming) Refuse(code hop.ErrorCode) {
	if in.claim(false) == nil {
		in.st.Reset(code)
	}
}

// prepare checks an answer before anything of it is sent: after an error the request is still unanswered.
func (in *incoming) prepare(r *hop.Response) ([]hpack.HeaderField, evidencePlace, error) {
	fields, err := responseFields(r, in.tunnel && r.Status < 300)
	if err != nil {
		return nil, 0, err
	}
	s := in.st.s
	if err := s.checkPeerLimit(fields); err != nil {
		return nil, 0, err
	}
	place := evidenceNone
	if s.peer.Settings.Evidence && asks(in.req.Header) {
		place = evidenceFirst
		if s.peer.Settings.Late {
			place = evidenceLate
		}
	}
	if len(r.Evidence) > 0 && place == evidenceNone {
		return nil, 0, errors.New("h2: evidence for a request that did not ask, or for a peer that takes none")
	}
	if len(r.Evidence) > frames.MaxEvidence {
		return nil, 0, fmt.Errorf("h2: %d bytes of evidence, at most %d", len(r.Evidence), frames.MaxEvidence)
	}
	return fields, place, nil
}

// claim makes this the one answer.
func (in *incoming) claim(rejected bool) error {
	s := in.st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.answered || in.streamed {
		return errAnswered
	}
	in.answered = true
	in.rejected, in.since = rejected, time.Now()
	s.settle(in)
	return nil
}

// send answers with h and then body, and ends the stream when end is set.
func (in *incoming) send(h *head, body []byte, end bool) error {
	if err := in.claim(end || h.end); err != nil {
		return err
	}
	st := in.st
	st.s.sendHead(st, h)
	if !in.tunnel {
		defer st.Start(&discard{in: in})
	}
	for len(body) > 0 {
		b := hop.NewBufferSize(min(len(body), hop.MaxChunk))
		body = body[b.Append(body):]
		if err := st.Send(b); err != nil {
			return err
		}
	}
	if end {
		if err := st.s.w.finish(st); err != nil {
			return err
		}
	}
	return st.cutOff()
}
