package client

import (
	"errors"
	"io"
	"sync"
)

// maxReplay is how much of a request body that can be had once is kept until its request is answered: more than the
// peer's window and our queue let leave before a proxy can say that the request goes nowhere. It bounds what a
// caller that uploads without end costs.
const maxReplay = 1 << 20

// A replay has a body that can be had once be had again from its beginning, as long as that is short.
type replay struct {
	src     io.ReadCloser
	reading chan struct{} // holds a token while src is read; it is taken before mu

	mu   sync.Mutex
	kept []byte
	read int64 // of src
	err  error // src's last
}

func newReplay(src io.ReadCloser) *replay { return &replay{src: src, reading: make(chan struct{}, 1)} }

// whole says that all that was read is kept. It may be said while a Read goes on.
func (r *replay) whole() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.read == int64(len(r.kept))
}

// open is the body from its beginning. What was opened before must not be read any more; a Read of it that has not
// returned does no harm.
func (r *replay) open() io.ReadCloser { return &replayed{r: r} }

type replayed struct {
	r  *replay
	at int64
}

var errSpent = errors.New("client: the request's body is spent")

func (b *replayed) Read(p []byte) (int, error) {
	if n, err, ok := b.again(p); ok {
		return n, err
	}
	r := b.r
	r.reading <- struct{}{}
	defer func() { <-r.reading }()
	if n, err, ok := b.again(p); ok { // an earlier Read has returned in the meantime
		return n, err
	}
	n, err := r.src.Read(p)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.read == int64(len(r.kept)) && len(r.kept)+n <= maxReplay {
		r.kept = append(r.kept, p[:n]...)
	} else if n > 0 {
		r.kept = nil // nobody asks any more
	}
	r.read += int64(n)
	b.at = r.read
	r.err = err
	return n, err
}

// again reads what was read before; ok is false where there is no more of it.
func (b *replayed) again(p []byte) (n int, err error, ok bool) {
	r := b.r
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case b.at < int64(len(r.kept)):
		n = copy(p, r.kept[b.at:])
		b.at += int64(n)
		return n, nil, true
	case b.at < r.read:
		return 0, errSpent, true
	case r.err != nil:
		return 0, r.err, true
	}
	return 0, nil, false
}

func (b *replayed) Close() error { return b.r.src.Close() }
