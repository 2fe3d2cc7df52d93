package evidence

import (
	"bytes"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"vitrine/internal/tlsmsg"
)

// authenticatorContext is the context string of RFC 9261, section 5.2.2.
const authenticatorContext = "Exported Authenticator"

// NewAnswer is an origin's `inspection` answer for the hop 2 that hop2 describes: what goes into an
// authenticator, and into the EncryptedExtensions of the inner sessions on that hop. lifetime is how long
// the statement holds.
func NewAnswer(hop2 *tls.ConnectionState, now time.Time, lifetime time.Duration) (*tlsmsg.InspectionAnswer, error) {
	keys, err := exportKeys(hop2)
	if err != nil {
		return nil, err
	}
	a := &tlsmsg.InspectionAnswer{
		HopPeer:    tlsmsg.HopPeerNone,
		HopVersion: hop2.Version,
		HopSuite:   hop2.CipherSuite,
		HopALPN:    hop2.NegotiatedProtocol,
		HopID:      tlsmsg.HopID(keys.context),
		Time:       now,
		Lifetime:   lifetime,
	}
	if len(hop2.PeerCertificates) > 0 {
		a.HopPeer = tlsmsg.HopPeerProxy
	}
	return a, nil
}

// Authenticate returns the payload of an EVIDENCE frame on hop 2: the authenticator of cert's key for
// req over hop2, with answer in its leaf entry. A nil answer proves possession of the key only. The caller has asked
// [Request.CheckProxy] and a [Limiter].
func Authenticate(req *Request, hop2 *tls.ConnectionState, cert *tls.Certificate, answer *tlsmsg.InspectionAnswer) ([]byte, error) {
	keys, err := exportKeys(hop2)
	if err != nil {
		return nil, err
	}
	if answer != nil && (answer.HopID != tlsmsg.HopID(keys.context) || answer.HopVersion != hop2.Version ||
		answer.HopSuite != hop2.CipherSuite || answer.HopALPN != hop2.NegotiatedProtocol) {
		return nil, errors.New("evidence: the answer is about another hop")
	}
	raw, err := keys.authenticator(req, cert, answer)
	if err != nil {
		return nil, err
	}
	b := cryptobyte.NewBuilder([]byte{version, byte(kindHop2)})
	addVector16(b, raw)
	return b.Bytes()
}

func (k *hopKeys) authenticator(req *Request, cert *tls.Certificate, answer *tlsmsg.InspectionAnswer) ([]byte, error) {
	key, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("evidence: a key of type %T cannot sign", cert.PrivateKey)
	}
	scheme, err := tlsmsg.PickScheme(key.Public(), req.Schemes)
	if err != nil {
		return nil, err
	}
	certMsg, err := req.certificate(cert, answer)
	if err != nil {
		return nil, err
	}
	return k.sign(req, certMsg, scheme, key)
}

// sign completes an authenticator behind its Certificate message.
func (k *hopKeys) sign(req *Request, certMsg []byte, scheme tls.SignatureScheme, key crypto.Signer) ([]byte, error) {
	content := tlsmsg.SignedContent(authenticatorContext, k.suite.sum(k.context, req.Raw, certMsg))
	sig, err := tlsmsg.Sign(rand.Reader, key, scheme, content)
	if err != nil {
		return nil, err
	}
	verifyMsg, err := (&tlsmsg.CertificateVerify{Scheme: scheme, Signature: sig}).Append(nil)
	if err != nil {
		return nil, err
	}
	finished, err := (&tlsmsg.Finished{VerifyData: k.finish(req.Raw, certMsg, verifyMsg)}).Append(nil)
	if err != nil {
		return nil, err
	}
	return slices.Concat(certMsg, verifyMsg, finished), nil
}

// certificate builds the Certificate message. Only extensions that the request offered may appear
// (RFC 9261, section 5.2.1); the offer of `inspection` is mandatory.
func (r *Request) certificate(cert *tls.Certificate, answer *tlsmsg.InspectionAnswer) ([]byte, error) {
	var x tlsmsg.ExtensionBuilder
	if r.msg.OCSP && len(cert.OCSPStaple) > 0 {
		x.OCSP(cert.OCSPStaple)
	}
	if r.msg.SCT && len(cert.SignedCertificateTimestamps) > 0 {
		x.SCTs(cert.SignedCertificateTimestamps)
	}
	if answer != nil {
		x.InspectionAnswer(answer)
	}
	exts, err := x.Extensions()
	if err != nil {
		return nil, err
	}
	m := &tlsmsg.Certificate{Context: r.Nonce[:]}
	for i, der := range cert.Certificate {
		e := tlsmsg.CertificateEntry{Cert: der}
		if i == 0 {
			e.Extensions = exts
		}
		m.Entries = append(m.Entries, e)
	}
	if len(m.Entries) == 0 {
		return nil, errors.New("evidence: no certificate to authenticate with")
	}
	return m.Append(nil)
}

