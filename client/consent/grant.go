package consent

import (
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"vitrine/client"
	"vitrine/internal/fields"
	"vitrine/internal/hosts"
)

// MaxTime is the longest that a grant may last: what is agreed to for ever is not looked at again.
const MaxTime = 366 * 24 * time.Hour

const (
	// maxScope stops one grant from taking the room of all others.
	maxScope = 256
	// maxSubject bounds what a certificate, which is a stranger's text, can put into the file and on a terminal.
	maxSubject = 512
	idBytes    = 5 // 8 letters
)

// A Grant is the user's consent to one proxy's reading, for some hosts, until a time; and to its changing, where
// Levels say so.
type Grant struct {
	ID            string   // names it to Revoke: 8 letters and digits; chosen by Add
	ProxyRootSPKI [32]byte // SHA-256 of the SubjectPublicKeyInfo of the proxy's root
	ProxyName     string   // the name that is verified on hop 1, in canonical form
	ProxySubject  string   // of the proxy's certificate when it was granted, to show; "" if it was not known
	Scope         []hosts.Pattern
	Granted       time.Time
	Until         time.Time // at most MaxTime after Granted
	Credentials   bool      // passwords, cookies and tokens may be read too
	// Levels are what the hosts may be reached at through the proxy. Consent to one covers every level that lets
	// the proxy do no more; [Store.Choose] takes those alone that are named. Add's default: Intact.
	Levels []client.Level
}

// Covers says whether the grant allows what is asked for at a time; credentials aside.
func (g *Grant) Covers(req *client.ConsentRequest, now time.Time) bool {
	return g.counts(req.ProxyRootSPKI, req.ProxyName, req.Authority, now) && highest(req.Levels) <= highest(g.Levels)
}

// counts says whether the grant is about this proxy and authority at a time.
func (g *Grant) counts(root [32]byte, name, authority string, now time.Time) bool {
	return g.ProxyRootSPKI == root && g.ProxyName == name && now.Before(g.Until) && hosts.MatchAny(g.Scope, authority)
}

// same says whether two grants allow the same, whenever they end.
func (g *Grant) same(o *Grant) bool {
	return g.ProxyRootSPKI == o.ProxyRootSPKI && g.ProxyName == o.ProxyName && g.Credentials == o.Credentials &&
		sameSet(g.Scope, o.Scope) && sameSet(g.Levels, o.Levels)
}

// continues says whether what was agreed to under old still is.
func (g *Grant) continues(old *Grant) bool {
	return g.ID == old.ID && g.same(old) && !g.Until.Before(old.Until)
}

// put adds g, or makes it one with those that are the same: of two that allow the same, the user who
// revokes one would still have given the other. The longer time counts.
func put(grants []Grant, g Grant) ([]Grant, Grant) {
	at := -1
	kept := grants[:0]
	for i := range grants {
		o := grants[i]
		if !o.same(&g) {
			kept = append(kept, o)
			continue
		}
		if at < 0 {
			at = len(kept)
			kept = append(kept, o)
			g.ID, g.Scope, g.Levels = o.ID, o.Scope, o.Levels
		}
		// Later of both, so that a clock which was ahead makes no grant too long.
		if o.Granted.After(g.Granted) {
			g.Granted = o.Granted
		}
		if o.Until.After(g.Until) {
			g.Until = o.Until
		}
		if g.ProxySubject == "" {
			g.ProxySubject = o.ProxySubject
		}
	}
	if at < 0 {
		return append(kept, g), g
	}
	kept[at] = g
	return kept, g
}

// distinct is scope without what comes twice.
func distinct(scope []hosts.Pattern) []hosts.Pattern {
	var out []hosts.Pattern
	for _, p := range scope {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// check returns what is wrong with a grant, whoever made it.
func (g *Grant) check() error {
	switch {
	case !validID(g.ID):
		return fmt.Errorf("id %q is not 8 letters and digits", g.ID)
	case g.ProxyRootSPKI == [32]byte{}:
		return errors.New("no proxy root")
	case clean(g.ProxySubject, maxSubject) != g.ProxySubject:
		return errors.New("the proxy's subject is too long, or cannot be printed")
	case len(g.Scope) == 0:
		return errors.New("no scope; \"*\" names every host")
	case len(g.Scope) > maxScope:
		return fmt.Errorf("%d patterns, at most %d", len(g.Scope), maxScope)
	case g.Granted.IsZero() || !g.Until.After(g.Granted):
		return errors.New("it ends before it begins")
	case g.Until.Sub(g.Granted) > MaxTime:
		return fmt.Errorf("it lasts longer than %d days", MaxTime/(24*time.Hour))
	}
	authority, err := fields.CanonicalAuthority(g.ProxyName, 443)
	if err == nil {
		authority, _, err = fields.ParseAuthority(authority)
	}
	if err != nil || authority != g.ProxyName {
		return fmt.Errorf("proxy name %q is not in canonical form", clean(g.ProxyName, maxSubject))
	}
	for _, p := range g.Scope {
		if _, err := hosts.Parse(p.String()); err != nil {
			return err
		}
	}
	return checkLevels(g.Levels)
}

func validID(id string) bool {
	return len(id) == idBytes*8/5 && !strings.ContainsFunc(id, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '2' || r > '7') })
}

// newID returns one that none of grants has.
func newID(grants []Grant) string {
	for {
		var b [idBytes]byte
		rand.Read(b[:])
		id := strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
		if !slices.ContainsFunc(grants, func(g Grant) bool { return g.ID == id }) {
			return id
		}
	}
}

// clean keeps a stranger's text on one line of a terminal, and at most limit bytes long.
func clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
	if len(s) <= limit {
		return s
	}
	cut := limit - len("…")
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
