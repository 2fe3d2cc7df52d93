package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"vitrine/internal/itls"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
)

// innerPatience bounds a handshake: a peer that says nothing must not hold the command for ever.
const innerPatience = 30 * time.Second

// lastWords is how long an end waits, once the peer takes nothing more, for the peer to say why.
const lastWords = 5 * time.Second

// stillness is how long a server whose client has ended lets its own standard input give nothing. Whoever
// leaves a pipe open behind a server does not mean that no other client gets its turn.
const stillness = 2 * time.Second

// lingering is how long an end that has sent an alert waits for the peer to close. To close at once would
// reset the connection where bytes are unread, and the peer would not see the alert.
const lingering = time.Second

// An innerReport is what --json says about a session. Of a handshake that failed only role, peer and
// error are known.
type innerReport struct {
	Role        string     `json:"role"` // client or server: what this end was
	Peer        string     `json:"peer"` // its address
	Version     string     `json:"version"`
	Suite       string     `json:"suite"`
	Group       string     `json:"group"`
	Retried     bool       `json:"hello_retry_request"`
	ServerName  string     `json:"server_name"`
	ALPN        string     `json:"alpn"`
	Resumed     bool       `json:"resumed"`
	Certificate *innerPeer `json:"certificate"` // the peer's; null where it showed none
	Exported    *string    `json:"exported"`    // in hex; null without --export
	Tickets     int        `json:"tickets"`     // of the server, of those that a client keeps
	Sent        int64      `json:"sent"`        // bytes
	Received    int64      `json:"received"`    // bytes
	Closed      bool       `json:"closed"`      // by the peer, with close_notify: all that it sent arrived
	Error       *string    `json:"error"`       // null when all went well
}

// An innerPeer names a peer by its certificate.
type innerPeer struct {
	Subject string `json:"subject"`
	Key     string `json:"key"` // its kind, such as Ed25519
	SPKI    string `json:"spki_sha256"`
	Leaf    string `json:"leaf_sha256"`
}

// An innerSession is one session, of either end.
type innerSession struct {
	setup  *innerSetup
	conn   *itls.Conn
	report innerReport

	sent, received atomic.Int64
	closed         atomic.Bool
}

// newInnerSession makes a session of its first words on; conn is nil where there is no connection.
func newInnerSession(setup *innerSetup, role string, conn *itls.Conn) *innerSession {
	s := &innerSession{setup: setup, conn: conn, report: innerReport{Role: role}}
	if conn != nil {
		s.report.Peer = conn.RemoteAddr().String()
	}
	return s
}

// handshake shakes hands, and says what came of it.
func (s *innerSession) handshake(ctx context.Context, patience time.Duration) error {
	limited, cancel := context.WithTimeoutCause(ctx, patience, errPatience)
	defer cancel()
	if err := s.conn.HandshakeContext(limited); err != nil {
		if ctx.Err() != nil {
			return errInnerInterrupted
		}
		s.giveUp(err)
		return handshakeFailure(s.report.Role, err)
	}
	state, r := s.conn.ConnectionState(), &s.report
	r.Version, r.Suite, r.Group = "TLS 1.3", tlsmsg.SuiteName(state.CipherSuite), groupName(state.CurveID)
	r.Retried, r.Resumed = state.HelloRetryRequest, state.DidResume
	r.ServerName, r.ALPN = state.ServerName, state.NegotiatedProtocol
	who := "no certificate"
	if certs := state.PeerCertificates; len(certs) > 0 {
		leaf := pki.LeafHash(certs[0])
		r.Certificate = &innerPeer{
			Subject: certs[0].Subject.String(), Key: certs[0].PublicKeyAlgorithm.String(),
			SPKI: spkiHex(certs[0]), Leaf: hex.EncodeToString(leaf[:]),
		}
		who = r.Certificate.Subject
	}
	how := "full handshake"
	if r.Resumed {
		how = "resumed"
	}
	s.say("%s: %s, %s, %s, %s, ALPN %q, %s", r.Peer, r.Version, r.Suite, r.Group, how, r.ALPN, who)
	if x := s.setup.export; x.length > 0 {
		secret, err := s.conn.ExportKeyingMaterial(x.label, nil, x.length)
		if err != nil {
			s.cut()
			return err
		}
		text := hex.EncodeToString(secret)
		r.Exported = &text
		s.say("%s: exported %s: %s", r.Peer, x.label, text)
	}
	return nil
}

// say writes a line for people; --json has it all.
func (s *innerSession) say(format string, args ...any) {
	if !s.setup.json {
		fmt.Fprintln(s.setup.std.err, oneLine(fmt.Sprintf(format, args...)))
	}
}

