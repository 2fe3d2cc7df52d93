package inspect

import (
	"bytes"
	"slices"
	"strings"

	"vitrine/frames"
	"vitrine/internal/tlsmsg"
)

// inner is the state of the inner session's TLS 1.3, of both directions.
type inner struct {
	state state
	hello *tlsmsg.ClientHello // the last one, until EncryptedExtensions
	retry uint16              // the suite of a HelloRetryRequest
	suite uint16
	tag   int  // length of a record's tag; zero until ServerHello
	psk   bool // the server took a PSK
	asked bool // CertificateRequest was seen

	keyUpdates, tickets int
}

// A state is what the handshake waits for (RFC 8446, appendix A).
type state uint8

const (
	waitClientHello state = iota
	waitServerHello
	waitSecondHello
	waitServerHelloAgain
	waitEncryptedExtensions
	waitServerCertificate // or CertificateRequest
	waitServerVerify
	waitServerFinished
	waitClientCertificate
	waitClientVerify
	waitClientFinished
	established
)

// sender is the direction whose handshake message is awaited.
func (s state) sender() frames.Direction {
	switch s {
	case waitClientHello, waitSecondHello, waitClientCertificate, waitClientVerify, waitClientFinished:
		return frames.ToOrigin
	}
	return frames.ToClient
}

// content reads one record.
func (t *Tunnel) content(s *side, h tlsmsg.RecordHeader, fragment []byte) *KillError {
	if s.over != open {
		return s.kill(RuleAfterClose, "%v record behind the end of the direction", h.Type)
	}
	if h.Type == tlsmsg.TypeChangeCipherSpec {
		return t.changeCipherSpec(s, fragment)
	}
	if t.tls.tag == 0 {
		switch {
		case h.Type == tlsmsg.TypeApplicationData && s.dir == frames.ToOrigin:
			return s.kill(RuleEarlyData, "protected record before ServerHello")
		case h.Type == tlsmsg.TypeApplicationData:
			return s.kill(RuleOrder, "protected record before ServerHello")
		case t.tls.state == waitClientHello && (s.dir == frames.ToClient || h.Type != tlsmsg.TypeHandshake):
			return s.kill(RuleOrder, "%v record before ClientHello", h.Type)
		}
		return t.typed(s, h.Type, fragment)
	}
	if h.Type != tlsmsg.TypeApplicationData {
		return s.kill(RulePlaintext, "unprotected %v record behind ServerHello", h.Type)
	}
	n := len(fragment) - t.tls.tag
	if n < 1 || n > tlsmsg.MaxPlaintext+1 {
		return s.kill(RuleRecord, "protected record of %d bytes", len(fragment))
	}
	for n--; n >= 0 && fragment[n] == 0; n-- {
	}
	if n < 0 {
		return s.kill(RuleInnerType, "record of padding alone")
	}
	return t.typed(s, tlsmsg.ContentType(fragment[n]), fragment[:n])
}

// typed reads the content of a record whose type is known.
func (t *Tunnel) typed(s *side, typ tlsmsg.ContentType, p []byte) *KillError {
	if len(s.handshake) > 0 && typ != tlsmsg.TypeHandshake {
		return s.kill(RuleInterleaved, "%v record inside a handshake message", typ)
	}
	switch typ {
	case tlsmsg.TypeHandshake:
		return t.messages(s, p)
	case tlsmsg.TypeAlert:
		return t.alert(s, p)
	case tlsmsg.TypeApplicationData:
		if !s.finished {
			if s.dir == frames.ToOrigin {
				return s.kill(RuleClientData, "application data before the client's Finished")
			}
			return s.kill(RuleOrder, "application data before the server's Finished")
		}
		if len(p) == 0 {
			return nil
		}
		s.progress = true
		return t.http(s, p)
	}
	return s.kill(RuleInnerType, "inner %v", typ)
}

// changeCipherSpec allows the one record that RFC 8446, appendix D.4, has for old middleboxes: after the
// first ClientHello and before the sender's Finished.
func (t *Tunnel) changeCipherSpec(s *side, p []byte) *KillError {
	early := t.tls.state == waitClientHello ||
		s.dir == frames.ToClient && t.tls.state == waitServerHello
	switch {
	case len(s.handshake) > 0:
		return s.kill(RuleInterleaved, "change_cipher_spec inside a handshake message")
	case len(p) != 1 || p[0] != 1:
		return s.kill(RuleCCS, "change_cipher_spec is not the byte 1")
	case early || s.finished:
		return s.kill(RuleCCS, "change_cipher_spec outside the handshake")
	case s.ccs:
		return s.kill(RuleCCS, "second change_cipher_spec")
	}
	s.ccs = true
	return nil
}

