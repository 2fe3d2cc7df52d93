package origin

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// An upstreamConn is a Gateway's connection to its upstream. That may answer before it has the whole request, and close:
// then a Write fails while the answer waits to be read, and net/http closes at the first error, and loses it. So a Write
// says that it failed when the Reads have come to their end.
type upstreamConn struct {
	net.Conn
	readEnd   chan struct{} // closed when Read has failed, or Close was called
	endOfRead sync.Once

	mu     sync.Mutex
	failed error // of a Write
}

// answerPatience bounds how long a Write that failed waits: over HTTP/2, who reads may wait for who writes.
const answerPatience = 10 * time.Second

// upstreamDial is dial, with connections that read answers to their end.
func upstreamDial(dial func(ctx context.Context, network, addr string) (net.Conn, error)) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &upstreamConn{Conn: conn, readEnd: make(chan struct{})}, nil
	}
}

func (c *upstreamConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == nil {
		return n, nil
	}
	if err == io.EOF {
		// The kernel tells of a reset once, and the Write may have heard it: an answer that was cut must not look as if
		// it ended here.
		c.mu.Lock()
		if c.failed != nil {
			err = c.failed
		}
		c.mu.Unlock()
	}
	c.end()
	return n, err
}

func (c *upstreamConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err == nil {
		return n, nil
	}
	c.mu.Lock()
	c.failed = err
	c.mu.Unlock()
	patience := time.NewTimer(answerPatience)
	defer patience.Stop()
	select {
	case <-c.readEnd:
	case <-patience.C:
	}
	return n, err
}

// CloseWrite is for protocols that the request was upgraded to.
func (c *upstreamConn) CloseWrite() error {
	if conn, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return conn.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (c *upstreamConn) Close() error {
	c.end()
	return c.Conn.Close()
}

func (c *upstreamConn) end() { c.endOfRead.Do(func() { close(c.readEnd) }) }
