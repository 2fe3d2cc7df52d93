package main

import (
	"crypto/tls"
	"fmt"
	"strings"
	"time"

	"vitrine/internal/evidence"
	"vitrine/internal/tlsmsg"
)

// words is the explanation as text. Every line is cleaned: names in it are a peer's words.
func (s *shownEvidence) words() string {
	w := &pageWriter{}
	e := s.e
	w.line("%s for %s, made %s", s.title(), e.Authority, s.when())
	s.way(w)
	s.origin(w)
	w.head(s.hop() + ", as the proxy sees it")
	h := hopWords(&e.Hop)
	w.line("%s, %s, group %s, ALPN %q", h.Version, h.Suite, orNone(h.Group), h.ALPN)
	if e.Kind == evidence.Chain {
		w.line("it is the hop to the next proxy")
	} else if e.Hop.Verified {
		w.line("the proxy says that it verified the origin's chain by its own roots")
	} else {
		w.line("the proxy says that it did not verify the origin's chain")
	}
	w.line("OCSP response: %d bytes; certificate timestamps: %d", len(e.Hop.OCSP), len(e.Hop.SCTs))
	switch {
	case s.x.Transcript != nil:
		s.transcript(w, s.x.Transcript)
	case s.x.Statement != nil:
		s.statement(w, s.x.Statement)
	default:
		w.head("what the origin signed")
		w.line("nothing")
	}
	w.head("verified again")
	for _, line := range s.outcome() {
		w.line("%s", line)
	}
	proves, not := s.meaning()
	w.head(s.provesHead())
	for _, line := range proves {
		w.line("- %s", line)
	}
	w.head("it does not prove")
	for _, line := range not {
		w.line("- %s", line)
	}
	return w.String()
}

func (s *shownEvidence) title() string {
	if s.e.Kind == evidence.Authenticator && s.e.Strength() != evidence.Authenticator {
		return "authenticator without the origin's answer, which counts as a transcript,"
	}
	return s.e.Kind.String()
}

// hop is the one that the evidence is of, counted from the client.
func (s *shownEvidence) hop() string { return fmt.Sprintf("hop %d", len(s.links)+2) }

// way lists the proxies that the evidence passes.
func (s *shownEvidence) way(w *pageWriter) {
	if len(s.links) == 0 {
		return
	}
	w.head("the proxies behind the first")
	for i, l := range s.shownLinks() {
		signed := "it signed this hop for the request"
		if !l.Fresh {
			signed = "the hop was made for an earlier request"
		}
		w.line("%d. %s, leaf SHA-256 %s", i+2, orNone(l.Subject), l.Leaf)
		w.line("   hop %d, to it: %s, %s, group %s, ALPN %q; %s", i+2, l.Hop.Version, l.Hop.Suite, orNone(l.Hop.Group), l.Hop.ALPN, signed)
	}
}

func (s *shownEvidence) when() string {
	at := s.e.Time.Format(time.RFC3339)
	age := s.age.Round(time.Second)
	switch {
	case age < 0:
		return fmt.Sprintf("%s by the proxy's clock, %v in the future", at, -age)
	case age >= 48*time.Hour:
		return fmt.Sprintf("%s by the proxy's clock, %d days ago", at, int(age.Hours()/24))
	}
	return fmt.Sprintf("%s by the proxy's clock, %v ago", at, age)
}

func (s *shownEvidence) origin(w *pageWriter) {
	if s.e.Kind == evidence.Chain {
		w.head("the next proxy's certificates")
	} else {
		w.head("the origin's certificates")
	}
	if len(s.x.Chain) == 0 {
		w.line("cannot be read")
	}
	for i, c := range s.x.Chain {
		w.line("%d. %s, issued by %s", i+1, orNone(c.Subject.String()), orNone(c.Issuer.String()))
		w.line("   valid from %s to %s", c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339))
		if names := certNames(c); len(names) > 0 {
			w.line("   for %s", strings.Join(names, ", "))
		}
		w.line("   SPKI SHA-256 %s", spkiHex(c))
	}
}

func (s *shownEvidence) transcript(w *pageWriter, t *evidence.TranscriptExplanation) {
	if s.e.Kind == evidence.Chain {
		w.head("what the next proxy signed, its handshake with the proxy")
	} else {
		w.head("what the origin signed, its handshake with the proxy")
	}
	names := make([]string, len(t.Messages))
	for i, m := range t.Messages {
		names[i] = m.String()
	}
	w.line("messages: %s", strings.Join(names, ", "))
	w.line("server_name: %s", orNone(t.ServerName))
	is := "which should be"
	if s.verified {
		is = "which is"
	}
	w.line("random: %x, %s a hash over nonce, salt, proxy and authority", t.Random, is)
	w.line("salt: %x, the proxy's", s.e.Salt)
	w.line("offered: %s", quoted(t.Offered))
	if t.Scheme == 0 {
		return // it could not be read so far
	}
	w.line("picked: %s", quotedOr(t.Picked, "nothing"))
	w.line("signed with %v", t.Scheme)
	switch {
	case s.e.Kind == evidence.Chain:
	case s.e.Hop.Version != tls.VersionTLS13:
		w.line("the origin does not speak TLS 1.3, or its random would say so; so it speaks no token for inner sessions")
	case t.OfferedTokens && t.PickedNone:
		w.line("every token for inner sessions was offered first, and the origin picked none")
	case t.OfferedTokens:
		w.line("every token for inner sessions was offered first, and the origin picked one")
	default:
		w.line("the proxy did not offer every token for inner sessions first: this justifies no level below intact")
	}
}

