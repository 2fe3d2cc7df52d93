package main

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"vitrine/client"
)

// sent, received and describe are -v: what was asked, what came, and who could read and change it.
func (f *fetcher) sent(req *http.Request) {
	if !f.verbose {
		return
	}
	f.say("> %s %s", req.Method, req.URL.Redacted())
}

func (f *fetcher) received(resp *http.Response) {
	if !f.verbose {
		return
	}
	for _, line := range headLines(resp) {
		f.say("< %s", line)
	}
}

func (f *fetcher) describe(r *client.Report) {
	if !f.verbose || r == nil {
		return
	}
	if r.Level != "" {
		words := r.Level.Words()
		if len(r.Proxies) > 1 {
			words = strings.Replace(words, "the proxy ", "each of the proxies ", 1)
		}
		f.say("* level %s: %s", r.Level, words)
	}
	for _, p := range r.Proxies {
		f.say("* proxy %s (SPKI SHA-256 %s)", p.Subject, p.SPKI)
	}
	for i, h := range r.Hops {
		if i < len(r.Hops)-1 {
			f.say("* hop %d, to the next proxy: %s, %s, %s, ALPN %q", i+2, h.Version, h.Suite, h.Group, h.ALPN)
		}
	}
	if e := r.Evidence; e != nil {
		f.say("* evidence %s for %s, verified %t: %s", e.Kind, e.Authority, e.Verified, e.OriginSubject)
		f.say("* hop %d, as the proxy sees it: %s, %s, %s, ALPN %q", max(len(r.Hops), 1)+1, e.Hop.Version, e.Hop.Suite, groupOf(e.Hop.Group), e.Hop.ALPN)
	}
	if i := r.Inner; i != nil {
		f.say("* end to end: %s, %s, %s, ALPN %q, confirmed by the origin: %t", i.Version, i.Suite, i.Group, i.ALPN, i.Confirmed)
	}
	if s := r.Signature; s != nil {
		f.say("* signed by the key with SPKI SHA-256 %s, verified %t: %s", s.KeyID, s.Verified, strings.Join(s.Covered, " "))
		if s.Fresh {
			f.say("* signed for this very request")
		} else {
			f.say("* signed for whoever asks the same: it can be shown again until %s", s.ReplayableUntil.Format(time.RFC3339))
		}
	}
	if k := r.Killed; k != nil {
		f.say("* killed by %s: %s: %s (signature verified: %t)", k.Proxy, k.Rule, k.Reason, k.SignatureVerified)
	}
}

// groupOf is the group of a hop's key exchange, which has none where the key is sent under RSA.
func groupOf(name string) string {
	if name == "" {
		return "group none"
	}
	return name
}

func (f *fetcher) say(format string, args ...any) {
	fmt.Fprintln(f.std.err, oneLine(fmt.Sprintf(format, args...)))
}
