// Package h2 carries tunnels and ordinary requests on HTTP/2 (RFC 9113, RFC 8441), and the frames of Vitrine
// beside them.
//
// Call [Client] or [Server] on a connection whose TLS handshake is complete; both give a
// [hop.Session]. The package is built on http2.Framer and hpack and not on x/net's Server or
// Transport, which cannot carry our frames; so everything that those defend against is defended here,
// by [hop.Limits] and by the state checks of reader.go.
//
// A session has two goroutines. The reader reads frames, keeps the streams' receiving halves and runs
// the Sinks. The writer owns the HPACK encoder and the sending halves, and looks after the clocks:
// everything that times out does so at its ticks, so that no frame costs a timer. Done closes when
// both have ended. No Buffer is released under a lock: the credit in it belongs to a stream of
// another session.
package h2

import (
	"crypto/tls"
	"errors"

	"vitrine/internal/hop"
)

// Config of a session. The zero value works.
type Config struct {
	// Limits bound what the peer may cost; every zero is its default.
	Limits hop.Limits
	// Late asks for evidence in the alternative place: behind the response's HEADERS instead of
	// before them. Default: before.
	Late bool
	// Ordinary makes a server hand requests that are not CONNECT to Accept, each a
	// [hop.IncomingRequest], when their HEADERS have come. Default: they are answered with 421.
	Ordinary bool
	// OnAnomaly, when set, is told of what was ignored or refused, one line each. It is called from
	// the session's goroutines and must not block. Limits bound how often a peer can cause it.
	OnAnomaly func(what string)
}

// Client starts the client's side of a session on conn, whose handshake must be complete, and owns
// conn from then on. It returns before the peer's SETTINGS have arrived; Open waits for them. A nil
// cfg is the zero Config.
func Client(conn *tls.Conn, cfg *Config) (hop.Session, error) { return start(conn, cfg, false) }

// Server starts the server's side of a session on conn, whose handshake must be complete, and owns
// conn from then on. A nil cfg is the zero Config.
func Server(conn *tls.Conn, cfg *Config) (hop.Session, error) { return start(conn, cfg, true) }

func start(conn *tls.Conn, cfg *Config, server bool) (hop.Session, error) {
	cs := conn.ConnectionState()
	if !cs.HandshakeComplete {
		return nil, errors.New("h2: the hop's handshake is not complete")
	}
	s := newSession(conn, cfg, server)
	s.peer.TLS = cs
	s.bind(&cs)
	if batch, ok := conn.NetConn().(*hop.BatchConn); ok {
		s.w.batch = batch
		if err := batch.SetBatching(true); err != nil {
			return nil, err
		}
	}
	s.run()
	return s, nil
}
