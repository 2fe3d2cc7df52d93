package frames

import (
	"strings"
	"unicode/utf8"
)

// CleanText makes s fit the rule or the detail of a verdict: what is not valid UTF-8 and what could
// deceive a terminal (control characters, line separators, bidirectional controls) becomes U+FFFD, and the
// end is cut, at a character, so that at most limit bytes remain.
func CleanText(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if deceives(r) {
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(s, string(utf8.RuneError)))
	if len(s) <= limit {
		return s
	}
	n := max(limit, 0)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func clean(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, deceives) < 0
}

// deceives lists the characters by hand, so that two implementations with different versions of Unicode
// agree on what a verdict is.
func deceives(r rune) bool {
	switch {
	case r < 0x20, r >= 0x7f && r <= 0x9f:
		return true
	case r == 0x2028, r == 0x2029:
		return true
	case r == 0x061c, r == 0x200e, r == 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
		return true
	}
	return false
}

func visibleASCII(s string) bool {
	for i := range len(s) {
		if s[i] <= 0x20 || s[i] >= 0x7f {
			return false
		}
	}
	return true
}
