package h2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"vitrine/frames"
	"vitrine/internal/hop"
)

var (
	errSendClosed    = fmt.Errorf("h2: the sending side is closed: %w", net.ErrClosed)
	errNoHead        = errors.New("h2: content before the head of its message")
	errNoContent     = errors.New("h2: content in a message that has none")
	errContentLength = errors.New("h2: content differs from its content-length")
)

// The halves of a stream that are over.
const (
	recvHalf uint32 = 1 << iota
	sendHalf
	bothHalves = recvHalf | sendHalf
)

// A stream is one HTTP/2 stream: a tunnel, a request on its way to be one, or an ordinary exchange.
type stream struct {
	s      *session
	id     uint32
	local  bool          // we opened it
	halves atomic.Uint32 // that ended in good order
	queued atomic.Int64  // bytes accepted by Send and not yet written
	ending atomic.Bool   // CloseSend was called, and END_STREAM is not yet written
	memory atomic.Int64  // behind Buffers that this stream has delivered

	incoming *incoming // of a stream of the peer's
	exchange *exchange // of a stream of ours
	rx       receiving // the reader's alone

	mu         sync.Mutex
	started    bool
	sink       hop.Sink
	busy       bool          // someone is in a call of sink
	in         []*hop.Buffer // arrived, and not delivered
	writable   bool          // to be told
	end        error         // to be told after in; io.EOF, or err
	ended      bool          // it was told
	err        error         // why the stream was cut off; nil after a good end
	closed     bool          // the receiving half is over
	recvWindow int64         // what the peer may still send
	arrived    int64         // bytes of DATA
	trailer    http.Header   // of the peer's
	owed       int           // window not given back yet
	verdict    []byte        // of the peer's, for this stream

	out sending // guarded by session.w.mu
}

// sending is the half of a stream that the writer serves.
type sending struct {
	heads     []*head // that wait for the writer
	headDone  bool    // no head follows those
	headSent  bool
	queue     []*hop.Buffer
	window    int64
	sent      uint64
	inRing    bool
	above     bool // the high-water mark was reached
	endQueued bool
	endSent   bool
	ownEnd    bool // END_STREAM has a frame of its own
	update    int  // pending WINDOW_UPDATE
	dead      error
	trailer   []hpack.HeaderField // in END_STREAM's place
	empty     bool                // defined to have no content
	exact     bool                // content has length bytes
	length    int64
	accepted  int64 // bytes of content

	// Of the watch: how much had been sent when it last saw progress, and when that was.
	mark  uint64
	since time.Time
}

// receiving is what the reader keeps of a stream.
type receiving struct {
	tunnel   bool  // answered with 2xx, or asked for by the peer: its DATA goes to a sink
	content  bool  // of an ordinary exchange: goes to a sink, too, and is checked
	empty    bool  // defined to have no content (RFC 9110 section 6.4.1)
	declared int64 // content-length; -1 where there is none
	got      int64 // bytes of content
	evidence evidenceIn
}

// resetHow is what a reset puts on the wire.
type resetHow struct {
	send    bool
	code    http2.ErrCode
	verdict []byte // in a VERDICT before it
	drop    bool   // what arrived and was not delivered is dropped
	past    pastKind
}

var (
	resetNone = resetHow{past: pastResetByUs}
	resetPeer = resetHow{past: pastResetByPeer}
)

func (s *session) newStream(id uint32, local bool) *stream {
	st := &stream{s: s, id: id, local: local, recvWindow: int64(s.lim.StreamWindow)}
	st.rx.declared = -1
	return st
}

// ID implements [hop.Stream].
func (st *stream) ID() uint64 { return uint64(st.id) }

// Session implements [hop.Stream].
func (st *stream) Session() hop.Session { return st.s }

// Queued implements [hop.Stream].
func (st *stream) Queued() int {
	n := int(st.queued.Load())
	if n == 0 && st.ending.Load() {
		return 1 // a reset now would take END_STREAM's place
	}
	return n
}

// Watermarks implements [hop.Watermarks].
func (st *stream) Watermarks() (high, low int) { return st.s.lim.HighWater, st.s.lim.LowWater }

// LingerTime implements [hop.Watermarks].
func (st *stream) LingerTime() time.Duration { return st.s.lim.Linger }

// Start implements [hop.Stream].
func (st *stream) Start(sink hop.Sink) {
	st.mu.Lock()
	if st.started {
		st.mu.Unlock()
		panic("h2: Start was called twice on a stream")
	}
	st.started = true
	st.sink = sink
	st.mu.Unlock()
	st.pump()
}

// pump makes the calls of the sink that are due, unless someone else is making them already: so calls
// never overlap, whichever goroutine causes them, and none is made with a lock held.
func (st *stream) pump() {
	st.mu.Lock()
	if st.busy || st.sink == nil {
		st.mu.Unlock()
		return
	}
	st.busy = true
	st.pumpBusy()
}

// pumpBusy is pump for the one who has set busy. mu is held, and is not on return.
func (st *stream) pumpBusy() {
	for {
		switch {
		case len(st.in) > 0:
			b := st.in[0]
			st.in[0] = nil
			st.in = st.in[1:]
			st.mu.Unlock()
			st.sink.Data(b)
		case st.end != nil && !st.ended:
			st.ended = true
			err := st.end
			st.mu.Unlock()
			st.sink.End(err)
		case st.writable:
			st.writable = false
			st.mu.Unlock()
			st.sink.Writable()
		default:
			st.in = nil
			st.busy = false
			st.mu.Unlock()
			return
		}
		st.mu.Lock()
	}
}

