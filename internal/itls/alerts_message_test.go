package itls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"vitrine/internal/tlsmsg"
)

// messageScenes are those of messages that either role may send.
func messageScenes() []scene {
	schemes := built(func(x *tlsmsg.ExtensionBuilder) { x.SignatureAlgorithms(tlsmsg.Schemes()) })
	twice := append(slices.Clone(schemes), schemes...)
	later := func(row int, name string, message []byte) []scene {
		return forBoth(row, name, func(role string) script {
			return afterwards(role, func(t *testing.T, from, to *Conn) { from.sendHandshake(t, message) })
		})
	}
	request := func(context []byte, list []tlsmsg.Extension) []byte {
		return mustAppend(&tlsmsg.CertificateRequest{Context: context, Extensions: list})
	}
	certificate := func(context []byte, entries ...tlsmsg.CertificateEntry) func() []byte {
		return func() []byte {
			for i := range entries {
				if entries[i].Cert == nil {
					entries[i].Cert = identities().server.Certificate[0]
				}
			}
			return mustAppend(&tlsmsg.Certificate{Context: context, Entries: entries})
		}
	}
	// verify sends CertificateVerify behind an honest Certificate.
	verify := func(row int, name string, m *tlsmsg.CertificateVerify) []scene {
		return []scene{
			{row, "client", name, clientGetsFlight(afterCertificate(func(hs *serverHandshake) error { return hs.send(mustAppend(m)) }))},
			{row, "server", name, serverGetsFlight(func(hs *clientHandshake) error {
				cert := identities().client
				b, err := hs.appendCertificate(nil, &cert, false, false)
				if err != nil {
					return err
				}
				return hs.record(tlsmsg.TypeHandshake, append(b, mustAppend(m)...))
			}, asking)},
		}
	}
	finished := func(row int, name string, data []byte) []scene {
		m := mustAppend(&tlsmsg.Finished{VerifyData: data})
		return []scene{
			{row, "client", name, clientGetsFlight(afterCertificate(func(hs *serverHandshake) error {
				v, err := hs.appendCertificateVerify(nil, hs.cert, hs.scheme, serverVerifyContext)
				if err != nil {
					return err
				}
				return hs.send(append(v, m...))
			}))},
			{row, "server", name, serverGetsFlight(func(hs *clientHandshake) error { return hs.record(tlsmsg.TypeHandshake, m) })},
		}
	}
	many := func(n int) (entries []tlsmsg.CertificateEntry) {
		for range n {
			entries = append(entries, tlsmsg.CertificateEntry{Cert: []byte{0x30, 0}})
		}
		return entries
	}
	// seventeen certificates, which Append does not write.
	seventeen := func() []byte {
		list := slices.Concat(slices.Repeat([][]byte{{0, 0, 2, 0x30, 0, 0, 0}}, 17)...)
		return handshakeMessage(tlsmsg.TypeCertificate, append([]byte{0, 0, 0, byte(len(list))}, list...)...)
	}
	return slices.Concat(
		inFlight(2, "EndOfEarlyData", handshakeMessage(tlsmsg.TypeEndOfEarlyData)),
		inFlight(2, "message_hash", handshakeMessage(tlsmsg.TypeMessageHash, make([]byte, 32)...)),
		inFlight(2, "KeyUpdate in the handshake", handshakeMessage(tlsmsg.TypeKeyUpdate, 0)),
		inFlight(2, "NewSessionTicket in the handshake", mustAppend(&tlsmsg.NewSessionTicket{Ticket: []byte("t")})),
		inFlight(2, "CompressedCertificate", handshakeMessage(tlsmsg.TypeCompressedCertificate, 0)),
		inFlight(2, "a type that does not exist", handshakeMessage(99)),
		later(2, "a new handshake", handshakeMessage(tlsmsg.TypeClientHello)),
		later(2, "HelloRequest", handshakeMessage(0)),
		later(2, "CertificateRequest", request([]byte{1}, schemes)),
		[]scene{
			{2, "server", "NewSessionTicket", afterwards("server", func(t *testing.T, from, to *Conn) {
				from.sendHandshake(t, mustAppend(&tlsmsg.NewSessionTicket{Ticket: []byte("t")}))
			})},
			{2, "client", "CertificateRequest in a resumption", resumingClientGetsFlight(func(hs *serverHandshake) error {
				m, err := hs.appendExtensions(nil)
				if err != nil {
					return err
				}
				return hs.send(append(m, request(nil, schemes)...))
			})},
		},
		inFlight(23, "message", []byte{byte(tlsmsg.TypeCertificate), 1, 0, 1}),
		later(23, "later", []byte{byte(tlsmsg.TypeKeyUpdate), 1, 0, 1}),
		inCertificate(23, "certificates", seventeen),
		inCertificate(24, "twice", certificate(nil, tlsmsg.CertificateEntry{Extensions: twice})),
		inCertificate(24, "offered, and not for Certificate", certificate(nil, tlsmsg.CertificateEntry{Extensions: schemes})),
		inCertificate(24, "inspection beside a certificate", certificate(nil, tlsmsg.CertificateEntry{Extensions: built(func(x *tlsmsg.ExtensionBuilder) { x.InspectionAnswer(testAnswer()) })})),
		inCertificate(26, "Certificate", certificate([]byte{1}, tlsmsg.CertificateEntry{})),
		[]scene{
			{24, "client", "in CertificateRequest", clientGetsFlight(afterExtensions(func(hs *serverHandshake) error {
				return hs.send(request(nil, append(slices.Clone(schemes), tlsmsg.Extension{Type: tlsmsg.ExtensionSupportedVersions})))
			}))},
			{24, "client", "in NewSessionTicket", afterwards("client", func(t *testing.T, from, to *Conn) {
				from.sendHandshake(t, mustAppend(&tlsmsg.NewSessionTicket{Ticket: []byte("t"), Extensions: schemes}))
			})},
			{26, "client", "CertificateRequest", clientGetsFlight(afterExtensions(func(hs *serverHandshake) error {
				return hs.send(request([]byte{1}, schemes))
			}))},
			{43, "client", "empty", clientGetsFlight(afterExtensions(func(hs *serverHandshake) error {
				return hs.send(handshakeMessage(tlsmsg.TypeCertificate, 0, 0, 0, 0))
			}))},
		},
		verify(27, "PKCS #1", &tlsmsg.CertificateVerify{Scheme: tls.PKCS1WithSHA256, Signature: make([]byte, 64)}),
		verify(27, "another key's", &tlsmsg.CertificateVerify{Scheme: tls.Ed25519, Signature: make([]byte, 64)}),
		verify(27, "another curve's", &tlsmsg.CertificateVerify{Scheme: tls.ECDSAWithP384AndSHA384, Signature: make([]byte, 64)}),
		later(28, "KeyUpdate", handshakeMessage(tlsmsg.TypeKeyUpdate, 2)),
		finished40(),
		inCertificate(40, "cut", func() []byte { return handshakeMessage(tlsmsg.TypeCertificate, 0, 0, 0, 1) }),
		inCertificate(40, "empty certificate", func() []byte { return handshakeMessage(tlsmsg.TypeCertificate, 0, 0, 0, 5, 0, 0, 0, 0, 0) }),
		inCertificate(40, "followed by more", func() []byte {
			return handshakeMessage(tlsmsg.TypeCertificate, append(certificate(nil, many(1)...)()[4:], 0)...)
		}),
		later(40, "KeyUpdate", handshakeMessage(tlsmsg.TypeKeyUpdate, 0, 0)),
		finished(42, "of another suite", make([]byte, 48)),
		verify(44, "over something else", &tlsmsg.CertificateVerify{Scheme: tls.ECDSAWithP256AndSHA256, Signature: otherSignature()}),
		verify(44, "empty", &tlsmsg.CertificateVerify{Scheme: tls.ECDSAWithP256AndSHA256}),
		finished(45, "zeros", make([]byte, 32)),
	)
}

