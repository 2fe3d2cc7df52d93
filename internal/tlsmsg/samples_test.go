package tlsmsg

import (
	"bytes"
	"crypto/tls"
	"testing"
	"time"
)

type message interface {
	Append(b []byte) ([]byte, error)
}

// A kind is one parser with its inverse and messages that it must take.
type kind struct {
	name    string
	parse   func(msg []byte) (message, error)
	samples []message
}

func wrap[M message](parse func([]byte) (M, error)) func([]byte) (message, error) {
	return func(msg []byte) (message, error) {
		m, err := parse(msg)
		if err != nil {
			return nil, err
		}
		return m, nil
	}
}

func fill(b byte) (a [32]byte) {
	copy(a[:], bytes.Repeat([]byte{b}, 32))
	return a
}

func sampleOffer() *InspectionOffer {
	return &InspectionOffer{Proxies: [][32]byte{fill(1), fill(2)}, Authority: "origin.example:443", Nonce: fill(3)}
}

func sampleAnswer() *InspectionAnswer {
	return &InspectionAnswer{
		HopPeer: HopPeerProxy, HopVersion: VersionTLS13, HopSuite: tls.TLS_AES_128_GCM_SHA256, HopALPN: "itls-h2/1",
		HopID: fill(4), Time: time.UnixMilli(1735787045006).UTC(), Lifetime: 10 * time.Minute,
	}
}

func extensions(f func(x *ExtensionBuilder)) []Extension {
	var x ExtensionBuilder
	f(&x)
	list, err := x.Extensions()
	if err != nil {
		panic(err)
	}
	return list
}

func pskExtension(identities, binders int) []byte {
	var ids, bs []byte
	for range identities {
		ids = append(ids, 0, 2, 'i', 'd', 1, 2, 3, 4)
	}
	for range binders {
		bs = append(bs, 32)
		bs = append(bs, make([]byte, 32)...)
	}
	data := []byte{byte(len(ids) >> 8), byte(len(ids))}
	data = append(data, ids...)
	data = append(data, byte(len(bs)>>8), byte(len(bs)))
	return append(data, bs...)
}

func sampleClientHello() *ClientHello {
	return &ClientHello{
		LegacyVersion: VersionTLS12, Random: fill(5), SessionID: []byte("session"),
		CipherSuites: []uint16{SuiteSHA256, SuiteSHA384, 0x1a1a}, Compression: []byte{0},
		Extensions: extensions(func(x *ExtensionBuilder) {
			x.Raw(0x2a2a, nil) // GREASE
			x.ServerName("origin.example")
			x.StatusRequest()
			x.SupportedGroups([]tls.CurveID{tls.X25519, tls.CurveP256})
			x.SignatureAlgorithms(Schemes())
			x.SignatureAlgorithmsCert(Schemes())
			x.ALPN("h2", "http/1.1")
			x.SCTRequest()
			x.Raw(ExtensionPadding, make([]byte, 7))
			x.SupportedVersions(VersionTLS13, 0x7a7a)
			x.Cookie([]byte("cookie"))
			x.KeyShares(KeyShare{0x4a4a, []byte{0}}, KeyShare{tls.X25519, make([]byte, 32)})
			x.PSKModes(PSKModeDHE)
			x.CertificateAuthorities([][]byte{{0x30, 0}})
			x.RecordSizeLimit(0xffff) // of a version to come
			x.Raw(ExtensionEarlyData, nil)
			x.Raw(ExtensionEncryptedClientHello, []byte{9})
			x.InspectionOffer(sampleOffer())
			x.Raw(ExtensionPreSharedKey, pskExtension(1, 1))
		}),
	}
}