// FromAuthenticator makes evidence of what the origin sent on hop 2, of which hop2 is the proxy's side.
// It verifies Finished, which nobody else can, and the signature, so that a proxy does not pass on what its
// client would hold against it. verified says whether the proxy verified the origin's chain on hop 2. Time is now. The
// error is an [*Error]; its Reason is [ReasonRefused] for an empty authenticator.
func FromAuthenticator(payload []byte, req *Request, hop2 tls.ConnectionState, verified bool) (*Evidence, error) {
	keys, err := exportKeys(&hop2)
	if err != nil {
		return nil, err
	}
	defer clear(keys.finished)
	a, raw, err := keys.open(payload, req)
	if err != nil {
		return nil, err
	}
	e := &Evidence{
		Kind:             Authenticator,
		Hop:              HopOf(hop2, verified),
		Authority:        req.Offer.Authority,
		Time:             time.Now(),
		Authenticator:    raw,
		HandshakeContext: keys.context,
	}
	if a.leaf().Inspection != nil {
		if err := checkAnswer(a.leaf().Inspection, e); err != nil {
			return nil, err
		}
	}
	return e, e.check()
}

// hopKeys are the two exporter values of RFC 9261, section 5.1, for what the server of hop 2 sends.
type hopKeys struct {
	suite             suite
	context, finished []byte
}

func exportKeys(hop2 *tls.ConnectionState) (*hopKeys, error) {
	if hop2.Version != tls.VersionTLS13 || !hop2.HandshakeComplete {
		return nil, errors.New("evidence: authenticators need a complete TLS 1.3 handshake on hop 2")
	}
	s, ok := suiteOf(hop2.CipherSuite)
	if !ok {
		return nil, fmt.Errorf("evidence: no authenticators with cipher suite %04x", hop2.CipherSuite)
	}
	k := &hopKeys{suite: s}
	var err error
	if k.context, err = hop2.ExportKeyingMaterial(tlsmsg.ExporterServerHandshakeContext, nil, s.hash.Size()); err != nil {
		return nil, err
	}
	if k.finished, err = hop2.ExportKeyingMaterial(tlsmsg.ExporterServerFinishedKey, nil, s.hash.Size()); err != nil {
		return nil, err
	}
	return k, nil
}

// open reads the payload of the EVIDENCE frames on hop 2 and verifies what is in it: a refusal, which is
// an error, or an authenticator, of which raw are the bytes.
func (k *hopKeys) open(payload []byte, req *Request) (a *authenticator, raw []byte, err error) {
	s := cryptobyte.String(payload)
	var v, kind uint8
	if !s.ReadUint8(&v) || !s.ReadUint8(&kind) || !readVector16(&s, &raw) || !s.Empty() {
		return nil, nil, malformed("an authenticator's frame is not what its lengths say")
	}
	if v != version || Kind(kind) != kindHop2 {
		return nil, nil, malformed("version %d and %v in an authenticator's frame", v, Kind(kind))
	}
	if err := k.refused(req, raw); err != nil {
		return nil, nil, err
	}
	if a, err = parseAuthenticator(raw); err != nil {
		return nil, nil, err
	}
	if !hmac.Equal(a.finished, k.finish(req.Raw, a.certMsg, a.verifyMsg)) {
		return nil, nil, altered("the authenticator's Finished fails")
	}
	if _, err := a.verify(req, k.suite, k.context); err != nil {
		return nil, nil, err
	}
	return a, raw, nil
}

// finish is the verify_data of an authenticator over these messages (RFC 9261, section 5.2.3).
func (k *hopKeys) finish(messages ...[]byte) []byte {
	mac := hmac.New(k.suite.new, k.finished)
	mac.Write(k.suite.sum(append([][]byte{k.context}, messages...)...))
	return mac.Sum(nil)
}

