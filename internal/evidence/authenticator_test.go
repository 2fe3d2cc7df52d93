package evidence

import (
	"bytes"
	"crypto"
	"crypto/hmac"
	"crypto/tls"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/frames"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
)

// cooperating is an origin that knows of us.
func cooperating(cert tls.Certificate) *tls.Config {
	cfg := serverConfig(cert)
	cfg.NextProtos = []string{frames.ALPNH2}
	cfg.ClientAuth = tls.RequestClientCert
	return cfg
}

// hop2 is a hop to a cooperating origin, with the proxy's certificate shown.
func hop2(t testing.TB, c *connect, cert tls.Certificate) *dialed {
	t.Helper()
	cfg := proxyConfig()
	cfg.Certificates = []tls.Certificate{parties().proxy}
	d, err := handshake(t, c, cfg, cooperating(cert))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.dial.Discard)
	return d
}

func answerFor(t testing.TB, d *dialed) *tlsmsg.InspectionAnswer {
	t.Helper()
	a, err := NewAnswer(&d.server, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// authenticated is good evidence of kind Authenticator, and the payload that it was made of.
func authenticated(t testing.TB, c *connect, d *dialed, cert tls.Certificate, answer *tlsmsg.InspectionAnswer) (*Evidence, []byte) {
	t.Helper()
	payload, err := Authenticate(c.req, &d.server, &cert, answer)
	if err != nil {
		t.Fatal(err)
	}
	e, err := FromAuthenticator(payload, c.req, d.client, true)
	if err != nil {
		t.Fatal(err)
	}
	return e, payload
}

// spec: EVD-8 EVD-11
func TestAuthenticatorOfCooperatingOrigin(t *testing.T) {
	for _, kind := range []string{"P-256", "P-384", "P-521", "RSA", "Ed25519"} {
		t.Run(kind, func(t *testing.T) {
			c := newConnect(t, testAuthority)
			cert := originCert(t, kind)
			cert.OCSPStaple = []byte("staple")
			cert.SignedCertificateTimestamps = [][]byte{[]byte("one")}
			d := hop2(t, c, cert)
			if err := c.req.CheckProxy(testAuthority, pki.LeafHash(d.server.PeerCertificates[0])); err != nil {
				t.Fatal(err)
			}
			answer := answerFor(t, d)
			e, _ := authenticated(t, c, d, cert, answer)
			r, err := c.verifier.Verify(overTheWire(t, e))
			if err != nil {
				t.Fatal(err)
			}
			if r.Kind != Authenticator || !bytes.Equal(r.Origin.Raw, cert.Leaf.Raw) || r.HopID != answer.HopID || r.HopID == [32]byte{} {
				t.Errorf("got %+v", r)
			}
			if r.Answer == nil || r.Answer.HopPeer != tlsmsg.HopPeerProxy || r.Answer.HopALPN != frames.ALPNH2 || r.Answer.Lifetime != time.Hour {
				t.Errorf("answer %+v", r.Answer)
			}
			if r.OfferedTokens || r.PickedNone {
				t.Error("an authenticator justifies a lower level")
			}
			a, err := parseAuthenticator(e.Authenticator)
			if err != nil {
				t.Fatal(err)
			}
			if leaf := a.leaf(); !bytes.Equal(leaf.OCSP, cert.OCSPStaple) || !reflect.DeepEqual(leaf.SCTs, cert.SignedCertificateTimestamps) {
				t.Errorf("the request's OCSP and SCT were answered with %q and %q", leaf.OCSP, leaf.SCTs)
			}
			if !bytes.Equal(r.Hop.OCSP, cert.OCSPStaple) || r.Hop.ALPN != frames.ALPNH2 {
				t.Errorf("hop %+v", r.Hop)
			}
		})
	}
}

// spec: EVD-11
func TestAuthenticatorOfSHA384Hop(t *testing.T) {
	// Go takes AES-128 where it can choose, so the exporter is a test's own.
	s, _ := suiteOf(tls.TLS_AES_256_GCM_SHA384)
	keys := &hopKeys{suite: s, context: bytes.Repeat([]byte{1}, 48), finished: bytes.Repeat([]byte{2}, 48)}
	c := newConnect(t, testAuthority)
	cert := parties().origin
	raw, err := keys.authenticator(c.req, &cert, nil)
	if err != nil {
		t.Fatal(err)
	}
	e := &Evidence{
		Kind: Authenticator, Authority: testAuthority, Time: time.Now(), Authenticator: raw, HandshakeContext: keys.context,
		Hop: Hop{Version: tls.VersionTLS13, Suite: tls.TLS_AES_256_GCM_SHA384, Chain: cert.Certificate},
	}
	if _, err := c.verifier.Verify(overTheWire(t, e)); err != nil {
		t.Fatal(err)
	}
	// The other hash: the same bytes under a context that is too long, and the reverse.
	e.Hop.Suite = tls.TLS_AES_128_GCM_SHA256
	_, err = c.verifier.Verify(overTheWire(t, e))
	wantReason(t, err, ReasonMalformed)
	e.Hop.Suite, e.HandshakeContext = tls.TLS_AES_256_GCM_SHA384, keys.context[:32]
	_, err = c.verifier.Verify(overTheWire(t, e))
	wantReason(t, err, ReasonMalformed)
}

// A context of another length moves the boundary between it and the request in what is signed.
// spec: EVD-11
func TestHandshakeContextOfWrongLength(t *testing.T) {
	c := newConnect(t, testAuthority)
	d := hop2(t, c, parties().origin)
	e, _ := authenticated(t, c, d, parties().origin, answerFor(t, d))
	for _, n := range []int{0, 1, 31, 33, 47, 48, 49, 255} {
		lie := *e
		lie.HandshakeContext = append(bytes.Clone(e.HandshakeContext), make([]byte, 255)...)[:n]
		_, err := c.verifier.Verify(&lie)
		wantReason(t, err, ReasonMalformed)
	}
}

// RFC 9261 servers sign requests with extensions that they do not know.
// spec: EVD-14
func TestAuthenticatorWithoutAnswerSaysNothingAboutTheProxy(t *testing.T) {
	c := newConnect(t, testAuthority)
	d := hop2(t, c, parties().origin)
	e, _ := authenticated(t, c, d, parties().origin, nil)
	r, err := c.verifier.Verify(overTheWire(t, e))
	if err != nil {
		t.Fatal(err)
	}
	if r.Answer != nil || r.OfferedTokens || r.PickedNone {
		t.Errorf("got %+v", r)
	}
}

// spec: EVD-9 EVD-11
func TestFlippedByteInAuthenticator(t *testing.T) {
	c := newConnect(t, testAuthority)
	d := hop2(t, c, parties().origin)
	e, payload := authenticated(t, c, d, parties().origin, answerFor(t, d))
	// Only the proxy can check the 32 bytes of Finished, which the client has no key for.
	for i := range len(e.Authenticator) - 32 {
		lie := *e
		lie.Authenticator = bytes.Clone(e.Authenticator)
		lie.Authenticator[i] ^= 1
		if _, err := c.verifier.Verify(&lie); err == nil {
			t.Fatalf("client: byte %d of %d", i, len(e.Authenticator))
		}
	}
	for i := range e.HandshakeContext {
		lie := *e
		lie.HandshakeContext = bytes.Clone(e.HandshakeContext)
		lie.HandshakeContext[i] ^= 1
		_, err := c.verifier.Verify(&lie)
		wantReason(t, err, ReasonAltered)
	}
	for i := range payload {
		lie := bytes.Clone(payload)
		lie[i] ^= 1
		if _, err := FromAuthenticator(lie, c.req, d.client, true); err == nil {
			t.Fatalf("proxy: byte %d of %d", i, len(payload))
		}
		if _, err := FromAuthenticator(payload[:i], c.req, d.client, true); err == nil {
			t.Fatalf("proxy: cut to %d of %d bytes", i, len(payload))
		}
	}
}

// spec: EVD-9 EVD-12
func TestReplayedAuthenticator(t *testing.T) {
	c := newConnect(t, testAuthority)
	d := hop2(t, c, parties().origin)
	e, payload := authenticated(t, c, d, parties().origin, answerFor(t, d))
	again := newConnect(t, testAuthority)
	_, err := again.verifier.Verify(overTheWire(t, e))
	wantReason(t, err, ReasonForeign)
	_, err = FromAuthenticator(payload, again.req, d.client, true)
	wantReason(t, err, ReasonAltered) // its Finished is over another request
}

// spec: EVD-11
func TestAuthenticatorBorrowedFromAnotherProxyOrAuthority(t *testing.T) {
	c := newConnect(t, testAuthority)
	for name, edit := range map[string]func(o *tlsmsg.InspectionOffer){
		"proxy":     func(o *tlsmsg.InspectionOffer) { o.Proxies = [][32]byte{{1}} },
		"authority": func(o *tlsmsg.InspectionOffer) { o.Authority = "origin.example:8443" },
	} {
		other := *c.req.Offer // the client's nonce in another's request
		edit(&other)
		oc := connectWith(t, &other)
		d := hop2(t, oc, parties().origin)
		e, _ := authenticated(t, oc, d, parties().origin, answerFor(t, d))
		e.Authority = testAuthority
		_, err := c.verifier.Verify(overTheWire(t, e))
		if err == nil {
			t.Fatalf("%s: accepted", name)
		}
		wantReason(t, err, ReasonAltered)
	}
}

// A proxy that relays the authenticator of one hop 2 and carries the tunnel over another, or over bare TCP.
// spec: EVD-13
func TestAnswerAboutAnotherHop(t *testing.T) {
	c := newConnect(t, testAuthority)
	d := hop2(t, c, parties().origin)
	good, _ := authenticated(t, c, d, parties().origin, answerFor(t, d))
	for name, edit := range map[string]func(h *Hop){
		"version": func(h *Hop) { h.Version = tls.VersionTLS12 },
		"suite":   func(h *Hop) { h.Suite = tls.TLS_CHACHA20_POLY1305_SHA256 },
		"ALPN":    func(h *Hop) { h.ALPN = frames.ALPNRaw },
	} {
		lie := *good
		edit(&lie.Hop)
		if _, err := c.verifier.Verify(overTheWire(t, &lie)); err == nil {
			t.Errorf("%s of hop 2 can be lied about", name)
		}
	}
	// The origin signs an answer that is not about the hop it signs for.
	answer := answerFor(t, d)
	answer.HopID[0] ^= 1
	if _, err := Authenticate(c.req, &d.server, &parties().origin, answer); err == nil {
		t.Error("an origin answers for a hop that it does not have")
	}
	keys, err := exportKeys(&d.server)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := keys.authenticator(c.req, &parties().origin, answer)
	if err != nil {
		t.Fatal(err)
	}
	lie := *good
	lie.Authenticator = raw
	_, err = c.verifier.Verify(overTheWire(t, &lie))
	wantReason(t, err, ReasonAltered)
	_, err = FromAuthenticator(frame(raw), c.req, d.client, true)
	wantReason(t, err, ReasonAltered)
}

// spec: EVD-13
func TestAnswerAboutAnotherVersionOrSuite(t *testing.T) {
	c := newConnect(t, testAuthority)
	d := hop2(t, c, parties().origin)
	good, _ := authenticated(t, c, d, parties().origin, answerFor(t, d))
	keys, err := exportKeys(&d.server)
	if err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(a *tlsmsg.InspectionAnswer){
		"version": func(a *tlsmsg.InspectionAnswer) { a.HopVersion = tls.VersionTLS12 },
		"suite":   func(a *tlsmsg.InspectionAnswer) { a.HopSuite++ },
		"ALPN":    func(a *tlsmsg.InspectionAnswer) { a.HopALPN = "h2" },
	} {
		answer := answerFor(t, d)
		edit(answer)
		if _, err := Authenticate(c.req, &d.server, &parties().origin, answer); err == nil {
			t.Errorf("%s: an origin answers for a hop that it does not have", name)
		}
		lie := *good
		if lie.Authenticator, err = keys.authenticator(c.req, &parties().origin, answer); err != nil {
			t.Fatal(err)
		}
		if _, err := c.verifier.Verify(overTheWire(t, &lie)); err == nil {
			t.Errorf("%s: the origin saw another hop 2", name)
		} else {
			wantReason(t, err, ReasonAltered)
		}
	}
	// Without an answer nobody but the proxy says what hop 2 is; but authenticators are of TLS 1.3.
	silent, _ := authenticated(t, c, d, parties().origin, nil)
	silent.Hop.Version = tls.VersionTLS12
	_, err = c.verifier.Verify(overTheWire(t, silent))
	wantReason(t, err, ReasonMalformed)
}

func TestFinishedOfAnotherHash(t *testing.T) {
	c := newConnect(t, testAuthority)
	d := hop2(t, c, parties().origin)
	e, _ := authenticated(t, c, d, parties().origin, answerFor(t, d))
	longer := append(bytes.Clone(e.Authenticator), make([]byte, 16)...)
	longer[len(longer)-48-1] = 48
	e.Authenticator = longer
	_, err := c.verifier.Verify(overTheWire(t, e))
	wantReason(t, err, ReasonMalformed)
}

// frame is the payload of EVIDENCE on hop 2.
func frame(raw []byte) []byte {
	return append([]byte{version, byte(kindHop2), byte(len(raw) >> 8), byte(len(raw))}, raw...)
}

// lyingOrigin signs what crypto/tls and we would not, with a true Finished.
func lyingOrigin(t *testing.T, d *dialed, req *Request, cert *tlsmsg.Certificate, scheme tls.SignatureScheme, key tls.Certificate) []byte {
	t.Helper()
	keys, err := exportKeys(&d.server)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := keys.sign(req, encode(t, cert), scheme, key.PrivateKey.(crypto.Signer))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// spec: EVD-8 EVD-9 EVD-12
func TestAuthenticatorOnlyAnswersWhatWasAsked(t *testing.T) {
	c := newConnect(t, testAuthority)
	origin := parties().origin
	d := hop2(t, c, origin)
	good, _ := authenticated(t, c, d, origin, answerFor(t, d))
	entries := func(x ...tlsmsg.Extension) []tlsmsg.CertificateEntry {
		return []tlsmsg.CertificateEntry{{Cert: origin.Certificate[0], Extensions: x}, {Cert: origin.Certificate[1]}}
	}
	intermediate := entries()
	intermediate[1].Extensions = []tlsmsg.Extension{{Type: tlsmsg.ExtensionDelegatedCredential}}
	p384 := originCert(t, "P-384")
	narrow := requestWith(t, c.req.Offer, func(x *tlsmsg.ExtensionBuilder) {
		x.SignatureAlgorithms([]tls.SignatureScheme{tls.ECDSAWithP256AndSHA256})
		x.ServerName(testHost)
		x.InspectionOffer(c.req.Offer)
	})
	for _, tt := range []struct {
		name string
		req  *Request
		cert *tlsmsg.Certificate
		key  tls.Certificate
		sch  tls.SignatureScheme
		want string
	}{
		{"another context", c.req, &tlsmsg.Certificate{Context: make([]byte, 32), Entries: entries()}, origin, tls.ECDSAWithP256AndSHA256, "another nonce"},
		{"a longer context", c.req, &tlsmsg.Certificate{Context: append(c.req.Nonce[:], 0), Entries: entries()}, origin, tls.ECDSAWithP256AndSHA256, "another nonce"},
		{"no certificate", c.req, &tlsmsg.Certificate{Context: c.req.Nonce[:]}, origin, tls.ECDSAWithP256AndSHA256, "without a certificate"},
		{"a delegated credential", c.req, &tlsmsg.Certificate{Context: c.req.Nonce[:], Entries: entries(tlsmsg.Extension{Type: tlsmsg.ExtensionDelegatedCredential})}, origin, tls.ECDSAWithP256AndSHA256, "extension 34"},
		{"an extension on the intermediate", c.req, &tlsmsg.Certificate{Context: c.req.Nonce[:], Entries: intermediate}, origin, tls.ECDSAWithP256AndSHA256, "extension 34"},
		{"a staple that was not asked for", narrow, &tlsmsg.Certificate{Context: c.req.Nonce[:], Entries: entries(tlsmsg.Extension{Type: tlsmsg.ExtensionStatusRequest, Data: []byte{1, 0, 0, 1, 1}})}, origin, tls.ECDSAWithP256AndSHA256, "extension 5"},
		{"a scheme that was not offered", narrow, &tlsmsg.Certificate{Context: c.req.Nonce[:], Entries: []tlsmsg.CertificateEntry{{Cert: p384.Certificate[0]}}}, p384, tls.ECDSAWithP384AndSHA384, "did not offer"},
		{"garbage for a certificate", c.req, &tlsmsg.Certificate{Context: c.req.Nonce[:], Entries: []tlsmsg.CertificateEntry{{Cert: []byte("garbage")}}}, origin, tls.ECDSAWithP256AndSHA256, "malformed"},
		{"another key", c.req, &tlsmsg.Certificate{Context: c.req.Nonce[:], Entries: entries()}, originCert(t, "P-256"), tls.ECDSAWithP256AndSHA256, "signature fails"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw := lyingOrigin(t, d, tt.req, tt.cert, tt.sch, tt.key)
			_, err := FromAuthenticator(frame(raw), tt.req, d.client, true)
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("proxy: got %v, want %q", err, tt.want)
			}
			lie := *good
			lie.Authenticator = raw
			v := *c.verifier
			v.Request = tt.req.Raw
			_, err = v.Verify(&lie)
			if !errors.As(err, &e) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("client: got %v, want %q", err, tt.want)
			}
		})
	}
	// The honest origin keeps to a narrow request, and has nothing to sign it with when it must not.
	cert := origin
	cert.OCSPStaple, cert.SignedCertificateTimestamps = []byte("staple"), [][]byte{{1}}
	payload, err := Authenticate(narrow, &d.server, &cert, answerFor(t, d))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := FromAuthenticator(payload, narrow, d.client, true); err != nil {
		t.Error(err)
	}
	if _, err := Authenticate(c.req, &d.server, &tls.Certificate{PrivateKey: origin.PrivateKey}, nil); err == nil {
		t.Error("an authenticator without a certificate")
	}
	if _, err := Authenticate(c.req, &d.server, &tls.Certificate{Certificate: origin.Certificate}, nil); err == nil {
		t.Error("an authenticator without a key")
	}
	if _, err := Authenticate(narrow, &d.server, &p384, nil); !errors.Is(err, tlsmsg.ErrScheme) {
		t.Errorf("got %v", err)
	}
}

