package testnet

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vitrine/client"
	"vitrine/internal/hop"
	"vitrine/internal/hostile"
	"vitrine/internal/tlsmsg"
	"vitrine/proxy"
)

// rewriteClientHello returns an attack on the ClientHello of a tunnel.
func rewriteClientHello(t *testing.T, change func(h *tlsmsg.ClientHello)) *hostile.Attack {
	return rewriteHello(t, tlsmsg.ParseClientHello, change)
}

// rewriteServerHello returns an attack on the ServerHello of a tunnel.
func rewriteServerHello(t *testing.T, change func(h *tlsmsg.ServerHello)) *hostile.Attack {
	return rewriteHello(t, tlsmsg.ParseServerHello, change)
}

func rewriteHello[M interface {
	Append(b []byte) ([]byte, error)
}](t *testing.T, parse func(msg []byte) (M, error), change func(m M)) *hostile.Attack {
	return hostile.NewAttack(func(n int, record []byte) [][]byte {
		if n != 0 {
			return [][]byte{record}
		}
		m, err := parse(record[tlsmsg.RecordHeaderLen:])
		if err != nil {
			t.Error(err)
			return nil
		}
		change(m)
		msg, err := m.Append(nil)
		if err != nil {
			t.Error(err)
			return nil
		}
		return [][]byte{tlsmsg.RecordHeader{Type: tlsmsg.TypeHandshake, Version: 0x0303, Length: len(msg)}.Append(nil), msg}
	})
}

// set puts an extension in the place of the one of its type, or behind all others.
func set(list []tlsmsg.Extension, build func(x *tlsmsg.ExtensionBuilder)) []tlsmsg.Extension {
	var b tlsmsg.ExtensionBuilder
	build(&b)
	made, err := b.Extensions()
	if err != nil {
		panic(err) // of the test's own making
	}
	for _, e := range made {
		if i := slices.IndexFunc(list, func(o tlsmsg.Extension) bool { return o.Type == e.Type }); i >= 0 {
			list[i] = e
		} else {
			list = append(list, e)
		}
	}
	return list
}

func strip(list []tlsmsg.Extension, typ uint16) []tlsmsg.Extension {
	return slices.DeleteFunc(list, func(e tlsmsg.Extension) bool { return e.Type == typ })
}

