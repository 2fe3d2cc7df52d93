package itls

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"vitrine/internal/tlsmsg"
)

// resumable returns configs of both roles that resume.
func resumable() (cc, sc *Config) {
	cc, sc = clientConfig(), serverConfig()
	cc.Sessions, sc.Tickets = new(SessionCache), new(TicketKeys)
	return cc, sc
}

// meet runs a session with an exchange, which brings the client its ticket, and returns both ends.
func meet(t *testing.T, cc, sc *Config) (client, server *Conn) {
	t.Helper()
	client, server = connect(t, cc, sc)
	exchange(t, client, server)
	if c, s := client.ConnectionState().DidResume, server.ConnectionState().DidResume; c != s {
		t.Fatalf("the client resumed: %v, the server: %v", c, s)
	}
	return client, server
}

func resumes(t *testing.T, cc, sc *Config) bool {
	t.Helper()
	client, _ := meet(t, cc, sc)
	return client.ConnectionState().DidResume
}

// session runs a full handshake and takes the session that it left.
func session(t *testing.T, cc, sc *Config) *Session {
	t.Helper()
	if resumes(t, cc, sc) {
		t.Fatal("resumed nothing")
	}
	s := cc.Sessions.Take()
	if s == nil {
		t.Fatal("no ticket came")
	}
	return s
}

// spec: TLS-30 TLS-32 TLS-41
func TestResumption(t *testing.T) {
	for _, suite := range []uint16{tlsmsg.SuiteSHA256, tlsmsg.SuiteSHA384} {
		for _, retry := range []bool{false, true} {
			for _, auth := range []tls.ClientAuthType{tls.NoClientCert, tls.RequestClientCert, tls.RequireAndVerifyClientCert} {
				t.Run(fmt.Sprintf("%s/retry=%v/%v", tlsmsg.SuiteName(suite), retry, auth), func(t *testing.T) {
					cc, sc := resumable()
					cc.Suites = []uint16{suite}
					if retry {
						sc.Groups = []tls.CurveID{tls.CurveP256}
					}
					sc.TLS.ClientAuth, sc.TLS.ClientCAs = auth, identities().root.pool
					cc.TLS.Certificates = []tls.Certificate{identities().client}
					if resumes(t, cc, sc) {
						t.Fatal("resumed nothing")
					}
					for range 3 {
						client, server := meet(t, cc, sc)
						c, s := client.ConnectionState(), server.ConnectionState()
						if !c.DidResume || c.HelloRetryRequest != retry || c.CipherSuite != suite {
							t.Fatalf("%+v", c)
						}
						if len(c.PeerCertificates) != 1 || len(c.VerifiedChains) != 1 {
							t.Errorf("the server's chain: %d %d", len(c.PeerCertificates), len(c.VerifiedChains))
						}
						if asked := auth != tls.NoClientCert; (len(s.PeerCertificates) == 1) != asked || (len(s.VerifiedChains) == 1) != (auth == tls.RequireAndVerifyClientCert) {
							t.Errorf("the client's chain: %d %d", len(s.PeerCertificates), len(s.VerifiedChains))
						}
						checkExporters(t, client, server)
					}
					if n := cc.Sessions.Len(); n != 1 {
						t.Errorf("%d sessions are kept", n)
					}
				})
			}
		}
	}
}

// A PSK of RFC 8448, section 3, and what section 4 makes of it. No part of it depends on how records are
// protected.
func TestResumptionScheduleKnownAnswers(t *testing.T) {
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	s := suiteByID(tlsmsg.SuiteSHA256)
	psk, err := s.resumptionPSK(
		unhex("7d f2 35 f2 03 1d 2a 05 12 87 d0 2b 02 41 b0 bf da f8 6c c8 56 23 1f 2d 5a ba 46 c4 34 ec 19 6c"), []byte{0, 0},
	)
	if want := unhex("4e cd 0e b6 ec 3b 4d 87 f5 d6 02 8f 92 2c a4 c5 85 1a 27 7f d4 13 11 c9 e6 2d 2c 94 92 e1 c4 f3"); err != nil || !bytes.Equal(psk, want) {
		t.Errorf("PSK %x, %v", psk, err)
	}
	early, err := s.early(psk)
	if want := unhex("9b 21 88 e9 b2 fc 6d 64 d7 1d c3 29 90 0e 20 bb 41 91 50 00 f6 78 aa 83 9c bb 79 7c b7 d8 33 2c"); err != nil || !bytes.Equal(early, want) {
		t.Errorf("early secret %x, %v", early, err)
	}
	binder, err := s.binder(psk, unhex("63 22 4b 2e 45 73 f2 d3 45 4c a8 4b 9d 00 9a 04 f6 be 9e 05 71 1a 83 96 47 3a ef a0 1e 92 4a 14"))
	if want := unhex("3a dd 4f b2 d8 fd f8 22 a0 ca 3c f7 67 8e f5 e8 8d ae 99 01 41 c5 92 4d 57 bb 6f a3 1b 9e 5f 9d"); err != nil || !bytes.Equal(binder, want) {
		t.Errorf("binder %x, %v", binder, err)
	}
}

