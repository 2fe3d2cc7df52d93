package interop

import (
	"net"
	"sync"
	"time"

	"vitrine/internal/tlsmsg"
)

// A recorder keeps what passes a connection.
type recorder struct {
	net.Conn
	client bool // ours is the client

	mu    sync.Mutex
	parts []part
	bytes int           // that were received
	more  chan struct{} // closed when there are more
}

// A part is what one end sent in a row.
type part struct {
	fromClient bool
	data       []byte
}

func (c *recorder) add(fromClient bool, p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.parts); n > 0 && c.parts[n-1].fromClient == fromClient {
		c.parts[n-1].data = append(c.parts[n-1].data, p...)
		return
	}
	c.parts = append(c.parts, part{fromClient, append([]byte(nil), p...)})
}

func (c *recorder) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.add(!c.client, p[:n])
		c.mu.Lock()
		c.bytes += n
		if c.more != nil {
			close(c.more)
			c.more = nil
		}
		c.mu.Unlock()
	}
	return n, err
}

// received is how many bytes have arrived.
func (c *recorder) received() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

// waitFor waits until n bytes have arrived.
func (c *recorder) waitFor(n int) bool {
	late := time.After(patience)
	for {
		c.mu.Lock()
		if c.bytes >= n {
			c.mu.Unlock()
			return true
		}
		if c.more == nil {
			c.more = make(chan struct{})
		}
		more := c.more
		c.mu.Unlock()
		select {
		case <-more:
		case <-late:
			return false
		}
	}
}

func (c *recorder) Write(p []byte) (int, error) {
	c.add(c.client, p)
	return c.Conn.Write(p)
}

// largest is the length of the largest record that one end sent.
func (c *recorder) largest(fromClient bool) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []byte
	for _, p := range c.parts {
		if p.fromClient == fromClient {
			all = append(all, p.data...)
		}
	}
	most := 0
	for {
		h, err := tlsmsg.ParseRecordHeader(all)
		if err != nil || len(all) < tlsmsg.RecordHeaderLen+h.Length {
			return most
		}
		most = max(most, h.Length)
		all = all[tlsmsg.RecordHeaderLen+h.Length:]
	}
}