// end writes the report.
func (s *innerSession) end(err error) {
	r := s.report
	r.Sent, r.Received, r.Closed = s.sent.Load(), s.received.Load(), s.closed.Load()
	if err != nil {
		text := oneLine(err.Error())
		r.Error = &text
	}
	if !s.setup.json {
		return
	}
	_ = writeJSON(s.setup.std.err, &r)
}

// cut ends the session so that the peer does not take what it has for all there was: no close_notify.
func (s *innerSession) cut() { _ = s.conn.NetConn().Close() }

// giveUp ends a session that failed with err.
func (s *innerSession) giveUp(err error) {
	defer s.cut()
	alert, ok := errors.AsType[*itls.AlertError](err)
	if !ok || alert.Remote {
		return
	}
	carrier := s.conn.NetConn()
	if c, ok := carrier.(interface{ CloseWrite() error }); ok && c.CloseWrite() == nil {
		_ = carrier.SetReadDeadline(time.Now().Add(lingering))
		_, _ = io.CopyN(io.Discard, carrier, 1<<20)
	}
}

// pass sends what in has, writes what arrives to out, and returns once both directions are over. When ctx
// ends it cuts the session and does not wait: nothing can break off a read of standard input, or a write
// of standard output.
func (s *innerSession) pass(ctx context.Context, in *standardInput, out io.Writer) error {
	stop := context.AfterFunc(ctx, s.cut)
	defer stop()
	received := make(chan error, 1)
	go func() { received <- s.receive(out) }()
	err := s.send(ctx, in, received)
	switch {
	case err == nil:
		_ = s.conn.Close() // close_notify has been sent
		return nil
	case ctx.Err() != nil:
		return errInnerInterrupted
	}
	s.giveUp(err)
	return err
}

// receive writes what arrives to out, until close_notify.
func (s *innerSession) receive(out io.Writer) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := s.conn.Read(buf)
		if n > 0 {
			s.received.Add(int64(n))
			if _, err := out.Write(buf[:n]); err != nil {
				s.cut() // a Write may be stuck
				return &streamError{"writing standard output", err}
			}
		}
		if err == io.EOF {
			s.closed.Store(true)
			return nil
		}
		if err != nil {
			if _, ok := errors.AsType[*itls.AlertError](err); !ok {
				s.cut() // a Write may be stuck; where there is an alert, it has its own limit
			}
			return sessionFailure(s.report.Role, err)
		}
	}
}

