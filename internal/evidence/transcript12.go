package evidence

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"vitrine/internal/tlsmsg"
)

// maxRSABits stops certificates whose only purpose is to be verified slowly.
const maxRSABits = 8192

// readTLS12 reads what follows a ServerHello of TLS 1.2. The signature covers both randoms and the
// server's key share, and nothing else: of the rest only the chain is proven, because its key made that signature.
// The server's random says whether it would have spoken TLS 1.3.
func readTLS12(m *messages, ch *tlsmsg.ClientHello, sh *tlsmsg.ServerHello) (*transcript, *Hop, error) {
	switch {
	case sh.LegacyVersion != tls.VersionTLS12:
		return nil, nil, malformed("a transcript with version %04x", sh.LegacyVersion)
	case tlsmsg.IsDowngrade(sh.Random):
		return nil, nil, fail(ReasonDowngrade, "the origin speaks TLS 1.3 and was asked for less")
	case !slices.Contains(ch.CipherSuites, sh.CipherSuite):
		return nil, nil, malformed("a transcript with a cipher suite that was not offered")
	}
	hop := &Hop{Version: tls.VersionTLS12, Suite: sh.CipherSuite, ALPN: sh.ALPN}
	var err error
	if hop.SCTs, err = serverHelloSCTs(sh); err != nil {
		return nil, nil, err
	}
	msg, err := m.next(tlsmsg.TypeCertificate)
	if err != nil {
		return nil, nil, err
	}
	if hop.Chain, err = tlsmsg.ParseCertificate12(msg); err != nil {
		return nil, nil, malformedBy(err)
	}
	if m.peek() == tlsmsg.TypeCertificateStatus {
		if msg, err = m.next(tlsmsg.TypeCertificateStatus); err != nil {
			return nil, nil, err
		}
		if hop.OCSP, err = certificateStatus(msg); err != nil {
			return nil, nil, err
		}
	}
	if msg, err = m.next(tlsmsg.TypeServerKeyExchange); err != nil {
		return nil, nil, err
	}
	ske, err := tlsmsg.ParseServerKeyExchange(msg)
	if err != nil {
		return nil, nil, malformedBy(err)
	}
	if !slices.Contains(ch.SignatureSchemes, ske.Scheme) || !slices.Contains(ch.SupportedGroups, ske.Curve) {
		return nil, nil, malformed("a transcript with a signature scheme or group that was not offered")
	}
	hop.Group = ske.Curve
	leaf, err := x509.ParseCertificate(hop.Chain[0])
	if err != nil {
		return nil, nil, malformedBy(err)
	}
	content := slices.Concat(ch.Random[:], sh.Random[:], ske.Params)
	if !verifyTLS12(leaf.PublicKey, ske.Scheme, content, ske.Signature) {
		return nil, nil, altered("the transcript's signature fails")
	}
	return &transcript{scheme: ske.Scheme}, hop, nil
}

// verifyTLS12 checks a signature with the schemes of TLS 1.2 (RFC 5246, section 4.7, RFC 8446, section
// 4.2.3), where an ECDSA scheme does not name a curve and PKCS #1 v1.5 is allowed. SHA-1 is not.
func verifyTLS12(pub crypto.PublicKey, scheme tls.SignatureScheme, content, sig []byte) bool {
	var hash crypto.Hash
	switch scheme {
	case tls.Ed25519:
		key, ok := pub.(ed25519.PublicKey)
		return ok && len(key) == ed25519.PublicKeySize && ed25519.Verify(key, content, sig)
	case tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256, tls.PKCS1WithSHA256:
		hash = crypto.SHA256
	case tls.ECDSAWithP384AndSHA384, tls.PSSWithSHA384, tls.PKCS1WithSHA384:
		hash = crypto.SHA384
	case tls.ECDSAWithP521AndSHA512, tls.PSSWithSHA512, tls.PKCS1WithSHA512:
		hash = crypto.SHA512
	default:
		return false
	}
	h := hash.New()
	h.Write(content)
	sum := h.Sum(nil)
	switch key := pub.(type) {
	case *ecdsa.PublicKey:
		switch scheme {
		case tls.ECDSAWithP256AndSHA256, tls.ECDSAWithP384AndSHA384, tls.ECDSAWithP521AndSHA512:
			return ecdsa.VerifyASN1(key, sum, sig)
		}
	case *rsa.PublicKey:
		if key.N.BitLen() > maxRSABits {
			return false
		}
		switch scheme {
		case tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512:
			return rsa.VerifyPSS(key, hash, sum, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		case tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512:
			return rsa.VerifyPKCS1v15(key, hash, sum, sig) == nil
		}
	}
	return false
}

// certificateStatus returns the OCSP response of a CertificateStatus (RFC 6066, section 8).
func certificateStatus(msg []byte) ([]byte, error) {
	s := cryptobyte.String(msg[4:])
	var kind uint8
	var response []byte
	if !s.ReadUint8(&kind) || kind != 1 || !readVector24(&s, &response) || !s.Empty() || len(response) == 0 {
		return nil, malformed("a malformed CertificateStatus")
	}
	return response, nil
}

// serverHelloSCTs returns the timestamps of a TLS 1.2 ServerHello (RFC 6962, section 3.3.1).
func serverHelloSCTs(sh *tlsmsg.ServerHello) ([][]byte, error) {
	for _, x := range sh.Extensions {
		if x.Type != tlsmsg.ExtensionSCT {
			continue
		}
		s := cryptobyte.String(x.Data)
		var list cryptobyte.String
		if !s.ReadUint16LengthPrefixed(&list) || !s.Empty() || list.Empty() {
			return nil, malformed("malformed timestamps in ServerHello")
		}
		return readList(list, readVector16)
	}
	return nil, nil
}