// P6: a proxy that changes what the two Hellos offer and choose: to a weaker suite, group or signature, to another
// name or protocol, to a key exchange with itself. Each Hello is under both Finished, so no session comes of it.
func TestP6EditedHellos(t *testing.T) {
	own, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	share := tlsmsg.KeyShare{Group: tls.X25519, Data: own.PublicKey().Bytes()}
	type clients = func(h *tlsmsg.ClientHello)
	type servers = func(h *tlsmsg.ServerHello)
	attacks := map[string]any{
		"the client's suites in another order": clients(func(h *tlsmsg.ClientHello) { slices.Reverse(h.CipherSuites) }),
		"the client's second suite alone":      clients(func(h *tlsmsg.ClientHello) { h.CipherSuites = h.CipherSuites[1:] }),
		"an encrypting suite for the client":   clients(func(h *tlsmsg.ClientHello) { h.CipherSuites = append(h.CipherSuites, tls.TLS_AES_128_GCM_SHA256) }),
		"TLS 1.2 beside TLS 1.3": clients(func(h *tlsmsg.ClientHello) {
			h.Extensions = set(h.Extensions, func(x *tlsmsg.ExtensionBuilder) { x.SupportedVersions(tlsmsg.VersionTLS13, tlsmsg.VersionTLS12) })
		}),
		"another group for the client": clients(func(h *tlsmsg.ClientHello) {
			h.Extensions = set(h.Extensions, func(x *tlsmsg.ExtensionBuilder) { x.SupportedGroups([]tls.CurveID{tls.X25519}) })
		}),
		"one signature scheme": clients(func(h *tlsmsg.ClientHello) {
			h.Extensions = set(h.Extensions, func(x *tlsmsg.ExtensionBuilder) {
				x.SignatureAlgorithms([]tls.SignatureScheme{tls.ECDSAWithP256AndSHA256})
			})
		}),
		"a protocol beside http/1.1": clients(func(h *tlsmsg.ClientHello) {
			h.Extensions = set(h.Extensions, func(x *tlsmsg.ExtensionBuilder) { x.ALPN("http/1.1", "h2") })
		}),
		"no application protocol": clients(func(h *tlsmsg.ClientHello) { h.Extensions = strip(h.Extensions, tlsmsg.ExtensionALPN) }),
		"another server name": clients(func(h *tlsmsg.ClientHello) {
			h.Extensions = set(h.Extensions, func(x *tlsmsg.ExtensionBuilder) { x.ServerName("other.example") })
		}),
		"the client's random": clients(func(h *tlsmsg.ClientHello) { h.Random[0] ^= 1 }),
		"the proxy's own share for the client's": clients(func(h *tlsmsg.ClientHello) {
			h.Extensions = set(h.Extensions, func(x *tlsmsg.ExtensionBuilder) { x.KeyShares(share) })
		}),
		"no share of the client": clients(func(h *tlsmsg.ClientHello) {
			h.Extensions = set(h.Extensions, func(x *tlsmsg.ExtensionBuilder) { x.KeyShares() })
		}),
		"no inspection": clients(func(h *tlsmsg.ClientHello) { h.Extensions = strip(h.Extensions, tlsmsg.ExtensionInspection) }),
		"another proxy in the inspection": clients(func(h *tlsmsg.ClientHello) {
			o := *h.Inspection
			o.Proxies = [][32]byte{{1}}
			h.Extensions = set(h.Extensions, func(x *tlsmsg.ExtensionBuilder) { x.InspectionOffer(&o) })
		}),
		"early data for the client": clients(func(h *tlsmsg.ClientHello) {
			h.Extensions = append(h.Extensions, tlsmsg.Extension{Type: tlsmsg.ExtensionEarlyData})
		}),
		"a PSK for the client": clients(func(h *tlsmsg.ClientHello) { h.Extensions = append(h.Extensions, offeredPSK(pattern(100))...) }),

		"the other suite":      servers(func(h *tlsmsg.ServerHello) { h.CipherSuite = tlsmsg.SuiteSHA384 }),
		"an encrypting suite":  servers(func(h *tlsmsg.ServerHello) { h.CipherSuite = tls.TLS_AES_128_GCM_SHA256 }),
		"the origin's random":  servers(func(h *tlsmsg.ServerHello) { h.Random[0] ^= 1 }),
		"the mark of TLS 1.2":  servers(func(h *tlsmsg.ServerHello) { copy(h.Random[24:], "DOWNGRD\x01") }),
		"TLS 1.2 as it was":    servers(func(h *tlsmsg.ServerHello) { h.Extensions = strip(h.Extensions, tlsmsg.ExtensionSupportedVersions) }),
		"another session id":   servers(func(h *tlsmsg.ServerHello) { h.SessionID = []byte{1} }),
		"compression":          servers(func(h *tlsmsg.ServerHello) { h.Compression = 1 }),
		"an unasked extension": servers(func(h *tlsmsg.ServerHello) { h.Extensions = append(h.Extensions, tlsmsg.Extension{Type: 0x8b47}) }),
		"a PSK that is taken": servers(func(h *tlsmsg.ServerHello) {
			h.Extensions = append(h.Extensions, tlsmsg.Extension{Type: tlsmsg.ExtensionPreSharedKey, Data: []byte{0, 0}})
		}),
		"no share of the origin": servers(func(h *tlsmsg.ServerHello) { h.Extensions = strip(h.Extensions, tlsmsg.ExtensionKeyShare) }),
		"the proxy's own share for the origin's": servers(func(h *tlsmsg.ServerHello) {
			h.Extensions = set(h.Extensions, func(x *tlsmsg.ExtensionBuilder) { x.KeyShare(share) })
		}),
		"a HelloRetryRequest to another group": servers(func(h *tlsmsg.ServerHello) {
			h.Random = tlsmsg.HelloRetryRandom()
			h.Extensions = set(h.Extensions, func(x *tlsmsg.ExtensionBuilder) { x.SelectedGroup(tls.CurveP256) })
		}),
		"a HelloRetryRequest to the same group": servers(func(h *tlsmsg.ServerHello) {
			h.Random = tlsmsg.HelloRetryRandom()
			h.Extensions = set(h.Extensions, func(x *tlsmsg.ExtensionBuilder) { x.SelectedGroup(tls.X25519) })
		}),
	}
	classes := make(map[string]int)
	for name, change := range attacks {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var served atomic.Int32
				cfg := Config{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) })}
				switch change := change.(type) {
				case clients:
					cfg.Hop2 = func(_ *proxy.Target, s hop.Session) hop.Session {
						return hostile.Wrap(s, func(uint64) hostile.Mangler { return rewriteClientHello(t, change) })
					}
				case servers:
					cfg.Hop1 = func(s hop.Session) hop.Session {
						return hostile.Wrap(s, func(uint64) hostile.Mangler { return rewriteServerHello(t, change) })
					}
				}
				n := New(t, cfg)
				_, _, err := n.get("/")
				c := class(err)
				if c != "integrity" && c != "unreachable:origin" && c != "killed" {
					t.Errorf("%s: %v", c, err)
				}
				classes[c]++
				if served.Load() != 0 {
					t.Error("the origin took the request")
				}
				if r := client.ReportOfError(err); r == nil || r.Inner != nil || r.Level != "" {
					t.Errorf("report %+v", r)
				}
			})
		})
	}
	t.Log(classes)
}