// with runs f on the parts of a config that tests change, which are copies.
func with(c *Config, f func(c *Config)) *Config {
	d := *c
	d.TLS = c.TLS.Clone()
	f(&d)
	return &d
}

func strangers(t testing.TB) *authority { return newAuthority(t, "stranger") }

// spec: TLS-31 TLS-36 TLS-37
func TestWhateverDiffersIsAFullHandshake(t *testing.T) {
	second := identities().root.issue(t, profile{names: []string{testName, "two.example"}})
	other := identities().root.issue(t, profile{usage: x509.ExtKeyUsageClientAuth})
	both := strangers(t)
	both.pool.AddCert(identities().root.cert)
	offer := func(change func(o *tlsmsg.InspectionOffer)) func(c *Config) {
		return func(c *Config) {
			o := testOffer(testName + ":443")
			o.Nonce[5]++ // of another tunnel
			change(o)
			c.Inspection = o
		}
	}
	for _, c := range []struct {
		name           string
		first          func(cc, sc *Config) // before the first session; may be nil
		client, server func(c *Config)      // between them
		resumes        bool
		alone          bool // only the client can know
	}{
		{name: "nothing", resumes: true},
		{name: "nothing but the nonce", client: offer(func(o *tlsmsg.InspectionOffer) {}), resumes: true},
		{name: "the order of groups", client: func(c *Config) { c.Groups = []tls.CurveID{tls.CurveP256, tls.X25519} }, resumes: true},
		{name: "more suites, the session's among them", first: func(cc, _ *Config) { cc.Suites = []uint16{tlsmsg.SuiteSHA256} }, client: func(c *Config) { c.Suites = nil }, resumes: true},
		{name: "the client's pool is another, with the root in it", client: func(c *Config) { c.TLS.RootCAs = both.pool }, resumes: true},
		{name: "authority", client: offer(func(o *tlsmsg.InspectionOffer) { o.Authority = testName + ":8443" })},
		{name: "proxies", client: offer(func(o *tlsmsg.InspectionOffer) { o.Proxies[1][0]++ })},
		{name: "fewer proxies", client: offer(func(o *tlsmsg.InspectionOffer) { o.Proxies = o.Proxies[:1] })},
		{name: "nobody reads", client: func(c *Config) { c.Inspection = nil }},
		{name: "somebody reads", first: func(cc, _ *Config) { cc.Inspection = nil }, client: offer(func(o *tlsmsg.InspectionOffer) {})},
		{name: "server name", client: func(c *Config) {
			c.TLS.ServerName, c.Inspection.Authority = "two.example", "two.example:443"
		}},
		{name: "server name, and nobody reads", first: func(cc, _ *Config) { cc.Inspection = nil }, client: func(c *Config) { c.TLS.ServerName = "two.example" }},
		{name: "the protocols", client: func(c *Config) { c.TLS.NextProtos = []string{"h2", "http/1.1"} }},
		{name: "the server's choice of them", first: func(cc, _ *Config) { cc.TLS.NextProtos = []string{"http/1.1", "h2"} }, server: func(c *Config) { c.TLS.NextProtos = []string{"http/1.1"} }},
		{name: "the client's suites", first: func(cc, _ *Config) { cc.Suites = []uint16{tlsmsg.SuiteSHA256} }, client: func(c *Config) { c.Suites = []uint16{tlsmsg.SuiteSHA384} }},
		{name: "the server's suite", server: func(c *Config) { c.Suites = []uint16{tlsmsg.SuiteSHA384} }},
		{name: "the server's suite, behind a HelloRetryRequest", server: func(c *Config) {
			c.Suites, c.Groups = []uint16{tlsmsg.SuiteSHA384}, []tls.CurveID{tls.CurveP256}
		}},
		{name: "nothing but the group, by a HelloRetryRequest", server: func(c *Config) { c.Groups = []tls.CurveID{tls.CurveP256} }, resumes: true},
		{name: "the client's certificate", alone: true, client: func(c *Config) { c.TLS.Certificates = []tls.Certificate{other} }},
		{name: "a client without it", alone: true, client: func(c *Config) { c.TLS.Certificates = nil }, server: func(c *Config) { c.TLS.ClientAuth = tls.RequestClientCert }},
		{name: "the client's roots", client: func(c *Config) { c.TLS.RootCAs = strangers(t).pool }},
		{name: "the roots for clients", server: func(c *Config) { c.TLS.ClientCAs = strangers(t).pool }},
		{name: "a certificate is asked for no more", server: func(c *Config) { c.TLS.ClientAuth = tls.NoClientCert }},
		{
			name:  "a certificate is asked for now",
			first: func(_, sc *Config) { sc.TLS.ClientAuth = tls.NoClientCert }, server: func(c *Config) { c.TLS.ClientAuth = tls.RequestClientCert },
		},
		{
			name: "a certificate is required now",
			first: func(cc, sc *Config) {
				cc.TLS.Certificates, sc.TLS.ClientAuth = nil, tls.RequestClientCert
			},
			server: func(c *Config) { c.TLS.ClientAuth = tls.RequireAnyClientCert },
		},
		{name: "the server's certificate", server: func(c *Config) { c.TLS.Certificates = []tls.Certificate{second} }},
		{name: "the server's keys", server: func(c *Config) { c.Tickets = new(TicketKeys) }},
		{name: "the server has none", server: func(c *Config) { c.Tickets = nil }},
		{name: "the server wants none", server: func(c *Config) { c.TLS.SessionTicketsDisabled = true }},
		{name: "the server's config for this client wants none", server: func(c *Config) {
			own := c.TLS.Clone()
			own.SessionTicketsDisabled = true
			c.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return own, nil }
		}},
		{name: "the client wants none", client: func(c *Config) { c.TLS.SessionTicketsDisabled = true }},
		{name: "the server dropped them", server: func(c *Config) { c.Tickets.Drop() }},
	} {
		for _, deceived := range []bool{false, true} {
			if deceived && c.alone {
				continue
			}
			// A client that is deceived, or careless, offers what it should not: the server notices alone.
			t.Run(fmt.Sprintf("%s/deceived=%v", c.name, deceived), func(t *testing.T) {
				cc, sc := resumable()
				cc.Inspection = testOffer(testName + ":443")
				cc.TLS.NextProtos, sc.TLS.NextProtos = []string{"http/1.1"}, []string{"h2", "http/1.1"}
				cc.TLS.Certificates = []tls.Certificate{identities().client}
				sc.TLS.ClientAuth, sc.TLS.ClientCAs = tls.VerifyClientCertIfGiven, identities().root.pool
				sc.TLS.Certificates = []tls.Certificate{second}
				if c.name == "the server's certificate" {
					sc.TLS.Certificates = []tls.Certificate{identities().server}
				}
				sc.AnswerInspection = func(o *tlsmsg.InspectionOffer) (*tlsmsg.InspectionAnswer, error) {
					if o == nil {
						return nil, nil
					}
					return testAnswer(), nil
				}
				if c.first != nil {
					c.first(cc, sc)
				}
				s := session(t, cc, sc)
				if c.client != nil {
					cc = with(cc, c.client)
				}
				if c.server != nil {
					sc = with(sc, c.server)
				}
				if deceived {
					s.binding = cc.binding()
					s.roots, s.chains = nil, nil
				}
				cc.Sessions.Add(s)
				a, b := newPipe()
				defer a.Close()
				client, server := Client(a, cc), Server(b, sc)
				clientErr, serverErr := shake(client, server)
				if c.name == "the client's roots" || c.name == "a certificate is required now" {
					if clientErr == nil && serverErr == nil {
						t.Error("not even the full handshake noticed")
					}
					return
				}
				if clientErr != nil || serverErr != nil {
					t.Fatalf("client %v, server %v", clientErr, serverErr)
				}
				exchange(t, client, server)
				if did := client.ConnectionState().DidResume; did != c.resumes || did != server.ConnectionState().DidResume {
					t.Errorf("resumed: %v", did)
				}
				if (client.InspectionAnswer() != nil) != (cc.Inspection != nil) || (server.InspectionOffer() != nil) != (cc.Inspection != nil) {
					t.Error("inspection was not exchanged")
				}
				if cc.Inspection != nil && server.InspectionOffer().Nonce != cc.Inspection.Nonce {
					t.Error("an old nonce")
				}
			})
		}
	}
}

