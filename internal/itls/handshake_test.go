package itls

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vitrine/internal/tlsmsg"
)

// serverCertificates has one certificate of each kind of key, made once.
var serverCertificates = sync.OnceValue(func() map[string]tls.Certificate {
	var t fataler
	m := map[string]tls.Certificate{}
	for _, kind := range []string{"P-256", "P-384", "Ed25519", "RSA-2048"} {
		cert := identities().root.issue(&t, profile{names: []string{testName}, key: newKey(&t, kind)})
		cert.OCSPStaple = []byte("ocsp of " + kind)
		cert.SignedCertificateTimestamps = [][]byte{[]byte("sct one"), []byte("sct two")}
		m[kind] = cert
	}
	return m
})

// clientCertificates is the same for clients.
var clientCertificates = sync.OnceValue(func() map[string]tls.Certificate {
	var t fataler
	m := map[string]tls.Certificate{}
	for _, kind := range []string{"P-256", "P-384", "Ed25519", "RSA-2048"} {
		cert := identities().root.issue(&t, profile{usage: x509.ExtKeyUsageClientAuth, key: newKey(&t, kind)})
		cert.OCSPStaple = []byte("client's ocsp of " + kind)
		cert.SignedCertificateTimestamps = [][]byte{[]byte("client's sct")}
		m[kind] = cert
	}
	return m
})

// spec: TLS-1 TLS-6 TLS-13
func TestHandshakeMatrix(t *testing.T) {
	type groups struct {
		name           string
		client, server []tls.CurveID
		want           tls.CurveID
		retry          bool
	}
	for _, suite := range []uint16{tlsmsg.SuiteSHA256, tlsmsg.SuiteSHA384} {
		for _, g := range []groups{
			{"X25519", nil, nil, tls.X25519, false},
			{"P-256", []tls.CurveID{tls.CurveP256}, nil, tls.CurveP256, false},
			{"P-384", []tls.CurveID{tls.CurveP384}, []tls.CurveID{tls.CurveP384}, tls.CurveP384, false},
			{"X25519MLKEM768", []tls.CurveID{tls.X25519MLKEM768, tls.X25519}, []tls.CurveID{tls.X25519MLKEM768}, tls.X25519MLKEM768, false},
			{"retry to P-256", nil, []tls.CurveID{tls.CurveP256}, tls.CurveP256, true},
			{"retry to X25519MLKEM768", []tls.CurveID{tls.X25519, tls.X25519MLKEM768}, []tls.CurveID{tls.X25519MLKEM768}, tls.X25519MLKEM768, true},
		} {
			for kind := range serverCertificates() {
				for _, auth := range []tls.ClientAuthType{tls.NoClientCert, tls.RequestClientCert, tls.RequireAndVerifyClientCert} {
					for _, protocols := range [][]string{nil, {"http/1.1"}} {
						name := fmt.Sprintf("%s/%s/%s/%s/%v", tlsmsg.SuiteName(suite), g.name, kind, auth, protocols)
						t.Run(name, func(t *testing.T) {
							var keys [2]bytes.Buffer
							cc, sc := clientConfig(), serverConfig()
							cc.Suites, cc.Groups, sc.Groups = []uint16{suite}, g.client, g.server
							cc.TLS.NextProtos, sc.TLS.NextProtos = protocols, append([]string{"other"}, protocols...)
							cc.TLS.KeyLogWriter, sc.TLS.KeyLogWriter = &keys[0], &keys[1]
							sc.TLS.Certificates = []tls.Certificate{serverCertificates()[kind]}
							sc.TLS.ClientAuth, sc.TLS.ClientCAs = auth, identities().root.pool
							if auth == tls.RequireAndVerifyClientCert {
								cc.TLS.Certificates = []tls.Certificate{identities().client}
							}
							client, server := connect(t, cc, sc)
							exchange(t, client, server)
							checkStates(t, client, server)
							checkExporters(t, client, server)
							state := client.ConnectionState()
							if state.CipherSuite != suite || state.CurveID != g.want || state.HelloRetryRequest != g.retry {
								t.Errorf("agreed on %04x %v, retry %v", state.CipherSuite, state.CurveID, state.HelloRetryRequest)
							}
							if want := strings.Join(protocols, ""); state.NegotiatedProtocol != want {
								t.Errorf("protocol %q", state.NegotiatedProtocol)
							}
							if string(state.OCSPResponse) != "ocsp of "+kind || len(state.SignedCertificateTimestamps) != 2 {
								t.Errorf("OCSP %q, SCTs %q", state.OCSPResponse, state.SignedCertificateTimestamps)
							}
							if n := len(server.ConnectionState().PeerCertificates); (n == 1) != (len(cc.TLS.Certificates) == 1) {
								t.Errorf("the server saw %d certificates", n)
							}
							if got := keys[0].String(); got != keys[1].String() || strings.Count(got, "\n") != 5 {
								t.Errorf("key logs:\n%s\n%s", got, keys[1].String())
							}
						})
					}
				}
			}
		}
	}
}

