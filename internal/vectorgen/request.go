package main

import "vitrine/spec/vectors"

// A request is a client's RFC 9261 request, section 6.2; a generator changes what its vector is about.
type request struct {
	kind      uint8
	context   []byte // nil: the nonce
	nonce     []byte
	proxies   [][]byte
	authority string
	name      string // server_name; "" for none
	schemes   []uint16
	more      []byte // extensions behind the others
	trailing  []byte
	bare      bool // without `inspection`
}

// goodRequest is the one that the vectors of evidence answer.
func goodRequest() request {
	return request{
		kind: msgClientCertRequest, nonce: fill(0xbb, 32), proxies: [][]byte{proxy().leaf()}, authority: originAuth, name: originHost,
		schemes: []uint16{0x0403, 0x0807, 0x0804, 0x0503, 0x0805, 0x0603, 0x0806},
	}
}

func (r request) with(change func(*request)) request {
	change(&r)
	return r
}

func (r request) offer() []byte {
	return join(u8(1), vec8(join(r.proxies...)), vec8(text(r.authority)), r.nonce)
}

func (r request) bytes() []byte {
	context := r.context
	if context == nil {
		context = r.nonce
	}
	exts := signatureAlgorithms(r.schemes...)
	if r.name != "" {
		exts = join(exts, serverName(r.name))
	}
	exts = join(exts, statusRequest(), sctRequest())
	if !r.bare {
		exts = join(exts, extension(0xff49, r.offer()))
	}
	return join(message(r.kind, vec8(context), vec16(join(exts, r.more))), r.trailing)
}

func authenticatorRequest() []vectors.Vector {
	good := goodRequest()
	ok := func(name, comment string, r request) vectors.Vector {
		return vector(name, vectors.Success, comment, inputs{
			"nonce": hexed(r.nonce), "proxies": hexed(join(r.proxies...)), "authority": r.authority, "server name": r.name, "schemes": hexed(u16s(r.schemes)),
		}, r.bytes())
	}
	bad := func(name, comment string, change func(*request)) vectors.Vector {
		return vector(name, vectors.Malformed, comment, nil, good.with(change).bytes())
	}
	ip := good.with(func(r *request) { r.authority, r.name = "[2001:db8::7]:443", "" })
	return []vectors.Vector{
		ok("plain", "a request of the reference implementation", good),
		ok("ip", "an origin that is an IP address has no server_name", ip),
		ok("five-proxies", "as many proxies as an offer can name", good.with(func(r *request) {
			r.proxies = [][]byte{fill(1, 32), fill(2, 32), fill(3, 32), fill(4, 32), fill(5, 32)}
		})),
		ok("one-scheme", "one signature scheme", good.with(func(r *request) { r.schemes = []uint16{0x0403} })),
		ok("old-scheme", "a scheme that TLS 1.3 does not sign with beside one that it does", good.with(func(r *request) { r.schemes = []uint16{0x0401, 0x0403} })),
		ok("grease", "an extension that nobody knows", good.with(func(r *request) { r.more = extension(0x0a0a, text("x")) })),
		bad("no-inspection", "no `inspection`", func(r *request) { r.bare = true }),
		bad("other-context", "a context that is not the nonce", func(r *request) { r.context = fill(0xbc, 32) }),
		bad("empty-context", "no context", func(r *request) { r.context = []byte{} }),
		bad("other-name", "a server_name that is not the authority's host", func(r *request) { r.name = "other.example" }),
		bad("no-name", "no server_name", func(r *request) { r.name = "" }),
		bad("name-of-ip", "a server_name beside an IP address", func(r *request) { r.authority = "[2001:db8::7]:443" }),
		bad("no-tls13-scheme", "only schemes that TLS 1.3 does not sign with", func(r *request) { r.schemes = []uint16{0x0401, 0x0201} }),
		bad("no-schemes", "an empty list of schemes", func(r *request) { r.schemes = nil }),
		bad("authority", "an authority that is not canonical", func(r *request) { r.authority = "origin.example:0443" }),
		bad("twice", "`inspection` twice", func(r *request) { r.more = extension(0xff49, r.offer()) }),
		bad("certificate-request", "the message of TLS 1.3 itself, type 13", func(r *request) { r.kind = msgCertificateRequest }),
		bad("behind", "a byte behind its end", func(r *request) { r.trailing = u8(0) }),
		vector("cut", vectors.Malformed, "it ends inside an extension", nil, cut(good.bytes(), 1)),
		vector("empty", vectors.Malformed, "no bytes", nil),
		bad("too-large", "more than 4096 bytes", func(r *request) { r.more = extension(0x0a0a, fill('x', 4096)) }),
	}
}

