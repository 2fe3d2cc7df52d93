package main

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"vitrine/client"
)

// The exit statuses. Scripts rely on them: they only ever grow.
const (
	exitOK          = 0
	exitOther       = 1  // anything that has no number of its own
	exitUsage       = 2  // flags, arguments, or files named in them that cannot be used
	exitKilled      = 20 // killed by the proxy
	exitLevel       = 21 // no level that the user accepts is on offer
	exitIntegrity   = 22 // bytes or evidence altered, replayed or borrowed, or a session or response cut on the way
	exitProxyTrust  = 23 // proxy not trusted, no consent, or the proxy does not let this client in
	exitOriginTrust = 24 // origin not trusted
	exitUnreachable = 25 // proxy or origin unreachable
)

const exitCodesHelp = `Exit status:
   0   fine
   1   anything that has no number of its own
   2   usage: flags, arguments, or files named in them that cannot be used
   20  killed by the proxy
   21  level not on offer
   22  integrity: bytes or evidence altered, replayed or borrowed, or a session or response cut on the way
   23  proxy not trusted, no consent, or the proxy does not let this client in
   24  origin not trusted
   25  proxy or origin unreachable`

// A usageError is about the command line, or a file named on it.
type usageError struct{ msg string }

func (e *usageError) Error() string { return e.msg }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// exitCode is the exit status that err stands for.
func exitCode(err error) int {
	var (
		usage       *usageError
		killed      *client.KilledError
		level       *client.LevelError
		integrity   *client.IntegrityError
		trust       *client.TrustError
		unreachable *client.UnreachableError
		inner       *innerError
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &inner):
		return inner.status
	case errors.As(err, &killed):
		return exitKilled
	case errors.As(err, &integrity):
		return exitIntegrity
	case errors.As(err, &trust):
		if trust.Party == client.PartyOrigin {
			return exitOriginTrust
		}
		return exitProxyTrust
	case errors.As(err, &level):
		return exitLevel
	case errors.As(err, &unreachable):
		return exitUnreachable
	}
	return exitOther
}

// oneLine folds an error into one printable line: part of it may be a peer's words, which must not
// move the cursor, forge a line or turn the direction of the text.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	return strings.Join(strings.Fields(s), " ")
}