func checkStates(t *testing.T, client, server *Conn) {
	t.Helper()
	c, s := client.ConnectionState(), server.ConnectionState()
	if !c.HandshakeComplete || !s.HandshakeComplete || c.Version != tls.VersionTLS13 || s.Version != tls.VersionTLS13 ||
		c.CipherSuite != s.CipherSuite || c.CurveID != s.CurveID || c.HelloRetryRequest != s.HelloRetryRequest ||
		c.NegotiatedProtocol != s.NegotiatedProtocol || c.ServerName != testName || s.ServerName != testName || c.DidResume || s.DidResume {
		t.Errorf("client %+v\nserver %+v", c, s)
	}
	if len(c.PeerCertificates) != 1 || len(c.VerifiedChains) != 1 {
		t.Errorf("the client saw %d certificates and %d chains", len(c.PeerCertificates), len(c.VerifiedChains))
	}
	if (len(s.PeerCertificates) > 0) != (len(s.VerifiedChains) > 0) {
		t.Errorf("the server saw %d certificates and %d chains", len(s.PeerCertificates), len(s.VerifiedChains))
	}
}

func checkExporters(t *testing.T, client, server *Conn) {
	t.Helper()
	seen := map[string]string{}
	for _, c := range []struct {
		label, context string
		length         int
	}{{"EXPORTER-a", "", 32}, {"EXPORTER-b", "", 32}, {"EXPORTER-a", "context", 32}, {"EXPORTER-a", "", 48}, {"EXPORTER-a", "", 4}} {
		a, err := client.ExportKeyingMaterial(c.label, []byte(c.context), c.length)
		if err != nil || len(a) != c.length {
			t.Fatalf("%+v: %d bytes, %v", c, len(a), err)
		}
		b, err := server.ExportKeyingMaterial(c.label, []byte(c.context), c.length)
		if err != nil || !bytes.Equal(a, b) {
			t.Errorf("%+v: client %x, server %x, %v", c, a, b, err)
		}
		if other, ok := seen[string(a)]; ok {
			t.Errorf("%+v equals %s", c, other)
		}
		seen[string(a)] = fmt.Sprint(c)
	}
	a, _ := client.ExportKeyingMaterial("EXPORTER-a", nil, 32)
	if b, _ := client.ExportKeyingMaterial("EXPORTER-a", []byte{}, 32); !bytes.Equal(a, b) {
		t.Error("a nil context differs from an empty one")
	}
	for _, n := range []int{-1, 255*client.suite.size + 1} {
		if _, err := client.ExportKeyingMaterial("EXPORTER-a", nil, n); err == nil {
			t.Errorf("exported %d bytes", n)
		}
	}
}

func TestExportersOfTwoSessionsDiffer(t *testing.T) {
	a, _ := connect(t, clientConfig(), serverConfig())
	b, _ := connect(t, clientConfig(), serverConfig())
	x, err := a.ExportKeyingMaterial("EXPORTER-a", nil, 32)
	if err != nil {
		t.Fatal(err)
	}
	if y, err := b.ExportKeyingMaterial("EXPORTER-a", nil, 32); err != nil || bytes.Equal(x, y) {
		t.Errorf("%x and %x, %v", x, y, err)
	}
	if _, err := Client(nil, nil).ExportKeyingMaterial("EXPORTER-a", nil, 32); err == nil {
		t.Error("exported before the handshake")
	}
}

