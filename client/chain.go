package client

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"vitrine/frames"
	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
	"vitrine/internal/verdict"
)

// A member is a proxy of the path behind the first one, whose session hop 1 is. It was verified as that one was, and
// the user agreed to it too.
type member struct {
	certs     []*x509.Certificate // as it showed them, leaf first
	name      string              // that it was verified for
	root      [32]byte
	agreement *Agreement
	// credentials says that some agreement lets it see them. The tunnel's lock guards it.
	credentials bool
}

func (m *member) leaf() *x509.Certificate { return m.certs[0] }

// A path is the members that an attempt names, client side first, and who was asked about on the way.
type path struct {
	members []*member
	asked   []*member
}

// leaves is the proxies of an offer: s's, and the members.
func (a *attempt) leaves(s *session) [][32]byte {
	leaves := [][32]byte{pki.LeafHash(s.leaf)}
	for _, m := range a.path.members {
		leaves = append(leaves, pki.LeafHash(m.leaf()))
	}
	return leaves
}

// vouches says whether root is that of a proxy of the path.
func (a *attempt) vouches(root [32]byte) bool {
	return a.agreed != nil && *a.agreed == root ||
		slices.ContainsFunc(a.path.members, func(m *member) bool { return m.root == root })
}

// An aheadError says that evidence leads to a proxy that the request does not name.
type aheadError struct {
	link *evidence.Link
	at   int // its place in the path
}

func (e *aheadError) Error() string {
	return fmt.Sprintf("behind %d proxies comes another one, %s, which the request does not name", e.at, e.link.Name)
}

// notAhead is err for an answer that opened the tunnel, behind which no proxy may show up. What it returns wraps no
// aheadError, which would be followed.
func notAhead(err error) error {
	if ahead := (*aheadError)(nil); errors.As(err, &ahead) {
		return &IntegrityError{What: "the proxy opened a tunnel through another one that nobody agreed to: " + ahead.Error()}
	}
	return err
}

// walk follows evidence to what it says about the origin. The error is an *aheadError where it ends at a proxy.
func (a *attempt) walk(v *evidence.Verifier, e *evidence.Evidence) (*evidence.Evidence, error) {
	p, err := v.Walk(e)
	if err != nil {
		return nil, evidenceError(err)
	}
	a.rep.Hops = nil
	for i := range p.Links {
		a.rep.Hops = append(a.rep.Hops, hopReport(&p.Links[i].Hop))
	}
	if p.Ahead != nil {
		a.rep.Hops = append(a.rep.Hops, hopReport(&p.Ahead.Hop))
		return nil, &aheadError{link: p.Ahead, at: len(p.Links) + 1}
	}
	a.rep.Hops = append(a.rep.Hops, hopReport(&p.Origin.Hop))
	return p.Origin, nil
}

// along is intact through as many proxies as there turn out to be: each that shows up is verified, and asked about,
// and then named.
func (d *Dialer) along(ctx context.Context, s *session, a *attempt) (t *Tunnel, refused *refusal, err error) {
	a.path.members = nil
	known := s.path.get()
	for i, m := range known {
		err := d.join(ctx, s, a, &evidence.Link{Certs: m.certs, Proxy: m.certs[0], Name: m.name}, i+1)
		if err == nil {
			continue
		}
		// By now the way may lead around that one, or to its successor: the next attempt finds out, or this one.
		s.path.set(nil)
		if trust, ok := errors.AsType[*TrustError](err); !ok || trust.Party != PartyProxy {
			return nil, nil, err
		}
		known = known[:i]
		break
	}
	// Each round adds a proxy, or replaces some that are no longer what they were. Who finds ever new ones does
	// not make us go on for ever.
	for range 2 * tlsmsg.MaxProxies {
		t, refused, err = d.intactAlong(ctx, s, a)
		var ahead *aheadError
		switch {
		case errors.As(err, &ahead):
			if err := d.join(ctx, s, a, ahead.link, ahead.at); err != nil {
				return nil, nil, err
			}
			s.path.set(a.path.members)
			known = nil
			continue
		case len(known) > 0 && refusesPath(err):
			// The proxy goes another way now, or to origins itself.
			known = nil
			s.path.set(nil)
			a.path.members = nil
			a.rep.Proxies = a.rep.Proxies[:1]
			continue
		}
		if refused != nil && len(a.path.members) > 0 {
			// An exchange without a tunnel would be under the agreement to the first proxy alone, whatever this
			// one offers.
			refused.options = slices.DeleteFunc(slices.Clone(refused.options), func(m fields.Mode) bool { return m == fields.Split })
		}
		return t, refused, err
	}
	return nil, nil, &UnreachableError{Party: PartyProxy, Err: errors.New("it leads to another proxy each time")}
}

// refusesPath says that err may be about the proxies that were named.
func refusesPath(err error) bool {
	u, ok := errors.AsType[*UnreachableError](err)
	return ok && (u.Status == http.StatusBadRequest || u.Status == http.StatusForbidden)
}

