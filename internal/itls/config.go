package itls

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"vitrine/internal/tlsmsg"
)

// A Config says how to run a session. It can be shared by any number of sessions.
type Config struct {
	// TLS holds certificates, roots, names and callbacks; the package comment lists the fields that
	// count. A client needs ServerName, a server needs a certificate.
	TLS *tls.Config

	// Suites are the cipher suites, best first. Default: SHA-256, then SHA-384.
	Suites []uint16

	// Groups are the key exchange groups, best first; a client sends a share of the first. X25519,
	// P-256, P-384 and X25519MLKEM768 are known. Default: X25519, P-256, P-384.
	Groups []tls.CurveID

	// Inspection is the client's offer. Default: none is sent.
	Inspection *tlsmsg.InspectionOffer

	// AnswerInspection is called by a server once, with the client's offer, or nil when it sent
	// none. An error ends the handshake with access_denied. A nil answer sends none; an answer to no
	// offer is an error. Default: no answer.
	AnswerInspection func(*tlsmsg.InspectionOffer) (*tlsmsg.InspectionAnswer, error)

	// RecordSizeLimit is the most bytes of content, type and padding that a protected record of the peer
	// may hold, for an end with little memory (RFC 8449). A peer that does not know the extension sends
	// what TLS allows, and is not refused for it. Default: 16,385, all that TLS allows; at least 64.
	RecordSizeLimit int

	// RequireALPN makes an application protocol mandatory, as it is in tunnels: an end that offers
	// none, or chooses none, is refused with no_application_protocol. Default: optional.
	RequireALPN bool

	// Sessions keeps a client's sessions and resumes them: those with the same TLS.ServerName,
	// TLS.NextProtos and TLS.Certificates, and the same authority and proxies in Inspection, whose suite
	// is among Suites and whose server's chain verifies now. Whatever differs leads to a full handshake.
	// Callbacks judge a resumed peer as they do any other. Default: none is kept, none is resumed.
	Sessions *SessionCache

	// SessionsUntil, when any of it is closed, ends the sessions that this connection leaves in Sessions.
	// Default: nil, which ends none.
	SessionsUntil []<-chan struct{}

	// Tickets lets a server resume. It sends one ticket for a session, unless the client's chain makes
	// it larger than 2 KiB, and takes those for the same server name, certificate, application
	// protocol, suite, authority and proxies, and with the same need of a client certificate. Callbacks
	// judge a resumed client as they do any other. Default: no ticket is sent, none is taken.
	Tickets *TicketKeys

	// UnprotectedForTests allows a carrier that is not [Protected]. Default: refused, because
	// everyone on the path reads what these suites carry.
	UnprotectedForTests bool

	// testSuites are suites beside those of RFC 9150, for peers that know none of these. Only this
	// package's tests can set it.
	testSuites []*suite
}

// ErrUnprotected says that the carrier is not a hop.
var ErrUnprotected = errors.New("itls: the carrier is not inside a TLS 1.3 hop, and these suites hide nothing")

func (c *Config) suites() []uint16 {
	if c.Suites == nil {
		return []uint16{tlsmsg.SuiteSHA256, tlsmsg.SuiteSHA384}
	}
	return c.Suites
}

// suite is the suite of a code point, or nil.
func (c *Config) suite(id uint16) *suite {
	for _, s := range c.testSuites {
		if s.id == id {
			return s
		}
	}
	return suiteByID(id)
}

func (c *Config) groups() []tls.CurveID {
	if c.Groups == nil {
		return []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384}
	}
	return c.Groups
}

// check says what is wrong with a config before a byte is sent.
func (c *Config) check(conn net.Conn, client bool) error {
	if !c.UnprotectedForTests {
		p, ok := conn.(Protected)
		if !ok {
			return ErrUnprotected
		}
		if s := p.HopState(); !s.HandshakeComplete || s.Version != tls.VersionTLS13 {
			return ErrUnprotected
		}
	}
	if len(c.suites()) == 0 || slices.ContainsFunc(c.suites(), func(s uint16) bool { return c.suite(s) == nil }) {
		return errors.New("itls: Suites holds something other than the suites of RFC 9150")
	}
	if len(c.groups()) == 0 || slices.ContainsFunc(c.groups(), func(g tls.CurveID) bool { return !knownGroup(g) }) {
		return errors.New("itls: Groups holds a group that is not implemented")
	}
	if err := c.checkRecordSizeLimit(); err != nil {
		return err
	}
	if c.TLS == nil {
		return errors.New("itls: Config.TLS is nil")
	}
	if err := checkTLS(c.TLS); err != nil {
		return err
	}
	for i := range c.TLS.Certificates {
		if err := CheckChain(&c.TLS.Certificates[i]); err != nil {
			return err
		}
	}
	if client {
		if c.TLS.ServerName == "" {
			return errors.New("itls: a client needs Config.TLS.ServerName")
		}
		if c.RequireALPN && len(c.TLS.NextProtos) == 0 {
			return errors.New("itls: RequireALPN without NextProtos")
		}
		if c.Inspection != nil {
			if _, err := c.Inspection.Append(nil); err != nil {
				return err
			}
		}
		return checkProtocols(c.TLS.NextProtos)
	}
	if len(c.TLS.Certificates) == 0 && c.TLS.GetCertificate == nil && c.TLS.GetConfigForClient == nil {
		return errors.New("itls: a server needs a certificate")
	}
	if c.Tickets != nil {
		return c.Tickets.check()
	}
	return nil
}

// checkTLS refuses the settings whose silent absence would be a surprise.
func checkTLS(t *tls.Config) error {
	switch {
	case t.InsecureSkipVerify:
		return errors.New("itls: InsecureSkipVerify is refused: an unverified peer proves nothing")
	case t.Renegotiation != tls.RenegotiateNever:
		return errors.New("itls: Renegotiation is refused: TLS 1.3 has none")
	case t.EncryptedClientHelloConfigList != nil, t.EncryptedClientHelloKeys != nil, t.GetEncryptedClientHelloKeys != nil:
		return errors.New("itls: Encrypted Client Hello is refused: the reader must see the name")
	}
	return nil
}

func checkProtocols(protocols []string) error {
	for _, p := range protocols {
		if len(p) == 0 || len(p) > 255 {
			return fmt.Errorf("itls: NextProtos holds a name of %d bytes", len(p))
		}
	}
	return nil
}

func now(t *tls.Config) time.Time {
	if t.Time != nil {
		return t.Time()
	}
	return time.Now()
}

// namesHost says whether the authority of an offer and server_name name one host.
func namesHost(authority, serverName string) bool {
	host, _, err := net.SplitHostPort(authority)
	return err == nil && strings.EqualFold(sniName(host), serverName)
}

// sniName is what server_name carries for a configured ServerName: nothing for an IP literal
// (RFC 6066, section 3).
func sniName(name string) string {
	host := strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	host, _, _ = strings.Cut(host, "%")
	if net.ParseIP(host) != nil {
		return ""
	}
	return strings.TrimSuffix(name, ".")
}
