package origin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"runtime/debug"
	"sync"

	"vitrine/internal/evidence"
	"vitrine/internal/hop"
	"vitrine/internal/hop/h2"
	"vitrine/internal/pki"
)

// A carrier is one hop 2: a connection from a proxy, and what holds for all tunnels on it.
type carrier struct {
	o       *server
	session hop.Session
	tls     tls.ConnectionState
	conn    *tls.Conn

	proxy     *x509.Certificate // nil when the proxy showed none
	leaf      [32]byte          // its hash, zero when it showed none
	stranger  error             // why Config.ProxyRoots refuse it; nil when they do not
	evidence  *evidence.Limiter
	handshake chan struct{} // this hop's part of server.handshakes

	retired sync.Once
	spent   chan struct{} // closed when the hop has no answers left
}

// serveHop is the TLSNextProto entry. net/http counts the connection as active until it returns,
// which is when the last tunnel has ended: Shutdown waits for that.
func (o *server) serveHop(_ *http.Server, tc *tls.Conn, h http.Handler) {
	ctx := context.Background()
	if b, ok := h.(interface{ BaseContext() context.Context }); ok {
		ctx = b.BaseContext()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	session, err := h2.Server(tc, &h2.Config{
		Limits:    o.limits(),
		Ordinary:  true, // to refuse them in words
		OnAnomaly: func(what string) { o.logf("origin: hop from %v: %s", tc.RemoteAddr(), what) },
	})
	if err != nil {
		o.logf("origin: hop from %v: %v", tc.RemoteAddr(), err)
		return
	}
	// Shutdown and Close end it and wait for it, as for every listener of the server.
	o.start.Do(func() { go o.srv.Serve(o.inner) })

	c := &carrier{
		o: o, session: session, tls: tc.ConnectionState(), conn: tc,
		evidence: evidence.NewLimiter(), spent: make(chan struct{}), handshake: make(chan struct{}, max(1, o.cfg.Handshakes/4)),
	}
	c.meet()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		select {
		case <-o.draining:
			session.Drain(ctx)
		case <-c.spent:
			session.Drain(ctx)
		case <-ctx.Done():
			session.Close(hop.NoError, "the server has ended")
		case <-session.Done():
		}
	})
	for {
		in, err := session.Accept(ctx)
		if err != nil {
			break
		}
		wg.Go(func() { c.tunnel(ctx, in) })
	}
	<-session.Done()
}

// meet looks at what the proxy showed.
func (c *carrier) meet() {
	if certs := c.tls.PeerCertificates; len(certs) > 0 {
		c.proxy, c.leaf = certs[0], pki.LeafHash(certs[0])
	}
	roots := c.o.cfg.ProxyRoots
	switch {
	case roots == nil:
	case c.proxy == nil:
		c.stranger = errors.New("the proxy showed no certificate")
	default:
		_, c.stranger = pki.VerifyProxy(c.tls.PeerCertificates, pki.ProxyOptions{Roots: roots, AsClient: true, Time: c.o.cfg.Time()})
	}
	if c.stranger != nil {
		c.o.logf("origin: hop from %v: refusing its tunnels: %v", c.conn.RemoteAddr(), c.stranger)
	}
}

// tunnel serves one tunnel. A panic in a callback of the user's costs that tunnel, as one in a
// handshake of net/http costs that connection.
func (c *carrier) tunnel(ctx context.Context, in hop.Incoming) {
	defer func() {
		if err := recover(); err != nil {
			c.o.logger().Printf("origin: panic serving a tunnel from %v: %v\n%s", c.conn.RemoteAddr(), err, debug.Stack())
			in.Refuse(hop.InternalError)
		}
	}()
	if err := c.serve(ctx, in); err != nil {
		c.o.logf("origin: tunnel from %v: %v", c.conn.RemoteAddr(), err)
	}
}
