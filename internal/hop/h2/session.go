package h2

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"vitrine/internal/hop"
)

const (
	maxFrame    = 16384 // neither side may send more before SETTINGS_MAX_FRAME_SIZE, which we never raise
	tableSize   = 4096  // of HPACK, both ways; it is the protocol's default
	maxStreamID = 1<<31 - 1
	maxWindow   = 1<<31 - 1
	initial     = 65535 // window before SETTINGS and WINDOW_UPDATE
)

// A session is one HTTP/2 connection. The lock order is stream.mu, session.mu, writer.mu.
type session struct {
	cfg    Config
	lim    hop.Limits
	server bool
	conn   net.Conn // *tls.Conn, but in conformance tests
	w      writer

	peer     hop.Peer
	binding  binding
	ready    chan struct{} // closed when the peer's SETTINGS have been applied
	failed   chan struct{} // closed by fail
	written  chan struct{} // closed when the writer has ended
	done     chan struct{} // closed when both goroutines have ended
	stray    atomic.Int64  // bytes that may still come for streams that we have reset
	inFrames atomic.Uint64 // frames begun and ended by the reader: odd while inside one

	// The reader's alone.
	fr       *http2.Framer
	blocks   *blockReader
	budgets  budgets
	connRecv int     // what the peer may still send
	connOwed int     // received and not given back yet
	last     *stream // of the last frame: in bulk it is the next one's, too

	mu         sync.Mutex
	opening    sync.Cond // a slot of ours is free, or there will be none
	accepting  sync.Cond // pending has grown, or never will again
	quiet      sync.Cond // streams and work have become fewer
	err        *hop.SessionError
	abrupt     bool // the connection is closed without waiting for the peer
	streams    map[uint32]*stream
	past       pastStreams
	nextID     uint32 // of our next stream
	lastPeer   uint32 // highest stream that the peer has opened
	lastTaken  uint32 // highest of them that was not refused
	active     int    // streams of ours
	maxActive  int    // that the peer, and our limit, allow
	work       int    // streams of the peer's, and requests that outlived theirs
	headerSize int    // of the requests among them
	pending    []*incoming
	lastUsed   time.Time // when a stream was opened or closed
	draining   bool      // we open nothing more
	refusing   bool      // we take nothing more
	drainAck   chan struct{}
	peerGone   *hop.SessionError // what the peer's GOAWAY said
	peerLast   uint32
	acksDue    int // SETTINGS of ours that are not acknowledged
	ackSince   time.Time
	pingSent   bool
}

func newSession(conn net.Conn, cfg *Config, server bool) *session {
	s := &session{
		conn:     conn,
		server:   server,
		ready:    make(chan struct{}),
		failed:   make(chan struct{}),
		written:  make(chan struct{}),
		done:     make(chan struct{}),
		streams:  make(map[uint32]*stream),
		connRecv: initial,
		nextID:   1,
		peerLast: maxStreamID,
		lastUsed: time.Now(),
	}
	if cfg != nil {
		s.cfg = *cfg
	}
	if server {
		s.nextID = 2
	}
	s.lim = s.cfg.Limits.WithDefaults()
	s.maxActive = s.lim.Streams
	s.budgets = newBudgets(&s.lim)
	s.opening.L, s.accepting.L, s.quiet.L = &s.mu, &s.mu, &s.mu
	s.peer.Local, s.peer.Remote = conn.LocalAddr(), conn.RemoteAddr()
	s.blocks = &blockReader{r: conn, max: s.lim.Continuations}
	s.fr = http2.NewFramer(nil, s.blocks)
	s.fr.SetReuseFrames()
	s.fr.SetMaxReadFrameSize(maxFrame)
	s.fr.ReadMetaHeaders = hpack.NewDecoder(tableSize, nil)
	s.fr.MaxHeaderListSize = uint32(s.lim.HeaderBytes)
	s.w.init(s)
	return s
}

func (s *session) run() {
	s.sendSettings()
	go s.write()
	go s.read()
}

// read is the reader's goroutine. It ends last.
func (s *session) read() {
	err := s.readFrames()
	s.failWith(err)
	<-s.written
	var ce *connError
	if errors.As(err, &ce) {
		s.lingerForPeer()
	}
	s.conn.Close() // the connection is over, whatever closing it says
	s.endStreams()
	close(s.done)
}

// lingerForPeer reads on for a moment after our GOAWAY, for the reason that writerDone gives. The writer
// has set the deadline.
func (s *session) lingerForPeer() {
	io.CopyN(io.Discard, s.conn, 1<<20) // until the peer closes, or one of the bounds is reached
}

// failWith ends the session for the reader's reason.
func (s *session) failWith(err error) {
	var ce *connError
	if errors.As(err, &ce) {
		end := &hop.SessionError{Code: hop.ErrorCode(ce.code), Reason: ce.reason}
		if caused := (*causedError)(nil); errors.As(err, &caused) {
			end.Err = caused.cause
		}
		s.fail(end)
		return
	}
	s.mu.Lock()
	end := s.peerGone
	s.mu.Unlock()
	if end == nil {
		end = &hop.SessionError{Remote: true, Err: err}
	} else if end.Err == nil {
		with := *end
		with.Err = err
		end = &with
	}
	s.fail(end)
}

