package itls

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"testing"

	"vitrine/internal/tlsmsg"
)

// Keys of every kind authenticate a client, whose OCSP response and timestamps pass as a server's do.
func TestClientCertificatesOfEveryKey(t *testing.T) {
	for _, suite := range []uint16{tlsmsg.SuiteSHA256, tlsmsg.SuiteSHA384} {
		for kind, cert := range clientCertificates() {
			cc, sc := clientConfig(), serverConfig()
			asking(sc)
			cc.Suites = []uint16{suite}
			cc.TLS.Certificates = []tls.Certificate{cert}
			client, server := connect(t, cc, sc)
			exchange(t, client, server)
			state := server.ConnectionState()
			if len(state.PeerCertificates) != 1 || !bytes.Equal(state.PeerCertificates[0].Raw, cert.Certificate[0]) || len(state.VerifiedChains) != 1 {
				t.Errorf("%s: the server saw %d certificates", kind, len(state.PeerCertificates))
			}
			if !bytes.Equal(state.OCSPResponse, cert.OCSPStaple) || !slices.EqualFunc(state.SignedCertificateTimestamps, cert.SignedCertificateTimestamps, bytes.Equal) {
				t.Errorf("%s: OCSP %q, SCTs %q", kind, state.OCSPResponse, state.SignedCertificateTimestamps)
			}
		}
	}
}

// What was not asked for is not sent: a peer would have to refuse it.
func TestOCSPAndTimestampsAreSentWhenAskedFor(t *testing.T) {
	for _, asked := range []bool{false, true} {
		// A server with a client that asks for nothing.
		sc := serverConfig()
		sc.TLS.Certificates = []tls.Certificate{serverCertificates()["P-256"]}
		a, b := newPipe()
		hs := scriptedClient(t, a, clientConfig(), func(h *tlsmsg.ClientHello) {
			if !asked {
				removeExtension(h, tlsmsg.ExtensionStatusRequest)
				removeExtension(h, tlsmsg.ExtensionSCT)
			}
		})
		finishScripted(t, hs, Server(b, sc))
		if got := len(hs.state.OCSPResponse) > 0 && len(hs.state.SignedCertificateTimestamps) > 0; got != asked {
			t.Errorf("asked %v: OCSP %q, SCTs %q", asked, hs.state.OCSPResponse, hs.state.SignedCertificateTimestamps)
		}
		a.Close()

		// A client with a server that asks for nothing.
		cc := clientConfig()
		cc.TLS.Certificates = []tls.Certificate{clientCertificates()["P-256"]}
		request := built(func(x *tlsmsg.ExtensionBuilder) {
			x.SignatureAlgorithms(tlsmsg.Schemes())
			if asked {
				x.Raw(tlsmsg.ExtensionStatusRequest, nil)
				x.SCTRequest()
			}
		})
		m := readIdentity(t, cc, request)
		if got := len(m.Entries[0].OCSP) > 0 && len(m.Entries[0].SCTs) > 0; got != asked || len(m.Entries[0].Extensions) > 0 != asked {
			t.Errorf("asked %v: %+v", asked, m.Entries[0])
		}
	}
}

