package itls

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"hash"
	"slices"
	"time"

	"vitrine/internal/tlsmsg"
)

const (
	// maxIdentities is how many offered identities a server looks at: each costs it a decryption.
	maxIdentities = 4

	// maxAgeSkew is how much a client's idea of a ticket's age may differ from ours. A clock that is
	// off by 100 parts in a million is off by 4 seconds in 12 hours.
	maxAgeSkew = time.Minute
)

// resumption is what a client needs to turn the tickets of a connection into sessions.
type resumption struct {
	binding       [32]byte
	epoch         uint64    // of the cache, when the handshake began
	authenticated time.Time // of a resumed session
	secret        []byte
	taken         int
}

// offerSession puts what resumption needs at the end of the first ClientHello.
func (hs *clientHandshake) offerSession() error {
	cache := hs.cfg.Sessions
	if cache == nil || hs.tls.SessionTicketsDisabled {
		return nil
	}
	r := &resumption{binding: hs.cfg.binding(), epoch: cache.epoch()}
	hs.resumption = r
	var x tlsmsg.ExtensionBuilder
	x.PSKModes(tlsmsg.PSKModeDHE)
	modes, err := x.Extensions()
	if err != nil {
		return err
	}
	hs.hello.Extensions = append(hs.hello.Extensions, modes...)
	s := cache.take(r.binding, hs.wallClock(), func(s *Session) bool { return slices.Contains(hs.cfg.suites(), s.suite.id) })
	if s == nil {
		return nil
	}
	if hs.chains, err = s.verify(hs.tls); err != nil {
		return nil // a full handshake says it, if it is still so
	}
	hs.session = s
	return hs.appendPSK()
}

// wallClock is the time without its monotonic part, which stands still while a machine sleeps.
func (c *Conn) wallClock() time.Time { return now(c.tls).Round(0) }

// appendPSK puts pre_shared_key, still without its binder, at the end of the ClientHello.
func (hs *clientHandshake) appendPSK() error {
	s := hs.session
	var x tlsmsg.ExtensionBuilder
	x.PreSharedKey(s.suite.size, tlsmsg.PSKIdentity{Identity: s.ticket, ObfuscatedTicketAge: s.age(hs.wallClock())})
	psk, err := x.Extensions()
	if err != nil {
		return err
	}
	hs.hello.Extensions = append(hs.hello.Extensions, psk...)
	return nil
}

// bind writes the binder into hs.raw.
func (hs *clientHandshake) bind() error {
	if hs.session == nil {
		return nil
	}
	s := hs.session.suite
	var h hash.Hash = s.hash()
	if hs.transcript != nil { // behind a HelloRetryRequest
		clone, err := hs.transcript.(hash.Cloner).Clone()
		if err != nil {
			return err
		}
		h = clone
	}
	h.Write(hs.raw[:len(hs.raw)-2-1-s.size])
	binder, err := s.binder(hs.session.psk, h.Sum(nil))
	if err != nil {
		return err
	}
	copy(hs.raw[len(hs.raw)-s.size:], binder)
	return nil
}

// withoutPSK removes pre_shared_key from the ClientHello.
func (hs *clientHandshake) withoutPSK() {
	hs.hello.Extensions = slices.DeleteFunc(hs.hello.Extensions, func(e tlsmsg.Extension) bool {
		return e.Type == tlsmsg.ExtensionPreSharedKey
	})
}

// retryPSK offers the session again behind a HelloRetryRequest, which has chosen the suite.
func (hs *clientHandshake) retryPSK(suite uint16) error {
	if hs.session == nil {
		return nil
	}
	if hs.session.suite.id != suite {
		hs.session = nil
		return nil
	}
	return hs.appendPSK()
}

// selectedPSK reads in ServerHello whether the session is resumed (RFC 8446, section 4.2.11).
func (hs *clientHandshake) selectedPSK(h *tlsmsg.ServerHello) error {
	switch {
	case h.SelectedPSK == nil:
		hs.session = nil
		return nil
	case *h.SelectedPSK != 0:
		return abort(tlsmsg.AlertIllegalParameter, "ServerHello selects a pre-shared key that was not offered")
	case h.CipherSuite != hs.session.suite.id:
		return abort(tlsmsg.AlertIllegalParameter, "ServerHello selects another suite than the pre-shared key's")
	case h.KeyShare == nil:
		return abort(tlsmsg.AlertIllegalParameter, "ServerHello selects a pre-shared key alone")
	}
	hs.keys.psk = hs.session.psk
	return nil
}

