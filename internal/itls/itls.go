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
// VerifyPeerCertificate and KeyLogWriter. It refuses InsecureSkipVerify, Renegotiation and Encrypted
// Client Hello, and looks at nothing else.
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
