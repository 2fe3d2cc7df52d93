package itls

import (
	"bytes"
	"crypto/tls"
	"slices"
	"testing"

	"vitrine/internal/tlsmsg"
)

func set(f func(x *tlsmsg.ExtensionBuilder)) func(h *tlsmsg.ServerHello) {
	return func(h *tlsmsg.ServerHello) { h.Extensions = built(f) }
}

// clientScenes are those that only a client comes upon.
func clientScenes() []scene {
	hello := func(row int, name string, change func(h *tlsmsg.ServerHello)) scene {
		return scene{row, "client", name, clientGetsHello(plainHello(change))}
	}
	withShare := func(g tls.CurveID, data []byte) func(h *tlsmsg.ServerHello) {
		return set(func(x *tlsmsg.ExtensionBuilder) {
			x.SelectedVersion(tlsmsg.VersionTLS13)
			x.KeyShare(tlsmsg.KeyShare{Group: g, Data: data})
		})
	}
	added := func(e ...tlsmsg.Extension) func(h *tlsmsg.ServerHello) {
		return func(h *tlsmsg.ServerHello) { h.Extensions = append(h.Extensions, e...) }
	}
	retry := func(f func(x *tlsmsg.ExtensionBuilder)) *tlsmsg.ServerHello { return retryHello(tlsmsg.SuiteSHA256, f) }
	toP256 := func(x *tlsmsg.ExtensionBuilder) { x.SelectedGroup(tls.CurveP256) }
	extensions := func(row int, name string, f func(x *tlsmsg.ExtensionBuilder), change ...func(cc, sc *Config)) scene {
		return scene{row, "client", name, clientGetsFlight(withExtensions(f), change...)}
	}
	protocol := func(cc, _ *Config) { cc.TLS.NextProtos = []string{"a"} }
	beside := func(row int, name string, e tlsmsg.Extension) scene {
		return scene{row, "client", name, clientGetsFlight(certificateWith([]tlsmsg.Extension{e}))}
	}
	return []scene{
		{2, "client", "another message in place of ServerHello", clientGets(plainRecord(tlsmsg.TypeHandshake, handshakeMessage(tlsmsg.TypeEncryptedExtensions, 0, 0)))},
		{12, "client", "for another group", clientGetsHello(retry(toP256), retry(func(x *tlsmsg.ExtensionBuilder) { x.SelectedGroup(tls.CurveP384) }))},
		{12, "client", "with a cookie", clientGetsHello(retry(toP256), retry(func(x *tlsmsg.ExtensionBuilder) { x.Cookie([]byte("c")) }))},
		hello(24, "twice in ServerHello", added(built(func(x *tlsmsg.ExtensionBuilder) { x.SelectedVersion(tlsmsg.VersionTLS13) })...)),
		hello(24, "ALPN in ServerHello", added(tlsmsg.Extension{Type: tlsmsg.ExtensionSCT})),
		extensions(24, "key_share in EncryptedExtensions", func(x *tlsmsg.ExtensionBuilder) { x.SelectedGroup(tls.X25519) }),
		hello(25, "zeros", withShare(tls.X25519, make([]byte, 32))),
		hello(25, "short", withShare(tls.X25519, make([]byte, 31))),
		{25, "client", "off the curve", func(t *testing.T, s *stage) error {
			cc := clientConfig()
			cc.Groups = []tls.CurveID{tls.CurveP384}
			return answerHello(cc, s, plainHello(withShare(tls.CurveP384, append([]byte{4}, make([]byte, 96)...))))
		}},
		{25, "client", "no ML-KEM ciphertext", func(t *testing.T, s *stage) error {
			cc := clientConfig()
			cc.Groups = []tls.CurveID{tls.X25519MLKEM768}
			return answerHello(cc, s, plainHello(withShare(tls.X25519MLKEM768, make([]byte, 1087))))
		}},
		extensions(35, "below 64", func(x *tlsmsg.ExtensionBuilder) { x.RecordSizeLimit(63) }),
		extensions(35, "above 16,385", func(x *tlsmsg.ExtensionBuilder) { x.RecordSizeLimit(16386) }),
		hello(36, "version", set(func(x *tlsmsg.ExtensionBuilder) { x.SelectedVersion(tlsmsg.VersionTLS12) })),
		hello(36, "draft", set(func(x *tlsmsg.ExtensionBuilder) { x.SelectedVersion(0x7f1c) })),
		hello(36, "suite", func(h *tlsmsg.ServerHello) { h.CipherSuite = tls.TLS_AES_128_GCM_SHA256 }),
		hello(36, "compression", func(h *tlsmsg.ServerHello) { h.Compression = 1 }),
		hello(36, "session ID", func(h *tlsmsg.ServerHello) { h.SessionID = make([]byte, 32) }),
		hello(36, "group", withShare(tls.CurveP256, make([]byte, 65))),
		hello(36, "legacy version", func(h *tlsmsg.ServerHello) { h.LegacyVersion = tlsmsg.VersionTLS13 }),
		hello(36, "downgrade", func(h *tlsmsg.ServerHello) {
			h.Extensions = nil
			copy(h.Random[24:], "DOWNGRD\x01")
		}),
		{36, "client", "pre-shared key", resumingClientGetsHello(func(h *tlsmsg.ServerHello) {
			h.Extensions = append(h.Extensions, tlsmsg.Extension{Type: tlsmsg.ExtensionPreSharedKey, Data: []byte{0, 1}})
		})},
		{36, "client", "pre-shared key of another suite", resumingClientGetsHello(func(h *tlsmsg.ServerHello) {
			h.CipherSuite = tlsmsg.SuiteSHA384
			h.Extensions = append(h.Extensions, tlsmsg.Extension{Type: tlsmsg.ExtensionPreSharedKey, Data: []byte{0, 0}})
		})},
		{37, "client", "no change", clientGetsHello(retry(func(x *tlsmsg.ExtensionBuilder) {}))},
		{37, "client", "the group that was shared", clientGetsHello(retry(func(x *tlsmsg.ExtensionBuilder) { x.SelectedGroup(tls.X25519) }))},
		{37, "client", "a group that was not offered", clientGetsHello(retry(func(x *tlsmsg.ExtensionBuilder) { x.SelectedGroup(tls.CurveP521) }))},
		{37, "client", "another suite", clientGetsHello(retry(toP256), plainHello(func(h *tlsmsg.ServerHello) { h.CipherSuite = tlsmsg.SuiteSHA384 }))},
		extensions(38, "not offered", func(x *tlsmsg.ExtensionBuilder) { x.ALPN("b") }, protocol),
		extensions(38, "two", func(x *tlsmsg.ExtensionBuilder) { x.ALPN("a", "a") }, protocol),
		hello(40, "cut key_share", added(tlsmsg.Extension{Type: tlsmsg.ExtensionPreSharedKey, Data: []byte{0}})),
		extensions(40, "server_name with content", func(x *tlsmsg.ExtensionBuilder) { x.Raw(tlsmsg.ExtensionServerName, []byte{0}) }),
		extensions(40, "no supported_groups", func(x *tlsmsg.ExtensionBuilder) { x.SupportedGroups(nil) }),
		beside(40, "empty OCSP response", tlsmsg.Extension{Type: tlsmsg.ExtensionStatusRequest, Data: []byte{1, 0, 0, 0}}),
		hello(47, "TLS 1.2", func(h *tlsmsg.ServerHello) { h.Extensions = nil }),
		hello(47, "SSL 3.0", func(h *tlsmsg.ServerHello) { h.LegacyVersion = tlsmsg.VersionSSL3 }),
		hello(50, "ServerHello", set(func(x *tlsmsg.ExtensionBuilder) { x.SelectedVersion(tlsmsg.VersionTLS13) })),
		{50, "client", "CertificateRequest", clientGetsFlight(afterExtensions(func(hs *serverHandshake) error {
			return hs.send(handshakeMessage(tlsmsg.TypeCertificateRequest, 0, 0, 0))
		}))},
		hello(51, "ServerHello", added(tlsmsg.Extension{Type: 0x2a2a})),
		hello(51, "pre_shared_key", added(tlsmsg.Extension{Type: tlsmsg.ExtensionPreSharedKey, Data: []byte{0, 0}})),
		hello(51, "cookie in ServerHello", added(tlsmsg.Extension{Type: tlsmsg.ExtensionCookie, Data: []byte{0, 1, 0}})),
		{51, "client", "HelloRetryRequest", clientGetsHello(retry(func(x *tlsmsg.ExtensionBuilder) {
			toP256(x)
			x.Raw(0x2a2a, nil)
		}))},
		extensions(51, "EncryptedExtensions", func(x *tlsmsg.ExtensionBuilder) { x.Raw(0x2a2a, nil) }),
		extensions(51, "early_data", func(x *tlsmsg.ExtensionBuilder) { x.Raw(tlsmsg.ExtensionEarlyData, nil) }),
		extensions(51, "inspection", func(x *tlsmsg.ExtensionBuilder) { x.InspectionAnswer(testAnswer()) }),
		beside(51, "Certificate", tlsmsg.Extension{Type: 0x2a2a}),
		{54, "client", "none is chosen in a tunnel", configs("client", func(t *testing.T, cc, sc *Config) {
			cc.RequireALPN, cc.TLS.NextProtos = true, []string{"a"}
		})},
	}
}