// clock is a time that tests move.
type clock struct{ at time.Time }

func (c *clock) now() time.Time          { return c.at }
func (c *clock) advance(d time.Duration) { c.at = c.at.Add(d) }

// spec: TLS-33 TLS-36 TLS-37
func TestSessionsEnd(t *testing.T) {
	long := newAuthority(t, "long")
	start := time.Now().Round(0)
	long.cert.NotAfter = start.AddDate(1, 0, 0)
	der, err := x509.CreateCertificate(nil, long.cert, long.cert, long.key.Public(), long.key)
	if err != nil {
		t.Fatal(err)
	}
	if long.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	long.pool = x509.NewCertPool()
	long.pool.AddCert(long.cert)
	cert := long.issue(t, profile{names: []string{testName}, notAfter: start.AddDate(0, 0, 20)})
	shown := long.issue(t, profile{usage: x509.ExtKeyUsageClientAuth, notAfter: start.Add(8 * time.Hour)})
	configs := func(keys *TicketKeys) (cc, sc *Config, ours, theirs *clock) {
		ours, theirs = &clock{start}, &clock{start}
		cc, sc = resumable()
		cc.TLS.RootCAs, cc.TLS.Time = long.pool, ours.now
		sc.TLS.Certificates, sc.TLS.Time = []tls.Certificate{cert}, theirs.now
		keys.Time = theirs.now
		sc.Tickets = keys
		return cc, sc, ours, theirs
	}
	for _, c := range []struct {
		name         string
		lifetime     time.Duration
		ours, theirs time.Duration // how much the clocks move
		resumes      bool
	}{
		{"at once", 0, 0, 0, true},
		{"after 11 hours", 0, 11 * time.Hour, 11 * time.Hour, true},
		{"after 12 hours", 0, 12 * time.Hour, 12 * time.Hour, false},
		{"after 12 hours, by the server's clock", 0, 12*time.Hour - time.Second, 12 * time.Hour, false},
		{"after 6 days of 7", maxLifetime, 144 * time.Hour, 144 * time.Hour, true},
		{"after 7 days", maxLifetime, maxLifetime, maxLifetime, false},
		{"clocks almost a minute apart", 0, time.Hour, time.Hour + time.Minute - time.Second, true},
		{"the server's clock is ahead", 0, time.Hour, time.Hour + time.Minute + time.Millisecond, false},
		{"the client's clock is ahead", 0, time.Hour + time.Minute + time.Millisecond, time.Hour, false},
		{"the server's clock went back", 0, time.Second, -time.Second, false},
		{"the client's clock went back", 0, -time.Second, time.Second, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cc, sc, ours, theirs := configs(&TicketKeys{Lifetime: c.lifetime})
			if resumes(t, cc, sc) {
				t.Fatal("resumed nothing")
			}
			ours.advance(c.ours)
			theirs.advance(c.theirs)
			if did := resumes(t, cc, sc); did != c.resumes {
				t.Errorf("resumed: %v", did)
			}
		})
	}
	t.Run("a resumed session prolongs nothing", func(t *testing.T) {
		for lifetime, step := range map[time.Duration]time.Duration{0: 5 * time.Hour, maxLifetime: 70 * time.Hour} {
			cc, sc, ours, theirs := configs(&TicketKeys{Lifetime: lifetime})
			for i, want := range []bool{false, true, true, false, true} {
				if did := resumes(t, cc, sc); did != want {
					t.Errorf("lifetime %v, session %d resumed: %v", lifetime, i, did)
				}
				ours.advance(step)
				theirs.advance(step)
			}
		}
	})
	t.Run("nor for a server that never lets it end", func(t *testing.T) {
		cc, sc, ours, theirs := configs(&TicketKeys{Lifetime: maxLifetime})
		endless, err := (&tlsmsg.NewSessionTicket{Lifetime: 604800, Ticket: []byte("for ever")}).Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			client, server := connect(t, cc, sc)
			server.sendHandshake(t, endless)
			exchange(t, client, server)
			if s := cc.Sessions.Take(); client.ConnectionState().DidResume != (i > 0) || string(s.ticket) != "for ever" || !s.Ends().Equal(start.Add(maxLifetime)) {
				t.Errorf("session %d: it ends %v after the full handshake", i, s.Ends().Sub(start))
			}
			ours.advance(6 * 24 * time.Hour)
			theirs.advance(6 * 24 * time.Hour)
		}
	})
	t.Run("with the client's certificate", func(t *testing.T) {
		cc, sc, ours, theirs := configs(new(TicketKeys))
		cc.TLS.Certificates = []tls.Certificate{shown}
		sc.TLS.ClientAuth, sc.TLS.ClientCAs = tls.RequireAndVerifyClientCert, long.pool
		for i, want := range []bool{false, true} {
			if did := resumes(t, cc, sc); did != want {
				t.Errorf("session %d resumed: %v", i, did)
			}
			ours.advance(7 * time.Hour)
			theirs.advance(7 * time.Hour)
			if i == 0 {
				ours.advance(-time.Hour)
				theirs.advance(-time.Hour)
			}
		}
		a, b := newPipe()
		defer a.Close()
		_, err := shake(Client(a, cc), Server(b, sc))
		if alertOf(err) != tlsmsg.AlertCertificateExpired {
			t.Errorf("the server took it: %v", err)
		}
	})
	t.Run("with the server's certificate", func(t *testing.T) {
		for _, anew := range []bool{false, true} {
			cc, sc, ours, theirs := configs(&TicketKeys{Lifetime: maxLifetime})
			for range 3 { // sessions end before the certificate does
				ours.advance(6 * 24 * time.Hour)
				theirs.advance(6 * 24 * time.Hour)
			}
			s := session(t, cc, sc)
			ours.advance(3 * 24 * time.Hour)
			theirs.advance(3 * 24 * time.Hour)
			if anew {
				s.roots, s.chains = nil, nil
			}
			cc.Sessions.Add(s)
			a, b := newPipe()
			defer a.Close()
			client := Client(a, cc)
			clientErr, _ := shake(client, Server(b, sc))
			if alertOf(clientErr) != tlsmsg.AlertCertificateExpired || client.state.DidResume {
				t.Errorf("anew %v: the client took it: %v", anew, clientErr)
			}
		}
	})
}