// fail ends the session; only the first reason counts. It may be called with no lock held.
func (s *session) fail(err *hop.SessionError) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = err
	last := s.lastTaken
	close(s.failed)
	s.opening.Broadcast()
	s.accepting.Broadcast()
	s.quiet.Broadcast()
	s.mu.Unlock()
	s.w.close(last, http2.ErrCode(err.Code), err.Reason)
}

// endStreams tells every stream how the session ended. Nothing reads or writes any more.
func (s *session) endStreams() {
	s.mu.Lock()
	err := s.err
	streams := make([]*stream, 0, len(s.streams))
	for _, st := range s.streams {
		streams = append(streams, st)
	}
	s.mu.Unlock()
	for _, st := range streams {
		st.abort(s.endedWith(st, err), resetNone)
		st.pump()
	}
	for _, st := range s.w.untold() {
		st.pump()
	}
}

// endedWith is what the session's end means for a stream: where the peer never saw its request, it is
// safe to send it again.
func (s *session) endedWith(st *stream, err error) error {
	if st.local && !s.w.sentHead(st) {
		return &hop.RetryError{Err: err}
	}
	return err
}

// Peer implements [hop.Session].
func (s *session) Peer() *hop.Peer { return &s.peer }

// Ready implements [hop.Session].
func (s *session) Ready(ctx context.Context) error {
	select {
	case <-s.ready:
		return nil
	default:
	}
	select {
	case <-s.ready:
		return nil
	case <-s.failed:
		return s.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Close implements [hop.Session]. It does not wait: Done is closed when both goroutines have ended, soon
// after Limits.CloseTimeout at the latest. So a Sink may call it.
func (s *session) Close(code hop.ErrorCode, reason string) error {
	s.mu.Lock()
	s.abrupt = s.err == nil && code == hop.NoError
	s.mu.Unlock()
	s.fail(&hop.SessionError{Code: code, Reason: reason})
	return nil
}

// Done implements [hop.Session].
func (s *session) Done() <-chan struct{} { return s.done }

// Err implements [hop.Session].
func (s *session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		return nil
	}
	return s.err
}

func (s *session) anomaly(what string) {
	if s.cfg.OnAnomaly != nil {
		s.cfg.OnAnomaly(what)
	}
}

// find is the stream with that id, nil where there is none open. The reader calls it.
func (s *session) find(id uint32) *stream {
	if st := s.last; st != nil && st.id == id && !st.over() {
		return st
	}
	s.mu.Lock()
	st := s.streams[id]
	s.mu.Unlock()
	s.last = st
	return st
}

// idle reports whether nobody has opened that stream yet.
func (s *session) idle(id uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ours(id) {
		return id >= s.nextID
	}
	return id > s.lastPeer
}

// ours reports whether a stream with that id would be opened by this side.
func (s *session) ours(id uint32) bool { return (id%2 == 0) == s.server }

// remove forgets a stream that is over.
func (s *session) remove(st *stream, how pastKind) {
	s.mu.Lock()
	if s.streams[st.id] != st {
		s.mu.Unlock()
		return
	}
	delete(s.streams, st.id)
	s.past.add(st.id, how)
	s.lastUsed = time.Now()
	if st.local {
		s.active--
		s.opening.Signal()
	} else if in := st.incoming; in != nil {
		in.over = true
		s.settle(in)
	}
	finished := s.peerGone
	if len(s.streams) > 0 {
		finished = nil
	}
	s.quiet.Broadcast()
	s.mu.Unlock()
	if st.incoming != nil {
		st.incoming.cancel(st.cause())
	}
	if finished != nil {
		s.fail(finished)
	}
}

// settle stops counting a request once its stream is over and nobody works on it any more: until both
// are true it is work, so that a peer cannot buy more of it with resets. s.mu is held.
func (s *session) settle(in *incoming) {
	if in.settled || !in.over || (in.taken && !in.answered) {
		return
	}
	in.settled = true
	s.work--
	s.headerSize -= in.size
	if !in.taken {
		for i, p := range s.pending {
			if p == in {
				s.pending = append(s.pending[:i], s.pending[i+1:]...)
				break
			}
		}
	}
	s.quiet.Broadcast()
}

// A pastKind is how a stream ended, which decides what a late frame on it means (RFC 9113 section 5.1).
type pastKind uint8

const (
	pastUnknown pastKind = iota // never used, or too long ago
	pastEnded                   // END_STREAM both ways
	pastResetByPeer
	pastResetByUs     // frames may be in flight
	pastResetAndEnded // and an END_STREAM was
)

// pastStreams remembers the last streams that ended; it never grows.
type pastStreams struct {
	kinds map[uint32]pastKind
	ring  [512]uint32
	next  int
}

func (p *pastStreams) add(id uint32, how pastKind) {
	if p.kinds == nil {
		p.kinds = make(map[uint32]pastKind)
	}
	delete(p.kinds, p.ring[p.next])
	p.ring[p.next] = id
	p.next = (p.next + 1) % len(p.ring)
	p.kinds[id] = how
}
