package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/frames"
	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
)

// spec: PRX-1 PRX-9 PRX-26 PRX-31
func TestACooperatingOriginAnswersWithItsAuthenticator(t *testing.T) {
	st := newStage(t)
	origin := st.cooperating()
	c := st.connect(st.client(nil), authority, func(r *hop.Request, _ *tlsmsg.InspectionOffer) {
		r.Header.Set("Via", "1.1 before.example")
		r.Header.Set("Proxy-Authorization", "Basic secret")
		r.Header.Set("Cookie", "secret")
	})
	if s := c.says(200, ""); s.NextHop != authority || s.NextProtocol != frames.ALPNH2 {
		t.Errorf("proxy-status %v", s)
	}
	r := c.evidence()
	if r.Kind != evidence.Authenticator || r.Answer == nil || r.Answer.HopPeer != tlsmsg.HopPeerProxy {
		t.Errorf("evidence %v, answer %v", r.Kind, r.Answer)
	}
	at := origin.next(t)
	if at.req.Protocol != frames.Protocol || at.req.Authority != authority {
		t.Errorf("the origin was asked for %q %q", at.req.Protocol, at.req.Authority)
	}
	if got := at.req.Header.Get(fields.EvidenceRequest); got != fields.FormatEvidenceRequest(c.request) {
		t.Errorf("evidence-request became %q", got)
	}
	if got := at.req.Header.Values("Via"); !slices.Equal(got, []string{"1.1 before.example", "2 " + proxyName}) {
		t.Errorf("via %q", got)
	}
	if at.req.Header.Get("Proxy-Authorization") != "" || at.req.Header.Get("Cookie") != "" {
		t.Errorf("the origin was sent %v", at.req.Header)
	}
	if leaf := at.peer.PeerCertificate(); leaf == nil || pki.LeafHash(leaf) != st.proxyLeaf() {
		t.Error("the origin was not shown the proxy's certificate")
	}
}

// spec: PRX-13
func TestAnOriginWithoutAuthenticatorsGetsAConnectionForEachRequest(t *testing.T) {
	st := newStage(t)
	origin := st.cooperating()
	origin.silent.Store(true)
	s := st.client(nil)
	var sessions []hop.Session
	for range 3 {
		c := st.connect(s, authority)
		c.says(200, "")
		if r := c.evidence(); r.Kind != evidence.Transcript {
			t.Errorf("evidence %v", r.Kind)
		}
	}
	// The second CONNECT tried the first's connection, which proved nothing about it.
	for range 4 {
		at := origin.next(t)
		end := newTap(at.Stream)
		if !slices.Contains(sessions, at.session) {
			sessions = append(sessions, at.session)
			continue
		}
		if _, err := end.end(); err == nil || err == io.EOF {
			t.Errorf("the tunnel without evidence ended with %v", err)
		}
	}
	if n := st.dials(); n != 3 {
		t.Errorf("%d connections for 3 requests", n)
	}
}

// spec: PRX-12
func TestHop2IsSharedWithinAClientOnly(t *testing.T) {
	st := newStage(t)
	origin := st.cooperating()
	alice, bob := st.client(nil), st.client(nil)
	sessions := make(map[hop.Session]int)
	for _, s := range []hop.Session{alice, bob, alice, bob, alice} {
		c := st.connect(s, authority)
		c.says(200, "")
		if r := c.evidence(); r.Kind != evidence.Authenticator {
			t.Errorf("evidence %v", r.Kind)
		}
		sessions[origin.next(t).session]++
	}
	if len(sessions) != 2 || st.dials() != 2 {
		t.Errorf("%d connections for 2 clients", st.dials())
	}
}

func TestHop2IsSharedByACertificatesSessions(t *testing.T) {
	var st *stage
	clients := newAuthority(t, "clients")
	st = newStage(t, func(p *Proxy) { p.ClientCAs = clients.Pool().CertPool })
	origin := st.cooperating()
	sessions := make(map[hop.Session]int)
	for _, name := range []string{"alice", "alice", "bob"} {
		cert, err := clients.Client(name)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			c := st.connect(st.client(&cert), authority)
			c.says(200, "")
			sessions[origin.next(t).session]++
		}
	}
	if len(sessions) != 3 {
		t.Errorf("%d connections for 3 certificates", len(sessions))
	}
	if log := st.log.String(); strings.Contains(log, "no hop 1") {
		t.Error(log)
	}
}

