package main

import "vitrine/spec/vectors"

// A handshake is hop 2's, as a transcript shows it (section 6.4); a generator changes what its vector is
// about.
type handshake struct {
	r    request
	by   *party
	salt []byte

	name       string // server_name
	session    []byte
	suites     []uint16
	schemes    []uint16
	offered    []string
	helloMore  []byte // extensions of the ClientHello behind the others
	shareGroup uint16 // of the ClientHello's key share

	suite       uint16
	selected    uint16 // the group of the server
	picked      string
	serverMore  []byte // extensions of EncryptedExtensions behind the others
	retry       bool
	retryOffer  []string // ALPN of the second ClientHello, nil for the same
	certRequest bool
	context     string // of the signature
	behind      []byte // messages behind the last
	edit        func([]byte) []byte

	claimALPN string // what the proxy says, "" for the truth
	authority string // of the evidence
	ms        uint64
	chain     [][]byte // of the evidence, nil for the truth

	lastRandom []byte // the last 8 bytes of a TLS 1.2 ServerHello.random
}

func goodHandshake() handshake {
	r := goodRequest()
	return handshake{
		r: r, by: origin(), salt: fill(0xdd, 32), name: originHost, session: fill(0x55, 32), suites: []uint16{0x1301, 0x1302, 0xc02b},
		schemes: []uint16{0x0403, 0x0807, 0x0804}, offered: []string{"itls-h2/1", "itls/1", "http/1.1"}, shareGroup: 0x001d,
		suite: 0x1301, selected: 0x001d, picked: "http/1.1", context: "TLS 1.3, server CertificateVerify", authority: r.authority, ms: moment,
		lastRandom: fill(0x66, 8), edit: func(b []byte) []byte { return b },
	}
}

func (h handshake) with(change func(*handshake)) handshake {
	change(&h)
	return h
}

func (h handshake) random() []byte {
	return sha256Of(text("vitrine transcript v1\x00"), h.r.nonce, h.salt, sha256Of(h.r.proxies...), text(h.r.authority))
}

// share is a key share of the group: its value is never used, only its place.
func share(group uint16) []byte {
	if group == 0x0017 {
		return join(u16(group), vec16(join(u8(4), fill(0x44, 64))))
	}
	return join(u16(group), vec16(fill(0x44, 32)))
}

func (h handshake) clientHello(offered []string, group uint16, versions ...uint16) []byte {
	var exts []byte
	if h.name != "" {
		exts = serverName(h.name)
	}
	exts = join(exts, supportedGroups(0x001d, 0x0017), signatureAlgorithms(h.schemes...), extension(43, vec8(u16s(versions))), extension(51, vec16(share(group))))
	if len(offered) > 0 {
		exts = join(exts, alpn(offered...))
	}
	return message(msgClientHello, u16(0x0303), h.random(), vec8(h.session), vec16(u16s(h.suites)), vec8(u8(0)), vec16(join(exts, h.helloMore)))
}

func (h handshake) serverHello(random []byte, exts ...[]byte) []byte {
	return message(msgServerHello, u16(0x0303), random, vec8(h.session), u16(h.suite), u8(0), vec16(join(exts...)))
}

// messages are those of TLS 1.3.
func (h handshake) messages() []byte {
	sum := sha256Of
	if h.suite == 0x1302 {
		sum = sha384Of
	}
	hello := h.clientHello(h.offered, h.shareGroup, 0x0304, 0x0303)
	var shown, hashed []byte
	if h.retry {
		retry := h.serverHello(sha256Of(text("HelloRetryRequest")), extension(43, u16(0x0304)), extension(51, u16(0x0017)))
		shown = join(hello, retry)
		hashed = join(message(msgMessageHash, sum(hello)), retry)
		again := h.offered
		if h.retryOffer != nil {
			again = h.retryOffer
		}
		hello = h.clientHello(again, 0x0017, 0x0304, 0x0303)
	}
	ee := h.serverMore
	if h.picked != "" {
		ee = join(alpn(h.picked), ee)
	}
	flight := join(hello, h.serverHello(fill(0x66, 32), extension(43, u16(0x0304)), extension(51, share(h.selected))),
		message(msgEncryptedExtensions, vec16(ee)))
	if h.certRequest {
		flight = join(flight, message(msgCertificateRequest, vec8(nil), vec16(signatureAlgorithms(0x0403))))
	}
	flight = join(flight, message(msgCertificate, vec8(nil), certificateEntries([][]byte{h.by.cert.Raw})))
	sig := h.by.sign(h.context, sum(hashed, flight))
	flight = join(flight, message(msgCertificateVerify, u16(h.by.scheme()), vec16(sig)))
	return h.edit(join(shown, flight, h.behind))
}

