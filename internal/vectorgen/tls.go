package main

import (
	"crypto/sha256"
	"crypto/sha512"
)

// What TLS messages are made of, from RFC 8446. Nothing here comes from the package that reads them.

func vec24(b []byte) []byte { return join(u24(len(b)), b) }
func u24(n int) []byte      { return []byte{byte(n >> 16), byte(n >> 8), byte(n)} }

// message is a handshake message with its header.
func message(kind uint8, body ...[]byte) []byte { return join(u8(kind), vec24(join(body...))) }

// extension is one extension with its header.
func extension(kind uint16, data ...[]byte) []byte { return join(u16(kind), vec16(join(data...))) }

func sha256Of(parts ...[]byte) []byte {
	sum := sha256.Sum256(join(parts...))
	return sum[:]
}

func sha384Of(parts ...[]byte) []byte {
	sum := sha512.Sum384(join(parts...))
	return sum[:]
}

// Types of messages.
const (
	msgClientHello         = 1
	msgServerHello         = 2
	msgEncryptedExtensions = 8
	msgCertificate         = 11
	msgServerKeyExchange   = 12
	msgCertificateRequest  = 13
	msgCertificateVerify   = 15
	msgClientCertRequest   = 17 // RFC 9261
	msgFinished            = 20
	msgMessageHash         = 254
)

func serverName(host string) []byte {
	return extension(0, vec16(join(u8(0), vec16(text(host)))))
}

func statusRequest() []byte { return extension(5, u8(1), vec16(nil), vec16(nil)) }

func sctRequest() []byte { return extension(18) }

func supportedGroups(groups ...uint16) []byte { return extension(10, vec16(u16s(groups))) }

func signatureAlgorithms(schemes ...uint16) []byte { return extension(13, vec16(u16s(schemes))) }

func alpn(protocols ...string) []byte {
	var list []byte
	for _, p := range protocols {
		list = join(list, vec8(text(p)))
	}
	return extension(16, vec16(list))
}

func u16s(list []uint16) []byte {
	var out []byte
	for _, n := range list {
		out = join(out, u16(n))
	}
	return out
}

// certificateEntries are the entries of a TLS 1.3 Certificate; the leaf's has extensions.
func certificateEntries(chain [][]byte, leafExtensions ...[]byte) []byte {
	var list []byte
	for i, der := range chain {
		list = join(list, vec24(der))
		if i == 0 {
			list = join(list, vec16(join(leafExtensions...)))
		} else {
			list = join(list, vec16(nil))
		}
	}
	return vec24(list)
}
