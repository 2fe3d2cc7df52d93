package raw

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"vitrine/internal/hop"
)

const (
	// smallRead is what an idle stream holds to read into; a whole Buffer is taken when more comes.
	smallRead = 512
	// bulkRead is the least that a read into a whole Buffer must bring for the next to use one too.
	bulkRead = 4 << 10
	// writeBatch is how many Buffers one writev takes at most.
	writeBatch = 16
	// smallCost and bulkCost are what a Buffer of either kind costs in memory, however little it
	// carries.
	smallCost = 1 << 10
	bulkCost  = 16 << 10
)

// maxQueue is how many bytes may wait to be written. The other hop's credit keeps the queue far below
// it; it stops a holder that has detached its Buffers from queueing without end towards a peer that
// does not read. A stream that exceeds it is reset.
const maxQueue = 32 << 20

// Config is how a stream behaves. The zero value is the default.
type Config struct {
	// Limits; of them StreamWindow, HighWater, LowWater and StallTimeout count here. StreamWindow is
	// how many bytes of Buffers may be unreleased before the stream stops reading; a Buffer counts as
	// the memory it occupies, so that a dribble of single bytes is bounded too. StallTimeout bounds
	// one write of at most 256 KiB.
	Limits hop.Limits
}

// A Stream is a connection as a [hop.Stream]. It has one goroutine that reads, and one that writes
// while there is something to write.
type Stream struct {
	conn    net.Conn
	session hop.Session
	limits  hop.Limits
	done    chan struct{}
	ended   chan struct{} // closed when nothing more arrives
	small   [smallRead]byte

	mu      sync.Mutex
	room    sync.Cond // the reader waits here for credit
	held    int       // window taken by Buffers that are not released yet
	running int       // goroutines
	closed  bool      // done is closed
	err     error     // why the stream ended early

	sink        hop.Sink
	events      []event // not delivered yet; bounded by the window
	dispatching bool
	recvDone    bool

	queue    []*hop.Buffer
	queued   int
	high     bool // queued was above HighWater
	writing  bool
	closing  bool // CloseSend was called
	sendDone bool
}

// An event is one call of the Sink.
type event struct {
	b        *hop.Buffer
	writable bool
	end      error
}

// Attach makes a stream of conn and owns conn from then on. early is what was read from conn already
// and comes first. Reading begins at once, and stops at the window until Start is called.
func Attach(conn net.Conn, session hop.Session, early []byte, cfg *Config) *Stream {
	if cfg == nil {
		cfg = new(Config)
	}
	s := &Stream{
		conn: conn, session: session, limits: cfg.Limits.WithDefaults(),
		done: make(chan struct{}), ended: make(chan struct{}), running: 1,
	}
	s.room.L = &s.mu
	for len(early) > 0 {
		b := hop.NewBuffer()
		early = early[b.Append(early):]
		s.held += bulkCost
		b.Owe(bulkCost, s)
		s.events = append(s.events, event{b: b})
	}
	go s.readLoop()
	return s
}

// ID implements [hop.Stream].
func (s *Stream) ID() uint64 { return streamID }

// Session implements [hop.Stream].
func (s *Stream) Session() hop.Session { return s.session }

// Watermarks implements [hop.Watermarks].
func (s *Stream) Watermarks() (high, low int) { return s.limits.HighWater, s.limits.LowWater }

// LingerTime implements [hop.Watermarks].
func (s *Stream) LingerTime() time.Duration { return s.limits.Linger }

// Done is closed when both directions have ended and no goroutine of the stream runs.
func (s *Stream) Done() <-chan struct{} { return s.done }

// Ended is closed when nothing more will arrive from the peer.
func (s *Stream) Ended() <-chan struct{} { return s.ended }

// Err says why the stream ended; nil while either direction is open. It wraps [net.ErrClosed].
func (s *Stream) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return s.err
	case s.recvDone && s.sendDone:
		return &hop.SessionError{Reason: "the tunnel has ended"}
	}
	return nil
}