// refused says whether raw is an empty authenticator: a lone Finished over the request and a Certificate
// message without entries (RFC 9261, section 6).
func (k *hopKeys) refused(req *Request, raw []byte) error {
	if tlsmsg.MessageType(raw) != tlsmsg.TypeFinished {
		return nil
	}
	f, err := tlsmsg.ParseFinished(raw)
	if err != nil {
		return malformedBy(err)
	}
	empty, err := (&tlsmsg.Certificate{Context: req.Nonce[:]}).Append(nil)
	if err != nil {
		return err
	}
	if !hmac.Equal(f.VerifyData, k.finish(req.Raw, empty)) {
		return altered("the Finished of a refusal fails")
	}
	return fail(ReasonRefused, "the origin answered with an empty authenticator")
}

// authenticator is Certificate ‖ CertificateVerify ‖ Finished.
type authenticator struct {
	certMsg, verifyMsg []byte
	cert               *tlsmsg.Certificate
	verification       *tlsmsg.CertificateVerify
	finished           []byte
}

func parseAuthenticator(raw []byte) (*authenticator, error) {
	a := new(authenticator)
	var rest []byte
	var err error
	if a.certMsg, rest, err = tlsmsg.SplitHandshake(raw, tlsmsg.MaxHandshake); err != nil {
		return nil, malformedBy(err)
	}
	if a.verifyMsg, rest, err = tlsmsg.SplitHandshake(rest, tlsmsg.MaxHandshake); err != nil {
		return nil, malformedBy(err)
	}
	if a.cert, err = tlsmsg.ParseCertificate(a.certMsg); err != nil {
		return nil, malformedBy(err)
	}
	if a.verification, err = tlsmsg.ParseCertificateVerify(a.verifyMsg); err != nil {
		return nil, malformedBy(err)
	}
	f, err := tlsmsg.ParseFinished(rest)
	if err != nil {
		return nil, malformedBy(err)
	}
	a.finished = f.VerifyData
	if len(a.cert.Entries) == 0 {
		return nil, malformed("an authenticator without a certificate")
	}
	return a, nil
}

func (a *authenticator) leaf() *tlsmsg.CertificateEntry { return &a.cert.Entries[0] }

// verify is what client and proxy both demand: the request's context, no extension that it did not
// offer, a scheme that it offered, and the signature over the request's bytes. It returns the chain, which is
// not verified yet.
func (a *authenticator) verify(req *Request, s suite, handshakeContext []byte) ([]*x509.Certificate, error) {
	if len(handshakeContext) != s.hash.Size() {
		return nil, malformed("a handshake context of %d bytes, hop 2's hash has %d", len(handshakeContext), s.hash.Size())
	}
	if len(a.finished) != s.hash.Size() {
		return nil, malformed("a Finished of %d bytes, hop 2's hash has %d", len(a.finished), s.hash.Size())
	}
	if !bytes.Equal(a.cert.Context, req.Nonce[:]) {
		return nil, foreign("the authenticator answers another nonce")
	}
	for _, entry := range a.cert.Entries {
		for _, x := range entry.Extensions {
			if !tlsmsg.HasExtension(req.msg.Extensions, x.Type) {
				return nil, malformed("the authenticator has extension %d, which the request did not offer", x.Type)
			}
		}
	}
	if !slices.Contains(req.Schemes, a.verification.Scheme) {
		return nil, malformed("the authenticator is signed with %v, which the request did not offer", a.verification.Scheme)
	}
	var chain [][]byte
	for _, entry := range a.cert.Entries {
		chain = append(chain, entry.Cert)
	}
	certs, err := parseChain(chain)
	if err != nil {
		return nil, err
	}
	content := tlsmsg.SignedContent(authenticatorContext, s.sum(handshakeContext, req.Raw, a.certMsg))
	if err := tlsmsg.Verify(certs[0].PublicKey, a.verification.Scheme, content, a.verification.Signature); err != nil {
		return nil, altered("the authenticator's signature fails: %w", err)
	}
	return certs, nil
}

// checkAnswer compares the origin's statement about hop 2 with the proxy's.
func checkAnswer(a *tlsmsg.InspectionAnswer, e *Evidence) error {
	switch {
	case a.HopID != tlsmsg.HopID(e.HandshakeContext):
		return altered("the origin speaks of another hop 2")
	case a.HopVersion != e.Hop.Version:
		return altered("the origin saw version %04x on hop 2, the proxy says %04x", a.HopVersion, e.Hop.Version)
	case a.HopSuite != e.Hop.Suite:
		return altered("the origin saw cipher suite %04x on hop 2, the proxy says %04x", a.HopSuite, e.Hop.Suite)
	case a.HopALPN != e.Hop.ALPN:
		return altered("the origin saw ALPN %q on hop 2, the proxy says %q", a.HopALPN, e.Hop.ALPN)
	}
	return nil
}