// finished40 is Finished as long as no hash.
func finished40() []scene {
	m := handshakeMessage(tlsmsg.TypeFinished, 9)
	return []scene{
		{40, "client", "Finished", clientGetsFlight(afterCertificate(func(hs *serverHandshake) error {
			v, err := hs.appendCertificateVerify(nil, hs.cert, hs.scheme, serverVerifyContext)
			if err != nil {
				return err
			}
			return hs.send(append(v, m...))
		}))},
		{40, "server", "Finished", serverGetsFlight(func(hs *clientHandshake) error { return hs.record(tlsmsg.TypeHandshake, m) })},
	}
}

func otherSignature() []byte {
	sig, err := tlsmsg.Sign(rand.Reader, identities().server.PrivateKey.(*ecdsa.PrivateKey), tls.ECDSAWithP256AndSHA256, []byte("something else"))
	if err != nil {
		panic(err)
	}
	return sig
}

// resumingClientGetsFlight has a client resume with a server that does as it likes behind ServerHello.
func resumingClientGetsFlight(behind func(hs *serverHandshake) error) script {
	return func(t *testing.T, s *stage) error {
		cc, sc := clientConfig(), serverConfig()
		cc.Sessions, sc.Tickets = new(SessionCache), new(TicketKeys)
		client, server := connect(t, cc, sc)
		exchange(t, client, server)
		a, b := newPipe()
		defer a.Close()
		s.watch(a)
		done := make(chan bool)
		go func() {
			c := Server(b, sc)
			scriptedServer(c, behind)
			done <- c.state.DidResume
		}()
		err := Client(a, cc).Handshake()
		if !<-done {
			t.Error("the server did not resume")
		}
		return err
	}
}

