package h2

import "net"

// startPlain runs a session without TLS. There is nothing that its SETTINGS could be bound to, so it neither
// announces nor takes frames of ours.
func startPlain(conn net.Conn, cfg *Config, server bool) *session {
	s := newSession(conn, cfg, server)
	s.run()
	return s
}
