package evidence

import (
	"crypto/tls"
	"crypto/x509"
	"slices"

	"vitrine/frames"
	"vitrine/internal/tlsmsg"
)

// handshakeContext is the context string of a TLS 1.3 server's CertificateVerify.
const handshakeContext = "TLS 1.3, server CertificateVerify"

// transcript is what a verified handshake says.
type transcript struct {
	certs   []*x509.Certificate // not verified yet
	offered []string            // ALPN
	picked  string
	scheme  tls.SignatureScheme
}

// expected is what every ClientHello of a transcript has to hold.
type expected struct {
	random     [32]byte
	serverName string
}

// offeredTokens says whether the ClientHello offered every token of this version, before anything that
// an origin could prefer by its place in the list.
func (t *transcript) offeredTokens() bool {
	return len(t.offered) >= 2 && isToken(t.offered[0]) && isToken(t.offered[1]) && t.offered[0] != t.offered[1]
}

// isToken knows the tokens that hop 2 can have over TCP in this version.
func isToken(alpn string) bool { return alpn == frames.ALPNH2 || alpn == frames.ALPNRaw }

// messages cuts the messages of a transcript off, one after the other.
type messages struct{ rest []byte }

// next returns the next message, which must be of type t.
func (m *messages) next(t tlsmsg.HandshakeType) ([]byte, error) {
	msg, rest, err := tlsmsg.SplitHandshake(m.rest, tlsmsg.MaxHandshake)
	if err != nil {
		return nil, malformedBy(err)
	}
	if got := tlsmsg.MessageType(msg); got != t {
		return nil, malformed("a transcript with %v where %v belongs", got, t)
	}
	m.rest = rest
	return msg, nil
}

// peek is the type of the next message.
func (m *messages) peek() tlsmsg.HandshakeType { return tlsmsg.MessageType(m.rest) }

// readTranscript checks all of e's messages: that they are of the handshake that want describes, that nothing
// in them takes away what a signature means, the signature, and that the proxy's claims about the hop agree
// with them.
func readTranscript(e *Evidence, want expected) (*transcript, error) {
	m := messages{e.Messages}
	first, err := readClientHello(&m, want)
	if err != nil {
		return nil, err
	}
	msg, err := m.next(tlsmsg.TypeServerHello)
	if err != nil {
		return nil, err
	}
	sh, err := tlsmsg.ParseServerHello(msg)
	if err != nil {
		return nil, malformedBy(err)
	}
	var t *transcript
	var hop *Hop
	if sh.SupportedVersion == 0 {
		t, hop, err = readTLS12(&m, first, sh)
	} else {
		t, hop, err = readTLS13(&m, want, first, sh)
	}
	if err != nil {
		return nil, err
	}
	if len(m.rest) > 0 {
		return nil, malformed("a transcript with bytes behind its last message")
	}
	if !hop.equal(&e.Hop) {
		return nil, altered("what the proxy says of hop 2 differs from the transcript")
	}
	if t.certs, err = parseChain(hop.Chain); err != nil {
		return nil, err
	}
	t.offered, t.picked = first.ALPN, hop.ALPN
	return t, nil
}

func readClientHello(m *messages, want expected) (*tlsmsg.ClientHello, error) {
	msg, err := m.next(tlsmsg.TypeClientHello)
	if err != nil {
		return nil, err
	}
	h, err := tlsmsg.ParseClientHello(msg)
	if err != nil {
		return nil, malformedBy(err)
	}
	switch {
	case h.Random != want.random:
		return nil, foreign("the transcript is of another nonce, proxy or authority")
	case h.ServerName != want.serverName:
		return nil, foreign("the transcript is of a handshake with %q", h.ServerName)
	case h.HasPSK || h.EarlyData:
		// A resumed session is signed by nobody.
		return nil, malformed("a transcript of a resumption")
	case h.ECH:
		// The server may have answered an inner ClientHello, with another name.
		return nil, malformed("a transcript with an encrypted ClientHello")
	}
	for _, t := range []uint16{
		tlsmsg.ExtensionCompressCertificate, tlsmsg.ExtensionDelegatedCredential,
		tlsmsg.ExtensionClientCertificateType, tlsmsg.ExtensionServerCertificateType,
	} {
		if tlsmsg.HasExtension(h.Extensions, t) {
			return nil, malformed("a transcript that offers other credentials than X.509 chains (extension %d)", t)
		}
	}
	return h, nil
}