// readIdentity has a client answer a CertificateRequest.
func readIdentity(t *testing.T, cc *Config, request []tlsmsg.Extension) *tlsmsg.Certificate {
	t.Helper()
	a, b := newPipe()
	var certificate []byte
	done := make(chan struct{})
	go func() {
		defer close(done)
		scriptedServer(Server(b, serverConfig()), func(hs *serverHandshake) error {
			list, err := [][]byte{}, error(nil)
			for _, f := range []func(b []byte) ([]byte, error){
				hs.appendExtensions,
				func(b []byte) ([]byte, error) {
					return hs.appendMessage(b, &tlsmsg.CertificateRequest{Extensions: request})
				},
				func(b []byte) ([]byte, error) { return hs.appendCertificate(b, hs.cert, false, false) },
				func(b []byte) ([]byte, error) {
					return hs.appendCertificateVerify(b, hs.cert, hs.scheme, serverVerifyContext)
				},
				func(b []byte) ([]byte, error) { return hs.appendFinished(b, hs.keys.server) },
			} {
				var m []byte
				if m, err = f(nil); err != nil {
					return err
				}
				list = append(list, m)
			}
			if err := hs.send(list...); err != nil {
				return err
			}
			certificate, err = hs.expect(tlsmsg.TypeCertificate)
			return err
		})
	}()
	if err := Client(a, cc).Handshake(); err != nil {
		t.Fatal(err)
	}
	<-done
	a.Close()
	m, err := tlsmsg.ParseCertificate(certificate)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// spec: TLS-29
func TestAClientToleratesWhatServersMayAdd(t *testing.T) {
	cc := clientConfig()
	cc.TLS.Certificates = []tls.Certificate{clientCertificates()["Ed25519"]}
	m := readIdentity(t, cc, built(func(x *tlsmsg.ExtensionBuilder) {
		x.Raw(0x2a2a, []byte("GREASE"))
		x.SignatureAlgorithms([]tls.SignatureScheme{0x3a3a, tls.PKCS1WithSHA1, tls.Ed25519})
		x.SignatureAlgorithmsCert([]tls.SignatureScheme{tls.ECDSAWithP256AndSHA256})
		x.Raw(tlsmsg.ExtensionCompressCertificate, []byte{2, 0, 1})
		x.Raw(48, []byte{0, 0}) // oid_filters
	}))
	if len(m.Entries) != 1 || !bytes.Equal(m.Entries[0].Cert, cc.TLS.Certificates[0].Certificate[0]) {
		t.Errorf("the client showed %d certificates", len(m.Entries))
	}
	from, to := connect(t, clientConfig(), serverConfig())
	to.sendHandshake(t, mustAppend(&tlsmsg.NewSessionTicket{Ticket: []byte("t"), Extensions: []tlsmsg.Extension{{Type: 0x2a2a, Data: []byte{1}}, {Type: 62}}}))
	exchange(t, from, to)
}

// A peer may pad every record, those of the handshake too.
func TestPaddedHandshakes(t *testing.T) {
	pad := func(c *Conn, messages []byte) error {
		for len(messages) > 0 {
			n := min(len(messages), 50)
			inner := append(bytes.Clone(messages[:n]), byte(tlsmsg.TypeHandshake))
			inner = append(inner, make([]byte, n)...)
			// seal's type is the last byte of padding.
			if err := c.record(0, inner); err != nil {
				return err
			}
			messages = messages[n:]
		}
		return nil
	}
	t.Run("client", func(t *testing.T) {
		a, b := newPipe()
		defer a.Close()
		go scriptedServer(Server(b, serverConfig()), func(hs *serverHandshake) error {
			list, err := hs.flightMessages()
			if err != nil {
				return err
			}
			return pad(hs.Conn, bytes.Join(list, nil))
		})
		if err := Client(a, clientConfig()).Handshake(); err != nil {
			t.Error(err)
		}
	})
	t.Run("server", func(t *testing.T) {
		a, b := newPipe()
		defer a.Close()
		hs := scriptedClient(t, a, clientConfig(), nil)
		done := make(chan error, 1)
		go func() { done <- Server(b, serverConfig()).Handshake() }()
		if err := hs.steps(hs.readServerHello, hs.readParameters, hs.authenticateServer); err != nil {
			t.Fatal(err)
		}
		m, err := hs.appendFinished(nil, hs.keys.client)
		if err != nil {
			t.Fatal(err)
		}
		if err := pad(hs.Conn, m); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// dribble hands out a few bytes at a time, as segments of TCP may.
type dribble struct {
	*pipe
	n int
}

func (d dribble) Read(b []byte) (int, error) { return d.pipe.Read(b[:min(len(b), d.n)]) }

// A ClientHello as large as a message may be, in records and segments of any size.
//
// spec: TLS-16
func TestLargeClientHelloInPieces(t *testing.T) {
	for _, c := range []struct{ size, record, segment int }{
		{1 << 10, 1, 1}, {16 << 10, 100, 7}, {60 << 10, 1 << 14, 1460}, {60 << 10, 1000, 1 << 20}, {60 << 10, 3, 4096},
	} {
		a, b := newPipe()
		scratch, _ := newPipe()
		hs := scriptedClient(t, scratch, clientConfig(), func(h *tlsmsg.ClientHello) {
			replaceExtension(h, tlsmsg.Extension{Type: 0x5a5a, Data: make([]byte, c.size)})
		})
		hs.conn = a
		for rest := hs.raw; len(rest) > 0; {
			n := min(len(rest), c.record)
			a.inject(plainRecord(tlsmsg.TypeHandshake, rest[:n]))
			rest = rest[n:]
		}
		finishScripted(t, hs, Server(dribble{b, c.segment}, serverConfig()))
		a.Close()
	}
}

// largeChain is a leaf with other certificates behind it, which nobody needs, up to a size.
func largeChain(t *testing.T, leaf tls.Certificate, n int, each int) tls.Certificate {
	t.Helper()
	leaf.Certificate = slices.Clone(leaf.Certificate)
	root := identities().root
	for range n {
		template := *root.cert
		template.SerialNumber = nextSerial()
		template.OCSPServer = []string{"http://" + string(bytes.Repeat([]byte{'a'}, each)) + ".example"}
		der, err := x509.CreateCertificate(rand.Reader, &template, root.cert, root.key.Public(), root.key)
		if err != nil {
			t.Fatal(err)
		}
		leaf.Certificate = append(leaf.Certificate, der)
	}
	return leaf
}

// Chains of tens of kilobytes pass both ways, in as many records as they need.
func TestLargeChainsAreSplit(t *testing.T) {
	for _, limit := range []int{0, 64, 500} {
		cc, sc := clientConfig(), serverConfig()
		asking(sc)
		sc.TLS.Certificates = []tls.Certificate{largeChain(t, identities().server, 15, 3500)}
		cc.TLS.Certificates = []tls.Certificate{largeChain(t, identities().client, 15, 3500)}
		cc.RecordSizeLimit, sc.RecordSizeLimit = limit, limit
		client, server := connect(t, cc, sc)
		exchange(t, client, server)
		for _, c := range []*Conn{client, server} {
			size := 0
			for _, cert := range c.state.PeerCertificates {
				size += len(cert.Raw)
			}
			if len(c.state.PeerCertificates) != 16 || size < 50<<10 {
				t.Errorf("%d certificates of %d bytes", len(c.state.PeerCertificates), size)
			}
		}
	}
}
