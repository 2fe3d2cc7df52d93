// Package hostile makes hops that lie: sessions that change what passes through them.
//
// Fill in a [Liar] and call [Liar.Serve]: it is a whole proxy that lies in one of the [Modes]. For a lie of
// one's own, call [Wrap] with a [Mangler] for each tunnel, or [Lie] where more than bytes shall be lied
// about, and hand the result to (*proxy.Proxy).ServeSession, or use it as Upstream.Session in its DialFunc.
// The proxy itself has no code that changes bytes, so its lies have to come from outside; only the command
// line and the tests import this package. [NewAttack] and the functions beside it are the manglers that know
// the records of an inner session.
package hostile

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync/atomic"

	"vitrine/internal/hop"
)

// A Mangler changes what one stream sends. Mangle owns b and returns what is sent in its place, in
// order. It is called for one stream in order, never concurrently.
type Mangler interface {
	Mangle(b *hop.Buffer) []*hop.Buffer
}

// A Holder is a Mangler that can keep bytes back. Flush returns them when the sender ends its side.
type Holder interface {
	Mangler
	Flush() []*hop.Buffer
}

// A Cutter is a Mangler that can end its stream: the sending side ends where Ended is true first.
type Cutter interface {
	Mangler
	Ended() bool
}

// A Killer is a Mangler that can kill its stream: that happens when Verdict is not nil first.
type Killer interface {
	Mangler
	Verdict() []byte
}

// Lies are the ways in which a session made by [Lie] differs. A nil function tells the truth.
type Lies struct {
	// Mangler is asked for each stream. A nil Mangler changes nothing.
	Mangler func(id uint64) Mangler
	// Request changes what Open asks for. It gets a copy that it may change.
	Request func(req *hop.Request)
	// Answer changes what is answered to req: by us where the session accepts requests, by the peer where
	// it opens streams. It gets a copy that it may change. A status that opens a tunnel in the place of
	// one that does not gives a tunnel in which nothing comes.
	Answer func(req *hop.Request, resp *hop.Response)
	// Trailer changes the trailer section with which an exchange's answer ends. It gets a copy, and returns
	// what is sent.
	Trailer func(id uint64, h http.Header) http.Header
	// Verdict changes the verdict of a kill of stream id, behind the stream field; nil sends none.
	Verdict func(id uint64, verdict []byte) []byte
	// ResetFirst sends the reset of a kill before its verdict.
	ResetFirst bool
}

// Wrap returns a session like s in which every stream, exchanges included, sends what the Mangler that mangler
// returns for it makes of its bytes. Verdicts, resets and ends pass.
func Wrap(s hop.Session, mangler func(id uint64) Mangler) hop.Session {
	return Lie(s, Lies{Mangler: mangler})
}

// Lie returns a session like s that tells lies.
func Lie(s hop.Session, lies Lies) hop.Session { return &session{Session: s, lies: lies} }

type session struct {
	hop.Session
	lies Lies
}

func (s *session) Open(ctx context.Context, req *hop.Request) (*hop.Response, hop.Stream, error) {
	if s.lies.Request != nil {
		asked := *req
		asked.Header = req.Header.Clone()
		s.lies.Request(&asked)
		req = &asked
	}
	resp, st, err := s.Session.Open(ctx, req)
	if err != nil {
		return resp, st, err
	}
	return s.answer(req, resp), s.wrap(st), nil
}

func (s *session) Accept(ctx context.Context) (hop.Incoming, error) {
	in, err := s.Session.Accept(ctx)
	if err != nil {
		return nil, err
	}
	return s.lieTo(in), nil
}

func (s *session) lieTo(in hop.Incoming) hop.Incoming {
	if r, ok := in.(hop.IncomingRequest); ok {
		return &incomingRequest{incoming: incoming{Incoming: in, s: s}, r: r}
	}
	return &incoming{Incoming: in, s: s}
}