// refusal is one handshake that must fail, with what each end then says.
type refusal struct {
	name   string
	change func(t *testing.T, cc, sc *Config)
	alert  tlsmsg.Alert // that one end sends and the other receives
	byWhom string       // "client" or "server" refuses
	check  func(err error) bool
}

// run asserts the refusal. A client finishes its handshake before the server has judged its
// certificate: it learns of that by reading.
func (r refusal) run(t *testing.T) {
	cc, sc := clientConfig(), serverConfig()
	r.change(t, cc, sc)
	a, b := newPipe()
	defer a.Close()
	defer b.Close()
	client, server := Client(a, cc), Server(b, sc)
	clientErr, serverErr := shake(client, server)
	if clientErr == nil {
		_, clientErr = client.Read(make([]byte, 1))
	}
	local, remote := clientErr, serverErr
	if r.byWhom == "server" {
		local, remote = serverErr, clientErr
	}
	if l, ok := local.(*AlertError); !ok || l.Alert != r.alert || l.Remote {
		t.Errorf("the %s refuses with %v", r.byWhom, local)
	}
	if p, ok := remote.(*AlertError); !ok || p.Alert != r.alert || !p.Remote {
		t.Errorf("the other end reads %v", remote)
	}
	if r.check != nil && !r.check(local) {
		t.Errorf("the cause is lost: %v", local)
	}
	for _, c := range []*Conn{client, server} {
		if c.HandshakeContext(t.Context()) == nil && c == server {
			t.Error("the handshake succeeds the second time")
		}
		if _, err := c.Write([]byte("x")); err == nil {
			t.Error("written after a refusal")
		}
		if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("read after a refusal: %v", err)
		}
	}
}

func isCertificateError(err error) bool {
	_, ok := errors.AsType[*CertificateError](err)
	return ok
}

var errTest = errors.New("refused by the test")

