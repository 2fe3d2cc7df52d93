package testnet

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"vitrine/client"
	"vitrine/internal/hop"
	"vitrine/internal/hostile"
	"vitrine/internal/itls"
	"vitrine/internal/tlsmsg"
	"vitrine/origin"
	"vitrine/proxy"
)

func many(n int, p piece) (list []piece) {
	for range n {
		list = append(list, p)
	}
	return list
}

func message(t *testing.T, m interface {
	Append(b []byte) ([]byte, error)
},
) piece {
	t.Helper()
	msg, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return piece{tlsmsg.TypeHandshake, msg}
}

const (
	warning = 1
	fatal   = 2
)

// forgedRecords are what an end with true keys can send where its session sent none. rule is the proxy's kill.
func forgedRecords(t *testing.T) map[string]struct {
	records []piece
	rule    string // "" where it is allowed
	origin  bool   // only the origin's
	client  bool   // only the client's
} {
	hello := &tlsmsg.ClientHello{LegacyVersion: tlsmsg.VersionTLS12, CipherSuites: []uint16{tlsmsg.SuiteSHA256}, Compression: []byte{0}}
	ticket := message(t, &tlsmsg.NewSessionTicket{Lifetime: 3600, Nonce: []byte{1}, Ticket: pattern(200)})
	data := piece{tlsmsg.TypeApplicationData, []byte("GET /behind HTTP/1.1\r\nHost: origin.example\r\n\r\n")}
	alert := func(level byte, a tlsmsg.Alert) piece { return piece{tlsmsg.TypeAlert, []byte{level, byte(a)}} }
	type x = struct {
		records []piece
		rule    string
		origin  bool
		client  bool
	}
	return map[string]x{
		"data behind close_notify":                 {records: []piece{alert(warning, tlsmsg.AlertCloseNotify), data}, rule: "tls-after-close"},
		"a second close_notify":                    {records: many(2, alert(warning, tlsmsg.AlertCloseNotify)), rule: "tls-after-close"},
		"data behind a fatal alert":                {records: []piece{alert(fatal, tlsmsg.AlertInternalError), data}, rule: "tls-after-close"},
		"data behind an alert that says it is not": {records: []piece{alert(warning, tlsmsg.AlertInternalError), data}, rule: "tls-after-close"},
		"half an alert":                            {records: []piece{{tlsmsg.TypeAlert, []byte{warning}}}, rule: "tls-alert"},
		"a storm of KeyUpdates":                    {records: many(65, message(t, &tlsmsg.KeyUpdate{})), rule: "idle-records"},
		"a KeyUpdate with bytes behind it":         {records: []piece{{tlsmsg.TypeHandshake, append(message(t, &tlsmsg.KeyUpdate{}).content, ticket.content...)}}, rule: "tls-key-change"},
		"a storm of empty records":                 {records: many(33, piece{typ: tlsmsg.TypeApplicationData}), rule: "idle-records"},
		"a ClientHello behind the handshake":       {records: []piece{message(t, hello)}, rule: "tls-post-handshake"},
		"a request for a certificate":              {records: []piece{message(t, &tlsmsg.CertificateRequest{Context: []byte{1}, Extensions: []tlsmsg.Extension{{Type: tlsmsg.ExtensionSignatureAlgorithms, Data: []byte{0, 2, 8, 7}}}})}, rule: "tls-post-handshake"},
		"a message that never ends":                {records: []piece{{tlsmsg.TypeHandshake, []byte{4, 1, 0, 1}}}, rule: "handshake-size"},
		"data inside a message":                    {records: []piece{{tlsmsg.TypeHandshake, ticket.content[:10]}, data}, rule: "tls-interleaved"},
		"an empty handshake record":                {records: []piece{{typ: tlsmsg.TypeHandshake}}, rule: "tls-empty-record"},
		"a change_cipher_spec with a MAC":          {records: []piece{{tlsmsg.TypeChangeCipherSpec, []byte{1}}}, rule: "tls-inner-type"},
		"a record of an unknown type":              {records: []piece{{24, []byte("heartbeat")}}, rule: "tls-inner-type"},
		"a KeyUpdate":                              {records: many(1, message(t, &tlsmsg.KeyUpdate{}))},
		"user_canceled":                            {records: []piece{alert(warning, tlsmsg.AlertUserCanceled)}},
		"a client's ticket":                        {records: []piece{ticket}, rule: "tls-post-handshake", client: true},
		"a ticket":                                 {records: []piece{ticket}, origin: true},
		"a storm of tickets":                       {records: many(5, ticket), rule: "tickets", origin: true},
		"a ticket that is too large":               {records: []piece{message(t, &tlsmsg.NewSessionTicket{Lifetime: 3600, Ticket: pattern(3000)})}, rule: "tickets", origin: true},
		"a response without a request":             {records: []piece{{tlsmsg.TypeApplicationData, []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")}}, rule: "http-unsolicited", origin: true},
	}
}

// P18: an origin, or a client, whose keys are true and whose records are not those of TLS: what one end would skip
// and the proxy read, or the reverse, kills the tunnel, and nobody is shown what stood behind it.
func TestP18ForgedRecordsWithTrueMACs(t *testing.T) {
	for name, x := range forgedRecords(t) {
		if !x.client {
			t.Run("origin: "+name, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					rec := newRecorder()
					n := New(t, Config{Names: []string{"else.example"}, Proxy: func(_ *Net, p *proxy.Proxy) { p.Inspectors = []proxy.Inspector{rec} }})
					n.serveOwnOrigin(&ownOrigin{carrier: func(c *hop.Conn, keys *keyLog) net.Conn {
						s := newSmith(t, c, keys, false)
						s.forge = func(n int, r piece) []piece {
							if n == 0 { // behind the response
								return append([]piece{r}, x.records...)
							}
							return []piece{r}
						}
						return s
					}})
					tun, err := n.NewDialer(nil).DialTunnel(n.ctx, OriginHost+":443")
					if err != nil {
						t.Fatal(err)
					}
					defer tun.Close()
					io.WriteString(tun, "GET / HTTP/1.1\r\nHost: origin.example\r\n\r\n")
					var got bytes.Buffer
					buf := make([]byte, 4096)
					for !strings.HasSuffix(got.String(), "own") && err == nil {
						var m int
						m, err = tun.Read(buf)
						got.Write(buf[:m])
					}
					if x.rule == "" {
						io.WriteString(tun, "GET / HTTP/1.1\r\nHost: origin.example\r\n\r\n")
						if m, err := tun.Read(buf); err != nil || !strings.HasPrefix(string(buf[:m]), "HTTP/1.1 200 OK") {
							t.Errorf("the next response: %q %v", buf[:m], err)
						}
						return
					}
					for err == nil {
						var m int
						m, err = tun.Read(buf)
						got.Write(buf[:m])
					}
					wantRule(t, err, x.rule)
					if text := "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nown"; !strings.HasPrefix(text, got.String()) {
						t.Errorf("the client was given %q", &got)
					}
					for range len(rec.over) {
						if s := <-rec.over; string(s.got) != "own" && len(s.got) > 0 {
							t.Errorf("the proxy read %q", s.got)
						}
					}
				})
			})
		}
		if x.origin {
			continue
		}
		t.Run("client: "+name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var behind, served atomic.Int32
				n := New(t, Config{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					served.Add(1)
					if r.URL.Path == "/behind" {
						behind.Add(1)
					}
				})})
				st, offer := n.connect(n.hop1())
				keys := new(keyLog)
				s := newSmith(t, hop.NewConn(st), keys, true)
				s.forge = func(n int, r piece) []piece {
					if n == 0 { // behind the request
						return append([]piece{r}, x.records...)
					}
					return []piece{r}
				}
				c := itls.Client(s, &itls.Config{
					TLS: &tls.Config{
						RootCAs: n.Origins.Pool().CertPool, ServerName: OriginHost, NextProtos: []string{"http/1.1"}, KeyLogWriter: keys,
					},
					Inspection: offer,
				})
				defer c.Close()
				io.WriteString(c, "GET / HTTP/1.1\r\nHost: origin.example\r\n\r\n")
				synctest.Wait()
				if x.rule == "" {
					io.WriteString(c, "GET / HTTP/1.1\r\nHost: origin.example\r\n\r\n")
					synctest.Wait()
					if served.Load() != 2 {
						t.Errorf("the origin served %d of 2", served.Load())
					}
					return
				}
				_, err := io.ReadAll(c)
				if rule := n.killedBy(err, offer); rule != x.rule {
					t.Errorf("rule %s, want %s", rule, x.rule)
				}
				if behind.Load() != 0 {
					t.Error("the origin took what stood behind")
				}
				n.mustGet("/", "") // others do not notice
			})
		})
	}
}

