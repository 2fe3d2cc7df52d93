package proxy

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/hop/h2"
)

// Clients vanish at every moment of their CONNECTs, tunnels and goodbyes, some with bytes on the way. When
// the last is gone nothing of theirs is left: no session, tunnel, dial, place or memory.
func TestClientsThatVanishAtAnyMomentLeaveNothing(t *testing.T) {
	st := newStage(t, func(p *Proxy) { p.Policy.Modes = []fields.Mode{fields.Intact, fields.Blind} })
	origin := st.cooperating()
	ctx, cancel := context.WithCancel(t.Context())
	var sinks sync.WaitGroup
	sinks.Go(func() { // the origin's ends answer whatever comes with a little
		for {
			select {
			case at := <-origin.tunnels:
				at.Start(sinkOf(at))
				sendUntilReset(at, make([]byte, 3000))
			case <-ctx.Done():
				return
			}
		}
	})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 25 {
				conn := st.hop1(nil, "h2")
				s, err := h2.Client(conn, nil)
				if err != nil {
					t.Error(err)
					return
				}
				var calls sync.WaitGroup
				for i := range 3 {
					calls.Go(func() {
						if i == 2 {
							if _, stream, err := s.Open(t.Context(), &hop.Request{Authority: authority}); err == nil && stream != nil {
								stream.Start(sinkOf(stream))
								sendUntilReset(stream, make([]byte, rand.IntN(100000)))
							}
							return
						}
						c, err := st.tryConnect(s, authority)
						if err != nil || c.stream == nil {
							return
						}
						c.stream.Start(sinkOf(c.stream))
						sendUntilReset(c.stream, []byte{22, 3, 1, 0, 200, 1, 0})
						if rand.IntN(2) == 0 {
							c.stream.Reset(hop.Cancel)
						}
					})
				}
				for range rand.IntN(2000) {
					pause()
				}
				if rand.IntN(2) == 0 {
					conn.NetConn().Close()
				} else {
					s.Close(hop.NoError, "")
				}
				<-s.Done()
				calls.Wait()
			}
		})
	}
	wg.Wait()
	r := st.proxy.run
	for left := 1; left > 0; pause() { // the test's deadline bounds it
		r.mu.Lock()
		left = len(r.sessions) + len(r.conns)
		r.mu.Unlock()
	}
	r.pool.mu.Lock()
	if r.pool.others != 0 || len(r.pool.entries) != 0 {
		t.Errorf("%d dials and %d entries are left", r.pool.others, len(r.pool.entries))
	}
	r.pool.mu.Unlock()
	r.dials.turns.mu.Lock()
	if len(r.dials.turns.of) != 0 || len(r.dials.slots) != 0 {
		t.Errorf("%d turns and %d slots are left", len(r.dials.turns.of), len(r.dials.slots))
	}
	r.dials.turns.mu.Unlock()
	if n := r.held.used.Load(); n != 0 || len(r.holders.used) != 0 {
		t.Errorf("%d held bytes are left, of %d clients", n, len(r.holders.used))
	}
	cancel()
	sinks.Wait()
	st.close()
	if len(r.pool.clients) != 0 || len(r.pool.slots) != 0 {
		t.Errorf("%d clients and %d connections are left", len(r.pool.clients), len(r.pool.slots))
	}
}

// sinkOf takes what comes, and ends its own side when the other has.
func sinkOf(s hop.Stream) hop.Sink { return drain{s} }

type drain struct{ s hop.Stream }

func (d drain) Data(b *hop.Buffer) { b.Release() }
func (d drain) Writable()          {}
func (d drain) End(error)          { d.s.CloseSend() }

// Shutdown at any moment of CONNECTs, tunnels and dials returns in its time, kills what is left, and leaves
// nothing.
func TestShutdownAtAnyMomentLeavesNothing(t *testing.T) {
	for i := range 12 {
		st := newStage(t, func(p *Proxy) { p.Policy.Modes = []fields.Mode{fields.Intact, fields.Blind} })
		origin := st.cooperating()
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case at := <-origin.tunnels:
					at.Start(sinkOf(at))
				case <-ctx.Done():
					return
				}
			}
		})
		for range 3 {
			s, err := h2.Client(st.hop1(nil, "h2"), nil)
			if err != nil {
				t.Fatal(err)
			}
			for range 4 {
				wg.Go(func() {
					for ctx.Err() == nil && s.Err() == nil {
						c, err := st.tryConnect(s, authority)
						if err != nil || c.stream == nil {
							pause()
							continue
						}
						c.stream.Start(sinkOf(c.stream))
						if rand.IntN(2) == 0 {
							c.stream.CloseSend()
						}
					}
				})
			}
			wg.Go(func() {
				<-s.Done()
			})
		}
		for range rand.IntN(3000) {
			pause()
		}
		if i%2 == 0 {
			st.proxy.Close()
		} else {
			soon, stop := context.WithTimeout(t.Context(), time.Duration(rand.IntN(20))*time.Millisecond)
			st.proxy.Shutdown(soon)
			stop()
		}
		r := st.proxy.run
		if len(r.sessions) != 0 || len(r.conns) != 0 || len(r.listeners) != 0 || len(r.pool.slots) != 0 || r.pool.others != 0 || len(r.pool.clients) != 0 {
			t.Errorf("left: %d sessions, %d handshakes, %d listeners, %d connections, %d dials, %v", len(r.sessions), len(r.conns),
				len(r.listeners), len(r.pool.slots), r.pool.others, r.pool.clients)
		}
		cancel()
		wg.Wait()
		st.close()
	}
}
