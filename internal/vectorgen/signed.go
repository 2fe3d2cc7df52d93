package main

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"hash"
	"strconv"

	"vitrine/spec/vectors"
)

// signedVerdict is whole VERDICT payloads, as sections 2.3 and 7 have them, and what a receiver on either hop
// knows of the tunnel.
func signedVerdict() []vectors.Vector {
	by := proxy()
	good := goodTBS()
	payload := func(p *party, leaf []byte, context string, change func(*tbs)) []byte {
		t := good
		if change != nil {
			change(&t)
		}
		body := t.bytes()
		body = join(body[:1], leaf, body[33:])
		return join(u64(5), vec16(body), u16(p.scheme()), vec16(p.sign(context, body)))
	}
	const context = "vitrine verdict v1"
	of := func(name, expect, comment, role string, p *party, b []byte) vectors.Vector {
		return vector(name, expect, comment, inputs{
			"proxy": hexed(p.cert.Raw), "nonce": hexed(fill(0xbb, 32)), "authority": originAuth, "role": role,
		}, b)
	}
	ok := func(name, comment, role string, p *party, b []byte) vectors.Vector {
		v := of(name, vectors.Success, comment, role, p, b)
		return v
	}
	plain := payload(by, by.leaf(), context, nil)
	renewed := proxyP256()
	return []vectors.Vector{
		ok("ed25519", "signed with Ed25519", "client", by, plain),
		ok("p256", "signed with ECDSA over P-256", "client", renewed, payload(renewed, renewed.leaf(), context, nil)),
		ok("redacted", "what an origin gets", "origin", by, payload(by, by.leaf(), context, func(t *tbs) { t.rule, t.detail = "", "" })),
		ok("renewed", "to an origin the leaf may be that of hop 1", "origin", renewed, payload(renewed, by.leaf(), context, nil)),
		of("other-leaf", vectors.Foreign, "a client compares the leaf", "client", renewed, payload(renewed, by.leaf(), context, nil)),
		of("other-nonce", vectors.Foreign, "the verdict of another tunnel", "client", by, func() []byte {
			b := payload(by, by.leaf(), context, nil)
			return join(b[:10+33], fill(0xbc, 32), b[10+65:])
		}()),
		of("other-authority", vectors.Foreign, "the verdict on another origin", "client", by,
			payload(by, by.leaf(), context, func(t *tbs) { t.authority = "other.example:443" })),
		of("other-key", vectors.Altered, "signed by another proxy", "client", by, payload(renewed, by.leaf(), context, nil)),
		of("other-context", vectors.Altered, "signed as a handshake is", "client", by, payload(by, by.leaf(), "TLS 1.3, server CertificateVerify", nil)),
		of("flipped-signature", vectors.Altered, "the last bit of the signature is another", "client", by, flipLast(plain)),
		of("flipped-rule", vectors.Altered, "a letter of the rule is another", "client", by, func() []byte {
			b := join(plain)
			at := 10 + 1 + 32 + 32 + 1 + len(originAuth) + 8 + 1 + 8 + 8 + 2 + 1 // the first of rule
			b[at] ^= 1
			return b
		}()),
		of("no-signature", vectors.Altered, "no signature", "client", by, join(plain[:len(plain)-66], vec16(nil))),
		of("other-scheme", vectors.Altered, "the scheme of another key", "client", by, join(plain[:len(plain)-68], u16(schemeP256), plain[len(plain)-66:])),
		of("bad-tbs", vectors.Malformed, "signed, and no tbs", "client", by, payload(by, by.leaf(), context, func(t *tbs) { t.version = 2 })),
		of("cut", vectors.Truncated, "it ends inside the signature", "client", by, cut(plain, 1)),
	}
}

