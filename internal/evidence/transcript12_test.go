package evidence

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // to show that it is refused
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"vitrine/internal/tlsmsg"
)

// forgery12 is a TLS 1.2 handshake written by hand and signed by the origin's true key.
type forgery12 struct {
	client func(h *tlsmsg.ClientHello)
	server func(h *tlsmsg.ServerHello)
	params func(m *tlsmsg.ServerKeyExchange) // before it is signed
	ske    func(m *tlsmsg.ServerKeyExchange)
	status []byte // a whole CertificateStatus
	order  func(msgs [][]byte) [][]byte
	hop    func(h *Hop)
}

func (f forgery12) forge(t *testing.T, c *connect) *Evidence {
	t.Helper()
	var salt [32]byte
	rand.Read(salt[:])
	ch := forgedClientHello(t, c, salt, tls.CurveP256)
	if f.client != nil {
		f.client(ch)
	}
	sh := &tlsmsg.ServerHello{
		LegacyVersion: tls.VersionTLS12, CipherSuite: tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		Extensions: extensions(t, func(x *tlsmsg.ExtensionBuilder) { x.ALPN("http/1.1") }),
	}
	rand.Read(sh.Random[:])
	sh.Random[31] |= 2
	if f.server != nil {
		f.server(sh)
	}
	certMsg := []byte{byte(tlsmsg.TypeCertificate), 0, 0, 0, 0, 0, 0}
	for _, der := range parties().origin.Certificate {
		certMsg = append(certMsg, byte(len(der)>>16), byte(len(der)>>8), byte(len(der)))
		certMsg = append(certMsg, der...)
	}
	n := len(certMsg) - 7
	certMsg[1], certMsg[2], certMsg[3] = byte((n+3)>>16), byte((n+3)>>8), byte(n+3)
	certMsg[4], certMsg[5], certMsg[6] = byte(n>>16), byte(n>>8), byte(n)

	ske := &tlsmsg.ServerKeyExchange{Curve: tls.CurveP256, Public: []byte{4, 1, 2, 3}, Scheme: tls.ECDSAWithP256AndSHA256}
	if f.params != nil {
		f.params(ske)
	}
	params := append([]byte{3, byte(ske.Curve >> 8), byte(ske.Curve), byte(len(ske.Public))}, ske.Public...)
	content := slices.Concat(ch.Random[:], sh.Random[:], params)
	sig, err := tlsmsg.Sign(rand.Reader, parties().origin.PrivateKey.(crypto.Signer), tls.ECDSAWithP256AndSHA256, content)
	if err != nil {
		t.Fatal(err)
	}
	ske.Signature = sig
	if f.ske != nil {
		f.ske(ske)
	}
	msgs := [][]byte{encode(t, ch), encode(t, sh), certMsg}
	if f.status != nil {
		msgs = append(msgs, f.status)
	}
	msgs = append(msgs, encode(t, ske))
	if f.order != nil {
		msgs = f.order(msgs)
	}
	hop := Hop{Version: tls.VersionTLS12, Suite: sh.CipherSuite, Group: ske.Curve, ALPN: "http/1.1", Chain: parties().origin.Certificate}
	if f.hop != nil {
		f.hop(&hop)
	}
	return &Evidence{Kind: Transcript, Hop: hop, Authority: c.req.Offer.Authority, Time: time.Now(), Salt: salt, Messages: bytes.Join(msgs, nil)}
}

