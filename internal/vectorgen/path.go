package main

import "vitrine/spec/vectors"

// second and third are proxies behind proxy.
func second() *party { return issue(proxyRoot(), seeded(20), proxyAt("second.example")) }
func third() *party  { return issue(proxyRoot(), scalar(21), proxyAt("third.example")) }

// A step is one link of a path (section 6.8); a generator changes what its vector is about.
type step struct {
	handshake
	version uint16
	unmade  bool // on a connection that was made for another request
	next    []byte
}

// stepTo is a good link to p, behind which is next.
func stepTo(r request, p *party, next []byte) step {
	h := goodHandshake()
	h.r, h.by, h.name, h.authority = r, p, p.cert.DNSNames[0], r.authority
	h.offered, h.picked = []string{"h2"}, "h2"
	return step{h, 0x0304, false, next}
}

func (s step) bytes() []byte {
	e := goodForm()
	e.kind, e.version, e.suite, e.group, e.alpn, e.authority, e.ms = 4, s.version, s.suite, s.selected, s.picked, s.authority, s.ms
	if s.claimALPN != "" {
		e.alpn = s.claimALPN
	}
	e.chain = [][]byte{s.by.cert.Raw}
	salt, messages := s.salt, s.messages()
	if s.unmade {
		salt, messages = fill(0, 32), nil
	}
	e.tail = join(salt, vec16(messages), vec16(s.next))
	return e.bytes()
}

func evidencePath() []vectors.Vector {
	along := func(path ...*party) request {
		return goodRequest().with(func(r *request) {
			r.proxies = nil
			for _, p := range path {
				r.proxies = append(r.proxies, p.leaf())
			}
		})
	}
	about := func(r request) []byte {
		return goodHandshake().with(func(h *handshake) { h.r = r }).tls13()
	}
	one, two, three := along(proxy()), along(proxy(), second()), along(proxy(), second(), third())
	with := func(s step, change func(*step)) []byte {
		change(&s)
		return s.bytes()
	}
	knows := func(r request) inputs { return inputs{"request": hexed(r.bytes()), "now ms": "1764000000123"} }
	ok := func(name, comment string, r request, links, fresh, ahead string, evidence []byte) vectors.Vector {
		return vector(name, vectors.Success, comment, join2(knows(r), inputs{"links": links, "fresh": fresh, "ahead": ahead}), evidence)
	}
	bad := func(name, expect, comment string, r request, evidence []byte) vectors.Vector {
		return vector(name, expect, comment, knows(r), evidence)
	}
	good := func() step { return stepTo(two, second(), about(two)) }
	toSecond, toThird := hexed(second().leaf()), hexed(third().leaf())
	return []vectors.Vector{
		ok("alone", "one proxy, which shows the origin", one, "", "", "", about(one)),
		ok("ahead", "one proxy, which leads to a second", one, "", "", toSecond+" second.example", stepTo(one, second(), nil).bytes()),
		ok("one-link", "two proxies", two, toSecond, "true", "", good().bytes()),
		ok("unmade", "two proxies, on a connection that was made for an earlier request", two, toSecond, "false", "", with(good(), func(s *step) { s.unmade = true })),
		ok("ahead-of-two", "two proxies, of which the second leads to a third", two, toSecond, "true", toThird+" third.example",
			stepTo(two, second(), stepTo(two, third(), nil).bytes()).bytes()),
		ok("two-links", "three proxies", three, toSecond+" "+toThird, "true true", "",
			stepTo(three, second(), stepTo(three, third(), about(three)).bytes()).bytes()),

		bad("no-link", vectors.Foreign, "the second proxy is left out", two, about(two)),
		bad("link-too-few", vectors.Foreign, "the third proxy is left out", three, stepTo(three, second(), about(three)).bytes()),
		bad("link-too-many", vectors.Foreign, "a proxy behind the last shows the origin", one, stepTo(one, second(), about(one)).bytes()),
		bad("other-proxy", vectors.Foreign, "it leads through another second proxy", two, stepTo(two, third(), about(two)).bytes()),
		bad("other-order", vectors.Foreign, "second and third have changed places", three, stepTo(three, third(), stepTo(three, second(), about(three)).bytes()).bytes()),
		bad("loop", vectors.Foreign, "behind the second proxy is the first", two, stepTo(two, second(), stepTo(two, proxy(), nil).bytes()).bytes()),
		bad("itself", vectors.Foreign, "behind the first proxy is the first", one, stepTo(one, proxy(), nil).bytes()),
		bad("replayed", vectors.Foreign, "the link answers another nonce", two, with(good(), func(s *step) { s.r.nonce = fill(0xbc, 32) })),
		bad("shorter-path", vectors.Foreign, "the link was made for the first proxy alone", two, with(good(), func(s *step) { s.r = one })),
		bad("other-authority", vectors.Foreign, "the link says that it is about another authority", two, with(good(), func(s *step) { s.authority = "other.example:443" })),
		bad("too-old", vectors.Stale, "the link is a millisecond older than 60 seconds", two, with(good(), func(s *step) { s.ms -= 60001 })),
		bad("says-other-protocol", vectors.Altered, "the proxy says that the hop has another protocol", two, with(good(), func(s *step) { s.offered, s.picked, s.claimALPN = []string{"http/1.1"}, "http/1.1", "h2" })),
		bad("client-signature", vectors.Altered, "the signature is a client's", two, with(good(), func(s *step) { s.context = "TLS 1.3, client CertificateVerify" })),
		bad("not-h2", vectors.Malformed, "the hop speaks another protocol", two, with(good(), func(s *step) { s.offered, s.picked = []string{"http/1.1"}, "http/1.1" })),
		bad("tls12", vectors.Malformed, "the hop is said to be of TLS 1.2", two, with(good(), func(s *step) { s.unmade, s.version = true, 0x0303 })),
		bad("upper-case", vectors.Malformed, "the next proxy was dialled by a name in another spelling", two, with(good(), func(s *step) { s.name = "SECOND.example" })),
		bad("no-name", vectors.Malformed, "the next proxy was dialled by no name", two, with(good(), func(s *step) { s.name = "" })),
		bad("address", vectors.Malformed, "the next proxy was dialled by an address", two, with(good(), func(s *step) { s.name = "192.0.2.1" })),
		bad("no-evidence", vectors.Malformed, "behind the link is something else", two, with(good(), func(s *step) { s.next = text("hello") })),
	}
}