// resumingClientGetsHello has a client that offers a session read a changed ServerHello.
func resumingClientGetsHello(change func(h *tlsmsg.ServerHello)) script {
	return func(t *testing.T, s *stage) error {
		cc, sc := clientConfig(), serverConfig()
		cc.Sessions, sc.Tickets = new(SessionCache), new(TicketKeys)
		client, server := connect(t, cc, sc)
		exchange(t, client, server)
		return answerHello(cc, s, plainHello(change))
	}
}

// serverScenes are those that only a server comes upon.
func serverScenes() []scene {
	replaced := func(row int, name string, f func(x *tlsmsg.ExtensionBuilder), configure ...func(sc *Config)) scene {
		return scene{row, "server", name, serverGetsHello(func(h *tlsmsg.ClientHello) { replaceExtension(h, built(f)...) }, configure...)}
	}
	changed := func(row int, name string, change func(h *tlsmsg.ClientHello)) scene {
		return scene{row, "server", name, serverGetsHello(change)}
	}
	removed := func(row int, name string, id uint16) scene {
		return changed(row, name, func(h *tlsmsg.ClientHello) { removeExtension(h, id) })
	}
	raw := func(row int, name string, id uint16, data []byte) scene {
		return replaced(row, name, func(x *tlsmsg.ExtensionBuilder) { x.Raw(id, data) })
	}
	share := func(g tls.CurveID, data []byte) func(x *tlsmsg.ExtensionBuilder) {
		return func(x *tlsmsg.ExtensionBuilder) {
			x.SupportedGroups([]tls.CurveID{g})
			x.KeyShares(tlsmsg.KeyShare{Group: g, Data: data})
		}
	}
	mlkem := func(sc *Config) { sc.Groups = []tls.CurveID{tls.X25519MLKEM768} }
	config := func(row int, name string, change func(cc, sc *Config)) scene {
		return scene{row, "server", name, configs("server", func(t *testing.T, cc, sc *Config) { change(cc, sc) })}
	}
	// again sends a second ClientHello, behind a HelloRetryRequest to P-256.
	again := func(row int, name string, change func(h *tlsmsg.ClientHello)) scene {
		return scene{row, "server", name, func(t *testing.T, s *stage) error {
			sc := serverConfig()
			sc.Groups = []tls.CurveID{tls.CurveP256}
			a, b := newPipe()
			defer a.Close()
			s.watch(b)
			hs := scriptedClient(t, a, clientConfig(), nil)
			done := make(chan error, 1)
			go func() { done <- Server(b, sc).Handshake() }()
			if h, err := hs.readHello(); err != nil || !h.IsHRR {
				t.Fatal(err)
			}
			x, err := newKeyExchange(tls.CurveP256)
			if err != nil {
				t.Fatal(err)
			}
			replaceExtension(hs.hello, built(func(b *tlsmsg.ExtensionBuilder) { b.KeyShares(x.share()) })...)
			change(hs.hello)
			if err := hs.writeHello(); err != nil {
				t.Fatal(err)
			}
			a.CloseWrite()
			return <-done
		}}
	}
	binders := func(identities, binders int) []byte {
		ids := slices.Repeat([]byte{0, 2, 'i', 'd', 0, 0, 0, 0}, identities)
		list := slices.Repeat(append([]byte{32}, make([]byte, 32)...), binders)
		return slices.Concat([]byte{0, byte(len(ids))}, ids, []byte{0, byte(len(list))}, list)
	}
	return []scene{
		{2, "server", "another message first", serverGets(false, plainRecord(tlsmsg.TypeHandshake, handshakeMessage(tlsmsg.TypeServerHello)))},
		{2, "server", "Certificate that nobody asked for", serverGetsFlight(func(hs *clientHandshake) error {
			return hs.record(tlsmsg.TypeHandshake, handshakeMessage(tlsmsg.TypeCertificate, 0, 0, 0, 0))
		})},
		config(17, "suite", func(cc, sc *Config) {
			cc.Suites, sc.Suites = []uint16{tlsmsg.SuiteSHA256}, []uint16{tlsmsg.SuiteSHA384}
		}),
		config(17, "group", func(cc, sc *Config) {
			cc.Groups, sc.Groups = []tls.CurveID{tls.X25519}, []tls.CurveID{tls.CurveP256}
		}),
		replaced(17, "scheme", func(x *tlsmsg.ExtensionBuilder) { x.SignatureAlgorithms([]tls.SignatureScheme{tls.Ed25519}) }),
		changed(24, "twice", func(h *tlsmsg.ClientHello) { h.Extensions = append(h.Extensions, h.Extensions[0]) }),
		replaced(25, "zeros", share(tls.X25519, make([]byte, 32))),
		replaced(25, "long", share(tls.X25519, make([]byte, 33))),
		replaced(25, "off the curve", share(tls.CurveP256, append([]byte{4}, make([]byte, 64)...))),
		replaced(25, "compressed point", share(tls.CurveP256, append([]byte{2}, make([]byte, 32)...))),
		replaced(25, "no ML-KEM key", share(tls.X25519MLKEM768, bytes.Repeat([]byte{0xff}, 1184+32)), mlkem),
		changed(29, "beside null", func(h *tlsmsg.ClientHello) { h.Compression = []byte{0, 1} }),
		changed(29, "alone", func(h *tlsmsg.ClientHello) { h.Compression = []byte{1} }),
		raw(30, "without a key", tlsmsg.ExtensionEarlyData, nil),
		replaced(30, "with a key", func(x *tlsmsg.ExtensionBuilder) {
			x.Raw(tlsmsg.ExtensionEarlyData, nil)
			x.PSKModes(tlsmsg.PSKModeDHE)
			x.Raw(tlsmsg.ExtensionPreSharedKey, binders(1, 1))
		}),
		changed(31, "two for a group", func(h *tlsmsg.ClientHello) {
			replaceExtension(h, built(func(x *tlsmsg.ExtensionBuilder) {
				x.KeyShares(tlsmsg.KeyShare{Group: tls.X25519, Data: make([]byte, 32)}, tlsmsg.KeyShare{Group: tls.X25519, Data: make([]byte, 32)})
			})...)
		}),
		replaced(31, "of another group", func(x *tlsmsg.ExtensionBuilder) { x.SupportedGroups([]tls.CurveID{tls.CurveP256}) }),
		changed(32, "not the last", func(h *tlsmsg.ClientHello) {
			h.Extensions = append(h.Extensions, tlsmsg.Extension{Type: tlsmsg.ExtensionPreSharedKey, Data: binders(1, 1)}, tlsmsg.Extension{Type: 0x2a2a})
		}),
		raw(32, "two binders for one identity", tlsmsg.ExtensionPreSharedKey, binders(1, 2)),
		raw(32, "a binder for one identity of two", tlsmsg.ExtensionPreSharedKey, binders(2, 1)),
		raw(40, "no identity", tlsmsg.ExtensionPreSharedKey, binders(0, 0)),
		raw(40, "no binder", tlsmsg.ExtensionPreSharedKey, binders(1, 0)),
		again(33, "another random", func(h *tlsmsg.ClientHello) { h.Random[0] ^= 1 }),
		again(33, "a limit that changed", func(h *tlsmsg.ClientHello) {
			replaceExtension(h, built(func(x *tlsmsg.ExtensionBuilder) { x.RecordSizeLimit(64) })...)
		}),
		again(33, "the old share", func(h *tlsmsg.ClientHello) {
			replaceExtension(h, built(func(x *tlsmsg.ExtensionBuilder) {
				x.KeyShares(tlsmsg.KeyShare{Group: tls.X25519, Data: make([]byte, 32)})
			})...)
		}),
		raw(34, "version", tlsmsg.ExtensionInspection, []byte{2}),
		replaced(34, "host", func(x *tlsmsg.ExtensionBuilder) { x.InspectionOffer(testOffer("other.example:443")) }),
		raw(35, "below 64", tlsmsg.ExtensionRecordSizeLimit, []byte{0, 63}),
		config(39, "offer", func(cc, sc *Config) {
			cc.Inspection = testOffer(testName + ":443")
			sc.AnswerInspection = func(*tlsmsg.InspectionOffer) (*tlsmsg.InspectionAnswer, error) { return nil, errTest }
		}),
		config(39, "absence", func(cc, sc *Config) {
			sc.AnswerInspection = func(*tlsmsg.InspectionOffer) (*tlsmsg.InspectionAnswer, error) { return nil, errTest }
		}),
		raw(40, "supported_groups", tlsmsg.ExtensionSupportedGroups, []byte{0, 1, 0}),
		raw(40, "key_share", tlsmsg.ExtensionKeyShare, []byte{0, 4, 0, 29, 0, 0}),
		raw(40, "signature_algorithms", tlsmsg.ExtensionSignatureAlgorithms, nil),
		raw(40, "server_name", tlsmsg.ExtensionServerName, nil),
		raw(40, "inspection", tlsmsg.ExtensionInspection, []byte{1}),
		{40, "server", "ClientHello", serverGets(false, plainRecord(tlsmsg.TypeHandshake, handshakeMessage(tlsmsg.TypeClientHello, 3, 3)))},
		{46, "server", "binder", func(t *testing.T, s *stage) error {
			cc, sc := clientConfig(), serverConfig()
			cc.Sessions, sc.Tickets = new(SessionCache), new(TicketKeys)
			client, server := connect(t, cc, sc)
			exchange(t, client, server)
			a, b := newPipe()
			defer a.Close()
			s.watch(b)
			a.onSend = func(p []byte) []byte {
				p[len(p)-1] ^= 1
				return p
			}
			_, err := shake(Client(a, cc), Server(b, sc))
			return err
		}},
		removed(47, "TLS 1.2", tlsmsg.ExtensionSupportedVersions),
		replaced(47, "a draft", func(x *tlsmsg.ExtensionBuilder) { x.SupportedVersions(0x7f1c, tlsmsg.VersionTLS12) }),
		changed(47, "no extensions", func(h *tlsmsg.ClientHello) { h.Extensions = nil }),
		changed(47, "SSL 3.0", func(h *tlsmsg.ClientHello) { h.LegacyVersion = tlsmsg.VersionSSL3 }),
		removed(49, "supported_groups", tlsmsg.ExtensionSupportedGroups),
		removed(49, "key_share", tlsmsg.ExtensionKeyShare),
		removed(49, "signature_algorithms", tlsmsg.ExtensionSignatureAlgorithms),
		raw(49, "psk_key_exchange_modes", tlsmsg.ExtensionPreSharedKey, binders(1, 1)),
		changed(49, "signature_algorithms, beside a key that is not taken", func(h *tlsmsg.ClientHello) {
			removeExtension(h, tlsmsg.ExtensionSignatureAlgorithms)
			replaceExtension(h, built(func(x *tlsmsg.ExtensionBuilder) {
				x.PSKModes(tlsmsg.PSKModeDHE)
				x.Raw(tlsmsg.ExtensionPreSharedKey, binders(1, 1))
			})...)
		}),
		{52, "server", "unknown", serverGetsFlight(func(hs *clientHandshake) error {
			return hs.record(tlsmsg.TypeHandshake, mustAppend(&tlsmsg.Certificate{Entries: []tlsmsg.CertificateEntry{
				{Cert: identities().client.Certificate[0], Extensions: []tlsmsg.Extension{{Type: 0x2a2a}}},
			}}))
		}, asking)},
		config(53, "GetCertificate has none", func(cc, sc *Config) {
			sc.TLS.Certificates = nil
			sc.TLS.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }
		}),
		config(54, "none in common", func(cc, sc *Config) {
			cc.TLS.NextProtos, sc.TLS.NextProtos = []string{"a"}, []string{"b"}
		}),
		config(54, "none is offered in a tunnel", func(cc, sc *Config) { sc.RequireALPN, sc.TLS.NextProtos = true, []string{"a"} }),
		config(55, "GetCertificate", func(cc, sc *Config) {
			sc.TLS.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errTest }
		}),
		config(55, "GetConfigForClient", func(cc, sc *Config) {
			sc.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, errTest }
		}),
	}
}
