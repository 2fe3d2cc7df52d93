package itls

import (
	"bytes"
	"crypto/tls"
	"io"
	"slices"
	"testing"

	"vitrine/internal/tlsmsg"
)

// scriptedClient is a client whose first ClientHello a test may change before it is sent, and which
// then follows the protocol as far as the test lets it.
func scriptedClient(t *testing.T, conn *pipe, cc *Config, change func(h *tlsmsg.ClientHello)) *clientHandshake {
	t.Helper()
	scratch, _ := newPipe()
	c := Client(scratch, cc)
	hs := &clientHandshake{Conn: c}
	if err := hs.sendHello(); err != nil {
		t.Fatal(err)
	}
	c.conn = conn
	if change != nil {
		change(hs.hello)
	}
	if err := hs.writeHello(); err != nil {
		t.Fatal(err)
	}
	return hs
}

// steps runs the handshake's next steps.
func (hs *clientHandshake) steps(list ...func() error) error {
	for _, step := range list {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func replaceExtension(h *tlsmsg.ClientHello, list ...tlsmsg.Extension) {
	for _, e := range list {
		i := slices.IndexFunc(h.Extensions, func(o tlsmsg.Extension) bool { return o.Type == e.Type })
		if i < 0 {
			h.Extensions = append(h.Extensions, e)
			continue
		}
		h.Extensions[i] = e
	}
}

func removeExtension(h *tlsmsg.ClientHello, t uint16) {
	h.Extensions = slices.DeleteFunc(h.Extensions, func(e tlsmsg.Extension) bool { return e.Type == t })
}

func pskData() []byte {
	data := []byte{0, 8, 0, 2, 'i', 'd', 0, 0, 0, 0, 0, 33, 32}
	return append(data, make([]byte, 32)...)
}

// spec: TLS-1 TLS-5
func TestServerRefusesClientHellos(t *testing.T) {
	replace := func(f func(x *tlsmsg.ExtensionBuilder)) func(h *tlsmsg.ClientHello) {
		return func(h *tlsmsg.ClientHello) { replaceExtension(h, built(f)...) }
	}
	remove := func(id uint16) func(h *tlsmsg.ClientHello) {
		return func(h *tlsmsg.ClientHello) { removeExtension(h, id) }
	}
	for _, c := range []struct {
		name   string
		change func(h *tlsmsg.ClientHello)
		alert  tlsmsg.Alert
	}{
		{"TLS 1.2", remove(tlsmsg.ExtensionSupportedVersions), tlsmsg.AlertProtocolVersion},
		{"TLS 1.2 in supported_versions", replace(func(x *tlsmsg.ExtensionBuilder) { x.SupportedVersions(tlsmsg.VersionTLS12) }), tlsmsg.AlertProtocolVersion},
		{"no extensions", func(h *tlsmsg.ClientHello) { h.Extensions = nil }, tlsmsg.AlertProtocolVersion},
		{"only encrypting suites", func(h *tlsmsg.ClientHello) { h.CipherSuites = []uint16{0x1301, 0x1302, 0x1303} }, tlsmsg.AlertHandshakeFailure},
		{"compression", func(h *tlsmsg.ClientHello) { h.Compression = []byte{1, 0} }, tlsmsg.AlertIllegalParameter},
		{"early data", replace(func(x *tlsmsg.ExtensionBuilder) { x.Raw(tlsmsg.ExtensionEarlyData, nil) }), tlsmsg.AlertIllegalParameter},
		{"early data with a key", replace(func(x *tlsmsg.ExtensionBuilder) {
			x.Raw(tlsmsg.ExtensionEarlyData, nil)
			x.PSKModes(tlsmsg.PSKModeDHE)
			x.Raw(tlsmsg.ExtensionPreSharedKey, pskData())
		}), tlsmsg.AlertIllegalParameter},
		{"pre_shared_key without modes", replace(func(x *tlsmsg.ExtensionBuilder) { x.Raw(tlsmsg.ExtensionPreSharedKey, pskData()) }), tlsmsg.AlertMissingExtension},
		{"no signature_algorithms", remove(tlsmsg.ExtensionSignatureAlgorithms), tlsmsg.AlertMissingExtension},
		{"no supported_groups", remove(tlsmsg.ExtensionSupportedGroups), tlsmsg.AlertMissingExtension},
		{"no key_share", remove(tlsmsg.ExtensionKeyShare), tlsmsg.AlertMissingExtension},
		{"no scheme in common", replace(func(x *tlsmsg.ExtensionBuilder) {
			x.SignatureAlgorithms([]tls.SignatureScheme{tls.PSSWithSHA256})
		}), tlsmsg.AlertHandshakeFailure},
		{"share of a group that is not supported", replace(func(x *tlsmsg.ExtensionBuilder) {
			x.SupportedGroups([]tls.CurveID{tls.CurveP256})
		}), tlsmsg.AlertIllegalParameter},
		{"share of zeros", replace(func(x *tlsmsg.ExtensionBuilder) {
			x.KeyShares(tlsmsg.KeyShare{Group: tls.X25519, Data: make([]byte, 32)})
		}), tlsmsg.AlertIllegalParameter},
		{"point off the curve", replace(func(x *tlsmsg.ExtensionBuilder) {
			x.KeyShares(tlsmsg.KeyShare{Group: tls.CurveP256, Data: append([]byte{4}, make([]byte, 64)...)})
		}), tlsmsg.AlertIllegalParameter},
		{"short ML-KEM share", replace(func(x *tlsmsg.ExtensionBuilder) {
			x.SupportedGroups([]tls.CurveID{tls.X25519MLKEM768})
			x.KeyShares(tlsmsg.KeyShare{Group: tls.X25519MLKEM768, Data: make([]byte, 1183)})
		}), tlsmsg.AlertIllegalParameter},
		{"ML-KEM share that is no key", replace(func(x *tlsmsg.ExtensionBuilder) {
			x.SupportedGroups([]tls.CurveID{tls.X25519MLKEM768})
			x.KeyShares(tlsmsg.KeyShare{Group: tls.X25519MLKEM768, Data: bytes.Repeat([]byte{0xff}, 1184+32)})
		}), tlsmsg.AlertIllegalParameter},
		{"malformed inspection", replace(func(x *tlsmsg.ExtensionBuilder) { x.Raw(tlsmsg.ExtensionInspection, []byte{1}) }), tlsmsg.AlertDecodeError},
		{"inspection of another version", replace(func(x *tlsmsg.ExtensionBuilder) { x.Raw(tlsmsg.ExtensionInspection, []byte{2}) }), tlsmsg.AlertIllegalParameter},
	} {
		t.Run(c.name, func(t *testing.T) {
			sc := serverConfig()
			sc.Groups = []tls.CurveID{tls.X25519, tls.CurveP256, tls.X25519MLKEM768}
			a, b := newPipe()
			defer a.Close()
			hs := scriptedClient(t, a, clientConfig(), c.change)
			if err := Server(b, sc).Handshake(); alertOf(err) != c.alert {
				t.Errorf("server %v, want %s", err, c.alert)
			}
			if err := hs.readServerHello(); !isRemoteAlert(err) || err.(*AlertError).Alert != c.alert {
				t.Errorf("client %v", err)
			}
		})
	}
}

// finishScripted lets a scripted client finish, and both ends talk.
func finishScripted(t *testing.T, hs *clientHandshake, server *Conn) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	if err := hs.steps(hs.readServerHello, hs.readParameters, hs.authenticateServer, hs.sendFinished); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	hs.complete.Store(true)
	exchange(t, hs.Conn, server)
}

// spec: TLS-14
func TestServerToleratesWhatRealClientsSend(t *testing.T) {
	grease := func(h *tlsmsg.ClientHello) {
		h.CipherSuites = append([]uint16{0x1a1a, 0x1301}, append(h.CipherSuites, 0x00ff)...)
		h.LegacyVersion = 0x0302 // supported_versions decides
		list := built(func(x *tlsmsg.ExtensionBuilder) {
			x.Raw(0x2a2a, nil)
			x.Raw(tlsmsg.ExtensionPadding, make([]byte, 300))
			x.PSKModes(tlsmsg.PSKModeDHE)
			x.SupportedVersions(0x3a3a, tlsmsg.VersionTLS13, tlsmsg.VersionTLS12)
			x.SupportedGroups([]tls.CurveID{0x4a4a, tls.X25519})
			// An unknown ticket, last: a full handshake follows.
			x.Raw(tlsmsg.ExtensionPreSharedKey, pskData())
		})
		replaceExtension(h, list...)
	}
	t.Run("GREASE, padding, other suites and an unknown ticket", func(t *testing.T) {
		a, b := newPipe()
		defer a.Close()
		finishScripted(t, scriptedClient(t, a, clientConfig(), grease), Server(b, serverConfig()))
	})
	for name, groups := range map[string][]tls.CurveID{"compatibility mode": nil, "compatibility mode with a retry": {tls.CurveP256}} {
		t.Run(name, func(t *testing.T) {
			sc := serverConfig()
			sc.Groups = groups
			a, b := newPipe()
			defer a.Close()
			sent := &bytes.Buffer{}
			b.onSend = func(p []byte) []byte {
				sent.Write(p)
				return p
			}
			hs := scriptedClient(t, a, clientConfig(), func(h *tlsmsg.ClientHello) { h.SessionID = make([]byte, 32) })
			a.inject(plainCCS)
			finishScripted(t, hs, Server(b, sc))
			list := records(t, sent.Bytes())
			if !bytes.Equal(list[1], plainCCS) || bytes.Count(sent.Bytes(), plainCCS) != 1 {
				t.Errorf("the server answers a session ID with %x", list[1])
			}
		})
	}
}

// spec: TLS-14 TLS-15 TLS-16 TLS-17
func TestServerRefusesWhatAClientMustNotSend(t *testing.T) {
	hello := func() []byte {
		a, b := newPipe()
		scriptedClient(t, a, clientConfig(), nil)
		return b.take()
	}
	inRecord := func(t tlsmsg.ContentType, b []byte) []byte {
		return append(tlsmsg.RecordHeader{Type: t, Version: tlsmsg.VersionTLS12, Length: len(b)}.Append(nil), b...)
	}
	stock := func() []byte {
		a, b := newPipe()
		a.SetDeadline(timeLongAgo)
		_ = tls.Client(a, &tls.Config{ServerName: testName}).Handshake()
		return b.take()
	}
	for _, c := range []struct {
		name  string
		bytes []byte
		alert tlsmsg.Alert
	}{
		{"HTTP", []byte("GET / HTTP/1.1\r\n\r\n"), tlsmsg.AlertUnexpectedMessage},
		{"zeros", make([]byte, 100), tlsmsg.AlertUnexpectedMessage},
		{"SSH", []byte("SSH-2.0-OpenSSH_9.2\r\n"), tlsmsg.AlertUnexpectedMessage},
		{"SSL 2", []byte{22, 2, 0, 0, 1, 0}, tlsmsg.AlertProtocolVersion},
		{"an ordinary TLS client", stock(), tlsmsg.AlertHandshakeFailure},
		{"application data first", inRecord(23, []byte("x")), tlsmsg.AlertUnexpectedMessage},
		{"change_cipher_spec first", append(bytes.Clone(plainCCS), hello()...), tlsmsg.AlertUnexpectedMessage},
		{"another message first", inRecord(22, []byte{8, 0, 0, 2, 0, 0}), tlsmsg.AlertUnexpectedMessage},
		{"message above the limit", inRecord(22, []byte{1, 1, 0, 1}), tlsmsg.AlertIllegalParameter},
		{"record above the limit", []byte{22, 3, 3, 0x40, 1}, tlsmsg.AlertRecordOverflow},
		{"empty record", inRecord(22, nil), tlsmsg.AlertUnexpectedMessage},
		{"bytes behind ClientHello in its record", inRecord(22, append(hello()[5:], 1)), tlsmsg.AlertUnexpectedMessage},
		{"a second ClientHello", append(hello(), hello()...), tlsmsg.AlertUnexpectedMessage},
		{"change_cipher_spec without end", append(hello(), bytes.Repeat(plainCCS, maxIdleRecords+1)...), tlsmsg.AlertUnexpectedMessage},
		{"alert of three bytes", append(hello(), inRecord(21, []byte{2, 40, 0})...), tlsmsg.AlertDecodeError},
		{"protected nonsense", append(hello(), inRecord(23, make([]byte, 100))...), tlsmsg.AlertBadRecordMAC},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := newPipe()
			a.inject(c.bytes)
			a.CloseWrite()
			if err := Server(b, serverConfig()).Handshake(); alertOf(err) != c.alert {
				t.Errorf("got %v, want %s", err, c.alert)
			}
		})
	}
	for _, alert := range []tlsmsg.Alert{tlsmsg.AlertHandshakeFailure, tlsmsg.AlertCloseNotify} {
		a, b := newPipe()
		a.inject(append(hello(), inRecord(21, []byte{2, byte(alert)})...))
		a.CloseWrite()
		err := Server(b, serverConfig()).Handshake()
		if e, ok := err.(*AlertError); !ok || !e.Remote || e.Alert != alert {
			t.Errorf("unprotected %s: %v", alert, err)
		}
	}
}

