package evidence

import (
	"net"
	"sync"
	"sync/atomic"
)

const (
	// maxReceived is how much of an origin's handshake is kept: the largest flight that could be
	// shown, and its record headers. An origin that sends more gets no transcript, and no more memory.
	maxReceived = 80 << 10
	// maxSent is more than two ClientHellos of any kind.
	maxSent = 16 << 10
)

// Tap returns conn with a copy of the handshake's bytes kept aside, at most 96 KiB, until the handshake
// is over. It belongs right around the network connection, below anything that batches writes. Without a
// request there is nothing to keep, and Tap returns conn.
func (d *Dial) Tap(conn net.Conn) net.Conn {
	if d.req == nil {
		return conn
	}
	t := &tap{Conn: conn}
	t.recording.Store(true)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tap = t
	return t
}

type tap struct {
	net.Conn
	recording atomic.Bool

	mu             sync.Mutex
	sent, received []byte
}

func (t *tap) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	if n > 0 && t.recording.Load() {
		t.mu.Lock()
		t.received = keepUpTo(maxReceived, t.received, p[:n])
		t.mu.Unlock()
	}
	return n, err
}

func (t *tap) Write(p []byte) (int, error) {
	n, err := t.Conn.Write(p)
	if n > 0 && t.recording.Load() {
		t.mu.Lock()
		t.sent = keepUpTo(maxSent, t.sent, p[:n])
		t.mu.Unlock()
	}
	return n, err
}

// keepUpTo cuts what is over the limit: the beginning is what counts, and a cut flight is noticed where
// it is parsed.
func keepUpTo(limit int, kept, p []byte) []byte {
	return append(kept, p[:min(len(p), limit-len(kept))]...)
}

func (t *tap) take() (sent, received []byte) {
	t.recording.Store(false)
	t.mu.Lock()
	defer t.mu.Unlock()
	sent, received = t.sent, t.received
	t.sent, t.received = nil, nil
	return sent, received
}

// NetConn returns the connection below, as tls.Conn's method of that name does.
func (t *tap) NetConn() net.Conn { return t.Conn }
