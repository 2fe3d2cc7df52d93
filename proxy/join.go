package proxy

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"vitrine/frames"
	"vitrine/internal/hop"
	"vitrine/proxy/inspect"
)

const (
	// keepBytes and keepBuffers are how much a direction keeps with its credit. More is copied, so that
	// its credit can go back: a held body larger than the window would wait for itself.
	keepBytes   = 64 << 10
	keepBuffers = 16
	// ownBuffer is what a buffer of copies costs.
	ownBuffer = 16 << 10
)

// A reader decides how many of a tunnel's bytes may leave. *inspect.Tunnel is one.
type reader interface {
	Feed(d frames.Direction, p []byte) (release int64, err error)
	End(d frames.Direction) error
	Close(err error)
	Wait()
}

// unread is the reader of a blind tunnel: everything passes.
type unread struct{ fed [2]int64 }

func (u *unread) Feed(d frames.Direction, p []byte) (int64, error) {
	u.fed[d] += int64(len(p))
	return u.fed[d], nil
}

func (*unread) End(frames.Direction) error { return nil }
func (*unread) Close(error)                {}
func (*unread) Wait()                      {}

// A join carries one tunnel from stream to stream. It has no goroutine: it runs on those of the hops.
//
// No method of a stream is called with a half's lock held, because a stream may call its Sink.
type join struct {
	reader reader
	halves [2]half // by direction
	held   heldBytes

	moved  atomic.Bool // since the last sweep
	dead   atomic.Bool // nothing more is sent
	closed atomic.Int32
	once   sync.Once
	// over is called once, when the join has nothing more to do: nil after both directions ended, a
	// *inspect.KillError when the tunnel shall be killed, else the reason that ended it. It is called
	// without locks, on any goroutine, and must not block.
	over func(error)
}

// half is one direction: a Sink of the stream that its bytes come from.
type half struct {
	join *join
	dir  frames.Direction
	to   hop.Stream

	mu      sync.Mutex
	pending []*hop.Buffer // fed, not yet sent; oldest first
	bytes   int           // in pending
	own     *hop.Buffer   // the last of pending, when it is a copy with room left
	sent    int64
	allowed int64
	ended   bool // nothing more comes
	sending bool // somebody is in flush
	done    bool // CloseSend was called, or was not worth it
	deaf    bool // the receiver is gone; what comes is dropped
}

// newJoin prepares the join of a client's and an origin's stream. Once it has a reader, start sets it
// going.
func newJoin(client, origin hop.Stream, held heldBytes, over func(error)) *join {
	j := &join{held: held, over: over}
	j.halves[frames.ToOrigin] = half{join: j, dir: frames.ToOrigin, to: origin}
	j.halves[frames.ToClient] = half{join: j, dir: frames.ToClient, to: client}
	return j
}

func (j *join) client() hop.Stream { return j.halves[frames.ToClient].to }
func (j *join) origin() hop.Stream { return j.halves[frames.ToOrigin].to }

func (j *join) start() {
	j.client().Start(&j.halves[frames.ToOrigin])
	j.origin().Start(&j.halves[frames.ToClient])
}

// release lets more of direction d leave.
func (j *join) release(d frames.Direction, upTo int64) {
	h := &j.halves[d]
	h.mu.Lock()
	h.allowed = max(h.allowed, upTo)
	h.mu.Unlock()
	h.flush()
}

// stop ends the join; only the first call counts.
func (j *join) stop(err error) {
	j.once.Do(func() {
		j.dead.Store(true)
		j.over(err)
	})
}

// drop frees what was not sent, and returns how much was sent in each direction. Nothing more is.
func (j *join) drop() (sent [2]int64) {
	j.dead.Store(true)
	for d := range j.halves {
		h := &j.halves[d]
		h.mu.Lock()
		sent[d] = h.sent
		dropped := h.take()
		h.mu.Unlock()
		free(dropped)
	}
	return sent
}

// idle says whether nothing has moved since it was called last.
func (j *join) idle() bool { return !j.moved.Swap(false) }

// stale says that one direction's receiver is gone, and that the other direction has ended and was
// written: the sender of the first talks to nobody.
func (j *join) stale() bool {
	for d := range j.halves {
		h, back := &j.halves[d], &j.halves[1-d]
		h.mu.Lock()
		deaf := h.deaf && !h.done
		h.mu.Unlock()
		back.mu.Lock()
		done := back.done
		back.mu.Unlock()
		if deaf && done && back.to.Queued() == 0 {
			return true
		}
	}
	return false
}

// Data implements [hop.Sink].
func (h *half) Data(b *hop.Buffer) {
	j := h.join
	if !j.moved.Load() {
		j.moved.Store(true)
	}
	if j.dead.Load() || b.Len() == 0 {
		b.Release()
		return
	}
	allowed, err := j.reader.Feed(h.dir, b.Bytes())
	if err != nil {
		b.Release()
		j.stop(err)
		return
	}
	h.mu.Lock()
	if h.deaf || j.dead.Load() {
		h.mu.Unlock()
		b.Release()
		return
	}
	h.allowed = max(h.allowed, allowed)
	var freed []*hop.Buffer
	if h.bytes+b.Len() > keepBytes || len(h.pending) >= keepBuffers {
		freed = h.copy(b)
	} else {
		h.keep(b)
	}
	h.mu.Unlock()
	free(freed)
	h.flush()
}

