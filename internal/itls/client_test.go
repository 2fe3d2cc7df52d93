package itls

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"slices"
	"testing"

	"vitrine/internal/tlsmsg"
)

// scriptedServer is a server that follows the protocol until ServerHello has been sent, and then does
// what a test wants. It reports nothing: the client is who is tested.
func scriptedServer(c *Conn, script func(hs *serverHandshake) error) {
	c.in.Lock()
	defer c.in.Unlock()
	defer c.conn.(*pipe).CloseWrite()
	hs := &serverHandshake{Conn: c}
	for _, step := range []func() error{hs.readHello, hs.agree, hs.chooseParameters, hs.sendHello} {
		if step() != nil {
			return
		}
	}
	_ = script(hs)
}

// send queues messages in one flight and sends it.
func (hs *serverHandshake) send(messages ...[]byte) error {
	for _, m := range messages {
		if err := hs.queue(m); err != nil {
			return err
		}
	}
	return hs.flush()
}

// record sends one record under the keys of now.
func (c *Conn) record(t tlsmsg.ContentType, data []byte) (err error) {
	if c.out.flight, err = c.out.seal(c.out.flight, t, data); err != nil {
		return err
	}
	return c.flush()
}

// raw sends bytes as they are.
func (c *Conn) raw(b []byte) error {
	if err := c.flush(); err != nil {
		return err
	}
	_, err := c.conn.Write(b)
	return err
}

// flight is the server's whole flight behind ServerHello, message by message.
func (hs *serverHandshake) flightMessages() (list [][]byte, err error) {
	add := func(f func(b []byte) ([]byte, error)) {
		if err == nil {
			var m []byte
			m, err = f(nil)
			list = append(list, m)
		}
	}
	add(hs.appendExtensions)
	if hs.tls.ClientAuth != tls.NoClientCert {
		add(hs.appendRequest)
	}
	add(func(b []byte) ([]byte, error) { return hs.appendCertificate(b, hs.cert, true, true) })
	add(func(b []byte) ([]byte, error) {
		return hs.appendCertificateVerify(b, hs.cert, hs.scheme, serverVerifyContext)
	})
	add(func(b []byte) ([]byte, error) { return hs.appendFinished(b, hs.keys.server) })
	return list, err
}

func built(f func(x *tlsmsg.ExtensionBuilder)) []tlsmsg.Extension {
	var x tlsmsg.ExtensionBuilder
	f(&x)
	list, err := x.Extensions()
	if err != nil {
		panic(err)
	}
	return list
}

func withExtensions(f func(x *tlsmsg.ExtensionBuilder)) func(hs *serverHandshake) error {
	return func(hs *serverHandshake) error {
		m, err := hs.appendMessage(nil, &tlsmsg.EncryptedExtensions{Extensions: built(f)})
		if err != nil {
			return err
		}
		return hs.send(m)
	}
}

// afterExtensions sends honest EncryptedExtensions first.
func afterExtensions(script func(hs *serverHandshake) error) func(hs *serverHandshake) error {
	return func(hs *serverHandshake) error {
		m, err := hs.appendExtensions(nil)
		if err == nil {
			err = hs.queue(m)
		}
		if err != nil {
			return err
		}
		return script(hs)
	}
}

// afterCertificate sends everything up to Certificate first.
func afterCertificate(script func(hs *serverHandshake) error) func(hs *serverHandshake) error {
	return afterExtensions(func(hs *serverHandshake) error {
		m, err := hs.appendCertificate(nil, hs.cert, true, true)
		if err == nil {
			err = hs.queue(m)
		}
		if err != nil {
			return err
		}
		return script(hs)
	})
}

// afterFlight sends the whole flight first, and takes the application keys.
func afterFlight(script func(hs *serverHandshake) error) func(hs *serverHandshake) error {
	return func(hs *serverHandshake) error {
		list, err := hs.flightMessages()
		if err != nil {
			return err
		}
		if err := hs.send(list...); err != nil {
			return err
		}
		if err := hs.setApplication(&hs.keys); err != nil {
			return err
		}
		hs.out.setSecret(hs.suite, hs.keys.server)
		return script(hs)
	}
}