// send sends what in has, and close_notify behind it, and returns when received says how the other
// direction ended and its own is over.
func (s *innerSession) send(ctx context.Context, in *standardInput, received <-chan error) error {
	chunks := in.chunks
	var writing error
	open, first := true, true // open: close_notify has not been sent; first: nothing else has
	closeWrite := func() {
		chunks, open = nil, false
		_ = s.conn.CloseWrite() // a peer that is gone already has said why, or what is received does
	}
	silent := false // it has been said that standard input is still open
	for open || received != nil {
		var err error
		var still <-chan time.Time
		if received == nil && !silent {
			still = time.After(stillness)
		}
		select {
		case <-still:
			if silent = true; s.report.Role == "server" {
				s.say("%s: the client has ended, and standard input gives nothing: the session ends", s.report.Peer)
				closeWrite()
			} else {
				s.say("%s: the server has ended; the session ends when standard input does", s.report.Peer)
			}
		case chunk, more := <-chunks:
			switch {
			case more:
				first = false
				var n int
				n, err = s.conn.Write(chunk)
				s.sent.Add(int64(n))
				in.free <- chunk[:cap(chunk)]
			case in.err != nil:
				return &streamError{"reading standard input", in.err}
			case first && s.report.Role == "server" && received != nil:
				chunks = nil // nothing to send: the client says when it is over
			default:
				closeWrite()
			}
		case why := <-received:
			if writing != nil && (why == nil || timedOut(why)) {
				return writing
			}
			if why != nil {
				return why
			}
			received = nil
			if open && (chunks == nil || in.interactive) {
				closeWrite()
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		if err != nil {
			writing = sessionFailure(s.report.Role, err)
			if received == nil {
				return writing
			}
			// What the peer last said is a better reason than that it takes no more.
			chunks, open = nil, false
			_ = s.conn.SetReadDeadline(time.Now().Add(lastWords))
		}
	}
	return nil
}

func timedOut(err error) bool {
	n, ok := errors.AsType[net.Error](err)
	return ok && n.Timeout()
}

// A streamError says that standard input or output failed, and not the session.
type streamError struct {
	doing string
	err   error
}

func (e *streamError) Error() string { return fmt.Sprintf("inner: %s: %v", e.doing, e.err) }
func (e *streamError) Unwrap() error { return e.err }

// standardInput is read for as long as the command lives: a read of it cannot be broken off. Servers hand
// it to one peer behind the other.
type standardInput struct {
	chunks      chan []byte // closed at the end
	free        chan []byte // the chunks that were sent
	err         error       // of the end, unless it is io.EOF
	interactive bool        // it is a terminal: nobody waits for its end once the peer has gone
}

// readStandardInput starts to read r. It reads ahead by two chunks.
func readStandardInput(r io.Reader) *standardInput {
	in := &standardInput{chunks: make(chan []byte), free: make(chan []byte, 2)}
	if f, ok := r.(*os.File); ok {
		info, err := f.Stat()
		in.interactive = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	in.free <- make([]byte, 64<<10)
	in.free <- make([]byte, 64<<10)
	go func() {
		defer close(in.chunks)
		for {
			buf := <-in.free
			n, err := r.Read(buf)
			if n > 0 {
				in.chunks <- buf[:n]
			} else {
				in.free <- buf
			}
			if err != nil {
				if err != io.EOF {
					in.err = err
				}
				return
			}
		}
	}()
	return in
}

var (
	errInnerInterrupted = errors.New("inner: interrupted")
	errPatience         = fmt.Errorf("no handshake within %s", innerPatience)
)

// An innerError is how a session on bare TCP failed. The errors of the client package, and the advice
// that goes with them, are about tunnels.
type innerError struct {
	status int
	what   string
	err    error
}

func (e *innerError) Error() string { return fmt.Sprintf(e.what, e.err) }
func (e *innerError) Unwrap() error { return e.err }

// handshakeFailure says what an error of the handshake means.
func handshakeFailure(role string, err error) error {
	var (
		cert  *itls.CertificateError
		alert *itls.AlertError
	)
	switch {
	case errors.As(err, &cert) && role == "client":
		return &innerError{exitOriginTrust, "the server is not trusted: %v; --roots has to name the roots that vouch for it, and --server-name its name", cert.Err}
	case errors.As(err, &cert):
		return &innerError{exitOriginTrust, "the client is not trusted: %v", cert.Err}
	case errors.As(err, &alert) && alert.Remote && !accuses(alert.Alert) && role == "server":
		return &innerError{exitUnreachable, "the client refuses: %v", err}
	case errors.As(err, &alert) && alert.Remote && !accuses(alert.Alert):
		return &innerError{exitUnreachable, "the server refuses: %v; it has to speak TLS 1.3 with a suite, a group and a protocol of ours", err}
	case errors.As(err, &alert) && !alert.Remote && disagrees(alert.Alert):
		return &innerError{exitUnreachable, "the peer does not speak what is wanted here: %v", err}
	case errors.As(err, &alert):
		return &innerError{exitIntegrity, "integrity: the handshake does not hold: %v", err}
	}
	return &innerError{exitUnreachable, "no handshake with the peer: %v", err}
}

// sessionFailure says what an error behind the handshake means. Whatever ends a session without
// close_notify counts as an attack: whoever can cut it can choose where.
func sessionFailure(role string, err error) error {
	var alert *itls.AlertError
	switch {
	case errors.As(err, &alert) && alert.Remote && role == "client" && alert.Alert.AboutClient():
		// In TLS 1.3 a client's handshake is over before the server has looked at its certificate.
		return &innerError{exitUnreachable, "the server does not let this client in: %v; --cert and --key have to be those of a client that it knows", err}
	case errors.As(err, &alert) && alert.Remote:
		return &innerError{exitIntegrity, "integrity: the peer ended the session with an alert: %v", err}
	case errors.As(err, &alert):
		return &innerError{exitIntegrity, "integrity: bytes were changed on the way, or the peer is broken: %v", err}
	}
	return &innerError{exitIntegrity, "integrity: the session was cut: %v", err}
}

// accuses lists the alerts that say that what reached the peer makes no sense.
func accuses(a tlsmsg.Alert) bool {
	switch a {
	case tlsmsg.AlertUnexpectedMessage, tlsmsg.AlertBadRecordMAC, tlsmsg.AlertRecordOverflow, tlsmsg.AlertDecodeError,
		tlsmsg.AlertDecryptError, tlsmsg.AlertIllegalParameter:
		return true
	}
	return false
}

// disagrees lists the alerts of ours to an honest peer of another kind.
func disagrees(a tlsmsg.Alert) bool {
	switch a {
	case tlsmsg.AlertProtocolVersion, tlsmsg.AlertHandshakeFailure, tlsmsg.AlertNoApplicationProtocol, tlsmsg.AlertUnrecognizedName:
		return true
	}
	return false
}

// dialInner reaches the peer.
func dialInner(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: innerPatience}
	conn, err := d.DialContext(ctx, "tcp", addr)
	switch {
	case ctx.Err() != nil:
		return nil, errInnerInterrupted
	case err != nil:
		return nil, &innerError{exitUnreachable, "the server is unreachable: %v; check --connect", err}
	}
	return conn, nil
}
