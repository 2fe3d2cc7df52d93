package h2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
	"pgregory.net/rapid"

	"vitrine/internal/hop"
)

// A flow is one direction of a tunnel under test, with what should come out.
type flow struct {
	from  hop.Stream
	sink  *collector
	sent  []byte
	ended bool
}

// TestFlowControlStateMachine sends random pieces both ways over tunnels with small windows, holds and
// releases Buffers at will, and checks at every step that bytes out are a prefix of bytes in, that no
// window is negative or above its size, and at the end that all bytes and all credit came back.
func TestFlowControlStateMachine(t *testing.T) {
	testCertificate()
	rapid.Check(t, func(r *rapid.T) {
		window := rapid.SampledFrom([]int{100, 1 << 10, 16 << 10, 70 << 10}).Draw(r, "window")
		conn := rapid.SampledFrom([]int{1 << 10, 100 << 10}).Draw(r, "connection window")
		seed := rapid.Uint64().Draw(r, "seed")
		var failed error
		synctest.Test(t, func(t *testing.T) {
			limits := hop.Limits{StreamWindow: window, ConnWindow: conn}
			client, server := sessions(t, &Config{Limits: limits}, &Config{Limits: limits})
			failed = runFlows(t, client, server, rand.New(rand.NewPCG(seed, 1)))
		})
		if failed != nil {
			r.Fatal(failed)
		}
	})
}

func runFlows(t *testing.T, client, server *session, rnd *rand.Rand) error {
	var flows []*flow
	for range 1 + rnd.IntN(3) {
		near, far := tunnel(t, client, server)
		a, b := newCollector(), newCollector()
		near.Start(a)
		far.Start(b)
		flows = append(flows, &flow{from: near, sink: b}, &flow{from: far, sink: a})
	}
	for range 60 {
		f := flows[rnd.IntN(len(flows))]
		switch rnd.IntN(5) {
		case 0, 1:
			if !f.ended {
				p := make([]byte, rnd.IntN(1+1<<rnd.IntN(17)))
				for i := range p {
					p[i] = byte(rnd.Uint32())
				}
				f.sent = append(f.sent, p...)
				send(t, f.from, p)
			}
		case 2:
			f.sink.mu.Lock()
			f.sink.hold = !f.sink.hold
			f.sink.mu.Unlock()
		case 3:
			f.sink.release()
		case 4:
			if !f.ended && rnd.IntN(6) == 0 {
				f.ended = true
				f.from.CloseSend()
			}
		}
		synctest.Wait()
		if err := errors.Join(checkFlow(f), checkWindows(client), checkWindows(server)); err != nil {
			return err
		}
	}
	for _, f := range flows {
		f.sink.mu.Lock()
		f.sink.hold = false
		f.sink.mu.Unlock()
		f.sink.release()
		if !f.ended {
			f.from.CloseSend()
		}
	}
	for _, f := range flows {
		if err := f.sink.wait(t); err != io.EOF {
			return err
		}
		if !bytes.Equal(f.sink.bytes(), f.sent) {
			return errors.New("bytes out are not bytes in")
		}
		if n := f.from.Queued(); n != 0 {
			return errors.New("bytes are still queued")
		}
	}
	synctest.Wait()
	for _, f := range flows {
		if n := f.from.(*stream).memory.Load(); n != 0 {
			return errors.New("memory is still charged")
		}
	}
	if open(client)+open(server) != 0 {
		return errors.New("streams are still open")
	}
	return errors.Join(checkConnection(client, server), checkConnection(server, client))
}

func checkFlow(f *flow) error {
	if got := f.sink.bytes(); !bytes.HasPrefix(f.sent, got) {
		return errors.New("bytes out are not a prefix of bytes in")
	}
	return nil
}

func checkWindows(s *session) error {
	s.mu.Lock()
	streams := make([]*stream, 0, len(s.streams))
	for _, st := range s.streams {
		streams = append(streams, st)
	}
	s.mu.Unlock()
	for _, st := range streams {
		st.mu.Lock()
		recv, owed := st.recvWindow, st.owed
		st.mu.Unlock()
		s.w.mu.Lock()
		window, conn := st.out.window, s.w.window
		s.w.mu.Unlock()
		if recv < 0 || recv+int64(owed) > int64(s.lim.StreamWindow) {
			return errors.New("a receive window is out of bounds")
		}
		if window < 0 || window > int64(max(s.lim.StreamWindow, initial)) || conn < 0 {
			return errors.New("a send window is out of bounds")
		}
	}
	return nil
}

// checkConnection compares what one side may send with what the other still takes.
func checkConnection(from, to *session) error {
	from.w.mu.Lock()
	defer from.w.mu.Unlock()
	if to.connRecv != int(from.w.window) || to.connRecv+to.connOwed < initial {
		return errors.New("connection credit was lost or invented")
	}
	return nil
}