// P18: early data as a client sends it that knows a PSK. A server that rejects it would skip the records that the
// proxy was shown; here none reaches one.
func TestP18RejectedEarlyData(t *testing.T) {
	key := newSealer(pattern(32))
	early := key.seal(nil, piece{tlsmsg.TypeApplicationData, []byte("GET /shown-and-skipped HTTP/1.1\r\nHost: origin.example\r\n\r\n")})
	for name, offered := range map[string]bool{"with early_data in the ClientHello": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var arrived hostile.Tape
				rec := newRecorder()
				n := New(t, Config{
					Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the origin was asked") }),
					Proxy:   func(_ *Net, p *proxy.Proxy) { p.Inspectors = []proxy.Inspector{rec} },
					Hop2: func(_ *proxy.Target, s hop.Session) hop.Session {
						return hostile.Wrap(s, func(uint64) hostile.Mangler { return arrived.Mangler() })
					},
				})
				s := hostile.Wrap(n.hop1(), func(uint64) hostile.Mangler {
					return chain{rewriteClientHello(t, func(h *tlsmsg.ClientHello) {
						if offered {
							h.Extensions = append(h.Extensions, tlsmsg.Extension{Type: tlsmsg.ExtensionEarlyData})
						}
						h.Extensions = append(h.Extensions, offeredPSK(pattern(100))...)
					}), hostile.NewAttack(func(i int, r []byte) [][]byte {
						if i == 0 {
							return [][]byte{r, early}
						}
						return [][]byte{r}
					})}
				})
				st, offer := n.connect(s)
				c := n.inner(st, offer, nil)
				defer c.Close()
				if rule := n.killedBy(c.HandshakeContext(n.ctx), offer); rule != "tls-early-data" {
					t.Errorf("rule %s", rule)
				}
				for _, r := range arrived.Records() {
					if offered || bytes.Contains(r, []byte("shown")) {
						t.Errorf("the origin was sent %q", r)
					}
				}
				if len(rec.all) > 0 {
					t.Error("inspectors were shown what no origin reads")
				}
			})
		})
	}
}