// offeredPSK is what a ClientHello with one ticket has. Its binder is none.
func offeredPSK(ticket []byte) []tlsmsg.Extension {
	identity := append([]byte{byte(len(ticket) >> 8), byte(len(ticket))}, ticket...)
	identity = append(identity, 0, 0, 0, 1) // its age
	data := append([]byte{byte(len(identity) >> 8), byte(len(identity))}, identity...)
	data = append(data, 0, 33, 32)
	data = append(data, make([]byte, 32)...)
	return []tlsmsg.Extension{
		{Type: tlsmsg.ExtensionPSKKeyExchangeModes, Data: []byte{1, tlsmsg.PSKModeDHE}},
		{Type: tlsmsg.ExtensionPreSharedKey, Data: data},
	}
}

// A tapped is the connections of a dialer, with what was sent on them.
type tapped struct {
	mu   sync.Mutex
	taps []*tap
}

func (d *tapped) dial(dial func(ctx context.Context, network, address string) (net.Conn, error)) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c := &tap{Conn: conn}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.taps = append(d.taps, c)
		return c, nil
	}
}

// P20: an ordinary ticket of the origin's, from a direct session, is offered inside: the inner session is none
// the less a full handshake, with the origin's certificate in it.
func TestP20AnOrdinaryTicketOpensNoInnerSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var answers hostile.Tape
		n := New(t, Config{Hop1: func(s hop.Session) hop.Session {
			return hostile.Wrap(s, func(uint64) hostile.Mangler { return answers.Mangler() })
		}})
		cache := tls.NewLRUClientSessionCache(1)
		direct := func() bool {
			conn, err := n.DialContext(n.ctx, "tcp", OriginHost+":443")
			if err != nil {
				t.Fatal(err)
			}
			tc := tls.Client(conn, &tls.Config{RootCAs: n.Origins.Pool().CertPool, ServerName: OriginHost, ClientSessionCache: cache})
			defer tc.Close()
			io.WriteString(tc, "GET / HTTP/1.1\r\nHost: origin.example\r\n\r\n")
			if _, err := tc.Read(make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			return tc.ConnectionState().DidResume
		}
		direct()
		state, ok := cache.Get(OriginHost)
		if !ok || !direct() {
			t.Fatal("the origin gave no ticket that is good for a direct session")
		}
		ticket, _, err := state.ResumptionState()
		if err != nil || len(ticket) == 0 {
			t.Fatal(err)
		}
		s := hostile.Wrap(n.hop1(), func(uint64) hostile.Mangler {
			return rewriteClientHello(t, func(h *tlsmsg.ClientHello) { h.Extensions = append(h.Extensions, offeredPSK(ticket)...) })
		})
		st, offer := n.connect(s)
		c := n.inner(st, offer, nil)
		defer c.Close()
		if c.HandshakeContext(n.ctx) == nil {
			t.Error("the client did not notice what was put into its ClientHello")
		}
		list := answers.Records()
		if len(list) < 2 {
			t.Fatalf("the origin answered with %x", list)
		}
		hello, err := tlsmsg.ParseServerHello(list[0][tlsmsg.RecordHeaderLen:])
		if err != nil || hello.SelectedPSK != nil {
			t.Errorf("%+v %v", hello, err)
		}
		certified := false
		for _, r := range list[1:] {
			if r[0] != byte(tlsmsg.TypeApplicationData) {
				continue
			}
			for rest := unseal(r).content; len(rest) > 0; {
				msg, more, err := tlsmsg.SplitHandshake(rest, tlsmsg.MaxHandshake)
				if err != nil {
					break
				}
				certified = certified || tlsmsg.MessageType(msg) == tlsmsg.TypeCertificate && bytes.Contains(msg, n.OriginCert.Leaf.Raw)
				rest = more
			}
		}
		if !certified {
			t.Error("no certificate of the origin in the inner handshake")
		}
	})
}