// spec: TLS-4 TLS-22 INS-9
func TestRefusals(t *testing.T) {
	for _, r := range []refusal{
		{
			"no suite in common",
			func(t *testing.T, cc, sc *Config) {
				cc.Suites, sc.Suites = []uint16{tlsmsg.SuiteSHA256}, []uint16{tlsmsg.SuiteSHA384}
			},
			tlsmsg.AlertHandshakeFailure, "server", nil,
		},
		{
			"no group in common",
			func(t *testing.T, cc, sc *Config) {
				cc.Groups, sc.Groups = []tls.CurveID{tls.X25519}, []tls.CurveID{tls.CurveP256}
			},
			tlsmsg.AlertHandshakeFailure, "server", nil,
		},
		{
			"no protocol in common",
			func(t *testing.T, cc, sc *Config) {
				cc.TLS.NextProtos, sc.TLS.NextProtos = []string{"h2"}, []string{"http/1.1"}
			},
			tlsmsg.AlertNoApplicationProtocol, "server", nil,
		},
		{
			"tunnel whose client offers no protocol",
			func(t *testing.T, cc, sc *Config) {
				sc.RequireALPN, sc.TLS.NextProtos = true, []string{"http/1.1"}
			},
			tlsmsg.AlertNoApplicationProtocol, "server", nil,
		},
		{
			"tunnel whose server has no protocol",
			func(t *testing.T, cc, sc *Config) { sc.RequireALPN, cc.TLS.NextProtos = true, []string{"http/1.1"} },
			tlsmsg.AlertNoApplicationProtocol, "server", nil,
		},
		{
			"tunnel whose server chooses no protocol",
			func(t *testing.T, cc, sc *Config) { cc.RequireALPN, cc.TLS.NextProtos = true, []string{"http/1.1"} },
			tlsmsg.AlertNoApplicationProtocol, "client", nil,
		},
		{
			"certificate of an unknown root",
			func(t *testing.T, cc, sc *Config) { cc.TLS.RootCAs = newAuthority(t, "other").pool },
			tlsmsg.AlertUnknownCA, "client", func(err error) bool {
				_, ok := errors.AsType[x509.UnknownAuthorityError](err)
				return ok && isCertificateError(err)
			},
		},
		{
			"certificate of another name",
			func(t *testing.T, cc, sc *Config) { cc.TLS.ServerName = "other.example" },
			tlsmsg.AlertBadCertificate, "client", func(err error) bool {
				_, ok := errors.AsType[x509.HostnameError](err)
				return ok && isCertificateError(err)
			},
		},
		{
			"certificate for clients",
			func(t *testing.T, cc, sc *Config) {
				sc.TLS.Certificates = []tls.Certificate{identities().root.issue(t, profile{names: []string{testName}, usage: x509.ExtKeyUsageClientAuth})}
			},
			tlsmsg.AlertBadCertificate, "client", isCertificateError,
		},
		{
			"expired certificate",
			func(t *testing.T, cc, sc *Config) {
				sc.TLS.Certificates = []tls.Certificate{identities().root.issue(t, profile{names: []string{testName}, notAfter: time.Now().Add(-time.Minute)})}
			},
			tlsmsg.AlertCertificateExpired, "client", isCertificateError,
		},
		{
			"certificate expired by the configured clock",
			func(t *testing.T, cc, sc *Config) {
				cc.TLS.Time = func() time.Time { return time.Now().Add(100 * time.Hour) }
			},
			tlsmsg.AlertCertificateExpired, "client", isCertificateError,
		},
		{
			"certificate that is none",
			func(t *testing.T, cc, sc *Config) {
				sc.TLS.Certificates = []tls.Certificate{{Certificate: [][]byte{[]byte("not DER")}, PrivateKey: newKey(t, "P-256")}}
			},
			tlsmsg.AlertBadCertificate, "client", isCertificateError,
		},
		{
			"another's certificate",
			func(t *testing.T, cc, sc *Config) {
				sc.TLS.Certificates = []tls.Certificate{{Certificate: identities().server.Certificate, PrivateKey: newKey(t, "P-256")}}
			},
			tlsmsg.AlertDecryptError, "client", func(err error) bool { return errors.Is(err, tlsmsg.ErrSignature) },
		},
		{
			"a key that its certificate's scheme does not fit",
			func(t *testing.T, cc, sc *Config) {
				sc.TLS.Certificates = []tls.Certificate{{Certificate: identities().server.Certificate, PrivateKey: newKey(t, "Ed25519")}}
			},
			tlsmsg.AlertIllegalParameter, "client", func(err error) bool { return errors.Is(err, tlsmsg.ErrScheme) },
		},
		{
			"name for which there is no certificate",
			func(t *testing.T, cc, sc *Config) {
				sc.TLS.Certificates = nil
				sc.TLS.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }
			},
			tlsmsg.AlertUnrecognizedName, "server", nil,
		},
		{
			"GetCertificate's error",
			func(t *testing.T, cc, sc *Config) {
				sc.TLS.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errTest }
			},
			tlsmsg.AlertInternalError, "server", func(err error) bool { return errors.Is(err, errTest) },
		},
		{
			"certificate without a key",
			func(t *testing.T, cc, sc *Config) {
				sc.TLS.Certificates = []tls.Certificate{{Certificate: identities().server.Certificate}}
			},
			tlsmsg.AlertHandshakeFailure, "server", nil,
		},
		{
			"the client's VerifyConnection",
			func(t *testing.T, cc, sc *Config) {
				cc.TLS.VerifyConnection = func(s tls.ConnectionState) error {
					if len(s.VerifiedChains) != 1 || s.ServerName != testName || s.CipherSuite != tlsmsg.SuiteSHA256 {
						t.Errorf("VerifyConnection sees %+v", s)
					}
					return errTest
				}
			},
			tlsmsg.AlertBadCertificate, "client", func(err error) bool { return errors.Is(err, errTest) && isCertificateError(err) },
		},
		{
			"the client's VerifyPeerCertificate",
			func(t *testing.T, cc, sc *Config) {
				cc.TLS.VerifyPeerCertificate = func(raw [][]byte, chains [][]*x509.Certificate) error {
					if len(chains) != 1 || !bytes.Equal(raw[0], identities().server.Certificate[0]) {
						t.Errorf("VerifyPeerCertificate sees %d chains", len(chains))
					}
					return errTest
				}
			},
			tlsmsg.AlertBadCertificate, "client", func(err error) bool { return errors.Is(err, errTest) },
		},
		{
			"the server's VerifyConnection, without a certificate",
			func(t *testing.T, cc, sc *Config) {
				sc.TLS.VerifyConnection = func(tls.ConnectionState) error { return errTest }
			},
			tlsmsg.AlertBadCertificate, "server", func(err error) bool { return errors.Is(err, errTest) },
		},
		{
			"the server's VerifyConnection, where a certificate was only asked for",
			func(t *testing.T, cc, sc *Config) {
				sc.TLS.ClientAuth = tls.RequestClientCert
				sc.TLS.VerifyConnection = func(tls.ConnectionState) error { return errTest }
			},
			tlsmsg.AlertBadCertificate, "server", func(err error) bool { return errors.Is(err, errTest) },
		},
		{
			"client without the certificate that is required",
			func(t *testing.T, cc, sc *Config) {
				sc.TLS.ClientAuth, sc.TLS.ClientCAs = tls.RequireAndVerifyClientCert, identities().root.pool
			},
			tlsmsg.AlertCertificateRequired, "server", isCertificateError,
		},
		{
			"client without any certificate",
			func(t *testing.T, cc, sc *Config) { sc.TLS.ClientAuth = tls.RequireAnyClientCert },
			tlsmsg.AlertCertificateRequired, "server", isCertificateError,
		},
		{
			// Its issuer carries the name of the trusted root, so that the client offers it.
			"client certificate of a false root",
			func(t *testing.T, cc, sc *Config) {
				cc.TLS.Certificates = []tls.Certificate{newAuthority(t, "test root").issue(t, profile{usage: x509.ExtKeyUsageClientAuth})}
				sc.TLS.ClientAuth, sc.TLS.ClientCAs = tls.VerifyClientCertIfGiven, identities().root.pool
			},
			tlsmsg.AlertUnknownCA, "server", isCertificateError,
		},
		{
			"client certificate for servers",
			func(t *testing.T, cc, sc *Config) {
				cc.TLS.Certificates = []tls.Certificate{identities().server}
				sc.TLS.ClientAuth, sc.TLS.ClientCAs = tls.RequireAndVerifyClientCert, identities().root.pool
			},
			tlsmsg.AlertBadCertificate, "server", isCertificateError,
		},
		{
			"another's client certificate",
			func(t *testing.T, cc, sc *Config) {
				cc.TLS.Certificates = []tls.Certificate{{Certificate: identities().client.Certificate, PrivateKey: newKey(t, "P-256")}}
				sc.TLS.ClientAuth = tls.RequireAnyClientCert
			},
			tlsmsg.AlertDecryptError, "server", nil,
		},
		{
			"GetConfigForClient's error",
			func(t *testing.T, cc, sc *Config) {
				sc.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, errTest }
			},
			tlsmsg.AlertInternalError, "server", func(err error) bool { return errors.Is(err, errTest) },
		},
		{
			"GetConfigForClient's config that is refused",
			func(t *testing.T, cc, sc *Config) {
				sc.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
					return &tls.Config{InsecureSkipVerify: true}, nil
				}
			},
			tlsmsg.AlertInternalError, "server", nil,
		},
		{
			"inspection that the origin does not allow",
			func(t *testing.T, cc, sc *Config) {
				cc.Inspection = testOffer(testName + ":443")
				sc.AnswerInspection = func(*tlsmsg.InspectionOffer) (*tlsmsg.InspectionAnswer, error) { return nil, errTest }
			},
			tlsmsg.AlertAccessDenied, "server", func(err error) bool { return errors.Is(err, errTest) },
		},
		{
			"session without inspection where the origin demands it",
			func(t *testing.T, cc, sc *Config) {
				sc.AnswerInspection = func(o *tlsmsg.InspectionOffer) (*tlsmsg.InspectionAnswer, error) {
					if o == nil {
						return nil, errTest
					}
					return nil, nil
				}
			},
			tlsmsg.AlertAccessDenied, "server", func(err error) bool { return errors.Is(err, errTest) },
		},
	} {
		t.Run(r.name, r.run)
	}
}