// spec: TLS-5 TLS-38
func TestServerRefusesResumptions(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(h *tlsmsg.ClientHello) // before the binder
		after  func(raw []byte)            // behind it
		alert  tlsmsg.Alert
	}{
		{"early data", func(h *tlsmsg.ClientHello) {
			h.Extensions = slices.Insert(h.Extensions, len(h.Extensions)-1, tlsmsg.Extension{Type: tlsmsg.ExtensionEarlyData})
		}, nil, tlsmsg.AlertIllegalParameter},
		{"a bit of the binder", nil, func(raw []byte) { raw[len(raw)-1] ^= 1 }, tlsmsg.AlertDecryptError},
		{"a bit of the random", nil, func(raw []byte) { raw[6] ^= 1 }, tlsmsg.AlertDecryptError},
		{"a bit of the ticket's age", nil, func(raw []byte) { raw[len(raw)-32-1-2-1] ^= 1 }, tlsmsg.AlertDecryptError},
		{"no modes", func(h *tlsmsg.ClientHello) { removeExtension(h, tlsmsg.ExtensionPSKKeyExchangeModes) }, nil, tlsmsg.AlertMissingExtension},
		{"no key share", func(h *tlsmsg.ClientHello) { removeExtension(h, tlsmsg.ExtensionKeyShare) }, nil, tlsmsg.AlertMissingExtension},
		{"no groups", func(h *tlsmsg.ClientHello) { removeExtension(h, tlsmsg.ExtensionSupportedGroups) }, nil, tlsmsg.AlertMissingExtension},
		{"no signature algorithms, and a ticket that does not open", func(h *tlsmsg.ClientHello) {
			removeExtension(h, tlsmsg.ExtensionSignatureAlgorithms)
			last := h.Extensions[len(h.Extensions)-1].Data
			last[10] ^= 1
		}, nil, tlsmsg.AlertMissingExtension},
	} {
		t.Run(c.name, func(t *testing.T) {
			cc, sc := resumable()
			s := session(t, cc, sc)
			s.received = s.received.Add(-time.Second) // an age that a bit less leaves positive
			cc.Sessions.Add(s)
			a, b := newPipe()
			defer a.Close()
			a.onSend = func(p []byte) []byte {
				if c.after != nil {
					c.after(p[tlsmsg.RecordHeaderLen:])
				}
				return p
			}
			hs := scriptedClient(t, a, cc, c.change)
			if hs.session == nil {
				t.Fatal("no session was offered")
			}
			if err := Server(b, sc).Handshake(); alertOf(err) != c.alert {
				t.Errorf("server %v, want %s", err, c.alert)
			}
		})
	}
}

