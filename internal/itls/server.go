package itls

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"slices"

	"vitrine/internal/tlsmsg"
)

// maxAuthorities is how many bytes of names a CertificateRequest lists; a longer list is not sent,
// which lets the client choose by itself.
const maxAuthorities = 16 << 10

// serverHandshake is the server's side of RFC 8446, section 2.
func (c *Conn) serverHandshake() error {
	hs := &serverHandshake{Conn: c}
	for _, step := range []func() error{
		hs.readHello, hs.agree, hs.chooseParameters, hs.sendHello, hs.sendFlight, hs.readClient, hs.sendTicket,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

type serverHandshake struct {
	*Conn
	hello  *tlsmsg.ClientHello
	chosen *suite
	share  *tlsmsg.KeyShare // the client's
	cert   *tls.Certificate
	scheme tls.SignatureScheme
	keys   schedule

	request   []tlsmsg.Extension // of CertificateRequest
	truncated []byte             // hash of the messages up to the binders of the last ClientHello
	resumed   *resumed           // nil in a full handshake
}

// readHello reads the first ClientHello and checks it by itself.
func (hs *serverHandshake) readHello() error {
	msg, err := hs.expect(tlsmsg.TypeClientHello)
	if err != nil {
		return err
	}
	if hs.hello, err = tlsmsg.ParseClientHello(msg); err != nil {
		return err
	}
	hs.clientRandom = hs.hello.Random
	if err := hs.endOfKeys(); err != nil {
		return err
	}
	hs.in.compatCCS = true
	if err := checkClientHello(hs.hello); err != nil {
		return err
	}
	if f := hs.tls.GetConfigForClient; f != nil {
		t, err := f(hs.info())
		if err != nil {
			return err
		}
		if t != nil {
			if err := checkTLS(t); err != nil {
				return err
			}
			hs.Conn.tls = t
		}
	}
	return nil
}

// checkClientHello checks what every ClientHello of TLS 1.3 must hold (RFC 8446, sections 4.1.2 and
// 9.2).
func checkClientHello(h *tlsmsg.ClientHello) error {
	// supported_versions decides, but SSL 3.0 is refused wherever it stands (RFC 8446, appendix D.5).
	if h.LegacyVersion == tlsmsg.VersionSSL3 || !slices.Contains(h.SupportedVersions, tlsmsg.VersionTLS13) {
		return abort(tlsmsg.AlertProtocolVersion, "the client does not speak TLS 1.3")
	}
	if !bytes.Equal(h.Compression, []byte{0}) {
		return abort(tlsmsg.AlertIllegalParameter, "the client offers compression")
	}
	if h.SignatureSchemes == nil && !h.HasPSK || h.SupportedGroups == nil || h.KeyShares == nil {
		return abort(tlsmsg.AlertMissingExtension, "ClientHello without signature_algorithms, supported_groups or key_share")
	}
	if h.HasPSK && h.PSKModes == nil {
		return abort(tlsmsg.AlertMissingExtension, "pre_shared_key without psk_key_exchange_modes")
	}
	if h.EarlyData {
		// No ticket of ours allows it. To skip it, as RFC 8446 allows, would leave bytes on the
		// wire that a reader of it sees and we do not.
		return abort(tlsmsg.AlertIllegalParameter, "the client offers early data")
	}
	for _, k := range h.KeyShares {
		if !slices.Contains(h.SupportedGroups, k.Group) {
			return abort(tlsmsg.AlertIllegalParameter, "key share of a group that is not supported")
		}
	}
	return nil
}

// info is what callbacks may know. Its Context is nil: only crypto/tls can set one.
func (hs *serverHandshake) info() *tls.ClientHelloInfo {
	h := hs.hello
	info := &tls.ClientHelloInfo{
		CipherSuites:      h.CipherSuites,
		ServerName:        h.ServerName,
		SupportedCurves:   h.SupportedGroups,
		SignatureSchemes:  h.SignatureSchemes,
		SupportedProtos:   h.ALPN,
		SupportedVersions: h.SupportedVersions,
		Conn:              hs.conn,
		HelloRetryRequest: hs.state.HelloRetryRequest,
	}
	for _, e := range h.Extensions {
		info.Extensions = append(info.Extensions, e.Type)
	}
	return info
}

// agree chooses suite and group, with a HelloRetryRequest where the client shared none of our groups.
func (hs *serverHandshake) agree() error {
	i := slices.IndexFunc(hs.cfg.suites(), func(id uint16) bool { return slices.Contains(hs.hello.CipherSuites, id) })
	if i < 0 {
		return abort(tlsmsg.AlertHandshakeFailure, "no cipher suite in common")
	}
	hs.chosen = hs.cfg.suite(hs.cfg.suites()[i])
	share, retry, ok := pickGroup(hs.cfg.groups(), hs.hello)
	if !ok {
		return abort(tlsmsg.AlertHandshakeFailure, "no group in common")
	}
	hs.share = share
	if share != nil {
		hs.transcript = hs.chosen.hash()
		hs.writeHello()
		return nil
	}
	return hs.retry(retry)
}

// retry sends a HelloRetryRequest and reads the second ClientHello. It needs no cookie: the first
// ClientHello stays in memory.
func (hs *serverHandshake) retry(group tls.CurveID) error {
	hs.state.HelloRetryRequest = true
	hs.transcript = retryTranscript(hs.chosen, hs.hello.Raw)
	var x tlsmsg.ExtensionBuilder
	x.SelectedVersion(tlsmsg.VersionTLS13)
	x.SelectedGroup(group)
	if err := hs.queueHello(tlsmsg.HelloRetryRandom(), &x); err != nil {
		return err
	}
	if err := hs.queueCompatCCS(); err != nil {
		return err
	}
	if err := hs.flush(); err != nil {
		return err
	}
	msg, err := hs.expect(tlsmsg.TypeClientHello)
	if err != nil {
		return err
	}
	second, err := tlsmsg.ParseClientHello(msg)
	if err != nil {
		return err
	}
	if err := hs.endOfKeys(); err != nil {
		return err
	}
	if len(second.KeyShares) != 1 || second.KeyShares[0].Group != group {
		return abort(tlsmsg.AlertIllegalParameter, "the second ClientHello does not share the group asked for")
	}
	if !unchanged(hs.hello, second) {
		return abort(tlsmsg.AlertIllegalParameter, "the second ClientHello differs from the first")
	}
	if err := checkClientHello(second); err != nil {
		return err
	}
	hs.hello, hs.share = second, &second.KeyShares[0]
	hs.writeHello()
	return nil
}

// unchanged compares two ClientHellos but for what a HelloRetryRequest lets a client change
// (RFC 8446, section 4.1.2). A cookie is not among it, because we send none.
func unchanged(a, b *tlsmsg.ClientHello) bool {
	fixed := func(h *tlsmsg.ClientHello) []tlsmsg.Extension {
		return slices.DeleteFunc(slices.Clone(h.Extensions), func(e tlsmsg.Extension) bool {
			switch e.Type {
			case tlsmsg.ExtensionKeyShare, tlsmsg.ExtensionPreSharedKey, tlsmsg.ExtensionPadding:
				return true
			}
			return false
		})
	}
	return a.LegacyVersion == b.LegacyVersion && a.Random == b.Random &&
		bytes.Equal(a.SessionID, b.SessionID) && slices.Equal(a.CipherSuites, b.CipherSuites) && b.SamePSKs(a) &&
		slices.EqualFunc(fixed(a), fixed(b), func(x, y tlsmsg.Extension) bool {
			return x.Type == y.Type && bytes.Equal(x.Data, y.Data)
		})
}

// chooseParameters settles application protocol, inspection, and certificate or session.
func (hs *serverHandshake) chooseParameters() (err error) {
	if hs.state.NegotiatedProtocol, err = hs.chooseProtocol(); err != nil {
		return err
	}
	hs.offer = hs.hello.Inspection
	if hs.offer != nil && !namesHost(hs.offer.Authority, hs.hello.ServerName) {
		return abort(tlsmsg.AlertIllegalParameter, "inspection names another host than server_name")
	}
	if f := hs.cfg.AnswerInspection; f != nil {
		if hs.answer, err = f(hs.offer); err != nil {
			return &AlertError{Alert: tlsmsg.AlertAccessDenied, Err: err}
		}
		if hs.answer != nil && hs.offer == nil {
			return errors.New("AnswerInspection answered no offer")
		}
	}
	if hs.cert, err = hs.chooseCertificate(); err != nil {
		return err
	}
	if err := hs.choosePSK(); err != nil || hs.resumed != nil {
		return err
	}
	if hs.hello.SignatureSchemes == nil {
		return abort(tlsmsg.AlertMissingExtension, "ClientHello without signature_algorithms, and its pre-shared key is not taken")
	}
	if hs.scheme, err = signer(hs.cert, hs.hello.SignatureSchemes); err != nil {
		return &AlertError{Alert: tlsmsg.AlertHandshakeFailure, Err: err}
	}
	return nil
}

func (hs *serverHandshake) chooseProtocol() (string, error) {
	ours := hs.tls.NextProtos
	if err := checkProtocols(ours); err != nil {
		return "", err
	}
	if len(ours) > 0 && len(hs.hello.ALPN) > 0 {
		for _, p := range ours {
			if slices.Contains(hs.hello.ALPN, p) {
				return p, nil
			}
		}
		return "", abort(tlsmsg.AlertNoApplicationProtocol, "no application protocol in common")
	}
	if hs.cfg.RequireALPN {
		return "", abort(tlsmsg.AlertNoApplicationProtocol, "the client offers no application protocol, or the server has none")
	}
	return "", nil
}

// chooseCertificate looks where crypto/tls would, in the same order.
func (hs *serverHandshake) chooseCertificate() (*tls.Certificate, error) {
	info := hs.info()
	if f := hs.tls.GetCertificate; f != nil && (len(hs.tls.Certificates) == 0 || info.ServerName != "") {
		cert, err := f(info)
		if err != nil {
			return nil, err
		}
		if cert != nil {
			return cert, CheckChain(cert)
		}
	}
	if len(hs.tls.Certificates) == 0 {
		return nil, abort(tlsmsg.AlertUnrecognizedName, "no certificate for %q", info.ServerName)
	}
	for i := range hs.tls.Certificates {
		if err := CheckChain(&hs.tls.Certificates[i]); err != nil {
			return nil, err // GetConfigForClient's: SupportsCertificate takes no chain without a certificate
		}
		if info.SupportsCertificate(&hs.tls.Certificates[i]) == nil {
			return &hs.tls.Certificates[i], nil
		}
	}
	return &hs.tls.Certificates[0], nil
}

// sendHello sends ServerHello and enters the handshake epoch.
func (hs *serverHandshake) sendHello() error {
	share, shared, err := respond(*hs.share)
	if err != nil {
		return &AlertError{Alert: tlsmsg.AlertIllegalParameter, Err: err}
	}
	hs.negotiated(hs.chosen, share.Group, hs.hello.ServerName)
	hs.peerSizeLimit(hs.hello.RecordSizeLimit)
	hs.state.DidResume = hs.resumed != nil
	var random [32]byte
	rand.Read(random[:])
	var x tlsmsg.ExtensionBuilder
	x.SelectedVersion(tlsmsg.VersionTLS13)
	x.KeyShare(share)
	if hs.resumed != nil {
		x.SelectedPSK(uint16(hs.resumed.place))
	}
	if err := hs.queueHello(random, &x); err != nil {
		return err
	}
	if !hs.state.HelloRetryRequest {
		if err := hs.queueCompatCCS(); err != nil {
			return err
		}
	}
	hs.keys.suite = hs.suite
	if err := hs.setHandshake(&hs.keys, shared); err != nil {
		return err
	}
	if err := hs.setReadSecret(hs.keys.client); err != nil {
		return err
	}
	hs.out.setSecret(hs.suite, hs.keys.server)
	return nil
}

func (hs *serverHandshake) queueHello(random [32]byte, x *tlsmsg.ExtensionBuilder) error {
	extensions, err := x.Extensions()
	if err != nil {
		return err
	}
	msg, err := hs.appendMessage(nil, &tlsmsg.ServerHello{
		LegacyVersion: tlsmsg.VersionTLS12,
		Random:        random,
		SessionID:     hs.hello.SessionID,
		CipherSuite:   hs.chosen.id,
		Extensions:    extensions,
	})
	if err != nil {
		return err
	}
	return hs.queue(msg)
}

// queueCompatCCS sends change_cipher_spec to a client that asked for it by its session ID (RFC 8446,
// appendix D.4).
func (hs *serverHandshake) queueCompatCCS() (err error) {
	if len(hs.hello.SessionID) > 0 {
		hs.out.flight, err = hs.out.seal(hs.out.flight, tlsmsg.TypeChangeCipherSpec, []byte{1})
	}
	return err
}

// sendFlight sends EncryptedExtensions, in a full handshake [CertificateRequest] Certificate
// CertificateVerify, and Finished behind ServerHello.
func (hs *serverHandshake) sendFlight() error {
	flight, err := hs.appendExtensions(nil)
	if err != nil {
		return err
	}
	if hs.resumed == nil {
		if flight, err = hs.appendAuthentication(flight); err != nil {
			return err
		}
	}
	if flight, err = hs.appendFinished(flight, hs.keys.server); err != nil {
		return err
	}
	if err := hs.queue(flight); err != nil {
		return err
	}
	return hs.flush()
}

func (hs *serverHandshake) appendAuthentication(b []byte) (_ []byte, err error) {
	if hs.tls.ClientAuth != tls.NoClientCert {
		if b, err = hs.appendRequest(b); err != nil {
			return nil, err
		}
	}
	if b, err = hs.appendCertificate(b, hs.cert, hs.hello.OCSP, hs.hello.SCT); err != nil {
		return nil, err
	}
	return hs.appendCertificateVerify(b, hs.cert, hs.scheme, serverVerifyContext)
}

func (hs *serverHandshake) appendExtensions(b []byte) ([]byte, error) {
	var x tlsmsg.ExtensionBuilder
	if hs.hello.ServerName != "" && hs.resumed == nil { // RFC 6066, section 3
		x.Raw(tlsmsg.ExtensionServerName, nil)
	}
	if p := hs.state.NegotiatedProtocol; p != "" {
		x.ALPN(p)
	}
	if hs.hello.RecordSizeLimit > 0 {
		x.RecordSizeLimit(hs.cfg.recordSizeLimit())
		hs.in.sizeLimit = hs.cfg.recordSizeLimit()
	}
	if hs.answer != nil {
		x.InspectionAnswer(hs.answer)
	}
	extensions, err := x.Extensions()
	if err != nil {
		return nil, err
	}
	return hs.appendMessage(b, &tlsmsg.EncryptedExtensions{Extensions: extensions})
}

func (hs *serverHandshake) appendRequest(b []byte) ([]byte, error) {
	var x tlsmsg.ExtensionBuilder
	x.SignatureAlgorithms(tlsmsg.Schemes())
	x.Raw(tlsmsg.ExtensionStatusRequest, nil)
	x.SCTRequest()
	if hs.tls.ClientCAs != nil {
		//lint:ignore SA1019 it is incomplete only for the system's pool, and then merely a weaker hint
		names := hs.tls.ClientCAs.Subjects()
		size := 0
		for _, n := range names {
			size += 2 + len(n)
		}
		if size > 0 && size <= maxAuthorities {
			x.CertificateAuthorities(names)
		}
	}
	var err error
	if hs.request, err = x.Extensions(); err != nil {
		return nil, err
	}
	return hs.appendMessage(b, &tlsmsg.CertificateRequest{Extensions: hs.request})
}

// readClient reads [Certificate [CertificateVerify]] Finished and enters the application epoch.
func (hs *serverHandshake) readClient() error {
	handshakeSecret := hs.keys.client
	// The application secrets end with the server's Finished, not with the client's.
	if err := hs.setApplication(&hs.keys); err != nil {
		return err
	}
	hs.out.setSecret(hs.suite, hs.keys.server)
	asked := hs.tls.ClientAuth != tls.NoClientCert && hs.resumed == nil
	if asked {
		msg, err := hs.expect(tlsmsg.TypeCertificate)
		if err != nil {
			return err
		}
		if err := hs.readPeer(msg, hs.request); err != nil {
			return err
		}
	}
	if err := hs.readFinished(handshakeSecret); err != nil {
		return err
	}
	hs.in.compatCCS = false
	if err := hs.setReadSecret(hs.keys.client); err != nil {
		return err
	}
	switch {
	case hs.resumed != nil:
		return hs.resumeClient()
	case !asked:
		return hs.verifyConnection()
	}
	return nil
}