func (s *shownEvidence) statement(w *pageWriter, st *evidence.Statement) {
	w.head("what the origin signed, an RFC 9261 authenticator on " + s.hop())
	w.line("nonce: %x", st.Nonce)
	w.line("hop_id: %x", st.HopID)
	w.line("signed with %v", st.Scheme)
	w.head("the origin's answer")
	a := st.Answer
	if a == nil {
		w.line("none: it signed what it was asked to, and said nothing about a proxy")
		return
	}
	if a.HopPeer == tlsmsg.HopPeerProxy {
		w.line("it knows that the last proxy of the request reads, by the certificate that it saw on %s, and allows it", s.hop())
	} else {
		w.line("it knows that a proxy reads and allows it; %s showed it no certificate, so it did not check which", s.hop())
	}
	w.line("%s, as it saw it: %s, %s, ALPN %q", s.hop(), tls.VersionName(a.HopVersion), tlsmsg.SuiteName(a.HopSuite), a.HopALPN)
	w.line("said at %s by its clock, for %v", a.Time.Format(time.RFC3339), a.Lifetime)
}

// outcome says how far it was verified, and what is missing.
func (s *shownEvidence) outcome() []string {
	by := "the system's roots"
	if s.roots != "" {
		by = "the roots in " + s.roots
	}
	switch {
	case s.err != nil:
		return []string{"no: " + s.err.Error()}
	case s.verified:
		return []string{
			fmt.Sprintf("yes, as of its own time, %s, by %s", s.e.Time.Format(time.RFC3339), by),
			fmt.Sprintf("nonce %x", s.offer.Nonce),
			fmt.Sprintf("proxy %x", s.offer.Proxies[len(s.offer.Proxies)-1]),
		}
	}
	var out []string
	if s.chain {
		out = append(out, "the chain only, as of its own time, by "+by)
	}
	out = append(out, "no: for whom it was made is not known here")
	for _, m := range s.missing() {
		out = append(out, "missing: "+m)
	}
	return append(out, "the --report of its fetch has both")
}

func (s *shownEvidence) missing() []string {
	if s.offer != nil {
		return []string{}
	}
	return []string{"the nonce of the CONNECT (--nonce)", "the proxy's certificate or its SHA-256 (--proxy)"}
}

func (s *shownEvidence) provesHead() string {
	if s.verified {
		return "it proves"
	}
	if s.err != nil {
		return "it would prove, if it held"
	}
	return "it would prove, if it verified"
}

// meaning is what evidence of this kind proves once it is verified, and what it never does.
func (s *shownEvidence) meaning() (proves, not []string) {
	never := []string{
		"where later bytes come from: for that there is the inner session",
		"which address the proxy dialled",
		"that it was fresh: only the client that made the nonce could know",
	}
	if s.e.Kind == evidence.Claim || s.e.Kind == evidence.Transcript {
		never[0] = "where later bytes come from: a level below intact has no inner session, and only signed has the origin's signature"
	}
	key := "a key for " + s.e.Authority + " answered this nonce, for this proxy and this authority"
	switch s.e.Kind {
	case evidence.Chain:
		return []string{"a key of the next proxy's answered this nonce, for the proxies of the request and this authority"},
			append([]string{"anything about the origin: the request has to name that proxy first"}, never...)
	case evidence.Claim:
		return []string{"nothing: a chain is public, and all else here is the proxy's word"}, append([]string{"that anybody asked the origin"}, never...)
	case evidence.Transcript:
		not = append([]string{"that the origin knows of the proxy: it signed without having heard of it"}, never...)
		if s.e.Hop.Version != tls.VersionTLS13 {
			return []string{key}, append(not, "which protocols the proxy offered: a signature of TLS 1.2 does not cover them")
		}
		proves = append(proves, key, s.hop()+"'s version, suite, group and ALPN: the origin signed them")
		if t := s.x.Transcript; t != nil && t.Scheme != 0 && t.OfferedTokens && t.PickedNone {
			proves = append(proves, "the origin speaks no inner sessions over "+s.hop()+": it was asked first, and picked none")
		}
		return proves, not
	}
	group := s.hop() + "'s group, and whether the proxy verified anything: its word"
	if s.e.Strength() != evidence.Authenticator {
		return []string{key}, append([]string{
			"that the origin knows of the proxy: it did not say so",
			"anything of " + s.hop() + " but its handshake context: the rest is the proxy's word",
		}, never...)
	}
	return []string{key, "the origin knows that a proxy reads, and allows it", s.hop() + "'s version, suite and ALPN: the origin says the same"}, append([]string{group}, never...)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func quoted(list []string) string {
	if len(list) == 0 {
		return "nothing"
	}
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = fmt.Sprintf("%q", s)
	}
	return strings.Join(out, ", ")
}

func quotedOr(s, none string) string {
	if s == "" {
		return none
	}
	return fmt.Sprintf("%q", s)
}

// A pageWriter collects sections of lines.
type pageWriter struct {
	strings.Builder
	indent string
}

func (w *pageWriter) head(text string) {
	w.WriteString("\n" + text + ":\n")
	w.indent = "  "
}

func (w *pageWriter) line(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	lead := text[:len(text)-len(strings.TrimLeft(text, " "))]
	w.WriteString(w.indent + lead + oneLine(text) + "\n")
}
