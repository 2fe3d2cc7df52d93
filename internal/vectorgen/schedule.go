package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"hash"

	"vitrine/spec/vectors"
)

// A schedule is an inner handshake with its secrets, from RFC 8446, sections 4.4 and 7.1, with HKDF written
// out; a generator changes what its vector is about.
type schedule struct {
	handshake
	hash   func() hash.Hash
	shared []byte
	psk    []byte // nil in a full handshake
	asked  bool   // for a client certificate

	alter func(binder, server, client []byte) // what was computed of these
}

func goodSchedule() schedule {
	h := goodHandshake()
	h.suites, h.suite = []uint16{0xc0b4, 0xc0b5}, 0xc0b4
	return schedule{handshake: h, hash: sha256.New, shared: fill(0x99, 32), alter: func(_, _, _ []byte) {}}
}

func (s schedule) with(change func(*schedule)) schedule {
	change(&s)
	return s
}

func (s schedule) mac(key []byte, parts ...[]byte) []byte {
	m := hmac.New(s.hash, key)
	m.Write(join(parts...))
	return m.Sum(nil)
}

func (s schedule) sum(parts ...[]byte) []byte {
	h := s.hash()
	h.Write(join(parts...))
	return h.Sum(nil)
}

// expand is HKDF-Expand-Label to the length of the hash, which is one block of HKDF-Expand.
func (s schedule) expand(secret []byte, label string, context []byte) []byte {
	n := uint16(s.hash().Size())
	return s.mac(secret, u16(n), vec8(text("tls13 "+label)), vec8(context), u8(1))
}

func (s schedule) derive(secret []byte, label string, messages ...[]byte) []byte {
	return s.expand(secret, label, s.sum(messages...))
}

func (s schedule) finished(secret []byte, messages ...[]byte) []byte {
	return s.mac(s.expand(secret, "finished", nil), s.sum(messages...))
}

// vector plays the handshake.
func (s schedule) vector(name, expect, comment string) vectors.Vector {
	zeros := fill(0, s.hash().Size())
	psk := s.psk
	if psk == nil {
		psk = zeros
	}
	early := s.mac(zeros, psk)
	h := s.handshake
	var binder []byte
	hello := func(group uint16, before []byte) []byte {
		if s.psk == nil {
			return h.clientHello(h.offered, group, 0x0304)
		}
		binder = fill(0, len(zeros))
		h.helloMore = join(extension(45, vec8(u8(1))), extension(41, vec16(join(vec16(text("ticket")), u32(7))), vec16(vec8(binder))))
		msg := h.clientHello(h.offered, group, 0x0304)
		bare := cut(msg, 2+1+len(binder))
		binder = s.finished(s.derive(early, "res binder"), before, bare)
		s.alter(binder, nil, nil)
		return join(bare, vec16(vec8(binder)))
	}
	first := hello(h.shareGroup, nil)
	shown, hashed := first, first
	if h.retry {
		retry := h.serverHello(sha256Of(text("HelloRetryRequest")), extension(43, u16(0x0304)), extension(51, u16(0x0017)))
		before := join(message(msgMessageHash, s.sum(first)), retry)
		second := hello(0x0017, before)
		shown, hashed = join(first, retry, second), join(before, second)
	}
	add := func(messages ...[]byte) {
		shown, hashed = join(shown, join(messages...)), join(hashed, join(messages...))
	}
	var more []byte
	if s.psk != nil {
		more = extension(41, u16(0))
	}
	add(h.serverHello(fill(0x66, 32), extension(43, u16(0x0304)), extension(51, share(h.selected)), more))

	handshake := s.mac(s.derive(early, "derived"), s.shared)
	client, server := s.derive(handshake, "c hs traffic", hashed), s.derive(handshake, "s hs traffic", hashed)
	in := inputs{
		"suite": hexed(u16(h.suite)), "shared": hexed(s.shared),
		"client handshake": hexed(client), "server handshake": hexed(server),
	}
	if s.psk != nil {
		in["psk"] = hexed(s.psk)
	}
	add(message(msgEncryptedExtensions, vec16(alpn(h.picked))))
	if s.asked {
		add(message(msgCertificateRequest, vec8(nil), vec16(signatureAlgorithms(0x0403))))
	}
	prove := func(p *party, context string) {
		add(message(msgCertificate, vec8(nil), certificateEntries([][]byte{p.cert.Raw})))
		add(message(msgCertificateVerify, u16(p.scheme()), vec16(p.sign(context, s.sum(hashed)))))
	}
	if s.psk == nil {
		prove(h.by, "TLS 1.3, server CertificateVerify")
	}
	data := s.finished(server, hashed)
	s.alter(nil, data, nil)
	add(message(msgFinished, data))

	master := s.mac(s.derive(handshake, "derived"), zeros)
	in["client application"] = hexed(s.derive(master, "c ap traffic", hashed))
	in["server application"] = hexed(s.derive(master, "s ap traffic", hashed))
	in["exporter"] = hexed(s.derive(master, "exp master", hashed))
	if s.asked {
		prove(proxy(), "TLS 1.3, client CertificateVerify") // a certificate like another
	}
	data = s.finished(client, hashed)
	s.alter(nil, nil, data)
	add(message(msgFinished, data))
	resumption := s.derive(master, "res master", hashed)
	in["resumption"] = hexed(resumption)
	in["next psk"] = hexed(s.expand(resumption, "resumption", u8(0)))
	if expect != vectors.Success {
		for key := range in {
			if key != "suite" && key != "shared" && key != "psk" {
				delete(in, key)
			}
		}
	}
	return vector(name, expect, comment, in, shown)
}

