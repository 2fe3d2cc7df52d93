// Package hostile makes hops that lie: sessions whose streams change what passes through them.
//
// Call [Wrap] with a [Mangler] for each tunnel and hand the result to
// (*proxy.Proxy).ServeSession. The proxy itself has no code that changes bytes, so its lies have to
// come from outside; only the demo and the tests import this package.
package hostile

import (
	"bytes"
	"context"

	"vitrine/internal/hop"
)

// A Mangler changes what one stream sends. Mangle owns b and returns what is sent in its place, in
// order. It is called for one stream in order, never concurrently.
type Mangler interface {
	Mangle(b *hop.Buffer) []*hop.Buffer
}

// Wrap returns a session like s in which every stream sends what the Mangler that mangler returns
// for it makes of its bytes. A nil Mangler changes nothing. Verdicts, resets and ends pass.
func Wrap(s hop.Session, mangler func(id uint64) Mangler) hop.Session {
	return &session{Session: s, mangler: mangler}
}

type session struct {
	hop.Session
	mangler func(id uint64) Mangler
}

func (s *session) Open(ctx context.Context, req *hop.Request) (*hop.Response, hop.Stream, error) {
	resp, st, err := s.Session.Open(ctx, req)
	return resp, s.wrap(st), err
}

func (s *session) Accept(ctx context.Context) (hop.Incoming, error) {
	in, err := s.Session.Accept(ctx)
	if err != nil {
		return nil, err
	}
	return &incoming{Incoming: in, s: s}, nil
}

func (s *session) wrap(st hop.Stream) hop.Stream {
	if st == nil {
		return nil
	}
	m := s.mangler(st.ID())
	if m == nil {
		return st
	}
	return &stream{Stream: st, s: s, m: m}
}

type incoming struct {
	hop.Incoming
	s *session
}

func (i *incoming) Session() hop.Session { return i.s }

func (i *incoming) Accept(resp *hop.Response) (hop.Stream, error) {
	st, err := i.Incoming.Accept(resp)
	return i.s.wrap(st), err
}

type stream struct {
	hop.Stream
	s *session
	m Mangler
}

func (s *stream) Session() hop.Session { return s.s }

func (s *stream) Send(b *hop.Buffer) error {
	var err error
	for _, out := range s.m.Mangle(b) {
		if e := s.Stream.Send(out); err == nil {
			err = e
		}
	}
	return err
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
