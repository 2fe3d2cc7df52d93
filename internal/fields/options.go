package fields

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dunglas/httpsfv"
)

// Mode is a way in which a proxy carries a tunnel.
type Mode string

const (
	Intact Mode = "intact" // it reads and can kill, and cannot change
	Split  Mode = "split"  // it ends TLS on both sides
	Blind  Mode = "blind"  // it sees ciphertext only
)

const (
	// maxOptions bounds the members of inspection-options. It stops a proxy that makes a client show,
	// store or compare an endless list.
	maxOptions     = 16
	maxOptionsSize = 1 << 10
)

// ParseMode returns the mode of that name. An unknown name is an error.
func ParseMode(s string) (Mode, error) {
	switch m := Mode(s); m {
	case Intact, Split, Blind:
		return m, nil
	}
	return "", fmt.Errorf("unknown mode %q: known are intact, split and blind", s)
}

// FormatOptions writes the modes as the value of inspection-options: a structured field list of tokens.
// No modes give the empty string; the field is then left out (RFC 9651 section 3.1).
func FormatOptions(modes []Mode) string {
	names := make([]string, len(modes))
	for i, m := range modes {
		names[i] = string(m)
	}
	return strings.Join(names, ", ")
}

// ParseOptions reads inspection-options. An absent field is an empty list. Unknown tokens, parameters and
// repetitions are skipped; members that are no tokens, and more than 16, are errors.
func ParseOptions(values []string) ([]Mode, error) {
	fail := func(kind error, format string, args ...any) ([]Mode, error) {
		return nil, &Error{Field: InspectionOptions, Kind: kind, Why: fmt.Sprintf(format, args...)}
	}
	if n := total(values); n > maxOptionsSize {
		return fail(ErrTooLarge, "%d bytes, at most %d", n, maxOptionsSize)
	}
	list, err := httpsfv.UnmarshalList(values)
	if err != nil {
		return fail(ErrMalformed, "%v", err)
	}
	if len(list) > maxOptions {
		return fail(ErrTooLarge, "%d members, at most %d", len(list), maxOptions)
	}
	var modes []Mode
	for _, member := range list {
		item, ok := member.(httpsfv.Item)
		if !ok {
			return fail(ErrMalformed, "an inner list")
		}
		name, ok := item.Value.(httpsfv.Token)
		if !ok {
			return fail(ErrMalformed, "a member that is no token")
		}
		if m, err := ParseMode(string(name)); err == nil && !slices.Contains(modes, m) {
			modes = append(modes, m)
		}
	}
	return modes, nil
}
