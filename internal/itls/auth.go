package itls

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"vitrine/internal/tlsmsg"
)

const (
	serverVerifyContext = "TLS 1.3, server CertificateVerify"
	clientVerifyContext = "TLS 1.3, client CertificateVerify"

	// maxRSABits is crypto/tls's limit for every certificate of a chain: to verify by an RSA key of
	// megabits takes seconds.
	maxRSABits = 8192
)

// CheckChain says why peers would not take a chain of one's own: their limits are ours.
func CheckChain(cert *tls.Certificate) error {
	size := 0
	for _, der := range cert.Certificate {
		size += len(der)
	}
	switch n := len(cert.Certificate); {
	case n == 0:
		return errors.New("itls: a chain without a certificate")
	case n > tlsmsg.MaxCertificates:
		return fmt.Errorf("itls: a chain of %d certificates, and peers take %d at most", n, tlsmsg.MaxCertificates)
	case size > tlsmsg.MaxHandshake:
		return fmt.Errorf("itls: a chain of %d bytes, and peers take %d at most", size, tlsmsg.MaxHandshake)
	}
	return nil
}

// appendCertificate appends Certificate to b and to the transcript. A nil cert is a client's refusal
// to show one.
func (c *Conn) appendCertificate(b []byte, cert *tls.Certificate, ocsp, scts bool) ([]byte, error) {
	m := new(tlsmsg.Certificate)
	if cert != nil {
		for i, der := range cert.Certificate {
			var x tlsmsg.ExtensionBuilder
			if i == 0 && ocsp && len(cert.OCSPStaple) > 0 {
				x.OCSP(cert.OCSPStaple)
			}
			if i == 0 && scts && len(cert.SignedCertificateTimestamps) > 0 {
				x.SCTs(cert.SignedCertificateTimestamps)
			}
			extensions, err := x.Extensions()
			if err != nil {
				return nil, err
			}
			m.Entries = append(m.Entries, tlsmsg.CertificateEntry{Cert: der, Extensions: extensions})
		}
	}
	return c.appendMessage(b, m)
}

// appendCertificateVerify appends CertificateVerify over the transcript so far.
func (c *Conn) appendCertificateVerify(b []byte, cert *tls.Certificate, scheme tls.SignatureScheme, context string) ([]byte, error) {
	content := tlsmsg.SignedContent(context, c.transcript.Sum(nil))
	sig, err := tlsmsg.Sign(rand.Reader, cert.PrivateKey.(crypto.Signer), scheme, content)
	if err != nil {
		return nil, err
	}
	return c.appendMessage(b, &tlsmsg.CertificateVerify{Scheme: scheme, Signature: sig})
}

// appendFinished appends Finished over the transcript so far.
func (c *Conn) appendFinished(b, secret []byte) ([]byte, error) {
	data, err := c.suite.finished(secret, c.transcript.Sum(nil))
	if err != nil {
		return nil, err
	}
	return c.appendMessage(b, &tlsmsg.Finished{VerifyData: data})
}

// appendMessage appends a message to b and to the transcript.
func (c *Conn) appendMessage(b []byte, m interface {
	Append(b []byte) ([]byte, error)
},
) ([]byte, error) {
	start := len(b)
	b, err := m.Append(b)
	if err != nil {
		return nil, fmt.Errorf("itls: own message: %v", err) // not %w: its alert would blame the peer
	}
	c.transcript.Write(b[start:])
	return b, nil
}

// readFinished reads the peer's Finished.
func (c *Conn) readFinished(secret []byte) error {
	msg, err := c.expect(tlsmsg.TypeFinished)
	if err != nil {
		return err
	}
	m, err := tlsmsg.ParseFinished(msg)
	if err != nil {
		return err
	}
	want, err := c.suite.finished(secret, c.transcript.Sum(nil))
	if err != nil {
		return err
	}
	if len(want) != len(m.VerifyData) {
		return abort(tlsmsg.AlertDecodeError, "Finished is as long as another suite's")
	}
	if !hmac.Equal(want, m.VerifyData) {
		return abort(tlsmsg.AlertDecryptError, "the peer's Finished does not verify")
	}
	c.transcript.Write(msg)
	return nil
}

