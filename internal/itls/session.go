package itls

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"vitrine/internal/tlsmsg"
)

// A Session is what a client needs to resume: a ticket, the pre-shared key that goes with it, and what
// the server proved about itself in the full handshake. It is a secret: whoever has it can stand in for
// either end. It never changes.
type Session struct {
	suite    *suite
	psk      []byte
	ticket   []byte
	ageAdd   uint32
	received time.Time
	ends     time.Time // by the server's word, at most maxLifetime after authenticated

	// authenticated is when the full handshake was that all rests on: a server that has lost its key
	// since must not be resumed for ever.
	authenticated time.Time

	binding    [32]byte // what a later handshake must have in common with this one; see Config.binding
	serverName string
	authority  string
	proxies    [][32]byte
	alpn       string
	certs      []*x509.Certificate // the server's
	ocsp       []byte
	scts       [][]byte

	roots  *x509.CertPool        // those that chains were verified with
	chains [][]*x509.Certificate // nil when it is to be verified anew

	until []<-chan struct{} // Config.SessionsUntil
}

// ServerName is what Config.TLS.ServerName was.
func (s *Session) ServerName() string { return s.serverName }

// Authority is that of Config.Inspection, "" where there was no offer.
func (s *Session) Authority() string { return s.authority }

// Proxies are those of Config.Inspection. They must not be changed.
func (s *Session) Proxies() [][32]byte { return s.proxies }

// Suite is the only one that the session can be resumed with.
func (s *Session) Suite() uint16 { return s.suite.id }

// NegotiatedProtocol is the application protocol of the session that the ticket came from.
func (s *Session) NegotiatedProtocol() string { return s.alpn }

// Ends is when the server forgets it.
func (s *Session) Ends() time.Time { return s.ends }

// fresh says whether the session may be offered now. A clock that went back says nothing about its age.
func (s *Session) fresh(now time.Time) bool {
	for _, until := range s.until {
		select {
		case <-until:
			return false
		default:
		}
	}
	return !now.Before(s.received) && now.Before(s.ends)
}

// age is the obfuscated_ticket_age of now (RFC 8446, section 4.2.11.1).
func (s *Session) age(now time.Time) uint32 {
	return uint32(now.Sub(s.received)/time.Millisecond) + s.ageAdd
}

// binding is a hash of all that a session must have in common with the handshake that it is offered in:
// the name, who reads on the way to which authority, the protocols, and the certificates that could be
// shown. The suite is compared by itself; the server's chain is verified again.
func (c *Config) binding() [32]byte {
	var b cryptobyte.Builder
	vector := func(p []byte) {
		b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(p) })
	}
	vector([]byte("vitrine itls binding v1"))
	vector([]byte(c.TLS.ServerName))
	if o := c.Inspection; o != nil {
		vector([]byte(o.Authority))
		for _, p := range o.Proxies {
			vector(p[:])
		}
	}
	vector(nil)
	for _, p := range c.TLS.NextProtos {
		vector([]byte(p))
	}
	vector(nil)
	for _, cert := range c.TLS.Certificates {
		for _, der := range cert.Certificate {
			vector(der)
		}
		vector(nil)
	}
	return sha256.Sum256(b.BytesOrPanic())
}

// A stored session begins with sessionMagic. It is at most maxSession long, which holds the largest
// Certificate message.
const (
	sessionMagic = "vitrine itls session v1"
	maxSession   = 2 * tlsmsg.MaxHandshake
)

// MarshalBinary writes a session for another process of the same user. What comes out must be kept as a
// private key is.
func (s *Session) MarshalBinary() ([]byte, error) {
	b := cryptobyte.NewBuilder([]byte(sessionMagic))
	vector8 := func(p string) { b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(p)) }) }
	vector24 := func(b *cryptobyte.Builder, p []byte) {
		b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(p) })
	}
	list := func(list [][]byte) {
		b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, p := range list {
				vector24(b, p)
			}
		})
	}
	b.AddUint16(s.suite.id)
	b.AddBytes(s.psk)
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(s.ticket) })
	b.AddUint32(s.ageAdd)
	for _, at := range []time.Time{s.authenticated, s.received, s.ends} {
		b.AddUint64(uint64(at.UnixMilli()))
	}
	b.AddBytes(s.binding[:])
	vector8(s.serverName)
	vector8(s.authority)
	b.AddUint8(uint8(len(s.proxies)))
	for _, p := range s.proxies {
		b.AddBytes(p[:])
	}
	vector8(s.alpn)
	var certs [][]byte
	for _, c := range s.certs {
		certs = append(certs, c.Raw)
	}
	list(certs)
	vector24(b, s.ocsp)
	list(s.scts)
	return b.Bytes()
}

