package evidence

import (
	"errors"
	"fmt"
)

// Reason is the class of what is wrong with evidence, a request or an authenticator.
type Reason string

const (
	ReasonMalformed Reason = "malformed" // it does not parse, or is not what the protocol allows
	ReasonAltered   Reason = "altered"   // a signature fails, or a claim differs from what was signed
	ReasonForeign   Reason = "foreign"   // it answers another nonce, or is for another proxy or authority: replayed or borrowed
	ReasonStale     Reason = "stale"     // it is older than 60 seconds, or from the future
	ReasonDowngrade Reason = "downgrade" // the origin's own signature says that it was asked for less than TLS 1.3
	ReasonRefused   Reason = "refused"   // the origin refused to authenticate (RFC 9261, section 6)
)

// Error says that evidence does not hold: somebody altered, replayed or borrowed it.
type Error struct {
	Reason Reason
	Err    error
}

func (e *Error) Error() string { return fmt.Sprintf("evidence: %s: %v", e.Reason, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// CertificateError says that evidence holds, and that the origin it speaks of is not to be trusted: its
// chain, its name or its validity.
type CertificateError struct{ Err error }

func (e *CertificateError) Error() string { return fmt.Sprintf("origin's certificate: %v", e.Err) }

// Unwrap returns the cause, for instance an x509.UnknownAuthorityError.
func (e *CertificateError) Unwrap() error { return e.Err }

// What [Limiter.Allow] refuses with.
var (
	ErrRepeated = errors.New("evidence: this request was answered before on this connection")
	ErrSpent    = errors.New("evidence: this connection has answered all it will")
	ErrRate     = errors.New("evidence: too many requests in a short time")
)

// ErrRandom says that a TLS handshake did not use the random that [Dial] gave it, so nothing about it
// can be proven.
var ErrRandom = errors.New("evidence: the ClientHello has another random than it was given")

func malformed(format string, args ...any) error { return fail(ReasonMalformed, format, args...) }

func altered(format string, args ...any) error { return fail(ReasonAltered, format, args...) }

func foreign(format string, args ...any) error { return fail(ReasonForeign, format, args...) }

func fail(r Reason, format string, args ...any) error {
	return &Error{Reason: r, Err: fmt.Errorf(format, args...)}
}

// malformedBy wraps what a parser said.
func malformedBy(err error) error { return &Error{Reason: ReasonMalformed, Err: err} }
