package proxy

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"vitrine/internal/fields"
	"vitrine/internal/pki"
)

// A front is what hop-1 sessions are made with: who the proxy says it is, and whom it lets in. A session
// keeps its front, and so do its tunnels: their verdicts and their hop 2 are those of the certificate that
// the client saw.
type front struct {
	of          *running
	certificate tls.Certificate
	leaf        *x509.Certificate
	hash        [32]byte
	party       Party
	name        string
	via         string // name as a via pseudonym
	clientCAs   *x509.CertPool
	config      *tls.Config   // of hop 1
	retired     chan struct{} // closed when its sessions take no new tunnels
}

// settings are what Reload replaces. They do not change, and so whoever has loaded them judges by one
// state.
type settings struct {
	front      *front
	roots      *x509.CertPool
	policy     Policy // with its defaults
	inspectors []Inspector
	targets    *dialer
	next       *nextProxy // nil: the proxy goes to origins itself
	epoch      uint64     // of the hop-2 connections that were made under equal settings
}

// settings checks p's fields, but for what only matters to listeners, and copies what Reload replaces.
func (r *running) settings(p *Proxy) (*settings, error) {
	f, err := r.front(p)
	if err != nil {
		return nil, err
	}
	if m, ok := unavailable(p.Policy.Modes); ok {
		return nil, fmt.Errorf("proxy: mode %q is not available", m)
	}
	targets := p.Targets
	targets.Ports, targets.Allow = slices.Clone(targets.Ports), slices.Clone(targets.Allow)
	st := &settings{
		front:      f,
		roots:      p.Roots,
		policy:     p.Policy,
		inspectors: slices.Clone(p.Inspectors),
		targets:    r.dials.to(&targets, slices.Clone(p.ConnectTo)),
	}
	if st.next, err = newNext(p, r.current.Load()); err != nil {
		return nil, err
	}
	if st.next != nil {
		st.policy.HostModes = withoutSplit(st.policy.HostModes)
	}
	if st.policy.Modes = slices.Clone(p.Policy.Modes); st.policy.Modes == nil {
		st.policy.Modes = []fields.Mode{fields.Intact}
	}
	if st.policy.HeldBytes <= 0 {
		st.policy.HeldBytes = 1 << 20
	}
	if st.policy.HoldTime <= 0 {
		st.policy.HoldTime = 30 * time.Second
	}
	return st, nil
}

func (r *running) front(p *Proxy) (*front, error) {
	if len(p.Certificate.Certificate) == 0 {
		return nil, errors.New("proxy: no certificate")
	}
	leaf, err := pki.Leaf(&p.Certificate)
	if err != nil {
		return nil, fmt.Errorf("proxy: certificate: %w", err)
	}
	f := &front{
		of:          r,
		certificate: p.Certificate,
		leaf:        leaf,
		hash:        sha256.Sum256(leaf.Raw),
		party:       Party{Subject: leaf.Subject.String(), SPKI: pki.SPKIHash(leaf)},
		name:        r.name,
		clientCAs:   p.ClientCAs,
		retired:     make(chan struct{}),
	}
	if f.name == "" {
		f.name = ownName(leaf)
	}
	if f.name == "" {
		return nil, errors.New("proxy: the certificate holds no name, and Name is empty")
	}
	f.via = pseudonym(f.name)
	f.config = r.hop1Config(f)
	return f, nil
}

// equal says that a session made with f is as good as one made with g.
func (f *front) equal(g *front) bool {
	return slices.EqualFunc(f.certificate.Certificate, g.certificate.Certificate, bytes.Equal) &&
		bytes.Equal(f.certificate.OCSPStaple, g.certificate.OCSPStaple) &&
		slices.EqualFunc(f.certificate.SignedCertificateTimestamps, g.certificate.SignedCertificateTimestamps, bytes.Equal) &&
		f.clientCAs.Equal(g.clientCAs)
}

// isRetired says that a session of f takes no new tunnels.
func (f *front) isRetired() bool {
	select {
	case <-f.retired:
		return true
	default:
		return false
	}
}

// reaches says that st's hop-2 connections are as good as those made under o: the same origins are
// trusted, and what may be dialled, and where, is the same. Pools tell certificates apart by themselves.
func (st *settings) reaches(o *settings) bool {
	a, b := st.targets, o.targets
	return st.next == o.next &&
		st.roots.Equal(o.roots) &&
		slices.Equal(a.policy.Ports, b.policy.Ports) &&
		slices.Equal(a.policy.Allow, b.policy.Allow) &&
		slices.Equal(a.rules, b.rules) &&
		sameResolver(a.policy.Resolver, b.policy.Resolver) &&
		a.policy.DialContext == nil && b.policy.DialContext == nil // functions cannot be compared
}

// sameResolver says no where it cannot know.
func sameResolver(a, b Resolver) bool {
	if a == nil || b == nil {
		return a == b
	}
	return reflect.TypeOf(a).Comparable() && reflect.TypeOf(b).Comparable() && a == b
}

// allows says whether m is among the modes of authority.
func (p *Policy) allows(authority string, m fields.Mode) bool {
	return slices.Contains(p.modes(authority), m)
}

// modes are those that authority may get; p's defaults are set. What HostModes says and this proxy does not have is
// left out, so that nobody is offered it.
func (p *Policy) modes(authority string) []fields.Mode {
	modes := p.Modes
	if p.HostModes != nil {
		if own := p.HostModes(authority); own != nil {
			modes = own
		}
	}
	if _, ok := unavailable(modes); ok {
		modes = slices.DeleteFunc(slices.Clone(modes), func(m fields.Mode) bool { return !available(m) })
	}
	return modes
}

func available(m fields.Mode) bool {
	return m == fields.Intact || m == fields.Split || m == fields.Blind
}

func unavailable(modes []fields.Mode) (m fields.Mode, ok bool) {
	for _, m := range modes {
		if !available(m) {
			return m, true
		}
	}
	return "", false
}

func ownName(leaf *x509.Certificate) string {
	if len(leaf.DNSNames) > 0 {
		return strings.ToLower(leaf.DNSNames[0])
	}
	if len(leaf.IPAddresses) > 0 {
		return leaf.IPAddresses[0].String()
	}
	return ""
}

// pseudonym is name as via can carry it: a token (RFC 9110, section 7.6.3).
func pseudonym(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', strings.ContainsRune("-._", r):
			return r
		}
		return '_'
	}, name)
}