func testOffer(authority string) *tlsmsg.InspectionOffer {
	return &tlsmsg.InspectionOffer{Proxies: [][32]byte{{1}, {2}}, Authority: authority, Nonce: [32]byte{3}}
}

func testAnswer() *tlsmsg.InspectionAnswer {
	return &tlsmsg.InspectionAnswer{
		HopPeer: tlsmsg.HopPeerProxy, HopVersion: tls.VersionTLS13, HopSuite: tls.TLS_AES_128_GCM_SHA256,
		HopALPN: "itls-h2/1", HopID: tlsmsg.HopID([]byte("context")), Time: time.UnixMilli(1e12).UTC(), Lifetime: time.Minute,
	}
}

// spec: INS-6 INS-8 INS-10 INS-11
func TestInspectionBothWays(t *testing.T) {
	ip := identities().root.issue(t, profile{ips: []net.IP{net.ParseIP("2001:db8::1")}})
	for _, c := range []struct {
		name, host, authority string
		offer, answer, retry  bool
		alert                 tlsmsg.Alert // of the server; zero is success
	}{
		{name: "offered and answered", host: testName, authority: testName + ":443", offer: true, answer: true},
		{name: "offered and answered after a retry", host: testName, authority: testName + ":443", offer: true, answer: true, retry: true},
		{name: "offered and not answered", host: testName, authority: testName + ":443", offer: true},
		{name: "not offered", host: testName},
		{name: "IP literal", host: "2001:db8::1", authority: "[2001:db8::1]:443", offer: true, answer: true},
		{name: "answered without an offer", host: testName, answer: true, alert: tlsmsg.AlertInternalError},
		{name: "another host", host: testName, authority: "other.example:443", offer: true, answer: true, alert: tlsmsg.AlertIllegalParameter},
		{name: "a name where the authority is an address", host: testName, authority: "192.0.2.1:443", offer: true, alert: tlsmsg.AlertIllegalParameter},
		{name: "an address where the authority is a name", host: "2001:db8::1", authority: testName + ":443", offer: true, alert: tlsmsg.AlertIllegalParameter},
		{name: "no port", host: testName, authority: testName, offer: true, alert: tlsmsg.AlertIllegalParameter},
	} {
		t.Run(c.name, func(t *testing.T) {
			cc, sc := clientConfig(), serverConfig()
			cc.TLS.ServerName = c.host
			sc.TLS.Certificates = append(sc.TLS.Certificates, ip)
			if c.host != testName {
				sc.TLS.Certificates = []tls.Certificate{ip}
			}
			if c.retry {
				sc.Groups = []tls.CurveID{tls.CurveP256}
			}
			if c.offer {
				cc.Inspection = testOffer(c.authority)
			}
			calls := 0
			sc.AnswerInspection = func(o *tlsmsg.InspectionOffer) (*tlsmsg.InspectionAnswer, error) {
				calls++
				if !reflect.DeepEqual(o, cc.Inspection) {
					t.Errorf("the server reads %+v", o)
				}
				if c.answer {
					return testAnswer(), nil
				}
				return nil, nil
			}
			a, b := newPipe()
			defer a.Close()
			defer b.Close()
			client, server := Client(a, cc), Server(b, sc)
			clientErr, serverErr := shake(client, server)
			if c.alert != 0 {
				if alertOf(serverErr) != c.alert || clientErr == nil {
					t.Errorf("client %v, server %v", clientErr, serverErr)
				}
				if client.InspectionOffer() != nil || server.InspectionAnswer() != nil {
					t.Error("a failed handshake has an offer or an answer")
				}
				return
			}
			if clientErr != nil || serverErr != nil || calls != 1 {
				t.Fatalf("client %v, server %v, %d calls", clientErr, serverErr, calls)
			}
			var want *tlsmsg.InspectionAnswer
			if c.answer {
				want = testAnswer()
			}
			for _, end := range []*Conn{client, server} {
				if !reflect.DeepEqual(end.InspectionOffer(), cc.Inspection) || !reflect.DeepEqual(end.InspectionAnswer(), want) {
					t.Errorf("offer %+v, answer %+v", end.InspectionOffer(), end.InspectionAnswer())
				}
			}
		})
	}
}

