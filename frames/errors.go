package frames

import (
	"errors"
	"fmt"
)

// What callers branch on. Every [*Error] wraps exactly one of them.
var (
	// ErrMalformed: the bytes, or the value to be written, break the format.
	ErrMalformed = errors.New("malformed")
	// ErrTruncated: the bytes end in the middle of a field.
	ErrTruncated = errors.New("truncated")
	// ErrTooLarge: a limit of this package or of the caller is exceeded.
	ErrTooLarge = errors.New("too large")
	// ErrUnknownType: not one of our frames. The receiver ignores it (RFC 9113 section 5.5).
	ErrUnknownType = errors.New("unknown frame type")
	// ErrHopBinding: SETTINGS_HOP_BINDING is absent or is not this hop's. The connection is at an end.
	ErrHopBinding = errors.New("hop binding")
)

// Error says which part of the vocabulary was broken and how.
type Error struct {
	Where string // "EVIDENCE", "VERDICT", "verdict tbs", "SETTINGS"
	Why   string // one line for a person
	Kind  error  // one of the sentinels of this package
}

func (e *Error) Error() string {
	return fmt.Sprintf("frames: %s: %v: %s", e.Where, e.Kind, e.Why)
}

// Unwrap returns the sentinel.
func (e *Error) Unwrap() error { return e.Kind }
