package testnet

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"vitrine/client"
	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/hostile"
	"vitrine/internal/tlsmsg"
	"vitrine/origin"
	"vitrine/proxy"
)

// certificates are the chains in the Certificate messages of an inner session's records.
func certificates(t *testing.T, list [][]byte) (leaves []*x509.Certificate) {
	t.Helper()
	for _, r := range list {
		if r[0] != byte(tlsmsg.TypeApplicationData) {
			continue
		}
		p := unseal(r)
		if p.typ != tlsmsg.TypeHandshake {
			continue
		}
		for rest := p.content; len(rest) > 0; {
			msg, more, err := tlsmsg.SplitHandshake(rest, tlsmsg.MaxHandshake)
			if err != nil {
				t.Fatal(err)
			}
			if tlsmsg.MessageType(msg) == tlsmsg.TypeCertificate {
				m, err := tlsmsg.ParseCertificate(msg)
				if err != nil {
					t.Fatal(err)
				}
				leaf, err := x509.ParseCertificate(m.Entries[0].Cert)
				if err != nil {
					t.Fatal(err)
				}
				leaves = append(leaves, leaf)
			}
			rest = more
		}
	}
	return leaves
}

// P15: all certificates of a run, on both hops, in the inner session and in the evidence: each has the names of
// whoever showed it, was issued by a root that is meant for it, and nobody made one.
func TestP15NobodyShowsACertificateWithAnothersName(t *testing.T) {
	bubble(t, func(t *testing.T) {
		users, err := newUsers(t)
		if err != nil {
			t.Fatal(err)
		}
		user := users.client(t, "user")
		var up, down hostile.Tape
		var onHop1, onHop2 []*x509.Certificate
		n := New(t, Config{
			Origin: func(_ *Net, srv *http.Server, _ *origin.Config) {
				srv.TLSConfig.ClientAuth, srv.TLSConfig.ClientCAs = tls.RequireAndVerifyClientCert, users.pool()
			},
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				i, _ := origin.InspectionOf(r.Context())
				onHop2 = append(onHop2, i.Hop.PeerCertificates...)
				io.WriteString(w, "hello")
			}),
			Client: func(_ *Net, tr *client.Transport) { tr.Certificates = []tls.Certificate{user} },
			Hop1: func(s hop.Session) hop.Session {
				return hostile.Wrap(s, func(uint64) hostile.Mangler { return down.Mangler() })
			},
			Hop2: func(_ *proxy.Target, s hop.Session) hop.Session {
				return hostile.Wrap(s, func(uint64) hostile.Mangler { return up.Mangler() })
			},
		})
		s := n.hop1()
		onHop1 = append(onHop1, s.Peer().TLS.PeerCertificates...)
		rep := n.mustGet("/", "hello")
		e, err := evidence.Parse(rep.EvidenceBytes)
		if err != nil {
			t.Fatal(err)
		}
		shown, err := x509.ParseCertificate(e.Hop.Chain[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range []struct {
			where string
			list  []*x509.Certificate
			owner tls.Certificate
			name  string
		}{
			{"hop 1, the proxy's side", onHop1, n.ProxyCert, ProxyHost},
			{"hop 2, the proxy's side", onHop2, n.ProxyCert, ProxyHost},
			{"the inner session, the origin's side", certificates(t, down.Records()), n.OriginCert, OriginHost},
			{"the inner session, the client's side", certificates(t, up.Records()), user, ""},
			{"the evidence", []*x509.Certificate{shown}, n.OriginCert, OriginHost},
		} {
			if len(x.list) == 0 {
				t.Errorf("%s: no certificate was seen", x.where)
			}
			for i, c := range x.list {
				// A chain may have the CAs behind its leaf.
				if i == 0 && !c.Equal(x.owner.Leaf) || i > 0 && !c.IsCA {
					t.Errorf("%s: %v is not its own", x.where, c.Subject)
				}
				if i == 0 && x.name != "" && !slices.Equal(c.DNSNames, []string{x.name}) {
					t.Errorf("%s: named %v", x.where, c.DNSNames)
				}
			}
		}
	})
}

