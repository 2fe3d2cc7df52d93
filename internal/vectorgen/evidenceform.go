package main

import (
	"strconv"

	"vitrine/spec/vectors"
)

// A form is evidence as section 6.1 lays it out; a generator changes what its vector is about.
type form struct {
	format, kind          uint8
	version, suite, group uint16
	alpn                  string
	verified              uint8
	chain                 [][]byte
	ocsp                  []byte
	scts                  [][]byte
	authority             string
	ms                    uint64
	tail                  []byte // what the kind adds
}

func goodForm() form {
	return form{1, 1, 0x0304, 0x1301, 0x001d, "http/1.1", 1, [][]byte{origin().cert.Raw}, nil, nil, originAuth, moment, nil}
}

func (f form) with(change func(*form)) form {
	change(&f)
	return f
}

func (f form) bytes() []byte {
	var chain, scts []byte
	for _, c := range f.chain {
		chain = join(chain, vec24(c))
	}
	for _, s := range f.scts {
		scts = join(scts, vec16(s))
	}
	return join(u8(f.format), u8(f.kind), u16(f.version), u16(f.suite), u16(f.group), vec8(text(f.alpn)), u8(f.verified), vec24(chain),
		vec24(f.ocsp), vec16(scts), vec8(text(f.authority)), u64(f.ms), f.tail)
}