// messages12 are those of TLS 1.2 with ECDHE.
func (h handshake) messages12() []byte {
	hello := h.clientHello(h.offered, h.shareGroup, 0x0303)
	random := join(fill(0x66, 24), h.lastRandom)
	var exts []byte
	if h.picked != "" {
		exts = alpn(h.picked)
	}
	params := join(u8(3), u16(0x001d), vec8(fill(0x44, 32)))
	sig := h.by.signBare(join(h.random(), random, params))
	return join(hello, h.serverHello(random, exts), message(msgCertificate, vec24(vec24(h.by.cert.Raw))),
		message(msgServerKeyExchange, params, u16(h.by.scheme()), vec16(sig)), h.behind)
}

// evidence is what a proxy makes of the messages.
func (h handshake) evidence(version uint16, messages []byte) []byte {
	e := goodForm()
	e.kind, e.version, e.suite, e.group, e.alpn, e.authority, e.ms = 2, version, h.suite, h.selected, h.picked, h.authority, h.ms
	if h.claimALPN != "" {
		e.alpn = h.claimALPN
	}
	e.chain = [][]byte{h.by.cert.Raw}
	if h.chain != nil {
		e.chain = h.chain
	}
	e.tail = join(h.salt, vec16(messages))
	return e.bytes()
}

func (h handshake) tls13() []byte { return h.evidence(0x0304, h.messages()) }
func (h handshake) tls12() []byte {
	h.suite = 0xc02b
	return h.evidence(0x0303, h.messages12())
}

// verified pairs evidence with what a client knows: its request, its root and its clock.
func verified(name, expect, comment string, in inputs, evidence []byte) vectors.Vector {
	all := inputs{"request": hexed(goodRequest().bytes()), "root": hexed(originRoot().cert.Raw), "now ms": "1764000000123"}
	for key, value := range in {
		all[key] = value
	}
	return vector(name, expect, comment, all, evidence)
}

// proven is what a client knows after it has verified a transcript.
func proven(offered, picked string) inputs {
	return inputs{"proves": "transcript", "offered tokens": offered, "picked none": picked}
}

