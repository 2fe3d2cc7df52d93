package policy

import (
	"context"
	"fmt"

	"vitrine/proxy/inspect"
)

// A judgement is what is known of each rule in one exchange.
type judgement []judged

type judged struct {
	state state
	asked bool
	needs need // while it is asked and undecided
}

// mention says whether a rule that is undecided mentions n.
func (j judgement) mention(rules []*rule, n need) bool {
	for i, r := range rules {
		if j[i].state == undecided && r.sees&n != 0 {
			return true
		}
	}
	return false
}

// ready says whether f may decide rule i.
func (j judgement) ready(i int, f *facts) bool {
	r := &j[i]
	return r.state == undecided && (!r.asked || r.needs&^f.unknown != 0 || r.needs&f.lost != 0)
}

// slow says whether asking the rules about f may take long.
func (j judgement) slow(rules []*rule, f *facts) bool {
	work := 0
	for i, r := range rules {
		if j.ready(i, f) {
			work += ruleWork + r.work*f.text
		}
	}
	return work > slowWork
}

// ask asks the rules about f, up to the first that settles the exchange. None is asked again once it is
// decided.
func (j judgement) ask(ctx context.Context, rules []*rule, f *facts) {
	for i, r := range rules {
		if j.ready(i, f) {
			j[i].state, j[i].needs = r.decide(ctx, f)
			j[i].asked = true
		}
		if r.ends(j[i].state) {
			return
		}
	}
}

// ends says whether no rule behind r counts when r is in the state s.
func (r *rule) ends(s state) bool { return s == yes || r.kill && s > yes }

// verdict is what the rules say so far: a Kill, Done, or Hold where a rule that matters is not decided; needs
// is then what such rules wait for.
func (j judgement) verdict(rules []*rule) (d inspect.Decision, needs need) {
	var all need     // what undecided rules wait for
	var matters need // the same, without those behind which nothing kills
	allow := false   // an undecided rule allows
	for i, r := range rules {
		switch s := j[i].state; {
		case s == undecided:
			all |= j[i].needs
			allow = allow || !r.kill
			if r.kill {
				matters = all
			}
		case r.ends(s) && !r.kill:
			return waitFor(matters)
		case r.ends(s) && allow:
			return waitFor(all)
		case r.ends(s):
			return r.killed(s), 0
		}
	}
	return waitFor(matters)
}

func waitFor(needs need) (inspect.Decision, need) {
	if needs == 0 {
		return inspect.Decision{Action: inspect.Done}, 0
	}
	return inspect.Decision{Action: inspect.Hold}, needs
}

// killed is the decision of a kill rule in the state s. It repeats nothing of the evaluation's error, which
// quotes what was seen.
func (r *rule) killed(s state) inspect.Decision {
	d := inspect.Decision{Action: inspect.Kill, Rule: RuleError}
	switch s {
	case yes:
		d.Rule, d.Reason = r.id, r.reason
	case unreadable:
		d.Rule = RuleUnreadable
		d.Reason = fmt.Sprintf("rule %s needs a body in a content coding that is not undone here", r.id)
	case costly:
		d.Reason = fmt.Sprintf("rule %s costs too much to evaluate here", r.id)
	default:
		d.Reason = fmt.Sprintf("rule %s cannot be evaluated here", r.id)
	}
	return d
}
