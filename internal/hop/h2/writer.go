package h2

import (
	"encoding/binary"
	"net"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"vitrine/frames"
	"vitrine/internal/hop"
)

const (
	frameHeader = 9
	// batchMax is one TLS record. Frames up to copyMax are collected there: small copies are cheaper
	// than small records. Larger ones are written out of their Buffer, with the header in its headroom.
	batchMax = maxFrame
	copyMax  = 4 << 10
)

// A job is what the writer has taken out of the queue under one lock.
type job struct {
	control    []control
	updates    []update
	connUpdate int
	tables     []uint32 // HPACK table sizes to pass through

	// One DATA frame of st, or none where st is nil.
	st       *stream
	b        *hop.Buffer // nil: an empty frame
	end      bool
	trailer  []hpack.HeaderField // in the place of an empty frame with END_STREAM
	writable bool                // the queue fell below the low-water mark
}

type update struct {
	id uint32
	n  int
}

// write is the writer's goroutine.
func (s *session) write() {
	w := &s.w
	defer close(s.written)
	tick := s.tickInterval()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	watch := newWatch(s)
	w.rearm(tick)
	if !s.server {
		w.put([]byte(http2.ClientPreface))
	}
	var j job
	for {
		select {
		case now := <-ticker.C:
			w.rearm(tick)
			watch.check(now)
		default:
		}
		w.mu.Lock()
		found := w.take(&j)
		closing := w.closing
		w.mu.Unlock()
		if found {
			w.encode(&j)
			if w.out.err != nil {
				break
			}
			continue
		}
		if w.flush(); w.out.err != nil || closing {
			break
		}
		if !w.sleep() {
			continue
		}
		select {
		case <-w.wake:
		case now := <-ticker.C:
			w.rearm(tick)
			watch.check(now)
			w.awake()
		}
	}
	s.writerDone()
}

// writerDone closes the connection, or leaves that to the reader.
func (s *session) writerDone() {
	w := &s.w
	if w.out.err != nil {
		// A peer that has closed may have said why, as a TLS server does that does not take a client's
		// certificate. What the reader still finds is the better reason.
		reader := time.NewTimer(s.lim.CloseTimeout)
		select {
		case <-s.failed:
			reader.Stop()
		case <-reader.C:
			s.fail(&hop.SessionError{Err: w.out.err})
		}
	}
	if w.batch != nil {
		w.batch.SetBatching(false) // what could not be flushed was lost to the error we have
	}
	if w.out.err != nil {
		// There is no way to say goodbye any more, and tls.Conn.Close would try for five seconds.
		if t, ok := s.conn.(interface{ NetConn() net.Conn }); ok {
			t.NetConn().Close()
		}
	}
	s.mu.Lock()
	linger := !s.err.Remote && !s.abrupt
	s.mu.Unlock()
	if w.out.err != nil || !linger {
		s.conn.Close()
		return
	}
	// Closing a socket with unread bytes in it makes the kernel send a reset, which destroys what the
	// peer has not read yet: GOAWAY, or the last bytes of a drained stream. So the peer closes first, or
	// the reader gives up.
	if c, ok := s.conn.(interface{ CloseWrite() error }); ok {
		c.CloseWrite()
	}
	s.conn.SetReadDeadline(time.Now().Add(s.lim.CloseTimeout))
}

// sleep reports whether there is nothing to do; from then on signal wakes the writer.
func (w *writer) sleep() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closing || w.pending() {
		return false
	}
	w.asleep = true
	return true
}

// awake is called when a tick has ended the sleep.
func (w *writer) awake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.asleep {
		<-w.wake // someone has signalled meanwhile
	}
	w.asleep = false
}

func (w *writer) pending() bool {
	return len(w.control) > 0 || len(w.updates) > 0 || w.connUpdate > 0 || (!w.ring.empty() && w.window > 0)
}

// rearm moves the write deadline away: one that passes means that a write has made no progress, and is
// always at least WriteTimeout after the write's beginning.
func (w *writer) rearm(tick time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closing {
		w.setDeadline(w.s.lim.WriteTimeout + tick)
	}
}

// setDeadline bounds writes that have begun, too. mu is held, which orders the calls.
func (w *writer) setDeadline(d time.Duration) {
	w.s.conn.SetWriteDeadline(time.Now().Add(d)) // fails on a closed connection, where it changes nothing
}

// take fills j with what is to be written next and reports whether that is anything: all control
// frames first, then one DATA frame. mu is held.
func (w *writer) take(j *job) bool {
	*j = job{control: j.control[:0], updates: j.updates[:0], tables: j.tables[:0]}
	j.control, w.control = w.control, j.control
	for _, st := range w.updates {
		if st.out.dead == nil {
			j.updates = append(j.updates, update{st.id, st.out.update})
		}
		st.out.update = 0
	}
	clear(w.updates)
	w.updates = w.updates[:0]
	j.connUpdate, w.connUpdate = w.connUpdate, 0
	for i := range j.control {
		c := &j.control[i]
		if c.kind == sendHead && c.st.out.dead == nil {
			o := &c.st.out
			c.head, o.heads[0] = o.heads[0], nil
			o.heads = o.heads[1:]
			o.headSent = true
		}
	}
	if w.tableChange {
		j.tables = append(j.tables, w.tableLow, w.tableNow)
		w.tableChange = false
	}
	if !w.closing {
		w.takeData(j)
	}
	return len(j.control) > 0 || len(j.updates) > 0 || j.connUpdate > 0 || j.st != nil || len(j.tables) > 0
}