// keep queues b as it is, or adds it to the last of the queue when it is small.
func (h *half) keep(b *hop.Buffer) {
	n := b.Len()
	h.bytes += n
	if last := len(h.pending) - 1; last >= 0 && h.pending[last].Absorb(b) {
		return
	}
	h.own = nil
	h.pending = append(h.pending, b)
}

// copy queues b's bytes in buffers of our own, as far as the budget goes: what is copied gives its
// credit back. What is not keeps it, and the sender waits.
func (h *half) copy(b *hop.Buffer) (freed []*hop.Buffer) {
	for b.Len() > 0 {
		if h.own == nil {
			if !h.join.held.take() {
				h.keep(b)
				return nil
			}
			h.own = hop.NewBuffer()
			h.own.Owe(ownBuffer, &h.join.held)
			h.pending = append(h.pending, h.own)
		}
		n := h.own.Append(b.Bytes())
		h.bytes += n
		b.Advance(n)
		if b.Len() > 0 {
			h.own = nil
		}
	}
	return []*hop.Buffer{b}
}

// flush sends what may leave, and the end behind it. Whoever comes while another is at it leaves it
// to that one.
func (h *half) flush() {
	h.mu.Lock()
	if h.sending {
		h.mu.Unlock()
		return
	}
	h.sending = true
	for !h.join.dead.Load() {
		b := h.next()
		if b == nil {
			break
		}
		h.mu.Unlock()
		err := h.to.Send(b)
		h.mu.Lock()
		if err != nil {
			h.deaf = true
			dropped := h.take()
			h.mu.Unlock()
			free(dropped)
			h.mu.Lock()
		}
	}
	h.sending = false
	end := h.ended && len(h.pending) == 0 && !h.done && !h.join.dead.Load()
	if end {
		h.done = true
	}
	deaf := h.deaf
	h.mu.Unlock()
	if !end {
		return
	}
	if !deaf {
		h.to.CloseSend()
	}
	if h.join.closed.Add(1) == 2 {
		h.join.stop(nil)
	}
}

// next takes the next buffer that may leave off the queue; nil where there is none.
func (h *half) next() *hop.Buffer {
	if len(h.pending) == 0 || h.sent >= h.allowed {
		return nil
	}
	b := h.pending[0]
	n := int(min(int64(b.Len()), h.allowed-h.sent))
	h.sent += int64(n)
	h.bytes -= n
	if n < b.Len() {
		return b.Split(n)
	}
	if b == h.own {
		h.own = nil
	}
	h.pending[0] = nil
	h.pending = h.pending[1:]
	if len(h.pending) == 0 {
		h.pending = nil // an idle tunnel keeps nothing
	}
	return b
}

// count is how many bytes were sent.
func (h *half) count() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sent
}

// take empties the queue.
func (h *half) take() []*hop.Buffer {
	dropped := h.pending
	h.pending, h.own, h.bytes = nil, nil, 0
	return dropped
}

func free(buffers []*hop.Buffer) {
	for _, b := range buffers {
		b.Release()
	}
}

// Writable implements [hop.Sink]. What bounds the queue is the credit that its buffers hold.
func (h *half) Writable() {}

// End implements [hop.Sink].
func (h *half) End(err error) {
	j := h.join
	if !errors.Is(err, io.EOF) || isReset(err) {
		j.stop(&endError{from: h.dir, err: err})
		return
	}
	err = j.reader.End(h.dir)
	if kill := (*inspect.KillError)(nil); errors.As(err, &kill) {
		j.stop(kill)
		return
	}
	h.mu.Lock()
	h.ended = true
	var dropped []*hop.Buffer
	if err != nil || h.deaf {
		// A record is cut. Who waits for it gets the end as it came, and no close_notify before it: the
		// inner session tells a truncation from an end.
		dropped = h.take()
	}
	h.mu.Unlock()
	free(dropped)
	h.flush()
}

func isReset(err error) bool {
	var reset *hop.ResetError
	var session *hop.SessionError
	return errors.As(err, &reset) || errors.As(err, &session)
}

// endError says that the sender of one direction, and so its hop's stream, ended in the middle.
type endError struct {
	from frames.Direction
	err  error
}

func (e *endError) Error() string {
	if e.from == frames.ToOrigin {
		return "the client: " + e.err.Error()
	}
	return "the origin: " + e.err.Error()
}

func (e *endError) Unwrap() error { return e.err }

// heldBytes is the memory for copies that one tunnel has taken of what all may take.
type heldBytes struct {
	own     *budget // this tunnel's
	all     *budget // every tunnel's
	clients *quota  // what each client's tunnels may take of it; nil for no limit
	client  string
}

func (h *heldBytes) take() bool {
	if !h.own.take(ownBuffer) {
		return false
	}
	if h.clients != nil && !h.clients.take(h.client, ownBuffer) {
		h.own.give(ownBuffer)
		return false
	}
	if !h.all.take(ownBuffer) {
		h.own.give(ownBuffer)
		if h.clients != nil {
			h.clients.give(h.client, ownBuffer)
		}
		return false
	}
	return true
}

// Credit implements [hop.Creditor].
func (h *heldBytes) Credit(n int) {
	h.own.give(int64(n))
	h.all.give(int64(n))
	if h.clients != nil {
		h.clients.give(h.client, int64(n))
	}
}