// spec: TLS-3
func TestIPLiteralsAreNotNamedAndAreVerified(t *testing.T) {
	cert := identities().root.issue(t, profile{ips: []net.IP{net.ParseIP("192.0.2.7"), net.ParseIP("2001:db8::7")}})
	for name, ok := range map[string]bool{"192.0.2.7": true, "2001:db8::7": true, "[2001:db8::7]": true, "192.0.2.8": false} {
		cc, sc := clientConfig(), serverConfig()
		cc.TLS.ServerName = name
		sc.TLS.Certificates = []tls.Certificate{cert}
		seen := "not called"
		sc.TLS.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			seen = h.ServerName
			return nil, nil
		}
		a, b := newPipe()
		clientErr, _ := shake(Client(a, cc), Server(b, sc))
		if (clientErr == nil) != ok || seen != "" {
			t.Errorf("%s: server_name %q, %v", name, seen, clientErr)
		}
		a.Close()
		b.Close()
	}
}

func TestCallbacksSeeTheClientHello(t *testing.T) {
	cc, sc := clientConfig(), serverConfig()
	cc.TLS.NextProtos = []string{"a", "b"}
	sc.Groups = []tls.CurveID{tls.CurveP256}
	replaced := sc.TLS.Clone()
	replaced.NextProtos = []string{"b"}
	var retried []bool
	check := func(h *tls.ClientHelloInfo) {
		retried = append(retried, h.HelloRetryRequest)
		if h.ServerName != testName || !slices.Equal(h.SupportedProtos, cc.TLS.NextProtos) || !slices.Equal(h.CipherSuites, cc.suites()) ||
			!slices.Equal(h.SupportedVersions, []uint16{tls.VersionTLS13}) || !slices.Equal(h.SupportedCurves, cc.groups()) ||
			!slices.Equal(h.SignatureSchemes, tlsmsg.Schemes()) || h.Conn == nil || !slices.Contains(h.Extensions, tlsmsg.ExtensionKeyShare) {
			t.Errorf("seen %+v", h)
		}
		if cert := identities().server; h.SupportsCertificate(&cert) != nil {
			t.Error("SupportsCertificate refuses the certificate")
		}
	}
	replaced.GetCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		check(h)
		return nil, nil
	}
	sc.TLS.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		check(h)
		return replaced, nil
	}
	client, _ := connect(t, cc, sc)
	if p := client.ConnectionState().NegotiatedProtocol; p != "b" || !slices.Equal(retried, []bool{false, true}) {
		t.Errorf("protocol %q, HelloRetryRequest %v", p, retried)
	}
}