// P20: an origin gives tickets inside and outside, and the client uses neither: not those of an inner session for
// an ordinary one, not the reverse, and none for its like. No ClientHello of its has a PSK or early data.
func TestP20TicketsDoNotCross(t *testing.T) {
	bubble(t, func(t *testing.T) {
		inside := pattern(200)
		ticket := message(t, &tlsmsg.NewSessionTicket{Lifetime: 3600, Nonce: []byte{1}, Ticket: inside})
		var inner []*hostile.Tape
		var outer tapped
		o := &ownOrigin{carrier: func(c *hop.Conn, keys *keyLog) net.Conn {
			s := newSmith(t, c, keys, false)
			s.forge = func(n int, r piece) []piece {
				if n == 0 {
					return []piece{ticket, r}
				}
				return []piece{r}
			}
			return s
		}}
		n := New(t, Config{
			Names: []string{"else.example"},
			Proxy: func(n *Net, p *proxy.Proxy) {
				p.Policy.Modes = []proxy.Mode{proxy.Intact, proxy.Blind}
				p.Targets.DialContext = outer.dial(n.DialContext)
			},
			Hop2: func(_ *proxy.Target, s hop.Session) hop.Session {
				return hostile.Wrap(s, func(uint64) hostile.Mangler {
					inner = append(inner, new(hostile.Tape))
					return inner[len(inner)-1].Mangler()
				})
			},
			Client: func(_ *Net, tr *client.Transport) {
				tr.Levels, tr.IdleTimeout = []client.Level{client.Intact, client.Blind}, -1
			},
		})
		n.serveOwnOrigin(o)
		for _, stock := range []bool{false, false, true, true, false} {
			time.Sleep(time.Hour) // the bubble's clock: idle hops end
			o.stock.Store(stock)
			n.Client.Forget(OriginHost + ":443") // the user was told
			rep := n.mustGet("/", "own")
			if (rep.Level == client.Blind) != stock || rep.Inner.Resumed {
				t.Fatalf("stock %v: %s, %+v", stock, rep.Level, rep.Inner)
			}
		}
		var hellos [][]byte
		for _, tape := range inner {
			hellos = append(hellos, tape.Records()[0])
		}
		if len(hellos) != 3 {
			t.Errorf("%d inner sessions", len(hellos))
		}
		for _, c := range outer.taps {
			sent, _ := c.seen()
			hellos = append(hellos, records(sent)[0])
			if bytes.Contains(sent, inside) {
				t.Error("a ticket of an inner session left outside")
			}
		}
		for _, record := range hellos {
			h, err := tlsmsg.ParseClientHello(record[tlsmsg.RecordHeaderLen:])
			if err != nil {
				t.Fatal(err)
			}
			if h.HasPSK || h.EarlyData || bytes.Contains(record, inside) {
				t.Errorf("a ClientHello with a PSK: %+v", h)
			}
		}
		if len(hellos) < 8 {
			t.Errorf("only %d ClientHellos were seen", len(hellos))
		}
	})
}
