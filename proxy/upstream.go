package proxy

import (
	"context"
	"crypto/tls"
	"net"

	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
)

// A DialFunc reaches a target. [Proxy.Dial] is the one that [Proxy.Serve] uses.
type DialFunc func(ctx context.Context, t *Target) (*Upstream, error)

// A Target is what one CONNECT wants to reach.
type Target struct {
	// Mode is Intact for a tunnel that the proxy reads, Blind for one of raw TCP, and Split for a connection
	// that ordinary requests take.
	Mode fields.Mode
	// Authority is the canonical host:port of the CONNECT, or of the ordinary request.
	Authority string
	// Request is the client's request for evidence; nil for Blind.
	Request *evidence.Request
	// Client names who asks: a digest of the certificate that it showed on hop 1, else its session.
	// No hop-2 connection serves two clients, so that nobody's resets or kills cost another one its
	// connection.
	Client string
	// Fresh asks for a connection made for Request, whose Transcript answers it.
	Fresh bool
	// Split says that ordinary requests may follow: the origin is offered ordinary HTTP as well, and where it
	// picks that, the connection is kept as Upstream.HTTP.
	Split bool

	front *front // of the session that asks; nil, or another proxy's: the present one
	next  *nextProxy
	place int // of this proxy among those of Request
}

// An Upstream is what was reached. Whoever gets one calls Close, when nothing of the tunnel is left.
type Upstream struct {
	// Session is hop 2; nil when the origin picked no itls token, and for Blind.
	Session hop.Session
	// State is of hop 2's TLS; Verified says that the origin's chain and name were verified in it.
	State    tls.ConnectionState
	Verified bool
	// Transcript is evidence for Target.Request; nil when the connection was made for another one.
	Transcript *evidence.Evidence
	// Conn is the TCP connection of a Blind target.
	Conn net.Conn
	// HTTP is hop 2, where Target.Split asked for it and the origin picked no itls token: TLS with the protocol that
	// State names, h2 or, with any other, HTTP/1.1. Close closes it.
	HTTP net.Conn
	// Done, if not nil, is called by Close.
	Done func()

	shareable bool      // more than one tunnel fits on Session
	slot      *slot     // of the pool it came from, if any
	spare     *spare    // what HTTP counts as there, if it came from one
	fin       *finWatch // below HTTP
	epoch     uint64    // of the settings that HTTP was made under
}

// Close gives the connection back to where it came from.
func (u *Upstream) Close() {
	if u.HTTP != nil {
		u.HTTP.Close()
	}
	if u.Done != nil {
		u.Done()
	}
}

// retire tells the pool, if there is one, that others should not get this connection; see slot.retire.
func (u *Upstream) retire(alone bool) {
	if u.slot != nil {
		u.slot.retire(alone)
	}
}

func (u *Upstream) answered() {
	if u.slot != nil {
		u.slot.answered()
	}
}
