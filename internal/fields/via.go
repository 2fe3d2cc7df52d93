package fields

import (
	"net/http"
	"strings"
)

// AppendVia adds this hop to h (RFC 9110 section 7.6.3). protocolVersion is how the message came in: "1.1",
// "2", "3". pseudonym is the proxy's name; it must be a host name or a token.
func AppendVia(h http.Header, protocolVersion, pseudonym string) {
	h.Add("Via", protocolVersion+" "+pseudonym)
}

// HasVia reports whether the message passed a proxy of that pseudonym before, whatever the case of its
// letters. What is in comments does not count. A field that is malformed is searched as far as it makes
// sense.
func HasVia(h http.Header, pseudonym string) bool {
	for _, line := range h.Values("Via") {
		for member := range strings.SplitSeq(withoutComments(line), ",") {
			words := strings.Fields(member)
			if len(words) >= 2 && strings.EqualFold(words[1], pseudonym) {
				return true
			}
		}
	}
	return false
}

// withoutComments blanks comments (RFC 9110 section 5.6.5), which nest and may hold commas. One that never
// ends is no comment: a client must not hide a loop from us by opening a bracket.
func withoutComments(s string) string {
	if !strings.Contains(s, "(") {
		return s
	}
	out := []byte(s)
	depth, start := 0, 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if depth > 0 {
				i++
			}
		case '(':
			if depth == 0 {
				start = i
			}
			depth++
		case ')':
			if depth == 0 {
				continue
			}
			depth--
			if depth == 0 {
				for j := start; j <= i; j++ {
					out[j] = ' '
				}
			}
		}
	}
	return string(out)
}
