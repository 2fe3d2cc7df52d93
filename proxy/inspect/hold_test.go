package inspect

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/frames"
)

// told collects what Config.Release and Config.Kill said.
type told struct {
	mu      sync.Mutex
	release [2]int64
	kills   []*KillError
}

func (c *told) config(in ...Inspector) *Config {
	cfg := config()
	cfg.Inspectors = judges(in...)
	cfg.Release = func(d frames.Direction, upTo int64) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.release[d] = max(c.release[d], upTo)
	}
	cfg.Kill = func(k *KillError) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.kills = append(c.kills, k)
	}
	return cfg
}

func (c *told) released(d frames.Direction) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.release[d]
}

func act(a Action) func(*Exchange, frames.Direction, Part) Decision {
	return func(*Exchange, frames.Direction, Part) Decision {
		return Decision{Action: a, Rule: "test-rule", Reason: "why"}
	}
}

// only asks f about direction d and allows the other.
func only(d frames.Direction, f func(*Exchange, Part) Decision) func(*Exchange, frames.Direction, Part) Decision {
	return func(x *Exchange, at frames.Direction, p Part) Decision {
		if at != d {
			return Decision{}
		}
		return f(x, p)
	}
}

// spec: RDR-25
func TestNothingLeavesFromAHoldOn(t *testing.T) {
	hold := true
	watch := &watcher{decide: only(toClient, func(_ *Exchange, p Part) Decision {
		if p.End {
			hold = false
		}
		if hold && p.Head == nil {
			return Decision{Action: Hold}
		}
		return Decision{}
	})}
	cfg := config()
	cfg.Inspectors = judges(watch)
	r, w := connected(t, cfg, nil)
	r.passes(t, c(w.app(get)), o(w.app("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")))
	before := r.released[toClient]
	for _, s := range []string{"01", "23", "4567"} {
		if err := r.feed(t, o(w.app(s))); err != nil {
			t.Fatal(err)
		}
		if r.released[toClient] != before {
			t.Fatalf("%q was released", s)
		}
	}
	// The decision for the last Part is a later decision: everything leaves.
	r.passes(t, o(w.app("89")))
	if got := string(watch.seen[0].msgs[toClient][0].body); got != "0123456789" {
		t.Fatalf("saw %q", got)
	}
}

// What stands before the hold in the same record waits with it: records leave whole.
func TestAHoldInsideARecordHoldsTheRecord(t *testing.T) {
	watch := &watcher{decide: only(toClient, func(_ *Exchange, p Part) Decision {
		if p.Body.Len() > 0 {
			return Decision{Action: Hold}
		}
		return Decision{}
	})}
	cfg := config()
	cfg.Inspectors = judges(watch)
	r, w := connected(t, cfg, nil)
	r.passes(t, c(w.app(get)))
	before := r.released
	if err := r.feed(t, o(w.app(ok5))); err != nil {
		t.Fatal(err)
	}
	if r.released != before {
		t.Fatal("a part of a record was released")
	}
}

// spec: RDR-26
func TestDecideFromAnotherGoroutine(t *testing.T) {
	for _, tt := range []struct {
		name   string
		d      Decision
		killed bool
	}{
		{"allow", Decision{Action: Allow}, false},
		{"done", Decision{Action: Done}, false},
		{"kill", Decision{Action: Kill, Rule: "late", Reason: "found"}, true},
		{"an action that does not exist", Decision{Action: 99}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got told
			watch := &watcher{decide: act(Hold)}
			r, w := connected(t, got.config(watch), nil)
			before := r.released[toOrigin]
			if err := r.feed(t, c(w.app(get))); err != nil {
				t.Fatal(err)
			}
			if r.released[toOrigin] != before {
				t.Fatal("a held request was released")
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				watch.seen[0].x.Decide(Decision{Action: Hold}) // no answer
				watch.seen[0].x.Decide(tt.d)
				watch.seen[0].x.Decide(Decision{Action: Kill, Rule: "second"})
				watch.seen[0].x.Decide(Decision{Action: Allow})
			})
			wg.Wait()
			if tt.killed {
				if len(got.kills) != 1 || got.kills[0].Direction != toOrigin || got.kills[0].Reason != frames.ReasonInspector {
					t.Fatalf("kills %v", got.kills)
				}
				if want := tt.d.Rule; want != "" && got.kills[0].Rule != want || got.kills[0].Detail != tt.d.Reason {
					t.Fatalf("kill %v", got.kills[0])
				}
				if _, err := r.tun.Feed(toClient, w.app(ok5)); !errors.Is(err, got.kills[0]) {
					t.Fatalf("Feed behind the kill: %v", err)
				}
				if got.release[toOrigin] != 0 || watch.seen[0].outcome.Killed == nil {
					t.Fatalf("released %d, outcome %+v", got.release[toOrigin], watch.seen[0].outcome)
				}
				return
			}
			if len(got.kills) > 0 || got.release[toOrigin] != r.fed[toOrigin] {
				t.Fatalf("kills %v, released %d of %d", got.kills, got.release[toOrigin], r.fed[toOrigin])
			}
			r.released[toOrigin] = got.release[toOrigin]
			calls := watch.seen[0].calls
			watch.seen[0].decide = nil
			r.passes(t, o(w.app(ok5)))
			if again := watch.seen[0].calls > calls; again == (tt.d.Action == Done) {
				t.Fatalf("called again: %v", again)
			}
		})
	}
}

