// Package answered reads what a server has answered before its connection counts as broken.
//
// Call [NewConn] on a client's connection before net/http has it.
package answered

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// A Conn is a client's connection to a server that may answer before it has the whole request, and close: then a Write
// fails while the answer waits to be read, and net/http closes at the first error, and loses it. So a Write says that it
// failed when the Reads have come to their end.
type Conn struct {
	net.Conn
	readEnd   chan struct{} // closed when Read has failed, or Close was called
	endOfRead sync.Once

	mu     sync.Mutex
	failed error // of a Write
}

// patience bounds how long a Write that failed waits: over HTTP/2, who reads may wait for who writes.
const patience = 10 * time.Second

// NewConn owns conn from then on.
func NewConn(conn net.Conn) *Conn { return &Conn{Conn: conn, readEnd: make(chan struct{})} }

// Read reads. Where a Write has failed, the end of what arrived is that error.
func (c *Conn) Read(p []byte) (int, error) {
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

// Write writes. An error comes when Read has failed, too, Close was called, or 10 s have passed.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err == nil {
		return n, nil
	}
	c.mu.Lock()
	c.failed = err
	c.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-c.readEnd:
	case <-timer.C:
	}
	return n, err
}

// CloseWrite is for protocols that the request was upgraded to.
func (c *Conn) CloseWrite() error {
	if conn, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return conn.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close closes the connection, and ends a Write that waits.
func (c *Conn) Close() error {
	c.end()
	return c.Conn.Close()
}

func (c *Conn) end() { c.endOfRead.Do(func() { close(c.readEnd) }) }
