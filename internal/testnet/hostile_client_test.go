package testnet

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/client"
	"vitrine/frames"
	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/hop/h2"
	"vitrine/internal/hostile"
	"vitrine/internal/itls"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
	"vitrine/internal/verdict"
	"vitrine/proxy"
)

// hop1 is a client's session with the proxy, without the client.
func (n *Net) hop1() hop.Session {
	n.Helper()
	conn, err := n.DialContext(n.ctx, "tcp", ProxyHost+":443")
	if err != nil {
		n.Fatal(err)
	}
	tc := tls.Client(conn, &tls.Config{RootCAs: n.Proxies.Pool().CertPool, ServerName: ProxyHost, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13})
	if err := tc.HandshakeContext(n.ctx); err != nil {
		n.Fatal(err)
	}
	s, err := h2.Client(tc, nil)
	if err != nil {
		n.Fatal(err)
	}
	n.Cleanup(func() { s.Close(hop.NoError, ""); <-s.Done() })
	return s
}

// connectRequest is the CONNECT of an intact tunnel, and its offer.
func (n *Net) connectRequest(authority string) (*hop.Request, *tlsmsg.InspectionOffer) {
	n.Helper()
	offer := &tlsmsg.InspectionOffer{Proxies: [][32]byte{pki.LeafHash(n.ProxyCert.Leaf)}, Authority: authority}
	rand.Read(offer.Nonce[:])
	host, _, err := fields.ParseAuthority(authority)
	if err != nil {
		n.Fatal(err)
	}
	raw, err := evidence.NewRequest(offer, host)
	if err != nil {
		n.Fatal(err)
	}
	h := http.Header{}
	h.Set(fields.EvidenceRequest, fields.FormatEvidenceRequest(raw))
	return &hop.Request{Protocol: frames.Protocol, Authority: authority, Path: "/", Header: h}, offer
}

// connect opens a tunnel to the origin on s.
func (n *Net) connect(s hop.Session) (hop.Stream, *tlsmsg.InspectionOffer) {
	n.Helper()
	req, offer := n.connectRequest(OriginHost + ":443")
	resp, st, err := s.Open(n.ctx, req)
	if err != nil || st == nil {
		n.Fatalf("CONNECT: %+v %v", resp, err)
	}
	return st, offer
}

// inner is a client's inner session on st.
func (n *Net) inner(st hop.Stream, offer *tlsmsg.InspectionOffer, change func(cfg *itls.Config)) *itls.Conn {
	cfg := &itls.Config{
		TLS:        &tls.Config{RootCAs: n.Origins.Pool().CertPool, ServerName: OriginHost, NextProtos: []string{"http/1.1"}},
		Inspection: offer,
	}
	if change != nil {
		change(cfg)
	}
	return itls.Client(hop.NewConn(st), cfg)
}

// killedBy returns the rule of the verdict that ended a tunnel, verified.
func (n *Net) killedBy(err error, offer *tlsmsg.InspectionOffer) string {
	var reset *hop.ResetError
	if !errors.As(err, &reset) || reset.Code != hop.Killed {
		return fmt.Sprintf("not killed: %v", err)
	}
	tbs, err := verdict.Verify(reset.Verdict, verdict.Expect{Proxy: n.ProxyCert.Leaf, Nonce: offer.Nonce, Authority: offer.Authority, CheckLeaf: true})
	if err != nil {
		return err.Error()
	}
	return tbs.Rule
}

