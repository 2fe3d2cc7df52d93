package evidence

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"reflect"
	"strings"
	"testing"

	"vitrine/internal/pki"
)

// spec: EVD-15 EVD-23 EVD-24
func TestTranscriptOfStockOrigin(t *testing.T) {
	tests := []struct {
		name string
		key  string
		mod  func(cfg, server *tls.Config)
		want Hop
	}{
		{name: "P-256", key: "P-256"},
		{name: "P-384", key: "P-384"},
		{name: "P-521", key: "P-521"},
		{name: "RSA", key: "RSA"},
		{name: "Ed25519", key: "Ed25519"},
		{
			name: "X25519MLKEM768", key: "P-256", want: Hop{Group: tls.X25519MLKEM768},
			mod: func(cfg, server *tls.Config) { server.CurvePreferences = []tls.CurveID{tls.X25519MLKEM768} },
		},
		{
			name: "X25519", key: "P-256", want: Hop{Group: tls.X25519},
			mod: func(cfg, server *tls.Config) { server.CurvePreferences = []tls.CurveID{tls.X25519} },
		},
		{
			name: "P-256 after HelloRetryRequest", key: "RSA", want: Hop{Group: tls.CurveP256},
			mod: func(cfg, server *tls.Config) { server.CurvePreferences = []tls.CurveID{tls.CurveP256} },
		},
		{
			name: "P-521 after HelloRetryRequest", key: "P-256", want: Hop{Group: tls.CurveP521},
			mod: func(cfg, server *tls.Config) { server.CurvePreferences = []tls.CurveID{tls.CurveP521} },
		},
		{
			name: "client certificate requested and given", key: "P-256",
			mod: func(cfg, server *tls.Config) {
				server.ClientAuth = tls.RequestClientCert
				cfg.Certificates = []tls.Certificate{parties().proxy}
			},
		},
		{
			name: "client certificate requested after HelloRetryRequest", key: "P-256", want: Hop{Group: tls.CurveP384},
			mod: func(cfg, server *tls.Config) {
				server.ClientAuth = tls.RequestClientCert
				server.CurvePreferences = []tls.CurveID{tls.CurveP384}
			},
		},
		{
			name: "OCSP and timestamps", key: "P-256", want: Hop{OCSP: []byte("staple"), SCTs: [][]byte{[]byte("one"), []byte("two")}},
			mod: func(cfg, server *tls.Config) {
				server.Certificates[0].OCSPStaple = []byte("staple")
				server.Certificates[0].SignedCertificateTimestamps = [][]byte{[]byte("one"), []byte("two")}
			},
		},
		{
			name: "no ALPN", key: "P-256",
			mod: func(cfg, server *tls.Config) { server.NextProtos = nil },
		},
		{
			name: "TLS 1.2, ECDSA", key: "P-256", want: Hop{Version: tls.VersionTLS12},
			mod: func(cfg, server *tls.Config) { server.MaxVersion = tls.VersionTLS12 },
		},
		{
			name: "TLS 1.2, RSA", key: "RSA", want: Hop{Version: tls.VersionTLS12},
			mod: func(cfg, server *tls.Config) { server.MaxVersion = tls.VersionTLS12 },
		},
		{
			name: "TLS 1.2, Ed25519", key: "Ed25519", want: Hop{Version: tls.VersionTLS12},
			mod: func(cfg, server *tls.Config) { server.MaxVersion = tls.VersionTLS12 },
		},
		{
			name: "TLS 1.2, P-384 key, OCSP and timestamps", key: "P-384",
			want: Hop{Version: tls.VersionTLS12, OCSP: []byte("staple"), SCTs: [][]byte{[]byte("one")}},
			mod: func(cfg, server *tls.Config) {
				server.MaxVersion = tls.VersionTLS12
				server.ClientAuth = tls.RequestClientCert
				server.Certificates[0].OCSPStaple = []byte("staple")
				server.Certificates[0].SignedCertificateTimestamps = [][]byte{[]byte("one")}
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newConnect(t, testAuthority)
			cert := originCert(t, tt.key)
			e := transcriptOf(t, c, func(cfg, server *tls.Config) {
				server.Certificates[0] = cert
				if tt.mod != nil {
					tt.mod(cfg, server)
				}
			})
			r, err := c.verifier.Verify(overTheWire(t, e))
			if err != nil {
				t.Fatal(err)
			}
			if r.Kind != Transcript || !bytes.Equal(r.Origin.Raw, cert.Leaf.Raw) || len(r.Chains) == 0 {
				t.Errorf("got a %v of %v", r.Kind, r.Origin.Subject)
			}
			if !r.OfferedTokens || !r.PickedNone || r.Answer != nil || r.HopID != [32]byte{} {
				t.Errorf("offered %v, picked none %v, answer %v", r.OfferedTokens, r.PickedNone, r.Answer)
			}
			if want := tt.want.Version; want != 0 && r.Hop.Version != want || r.Hop.Version == 0 || r.Hop.Suite == 0 {
				t.Errorf("version %04x, suite %04x", r.Hop.Version, r.Hop.Suite)
			}
			if want := tt.want.Group; want != 0 && r.Hop.Group != want || r.Hop.Group == 0 {
				t.Errorf("group %v", r.Hop.Group)
			}
			if !bytes.Equal(r.Hop.OCSP, tt.want.OCSP) || !reflect.DeepEqual(r.Hop.SCTs, tt.want.SCTs) {
				t.Errorf("OCSP %q, SCTs %q", r.Hop.OCSP, r.Hop.SCTs)
			}
			if !r.Hop.Verified {
				t.Error("the proxy's own verification is lost")
			}
		})
	}
}

