package consent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"vitrine/client"
	"vitrine/internal/hosts"
)

// Choose is for client.Transport.Choose: of what is on offer it takes the level that gives away least among those
// that a grant names for this host. Its error wraps ErrNoGrant when there is none, and always when the authority was
// reached at a better level before: what was agreed to earlier was agreed to without knowing that.
func (s *Store) Choose(_ context.Context, o *client.Offer) (client.Level, error) {
	if o.Worked {
		return "", fmt.Errorf("%w: %s was better before", ErrNoGrant, clean(o.Authority, maxSubject))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	grants, err := s.readLocked()
	if err != nil {
		return "", err
	}
	now := time.Now()
	for _, c := range o.Choices {
		for i := range grants {
			if g := &grants[i]; g.counts(o.ProxyRootSPKI, o.ProxyName, o.Authority, now) && slices.Contains(g.Levels, c.Level) {
				return c.Level, nil
			}
		}
	}
	return "", fmt.Errorf("%w: %s for %s at less than %s", ErrNoGrant, clean(o.ProxyName, maxSubject), clean(o.Authority, maxSubject), levelWords(o.Accepted))
}

// A matter is what an answer to a choice of levels counts for.
type matter struct {
	root      [32]byte
	name      string
	authority string
	worked    bool // the user was told that it was better before
}

// Choose is for client.Transport.Choose. It asks which of the levels that can be had the user takes, once or always;
// "always" is stored for this host as a grant that names the level. What is stored is not asked for, unless the
// authority was reached at a better level before. The answer is consent too: Ask agrees to that level without a
// question.
func (p *Prompt) Choose(ctx context.Context, o *client.Offer) (client.Level, error) {
	leave, err := p.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	if p.Store != nil {
		if l, err := p.Store.Choose(ctx, o); !errors.Is(err, ErrNoGrant) {
			return l, err
		}
	}
	m := matter{root: o.ProxyRootSPKI, name: o.ProxyName, authority: o.Authority, worked: o.Worked}
	if said, ok := p.picks[m]; ok {
		switch {
		case said == "":
			return "", ErrRefused
		case slices.ContainsFunc(o.Choices, func(c client.Choice) bool { return c.Level == said }):
			return said, nil
		}
	}
	list, err := p.levelChoices(o)
	if err != nil {
		return "", err
	}
	chosen, err := p.put(ctx, offerText(o, list), list)
	switch {
	case err != nil:
		return "", err
	case chosen == nil: // nobody is there
		return "", ErrRefused
	case chosen.no:
		p.pick(m, "")
		return "", ErrRefused
	case chosen.scope == nil:
		p.pick(m, chosen.level)
		q := question{root: o.ProxyRootSPKI, name: o.ProxyName, authority: o.Authority, power: power(chosen.level)}
		p.remember(q, answer{yes: true, credentials: len(o.Fields) > 0})
		return chosen.level, nil
	}
	now := p.now()
	if _, err := p.Store.Add(Grant{
		ProxyRootSPKI: o.ProxyRootSPKI, ProxyName: o.ProxyName, Scope: chosen.scope, Granted: now, Until: now.Add(PromptTime),
		Credentials: len(o.Fields) > 0, Levels: []client.Level{chosen.level},
	}); err != nil {
		return "", err
	}
	if o.Worked {
		p.Store.Forget(o.Authority)
	}
	delete(p.picks, m) // it ends where it is stored
	return chosen.level, nil
}

func (p *Prompt) pick(m matter, said client.Level) {
	if _, ok := p.picks[m]; ok || len(p.picks) < maxRemembered {
		p.picks[m] = said
	}
}

// levelChoices are the answers to o.
func (p *Prompt) levelChoices(o *client.Offer) ([]choice, error) {
	here, err := hosts.Parse(o.Authority)
	if err != nil {
		return nil, err
	}
	var list []choice
	add := func(c choice, how string) {
		number := fmt.Sprint(len(list) + 1)
		c.words = []string{number, string(c.level) + " " + how}
		if len(o.Choices) == 1 {
			c.words = append(c.words, how)
		}
		c.text = c.words[1] + c.text
		list = append(list, c)
	}
	for _, c := range o.Choices {
		add(choice{level: c.Level, text: ": for " + here.String() + ", until this program ends"}, "once")
		if p.Store != nil {
			days := fmt.Sprintf(": for %s, for %d days or until you revoke it", here, PromptTime/(24*time.Hour))
			add(choice{level: c.Level, text: days, scope: []hosts.Pattern{here}}, "always")
		}
	}
	return append(list, choice{words: []string{"n", "no"}, text: "no", no: true}), nil
}

// offerText is the question.
func offerText(o *client.Offer, list []choice) string {
	var b strings.Builder
	authority := clean(o.Authority, maxSubject)
	fmt.Fprintf(&b, "\n%s is not to be had at level %s: %s.\n", authority, levelWords(o.Accepted), clean(o.Why, maxWords))
	if o.Worked {
		fmt.Fprintf(&b, "That is less than before. Either %s has changed, or somebody makes it look so, the proxy first of all, who wants to\n"+
			"read or change more than it could. If you know of no change there, say no.\n", authority)
	}
	if !o.Justified {
		b.WriteString("Nothing shows that this is the origin's doing: it may be the proxy's.\n")
	}
	fmt.Fprintf(&b, "\n  Proxy:  %s\n          its root's key is %x…\n", clean(o.ProxyName, maxSubject), o.ProxyRootSPKI[:8])
	if len(o.Fields) > 0 {
		fmt.Fprintf(&b, "  Credentials that you send:  %s\n", clean(strings.Join(o.Fields, ", "), maxWords))
	}
	b.WriteString("\nWhat can be had, and what it gives away:\n")
	for _, c := range o.Choices {
		fmt.Fprintf(&b, "  %-9s %s\n", clean(string(c.Level), maxSubject), clean(c.Words, maxWords))
	}
	b.WriteString("\nWhat do you choose?\n")
	for i := range list {
		fmt.Fprintf(&b, "  %s  %s\n", list[i].words[0], list[i].text)
	}
	return b.String()
}

func levelWords(levels []client.Level) string {
	words := make([]string, len(levels))
	for i, l := range levels {
		words[i] = clean(string(l), maxSubject)
	}
	return strings.Join(words, " or ")
}