func TestATunnelWithoutFrames(t *testing.T) {
	st := newStage(t)
	streams := st.rawOrigin()
	s := st.client(nil)
	for range 2 {
		c := st.connect(s, authority)
		if got := c.says(200, ""); got.NextProtocol != frames.ALPNRaw {
			t.Errorf("proxy-status %v", got)
		}
		if r := c.evidence(); r.Kind != evidence.Transcript || r.PickedNone {
			t.Errorf("evidence %+v", r)
		}
		defer (<-streams).Reset(hop.Cancel)
	}
}

// spec: PRX-4 PRX-5 PRX-25 PRX-30
func TestAnOriginThatPicksNoTokenIsShownAndRefused(t *testing.T) {
	for _, c := range []struct {
		name      string
		protocols []string
		version   uint16
		picked    string
	}{
		{"http/1.1", []string{"http/1.1"}, tls.VersionTLS13, "http/1.1"},
		{"no ALPN", nil, tls.VersionTLS13, ""},
		{"TLS 1.2", []string{"http/1.1"}, tls.VersionTLS12, "http/1.1"},
		{"a token in TLS 1.2", []string{frames.ALPNH2}, tls.VersionTLS12, frames.ALPNH2},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := newStage(t, func(p *Proxy) { p.Policy.Modes = []fields.Mode{fields.Intact, fields.Blind} })
			cfg := st.originConfig(c.protocols...)
			cfg.MaxVersion = c.version
			st.listen(func(conn net.Conn) {
				tc := tls.Server(conn, cfg)
				if tc.Handshake() == nil {
					tc.Read(make([]byte, 1))
				}
			})
			s := st.client(nil)
			for range 2 {
				got := st.connect(s, authority)
				if status := got.says(470, "http_request_denied"); status.NextProtocol != c.picked {
					t.Errorf("proxy-status %v", status)
				}
				if got.stream != nil {
					t.Error("a tunnel")
				}
				options, err := fields.ParseOptions(got.resp.Header.Values(fields.InspectionOptions))
				if err != nil || !slices.Equal(options, []fields.Mode{fields.Intact, fields.Blind}) {
					t.Errorf("options %v %v", options, err)
				}
				r := got.evidence()
				if r.Kind != evidence.Transcript || !r.OfferedTokens {
					t.Errorf("evidence %+v", r)
				}
				if c.picked != frames.ALPNH2 && !r.PickedNone {
					t.Error("the evidence does not say that no token was picked")
				}
			}
			if st.dials() != 2 {
				t.Errorf("%d dials for 2 requests", st.dials())
			}
		})
	}
}

func TestPolicyWithoutIntactStillShowsEvidence(t *testing.T) {
	st := newStage(t, func(p *Proxy) { p.Policy.Modes = []fields.Mode{fields.Blind} })
	st.cooperating()
	s := st.client(nil)
	for range 2 {
		c := st.connect(s, authority)
		c.says(470, "http_request_denied")
		if r := c.evidence(); r.Kind != evidence.Transcript || r.PickedNone {
			t.Errorf("evidence %+v", r)
		}
		if got := c.resp.Header.Get(fields.InspectionOptions); got != "blind" {
			t.Errorf("options %q", got)
		}
	}
}