// settings is the payload of an HTTP/2 SETTINGS frame, section 2.1, at an endpoint that computed `binding`
// for its peer.
func settings() []vectors.Vector {
	one := func(id uint16, value uint32) []byte { return join(u16(id), u32(value)) }
	const itls, hop = 0xe7a1, 0xe7a2
	binding := one(hop, 0xf2345678)
	of := func(name, expect, comment string, in inputs, b ...[]byte) vectors.Vector {
		return vector(name, expect, comment, join2(inputs{"binding": "f2345678"}, in), b...)
	}
	ok := func(name, comment, takes, late string, b ...[]byte) vectors.Vector {
		return of(name, vectors.Success, comment, inputs{"takes": takes, "late": late}, b...)
	}
	return []vectors.Vector{
		ok("plain", "takes EVIDENCE and VERDICT", "true", "false", one(itls, 1), binding),
		ok("binding-first", "the other way around", "true", "false", binding, one(itls, 1)),
		ok("late", "wants EVIDENCE in the alternative place", "true", "true", one(itls, 3), binding),
		ok("late-alone", "the second bit without the first means nothing", "false", "true", one(itls, 2), binding),
		ok("unknown-bits", "bits that are not known", "true", "false", one(itls, 0xfffffffd), binding),
		ok("stranger", "an endpoint that has never heard of us", "false", "false", one(3, 100), one(4, 65535)),
		ok("nothing", "no settings", "false", "false"),
		ok("twice", "the later value holds", "false", "false", one(itls, 1), binding, one(itls, 0)),
		of("unbound", vectors.Foreign, "SETTINGS_ITLS without a binding", nil, one(itls, 1)),
		of("other-hop", vectors.Foreign, "the binding of another hop: somebody ends TLS in between", nil, one(itls, 1), one(hop, 0xf2345679)),
		of("no-top-bit", vectors.Foreign, "a binding without its top bit", nil, one(itls, 1), one(hop, 0x72345678)),
		of("other-hop-alone", vectors.Foreign, "a wrong binding without SETTINGS_ITLS", nil, one(hop, 0)),
	}
}

// innerRecord is protected records of the inner session, section 8: RFC 9150 has no test vectors.
func innerRecord() []vectors.Vector {
	const data, alert, handshakes = 23, 21, 22
	type suite struct {
		name string
		id   uint16
		size int
		hash func() hash.Hash
	}
	short := suite{"sha-256", 0xc0b4, 32, sha256.New}
	long := suite{"sha-384", 0xc0b5, 48, func() hash.Hash { return sha512.New384() }}
	expand := func(s suite, label string, n int) []byte {
		info := join(u16(uint16(n)), vec8(text("tls13 "+label)), vec8(nil))
		out, err := hkdf.Expand(s.hash, fill(0x77, s.size), string(info), n)
		if err != nil {
			panic(err) // no input reaches this
		}
		return out
	}
	// seal protects inner, with an IV that is as long as the hash, or shorter where a vector is about that.
	seal := func(s suite, seq uint64, inner []byte, ivLen int) []byte {
		nonce := expand(s, "iv", ivLen)
		for i, b := range u64(seq) {
			nonce[len(nonce)-8+i] ^= b
		}
		record := join(u8(23), u16(0x0303), u16(uint16(len(inner)+s.size)), inner)
		m := hmac.New(s.hash, expand(s, "key", s.size))
		m.Write(join(nonce, record))
		return join(record, m.Sum(nil))
	}
	of := func(name, expect, comment string, s suite, seq uint64, in inputs, record []byte) vectors.Vector {
		return vector(name, expect, comment, join2(inputs{
			"suite": hexed(u16(s.id)), "secret": hexed(fill(0x77, s.size)), "sequence": strconv.FormatUint(seq, 10),
		}, in), record)
	}
	ok := func(name, comment string, s suite, seq uint64, kind uint8, content []byte, padding int) vectors.Vector {
		return of(name, vectors.Success, comment, s, seq, inputs{"type": strconv.Itoa(int(kind)), "content": hexed(content)},
			seal(s, seq, join(content, u8(kind), fill(0, padding)), s.size))
	}
	hello := join(text("hello inner\n"), u8(data))
	good := seal(short, 0, hello, 32)
	at := func(i int) []byte {
		b := join(good)
		b[i] ^= 1
		return b
	}
	return []vectors.Vector{
		ok("sha-256", "application data, the first record of a key", short, 0, data, text("hello inner\n"), 0),
		ok("sha-384", "the same with the other suite", long, 0, data, text("hello inner\n"), 0),
		ok("sequence", "the sequence number goes into the last 8 bytes of the nonce", short, 0x0102030405060708, data, text("hello inner\n"), 0),
		ok("padded", "zero bytes behind the type", short, 1, data, text("hello inner\n"), 100),
		ok("zeros", "content that ends in zero bytes itself", short, 1, data, text("a\x00\x00"), 3),
		ok("empty", "application data of no bytes", short, 2, data, nil, 0),
		ok("alert", "close_notify", long, 3, alert, text("\x01\x00"), 0),
		ok("handshake", "a KeyUpdate", long, 4, handshakes, text("\x18\x00\x00\x01\x00"), 0),
		ok("largest", "2^14 bytes of content", short, 5, data, fill('x', 16384), 0),
		of("content", vectors.Altered, "a bit of the content is another", short, 0, nil, at(5)),
		of("type", vectors.Altered, "the inner type is another", short, 0, nil, at(5+12)),
		of("length", vectors.Altered, "the length in the header is another", short, 0, nil, at(4)),
		of("tag", vectors.Altered, "the last bit of the tag is another", short, 0, nil, flipLast(good)),
		of("replayed", vectors.Altered, "the record of sequence 0 at 1", short, 1, nil, good),
		of("iv-12", vectors.Altered, "an IV of 12 bytes, as AEAD suites have it", short, 0, nil, seal(short, 0, hello, 12)),
		of("short", vectors.Altered, "fewer bytes than a tag has", short, 0, nil, join(u8(23), u16(0x0303), u16(31), fill(1, 31))),
		of("no-type", vectors.Malformed, "nothing but padding", short, 0, nil, seal(short, 0, fill(0, 3), 32)),
		of("over-largest", vectors.TooLarge, "2^14+1 bytes of content", short, 0, nil, seal(short, 0, join(fill('x', 16385), u8(data)), 32)),
	}
}