func (s *session) answer(req *hop.Request, resp *hop.Response) *hop.Response {
	if s.lies.Answer == nil {
		return resp
	}
	lie := *resp
	lie.Header = resp.Header.Clone()
	if lie.Header == nil {
		lie.Header = make(http.Header)
	}
	s.lies.Answer(req, &lie)
	return &lie
}

func (s *session) wrap(st hop.Stream) hop.Stream {
	if st == nil {
		return nil
	}
	var m Mangler
	if s.lies.Mangler != nil {
		m = s.lies.Mangler(st.ID())
	}
	return &stream{Stream: st, s: s, m: m}
}

type incoming struct {
	hop.Incoming
	s *session
}

func (i *incoming) Session() hop.Session { return i.s }

func (i *incoming) Accept(resp *hop.Response) (hop.Stream, error) {
	resp = i.s.answer(i.Request(), resp)
	if resp.Status >= http.StatusMultipleChoices {
		if err := i.Incoming.Reject(resp); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("hostile: %d was answered instead", resp.Status)
	}
	st, err := i.Incoming.Accept(resp)
	return i.s.wrap(st), err
}

func (i *incoming) Reject(resp *hop.Response) error {
	resp = i.s.answer(i.Request(), resp)
	if resp.Status >= http.StatusMultipleChoices {
		return i.Incoming.Reject(resp)
	}
	st, err := i.Incoming.Accept(resp)
	if err != nil {
		return err
	}
	st.Start(sink{})
	return st.CloseSend()
}

// sink drops what arrives.
type sink struct{}

func (sink) Data(b *hop.Buffer) { b.Release() }
func (sink) Writable()          {}
func (sink) End(error)          {}

type stream struct {
	hop.Stream
	s     *session
	m     Mangler
	ended atomic.Bool
}

func (s *stream) Session() hop.Session { return s.s }

func (s *stream) Send(b *hop.Buffer) error {
	if s.m == nil {
		return s.Stream.Send(b)
	}
	if s.ended.Load() {
		b.Release()
		return nil
	}
	err := s.send(s.m.Mangle(b))
	if k, ok := s.m.(Killer); ok {
		if verdict := k.Verdict(); verdict != nil && !s.ended.Swap(true) {
			s.Stream.Kill(verdict)
			return err
		}
	}
	if c, ok := s.m.(Cutter); ok && c.Ended() && !s.ended.Swap(true) {
		if e := s.Stream.CloseSend(); err == nil {
			err = e
		}
	}
	return err
}

func (s *stream) send(buffers []*hop.Buffer) (err error) {
	for _, out := range buffers {
		if e := s.Stream.Send(out); err == nil {
			err = e
		}
	}
	return err
}

func (s *stream) CloseSend() error {
	if s.ended.Load() {
		return nil
	}
	if h, ok := s.m.(Holder); ok {
		if err := s.send(h.Flush()); err != nil {
			return err
		}
	}
	return s.Stream.CloseSend()
}

func (s *stream) Kill(verdict []byte) {
	if s.s.lies.Verdict != nil {
		verdict = s.s.lies.Verdict(s.ID(), verdict)
	}
	switch {
	case verdict == nil:
		s.Reset(hop.Killed)
	case s.s.lies.ResetFirst:
		s.Reset(hop.Killed)
		_ = s.s.SendVerdict(s.ID(), verdict) // the lie may be too late for a session that has ended
	default:
		s.Stream.Kill(verdict)
	}
}

// Flip returns a Mangler that changes one bit of the first needle that passes whole in one buffer,
// and nothing else.
func Flip(needle []byte) Mangler { return &flip{needle: needle} }

type flip struct {
	needle []byte
	done   bool
}

func (f *flip) Mangle(b *hop.Buffer) []*hop.Buffer {
	if i := bytes.Index(b.Bytes(), f.needle); i >= 0 && !f.done {
		b.Bytes()[i] ^= 1
		f.done = true
	}
	return []*hop.Buffer{b}
}