func (t *Tunnel) alert(s *side, p []byte) *KillError {
	if len(p) != 2 || p[0] != 1 && p[0] != 2 {
		return s.kill(RuleAlert, "alert of %d bytes", len(p))
	}
	switch tlsmsg.Alert(p[1]) {
	case tlsmsg.AlertCloseNotify:
		s.over = closed
		return t.closeNotify(s)
	case tlsmsg.AlertUserCanceled:
		return nil
	}
	s.over = failed
	return t.cutShort(s)
}

// leastPiece is how many bytes of handshake messages make a record one with progress: a peer may take
// records of 64 bytes (RFC 8449), and a certificate then comes in a hundred of them. HandshakeBytes bounds
// their number.
const leastPiece = 32

// messages reads the handshake messages of one record.
func (t *Tunnel) messages(s *side, p []byte) *KillError {
	if len(p) == 0 {
		return s.kill(RuleEmptyRecord, "handshake record without content")
	}
	s.progress = len(p) >= leastPiece
	if len(s.handshake) > 0 {
		s.handshake = append(s.handshake, p...)
		p = s.handshake
	}
	limit := min(t.limits.HandshakeBytes, tlsmsg.MaxHandshake)
	for len(p) > 0 {
		msg, rest, err := tlsmsg.SplitHandshake(p, limit)
		if err == tlsmsg.ErrShort {
			if len(p) != len(s.handshake) { // else it is there already
				s.handshake = append(s.handshake[:0], p...)
			}
			return nil
		}
		if err != nil {
			return s.kill(RuleHandshakeSize, "%v above %d bytes", tlsmsg.MessageType(p), limit)
		}
		if err := t.message(s, msg, len(rest) == 0); err != nil {
			return err
		}
		p = rest
	}
	s.handshake = nil
	return nil
}

// message reads one handshake message. last says that it is the last of its record.
func (t *Tunnel) message(s *side, msg []byte, last bool) *KillError {
	typ := tlsmsg.MessageType(msg)
	if s.finished {
		return t.postHandshake(s, typ, msg, last)
	}
	if t.tls.state.sender() != s.dir {
		return s.kill(RuleOrder, "%v out of turn", typ)
	}
	s.progress = true
	switch typ {
	case tlsmsg.TypeClientHello, tlsmsg.TypeServerHello, tlsmsg.TypeFinished:
		if !last {
			return s.kill(RuleKeyChange, "bytes behind %v in its record", typ)
		}
	}
	switch state := t.tls.state; {
	case typ == tlsmsg.TypeClientHello && (state == waitClientHello || state == waitSecondHello):
		return t.clientHello(s, msg)
	case typ == tlsmsg.TypeServerHello && (state == waitServerHello || state == waitServerHelloAgain):
		return t.serverHello(s, msg)
	case typ == tlsmsg.TypeEncryptedExtensions && state == waitEncryptedExtensions:
		return t.encryptedExtensions(s, msg)
	case typ == tlsmsg.TypeCertificateRequest && state == waitServerCertificate && !t.tls.asked:
		m, err := tlsmsg.ParseCertificateRequest(msg)
		if err != nil || len(m.Context) > 0 {
			return s.kill(RuleMessage, "malformed CertificateRequest")
		}
		t.tls.asked = true
		return nil
	case typ == tlsmsg.TypeCertificate && (state == waitServerCertificate || state == waitClientCertificate):
		return t.certificate(s, msg)
	case typ == tlsmsg.TypeCertificateVerify && (state == waitServerVerify || state == waitClientVerify):
		if _, err := tlsmsg.ParseCertificateVerify(msg); err != nil {
			return s.kill(RuleMessage, "%v", err)
		}
		t.tls.state++
		return nil
	case typ == tlsmsg.TypeFinished && (state == waitServerFinished || state == waitClientFinished):
		m, err := tlsmsg.ParseFinished(msg)
		if err != nil || len(m.VerifyData) != t.tls.tag {
			return s.kill(RuleMessage, "Finished is not as long as the suite's hash")
		}
		s.finished = true
		switch {
		case s.dir == frames.ToOrigin:
			t.tls.state = established
		case t.tls.asked:
			t.tls.state = waitClientCertificate
		default:
			t.tls.state = waitClientFinished
		}
		return nil
	}
	return s.kill(RuleOrder, "%v where another message belongs", typ)
}