func certificateWith(extensions []tlsmsg.Extension) func(hs *serverHandshake) error {
	return afterExtensions(func(hs *serverHandshake) error {
		m, err := hs.appendMessage(nil, &tlsmsg.Certificate{Entries: []tlsmsg.CertificateEntry{{Cert: hs.cert.Certificate[0], Extensions: extensions}}})
		if err != nil {
			return err
		}
		return hs.send(m)
	})
}

var plainCCS = []byte{20, 3, 3, 0, 1, 1}

// spec: TLS-8 TLS-14 TLS-15 TLS-16 TLS-17 INS-6 INS-7
func TestClientRefusesWhatAServerMustNotSend(t *testing.T) {
	message := func(t tlsmsg.HandshakeType, body ...byte) []byte {
		return append([]byte{byte(t), 0, 0, byte(len(body))}, body...)
	}
	for _, c := range []struct {
		name   string
		script func(hs *serverHandshake) error
		alert  tlsmsg.Alert
	}{
		{"extension that was not offered", withExtensions(func(x *tlsmsg.ExtensionBuilder) { x.Raw(0xabcd, nil) }), tlsmsg.AlertUnsupportedExtension},
		{"inspection that was not offered", withExtensions(func(x *tlsmsg.ExtensionBuilder) { x.InspectionAnswer(testAnswer()) }), tlsmsg.AlertUnsupportedExtension},
		{"early_data that was not offered", withExtensions(func(x *tlsmsg.ExtensionBuilder) { x.Raw(tlsmsg.ExtensionEarlyData, nil) }), tlsmsg.AlertUnsupportedExtension},
		{"extension of ServerHello in EncryptedExtensions", withExtensions(func(x *tlsmsg.ExtensionBuilder) { x.SelectedVersion(tlsmsg.VersionTLS13) }), tlsmsg.AlertIllegalParameter},
		{"extension of Certificate in EncryptedExtensions", withExtensions(func(x *tlsmsg.ExtensionBuilder) { x.SCTRequest() }), tlsmsg.AlertIllegalParameter},
		{"protocol that was not offered", withExtensions(func(x *tlsmsg.ExtensionBuilder) { x.ALPN("h2") }), tlsmsg.AlertIllegalParameter},
		{"two protocols", withExtensions(func(x *tlsmsg.ExtensionBuilder) { x.ALPN("http/1.1", "h2") }), tlsmsg.AlertIllegalParameter},
		{"extension twice", withExtensions(func(x *tlsmsg.ExtensionBuilder) {
			x.ALPN("http/1.1")
			x.ALPN("http/1.1")
		}), tlsmsg.AlertIllegalParameter},
		{"Certificate before EncryptedExtensions", func(hs *serverHandshake) error {
			m, err := hs.appendCertificate(nil, hs.cert, false, false)
			if err != nil {
				return err
			}
			return hs.send(m)
		}, tlsmsg.AlertUnexpectedMessage},
		{"EncryptedExtensions twice", afterExtensions(func(hs *serverHandshake) error {
			return hs.send(message(tlsmsg.TypeEncryptedExtensions, 0, 0))
		}), tlsmsg.AlertUnexpectedMessage},
		{"Finished without a certificate", afterExtensions(func(hs *serverHandshake) error {
			m, err := hs.appendFinished(nil, hs.keys.server)
			if err != nil {
				return err
			}
			return hs.send(m)
		}), tlsmsg.AlertUnexpectedMessage},
		{"KeyUpdate in the handshake", afterExtensions(func(hs *serverHandshake) error {
			return hs.send(message(tlsmsg.TypeKeyUpdate, 0))
		}), tlsmsg.AlertUnexpectedMessage},
		{"compressed certificate", afterExtensions(func(hs *serverHandshake) error {
			return hs.send(message(tlsmsg.TypeCompressedCertificate, 0))
		}), tlsmsg.AlertUnexpectedMessage},
		{"request with a context", afterExtensions(func(hs *serverHandshake) error {
			m, err := hs.appendMessage(nil, &tlsmsg.CertificateRequest{Context: []byte{1}, Extensions: built(func(x *tlsmsg.ExtensionBuilder) { x.SignatureAlgorithms(tlsmsg.Schemes()) })})
			if err != nil {
				return err
			}
			return hs.send(m)
		}), tlsmsg.AlertIllegalParameter},
		{"request of RFC 9261", afterExtensions(func(hs *serverHandshake) error {
			m, err := (&tlsmsg.CertificateRequest{Type: tlsmsg.TypeClientCertificateRequest, Extensions: built(func(x *tlsmsg.ExtensionBuilder) { x.SignatureAlgorithms(tlsmsg.Schemes()) })}).Append(nil)
			if err != nil {
				return err
			}
			return hs.send(m)
		}), tlsmsg.AlertUnexpectedMessage},
		{"empty Certificate", afterExtensions(func(hs *serverHandshake) error {
			return hs.send(message(tlsmsg.TypeCertificate, 0, 0, 0, 0))
		}), tlsmsg.AlertDecodeError},
		{"Certificate with a context", afterExtensions(func(hs *serverHandshake) error {
			return hs.send(message(tlsmsg.TypeCertificate, 1, 9, 0, 0, 0))
		}), tlsmsg.AlertIllegalParameter},
		{"extension beside the certificate", certificateWith([]tlsmsg.Extension{{Type: 0xabcd}}), tlsmsg.AlertUnsupportedExtension},
		{"inspection beside the certificate", certificateWith(built(func(x *tlsmsg.ExtensionBuilder) { x.InspectionAnswer(testAnswer()) })), tlsmsg.AlertIllegalParameter},
		{"signature for the client's role", afterCertificate(func(hs *serverHandshake) error {
			m, err := hs.appendCertificateVerify(nil, hs.cert, hs.scheme, clientVerifyContext)
			if err != nil {
				return err
			}
			return hs.send(m)
		}), tlsmsg.AlertDecryptError},
		{"signature over another transcript", afterCertificate(func(hs *serverHandshake) error {
			hs.transcript.Write([]byte{0})
			m, err := hs.appendCertificateVerify(nil, hs.cert, hs.scheme, serverVerifyContext)
			if err != nil {
				return err
			}
			return hs.send(m)
		}), tlsmsg.AlertDecryptError},
		{"signature by a scheme that the key does not fit", afterCertificate(func(hs *serverHandshake) error {
			m, err := hs.appendMessage(nil, &tlsmsg.CertificateVerify{Scheme: tls.PKCS1WithSHA256, Signature: make([]byte, 64)})
			if err != nil {
				return err
			}
			return hs.send(m)
		}), tlsmsg.AlertIllegalParameter},
		{"Finished in the place of CertificateVerify", afterCertificate(func(hs *serverHandshake) error {
			m, err := hs.appendFinished(nil, hs.keys.server)
			if err != nil {
				return err
			}
			return hs.send(m)
		}), tlsmsg.AlertUnexpectedMessage},
		{"Finished under the client's secret", afterCertificate(func(hs *serverHandshake) error {
			m, err := hs.appendCertificateVerify(nil, hs.cert, hs.scheme, serverVerifyContext)
			if err == nil {
				m, err = hs.appendFinished(m, hs.keys.client)
			}
			if err != nil {
				return err
			}
			return hs.send(m)
		}), tlsmsg.AlertDecryptError},
		{"message that spans Finished and the next keys", func(hs *serverHandshake) error {
			list, err := hs.flightMessages()
			if err != nil {
				return err
			}
			list[len(list)-1] = append(list[len(list)-1], message(tlsmsg.TypeNewSessionTicket)[:3]...)
			return hs.send(list...)
		}, tlsmsg.AlertUnexpectedMessage},
		{"application data before Finished", afterExtensions(func(hs *serverHandshake) error {
			return hs.record(tlsmsg.TypeApplicationData, []byte("early"))
		}), tlsmsg.AlertUnexpectedMessage},
		{"application data inside a message", afterExtensions(func(hs *serverHandshake) error {
			if err := hs.queue(message(tlsmsg.TypeCertificate)[:2]); err != nil {
				return err
			}
			return hs.record(tlsmsg.TypeApplicationData, []byte("early"))
		}), tlsmsg.AlertUnexpectedMessage},
		{"change_cipher_spec inside a message", afterExtensions(func(hs *serverHandshake) error {
			if err := hs.queue(message(tlsmsg.TypeCertificate)[:2]); err != nil {
				return err
			}
			return hs.raw(plainCCS)
		}), tlsmsg.AlertUnexpectedMessage},
		{"close_notify inside a message", afterExtensions(func(hs *serverHandshake) error {
			if err := hs.queue(message(tlsmsg.TypeCertificate)[:2]); err != nil {
				return err
			}
			return hs.record(tlsmsg.TypeAlert, []byte{1, 0})
		}), tlsmsg.AlertUnexpectedMessage},
		{"empty handshake record", func(hs *serverHandshake) error { return hs.record(tlsmsg.TypeHandshake, nil) }, tlsmsg.AlertUnexpectedMessage},
		{"protected change_cipher_spec", func(hs *serverHandshake) error { return hs.record(tlsmsg.TypeChangeCipherSpec, []byte{1}) }, tlsmsg.AlertUnexpectedMessage},
		{"record of an unknown type inside", func(hs *serverHandshake) error { return hs.record(26, []byte{1}) }, tlsmsg.AlertUnexpectedMessage},
		{"unprotected handshake record", func(hs *serverHandshake) error { return hs.raw([]byte{22, 3, 3, 0, 6, 8, 0, 0, 2, 0, 0}) }, tlsmsg.AlertUnexpectedMessage},
		{"unprotected alert", func(hs *serverHandshake) error { return hs.raw([]byte{21, 3, 3, 0, 2, 2, 40}) }, tlsmsg.AlertUnexpectedMessage},
		{"change_cipher_spec of another value", func(hs *serverHandshake) error { return hs.raw([]byte{20, 3, 3, 0, 1, 2}) }, tlsmsg.AlertUnexpectedMessage},
		{"change_cipher_spec of two bytes", func(hs *serverHandshake) error { return hs.raw([]byte{20, 3, 3, 0, 2, 1, 1}) }, tlsmsg.AlertUnexpectedMessage},
		{"change_cipher_spec without end", func(hs *serverHandshake) error { return hs.raw(bytes.Repeat(plainCCS, maxIdleRecords+1)) }, tlsmsg.AlertUnexpectedMessage},
		{"user_canceled without end", func(hs *serverHandshake) error {
			for range maxIdleRecords + 1 {
				if err := hs.record(tlsmsg.TypeAlert, []byte{1, byte(tlsmsg.AlertUserCanceled)}); err != nil {
					return err
				}
			}
			return nil
		}, tlsmsg.AlertUnexpectedMessage},
		{"alert of three bytes", func(hs *serverHandshake) error { return hs.record(tlsmsg.TypeAlert, []byte{2, 40, 0}) }, tlsmsg.AlertDecodeError},
		{"message above the limit", func(hs *serverHandshake) error { return hs.send([]byte{11, 1, 0, 1}) }, tlsmsg.AlertIllegalParameter},
		{"record above the limit", func(hs *serverHandshake) error { return hs.raw([]byte{23, 3, 3, 0xff, 0xff}) }, tlsmsg.AlertRecordOverflow},
		{"record of another protocol", func(hs *serverHandshake) error { return hs.raw([]byte("HTTP/1.1 200 OK")) }, tlsmsg.AlertUnexpectedMessage},
		{"record too short for a tag", func(hs *serverHandshake) error { return hs.raw([]byte{23, 3, 3, 0, 1, 0}) }, tlsmsg.AlertBadRecordMAC},
	} {
		t.Run(c.name, func(t *testing.T) {
			cc, sc := clientConfig(), serverConfig()
			cc.TLS.NextProtos, sc.TLS.NextProtos = []string{"http/1.1"}, []string{"http/1.1"}
			a, b := newPipe()
			defer a.Close()
			go scriptedServer(Server(b, sc), c.script)
			if err := Client(a, cc).Handshake(); alertOf(err) != c.alert {
				t.Errorf("got %v, want %s", err, c.alert)
			}
		})
	}
}

