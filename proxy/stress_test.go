package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"vitrine/frames"
	"vitrine/internal/hop"
	"vitrine/internal/hop/h2"
	"vitrine/internal/hop/raw"
	"vitrine/internal/hop/raw/pipe"
	"vitrine/proxy/inspect"
)

// smallWindow makes a transfer of a few megabytes more than a hundred windows.
const smallWindow = 64 << 10

// hopPair is one hop over TLS in memory, with small windows. far opens, near accepts.
func (st *stage) hopPair(t *testing.T) (far, near hop.Session) {
	t.Helper()
	a, b := pipe.New()
	tc := tls.Client(hop.NewBatchConn(a), &tls.Config{RootCAs: st.proxies.Pool().CertPool, ServerName: proxyName, NextProtos: []string{"h2"}})
	ts := tls.Server(hop.NewBatchConn(b), &tls.Config{Certificates: []tls.Certificate{st.proxy.Certificate}, NextProtos: []string{"h2"}})
	shaken := make(chan error, 1)
	go func() { shaken <- ts.Handshake() }()
	if err := errors.Join(tc.Handshake(), <-shaken); err != nil {
		t.Fatal(err)
	}
	cfg := &h2.Config{Limits: hop.Limits{StreamWindow: smallWindow}}
	far, err := h2.Client(tc, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if near, err = h2.Server(ts, cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, s := range []hop.Session{far, near} {
			s.Close(hop.NoError, "")
			<-s.Done()
		}
	})
	return far, near
}

// streamPair opens one tunnel on a hop.
func streamPair(t *testing.T, far, near hop.Session) (a, b hop.Stream) {
	t.Helper()
	accepted := make(chan hop.Stream, 1)
	go func() {
		in, err := near.Accept(t.Context())
		if err != nil {
			accepted <- nil
			return
		}
		s, _ := in.Accept(&hop.Response{Status: http.StatusOK, Header: http.Header{}})
		accepted <- s
	}()
	resp, a, err := far.Open(t.Context(), &hop.Request{Authority: authority, Header: http.Header{}})
	if err != nil || a == nil {
		t.Fatalf("open: %v %v", resp, err)
	}
	if b = <-accepted; b == nil {
		t.Fatal("not accepted")
	}
	return a, b
}

// A laggard is a reader that allows what it has seen late, and in pieces that fit no buffer.
type laggard struct {
	release func(frames.Direction, int64)
	kick    [2]chan int64
	mu      sync.Mutex
	fed     [2]int64
	killAt  int64
}

func newLaggard() *laggard {
	return &laggard{kick: [2]chan int64{make(chan int64, 1<<16), make(chan int64, 1<<16)}}
}

func (l *laggard) Feed(d frames.Direction, p []byte) (int64, error) {
	l.mu.Lock()
	l.fed[d] += int64(len(p))
	n := l.fed[d]
	l.mu.Unlock()
	if l.killAt > 0 && n >= l.killAt {
		return 0, errGate
	}
	if rand.IntN(3) > 0 {
		// Part of it may leave now, the rest when another goroutine says so.
		l.kick[d] <- n
		return max(0, n-int64(rand.IntN(len(p)+1))), nil
	}
	return n, nil
}

func (l *laggard) End(frames.Direction) error { return nil }
func (l *laggard) Close(error)                {}
func (l *laggard) Wait()                      {}

// decide lets what was fed leave, a few bytes at a time, until ctx ends.
func (l *laggard) decide(ctx context.Context, d frames.Direction) {
	at := int64(0)
	for {
		select {
		case upTo := <-l.kick[d]:
			for at < upTo {
				at = min(upTo, at+1+int64(rand.IntN(9000)))
				l.release(d, at)
			}
		case <-ctx.Done():
			return
		}
	}
}

// A moody tap takes bytes, and now and then keeps them, and so their credit, for a while.
type moody struct {
	want int64 // seed of the bytes that must come
	n    int64
	bad  error
	done chan struct{}
	err  error
	hold []*hop.Buffer
	idle func(func()) // runs its argument elsewhere, later
}

func pattern(seed, i int64) byte { return byte((i*2654435761 + seed) >> 7) }

func fill(p []byte, seed, from int64) {
	for i := range p {
		p[i] = pattern(seed, from+int64(i))
	}
}