// readTLS13 reads what follows the first ServerHello, which may be a HelloRetryRequest.
func readTLS13(m *messages, want expected, ch *tlsmsg.ClientHello, sh *tlsmsg.ServerHello) (*transcript, *Hop, error) {
	s, ok := suiteOf(sh.CipherSuite)
	if !ok {
		return nil, nil, malformed("a transcript with cipher suite %04x", sh.CipherSuite)
	}
	hash := s.new()
	if err := checkServerHello(ch, sh); err != nil {
		return nil, nil, err
	}
	if sh.IsHRR {
		// The transcript then begins with a synthetic message (RFC 8446, section 4.4.1).
		sum := s.sum(ch.Raw)
		hash.Write([]byte{byte(tlsmsg.TypeMessageHash), 0, 0, byte(len(sum))})
		hash.Write(sum)
		hash.Write(sh.Raw)
		var err error
		if ch, sh, err = readRetry(m, want, ch, sh); err != nil {
			return nil, nil, err
		}
	}
	if sh.KeyShare == nil || !slices.ContainsFunc(ch.KeyShares, func(k tlsmsg.KeyShare) bool { return k.Group == sh.KeyShare.Group }) {
		return nil, nil, malformed("a transcript without a key share of both sides")
	}
	hash.Write(ch.Raw)
	hash.Write(sh.Raw)

	msg, err := m.next(tlsmsg.TypeEncryptedExtensions)
	if err != nil {
		return nil, nil, err
	}
	hash.Write(msg)
	ee, err := tlsmsg.ParseEncryptedExtensions(msg)
	if err != nil {
		return nil, nil, malformedBy(err)
	}
	if ee.EarlyData || !offeredAll(ch, ee.Extensions) || ee.ALPN != "" && !slices.Contains(ch.ALPN, ee.ALPN) {
		return nil, nil, malformed("a transcript whose EncryptedExtensions answer what was not offered")
	}
	if m.peek() == tlsmsg.TypeCertificateRequest {
		if msg, err = m.next(tlsmsg.TypeCertificateRequest); err != nil {
			return nil, nil, err
		}
		hash.Write(msg)
		cr, err := tlsmsg.ParseCertificateRequest(msg)
		if err != nil {
			return nil, nil, malformedBy(err)
		}
		if len(cr.Context) != 0 {
			return nil, nil, malformed("a transcript with a CertificateRequest of after the handshake")
		}
	}
	if msg, err = m.next(tlsmsg.TypeCertificate); err != nil {
		return nil, nil, err
	}
	hash.Write(msg)
	hop, err := readCertificate(msg, ch)
	if err != nil {
		return nil, nil, err
	}
	hop.Version, hop.Suite, hop.Group, hop.ALPN = sh.SupportedVersion, sh.CipherSuite, sh.KeyShare.Group, ee.ALPN
	if msg, err = m.next(tlsmsg.TypeCertificateVerify); err != nil {
		return nil, nil, err
	}
	cv, err := tlsmsg.ParseCertificateVerify(msg)
	if err != nil {
		return nil, nil, malformedBy(err)
	}
	if !slices.Contains(ch.SignatureSchemes, cv.Scheme) {
		return nil, nil, malformed("a transcript signed with %v, which was not offered", cv.Scheme)
	}
	leaf, err := x509.ParseCertificate(hop.Chain[0])
	if err != nil {
		return nil, nil, malformedBy(err)
	}
	content := tlsmsg.SignedContent(handshakeContext, hash.Sum(nil))
	if err := tlsmsg.Verify(leaf.PublicKey, cv.Scheme, content, cv.Signature); err != nil {
		return nil, nil, altered("the transcript's signature fails: %w", err)
	}
	return &transcript{scheme: cv.Scheme}, hop, nil
}

