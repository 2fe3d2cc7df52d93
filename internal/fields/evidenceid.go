package fields

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/dunglas/httpsfv"
)

// FormatEvidenceID writes the SHA-256 of evidence as the value of evidence-id: a structured field item that
// is one byte sequence (RFC 9651 section 3.3.5).
func FormatEvidenceID(id [32]byte) string {
	return ":" + base64.StdEncoding.EncodeToString(id[:]) + ":"
}

// ParseEvidenceID reads evidence-id. values are the lines of the field: none is [ErrAbsent], and more than one,
// parameters, base64 that is not canonical and anything but 32 bytes are errors.
func ParseEvidenceID(values []string) (id [32]byte, err error) {
	fail := func(kind error, format string, args ...any) ([32]byte, error) {
		return [32]byte{}, &Error{Field: EvidenceID, Kind: kind, Why: fmt.Sprintf(format, args...)}
	}
	switch len(values) {
	case 0:
		return fail(ErrAbsent, "")
	case 1:
	default:
		return fail(ErrMalformed, "%d lines, must be one", len(values))
	}
	value := strings.Trim(values[0], " ")
	if want := len(FormatEvidenceID(id)); len(value) != want {
		return fail(ErrMalformed, "%d bytes, must be %d", len(value), want)
	}
	item, err := httpsfv.UnmarshalItem([]string{value})
	if err != nil {
		return fail(ErrMalformed, "%v", err)
	}
	hash, ok := item.Value.([]byte)
	if !ok || len(hash) != len(id) || len(item.Params.Names()) > 0 || FormatEvidenceID([32]byte(hash)) != value {
		return fail(ErrMalformed, "not the 32 bytes of a SHA-256 in canonical base64")
	}
	return [32]byte(hash), nil
}