// intactAlong does one CONNECT while everybody's agreements stand.
func (d *Dialer) intactAlong(ctx context.Context, s *session, a *attempt) (*Tunnel, *refusal, error) {
	consented := ctx
	for _, m := range a.path.members {
		c, stop := m.agreement.within(consented)
		defer stop()
		consented = c
	}
	t, refused, err := d.intact(consented, s, a)
	for _, m := range a.path.members {
		end := m.agreement.ended()
		if end == nil || ctx.Err() != nil {
			continue
		}
		if t != nil {
			t.Close()
		}
		d.hop1.closeIdle()
		d.inners.Clear()
		return nil, nil, end.trust()
	}
	if t == nil {
		return nil, refused, err
	}
	for _, m := range t.members {
		t.agreeIn(&t.beside, m.agreement)
	}
	return t, nil, err
}

// join verifies the proxy that l leads to, asks the user about it, and makes it the at-th of the path, from 0 for
// hop 1's.
func (d *Dialer) join(ctx context.Context, s *session, a *attempt, l *evidence.Link, at int) error {
	chain, err := pki.VerifyProxy(l.Certs, pki.ProxyOptions{Roots: d.ProxyRoots, Name: l.Name, Time: d.now()})
	if err != nil {
		return &TrustError{Party: PartyProxy, Err: fmt.Errorf("%s, to which %s leads: %w", l.Name, a.nameBefore(s, at), err)}
	}
	if at > len(a.path.members)+1 || at >= tlsmsg.MaxProxies {
		return &IntegrityError{What: "the evidence leads farther than the path"}
	}
	m := &member{certs: l.Certs, name: l.Name, root: pki.SPKIHash(chain[len(chain)-1])}
	if err := d.askAbout(ctx, a, m); err != nil {
		return err
	}
	a.path.members = append(slices.Clip(a.path.members[:at-1]), m)
	a.rep.Proxies = append(slices.Clip(a.rep.Proxies[:at]), proxyReport(m.leaf(), m.name))
	a.rep.Evidence, a.rep.EvidenceBytes, a.rep.Hops = nil, nil, nil // they were for a shorter path
	return nil
}

func (a *attempt) nameBefore(s *session, at int) string {
	if at == 1 || at-2 >= len(a.path.members) {
		return s.name
	}
	return a.path.members[at-2].name
}

// askAbout asks once in an attempt for each root and name that the path leads to.
func (d *Dialer) askAbout(ctx context.Context, a *attempt, m *member) error {
	for _, before := range a.path.asked {
		if before.root == m.root && before.name == m.name && before.agreement.ended() == nil {
			m.agreement = before.agreement
		}
	}
	if m.agreement == nil {
		agreement, err := ask(ctx, d.Consent, a.question(m.root, m.name, m.leaf(), a.levels))
		if err != nil {
			return err
		}
		m.agreement = agreement
		a.path.asked = append(a.path.asked, m)
	}
	m.credentials = m.agreement.Credentials
	return a.permitted(m.agreement, a.levels)
}

// askMembers asks about the credentials of a for each member of t that may not see them yet.
func (d *Dialer) askMembers(ctx context.Context, t *Tunnel, a *attempt) error {
	for _, m := range t.members {
		t.mu.Lock()
		lets := m.credentials
		t.mu.Unlock()
		if lets {
			continue
		}
		agreement, err := d.askCredentials(ctx, a, a.question(m.root, m.name, m.leaf(), []Level{t.level}))
		if err != nil {
			return err
		}
		t.mu.Lock()
		m.credentials = true
		t.mu.Unlock()
		t.agreeIn(&t.beside, agreement)
	}
	return nil
}

// firstLets says whether hop 1's proxy may see credentials.
func (t *Tunnel) firstLets() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.under, func(a *Agreement) bool { return a.Credentials })
}

// until is channels of which one is closed when an agreement of the path ends.
func (a *attempt) until() []<-chan struct{} {
	var ends []<-chan struct{}
	if a.agreement.Ends != nil {
		ends = append(ends, a.agreement.Ends.Done())
	}
	for _, m := range a.path.members {
		if m.agreement.Ends != nil {
			ends = append(ends, m.agreement.Ends.Done())
		}
	}
	return ends
}

// A killer is the proxy that killed a tunnel, and why.
type killer struct {
	tbs  *frames.VerdictTBS
	name string
}

// judge verifies a verdict by the proxy of the path that signed it, and names that one.
func (t *Tunnel) judge(signed []byte) (*killer, error) {
	verify := func(leaf *x509.Certificate, name string) (*killer, error) {
		tbs, err := verdict.Verify(signed, verdict.Expect{Proxy: leaf, Nonce: *t.nonce, Authority: t.authority, CheckLeaf: true})
		if err != nil {
			return nil, err
		}
		return &killer{tbs, name}, nil
	}
	k, err := verify(t.proxy, t.name)
	for _, m := range t.members {
		if err == nil || !errors.Is(err, verdict.ErrForeign) {
			break
		}
		k, err = verify(m.leaf(), m.name)
	}
	return k, err
}

// A pathMemory is the way on from a session's proxy, as it was found last. It is bounded by what a path can have.
type pathMemory struct {
	mu      sync.Mutex
	members []*member
}

func (p *pathMemory) get() []*member {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.members
}

func (p *pathMemory) set(members []*member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.members = slices.Clone(members)
}