// deliver hands b to the sink, or keeps it until there is one. The reader calls it.
func (st *stream) deliver(b *hop.Buffer) {
	st.mu.Lock()
	if st.err != nil {
		st.mu.Unlock()
		b.Release()
		return
	}
	if st.sink == nil || st.busy || len(st.in) > 0 {
		if last := len(st.in) - 1; last < 0 || !st.in[last].Absorb(b) {
			st.in = append(st.in, b)
		}
		st.mu.Unlock()
		st.pump()
		return
	}
	st.busy = true
	sink := st.sink
	st.mu.Unlock()
	sink.Data(b)
	st.mu.Lock()
	st.pumpBusy()
}

// tellWritable tells the sink that the queue has room again. It says so after the peer's END_STREAM,
// too, since our half is still open then; not after a reset.
func (st *stream) tellWritable() {
	st.mu.Lock()
	st.writable = st.err == nil || errors.Is(st.end, io.EOF)
	st.mu.Unlock()
	st.pump()
}

// Credit implements [hop.Creditor].
func (st *stream) Credit(n int) {
	st.mu.Lock()
	if st.closed || st.err != nil {
		st.mu.Unlock()
		return
	}
	st.owed += n
	if st.owed < st.s.lim.StreamWindow/4 {
		st.mu.Unlock()
		return
	}
	n = st.owed
	st.owed = 0
	st.recvWindow += int64(n)
	st.mu.Unlock()
	st.s.w.update(st, n)
}

// Send implements [hop.Stream].
func (st *stream) Send(b *hop.Buffer) error {
	if b.Len() == 0 {
		b.Release()
		return nil
	}
	if err := st.s.w.enqueue(st, b); err != nil {
		b.Release()
		return st.badContent(err)
	}
	return nil
}

// CloseSend implements [hop.Stream].
func (st *stream) CloseSend() error { return st.badContent(st.s.w.finish(st)) }

// badContent resets a stream whose content is not what its content-length says: the peer must not take it
// for complete.
func (st *stream) badContent(err error) error {
	if err == errContentLength {
		st.Reset(hop.InternalError)
	}
	return err
}

// Reset implements [hop.Stream].
func (st *stream) Reset(code hop.ErrorCode) { st.reset(code, nil) }

// Kill implements [hop.Stream]. A peer that takes no VERDICT gets the reset alone, and so does one whose
// verdict would not fit a frame.
func (st *stream) Kill(verdict []byte) {
	if !st.s.peer.Settings.Evidence || len(verdict) == 0 || 8+len(verdict) > frames.MaxFramePayload {
		verdict = nil
	}
	st.reset(hop.Killed, verdict)
}

func (st *stream) reset(code hop.ErrorCode, verdict []byte) {
	ok := st.abort(&hop.ResetError{Code: code}, resetHow{
		send: true, code: http2.ErrCode(code), verdict: verdict, drop: true, past: pastResetByUs,
	})
	if !ok {
		st.s.fail(&hop.SessionError{Code: hop.EnhanceYourCalm, Reason: "the peer provokes frames and does not read them"})
	}
}

// abort cuts the stream off, once, and reports whether the control queue had room for that. It makes no
// call of the sink: pump does.
func (st *stream) abort(err error, how resetHow) bool {
	if st.halves.Load() == bothHalves {
		return true
	}
	st.mu.Lock()
	if st.err != nil {
		st.mu.Unlock()
		return true
	}
	if r, ok := err.(*hop.ResetError); ok && r.Remote {
		r.Verdict = st.verdict
	}
	st.err = err
	var drop []*hop.Buffer
	if how.drop {
		drop, st.in = st.in, nil
	}
	switch {
	case st.end == nil, len(drop) > 0: // what was dropped must not look as if it had come whole
		st.end = err
	default:
		st.writable = true // the peer's END_STREAM came before: a sender that waits for room shall try, and hear of it
	}
	if how.past == pastResetByUs && !st.closed {
		st.s.stray.Add(st.recvWindow)
	}
	st.closed = true
	st.mu.Unlock()
	queued, room := st.s.w.abandon(st, err, how)
	for _, b := range drop {
		b.Release()
	}
	for _, b := range queued {
		b.Release()
	}
	st.s.remove(st, how.past)
	if st.exchange != nil {
		st.exchange.fail(err)
	}
	return room
}

// over reports whether the stream was cut off or has ended both ways.
func (st *stream) over() bool {
	if st.halves.Load() == bothHalves {
		return true
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.err != nil
}

// half records that a half has ended in good order; after the second the stream is gone.
func (st *stream) half(h uint32) {
	if st.halves.Or(h)|h == bothHalves {
		st.s.remove(st, pastEnded)
	} else {
		st.stopPeer()
	}
}

// stopPeer ends a stream whose answer is complete and whose request goes on (RFC 9113 section 8.1).
func (st *stream) stopPeer() {
	if in := st.incoming; in != nil && in.unwanted.Load() && st.halves.Load() == sendHalf {
		st.Reset(hop.NoError)
	}
}

// cutOff is why the stream was cut off, nil where it was not.
func (st *stream) cutOff() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.err
}

// receivedEnd is the peer's END_STREAM. The reader calls it.
func (st *stream) receivedEnd() {
	st.mu.Lock()
	if st.err != nil {
		st.mu.Unlock()
		return
	}
	st.closed = true
	st.end = io.EOF
	st.mu.Unlock()
	st.half(recvHalf)
	st.pump()
}

// cause is why a request's context ends.
func (st *stream) cause() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.err != nil {
		return st.err
	}
	return context.Canceled
}

// A faultError says what the peer did wrong on a stream that was therefore reset.
type faultError struct {
	reason string
	reset  *hop.ResetError
}

func (e *faultError) Error() string { return "h2: stream reset: " + e.reason }

func (e *faultError) Unwrap() error { return e.reset }
