package policy

import (
	"context"
	"sync"

	"vitrine/frames"
	"vitrine/proxy/inspect"
)

const (
	// slowWork is what an evaluation may take here. Beyond, it would keep the tunnel's lock and the hop's
	// goroutine, and so every other tunnel of the hop, for more than some 100 µs. It is counted in bytes that
	// a rule goes through: once, for each state of a pattern, and macroWork times for each macro around that.
	slowWork  = 100_000
	macroWork = 32
	// ruleWork is what a rule takes without any text, and fieldWork what a field takes that is empty.
	ruleWork  = 2000
	fieldWork = 32
)

// inspector is the rules as an Inspector.
type inspector struct{ p *Policy }

// Begin implements [inspect.Inspector].
func (i inspector) Begin(x *inspect.Exchange) inspect.Inspection {
	return newInspection(i.p, x.Authority, x)
}

// An answerer is an *[inspect.Exchange].
type answerer interface {
	Decide(inspect.Decision)
	Release(frames.Direction)
}

// An inspection is the rules' view of one exchange.
type inspection struct {
	p         *Policy
	authority string
	x         answerer

	// The two are written by calls of the Inspection, and only there.
	cancel context.CancelFunc // of the last work
	idle   chan struct{}      // closed when that evaluates no more

	mu       sync.Mutex
	rules    judgement
	facts    facts
	fresh    bool    // facts has what the rules were not asked about
	working  bool    // another goroutine asks them
	released bool    // the request was let go
	request  message // what came of them
	response message
}

func newInspection(p *Policy, authority string, x answerer) *inspection {
	return &inspection{p: p, authority: authority, x: x, rules: make(judgement, len(p.rules)), request: message{both: true}}
}

// Request implements [inspect.Inspection].
func (in *inspection) Request(p inspect.Part) inspect.Decision {
	in.mu.Lock()
	defer in.mu.Unlock()
	if h := p.Head; h != nil {
		r := &request{Host: hostOf(in.authority), Method: h.Method, Path: h.Path, Query: h.Query}
		var size int
		r.Headers, r.First, size = headers(h.Header)
		in.facts.request, in.facts.text = r, in.facts.text+size+len(h.Path)+len(h.Query)
		in.request.begin(h.Size)
	}
	if in.read(&in.request, &p, requestBody) {
		r := *in.facts.request
		r.Body, r.Size = in.request.text.String(), in.request.size()
		in.facts.request = &r
		if in.request.coded {
			raw := r
			raw.Body = in.request.raw.String()
			in.facts.raw = &raw
		}
	}
	d, needs := in.judge()
	if d.Action != inspect.Hold {
		return d
	}
	// A hold on the request begins at its head or not at all, and no response begins before that has left.
	in.released = in.released || needs&ofRequest == 0
	if in.released {
		return inspect.Decision{Action: inspect.Allow}
	}
	return d
}

// Response implements [inspect.Inspection].
func (in *inspection) Response(p inspect.Part) inspect.Decision {
	in.mu.Lock()
	defer in.mu.Unlock()
	if h := p.Head; h != nil {
		if h.Status < 200 {
			return inspect.Decision{Action: inspect.Allow}
		}
		r := &response{Status: int64(h.Status)}
		var size int
		r.Headers, r.First, size = headers(h.Header)
		in.facts.response, in.facts.text = r, in.facts.text+size
		in.response.begin(h.Size)
	}
	if in.read(&in.response, &p, responseBody) {
		r := *in.facts.response
		r.Body, r.Size = in.response.text.String(), in.response.size()
		in.facts.response = &r
	}
	d, _ := in.judge()
	return d
}

// read adds a part to the message m, and says whether it tells the rules something new.
func (in *inspection) read(m *message, p *inspect.Part, body need) bool {
	before := m.text.Len() + m.raw.Len()
	if !m.add(p, in.p.scan, in.rules.mention(in.p.rules, body)) {
		return false
	}
	f := &in.facts
	f.text += m.text.Len() + m.raw.Len() - before
	f.unknown, f.lost = in.request.missing(requestBody, requestSize)
	if in.response.begun {
		unknown, lost := in.response.missing(responseBody, responseSize)
		f.unknown, f.lost = f.unknown|unknown, f.lost|lost
	} else {
		f.unknown |= ofResponse
	}
	f.patterns = in.p.patterns[f.unknown]
	in.fresh = true
	return true
}

// judge asks the rules about what is fresh, here or on another goroutine, and returns what they say; while
// that works, everything waits.
func (in *inspection) judge() (inspect.Decision, need) {
	if in.fresh && !in.working {
		if in.rules.slow(in.p.rules, &in.facts) {
			ctx, cancel := context.WithCancel(context.Background())
			in.working, in.cancel, in.idle = true, cancel, make(chan struct{})
			go in.work(ctx, in.idle)
		} else {
			in.fresh = false
			in.rules.ask(context.Background(), in.p.rules, &in.facts)
		}
	}
	if in.working {
		return inspect.Decision{Action: inspect.Hold}, everything
	}
	return in.rules.verdict(in.p.rules)
}

// work asks the rules until nothing is fresh, and then answers the hold. Close waits until idle is closed,
// and not for the answer: that may be what closes the exchange.
func (in *inspection) work(ctx context.Context, idle chan struct{}) {
	in.mu.Lock()
	for in.fresh && ctx.Err() == nil {
		in.fresh = false
		f, rules := in.facts, append(judgement(nil), in.rules...)
		in.mu.Unlock()
		rules.ask(ctx, in.p.rules, &f)
		in.mu.Lock()
		in.rules = rules
	}
	in.working = false
	d, needs := in.rules.verdict(in.p.rules)
	release := d.Action == inspect.Hold && !in.released && needs&ofRequest == 0
	in.released = in.released || release
	in.mu.Unlock()
	closed := ctx.Err() != nil
	close(idle)
	switch {
	case closed:
	case release:
		// When this is carried out, a response may be held already.
		in.x.Release(frames.ToOrigin)
	case d.Action != inspect.Hold:
		in.x.Decide(d)
	}
}

// Close implements [inspect.Inspection].
func (in *inspection) Close(inspect.Outcome) {
	if in.cancel != nil {
		in.cancel()
		<-in.idle
	}
}