// spec: TLS-30 TLS-36 TLS-37 TLS-38
func TestServerToleratesOffers(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(h *tlsmsg.ClientHello, id tlsmsg.PSKIdentity)
		binder  bool // the change leaves one identity with a true binder
		resumes bool
	}{
		{"a ticket that does not open", func(h *tlsmsg.ClientHello, id tlsmsg.PSKIdentity) { h.Extensions[len(h.Extensions)-1].Data[30] ^= 1 }, false, false},
		{"the mode psk_ke alone", func(h *tlsmsg.ClientHello, id tlsmsg.PSKIdentity) {
			replaceExtension(h, built(func(x *tlsmsg.ExtensionBuilder) { x.PSKModes(0) })...)
		}, true, false},
		{"both modes", func(h *tlsmsg.ClientHello, id tlsmsg.PSKIdentity) {
			replaceExtension(h, built(func(x *tlsmsg.ExtensionBuilder) { x.PSKModes(0, tlsmsg.PSKModeDHE) })...)
		}, true, true},
		{"no signature algorithms", func(h *tlsmsg.ClientHello, id tlsmsg.PSKIdentity) {
			removeExtension(h, tlsmsg.ExtensionSignatureAlgorithms)
		}, true, true},
		{"behind three others with wrong binders", func(h *tlsmsg.ClientHello, id tlsmsg.PSKIdentity) {
			replaceExtension(h, built(func(x *tlsmsg.ExtensionBuilder) {
				x.PreSharedKey(32, tlsmsg.PSKIdentity{Identity: []byte{1}}, tlsmsg.PSKIdentity{Identity: make([]byte, 300)}, tlsmsg.PSKIdentity{Identity: make([]byte, 3000)}, id)
			})...)
		}, true, true},
		{"behind too many others", func(h *tlsmsg.ClientHello, id tlsmsg.PSKIdentity) {
			replaceExtension(h, built(func(x *tlsmsg.ExtensionBuilder) {
				other := tlsmsg.PSKIdentity{Identity: []byte{1}}
				x.PreSharedKey(32, other, other, other, other, id)
			})...)
		}, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cc, sc := resumable()
			s := session(t, cc, sc)
			cc.Sessions.Add(s)
			a, b := newPipe()
			defer a.Close()
			hs := scriptedClient(t, a, cc, func(h *tlsmsg.ClientHello) {
				c.change(h, tlsmsg.PSKIdentity{Identity: s.ticket, ObfuscatedTicketAge: s.age(time.Now())})
			})
			if n := hs.pskPlaces(t); n > 1 {
				b.mu.Lock()
				h := s.suite.hash()
				end := len(hs.raw) - 2 - n*33
				h.Write(hs.raw[:end])
				binder, err := s.suite.binder(s.psk, h.Sum(nil))
				if err != nil {
					t.Fatal(err)
				}
				copy(hs.raw[len(hs.raw)-32:], binder)
				copy(b.in.data[tlsmsg.RecordHeaderLen:], hs.raw)
				b.mu.Unlock()
			}
			server := Server(b, sc)
			done := make(chan error, 1)
			go func() { done <- server.Handshake() }()
			h, err := hs.readHello()
			if err != nil || (h.SelectedPSK != nil) != c.resumes {
				t.Errorf("%+v, %v", h, err)
			}
			if c.resumes && int(*h.SelectedPSK) != hs.pskPlaces(t)-1 {
				t.Errorf("took identity %d", *h.SelectedPSK)
			}
			a.Close()
			if err := <-done; !errors.Is(err, ErrTruncated) {
				t.Error(err)
			}
		})
	}
}