// certificateScenes are those of certificates, of either role.
func certificateScenes() []scene {
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		panic(err)
	}
	// shown has the end that is not under test show a certificate.
	shown := func(row int, name string, cert func(t *testing.T, usage x509.ExtKeyUsage) tls.Certificate) []scene {
		return forBoth(row, name, func(role string) script {
			return configs(role, func(t *testing.T, cc, sc *Config) {
				if role == "client" {
					sc.TLS.Certificates = []tls.Certificate{cert(t, x509.ExtKeyUsageServerAuth)}
					return
				}
				cc.TLS.Certificates = []tls.Certificate{cert(t, x509.ExtKeyUsageClientAuth)}
				sc.TLS.ClientAuth, sc.TLS.ClientCAs = tls.RequireAndVerifyClientCert, identities().root.pool
			})
		})
	}
	issued := func(p profile) func(t *testing.T, usage x509.ExtKeyUsage) tls.Certificate {
		return func(t *testing.T, usage x509.ExtKeyUsage) tls.Certificate {
			p.names = []string{testName}
			if p.usage == 0 {
				p.usage = usage
			}
			return identities().root.issue(t, p)
		}
	}
	callback := func(name string, set func(t *tls.Config)) []scene {
		return forBoth(18, name, func(role string) script {
			return configs(role, func(t *testing.T, cc, sc *Config) {
				cc.TLS.Certificates = []tls.Certificate{identities().client}
				sc.TLS.ClientAuth, sc.TLS.ClientCAs = tls.RequireAndVerifyClientCert, identities().root.pool
				if role == "client" {
					set(cc.TLS)
				} else {
					set(sc.TLS)
				}
			})
		})
	}
	return slices.Concat(
		inCertificate(18, "no DER", func() []byte {
			return mustAppend(&tlsmsg.Certificate{Entries: []tlsmsg.CertificateEntry{{Cert: []byte("not DER")}}})
		}),
		shown(18, "a key that is slow to verify by", func(t *testing.T, usage x509.ExtKeyUsage) tls.Certificate {
			cert := issued(profile{})(t, usage)
			cert.Certificate = append(cert.Certificate, hugeAuthority(t, 8193))
			return cert
		}),
		callback("VerifyPeerCertificate", func(t *tls.Config) {
			t.VerifyPeerCertificate = func([][]byte, [][]*x509.Certificate) error { return errTest }
		}),
		callback("VerifyConnection", func(t *tls.Config) {
			t.VerifyConnection = func(tls.ConnectionState) error { return errTest }
		}),
		[]scene{
			{18, "client", "another name", configs("client", func(t *testing.T, cc, sc *Config) { cc.TLS.ServerName = "other.example" })},
			{18, "server", "another purpose", configs("server", func(t *testing.T, cc, sc *Config) {
				cc.TLS.Certificates = []tls.Certificate{identities().server}
				sc.TLS.ClientAuth, sc.TLS.ClientCAs = tls.RequireAndVerifyClientCert, identities().root.pool
			})},
			{22, "server", "verified", configs("server", func(t *testing.T, cc, sc *Config) {
				sc.TLS.ClientAuth, sc.TLS.ClientCAs = tls.RequireAndVerifyClientCert, identities().root.pool
			})},
			{22, "server", "any", configs("server", func(t *testing.T, cc, sc *Config) { sc.TLS.ClientAuth = tls.RequireAnyClientCert })},
		},
		inCertificate(19, "P-224", func() []byte {
			var t fataler
			cert := identities().root.issue(&t, profile{names: []string{testName}, key: p224})
			return mustAppend(&tlsmsg.Certificate{Entries: []tlsmsg.CertificateEntry{{Cert: cert.Certificate[0]}}})
		}),
		shown(19, "a key that is not to sign", func(t *testing.T, usage x509.ExtKeyUsage) tls.Certificate {
			return identities().root.issue(t, profile{names: []string{testName}, usage: usage, keyUsage: x509.KeyUsageKeyEncipherment})
		}),
		shown(20, "expired", issued(profile{notAfter: time.Now().Add(-time.Minute)})),
		shown(21, "a false root of the same name", func(t *testing.T, usage x509.ExtKeyUsage) tls.Certificate {
			return newAuthority(t, "test root").issue(t, profile{names: []string{testName}, usage: usage})
		}),
	)
}