// wantRule fails the test unless err is a kill by rule, signed.
func wantRule(t *testing.T, err error, rule string) *client.KilledError {
	t.Helper()
	k := wantError[*client.KilledError](t, err)
	if !k.SignatureVerified || k.Rule != rule {
		t.Errorf("rule %s (%s), want %s; verified %v", k.Rule, k.Reason, rule, k.SignatureVerified)
	}
	return k
}

// P2: who carried a user's handshake has the user's Certificate and CertificateVerify, and the signature is
// good for nothing in a session of his own, whose keys he has and whose Finished he can make.
func TestP2ACapturedCertificateVerifyIsWorthNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		users, err := newUsers(t)
		if err != nil {
			t.Fatal(err)
		}
		user, thief := users.client(t, "user"), users.client(t, "thief")
		served := make(chan string, 10)
		n := New(t, Config{
			Origin: func(_ *Net, srv *http.Server, _ *origin.Config) {
				srv.TLSConfig.ClientAuth, srv.TLSConfig.ClientCAs = tls.RequireAndVerifyClientCert, users.pool()
			},
			Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { served <- r.TLS.PeerCertificates[0].Subject.CommonName }),
		})
		session := func(cert tls.Certificate, flight func(messages [][]byte) [][]byte) (*itls.Conn, error) {
			st, offer := n.connect(n.hop1())
			keys := new(keyLog)
			s := newSmith(t, hop.NewConn(st), keys, true)
			s.flight = flight
			c := itls.Client(s, &itls.Config{
				TLS: &tls.Config{
					RootCAs: n.Origins.Pool().CertPool, ServerName: OriginHost, NextProtos: []string{"http/1.1"}, KeyLogWriter: keys,
					Certificates: []tls.Certificate{cert},
				},
				Inspection: offer,
			})
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: origin.example\r\n\r\n")
			_, err := c.Read(make([]byte, 100))
			return c, err
		}
		// What he reads is the user's flight; what he makes of it fits his own session.
		var captured [][]byte
		c, err := session(user, func(messages [][]byte) [][]byte {
			for _, m := range messages {
				captured = append(captured, bytes.Clone(m))
			}
			return messages // with a Finished of the smith's, so that the refusal below is not for want of a good one
		})
		if err != nil || <-served != "user" || len(captured) != 2 {
			t.Fatalf("the user's own session: %v, %d messages", err, len(captured))
		}
		c.Close()
		for name, flight := range map[string]func(messages [][]byte) [][]byte{
			"both messages":          func([][]byte) [][]byte { return captured },
			"the certificate alone":  func(own [][]byte) [][]byte { return [][]byte{captured[0], own[1]} },
			"the signature alone":    func(own [][]byte) [][]byte { return [][]byte{own[0], captured[1]} },
			"no signature":           func([][]byte) [][]byte { return captured[:1] },
			"no certificate at all":  func([][]byte) [][]byte { return [][]byte{{11, 0, 0, 4, 0, 0, 0, 0}} },
			"nothing":                func([][]byte) [][]byte { return [][]byte{} },
			"the messages' contrary": func([][]byte) [][]byte { return [][]byte{captured[1], captured[0]} },
		} {
			c, err := session(thief, flight)
			if err == nil {
				t.Errorf("%s: the origin answered", name)
			}
			c.Close()
		}
		c, err = session(thief, func(own [][]byte) [][]byte { return own })
		if err != nil || <-served != "thief" {
			t.Errorf("the thief as himself: %v", err)
		}
		c.Close()
		synctest.Wait()
		if len(served) > 0 {
			t.Errorf("the origin served %q", <-served)
		}
	})
}