// spec: PRX-5 PRX-22 PRX-34
func TestEachHostHasItsModes(t *testing.T) {
	st := newStage(t, func(p *Proxy) {
		p.Policy.Modes = []Mode{Intact}
		p.Policy.HostModes = func(authority string) []Mode {
			switch authority {
			case "blind.example:443":
				return []Mode{Blind}
			case "both.example:443":
				return []Mode{Blind, Intact}
			case "later.example:443":
				return []Mode{"another", Blind, "other"}
			case "never.example:443":
				return []Mode{}
			case "unknown.example:443":
				return []Mode{"other"}
			}
			return nil
		}
	})
	// A stock origin, so that each CONNECT that is not refused at once ends in a 470.
	cfg := st.originConfig("http/1.1")
	cert, err := st.origins.Origin("blind.example", "both.example", "later.example", originName)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Certificates = []tls.Certificate{cert}
	st.listen(func(c net.Conn) {
		tc := serverTLS(c, cfg)
		io.Copy(io.Discard, tc)
	})
	s := st.client(nil)
	for _, c := range []struct {
		host                string
		intact, blind       int // what an Extended and a plain CONNECT are answered
		options             string
		details, detailsToo string
	}{
		{originName, 470, 470, "intact", "the origin picked no itls token", "policy allows no blind tunnels to this target"},
		{"blind.example", 470, 200, "blind", "policy allows no intact tunnels to this target", ""},
		{"both.example", 470, 200, "blind, intact", "the origin picked no itls token", ""},
		{"later.example", 470, 200, "blind", "policy allows no intact tunnels to this target", ""},
		{"never.example", 403, 403, "", "policy allows no tunnels to this target", "policy allows no tunnels to this target"},
		{"unknown.example", 403, 403, "", "policy allows no tunnels to this target", "policy allows no tunnels to this target"},
	} {
		before := st.dials()
		got := st.connect(s, c.host+":443")
		if status := got.says(c.intact, "http_request_denied"); status.Details != c.details {
			t.Errorf("%s, intact: %v", c.host, status)
		}
		if options := got.resp.Header.Get(fields.InspectionOptions); options != c.options {
			t.Errorf("%s, intact: options %q", c.host, options)
		}
		// Ordinary clients spell as they like.
		resp, stream, err := s.Open(t.Context(), &hop.Request{Authority: strings.ToUpper(c.host) + ":443", Header: http.Header{}})
		if err != nil {
			t.Fatal(err)
		}
		reason := "http_request_denied"
		if c.blind == 200 {
			reason = ""
			stream.Reset(hop.Cancel)
		}
		if status := says(t, resp, c.blind, reason); status.Details != c.detailsToo {
			t.Errorf("%s, blind: %v", c.host, status)
		}
		if options := resp.Header.Get(fields.InspectionOptions); c.blind == 470 && options != c.options {
			t.Errorf("%s, blind: options %q", c.host, options)
		}
		if c.intact == 403 && st.dials() != before {
			t.Errorf("%s was dialled", c.host)
		}
	}
}

// A policy with a bug allows nothing, and ends neither the process nor the session.
func TestAPanicOfHostModes(t *testing.T) {
	var bug atomic.Bool
	st := newStage(t, func(p *Proxy) {
		p.Policy.Modes = []Mode{Intact, Blind}
		p.Policy.HostModes = func(authority string) []Mode {
			if bug.Load() {
				panic("a bug in the policy")
			}
			return nil
		}
	})
	s := st.client(nil)
	b := st.open(s, st.cooperating())
	dialled := st.dials()
	bug.Store(true)
	st.connect(s, authority).says(500, "proxy_internal_error")
	resp, _, err := s.Open(t.Context(), &hop.Request{Authority: authority, Header: http.Header{}})
	if err != nil {
		t.Fatal(err)
	}
	says(t, resp, 500, "proxy_internal_error")
	if st.dials() != dialled {
		t.Error("dialled")
	}
	sendUntilReset(b.client, get("/next"))
	if tbs := b.killedBy(&st.proxy.Certificate); tbs.Rule != "inspector-panic" {
		t.Errorf("verdict %+v", tbs)
	}
	st.close()
	if !strings.Contains(st.log.String(), "a bug in the policy") {
		t.Errorf("the log lacks the panic:\n%s", st.log)
	}
}

// spec: PRX-34
func TestPolicyWithoutModesRefusesEverything(t *testing.T) {
	st := newStage(t, func(p *Proxy) { p.Policy.Modes = []fields.Mode{} })
	s := st.client(nil)
	st.connect(s, authority).says(403, "http_request_denied")
	resp, _, err := s.Open(t.Context(), &hop.Request{Authority: authority})
	if err != nil {
		t.Fatal(err)
	}
	says(t, resp, 403, "http_request_denied")
	if st.dials() != 0 {
		t.Error("dialled")
	}
}