// Wait waits until the stream has ended; when ctx ends first it aborts the stream and returns ctx's error.
func (s *Stream) Wait(ctx context.Context) error {
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		s.Abort(&hop.SessionError{Reason: "drained for too long", Err: ctx.Err()})
		<-s.done
		return ctx.Err()
	}
}

// Start implements [hop.Stream].
func (s *Stream) Start(sink hop.Sink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sink = sink
	if len(s.events) == 0 || s.dispatching {
		return
	}
	// Not on the caller's goroutine: it may hold a lock that the sink takes.
	s.dispatching = true
	s.running++
	go func() {
		s.mu.Lock()
		s.drainLocked()
		s.leaveLocked()
	}()
}

// postLocked delivers e on the calling goroutine, or leaves it to the one that is delivering.
func (s *Stream) postLocked(e event) {
	s.events = append(s.events, e)
	if s.sink != nil && !s.dispatching {
		s.dispatching = true
		s.drainLocked()
	}
}

func (s *Stream) drainLocked() {
	for len(s.events) > 0 {
		e, sink := s.events[0], s.sink
		s.events[0] = event{}
		s.events = s.events[1:]
		s.mu.Unlock()
		switch {
		case e.b != nil:
			sink.Data(e.b)
		case e.writable:
			sink.Writable()
		default:
			sink.End(e.end)
		}
		s.mu.Lock()
	}
	s.events, s.dispatching = nil, false
}

// leaveLocked is the last thing a goroutine of the stream does. It unlocks.
func (s *Stream) leaveLocked() {
	s.running--
	last := s.running == 0 && s.recvDone && s.sendDone && !s.closed
	s.closed = s.closed || last
	s.mu.Unlock()
	if last {
		s.conn.Close()
		close(s.done)
	}
}

// Credit implements [hop.Creditor].
func (s *Stream) Credit(n int) {
	s.mu.Lock()
	s.held -= n
	s.mu.Unlock()
	s.room.Signal()
}

func (s *Stream) readLoop() {
	bulk := false
	for {
		s.mu.Lock()
		for s.held >= s.limits.StreamWindow && s.err == nil {
			s.room.Wait()
		}
		stop := s.err != nil
		s.mu.Unlock()
		if stop {
			break
		}
		b, cost, err := s.read(bulk)
		if b != nil {
			bulk = cost == smallCost && b.Len() == smallRead || cost == bulkCost && b.Len() >= bulkRead
			s.deliver(b, cost)
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				s.Abort(&hop.SessionError{Code: hop.ConnectError, Remote: true, Err: err})
			}
			break
		}
	}
	close(s.ended)
	s.mu.Lock()
	s.recvDone = true
	end := s.err
	if end == nil {
		end = io.EOF
	}
	s.postLocked(event{end: end})
	s.leaveLocked()
}

// read reads once. An idle stream waits in a few bytes of its own, not in a Buffer.
func (s *Stream) read(bulk bool) (b *hop.Buffer, cost int, err error) {
	var n int
	if !bulk {
		if n, err = s.conn.Read(s.small[:]); n == 0 {
			return nil, 0, err
		}
		b = hop.NewBufferSize(smallRead)
		b.Append(s.small[:n])
		return b, smallCost, err
	}
	b = hop.NewBuffer()
	if n, err = s.conn.Read(b.Fill(hop.MaxChunk)); n == 0 {
		b.Release()
		return nil, 0, err
	}
	b.Fill(n)
	return b, bulkCost, err
}

func (s *Stream) deliver(b *hop.Buffer, cost int) {
	b.Owe(cost, s)
	s.mu.Lock()
	s.held += cost
	if s.err != nil {
		s.mu.Unlock()
		b.Release()
		return
	}
	s.postLocked(event{b: b})
	s.mu.Unlock()
}

