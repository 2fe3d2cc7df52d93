// Package fields reads and writes the HTTP fields that Vitrine's parties say things in, and the
// authorities that they name. Field values come from strangers: every parser is strict, bounded, and
// refuses what it would not write itself.
//
// Call [CanonicalAuthority] on what a user typed and [ParseAuthority] on what a peer sent;
// [FormatEvidenceRequest] and [ParseEvidenceRequest] for the client's request for evidence; [FormatEvidenceID]
// and [ParseEvidenceID] for the evidence that an ordinary request rests on;
// [FormatOptions] and [ParseOptions] for the modes that a proxy offers with a 470; [ProxyStatus] for the
// reason of any answer that a proxy makes itself; [AppendVia] and [HasVia] to find loops; [MaxForwards] for how far
// a TRACE or OPTIONS may go.
package fields

import (
	"errors"
	"fmt"
)

// Names of the fields, as HTTP/2 and HTTP/3 write them.
const (
	EvidenceID        = "evidence-id"
	EvidenceRequest   = "evidence-request"
	InspectionOptions = "inspection-options"
	ProxyStatusName   = "proxy-status"
	Via               = "via"
)

// What callers branch on. Every [*Error] wraps exactly one of them.
var (
	// ErrAbsent: the field is not there at all.
	ErrAbsent = errors.New("absent")
	// ErrMalformed: the field is there and breaks its format.
	ErrMalformed = errors.New("malformed")
	// ErrTooLarge: the field is larger than anyone has reason to send.
	ErrTooLarge = errors.New("too large")
)

// Error says which field was broken and how.
type Error struct {
	Field string // the field's name, or "authority"
	Why   string // one line for a person; may quote the peer, escaped
	Kind  error  // one of the sentinels of this package
}

func (e *Error) Error() string {
	if e.Why == "" {
		return fmt.Sprintf("%s: %v", e.Field, e.Kind)
	}
	return fmt.Sprintf("%s: %v: %s", e.Field, e.Kind, e.Why)
}

// Unwrap returns the sentinel.
func (e *Error) Unwrap() error { return e.Kind }

// total is the size of the lines of one field, as they would be joined.
func total(values []string) int {
	n := 0
	for _, v := range values {
		n += len(v) + len(", ")
	}
	return n
}
