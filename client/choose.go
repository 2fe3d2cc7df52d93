package client

import (
	"context"
	"fmt"
	"slices"

	"vitrine/internal/fields"
)

// An Offer is what a user may be asked when a proxy refuses with 470 (Inspection Required) and no accepted level
// can be had. Names in it are chosen by others than the user; they are printable.
type Offer struct {
	Authority     string   // host:port of the origin
	ProxyName     string   // the name that was verified on hop 1
	ProxyRootSPKI [32]byte // SHA-256 of the SubjectPublicKeyInfo of the proxy's root
	Accepted      []Level
	// Choices are the levels that can really be had now, what gives away least first. Never empty.
	Choices []Choice
	Why     string // why no accepted level can be had: one line
	// Justified says that evidence shows the origin itself to speak no inner sessions. Otherwise it may be the
	// proxy's doing.
	Justified bool
	// Worked says that the authority was reached before at a level that cannot be had now: at intact, or with
	// signed responses. Who can make a proxy forget that could have every user read at less.
	Worked bool
	// Fields names the credentials that the request carries, as a [ConsentRequest] does.
	Fields []string
	// Evidence is what the proxy showed; nil when it showed none.
	Evidence *EvidenceReport
}

// A Choice is a level that can be had, and what it gives away.
type Choice struct {
	Level Level
	Words string
}

// choiceWords says what a level gives away, as a user is told who has to choose one.
func choiceWords(l Level, name, authority string) string {
	switch l {
	case Attested:
		return fmt.Sprintf("%s reads everything and could change everything, in both directions, and you would not notice. The key of %s answered for this proxy: it does have a connection to the real one.", name, authority)
	case Claimed:
		return fmt.Sprintf("%s reads everything and could change everything, in both directions, and you would not notice. That it speaks with %s at all is its word alone.", name, authority)
	case Blind:
		return fmt.Sprintf("%s carries it sealed: it learns that you speak with %s, when and how much, and can read and change nothing.", name, authority)
	}
	return l.Words()
}

// belowIntact decides what follows a refusal: Blind, Direct, or the level of a route.
func (d *Dialer) belowIntact(ctx context.Context, s *session, a *attempt, r *refusal) (Level, error) {
	if a.chosen == "" && a.accepts(Intact) {
		switch {
		case d.reached(a.authority, Intact):
			// Who can make a proxy forget intact could otherwise have every user read at less.
			return d.choose(ctx, s, a, r, "it was reached at intact before, so less than that is the user's to judge", true)
		case !r.justified:
			return d.choose(ctx, s, a, r, r.why, false)
		}
	}
	below := r.level()
	switch {
	case a.carriesAt(below):
		return below, nil
	case a.accepts(Blind) && (r.offers(fields.Blind) || r.served):
		return Blind, nil
	case a.accepts(Direct):
		return Direct, nil
	}
	return d.choose(ctx, s, a, r, r.why, false)
}

// carriesAt says whether an exchange on a route of level l can come to a level that is accepted.
func (a *attempt) carriesAt(l Level) bool {
	switch l {
	case Attested:
		return a.accepts(Attested) || a.accepts(Signed)
	case Claimed:
		return a.accepts(Claimed)
	}
	return false
}

// choose asks the user, where there is something to choose and somebody to ask. why is why there is need to.
func (d *Dialer) choose(ctx context.Context, s *session, a *attempt, r *refusal, why string, worked bool) (Level, error) {
	// Who accepts intact and is told that it may be the proxy's doing has to ask for less alone.
	besides := !a.accepts(Intact) || r.justified && !worked
	refused := r.levelError(a, why, besides)
	o := &Offer{
		Authority: a.authority, ProxyName: s.name, ProxyRootSPKI: s.root, Accepted: slices.Clone(a.levels),
		Why: why, Justified: r.justified, Worked: worked, Evidence: a.rep.Evidence, Fields: slices.Clone(a.fields),
	}
	add := func(l Level) {
		o.Choices = append(o.Choices, Choice{Level: l, Words: choiceWords(l, s.name, a.authority)})
	}
	if r.offers(fields.Blind) {
		add(Blind)
	}
	if l := r.level(); l != "" && a.split {
		add(l)
	}
	if d.Choose == nil || len(o.Choices) == 0 {
		return "", refused
	}
	l, err := d.Choose(ctx, o)
	switch {
	case ctx.Err() != nil:
		return "", step(ctx, nil)
	case err != nil || l == "":
		refused.Err = err
		return "", refused
	case !slices.ContainsFunc(o.Choices, func(c Choice) bool { return c.Level == l }):
		return "", fmt.Errorf("client: Choose returned %q, which was not on offer", string(l))
	}
	a.choose(l)
	a.agreed = nil // the user agreed to what could be had at the accepted levels, and this may be to let the proxy do more
	if err := d.askConsent(ctx, s, a); err != nil {
		return "", err
	}
	return l, nil
}

// choose has l be all that the attempt can come to, and what is better than l where l can be read. A proxy that has
// the answer fail, and then offers what the user did not take, would else get that.
func (a *attempt) choose(l Level) {
	a.chosen = l
	a.levels = slices.DeleteFunc(slices.Clone(a.levels), func(o Level) bool { return l == Blind || o != Intact && o != Signed })
	a.levels = append(a.levels, l)
}

// may is what the attempt can still come to, which is what the user is asked to agree to.
func (a *attempt) may() []Level {
	if a.chosen != "" {
		return []Level{a.chosen}
	}
	return a.levels
}
