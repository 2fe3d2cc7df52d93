package h2

import (
	"bytes"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"vitrine/internal/hop"
)

// What waits for the writer beside the streams' own queues.
type controlKind uint8

const (
	sendSettings controlKind = iota
	ackSettings
	sendPing
	ackPing
	sendHead // st's HEADERS, with the EVIDENCE around them
	sendVerdict
	sendReset
	sendGoAway
)

type control struct {
	kind     controlKind
	id       uint32 // of the stream; of GOAWAY the last one
	st       *stream
	head     *head // taken from st when it is written; nil where st has died
	code     http2.ErrCode
	data     [8]byte // of PING
	payload  []byte  // of VERDICT; the reason in GOAWAY
	settings []http2.Setting
}

// A writer is everything on its way out. Its methods are safe for concurrent use, except those of the
// writer's goroutine, which are in writer.go.
type writer struct {
	s     *session
	batch *hop.BatchConn // below the session's connection; nil where there is none

	// maxHeaderList is what the peer announced; 0 is no limit.
	maxHeaderList atomic.Uint32
	dataFrames    atomic.Uint64 // written

	mu          sync.Mutex
	wake        chan struct{}
	asleep      bool
	control     []control  // in order; nothing of a stream comes before its head
	updates     []*stream  // that have WINDOW_UPDATEs pending, each once
	connUpdate  int        // pending WINDOW_UPDATE of the connection
	ring        streamRing // streams that may have something to send
	window      int64      // of the connection
	initial     int64      // window of a new stream
	connSent    uint64     // bytes of DATA, for the watch
	tableLow    uint32     // lowest HPACK table size that the peer asked for since the last head
	tableNow    uint32
	tableChange bool
	orphans     []*stream // reset after closing: their sinks were not told
	closing     bool      // what is in control leaves, and then nothing

	out output
}

// output belongs to the writer's goroutine.
type output struct {
	framer *http2.Framer // writes into buf
	enc    *hpack.Encoder
	block  bytes.Buffer // of one head
	buf    []byte       // frames that are worth a record together
	err    error
}

func (w *writer) init(s *session) {
	w.s = s
	w.wake = make(chan struct{}, 1)
	w.window, w.initial = initial, initial
	w.tableNow = tableSize
	w.out.framer = http2.NewFramer(batchWriter{w}, nil)
	w.out.enc = hpack.NewEncoder(&w.out.block)
}

// signal wakes the writer. mu is held.
func (w *writer) signal() {
	if w.asleep {
		w.asleep = false
		w.wake <- struct{}{} // has room: only the one who clears asleep sends
	}
}

// push queues a control frame and reports whether the queue still had room. A peer that provokes frames
// and does not read them is not worth a longer queue.
func (w *writer) push(cs ...control) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pushLocked(cs...)
}

func (w *writer) pushLocked(cs ...control) bool {
	if w.closing {
		for _, c := range cs {
			if c.kind == sendReset && c.st != nil {
				w.orphans = append(w.orphans, c.st)
			}
		}
		return true
	}
	if len(w.control)+len(cs) > w.s.lim.ControlQueue {
		return false
	}
	w.control = append(w.control, cs...)
	w.signal()
	return true
}

// answer queues what the peer has provoked.
func (s *session) answer(cs ...control) error {
	if s.w.push(cs...) {
		return nil
	}
	return errUnread()
}

func errUnread() error { return calm("the peer provokes frames and does not read them") }

// close queues GOAWAY behind the control frames and ends the writer. DATA that is queued is dropped.
func (w *writer) close(last uint32, code http2.ErrCode, reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closing {
		return
	}
	if len(reason) > 256 {
		reason = reason[:256]
	}
	w.control = append(w.control, control{kind: sendGoAway, id: last, code: code, payload: []byte(reason)})
	w.closing = true
	w.setDeadline(w.s.lim.CloseTimeout)
	w.signal()
}

// untold are the streams that were reset and whose sinks the writer did not tell any more. It is called
// when the writer has ended.
func (w *writer) untold() []*stream {
	w.mu.Lock()
	defer w.mu.Unlock()
	streams := w.orphans
	for _, c := range w.control {
		if c.kind == sendReset && c.st != nil {
			streams = append(streams, c.st)
		}
	}
	w.orphans, w.control = nil, nil
	return streams
}

// openStream gives a new stream its window.
func (w *writer) openStream(st *stream) {
	w.mu.Lock()
	st.out.window = w.initial
	w.mu.Unlock()
}

// sendHead queues st's HEADERS and whatever DATA st has queued, in this order.
func (w *writer) sendHead(st *stream, h *head) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if st.out.dead != nil {
		return true
	}
	if !w.pushLocked(control{kind: sendHead, id: st.id, st: st}) {
		return false
	}
	o := &st.out
	o.heads = append(o.heads, h)
	if !h.interim {
		o.headDone = true
		o.empty, o.exact, o.length = h.empty, h.exact, h.length
		o.ownEnd = len(h.after) > 0
	}
	if h.end {
		o.endQueued, o.endSent = true, true
	}
	return true
}

// sendHead is writer.sendHead, and ends the session where the queue is full.
func (s *session) sendHead(st *stream, h *head) {
	if !s.w.sendHead(st, h) {
		s.fail(&hop.SessionError{Code: hop.EnhanceYourCalm, Reason: errUnread().Error()})
	}
}