func checkServerHello(ch *tlsmsg.ClientHello, sh *tlsmsg.ServerHello) error {
	switch {
	case sh.LegacyVersion != tls.VersionTLS12 || sh.SupportedVersion != tls.VersionTLS13:
		return malformed("a transcript with version %04x", sh.SupportedVersion)
	case !slices.Contains(ch.SupportedVersions, tls.VersionTLS13):
		return malformed("a transcript that answers what was not offered: TLS 1.3")
	case sh.Compression != 0 || string(sh.SessionID) != string(ch.SessionID):
		return malformed("a transcript whose ServerHello is for another ClientHello")
	case !slices.Contains(ch.CipherSuites, sh.CipherSuite):
		return malformed("a transcript with a cipher suite that was not offered")
	case sh.SelectedPSK != nil:
		return malformed("a transcript of a resumption")
	}
	return nil
}

// readRetry reads the second ClientHello and the ServerHello behind a HelloRetryRequest. All that the
// evidence rests on must be the same in both ClientHellos.
func readRetry(m *messages, want expected, first *tlsmsg.ClientHello, hrr *tlsmsg.ServerHello) (*tlsmsg.ClientHello, *tlsmsg.ServerHello, error) {
	ch, err := readClientHello(m, want)
	if err != nil {
		return nil, nil, err
	}
	if !slices.Equal(ch.ALPN, first.ALPN) || !slices.Equal(ch.CipherSuites, first.CipherSuites) ||
		!slices.Equal(ch.SignatureSchemes, first.SignatureSchemes) || string(ch.SessionID) != string(first.SessionID) {
		return nil, nil, malformed("a transcript whose ClientHellos differ")
	}
	msg, err := m.next(tlsmsg.TypeServerHello)
	if err != nil {
		return nil, nil, err
	}
	sh, err := tlsmsg.ParseServerHello(msg)
	if err != nil {
		return nil, nil, malformedBy(err)
	}
	if err := checkServerHello(ch, sh); err != nil {
		return nil, nil, err
	}
	if sh.IsHRR || sh.CipherSuite != hrr.CipherSuite ||
		hrr.SelectedGroup != 0 && sh.KeyShare != nil && sh.KeyShare.Group != hrr.SelectedGroup {
		return nil, nil, malformed("a transcript whose ServerHello does not follow from its HelloRetryRequest")
	}
	return ch, sh, nil
}

// readCertificate returns a hop with what the Certificate message says.
func readCertificate(msg []byte, ch *tlsmsg.ClientHello) (*Hop, error) {
	c, err := tlsmsg.ParseCertificate(msg)
	if err != nil {
		return nil, malformedBy(err)
	}
	if len(c.Context) != 0 || len(c.Entries) == 0 {
		return nil, malformed("a transcript whose Certificate is no server's")
	}
	hop := new(Hop)
	for _, entry := range c.Entries {
		if !offeredAll(ch, entry.Extensions) {
			return nil, malformed("a transcript whose Certificate answers what was not offered")
		}
		hop.Chain = append(hop.Chain, entry.Cert)
	}
	hop.OCSP, hop.SCTs = c.Entries[0].OCSP, c.Entries[0].SCTs
	return hop, nil
}

// offeredAll says whether the ClientHello has every extension that answers it (RFC 8446, section 4.2).
func offeredAll(ch *tlsmsg.ClientHello, answers []tlsmsg.Extension) bool {
	return !slices.ContainsFunc(answers, func(x tlsmsg.Extension) bool { return !tlsmsg.HasExtension(ch.Extensions, x.Type) })
}