func evidenceForm() []vectors.Vector {
	small := goodForm()
	small.chain = [][]byte{text("leaf")} // the form does not look into certificates
	ok := func(name, comment string, in inputs, change func(*form)) vectors.Vector {
		f := small.with(change)
		all := inputs{
			"kind": strconv.Itoa(int(f.kind)), "hop version": hexed(u16(f.version)), "hop suite": hexed(u16(f.suite)), "hop group": hexed(u16(f.group)),
			"hop alpn": hexed(text(f.alpn)), "hop verified": strconv.Itoa(int(f.verified)), "chain": hexeds(f.chain), "ocsp": hexed(f.ocsp), "scts": hexeds(f.scts),
			"authority": f.authority, "time ms": strconv.FormatUint(f.ms, 10),
		}
		return vector(name, vectors.Success, comment, join2(all, in), f.bytes())
	}
	bad := func(name, comment string, change func(*form)) vectors.Vector {
		return vector(name, vectors.Malformed, comment, nil, small.with(change).bytes())
	}
	transcript := func(f *form) { f.kind, f.tail = 2, join(fill(0xdd, 32), vec16(text("messages"))) }
	authenticator := func(f *form) { f.kind, f.tail = 3, join(vec8(fill(0xcc, 32)), vec16(text("authenticator"))) }
	link := func(salt []byte, messages, next string) func(f *form) {
		return func(f *form) { f.kind, f.alpn, f.tail = 4, "h2", join(salt, vec16(text(messages)), vec16(text(next))) }
	}
	linked := func(salt []byte, messages, next string) inputs {
		return inputs{"salt": hexed(salt), "messages": hexed(text(messages)), "next": hexed(text(next))}
	}
	none := fill(0, 32)
	repeat := func(n int) [][]byte {
		list := make([][]byte, n)
		for i := range list {
			list[i] = text("x")
		}
		return list
	}
	return []vectors.Vector{
		ok("claim", "a chain and the proxy's word", nil, func(*form) {}),
		ok("transcript", "salt and messages", inputs{"salt": hexed(fill(0xdd, 32)), "messages": hexed(text("messages"))}, transcript),
		ok("authenticator", "handshake context and authenticator", inputs{"handshake context": hexed(fill(0xcc, 32)), "authenticator": hexed(text("authenticator"))}, authenticator),
		ok("authenticator-48", "a handshake context of SHA-384", inputs{"handshake context": hexed(fill(0xcc, 48)), "authenticator": "61"},
			func(f *form) { f.kind, f.tail = 3, join(vec8(fill(0xcc, 48)), vec16(text("a"))) }),
		ok("link", "the hop to the next proxy, made for the request, and what that one shows", linked(fill(0xdd, 32), "messages", "next"),
			link(fill(0xdd, 32), "messages", "next")),
		ok("link-ahead", "the next proxy is to be added", linked(fill(0xdd, 32), "messages", ""), link(fill(0xdd, 32), "messages", "")),
		ok("link-not-made", "the hop was made for another request", linked(none, "", "next"), link(none, "", "next")),
		ok("all-of-it", "OCSP response and timestamps, sixteen certificates", nil, func(f *form) {
			f.chain, f.ocsp, f.scts = repeat(16), text("ocsp"), repeat(32)
		}),
		ok("nothing-known", "no suite, no group, no protocol, not verified", nil, func(f *form) {
			f.version, f.suite, f.group, f.alpn, f.verified = 0, 0, 0, "", 0
		}),
		ok("year-9999", "the latest time", nil, func(f *form) { f.ms = 253402300799999 }),
		bad("version-0", "version 0", func(f *form) { f.format = 0 }),
		bad("version-2", "version 2", func(f *form) { f.format = 2 }),
		bad("kind-0", "kind 0", func(f *form) { f.kind = 0 }),
		bad("kind-5", "kind 5", func(f *form) { f.kind = 5 }),
		vector("kind-0x80", vectors.Malformed, "what an origin sends on hop 2, handed on as it is", nil, u8(1), u8(0x80), vec16(text("authenticator"))),
		bad("verified-2", "hop_verified is neither 0 nor 1", func(f *form) { f.verified = 2 }),
		bad("no-chain", "no certificate", func(f *form) { f.chain = nil }),
		bad("seventeen", "seventeen certificates", func(f *form) { f.chain = repeat(17) }),
		bad("empty-certificate", "a certificate of no bytes", func(f *form) { f.chain = [][]byte{nil} }),
		bad("thirty-three", "thirty-three timestamps", func(f *form) { f.scts = repeat(33) }),
		bad("empty-timestamp", "a timestamp of no bytes", func(f *form) { f.scts = [][]byte{nil} }),
		bad("no-authority", "an empty authority", func(f *form) { f.authority = "" }),
		bad("control", "a line break in the authority", func(f *form) { f.authority = "origin.example:443\n" }),
		bad("year-10000", "a time past the year 9999", func(f *form) { f.ms = 253402300800000 }),
		bad("negative-time", "a time that is negative when read as signed", func(f *form) { f.ms = 1 << 63 }),
		bad("no-messages", "a transcript without messages", func(f *form) { f.kind, f.tail = 2, join(fill(0xdd, 32), vec16(nil)) }),
		bad("no-authenticator", "an authenticator of no bytes", func(f *form) { f.kind, f.tail = 3, join(vec8(fill(0xcc, 32)), vec16(nil)) }),
		bad("context-33", "a handshake context that no hash of TLS 1.3 is as long as", func(f *form) {
			f.kind, f.tail = 3, join(vec8(fill(0xcc, 33)), vec16(text("a")))
		}),
		bad("link-to-nowhere", "a link with neither messages nor what the next proxy shows", link(none, "", "")),
		bad("link-salt", "a link with a salt and no messages", link(fill(0xdd, 32), "", "next")),
		vector("link-cut", vectors.Malformed, "it ends inside what the next proxy shows", nil, cut(small.with(link(none, "", "next")).bytes(), 1)),
		bad("behind", "a byte behind its end", func(f *form) { f.tail = u8(0) }),
		vector("cut", vectors.Malformed, "it ends inside the time", nil, cut(small.bytes(), 1)),
		vector("cut-messages", vectors.Malformed, "it ends inside the messages", nil, cut(small.with(transcript).bytes(), 1)),
		vector("empty", vectors.Malformed, "no bytes", nil),
		bad("too-large", "65537 bytes", func(f *form) {
			f.chain = [][]byte{fill('x', 65537-len(small.bytes())+len("leaf"))}
		}),
	}
}

// hexeds writes a list, separated by spaces.
func hexeds(list [][]byte) string {
	out := ""
	for i, b := range list {
		if i > 0 {
			out += " "
		}
		out += hexed(b)
	}
	return out
}

func transcriptRandom() []vectors.Vector {
	of := func(name, comment string, nonce, salt []byte, proxies [][]byte, authority string) vectors.Vector {
		return vector(name, vectors.Success, comment,
			inputs{"nonce": hexed(nonce), "salt": hexed(salt), "proxies": hexeds(proxies), "authority": authority},
			sha256Of(text("vitrine transcript v1\x00"), nonce, salt, sha256Of(proxies...), text(authority)))
	}
	count := func(from byte) []byte {
		b := make([]byte, 32)
		for i := range b {
			b[i] = from + byte(i)
		}
		return b
	}
	return []vectors.Vector{
		of("plain", "the example of section 6.4", count(0), count(32), [][]byte{count(64)}, originAuth),
		of("two-proxies", "two proxies, client side first", count(0), count(32), [][]byte{count(64), count(96)}, originAuth),
		of("ip", "an IP address", count(0), count(32), [][]byte{count(64)}, "[2001:db8::7]:443"),
	}
}
