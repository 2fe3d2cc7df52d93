package itls

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"testing"

	"vitrine/internal/tlsmsg"
)

// What differs keeps a session out of the ClientHello: that the server would not take it either is no
// help, for the ticket would have told whoever reads that both clients are one.
//
// spec: TLS-31
func TestWhatDiffersIsNotEvenOffered(t *testing.T) {
	other := identities().root.issue(t, profile{usage: x509.ExtKeyUsageClientAuth})
	chained := identities().client
	chained.Certificate = [][]byte{chained.Certificate[0], other.Certificate[0]}
	for _, c := range []struct {
		name    string
		first   func(c *Config) // what the session is of; may be nil
		then    func(c *Config)
		offered bool
	}{
		{name: "nothing", then: func(*Config) {}, offered: true},
		{name: "the nonce", then: func(c *Config) { c.Inspection.Nonce[5]++ }, offered: true},
		{name: "the order of suites", then: func(c *Config) { c.Suites = []uint16{tlsmsg.SuiteSHA384, tlsmsg.SuiteSHA256} }, offered: true},
		{name: "the suite", then: func(c *Config) { c.Suites = []uint16{tlsmsg.SuiteSHA384} }},
		{name: "the server's name", then: func(c *Config) { c.TLS.ServerName = "two.example" }},
		{name: "the server's name, where nobody reads", first: nobodyReads, then: func(c *Config) {
			c.TLS.ServerName, c.Inspection = "two.example", nil
		}},
		{name: "the authority", then: func(c *Config) { c.Inspection.Authority = testName + ":8443" }},
		{name: "a proxy", then: func(c *Config) { c.Inspection.Proxies[1][0]++ }},
		{name: "the order of proxies", then: func(c *Config) { slices.Reverse(c.Inspection.Proxies) }},
		{name: "a proxy less", then: func(c *Config) { c.Inspection.Proxies = c.Inspection.Proxies[:1] }},
		{name: "nobody reads any more", then: nobodyReads},
		{name: "somebody reads now", first: nobodyReads, then: func(*Config) {}},
		{name: "another protocol", then: func(c *Config) { c.TLS.NextProtos = []string{"http/1.1", "h2"} }},
		{name: "the order of protocols", first: func(c *Config) { c.TLS.NextProtos = []string{"h2", "http/1.1"} }, then: func(c *Config) {
			c.TLS.NextProtos = []string{"http/1.1", "h2"}
		}},
		{name: "no protocol", then: func(c *Config) { c.TLS.NextProtos = nil }},
		{name: "another certificate of the client", then: func(c *Config) { c.TLS.Certificates = []tls.Certificate{other} }},
		{name: "one more", then: func(c *Config) { c.TLS.Certificates = append(slices.Clip(c.TLS.Certificates), other) }},
		{name: "two where one was a chain", first: func(c *Config) { c.TLS.Certificates = []tls.Certificate{chained} }, then: func(c *Config) {
			first := chained
			first.Certificate = chained.Certificate[:1]
			c.TLS.Certificates = []tls.Certificate{first, other}
		}},
		{name: "none", then: func(c *Config) { c.TLS.Certificates = nil }},
		{name: "roots", then: func(c *Config) { c.TLS.RootCAs = strangers(t).pool }},
		{name: "resumption is off", then: func(c *Config) { c.TLS.SessionTicketsDisabled = true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			cc, sc := resumable()
			cc.Inspection = testOffer(testName + ":443")
			cc.TLS.NextProtos, sc.TLS.NextProtos = []string{"http/1.1"}, []string{"h2", "http/1.1"}
			cc.TLS.Certificates = []tls.Certificate{identities().client}
			first := cc
			if c.first != nil {
				first = with(cc, c.first)
			}
			cc.Sessions.Add(session(t, first, sc))
			var extensions []uint16
			sc = with(sc, func(sc *Config) {
				sc.TLS.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
					extensions = hello.Extensions
					return nil, nil
				}
			})
			cc = with(cc, func(cc *Config) {
				cc.Inspection = testOffer(testName + ":443")
				c.then(cc)
			})
			a, b := newPipe()
			defer a.Close()
			_, _ = shake(Client(a, cc), Server(b, sc)) // some of the changes end the handshake
			if extensions == nil {
				t.Fatal("no ClientHello came")
			}
			if got := slices.Contains(extensions, tlsmsg.ExtensionPreSharedKey); got != c.offered {
				t.Errorf("offered: %v", got)
			}
			if got := slices.Contains(extensions, tlsmsg.ExtensionPSKKeyExchangeModes); got == cc.TLS.SessionTicketsDisabled {
				t.Errorf("modes: %v", got)
			}
		})
	}
}

func nobodyReads(c *Config) { c.Inspection = nil }