func (t *Tunnel) certificate(s *side, msg []byte) *KillError {
	m, err := tlsmsg.ParseCertificate(msg)
	switch {
	case err != nil:
		return s.kill(RuleMessage, "%v", err)
	case len(m.Context) > 0:
		return s.kill(RuleMessage, "Certificate with a context in the handshake")
	case len(m.Entries) > 0:
		t.tls.state++
	case s.dir == frames.ToOrigin:
		t.tls.state = waitClientFinished
	default:
		return s.kill(RuleMessage, "server without a certificate")
	}
	return nil
}

// clientHello checks what the client offers, of which nothing may be unreadable or for somebody else.
func (t *Tunnel) clientHello(s *side, msg []byte) *KillError {
	h, err := tlsmsg.ParseClientHello(bytes.Clone(msg))
	switch {
	case err != nil:
		return s.kill(RuleMessage, "%v", err)
	case h.EarlyData:
		return s.kill(RuleEarlyData, "early_data in ClientHello")
	case h.ECH:
		return s.kill(RuleECH, "encrypted ClientHello")
	case h.HasPSK && h.PSKModes == nil:
		return s.kill(RuleMessage, "pre_shared_key without psk_key_exchange_modes")
	case !slices.Contains(h.SupportedVersions, tlsmsg.VersionTLS13):
		return s.kill(RuleVersion, "ClientHello does not offer TLS 1.3")
	case t.ip.IsValid() && h.ServerName != "":
		return s.kill(RuleSNI, "server_name for an IP address")
	case !t.ip.IsValid() && !strings.EqualFold(h.ServerName, t.host):
		return s.kill(RuleSNI, "server_name %q is not the tunnel's host", cut(h.ServerName, 100))
	}
	if err := t.offer(s, h.Inspection); err != nil {
		return err
	}
	if t.tls.state == waitSecondHello {
		if !sameHello(t.tls.hello, h) {
			return s.kill(RuleHelloRetry, "the second ClientHello differs beyond what a HelloRetryRequest asks for")
		}
		t.tls.state = waitServerHelloAgain
	} else {
		t.tls.state = waitServerHello
	}
	t.tls.hello = h
	return nil
}

// offer checks the `inspection` extension: without it, or with another's, the client may believe that
// somebody else reads, or nobody.
func (t *Tunnel) offer(s *side, o *tlsmsg.InspectionOffer) *KillError {
	switch {
	case o == nil:
		return s.kill(RuleOfferMissing, "ClientHello without the inspection extension")
	case !slices.Equal(o.Proxies, t.cfg.Proxies):
		return s.kill(RuleOfferProxy, "the inspection extension names other proxies")
	case o.Nonce != t.cfg.Nonce:
		return s.kill(RuleOfferNonce, "the inspection extension is of another CONNECT")
	case o.Authority != t.cfg.Authority:
		return s.kill(RuleOfferAuthority, "the inspection extension is for %q", cut(o.Authority, 100))
	}
	return nil
}

// sameHello says whether b is a with only the changes of RFC 8446, section 4.1.2.
func sameHello(a, b *tlsmsg.ClientHello) bool {
	kept := func(list []tlsmsg.Extension) []tlsmsg.Extension {
		return slices.DeleteFunc(slices.Clone(list), func(e tlsmsg.Extension) bool {
			switch e.Type {
			case tlsmsg.ExtensionKeyShare, tlsmsg.ExtensionCookie, tlsmsg.ExtensionPreSharedKey, tlsmsg.ExtensionPadding:
				return true
			}
			return false
		})
	}
	return a.LegacyVersion == b.LegacyVersion && a.Random == b.Random && bytes.Equal(a.SessionID, b.SessionID) &&
		slices.Equal(a.CipherSuites, b.CipherSuites) && bytes.Equal(a.Compression, b.Compression) && b.SamePSKs(a) &&
		slices.EqualFunc(kept(a.Extensions), kept(b.Extensions), func(x, y tlsmsg.Extension) bool {
			return x.Type == y.Type && bytes.Equal(x.Data, y.Data)
		})
}