// spec: PRX-2 PRX-3 PRX-6 PRX-26 PRX-28
func TestRequestsThatAreRefusedBeforeAnythingIsDialled(t *testing.T) {
	st := newStage(t)
	s := st.client(nil)
	type change = func(*hop.Request, *tlsmsg.InspectionOffer)
	set := func(values ...string) change {
		return func(r *hop.Request, _ *tlsmsg.InspectionOffer) { r.Header["Evidence-Request"] = values }
	}
	good, err := evidence.NewRequest(st.offer(authority), originName)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change change
		status int
		reason string
	}{
		{"no evidence-request", set(), 400, "http_request_error"},
		{"two", set(fields.FormatEvidenceRequest(good), fields.FormatEvidenceRequest(good)), 400, "http_request_error"},
		{"not a byte sequence", set("abc"), 400, "http_request_error"},
		{"not a request", set(fields.FormatEvidenceRequest([]byte("abc"))), 400, "http_request_error"},
		{"cut", set(fields.FormatEvidenceRequest(good[:len(good)-1])), 400, "http_request_error"},
		{"another authority", func(_ *hop.Request, o *tlsmsg.InspectionOffer) { o.Authority = "other.example:443" }, 400, "http_request_error"},
		{"another proxy", func(_ *hop.Request, o *tlsmsg.InspectionOffer) { o.Proxies[0][0] ^= 1 }, 400, "http_request_error"},
		{"a proxy before, of a client that showed no certificate", func(_ *hop.Request, o *tlsmsg.InspectionOffer) {
			o.Proxies = [][32]byte{{1}, o.Proxies[0]}
		}, 403, "http_request_denied"},
		{"a proxy behind, of one that goes to origins itself", func(_ *hop.Request, o *tlsmsg.InspectionOffer) {
			o.Proxies = [][32]byte{o.Proxies[0], {1}}
		}, 400, "http_request_error"},
		{"the proxy twice", func(_ *hop.Request, o *tlsmsg.InspectionOffer) {
			o.Proxies = [][32]byte{o.Proxies[0], {1}, o.Proxies[0]}
		}, 502, "proxy_loop_detected"},
		{"via itself", func(r *hop.Request, _ *tlsmsg.InspectionOffer) {
			r.Header.Set("Via", "1.1 a.example, 2 "+strings.ToUpper(proxyName))
		}, 502, "proxy_loop_detected"},
		{"a long via", func(r *hop.Request, _ *tlsmsg.InspectionOffer) {
			r.Header["Via"] = []string{"2 a.example", "2 " + strings.Repeat("b", maxVia)}
		}, 400, "http_request_error"},
		{"an authority that is not canonical", func(r *hop.Request, _ *tlsmsg.InspectionOffer) { r.Authority = "ORIGIN.example:443" }, 400, "http_request_error"},
		{"an authority without port", func(r *hop.Request, _ *tlsmsg.InspectionOffer) { r.Authority = originName }, 400, "http_request_error"},
		{"a path", func(r *hop.Request, _ *tlsmsg.InspectionOffer) { r.Path = "/x" }, 400, "http_request_error"},
		{"another scheme", func(r *hop.Request, _ *tlsmsg.InspectionOffer) { r.Scheme = "http" }, 400, "http_request_error"},
		{"another protocol", func(r *hop.Request, _ *tlsmsg.InspectionOffer) { r.Protocol = "websocket" }, 501, "proxy_internal_response"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := st.connect(s, authority, c.change)
			got.t = t
			got.says(c.status, c.reason)
			if len(got.resp.Evidence) != 0 || got.stream != nil {
				t.Error("it came with more than a refusal")
			}
		})
	}
	if st.dials() != 0 {
		t.Error("dialled")
	}
}

// takesNothing is a client whose SETTINGS do not say that it takes evidence.
type takesNothing struct{ hop.Session }

