package h2

import (
	"context"
	"errors"
	"net/http"

	"golang.org/x/net/http2"

	"vitrine/internal/hop"
)

// maxInterims is how many interim responses one request may get; together they are at most
// Limits.HeaderBytes. A peer could send them for ever, and each is kept until Response asks.
const maxInterims = 8

// An asked is a request of ours whose response streams.
type asked struct{ *stream }

// Request implements [hop.Requester].
func (s *session) Request(ctx context.Context, req *hop.Request, end bool) (hop.Asked, error) {
	switch {
	case s.server:
		return nil, errors.New("h2: a server sends no requests")
	case req.Method == "" || req.Method == http.MethodConnect || len(req.Early) > 0:
		return nil, errors.New("h2: Request is for requests that open no tunnel")
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	fields, declared, err := requestFields(req)
	if err != nil {
		return nil, err
	}
	if end && declared > 0 {
		return nil, errContentLength
	}
	if err := s.awaitSettings(ctx, fields); err != nil {
		return nil, err
	}
	x := newExchange(req)
	x.content = true
	x.interim = make(chan *hop.Response, maxInterims)
	st, err := s.openStream(ctx, req, &head{fields: fields, end: end, exact: declared >= 0, length: declared}, x)
	if err != nil {
		return nil, err
	}
	return asked{st}, nil
}

// onInterim keeps an interim response for Response.
func (s *session) onInterim(st *stream, r *hop.Response, size int) error {
	x := st.exchange
	x.interims++
	x.interimSize += size
	if x.interims > maxInterims || x.interimSize > s.lim.HeaderBytes {
		return s.fault(st.id, http2.ErrCodeEnhanceYourCalm, "too many interim responses")
	}
	x.interim <- r // has room for all that may come
	return nil
}

// Response implements [hop.Asked].
func (a asked) Response(ctx context.Context, interim func(status int, h http.Header)) (*hop.Response, error) {
	x := a.exchange
	pass := func(r *hop.Response) {
		if interim != nil {
			interim(r.Status, r.Header)
		}
	}
	for {
		select {
		case r := <-x.interim:
			pass(r)
		case <-x.done:
			for len(x.interim) > 0 {
				pass(<-x.interim)
			}
			return x.resp, x.err
		case <-ctx.Done():
			a.Reset(hop.Cancel)
			return nil, context.Cause(ctx)
		}
	}
}

// SendTrailer implements [hop.Exchange].
func (a asked) SendTrailer(h http.Header) error { return a.sendTrailer(h) }

// Trailer implements [hop.Exchange].
func (a asked) Trailer() http.Header { return a.receivedTrailer() }
