package h2

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"vitrine/internal/hop"
)

// ErrNoExtendedConnect says that the peer did not announce SETTINGS_ENABLE_CONNECT_PROTOCOL.
var ErrNoExtendedConnect = errors.New("h2: the peer takes no Extended CONNECT (RFC 8441)")

var errStreamIDs = errors.New("h2: stream identifiers are used up")

// An exchange is a request of ours that waits for its answer.
type exchange struct {
	connect bool // the request was a CONNECT
	head    bool // the request was a HEAD: its response's content-length is of a body that does not come
	content bool // the response's content goes to a sink

	// The reader's alone.
	final       *hop.Response // the final response's head has come
	interims    int
	interimSize int

	// Guarded by session.mu.
	refused time.Time // when a refusal's head came; its body has FrameTimeout

	interim chan *hop.Response // nil where nobody wants them

	once sync.Once
	done chan struct{}
	resp *hop.Response // complete; nil where err is set
	err  error
}

func (x *exchange) answer(r *hop.Response) {
	x.once.Do(func() {
		x.resp = r
		close(x.done)
	})
}

func (x *exchange) fail(err error) {
	x.once.Do(func() {
		x.err = err
		close(x.done)
	})
}

// Open implements [hop.Session].
func (s *session) Open(ctx context.Context, req *hop.Request) (*hop.Response, hop.Stream, error) {
	if s.server {
		return nil, nil, errors.New("h2: a server opens no streams")
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, context.Cause(ctx)
	}
	fields, _, err := requestFields(req)
	if err != nil {
		return nil, nil, err
	}
	if err := s.awaitSettings(ctx, fields); err != nil {
		return nil, nil, err
	}
	if req.Protocol != "" && !s.peer.Settings.Connect {
		return nil, nil, ErrNoExtendedConnect
	}
	connect := req.Method == "" || req.Method == http.MethodConnect
	st, err := s.openStream(ctx, req, &head{fields: fields, end: !connect}, newExchange(req))
	if err != nil {
		return nil, nil, err
	}
	for p := req.Early; len(p) > 0 && connect; {
		b := hop.NewBufferSize(min(len(p), hop.MaxChunk))
		p = p[b.Append(p):]
		if st.Send(b) != nil {
			break // the exchange says why
		}
	}
	select {
	case <-st.exchange.done:
	case <-ctx.Done():
		st.Reset(hop.Cancel)
		return nil, nil, context.Cause(ctx)
	}
	if err := st.exchange.err; err != nil {
		return nil, nil, err
	}
	if !connect || st.exchange.resp.Status >= 300 {
		return st.exchange.resp, nil, nil
	}
	return st.exchange.resp, st, nil
}

func newExchange(req *hop.Request) *exchange {
	return &exchange{
		connect: req.Method == "" || req.Method == http.MethodConnect,
		head:    req.Method == http.MethodHead,
		done:    make(chan struct{}),
	}
}

// awaitSettings waits for the peer's SETTINGS, and checks that the peer takes a header list of that size.
func (s *session) awaitSettings(ctx context.Context, fields []hpack.HeaderField) error {
	if err := s.Ready(ctx); err != nil {
		if ctx.Err() == nil {
			err = &hop.RetryError{Err: err}
		}
		return err
	}
	return s.checkPeerLimit(fields)
}

// openStream waits for a slot, and opens a stream with h.
func (s *session) openStream(ctx context.Context, req *hop.Request, h *head, x *exchange) (*stream, error) {
	defer context.AfterFunc(ctx, func() {
		s.mu.Lock()
		s.opening.Broadcast()
		s.mu.Unlock()
	})()
	s.mu.Lock()
	for s.mayOpen() == nil && s.active >= s.maxActive && ctx.Err() == nil {
		s.opening.Wait()
	}
	if ctx.Err() != nil {
		s.opening.Signal() // in case the slot was offered to us
		s.mu.Unlock()
		return nil, context.Cause(ctx)
	}
	if err := s.mayOpen(); err != nil {
		s.mu.Unlock()
		return nil, &hop.RetryError{Err: err}
	}
	st := s.newStream(s.nextID, true)
	st.exchange = x
	st.rx.evidence.place = s.evidencePlace(req)
	s.nextID += 2
	s.active++
	s.lastUsed = time.Now()
	s.streams[st.id] = st
	s.w.openStream(st)
	ok := s.w.sendHead(st, h) // under mu: heads leave in the order of their numbers
	s.mu.Unlock()
	if !ok {
		s.fail(&hop.SessionError{Code: hop.EnhanceYourCalm, Reason: errUnread().Error()})
		return nil, &hop.RetryError{Err: s.Err()}
	}
	return st, nil
}