func (m *moody) Data(b *hop.Buffer) {
	for i, c := range b.Bytes() {
		if c != pattern(m.want, m.n+int64(i)) && m.bad == nil {
			m.bad = fmt.Errorf("byte %d is another one than was sent", m.n+int64(i))
		}
	}
	m.n += int64(b.Len())
	if m.hold = append(m.hold, b); len(m.hold) > 1 && rand.IntN(4) == 0 {
		held := m.hold
		m.hold = nil
		m.idle(func() { free(held) })
	} else if len(m.hold) > 2 {
		free(m.hold)
		m.hold = nil
	}
}

func (m *moody) Writable() {}

func (m *moody) End(err error) {
	free(m.hold)
	m.hold = nil
	m.err = err
	close(m.done)
}

// pour sends total bytes, never more ahead than a queue may be.
func pour(s hop.Stream, seed, total int64) error {
	c := make([]byte, 40000)
	for at := int64(0); at < total; {
		for s.Queued() > 128<<10 {
			pause()
		}
		n := 1 + rand.Int64N(200)
		if rand.IntN(2) == 0 {
			n = 1 + rand.Int64N(int64(len(c)))
		}
		n = min(n, total-at)
		fill(c[:n], seed, at)
		for p := c[:n]; len(p) > 0; {
			b := hop.NewBufferSize(min(len(p), 16384))
			p = p[b.Append(p):]
			if err := s.Send(b); err != nil {
				return err
			}
		}
		at += n
	}
	return nil
}

// spec: PRX-14 PRX-32
//
// Real hops, long transfers both ways, releases by other goroutines that cut buffers in pieces while a
// hop's writer stamps headers in front of the pieces, stalls at random. What comes out is what went in, and
// at its end nobody owes credit: a window that leaks even a byte for each buffer would have stopped it.
func TestLongTransfersThroughAJoinLoseNoByteAndNoCredit(t *testing.T) {
	for _, carrier := range []string{"HTTP/2", "raw"} {
		t.Run(carrier, func(t *testing.T) { longTransfers(t, carrier == "raw") })
	}
}

