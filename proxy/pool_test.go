package proxy

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/internal/hop"
)

// A fakeHop is a session that only opens and ends.
type fakeHop struct {
	hop.Session
	once    sync.Once
	done    chan struct{}
	mu      sync.Mutex
	drained bool
	// stuck sessions never drain by themselves.
	stuck bool
}

func newFakeHop() *fakeHop { return &fakeHop{done: make(chan struct{})} }

func (f *fakeHop) Done() <-chan struct{} { return f.done }

func (f *fakeHop) Err() error {
	if f.ended() {
		return net.ErrClosed
	}
	return nil
}

func (f *fakeHop) ended() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

func (f *fakeHop) end() { f.once.Do(func() { close(f.done) }) }

func (f *fakeHop) Drain(ctx context.Context) error {
	f.mu.Lock()
	f.drained = true
	f.mu.Unlock()
	if f.stuck {
		<-ctx.Done()
		return ctx.Err()
	}
	f.end()
	return nil
}

func (f *fakeHop) Close(hop.ErrorCode, string) error { f.end(); return nil }

// A pooled test drives a pool whose dials it answers.
type pooledTest struct {
	*pool
	die   context.CancelFunc
	dials int
	last  *fakeHop
}

func newPoolTest(l Limits) *pooledTest {
	l = l.withDefaults()
	life, die := context.WithCancel(context.Background())
	return &pooledTest{pool: newPool(life, &l), die: die}
}

func (p *pooledTest) dial(shareable bool) func(context.Context) (*Upstream, error) {
	return func(context.Context) (*Upstream, error) {
		p.dials++
		p.last = newFakeHop()
		return &Upstream{Session: p.last, shareable: shareable}, nil
	}
}

func (p *pooledTest) finish(t *testing.T) {
	t.Helper()
	p.close()
	p.wg.Wait()
	p.die()
	if len(p.slots) != 0 || p.others != 0 {
		t.Errorf("%d slots and %d dials are left", len(p.slots), p.others)
	}
}

func (p *pooledTest) must(t *testing.T, key poolKey, fresh, shareable bool) *Upstream {
	t.Helper()
	up, err := p.get(t.Context(), key, fresh, p.dial(shareable))
	if err != nil {
		t.Fatal(err)
	}
	return up
}

// spec: PRX-12
func TestConnectionsAreSharedWithinAClientAndAnOriginOnly(t *testing.T) {
	p := newPoolTest(Limits{})
	defer p.finish(t)
	one := p.must(t, poolKey{authority: "a:443", client: "alice"}, false, true)
	for _, c := range []struct {
		key  poolKey
		same bool
	}{
		{poolKey{authority: "a:443", client: "alice"}, true},
		{poolKey{authority: "a:443", client: "bob"}, false},
		{poolKey{authority: "b:443", client: "alice"}, false},
	} {
		up := p.must(t, c.key, false, true)
		if (up.Session == one.Session) != c.same {
			t.Errorf("%v: same %v", c.key, !c.same)
		}
	}
	if p.dials != 3 {
		t.Errorf("%d dials", p.dials)
	}
}

func TestATranscriptAnswersOneRequestOnly(t *testing.T) {
	p := newPoolTest(Limits{})
	defer p.finish(t)
	key := poolKey{authority: "a:443", client: "alice"}
	if p.must(t, key, false, true); p.must(t, key, false, true).Transcript != nil {
		t.Error("a pooled connection came with another request's transcript")
	}
}

func TestAFreshConnectionIsFresh(t *testing.T) {
	p := newPoolTest(Limits{})
	defer p.finish(t)
	key := poolKey{authority: "a:443", client: "alice"}
	one := p.must(t, key, false, true)
	if p.must(t, key, true, true).Session == one.Session {
		t.Error("not fresh")
	}
}

// spec: PRX-13
func TestWhatProvesNothingIsNotReused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPoolTest(Limits{})
		defer p.finish(t)
		key := poolKey{authority: "a:443", client: "alice"}
		one := p.must(t, key, false, true)
		two := p.must(t, key, false, true)
		two.retire(true)
		two.Close()
		three := p.must(t, key, false, true)
		four := p.must(t, key, false, true)
		if three.Session == one.Session || four.Session == three.Session {
			t.Error("shared although the origin answers nothing")
		}
		// Each ends with its tunnel.
		last := p.last
		four.Close()
		<-last.done
		// The origin learns to answer.
		five := p.must(t, key, true, true)
		five.answered()
		six := p.must(t, key, false, true)
		if seven := p.must(t, key, false, true); seven.Session != six.Session {
			t.Error("not shared although the origin answers")
		}
		one.Close()
		three.Close()
	})
}

func TestCarriersOfOneTunnelAreNotShared(t *testing.T) {
	p := newPoolTest(Limits{})
	defer p.finish(t)
	key := poolKey{authority: "a:443", client: "alice"}
	one := p.must(t, key, false, false)
	if p.must(t, key, false, false).Session == one.Session {
		t.Error("shared")
	}
}

func TestAnIdleConnectionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPoolTest(Limits{})
		defer p.finish(t)
		key := poolKey{authority: "a:443", client: "alice"}
		up := p.must(t, key, false, true)
		h := p.last
		<-time.After(time.Hour)
		if h.ended() {
			t.Fatal("ended under a tunnel")
		}
		up.Close()
		up.Close() // the second counts for nothing
		<-time.After(time.Minute - time.Second)
		up = p.must(t, key, false, true)
		if up.Session != h {
			t.Error("not kept")
		}
		up.Close()
		<-time.After(time.Minute + time.Second)
		if !h.ended() || !h.drained {
			t.Error("kept for too long")
		}
		if len(p.entries) != 0 {
			t.Errorf("%d entries are left", len(p.entries))
		}
	})
}

