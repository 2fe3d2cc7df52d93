// Package httpsig signs and verifies the responses of the level "signed": HTTP message signatures (RFC 9421)
// over digests of the content (RFC 9530), in the one profile of section 6.7 of the specification.
//
// A client calls [Read] when a response's head has come, then [Signature.Check] and [Signature.Strip], writes the
// content to [Signature.Body] as it arrives, and calls [Signature.Finish] at its end, before it lets the caller
// have the end. An origin calls [Sign] where it has the whole content before the head leaves, and [Begin] and
// [Pending.Finish] where the content streams. Both describe the request by [Request].
package httpsig

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

const (
	// Tag is what marks a signature as one of this protocol (RFC 9421, section 7.2.7).
	Tag = "vitrine"

	// MaxLifetime is how long a signature may hold. It bounds replay, which only a nonce stops.
	MaxLifetime = 5 * time.Minute

	// MaxPublicLifetime is the same for responses that caches may keep (see [Cacheable]), whatever they say. A key
	// that was stolen and replaced can be used on old responses no longer than this.
	MaxPublicLifetime = 7 * 24 * time.Hour

	// maxSkew is how far in the future a signature may have been made: how far clocks are apart (EVD-29).
	maxSkew = time.Minute
)

// Names of the fields, as [http.Header] has them.
const (
	ContentDigest   = "Content-Digest"
	SignatureInput  = "Signature-Input"
	SignatureHeader = "Signature"
)

// What callers branch on. Every [*Error] wraps exactly one of them.
var (
	// ErrUnsigned: the response has no signature of this protocol.
	ErrUnsigned = errors.New("the response is not signed")
	// ErrMalformed: it has one that breaks a format, or more than one.
	ErrMalformed = errors.New("the signature is malformed")
	// ErrUncovered: the signature leaves out what it has to cover, or covers what is not there.
	ErrUncovered = errors.New("the signature does not cover the exchange")
	// ErrAltered: the signature, or the digest of the content, is not that of what arrived.
	ErrAltered = errors.New("the response is not what was signed")
	// ErrForeign: made with another key, or for another request.
	ErrForeign = errors.New("the signature is of another exchange")
	// ErrStale: it has expired, or is from the future.
	ErrStale = errors.New("the signature's time is over")
	// ErrKey: RFC 9421 has no algorithm for this key, or it is one that must not sign.
	ErrKey = errors.New("the key cannot sign responses")
)

// Error says what is wrong with a signature.
type Error struct {
	Kind error  // one of the sentinels of this package
	Why  string // one line for a person; may quote the peer, escaped
}

func (e *Error) Error() string {
	if e.Why == "" {
		return "httpsig: " + e.Kind.Error()
	}
	return fmt.Sprintf("httpsig: %v: %s", e.Kind, e.Why)
}

// Unwrap returns the sentinel.
func (e *Error) Unwrap() error { return e.Kind }

func fail(kind error, format string, args ...any) error {
	return &Error{Kind: kind, Why: fmt.Sprintf(format, args...)}
}

// A Request is a request as its client sent it.
type Request struct {
	Method    string
	TargetURI string // of [TargetURI]
	// Header holds the fields that were sent. Of them authorization, cookie, content-digest and evidence-request
	// are looked at; content-digest says that the request has content.
	Header http.Header
}

// Params are the parameters of a signature.
type Params struct {
	Created, Expires time.Time // whole seconds
	Nonce            []byte    // N, 32 bytes; nil in a signature that anybody may be shown until it expires
	KeyID            [32]byte  // SHA-256 of the SubjectPublicKeyInfo of the leaf
}

// TargetURI is the @target-uri of a request (RFC 9421, section 2.2.2) in the one spelling that client and origin
// compute: https, the authority in lower case and without port 443, and the path and query as they were sent.
// authority is that of the URL, or a Host; target is the path and query, "*", or an absolute URI.
func TargetURI(authority, target string) string {
	if _, rest, ok := strings.Cut(target, "://"); ok && !strings.HasPrefix(target, "/") {
		target = ""
		if i := strings.IndexAny(rest, "/?"); i >= 0 {
			target = rest[i:]
		}
	}
	switch {
	case target == "*": // RFC 9110, section 7.1
		target = ""
	case !strings.HasPrefix(target, "/"):
		target = "/" + target
	}
	return "https://" + strings.TrimSuffix(strings.ToLower(authority), ":443") + target
}
