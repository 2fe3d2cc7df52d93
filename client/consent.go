package client

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A ConsentRequest is what the user is asked before a CONNECT, and before credentials leave through a
// tunnel whose agreement lacks them. The first two fields are what consent is tied to; a rotated proxy
// certificate changes neither.
type ConsentRequest struct {
	ProxyRootSPKI [32]byte // SHA-256 of the SubjectPublicKeyInfo of the proxy's root
	ProxyName     string   // the name that was verified on hop 1
	ProxySubject  string   // of the proxy's leaf, to show
	Authority     string   // host:port of the origin
	Levels        []Level  // what the tunnel may become; of an open one, what it is
	// Fields names the credentials that the request carries, sorted: header fields, and "the user name in
	// the URL". Nil for none. What they hold is not told.
	Fields []string
	Words  string // what a reader sees, in words
}

// Consent says what the user agrees to. Ask is called before each CONNECT, and before each request at a level
// without a tunnel, after the proxy's certificate was verified, with the context of the request that it is for. It
// may ask, look up what is stored, and be called from several goroutines at once. An error means no. [Once] is the
// simplest Consent; package client/consent has those that ask and store.
type Consent interface {
	Ask(ctx context.Context, req *ConsentRequest) (*Agreement, error)
}

// An Agreement is what the user said yes to.
type Agreement struct {
	// Credentials says that the user lets credentials leave where the proxy can read them.
	Credentials bool
	// Ends is done when the agreement is over. What was opened under it then closes at once: exchanges under
	// way and calls of a [Tunnel] fail with a *[TrustError] about [PartyConsent] that wraps context.Cause.
	// Nil: it lasts as long as the tunnels.
	Ends context.Context
}

// ended is why the agreement is over, nil while it stands.
func (a *Agreement) ended() *consentEnd {
	if a.Ends == nil || a.Ends.Err() == nil {
		return nil
	}
	return &consentEnd{context.Cause(a.Ends)}
}

// within is ctx until the agreement ends. stop is called when it is no longer used.
func (a *Agreement) within(ctx context.Context) (consented context.Context, stop func()) {
	if a.Ends == nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	unwatch := context.AfterFunc(a.Ends, cancel)
	return ctx, func() { unwatch(); cancel() }
}

// Once is a Consent that agrees to every request of the Dialer or Transport that it is given to. The caller
// has shown the user what the words of a [ConsentRequest] say, and stores nothing.
type Once struct {
	Credentials bool // as in [Agreement]
}

// Ask implements [Consent].
func (o Once) Ask(context.Context, *ConsentRequest) (*Agreement, error) {
	return &Agreement{Credentials: o.Credentials}, nil
}

// ConsentFunc makes a function a [Consent].
type ConsentFunc func(ctx context.Context, req *ConsentRequest) (*Agreement, error)

// Ask implements [Consent].
func (f ConsentFunc) Ask(ctx context.Context, req *ConsentRequest) (*Agreement, error) {
	return f(ctx, req)
}

var (
	errNoConsent   = errors.New("the user was not asked; agree with --consent once, or with client.Once in a program")
	errNoAgreement = errors.New("the Consent returned neither an agreement nor an error")
)

// A consentEnd is the error inside this package for an agreement that has ended.
type consentEnd struct{ cause error }

func (e *consentEnd) Error() string { return "it has ended: " + e.cause.Error() }
func (e *consentEnd) Unwrap() error { return e.cause }

// trust is a new error each time: callers put their own report into it.
func (e *consentEnd) trust() error { return &TrustError{Party: PartyConsent, Err: e} }

func consentWords(name, authority string, levels []Level, credentials []string) string {
	readable := false
	for _, l := range levels {
		readable = readable || l.Readable()
	}
	if !readable {
		return fmt.Sprintf("The proxy %s learns that you speak with %s, when, and how much. It can end the connection; it can read and change nothing.", name, authority)
	}
	s := fmt.Sprintf("The proxy %s, and whoever it lets in, reads everything that you and %s say to each other: addresses, header fields, forms and pages. It can end an exchange; ", name, authority)
	switch {
	case slices.Contains(levels, Attested) || slices.Contains(levels, Claimed):
		s += "where you accept that it ends TLS itself, it can change what passes without being noticed."
	case slices.Contains(levels, Signed):
		s += "where the origin signs its responses, it could change what you send, and otherwise what it changes is noticed."
	default:
		s += "what it changes is noticed."
	}
	if len(credentials) > 0 {
		s += fmt.Sprintf(" That includes passwords, cookies and tokens, which a reader can use elsewhere; here: %s.", strings.Join(credentials, ", "))
	}
	return s
}

// question is what the user is asked about the proxy of this root and name.
func (a *attempt) question(root [32]byte, name string, leaf *x509.Certificate, levels []Level) *ConsentRequest {
	return &ConsentRequest{
		ProxyRootSPKI: root,
		ProxyName:     name,
		ProxySubject:  printable(leaf.Subject.String()),
		Authority:     a.authority,
		Levels:        slices.Clone(levels),
		Fields:        slices.Clone(a.fields),
		Words:         consentWords(name, a.authority, levels, a.fields),
	}
}

// standing is nil while the agreements to all proxies that a names stand.
func (a *attempt) standing() error {
	if end := a.agreement.ended(); end != nil {
		return end.trust()
	}
	for _, m := range a.path.members {
		if end := m.agreement.ended(); end != nil {
			return end.trust()
		}
	}
	return nil
}

// permitted is an error where an agreement has ended, or keeps back what a is to send at any of levels.
func (a *attempt) permitted(agreement *Agreement, levels []Level) error {
	if end := agreement.ended(); end != nil {
		return end.trust()
	}
	sealed := slices.ContainsFunc(levels, func(l Level) bool { return !l.Readable() })
	if len(a.fields) > 0 && !agreement.Credentials && !sealed {
		return keptBack(a.fields, nil)
	}
	return nil
}

// askCredentials is ask for the credentials of a, where it was agreed before that the proxy reads.
func (d *Dialer) askCredentials(ctx context.Context, a *attempt, req *ConsentRequest) (*Agreement, error) {
	agreement, err := ask(ctx, d.Consent, req)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, err
	case err != nil:
		if trust, ok := err.(*TrustError); ok && trust.Party == PartyConsent {
			err = trust.Err
		}
		return nil, keptBack(a.fields, err)
	case !agreement.Credentials:
		return nil, keptBack(a.fields, nil)
	}
	return agreement, nil
}

// ask calls c, and makes its refusal a [TrustError].
func ask(ctx context.Context, c Consent, req *ConsentRequest) (*Agreement, error) {
	if c == nil {
		return nil, &TrustError{Party: PartyConsent, Err: errNoConsent}
	}
	agreement, err := c.Ask(ctx, req)
	switch {
	case err == nil && agreement == nil:
		return nil, &TrustError{Party: PartyConsent, Err: errNoAgreement}
	case err == nil:
		return agreement, nil
	case ctx.Err() != nil:
		return nil, err
	}
	if trust, ok := err.(*TrustError); ok {
		// A copy: the report of this request goes into it, and the next refusal may be the same error.
		mine := *trust
		return nil, &mine
	}
	return nil, &TrustError{Party: PartyConsent, Err: err}
}