// An evader shows the proxy bytes that the origin never reads, or would read otherwise. Nothing of it comes
// through.
func TestP18EvasionsInTheInnerSession(t *testing.T) {
	data := func(s string) []byte { // as a record under a key that nobody has
		b := append([]byte(s), byte(tlsmsg.TypeApplicationData))
		b = append(b, make([]byte, 32)...)
		return append(tlsmsg.RecordHeader{Type: tlsmsg.TypeApplicationData, Version: 0x0303, Length: len(b)}.Append(nil), b...)
	}
	hello := func(change func(x *tlsmsg.ClientHello)) func() *hostile.Attack {
		return func() *hostile.Attack {
			return hostile.NewAttack(func(n int, record []byte) [][]byte {
				if n != 0 {
					return [][]byte{record}
				}
				h, err := tlsmsg.ParseClientHello(record[tlsmsg.RecordHeaderLen:])
				if err != nil {
					panic(err)
				}
				change(h)
				msg, err := h.Append(nil)
				if err != nil {
					panic(err)
				}
				return [][]byte{append(tlsmsg.RecordHeader{Type: tlsmsg.TypeHandshake, Version: 0x0301, Length: len(msg)}.Append(nil), msg...)}
			})
		}
	}
	without := func(types ...uint16) func() *hostile.Attack {
		return hello(func(h *tlsmsg.ClientHello) {
			h.Extensions = slices.DeleteFunc(h.Extensions, func(x tlsmsg.Extension) bool { return slices.Contains(types, x.Type) })
		})
	}
	add := func(x tlsmsg.Extension) func() *hostile.Attack {
		return hello(func(h *tlsmsg.ClientHello) { h.Extensions = append(h.Extensions, x) })
	}
	for _, x := range []struct {
		name   string
		attack func() *hostile.Attack
		config func(cfg *itls.Config)
		rules  []string
	}{
		{name: "early data without an offer", attack: func() *hostile.Attack { return hostile.Insert(1, data("GET /shown HTTP/1.1\r\n")) }, rules: []string{"tls-client-data"}},
		{name: "early_data", attack: add(tlsmsg.Extension{Type: tlsmsg.ExtensionEarlyData}), rules: []string{"tls-early-data"}},
		{name: "encrypted_client_hello", attack: add(tlsmsg.Extension{Type: tlsmsg.ExtensionEncryptedClientHello, Data: []byte{1}}), rules: []string{"tls-ech", "tls-message"}},
		{name: "no inspection offer", attack: without(tlsmsg.ExtensionInspection), rules: []string{"offer-missing"}},
		{name: "an offer without this proxy", config: func(cfg *itls.Config) {
			o := *cfg.Inspection
			o.Proxies = [][32]byte{{1}}
			cfg.Inspection = &o
		}, rules: []string{"offer-proxy"}},
		{name: "an offer with a second reader", config: func(cfg *itls.Config) {
			o := *cfg.Inspection
			o.Proxies = append([][32]byte{{1}}, o.Proxies...)
			cfg.Inspection = &o
		}, rules: []string{"offer-proxy"}},
		{name: "an offer with another nonce", config: func(cfg *itls.Config) {
			o := *cfg.Inspection
			o.Nonce[0] ^= 1
			cfg.Inspection = &o
		}, rules: []string{"offer-nonce"}},
		{name: "an offer for another authority", config: func(cfg *itls.Config) {
			o := *cfg.Inspection
			o.Authority = OriginHost + ":8443"
			cfg.Inspection = &o
		}, rules: []string{"offer-authority"}},
		{name: "another server name", attack: hello(func(h *tlsmsg.ClientHello) {
			var x tlsmsg.ExtensionBuilder
			x.ServerName("other.example")
			list, err := x.Extensions()
			if err != nil {
				panic(err)
			}
			for i := range h.Extensions {
				if h.Extensions[i].Type == tlsmsg.ExtensionServerName {
					h.Extensions[i] = list[0]
				}
			}
		}), rules: []string{"tls-sni"}},
		{name: "no server name", attack: without(tlsmsg.ExtensionServerName), rules: []string{"tls-sni"}},
		{name: "an encrypting suite beside them", attack: hello(func(h *tlsmsg.ClientHello) {
			h.CipherSuites = append([]uint16{tls.TLS_AES_128_GCM_SHA256}, h.CipherSuites...)
		}), rules: nil}, // the origin picks none, and the client's transcript is another
		{name: "two change_cipher_spec", attack: func() *hostile.Attack {
			ccs := []byte{20, 3, 3, 0, 1, 1}
			return hostile.Insert(1, append(slices.Clone(ccs), ccs...))
		}, rules: []string{"tls-ccs"}},
		{name: "an unprotected record behind the ClientHello", attack: func() *hostile.Attack {
			return hostile.Insert(1, []byte{22, 3, 3, 0, 4, 1, 0, 0, 0})
		}, rules: []string{"tls-order", "tls-plaintext", "tls-message"}},
		{name: "not TLS", attack: func() *hostile.Attack {
			return hostile.Replace(0, []byte("GET / HTTP/1.1\r\nHost: origin.example\r\n\r\n"))
		}, rules: []string{"tls-record"}},
		{name: "SSH", attack: func() *hostile.Attack { return hostile.Replace(0, []byte("SSH-2.0-OpenSSH_9.0\r\n")) }, rules: []string{"tls-record"}},
		{name: "TLS 1.2 alone", attack: without(tlsmsg.ExtensionSupportedVersions), rules: []string{"tls-version"}},
		{name: "an inner protocol that nobody reads", config: func(cfg *itls.Config) { cfg.TLS.NextProtos = []string{"smtp"} }, rules: nil},
	} {
		t.Run(x.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				served := 0
				n := New(t, Config{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served++ })})
				s := n.hop1()
				if x.attack != nil {
					s = hostile.Wrap(s, func(uint64) hostile.Mangler { return x.attack() })
				}
				st, offer := n.connect(s)
				c := n.inner(st, offer, x.config)
				err := c.HandshakeContext(n.ctx)
				if err == nil {
					io.WriteString(c, "GET / HTTP/1.1\r\nHost: origin.example\r\n\r\n")
					_, err = c.Read(make([]byte, 1))
				}
				c.Close()
				synctest.Wait()
				if served != 0 {
					t.Error("the evasion reached the origin's handler")
				}
				if rule := n.killedBy(err, offer); x.rules != nil && !slices.Contains(x.rules, rule) {
					t.Errorf("rule %s, want one of %v", rule, x.rules)
				} else if x.rules == nil && err == nil {
					t.Error("nobody minded")
				}
				n.mustGet("/", "") // others do not notice
			})
		})
	}
}

