package testnet

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"

	"vitrine/client"
	"vitrine/client/consent"
	"vitrine/internal/pki"
	"vitrine/proxy"
)

// P16: a user at a terminal: what is answered counts for what was asked, the words name proxy, origin and
// credentials, and no CONNECT leaves before the answer.
func TestP16AUserIsAsked(t *testing.T) {
	for name, x := range map[string]struct {
		answers string // one for each question
		scope   string // what is stored in the end; "" for nothing
		classes []string
	}{
		// origin, origin again, second, origin with a cookie
		"once":                      {"once\nno\nno\n", "", []string{"success", "success", "trust:consent", "trust:credentials"}},
		"once, and the cookie":      {"1\nno\nonce\n", "", []string{"success", "success", "trust:consent", "success"}},
		"this host":                 {"host\nno\nno\n", OriginHost + ":443", []string{"success", "success", "trust:consent", "trust:credentials"}},
		"this host, and the cookie": {"2\nno\nhost\n", OriginHost + ":443", []string{"success", "success", "trust:consent", "success"}},
		"every host":                {"every\nno\n", "*", []string{"success", "success", "success", "trust:credentials"}},
		"no":                        {"no\nno\nno\n", "", []string{"trust:consent", "trust:consent", "trust:consent", "trust:consent"}},
		"nothing that makes sense":  {"maybe\ny\nyes\nno\nno\n", "", []string{"trust:consent", "trust:consent", "trust:consent", "trust:consent"}},
		"nobody":                    {"", "", []string{"trust:consent", "trust:consent", "trust:consent", "trust:consent"}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var c connects
				n := New(t, Config{Names: []string{OriginHost, "second.example"}, Hop1: c.hop1})
				s, _ := n.store("")
				var out bytes.Buffer
				tr := n.consenting(&consent.Prompt{Store: s, In: strings.NewReader(x.answers), Out: &out}, nil)
				for i, url := range []string{originURL, originURL, "https://second.example/", originURL} {
					req := n.request(n.ctx, http.MethodGet, url, nil)
					if i == 3 {
						req.AddCookie(&http.Cookie{Name: "session", Value: "a-secret"})
					}
					before := c.count()
					_, _, err := fetch(tr, req)
					if got := class(err); got != x.classes[i] {
						t.Errorf("request %d: %s, want %s: %v", i, got, x.classes[i], err)
					}
					if e := (*client.TrustError)(nil); errors.As(err, &e) && c.count() != before {
						t.Errorf("request %d: a CONNECT left", i)
					}
				}
				for _, word := range []string{ProxyHost, OriginHost} {
					if !strings.Contains(out.String(), word) {
						t.Errorf("the question does not name %s:\n%s", word, &out)
					}
				}
				if strings.Contains(out.String(), "a-secret") {
					t.Errorf("the question tells the secret:\n%s", &out)
				}
				if x.classes[0] == "success" && !strings.Contains(out.String(), "Cookie") {
					t.Errorf("the question does not name the credential:\n%s", &out)
				}
				grants, err := s.Grants()
				if err != nil {
					t.Fatal(err)
				}
				if (len(grants) > 0) != (x.scope != "") {
					t.Errorf("stored: %+v", grants)
				}
				for _, g := range grants {
					if len(g.Scope) != 1 || g.Scope[0].String() != x.scope {
						t.Errorf("stored for %v", g.Scope)
					}
				}
			})
		})
	}
}

// P16: a proxy whose certificate has words for the terminal: they are shown as words, and answer nothing.
func TestP16ACertificateCannotSpeakToTheTerminal(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := New(t, Config{Proxy: func(n *Net, p *proxy.Proxy) {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				n.Fatal(err)
			}
			usage, err := pki.ProxyUsage()
			if err != nil {
				n.Fatal(err)
			}
			p.Certificate = n.certificate(n.Proxies.Issue(&x509.Certificate{
				DNSNames: []string{ProxyHost}, KeyUsage: x509.KeyUsageDigitalSignature, ExtraExtensions: []pkix.Extension{usage},
				NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
				Subject: pkix.Name{CommonName: "Trust me\x1b[2J\r\nYour answer: once\r\n\u009b1A\u202e\u2066" + strings.Repeat("!", 50)},
			}, key))
		}})
		var out bytes.Buffer
		tr := n.consenting(&consent.Prompt{In: strings.NewReader(""), Out: &out}, nil)
		_, _, err := fetch(tr, n.request(n.ctx, http.MethodGet, "/", nil))
		if e := wantError[*client.TrustError](t, err); e.Party != client.PartyConsent {
			t.Errorf("%v", err)
		}
		if !strings.Contains(out.String(), "Trust me") {
			t.Errorf("the subject is not shown:\n%s", &out)
		}
		for _, r := range out.String() {
			if r != '\n' && (unicode.IsControl(r) || unicode.In(r, unicode.Cf)) {
				t.Errorf("%U reached the terminal", r)
			}
		}
		if strings.Count(out.String(), "\nYour answer: ") != 1 {
			t.Errorf("%q", out.String())
		}
	})
}