func (takesNothing) Peer() *hop.Peer { return new(hop.Peer) }

// spec: PRX-2
func TestAClientThatTakesNoEvidenceIsRefused(t *testing.T) {
	_, err := (&session{hop: takesNothing{}}).target(&hop.Request{Protocol: frames.Protocol, Authority: authority, Path: "/"})
	if a, ok := errors.AsType[*answer](err); !ok || a.status != 400 || !strings.Contains(a.details, "SETTINGS") {
		t.Error(err)
	}
}

// spec: PRX-7 PRX-8 PRX-26 PRX-27
func TestTargetsThatAreRefusedOrCannotBeReached(t *testing.T) {
	for _, c := range []struct {
		name, target string
		serve        func(*stage) func(net.Conn)
		status       int
		reason       string
	}{
		{"another port", originName + ":80", nil, 403, "http_request_denied"},
		{"an address inside", "inside.example:443", nil, 502, "destination_ip_prohibited"},
		{"a name that does not exist", "nowhere.example:443", nil, 502, "dns_error"},
		{"garbage", authority, func(*stage) func(net.Conn) {
			return func(c net.Conn) { io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n"); io.Copy(io.Discard, c) }
		}, 502, "tls_protocol_error"},
		{"an end", authority, func(*stage) func(net.Conn) {
			return func(c net.Conn) { c.Read(make([]byte, 10000)) }
		}, 502, "connection_terminated"},
		{"an alert", authority, func(st *stage) func(net.Conn) {
			cfg := st.originConfig("itls-h9/1")
			return func(c net.Conn) { tls.Server(c, cfg).Handshake() }
		}, 502, "tls_alert_received"},
		{"TLS 1.1", authority, func(st *stage) func(net.Conn) {
			cfg := st.originConfig()
			cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
			return func(c net.Conn) { tls.Server(c, cfg).Handshake() }
		}, 502, "tls_alert_received"},
		{"another name", "elsewhere.example:443", func(st *stage) func(net.Conn) {
			cfg := st.originConfig()
			return func(c net.Conn) { tls.Server(c, cfg).Handshake() }
		}, 502, "tls_certificate_error"},
		{"an unknown authority", authority, func(st *stage) func(net.Conn) {
			cert, err := newAuthority(st.t, "others").Origin(originName)
			if err != nil {
				st.t.Fatal(err)
			}
			return func(c net.Conn) {
				tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}}).Handshake()
			}
		}, 502, "tls_certificate_error"},
		{"a proxy in an origin's place", authority, func(st *stage) func(net.Conn) {
			cert, err := st.origins.Proxy(originName)
			if err != nil {
				st.t.Fatal(err)
			}
			return func(c net.Conn) {
				tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}}).Handshake()
			}
		}, 502, "tls_certificate_error"},
		{"a token without HTTP/2 behind it", authority, func(st *stage) func(net.Conn) {
			cfg := st.originConfig(frames.ALPNH2)
			return func(c net.Conn) {
				tc := tls.Server(c, cfg)
				io.WriteString(tc, "HTTP/1.1 400 Bad Request\r\n\r\n")
				io.Copy(io.Discard, tc)
			}
		}, 502, "http_protocol_error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := newStage(t)
			if c.serve != nil {
				st.listen(c.serve(st))
			}
			got := st.connect(st.client(nil), c.target)
			got.says(c.status, c.reason)
			if body := string(got.resp.Body); strings.Contains(body, "10.0.0.1") || strings.Contains(body, "192.0.1.1") {
				t.Errorf("the answer tells an address: %q", body)
			}
			if c.status == 403 && st.dials() != 0 {
				t.Error("dialled")
			}
		})
	}
}