func inspectionOffer() []vectors.Vector {
	good := goodRequest()
	ok := func(name, comment string, r request) vectors.Vector {
		return vector(name, vectors.Success, comment,
			inputs{"nonce": hexed(r.nonce), "proxies": hexed(join(r.proxies...)), "authority": r.authority}, r.offer())
	}
	bad := func(name, comment string, b ...[]byte) vectors.Vector {
		return vector(name, vectors.Malformed, comment, nil, b...)
	}
	of := func(change func(*request)) []byte { return good.with(change).offer() }
	longest := string(fill('a', 250)) + ":4433"
	return []vectors.Vector{
		ok("plain", "one proxy", good),
		ok("five-proxies", "five proxies", good.with(func(r *request) {
			r.proxies = [][]byte{fill(1, 32), fill(2, 32), fill(3, 32), fill(4, 32), fill(5, 32)}
		})),
		ok("ipv6", "an IP address", good.with(func(r *request) { r.authority = "[2001:db8::7]:443" })),
		ok("longest", "an authority of 255 bytes", good.with(func(r *request) { r.authority = longest })),
		bad("version-0", "version 0", u8(0), good.offer()[1:]),
		bad("version-2", "version 2", u8(2), good.offer()[1:]),
		bad("no-proxy", "no proxy", of(func(r *request) { r.proxies = nil })),
		bad("six-proxies", "six proxies", of(func(r *request) { r.proxies = [][]byte{fill(1, 192)} })),
		bad("odd-proxies", "hashes of 33 bytes", of(func(r *request) { r.proxies = [][]byte{fill(1, 33)} })),
		bad("no-authority", "an empty authority", of(func(r *request) { r.authority = "" })),
		bad("upper-case", "capitals in the authority", of(func(r *request) { r.authority = "Origin.example:443" })),
		bad("space", "a space in the authority", of(func(r *request) { r.authority = "origin.example :443" })),
		bad("utf-8", "an authority that is not ASCII", of(func(r *request) { r.authority = "bücher.example:443" })),
		bad("short-nonce", "a nonce of 31 bytes", cut(good.offer(), 1)),
		bad("behind", "a byte behind the nonce", more(good.offer(), 0)),
		bad("empty", "no bytes"),
	}
}

// An answer is the origin's `inspection`, section 9.
type answer struct {
	version, peer uint8
	hopVersion    uint16
	hopSuite      uint16
	hopALPN       string
	hopID         []byte
	ms            uint64
	lifetime      uint32
}

// goodAnswer is for the hop of the vectors of evidence.
func goodAnswer() answer {
	return answer{1, 1, 0x0304, 0x1301, "itls-h2/1", sha256Of(text("vitrine hop v1\x00"), fill(0xcc, 32)), moment, 600}
}

func (a answer) with(change func(*answer)) answer {
	change(&a)
	return a
}

func (a answer) bytes() []byte {
	return join(u8(a.version), u8(a.peer), u16(a.hopVersion), u16(a.hopSuite), vec8(text(a.hopALPN)), a.hopID, u64(a.ms), u32(a.lifetime))
}

func inspectionAnswer() []vectors.Vector {
	good := goodAnswer()
	ok := func(name, comment string, a answer, peer, ms, lifetime string) vectors.Vector {
		return vector(name, vectors.Success, comment, inputs{
			"hop peer": peer, "hop version": hexed(u16(a.hopVersion)), "hop suite": hexed(u16(a.hopSuite)), "hop alpn": hexed(text(a.hopALPN)),
			"hop id": hexed(a.hopID), "time ms": ms, "lifetime": lifetime,
		}, a.bytes())
	}
	bad := func(name, comment string, change func(*answer)) vectors.Vector {
		return vector(name, vectors.Malformed, comment, nil, good.with(change).bytes())
	}
	return []vectors.Vector{
		ok("plain", "hop 2 showed the last proxy's certificate", good, "1", "1764000000123", "600"),
		ok("no-peer", "hop 2 showed none", good.with(func(a *answer) { a.peer = 0 }), "0", "1764000000123", "600"),
		ok("no-alpn", "hop 2 has no ALPN", good.with(func(a *answer) { a.hopALPN = "" }), "1", "1764000000123", "600"),
		ok("year-9999", "the latest time, and the longest lifetime", good.with(func(a *answer) { a.ms, a.lifetime = 253402300799999, 1<<32-1 }), "1", "253402300799999", "4294967295"),
		bad("version-0", "version 0", func(a *answer) { a.version = 0 }),
		bad("version-2", "version 2", func(a *answer) { a.version = 2 }),
		bad("peer-2", "a hop_peer that does not exist", func(a *answer) { a.peer = 2 }),
		bad("year-10000", "a time past the year 9999", func(a *answer) { a.ms = 253402300800000 }),
		vector("cut", vectors.Malformed, "it ends inside the lifetime", nil, cut(good.bytes(), 1)),
		vector("behind", vectors.Malformed, "a byte behind the lifetime", nil, more(good.bytes(), 0)),
		vector("empty", vectors.Malformed, "no bytes", nil),
	}
}

func hopID() []vectors.Vector {
	of := func(name, comment string, context []byte) vectors.Vector {
		return vector(name, vectors.Success, comment, inputs{"hop id": hexed(sha256Of(text("vitrine hop v1\x00"), context))}, context)
	}
	return []vectors.Vector{
		of("sha-256", "the handshake context of a hop with SHA-256", fill(0xcc, 32)),
		of("sha-384", "of one with SHA-384, all 48 bytes", fill(0xcd, 48)),
	}
}
