package evidence

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"vitrine/frames"
	"vitrine/internal/tlsmsg"
)

// forgery is a handshake written by hand and signed by the origin's true key: what no real server can be
// talked into, but what a client must still refuse to read anything into. Its functions change a message
// before it is encoded.
type forgery struct {
	client  func(h *tlsmsg.ClientHello)
	retry   func(h *tlsmsg.ServerHello) // non-nil: there is a HelloRetryRequest
	client2 func(h *tlsmsg.ClientHello)
	server  func(h *tlsmsg.ServerHello)
	ee      func(x *tlsmsg.ExtensionBuilder)
	request func(r *tlsmsg.CertificateRequest) // non-nil: there is a CertificateRequest
	cert    func(c *tlsmsg.Certificate)
	scheme  tls.SignatureScheme
	order   func(msgs [][]byte) [][]byte // before it is signed and joined
	hop     func(h *Hop)
	// plainHash signs the first hello as it is, where message_hash belongs.
	plainHash bool
}

func setExtension(list []tlsmsg.Extension, t uint16, data []byte) []tlsmsg.Extension {
	list = slices.DeleteFunc(list, func(e tlsmsg.Extension) bool { return e.Type == t })
	return append(list, tlsmsg.Extension{Type: t, Data: data})
}

func dropExtension(list []tlsmsg.Extension, t uint16) []tlsmsg.Extension {
	return slices.DeleteFunc(list, func(e tlsmsg.Extension) bool { return e.Type == t })
}

