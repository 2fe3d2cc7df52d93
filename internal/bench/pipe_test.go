//go:build unix

package bench

import (
	"io"
	"net"
	"sync"
	"time"
)

// A pipe is one end of a carrier in memory, that buffers all.
type pipe struct{ in, out *buffer }

type buffer struct {
	sync.Mutex
	filled sync.Cond
	data   []byte
	read   int
	closed bool
}

func newPipe() (a, b *pipe) {
	x, y := new(buffer), new(buffer)
	x.filled.L, y.filled.L = x, y
	return &pipe{x, y}, &pipe{y, x}
}

func (p *pipe) Read(b []byte) (int, error) {
	p.in.Lock()
	defer p.in.Unlock()
	for p.in.read == len(p.in.data) {
		if p.in.closed {
			return 0, io.EOF
		}
		p.in.filled.Wait()
	}
	n := copy(b, p.in.data[p.in.read:])
	p.in.read += n
	return n, nil
}

func (p *pipe) Write(b []byte) (int, error) {
	p.out.Lock()
	defer p.out.Unlock()
	if p.out.read == len(p.out.data) {
		p.out.read, p.out.data = 0, p.out.data[:0]
	}
	p.out.data = append(p.out.data, b...)
	p.out.filled.Signal()
	return len(b), nil
}

func (p *pipe) Close() error {
	for _, b := range []*buffer{p.in, p.out} {
		b.Lock()
		b.closed = true
		b.filled.Broadcast()
		b.Unlock()
	}
	return nil
}

func (*pipe) LocalAddr() net.Addr              { return new(net.TCPAddr) }
func (*pipe) RemoteAddr() net.Addr             { return new(net.TCPAddr) }
func (*pipe) SetDeadline(time.Time) error      { return nil }
func (*pipe) SetReadDeadline(time.Time) error  { return nil }
func (*pipe) SetWriteDeadline(time.Time) error { return nil }
