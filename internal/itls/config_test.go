package itls

import (
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"testing"

	"vitrine/internal/tlsmsg"
)

// spec: TLS-1
func TestConfigsAreRefusedBeforeAByteIsSent(t *testing.T) {
	for _, c := range []struct {
		name           string
		client, server func(c *Config)
	}{
		{"InsecureSkipVerify", func(c *Config) { c.TLS.InsecureSkipVerify = true }, func(c *Config) { c.TLS.InsecureSkipVerify = true }},
		{"Renegotiation", func(c *Config) { c.TLS.Renegotiation = tls.RenegotiateOnceAsClient }, nil},
		{"ECH", func(c *Config) { c.TLS.EncryptedClientHelloConfigList = []byte{} }, func(c *Config) {
			c.TLS.EncryptedClientHelloKeys = []tls.EncryptedClientHelloKey{}
		}},
		{"ECH by callback", nil, func(c *Config) {
			c.TLS.GetEncryptedClientHelloKeys = func(*tls.ClientHelloInfo) ([]tls.EncryptedClientHelloKey, error) { return nil, nil }
		}},
		{"encrypting suite", func(c *Config) { c.Suites = []uint16{tlsmsg.SuiteSHA256, tls.TLS_AES_128_GCM_SHA256} }, func(c *Config) {
			c.Suites = []uint16{tls.TLS_AES_128_GCM_SHA256}
		}},
		{"no suite", func(c *Config) { c.Suites = []uint16{} }, func(c *Config) { c.Suites = []uint16{} }},
		{"unknown group", func(c *Config) { c.Groups = []tls.CurveID{tls.CurveP521} }, func(c *Config) { c.Groups = []tls.CurveID{0} }},
		{"no group", func(c *Config) { c.Groups = []tls.CurveID{} }, func(c *Config) { c.Groups = []tls.CurveID{} }},
		{"no TLS config", func(c *Config) { c.TLS = nil }, func(c *Config) { c.TLS = nil }},
		{"no name, no certificate", func(c *Config) { c.TLS.ServerName = "" }, func(c *Config) { c.TLS.Certificates = nil }},
		{"ALPN required and none given", func(c *Config) { c.RequireALPN = true }, nil},
		{"empty protocol", func(c *Config) { c.TLS.NextProtos = []string{""} }, nil},
		{"long protocol", func(c *Config) { c.TLS.NextProtos = []string{strings.Repeat("p", 256)} }, nil},
		{"17 certificates", func(c *Config) { c.TLS.Certificates = []tls.Certificate{longChain(17)} }, func(c *Config) {
			c.TLS.Certificates = []tls.Certificate{identities().server, longChain(17)}
		}},
		{"a chain above 64 KiB", func(c *Config) { c.TLS.Certificates = []tls.Certificate{bulkyChain()} }, func(c *Config) {
			c.TLS.Certificates = []tls.Certificate{bulkyChain()}
		}},
		{"a chain of none", func(c *Config) { c.TLS.Certificates = make([]tls.Certificate, 1) }, func(c *Config) {
			c.TLS.Certificates = make([]tls.Certificate, 1)
		}},
		{"malformed offer", func(c *Config) { c.Inspection = &tlsmsg.InspectionOffer{Authority: "a:1"} }, nil},
	} {
		for role, change := range map[string]func(*Config){"client": c.client, "server": c.server} {
			if change == nil {
				continue
			}
			a, b := newPipe()
			cfg, conn := clientConfig(), Client
			if role == "server" {
				cfg, conn = serverConfig(), Server
			}
			change(cfg)
			if err := conn(a, cfg).Handshake(); err == nil {
				t.Errorf("%s: a %s took it", c.name, role)
			}
			if sent := b.take(); len(sent) > 0 {
				t.Errorf("%s: the %s sent %d bytes", c.name, role, len(sent))
			}
		}
	}
	a, _ := newPipe()
	if err := Server(a, nil).Handshake(); err == nil {
		t.Error("a nil config was taken")
	}
}

