package client

import (
	"context"
	"errors"
	"fmt"
)

// A ConsentRequest is what the user is asked before a CONNECT. The first two fields are what consent is
// tied to; a rotated proxy certificate changes neither.
type ConsentRequest struct {
	ProxyRootSPKI [32]byte // SHA-256 of the SubjectPublicKeyInfo of the proxy's root
	ProxyName     string   // the name that was verified on hop 1
	ProxySubject  string   // of the proxy's leaf, to show
	Authority     string   // host:port of the origin
	Levels        []Level  // what the tunnel may become
	// Credentials says that passwords, cookies and tokens may be among what is sent.
	Credentials bool
	Words       string // what a reader sees, in words
}

// Consent says whether the user agrees; nil is yes. It is called before each CONNECT, after the proxy's
// certificate was verified, with the context of the request that wants the tunnel. It may ask, look
// up what is stored, and be called from several goroutines at once. A tunnel that is open stays so: whoever
// takes consent back also calls [Transport.CloseIdleConnections] or Close.
type Consent func(ctx context.Context, req *ConsentRequest) error

// ConsentOnce agrees to every request of the Dialer or Transport that it is given to. The caller has
// shown the user what the words of a [ConsentRequest] say, and stores nothing.
func ConsentOnce(context.Context, *ConsentRequest) error { return nil }

var errNoConsent = errors.New("the user was not asked; agree with --consent once, or with client.ConsentOnce in a program")

func consentWords(name, authority string, levels []Level, credentials bool) string {
	readable := false
	for _, l := range levels {
		readable = readable || l.Readable()
	}
	if !readable {
		return fmt.Sprintf("The proxy %s learns that you speak with %s, when, and how much. It can end the connection; it can read and change nothing.", name, authority)
	}
	s := fmt.Sprintf("The proxy %s, and whoever it lets in, reads everything that you and %s say to each other: addresses, header fields, forms and pages. It can end an exchange; what it changes is noticed.", name, authority)
	if credentials {
		s += " That includes passwords, cookies and tokens, which a reader can use elsewhere."
	}
	return s
}

// ask calls c, and makes its refusal a [TrustError].
func (c Consent) ask(ctx context.Context, req *ConsentRequest) error {
	if c == nil {
		return &TrustError{Party: PartyConsent, Err: errNoConsent}
	}
	if err := c(ctx, req); err != nil {
		if ctx.Err() != nil {
			return err
		}
		if trust, ok := err.(*TrustError); ok {
			// A copy: the report of this request goes into it, and the next refusal may be the same error.
			mine := *trust
			return &mine
		}
		return &TrustError{Party: PartyConsent, Err: err}
	}
	return nil
}
