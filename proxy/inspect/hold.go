package inspect

import (
	"time"

	"vitrine/frames"
)

// A watch is one Inspection of one exchange.
type watch struct {
	t    *Tunnel
	in   Inspection
	done bool     // it is not called again, but for Close
	hold [2]int64 // per direction, the application offset from which nothing leaves, or -1

	// Guarded by t.answer, because Decide may be called where t.mu is held.
	awaits   bool // a call of it is running, or it holds: an answer counts
	answered bool
	answer   Decision
	covers   [2]bool // the directions that an Allow is for
	partial  bool    // it came from Release, and Decide may replace it
}

// judges asks whether an exchange may begin, and who judges it.
func (t *Tunnel) judges() (inspectors []Inspector, kill *KillError) {
	defer recovered(frames.ToOrigin, &kill)
	if t.cfg.Admit != nil {
		if kill := t.cfg.Admit(); kill != nil {
			return nil, kill
		}
	}
	if t.cfg.Inspectors == nil {
		return nil, nil
	}
	return t.cfg.Inspectors(), nil
}

// watch asks in whether it wants the exchange.
func (t *Tunnel) watch(in Inspector) (kill *KillError) {
	defer recovered(frames.ToOrigin, &kill)
	w := &watch{t: t, hold: [2]int64{-1, -1}}
	x := &Exchange{
		ID: t.x.id, Started: t.x.started, Authority: t.cfg.Authority,
		Client: t.cfg.Client, Proxy: t.cfg.Proxy, Origin: t.cfg.Origin, Mode: t.mode(), watch: w,
	}
	if w.in = in.Begin(x); w.in != nil {
		t.x.watches = append(t.x.watches, w)
	}
	return nil
}

// watched says whether an Inspection still wants to see the exchange.
func (t *Tunnel) watched() bool {
	for _, w := range t.x.watches {
		if !w.done {
			return true
		}
	}
	return false
}