// takeData serves the streams round robin, one frame each. Windows are taken here and not when bytes are
// queued, so that a reset drops a queue without accounting.
func (w *writer) takeData(j *job) {
	for !w.ring.empty() && j.st == nil {
		st := w.ring.q[w.ring.head]
		o := &st.out
		switch {
		case o.dead != nil:
			w.ring.pop()
			o.inRing = false
		case len(o.queue) == 0:
			w.ring.pop()
			o.inRing = false
			j.st, j.end = st, true
			j.trailer, o.trailer = o.trailer, nil
			o.endSent = true
		case o.window <= 0:
			w.ring.pop()
			o.inRing = false
		case w.window <= 0:
			return
		default:
			w.ring.pop()
			o.inRing = false
			w.takeFrame(j, st)
			w.ready(st)
		}
	}
}

func (w *writer) takeFrame(j *job, st *stream) {
	o := &st.out
	b := o.queue[0]
	n := int(min(int64(b.Len()), o.window, w.window, hop.MaxChunk))
	if n < b.Len() {
		j.b = b.Split(n)
	} else {
		j.b = b
		o.queue[0] = nil
		if o.queue = o.queue[1:]; len(o.queue) == 0 {
			o.queue = nil
		}
	}
	j.st = st
	o.window -= int64(n)
	w.window -= int64(n)
	o.sent += uint64(n)
	w.connSent += uint64(n)
	if left := st.queued.Add(-int64(n)); o.above && left < int64(w.s.lim.LowWater) {
		o.above = false
		j.writable = true
	}
	// An end of its own frame costs nine bytes; the last DATA of a response with evidence behind its
	// head must not carry it.
	if len(o.queue) == 0 && o.endQueued && !o.ownEnd {
		o.endSent = true
		j.end = true
	}
}

// encode writes j. After a write error it still does what does not need the wire.
func (w *writer) encode(j *job) {
	for _, v := range j.tables {
		w.out.enc.SetMaxDynamicTableSize(v)
	}
	fr := w.out.framer
	for i := range j.control {
		w.note(w.encodeControl(fr, &j.control[i]))
	}
	if j.connUpdate > 0 {
		w.note(fr.WriteWindowUpdate(0, uint32(j.connUpdate)))
	}
	for _, u := range j.updates {
		w.note(fr.WriteWindowUpdate(u.id, uint32(u.n)))
	}
	if j.st != nil {
		w.data(j)
	}
	for i := range j.control {
		if c := &j.control[i]; c.kind == sendReset && c.st != nil {
			c.st.pump() // a local reset is told here, not to its caller, who may hold locks
		}
	}
	clear(j.control)
}

func (w *writer) note(err error) {
	if w.out.err == nil {
		w.out.err = err
	}
}

func (w *writer) encodeControl(fr *http2.Framer, c *control) error {
	switch c.kind {
	case sendSettings:
		return fr.WriteSettings(c.settings...)
	case ackSettings:
		return fr.WriteSettingsAck()
	case sendPing:
		return fr.WritePing(false, c.data)
	case ackPing:
		return fr.WritePing(true, c.data)
	case sendHead:
		return w.writeHead(fr, c)
	case sendVerdict:
		return fr.WriteRawFrame(frames.TypeVerdict, 0, 0, frames.AppendVerdict(nil, uint64(c.id), c.payload))
	case sendReset:
		return fr.WriteRSTStream(c.id, c.code)
	default:
		return fr.WriteGoAway(c.id, c.code, c.payload)
	}
}

// data writes one DATA frame and gives its Buffer back, or trailers.
func (w *writer) data(j *job) {
	var flags http2.Flags
	if j.end {
		flags = http2.FlagDataEndStream
	}
	w.dataFrames.Add(1)
	if j.trailer != nil {
		w.note(w.writeBlock(w.out.framer, j.st.id, j.trailer, true))
	} else if j.b == nil {
		var h [frameHeader]byte
		putHeader(h[:], 0, flags, j.st.id)
		w.put(h[:])
	} else {
		n := j.b.Len()
		p := j.b.WithHeader(frameHeader)
		putHeader(p, n, flags, j.st.id)
		if n <= copyMax {
			w.put(p)
		} else {
			w.flushBatch()
			w.writeOut(p)
		}
		j.b.Release()
	}
	if j.end {
		j.st.half(sendHalf)
		j.st.ending.Store(false)
		j.writable = true
	}
	if j.writable {
		j.st.tellWritable()
	}
}

func putHeader(p []byte, n int, flags http2.Flags, id uint32) {
	p[0], p[1], p[2] = byte(n>>16), byte(n>>8), byte(n)
	p[3], p[4] = byte(http2.FrameData), byte(flags)
	binary.BigEndian.PutUint32(p[5:], id)
}

// batchWriter collects what the Framer writes.
type batchWriter struct{ w *writer }

func (b batchWriter) Write(p []byte) (int, error) {
	b.w.put(p)
	return len(p), b.w.out.err
}

// put collects p into records of batchMax bytes.
func (w *writer) put(p []byte) {
	for len(p) > 0 {
		if w.out.buf == nil {
			w.out.buf = make([]byte, 0, batchMax)
		}
		n := min(len(p), batchMax-len(w.out.buf))
		w.out.buf = append(w.out.buf, p[:n]...)
		p = p[n:]
		if len(w.out.buf) == batchMax {
			w.flushBatch()
		}
	}
}

func (w *writer) flushBatch() {
	if len(w.out.buf) > 0 {
		w.writeOut(w.out.buf)
		w.out.buf = w.out.buf[:0]
	}
}

// flush writes everything that was collected. It is called when the queue is empty and never on a timer:
// under load batches form by themselves.
func (w *writer) flush() {
	w.flushBatch()
	if w.batch != nil && w.out.err == nil {
		w.note(w.batch.Flush())
	}
}

func (w *writer) writeOut(p []byte) {
	if w.out.err == nil {
		_, err := w.s.conn.Write(p)
		w.note(err)
	}
}