func (t *Tunnel) serverHello(s *side, msg []byte) *KillError {
	h, err := tlsmsg.ParseServerHello(msg)
	hello := t.tls.hello
	switch {
	case err != nil:
		return s.kill(RuleMessage, "%v", err)
	case h.SupportedVersion != tlsmsg.VersionTLS13:
		return s.kill(RuleVersion, "ServerHello is not of TLS 1.3")
	case h.CipherSuite != tlsmsg.SuiteSHA256 && h.CipherSuite != tlsmsg.SuiteSHA384:
		return s.kill(RuleSuite, "suite %#04x is not one of RFC 9150", h.CipherSuite)
	case !slices.Contains(hello.CipherSuites, h.CipherSuite):
		return s.kill(RuleSuite, "suite %#04x was not offered", h.CipherSuite)
	case t.tls.retry != 0 && t.tls.retry != h.CipherSuite:
		return s.kill(RuleSuite, "ServerHello and HelloRetryRequest name different suites")
	case !bytes.Equal(h.SessionID, hello.SessionID) || h.Compression != 0:
		return s.kill(RuleServerHello, "ServerHello does not echo its ClientHello")
	case h.IsHRR && h.SelectedPSK != nil:
		return s.kill(RuleServerHello, "HelloRetryRequest takes a PSK")
	case h.IsHRR && t.tls.state == waitServerHelloAgain:
		return s.kill(RuleOrder, "second HelloRetryRequest")
	case h.IsHRR:
		t.tls.retry = h.CipherSuite
		t.tls.state = waitSecondHello
		return nil
	case h.KeyShare == nil || !slices.ContainsFunc(hello.KeyShares, func(k tlsmsg.KeyShare) bool { return k.Group == h.KeyShare.Group }):
		return s.kill(RuleServerHello, "ServerHello without a key share that the client offered")
	case h.SelectedPSK != nil && int(*h.SelectedPSK) >= len(hello.PSKIdentities):
		return s.kill(RuleServerHello, "ServerHello takes a PSK that was not offered")
	case h.SelectedPSK != nil && !slices.Contains(hello.PSKModes, tlsmsg.PSKModeDHE):
		// The key exchange would be none that the client asked for, whatever share is beside it.
		return s.kill(RuleServerHello, "ServerHello takes a PSK in a mode that was not offered")
	}
	t.tls.tag = 32
	if h.CipherSuite == tlsmsg.SuiteSHA384 {
		t.tls.tag = 48
	}
	if h.SelectedPSK != nil && len(hello.PSKBinders[*h.SelectedPSK]) != t.tls.tag {
		return s.kill(RuleServerHello, "ServerHello takes a PSK of another suite")
	}
	for _, other := range t.sides {
		// The keys change here for both, and no message spans that (RFC 8446, section 5.1).
		if len(other.handshake) > 0 && other.dir != s.dir {
			return s.kill(RuleKeyChange, "ServerHello inside a message of the client")
		}
	}
	t.tls.psk = h.SelectedPSK != nil
	t.tls.suite = h.CipherSuite
	t.tls.state = waitEncryptedExtensions
	return nil
}

func (t *Tunnel) encryptedExtensions(s *side, msg []byte) *KillError {
	m, err := tlsmsg.ParseEncryptedExtensions(msg)
	switch {
	case err != nil:
		return s.kill(RuleMessage, "%v", err)
	case m.EarlyData:
		return s.kill(RuleEarlyData, "early_data in EncryptedExtensions")
	case m.ALPN != "" && !slices.Contains(t.tls.hello.ALPN, m.ALPN):
		return s.kill(RuleALPN, "EncryptedExtensions chose a protocol that was not offered")
	case m.ALPN != "http/1.1":
		return s.kill(RuleOpaque, "inner protocol %q", cut(m.ALPN, 100))
	}
	t.tls.hello = nil
	t.tls.state = waitServerCertificate
	if t.tls.psk {
		t.tls.state = waitServerFinished
	}
	return nil
}

// postHandshake reads what may follow a Finished.
func (t *Tunnel) postHandshake(s *side, typ tlsmsg.HandshakeType, msg []byte, last bool) *KillError {
	switch {
	case typ == tlsmsg.TypeKeyUpdate:
		if _, err := tlsmsg.ParseKeyUpdate(msg); err != nil {
			return s.kill(RuleMessage, "%v", err)
		}
		if !last {
			return s.kill(RuleKeyChange, "bytes behind KeyUpdate in its record")
		}
		if t.tls.keyUpdates++; t.tls.keyUpdates > t.limits.KeyUpdates {
			return s.kill(RuleKeyUpdates, "more than %d", t.limits.KeyUpdates)
		}
		return nil
	case typ == tlsmsg.TypeNewSessionTicket && s.dir == frames.ToClient:
		if len(msg) > t.limits.TicketBytes {
			return s.kill(RuleTickets, "ticket of %d bytes", len(msg))
		}
		if _, err := tlsmsg.ParseNewSessionTicket(msg); err != nil {
			return s.kill(RuleMessage, "%v", err)
		}
		if t.tls.tickets++; t.tls.tickets > t.limits.Tickets {
			return s.kill(RuleTickets, "more than %d", t.limits.Tickets)
		}
		return nil
	}
	return s.kill(RulePostHandshake, "%v behind the handshake", typ)
}
