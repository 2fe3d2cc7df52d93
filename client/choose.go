package client

import (
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
	case Signed:
		return fmt.Sprintf("%s reads everything. It could change what you send, which would be found out afterwards, and not what %s answers: responses that %s did not sign are refused.", name, authority, authority)
	case Attested:
		return fmt.Sprintf("%s reads everything and could change everything, in both directions, and you would not notice. The key of %s answered for this proxy: it does have a connection to the real one.", name, authority)
	case Claimed:
		return fmt.Sprintf("%s reads everything and could change everything, in both directions, and you would not notice. That it speaks with %s at all is its word alone.", name, authority)
	case Blind:
		return fmt.Sprintf("%s carries it sealed: it learns that you speak with %s, when and how much, and can read and change nothing.", name, authority)
	case Direct:
		return fmt.Sprintf("%s is not used: you connect to %s yourself, and whoever watches your network sees that you do.", name, authority)
	}
	return l.Words()
}

// offerTo is what can be had after r; nil when nothing can.
func (d *Dialer) offerTo(s *session, a *attempt, r *refusal, worked bool, why string) *Offer {
	o := &Offer{
		Authority: a.authority, ProxyName: s.name, ProxyRootSPKI: s.root, Accepted: slices.Clone(a.levels),
		Why: why, Justified: r.justified, Worked: worked, Evidence: a.rep.Evidence,
	}
	add := func(l Level) {
		o.Choices = append(o.Choices, Choice{Level: l, Words: choiceWords(l, s.name, a.authority)})
	}
	if r.offers(fields.Blind) {
		add(Blind)
	}
	if r.offers(fields.Split) {
		switch {
		case r.claim:
			add(Claimed)
		case r.justified:
			add(Attested)
		}
	}
	if len(o.Choices) == 0 {
		return nil
	}
	return o
}