// P9: everything that a proxy knows, as the secret of a record's MAC: the secrets of both its hops, its private
// key, and what it read of the inner handshake. The control is the one secret that it does not have.
func TestP9WhatAProxyKnowsMakesNoMAC(t *testing.T) {
	bubble(t, func(t *testing.T) {
		hops, inner := new(keyLog), new(keyLog)
		type guess struct {
			name   string
			secret []byte
		}
		guesses := func(n *Net, hello, answer []byte) (list []guess) {
			for label, secret := range hops.all() {
				list = append(list, guess{label, secret})
			}
			key, err := x509.MarshalPKCS8PrivateKey(n.ProxyCert.PrivateKey)
			if err != nil {
				t.Fatal(err)
			}
			h, err := tlsmsg.ParseClientHello(hello)
			if err != nil {
				t.Fatal(err)
			}
			a, err := tlsmsg.ParseServerHello(answer)
			if err != nil {
				t.Fatal(err)
			}
			both := sha256.Sum256(slices.Concat(hello, answer))
			return append(
				list, guess{"its private key", key}, guess{"the client's random", h.Random[:]}, guess{"the origin's random", a.Random[:]},
				guess{"the nonce", h.Inspection.Nonce[:]}, guess{"the client's share", h.KeyShares[0].Data}, guess{"the origin's share", a.KeyShare.Data},
				guess{"the hash of both Hellos", both[:]}, guess{"nothing", nil}, guess{"zeros", make([]byte, 32)},
			)
		}
		var n *Net
		var made guess
		var hello []byte
		turn, traffic := 0, false
		forged := piece{tlsmsg.TypeApplicationData, []byte("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")}
		n = New(t, Config{
			Proxy: func(_ *Net, p *proxy.Proxy) {
				p.KeyLog = hops
				p.Limits.Hop.Resets = hop.Rate{PerSecond: 1e6, Burst: 1e6}
			},
			Client: func(_ *Net, tr *client.Transport) { tr.IdleTimeout, tr.NoResumption, tr.KeyLog = -1, true, inner },
			Hop2: func(_ *proxy.Target, s hop.Session) hop.Session {
				return hostile.Wrap(s, func(uint64) hostile.Mangler {
					return hostile.NewAttack(func(i int, r []byte) [][]byte {
						if i == 0 {
							hello = bytes.Clone(r[tlsmsg.RecordHeaderLen:])
						}
						return [][]byte{r}
					})
				})
			},
			Hop1: func(s hop.Session) hop.Session {
				return hostile.Wrap(s, func(uint64) hostile.Mangler {
					var answer []byte
					return hostile.NewAttack(func(_ int, r []byte) [][]byte {
						switch {
						case r[0] == byte(tlsmsg.TypeHandshake):
							answer = bytes.Clone(r[tlsmsg.RecordHeaderLen:])
						case r[0] == byte(tlsmsg.TypeApplicationData) && unseal(r).typ == tlsmsg.TypeApplicationData:
							made = guess{"the session's own", inner.secret("SERVER_TRAFFIC_SECRET_0")}
							if list := guesses(n, hello, answer); turn < len(list) {
								made = list[turn]
							}
							key := sealer{key: made.secret, iv: make([]byte, sha256.Size)}
							if traffic {
								key = newSealer(made.secret)
							}
							return [][]byte{key.seal(nil, forged)}
						}
						return [][]byte{r}
					})
				})
			},
		})
		for _, traffic = range []bool{false, true} {
			made.name = ""
			for turn = 0; made.name != "the session's own"; turn++ {
				_, body, err := n.get("/")
				want := "integrity"
				if traffic && made.name == "the session's own" {
					want = "success"
				}
				if c := class(err); c != want || (string(body) == "forged") != (err == nil) {
					t.Errorf("a MAC with %s: %s: %q %v", made.name, c, body, err)
				}
			}
			t.Logf("%d secrets tried", turn-1)
			if turn < 15 {
				t.Error("the proxy knew next to nothing")
			}
		}
	})
}