func TestTranscriptOfIPLiteral(t *testing.T) {
	for _, authority := range []string{"127.0.0.1:8443", "[::1]:443"} {
		c := newConnect(t, authority)
		host, err := hostOf(authority)
		if err != nil {
			t.Fatal(err)
		}
		e := transcriptOf(t, c, func(cfg, _ *tls.Config) { cfg.ServerName = host })
		if _, err := c.verifier.Verify(overTheWire(t, e)); err != nil {
			t.Errorf("%s: %v", authority, err)
		}
	}
}

// spec: EVD-30
func TestOriginThatPickedATokenIsNoReasonForLess(t *testing.T) {
	for _, token := range []string{"itls-h2/1", "itls/1"} {
		c := newConnect(t, testAuthority)
		e := transcriptOf(t, c, func(_, server *tls.Config) { server.NextProtos = []string{token} })
		r, err := c.verifier.Verify(overTheWire(t, e))
		if err != nil {
			t.Fatal(err)
		}
		if !r.OfferedTokens || r.PickedNone || r.Hop.ALPN != token {
			t.Errorf("%s: offered %v, picked none %v", token, r.OfferedTokens, r.PickedNone)
		}
	}
}

// spec: EVD-30
func TestProxyThatStripsTokensJustifiesNothing(t *testing.T) {
	for _, offer := range [][]string{
		nil,
		{"http/1.1"},
		{"itls-h2/1", "http/1.1"},
		{"itls/1", "http/1.1"},
		{"itls/1", "itls/1", "http/1.1"},
		{"http/1.1", "itls-h2/1", "itls/1"}, // an origin that takes the client's first would pick it
		{"itls-h2/1", "http/1.1", "itls/1"},
	} {
		c := newConnect(t, testAuthority)
		e := transcriptOf(t, c, func(cfg, _ *tls.Config) { cfg.NextProtos = offer })
		r, err := c.verifier.Verify(overTheWire(t, e))
		if err != nil {
			t.Fatal(err)
		}
		if r.OfferedTokens {
			t.Errorf("an offer of %q counts as one of every token", offer)
		}
	}
}

// An origin signs that it speaks TLS 1.3 even to who asks for less.
// spec: EVD-25
func TestForcedDowngradeConvictsTheProxy(t *testing.T) {
	c := newConnect(t, testAuthority)
	cfg := proxyConfig()
	cfg.MaxVersion = tls.VersionTLS12
	d, err := handshake(t, c, cfg, serverConfig(parties().origin))
	if err != nil {
		t.Fatal(err)
	}
	// The proxy of ours would not show this. A liar does.
	sent, received, secret := d.dial.take()
	e := assemble(t, d, sent, received, secret)
	_, err = c.verifier.Verify(overTheWire(t, e))
	wantReason(t, err, ReasonDowngrade)
}

func TestHonestDialShowsNoDowngradedTranscript(t *testing.T) {
	c := newConnect(t, testAuthority)
	cfg := proxyConfig()
	cfg.MaxVersion = tls.VersionTLS12
	d, err := handshake(t, c, cfg, serverConfig(parties().origin))
	if err != nil {
		t.Fatal(err)
	}
	e, err := d.dial.Evidence(d.client, true)
	if err != nil {
		t.Fatal(err)
	}
	if e.Kind != Claim {
		t.Errorf("got a %v", e.Kind)
	}
}

// assemble makes a transcript without the checks of Dial.Evidence.
func assemble(t *testing.T, d *dialed, sent, received, secret []byte) *Evidence {
	t.Helper()
	hellos, err := clientHellos(sent)
	if err != nil {
		t.Fatal(err)
	}
	flight, err := serverFlight(received, secret, &d.client)
	if err != nil {
		t.Fatal(err)
	}
	return &Evidence{
		Kind:      Transcript,
		Hop:       HopOf(d.client, true),
		Authority: d.dial.authority,
		Time:      d.dial.now(),
		Salt:      d.dial.salt,
		Messages:  bytes.Join(interleave(hellos, flight), nil),
	}
}