// The server's side of client data before Finished, of forged Finished, and of late alerts.
//
// spec: TLS-14 TLS-15
func TestServerRefusesAClientsLastFlight(t *testing.T) {
	for _, c := range []struct {
		name   string
		script func(hs *clientHandshake) error
		alert  tlsmsg.Alert
	}{
		{"application data before Finished", func(hs *clientHandshake) error {
			return hs.record(tlsmsg.TypeApplicationData, []byte("early"))
		}, tlsmsg.AlertUnexpectedMessage},
		{"Certificate that nobody asked for", func(hs *clientHandshake) error {
			m, err := hs.appendCertificate(nil, nil, false, false)
			if err != nil {
				return err
			}
			return hs.record(tlsmsg.TypeHandshake, m)
		}, tlsmsg.AlertUnexpectedMessage},
		{"Finished under the server's secret", func(hs *clientHandshake) error {
			m, err := hs.appendFinished(nil, hs.keys.server)
			if err != nil {
				return err
			}
			return hs.record(tlsmsg.TypeHandshake, m)
		}, tlsmsg.AlertDecryptError},
		{"Finished as long as another hash", func(hs *clientHandshake) error {
			m, err := (&tlsmsg.Finished{VerifyData: make([]byte, 48)}).Append(nil)
			if err != nil {
				return err
			}
			return hs.record(tlsmsg.TypeHandshake, m)
		}, tlsmsg.AlertDecodeError},
		{"message that spans Finished and the next keys", func(hs *clientHandshake) error {
			m, err := hs.appendFinished(nil, hs.keys.client)
			if err != nil {
				return err
			}
			return hs.record(tlsmsg.TypeHandshake, append(m, byte(tlsmsg.TypeKeyUpdate)))
		}, tlsmsg.AlertUnexpectedMessage},
		{"EndOfEarlyData", func(hs *clientHandshake) error {
			return hs.record(tlsmsg.TypeHandshake, []byte{byte(tlsmsg.TypeEndOfEarlyData), 0, 0, 0})
		}, tlsmsg.AlertUnexpectedMessage},
		{"unprotected alert behind a protected record", func(hs *clientHandshake) error {
			if err := hs.record(tlsmsg.TypeAlert, []byte{1, byte(tlsmsg.AlertUserCanceled)}); err != nil {
				return err
			}
			_, err := hs.conn.Write([]byte{21, 3, 3, 0, 2, 2, 40})
			return err
		}, tlsmsg.AlertUnexpectedMessage},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := newPipe()
			defer a.Close()
			hs := scriptedClient(t, a, clientConfig(), nil)
			done := make(chan error, 1)
			go func() { done <- Server(b, serverConfig()).Handshake() }()
			if err := hs.steps(hs.readServerHello, hs.readParameters, hs.authenticateServer); err != nil {
				t.Fatal(err)
			}
			if err := c.script(hs); err != nil {
				t.Fatal(err)
			}
			if err := <-done; alertOf(err) != c.alert {
				t.Errorf("got %v, want %s", err, c.alert)
			}
		})
	}
}