// spec: EVD-17 EVD-25
func TestHandwrittenTLS12Transcripts(t *testing.T) {
	staple := []byte{byte(tlsmsg.TypeCertificateStatus), 0, 0, 5, 1, 0, 0, 1, 9}
	sct := func(data ...byte) func(h *tlsmsg.ServerHello) {
		return func(h *tlsmsg.ServerHello) { h.Extensions = setExtension(h.Extensions, tlsmsg.ExtensionSCT, data) }
	}
	for _, tt := range []struct {
		name string
		f    forgery12
		want string // of the error; "" for none
	}{
		{"plain", forgery12{}, ""},
		{"staple", forgery12{status: staple, hop: func(h *Hop) { h.OCSP = []byte{9} }}, ""},
		{"timestamps", forgery12{server: sct(0, 3, 0, 1, 8), hop: func(h *Hop) { h.SCTs = [][]byte{{8}} }}, ""},
		{"downgrade from TLS 1.3", forgery12{server: func(h *tlsmsg.ServerHello) { copy(h.Random[24:], "DOWNGRD\x01") }}, "downgrade"},
		{"downgrade from TLS 1.2", forgery12{server: func(h *tlsmsg.ServerHello) { copy(h.Random[24:], "DOWNGRD\x00") }}, "downgrade"},
		{"sentinel edited away", forgery12{
			server: func(h *tlsmsg.ServerHello) { copy(h.Random[24:], "DOWNGRD\x01") },
			order: func(m [][]byte) [][]byte {
				m[1] = bytes.Clone(m[1])
				m[1][4+2+31] = 7
				return m
			},
		}, "signature fails"},
		{"TLS 1.1", forgery12{server: func(h *tlsmsg.ServerHello) { h.LegacyVersion = tls.VersionTLS11 }}, "version 0302"},
		{"a suite that was not offered", forgery12{server: func(h *tlsmsg.ServerHello) { h.CipherSuite = tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA }}, "cipher suite"},
		{"a group that was not offered", forgery12{params: func(m *tlsmsg.ServerKeyExchange) { m.Curve = tls.X25519 }}, "scheme or group"},
		{"a scheme that was not offered", forgery12{ske: func(m *tlsmsg.ServerKeyExchange) { m.Scheme = tls.ECDSAWithP384AndSHA384 }}, "scheme or group"},
		{"SHA-1", forgery12{
			client: func(h *tlsmsg.ClientHello) {
				h.Extensions = setExtension(h.Extensions, tlsmsg.ExtensionSignatureAlgorithms, []byte{0, 2, 2, 3})
			},
			ske: func(m *tlsmsg.ServerKeyExchange) { m.Scheme = tls.ECDSAWithSHA1 },
		}, "signature fails"},
		{"another share", forgery12{ske: func(m *tlsmsg.ServerKeyExchange) { m.Public = []byte{4, 9, 9, 9} }}, "signature fails"},
		{"no key exchange", forgery12{order: func(m [][]byte) [][]byte { return m[:3] }}, "more bytes"},
		{"static RSA", forgery12{order: func(m [][]byte) [][]byte { return append(m[:3], []byte{byte(tlsmsg.TypeServerHelloDone), 0, 0, 0}) }}, "where ServerKeyExchange belongs"},
		{"status behind the key exchange", forgery12{order: func(m [][]byte) [][]byte { return append(m, staple) }}, "behind its last message"},
		{"two staples", forgery12{status: append(bytes.Clone(staple), staple...)}, "where ServerKeyExchange belongs"},
		{"a malformed staple", forgery12{status: []byte{byte(tlsmsg.TypeCertificateStatus), 0, 0, 4, 1, 0, 0, 1}}, "malformed CertificateStatus"},
		{"a staple of another type", forgery12{status: []byte{byte(tlsmsg.TypeCertificateStatus), 0, 0, 5, 2, 0, 0, 1, 9}}, "malformed CertificateStatus"},
		{"malformed timestamps", forgery12{server: sct(0, 4, 0, 1, 8)}, "malformed timestamps"},
		{"no timestamps", forgery12{server: sct(0, 0)}, "malformed timestamps"},
		{"staple kept back", forgery12{status: staple}, "differs from the transcript"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newConnect(t, testAuthority)
			r, err := c.verifier.Verify(overTheWire(t, tt.f.forge(t, c)))
			if tt.want == "" {
				if err != nil || !r.PickedNone || !r.OfferedTokens || r.Hop.Version != tls.VersionTLS12 {
					t.Errorf("got %+v, %v", r, err)
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// spec: EVD-26
func TestSignatureSchemesOfTLS12(t *testing.T) {
	content := []byte("both randoms and the share")
	sum := func(h crypto.Hash) []byte {
		d := h.New()
		d.Write(content)
		return d.Sum(nil)
	}
	sign := func(k crypto.Signer, digest []byte, opts crypto.SignerOpts) []byte {
		sig, err := k.Sign(rand.Reader, digest, opts)
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	pss := func(h crypto.Hash) crypto.SignerOpts {
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: h}
	}
	rsaKey, p256, p384, ed := key(t, "RSA"), key(t, "P-256"), key(t, "P-384"), key(t, "Ed25519")
	for _, tt := range []struct {
		scheme tls.SignatureScheme
		key    crypto.Signer
		sig    []byte
		ok     bool
	}{
		{tls.PKCS1WithSHA256, rsaKey, sign(rsaKey, sum(crypto.SHA256), crypto.SHA256), true},
		{tls.PKCS1WithSHA384, rsaKey, sign(rsaKey, sum(crypto.SHA384), crypto.SHA384), true},
		{tls.PKCS1WithSHA512, rsaKey, sign(rsaKey, sum(crypto.SHA512), crypto.SHA512), true},
		{tls.PSSWithSHA256, rsaKey, sign(rsaKey, sum(crypto.SHA256), pss(crypto.SHA256)), true},
		{tls.PSSWithSHA384, rsaKey, sign(rsaKey, sum(crypto.SHA384), pss(crypto.SHA384)), true},
		{tls.PSSWithSHA512, rsaKey, sign(rsaKey, sum(crypto.SHA512), pss(crypto.SHA512)), true},
		{tls.Ed25519, ed, sign(ed, content, crypto.Hash(0)), true},
		{tls.ECDSAWithP256AndSHA256, p256, sign(p256, sum(crypto.SHA256), crypto.SHA256), true},
		{tls.ECDSAWithP256AndSHA256, p384, sign(p384, sum(crypto.SHA256), crypto.SHA256), true}, // TLS 1.2 ties no curve to a hash
		{tls.ECDSAWithP384AndSHA384, p256, sign(p256, sum(crypto.SHA384), crypto.SHA384), true},
		{tls.PKCS1WithSHA256, rsaKey, sign(rsaKey, sum(crypto.SHA384), crypto.SHA384), false},
		{tls.PSSWithSHA256, rsaKey, sign(rsaKey, sum(crypto.SHA256), crypto.SHA256), false},
		{tls.PKCS1WithSHA1, rsaKey, sign(rsaKey, sum(crypto.SHA1), crypto.SHA1), false},
		{tls.ECDSAWithSHA1, p256, sign(p256, sum(crypto.SHA1), crypto.SHA1), false},
		{tls.PKCS1WithSHA256, p256, sign(p256, sum(crypto.SHA256), crypto.SHA256), false},
		{tls.PSSWithSHA256, p256, sign(p256, sum(crypto.SHA256), crypto.SHA256), false},
		{tls.ECDSAWithP256AndSHA256, rsaKey, sign(rsaKey, sum(crypto.SHA256), crypto.SHA256), false},
		{tls.Ed25519, p256, sign(p256, sum(crypto.SHA256), crypto.SHA256), false},
		{tls.ECDSAWithP256AndSHA256, ed, sign(ed, content, crypto.Hash(0)), false},
		{0, p256, sign(p256, sum(crypto.SHA256), crypto.SHA256), false},
	} {
		if got := verifyTLS12(tt.key.Public(), tt.scheme, content, tt.sig); got != tt.ok {
			t.Errorf("%v with %T: %v", tt.scheme, tt.key, got)
		}
		if verifyTLS12(tt.key.Public(), tt.scheme, []byte("something else"), tt.sig) {
			t.Errorf("%v with %T: verifies over anything", tt.scheme, tt.key)
		}
	}
}