// The script of the table above, played honestly, succeeds: so each row fails for its own reason.
func TestAScriptedServerCanBeHonest(t *testing.T) {
	cc, sc := clientConfig(), serverConfig()
	sc.TLS.ClientAuth = tls.RequestClientCert
	a, b := newPipe()
	defer a.Close()
	go scriptedServer(Server(b, sc), func(hs *serverHandshake) error {
		if err := hs.raw(plainCCS); err != nil {
			return err
		}
		return afterFlight(func(hs *serverHandshake) error {
			if err := hs.record(tlsmsg.TypeApplicationData, []byte("half a round trip early")); err != nil {
				return err
			}
			return hs.record(tlsmsg.TypeAlert, []byte{1, 0})
		})(hs)
	})
	if got, err := io.ReadAll(Client(a, cc)); err != nil || string(got) != "half a round trip early" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestProtectedHandshakeInRecordsOfOneByte(t *testing.T) {
	cc, sc := clientConfig(), serverConfig()
	a, b := newPipe()
	defer a.Close()
	go scriptedServer(Server(b, sc), func(hs *serverHandshake) error {
		list, err := hs.flightMessages()
		if err != nil {
			return err
		}
		for _, b := range slices.Concat(list...) {
			if err := hs.record(tlsmsg.TypeHandshake, []byte{b}); err != nil {
				return err
			}
		}
		return hs.raw(nil)
	})
	if err := Client(a, cc).Handshake(); err != nil {
		t.Error(err)
	}
}

// rewriteHello lets a relay change the first ServerHello.
func rewriteHello(t *testing.T, change func(h *tlsmsg.ServerHello)) meddler {
	return func(d, n, _ int, record []byte) [][]byte {
		if d != toClient || n != 0 {
			return [][]byte{record}
		}
		h, err := tlsmsg.ParseServerHello(record[tlsmsg.RecordHeaderLen:])
		if err != nil {
			t.Error(err)
			return [][]byte{nil}
		}
		change(h)
		msg, err := h.Append(nil)
		if err != nil {
			t.Error(err)
			return [][]byte{nil}
		}
		return [][]byte{append(tlsmsg.RecordHeader{Type: tlsmsg.TypeHandshake, Version: tlsmsg.VersionTLS12, Length: len(msg)}.Append(nil), msg...)}
	}
}

// spec: TLS-1 TLS-6 TLS-8 TLS-9 INS-7
func TestClientRefusesServerHellos(t *testing.T) {
	set := func(f func(x *tlsmsg.ExtensionBuilder)) func(h *tlsmsg.ServerHello) {
		return func(h *tlsmsg.ServerHello) { h.Extensions = built(f) }
	}
	add := func(e ...tlsmsg.Extension) func(h *tlsmsg.ServerHello) {
		return func(h *tlsmsg.ServerHello) { h.Extensions = append(h.Extensions, e...) }
	}
	share := func(g tls.CurveID, data []byte) func(h *tlsmsg.ServerHello) {
		return set(func(x *tlsmsg.ExtensionBuilder) {
			x.SelectedVersion(tlsmsg.VersionTLS13)
			x.KeyShare(tlsmsg.KeyShare{Group: g, Data: data})
		})
	}
	retry := func(f func(x *tlsmsg.ExtensionBuilder)) func(h *tlsmsg.ServerHello) {
		return func(h *tlsmsg.ServerHello) {
			h.Random = tlsmsg.HelloRetryRandom()
			h.Extensions = built(func(x *tlsmsg.ExtensionBuilder) {
				x.SelectedVersion(tlsmsg.VersionTLS13)
				f(x)
			})
		}
	}
	for _, c := range []struct {
		name   string
		change func(h *tlsmsg.ServerHello)
		alert  tlsmsg.Alert
	}{
		{"encrypting suite", func(h *tlsmsg.ServerHello) { h.CipherSuite = tls.TLS_AES_128_GCM_SHA256 }, tlsmsg.AlertIllegalParameter},
		{"TLS 1.2", func(h *tlsmsg.ServerHello) { h.Extensions = nil }, tlsmsg.AlertProtocolVersion},
		{"TLS 1.2, marked as a downgrade", func(h *tlsmsg.ServerHello) {
			h.Extensions = nil
			copy(h.Random[24:], "DOWNGRD\x01")
		}, tlsmsg.AlertIllegalParameter},
		{"TLS 1.2 in supported_versions", set(func(x *tlsmsg.ExtensionBuilder) { x.SelectedVersion(tlsmsg.VersionTLS12) }), tlsmsg.AlertIllegalParameter},
		{"other legacy version", func(h *tlsmsg.ServerHello) { h.LegacyVersion = tlsmsg.VersionTLS13 }, tlsmsg.AlertIllegalParameter},
		{"session ID that was not sent", func(h *tlsmsg.ServerHello) { h.SessionID = []byte{1} }, tlsmsg.AlertIllegalParameter},
		{"compression", func(h *tlsmsg.ServerHello) { h.Compression = 1 }, tlsmsg.AlertIllegalParameter},
		{"no key_share", set(func(x *tlsmsg.ExtensionBuilder) { x.SelectedVersion(tlsmsg.VersionTLS13) }), tlsmsg.AlertMissingExtension},
		{"share of a group that was not shared", share(tls.CurveP256, make([]byte, 65)), tlsmsg.AlertIllegalParameter},
		{"share of zeros", share(tls.X25519, make([]byte, 32)), tlsmsg.AlertIllegalParameter},
		{"short share", share(tls.X25519, make([]byte, 31)), tlsmsg.AlertIllegalParameter},
		{"pre_shared_key", add(tlsmsg.Extension{Type: tlsmsg.ExtensionPreSharedKey, Data: []byte{0, 0}}), tlsmsg.AlertUnsupportedExtension},
		{"unknown extension", add(tlsmsg.Extension{Type: 0xabcd}), tlsmsg.AlertUnsupportedExtension},
		{"cookie", add(tlsmsg.Extension{Type: tlsmsg.ExtensionCookie, Data: []byte{0, 1, 1}}), tlsmsg.AlertUnsupportedExtension},
		{"extension of EncryptedExtensions", add(built(func(x *tlsmsg.ExtensionBuilder) { x.ALPN("http/1.1") })...), tlsmsg.AlertIllegalParameter},
		{"inspection", add(built(func(x *tlsmsg.ExtensionBuilder) { x.InspectionAnswer(testAnswer()) })...), tlsmsg.AlertIllegalParameter},
		{"retry that asks for no change", retry(func(x *tlsmsg.ExtensionBuilder) {}), tlsmsg.AlertIllegalParameter},
		{"retry for the group that was shared", retry(func(x *tlsmsg.ExtensionBuilder) { x.SelectedGroup(tls.X25519) }), tlsmsg.AlertIllegalParameter},
		{"retry for a group that was not offered", retry(func(x *tlsmsg.ExtensionBuilder) { x.SelectedGroup(tls.CurveP521) }), tlsmsg.AlertIllegalParameter},
		{"retry with an unknown extension", retry(func(x *tlsmsg.ExtensionBuilder) {
			x.SelectedGroup(tls.CurveP256)
			x.Raw(0xabcd, nil)
		}), tlsmsg.AlertUnsupportedExtension},
		{"retry with inspection", retry(func(x *tlsmsg.ExtensionBuilder) {
			x.SelectedGroup(tls.CurveP256)
			x.InspectionAnswer(testAnswer())
		}), tlsmsg.AlertIllegalParameter},
		{"retry with an encrypting suite", func(h *tlsmsg.ServerHello) {
			retry(func(x *tlsmsg.ExtensionBuilder) { x.SelectedGroup(tls.CurveP256) })(h)
			h.CipherSuite = tls.TLS_AES_128_GCM_SHA256
		}, tlsmsg.AlertIllegalParameter},
	} {
		t.Run(c.name, func(t *testing.T) {
			cc, sc := flipConfigs()
			o := play(t, cc, sc, rewriteHello(t, c.change))
			if alertOf(o.clientErr) != c.alert {
				t.Errorf("client %v, want %s", o.clientErr, c.alert)
			}
			// The client has no keys to say so with, and yet the server learns why.
			if a, ok := o.serverErr.(*AlertError); !ok || !a.Remote || a.Alert != c.alert {
				t.Errorf("server %v", o.serverErr)
			}
		})
	}
}

// retryingServer answers ClientHellos with the given hellos, in the clear, and returns what it read.
func retryingServer(c *Conn, hellos ...*tlsmsg.ServerHello) (read [][]byte, err error) {
	c.in.Lock()
	defer c.in.Unlock()
	defer c.conn.Close()
	for _, h := range hellos {
		msg, err := c.readMessage()
		if err != nil {
			return read, err
		}
		read = append(read, msg)
		b, err := h.Append(nil)
		if err != nil {
			return read, err
		}
		if err := c.record(tlsmsg.TypeHandshake, b); err != nil {
			return read, err
		}
	}
	msg, err := c.readMessage()
	return append(read, msg), err
}

func retryHello(suite uint16, f func(x *tlsmsg.ExtensionBuilder)) *tlsmsg.ServerHello {
	return &tlsmsg.ServerHello{
		LegacyVersion: tlsmsg.VersionTLS12, Random: tlsmsg.HelloRetryRandom(), CipherSuite: suite,
		Extensions: built(func(x *tlsmsg.ExtensionBuilder) {
			x.SelectedVersion(tlsmsg.VersionTLS13)
			f(x)
		}),
	}
}

// spec: TLS-6
func TestClientTakesOneRetryAndOneSuite(t *testing.T) {
	toP256 := func(suite uint16) *tlsmsg.ServerHello {
		return retryHello(suite, func(x *tlsmsg.ExtensionBuilder) { x.SelectedGroup(tls.CurveP256) })
	}
	cookie := retryHello(tlsmsg.SuiteSHA256, func(x *tlsmsg.ExtensionBuilder) { x.Cookie([]byte("cookie")) })
	other := toP256(tlsmsg.SuiteSHA384)
	other.Random = [32]byte{1}
	other.Extensions = built(func(x *tlsmsg.ExtensionBuilder) {
		x.SelectedVersion(tlsmsg.VersionTLS13)
		x.KeyShare(tlsmsg.KeyShare{Group: tls.CurveP256, Data: []byte{4}})
	})
	for name, c := range map[string]struct {
		hellos []*tlsmsg.ServerHello
		alert  tlsmsg.Alert
	}{
		"second retry":              {[]*tlsmsg.ServerHello{toP256(tlsmsg.SuiteSHA256), cookie}, tlsmsg.AlertUnexpectedMessage},
		"suite changed after retry": {[]*tlsmsg.ServerHello{toP256(tlsmsg.SuiteSHA256), other}, tlsmsg.AlertIllegalParameter},
	} {
		a, b := newPipe()
		go retryingServer(Server(b, serverConfig()), c.hellos...)
		if err := Client(a, clientConfig()).Handshake(); alertOf(err) != c.alert {
			t.Errorf("%s: %v", name, err)
		}
		a.Close()
	}
}

// spec: INS-10
func TestTheSecondClientHelloChangesNothingElse(t *testing.T) {
	for _, c := range []struct {
		name   string
		retry  func(x *tlsmsg.ExtensionBuilder)
		group  tls.CurveID
		cookie string
	}{
		{"group", func(x *tlsmsg.ExtensionBuilder) { x.SelectedGroup(tls.CurveP256) }, tls.CurveP256, ""},
		{"cookie", func(x *tlsmsg.ExtensionBuilder) { x.Cookie([]byte("cookie")) }, tls.X25519, "cookie"},
		{"both", func(x *tlsmsg.ExtensionBuilder) {
			x.Cookie([]byte("cookie"))
			x.SelectedGroup(tls.CurveP256)
		}, tls.CurveP256, "cookie"},
	} {
		cc := clientConfig()
		cc.Inspection = testOffer(testName + ":443")
		a, b := newPipe()
		var read [][]byte
		var readErr error
		done := make(chan struct{})
		go func() {
			defer close(done)
			read, readErr = retryingServer(Server(b, serverConfig()), retryHello(tlsmsg.SuiteSHA256, c.retry))
		}()
		err := Client(a, cc).Handshake()
		<-done
		if !errors.Is(err, ErrTruncated) || readErr != nil || len(read) != 2 {
			t.Fatalf("%s: client %v, server %v", c.name, err, readErr)
		}
		first, err := tlsmsg.ParseClientHello(read[0])
		if err != nil {
			t.Fatal(err)
		}
		second, err := tlsmsg.ParseClientHello(read[1])
		if err != nil {
			t.Fatal(err)
		}
		if len(second.KeyShares) != 1 || second.KeyShares[0].Group != c.group || string(second.Cookie) != c.cookie {
			t.Errorf("%s: shares %v, cookie %q", c.name, second.KeyShares, second.Cookie)
		}
		if same := bytes.Equal(first.KeyShares[0].Data, second.KeyShares[0].Data); same != (c.group == tls.X25519) {
			t.Errorf("%s: same share: %v", c.name, same)
		}
		second.Extensions = slices.DeleteFunc(second.Extensions, func(e tlsmsg.Extension) bool { return e.Type == tlsmsg.ExtensionCookie })
		if !unchanged(first, second) {
			t.Errorf("%s: the second ClientHello differs:\n%+v\n%+v", c.name, first, second)
		}
	}
}

// spec: TLS-1 TLS-9
func TestClientHelloOffersNothingThatEncrypts(t *testing.T) {
	a, b := newPipe()
	b.CloseWrite()
	if err := Client(a, clientConfig()).Handshake(); !errors.Is(err, ErrTruncated) {
		t.Fatal(err)
	}
	list := records(t, b.take())
	h, err := tlsmsg.ParseClientHello(list[0][tlsmsg.RecordHeaderLen:])
	if err != nil || len(list) != 1 {
		t.Fatalf("%d records, %v", len(list), err)
	}
	if !slices.Equal(h.CipherSuites, []uint16{tlsmsg.SuiteSHA256, tlsmsg.SuiteSHA384}) || !slices.Equal(h.SupportedVersions, []uint16{tlsmsg.VersionTLS13}) ||
		h.HasPSK || h.PSKModes != nil || h.EarlyData || h.ECH || len(h.SessionID) > 0 || h.Inspection != nil {
		t.Errorf("offered %+v", h)
	}
}
