package itls

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"slices"

	"vitrine/internal/tlsmsg"
)

// clientHandshake is the client's side of RFC 8446, section 2.
func (c *Conn) clientHandshake() error {
	hs := &clientHandshake{Conn: c}
	for _, step := range []func() error{
		hs.sendHello, hs.readServerHello, hs.readParameters, hs.authenticateServer, hs.sendFinished,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

type clientHandshake struct {
	*Conn
	hello    *tlsmsg.ClientHello
	raw      []byte // hello, as it was sent
	exchange *keyExchange
	keys     schedule
	request  *tlsmsg.CertificateRequest // nil when the server asked for no certificate
	session  *Session                   // offered, then resumed; nil in a full handshake
	chains   [][]*x509.Certificate      // of session
}

func (hs *clientHandshake) sendHello() (err error) {
	if hs.exchange, err = newKeyExchange(hs.cfg.groups()[0]); err != nil {
		return err
	}
	rand.Read(hs.clientRandom[:])
	hs.hello = &tlsmsg.ClientHello{
		LegacyVersion: tlsmsg.VersionTLS12,
		Random:        hs.clientRandom,
		CipherSuites:  hs.cfg.suites(),
		Compression:   []byte{0},
		ServerName:    sniName(hs.tls.ServerName),
	}
	var x tlsmsg.ExtensionBuilder
	if hs.hello.ServerName != "" {
		x.ServerName(hs.hello.ServerName)
	}
	x.StatusRequest()
	x.SCTRequest()
	x.SupportedGroups(hs.cfg.groups())
	x.SignatureAlgorithms(tlsmsg.Schemes())
	if len(hs.tls.NextProtos) > 0 {
		x.ALPN(hs.tls.NextProtos...)
	}
	x.SupportedVersions(tlsmsg.VersionTLS13)
	x.KeyShares(hs.exchange.share())
	x.RecordSizeLimit(hs.cfg.recordSizeLimit())
	if hs.cfg.Inspection != nil {
		x.InspectionOffer(hs.cfg.Inspection)
		hs.offer = hs.cfg.Inspection
	}
	if hs.hello.Extensions, err = x.Extensions(); err != nil {
		return err
	}
	if err := hs.offerSession(); err != nil {
		return err
	}
	return hs.writeHello()
}

func (hs *clientHandshake) writeHello() (err error) {
	if hs.raw, err = hs.hello.Append(nil); err != nil {
		return err
	}
	if err := hs.bind(); err != nil {
		return err
	}
	if err := hs.queue(hs.raw); err != nil {
		return err
	}
	hs.in.compatCCS = true
	return hs.flush()
}

// readServerHello reads ServerHello, perhaps after one HelloRetryRequest, and enters the handshake
// epoch.
func (hs *clientHandshake) readServerHello() error {
	h, err := hs.readHello()
	if err != nil {
		return err
	}
	retried := h.IsHRR
	if retried {
		first := h
		if err := hs.retry(h); err != nil {
			return err
		}
		if h, err = hs.readHello(); err != nil {
			return err
		}
		if h.IsHRR {
			return abort(tlsmsg.AlertUnexpectedMessage, "second HelloRetryRequest")
		}
		if h.CipherSuite != first.CipherSuite {
			return abort(tlsmsg.AlertIllegalParameter, "cipher suite changed after HelloRetryRequest")
		}
	}
	if err := hs.selectedPSK(h); err != nil {
		return err
	}
	if h.KeyShare == nil {
		return abort(tlsmsg.AlertMissingExtension, "ServerHello without key_share")
	}
	if h.KeyShare.Group != hs.exchange.group {
		return abort(tlsmsg.AlertIllegalParameter, "ServerHello's key share is not of the group that was sent")
	}
	shared, err := hs.exchange.finish(h.KeyShare.Data)
	if err != nil {
		return &AlertError{Alert: tlsmsg.AlertIllegalParameter, Err: err}
	}
	hs.negotiated(hs.cfg.suite(h.CipherSuite), hs.exchange.group, hs.tls.ServerName)
	hs.state.HelloRetryRequest = retried
	if hs.transcript == nil {
		hs.transcript = hs.suite.hash()
	}
	hs.transcript.Write(hs.raw)
	hs.transcript.Write(h.Raw)
	hs.keys.suite = hs.suite
	if err := hs.setHandshake(&hs.keys, shared); err != nil {
		return err
	}
	if err := hs.setReadSecret(hs.keys.server); err != nil {
		return err
	}
	hs.out.setSecret(hs.suite, hs.keys.client)
	return nil
}

// readHello reads a ServerHello and checks what holds for a HelloRetryRequest too.
func (hs *clientHandshake) readHello() (*tlsmsg.ServerHello, error) {
	msg, err := hs.expect(tlsmsg.TypeServerHello)
	if err != nil {
		return nil, err
	}
	h, err := tlsmsg.ParseServerHello(msg)
	if err != nil {
		return nil, err
	}
	switch {
	case h.LegacyVersion == tlsmsg.VersionSSL3:
		return nil, abort(tlsmsg.AlertProtocolVersion, "the server speaks SSL 3.0")
	case h.SupportedVersion == 0 && tlsmsg.IsDowngrade(h.Random):
		return nil, abort(tlsmsg.AlertIllegalParameter, "the server knows TLS 1.3 and was asked for less: a downgrade")
	case h.SupportedVersion == 0:
		return nil, abort(tlsmsg.AlertProtocolVersion, "the server does not speak TLS 1.3")
	case h.SupportedVersion != tlsmsg.VersionTLS13 || h.LegacyVersion != tlsmsg.VersionTLS12:
		return nil, abort(tlsmsg.AlertIllegalParameter, "ServerHello selects a version that was not offered")
	case !bytes.Equal(h.SessionID, hs.hello.SessionID):
		return nil, abort(tlsmsg.AlertIllegalParameter, "ServerHello does not echo the session ID")
	case h.Compression != 0:
		return nil, abort(tlsmsg.AlertIllegalParameter, "ServerHello selects compression")
	case !slices.Contains(hs.hello.CipherSuites, h.CipherSuite):
		return nil, abort(tlsmsg.AlertIllegalParameter, "ServerHello selects a suite that was not offered")
	}
	for _, e := range h.Extensions {
		switch e.Type {
		case tlsmsg.ExtensionSupportedVersions, tlsmsg.ExtensionKeyShare:
			continue
		case tlsmsg.ExtensionPreSharedKey:
			if !h.IsHRR && tlsmsg.HasExtension(hs.hello.Extensions, e.Type) {
				continue
			}
		case tlsmsg.ExtensionCookie:
			if h.IsHRR { // the one extension that may answer nothing
				continue
			}
		}
		if tlsmsg.HasExtension(hs.hello.Extensions, e.Type) {
			return nil, abort(tlsmsg.AlertIllegalParameter, "extension %d does not belong in ServerHello", e.Type)
		}
		return nil, abort(tlsmsg.AlertUnsupportedExtension, "ServerHello has extension %d, which was not offered", e.Type)
	}
	return h, nil
}

// retry answers a HelloRetryRequest (RFC 8446, section 4.1.4).
func (hs *clientHandshake) retry(h *tlsmsg.ServerHello) (err error) {
	if h.SelectedGroup == 0 && h.Cookie == nil {
		return abort(tlsmsg.AlertIllegalParameter, "HelloRetryRequest asks for no change")
	}
	if err := hs.endOfKeys(); err != nil {
		return err
	}
	if g := h.SelectedGroup; g != 0 {
		if !slices.Contains(hs.cfg.groups(), g) {
			return abort(tlsmsg.AlertIllegalParameter, "HelloRetryRequest selects a group that was not offered")
		}
		if g == hs.exchange.group {
			return abort(tlsmsg.AlertIllegalParameter, "HelloRetryRequest selects the group that was shared")
		}
		if hs.exchange, err = newKeyExchange(g); err != nil {
			return err
		}
	}
	// The second ClientHello is the first with another share, in the same place, and the cookie
	// behind it. pre_shared_key is made anew, and last.
	hs.withoutPSK()
	var share, cookie tlsmsg.ExtensionBuilder
	share.KeyShares(hs.exchange.share())
	if h.Cookie != nil {
		cookie.Cookie(h.Cookie)
	}
	shares, err := share.Extensions()
	if err != nil {
		return err
	}
	cookies, err := cookie.Extensions()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(hs.hello.Extensions, func(e tlsmsg.Extension) bool { return e.Type == tlsmsg.ExtensionKeyShare })
	hs.hello.Extensions[i] = shares[0]
	hs.hello.Extensions = append(hs.hello.Extensions, cookies...)

	hs.transcript = retryTranscript(hs.cfg.suite(h.CipherSuite), hs.raw)
	hs.transcript.Write(h.Raw)
	if err := hs.retryPSK(h.CipherSuite); err != nil {
		return err
	}
	return hs.writeHello()
}

// readParameters reads EncryptedExtensions.
func (hs *clientHandshake) readParameters() error {
	msg, err := hs.expect(tlsmsg.TypeEncryptedExtensions)
	if err != nil {
		return err
	}
	m, err := tlsmsg.ParseEncryptedExtensions(msg)
	if err != nil {
		return err
	}
	for _, e := range m.Extensions {
		if !tlsmsg.HasExtension(hs.hello.Extensions, e.Type) {
			return abort(tlsmsg.AlertUnsupportedExtension, "EncryptedExtensions has extension %d, which was not offered", e.Type)
		}
		switch e.Type {
		case tlsmsg.ExtensionServerName, tlsmsg.ExtensionSupportedGroups, tlsmsg.ExtensionALPN, tlsmsg.ExtensionRecordSizeLimit, tlsmsg.ExtensionInspection:
		default:
			return abort(tlsmsg.AlertIllegalParameter, "extension %d does not belong in EncryptedExtensions", e.Type)
		}
	}
	if m.ALPN != "" && !slices.Contains(hs.tls.NextProtos, m.ALPN) {
		return abort(tlsmsg.AlertIllegalParameter, "the server chose a protocol that was not offered")
	}
	if m.ALPN == "" && hs.cfg.RequireALPN {
		return abort(tlsmsg.AlertNoApplicationProtocol, "the server chose no protocol")
	}
	if err := hs.answeredSizeLimit(m.RecordSizeLimit); err != nil {
		return err
	}
	hs.state.NegotiatedProtocol = m.ALPN
	hs.answer = m.Inspection
	hs.transcript.Write(msg)
	return nil
}

// authenticateServer reads [CertificateRequest] Certificate CertificateVerify Finished.
func (hs *clientHandshake) authenticateServer() error {
	if hs.session != nil {
		return hs.resumeServer()
	}
	msg, err := hs.readMessage()
	if err != nil {
		return err
	}
	if tlsmsg.MessageType(msg) == tlsmsg.TypeCertificateRequest {
		if hs.request, err = tlsmsg.ParseCertificateRequest(msg); err != nil {
			return err
		}
		if len(hs.request.Context) > 0 {
			return abort(tlsmsg.AlertIllegalParameter, "certificate_request_context in the handshake")
		}
		hs.transcript.Write(msg)
		if msg, err = hs.readMessage(); err != nil {
			return err
		}
	}
	if err := hs.mustBe(msg, tlsmsg.TypeCertificate); err != nil {
		return err
	}
	if err := hs.readPeer(msg, hs.hello.Extensions); err != nil {
		return err
	}
	return hs.readFinished(hs.keys.server)
}

// sendFinished sends [Certificate CertificateVerify] Finished and enters the application epoch.
func (hs *clientHandshake) sendFinished() (err error) {
	handshakeSecret := hs.keys.client
	if err := hs.setApplication(&hs.keys); err != nil {
		return err
	}
	if err := hs.setReadSecret(hs.keys.server); err != nil {
		return err
	}
	hs.in.compatCCS = false
	var flight []byte
	if hs.request != nil {
		if flight, err = hs.appendIdentity(nil); err != nil {
			return err
		}
	}
	if flight, err = hs.appendFinished(flight, handshakeSecret); err != nil {
		return err
	}
	if err := hs.queue(flight); err != nil {
		return err
	}
	if err := hs.flush(); err != nil {
		return err
	}
	hs.keepResumption()
	hs.out.setSecret(hs.suite, hs.keys.client)
	return nil
}

// appendIdentity answers CertificateRequest with the first certificate that fits it, or with none.
func (hs *clientHandshake) appendIdentity(b []byte) ([]byte, error) {
	info := &tls.CertificateRequestInfo{
		AcceptableCAs:    hs.request.Authorities,
		SignatureSchemes: hs.request.SignatureSchemes,
		Version:          tls.VersionTLS13,
	}
	for i := range hs.tls.Certificates {
		cert := &hs.tls.Certificates[i]
		scheme, err := signer(cert, hs.request.SignatureSchemes)
		if err != nil || info.SupportsCertificate(cert) != nil {
			continue
		}
		if b, err = hs.appendCertificate(b, cert, hs.request.OCSP, hs.request.SCT); err != nil {
			return nil, err
		}
		return hs.appendCertificateVerify(b, cert, scheme, clientVerifyContext)
	}
	return hs.appendCertificate(b, nil, false, false)
}