// resumeServer reads Finished in place of the messages that authenticate a server, which it did in the
// session that is resumed.
func (hs *clientHandshake) resumeServer() error {
	s := hs.session
	hs.state.DidResume = true
	hs.state.PeerCertificates, hs.state.VerifiedChains = s.certs, hs.chains
	hs.state.OCSPResponse, hs.state.SignedCertificateTimestamps = s.ocsp, s.scts
	hs.resumption.authenticated = s.authenticated
	if err := hs.readFinished(hs.keys.server); err != nil {
		return err
	}
	return hs.judgePeer()
}

// keepResumption ends a client's handshake: from now on tickets can be taken.
func (hs *clientHandshake) keepResumption() {
	if hs.resumption != nil {
		hs.resumption.secret = hs.keys.resumption(hs.transcript.Sum(nil))
	}
}

// takeTicket reads a NewSessionTicket (RFC 8446, section 4.6.1).
func (c *Conn) takeTicket(msg []byte) error {
	m, err := tlsmsg.ParseNewSessionTicket(msg)
	if err != nil {
		return err
	}
	r := c.resumption
	if r == nil || r.taken == maxTickets || len(msg) > maxTicket || m.Lifetime == 0 {
		return c.countIdle()
	}
	r.taken++
	at := c.wallClock()
	authenticated := r.authenticated
	if authenticated.IsZero() {
		authenticated = at
	}
	ends := at.Add(time.Duration(m.Lifetime) * time.Second)
	if last := authenticated.Add(maxLifetime); ends.After(last) {
		ends = last
	}
	psk, err := c.suite.resumptionPSK(r.secret, m.Nonce)
	if err != nil {
		return err
	}
	s := &Session{
		suite: c.suite, psk: psk, ticket: slices.Clone(m.Ticket), ageAdd: m.AgeAdd,
		received: at, ends: ends, authenticated: authenticated,
		binding: r.binding, serverName: c.tls.ServerName, alpn: c.state.NegotiatedProtocol,
		certs: c.state.PeerCertificates, ocsp: c.state.OCSPResponse, scts: c.state.SignedCertificateTimestamps,
		roots: c.tls.RootCAs, chains: c.state.VerifiedChains,
		until: c.cfg.SessionsUntil,
	}
	if c.offer != nil {
		s.authority, s.proxies = c.offer.Authority, c.offer.Proxies
	}
	c.cfg.Sessions.put(s, r.epoch)
	return nil
}

// resumed is a session that a server resumes.
type resumed struct {
	*ticketState
	place  int // of its identity in ClientHello
	certs  []*x509.Certificate
	chains [][]*x509.Certificate
}

// writeHello puts the last ClientHello into the transcript.
func (hs *serverHandshake) writeHello() {
	raw := hs.hello.Raw
	end := len(raw) - hs.hello.BindersLen()
	hs.transcript.Write(raw[:end])
	if hs.hello.HasPSK {
		hs.truncated = hs.transcript.Sum(nil)
	}
	hs.transcript.Write(raw[end:])
}

func (hs *serverHandshake) resumes() bool {
	return hs.cfg.Tickets != nil && !hs.tls.SessionTicketsDisabled && slices.Contains(hs.hello.PSKModes, tlsmsg.PSKModeDHE)
}

// choosePSK takes the first ticket that is good for this handshake, if there is one. Its binder must then
// verify; those of others are not looked at (RFC 8446, section 4.2.11).
func (hs *serverHandshake) choosePSK() error {
	if !hs.resumes() {
		return nil
	}
	for i, id := range hs.hello.PSKIdentities[:min(maxIdentities, len(hs.hello.PSKIdentities))] {
		s := hs.cfg.Tickets.open(id.Identity, hs.cfg.suite)
		if s == nil || !hs.agrees(s) || !hs.inTime(s, id.ObfuscatedTicketAge) {
			continue
		}
		r := &resumed{ticketState: s, place: i}
		if !hs.verifies(r) {
			continue
		}
		binder, err := s.suite.binder(s.psk, hs.truncated)
		if err != nil {
			return err
		}
		if !hmac.Equal(binder, hs.hello.PSKBinders[i]) {
			return abort(tlsmsg.AlertDecryptError, "the binder of a pre-shared key does not verify")
		}
		hs.resumed, hs.keys.psk = r, s.psk
		return nil
	}
	return nil
}

