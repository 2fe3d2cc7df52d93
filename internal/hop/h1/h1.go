// Package h1 is the server's side of a hop that speaks HTTP/1.1, for ordinary clients: one request a
// connection, and for a CONNECT the tunnel is what follows the answer.
//
// Call [Server] on a finished hop, then Accept once. The answer to a request is final: after a
// refusal the connection closes.
//
// The carrier has no SETTINGS, no place for EVIDENCE or VERDICT, and a reset is the end of the
// connection.
package h1

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"vitrine/internal/hop"
	"vitrine/internal/hop/raw"
)

// ErrServerOnly is what Open returns: nothing is opened towards an HTTP/1.1 client.
var ErrServerOnly = errors.New("h1: no request can be sent on this carrier")

// Config limits a session. The zero value is the default.
type Config struct {
	// Limits; of them SettingsTimeout bounds the wait for the request header, HeaderBytes and
	// HeaderFields its size, and CloseTimeout how long a refusal waits for a client that does not read
	// it or never stops sending. The others are those of the tunnel (package raw).
	Limits hop.Limits

	// Refuse makes the answer to a request that is malformed or too large, which Accept never returns:
	// what every answer of a server's carries is not the carrier's to know. reason is one line of text.
	// Default: an answer with reason as its body and no fields.
	Refuse func(status int, reason string) *hop.Response
}

// Server makes a session of conn, whose handshake must be complete, and owns conn from then on. It
// reads one request. A nil cfg is the default.
func Server(conn *tls.Conn, cfg *Config) (hop.Session, error) {
	if !conn.ConnectionState().HandshakeComplete {
		return nil, errors.New("h1: the hop's handshake is not complete")
	}
	return newSession(conn, cfg), nil
}

type session struct {
	conn    net.Conn
	lim     hop.Limits
	refusal func(status int, reason string) *hop.Response
	peer    hop.Peer
	done    chan struct{}
	in      chan *incoming // one, when the request was read
	refused chan struct{}  // closed when a refusal was queued

	mu     sync.Mutex
	stream *raw.Stream // nil until the request was read
	used   bool        // Accept returned the request
	closed bool        // no request is taken any more
	err    error
}

func newSession(conn net.Conn, cfg *Config) *session {
	if cfg == nil {
		cfg = new(Config)
	}
	s := &session{
		conn: conn, lim: cfg.Limits.WithDefaults(), refusal: cfg.Refuse, peer: raw.PeerOf(conn),
		done: make(chan struct{}), in: make(chan *incoming, 1), refused: make(chan struct{}),
	}
	if s.refusal == nil {
		s.refusal = plain
	}
	go s.serve()
	return s
}

// serve reads the request and then waits for its stream.
func (s *session) serve() {
	defer close(s.done)
	s.conn.SetReadDeadline(time.Now().Add(s.lim.SettingsTimeout))
	req, early, err := readRequest(s.conn, s.lim.HeaderBytes, s.lim.HeaderFields)
	s.conn.SetReadDeadline(time.Time{})

	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	var bad *badRequest
	if err != nil && !errors.As(err, &bad) {
		s.closed = true
		s.err = &hop.SessionError{Code: hop.ProtocolError, Remote: true, Reason: "no request", Err: err}
		s.mu.Unlock()
		s.conn.Close()
		return
	}
	st := raw.Attach(s.conn, s, early, &raw.Config{Limits: s.lim})
	s.stream = st
	ctx, cancel := context.WithCancelCause(context.Background())
	in := &incoming{session: s, stream: st, req: req, ctx: ctx}
	if bad != nil {
		s.closed = true
		s.err = &hop.SessionError{Code: hop.ProtocolError, Remote: true, Reason: bad.reason}
	}
	s.mu.Unlock()
	if bad != nil {
		in.answered = true
		in.refuse(s.refusal(bad.status, bad.reason))
	} else {
		s.in <- in
	}
	select {
	case <-st.Ended():
	case <-s.refused:
	}
	cancel(net.ErrClosed)
	select {
	case <-st.Done():
	case <-s.refused:
		ctx, cancel := context.WithTimeout(context.Background(), s.lim.CloseTimeout)
		st.Wait(ctx)
		cancel()
	}
	close(s.in)
}

func plain(status int, reason string) *hop.Response {
	return &hop.Response{Status: status, Body: []byte(reason + "\n")}
}

func (s *session) Open(context.Context, *hop.Request) (*hop.Response, hop.Stream, error) {
	return nil, nil, ErrServerOnly
}

// Accept returns the request of the connection. Any further call waits for the end of the session.
func (s *session) Accept(ctx context.Context) (hop.Incoming, error) {
	for {
		select {
		case in := <-s.in:
			if in == nil {
				<-s.done
				return nil, s.Err()
			}
			s.mu.Lock()
			closed := s.closed
			s.used = true
			s.mu.Unlock()
			if closed {
				in.Refuse(hop.RefusedStream)
				continue
			}
			return in, nil
		case <-s.done:
			return nil, s.Err()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// SendVerdict returns [raw.ErrNoVerdict].
func (s *session) SendVerdict(uint64, []byte) error { return raw.ErrNoVerdict }

// Ready returns at once: there are no SETTINGS.
func (s *session) Ready(ctx context.Context) error { return ctx.Err() }

func (s *session) Peer() *hop.Peer { return &s.peer }

// Drain closes a session whose request has not been accepted, and waits for the tunnel of one that has.
func (s *session) Drain(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	idle := !s.used
	s.mu.Unlock()
	if idle {
		return s.Close(hop.NoError, "shutting down")
	}
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		s.Close(hop.NoError, "drained for too long")
		return ctx.Err()
	}
}

func (s *session) Close(code hop.ErrorCode, reason string) error {
	s.mu.Lock()
	s.closed = true
	if s.err == nil {
		s.err = &hop.SessionError{Code: code, Reason: reason}
	}
	st, err := s.stream, s.err
	s.mu.Unlock()
	if st != nil {
		st.Abort(err)
	} else {
		s.conn.Close()
	}
	return nil
}

func (s *session) Done() <-chan struct{} { return s.done }

// Err implements [hop.Session].
func (s *session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return s.err
	case s.stream != nil:
		return s.stream.Err()
	}
	return nil
}
