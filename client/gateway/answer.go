package gateway

import (
	"errors"
	"fmt"
	"html"
	"net/http"
	"strings"
	"unicode"

	"vitrine/client"
)

// classify is the status and the word for an error of the Transport. 403 is for what user and proxy decided, 502
// for what is broken.
func classify(err error) (status int, class string) {
	var (
		killed      *client.KilledError
		level       *client.LevelError
		integrity   *client.IntegrityError
		trust       *client.TrustError
		unreachable *client.UnreachableError
	)
	switch {
	case errors.As(err, &killed):
		return http.StatusForbidden, "killed"
	case errors.As(err, &integrity):
		return http.StatusBadGateway, "integrity"
	case errors.As(err, &trust):
		switch trust.Party {
		case client.PartyConsent:
			return http.StatusForbidden, "consent"
		case client.PartyCredentials:
			return http.StatusForbidden, "credentials"
		case client.PartyOrigin:
			return http.StatusBadGateway, "origin-trust"
		}
		return http.StatusBadGateway, "proxy-trust"
	case errors.As(err, &level):
		return http.StatusForbidden, "level"
	case errors.As(err, &unreachable):
		return http.StatusBadGateway, "unreachable"
	}
	return http.StatusBadGateway, "other"
}

// refuse answers where nothing was tried.
func (x *exchange) refuse(w http.ResponseWriter, r *http.Request, status int, why string) {
	x.err = errors.New(why)
	x.answer(w, r, status, "refused", why)
}

// maxWords is more than anybody reads, and what others say in an error is in it.
const maxWords = 2 << 10

// answer says why in a line, or in a page to a program that asked for one.
func (x *exchange) answer(w http.ResponseWriter, r *http.Request, status int, class, why string) {
	why = printable(why)
	h := w.Header()
	clear(h)
	own(h)
	h.Set(ErrorField, class)
	if r.Method == http.MethodConnect || !r.ProtoAtLeast(1, 1) {
		// What follows may be meant for a tunnel, or be chunks, which HTTP/1.0 does not know: it is no request.
		h.Set("Connection", "close")
	}
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		h.Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(status)
		fmt.Fprintf(w, page, status, html.EscapeString(http.StatusText(status)), html.EscapeString(why))
		return
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, "vitrine gateway: %s\n", why)
}

// own are the fields of what the gateway itself says.
func own(h http.Header) {
	h.Set(LevelField, NoLevel)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
}

const page = `<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>Vitrine gateway: not passed on</title>
<style>body { font: 1.1em/1.5 sans-serif; max-width: 40em; margin: 4em auto; padding: 0 1em }</style>
<h1>%d %s</h1>
<p>%s</p>
<p><small>The gateway on this machine says so; nothing of this page came from the site.</small></p>
</html>
`

// printable keeps strangers' words on one line, and short.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxWords {
		s = strings.ToValidUTF8(s[:maxWords], "") + "..."
	}
	return s
}
