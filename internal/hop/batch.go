package hop

import (
	"net"
	"sync"
)

// batchSize is where a batch is written without waiting for Flush. Larger ones fall out of the cache.
const batchSize = 64 << 10

var batches = sync.Pool{New: func() any { return new([batchSize]byte) }}

// A BatchConn is a net.Conn that can collect writes: crypto/tls makes one write(2) per record, and
// a system call costs more than a copy. Create it below tls.Client or tls.Server; a carrier finds it
// there, switches it on when the handshake is over, and flushes whenever it has nothing to write.
// Until then it passes everything through.
type BatchConn struct {
	net.Conn

	mu  sync.Mutex
	on  bool
	buf *[batchSize]byte // nil while empty, so that an idle connection holds none
	n   int
	err error // of an earlier write; what was collected with it is lost
}

// NewBatchConn returns a BatchConn over c that does not collect yet.
func NewBatchConn(c net.Conn) *BatchConn { return &BatchConn{Conn: c} }

// SetBatching starts or stops collecting. Stopping flushes.
func (c *BatchConn) SetBatching(on bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.on = on
	if on {
		return c.err
	}
	return c.flush()
}

// Write collects p, or writes it where collecting is off. An error of an earlier batch is returned
// by the next Write or Flush.
func (c *BatchConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	if !c.on {
		return c.Conn.Write(p)
	}
	total := len(p)
	for len(p) > 0 {
		if c.buf == nil {
			c.buf = batches.Get().(*[batchSize]byte)
		}
		n := copy(c.buf[c.n:], p)
		c.n += n
		p = p[n:]
		if c.n == batchSize {
			if err := c.flush(); err != nil {
				return total - len(p), err
			}
		}
	}
	return total, nil
}

// Flush writes what was collected.
func (c *BatchConn) Flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flush()
}

func (c *BatchConn) flush() error {
	if c.err != nil || c.buf == nil {
		return c.err
	}
	_, c.err = c.Conn.Write(c.buf[:c.n])
	batches.Put(c.buf)
	c.buf, c.n = nil, 0
	return c.err
}
