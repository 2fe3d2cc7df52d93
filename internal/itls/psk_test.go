package itls

import (
	"crypto/tls"
	"fmt"
	"testing"

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