func longTransfers(t *testing.T, toRaw bool) {
	st := newStage(t)
	const tunnels, total = 2, 101 * smallWindow
	clientFar, clientNear := st.hopPair(t)
	originNear, originFar := st.hopPair(t)
	originPair := func() (near, far hop.Stream) {
		if !toRaw {
			return streamPair(t, originNear, originFar)
		}
		a, b := pipe.New()
		return raw.NewStream(a), raw.NewStream(b)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var deciders, later sync.WaitGroup
	defer deciders.Wait()
	defer cancel()
	all := &budget{max: 1 << 20}
	var wg sync.WaitGroup
	for i := range tunnels {
		ca, cb := streamPair(t, clientFar, clientNear)
		ob, oa := originPair()
		over := make(chan error, 1)
		own := &budget{max: 256 << 10}
		j := newJoin(cb, ob, heldBytes{own: own, all: all}, func(err error) { over <- err })
		l := newLaggard()
		l.release = j.release
		j.reader = l
		for d := range frames.Direction(2) {
			deciders.Go(func() { l.decide(ctx, d) })
		}
		taps := [2]*moody{}
		for d, s := range []hop.Stream{oa, ca} {
			taps[d] = &moody{want: int64(i*2 + d), done: make(chan struct{}), idle: func(f func()) {
				later.Go(func() { pause(); f() })
			}}
			s.Start(taps[d])
		}
		j.start()
		for d, s := range []hop.Stream{ca, oa} {
			wg.Go(func() {
				if err := pour(s, int64(i*2+d), total); err != nil {
					t.Errorf("tunnel %d: %v", i, err)
				}
				s.CloseSend()
			})
		}
		wg.Go(func() {
			for d, m := range taps {
				<-m.done
				if m.bad != nil || m.n != total || !errors.Is(m.err, io.EOF) {
					t.Errorf("tunnel %d, direction %d: %d bytes of %d, end %v, %v", i, d, m.n, total, m.err, m.bad)
				}
			}
			if err := <-over; err != nil {
				t.Errorf("tunnel %d: over %v", i, err)
			}
			if n := own.used.Load(); n != 0 {
				t.Errorf("tunnel %d: %d bytes of copies are lost", i, n)
			}
		})
	}
	wg.Wait()
	later.Wait()
	if n := all.used.Load(); n != 0 {
		t.Errorf("%d bytes of the common budget are lost", n)
	}
}

// spec: PRX-17 PRX-19
//
// Kills, resets from both sides at once and ends race on tunnels that are full of bytes. Each join is over
// once, whatever is owed is given back, and a sibling on the same two hops does not notice.
func TestKillsResetsAndEndsRace(t *testing.T) {
	st := newStage(t)
	clientFar, clientNear := st.hopPair(t)
	originNear, originFar := st.hopPair(t)
	all := &budget{max: 1 << 20}
	run := func(seed int64, killAt int64, meddle func(j *join, ca, oa hop.Stream)) (taps [2]*moody, err error) {
		ca, cb := streamPair(t, clientFar, clientNear)
		ob, oa := streamPair(t, originNear, originFar)
		over := make(chan error, 1)
		var calls atomic.Int32
		j := newJoin(cb, ob, heldBytes{own: &budget{max: 256 << 10}, all: all}, func(err error) {
			if calls.Add(1) != 1 {
				t.Error("over twice")
			}
			over <- err
		})
		l := newLaggard()
		l.release, l.killAt = j.release, killAt
		j.reader = l
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for d := range frames.Direction(2) {
			wg.Go(func() { l.decide(ctx, d) })
		}
		for d, s := range []hop.Stream{oa, ca} {
			taps[d] = &moody{want: seed + int64(d), done: make(chan struct{}), idle: func(f func()) { f() }}
			s.Start(taps[d])
		}
		j.start()
		for d, s := range []hop.Stream{ca, oa} {
			wg.Go(func() {
				if pour(s, seed+int64(d), 4*smallWindow) == nil {
					s.CloseSend()
				}
			})
		}
		meddle(j, ca, oa)
		err = <-over
		j.drop()
		switch {
		case err == nil:
		case errors.As(err, new(*inspect.KillError)):
			cb.Kill(nil)
			ob.Kill(nil)
		default:
			cb.Reset(hop.Cancel)
			ob.Reset(hop.Cancel)
		}
		for d, m := range taps {
			<-m.done
			if m.bad != nil {
				t.Errorf("direction %d: %v", d, m.bad)
			}
		}
		cancel()
		wg.Wait()
		return taps, err
	}
	var group sync.WaitGroup
	for i := range 60 {
		seed := int64(1000 + 2*i)
		switch i % 5 {
		case 0: // a kill in the middle
			if _, err := run(seed, 1+rand.Int64N(4*smallWindow), func(*join, hop.Stream, hop.Stream) {}); !errors.Is(err, errGate) {
				t.Errorf("a kill: %v", err)
			}
		case 1: // both ends reset at once
			run(seed, 0, func(_ *join, ca, oa hop.Stream) {
				for range rand.IntN(50) {
					pause()
				}
				group.Go(func() { ca.Reset(hop.Cancel) })
				oa.Reset(hop.Cancel)
			})
		case 2: // a kill from elsewhere, against whatever is going on
			run(seed, 0, func(j *join, ca, _ hop.Stream) {
				for range rand.IntN(50) {
					pause()
				}
				group.Go(func() { ca.Reset(hop.Cancel) })
				j.stop(errGate)
			})
		case 3: // the end of the session's tunnels, as Close does it, while bytes are dropped
			run(seed, 0, func(j *join, _, _ hop.Stream) {
				for range rand.IntN(50) {
					pause()
				}
				group.Go(func() { j.drop() })
				j.stop(errIdle)
			})
		default: // nothing happens
			if taps, err := run(seed, 0, func(*join, hop.Stream, hop.Stream) {}); err != nil || taps[0].n != 4*smallWindow || taps[1].n != 4*smallWindow {
				t.Errorf("a sibling: %v, %d and %d bytes", err, taps[0].n, taps[1].n)
			}
		}
	}
	group.Wait()
	if n := all.used.Load(); n != 0 {
		t.Errorf("%d bytes of the common budget are lost", n)
	}
	for _, s := range []hop.Session{clientFar, clientNear, originFar, originNear} {
		if err := s.Err(); err != nil {
			t.Errorf("a hop ended: %v", err)
		}
	}
}

// pause gives way to whoever has something to do.
func pause() { runtime.Gosched() }