func transcripts() []vectors.Vector {
	good := goodHandshake()
	ok := func(name, comment string, in inputs, change func(*handshake)) vectors.Vector {
		return verified(name, vectors.Success, comment, in, good.with(change).tls13())
	}
	bad := func(name, expect, comment string, change func(*handshake)) vectors.Vector {
		return verified(name, expect, comment, nil, good.with(change).tls13())
	}
	ip := goodRequest().with(func(r *request) { r.authority, r.name = "[2001:db8::7]:443", "" })
	atIP := proven("true", "true")
	atIP["request"] = hexed(ip.bytes())
	return []vectors.Vector{
		ok("transcript", "an origin that knows nothing of this picked http/1.1", proven("true", "true"), func(*handshake) {}),
		ok("transcript-p256", "a key of another kind", proven("true", "true"), func(h *handshake) { h.by = originP256() }),
		ok("transcript-sha-384", "a suite with SHA-384", proven("true", "true"), func(h *handshake) { h.suite = 0x1302 }),
		ok("transcript-no-alpn", "the origin picked no protocol at all", proven("true", "true"), func(h *handshake) { h.picked = "" }),
		ok("transcript-token", "the origin picked a token", proven("true", "false"), func(h *handshake) { h.picked = "itls/1" }),
		ok("transcript-stripped", "the proxy offered no token: true, and no reason for less than intact", proven("false", "true"), func(h *handshake) { h.offered = []string{"http/1.1"} }),
		ok("transcript-one-token", "the proxy kept one token back", proven("false", "true"), func(h *handshake) { h.offered = []string{"itls/1", "http/1.1"} }),
		ok("transcript-late-tokens", "the tokens were offered last", proven("false", "true"), func(h *handshake) { h.offered = []string{"http/1.1", "itls-h2/1", "itls/1"} }),
		ok("transcript-retry", "a HelloRetryRequest and a CertificateRequest", proven("true", "true"), func(h *handshake) {
			h.retry, h.selected, h.certRequest = true, 0x0017, true
		}),
		ok("transcript-ip", "an origin that is an IP address", atIP, func(h *handshake) {
			h.r, h.name, h.authority = ip, "", ip.authority
			h.by = issue(originRoot(), seeded(8), webServer("2001:db8::7"))
		}),
		verified("transcript-tls12", vectors.Success, "TLS 1.2 with ECDHE, and no mark of a downgrade", proven("true", "true"), good.tls12()),
		verified("transcript-tls12-p256", vectors.Success, "the same, signed with ECDSA", proven("true", "true"),
			good.with(func(h *handshake) { h.by = originP256() }).tls12()),
		verified("oldest", vectors.Success, "as old as it may be", join2(proven("true", "true"), inputs{"now ms": "1764000060123"}), good.tls13()),
		verified("earliest", vectors.Success, "as far in the future as it may be", join2(proven("true", "true"), inputs{"now ms": "1763999940123"}), good.tls13()),

		verified("too-old", vectors.Stale, "a millisecond older than 60 seconds", inputs{"now ms": "1764000060124"}, good.tls13()),
		verified("from-the-future", vectors.Stale, "a millisecond more than 60 seconds ahead", inputs{"now ms": "1763999940122"}, good.tls13()),
		verified("downgraded", vectors.Downgrade, "the origin speaks TLS 1.3 and was asked for 1.2", nil,
			good.with(func(h *handshake) { h.lastRandom = text("DOWNGRD\x01") }).tls12()),
		verified("downgraded-further", vectors.Downgrade, "the mark of a server that was asked for 1.1", nil,
			good.with(func(h *handshake) { h.lastRandom = text("DOWNGRD\x00") }).tls12()),

		bad("replayed", vectors.Foreign, "it answers another nonce", func(h *handshake) { h.r.nonce = fill(0xbc, 32) }),
		bad("borrowed", vectors.Foreign, "it was made for another proxy", func(h *handshake) { h.r.proxies = [][]byte{proxyP256().leaf()} }),
		bad("longer-way", vectors.Foreign, "there was another proxy behind this one", func(h *handshake) { h.r.proxies = append(h.r.proxies, fill(1, 32)) }),
		bad("other-port", vectors.Foreign, "the origin was asked at another port", func(h *handshake) { h.r.authority = originHost + ":8443" }),
		bad("other-authority", vectors.Foreign, "it says that it is about another authority", func(h *handshake) { h.authority = "other.example:443" }),
		bad("other-name", vectors.Foreign, "the handshake was for another name", func(h *handshake) { h.name = "other.example" }),
		bad("no-name", vectors.Foreign, "the handshake was for no name", func(h *handshake) { h.name = "" }),
		verified("tls12-replayed", vectors.Foreign, "TLS 1.2, another nonce", nil, good.with(func(h *handshake) { h.r.nonce = fill(0xbc, 32) }).tls12()),

		bad("says-token", vectors.Altered, "the proxy says that the origin picked itls-h2/1", func(h *handshake) { h.claimALPN = "itls-h2/1" }),
		bad("says-other-chain", vectors.Altered, "the proxy shows another chain beside the messages", func(h *handshake) { h.chain = [][]byte{originP256().cert.Raw} }),
		bad("client-signature", vectors.Altered, "the signature is a client's", func(h *handshake) { h.context = "TLS 1.3, client CertificateVerify" }),
		bad("flipped-signature", vectors.Altered, "the last bit of the signature is another", func(h *handshake) { h.edit = flipLast }),

		bad("resumed", vectors.Malformed, "the ClientHello offers a pre-shared key: nobody signs a resumption", func(h *handshake) {
			h.helloMore = extension(41, vec16(join(vec16(text("ticket")), u32(0))), vec16(vec8(fill(1, 32))))
		}),
		bad("early-data", vectors.Malformed, "the ClientHello offers early data", func(h *handshake) { h.helloMore = extension(42) }),
		bad("ech", vectors.Malformed, "an encrypted ClientHello: the server may have answered another", func(h *handshake) { h.helloMore = extension(0xfe0d, text("x")) }),
		bad("compressed", vectors.Malformed, "the ClientHello offers compressed certificates", func(h *handshake) { h.helloMore = extension(27, vec8(u16(2))) }),
		bad("delegated", vectors.Malformed, "the ClientHello offers delegated credentials", func(h *handshake) { h.helloMore = extension(34, vec16(u16(0x0403))) }),
		bad("raw-key", vectors.Malformed, "the ClientHello offers raw public keys", func(h *handshake) { h.helloMore = extension(20, vec8(u8(2))) }),
		bad("suite", vectors.Malformed, "a suite that was not offered", func(h *handshake) { h.suites = []uint16{0x1302} }),
		bad("suite-9150", vectors.Malformed, "a suite of RFC 9150 on the hop", func(h *handshake) { h.suites, h.suite = []uint16{0xc0b4}, 0xc0b4 }),
		bad("scheme", vectors.Malformed, "a signature scheme that was not offered", func(h *handshake) { h.schemes = []uint16{0x0403} }),
		bad("share", vectors.Malformed, "a key share of a group for which none was offered", func(h *handshake) { h.selected = 0x0017 }),
		bad("alpn", vectors.Malformed, "a protocol that was not offered", func(h *handshake) { h.picked = "h2" }),
		bad("unasked", vectors.Malformed, "EncryptedExtensions answer what was not asked", func(h *handshake) { h.serverMore = extension(0xff49, goodAnswer().bytes()) }),
		bad("retry-differs", vectors.Malformed, "the second ClientHello offers other protocols", func(h *handshake) {
			h.retry, h.selected, h.retryOffer = true, 0x0017, []string{"http/1.1"}
		}),
		bad("finished", vectors.Malformed, "a message behind the last", func(h *handshake) { h.behind = message(msgFinished, fill(1, 32)) }),
		bad("cut", vectors.Malformed, "it ends inside CertificateVerify", func(h *handshake) { h.edit = func(b []byte) []byte { return cut(b, 1) } }),
		verified("tls12-behind", vectors.Malformed, "TLS 1.2, a message behind the last", nil,
			good.with(func(h *handshake) { h.behind = message(14) }).tls12()),

		bad("stranger", vectors.Untrusted, "the chain ends in a root that the client does not have", func(h *handshake) {
			h.by = issue(strangerRoot(), seeded(9), webServer(originHost))
		}),
		bad("not-its-name", vectors.Untrusted, "a certificate for another name", func(h *handshake) {
			h.by = issue(originRoot(), seeded(9), webServer("other.example"))
		}),
		bad("expired", vectors.Untrusted, "a certificate that has expired", func(h *handshake) {
			t := webServer(originHost)
			t.NotAfter = notBefore().AddDate(0, 0, 7)
			h.by = issue(originRoot(), seeded(9), t)
		}),
		bad("proxy-as-origin", vectors.Untrusted, "the certificate of a proxy, though the origin's root issued it", func(h *handshake) {
			t := webServer(originHost)
			t.ExtKeyUsage, t.ExtraExtensions = nil, proxyTemplate().ExtraExtensions
			h.by = issue(originRoot(), seeded(9), t)
		}),
	}
}

func flipLast(b []byte) []byte { return join(cut(b, 1), u8(b[len(b)-1]^1)) }

// join2 adds the inputs of b to those of a.
func join2(a, b inputs) inputs {
	for key, value := range b {
		a[key] = value
	}
	return a
}