// signer finds the best scheme that a certificate's key can sign with and the peer takes.
func signer(cert *tls.Certificate, offered []tls.SignatureScheme) (tls.SignatureScheme, error) {
	key, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		return 0, errors.New("certificate without a key that can sign")
	}
	if allowed := cert.SupportedSignatureAlgorithms; allowed != nil {
		offered = slices.DeleteFunc(slices.Clone(offered), func(s tls.SignatureScheme) bool { return !slices.Contains(allowed, s) })
	}
	return tlsmsg.PickScheme(key.Public(), offered)
}

// readPeer takes the peer's Certificate message, reads its CertificateVerify, and has the chain and
// then the callbacks judge it: callbacks see only a peer that has proven its key.
func (c *Conn) readPeer(certificate []byte, offered []tlsmsg.Extension) error {
	m, err := tlsmsg.ParseCertificate(certificate)
	if err != nil {
		return err
	}
	if len(m.Context) > 0 {
		return abort(tlsmsg.AlertIllegalParameter, "certificate_request_context in the handshake")
	}
	for _, e := range m.Entries {
		if err := checkEntryExtensions(e.Extensions, offered); err != nil {
			return err
		}
	}
	c.transcript.Write(certificate)
	if len(m.Entries) == 0 {
		return c.noCertificate()
	}
	raw := make([][]byte, len(m.Entries))
	for i, e := range m.Entries {
		raw[i] = slices.Clone(e.Cert)
	}
	certs, err := parseChain(raw)
	if err != nil {
		return &AlertError{Alert: tlsmsg.AlertBadCertificate, Err: &CertificateError{err}}
	}
	c.state.PeerCertificates = certs
	c.state.OCSPResponse = slices.Clone(m.Entries[0].OCSP)
	for _, sct := range m.Entries[0].SCTs {
		c.state.SignedCertificateTimestamps = append(c.state.SignedCertificateTimestamps, slices.Clone(sct))
	}
	if tlsmsg.SchemesFor(certs[0].PublicKey) == nil {
		return &AlertError{
			Alert: tlsmsg.AlertUnsupportedCertificate,
			Err:   &CertificateError{errors.New("its key has no signature scheme in TLS 1.3")},
		}
	}
	if u := certs[0].KeyUsage; u != 0 && u&x509.KeyUsageDigitalSignature == 0 { // RFC 8446, section 4.4.2.2
		return &AlertError{
			Alert: tlsmsg.AlertUnsupportedCertificate,
			Err:   &CertificateError{errors.New("its key usage is not to sign")},
		}
	}
	if err := c.readCertificateVerify(certs[0]); err != nil {
		return err
	}
	if c.client || c.tls.ClientAuth >= tls.VerifyClientCertIfGiven {
		if c.state.VerifiedChains, err = verifyChain(certs, c.tls, c.client); err != nil {
			return &AlertError{Alert: certificateAlert(err), Err: &CertificateError{err}}
		}
	}
	return c.judgePeer()
}

// parseChain parses the certificates of a peer.
func parseChain(raw [][]byte) (certs []*x509.Certificate, err error) {
	certs = make([]*x509.Certificate, len(raw))
	for i, der := range raw {
		if certs[i], err = x509.ParseCertificate(der); err != nil {
			return nil, err
		}
		if key, ok := certs[i].PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > maxRSABits {
			return nil, fmt.Errorf("an RSA key of %d bits, at most %d", key.N.BitLen(), maxRSABits)
		}
	}
	return certs, nil
}

