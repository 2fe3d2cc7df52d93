package client

import (
	"context"
	"crypto/tls"

	"vitrine/internal/hop"
)

// Carry opens a tunnel to authority, "host:port", that the proxy cannot read, and leaves it to the caller what
// is in it: for a program that speaks TLS with the origin itself, as a browser behind a CONNECT does. Levels must
// hold [Blind]; that the level is true is then up to those two. Nothing is known of the origin: the report has no
// Inner, and io.EOF from Read is whatever ended the tunnel in order, which may have cut it.
func (d *Dialer) Carry(ctx context.Context, authority string) (*Tunnel, error) {
	rep := new(Report)
	t, err := d.carry(ctx, authority, rep)
	if err != nil {
		return nil, reported(err, rep)
	}
	return t, nil
}

func (d *Dialer) carry(ctx context.Context, authority string, rep *Report) (*Tunnel, error) {
	a, err := d.newAttempt(authority, rep)
	if err != nil {
		return nil, err
	}
	if !a.accepts(Blind) {
		return nil, &LevelError{
			Authority: a.authority, Accepted: a.levels, Why: "it is asked for sealed, and level blind is not accepted",
			Option: join(append(append([]Level(nil), a.levels...), Blind), ","),
		}
	}
	a.levels, a.sealed = []Level{Blind}, true
	return d.open(ctx, a)
}

// Carry is [Dialer.Carry] over the Transport's connection to the proxy. The tunnel is the caller's to close, and
// no part of MaxTunnels.
func (t *Transport) Carry(ctx context.Context, authority string) (*Tunnel, error) {
	return t.start().dialer.Carry(ctx, authority)
}

// carried is the bytes of a tunnel as they are, in the place of a session with the origin.
type carried struct {
	*wire
	stream *hop.Conn
}

func (c *carried) CloseWrite() error { return c.stream.CloseWrite() }

// ConnectionState is that of no session.
func (c *carried) ConnectionState() tls.ConnectionState { return tls.ConnectionState{} }