// agrees says whether everything that a session is bound to is as it was.
func (hs *serverHandshake) agrees(s *ticketState) bool {
	was := hs.newTicket()
	return s.suite.id == hs.chosen.id && s.serverName == was.serverName && s.alpn == was.alpn && s.leaf == was.leaf &&
		s.asked == was.asked && s.authority == was.authority && slices.Equal(s.proxies, was.proxies)
}

// newTicket is what a session that is made now is bound to.
func (hs *serverHandshake) newTicket() *ticketState {
	s := &ticketState{
		suite: hs.chosen, serverName: hs.hello.ServerName, alpn: hs.state.NegotiatedProtocol,
		asked: hs.tls.ClientAuth != tls.NoClientCert,
	}
	if len(hs.cert.Certificate) > 0 {
		s.leaf = sha256.Sum256(hs.cert.Certificate[0])
	}
	if hs.offer != nil {
		s.authority, s.proxies = hs.offer.Authority, hs.offer.Proxies
	}
	return s
}

// inTime says whether the session is not over, and the client has held the ticket for as long as it
// exists.
func (hs *serverHandshake) inTime(s *ticketState, obfuscated uint32) bool {
	keys := hs.cfg.Tickets
	at := keys.now()
	if at.Sub(s.authenticated) >= keys.lifetime() {
		return false
	}
	age := time.Duration(obfuscated-s.ageAdd) * time.Millisecond
	return (at.Sub(s.issued) - age).Abs() <= maxAgeSkew
}

// verifies says whether the client's identity still holds, or its absence still does.
func (hs *serverHandshake) verifies(r *resumed) bool {
	auth := hs.tls.ClientAuth
	if len(r.ticketState.certs) == 0 {
		return auth != tls.RequireAnyClientCert && auth != tls.RequireAndVerifyClientCert
	}
	var err error
	if r.certs, err = parseChain(r.ticketState.certs); err == nil && auth >= tls.VerifyClientCertIfGiven {
		r.chains, err = verifyChain(r.certs, hs.tls, false)
	}
	return err == nil
}

// resumeClient gives the session the identity that the client proved when it was made.
func (hs *serverHandshake) resumeClient() error {
	hs.state.PeerCertificates, hs.state.VerifiedChains = hs.resumed.certs, hs.resumed.chains
	if len(hs.resumed.certs) == 0 {
		return hs.verifyConnection()
	}
	return hs.judgePeer()
}

// sendTicket ends the handshake. It has succeeded already: what hinders a ticket is no error.
func (hs *serverHandshake) sendTicket() error {
	if !hs.resumes() {
		return nil
	}
	keys := hs.cfg.Tickets
	s := hs.newTicket()
	s.issued = keys.now()
	s.authenticated = s.issued
	if hs.resumed != nil {
		s.authenticated = hs.resumed.authenticated
	}
	for _, c := range hs.state.PeerCertificates {
		s.certs = append(s.certs, c.Raw)
	}
	lifetime := keys.lifetime() - s.issued.Sub(s.authenticated)
	if lifetime < time.Second {
		return nil
	}
	nonce := []byte{0} // there is one ticket
	psk, err := s.suite.resumptionPSK(hs.keys.resumption(hs.transcript.Sum(nil)), nonce)
	if err != nil {
		return err
	}
	s.psk = psk
	var add [4]byte
	rand.Read(add[:])
	s.ageAdd = binary.BigEndian.Uint32(add[:])
	ticket, err := keys.seal(s)
	if err != nil || len(ticket) > maxTicket {
		return nil // such as for a server name of thousands of bytes
	}
	msg, err := (&tlsmsg.NewSessionTicket{
		Lifetime: uint32(lifetime / time.Second), AgeAdd: s.ageAdd, Nonce: nonce, Ticket: ticket,
	}).Append(nil)
	// A client whose records are small may count those of a large ticket as records without data.
	if err != nil || len(msg) > min(maxTicket, maxIdleRecords/2*hs.maxHandshakeData()) {
		return nil
	}
	if err := hs.queue(msg); err != nil {
		return err
	}
	_ = hs.flush() // a Write will say it
	return nil
}