// Records behind close_notify: the origin's TLS never shows them to anybody, so a proxy that read them would
// read what was not said.
func TestP18DataBehindCloseNotify(t *testing.T) {
	bubble(t, func(t *testing.T) {
		paths := make(chan string, 10)
		n := New(t, Config{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { paths <- r.URL.Path })})
		var kept []byte
		s := hostile.Wrap(n.hop1(), func(uint64) hostile.Mangler {
			return hostile.NewAttack(func(n int, record []byte) [][]byte {
				switch n {
				case 2: // the request
					kept = record
				case 3: // close_notify
					return [][]byte{record, kept}
				}
				return [][]byte{record}
			})
		})
		st, offer := n.connect(s)
		c := n.inner(st, offer, nil)
		io.WriteString(c, "GET /1 HTTP/1.1\r\nHost: origin.example\r\n\r\n")
		if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
			t.Fatal(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		_, err := io.ReadAll(c)
		if rule := n.killedBy(err, offer); rule != "tls-after-close" {
			t.Error(rule)
		}
		if p := <-paths; p != "/1" || len(paths) > 0 {
			t.Error("the origin was asked twice")
		}
	})
}

// Requests that two parsers could read in two ways.
func TestP18Smuggling(t *testing.T) {
	const host = "Host: origin.example\r\n"
	for _, x := range []struct{ name, request, rule string }{
		{"Content-Length and chunked", "POST / HTTP/1.1\r\n" + host + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n" + host + "\r\n", "http-cl-te"},
		{"two lengths", "POST / HTTP/1.1\r\n" + host + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", "http-content-length"},
		{"a signed length", "POST / HTTP/1.1\r\n" + host + "Content-Length: +2\r\n\r\nab", "http-content-length"},
		{"two codings", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "http-transfer-encoding"},
		{"a coding that is not last", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", "http-transfer-encoding"},
		{"bare LF", "GET / HTTP/1.1\nHost: origin.example\n\n", "http-bare-lf"},
		{"a field name with a space", "POST / HTTP/1.1\r\n" + host + "Content-Length : 2\r\n\r\nab", "http-field-name"},
		{"obs-fold", "GET / HTTP/1.1\r\n" + host + "X: a\r\n b\r\n\r\n", "http-obs-fold"},
		{"another host", "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n", "http-host"},
		{"another host in the target", "GET https://other.example/ HTTP/1.1\r\n" + host + "\r\n", "http-host"},
		{"two hosts", "GET / HTTP/1.1\r\n" + host + host + "\r\n", "http-duplicate-host"},
		{"no host", "GET / HTTP/1.1\r\n\r\n", "http-missing-host"},
		{"a chunk extension", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n1;x\r\na\r\n0\r\n\r\n", "http-chunk-ext"},
		{"a chunk of too many digits", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n00000000000000001\r\na\r\n0\r\n\r\n", "http-chunk-size"},
		{"a chunk that is longer than it says", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", "http-chunk-end"},
		{"CONNECT", "CONNECT other.example:443 HTTP/1.1\r\nHost: other.example:443\r\n\r\n", "http-connect"},
		{"NUL in a value", "GET / HTTP/1.1\r\n" + host + "X: a\x00b\r\n\r\n", "http-field-value"},
		{"HTTP/0.9", "GET /\r\n\r\n", "http-request-line"},
	} {
		t.Run(x.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var smuggled atomic.Int32
				n := New(t, Config{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/smuggled" || !strings.HasPrefix(x.name, "a chunk") {
						smuggled.Add(1)
					}
				})})
				tun, err := n.NewDialer(nil).DialTunnel(n.ctx, OriginHost+":443")
				if err != nil {
					t.Fatal(err)
				}
				defer tun.Close()
				io.WriteString(tun, x.request)
				_, err = io.ReadAll(tun)
				k := wantError[*client.KilledError](t, err)
				if !k.SignatureVerified || k.Rule != x.rule {
					t.Errorf("rule %s (%s), want %s", k.Rule, k.Reason, x.rule)
				}
				synctest.Wait()
				if smuggled.Load() > 0 {
					t.Error("it reached the origin")
				}
			})
		})
	}
}