// longChain is the server's certificate n times, which is no chain to verify, but one to send.
func longChain(n int) tls.Certificate {
	cert := identities().server
	cert.Certificate = slices.Repeat(cert.Certificate[:1], n)
	return cert
}

func bulkyChain() tls.Certificate {
	cert := longChain(2)
	cert.Certificate[1] = make([]byte, 64<<10)
	return cert
}

// TestOwnChainsThatPeersWouldNotTake come from callbacks, behind which it is nobody's fault but ours.
func TestOwnChainsThatPeersWouldNotTake(t *testing.T) {
	framed := longChain(2) // it fits, and what frames it does not
	framed.Certificate[1] = make([]byte, 64<<10-len(framed.Certificate[0]))
	for name, chain := range map[string]tls.Certificate{"framed above 64 KiB": framed, "17 certificates": longChain(17), "above 64 KiB": bulkyChain(), "none": {}} {
		for from, set := range map[string]func(*tls.Config){
			"GetCertificate": func(c *tls.Config) {
				c.Certificates = nil
				c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &chain, nil }
			},
			"GetConfigForClient": func(c *tls.Config) {
				other := &tls.Config{Certificates: []tls.Certificate{chain}}
				c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return other, nil }
			},
		} {
			cfg := serverConfig()
			set(cfg.TLS)
			a, b := newPipe()
			clientErr, serverErr := shake(Client(a, clientConfig()), Server(b, cfg))
			for role, err := range map[string]error{"client": clientErr, "server": serverErr} {
				alert, ok := errors.AsType[*AlertError](err)
				if !ok || alert.Alert != tlsmsg.AlertInternalError || alert.Remote != (role == "client") {
					t.Errorf("%s from %s: the %s has %v", name, from, role, err)
				}
			}
		}
	}
	cfg := serverConfig()
	cfg.TLS.Certificates = []tls.Certificate{longChain(16)}
	a, b := newPipe()
	if err := errors.Join(shake(Client(a, clientConfig()), Server(b, cfg))); err != nil {
		t.Errorf("16 certificates: %v", err)
	}
}

// hopPipe is a carrier that says it is inside a hop.
type hopPipe struct {
	*pipe
	state tls.ConnectionState
}

func (h hopPipe) HopState() tls.ConnectionState { return h.state }

// spec: TLS-2
func TestOnlyHopsCarrySessions(t *testing.T) {
	done := tls.ConnectionState{HandshakeComplete: true, Version: tls.VersionTLS13}
	for name, c := range map[string]struct {
		state tls.ConnectionState
		ok    bool
	}{
		"hop":                   {done, true},
		"hop of TLS 1.2":        {tls.ConnectionState{HandshakeComplete: true, Version: tls.VersionTLS12}, false},
		"hop before handshakes": {tls.ConnectionState{Version: tls.VersionTLS13}, false},
	} {
		cc, sc := clientConfig(), serverConfig()
		cc.UnprotectedForTests, sc.UnprotectedForTests = false, false
		a, b := newPipe()
		clientErr, serverErr := shake(Client(hopPipe{a, c.state}, cc), Server(hopPipe{b, c.state}, sc))
		if c.ok && (clientErr != nil || serverErr != nil) || !c.ok && (!errors.Is(clientErr, ErrUnprotected) || !errors.Is(serverErr, ErrUnprotected)) {
			t.Errorf("%s: client %v, server %v", name, clientErr, serverErr)
		}
	}
	cc := clientConfig()
	cc.UnprotectedForTests = false
	a, b := newPipe()
	if err := Client(a, cc).Handshake(); !errors.Is(err, ErrUnprotected) || len(b.take()) > 0 {
		t.Errorf("bare carrier: %v", err)
	}
}

func TestServerNamesOnTheWire(t *testing.T) {
	for name, want := range map[string]string{
		"origin.example": "origin.example", "origin.example.": "origin.example", "192.0.2.1": "", "::1": "", "[::1]": "", "fe80::1%eth0": "",
	} {
		if got := sniName(name); got != want {
			t.Errorf("%q is named %q", name, got)
		}
	}
}