func extensions(t testing.TB, f func(x *tlsmsg.ExtensionBuilder)) []tlsmsg.Extension {
	t.Helper()
	var x tlsmsg.ExtensionBuilder
	f(&x)
	list, err := x.Extensions()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func encode(t testing.TB, m interface {
	Append([]byte) ([]byte, error)
},
) []byte {
	t.Helper()
	msg, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

func forgedClientHello(t testing.TB, c *connect, salt [32]byte, group tls.CurveID) *tlsmsg.ClientHello {
	share, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &tlsmsg.ClientHello{
		LegacyVersion: tls.VersionTLS12,
		Random:        transcriptRandom(c.req.Nonce, salt, c.req.Offer.Proxies, c.req.Offer.Authority),
		SessionID:     bytes.Repeat([]byte{7}, 32),
		CipherSuites:  []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		Compression:   []byte{0},
		Extensions: extensions(t, func(x *tlsmsg.ExtensionBuilder) {
			x.ServerName(c.req.ServerName)
			x.ALPN(frames.ALPNH2, frames.ALPNRaw, "http/1.1")
			x.SupportedVersions(tls.VersionTLS13, tls.VersionTLS12)
			x.SupportedGroups([]tls.CurveID{tls.CurveP256, tls.CurveP384})
			x.SignatureAlgorithms([]tls.SignatureScheme{tls.ECDSAWithP256AndSHA256})
			x.StatusRequest()
			x.SCTRequest()
			x.KeyShares(tlsmsg.KeyShare{Group: group, Data: share.PublicKey().Bytes()})
		}),
	}
}

// forge writes and signs the handshake.
func (f forgery) forge(t testing.TB, c *connect) *Evidence {
	t.Helper()
	var salt [32]byte
	rand.Read(salt[:])
	s, _ := suiteOf(tls.TLS_AES_128_GCM_SHA256)
	first := forgedClientHello(t, c, salt, tls.CurveP256)
	if f.client != nil {
		f.client(first)
	}
	msgs := [][]byte{encode(t, first)}
	group := tls.CurveP256
	if f.retry != nil {
		group = tls.CurveP384
		hrr := &tlsmsg.ServerHello{
			LegacyVersion: tls.VersionTLS12, Random: tlsmsg.HelloRetryRandom(), SessionID: first.SessionID, CipherSuite: tls.TLS_AES_128_GCM_SHA256,
			Extensions: extensions(t, func(x *tlsmsg.ExtensionBuilder) {
				x.SelectedVersion(tls.VersionTLS13)
				x.SelectedGroup(group)
			}),
		}
		f.retry(hrr)
		second := forgedClientHello(t, c, salt, group)
		if f.client2 != nil {
			f.client2(second)
		}
		msgs = append(msgs, encode(t, hrr), encode(t, second))
	}
	sh := &tlsmsg.ServerHello{
		LegacyVersion: tls.VersionTLS12, SessionID: first.SessionID, CipherSuite: tls.TLS_AES_128_GCM_SHA256,
		Extensions: extensions(t, func(x *tlsmsg.ExtensionBuilder) {
			x.SelectedVersion(tls.VersionTLS13)
			x.KeyShare(tlsmsg.KeyShare{Group: group, Data: []byte{1}})
		}),
	}
	rand.Read(sh.Random[:])
	sh.Random[31] |= 2 // by chance no downgrade
	if f.server != nil {
		f.server(sh)
	}
	ee := &tlsmsg.EncryptedExtensions{Extensions: extensions(t, func(x *tlsmsg.ExtensionBuilder) {
		if f.ee != nil {
			f.ee(x)
		}
	})}
	msgs = append(msgs, encode(t, sh), encode(t, ee))
	if f.request != nil {
		r := &tlsmsg.CertificateRequest{Extensions: extensions(t, func(x *tlsmsg.ExtensionBuilder) {
			x.SignatureAlgorithms(tlsmsg.Schemes())
		})}
		f.request(r)
		msgs = append(msgs, encode(t, r))
	}
	certMsg := new(tlsmsg.Certificate)
	for _, der := range parties().origin.Certificate {
		certMsg.Entries = append(certMsg.Entries, tlsmsg.CertificateEntry{Cert: der})
	}
	hop := Hop{Version: tls.VersionTLS13, Suite: sh.CipherSuite, Group: group, Chain: parties().origin.Certificate, Verified: true}
	if f.cert != nil {
		f.cert(certMsg)
	}
	msgs = append(msgs, encode(t, certMsg))
	if f.order != nil {
		msgs = f.order(msgs)
	}

	// What the origin's key signs: with message_hash in place of the first hello after a retry.
	signed := bytes.Join(msgs, nil)
	if f.retry != nil && !f.plainHash {
		sum := s.sum(msgs[0])
		signed = slices.Concat([]byte{254, 0, 0, 32}, sum, bytes.Join(msgs[1:], nil))
	}
	scheme := tls.ECDSAWithP256AndSHA256
	content := tlsmsg.SignedContent(handshakeContext, s.sum(signed))
	sig, err := tlsmsg.Sign(rand.Reader, parties().origin.PrivateKey.(crypto.Signer), scheme, content)
	if err != nil {
		t.Fatal(err)
	}
	if f.scheme != 0 {
		scheme = f.scheme
	}
	msgs = append(msgs, encode(t, &tlsmsg.CertificateVerify{Scheme: scheme, Signature: sig}))
	if e, err := tlsmsg.ParseEncryptedExtensions(encode(t, ee)); err == nil {
		hop.ALPN = e.ALPN
	}
	if f.hop != nil {
		f.hop(&hop)
	}
	return &Evidence{Kind: Transcript, Hop: hop, Authority: c.req.Offer.Authority, Time: time.Now(), Salt: salt, Messages: bytes.Join(msgs, nil)}
}

func noRetry(*tlsmsg.ServerHello) {}

// Handwritten handshakes verify when nothing is wrong with them, or the test below would prove nothing.
func TestHandwrittenTranscripts(t *testing.T) {
	for name, f := range map[string]forgery{
		"plain":               {},
		"ALPN":                {ee: func(x *tlsmsg.ExtensionBuilder) { x.ALPN("http/1.1") }},
		"server_name ack":     {ee: func(x *tlsmsg.ExtensionBuilder) { x.Raw(tlsmsg.ExtensionServerName, nil) }},
		"retry":               {retry: noRetry},
		"CertificateRequest":  {request: func(*tlsmsg.CertificateRequest) {}},
		"GREASE":              {client: func(h *tlsmsg.ClientHello) { h.Extensions = setExtension(h.Extensions, 0x0a0a, nil) }},
		"retry and a request": {retry: noRetry, request: func(*tlsmsg.CertificateRequest) {}},
	} {
		c := newConnect(t, testAuthority)
		r, err := c.verifier.Verify(overTheWire(t, f.forge(t, c)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !r.OfferedTokens || !r.PickedNone {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestTranscriptsThatTheOriginSignedAndThatProveNothing(t *testing.T) {
	ext := func(t uint16, data []byte) func(h *tlsmsg.ClientHello) {
		return func(h *tlsmsg.ClientHello) { h.Extensions = setExtension(h.Extensions, t, data) }
	}
	type row struct {
		name string
		f    forgery
		want string
	}
	psk := []byte{0, 7, 0, 1, 9, 0, 0, 0, 0, 0, 33, 32}
	psk = append(psk, make([]byte, 32)...)
	tests := []row{
		// spec: EVD-22
		{"pre-shared key offered", forgery{client: ext(tlsmsg.ExtensionPreSharedKey, psk)}, "malformed: a transcript of a resumption"},
		{"pre-shared key selected", forgery{server: func(h *tlsmsg.ServerHello) {
			h.Extensions = setExtension(h.Extensions, tlsmsg.ExtensionPreSharedKey, []byte{0, 0})
		}}, "malformed: a transcript of a resumption"},
		{"early data", forgery{client: ext(tlsmsg.ExtensionEarlyData, nil)}, "malformed: a transcript of a resumption"},
		{"early data accepted", forgery{ee: func(x *tlsmsg.ExtensionBuilder) { x.Raw(tlsmsg.ExtensionEarlyData, nil) }}, "malformed: a transcript whose EncryptedExtensions answer what was not offered"},
		{"encrypted ClientHello", forgery{client: ext(tlsmsg.ExtensionEncryptedClientHello, []byte{1})}, "malformed: a transcript with an encrypted ClientHello"},
		{"compressed certificate offered", forgery{client: ext(tlsmsg.ExtensionCompressCertificate, []byte{2, 0, 2})}, "malformed: a transcript that offers other credentials than X.509 chains (extension 27)"},
		{"raw public key offered", forgery{client: ext(tlsmsg.ExtensionServerCertificateType, []byte{1, 2})}, "malformed: a transcript that offers other credentials than X.509 chains (extension 20)"},
		{"client's raw public key offered", forgery{client: ext(tlsmsg.ExtensionClientCertificateType, []byte{1, 2})}, "malformed: a transcript that offers other credentials than X.509 chains (extension 19)"},
		{"delegated credential offered", forgery{client: ext(tlsmsg.ExtensionDelegatedCredential, []byte{0, 2, 4, 3})}, "malformed: a transcript that offers other credentials than X.509 chains (extension 34)"},
		{"delegated credential in the leaf entry", forgery{cert: func(c *tlsmsg.Certificate) {
			c.Entries[0].Extensions = []tlsmsg.Extension{{Type: tlsmsg.ExtensionDelegatedCredential, Data: []byte{1}}}
		}}, "malformed: a transcript whose Certificate answers what was not offered"},
		{"compressed certificate sent", forgery{order: func(m [][]byte) [][]byte {
			m[len(m)-1] = bytes.Clone(m[len(m)-1])
			m[len(m)-1][0] = byte(tlsmsg.TypeCompressedCertificate)
			return m
		}}, "malformed: a transcript with CompressedCertificate where Certificate belongs"},

		// spec: EVD-19
		{"another server_name", forgery{client: func(h *tlsmsg.ClientHello) {
			h.Extensions = append(dropExtension(h.Extensions, tlsmsg.ExtensionServerName), tlsmsg.Extension{
				Type: tlsmsg.ExtensionServerName, Data: append([]byte{0, 17, 0, 0, 14}, "origin.invalid"...),
			})
		}}, "foreign: the transcript is of a handshake with \"origin.invalid\""},
		{"no server_name", forgery{client: func(h *tlsmsg.ClientHello) {
			h.Extensions = dropExtension(h.Extensions, tlsmsg.ExtensionServerName)
		}}, "foreign: the transcript is of a handshake with \"\""},

		// spec: EVD-20
		{"TLS 1.3 not offered", forgery{client: ext(tlsmsg.ExtensionSupportedVersions, []byte{2, 3, 3})}, "malformed: a transcript that answers what was not offered: TLS 1.3"},
		{"a draft of TLS 1.3 selected", forgery{server: func(h *tlsmsg.ServerHello) {
			h.Extensions = setExtension(h.Extensions, tlsmsg.ExtensionSupportedVersions, []byte{0x7f, 28})
		}}, "malformed: a transcript with version 7f1c"},
		{"legacy_version of TLS 1.3", forgery{server: func(h *tlsmsg.ServerHello) { h.LegacyVersion = tls.VersionTLS13 }}, "malformed: a transcript with version 0304"},
		{"an integrity-only suite", forgery{server: func(h *tlsmsg.ServerHello) { h.CipherSuite = tlsmsg.SuiteSHA256 }}, "malformed: a transcript with cipher suite c0b4"},
		{"a suite that was not offered", forgery{server: func(h *tlsmsg.ServerHello) { h.CipherSuite = tls.TLS_CHACHA20_POLY1305_SHA256 }}, "malformed: a transcript with a cipher suite that was not offered"},
		{"another session id", forgery{server: func(h *tlsmsg.ServerHello) { h.SessionID = []byte{1} }}, "malformed: a transcript whose ServerHello is for another ClientHello"},
		{"compression", forgery{server: func(h *tlsmsg.ServerHello) { h.Compression = 1 }}, "malformed: a transcript whose ServerHello is for another ClientHello"},
		{"no key share", forgery{server: func(h *tlsmsg.ServerHello) {
			h.Extensions = dropExtension(h.Extensions, tlsmsg.ExtensionKeyShare)
		}}, "malformed: a transcript without a key share of both sides"},
		{"a key share of a group without one", forgery{server: func(h *tlsmsg.ServerHello) {
			h.Extensions = setExtension(h.Extensions, tlsmsg.ExtensionKeyShare, []byte{0, 29, 0, 1, 1})
		}}, "malformed: a transcript without a key share of both sides"},

		// spec: EVD-23
		{"ALPN that was not offered", forgery{ee: func(x *tlsmsg.ExtensionBuilder) { x.ALPN("h2") }}, "malformed: a transcript whose EncryptedExtensions answer what was not offered"},
		{"an answer to no offer", forgery{ee: func(x *tlsmsg.ExtensionBuilder) { x.Raw(0x1234, nil) }}, "malformed: a transcript whose EncryptedExtensions answer what was not offered"},
		{"a raw public key's type", forgery{ee: func(x *tlsmsg.ExtensionBuilder) { x.Raw(tlsmsg.ExtensionServerCertificateType, []byte{2}) }}, "malformed: a transcript whose EncryptedExtensions answer what was not offered"},
		{"an entry's answer to no offer", forgery{cert: func(c *tlsmsg.Certificate) {
			c.Entries[1].Extensions = []tlsmsg.Extension{{Type: 0x1234}}
		}}, "malformed: a transcript whose Certificate answers what was not offered"},
		{"a post-handshake request", forgery{request: func(r *tlsmsg.CertificateRequest) { r.Context = []byte{1} }}, "malformed: a transcript with a CertificateRequest of after the handshake"},
		{"a client's Certificate", forgery{cert: func(c *tlsmsg.Certificate) { c.Context = []byte{1} }}, "malformed: a transcript whose Certificate is no server's"},
		{"an empty Certificate", forgery{cert: func(c *tlsmsg.Certificate) { c.Entries = nil }}, "malformed: a transcript whose Certificate is no server's"},
		{"a scheme that was not offered", forgery{scheme: tls.ECDSAWithP384AndSHA384}, "malformed: a transcript signed with ECDSAWithP384AndSHA384, which was not offered"},
		{"a scheme of another key", forgery{client: func(h *tlsmsg.ClientHello) {
			h.Extensions = setExtension(h.Extensions, tlsmsg.ExtensionSignatureAlgorithms, []byte{0, 2, 8, 4})
		}, scheme: tls.PSSWithSHA256}, "altered: the transcript's signature fails: tlsmsg: signature scheme does not fit the key"},

		// spec: EVD-17
		{"messages in another order", forgery{order: func(m [][]byte) [][]byte {
			m[2], m[3] = m[3], m[2]
			return m
		}}, "malformed: a transcript with Certificate where EncryptedExtensions belongs"},
		{"a message twice", forgery{order: func(m [][]byte) [][]byte { return append(m, m[len(m)-1]) }}, "malformed: a transcript with Certificate where CertificateVerify belongs"},
		{"no EncryptedExtensions", forgery{order: func(m [][]byte) [][]byte { return append(m[:2:2], m[3]) }}, "malformed: a transcript with Certificate where EncryptedExtensions belongs"},
		{"no ServerHello", forgery{order: func(m [][]byte) [][]byte { return append(m[:1:1], m[2:]...) }}, "malformed: a transcript with EncryptedExtensions where ServerHello belongs"},
		{"two requests", forgery{request: func(*tlsmsg.CertificateRequest) {}, order: func(m [][]byte) [][]byte {
			return slices.Insert(m, 3, m[3])
		}}, "malformed: a transcript with CertificateRequest where Certificate belongs"},

		// spec: EVD-21
		{"two retries", forgery{retry: noRetry, server: func(h *tlsmsg.ServerHello) {
			h.Random = tlsmsg.HelloRetryRandom()
			h.Extensions = setExtension(h.Extensions, tlsmsg.ExtensionKeyShare, []byte{0, 24})
		}}, "malformed: a transcript whose ServerHello does not follow from its HelloRetryRequest"},
		{"another random after the retry", forgery{retry: noRetry, client2: func(h *tlsmsg.ClientHello) { h.Random[0] ^= 1 }}, "foreign: the transcript is of another nonce, proxy or authority"},
		{"another name after the retry", forgery{retry: noRetry, client2: func(h *tlsmsg.ClientHello) {
			h.Extensions = dropExtension(h.Extensions, tlsmsg.ExtensionServerName)
		}}, "foreign: the transcript is of a handshake with \"\""},
		{"fewer tokens after the retry", forgery{retry: noRetry, client2: func(h *tlsmsg.ClientHello) {
			h.Extensions = setExtension(h.Extensions, tlsmsg.ExtensionALPN, []byte{0, 9, 8, 'h', 't', 't', 'p', '/', '1', '.', '1'})
		}}, "malformed: a transcript whose ClientHellos differ"},
		{"a resumption after the retry", forgery{retry: noRetry, client2: ext(tlsmsg.ExtensionPreSharedKey, psk)}, "malformed: a transcript of a resumption"},
		{"another group than the retry's", forgery{retry: noRetry, client2: func(h *tlsmsg.ClientHello) {
			h.Extensions = setExtension(h.Extensions, tlsmsg.ExtensionKeyShare, []byte{0, 5, 0, 23, 0, 1, 1})
		}, server: func(h *tlsmsg.ServerHello) {
			h.Extensions = setExtension(h.Extensions, tlsmsg.ExtensionKeyShare, []byte{0, 23, 0, 1, 1})
		}, hop: func(h *Hop) { h.Group = tls.CurveP256 }}, "malformed: a transcript whose ServerHello does not follow from its HelloRetryRequest"},
		{"another suite than the retry's", forgery{retry: func(h *tlsmsg.ServerHello) {
			h.CipherSuite = tls.TLS_AES_256_GCM_SHA384
		}}, "malformed: a transcript whose ServerHello does not follow from its HelloRetryRequest"},
		{"a retry signed without message_hash", forgery{retry: noRetry, plainHash: true}, "altered: the transcript's signature fails"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newConnect(t, testAuthority)
			_, err := c.verifier.Verify(overTheWire(t, tt.f.forge(t, c)))
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}
