package tlsmsg

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"math/big"
	"testing"
)

func testKeys(t *testing.T) map[string]crypto.Signer {
	t.Helper()
	keys := map[string]crypto.Signer{}
	for name, curve := range map[string]elliptic.Curve{"P-224": elliptic.P224(), "P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = key
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys["Ed25519"] = ed
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys["RSA-2048"] = rsaKey
	return keys
}

func TestEachKeySignsOnlyWithItsOwnSchemes(t *testing.T) {
	fit := map[string][]tls.SignatureScheme{
		"P-224":    nil, // no scheme of TLS 1.3
		"P-256":    {tls.ECDSAWithP256AndSHA256},
		"P-384":    {tls.ECDSAWithP384AndSHA384},
		"P-521":    {tls.ECDSAWithP521AndSHA512},
		"Ed25519":  {tls.Ed25519},
		"RSA-2048": {tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512},
	}
	all := append(Schemes(), tls.PKCS1WithSHA256, tls.PKCS1WithSHA1, tls.ECDSAWithSHA1, 0x0301, 0)
	content := SignedContent("test", make([]byte, 32))
	for name, key := range testKeys(t) {
		for _, scheme := range all {
			allowed := bytes.Contains(asBytes(fit[name]), asBytes([]tls.SignatureScheme{scheme}))
			sig, err := Sign(rand.Reader, key, scheme, content)
			if allowed != (err == nil) || !allowed && !errors.Is(err, ErrScheme) {
				t.Errorf("%s signs with %v: %v", name, scheme, err)
			}
			if !allowed {
				if err := Verify(key.Public(), scheme, content, sig); !errors.Is(err, ErrScheme) {
					t.Errorf("%s verifies %v: %v", name, scheme, err)
				}
				continue
			}
			if err := Verify(key.Public(), scheme, content, sig); err != nil {
				t.Errorf("%s, %v: %v", name, scheme, err)
			}
			for i := range sig {
				sig[i] ^= 1
				if err := Verify(key.Public(), scheme, content, sig); !errors.Is(err, ErrSignature) {
					t.Fatalf("%s, %v: byte %d changed: %v", name, scheme, i, err)
				}
				sig[i] ^= 1
			}
			if err := Verify(key.Public(), scheme, append(content, 0), sig); !errors.Is(err, ErrSignature) {
				t.Errorf("%s, %v: other content: %v", name, scheme, err)
			}
			if err := Verify(key.Public(), scheme, content, append(sig, 0)); !errors.Is(err, ErrSignature) {
				t.Errorf("%s, %v: longer signature: %v", name, scheme, err)
			}
		}
	}
}

func asBytes(list []tls.SignatureScheme) []byte {
	var b []byte
	for _, s := range list {
		b = append(b, byte(s>>8), byte(s), 0xee)
	}
	return b
}

func TestPickSchemePrefersTheKeysOrder(t *testing.T) {
	keys := testKeys(t)
	s, err := PickScheme(keys["RSA-2048"].Public(), []tls.SignatureScheme{tls.PSSWithSHA512, tls.PSSWithSHA384})
	if err != nil || s != tls.PSSWithSHA384 {
		t.Errorf("picked %v, %v", s, err)
	}
	if _, err := PickScheme(keys["P-256"].Public(), []tls.SignatureScheme{tls.ECDSAWithP384AndSHA384}); !errors.Is(err, ErrScheme) {
		t.Errorf("P-256 with the scheme of P-384: %v", err)
	}
}

func TestHugeRSAKeysAreRefused(t *testing.T) {
	huge := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), maxRSABits), E: 65537}
	if err := Verify(huge, tls.PSSWithSHA256, nil, make([]byte, maxRSABits/8)); !errors.Is(err, ErrScheme) {
		t.Errorf("got %v", err)
	}
}

// RFC 8446, section 4.4.3, prints this example for a context and a hash of 32 bytes of 01.
func TestSignedContentOfTheRFC(t *testing.T) {
	got := SignedContent("TLS 1.3, server CertificateVerify", bytes.Repeat([]byte{1}, 32))
	want := append(bytes.Repeat([]byte{0x20}, 64), "TLS 1.3, server CertificateVerify\x00"...)
	want = append(want, bytes.Repeat([]byte{1}, 32)...)
	if !bytes.Equal(got, want) {
		t.Errorf("%x", got)
	}
}

// An RSA key of more than 8,192 bits has no scheme: to verify by it takes as long as its owner likes.
func TestRSAKeysAreAtMost8192Bits(t *testing.T) {
	for bits, ok := range map[uint]bool{8192: true, 8193: false, 100_000: false} {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		key := &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537}
		if got := SchemesFor(key) != nil; got != ok {
			t.Errorf("%d bits: %v", bits, SchemesFor(key))
		}
		if !ok && Verify(key, tls.PSSWithSHA256, nil, make([]byte, key.Size())) != ErrScheme {
			t.Errorf("%d bits: a signature is looked at", bits)
		}
	}
}