// sentHead reports whether st's HEADERS were handed to the connection.
func (w *writer) sentHead(st *stream) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return st.out.headSent
}

// enqueue takes ownership of b unless it returns an error.
func (w *writer) enqueue(st *stream, b *hop.Buffer) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := &st.out
	switch {
	case o.dead != nil:
		return o.dead
	case !o.headDone:
		return errNoHead
	case o.endQueued:
		return errSendClosed
	case o.empty:
		return errNoContent
	}
	n := b.Len()
	if o.accepted += int64(n); o.exact && o.accepted > o.length {
		return errContentLength
	}
	if last := len(o.queue) - 1; last < 0 || !o.queue[last].Absorb(b) {
		o.queue = append(o.queue, b)
	}
	if st.queued.Add(int64(n)) >= int64(w.s.lim.HighWater) {
		o.above = true
	}
	w.ready(st)
	return nil
}

// finish ends st's sending side behind its queue.
func (w *writer) finish(st *stream) error { return w.finishWith(st, nil) }

// finishWith is finish with a trailer section.
func (w *writer) finishWith(st *stream, trailer []hpack.HeaderField) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := &st.out
	switch {
	case o.dead != nil:
		return o.dead
	case !o.headDone:
		return errNoHead
	case o.endQueued:
		return errSendClosed
	case o.exact && o.accepted != o.length:
		return errContentLength
	}
	o.endQueued, o.trailer = true, trailer
	o.ownEnd = o.ownEnd || trailer != nil
	st.ending.Store(true)
	w.ready(st)
	return nil
}

// ready puts st into the ring when it could write a frame. mu is held.
func (w *writer) ready(st *stream) {
	o := &st.out
	if o.inRing || o.dead != nil {
		return
	}
	if len(o.queue) > 0 && o.window > 0 || len(o.queue) == 0 && o.endQueued && !o.endSent {
		o.inRing = true
		w.ring.push(st)
		w.signal()
	}
}

// abandon drops st's queue, which the caller releases, and queues what ends the stream on the wire:
// nothing where the peer has not seen it, or will not hear of it.
func (w *writer) abandon(st *stream, why error, how resetHow) (drop []*hop.Buffer, roomLeft bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := &st.out
	if o.dead == nil {
		o.dead = why
	}
	drop, o.queue, o.heads, o.trailer = o.queue, nil, nil, nil
	st.queued.Store(0)
	st.ending.Store(false)
	roomLeft = true
	if how.send && (o.headSent || !st.local) {
		reset := control{kind: sendReset, id: st.id, st: st, code: how.code}
		if how.verdict == nil {
			roomLeft = w.pushLocked(reset)
		} else {
			roomLeft = w.pushLocked(control{kind: sendVerdict, id: st.id, payload: how.verdict}, reset)
		}
	}
	return drop, roomLeft
}

// update queues n bytes of window for the sender of st.
func (w *writer) update(st *stream, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if st.out.update == 0 {
		w.updates = append(w.updates, st)
	}
	st.out.update += n
	w.signal()
}

// grantConn queues n bytes of window for the connection.
func (w *writer) grantConn(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.connUpdate += n
	w.signal()
}

// setTableSize is the peer's SETTINGS_HEADER_TABLE_SIZE.
func (w *writer) setTableSize(v uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v = min(v, tableSize)
	if !w.tableChange {
		w.tableLow = v
	}
	w.tableLow = min(w.tableLow, v)
	w.tableNow = v
	w.tableChange = true
}

// setInitialWindow is the peer's SETTINGS_INITIAL_WINDOW_SIZE: it moves every stream's window, below
// zero, too (RFC 9113 section 6.9.2).
func (w *writer) setInitialWindow(v uint32) error {
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	delta := int64(v) - w.initial
	w.initial = int64(v)
	for _, st := range s.streams {
		if st.out.window+delta > maxWindow {
			return &connError{http2.ErrCodeFlowControl, "SETTINGS_INITIAL_WINDOW_SIZE overflows a window"}
		}
		st.out.window += delta
		w.ready(st)
	}
	return nil
}

// growConn is the peer's WINDOW_UPDATE of the connection.
func (w *writer) growConn(n uint32) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.window+int64(n) > maxWindow {
		return &connError{http2.ErrCodeFlowControl, "WINDOW_UPDATE overflows the connection's window"}
	}
	w.window += int64(n)
	w.signal()
	return nil
}

// grow is the peer's WINDOW_UPDATE of a stream; false is an overflow.
func (w *writer) grow(st *stream, n uint32) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if st.out.window+int64(n) > maxWindow {
		return false
	}
	st.out.window += int64(n)
	w.ready(st)
	return true
}

// A streamRing is a queue of streams, served round robin.
type streamRing struct {
	q    []*stream
	head int
}

func (r *streamRing) empty() bool { return r.head == len(r.q) }

func (r *streamRing) push(st *stream) {
	if r.head > 0 && len(r.q) == cap(r.q) {
		n := copy(r.q, r.q[r.head:])
		clear(r.q[n:])
		r.q, r.head = r.q[:n], 0
	}
	r.q = append(r.q, st)
}

func (r *streamRing) pop() *stream {
	st := r.q[r.head]
	r.q[r.head] = nil
	r.head++
	if r.head == len(r.q) {
		r.q, r.head = r.q[:0], 0
	}
	return st
}