func kinds() []kind {
	signature := &CertificateVerify{Scheme: tls.Ed25519, Signature: []byte("signature")}
	return []kind{
		{"ClientHello", wrap(ParseClientHello), []message{
			sampleClientHello(),
			&ClientHello{LegacyVersion: VersionTLS12, CipherSuites: []uint16{0x1301}, Compression: []byte{0}},
			&ClientHello{LegacyVersion: VersionTLS12, CipherSuites: []uint16{0x1301}, Compression: []byte{1, 0}, Extensions: []Extension{}},
			&ClientHello{CipherSuites: []uint16{1}, Compression: []byte{0}, Extensions: extensions(func(x *ExtensionBuilder) {
				x.KeyShares()
				x.Raw(ExtensionStatusRequest, []byte{2, 7})
			})},
		}},
		{"ServerHello", wrap(ParseServerHello), []message{
			&ServerHello{LegacyVersion: VersionTLS12, Random: fill(6), SessionID: []byte("s"), CipherSuite: SuiteSHA384, Extensions: extensions(func(x *ExtensionBuilder) {
				x.SelectedVersion(VersionTLS13)
				x.KeyShare(KeyShare{tls.X25519, make([]byte, 32)})
				x.Raw(ExtensionPreSharedKey, []byte{0, 1})
			})},
			&ServerHello{LegacyVersion: VersionTLS12, Random: HelloRetryRandom(), CipherSuite: SuiteSHA256, Extensions: extensions(func(x *ExtensionBuilder) {
				x.SelectedVersion(VersionTLS13)
				x.SelectedGroup(tls.CurveP256)
				x.Cookie([]byte("cookie"))
			})},
			&ServerHello{LegacyVersion: VersionTLS12, CipherSuite: tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
			&ServerHello{LegacyVersion: VersionTLS12, CipherSuite: tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, Extensions: extensions(func(x *ExtensionBuilder) {
				x.ALPN("h2")
			})},
		}},
		{"EncryptedExtensions", wrap(ParseEncryptedExtensions), []message{
			&EncryptedExtensions{Extensions: []Extension{}},
			&EncryptedExtensions{Extensions: extensions(func(x *ExtensionBuilder) {
				x.Raw(ExtensionServerName, nil)
				x.ALPN("http/1.1")
				x.InspectionAnswer(sampleAnswer())
				x.Raw(ExtensionEarlyData, nil)
				x.SupportedGroups([]tls.CurveID{tls.CurveP384})
				x.RecordSizeLimit(MinRecordSizeLimit)
				x.Raw(0xabcd, []byte("unknown"))
			})},
		}},
		{"CertificateRequest", wrap(ParseCertificateRequest), []message{
			&CertificateRequest{Type: TypeCertificateRequest, Extensions: extensions(func(x *ExtensionBuilder) {
				x.SignatureAlgorithms(Schemes())
				x.SignatureAlgorithmsCert(Schemes())
				x.Raw(ExtensionStatusRequest, nil)
				x.SCTRequest()
				x.CertificateAuthorities([][]byte{{0x30, 0}, {0x30, 1, 0}})
			})},
			&CertificateRequest{Type: TypeClientCertificateRequest, Context: bytes.Repeat([]byte{7}, 32), Extensions: extensions(func(x *ExtensionBuilder) {
				x.SignatureAlgorithms(Schemes())
				x.ServerName("origin.example")
				x.StatusRequest()
				x.InspectionOffer(sampleOffer())
			})},
		}},
		{"Certificate", wrap(ParseCertificate), []message{
			&Certificate{},
			&Certificate{Context: []byte("context"), Entries: []CertificateEntry{
				{Cert: []byte("leaf"), Extensions: extensions(func(x *ExtensionBuilder) {
					x.OCSP([]byte("ocsp"))
					x.SCTs([][]byte{[]byte("one"), []byte("two")})
					x.InspectionAnswer(sampleAnswer())
				})},
				{Cert: []byte("issuer"), Extensions: extensions(func(x *ExtensionBuilder) { x.OCSP([]byte("ocsp")) })},
			}},
		}},
		{"CertificateVerify", wrap(ParseCertificateVerify), []message{signature, &CertificateVerify{}}},
		{"Finished", wrap(ParseFinished), []message{
			&Finished{VerifyData: make([]byte, 32)}, &Finished{VerifyData: make([]byte, 48)},
		}},
		{"NewSessionTicket", wrap(ParseNewSessionTicket), []message{
			&NewSessionTicket{Lifetime: 7200, AgeAdd: 1, Nonce: []byte{0}, Ticket: []byte("ticket"), Extensions: []Extension{}},
			&NewSessionTicket{Ticket: []byte("ticket"), Extensions: []Extension{{ExtensionEarlyData, []byte{0, 0, 1, 0}}, {0x3a3a, nil}}},
		}},
		{"KeyUpdate", wrap(ParseKeyUpdate), []message{&KeyUpdate{}, &KeyUpdate{Requested: true}}},
		{"ServerKeyExchange", wrap(ParseServerKeyExchange), []message{
			&ServerKeyExchange{Curve: tls.CurveP256, Public: []byte("point"), Scheme: tls.PSSWithSHA256, Signature: []byte("signature")},
		}},
		{"Certificate12", func(msg []byte) (message, error) {
			list, err := ParseCertificate12(msg)
			if err != nil {
				return nil, err
			}
			return certificate12(list), nil
		}, []message{certificate12{[]byte("leaf"), []byte("issuer")}}},
	}
}

// certificate12 writes what ParseCertificate12 reads; nothing outside tests needs that.
type certificate12 [][]byte

func (m certificate12) Append(b []byte) ([]byte, error) {
	var list []byte
	for _, c := range m {
		list = append(list, byte(len(c)>>16), byte(len(c)>>8), byte(len(c)))
		list = append(list, c...)
	}
	body := append([]byte{byte(len(list) >> 16), byte(len(list) >> 8), byte(len(list))}, list...)
	return append(b, frame(TypeCertificate, body)...), nil
}

// frame puts a handshake header in front of a body.
func frame(t HandshakeType, body []byte) []byte {
	n := len(body)
	return append([]byte{byte(t), byte(n >> 16), byte(n >> 8), byte(n)}, body...)
}

// reframe is msg with another body.
func reframe(msg, body []byte) []byte { return frame(HandshakeType(msg[0]), body) }

func encode(t testing.TB, m message) []byte {
	t.Helper()
	b, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