func innerSchedule() []vectors.Vector {
	good := goodSchedule()
	long := func(s *schedule) { s.hash, s.suite = sha512.New384, 0xc0b5 }
	retried := func(s *schedule) { s.retry, s.selected = true, 0x0017 }
	resumed := func(s *schedule) { s.psk = fill(0xaa, s.hash().Size()) }
	flip := func(b []byte) {
		if b != nil {
			b[0] ^= 1
		}
	}
	ok := func(name, comment string, s schedule) vectors.Vector { return s.vector(name, vectors.Success, comment) }
	bad := func(name, comment string, s schedule) vectors.Vector { return s.vector(name, vectors.Altered, comment) }
	return []vectors.Vector{
		ok("sha-256", "a full handshake with TLS_SHA256_SHA256", good),
		ok("sha-384", "a full handshake with TLS_SHA384_SHA384", good.with(long)),
		ok("long-secret", "a shared secret of 64 bytes, as X25519MLKEM768 has", good.with(func(s *schedule) { s.shared = fill(0x99, 64) })),
		ok("retry", "message_hash stands for the first ClientHello behind a HelloRetryRequest", good.with(retried)),
		ok("retry-sha-384", "the same with the longer hash", good.with(long).with(retried)),
		ok("client-certificate", "the client's certificate counts for Finished and resumption, and not for what was derived before", good.with(func(s *schedule) { s.asked = true })),
		ok("resumed", "a pre-shared key, with its binder", good.with(resumed)),
		ok("resumed-sha-384", "the same with the longer hash", good.with(long).with(resumed)),
		ok("resumed-retry", "a pre-shared key behind a HelloRetryRequest: the second binder covers message_hash", good.with(resumed).with(retried)),
		bad("server-finished", "the server's Finished is changed", good.with(func(s *schedule) { s.alter = func(_, server, _ []byte) { flip(server) } })),
		bad("client-finished", "the client's Finished is changed", good.with(func(s *schedule) { s.alter = func(_, _, client []byte) { flip(client) } })),
		bad("binder", "the binder is changed, and Finished covers the change", good.with(resumed).with(func(s *schedule) { s.alter = func(binder, _, _ []byte) { flip(binder) } })),
	}
}
