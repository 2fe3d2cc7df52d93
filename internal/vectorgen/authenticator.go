package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"hash"

	"vitrine/spec/vectors"
)

// An authenticator is RFC 9261's, section 6.3; a generator changes what its vector is about.
type authenticator struct {
	r        request
	signed   request // what the signature covers; the same, unless the vector is about that
	by       *party
	context  []byte // certificate_request_context, nil for the nonce
	hop      []byte // the handshake context
	finished []byte // the finished key, which no evidence holds
	suite    uint16
	answer   []byte // nil for none
	more     []byte // extensions of the leaf's entry behind the answer
	label    string
	claim    string // hop_alpn of the evidence
	version  uint16 // hop_version of the evidence
	edit     func([]byte) []byte
	macEdit  func([]byte) []byte
}

func goodAuthenticator() authenticator {
	same := func(b []byte) []byte { return b }
	return authenticator{
		r: goodRequest(), signed: goodRequest(), by: origin(), hop: fill(0xcc, 32), finished: fill(0xee, 32), suite: 0x1301,
		answer: goodAnswer().bytes(), label: "Exported Authenticator", claim: "itls-h2/1", version: 0x0304, edit: same, macEdit: same,
	}
}

func (a authenticator) with(change func(*authenticator)) authenticator {
	change(&a)
	return a
}

func (a authenticator) sum(parts ...[]byte) []byte {
	if a.suite == 0x1302 {
		return sha384Of(parts...)
	}
	return sha256Of(parts...)
}

func (a authenticator) mac(parts ...[]byte) []byte {
	newHash := func() hash.Hash { return sha256.New() }
	if a.suite == 0x1302 {
		newHash = sha512.New384
	}
	m := hmac.New(newHash, a.finished)
	m.Write(a.sum(parts...))
	return m.Sum(nil)
}

// messages are Certificate, CertificateVerify and Finished (RFC 9261, section 5.2).
func (a authenticator) messages() []byte {
	context := a.context
	if context == nil {
		context = a.r.nonce
	}
	exts := a.more
	if a.answer != nil {
		exts = join(extension(0xff49, a.answer), exts)
	}
	cert := message(msgCertificate, vec8(context), certificateEntries([][]byte{a.by.cert.Raw}, exts))
	sig := a.by.sign(a.label, a.sum(a.hop, a.signed.bytes(), cert))
	verify := message(msgCertificateVerify, u16(a.by.scheme()), vec16(sig))
	return a.edit(join(cert, verify, message(msgFinished, a.macEdit(a.mac(a.hop, a.r.bytes(), cert, verify)))))
}

// evidence is what the proxy hands on.
func (a authenticator) evidence() []byte {
	f := goodForm()
	f.kind, f.version, f.suite, f.alpn = 3, a.version, a.suite, a.claim
	f.chain = [][]byte{a.by.cert.Raw}
	f.tail = join(vec8(a.hop), vec16(a.messages()))
	return f.bytes()
}

// empty is an empty authenticator, by which an origin refuses (RFC 9261, section 6).
func (a authenticator) empty() []byte {
	none := message(msgCertificate, vec8(a.r.nonce), vec24(nil))
	return message(msgFinished, a.macEdit(a.mac(a.hop, a.r.bytes(), none)))
}

// confirmed is what a client knows of an authenticator that it verified.
func confirmed(answer string) inputs {
	return inputs{"proves": "authenticator", "answer": answer, "offered tokens": "false", "picked none": "false"}
}