// Decide inside a call answers the Hold that the call is about to return.
func TestDecideInsideACallDoesNotDeadlock(t *testing.T) {
	for _, a := range []Action{Allow, Done, Kill} {
		watch := &watcher{decide: func(x *Exchange, _ frames.Direction, _ Part) Decision {
			x.Decide(Decision{Action: a, Rule: "inside"})
			return Decision{Action: Hold}
		}}
		var got told
		r, w := connected(t, got.config(watch), nil)
		if a == Kill {
			err := r.feed(t, c(w.app(get)))
			var kill *KillError
			if !errors.As(err, &kill) || kill.Rule != "inside" || len(got.kills) != 0 {
				t.Fatalf("err %v, kills %v", err, got.kills)
			}
			continue
		}
		r.passes(t, c(w.app(get)), o(w.app(ok5)))
	}
}

// So does another goroutine's answer that comes while the call is still running.
func TestDecideBeforeTheHoldIsReturned(t *testing.T) {
	watch := &watcher{decide: only(toOrigin, func(x *Exchange, _ Part) Decision {
		decided := make(chan struct{})
		go func() {
			defer close(decided)
			x.Decide(Decision{Action: Allow})
		}()
		<-decided
		return Decision{Action: Hold}
	})}
	var got told
	r, w := connected(t, got.config(watch), nil)
	r.passes(t, c(w.app(get)), o(w.app(ok5)))
}

// Each Inspection answers for itself.
func TestDecideOfOneInspectorReleasesNoOthersHold(t *testing.T) {
	one, two := &watcher{decide: act(Hold)}, &watcher{decide: act(Hold)}
	var got told
	r, w := connected(t, got.config(one, two), nil)
	if err := r.feed(t, c(w.app(get))); err != nil {
		t.Fatal(err)
	}
	one.seen[0].x.Decide(Decision{Action: Allow})
	one.seen[0].x.Decide(Decision{Action: Allow})
	if got.release[toOrigin] != 0 {
		t.Fatal("released what the second inspector holds")
	}
	two.seen[0].x.Decide(Decision{Action: Allow})
	if got.release[toOrigin] != r.fed[toOrigin] {
		t.Fatalf("released %d of %d", got.release[toOrigin], r.fed[toOrigin])
	}
}

// An answer for one direction's Part, given inside the other's Feed, is told by another goroutine: the
// caller of Feed may hold what Release takes.
func TestReleaseIsNotCalledInsideFeed(t *testing.T) {
	watch := &watcher{decide: func(x *Exchange, d frames.Direction, p Part) Decision {
		if d == toClient {
			x.Decide(Decision{Action: Done})
			return Decision{}
		}
		if p.Head == nil {
			return Decision{Action: Hold}
		}
		return Decision{}
	}}
	var got told
	r, w := connected(t, got.config(watch), nil)
	r.passes(t, c(w.app(post("Content-Length: 6\r\n", ""))))
	if err := r.feed(t, c(w.app("abc"))); err != nil {
		t.Fatal(err)
	}
	got.mu.Lock() // as the caller's lock
	if err := r.feed(t, o(w.app("HTTP/1.1 200 OK\r\n\r\n"))); err != nil {
		t.Fatal(err)
	}
	got.mu.Unlock()
	r.tun.Close(nil)
	r.tun.Wait()
	if got.released(toOrigin) != r.fed[toOrigin] {
		t.Fatalf("released %d of %d", got.released(toOrigin), r.fed[toOrigin])
	}
}