func TestADeadConnectionIsNotGivenOut(t *testing.T) {
	p := newPoolTest(Limits{})
	defer p.finish(t)
	key := poolKey{authority: "a:443", client: "alice"}
	p.must(t, key, false, true)
	p.last.end()
	if p.must(t, key, false, true).Session.Err() != nil || p.dials != 2 {
		t.Error("given out")
	}
}

func TestARetiredConnectionServesItsTunnelsOnly(t *testing.T) {
	p := newPoolTest(Limits{})
	defer p.finish(t)
	key := poolKey{authority: "a:443", client: "alice"}
	one := p.must(t, key, false, true)
	two := p.must(t, key, false, true)
	h := p.last
	one.retire(false)
	one.Close()
	if h.ended() {
		t.Error("ended under a tunnel")
	}
	if p.must(t, key, false, true).Session == h {
		t.Error("given out")
	}
	two.Close()
	<-h.done
}

func TestAFullConnectionGetsASibling(t *testing.T) {
	p := newPoolTest(Limits{Shared: 2})
	defer p.finish(t)
	key := poolKey{authority: "a:443", client: "alice"}
	for range 5 {
		p.must(t, key, false, true)
	}
	if p.dials != 3 {
		t.Errorf("%d dials for 5 tunnels of 2 a connection", p.dials)
	}
}

func TestManyCONNECTsMakeOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPoolTest(Limits{})
		defer p.finish(t)
		answer := make(chan struct{})
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, err := p.get(t.Context(), poolKey{authority: "a:443", client: "alice"}, false, func(ctx context.Context) (*Upstream, error) {
					<-answer
					return p.dial(true)(ctx)
				}); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(answer)
		wg.Wait()
		if p.dials != 1 {
			t.Errorf("%d dials", p.dials)
		}
	})
}

func TestAFailureIsSharedAndAnAbandonedDialIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPoolTest(Limits{})
		defer p.finish(t)
		key := poolKey{authority: "a:443", client: "alice"}
		ctx, giveUp := context.WithCancel(t.Context())
		slow := func(ctx context.Context) (*Upstream, error) {
			p.dials++
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(time.Second):
				return nil, errRefused
			}
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := p.get(ctx, key, false, slow); !errors.Is(err, context.Canceled) {
				t.Errorf("who gave up: %v", err)
			}
		})
		synctest.Wait()
		for range 10 {
			wg.Go(func() {
				if _, err := p.get(t.Context(), key, false, slow); !errors.Is(err, errRefused) {
					t.Errorf("who waited: %v", err)
				}
			})
		}
		synctest.Wait()
		giveUp()
		wg.Wait()
		if p.dials != 2 {
			t.Errorf("%d dials", p.dials)
		}
		if len(p.entries) != 0 {
			t.Error("a failure left an entry")
		}
	})
}

func TestConnectionsAreBounded(t *testing.T) {
	p := newPoolTest(Limits{Upstreams: 2, Parts: 1})
	defer p.finish(t)
	one := p.must(t, poolKey{authority: "a:443", client: "alice"}, false, true)
	first := p.last
	p.must(t, poolKey{authority: "b:443", client: "alice"}, false, true)
	_, err := p.get(t.Context(), poolKey{authority: "c:443", client: "alice"}, false, p.dial(true))
	if !errors.Is(err, errUpstreamsFull) {
		t.Fatalf("error %v", err)
	}
	if a := answerTo(err); a.status != 503 || a.reason != "connection_limit_reached" {
		t.Errorf("answered %d %s", a.status, a.reason)
	}
	if _, err := p.reserve("alice"); !errors.Is(err, errUpstreamsFull) {
		t.Errorf("a blind tunnel: %v", err)
	}
	one.Close()
	release, err := p.reserve("alice") // an idle connection makes room
	if err != nil {
		t.Fatal(err)
	}
	<-first.done
	release()
	release()
	p.must(t, poolKey{authority: "c:443", client: "alice"}, false, true)
}

func TestNamesOfManyOriginsDoNotFillMemory(t *testing.T) {
	p := newPoolTest(Limits{Upstreams: 4, Parts: 1})
	defer p.finish(t)
	for i := range 1000 {
		none := func(context.Context) (*Upstream, error) { return new(Upstream), nil }
		if _, err := p.get(t.Context(), poolKey{authority: string(rune('a' + i)), client: "alice"}, false, none); err != nil {
			t.Fatal(err)
		}
	}
	if len(p.entries) > 8 {
		t.Errorf("%d entries", len(p.entries))
	}
}

func TestWhatWasKeptForAClientEndsWithIt(t *testing.T) {
	p := newPoolTest(Limits{})
	defer p.finish(t)
	p.must(t, poolKey{authority: "a:443", client: "alice"}, false, true).Close()
	alice := p.last
	p.must(t, poolKey{authority: "a:443", client: "bob"}, false, true).Close()
	p.leaveClient("alice")
	<-alice.done
	if p.last.ended() {
		t.Error("another client's ended too")
	}
}

func TestClosingThePoolWaitsForNoOriginForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPoolTest(Limits{})
		p.must(t, poolKey{authority: "a:443", client: "alice"}, false, true)
		p.last.stuck = true
		start := time.Now()
		p.finish(t)
		if d := time.Since(start); d != partingTime {
			t.Errorf("after %v", d)
		}
		if _, err := p.get(t.Context(), poolKey{authority: "a:443", client: "alice"}, false, p.dial(true)); !errors.Is(err, errPoolClosed) {
			t.Errorf("error %v", err)
		}
	})
}