func authenticators() []vectors.Vector {
	good := goodAuthenticator()
	bad := func(name, expect, comment string, change func(*authenticator)) vectors.Vector {
		return verified(name, expect, comment, nil, good.with(change).evidence())
	}
	otherAnswer := func(change func(*answer)) func(*authenticator) {
		return func(a *authenticator) { a.answer = goodAnswer().with(change).bytes() }
	}
	sha384 := func(a *authenticator) {
		a.hop, a.finished, a.suite = fill(0xcd, 48), fill(0xef, 48), 0x1302
		a.answer = goodAnswer().with(func(x *answer) {
			x.hopSuite, x.hopID = 0x1302, sha256Of(text("vitrine hop v1\x00"), fill(0xcd, 48))
		}).bytes()
	}
	return []vectors.Vector{
		verified("authenticator", vectors.Success, "an origin that knows the proxy and allows it", confirmed("1"), good.evidence()),
		verified("authenticator-p256", vectors.Success, "a key of another kind", confirmed("1"), good.with(func(a *authenticator) { a.by = originP256() }).evidence()),
		verified("authenticator-sha-384", vectors.Success, "a hop with SHA-384", confirmed("1"), good.with(sha384).evidence()),
		verified("authenticator-no-peer", vectors.Success, "hop 2 showed the origin no certificate", confirmed("0"),
			good.with(otherAnswer(func(a *answer) { a.peer = 0 })).evidence()),
		verified("authenticator-no-answer", vectors.Success, "an RFC 9261 origin that does not know the extension: it counts as a transcript", confirmed("none"),
			good.with(func(a *authenticator) { a.answer = nil }).evidence()),
		verified("authenticator-finished", vectors.Success, "Finished is wrong: no client can see that", confirmed("1"), good.with(func(a *authenticator) { a.macEdit = flipLast }).evidence()),
		verified("claim", vectors.Success, "a chain and the proxy's word", inputs{"proves": "claim", "offered tokens": "false", "picked none": "false"}, goodForm().bytes()),

		bad("authenticator-replayed", vectors.Foreign, "it answers another nonce", func(a *authenticator) {
			a.r.nonce = fill(0xbc, 32)
			a.signed = a.r
		}),
		bad("authenticator-borrowed", vectors.Altered, "it answers a request for another proxy", func(a *authenticator) { a.signed.proxies = [][]byte{proxyP256().leaf()} }),
		bad("authenticator-other-request", vectors.Altered, "the request that was signed asked for less", func(a *authenticator) { a.signed.schemes = []uint16{0x0403, 0x0807} }),
		bad("authenticator-other-hop", vectors.Altered, "it is shown with the handshake context of another hop", func(a *authenticator) {
			a.edit = func([]byte) []byte { return goodAuthenticator().messages() }
			a.hop = fill(0xcb, 32)
		}),
		bad("authenticator-client", vectors.Altered, "signed as a handshake is", func(a *authenticator) { a.label = "TLS 1.3, server CertificateVerify" }),
		bad("answer-other-hop", vectors.Altered, "the answer is about another hop 2", otherAnswer(func(a *answer) { a.hopID = fill(1, 32) })),
		bad("answer-other-suite", vectors.Altered, "the origin saw another suite on hop 2", otherAnswer(func(a *answer) { a.hopSuite = 0x1303 })),
		bad("answer-other-version", vectors.Altered, "the origin saw another version on hop 2", otherAnswer(func(a *answer) { a.hopVersion = 0x0303 })),
		bad("answer-other-alpn", vectors.Altered, "the origin saw another protocol on hop 2", otherAnswer(func(a *answer) { a.hopALPN = "itls/1" })),
		bad("answer-version", vectors.Malformed, "an answer of version 2", otherAnswer(func(a *answer) { a.version = 2 })),
		bad("authenticator-unasked", vectors.Malformed, "an extension that the request did not offer", func(a *authenticator) { a.more = extension(0x0a0a) }),
		bad("authenticator-scheme", vectors.Malformed, "a scheme that the request did not offer", func(a *authenticator) {
			a.edit = func(b []byte) []byte {
				at := len(b) - (4 + 32) - (2 + 2 + 64) // the scheme of CertificateVerify
				return join(b[:at], u16(0x0401), b[at+2:])
			}
		}),
		bad("authenticator-tls12", vectors.Malformed, "the proxy says that hop 2 is TLS 1.2", func(a *authenticator) { a.version = 0x0303 }),
		bad("authenticator-context", vectors.Malformed, "a handshake context that is longer than the hash of the hop", func(a *authenticator) { a.hop = fill(0xcc, 48) }),
		bad("authenticator-empty", vectors.Malformed, "a refusal: only a proxy can read it", func(a *authenticator) {
			a.edit = func([]byte) []byte { return goodAuthenticator().empty() }
		}),
		bad("authenticator-cut", vectors.Malformed, "it ends inside Finished", func(a *authenticator) { a.edit = func(b []byte) []byte { return cut(b, 1) } }),
		bad("authenticator-behind", vectors.Malformed, "a byte behind Finished", func(a *authenticator) { a.edit = func(b []byte) []byte { return more(b, 0) } }),
		bad("authenticator-stranger", vectors.Untrusted, "a chain to a root that the client does not have", func(a *authenticator) {
			a.by = issue(strangerRoot(), seeded(9), webServer(originHost))
		}),
	}
}

