package policy

import (
	"cmp"
	"context"
	"slices"

	"cel.dev/cel-go/cel"
)

// check warns of rules that do not do what one might think.
func (p *Policy) check(ps *problems) {
	for unknown := range p.patterns {
		p.patterns[unknown] = unknownPatterns(need(unknown))
	}
	p.unreachable(ps)
	p.late(ps)
	p.streams(ps)
	p.continues(ps)
	slices.SortStableFunc(ps.warnings, func(a, b Warning) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// unreachable warns of rules that no exchange gets to, or that say nothing.
func (p *Policy) unreachable(ps *problems) {
	nothing := facts{request: &request{}, response: &response{}, unknown: everything, patterns: p.patterns[everything|wholeRequest]}
	var always *rule
	lastKill := p.lastKill()
	for i, r := range p.rules {
		s, _ := r.evaluate(context.Background(), &nothing)
		switch {
		case always != nil:
			ps.warn(r.at, r.id, "is never reached: %s before it decides every exchange", always.id)
		case r.ends(s):
			always = r
			if r.kill {
				ps.warn(r.at, r.id, "kills every exchange that comes to it")
			}
		case s != undecided:
			ps.warn(r.at, r.id, "never matches")
		case i > lastKill:
			ps.warn(r.at, r.id, "changes nothing: it allows, and no rule behind it kills")
		}
	}
}

// late warns of kills that could keep a request from the origin, and do not.
func (p *Policy) late(ps *problems) {
	for i, r := range p.rules {
		if !r.kill || r.sees&ofResponse != 0 {
			continue
		}
		for _, before := range p.rules[:i] {
			if !before.kill && before.sees&ofResponse != 0 {
				ps.warn(r.at, r.id, "looks at the request alone, but %s before it allows by the response: the request will have left", before.id)
				break
			}
		}
	}
}

// streams warns of rules that hold a response which has no end.
func (p *Policy) streams(ps *problems) {
	const name, events = "content-type", "text/event-stream"
	h := map[string]string{name: events}
	stream := facts{request: &request{}, response: &response{Status: 200, Headers: h, First: h}}
	stream.unknown = ofRequest | responseBody | responseSize
	stream.patterns = p.patterns[stream.unknown|wholeRequest]
	for _, r := range p.rules {
		s, needs := r.evaluate(context.Background(), &stream)
		if s == undecided && needs&(responseBody|responseSize) != 0 {
			ps.warn(r.at, r.id, "holds event streams (%s) until %d bytes came or the tunnel's time for holding is over; exclude them by their content-type", events, p.scan)
		}
		if s == yes {
			return
		}
	}
}

// continues warns of rules that hold a request whose client sends its body when it is told to.
func (p *Policy) continues(ps *problems) {
	unknown := facts{request: &request{}, response: &response{}, unknown: everything, patterns: p.patterns[everything]}
	for _, field := range []string{"host", "method", "path", "query", "headers", fieldFirst} {
		unknown.patterns = append(slices.Clip(unknown.patterns), cel.AttributePattern(nameRequest).QualString(field))
	}
	for _, r := range p.rules[:p.lastKill()+1] {
		if r.expect {
			return
		}
		s, needs := r.evaluate(context.Background(), &unknown)
		if s == undecided && needs&requestBody != 0 {
			ps.warn(r.at, r.id, "holds a request until its body is there; a client that sent Expect: 100-continue waits for an answer first, most of them a second, and is killed if it waits on")
		}
		if s == yes {
			return
		}
	}
}

// lastKill is the last rule that kills, -1 for none.
func (p *Policy) lastKill() int {
	for i, r := range slices.Backward(p.rules) {
		if r.kill {
			return i
		}
	}
	return -1
}
