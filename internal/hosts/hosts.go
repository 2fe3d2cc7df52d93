// Package hosts is how a user names hosts: in a policy, and in the scope of a consent.
//
// Call [Parse] for each pattern and [Pattern.Match] with the authority of a CONNECT.
package hosts

import (
	"fmt"
	"slices"
	"strings"

	"vitrine/internal/fields"
)

// maxPattern stops a file of patterns from being a way to fill memory; a name is at most 253 bytes.
const maxPattern = 300

// A Pattern names hosts:
//
//   - every host
//     shop.example      this host
//     *.example         every host below example, at any depth, and not example itself
//     192.0.2.1, [2001:db8::1]   this address
//
// Each may end in a port, as in "*.example:8443"; without one it names every port. The zero Pattern
// matches nothing.
type Pattern struct {
	name  string // "" for every host
	below bool   // name itself is not meant
	any   bool
	port  int // 0 for every port
}

// Parse reads a pattern. Names are made canonical (lower case, A-labels), so that a pattern says what
// [fields.CanonicalAuthority] does.
func Parse(s string) (Pattern, error) {
	if len(s) > maxPattern {
		return Pattern{}, fmt.Errorf("a pattern of %d bytes, at most %d", len(s), maxPattern)
	}
	host, port := s, 0
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		host = s[:i]
		var err error
		if port, err = parsePort(s[i+1:]); err != nil || strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
			return Pattern{}, fmt.Errorf("pattern %q: what follows the last colon is no port; an IPv6 address is in brackets", s)
		}
	}
	p := Pattern{port: port}
	if host == "*" {
		p.any = true
		return p, nil
	}
	host, p.below = strings.CutPrefix(host, "*.")
	if strings.Contains(host, "*") {
		return Pattern{}, fmt.Errorf("pattern %q: * stands for whole labels, at the front: \"*\" or \"*.example\"", s)
	}
	authority, err := fields.CanonicalAuthority(host, 1)
	if err != nil {
		return Pattern{}, fmt.Errorf("pattern %q: %w", s, err)
	}
	p.name = strings.TrimSuffix(authority, ":1")
	if p.below && (p.name[0] == '[' || !strings.ContainsFunc(p.name, func(r rune) bool { return r >= 'a' && r <= 'z' })) {
		return Pattern{}, fmt.Errorf("pattern %q: there is nothing below an address", s)
	}
	return p, nil
}

func parsePort(s string) (int, error) {
	n := 0
	for _, c := range []byte(s) {
		if c < '0' || c > '9' || n > 65535 {
			return 0, fmt.Errorf("port %q", s)
		}
		n = n*10 + int(c-'0')
	}
	if n < 1 || n > 65535 || s[0] == '0' {
		return 0, fmt.Errorf("port %q", s)
	}
	return n, nil
}

// Match says whether p names the host and port of authority, which is canonical. What is no authority is
// named by no pattern.
func (p Pattern) Match(authority string) bool {
	// The name first, which is cheap: a policy compares thousands of patterns at each CONNECT.
	i := strings.LastIndexByte(authority, ':')
	if i < 0 || !p.names(authority[:i]) {
		return false
	}
	_, port, err := fields.ParseAuthority(authority)
	return err == nil && (p.port == 0 || p.port == port)
}

func (p Pattern) names(host string) bool {
	switch {
	case p.any:
		return true
	case p.below:
		name, ok := strings.CutSuffix(host, p.name)
		return ok && strings.HasSuffix(name, ".")
	}
	return p.name != "" && host == p.name
}

// MatchAny says whether one of patterns matches.
func MatchAny(patterns []Pattern, authority string) bool {
	return slices.ContainsFunc(patterns, func(p Pattern) bool { return p.Match(authority) })
}

// String is p in its canonical spelling, which Parse reads as p.
func (p Pattern) String() string {
	s := p.name
	switch {
	case p.any:
		s = "*"
	case p.below:
		s = "*." + s
	}
	if p.port != 0 {
		s += fmt.Sprintf(":%d", p.port)
	}
	return s
}