// judgePeer has the callbacks judge a peer with a certificate.
func (c *Conn) judgePeer() error {
	if f := c.tls.VerifyPeerCertificate; f != nil {
		raw := make([][]byte, len(c.state.PeerCertificates))
		for i, cert := range c.state.PeerCertificates {
			raw[i] = cert.Raw
		}
		if err := f(raw, c.state.VerifiedChains); err != nil {
			return &AlertError{Alert: tlsmsg.AlertBadCertificate, Err: &CertificateError{err}}
		}
	}
	return c.verifyConnection()
}

// noCertificate is an empty Certificate: only a client may send it, and only where none is required.
func (c *Conn) noCertificate() error {
	switch {
	case c.client:
		return abort(tlsmsg.AlertDecodeError, "the server sent no certificate")
	case c.tls.ClientAuth == tls.RequireAnyClientCert, c.tls.ClientAuth == tls.RequireAndVerifyClientCert:
		return &AlertError{
			Alert: tlsmsg.AlertCertificateRequired,
			Err:   &CertificateError{errors.New("the client sent none")},
		}
	}
	return c.verifyConnection()
}

func (c *Conn) verifyConnection() error {
	if f := c.tls.VerifyConnection; f != nil {
		if err := f(c.state); err != nil {
			return &AlertError{Alert: tlsmsg.AlertBadCertificate, Err: &CertificateError{err}}
		}
	}
	return nil
}

// checkEntryExtensions checks what stands beside a certificate, against the extensions of the message
// that asked for it (RFC 8446, section 4.4.2).
func checkEntryExtensions(list, offered []tlsmsg.Extension) error {
	for _, e := range list {
		switch {
		case e.Type == tlsmsg.ExtensionInspection:
			// It belongs into an authenticator's leaf entry, and here into EncryptedExtensions.
			return abort(tlsmsg.AlertIllegalParameter, "inspection beside a certificate of the handshake")
		case !tlsmsg.HasExtension(offered, e.Type):
			return abort(tlsmsg.AlertUnsupportedExtension, "extension %d beside a certificate, which was not offered", e.Type)
		case e.Type != tlsmsg.ExtensionStatusRequest && e.Type != tlsmsg.ExtensionSCT:
			return abort(tlsmsg.AlertIllegalParameter, "extension %d does not belong beside a certificate", e.Type)
		}
	}
	return nil
}

func (c *Conn) readCertificateVerify(leaf *x509.Certificate) error {
	context := clientVerifyContext
	if c.client {
		context = serverVerifyContext
	}
	msg, err := c.expect(tlsmsg.TypeCertificateVerify)
	if err != nil {
		return err
	}
	m, err := tlsmsg.ParseCertificateVerify(msg)
	if err != nil {
		return err
	}
	err = tlsmsg.Verify(leaf.PublicKey, m.Scheme, tlsmsg.SignedContent(context, c.transcript.Sum(nil)), m.Signature)
	switch {
	case errors.Is(err, tlsmsg.ErrScheme):
		return &AlertError{Alert: tlsmsg.AlertIllegalParameter, Err: err}
	case err != nil:
		return &AlertError{Alert: tlsmsg.AlertDecryptError, Err: err}
	}
	c.transcript.Write(msg)
	return nil
}

// verifyChain verifies a server's chain, for the client that t is of, or a client's.
func verifyChain(certs []*x509.Certificate, t *tls.Config, server bool) ([][]*x509.Certificate, error) {
	opts := x509.VerifyOptions{
		Roots:         t.RootCAs,
		CurrentTime:   now(t),
		Intermediates: x509.NewCertPool(),
	}
	if server {
		opts.DNSName = t.ServerName
	} else {
		opts.Roots = t.ClientCAs
		opts.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	for _, cert := range certs[1:] {
		opts.Intermediates.AddCert(cert)
	}
	return certs[0].Verify(opts)
}

// certificateAlert says in an alert why a chain does not verify.
func certificateAlert(err error) tlsmsg.Alert {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return tlsmsg.AlertUnknownCA
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok && e.Reason == x509.Expired {
		return tlsmsg.AlertCertificateExpired
	}
	return tlsmsg.AlertBadCertificate
}