// Streams that are opened and reset in a storm cost the storm its session and nobody else anything.
func TestResetStorm(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var dials atomic.Int32
		n := New(t, Config{Proxy: func(n *Net, p *proxy.Proxy) {
			p.Targets.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				dials.Add(1)
				return n.DialContext(ctx, network, addr)
			}
		}})
		sibling, offer := n.connect(n.hop1())
		c := n.inner(sibling, offer, nil)
		defer c.Close()
		if err := c.HandshakeContext(n.ctx); err != nil {
			t.Fatal(err)
		}
		storm := n.hop1()
		if err := storm.Ready(n.ctx); err != nil {
			t.Fatal(err)
		}
		resets := 0
		for ; resets < 100_000 && storm.Err() == nil; resets++ {
			req, _ := n.connectRequest(OriginHost + ":443")
			ctx, cancel := context.WithCancel(n.ctx)
			opened := make(chan struct{})
			go func() {
				defer close(opened)
				if _, st, err := storm.Open(ctx, req); err == nil && st != nil {
					st.Reset(hop.Cancel)
				}
			}()
			synctest.Wait()
			cancel()
			<-opened
		}
		var ended *hop.SessionError
		if !errors.As(storm.Err(), &ended) || !ended.Remote {
			t.Fatalf("after %d resets: %v", resets, storm.Err())
		}
		t.Logf("the session ended after %d resets: %v; %d connections to the origin", resets, storm.Err(), dials.Load())
		if resets > 5000 || dials.Load() > 64 {
			t.Errorf("%d resets, %d connections to the origin", resets, dials.Load())
		}
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: origin.example\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != 200 {
			t.Errorf("the sibling: %v", err)
		}
	})
}

// Tunnels that are opened and never used are ended, and what they held is given back.
func TestAbandonedTunnelsEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := New(t, Config{Proxy: func(_ *Net, p *proxy.Proxy) { p.Limits.TunnelIdle = time.Minute }})
		s := n.hop1()
		ends := make(chan error, 100)
		for range 50 {
			st, _ := n.connect(s)
			st.Start(ender(ends))
		}
		for range 50 {
			select {
			case err := <-ends:
				var reset *hop.ResetError
				if !errors.As(err, &reset) && !errors.Is(err, io.EOF) {
					t.Error(err)
				}
			case <-time.After(2 * time.Minute):
				t.Fatal("a tunnel on which nothing moves is kept")
			}
		}
		n.mustGet("/", "hello")
	})
}

type ender chan error

