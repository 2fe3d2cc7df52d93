package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"vitrine/internal/hop"
	"vitrine/internal/itls"
)

// blind opens a tunnel that the proxy cannot read: a plain CONNECT with ordinary TLS in it.
func (d *Dialer) blind(ctx context.Context, s *session, a *attempt) (t *Tunnel, refused *refusal, err error) {
	t = &Tunnel{level: Blind, authority: a.authority, proxy: s.leaf, name: s.name}
	resp, stream, err := d.connect(ctx, s, a, t, &hop.Request{Authority: a.authority})
	if err != nil {
		return nil, nil, err
	}
	if stream == nil {
		refused, err := refusalOf(resp, a.authority, d.now(), nil)
		return nil, refused, err
	}
	t.stream = hop.NewConn(stream)
	t.wire = &wire{Conn: t.stream}
	if a.sealed {
		t.inner = &carried{t.wire, t.stream}
		return t.opened(d, a), nil, nil
	}
	if err := d.plainTLS(ctx, a, t, &noEOF{t.wire}); err != nil {
		stream.Reset(hop.Cancel)
		t.stream.Close()
		return nil, nil, err
	}
	return t.opened(d, a), nil, nil
}

// direct is a TLS connection to the origin that no proxy carries.
func (d *Dialer) direct(ctx context.Context, a *attempt) (*Tunnel, error) {
	raw, err := d.dialTCP(ctx, PartyOrigin, a.host, a.port)
	if err != nil {
		return nil, err
	}
	t := &Tunnel{level: Direct, authority: a.authority, wire: &wire{Conn: raw}, readEnd: make(chan struct{})}
	if err := d.plainTLS(ctx, a, t, &noEOF{t.wire}); err != nil {
		raw.Close()
		return nil, err
	}
	return t.opened(d, a), nil
}

// noEOF makes an end below TLS an error. crypto/tls takes one for a close_notify, which would let whoever
// carries the bytes cut a response that ends with its connection.
type noEOF struct{ *wire }

func (c *noEOF) Read(p []byte) (int, error) {
	n, err := c.wire.Read(p)
	if err == io.EOF {
		err = itls.ErrTruncated
	}
	return n, err
}

// plainTLS runs an ordinary TLS handshake with the origin over conn.
func (d *Dialer) plainTLS(ctx context.Context, a *attempt, t *Tunnel, conn net.Conn) error {
	var refused error
	c := tls.Client(conn, &tls.Config{
		MinVersion:   tls.VersionTLS12,
		RootCAs:      d.Roots,
		ServerName:   a.host,
		NextProtos:   []string{"http/1.1"},
		Certificates: d.Certificates,
		Time:         d.Time,
		KeyLogWriter: d.keyLogWriter(),
		VerifyConnection: func(cs tls.ConnectionState) error {
			refused = a.checkOrigin(cs.VerifiedChains)
			return refused
		},
	})
	tctx, cancel := context.WithTimeout(ctx, d.Timeouts.inner())
	defer cancel()
	err := c.HandshakeContext(tctx)
	if err == nil {
		t.inner = c
		return nil
	}
	if killed := t.killed(err); killed != nil {
		return killed
	}
	var bad *tls.CertificateVerificationError
	switch {
	case refused != nil:
		return &TrustError{Party: PartyOrigin, Err: refused}
	case errors.As(err, &bad):
		return &TrustError{Party: PartyOrigin, Err: bad.Err}
	case ctx.Err() != nil:
		return step(ctx, nil)
	case tctx.Err() != nil:
		return &UnreachableError{Party: PartyOrigin, Err: fmt.Errorf("no TLS handshake within %v", d.Timeouts.inner())}
	}
	if noCommonTLS(err) {
		return &UnreachableError{Party: PartyOrigin, Reached: true, Err: fmt.Errorf(
			"TLS handshake: %w: it may have no TLS version or cipher suite that this client takes, which are TLS 1.3, and 1.2 with forward secrecy", err,
		)}
	}
	return &UnreachableError{Party: PartyOrigin, Err: fmt.Errorf("TLS handshake: %w", err)}
}

// noCommonTLS says that whoever answered a ClientHello speaks TLS, and found nothing in it, or answered with what was not.
func noCommonTLS(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		switch op.Err.Error() {
		case "tls: handshake failure", "tls: protocol version not supported", "tls: insufficient security level":
			return true
		}
		return false
	}
	return strings.Contains(err.Error(), "server selected unsupported protocol version")
}