// mayOpen says why no stream of ours can be opened any more. mu is held.
func (s *session) mayOpen() error {
	switch {
	case s.err != nil:
		return s.err
	case s.peerGone != nil:
		return s.peerGone
	case s.draining:
		return errDraining
	case s.nextID > maxStreamID:
		return errStreamIDs
	}
	return nil
}

func (s *session) evidencePlace(req *hop.Request) evidencePlace {
	switch {
	case !s.peer.Settings.Evidence || !asks(req.Header):
		return evidenceNone
	case s.cfg.Late:
		return evidenceLate
	}
	return evidenceFirst
}

// onResponse takes HEADERS on a stream of ours.
func (s *session) onResponse(st *stream, mh *http2.MetaHeadersFrame) error {
	x := st.exchange
	if x.final != nil {
		if st.rx.tunnel || !mh.StreamEnded() || len(mh.PseudoFields()) > 0 {
			return s.fault(st.id, http2.ErrCodeProtocol, "HEADERS behind a final response")
		}
		return s.onTrailer(st, mh)
	}
	r, err := parseStatus(mh.Fields)
	if err != nil {
		return s.fault(st.id, http2.ErrCodeProtocol, err.Error())
	}
	if r.Status < 200 {
		if mh.StreamEnded() || r.Status == http.StatusSwitchingProtocols {
			return s.fault(st.id, http2.ErrCodeProtocol, "interim response that is none")
		}
		if x.interim == nil {
			return s.spend(s.budgets.empty, "interim responses")
		}
		return s.onInterim(st, r, listSize(mh.Fields))
	}
	in := &st.rx.evidence
	if in.begun && !in.done {
		return s.fault(st.id, http2.ErrCodeProtocol, "HEADERS inside evidence")
	}
	x.final = r
	st.rx.tunnel = r.Status < 300 && x.connect
	st.rx.content = x.content
	if !st.rx.tunnel {
		if st.rx.declared, err = contentLength(r.Header); err != nil {
			return s.fault(st.id, http2.ErrCodeProtocol, err.Error())
		}
		if noContent(x.head, r.Status) {
			st.rx.empty, st.rx.declared = true, -1
		}
	}
	switch {
	case mh.StreamEnded():
		return s.onRecvEnd(st)
	case !st.rx.tunnel && !st.rx.content:
		s.mu.Lock()
		x.refused = time.Now()
		s.mu.Unlock()
	case in.place != evidenceLate:
		s.settleAnswer(st)
	}
	return nil
}

// noContent reports whether a response is defined to have none, whatever its content-length says.
func noContent(head bool, status int) bool {
	return head || status == http.StatusNoContent || status == http.StatusNotModified
}

// settleAnswer gives Open, or Response, what it waits for. The reader calls it.
func (s *session) settleAnswer(st *stream) {
	r := *st.exchange.final
	r.Evidence = st.rx.evidence.evidence
	st.exchange.answer(&r)
}

// onRefusal collects the body of a response that opens no tunnel.
func (s *session) onRefusal(st *stream, p []byte) {
	r := st.exchange.final
	room := s.lim.RefusalBody - len(r.Body)
	r.Body = append(r.Body, p[:min(len(p), room)]...)
	if len(p) > room {
		// What is known is enough, and the rest is not wanted.
		s.settleAnswer(st)
		st.Reset(hop.Cancel)
	}
}
