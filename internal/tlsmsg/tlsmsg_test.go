package tlsmsg

import (
	"bytes"
	"crypto/tls"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestWhatParseTakesAppendWritesBack(t *testing.T) {
	for _, k := range kinds() {
		for i, m := range k.samples {
			msg := encode(t, m)
			checkInverse(t, k, msg)
			parsed, err := k.parse(msg)
			if err != nil {
				t.Errorf("%s %d: %v", k.name, i, err)
				continue
			}
			// Append appends: what is in front stays.
			b, err := parsed.Append([]byte("front"))
			if err != nil || !bytes.Equal(b, append([]byte("front"), msg...)) {
				t.Errorf("%s %d: Append onto a prefix gave %x, %v", k.name, i, b, err)
			}
		}
	}
}

// checkInverse asserts that whatever parses is written back byte for byte and parses to the same.
func checkInverse(t *testing.T, k kind, msg []byte) {
	t.Helper()
	m, err := k.parse(msg)
	if err != nil {
		var p *ParseError
		if !errors.As(err, &p) || p.What == "" {
			t.Fatalf("%s: error %v is no ParseError", k.name, err)
		}
		return
	}
	b, err := m.Append(nil)
	if err != nil || !bytes.Equal(b, msg) {
		t.Fatalf("%s: %x was written back as %x, %v", k.name, msg, b, err)
	}
	again, err := k.parse(b)
	if err != nil || !reflect.DeepEqual(m, again) {
		t.Fatalf("%s: %x parses differently the second time: %v", k.name, msg, err)
	}
}

func TestEveryPrefixIsRefused(t *testing.T) {
	for _, k := range kinds() {
		for i, m := range k.samples {
			msg := encode(t, m)
			for n := range msg {
				if _, err := k.parse(msg[:n]); err == nil {
					t.Errorf("%s %d: the first %d of %d bytes were taken", k.name, i, n, len(msg))
				}
				// The same with a header that fits: the vectors inside must notice, or the
				// prefix is a message of its own.
				if n >= handshakeHeaderLen {
					checkInverse(t, k, reframe(msg, msg[handshakeHeaderLen:n]))
				}
			}
		}
	}
}

// spec: TLS-24
func TestTrailingBytesAreRefused(t *testing.T) {
	for _, k := range kinds() {
		for i, m := range k.samples {
			msg := encode(t, m)
			if _, err := k.parse(append(bytes.Clone(msg), 0)); err == nil {
				t.Errorf("%s %d: a byte behind the message was taken", k.name, i)
			}
			if k.name == "ClientHello" && m.(*ClientHello).Extensions == nil || k.name == "ServerHello" && m.(*ServerHello).Extensions == nil {
				continue // a single byte is then the beginning of extensions, tested by the prefixes
			}
			if _, err := k.parse(reframe(msg, append(msg[handshakeHeaderLen:], 0))); err == nil {
				t.Errorf("%s %d: a byte behind the last field was taken", k.name, i)
			}
		}
	}
}

func TestAMessageOfAnotherTypeIsRefused(t *testing.T) {
	for _, k := range kinds() {
		msg := encode(t, k.samples[0])
		msg[0] = 0xfe
		var p *ParseError
		if _, err := k.parse(msg); !errors.As(err, &p) || p.Alert != AlertUnexpectedMessage {
			t.Errorf("%s: %v", k.name, err)
		}
	}
}

// spec: TLS-25
func TestAnExtensionTwiceIsRefused(t *testing.T) {
	twice := []Extension{{0x2a2a, nil}, {ExtensionSignatureAlgorithms, []byte{0, 2, 8, 7}}, {0x2a2a, []byte{1}}}
	for name, m := range map[string]message{
		"ClientHello":         &ClientHello{CipherSuites: []uint16{1}, Compression: []byte{0}, Extensions: twice},
		"ServerHello":         &ServerHello{Extensions: twice},
		"EncryptedExtensions": &EncryptedExtensions{Extensions: twice},
		"CertificateRequest":  &CertificateRequest{Extensions: twice},
		"Certificate":         &Certificate{Entries: []CertificateEntry{{Cert: []byte("leaf"), Extensions: twice}}},
		"NewSessionTicket":    &NewSessionTicket{Ticket: []byte("t"), Extensions: twice},
	} {
		refused(t, name, m, AlertIllegalParameter, "twice")
	}
}

func parserOf(t testing.TB, name string) func([]byte) (message, error) {
	t.Helper()
	for _, k := range kinds() {
		if k.name == name {
			return k.parse
		}
	}
	t.Fatalf("no parser of %s", name)
	return nil
}

// refused asserts that what Append writes of m, Parse refuses.
func refused(t *testing.T, name string, m message, alert Alert, what string) {
	t.Helper()
	_, err := parserOf(t, name)(encode(t, m))
	var p *ParseError
	if !errors.As(err, &p) || p.Alert != alert || !strings.Contains(p.What, what) {
		t.Errorf("%s: got %v, want %s and %q", name, err, alert, what)
	}
}

func clientHelloWith(list ...Extension) *ClientHello {
	return &ClientHello{CipherSuites: []uint16{1}, Compression: []byte{0}, Extensions: list}
}

// spec: TLS-24 TLS-26 TLS-27 TLS-28
func TestClientHelloRules(t *testing.T) {
	one := func(f func(x *ExtensionBuilder)) *ClientHello { return clientHelloWith(extensions(f)...) }
	many := func(n int) []Extension {
		var list []Extension
		for i := range n {
			list = append(list, Extension{uint16(0x4000 + i), nil})
		}
		return list
	}
	shares := func(n int) []KeyShare {
		var list []KeyShare
		for i := range n {
			list = append(list, KeyShare{tls.CurveID(i), []byte{1}})
		}
		return list
	}
	raw := func(id uint16, data ...byte) *ClientHello { return clientHelloWith(Extension{id, data}) }
	for _, c := range []struct {
		rule  string
		hello *ClientHello
		alert Alert
		what  string
	}{
		{"pre_shared_key must be last", clientHelloWith(Extension{ExtensionPreSharedKey, pskExtension(1, 1)}, Extension{0x2a2a, nil}), AlertIllegalParameter, "last"},
		{"a binder for each identity", raw(ExtensionPreSharedKey, pskExtension(2, 1)...), AlertIllegalParameter, "binder"},
		{"a binder too many", raw(ExtensionPreSharedKey, pskExtension(1, 2)...), AlertIllegalParameter, "binder"},
		{"no identities", raw(ExtensionPreSharedKey, pskExtension(0, 0)...), AlertDecodeError, "empty list"},
		{"no binders", raw(ExtensionPreSharedKey, pskExtension(1, 0)...), AlertDecodeError, "empty list"},
		{"identities without end", raw(ExtensionPreSharedKey, pskExtension(maxPSKs+1, maxPSKs+1)...), AlertIllegalParameter, "limit"},
		{"empty name", one(func(x *ExtensionBuilder) { x.ServerName("") }), AlertDecodeError, "one name"},
		{"two names", raw(ExtensionServerName, 0, 8, 0, 0, 1, 'a', 0, 0, 1, 'b'), AlertDecodeError, "one name"},
		{"name that is no host", raw(ExtensionServerName, 0, 4, 1, 0, 1, 'a'), AlertIllegalParameter, "host name"},
		{"name with a trailing dot", one(func(x *ExtensionBuilder) { x.ServerName("origin.example.") }), AlertIllegalParameter, "dot"},
		{"name with a zero byte", one(func(x *ExtensionBuilder) { x.ServerName("origin\x00.example") }), AlertIllegalParameter, "ASCII"},
		{"name with a space", one(func(x *ExtensionBuilder) { x.ServerName("origin example") }), AlertIllegalParameter, "ASCII"},
		{"name beyond ASCII", one(func(x *ExtensionBuilder) { x.ServerName("bücher.example") }), AlertIllegalParameter, "ASCII"},
		{"no protocols", one(func(x *ExtensionBuilder) { x.ALPN() }), AlertDecodeError, "application_layer"},
		{"empty protocol", one(func(x *ExtensionBuilder) { x.ALPN("h2", "") }), AlertDecodeError, "application_layer"},
		{"no versions", one(func(x *ExtensionBuilder) { x.SupportedVersions() }), AlertDecodeError, "supported_versions"},
		{"half a version", raw(ExtensionSupportedVersions, 1, 3), AlertDecodeError, "supported_versions"},
		{"no groups", one(func(x *ExtensionBuilder) { x.SupportedGroups(nil) }), AlertDecodeError, "supported_groups"},
		{"no schemes", one(func(x *ExtensionBuilder) { x.SignatureAlgorithms(nil) }), AlertDecodeError, "signature_algorithms"},
		{"no modes", one(func(x *ExtensionBuilder) { x.PSKModes() }), AlertDecodeError, "psk_key_exchange_modes"},
		{"two shares for a group", one(func(x *ExtensionBuilder) {
			x.KeyShares(KeyShare{tls.X25519, []byte{1}}, KeyShare{tls.X25519, []byte{2}})
		}), AlertIllegalParameter, "one group"},
		{"empty share", one(func(x *ExtensionBuilder) { x.KeyShares(KeyShare{tls.X25519, nil}) }), AlertDecodeError, "key_share"},
		{"shares without end", one(func(x *ExtensionBuilder) { x.KeyShares(shares(maxKeyShares + 1)...) }), AlertIllegalParameter, "limit"},
		{"extensions without end", clientHelloWith(many(maxExtensions + 1)...), AlertIllegalParameter, "limit"},
		{"early_data with content", raw(ExtensionEarlyData, 0), AlertDecodeError, "early_data"},
		{"empty cookie", one(func(x *ExtensionBuilder) { x.Cookie(nil) }), AlertDecodeError, "cookie"},
		{"sct with content", raw(ExtensionSCT, 0), AlertDecodeError, "signed_certificate_timestamp"},
		{"status_request cut", raw(ExtensionStatusRequest, 1, 0), AlertDecodeError, "status_request"},
		{"empty authorities", one(func(x *ExtensionBuilder) { x.CertificateAuthorities(nil) }), AlertDecodeError, "certificate_authorities"},
		{"inspection cut", raw(ExtensionInspection, 1, 0), AlertDecodeError, "inspection"},
	} {
		t.Run(c.rule, func(t *testing.T) { refused(t, "ClientHello", c.hello, c.alert, c.what) })
	}
	for _, h := range []*ClientHello{clientHelloWith(many(maxExtensions)...), one(func(x *ExtensionBuilder) { x.KeyShares(shares(maxKeyShares)...) })} {
		if _, err := ParseClientHello(encode(t, h)); err != nil {
			t.Errorf("at the limit: %v", err)
		}
	}
	// A session ID of 33 bytes, which Append does not write.
	msg := encode(t, &ClientHello{SessionID: make([]byte, 32), CipherSuites: []uint16{1}, Compression: []byte{0}})
	msg = reframe(msg, append(append(bytes.Clone(msg[4:38]), 33, 0), msg[39:]...))
	if _, err := ParseClientHello(msg); err == nil {
		t.Error("a session ID of 33 bytes was taken")
	}
}

// spec: TLS-29
func TestClientHelloIsDecoded(t *testing.T) {
	h, err := ParseClientHello(encode(t, sampleClientHello()))
	if err != nil {
		t.Fatal(err)
	}
	if h.ServerName != "origin.example" || !reflect.DeepEqual(h.ALPN, []string{"h2", "http/1.1"}) ||
		!reflect.DeepEqual(h.SupportedVersions, []uint16{VersionTLS13, 0x7a7a}) ||
		!reflect.DeepEqual(h.SupportedGroups, []tls.CurveID{tls.X25519, tls.CurveP256}) ||
		!reflect.DeepEqual(h.SignatureSchemes, Schemes()) || !reflect.DeepEqual(h.SignatureSchemesCert, Schemes()) ||
		len(h.KeyShares) != 2 || h.KeyShares[1].Group != tls.X25519 || len(h.KeyShares[1].Data) != 32 ||
		!bytes.Equal(h.PSKModes, []byte{PSKModeDHE}) || !h.HasPSK || len(h.PSKIdentities) != 1 || h.PSKIdentities[0].ObfuscatedTicketAge != 0x01020304 ||
		len(h.PSKBinders) != 1 || string(h.Cookie) != "cookie" || len(h.Authorities) != 1 ||
		!h.EarlyData || !h.ECH || !h.OCSP || !h.SCT || !reflect.DeepEqual(h.Inspection, sampleOffer()) {
		t.Errorf("decoded as %+v", h)
	}
	if h.Extensions[0].Type != 0x2a2a || !HasExtension(h.Extensions, ExtensionPadding) || HasExtension(h.Extensions, 0x5555) {
		t.Error("GREASE or padding was lost, or an extension invented")
	}
}

func TestServerHelloIsDecoded(t *testing.T) {
	samples := kinds()[1].samples
	h, err := ParseServerHello(encode(t, samples[0]))
	if err != nil || h.IsHRR || h.SupportedVersion != VersionTLS13 || h.KeyShare == nil || h.KeyShare.Group != tls.X25519 || *h.SelectedPSK != 1 {
		t.Errorf("ServerHello decoded as %+v, %v", h, err)
	}
	h, err = ParseServerHello(encode(t, samples[1]))
	if err != nil || !h.IsHRR || h.KeyShare != nil || h.SelectedGroup != tls.CurveP256 || string(h.Cookie) != "cookie" {
		t.Errorf("HelloRetryRequest decoded as %+v, %v", h, err)
	}
	h, err = ParseServerHello(encode(t, samples[3]))
	if err != nil || h.SupportedVersion != 0 || h.LegacyVersion != VersionTLS12 || h.ALPN != "h2" {
		t.Errorf("TLS 1.2 ServerHello decoded as %+v, %v", h, err)
	}
	// A session ID of 33 bytes, which Append does not write.
	msg := encode(t, &ServerHello{SessionID: make([]byte, 32)})
	msg = reframe(msg, append(append(bytes.Clone(msg[4:38]), 33, 0), msg[39:]...))
	if _, err := ParseServerHello(msg); err == nil {
		t.Error("a session ID of 33 bytes was taken")
	}
	refused(t, "ServerHello", &ServerHello{Extensions: extensions(func(x *ExtensionBuilder) { x.ALPN("a", "b") })}, AlertIllegalParameter, "more than one")
	refused(t, "ServerHello", &ServerHello{Extensions: extensions(func(x *ExtensionBuilder) { x.SelectedGroup(tls.X25519) })}, AlertDecodeError, "key_share")
	refused(t, "ServerHello", &ServerHello{Random: HelloRetryRandom(), Extensions: extensions(func(x *ExtensionBuilder) {
		x.KeyShare(KeyShare{tls.X25519, []byte{1}})
	})}, AlertDecodeError, "key_share")
}

func TestDowngradeSentinels(t *testing.T) {
	var random [32]byte
	if IsDowngrade(random) {
		t.Error("no sentinel taken for one")
	}
	for last, want := range []bool{true, true, false} {
		copy(random[24:], "DOWNGRD")
		random[31] = byte(last)
		if IsDowngrade(random) != want {
			t.Errorf("sentinel %d: want %v", last, want)
		}
	}
	// RFC 8446, section 4.1.3.
	if r := HelloRetryRandom(); !bytes.HasPrefix(r[:], []byte{0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11}) {
		t.Errorf("HelloRetryRequest's random is %x", r)
	}
}

// spec: INS-7 TLS-28
func TestCertificateRules(t *testing.T) {
	answer := extensions(func(x *ExtensionBuilder) { x.InspectionAnswer(sampleAnswer()) })
	leaf, issuer := CertificateEntry{Cert: []byte("leaf")}, CertificateEntry{Cert: []byte("issuer"), Extensions: answer}
	refused(t, "Certificate", &Certificate{Entries: []CertificateEntry{leaf, issuer}}, AlertIllegalParameter, "not the leaf")
	m, err := ParseCertificate(encode(t, &Certificate{Entries: []CertificateEntry{issuer, leaf}}))
	if err != nil || !reflect.DeepEqual(m.Entries[0].Inspection, sampleAnswer()) {
		t.Errorf("answer beside the leaf: %v", err)
	}

	var sixteen Certificate
	for range MaxCertificates {
		sixteen.Entries = append(sixteen.Entries, leaf)
	}
	msg := encode(t, &sixteen)
	if _, err := ParseCertificate(msg); err != nil {
		t.Errorf("sixteen certificates: %v", err)
	}
	entry := []byte{0, 0, 4, 'l', 'e', 'a', 'f', 0, 0}
	list := bytes.Repeat(entry, MaxCertificates+1)
	msg = frame(TypeCertificate, append([]byte{0, 0, 0, byte(len(list))}, list...))
	if _, err := ParseCertificate(msg); err == nil {
		t.Error("seventeen certificates were taken")
	}
	msg = encode(t, make(certificate12, 0))
	if _, err := ParseCertificate12(msg); err == nil {
		t.Error("an empty TLS 1.2 chain was taken")
	}
	long := make(certificate12, MaxCertificates+1)
	for i := range long {
		long[i] = []byte{1}
	}
	if _, err := ParseCertificate12(encode(t, long)); err == nil {
		t.Error("seventeen TLS 1.2 certificates were taken")
	}

	schemes := func(f func(x *ExtensionBuilder)) *CertificateRequest {
		return &CertificateRequest{Extensions: extensions(func(x *ExtensionBuilder) {
			x.SignatureAlgorithms(Schemes())
			f(x)
		})}
	}
	refused(t, "CertificateRequest", &CertificateRequest{Extensions: []Extension{}}, AlertMissingExtension, "signature_algorithms")
	refused(t, "CertificateRequest", schemes(func(x *ExtensionBuilder) { x.InspectionOffer(sampleOffer()) }), AlertIllegalParameter, "belong")
	refused(t, "CertificateRequest", schemes(func(x *ExtensionBuilder) { x.ServerName("a") }), AlertIllegalParameter, "belong")
	if _, err := (&CertificateRequest{Type: TypeFinished}).Append(nil); err == nil {
		t.Error("a request of type Finished was written")
	}
}

func TestServerKeyExchangeParamsAreTheSignedBytes(t *testing.T) {
	m, err := ParseServerKeyExchange(encode(t, kinds()[9].samples[0]))
	if err != nil || !bytes.Equal(m.Params, []byte{3, 0, 23, 5, 'p', 'o', 'i', 'n', 't'}) {
		t.Errorf("params %x, %v", m.Params, err)
	}
	explicit := encode(t, m)
	explicit[handshakeHeaderLen] = 1
	if _, err := ParseServerKeyExchange(explicit); err == nil {
		t.Error("an explicit curve was taken")
	}
}

func TestKeyUpdateOfUnknownMeaningIsRefused(t *testing.T) {
	var p *ParseError
	if _, err := ParseKeyUpdate(frame(TypeKeyUpdate, []byte{2})); !errors.As(err, &p) || p.Alert != AlertIllegalParameter {
		t.Errorf("got %v", err)
	}
}

func TestAppendRefusesWhatDoesNotFit(t *testing.T) {
	big := make([]byte, 1<<16)
	for name, m := range map[string]message{
		"long session ID":     &ClientHello{SessionID: make([]byte, 33), CipherSuites: []uint16{1}, Compression: []byte{0}},
		"no suites":           &ClientHello{Compression: []byte{0}},
		"no compression":      &ClientHello{CipherSuites: []uint16{1}},
		"long extension":      &EncryptedExtensions{Extensions: []Extension{{1, big}}},
		"long context":        &Certificate{Context: big[:256]},
		"empty certificate":   &Certificate{Entries: []CertificateEntry{{}}},
		"long chain":          &Certificate{Entries: make([]CertificateEntry, MaxCertificates+1)},
		"more than a message": &Certificate{Entries: []CertificateEntry{{Cert: big}, {Cert: big}}},
		"long signature":      &CertificateVerify{Signature: big},
		"odd Finished":        &Finished{VerifyData: big[:20]},
		"empty ticket":        &NewSessionTicket{},
		"long server session": &ServerHello{SessionID: big[:33]},
	} {
		if b, err := m.Append(nil); err == nil {
			t.Errorf("%s: wrote %d bytes", name, len(b))
		}
	}
	var x ExtensionBuilder
	x.ALPN(strings.Repeat("a", 256))
	x.SCTRequest()
	if _, err := x.Extensions(); err == nil {
		t.Error("a protocol of 256 bytes was written")
	}
}

// spec: TLS-16
func TestSplitHandshakeBoundsWhatItWaitsFor(t *testing.T) {
	two := append(encode(t, &KeyUpdate{}), encode(t, &Finished{VerifyData: make([]byte, 32)})...)
	msg, rest, err := SplitHandshake(two, MaxHandshake)
	if err != nil || MessageType(msg) != TypeKeyUpdate || len(msg) != 5 || MessageType(rest) != TypeFinished {
		t.Fatalf("split %x | %x, %v", msg, rest, err)
	}
	for n := range 5 {
		if _, _, err := SplitHandshake(two[:n], MaxHandshake); err != ErrShort {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for _, c := range []struct {
		declared, max int
		short         bool
	}{{100, 100, true}, {101, 100, false}, {MaxHandshake, 1 << 24, true}, {MaxHandshake + 1, 1 << 24, false}, {1<<24 - 1, MaxHandshake, false}} {
		header := []byte{11, byte(c.declared >> 16), byte(c.declared >> 8), byte(c.declared)}
		if _, _, err := SplitHandshake(header, c.max); (err == ErrShort) != c.short || err == nil {
			t.Errorf("%d of at most %d: %v", c.declared, c.max, err)
		}
	}
	if MessageType(nil) != 0 {
		t.Error("nothing has a type")
	}
}

func TestRecordHeaders(t *testing.T) {
	for _, c := range []struct {
		name  string
		bytes []byte
		alert Alert
		ok    bool
	}{
		{"handshake", []byte{22, 3, 1, 0, 5}, 0, true},
		{"application data of the largest length", []byte{23, 3, 3, 0x41, 0}, 0, true},
		{"one more", []byte{23, 3, 3, 0x41, 1}, AlertRecordOverflow, false},
		{"heartbeat", []byte{24, 3, 3, 0, 1}, AlertUnexpectedMessage, false},
		{"type 19", []byte{19, 3, 3, 0, 1}, AlertUnexpectedMessage, false},
		{"SSL 2", []byte{22, 2, 0, 0, 1}, AlertProtocolVersion, false},
		{"HTTP", []byte("GET / HTTP"), AlertUnexpectedMessage, false},
	} {
		h, err := ParseRecordHeader(c.bytes)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var p *ParseError
		if !c.ok && (!errors.As(err, &p) || p.Alert != c.alert) {
			t.Errorf("%s: %v, want %s", c.name, err, c.alert)
		}
		if c.ok && !bytes.Equal(h.Append(nil), c.bytes[:5]) {
			t.Errorf("%s: written back as %x", c.name, h.Append(nil))
		}
		for n := range RecordHeaderLen {
			if _, err := ParseRecordHeader(c.bytes[:n]); err != ErrShort {
				t.Errorf("%s: %d bytes: %v", c.name, n, err)
			}
		}
	}
}

func TestNamesAreThoseOfTheRFC(t *testing.T) {
	for got, want := range map[string]string{
		TypeClientHello.String(): "ClientHello", HandshakeType(99).String(): "handshake type 99",
		AlertBadRecordMAC.String(): "bad_record_mac", Alert(1).String(): "alert 1",
		TypeApplicationData.String(): "application_data", ContentType(9).String(): "content type 9",
		SuiteName(SuiteSHA256): "TLS_SHA256_SHA256", SuiteName(SuiteSHA384): "TLS_SHA384_SHA384",
		SuiteName(tls.TLS_AES_128_GCM_SHA256): "TLS_AES_128_GCM_SHA256",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
