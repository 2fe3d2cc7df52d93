package verdict

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"reflect"
	"testing"
	"time"

	"vitrine/frames"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
)

const authority = "origin.example:443"

func proxyCert(t testing.TB, key crypto.Signer) *tls.Certificate {
	t.Helper()
	a, err := pki.NewAuthority("proxy root", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ext, err := pki.ProxyUsage()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := a.Issue(&x509.Certificate{DNSNames: []string{"proxy.example"}, ExtraExtensions: []pkix.Extension{ext}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return &cert
}

func p256(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sample() *frames.VerdictTBS {
	return &frames.VerdictTBS{
		Nonce: [32]byte{1}, Authority: authority, Time: time.UnixMilli(1_700_000_000_123).UTC(), Direction: frames.ToClient,
		ReleasedToOrigin: 10, ReleasedToClient: 20, Reason: frames.ReasonInspector, Rule: "no-secrets", Detail: "the page holds a secret",
	}
}

func expect(cert *tls.Certificate) Expect {
	return Expect{Proxy: cert.Leaf, Nonce: [32]byte{1}, Authority: authority, CheckLeaf: true}
}

// spec: VRD-1 VRD-2
func TestSignedVerdictVerifies(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"P-256": p256(t), "P-384": p384, "RSA": rsaKey, "Ed25519": edKey} {
		t.Run(name, func(t *testing.T) {
			cert := proxyCert(t, key)
			tbs := sample()
			signed, err := Sign(cert, tbs)
			if err != nil {
				t.Fatal(err)
			}
			if tbs.ProxyLeaf != [32]byte{} {
				t.Error("Sign changed its argument")
			}
			got, err := Verify(signed, expect(cert))
			if err != nil {
				t.Fatal(err)
			}
			tbs.ProxyLeaf = pki.LeafHash(cert.Leaf)
			if !reflect.DeepEqual(got, tbs) {
				t.Errorf("got %+v, want %+v", got, tbs)
			}
			// A certificate as tls.X509KeyPair of old made it.
			bare := &tls.Certificate{Certificate: cert.Certificate, PrivateKey: cert.PrivateKey}
			if signed, err = Sign(bare, tbs); err != nil {
				t.Fatal(err)
			}
			if _, err := Verify(signed, expect(cert)); err != nil {
				t.Error(err)
			}
		})
	}
}

// spec: VRD-3 VRD-4
func TestVerdictOfAnotherTunnel(t *testing.T) {
	cert, other := proxyCert(t, p256(t)), proxyCert(t, p256(t))
	signed, err := Sign(cert, sample())
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		edit func(e *Expect)
		want error
	}{
		"its own":                      {func(*Expect) {}, nil},
		"another nonce":                {func(e *Expect) { e.Nonce[31] ^= 1 }, ErrForeign},
		"another authority":            {func(e *Expect) { e.Authority = "origin.example:444" }, ErrForeign},
		"another proxy":                {func(e *Expect) { e.Proxy = other.Leaf }, ErrForeign},
		"another proxy, for an origin": {func(e *Expect) { e.Proxy, e.CheckLeaf = other.Leaf, false }, ErrSignature},
	} {
		e := expect(cert)
		tt.edit(&e)
		got, err := Verify(signed, e)
		if !errors.Is(err, tt.want) || tt.want != nil && got != nil {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
	}
	if _, err := Verify(signed, Expect{Nonce: [32]byte{1}, Authority: authority}); err == nil {
		t.Error("a verdict of a proxy without a certificate")
	}
}

// The successor of a certificate has its key or not; its verdict on hop 2 counts by the key.
// spec: VRD-4
func TestOriginTakesVerdictOfARenewedCertificate(t *testing.T) {
	key := p256(t)
	old, renewed := proxyCert(t, key), proxyCert(t, key)
	signed, err := Sign(old, sample())
	if err != nil {
		t.Fatal(err)
	}
	e := expect(renewed)
	e.CheckLeaf = false
	if _, err := Verify(signed, e); err != nil {
		t.Error(err)
	}
	e.CheckLeaf = true
	if _, err := Verify(signed, e); !errors.Is(err, ErrForeign) {
		t.Errorf("got %v", err)
	}
}

// spec: VRD-2
func TestFlippedByteInVerdict(t *testing.T) {
	cert := proxyCert(t, p256(t))
	signed, err := Sign(cert, sample())
	if err != nil {
		t.Fatal(err)
	}
	for i := range signed {
		for bit := range 8 {
			lie := bytes.Clone(signed)
			lie[i] ^= 1 << bit
			if _, err := Verify(lie, expect(cert)); err == nil {
				t.Fatalf("bit %d of byte %d of %d", bit, i, len(signed))
			}
		}
		if _, err := Verify(signed[:i], expect(cert)); err == nil {
			t.Fatalf("cut to %d of %d bytes", i, len(signed))
		}
	}
	if _, err := Verify(append(bytes.Clone(signed), 0), expect(cert)); err == nil {
		t.Error("a byte behind the end")
	}
}

// spec: VRD-2
func TestSignatureOfAnotherContextIsNoVerdict(t *testing.T) {
	cert := proxyCert(t, p256(t))
	tbs := sample()
	tbs.ProxyLeaf = pki.LeafHash(cert.Leaf)
	body, err := tbs.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	key := cert.PrivateKey.(crypto.Signer)
	for _, context := range []string{"TLS 1.3, server CertificateVerify", "Exported Authenticator", "vitrine verdict v2", ""} {
		sig, err := tlsmsg.Sign(rand.Reader, key, tls.ECDSAWithP256AndSHA256, tlsmsg.SignedContent(context, body))
		if err != nil {
			t.Fatal(err)
		}
		signed, err := frames.SignedVerdict{TBS: body, Scheme: uint16(tls.ECDSAWithP256AndSHA256), Signature: sig}.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(signed, expect(cert)); !errors.Is(err, ErrSignature) {
			t.Errorf("%q: got %v", context, err)
		}
	}
}

// spec: VRD-1
func TestSchemesThatTLS13DoesNotHave(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	cert := proxyCert(t, key)
	signed, err := Sign(cert, sample())
	if err != nil {
		t.Fatal(err)
	}
	v, err := frames.ParseSignedVerdict(signed)
	if err != nil {
		t.Fatal(err)
	}
	for _, scheme := range []tls.SignatureScheme{tls.PKCS1WithSHA256, tls.PKCS1WithSHA1, tls.ECDSAWithP256AndSHA256, 0} {
		v.Scheme = uint16(scheme)
		lie, err := v.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(lie, expect(cert)); !errors.Is(err, ErrSignature) || !errors.Is(err, tlsmsg.ErrScheme) {
			t.Errorf("%v: got %v", scheme, err)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	cert := proxyCert(t, p256(t))
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	bad := sample()
	bad.Authority = ""
	for name, tt := range map[string]struct {
		cert *tls.Certificate
		tbs  *frames.VerdictTBS
	}{
		"no certificate":        {&tls.Certificate{PrivateKey: cert.PrivateKey}, sample()},
		"no key":                {&tls.Certificate{Certificate: cert.Certificate}, sample()},
		"a key of no scheme":    {&tls.Certificate{Certificate: cert.Certificate, PrivateKey: p224}, sample()},
		"a garbled certificate": {&tls.Certificate{Certificate: [][]byte{{1}}, PrivateKey: cert.PrivateKey}, sample()},
		"no authority":          {cert, bad},
	} {
		if _, err := Sign(tt.cert, tt.tbs); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

func FuzzVerify(f *testing.F) {
	// The same in every process of the fuzzer, or no seed would verify in its workers.
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	leaf := &x509.Certificate{Raw: []byte("leaf"), PublicKey: key.Public()}
	cert := &tls.Certificate{Certificate: [][]byte{leaf.Raw}, Leaf: leaf, PrivateKey: key}
	signed, err := Sign(cert, sample())
	if err != nil {
		f.Fatal(err)
	}
	if _, err := Verify(signed, expect(cert)); err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Fuzz(func(t *testing.T, p []byte) {
		got, err := Verify(p, expect(cert))
		if err == nil && !bytes.Equal(p, signed) {
			t.Fatalf("accepted %+v, which the proxy did not sign", got)
		}
	})
}
