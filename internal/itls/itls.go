// Package itls is the inner session of a tunnel: TLS 1.3 with the suites of RFC 9150, which
// authenticate every record and encrypt none, so that whoever carries the session reads it and
// cannot change a byte unnoticed.
//
// Call [Client] or [Server] on the connection that carries the session, then
// [Conn.HandshakeContext]. The result is a [net.Conn].
//
// It is TLS 1.3 only, with TLS_SHA256_SHA256 and TLS_SHA384_SHA384 only: no earlier version, no
// encrypting suite, no early data. Sessions are resumed where [Config.Sessions] and [Config.Tickets]
// say so, with a fresh key exchange. Because nothing is confidential in it, it runs only inside a hop,
// which is what [Protected] says; anything else needs [Config.UnprotectedForTests].
//
// It takes a [tls.Config] and honours exactly Certificates, GetCertificate, GetConfigForClient,
// RootCAs, ClientCAs, ClientAuth, ServerName, NextProtos, Time, VerifyConnection,
// VerifyPeerCertificate, SessionTicketsDisabled and KeyLogWriter. It refuses InsecureSkipVerify, Renegotiation and Encrypted
// Client Hello, and looks at nothing else.
//
// # What it is
//
// A TLS 1.3 of its own, because crypto/tls has no suites of RFC 9150 and no way to add one. The protocol
// is written here: records, messages, key schedule, state machine. The cryptography is the standard
// library's: ecdh, mlkem, hkdf, hmac, ecdsa, ed25519, rsa, x509. It has X25519, P-256, P-384 and
// X25519MLKEM768; ECDSA on P-256, P-384 and P-521, Ed25519 and RSA-PSS; HelloRetryRequest, certificates of
// both ends, OCSP responses and timestamps, resumption by psk_dhe_ke, record_size_limit, exporters and
// KeyUpdate.
//
// # What it is not
//
// It is not a general TLS: it hides nothing, and a session on a bare network is readable by everyone on
// it. It has had no outside audit and no formal proof. It does not look at revocation, which it leaves to
// VerifyConnection and the OCSP response; it has no post-handshake authentication, no certificate
// compression, no delegated credentials, no external pre-shared keys and no 0-RTT. It compares tags in
// constant time; beyond that there is nothing to learn from its timing but what the wire shows anyhow.
// A hash for each record is slower than AES-GCM on processors that have instructions for that.
//
// # How it is tested
//
// Its records are those of OpenSSL, its key schedule is that of RFC 8448, and both are vectors for others
// (spec/vectors, kinds inner-record and inner-schedule). Every alert of the specification's table, section
// 8.8, has a scene for each role that sends it; every message is sent in every state; every byte of an
// exchange is changed, and every cut is made. Fuzzers hold the ends to an oracle: what one emits the other
// takes, and what is altered fails. Each bound has a test that fails when it is lifted.
package itls

import (
	"crypto/tls"
	"net"
)

// Protected is a connection that runs inside a hop: an authenticated, encrypted TLS 1.3 connection.
type Protected interface {
	net.Conn
	// HopState is the state of the hop's TLS connection.
	HopState() tls.ConnectionState
}

// Client returns a session that will run over conn with the client's role. cfg must not be changed
// afterwards. What is wrong with it is the handshake's error.
func Client(conn net.Conn, cfg *Config) *Conn { return newConn(conn, cfg, true) }

// Server returns a session that will run over conn with the server's role.
func Server(conn net.Conn, cfg *Config) *Conn { return newConn(conn, cfg, false) }
