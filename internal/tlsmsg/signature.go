package tlsmsg

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes of the schemes
	_ "crypto/sha512"
	"crypto/tls"
	"errors"
	"io"
	"slices"
)

// maxRSABits stops certificates whose only purpose is to be verified slowly.
const maxRSABits = 8192

var (
	// ErrScheme says that a key and a signature scheme do not go together, or that TLS 1.3 does
	// not have the scheme.
	ErrScheme = errors.New("tlsmsg: signature scheme does not fit the key")
	// ErrSignature says that a signature is not that of the key over the content.
	ErrSignature = errors.New("tlsmsg: signature does not verify")
)

// SignedContent is what a TLS 1.3 signature covers: 64 spaces, the context string, a zero byte and
// the transcript hash (RFC 8446, section 4.4.3).
func SignedContent(context string, transcriptHash []byte) []byte {
	b := bytes.Repeat([]byte{' '}, 64)
	b = append(b, context...)
	b = append(b, 0)
	return append(b, transcriptHash...)
}

// Schemes are the signature schemes that [Verify] takes, in the order a peer is offered them.
func Schemes() []tls.SignatureScheme {
	return []tls.SignatureScheme{
		tls.ECDSAWithP256AndSHA256, tls.Ed25519, tls.PSSWithSHA256,
		tls.ECDSAWithP384AndSHA384, tls.PSSWithSHA384,
		tls.ECDSAWithP521AndSHA512, tls.PSSWithSHA512,
	}
}

// SchemesFor are the schemes that a key can sign with, best first; nil for a key that TLS 1.3 has no
// scheme for.
func SchemesFor(pub crypto.PublicKey) []tls.SignatureScheme {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P256():
			return []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}
		case elliptic.P384():
			return []tls.SignatureScheme{tls.ECDSAWithP384AndSHA384}
		case elliptic.P521():
			return []tls.SignatureScheme{tls.ECDSAWithP521AndSHA512}
		}
	case ed25519.PublicKey:
		return []tls.SignatureScheme{tls.Ed25519}
	case *rsa.PublicKey:
		if pub.N.BitLen() > maxRSABits {
			return nil
		}
		// A PSS encoding holds two hashes and two bytes (RFC 8017, section 9.1.1).
		var fit []tls.SignatureScheme
		for _, s := range []tls.SignatureScheme{tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512} {
			if pub.Size() >= 2*schemeHash(s).Size()+2 {
				fit = append(fit, s)
			}
		}
		return fit
	}
	return nil
}

// PickScheme is the best scheme for a key among those that the peer takes. The error is [ErrScheme].
func PickScheme(pub crypto.PublicKey, offered []tls.SignatureScheme) (tls.SignatureScheme, error) {
	for _, s := range SchemesFor(pub) {
		if slices.Contains(offered, s) {
			return s, nil
		}
	}
	return 0, ErrScheme
}

func schemeHash(s tls.SignatureScheme) crypto.Hash {
	switch s {
	case tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256:
		return crypto.SHA256
	case tls.ECDSAWithP384AndSHA384, tls.PSSWithSHA384:
		return crypto.SHA384
	case tls.ECDSAWithP521AndSHA512, tls.PSSWithSHA512:
		return crypto.SHA512
	}
	return 0 // Ed25519 signs the content itself
}

func digest(s tls.SignatureScheme, content []byte) []byte {
	hash := schemeHash(s)
	if hash == 0 {
		return content
	}
	h := hash.New()
	h.Write(content)
	return h.Sum(nil)
}

// Sign signs content, which [SignedContent] made. The error is [ErrScheme] when the key cannot sign
// with the scheme.
func Sign(rand io.Reader, key crypto.Signer, scheme tls.SignatureScheme, content []byte) ([]byte, error) {
	pub := key.Public()
	if !slices.Contains(SchemesFor(pub), scheme) {
		return nil, ErrScheme
	}
	var opts crypto.SignerOpts = schemeHash(scheme)
	if _, ok := pub.(*rsa.PublicKey); ok {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: schemeHash(scheme)}
	}
	return key.Sign(rand, digest(scheme, content), opts)
}

// Verify checks a signature over content, which [SignedContent] made. The error is [ErrScheme] for a
// scheme that TLS 1.3 does not have or that the key does not fit (an ECDSA scheme names its curve),
// and [ErrSignature] for a wrong signature.
func Verify(pub crypto.PublicKey, scheme tls.SignatureScheme, content, sig []byte) error {
	if !slices.Contains(SchemesFor(pub), scheme) {
		return ErrScheme
	}
	sum := digest(scheme, content)
	ok := false
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(pub, sum, sig)
	case ed25519.PublicKey:
		ok = len(pub) == ed25519.PublicKeySize && ed25519.Verify(pub, sum, sig)
	case *rsa.PublicKey:
		ok = rsa.VerifyPSS(pub, schemeHash(scheme), sum, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
	}
	if !ok {
		return ErrSignature
	}
	return nil
}
