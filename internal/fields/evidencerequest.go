package fields

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/dunglas/httpsfv"
)

// MaxEvidenceRequest bounds the decoded request in bytes. It stops a client that makes a proxy carry, and
// an origin sign, whatever it likes.
const MaxEvidenceRequest = 4 << 10

// FormatEvidenceRequest writes the client's RFC 9261 request as the value of evidence-request: a
// structured field item that is one byte sequence (RFC 9651 section 3.3.5).
func FormatEvidenceRequest(request []byte) string {
	return ":" + base64.StdEncoding.EncodeToString(request) + ":"
}

// ParseEvidenceRequest reads evidence-request. values are the lines of the field: none is [ErrAbsent], and
// more than one, parameters, an empty request, base64 that is not canonical and more than
// [MaxEvidenceRequest] bytes are errors, since the same request must reach the origin unchanged.
func ParseEvidenceRequest(values []string) ([]byte, error) {
	fail := func(kind error, format string, args ...any) ([]byte, error) {
		return nil, &Error{Field: EvidenceRequest, Kind: kind, Why: fmt.Sprintf(format, args...)}
	}
	switch len(values) {
	case 0:
		return nil, &Error{Field: EvidenceRequest, Kind: ErrAbsent}
	case 1:
	default:
		return fail(ErrMalformed, "%d lines, must be one", len(values))
	}
	value := strings.Trim(values[0], " ")
	if limit := base64.StdEncoding.EncodedLen(MaxEvidenceRequest) + 2; len(value) > limit {
		return fail(ErrTooLarge, "%d bytes, at most %d", len(value), limit)
	}
	item, err := httpsfv.UnmarshalItem([]string{value})
	if err != nil {
		return fail(ErrMalformed, "%v", err)
	}
	request, ok := item.Value.([]byte)
	switch {
	case !ok:
		return fail(ErrMalformed, "not a byte sequence")
	case len(request) == 0:
		return fail(ErrMalformed, "empty")
	case len(request) > MaxEvidenceRequest:
		return fail(ErrTooLarge, "%d bytes, at most %d", len(request), MaxEvidenceRequest)
	case FormatEvidenceRequest(request) != value:
		return fail(ErrMalformed, "has parameters, or base64 that is not canonical")
	}
	return request, nil
}