// spec: EVD-18
func TestReplayedTranscript(t *testing.T) {
	first, second := newConnect(t, testAuthority), newConnect(t, testAuthority)
	e := transcriptOf(t, first)
	_, err := second.verifier.Verify(overTheWire(t, e))
	wantReason(t, err, ReasonForeign)
}

// spec: EVD-18
func TestTranscriptBorrowedFromAnotherProxy(t *testing.T) {
	// A second proxy forwards the client's nonce to the first and shows what that got.
	c := newConnect(t, testAuthority)
	other := *c.req.Offer
	other.Proxies = [][32]byte{{1}}
	e := transcriptOf(t, connectWith(t, &other))
	_, err := c.verifier.Verify(overTheWire(t, e))
	wantReason(t, err, ReasonForeign)
}

// spec: EVD-18 EVD-27
func TestTranscriptBorrowedFromAnotherAuthority(t *testing.T) {
	c := newConnect(t, testAuthority)
	other := *c.req.Offer
	other.Authority = "origin.example:8443"
	e := transcriptOf(t, connectWith(t, &other))
	_, err := c.verifier.Verify(overTheWire(t, e))
	wantReason(t, err, ReasonForeign)
	e.Authority = testAuthority
	_, err = c.verifier.Verify(overTheWire(t, e))
	wantReason(t, err, ReasonForeign)
}

// Exhaustive: no byte of a TLS 1.3 transcript can change.
// spec: EVD-17 EVD-23
func TestFlippedByteInTranscript(t *testing.T) {
	for _, tt := range []struct {
		name string
		mod  func(cfg, server *tls.Config)
	}{
		{"one hello", func(cfg, server *tls.Config) { server.CurvePreferences = []tls.CurveID{tls.X25519} }},
		{"two hellos", func(cfg, server *tls.Config) {
			server.CurvePreferences = []tls.CurveID{tls.CurveP256}
			cfg.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256}
			server.ClientAuth = tls.RequestClientCert
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newConnect(t, testAuthority)
			e := transcriptOf(t, c, tt.mod)
			for i := range e.Messages {
				for _, bit := range []byte{0x01, 0x80} {
					lie := *e
					lie.Messages = bytes.Clone(e.Messages)
					lie.Messages[i] ^= bit
					if _, err := c.verifier.Verify(&lie); err == nil {
						t.Fatalf("bit %#x of byte %d of %d", bit, i, len(e.Messages))
					}
				}
			}
			for i := range e.Messages {
				lie := *e
				lie.Messages = e.Messages[:i]
				if _, err := c.verifier.Verify(&lie); err == nil {
					t.Fatalf("cut to %d of %d bytes", i, len(e.Messages))
				}
			}
			lie := *e
			lie.Messages = append(bytes.Clone(e.Messages), 0)
			_, err := c.verifier.Verify(&lie)
			wantReason(t, err, ReasonMalformed)
		})
	}
}

// In TLS 1.2 the signature covers the randoms and the key share. A change elsewhere can pass only where
// nothing rests on it: the result stays the same, or says less.
func TestFlippedByteInTLS12Transcript(t *testing.T) {
	c := newConnect(t, testAuthority)
	e := transcriptOf(t, c, func(_, server *tls.Config) { server.MaxVersion = tls.VersionTLS12 })
	good, err := c.verifier.Verify(e)
	if err != nil {
		t.Fatal(err)
	}
	ch := 4 + (int(e.Messages[1])<<16 | int(e.Messages[2])<<8 | int(e.Messages[3]))
	signed := func(i int) bool { return i >= 6 && i < 38 || i >= ch+6 && i < ch+38 }
	unsigned := 0
	for i := range e.Messages {
		lie := *e
		lie.Messages = bytes.Clone(e.Messages)
		lie.Messages[i] ^= 1
		r, err := c.verifier.Verify(&lie)
		if err != nil {
			continue
		}
		unsigned++
		if signed(i) || i >= ch+38 && !bytes.Equal(r.Origin.Raw, good.Origin.Raw) {
			t.Errorf("byte %d can change", i)
		}
		if r.PickedNone != good.PickedNone || r.OfferedTokens && !good.OfferedTokens {
			t.Errorf("byte %d changes the result", i)
		}
	}
	if unsigned == 0 {
		t.Error("the test expects that TLS 1.2 leaves bytes of ClientHello unsigned")
	}
}