func (ender) Data(b *hop.Buffer) { b.Release() }
func (ender) Writable()          {}
func (e ender) End(err error)    { e <- err }

// What a client may say in a CONNECT, and how it is refused.
func TestBadConnects(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := New(t, Config{Names: []string{OriginHost, "second.example"}})
		s := n.hop1()
		good := func(change func(r *hop.Request)) *hop.Request {
			r, _ := n.connectRequest(OriginHost + ":443")
			change(r)
			return r
		}
		other, _ := n.connectRequest("second.example:443")
		twice := http.Header{}
		for range 2 {
			r, _ := n.connectRequest(OriginHost + ":443")
			twice.Add(fields.EvidenceRequest, r.Header.Get(fields.EvidenceRequest))
		}
		for name, x := range map[string]struct {
			req    *hop.Request
			status int
		}{
			"no request for evidence":        {good(func(r *hop.Request) { r.Header = nil }), 400},
			"two requests for evidence":      {good(func(r *hop.Request) { r.Header = twice }), 400},
			"a request that is garbage":      {good(func(r *hop.Request) { r.Header.Set(fields.EvidenceRequest, ":YWJj:") }), 400},
			"a request for another":          {good(func(r *hop.Request) { r.Header = other.Header }), 400},
			"no port":                        {good(func(r *hop.Request) { r.Authority = OriginHost }), 400},
			"upper case":                     {good(func(r *hop.Request) { r.Authority = "ORIGIN.example:443" }), 400},
			"another path":                   {good(func(r *hop.Request) { r.Path = "/x" }), 400},
			"another protocol":               {good(func(r *hop.Request) { r.Protocol = "websocket" }), 501},
			"a loop":                         {good(func(r *hop.Request) { r.Header.Set("Via", "2 "+ProxyHost) }), 502},
			"a port that may not be dialled": {n.requestFor(OriginHost + ":25"), 403},
			"a name that is not there":       {n.requestFor("nowhere.example:443"), 502},
			"loopback":                       {n.requestFor("127.0.0.1:443"), 502},
			"this network":                   {n.requestFor("0.0.0.0:443"), 502},
			"loopback, in IPv6":              {n.requestFor("[::1]:443"), 502},
			"metadata":                       {n.requestFor("169.254.169.254:443"), 502},
			"a plain CONNECT":                {&hop.Request{Authority: OriginHost + ":443"}, frames.StatusInspectionRequired},
			"a page of its own":              {&hop.Request{Method: "GET", Authority: ProxyHost, Path: "/"}, 200},
			"another's page":                 {&hop.Request{Method: "GET", Authority: OriginHost, Path: "/"}, 421},
		} {
			resp, st, err := s.Open(n.ctx, x.req)
			if err != nil || st != nil || resp.Status != x.status {
				t.Errorf("%s: %+v %v, want status %d", name, resp, err, x.status)
				continue
			}
			if status, err := fields.ParseProxyStatus(resp.Header.Values(fields.ProxyStatusName)); err != nil || len(status) != 1 || status[0].Proxy != ProxyHost {
				t.Errorf("%s: proxy-status %q %v", name, resp.Header.Values(fields.ProxyStatusName), err)
			}
			if bytes.Contains(resp.Body, []byte("198.51.100")) {
				t.Errorf("%s: the answer tells an address: %s", name, resp.Body)
			}
		}
		n.connect(s)
	})
}

func (n *Net) requestFor(authority string) *hop.Request {
	n.Helper()
	offer := &tlsmsg.InspectionOffer{Proxies: [][32]byte{pki.LeafHash(n.ProxyCert.Leaf)}, Authority: authority}
	rand.Read(offer.Nonce[:])
	host, _, err := fields.ParseAuthority(authority)
	if err != nil {
		n.Fatal(err)
	}
	if strings.ContainsAny(host, ":") || host[0] >= '0' && host[0] <= '9' {
		host = ""
	}
	raw, err := evidence.NewRequest(offer, host)
	if err != nil {
		n.Fatal(err)
	}
	h := http.Header{}
	h.Set(fields.EvidenceRequest, fields.FormatEvidenceRequest(raw))
	return &hop.Request{Protocol: frames.Protocol, Authority: authority, Path: "/", Header: h}
}