// The data path of a proxy: what one hop delivers another takes, Buffer by Buffer, and credit goes back
// over both.
func TestJoinedHopsPassBackPressureOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, inner := sessions(t, nil, nil)
		outer, origin := sessions(t, nil, nil)
		near, a := tunnel(t, client, inner)
		b, far := tunnel(t, outer, origin)
		a.Start(&joint{to: b})
		b.Start(&joint{to: a})
		sink := newCollector()
		sink.hold = true
		far.Start(sink)
		near.Start(newCollector())
		want := make([]byte, 4<<20)
		for i := range want {
			want[i] = byte(i * 7 >> 3)
		}
		send(t, near, want)
		synctest.Wait()
		if got, most := len(sink.bytes()), 256<<10; got > most {
			t.Errorf("%d bytes arrived at an end that keeps them, its window is %d", got, most)
		}
		if q := b.Queued(); q > 256<<10 {
			t.Errorf("%d bytes are queued between the hops", q)
		}
		if left := near.Queued(); left < 3<<20 {
			t.Errorf("only %d bytes wait at the sender", left)
		}
		sink.mu.Lock()
		sink.hold = false
		sink.mu.Unlock()
		sink.release()
		near.CloseSend()
		if err := sink.wait(t); err != io.EOF {
			t.Fatal(err)
		}
		if !bytes.Equal(sink.bytes(), want) {
			t.Error("bytes out are not bytes in")
		}
	})
}

// joint moves what one hop delivers to the other.
type joint struct{ to hop.Stream }

func (j *joint) Data(b *hop.Buffer) { j.to.Send(b) }
func (j *joint) Writable()          {}
func (j *joint) End(err error) {
	if err == io.EOF {
		j.to.CloseSend()
		return
	}
	j.to.Reset(hop.Cancel)
}

// Resets of either end while bytes flow over two joined hops: nothing deadlocks and nothing is left.
func TestResetsUnderLoad(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, inner := sessions(t, nil, nil)
		outer, origin := sessions(t, nil, nil)
		var all sync.WaitGroup
		for i := range 16 {
			near, a := tunnel(t, client, inner)
			b, far := tunnel(t, outer, origin)
			a.Start(&joint{to: b})
			b.Start(&joint{to: a})
			c, d := hop.NewConn(near), hop.NewConn(far)
			all.Go(func() { io.Copy(d, d) }) // echo
			all.Go(func() {
				io.Copy(io.Discard, c)
			})
			all.Go(func() {
				chunk := make([]byte, 10_000)
				for n := range 100 {
					if n == 20+i {
						[]func(){
							func() { near.Reset(hop.Cancel) },
							func() { far.Reset(hop.Cancel) },
							func() { a.Kill(signedVerdict) },
							func() { c.Close(); d.Close() },
						}[i%4]()
					}
					if _, err := c.Write(chunk); err != nil {
						break
					}
				}
				c.Close()
				d.Close()
			})
		}
		all.Wait()
		eventually(t, func() bool { return open(client)+open(inner)+open(outer)+open(origin) == 0 })
		for _, s := range []*session{client, inner, outer, origin} {
			if s.Err() != nil {
				t.Error(s.Err())
			}
		}
	})
}

func TestWriterServesStreamsRoundRobin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := rawClient(t, nil).greet(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
		bulk := p.open(1)
		small := p.open(3)
		bulk.Start(newCollector())
		small.Start(newCollector())
		send(t, bulk, make([]byte, 500<<10)) // the connection's window is 65,535
		for got := 0; got < 65535; {
			got += len(p.want(http2.FrameData).(*http2.DataFrame).Data())
		}
		send(t, small, []byte("quick"))
		p.must(p.fr.WriteWindowUpdate(0, 1<<20))
		for frames := 0; ; frames++ {
			f := p.want(http2.FrameData).(*http2.DataFrame)
			if f.StreamID == 3 {
				if frames > 1 {
					t.Errorf("%d frames of the bulk stream came first", frames)
				}
				return
			}
		}
	})
}

func TestStartTakesWhatCameBefore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := sessions(t, nil, nil)
		near, far := tunnel(t, client, server)
		want := bytes.Repeat([]byte("0123456789"), 40_000)
		send(t, near, want)
		synctest.Wait()
		near.CloseSend()
		sink := newCollector()
		far.Start(sink)
		if err := sink.wait(t); err != io.EOF || !bytes.Equal(sink.bytes(), want) {
			t.Errorf("%d bytes of %d, %v", len(sink.bytes()), len(want), err)
		}
	})
}

func TestOpenFromManyGoroutines(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := sessions(t, &Config{Limits: hop.Limits{Streams: 8}}, nil)
		go func() {
			for {
				in, err := server.Accept(context.Background())
				if err != nil {
					return
				}
				st, err := in.Accept(&hop.Response{Status: 200})
				if err != nil {
					t.Error(err)
					return
				}
				c := hop.NewConn(st)
				go func() {
					io.Copy(c, c)
					c.Close()
				}()
			}
		}()
		var all sync.WaitGroup
		for i := range 64 {
			all.Go(func() {
				_, st, err := client.Open(context.Background(), connectRequest())
				if err != nil {
					t.Error(err)
					return
				}
				c := hop.NewConn(st)
				defer c.Close()
				want := bytes.Repeat([]byte{byte(i)}, 1+i*1000)
				go func() {
					c.Write(want)
					c.CloseWrite()
				}()
				got, err := io.ReadAll(c)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
				}
			})
		}
		all.Wait()
	})
}
