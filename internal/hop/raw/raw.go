// Package raw is the carrier without frames: one connection, one tunnel, and the tunnel's bytes are
// simply the next layer.
//
// Call [Client] on a finished hop whose ALPN is "itls/1" for a session with exactly one tunnel; call
// [NewStream] to make a stream of any connection, as a blind tunnel does with its TCP connection;
// carriers that turn into raw bytes after a header of their own call [Attach].
//
// There is no place for EVIDENCE or VERDICT here, and a reset is the end of the connection.
package raw

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"

	"vitrine/frames"
	"vitrine/internal/hop"
)

// ErrNoVerdict is what SendVerdict returns: a raw hop has no place for one. [hop.Stream.Kill] resets
// the stream all the same.
var ErrNoVerdict = errors.New("raw: this carrier has no place for a verdict")

// ErrClientOnly is what Accept returns: a raw hop is opened by the side that dialled it.
var ErrClientOnly = errors.New("raw: no request arrives on this carrier")

// streamID is the id of the only stream. Nothing on the wire carries it.
const streamID = 1

// Client makes a session with exactly one tunnel of conn, whose handshake must be complete and must
// have chosen "itls/1". Open returns that tunnel at once, with status 200, for the protocol "itls";
// a second Open gets a *[hop.RetryError]. The session owns conn from then on. A nil cfg is the default.
func Client(conn *tls.Conn, cfg *Config) (hop.Session, error) {
	cs := conn.ConnectionState()
	if !cs.HandshakeComplete {
		return nil, errors.New("raw: the hop's handshake is not complete")
	}
	if cs.NegotiatedProtocol != frames.ALPNRaw {
		return nil, fmt.Errorf("raw: the hop's ALPN is %q, not %q", cs.NegotiatedProtocol, frames.ALPNRaw)
	}
	return newSession(conn, cfg), nil
}

// NewStream makes a tunnel of conn and owns it from then on. Its session has this one stream and
// says of the peer what conn says: for a *[tls.Conn] the connection's state, otherwise nothing.
func NewStream(conn net.Conn) hop.Stream {
	s := newSession(conn, nil)
	s.opened = true
	return s.stream
}

type session struct {
	stream *Stream
	peer   hop.Peer

	mu     sync.Mutex
	opened bool
	closed bool // no Open any more
}

func newSession(conn net.Conn, cfg *Config) *session {
	s := &session{peer: PeerOf(conn)}
	s.stream = Attach(conn, s, nil, cfg)
	return s
}

// PeerOf is what can be said of the other end of conn: its addresses and, for a *[tls.Conn], the
// state of the connection. The settings are all off.
func PeerOf(conn net.Conn) hop.Peer {
	p := hop.Peer{Local: conn.LocalAddr(), Remote: conn.RemoteAddr()}
	if c, ok := conn.(*tls.Conn); ok {
		p.TLS = c.ConnectionState()
	}
	return p
}

// Open implements [hop.Session]. Headers of the request go nowhere: there is no request on the wire.
func (s *session) Open(ctx context.Context, req *hop.Request) (*hop.Response, hop.Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	if req.Protocol != frames.Protocol {
		return nil, nil, fmt.Errorf("raw: protocol %q cannot be asked for on this carrier", req.Protocol)
	}
	if err := s.take(); err != nil {
		return nil, nil, &hop.RetryError{Err: err}
	}
	for p := req.Early; len(p) > 0; {
		b := hop.NewBuffer()
		p = p[b.Append(p):]
		if err := s.stream.Send(b); err != nil {
			return nil, nil, err
		}
	}
	return &hop.Response{Status: http.StatusOK, Header: http.Header{}}, s.stream, nil
}

func (s *session) take() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.Err(); err != nil {
		return err
	}
	if s.opened || s.closed {
		return errors.New("raw: the only tunnel of this hop is taken")
	}
	s.opened = true
	return nil
}

func (s *session) Accept(context.Context) (hop.Incoming, error) { return nil, ErrClientOnly }

func (s *session) SendVerdict(uint64, []byte) error { return ErrNoVerdict }

// Ready returns at once: there are no SETTINGS.
func (s *session) Ready(ctx context.Context) error { return ctx.Err() }

func (s *session) Peer() *hop.Peer { return &s.peer }

// Drain ends an unused hop, and waits for the tunnel of a used one.
func (s *session) Drain(ctx context.Context) error {
	s.mu.Lock()
	unused := !s.opened
	s.closed = true
	s.mu.Unlock()
	if unused {
		s.stream.CloseSend()
		s.stream.Start(Discard{})
	}
	return s.stream.Wait(ctx)
}

func (s *session) Close(code hop.ErrorCode, reason string) error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stream.Abort(&hop.SessionError{Code: code, Reason: reason})
	return nil
}

func (s *session) Done() <-chan struct{} { return s.stream.Done() }

func (s *session) Err() error { return s.stream.Err() }

// Discard is a Sink that throws away what arrives.
type Discard struct{}

// Data implements [hop.Sink].
func (Discard) Data(b *hop.Buffer) { b.Release() }

// Writable implements [hop.Sink].
func (Discard) Writable() {}

// End implements [hop.Sink].
func (Discard) End(error) {}
