package inspect

import (
	"errors"
	"testing"

	"vitrine/frames"
)

// An exchange is judged to its end by those of its request head, whatever Inspectors says meanwhile.
//
// spec: PRX-37
func TestInspectorsAreThoseOfTheRequestHead(t *testing.T) {
	first, second := new(watcher), new(watcher)
	now, asked := judges(first), 0
	cfg := config()
	cfg.Inspectors = func() []Inspector {
		asked++
		return now()
	}
	r, w := connected(t, cfg, nil)
	if asked != 0 {
		t.Errorf("asked %d times before a request", asked)
	}
	message := post("Content-Length: 6\r\n", "abc")
	if err := r.feed(t, c(w.app(message[:20]))); err != nil || asked != 0 {
		t.Fatalf("half a head: asked %d times, %v", asked, err)
	}
	now = judges(second, first)
	r.passes(t, c(w.app(message[20:])))
	now = judges()
	r.passes(t, c(w.app("def")), o(w.app(ok5)))
	if asked != 1 || len(first.seen) != 1 || len(second.seen) != 1 {
		t.Fatalf("asked %d times, %d and %d exchanges seen", asked, len(first.seen), len(second.seen))
	}
	for i, watch := range []*watcher{first, second} {
		e := watch.seen[0]
		if body := string(e.msgs[toOrigin][0].body); body != "abcdef" || len(e.msgs[toClient]) != 1 || e.outcome == nil {
			t.Errorf("%d saw %q and %d responses", i, body, len(e.msgs[toClient]))
		}
	}
	r.passes(t, c(w.app(get)), o(w.app(ok5)))
	if asked != 2 || len(first.seen) != 1 || len(second.seen) != 1 {
		t.Errorf("asked %d times, %d and %d exchanges seen", asked, len(first.seen), len(second.seen))
	}
}

// Nothing of a request that is not admitted leaves, no inspector is asked about it and no log has it; what
// passed before it stays.
//
// spec: PRX-38
func TestARequestThatIsNotAdmitted(t *testing.T) {
	refusal := &KillError{Reason: frames.ReasonPolicy, Rule: "not-here"}
	var admit *KillError
	watch := new(watcher)
	var logs []Passed
	cfg := config()
	cfg.Inspectors = judges(watch)
	cfg.Admit = func() *KillError { return admit }
	cfg.Log = func(p Passed) { logs = append(logs, p) }
	r, w := connected(t, cfg, nil)
	r.passes(t, c(w.app(post("Content-Length: 6\r\n", "abc"))))
	admit = refusal
	r.passes(t, c(w.app("def")), o(w.app(ok5))) // the exchange had begun
	before := r.released
	err := r.feed(t, c(w.app(get)))
	var kill *KillError
	if !errors.As(err, &kill) || kill != refusal {
		t.Fatalf("err %v", err)
	}
	r.tun.Close(err)
	if r.released != before || len(watch.seen) != 1 || len(logs) != 1 || logs[0].Err != nil {
		t.Errorf("released %v, had %v; %d exchanges seen, %v logged", r.released, before, len(watch.seen), logs)
	}
}

// spec: RDR-33
func TestAPanicOfWhoNamesTheInspectorsKillsTheTunnel(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"Admit":      func(cfg *Config) { cfg.Admit = func() *KillError { panic("a bug") } },
		"Inspectors": func(cfg *Config) { cfg.Inspectors = func() []Inspector { panic("a bug") } },
	} {
		cfg := config()
		change(cfg)
		r, w := connected(t, cfg, nil)
		before := r.released
		kills(t, r.feed(t, c(w.app(get))), RulePanic)
		if r.released != before {
			t.Errorf("%s: released %v, had %v", name, r.released, before)
		}
		r.tun.Close(nil)
	}
}