// pskPlaces is how many identities the ClientHello that was sent has.
func (hs *clientHandshake) pskPlaces(t *testing.T) int {
	t.Helper()
	h, err := tlsmsg.ParseClientHello(hs.raw)
	if err != nil {
		t.Fatal(err)
	}
	return len(h.PSKIdentities)
}

// spec: TLS-42
func TestSecondClientHelloAddsNoPSK(t *testing.T) {
	for _, add := range []bool{false, true} {
		cc, sc := resumable()
		sc.Groups = []tls.CurveID{tls.CurveP256}
		s := session(t, cc, sc)
		a, b := newPipe()
		defer a.Close()
		server := Server(b, sc)
		done := make(chan error, 1)
		go func() { done <- server.Handshake() }()
		hs := scriptedClient(t, a, cc, nil)
		h, err := hs.readHello()
		if err != nil || !h.IsHRR {
			t.Fatal(err)
		}
		if add {
			hs.session = s
		}
		if err := hs.retry(h); err != nil {
			t.Fatal(err)
		}
		_, err = hs.readHello()
		if add != isRemoteAlert(err) || !add && err != nil {
			t.Errorf("the client read %v", err)
		}
		a.Close()
		if err := <-done; (alertOf(err) == tlsmsg.AlertIllegalParameter) != add {
			t.Errorf("add %v: server %v", add, err)
		}
	}
}

