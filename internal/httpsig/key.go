package httpsig

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// RSA keys below minRSABits are too weak to be believed, those above maxRSABits exist to be verified slowly.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// Algorithm is the one algorithm of RFC 9421 that a key signs responses with. The error is [ErrKey].
func Algorithm(pub crypto.PublicKey) (string, error) {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P256():
			return "ecdsa-p256-sha256", nil
		case elliptic.P384():
			return "ecdsa-p384-sha384", nil
		}
		return "", fail(ErrKey, "no algorithm for the curve %s", pub.Curve.Params().Name)
	case ed25519.PublicKey:
		return "ed25519", nil
	case *rsa.PublicKey:
		if n := pub.N.BitLen(); n < minRSABits || n > maxRSABits {
			return "", fail(ErrKey, "an RSA key of %d bits", n)
		}
		return "rsa-pss-sha512", nil
	}
	return "", fail(ErrKey, "no algorithm for a %T", pub)
}

// CheckLeaf reports whether the key of leaf may sign responses. The error is [ErrKey].
func CheckLeaf(leaf *x509.Certificate) error {
	if leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return fail(ErrKey, "the certificate's key is not for signatures")
	}
	_, err := Algorithm(leaf.PublicKey)
	return err
}

func pssOptions() *rsa.PSSOptions {
	return &rsa.PSSOptions{SaltLength: 64, Hash: crypto.SHA512} // RFC 9421, section 3.3.1
}

// digested is what a key of the algorithm signs for content.
func digested(algorithm string, content []byte) ([]byte, crypto.SignerOpts) {
	switch algorithm {
	case "ecdsa-p256-sha256":
		sum := sha256.Sum256(content)
		return sum[:], crypto.SHA256
	case "ecdsa-p384-sha384":
		sum := sha512.Sum384(content)
		return sum[:], crypto.SHA384
	case "rsa-pss-sha512":
		sum := sha512.Sum512(content)
		return sum[:], pssOptions()
	}
	return content, crypto.Hash(0)
}

// sign signs a signature base as section 3.3 of RFC 9421 says.
func sign(key crypto.Signer, content []byte) ([]byte, error) {
	algorithm, err := Algorithm(key.Public())
	if err != nil {
		return nil, err
	}
	sum, options := digested(algorithm, content)
	sig, err := key.Sign(rand.Reader, sum, options)
	if err != nil {
		return nil, err
	}
	if pub, ok := key.Public().(*ecdsa.PublicKey); ok {
		return fixedWidth(sig, (pub.Curve.Params().BitSize+7)/8)
	}
	return sig, nil
}

// fixedWidth turns an ECDSA signature from its ASN.1 form into r and s of size bytes each.
func fixedWidth(der []byte, size int) ([]byte, error) {
	var inner cryptobyte.String
	r, s := new(big.Int), new(big.Int)
	in := cryptobyte.String(der)
	if !in.ReadASN1(&inner, asn1.SEQUENCE) || !in.Empty() || !inner.ReadASN1Integer(r) || !inner.ReadASN1Integer(s) || !inner.Empty() ||
		r.Sign() <= 0 || s.Sign() <= 0 || r.BitLen() > 8*size || s.BitLen() > 8*size {
		return nil, fail(ErrKey, "the signer gave no ECDSA signature")
	}
	out := make([]byte, 2*size)
	r.FillBytes(out[:size])
	s.FillBytes(out[size:])
	return out, nil
}

// verify checks a signature of a key over content.
func verify(pub crypto.PublicKey, content, sig []byte) error {
	algorithm, err := Algorithm(pub)
	if err != nil {
		return err
	}
	sum, _ := digested(algorithm, content)
	ok := false
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		size := (pub.Curve.Params().BitSize + 7) / 8
		if len(sig) == 2*size {
			ok = ecdsa.Verify(pub, sum, new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:]))
		}
	case ed25519.PublicKey:
		ok = ed25519.Verify(pub, sum, sig)
	case *rsa.PublicKey:
		ok = rsa.VerifyPSS(pub, crypto.SHA512, sum, sig, pssOptions()) == nil
	}
	if !ok {
		return fail(ErrAltered, "the signature does not verify")
	}
	return nil
}