// show gives p to each Inspection. A hold begins at s.boundary, where the part does. Heads are copied for
// each, because their receivers may write to them.
func (t *Tunnel) show(s *side, p Part) *KillError {
	head, trailer := p.Head, p.Trailer
	for _, w := range t.x.watches {
		if w.done {
			continue
		}
		if head != nil {
			h := *head
			h.Header = h.Header.Clone()
			p.Head = &h
		}
		p.Trailer = trailer.Clone()
		if err := t.ask(s, w, p); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tunnel) ask(s *side, w *watch, p Part) *KillError {
	// An answer that came before this Part does not cover it.
	if err := t.apply(w); err != nil || w.done {
		return err
	}
	t.answer.Lock()
	w.awaits = true
	t.answer.Unlock()
	d, kill := w.call(s.dir, p)
	if kill != nil {
		return kill
	}
	switch d.Action {
	case Allow:
		w.hold[s.dir] = -1
	case Done:
		t.dismiss(w)
	case Hold:
		if w.hold[s.dir] < 0 {
			w.hold[s.dir] = s.boundary
		}
	default:
		return s.decided(d)
	}
	return t.apply(w)
}

func (w *watch) call(dir frames.Direction, p Part) (d Decision, kill *KillError) {
	defer recovered(dir, &kill)
	if dir == frames.ToOrigin {
		return w.in.Request(p), nil
	}
	return w.in.Response(p), nil
}

// decided is the kill that d asks for. An Action that does not exist is one, too.
func (s *side) decided(d Decision) *KillError {
	k := &KillError{
		Reason: frames.ReasonInspector, Direction: s.dir,
		Rule: cut(d.Rule, maxRule), Detail: cut(d.Reason, maxReason),
	}
	if k.Rule == "" {
		k.Rule = RuleInspector
	}
	return k
}

// dismiss ends the part of w in the exchange.
func (t *Tunnel) dismiss(w *watch) {
	w.done = true
	w.hold = [2]int64{-1, -1}
}

// apply carries out the answer that w got, if any, and settles whether it awaits one still.
func (t *Tunnel) apply(w *watch) *KillError {
	t.answer.Lock()
	answered, d, covers := w.answered, w.answer, w.covers
	w.answered, w.answer, w.covers, w.partial = false, Decision{}, [2]bool{}, false
	held := w.hold
	switch {
	case !answered:
	case d.Action == Allow:
		for dir, covered := range covers {
			if covered {
				w.hold[dir] = -1
			}
		}
	case d.Action == Done:
		t.dismiss(w)
	}
	w.awaits = w.hold[0] >= 0 || w.hold[1] >= 0
	t.answer.Unlock()
	if !answered || d.Action == Allow || d.Action == Done {
		return nil
	}
	s := &t.sides[frames.ToOrigin]
	if held[frames.ToOrigin] < 0 && held[frames.ToClient] >= 0 {
		s = &t.sides[frames.ToClient]
	}
	return s.decided(d)
}

// applyAll carries out the answers that came while t.mu was held.
func (t *Tunnel) applyAll() *KillError {
	t.answer.Lock()
	t.answers = false
	t.answer.Unlock()
	if t.x == nil {
		return nil
	}
	for _, w := range t.x.watches {
		if err := t.apply(w); err != nil {
			return err
		}
	}
	return nil
}

// answered says whether an answer waits for a holder of t.mu.
func (t *Tunnel) answered() bool {
	t.answer.Lock()
	defer t.answer.Unlock()
	return t.answers
}

// close closes the Inspection, and makes later answers do nothing.
func (w *watch) close(o Outcome) (kill *KillError) {
	w.done = true
	w.t.answer.Lock()
	w.awaits, w.answered = false, false
	w.t.answer.Unlock()
	defer recovered(frames.ToClient, &kill)
	w.in.Close(o)
	return nil
}

// decide is Exchange.Decide, and Exchange.Release where partial is set.
func (w *watch) decide(d Decision, covers [2]bool, partial bool) {
	t := w.t
	t.answer.Lock()
	if d.Action == Hold || !w.awaits || w.answered && !w.partial {
		t.answer.Unlock()
		return
	}
	if partial {
		covers = [2]bool{covers[0] || w.covers[0], covers[1] || w.covers[1]}
	}
	w.answered, w.answer, w.covers, w.partial = true, d, covers, partial
	t.answers = true
	t.answer.Unlock()
	// Waiting for t.mu could be waiting for oneself: this may run inside a call of an Inspection, or hold
	// a lock that such a call waits for. Whoever has t.mu looks for answers after letting go of it.
	if !t.mu.TryLock() {
		return
	}
	if t.err() != nil {
		t.mu.Unlock()
		return
	}
	t.calls.Add(1)
	defer t.calls.Done()
	t.deliver(t.unlock(t.applyAll()))
}

// holding starts and stops the clock of Limits.HoldTime.
func (t *Tunnel) holding() {
	held := false
	if t.x != nil {
		for _, w := range t.x.watches {
			held = held || w.hold[0] >= 0 || w.hold[1] >= 0
		}
	}
	switch {
	case held && t.timer == nil:
		t.calls.Add(1)
		t.timed++
		serial := t.timed
		t.timer = time.AfterFunc(t.limits.HoldTime, func() {
			defer t.calls.Done()
			t.expire(serial)
		})
	case !held && t.timer != nil:
		if t.timer.Stop() {
			t.calls.Done()
		}
		t.timer = nil
	}
}

// expire ends the holds that outlasted HoldTime. serial is that of the timer that went off, which may
// have been stopped too late.
func (t *Tunnel) expire(serial uint64) {
	t.mu.Lock()
	if t.err() != nil {
		t.mu.Unlock()
		return
	}
	if t.timer == nil || t.timed != serial {
		t.deliver(t.unlock(nil))
		return
	}
	t.timer = nil
	err := t.applyAll()
	if err == nil && t.x != nil {
		for _, w := range t.x.watches {
			for _, s := range []*side{&t.sides[0], &t.sides[1]} {
				if w.hold[s.dir] < 0 {
					continue
				}
				if t.limits.HoldPass {
					t.dismiss(w)
				} else {
					err = s.kill(RuleHoldTimeout, "held for %v", t.limits.HoldTime)
				}
			}
		}
	}
	t.deliver(t.unlock(err))
}