func TestTheFirstFittingCertificateIsShown(t *testing.T) {
	other := identities().root.issue(t, profile{names: []string{"other.example"}})
	strange := newAuthority(t, "strange").issue(t, profile{usage: x509.ExtKeyUsageClientAuth})
	cc, sc := clientConfig(), serverConfig()
	cc.TLS.Certificates = []tls.Certificate{strange, identities().client}
	sc.TLS.Certificates = []tls.Certificate{other, identities().server}
	sc.TLS.ClientAuth, sc.TLS.ClientCAs = tls.RequireAndVerifyClientCert, identities().root.pool
	client, server := connect(t, cc, sc)
	if !bytes.Equal(client.ConnectionState().PeerCertificates[0].Raw, identities().server.Certificate[0]) {
		t.Error("the server showed another name's certificate")
	}
	if !bytes.Equal(server.ConnectionState().PeerCertificates[0].Raw, identities().client.Certificate[0]) {
		t.Error("the client showed another issuer's certificate")
	}
}

func TestCertificateLimitsItsOwnSchemes(t *testing.T) {
	cert := serverCertificates()["RSA-2048"]
	cert.SupportedSignatureAlgorithms = []tls.SignatureScheme{tls.PSSWithSHA512}
	if s, err := signer(&cert, tlsmsg.Schemes()); err != nil || s != tls.PSSWithSHA512 {
		t.Errorf("%v, %v", s, err)
	}
	if _, err := signer(&cert, []tls.SignatureScheme{tls.PSSWithSHA256}); err == nil {
		t.Error("signed with a scheme that the certificate excludes")
	}
}