// spec: PRX-10 PRX-30
func TestWhatHop2Offers(t *testing.T) {
	st := newStage(t)
	hellos := make(chan *tls.ClientHelloInfo, 2)
	resumed := make(chan bool, 2)
	cfg := st.originConfig("http/1.1")
	cfg.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) { hellos <- h; return nil, nil }
	st.listen(func(c net.Conn) {
		tc := tls.Server(c, cfg)
		if tc.Handshake() == nil {
			resumed <- tc.ConnectionState().DidResume
		}
	})
	s := st.client(nil)
	for range 2 { // the second could resume the first
		st.connect(s, authority).says(470, "http_request_denied")
		h := <-hellos
		if want := []string{"itls-h2/1", "itls/1", "http/1.1"}; !slices.Equal(h.SupportedProtos, want) {
			t.Errorf("ALPN %q", h.SupportedProtos)
		}
		if h.ServerName != originName || !slices.Contains(h.SupportedVersions, tls.VersionTLS13) || slices.Contains(h.SupportedVersions, tls.VersionTLS11) {
			t.Errorf("server_name %q, versions %x", h.ServerName, h.SupportedVersions)
		}
		if <-resumed {
			t.Error("resumed")
		}
	}
}

// spec: PRX-35
func TestARefusalOfTheOrigins(t *testing.T) {
	st := newStage(t)
	origin := st.cooperating()
	origin.refuse.Store(403)
	c := st.connect(st.client(nil), authority)
	if s := c.says(503, "destination_unavailable"); s.ReceivedStatus != 403 {
		t.Errorf("proxy-status %v", s)
	}
}

// spec: PRX-11
func TestAnAuthenticatorThatDoesNotHoldIsNotPassedOn(t *testing.T) {
	st := newStage(t)
	origin := st.cooperating()
	origin.bad.Store(true)
	s := st.client(nil)
	c := st.connect(s, authority)
	c.says(502, "tls_protocol_error")
	if len(c.resp.Evidence) != 0 {
		t.Error("passed on")
	}
	if _, err := newTap(origin.next(t).Stream).end(); err == io.EOF {
		t.Error("the origin's tunnel looks ended")
	}
	// Whoever answers on that connection is not asked again.
	origin.bad.Store(false)
	st.connect(s, authority).says(200, "")
	if n := st.dials(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

func TestAnOriginThatIsAboutToCloseIsDialledAgain(t *testing.T) {
	st := newStage(t)
	origin := st.cooperating()
	s := st.client(nil)
	st.connect(s, authority).says(200, "")
	first := origin.next(t)
	newTap(first.Stream)
	draining := make(chan struct{})
	go func() {
		defer close(draining)
		first.session.Drain(t.Context())
	}()
	// GOAWAY is on its way: from some moment on tunnels come over another connection, and until then
	// they succeed too.
	for {
		st.connect(s, authority).says(200, "")
		at := origin.next(t)
		newTap(at.Stream)
		if at.session != first.session {
			break
		}
	}
	first.session.Close(hop.NoError, "")
	<-draining
}

// A client's tunnels beyond what the origin takes on one connection get another connection, and not a place
// in a queue for the first.
func TestAnOriginThatTakesFewTunnelsOnAConnectionGetsMoreConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t)
		origin := st.cooperating()
		origin.streams.Store(2)
		s := st.client(nil)
		start := time.Now()
		for range 5 {
			st.connect(s, authority).says(200, "")
			newTap(origin.next(t).Stream)
		}
		if d := time.Since(start); d != 0 || st.dials() != 3 {
			t.Errorf("%d connections, after %v", st.dials(), d)
		}
		s.Close(hop.NoError, "")
		st.close()
	})
}

func TestAConnectionOnWhichNobodyAnswersIsNotUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(t)
		origin := st.cooperating()
		s := st.client(nil)
		st.connect(s, authority).says(200, "")
		newTap(origin.next(t).Stream)
		origin.mute.Store(true)
		start := time.Now()
		st.connect(s, authority).says(504, "http_response_timeout")
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("after %v", d)
		}
		origin.mute.Store(false)
		st.connect(s, authority).says(200, "")
		newTap(origin.next(t).Stream)
		if n := st.dials(); n != 2 {
			t.Errorf("%d connections", n)
		}
		s.Close(hop.NoError, "")
		st.close()
	})
}