// spec: RDR-27
func TestHeldBytes(t *testing.T) {
	for _, pass := range []bool{false, true} {
		watch := &watcher{decide: only(toClient, func(_ *Exchange, p Part) Decision { return Decision{Action: Hold} })}
		var got told
		cfg := got.config(watch)
		cfg.Limits = Limits{HeldBytes: 50_000, HoldPass: pass}
		r, w := connected(t, cfg, nil)
		r.passes(t, c(w.app(get)))
		if err := r.feed(t, o(w.app("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"))); err != nil {
			t.Fatal(err)
		}
		var err error
		for i := 0; i < 10 && err == nil; i++ {
			if err = r.feed(t, o(w.app(strings.Repeat("x", 10_000)))); err != nil {
				break
			}
			if held := r.fed[toClient] - r.released[toClient]; held > 50_000 {
				t.Fatalf("%d bytes are held", held)
			}
		}
		if !pass {
			kills(t, err, RuleHeldBytes)
			continue
		}
		if err != nil || r.released != r.fed {
			t.Fatalf("err %v, released %v of %v", err, r.released, r.fed)
		}
	}
}

// A header section in records of one byte costs its sender's records, too.
func TestHeldBytesOfAnIncompleteHead(t *testing.T) {
	r, w := connected(t, config(), nil)
	var err error
	for i := 0; i < 60_000 && err == nil; i++ {
		err = r.feed(t, c(w.app("x")))
	}
	kills(t, err, RuleHeldBytes)
}

// pass lets d pass on the clock of a synctest bubble.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// spec: RDR-27
func TestHoldTime(t *testing.T) {
	for _, release := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			watch := &watcher{decide: only(toOrigin, func(*Exchange, Part) Decision { return Decision{Action: Hold} })}
			var got told
			cfg := got.config(watch)
			cfg.Limits.HoldPass = release
			r, w := connected(t, cfg, nil)
			if err := r.feed(t, c(w.app(get))); err != nil {
				t.Fatal(err)
			}
			pass(30*time.Second - 1)
			if len(got.kills) > 0 || got.released(toOrigin) > 0 {
				t.Fatal("too early")
			}
			pass(1)
			if release {
				if got.released(toOrigin) != r.fed[toOrigin] || len(got.kills) > 0 {
					t.Fatalf("released %d of %d, kills %v", got.released(toOrigin), r.fed[toOrigin], got.kills)
				}
			} else if len(got.kills) != 1 || got.kills[0].Rule != RuleHoldTimeout || got.kills[0].Reason != frames.ReasonLimit {
				t.Fatalf("kills %v", got.kills)
			}
			r.tun.Close(nil)
			r.tun.Wait()
		})
	}
}

// The clock of one hold does not run on into the next.
func TestHoldTimeStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		watch := &watcher{decide: act(Hold)}
		var got told
		r, w := connected(t, got.config(watch), nil)
		for i := range 3 {
			if err := r.feed(t, c(w.app(get))); err != nil {
				t.Fatal(err)
			}
			pass(20 * time.Second)
			watch.seen[i].x.Decide(Decision{Action: Done})
			r.released[toOrigin] = got.released(toOrigin)
			r.passes(t, o(w.app(ok5)))
		}
		if len(got.kills) > 0 {
			t.Fatal(got.kills[0])
		}
		// Closing with the clock running stops it.
		if err := r.feed(t, c(w.app(get))); err != nil {
			t.Fatal(err)
		}
		r.tun.Close(nil)
		r.tun.Wait()
		pass(time.Minute)
		if len(got.kills) > 0 {
			t.Fatal(got.kills[0])
		}
	})
}

// spec: RDR-28
func TestInspectorKills(t *testing.T) {
	long := strings.Repeat("é", 200)
	for _, tt := range []struct {
		name, rule, reason, wantRule, wantReason string
	}{
		{"named", "no-secrets", "a secret", "no-secrets", "a secret"},
		{"unnamed", "", "", RuleInspector, ""},
		{"long", long, long, strings.Repeat("é", 32), strings.Repeat("é", 128)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			watch := &watcher{decide: only(toClient, func(_ *Exchange, p Part) Decision {
				if strings.Contains(p.Body.String(), "secret") {
					return Decision{Action: Kill, Rule: tt.rule, Reason: tt.reason}
				}
				return Decision{}
			})}
			second := new(watcher)
			cfg := config()
			cfg.Inspectors = judges(watch, second)
			r, w := connected(t, cfg, nil)
			r.passes(t, c(w.app(get)), o(w.app("HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n"), w.app("harmless ")))
			before := r.released
			err := r.feed(t, o(w.app("the secret")))
			var kill *KillError
			if !errors.As(err, &kill) || kill.Rule != tt.wantRule || kill.Detail != tt.wantReason ||
				kill.Direction != toClient || kill.Reason != frames.ReasonInspector {
				t.Fatalf("err %+v", err)
			}
			if r.released != before {
				t.Fatal("bytes left behind the kill")
			}
			for _, e := range []*exchangeSeen{watch.seen[0], second.seen[0]} {
				if e.outcome == nil || e.outcome.Killed == nil || e.outcome.Killed.Rule != tt.wantRule || !errors.Is(e.outcome.Err, kill) {
					t.Fatalf("outcome %+v", e.outcome)
				}
			}
			r.tun.Close(nil)
		})
	}
}