// Send implements [hop.Stream].
func (s *Stream) Send(b *hop.Buffer) error {
	s.mu.Lock()
	err := s.err
	if err == nil && s.closing {
		err = net.ErrClosed
	}
	full := err == nil && s.queued+b.Len() > maxQueue
	if err == nil && !full {
		s.queued += b.Len()
		// Small pieces share a block, as on other carriers: what they occupy is what their sender pays for.
		if last := len(s.queue) - 1; last < 0 || !s.queue[last].Absorb(b) {
			s.queue = append(s.queue, b)
		}
		s.high = s.high || s.queued > s.limits.HighWater
		s.writeLocked()
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	if full {
		err = &hop.ResetError{Code: hop.EnhanceYourCalm}
		s.Abort(err)
	}
	b.Release()
	return err
}

// CloseSend implements [hop.Stream]. On a connection that cannot be half-closed it ends both
// directions.
func (s *Stream) CloseSend() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if !s.closing {
		s.closing = true
		s.writeLocked()
	}
	return nil
}

// writeLocked makes sure that a goroutine writes the queue.
func (s *Stream) writeLocked() {
	if !s.writing {
		s.writing = true
		s.running++
		go s.writeLoop()
	}
}

func (s *Stream) writeLoop() {
	var vec net.Buffers
	s.mu.Lock()
	for s.err == nil && len(s.queue) > 0 {
		batch := s.queue[:min(writeBatch, len(s.queue))]
		s.queue = s.queue[len(batch):]
		s.mu.Unlock()
		n := 0
		vec = vec[:0]
		for _, b := range batch {
			n += b.Len()
			vec = append(vec, b.Bytes())
		}
		out := vec
		s.conn.SetWriteDeadline(time.Now().Add(s.limits.StallTimeout))
		_, err := out.WriteTo(s.conn)
		for i, b := range batch {
			b.Release()
			batch[i] = nil
		}
		if err != nil {
			s.Abort(&hop.SessionError{Code: hop.ConnectError, Remote: true, Err: err})
		}
		s.mu.Lock()
		s.queued -= n
		if err == nil && s.high && s.queued < s.limits.LowWater {
			s.high = false
			if s.sink != nil {
				s.postLocked(event{writable: true})
			}
		}
	}
	if s.err == nil && s.closing && !s.sendDone {
		s.mu.Unlock()
		closeWrite(s.conn)
		s.mu.Lock()
		s.sendDone = true
		if s.err == nil && s.sink != nil {
			s.postLocked(event{writable: true})
		}
	}
	if len(s.queue) == 0 {
		s.queue = nil
	}
	s.writing = false
	s.leaveLocked()
}

func closeWrite(conn net.Conn) {
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		c.CloseWrite()
		return
	}
	conn.Close()
}

// Reset implements [hop.Stream]. Over TCP the peer sees RST.
func (s *Stream) Reset(code hop.ErrorCode) { s.Abort(&hop.ResetError{Code: code}) }

// Kill implements [hop.Stream]: a reset, since the carrier has no place for the verdict.
func (s *Stream) Kill([]byte) { s.Reset(hop.Killed) }

// Abort ends both directions now, for the reason err, and drops what is queued. Only the first call
// counts, and none after both directions have ended.
func (s *Stream) Abort(err error) {
	s.mu.Lock()
	if s.err != nil || s.recvDone && s.sendDone {
		s.mu.Unlock()
		return
	}
	s.err = err
	s.sendDone = true
	queue := s.queue
	s.queue = nil
	for _, b := range queue {
		s.queued -= b.Len()
	}
	dropped := s.events
	s.events = nil
	for _, e := range dropped {
		if e.end != nil {
			s.events = []event{e}
		}
	}
	s.running++
	s.mu.Unlock()
	s.room.Signal()
	abruptly(s.conn)
	for _, b := range queue {
		b.Release()
	}
	for _, e := range dropped {
		if e.b != nil {
			e.b.Release()
		}
	}
	s.mu.Lock()
	s.leaveLocked()
}

// Queued implements [hop.Stream].
func (s *Stream) Queued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queued == 0 && s.closing && !s.sendDone && s.err == nil {
		return 1
	}
	return s.queued
}

// abruptly closes the connection under all layers, so that nothing waits for a last alert, and
// over TCP with RST: a cut tunnel must not look like one that ended.
func abruptly(conn net.Conn) {
	for {
		under, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		conn = under.NetConn()
	}
	if c, ok := conn.(interface{ SetLinger(sec int) error }); ok {
		c.SetLinger(0)
	}
	conn.Close()
}