// hop2Authenticator is what an origin sends to a proxy, which has the finished key.
func hop2Authenticator() []vectors.Vector {
	good := goodAuthenticator()
	of := func(name, expect, comment string, a authenticator, payload ...[]byte) vectors.Vector {
		in := inputs{
			"request": hexed(a.r.bytes()), "hop suite": hexed(u16(a.suite)), "handshake context": hexed(a.hop), "finished key": hexed(a.finished),
		}
		if expect == vectors.Success {
			in["authenticator"] = hexed(a.messages())
		}
		return vector(name, expect, comment, in, payload...)
	}
	envelope := func(b []byte) []byte { return join(u8(1), u8(0x80), vec16(b)) }
	bad := func(name, expect, comment string, change func(*authenticator)) vectors.Vector {
		a := good.with(change)
		return of(name, expect, comment, a, envelope(a.messages()))
	}
	silent := good.with(func(a *authenticator) { a.answer = nil })
	sha384 := good.with(func(a *authenticator) {
		a.hop, a.finished, a.suite, a.answer = fill(0xcd, 48), fill(0xef, 48), 0x1302, nil
	})
	return []vectors.Vector{
		of("plain", vectors.Success, "an authenticator with an answer", good, envelope(good.messages())),
		of("no-answer", vectors.Success, "an origin that does not know the extension", silent, envelope(silent.messages())),
		of("sha-384", vectors.Success, "a hop with SHA-384", sha384, envelope(sha384.messages())),
		of("refused", vectors.Refused, "an empty authenticator: the origin refuses", good, envelope(good.empty())),
		of("forged-refusal", vectors.Altered, "an empty authenticator by somebody without the finished key", good,
			envelope(good.with(func(a *authenticator) { a.finished = fill(1, 32) }).empty())),
		bad("finished", vectors.Altered, "Finished is wrong", func(a *authenticator) { a.macEdit = flipLast }),
		bad("signature", vectors.Altered, "the signature is over another request", func(a *authenticator) { a.signed.schemes = []uint16{0x0403} }),
		bad("context", vectors.Foreign, "it answers another nonce", func(a *authenticator) { a.context = fill(0xbc, 32) }),
		bad("behind-finished", vectors.Malformed, "a byte behind Finished", func(a *authenticator) { a.edit = func(b []byte) []byte { return more(b, 0) } }),
		of("version-2", vectors.Malformed, "version 2", good, u8(2), u8(0x80), vec16(good.messages())),
		of("kind-3", vectors.Malformed, "the kind of evidence that a proxy makes", good, u8(1), u8(3), vec16(good.messages())),
		of("behind", vectors.Malformed, "a byte behind its end", good, envelope(good.messages()), u8(0)),
		of("cut", vectors.Malformed, "it ends inside the authenticator", good, cut(envelope(good.messages()), 1)),
		of("no-authenticator", vectors.Malformed, "an authenticator of no bytes", good, envelope(nil)),
		of("empty", vectors.Malformed, "no bytes", good),
	}
}