// P18, the honest negative: ends that have a secret of their own encrypt inside, and the proxy reads what it
// cannot understand. It sees that, byte for byte; a rule about the text does not.
func TestP18EndsThatColludeCanEncryptInside(t *testing.T) {
	bubble(t, func(t *testing.T) {
		block, err := aes.NewCipher(make([]byte, 32)) // known to both ends
		if err != nil {
			t.Fatal(err)
		}
		crypt := func(text string) string {
			out := make([]byte, len(text))
			cipher.NewCTR(block, make([]byte, block.BlockSize())).XORKeyStream(out, []byte(text))
			return string(out)
		}
		rec := newRecorder()
		rec.response = killBody("no-combinations", "4711")
		hidden := false
		n := New(t, Config{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if hidden {
					io.WriteString(w, crypt(answer))
					return
				}
				io.WriteString(w, answer)
			}),
			Proxy: func(_ *Net, p *proxy.Proxy) { p.Inspectors = []proxy.Inspector{rec} },
		})
		_, _, err = n.get("/")
		wantRule(t, err, "no-combinations")
		<-rec.over
		hidden = true
		_, body, err := n.get("/")
		if err != nil || crypt(string(body)) != answer {
			t.Errorf("the weakness that the design admits is gone, or hidden: %q %v", body, err)
		}
		if s := <-rec.over; !bytes.Equal(s.got, body) {
			t.Errorf("the proxy read %q", s.got)
		}
	})
}

// P4: what protects hop 2 is reported, as the origin vouches for it, and changes nothing in what the inner session
// proves.
func TestP4TheReportNamesHop2(t *testing.T) {
	for _, x := range []struct {
		group tls.CurveID
		name  string
	}{{tls.X25519, "X25519"}, {tls.CurveP256, "secp256r1"}, {tls.X25519MLKEM768, "X25519MLKEM768"}} {
		t.Run(x.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				n := New(t, Config{
					Origin: func(_ *Net, srv *http.Server, _ *origin.Config) {
						srv.TLSConfig.CurvePreferences = []tls.CurveID{x.group}
					},
				})
				rep := n.mustGet("/", "hello")
				h := rep.Evidence.Hop
				if h.Version != "TLS 1.3" || h.Suite == "" || strings.Contains(h.Suite, "NULL") || h.Group != x.name || !rep.Inner.Confirmed {
					t.Errorf("%+v %+v", h, rep.Inner)
				}
			})
		})
	}
}

// P16: evidence of one client's CONNECT, shown to another client of the same proxy for the same origin.
func TestP16EvidenceOfAnotherClient(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var kept []byte
		served := 0
		n := New(t, Config{
			Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served++ }),
			Hop1: answers(func(_ *hop.Request, resp *hop.Response) {
				if kept == nil {
					kept = resp.Evidence
				}
				resp.Evidence = kept
			}),
		})
		n.mustGet("/", "")
		n.Client = n.NewClient(nil)
		_, _, err := n.get("/")
		wantError[*client.IntegrityError](t, err)
		if served != 1 {
			t.Error("bytes of the second client's request left")
		}
	})
}

// P12: a proxy that hides from the origin that it reads, by stripping the offer from what it asks the origin for:
// the origin's answer is then for another request than the client's.
func TestP12AStrippedOfferIsNoticed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		served := 0
		n := New(t, Config{
			Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served++ }),
			Hop2: func(_ *proxy.Target, s hop.Session) hop.Session {
				return hostile.Lie(s, hostile.Lies{Request: func(req *hop.Request) {
					raw, err := fields.ParseEvidenceRequest(req.Header.Values(fields.EvidenceRequest))
					if err != nil {
						t.Error(err)
						return
					}
					i := bytes.Index(raw, []byte{0xff, 0x49})
					if i < 0 {
						t.Error("no inspection in the request")
						return
					}
					raw = bytes.Clone(raw)
					raw[i+1]++ // an extension that nobody knows
					req.Header.Set(fields.EvidenceRequest, fields.FormatEvidenceRequest(raw))
				}})
			},
		})
		_, _, err := n.get("/")
		if c := class(err); c != "unreachable:origin" && c != "integrity" || served != 0 {
			t.Errorf("%s: %v; served %d", c, err, served)
		}
	})
}