var errSession = errors.New("itls: not a stored session")

// UnmarshalBinary reads what [Session.MarshalBinary] wrote.
func (s *Session) UnmarshalBinary(data []byte) error {
	if len(data) > maxSession {
		return errSession
	}
	in := cryptobyte.String(data)
	read := new(Session)
	var magic []byte
	var id uint16
	if !in.ReadBytes(&magic, len(sessionMagic)) || string(magic) != sessionMagic || !in.ReadUint16(&id) {
		return errSession
	}
	if read.suite = suiteByID(id); read.suite == nil {
		return errSession
	}
	var ticket, name, authority, alpn, ocsp cryptobyte.String
	var authenticated, received, ends uint64
	var proxies uint8
	if !in.ReadBytes(&read.psk, read.suite.size) || !in.ReadUint16LengthPrefixed(&ticket) || !in.ReadUint32(&read.ageAdd) ||
		!in.ReadUint64(&authenticated) || !in.ReadUint64(&received) || !in.ReadUint64(&ends) || !in.CopyBytes(read.binding[:]) ||
		!in.ReadUint8LengthPrefixed(&name) || !in.ReadUint8LengthPrefixed(&authority) ||
		!in.ReadUint8(&proxies) || proxies > tlsmsg.MaxProxies {
		return errSession
	}
	for range proxies {
		var p [32]byte
		if !in.CopyBytes(p[:]) {
			return errSession
		}
		read.proxies = append(read.proxies, p)
	}
	if !in.ReadUint8LengthPrefixed(&alpn) {
		return errSession
	}
	certs, ok := readList(&in)
	if !ok || len(certs) == 0 || !in.ReadUint24LengthPrefixed(&ocsp) {
		return errSession
	}
	if read.scts, ok = readList(&in); !ok || !in.Empty() {
		return errSession
	}
	if len(ticket) == 0 || len(ticket) > maxTicket || received < authenticated || ends < received ||
		ends > maxMillis || ends-authenticated > uint64(maxLifetime/time.Millisecond) {
		return errSession
	}
	var err error
	if read.certs, err = parseChain(certs); err != nil {
		return err
	}
	read.psk = slices.Clone(read.psk)
	read.ticket, read.ocsp = slices.Clone([]byte(ticket)), slices.Clone([]byte(ocsp))
	read.serverName, read.authority, read.alpn = string(name), string(authority), string(alpn)
	read.authenticated = time.UnixMilli(int64(authenticated))
	read.received, read.ends = time.UnixMilli(int64(received)), time.UnixMilli(int64(ends))
	*s = *read
	return nil
}

// maxMillis keeps times within what time.Duration can tell apart.
const maxMillis = 1 << 42

// readList reads a list of byte strings, none of which is empty.
func readList(in *cryptobyte.String) (list [][]byte, ok bool) {
	var all cryptobyte.String
	if !in.ReadUint24LengthPrefixed(&all) {
		return nil, false
	}
	for !all.Empty() {
		var p cryptobyte.String
		if !all.ReadUint24LengthPrefixed(&p) || len(p) == 0 {
			return nil, false
		}
		list = append(list, slices.Clone([]byte(p)))
	}
	return list, true
}

// verify returns the chains that vouch for the server now, or an error when none does any more. To verify
// signatures again is left out where nothing but the clock can have changed since they were verified: the
// same pool, to which roots can only have been added.
func (s *Session) verify(t *tls.Config) (chains [][]*x509.Certificate, err error) {
	if s.roots != nil && s.roots == t.RootCAs {
		at := now(t)
		for _, chain := range s.chains {
			if !slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return at.Before(c.NotBefore) || at.After(c.NotAfter) }) {
				chains = append(chains, chain)
			}
		}
	}
	if chains != nil {
		return chains, nil
	}
	return verifyChain(s.certs, t, true)
}