// spec: PRX-20
func TestOrdinaryRequests(t *testing.T) {
	st := newStage(t)
	s := st.client(nil)
	for _, c := range []struct {
		method, authority, path string
		status                  int
		reason                  string
	}{
		{"GET", proxyName, "/", 200, ""},
		{"GET", proxyName + ":8443", "/", 200, ""},
		{"HEAD", proxyName, "/", 200, ""},
		{"GET", proxyName, "/other", 404, "proxy_internal_response"},
		{"POST", proxyName, "/", 404, "proxy_internal_response"},
		{"GET", originName, "/", 421, "http_request_denied"},
		{"OPTIONS", originName, "*", 421, "http_request_denied"},
	} {
		resp, _, err := s.Open(t.Context(), &hop.Request{Method: c.method, Authority: c.authority, Path: c.path, Header: http.Header{}})
		if err != nil {
			t.Fatalf("%v: %v", c, err)
		}
		says(t, resp, c.status, c.reason)
		if c.method == "GET" && strings.Count(string(resp.Body), "\n") != 1 {
			t.Errorf("%v: body %q", c, resp.Body)
		}
	}
	if st.dials() != 0 {
		t.Error("dialled")
	}
}

// spec: PRX-35
func TestEveryErrorHasAnAnswer(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		reason string
	}{
		{&ProhibitedError{Port: 80}, 403, "http_request_denied"},
		{&ProhibitedError{Why: "private"}, 502, "destination_ip_prohibited"},
		{&net.DNSError{IsNotFound: true}, 502, "dns_error"},
		{&net.DNSError{IsTimeout: true}, 504, "dns_timeout"},
		{&net.DNSError{Err: "SERVFAIL"}, 502, "dns_error"},
		{errUpstreamsFull, 503, "connection_limit_reached"},
		{errDialsBusy, 503, "connection_limit_reached"},
		{errPoolClosed, 503, "proxy_internal_response"},
		{errors.New("anything"), 500, "proxy_internal_error"},
		{&hop.RetryError{Err: io.EOF}, 502, "connection_terminated"},
		{&hop.RetryError{Err: errors.New("GOAWAY")}, 503, "destination_unavailable"},
		{&hop.ResetError{Code: hop.Cancel, Remote: true}, 502, "connection_terminated"},
		{&hop.SessionError{Remote: true}, 502, "connection_terminated"},
		{&hop.SessionError{Code: hop.ProtocolError}, 502, "http_protocol_error"},
		{&hop.SessionError{Code: settingsTimeout}, 504, "connection_read_timeout"},
		{fmt.Errorf("%w: %w", errNoSettings, context.DeadlineExceeded), 504, "connection_read_timeout"},
		{&unansweredError{context.DeadlineExceeded}, 504, "http_response_timeout"},
		{&handshakeError{context.DeadlineExceeded}, 504, "connection_timeout"},
		{errNoConnect, 502, "http_protocol_error"},
		{&evidence.Error{Reason: evidence.ReasonAltered, Err: io.EOF}, 502, "tls_protocol_error"},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, 502, "connection_refused"},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}, 502, "destination_ip_unroutable"},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ETIMEDOUT)}, 504, "connection_timeout"},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)}, 503, "proxy_internal_error"},
		{&handshakeError{&net.OpError{Op: "read", Err: syscall.ECONNRESET}}, 502, "connection_terminated"},
		{&handshakeError{&tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired}}}, 502, "tls_certificate_error"},
		{&handshakeError{&tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.TooManyIntermediates}}}, 502, "tls_certificate_error"},
		{&handshakeError{&tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: new(x509.Certificate)}}}, 502, "tls_certificate_error"},
		{&handshakeError{pki.ErrProxyAsOrigin}, 502, "tls_certificate_error"},
		{&handshakeError{errors.New("bad record")}, 502, "tls_protocol_error"},
		{&handshakeError{io.EOF}, 502, "connection_terminated"},
		{&handshakeError{&net.OpError{Op: "remote error", Err: errors.New("tls: handshake failure")}}, 502, "tls_alert_received"},
	} {
		a := answerTo(c.err)
		if a.status != c.status || a.reason != c.reason || a.details == "" {
			t.Errorf("%v: %d %s %q", c.err, a.status, a.reason, a.details)
		}
	}
}
