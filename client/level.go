package client

import (
	"fmt"
	"slices"
	"strings"
)

// A Level is what a client may say about an exchange: who could have read it and who could have
// changed it. A user accepts a set of levels; no level implies another, because who wants a reader may
// not want none, and the reverse.
type Level string

const (
	// Direct is a TLS connection to the origin that no proxy carries.
	Direct Level = "direct"
	// Blind is a TLS connection to the origin through a tunnel that the proxy cannot read.
	Blind Level = "blind"
	// Intact is an inner session that the proxy can read and nobody can change.
	Intact Level = "intact"
	// Signed is a response that the origin signed, through a proxy that could change the request.
	Signed Level = "signed"
	// Attested is an exchange with a proxy that could change it, and whose connection the origin's key
	// answered for.
	Attested Level = "attested"
	// Claimed is an exchange with a proxy that could change it, on the proxy's word alone.
	Claimed Level = "claimed"
)

// ParseLevel reads a level's name.
func ParseLevel(s string) (Level, error) {
	l := Level(s)
	if !l.known() {
		return "", fmt.Errorf("unknown level %q; the levels are intact, blind, direct, signed, attested and claimed", s)
	}
	return l, nil
}

func (l Level) known() bool {
	return slices.Contains([]Level{Direct, Blind, Intact, Signed, Attested, Claimed}, l)
}

// Readable says whether somebody other than client and origin can read an exchange of this level.
func (l Level) Readable() bool { return l != Direct && l != Blind }

// split says that a proxy which could change the exchange carries it, as a request on hop 1 and no tunnel.
func (l Level) split() bool { return l == Signed || l == Attested || l == Claimed }

// Words says in a sentence who could read and who could change an exchange of this level.
func (l Level) Words() string {
	switch l {
	case Direct:
		return "nobody but you and the origin could read or change it; no proxy was used"
	case Blind:
		return "nobody but you and the origin could read or change it; the proxy carried it sealed"
	case Intact:
		return "the proxy could read it, and nobody could change it"
	case Signed:
		return "the proxy could read it, and change the request but not the response"
	case Attested:
		return "the proxy could read and change it; the origin's key answered for this proxy"
	case Claimed:
		return "the proxy could read and change it; what it says of the origin is its word alone"
	}
	return "unknown"
}

// levelSet is the accepted levels, checked: known, not empty.
func levelSet(levels []Level) ([]Level, error) {
	if len(levels) == 0 {
		return []Level{Intact}, nil
	}
	for _, l := range levels {
		if !l.known() {
			return nil, fmt.Errorf("client: unknown level %q", string(l))
		}
	}
	return levels, nil
}

func join[T ~string](words []T, sep string) string {
	s := make([]string, len(words))
	for i, w := range words {
		s[i] = string(w)
	}
	return strings.Join(s, sep)
}
