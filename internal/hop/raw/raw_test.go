package raw

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"vitrine/internal/hop"
	"vitrine/internal/hop/raw/pipe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// holder is a Sink that keeps Buffers until it is told to release them.
type holder struct {
	mu       sync.Mutex
	hold     bool
	held     []*hop.Buffer
	data     bytes.Buffer
	writable chan struct{}
	end      chan error
	inside   int
	t        *testing.T
}

func newHolder(t *testing.T) *holder {
	return &holder{t: t, end: make(chan error, 2), writable: make(chan struct{}, 100)}
}

func (h *holder) enter() {
	h.mu.Lock()
	if h.inside++; h.inside != 1 {
		h.t.Error("the sink was called concurrently")
	}
}

func (h *holder) leave() { h.inside--; h.mu.Unlock() }

func (h *holder) Data(b *hop.Buffer) {
	h.enter()
	defer h.leave()
	h.data.Write(b.Bytes())
	if h.hold {
		h.held = append(h.held, b)
		return
	}
	b.Release()
}

func (h *holder) Writable() { h.enter(); defer h.leave(); h.writable <- struct{}{} }

func (h *holder) End(err error) { h.enter(); defer h.leave(); h.end <- err }

func (h *holder) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hold = false
	for _, b := range h.held {
		b.Release()
	}
	h.held = nil
}

func sendAll(t *testing.T, s hop.Stream, p []byte) {
	t.Helper()
	for len(p) > 0 {
		b := hop.NewBuffer()
		p = p[b.Append(p):]
		if err := s.Send(b); err != nil {
			t.Fatal(err)
		}
	}
}

func random(n int) []byte {
	p := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(p)
	return p
}

func TestBytesArriveWholeBothWays(t *testing.T) {
	client, server := pipe.New()
	s := NewStream(server)
	h := newHolder(t)
	s.Start(h)
	up, down := random(3<<20), random(2<<20)
	go func() { client.Write(up); client.CloseWrite() }()
	sendAll(t, s, down)
	s.CloseSend()
	got, err := io.ReadAll(client)
	if err != nil || !bytes.Equal(got, down) {
		t.Errorf("%d bytes down, %v", len(got), err)
	}
	if err := <-h.end; err != io.EOF || !bytes.Equal(h.data.Bytes(), up) {
		t.Errorf("%d bytes up, %v", h.data.Len(), err)
	}
	<-s.Session().Done()
	if s.Queued() != 0 {
		t.Errorf("%d bytes queued at the end", s.Queued())
	}
}

func TestOneDirectionMayEndBeforeTheOther(t *testing.T) {
	client, server := pipe.New()
	s := NewStream(server)
	h := newHolder(t)
	s.Start(h)
	client.CloseWrite()
	if err := <-h.end; err != io.EOF {
		t.Fatal(err)
	}
	if s.Session().Err() != nil {
		t.Error("the session ended with one direction open")
	}
	sendAll(t, s, []byte("still here"))
	s.CloseSend()
	if err := s.Send(hop.NewBuffer()); err == nil {
		t.Error("sent behind the end")
	}
	if got, err := io.ReadAll(client); string(got) != "still here" || err != nil {
		t.Errorf("%q %v", got, err)
	}
	<-s.Session().Done()
}

// A sender that is faster than the other hop, in whole chunks or in single bytes, must not fill memory.
func TestUnreleasedBuffersStopTheReader(t *testing.T) {
	for _, size := range []int{1, 600, 64 << 10} {
		synctest.Test(t, func(t *testing.T) {
			client, server := pipe.New()
			s := Attach(server, nil, nil, nil)
			h := newHolder(t)
			h.hold = true
			s.Start(h)
			p := random(1 << 20)
			if size == 1 {
				p = p[:300]
				for len(p) > 1 {
					client.Write(p[:1])
					p = p[1:]
					synctest.Wait()
				}
			}
			go func() {
				for ; len(p) > 0; p = p[min(size, len(p)):] {
					client.Write(p[:min(size, len(p))])
				}
				client.CloseWrite()
			}()
			synctest.Wait()
			s.mu.Lock()
			if window := 256 << 10; s.held < window || s.held >= window+bulkCost {
				t.Errorf("%d bytes of memory are held, for %d bytes", s.held, h.data.Len())
			}
			s.mu.Unlock()
			h.release()
			if err := <-h.end; err != io.EOF {
				t.Error(err)
			}
			s.Reset(hop.Cancel)
			<-s.Done()
		})
	}
}

func TestBeforeStartNothingIsReadBeyondTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pipe.New()
		s := Attach(server, nil, []byte("early "), nil)
		go func() { client.Write(random(1 << 20)); client.CloseWrite() }()
		synctest.Wait()
		s.mu.Lock()
		held := s.held
		s.mu.Unlock()
		if window := 256 << 10; held < window || held >= window+bulkCost {
			t.Errorf("%d bytes are held", held)
		}
		h := newHolder(t)
		s.Start(h)
		if err := <-h.end; err != io.EOF {
			t.Error(err)
		}
		if want := append([]byte("early "), random(1<<20)...); !bytes.Equal(h.data.Bytes(), want) {
			t.Errorf("%d bytes arrived", h.data.Len())
		}
		s.CloseSend()
		<-s.Done()
	})
}

func TestStartMayBeCalledUnderALockThatTheSinkTakes(t *testing.T) {
	client, server := pipe.New()
	client.Write([]byte("x"))
	client.CloseWrite()
	s := Attach(server, nil, []byte("early"), nil)
	<-s.Ended()
	h := newHolder(t)
	h.mu.Lock()
	s.Start(h)
	h.mu.Unlock()
	if err := <-h.end; err != io.EOF || h.data.String() != "earlyx" {
		t.Errorf("%v %q", err, h.data.String())
	}
	s.CloseSend()
	<-s.Done()
}

func TestWritableFollowsTheWaterMarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pipe.New()
		s := Attach(server, nil, nil, nil)
		h := newHolder(t)
		s.Start(h)
		sendAll(t, s, random(100<<10))
		synctest.Wait()
		if len(h.writable) != 0 {
			t.Error("Writable without having been above the mark")
		}
		sendAll(t, s, random(400<<10))
		synctest.Wait()
		if s.Queued() <= 256<<10 || len(h.writable) != 0 {
			t.Errorf("%d queued, %d calls", s.Queued(), len(h.writable))
		}
		go func() { io.Copy(io.Discard, client) }()
		synctest.Wait()
		if s.Queued() != 0 || len(h.writable) != 1 {
			t.Errorf("%d queued, %d calls", s.Queued(), len(h.writable))
		}
		s.Reset(hop.Cancel)
		<-h.end
		<-s.Done()
	})
}

func TestAQueueWithoutEndResetsTheStream(t *testing.T) {
	client, server := pipe.New()
	defer client.Close()
	s := Attach(server, nil, nil, nil)
	h := newHolder(t)
	s.Start(h)
	var err error
	for range 5000 {
		b := hop.NewBuffer()
		b.Append(random(hop.MaxChunk))
		if err = s.Send(b); err != nil {
			break
		}
	}
	var re *hop.ResetError
	if !errors.As(err, &re) || re.Code != hop.EnhanceYourCalm {
		t.Errorf("send: %v", err)
	}
	if err := <-h.end; !errors.As(err, &re) {
		t.Errorf("end: %v", err)
	}
	<-s.Done()
}

func TestResetReturnsTheCreditOfWhatWasQueued(t *testing.T) {
	c1, from := pipe.New()
	c2, to := pipe.New()
	a, b := Attach(from, nil, nil, nil), Attach(to, nil, nil, nil)
	forward := &relay{to: b}
	a.Start(forward)
	b.Start(Discard{})
	go c1.Write(random(1 << 20))
	for b.Queued() < 100<<10 {
		<-forward.tick()
	}
	b.Reset(hop.Cancel)
	<-b.Done()
	if _, err := io.ReadAll(c2); !errors.Is(err, pipe.ErrReset) {
		t.Errorf("the peer sees %v", err)
	}
	a.Reset(hop.Cancel)
	<-a.Done()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held != 0 {
		t.Errorf("%d bytes of window are lost", a.held)
	}
}

type relay struct {
	mu   sync.Mutex
	next chan struct{}
	to   hop.Stream
}