// spec: TLS-34
func TestClientRefusesResumptions(t *testing.T) {
	selected := func(h *tlsmsg.ServerHello, place uint16) {
		h.Extensions = slices.DeleteFunc(h.Extensions, func(e tlsmsg.Extension) bool { return e.Type == tlsmsg.ExtensionPreSharedKey })
		h.Extensions = append(h.Extensions, built(func(x *tlsmsg.ExtensionBuilder) { x.SelectedPSK(place) })...)
	}
	for _, c := range []struct {
		name   string
		change func(h *tlsmsg.ServerHello)
		alert  tlsmsg.Alert
	}{
		{"another place", func(h *tlsmsg.ServerHello) { selected(h, 1) }, tlsmsg.AlertIllegalParameter},
		{"another suite", func(h *tlsmsg.ServerHello) { h.CipherSuite = tlsmsg.SuiteSHA384 }, tlsmsg.AlertIllegalParameter},
		{"no key share", func(h *tlsmsg.ServerHello) {
			h.Extensions = slices.DeleteFunc(h.Extensions, func(e tlsmsg.Extension) bool { return e.Type == tlsmsg.ExtensionKeyShare })
		}, tlsmsg.AlertIllegalParameter},
		{"in a HelloRetryRequest", func(h *tlsmsg.ServerHello) {
			h.Random = tlsmsg.HelloRetryRandom()
			h.Extensions = built(func(x *tlsmsg.ExtensionBuilder) {
				x.SelectedVersion(tlsmsg.VersionTLS13)
				x.SelectedGroup(tls.CurveP256)
				x.SelectedPSK(0)
			})
		}, tlsmsg.AlertIllegalParameter},
		{"behind a HelloRetryRequest of another suite", func(h *tlsmsg.ServerHello) {
			h.Random = tlsmsg.HelloRetryRandom()
			h.CipherSuite = tlsmsg.SuiteSHA384
			h.Extensions = built(func(x *tlsmsg.ExtensionBuilder) {
				x.SelectedVersion(tlsmsg.VersionTLS13)
				x.SelectedGroup(tls.CurveP256)
			})
		}, tlsmsg.AlertUnsupportedExtension},
		{"early data", nil, tlsmsg.AlertUnsupportedExtension},
		{"a certificate all the same", nil, tlsmsg.AlertUnexpectedMessage},
		{"a certificate asked for", nil, tlsmsg.AlertUnexpectedMessage},
		{"another Finished", nil, tlsmsg.AlertDecryptError},
	} {
		t.Run(c.name, func(t *testing.T) {
			cc, sc := resumable()
			cc.Sessions.Add(session(t, cc, sc))
			a, b := newPipe()
			defer a.Close()
			client, server := Client(a, cc), Server(b, sc)
			done := make(chan error, 1)
			go func() { done <- client.Handshake() }()
			if c.change != nil {
				first := true
				b.onSend = func(p []byte) []byte {
					if !first {
						return p
					}
					first = false
					h, err := tlsmsg.ParseRecordHeader(p)
					if err != nil {
						t.Error(err)
					}
					msg, err := tlsmsg.ParseServerHello(p[tlsmsg.RecordHeaderLen : tlsmsg.RecordHeaderLen+h.Length])
					if err != nil {
						t.Error(err)
						return p
					}
					c.change(msg)
					return plainHandshake(t, msg)
				}
			}
			scriptedServer(server, func(hs *serverHandshake) error {
				if hs.resumed == nil {
					t.Error("the server does not resume")
				}
				switch c.name {
				case "early data":
					return withExtensions(func(x *tlsmsg.ExtensionBuilder) { x.Raw(tlsmsg.ExtensionEarlyData, nil) })(hs)
				case "a certificate all the same":
					return afterExtensions(func(hs *serverHandshake) error {
						m, err := hs.appendCertificate(nil, hs.cert, false, false)
						if err != nil {
							return err
						}
						return hs.send(m)
					})(hs)
				case "a certificate asked for":
					return afterExtensions(func(hs *serverHandshake) error {
						m, err := hs.appendRequest(nil)
						if err != nil {
							return err
						}
						return hs.send(m)
					})(hs)
				case "another Finished":
					return afterExtensions(func(hs *serverHandshake) error {
						m, err := hs.appendFinished(nil, hs.keys.client)
						if err != nil {
							return err
						}
						return hs.send(m)
					})(hs)
				case "behind a HelloRetryRequest of another suite":
					// The client has answered; what it reads now selects a session that it did not offer again.
					if err := hs.raw(nil); err != nil {
						return err
					}
					return hs.raw(plainHandshake(t, &tlsmsg.ServerHello{
						LegacyVersion: tlsmsg.VersionTLS12, CipherSuite: tlsmsg.SuiteSHA384,
						Extensions: built(func(x *tlsmsg.ExtensionBuilder) {
							x.SelectedVersion(tlsmsg.VersionTLS13)
							x.KeyShare(tlsmsg.KeyShare{Group: tls.CurveP256, Data: []byte{4}})
							x.SelectedPSK(0)
						}),
					}))
				}
				return hs.flush()
			})
			if err := <-done; alertOf(err) != c.alert {
				t.Errorf("client %v, want %s", err, c.alert)
			}
		})
	}
}