// requestWith is a request with other extensions than NewRequest's.
func requestWith(t *testing.T, offer *tlsmsg.InspectionOffer, f func(x *tlsmsg.ExtensionBuilder)) *Request {
	t.Helper()
	raw := encode(t, &tlsmsg.CertificateRequest{Type: tlsmsg.TypeClientCertificateRequest, Context: offer.Nonce[:], Extensions: extensions(t, f)})
	req, err := ParseRequest(raw)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// spec: EVD-9
func TestForgedFinished(t *testing.T) {
	c := newConnect(t, testAuthority)
	d := hop2(t, c, parties().origin)
	other := hop2(t, c, parties().origin)
	// An authenticator of another hop 2: a proxy behind a proxy passes it on.
	payload, err := Authenticate(c.req, &other.server, &parties().origin, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = FromAuthenticator(payload, c.req, d.client, true)
	wantReason(t, err, ReasonAltered)
}

// spec: EVD-9
func TestRefusalOfTheOrigin(t *testing.T) {
	c := newConnect(t, testAuthority)
	d := hop2(t, c, parties().origin)
	keys, err := exportKeys(&d.server)
	if err != nil {
		t.Fatal(err)
	}
	empty := encode(t, &tlsmsg.Certificate{Context: c.req.Nonce[:]})
	mac := hmac.New(keys.suite.new, keys.finished)
	mac.Write(keys.suite.sum(keys.context, c.req.Raw, empty))
	refusal := encode(t, &tlsmsg.Finished{VerifyData: mac.Sum(nil)})
	_, err = FromAuthenticator(frame(refusal), c.req, d.client, true)
	wantReason(t, err, ReasonRefused)
	refusal[10] ^= 1
	_, err = FromAuthenticator(frame(refusal), c.req, d.client, true)
	wantReason(t, err, ReasonAltered)
}

// spec: EVD-6
func TestAuthenticatorsNeedTLS13(t *testing.T) {
	c := newConnect(t, testAuthority)
	cfg, server := proxyConfig(), cooperating(parties().origin)
	server.MaxVersion = tls.VersionTLS12
	d, err := handshake(t, c, cfg, server)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Authenticate(c.req, &d.server, &parties().origin, nil); err == nil {
		t.Error("an authenticator over TLS 1.2")
	}
	if _, err := FromAuthenticator(frame([]byte{1}), c.req, d.client, true); err == nil {
		t.Error("an authenticator over TLS 1.2")
	}
	incomplete := tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256}
	if _, err := Authenticate(c.req, &incomplete, &parties().origin, nil); err == nil {
		t.Error("an authenticator before the client's Finished")
	}
}

// What travels on hop 2 is not evidence, whatever a careless proxy does with it.
// spec: EVD-2
func TestHop2PayloadIsNotEvidence(t *testing.T) {
	c := newConnect(t, testAuthority)
	d := hop2(t, c, parties().origin)
	e, payload := authenticated(t, c, d, parties().origin, nil)
	_, err := Parse(payload)
	wantReason(t, err, ReasonMalformed)
	p, err := e.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = FromAuthenticator(p, c.req, d.client, true)
	wantReason(t, err, ReasonMalformed)
}

// With the finished key anybody could write refusals in the origin's name.
// spec: EVD-10
func TestFinishedKeyStaysWithTheProxy(t *testing.T) {
	c := newConnect(t, testAuthority)
	d := hop2(t, c, parties().origin)
	e, _ := authenticated(t, c, d, parties().origin, answerFor(t, d))
	keys, err := exportKeys(&d.client)
	if err != nil {
		t.Fatal(err)
	}
	p, err := e.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(p, keys.finished) || !bytes.Contains(p, keys.context) {
		t.Error("the evidence holds the finished key, or lacks the context")
	}
}

// spec: EVD-7
func TestLimiter(t *testing.T) {
	nonce := func(i int) (n [32]byte) {
		n[0], n[1] = byte(i), byte(i>>8)
		return n
	}
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter()
		if err := l.Allow(nonce(0)); err != nil {
			t.Fatal(err)
		}
		if err := l.Allow(nonce(0)); !errors.Is(err, ErrRepeated) {
			t.Errorf("the same context twice: %v", err)
		}
		i := 1
		for ; i < answersBurst; i++ {
			if err := l.Allow(nonce(i)); err != nil {
				t.Fatalf("%d: %v", i, err)
			}
		}
		if err := l.Allow(nonce(i)); !errors.Is(err, ErrRate) {
			t.Errorf("over the burst: %v", err)
		}
		start := time.Now()
		for ; i < maxAnswers; i++ {
			for errors.Is(l.Allow(nonce(i)), ErrRate) {
				time.Sleep(time.Second / answersPerSecond)
			}
		}
		if took, want := time.Since(start), time.Duration(maxAnswers-answersBurst)*time.Second/answersPerSecond; took < want {
			t.Errorf("%d answers in %v", maxAnswers, took)
		}
		if err := l.Allow(nonce(i)); !errors.Is(err, ErrSpent) {
			t.Errorf("answer %d: %v", i, err)
		}
		time.Sleep(time.Hour)
		if err := l.Allow(nonce(i)); !errors.Is(err, ErrSpent) {
			t.Errorf("an hour later: %v", err)
		}
	})
}

func TestAnswerIsSignedUnchanged(t *testing.T) {
	c := newConnect(t, testAuthority)
	d := hop2(t, c, parties().origin)
	answer := answerFor(t, d)
	e, _ := authenticated(t, c, d, parties().origin, answer)
	r, err := c.verifier.Verify(overTheWire(t, e))
	if err != nil {
		t.Fatal(err)
	}
	want := *answer
	want.Time = want.Time.Truncate(time.Millisecond).UTC()
	if !reflect.DeepEqual(*r.Answer, want) {
		t.Errorf("got %+v, want %+v", r.Answer, want)
	}
	if slices.Contains(c.req.Schemes, tls.PKCS1WithSHA256) {
		t.Error("the request offers what RFC 9261 forbids")
	}
}