func (r *relay) tick() chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == nil {
		r.next = make(chan struct{})
		if r.to.Queued() >= 100<<10 {
			close(r.next)
		}
	}
	return r.next
}

func (r *relay) Data(b *hop.Buffer) {
	r.to.Send(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next != nil {
		select {
		case <-r.next:
		default:
			close(r.next)
		}
		r.next = nil
	}
}
func (r *relay) Writable() {}
func (r *relay) End(error) {}

func TestEndComesOnceAndLast(t *testing.T) {
	for name, cut := range map[string]func(*Stream, *pipe.Conn){
		"reset":         func(s *Stream, _ *pipe.Conn) { s.Reset(hop.Cancel) },
		"kill":          func(s *Stream, _ *pipe.Conn) { s.Kill(nil) },
		"peer's reset":  func(_ *Stream, c *pipe.Conn) { c.SetLinger(0); c.Close() },
		"reset, twice":  func(s *Stream, _ *pipe.Conn) { s.Reset(hop.Cancel); s.Reset(hop.Killed) },
		"both at once":  func(s *Stream, c *pipe.Conn) { go s.Reset(hop.Cancel); c.Close() },
		"while sending": func(s *Stream, _ *pipe.Conn) { s.Send(buffer(random(hop.MaxChunk))); s.Reset(hop.Cancel) },
	} {
		t.Run(name, func(t *testing.T) {
			client, server := pipe.New()
			s := Attach(server, nil, nil, nil)
			h := newHolder(t)
			s.Start(h)
			cut(s, client)
			err := <-h.end
			s.Reset(hop.Cancel)
			<-s.Done()
			if !errors.Is(err, net.ErrClosed) && err != io.EOF {
				t.Errorf("end %v", err)
			}
			if len(h.end) != 0 {
				t.Error("End was called twice")
			}
			if s.Err() == nil {
				t.Error("no reason")
			}
			client.Close()
		})
	}
}

func buffer(p []byte) *hop.Buffer {
	b := hop.NewBuffer()
	b.Append(p)
	return b
}

func TestResetOverTCPIsRST(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s := NewStream(server)
	s.Start(Discard{})
	s.Reset(hop.Cancel)
	if _, err := io.ReadAll(client); err == nil {
		t.Error("a cut tunnel looks like one that ended")
	}
	<-s.Session().Done()
}

func TestAPeerThatDoesNotReadIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pipe.New()
		defer client.Close()
		s := Attach(server, nil, nil, nil)
		h := newHolder(t)
		s.Start(h)
		start := time.Now()
		sendAll(t, s, random(1<<20))
		var se *hop.SessionError
		if err := <-h.end; !errors.As(err, &se) || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("end %v", err)
		}
		if d := time.Since(start); d != (hop.Limits{}).WithDefaults().StallTimeout {
			t.Errorf("after %v", d)
		}
		<-s.Done()
	})
}

func TestWaitAbortsWhenItsContextEnds(t *testing.T) {
	client, server := pipe.New()
	defer client.Close()
	s := Attach(server, nil, nil, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-s.Done()
}

// A sender of small pieces towards a peer that stalls costs about the bytes that it sent, and not a block
// for each piece: a carrier resets a stream whose blocks are nearly empty.
func TestSmallPiecesDoNotCostABlockEach(t *testing.T) {
	near, far := pipe.New()
	st := NewStream(near)
	var meter atomic.Int64
	const pieces, size = 3000, 100
	for range pieces {
		b := hop.NewBufferSize(size)
		b.Append(make([]byte, size))
		b.Charge(&meter)
		if err := st.Send(b); err != nil {
			t.Fatal(err)
		}
	}
	if queued, cost := st.Queued(), meter.Load(); cost > int64(2*queued+64<<10) {
		t.Errorf("%d bytes in memory for %d", cost, queued)
	}
	st.CloseSend()
	if p, err := io.ReadAll(far); len(p) != pieces*size || err != nil {
		t.Errorf("%d bytes arrived, %v", len(p), err)
	}
	far.Close()
	st.Start(Discard{})
	<-st.Session().Done()
	if n := meter.Load(); n != 0 {
		t.Errorf("%d bytes are not free", n)
	}
}