// picky is interested in nothing; the exchange then costs no copies.
type picky struct{ asked int }

func (p *picky) Begin(*Exchange) Inspection {
	p.asked++
	return nil
}

func TestNobodyInterested(t *testing.T) {
	p := new(picky)
	cfg := config()
	cfg.Inspectors = judges(p)
	r, w := connected(t, cfg, nil)
	// Not even a body that says gzip and is none is decoded.
	r.passes(t, c(w.app(get)), o(w.app("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello")))
	if p.asked != 1 {
		t.Fatalf("asked %d times", p.asked)
	}
}

// Heads are copies: what one inspector writes into its own, no other sees.
func TestHeadsAreCopies(t *testing.T) {
	vandal := &watcher{decide: func(_ *Exchange, _ frames.Direction, p Part) Decision {
		if p.Head != nil {
			for k, v := range p.Head.Header {
				v[0] = "changed"
				delete(p.Head.Header, k)
			}
			p.Head.Path = "/changed"
		}
		for _, v := range p.Trailer {
			v[0] = "changed"
		}
		return Decision{}
	}}
	second := new(watcher)
	cfg := config()
	cfg.Inspectors = judges(vandal, second)
	r, w := connected(t, cfg, nil)
	r.passes(t, c(w.app("GET / HTTP/1.1\r\nHost: origin.example\r\nx-a: b\r\n\r\n")),
		o(w.app("HTTP/1.1 200 OK\r\nX-C: d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-E: f\r\n\r\n")))
	e := second.seen[0]
	request, response := e.msgs[toOrigin][0], e.msgs[toClient][0]
	if request.head.Path != "/" || request.head.Header.Get("X-A") != "b" || request.head.Header.Get("Host") != "" ||
		response.head.Header.Get("X-C") != "d" || response.trailer.Get("X-E") != "f" {
		t.Fatalf("%v", e)
	}
}

// What is held when its direction is cut can never be decided by its end.
func TestCutInsideWhatIsHeld(t *testing.T) {
	for _, end := range []func(w *wire) []step{
		func(w *wire) []step { return []step{originEnds()} },
		func(w *wire) []step { return []step{o(w.closeNotify())} },
		func(w *wire) []step { return []step{o(w.alert(80))} },
	} {
		watch := &watcher{decide: only(toClient, func(_ *Exchange, p Part) Decision {
			if p.End {
				return Decision{}
			}
			return Decision{Action: Hold}
		})}
		cfg := config()
		cfg.Inspectors = judges(watch)
		r, w := connected(t, cfg, nil)
		r.passes(t, c(w.app(get)))
		if err := r.feed(t, o(w.app(ok5[:len(ok5)-1]))); err != nil {
			t.Fatal(err)
		}
		kills(t, r.all(t, end(w)...), RuleTruncated)
	}
}