// proxyCertificate is the DER of a proxy's leaf, section 5.1, that is shown on either hop.
func proxyCertificate() []vectors.Vector {
	of := func(name, expect, comment, role string, in inputs, change func(*x509.Certificate)) vectors.Vector {
		t := proxyTemplate()
		if change != nil {
			change(&t)
		}
		by := proxyRoot()
		if name == "origin-root" {
			by = originRoot()
		}
		return vector(name, expect, comment, join2(inputs{
			"root": hexed(proxyRoot().cert.Raw), "name": proxyName, "role": role, "now ms": strconv.Itoa(moment),
		}, in), issue(by, seeded(6), t).cert.Raw)
	}
	bad := func(name, comment string, change func(*x509.Certificate)) vectors.Vector {
		return of(name, vectors.Untrusted, comment, "server", nil, change)
	}
	usages := func(critical bool, oids ...asn1.ObjectIdentifier) func(*x509.Certificate) {
		return func(t *x509.Certificate) { t.ExtraExtensions = []pkix.Extension{usage(critical, oids...)} }
	}
	return []vectors.Vector{
		of("server", vectors.Success, "a proxy, to its client", "server", nil, nil),
		of("client", vectors.Success, "the same, to an origin", "client", nil, nil),
		bad("no-usage", "no extended key usage", func(t *x509.Certificate) { t.ExtraExtensions = nil }),
		bad("web-server", "a web server's", usages(true, serverAuth(), clientAuth())),
		bad("not-critical", "the usage is not critical", usages(false, proxyAuth(), serverAuth(), clientAuth())),
		bad("no-server-auth", "without serverAuth", usages(true, proxyAuth(), clientAuth())),
		bad("no-client-auth", "without clientAuth: it could show no origin who reads", usages(true, proxyAuth(), serverAuth())),
		bad("too-long", "valid for 30 days and a second", func(t *x509.Certificate) { t.NotAfter = t.NotAfter.Add(1e9) }),
		bad("authority", "a certificate authority's", func(t *x509.Certificate) { t.IsCA, t.KeyUsage = true, x509.KeyUsageCertSign }),
		bad("other-name", "for another name", func(t *x509.Certificate) { t.DNSNames = []string{"other.example"} }),
		bad("origin-root", "issued by the root of origins", nil),
		of("expired", vectors.Untrusted, "30 days later", "server", inputs{"now ms": strconv.Itoa(moment + 30*24*3600*1000)}, nil),
	}
}