// plainHandshake is an unprotected record of one message.
func plainHandshake(t *testing.T, m interface {
	Append(b []byte) ([]byte, error)
},
) []byte {
	msg, err := m.Append(nil)
	if err != nil {
		t.Error(err)
	}
	return append(tlsmsg.RecordHeader{Type: tlsmsg.TypeHandshake, Version: tlsmsg.VersionTLS12, Length: len(msg)}.Append(nil), msg...)
}

// spec: TLS-41
func TestCallbacksJudgeResumedPeers(t *testing.T) {
	refusal := errors.New("not today")
	for _, c := range []struct {
		name string
		set  func(c *Config, refuse func() error)
	}{
		{"VerifyConnection", func(c *Config, refuse func() error) {
			c.TLS.VerifyConnection = func(cs tls.ConnectionState) error {
				if len(cs.PeerCertificates) != 1 || len(cs.VerifiedChains) != 1 {
					t.Errorf("judged %+v", cs)
				}
				return refuse()
			}
		}},
		{"VerifyPeerCertificate", func(c *Config, refuse func() error) {
			c.TLS.VerifyPeerCertificate = func(raw [][]byte, chains [][]*x509.Certificate) error {
				if len(raw) != 1 || len(chains) != 1 || !bytes.Equal(raw[0], chains[0][0].Raw) {
					t.Errorf("judged %d certificates, %d chains", len(raw), len(chains))
				}
				return refuse()
			}
		}},
	} {
		for _, atClient := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/client=%v", c.name, atClient), func(t *testing.T) {
				cc, sc := resumable()
				cc.TLS.Certificates = []tls.Certificate{identities().client}
				sc.TLS.ClientAuth, sc.TLS.ClientCAs = tls.RequireAndVerifyClientCert, identities().root.pool
				calls, answer := 0, error(nil)
				judge := sc
				if atClient {
					judge = cc
				}
				c.set(judge, func() error { calls++; return answer })
				resumes(t, cc, sc)
				if !resumes(t, cc, sc) || calls != 2 {
					t.Fatalf("%d calls for two sessions", calls)
				}
				answer = refusal
				a, b := newPipe()
				defer a.Close()
				client, server := Client(a, cc), Server(b, sc)
				err, other := shake(client, server)
				if !atClient {
					err, other = other, err
					_, other = server, client.Handshake()
				}
				if !errors.Is(err, refusal) || alertOf(err) != tlsmsg.AlertBadCertificate {
					t.Errorf("the judge: %v", err)
				}
				if atClient && !isRemoteAlert(other) {
					t.Errorf("the other: %v", other)
				}
				if !client.state.DidResume {
					t.Error("that was a full handshake")
				}
			})
		}
	}
}

// spec: TLS-43
func TestServerNameIsNotAcknowledgedInResumption(t *testing.T) {
	cc, sc := resumable()
	for _, resumed := range []bool{false, true} {
		a, b := newPipe()
		client, server := Client(a, cc), Server(b, sc)
		done := make(chan error, 1)
		go func() { done <- server.Handshake() }()
		hs := &clientHandshake{Conn: client}
		for _, step := range []func() error{hs.sendHello, hs.readServerHello} {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
		msg, err := hs.expect(tlsmsg.TypeEncryptedExtensions)
		if err != nil {
			t.Fatal(err)
		}
		m, err := tlsmsg.ParseEncryptedExtensions(msg)
		if err != nil {
			t.Fatal(err)
		}
		if (hs.session != nil) != resumed {
			t.Fatalf("resumed: %v", !resumed)
		}
		if tlsmsg.HasExtension(m.Extensions, tlsmsg.ExtensionServerName) == resumed {
			t.Errorf("resumed: %v, server_name acknowledged: %v", resumed, resumed)
		}
		a.Close()
		<-done
		b.Close()
		meet(t, cc, sc) // leaves a ticket
	}
}

// spec: TLS-17
func TestTicketsThatAreTakenAreNoIdling(t *testing.T) {
	cc, sc := resumable()
	for _, more := range []int{0, 1} {
		client, server := meet(t, cc, sc) // with one ticket
		ticket := mustAppend(&tlsmsg.NewSessionTicket{Lifetime: 7200, Ticket: []byte("ticket"), Nonce: []byte{1}})
		for range maxTickets - 1 + maxIdleRecords + more {
			server.sendHandshake(t, ticket)
		}
		server.Write([]byte("data"))
		_, err := client.Read(make([]byte, 4))
		if failed := alertOf(err) == tlsmsg.AlertUnexpectedMessage; failed != (more > 0) {
			t.Errorf("%d tickets above the limit: %v", more, err)
		}
	}
}
