package origin

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"

	"vitrine/internal/hop"
	"vitrine/internal/itls"
)

// A listener hands inner sessions to http.Server.Serve.
type listener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newListener() *listener {
	return &listener{conns: make(chan net.Conn), done: make(chan struct{})}
}

// deliver reports false when nobody will serve c.
func (l *listener) deliver(ctx context.Context, c net.Conn) bool {
	select {
	case l.conns <- c:
		return true
	case <-l.done:
		return false
	case <-ctx.Done():
		return false
	}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *listener) Addr() net.Addr { return innerAddr{} }

// innerAddr is the address that BaseContext sees of the listener of inner sessions.
type innerAddr struct{}

func (innerAddr) Network() string { return "itls" }
func (innerAddr) String() string  { return "tunnels" }

// A conn is an inner session as net/http sees it. It is not a *tls.Conn; net/http fills Request.TLS
// from ConnectionState all the same.
type conn struct {
	*itls.Conn
	state      tls.ConnectionState
	inspection *Inspection
}

// ConnectionState is the state of the inner session.
func (c *conn) ConnectionState() tls.ConnectionState { return c.state }

// Read makes a failed session look like a broken connection, which it is as good as: to any other error
// net/http answers 400, and whoever cuts a request would have the origin put its name to an answer.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && err != io.EOF && !errors.Is(err, os.ErrDeadlineExceeded) {
		err = &net.OpError{Op: "read", Net: "itls", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
	}
	return n, err
}

// NewListener returns ln for a server that carries much: on the hops that proxies open, records are
// written together instead of one by one. Give it to ServeTLS; without it everything works as well.
func NewListener(ln net.Listener) net.Listener { return batchListener{ln} }

type batchListener struct{ net.Listener }

func (l batchListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return hop.NewBatchConn(c), nil
}