// Both directions and many goroutines at once: no deadlock, no race, every byte released in the end.
func TestConcurrentDecisions(t *testing.T) {
	const exchanges = 50
	var wg sync.WaitGroup
	later := &watcher{decide: func(x *Exchange, d frames.Direction, p Part) Decision {
		wg.Go(func() { x.Decide(Decision{Action: Allow}) })
		return Decision{Action: Hold}
	}}
	cfg := config()
	cfg.Inspectors = judges(later, later)
	var released [2]int64
	var mu sync.Mutex
	changed := sync.NewCond(&mu)
	note := func(d frames.Direction, upTo int64) {
		mu.Lock()
		released[d] = max(released[d], upTo)
		changed.Broadcast()
		mu.Unlock()
	}
	cfg.Release = note
	tun := NewTunnel(cfg)
	w := newWire()
	var fed [2]int64
	feed := func(s step) {
		release, err := tun.Feed(s.dir, s.p)
		if err != nil {
			t.Error(err)
		}
		note(s.dir, release)
		mu.Lock()
		fed[s.dir] += int64(len(s.p))
		for released[s.dir] < fed[s.dir] {
			changed.Wait()
		}
		mu.Unlock()
	}
	for _, s := range w.handshake() {
		feed(s)
	}
	for range exchanges {
		feed(c(w.app(post("Content-Length: 3\r\n", "a"))))
		var both sync.WaitGroup
		body, response := c(w.app("bc")), o(w.app(ok5))
		both.Go(func() { feed(body) })
		both.Go(func() { feed(response) })
		both.Wait()
	}
	wg.Wait()
	tun.Close(nil)
	tun.Wait()
	if len(later.seen) != 2*exchanges {
		t.Fatalf("%d inspections", len(later.seen))
	}
}

// An inspector may hold a lock of its own around Decide, and take it in its methods.
func TestDecideUnderTheInspectorsOwnLock(t *testing.T) {
	var own sync.Mutex
	var wg sync.WaitGroup
	watch := &watcher{decide: func(x *Exchange, _ frames.Direction, _ Part) Decision {
		own.Lock()
		defer own.Unlock()
		wg.Go(func() {
			own.Lock()
			defer own.Unlock()
			x.Decide(Decision{Action: Allow})
		})
		return Decision{Action: Hold}
	}}
	var got told
	cfg := got.config(watch)
	cfg.Limits.HeldBytes = 1 << 30
	r, w := connected(t, cfg, nil)
	if err := r.feed(t, c(w.app(get))); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	r.released[toOrigin] = got.released(toOrigin)
	if err := r.feed(t, o(w.app("HTTP/1.1 200 OK\r\n\r\n"))); err != nil {
		t.Fatal(err)
	}
	record := w.app("x")
	var release int64
	for range 5000 {
		var err error
		if release, err = r.tun.Feed(toClient, record); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	r.tun.Close(nil)
	r.tun.Wait()
	if want := r.fed[toClient] + 5000*int64(len(record)); max(release, got.released(toClient)) != want {
		t.Fatalf("released %d and %d of %d", release, got.released(toClient), want)
	}
}

// Marks of held records merge: memory does not grow with the number of records.
func TestHeldRecordsCostNoMemoryEach(t *testing.T) {
	watch := &watcher{decide: only(toClient, func(*Exchange, Part) Decision { return Decision{Action: Hold} })}
	var got told
	r, w := connected(t, got.config(watch), nil)
	r.passes(t, c(w.app(get)))
	if err := r.feed(t, o(w.app("HTTP/1.1 200 OK\r\n\r\n"), bytes.Repeat(w.app("x"), 10_000))); err != nil {
		t.Fatal(err)
	}
	if n := len(r.tun.sides[toClient].marks); n > 3 {
		t.Fatalf("%d marks", n)
	}
	watch.seen[0].x.Decide(Decision{Action: Allow})
	if got.release[toClient] != r.fed[toClient] {
		t.Fatalf("released %d of %d", got.release[toClient], r.fed[toClient])
	}
}

func ExampleExchange_Decide() {
	scan := make(chan *Exchange, 1)
	slow := inspectorFunc(func(x *Exchange) Inspection { return &slowInspection{x: x, scan: scan} })
	tun := NewTunnel(&Config{
		Authority: authority, Nonce: [32]byte{1, 2, 3}, Proxies: [][32]byte{{7, 7, 7}},
		Inspectors: judges(slow),
		Release:    func(d frames.Direction, upTo int64) { fmt.Println("released,", d) },
	})
	w := newWire()
	for _, s := range append(w.handshake(), c(w.app(get))) {
		if _, err := tun.Feed(s.dir, s.p); err != nil {
			fmt.Println(err)
		}
	}
	(<-scan).Decide(Decision{Action: Done})
	tun.Close(nil)
	// Output: released, to origin
}

type inspectorFunc func(x *Exchange) Inspection

func (f inspectorFunc) Begin(x *Exchange) Inspection { return f(x) }

type slowInspection struct {
	x    *Exchange
	scan chan *Exchange
}

func (s *slowInspection) Request(p Part) Decision {
	s.scan <- s.x
	return Decision{Action: Hold}
}
func (s *slowInspection) Response(Part) Decision { return Decision{} }
func (s *slowInspection) Close(Outcome)          {}