// spec: EVD-24
func TestEditedClaimsAboutTheHop(t *testing.T) {
	c := newConnect(t, testAuthority)
	e := transcriptOf(t, c)
	for name, edit := range map[string]func(h *Hop){
		"version":           func(h *Hop) { h.Version = tls.VersionTLS12 },
		"suite":             func(h *Hop) { h.Suite++ },
		"group":             func(h *Hop) { h.Group++ },
		"alpn":              func(h *Hop) { h.ALPN = "itls-h2/1" },
		"OCSP added":        func(h *Hop) { h.OCSP = []byte("good") },
		"timestamp added":   func(h *Hop) { h.SCTs = [][]byte{{1}} },
		"chain cut":         func(h *Hop) { h.Chain = h.Chain[:1] },
		"chain longer":      func(h *Hop) { h.Chain = append(h.Chain[:2:2], parties().origins.Root.Raw) },
		"chain in disorder": func(h *Hop) { h.Chain = [][]byte{h.Chain[1], h.Chain[0]} },
		"other leaf":        func(h *Hop) { h.Chain = [][]byte{parties().proxy.Certificate[0], h.Chain[1]} },
	} {
		lie := *e
		edit(&lie.Hop)
		_, err := c.verifier.Verify(overTheWire(t, &lie))
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		wantReason(t, err, ReasonAltered)
	}
}

// spec: EVD-28
func TestUntrustedOrigins(t *testing.T) {
	p := parties()
	stranger, err := p.strangers.Origin(testHost)
	if err != nil {
		t.Fatal(err)
	}
	expired, err := p.origins.Issue(&x509.Certificate{
		DNSNames: []string{testHost}, NotBefore: p.origins.Root.NotBefore, NotAfter: p.origins.Root.NotBefore.Add(1),
	}, key(t, "P-256"))
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := p.origins.Origin("other.example")
	if err != nil {
		t.Fatal(err)
	}
	forClients, err := p.origins.Issue(&x509.Certificate{
		DNSNames: []string{testHost}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, key(t, "P-256"))
	if err != nil {
		t.Fatal(err)
	}
	// A proxy certificate under an origin root: the worst that a confused CA could do.
	proxyLeaf, err := p.origins.Proxy(testHost)
	if err != nil {
		t.Fatal(err)
	}
	for name, cert := range map[string]tls.Certificate{
		"another root": stranger, "expired": expired, "another name": wrong, "clientAuth only": forClients, "a proxy": proxyLeaf,
	} {
		t.Run(name, func(t *testing.T) {
			c := newConnect(t, testAuthority)
			e := transcriptOf(t, c, func(cfg, server *tls.Config) {
				server.Certificates = []tls.Certificate{cert}
				cfg.InsecureSkipVerify = true // the proxy trusts whom it likes; the client does not
			})
			_, err := c.verifier.Verify(overTheWire(t, e))
			wantUntrusted(t, err)

			claim := *e
			claim.Kind = Claim
			_, err = c.verifier.Verify(overTheWire(t, &claim))
			wantUntrusted(t, err)
		})
	}
}

// largeKey is an RSA key of 8,193 bits that nobody has.
type largeKey struct{ crypto.Signer }

func (largeKey) Public() crypto.PublicKey {
	return &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 8192, 1), E: 65537}
}

// spec: EVD-28
func TestAKeyThatIsSlowToVerifyIsRefused(t *testing.T) {
	large, err := parties().origins.Issue(&x509.Certificate{BasicConstraintsValid: true, IsCA: true}, largeKey{})
	if err != nil {
		t.Fatal(err)
	}
	c := newConnect(t, testAuthority)
	e := transcriptOf(t, c)
	e.Kind = Claim
	e.Hop.Chain = append(e.Hop.Chain, large.Certificate[0])
	_, err = c.verifier.Verify(overTheWire(t, e))
	wantUntrusted(t, err)
	if !strings.Contains(err.Error(), "8193 bits") {
		t.Error(err)
	}
}

// spec: EVD-28
func TestOriginRootsAreNotProxyRoots(t *testing.T) {
	c := newConnect(t, testAuthority)
	e := transcriptOf(t, c)
	c.verifier.Roots = parties().proxies.Pool().CertPool
	_, err := c.verifier.Verify(e)
	wantUntrusted(t, err)
	if err := pki.RefuseProxyAsOrigin(parties().proxy.Leaf); err == nil {
		t.Error("a proxy's leaf passes for an origin's")
	}
}

// spec: EVD-30
func TestClaimProvesNothingButItsChain(t *testing.T) {
	c := newConnect(t, testAuthority)
	e := transcriptOf(t, c)
	e.Kind = Claim
	r, err := c.verifier.Verify(overTheWire(t, e))
	if err != nil {
		t.Fatal(err)
	}
	if r.Kind != Claim || r.OfferedTokens || r.PickedNone || r.Answer != nil {
		t.Errorf("a claim says %+v", r)
	}
}