// spec: TLS-7
func TestServerComparesTheSecondClientHello(t *testing.T) {
	p256 := func() []tlsmsg.Extension {
		x, err := newKeyExchange(tls.CurveP256)
		if err != nil {
			t.Fatal(err)
		}
		return built(func(b *tlsmsg.ExtensionBuilder) { b.KeyShares(x.share()) })
	}
	for _, c := range []struct {
		name   string
		change func(h *tlsmsg.ClientHello)
		ok     bool
	}{
		{"unchanged but for the share", func(h *tlsmsg.ClientHello) {}, true},
		{"padding added", func(h *tlsmsg.ClientHello) {
			replaceExtension(h, tlsmsg.Extension{Type: tlsmsg.ExtensionPadding, Data: make([]byte, 9)})
		}, true},
		{"another random", func(h *tlsmsg.ClientHello) { h.Random[0] ^= 1 }, false},
		{"another session ID", func(h *tlsmsg.ClientHello) { h.SessionID = []byte{1} }, false},
		{"another legacy version", func(h *tlsmsg.ClientHello) { h.LegacyVersion = 0x0302 }, false},
		{"other suites", func(h *tlsmsg.ClientHello) { h.CipherSuites = h.CipherSuites[:1] }, false},
		{"another name", func(h *tlsmsg.ClientHello) {
			replaceExtension(h, built(func(x *tlsmsg.ExtensionBuilder) { x.ServerName("other.example") })...)
		}, false},
		{"no name", func(h *tlsmsg.ClientHello) { removeExtension(h, tlsmsg.ExtensionServerName) }, false},
		{"another nonce in inspection", func(h *tlsmsg.ClientHello) {
			o := testOffer(testName + ":443")
			o.Nonce[0] ^= 1
			replaceExtension(h, built(func(x *tlsmsg.ExtensionBuilder) { x.InspectionOffer(o) })...)
		}, false},
		{"extension added", func(h *tlsmsg.ClientHello) { replaceExtension(h, tlsmsg.Extension{Type: 0x2a2a}) }, false},
		{"cookie out of nowhere", func(h *tlsmsg.ClientHello) {
			replaceExtension(h, built(func(x *tlsmsg.ExtensionBuilder) { x.Cookie([]byte("c")) })...)
		}, false},
		{"extensions in another order", func(h *tlsmsg.ClientHello) { slices.Reverse(h.Extensions) }, false},
		{"the old share", func(h *tlsmsg.ClientHello) {
			x, err := newKeyExchange(tls.X25519)
			if err != nil {
				t.Fatal(err)
			}
			replaceExtension(h, built(func(b *tlsmsg.ExtensionBuilder) { b.KeyShares(x.share()) })...)
		}, false},
		{"no share", func(h *tlsmsg.ClientHello) {
			replaceExtension(h, built(func(b *tlsmsg.ExtensionBuilder) { b.KeyShares() })...)
		}, false},
		{"compression", func(h *tlsmsg.ClientHello) { h.Compression = []byte{0, 1} }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cc, sc := clientConfig(), serverConfig()
			cc.Inspection = testOffer(testName + ":443")
			sc.Groups = []tls.CurveID{tls.CurveP256}
			a, b := newPipe()
			hs := scriptedClient(t, a, cc, nil)
			done := make(chan error, 1)
			go func() { done <- Server(b, sc).Handshake() }()
			if h, err := hs.readHello(); err != nil || !h.IsHRR {
				t.Fatalf("%+v, %v", h, err)
			}
			replaceExtension(hs.hello, p256()...)
			c.change(hs.hello)
			if err := hs.writeHello(); err != nil {
				t.Fatal(err)
			}
			if c.ok {
				// It goes on: the server's flight comes, and then it waits for ours.
				if h, err := hs.readHello(); err != nil || h.IsHRR {
					t.Errorf("%+v, %v", h, err)
				}
				a.Close()
				if err := <-done; err == nil {
					t.Error("no Finished was sent")
				}
				return
			}
			if err := <-done; alertOf(err) != tlsmsg.AlertIllegalParameter {
				t.Errorf("got %v", err)
			}
			a.Close()
		})
	}
}

func TestStockPeersAreRefusedInTheirOwnWords(t *testing.T) {
	a, b := newPipe()
	done := make(chan error, 1)
	stock := tls.Server(b, &tls.Config{Certificates: []tls.Certificate{identities().server}})
	go func() { done <- stock.Handshake() }()
	err := Client(a, clientConfig()).Handshake()
	if e, ok := err.(*AlertError); !ok || !e.Remote || e.Alert != tlsmsg.AlertHandshakeFailure {
		t.Errorf("client of a stock server: %v", err)
	}
	if <-done == nil {
		t.Error("a stock server agreed")
	}
	a, b = newPipe()
	go func() { done <- Server(b, serverConfig()).Handshake() }()
	err = tls.Client(a, clientConfig().TLS).Handshake()
	if err == nil || err == io.EOF || alertOf(<-done) != tlsmsg.AlertHandshakeFailure {
		t.Errorf("stock client: %v", err)
	}
}
