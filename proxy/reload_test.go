package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"vitrine/frames"
	"vitrine/internal/connectto"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
	"vitrine/internal/verdict"
)

// next is the stage's proxy again, to be reloaded. Tests that change it pass configure.
func (st *stage) next(configure ...func(*Proxy)) *Proxy {
	p := &Proxy{
		Certificate: st.proxy.Certificate, Roots: st.proxy.Roots, ClientCAs: st.proxy.ClientCAs, Policy: st.proxy.Policy,
		Inspectors: st.proxy.Inspectors, Targets: st.proxy.Targets, ConnectTo: st.proxy.ConnectTo,
	}
	for _, f := range configure {
		f(p)
	}
	return p
}

func (st *stage) reload(configure ...func(*Proxy)) {
	st.t.Helper()
	if err := st.proxy.Reload(st.next(configure...)); err != nil {
		st.t.Fatal(err)
	}
}

// renew makes another certificate of the same proxy.
func (st *stage) renew() tls.Certificate {
	st.t.Helper()
	cert, err := st.proxies.Proxy(proxyName)
	if err != nil {
		st.t.Fatal(err)
	}
	return cert
}

// by offers the proxy whose certificate is cert.
func by(cert *tls.Certificate) func(*hop.Request, *tlsmsg.InspectionOffer) {
	return func(_ *hop.Request, o *tlsmsg.InspectionOffer) { o.Proxies[0] = pki.LeafHash(cert.Leaf) }
}

// killedBy waits for the kill of b, and returns what its verdict for the client says, signed by cert.
func (b *both) killedBy(cert *tls.Certificate) *frames.VerdictTBS {
	b.t.Helper()
	_, err := b.toClient.end()
	killed := isKilled(err)
	if killed == nil {
		b.t.Fatalf("the client's end: %v", err)
	}
	tbs, err := verdict.Verify(killed.Verdict, verdict.Expect{
		Proxy: cert.Leaf, Nonce: b.connect.offer.Nonce, Authority: authority, CheckLeaf: true,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.toOrigin.end(); isKilled(err) == nil {
		b.t.Errorf("the origin's end: %v", err)
	}
	return tbs
}

func get(path string) []byte {
	return data([]byte("GET " + path + " HTTP/1.1\r\nHost: " + originName + "\r\n\r\n"))
}

// spec: PRX-36 PRX-37
func TestReloadKeepsTunnelsAndJudgesTheNextExchangeAnew(t *testing.T) {
	st := newStage(t, func(p *Proxy) { p.Inspectors = []Inspector{censor{"before"}} })
	origin := st.cooperating()
	s := st.client(nil)
	b := st.open(s, origin)
	b.request(get("/under/way"))
	b.response(data([]byte("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n")))
	st.reload(func(p *Proxy) { p.Inspectors = []Inspector{censor{"after"}} })
	b.response(data([]byte("it is after")))
	b.settle()
	b.exchange("/next", []byte("it was before"))
	b.request(get("/last"))
	b.response(data([]byte("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n")))
	sendUntilReset(b.origin, data([]byte("it is after")))
	if tbs := b.killedBy(&st.proxy.Certificate); tbs.Rule != "word" || tbs.ReleasedToClient != uint64(len(b.sent[frames.ToClient])) {
		t.Errorf("verdict %+v", tbs)
	}
	// The session was made with the same certificate, so it takes tunnels.
	st.open(s, origin).end()
}

// spec: PRX-38
func TestReloadKillsTheNextRequestToAHostThatMayNotBeIntact(t *testing.T) {
	for name, c := range map[string]struct {
		policy Policy
		killed bool
	}{
		"the default":        {Policy{}, false},
		"blind for all":      {Policy{Modes: []Mode{Blind}}, true},
		"none for all":       {Policy{Modes: []Mode{}}, true},
		"blind for the host": {Policy{HostModes: only(authority, Blind)}, true},
		"none for the host":  {Policy{HostModes: only(authority)}, true},
		"both for the host":  {Policy{Modes: []Mode{}, HostModes: only(authority, Blind, Intact)}, false},
		"another host":       {Policy{HostModes: only("other.example:443")}, false},
		"nothing it has":     {Policy{HostModes: only(authority, "other")}, true},
	} {
		t.Run(name, func(t *testing.T) {
			st := newStage(t)
			b := st.open(st.client(nil), st.cooperating())
			b.request(get("/under/way"))
			st.reload(func(p *Proxy) { p.Policy = c.policy })
			b.response(data([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")))
			b.settle()
			if !c.killed {
				b.exchange("/next", []byte("x"))
				b.end()
				return
			}
			sendUntilReset(b.client, get("/next"))
			tbs := b.killedBy(&st.proxy.Certificate)
			if tbs.Reason != frames.ReasonPolicy || tbs.Rule != "policy-mode" || tbs.Direction != frames.ToOrigin {
				t.Errorf("verdict %+v", tbs)
			}
			if got, _ := b.toOrigin.end(); !bytes.Equal(got, b.sent[frames.ToOrigin]) {
				t.Errorf("%d bytes came to the origin, %d may", len(got), len(b.sent[frames.ToOrigin]))
			}
		})
	}
}

// only is a HostModes of one target.
func only(target string, modes ...Mode) func(string) []Mode {
	return func(authority string) []Mode {
		switch {
		case authority != target:
			return nil
		case modes == nil:
			return []Mode{}
		}
		return modes
	}
}

// spec: PRX-31 PRX-36 PRX-39 PRX-40 PRX-41
func TestReloadOfACertificate(t *testing.T) {
	st := newStage(t, func(p *Proxy) { p.Inspectors = []Inspector{censor{"forbidden"}} })
	origin := st.cooperating()
	former := st.client(nil)
	b := st.open(former, origin)
	b.exchange("/before", []byte("x"))
	cert := st.renew()
	st.reload(func(p *Proxy) { p.Certificate = cert })

	var retry *hop.RetryError
	if c, err := st.tryConnect(former, authority); !errors.As(err, &retry) {
		t.Errorf("a tunnel on the former session: %+v, %v", c.resp, err)
	}
	s := st.client(nil)
	if leaf := s.Peer().PeerCertificate(); !leaf.Equal(cert.Leaf) {
		t.Errorf("hop 1 shows serial %v", leaf.SerialNumber)
	}
	st.connect(s, authority).says(400, "http_request_error") // the offer names the former leaf
	c := st.connect(s, authority, by(&cert))
	c.says(200, "")
	c.evidence()
	at := origin.next(t)
	if leaf := at.peer.PeerCertificate(); !leaf.Equal(cert.Leaf) {
		t.Errorf("hop 2 shows serial %v", leaf.SerialNumber)
	}
	newTap(at.Stream)

	// The open tunnel goes on, under the certificate that its client saw.
	b.exchange("/after", []byte("y"))
	if leaf := b.atOrigin.peer.PeerCertificate(); !leaf.Equal(st.proxy.Certificate.Leaf) {
		t.Errorf("hop 2 of the open tunnel shows serial %v", leaf.SerialNumber)
	}
	b.request(get("/bad"))
	sendUntilReset(b.origin, data([]byte("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nforbidden")))
	b.killedBy(&st.proxy.Certificate)
	<-former.Done() // it was the last one there
}

// spec: PRX-24 PRX-39
func TestReloadOfClientCAs(t *testing.T) {
	st := newStage(t)
	origin := st.cooperating()
	anonymous := st.client(nil)
	b := st.open(anonymous, origin)
	st.reload(func(p *Proxy) { p.ClientCAs = st.clients.Pool().CertPool })
	var retry *hop.RetryError
	if c, err := st.tryConnect(anonymous, authority); !errors.As(err, &retry) {
		t.Errorf("a tunnel on the former session: %+v, %v", c.resp, err)
	}
	cert, err := st.clients.Client("alice")
	if err != nil {
		t.Fatal(err)
	}
	st.open(st.client(&cert), origin).end()
	// TLS 1.3 tells a client that its certificate is missing after its handshake.
	tc := st.hop1(nil, "h2")
	defer tc.Close()
	if _, err := io.ReadAll(tc); err == nil {
		t.Error("a client without a certificate was let in")
	}
	b.exchange("/after", []byte("x"))
	b.end()
	<-anonymous.Done()
}

// An equal certificate and equal client CAs, read again, cost nobody a connection.
func TestReloadOfTheSameKeepsSessions(t *testing.T) {
	st := newStage(t)
	origin := st.cooperating()
	s := st.client(nil)
	st.open(s, origin).end()
	f := st.proxy.run.current.Load().front
	again := st.proxy.Certificate
	again.Certificate = [][]byte{bytes.Clone(again.Certificate[0])}
	again.Leaf = nil
	if len(st.proxy.Certificate.Certificate) > 1 {
		again.Certificate = append(again.Certificate, st.proxy.Certificate.Certificate[1:]...)
	}
	st.reload(func(p *Proxy) { p.Certificate = again })
	if st.proxy.run.current.Load().front != f || f.isRetired() {
		t.Error("another front")
	}
	st.open(s, origin).end()
}

// spec: PRX-39
func TestReloadOverHTTP1(t *testing.T) {
	st := newStage(t, func(p *Proxy) { p.Policy.Modes = []Mode{Blind} })
	st.listen(func(c net.Conn) { io.Copy(c, c) })
	const connect = "CONNECT origin.example:443 HTTP/1.1\r\nHost: origin.example:443\r\n\r\n"
	open, waiting := st.hop1(nil, "http/1.1"), st.hop1(nil, "http/1.1")
	defer open.Close()
	defer waiting.Close()
	io.WriteString(open, connect)
	if resp := readAnswer(t, open); resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	cert := st.renew()
	st.reload(func(p *Proxy) { p.Certificate = cert })
	go io.WriteString(waiting, connect)
	if p, err := io.ReadAll(waiting); len(p) > 0 {
		t.Errorf("a waiting connection got %q, %v", p, err)
	}
	go io.WriteString(open, "still there")
	p := make([]byte, len("still there"))
	if _, err := io.ReadFull(open, p); err != nil || string(p) != "still there" {
		t.Errorf("the open tunnel: %q, %v", p, err)
	}
}

// spec: PRX-41
func TestReloadOfWhatMayBeReached(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*stage, *Proxy)
		status int
		reason string
	}{
		"roots":      {func(st *stage, p *Proxy) { p.Roots = st.clients.Pool().CertPool }, 502, "tls_certificate_error"},
		"ports":      {func(_ *stage, p *Proxy) { p.Targets.Ports = []int{8443} }, 403, "http_request_denied"},
		"connect-to": {func(_ *stage, p *Proxy) { p.ConnectTo = mustRules("origin.example:443:10.0.0.1:443") }, 502, "connection_refused"},
		"names":      {func(_ *stage, p *Proxy) { p.Targets.Resolver = inside{} }, 502, "destination_ip_prohibited"},
	} {
		t.Run(name, func(t *testing.T) {
			st := newStage(t)
			s := st.client(nil)
			b := st.open(s, st.cooperating())
			st.reload(func(p *Proxy) { c.change(st, p) })
			st.connect(s, authority).says(c.status, c.reason)
			b.exchange("/after", []byte("x"))
			b.end()
		})
	}
}

func mustRules(rules ...string) ConnectTo {
	list, err := ParseConnectTo(rules...)
	if err != nil {
		panic(err)
	}
	return list
}

// inside resolves every name to an address that is not public.
type inside struct{}

func (inside) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
}

// Which reloads leave the connections to origins in use.
func TestReloadKeepsConnectionsUnderEqualSettings(t *testing.T) {
	p := newTestProxy(t)
	defer p.Close()
	r, err := p.start()
	if err != nil {
		t.Fatal(err)
	}
	roots := newAuthority(t, "origins").Pool().CertPool
	full := func() *Proxy {
		return &Proxy{
			Certificate: p.Certificate, Roots: roots.Clone(), ConnectTo: mustRules("a:1:b:2"),
			Targets: TargetPolicy{Ports: []int{443}, Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Resolver: inside{}},
		}
	}
	for name, c := range map[string]struct {
		change func(*Proxy)
		same   bool
	}{
		"nothing":                            {func(*Proxy) {}, true},
		"policy":                             {func(p *Proxy) { p.Policy.Modes = []Mode{Blind} }, true},
		"inspectors":                         {func(p *Proxy) { p.Inspectors = []Inspector{censor{}} }, true},
		"roots":                              {func(p *Proxy) { p.Roots = newAuthority(t, "others").Pool().CertPool }, false},
		"the system's roots":                 {func(p *Proxy) { p.Roots = nil }, false},
		"ports":                              {func(p *Proxy) { p.Targets.Ports = []int{443, 8443} }, false},
		"addresses":                          {func(p *Proxy) { p.Targets.Allow = nil }, false},
		"rules":                              {func(p *Proxy) { p.ConnectTo = append(p.ConnectTo, connectto.Rule{Host: "c"}) }, false},
		"resolver":                           {func(p *Proxy) { p.Targets.Resolver = nil }, false},
		"a resolver that cannot be compared": {func(p *Proxy) { p.Targets.Resolver = many{} }, false},
		"dial":                               {func(p *Proxy) { p.Targets.DialContext = new(net.Dialer).DialContext }, false},
	} {
		was, err := r.settings(full())
		if err != nil {
			t.Fatal(err)
		}
		next := full()
		c.change(next)
		is, err := r.settings(next)
		if err != nil {
			t.Fatal(err)
		}
		if is.reaches(was) != c.same || was.reaches(is) != c.same {
			t.Errorf("%s: %v, %v", name, is.reaches(was), was.reaches(is))
		}
		if is.reaches(is) != (next.Targets.DialContext == nil && name != "a resolver that cannot be compared") {
			t.Errorf("%s: itself %v", name, is.reaches(is))
		}
	}
}

type many []inside

func (many) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) { return nil, nil }

// spec: PRX-41
func TestAnOlderEpochsConnectionsAreNotFound(t *testing.T) {
	p := newPoolTest(Limits{})
	key := poolKey{authority: "a:443", client: "alice"}
	used := p.must(t, key, false, true)
	idle := p.must(t, poolKey{authority: "b:443", client: "alice"}, false, true)
	idle.Close()
	p.begin(1)
	<-idle.Session.Done()
	if used.Session.Err() != nil {
		t.Error("a connection with a tunnel ended")
	}
	// A CONNECT that asked before is served, and leaves nothing to find.
	late := p.must(t, key, false, true)
	if late.Session == used.Session {
		t.Error("the older connection was found")
	}
	late.Close()
	<-late.Session.Done()
	key.epoch = 1
	if up := p.must(t, key, false, true); up.Session == used.Session {
		t.Error("the older connection was found")
	} else {
		up.Close()
	}
	used.Close()
	<-used.Session.Done()
	p.finish(t)
}

// spec: PRX-24 PRX-42
func TestReloadThatFailsChangesNothing(t *testing.T) {
	origin, err := newAuthority(t, "origins").Origin(originName)
	if err != nil {
		t.Fatal(err)
	}
	clients := newAuthority(t, "clients").Pool().CertPool
	p := newTestProxy(t)
	p.ClientCAs = clients
	ln := newFakeListener(&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)})
	served := make(chan error, 1)
	go func() { served <- p.Serve(ln) }()
	waitFor(t, func() bool {
		r, err := p.start()
		return err == nil && len(r.ownListeners()) == 1
	})
	before := p.run.current.Load()
	for name, c := range map[string]struct {
		change func(*Proxy)
		want   error
	}{
		"no certificate":       {func(p *Proxy) { p.Certificate = tls.Certificate{} }, nil},
		"a broken certificate": {func(p *Proxy) { p.Certificate = tls.Certificate{Certificate: [][]byte{{1}}} }, nil},
		"an origin's":          {func(p *Proxy) { p.Certificate = origin }, nil},
		"a mode it lacks":      {func(p *Proxy) { p.Policy.Modes = []Mode{"other"} }, nil},
		"no client CAs":        {func(p *Proxy) { p.ClientCAs = nil }, ErrOpenProxy},
	} {
		next := &Proxy{Certificate: p.Certificate, ClientCAs: clients}
		c.change(next)
		if err := p.Reload(next); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if p.run.current.Load() != before || before.front.isRetired() {
			t.Errorf("%s: something changed", name)
		}
	}
	p.Close()
	if err := <-served; !errors.Is(err, ErrServerClosed) {
		t.Error(err)
	}
	if err := p.Reload(&Proxy{Certificate: p.Certificate, ClientCAs: clients}); !errors.Is(err, ErrServerClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// spec: PRX-24
func TestReloadBeforeServeCountsForListeners(t *testing.T) {
	p := newTestProxy(t)
	defer p.Close()
	p.ClientCAs = newAuthority(t, "clients").Pool().CertPool
	if err := p.Reload(&Proxy{Certificate: p.Certificate}); err != nil {
		t.Fatal(err)
	}
	if err := p.Serve(newFakeListener(&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}, syscall.EBADF)); !errors.Is(err, ErrOpenProxy) {
		t.Errorf("Serve: %v", err)
	}
}

// A proxy that never worked is not mended by Reload.
func TestReloadOfAProxyWithoutCertificate(t *testing.T) {
	good := newTestProxy(t)
	if err := new(Proxy).Reload(good); err == nil {
		t.Error("no error")
	}
}

// The name is that of the certificate that hop 1 was made with, unless one is set.
func TestReloadOfACertificateWithAnotherName(t *testing.T) {
	for set, want := range map[string]string{"": "renamed.example", "fixed": "fixed"} {
		p := newTestProxy(t)
		p.Name = set
		cert, err := newAuthority(t, "others").Proxy("renamed.example")
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Reload(&Proxy{Certificate: cert, Name: "ignored"}); err != nil {
			t.Fatal(err)
		}
		if f := p.run.current.Load().front; f.name != want || f.via != want {
			t.Errorf("%q: name %q, via %q", set, f.name, f.via)
		}
		p.Close()
	}
}

// spec: PRX-22
func TestReloadWhileABlindTunnelIsDialled(t *testing.T) {
	dialling, dial := make(chan struct{}), make(chan struct{})
	st := newStage(t, func(p *Proxy) {
		p.Policy.Modes = []Mode{Blind}
		dialled := p.Targets.DialContext
		p.Targets.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			close(dialling)
			<-dial
			return dialled(ctx, network, address)
		}
	})
	ended := make(chan struct{})
	st.listen(func(c net.Conn) {
		io.Copy(io.Discard, c)
		close(ended)
	})
	s := st.client(nil)
	answer := make(chan *hop.Response, 1)
	go func() {
		resp, _, err := s.Open(t.Context(), &hop.Request{Authority: authority, Header: http.Header{}})
		if err != nil {
			t.Error(err)
		}
		answer <- resp
	}()
	<-dialling
	st.reload(func(p *Proxy) { p.Policy.Modes = nil })
	close(dial)
	resp := <-answer
	says(t, resp, 470, "http_request_denied")
	if got := resp.Header.Get(fields.InspectionOptions); got != "intact" {
		t.Errorf("options %q", got)
	}
	<-ended
}

// spec: PRX-39
//
// CONNECTs that wait to be read are new tunnels, too.
func TestReloadWhileConnectsWait(t *testing.T) {
	dialling, dial := make(chan struct{}), make(chan struct{})
	var once sync.Once
	st := newStage(t, func(p *Proxy) {
		p.Limits.Setups = 1
		dialled := p.Targets.DialContext
		p.Targets.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			once.Do(func() { close(dialling) })
			<-dial
			return dialled(ctx, network, address)
		}
	})
	origin := st.cooperating()
	s := st.client(nil)
	type result struct {
		c   *connect
		err error
	}
	first, second := make(chan result, 1), make(chan result, 1)
	try := func(to chan result) {
		c, err := st.tryConnect(s, authority)
		to <- result{c, err}
	}
	go try(first)
	<-dialling
	go try(second)
	cert := st.renew()
	st.reload(func(p *Proxy) { p.Certificate = cert })
	var retry *hop.RetryError
	if r := <-second; !errors.As(r.err, &retry) {
		t.Errorf("the second: %v", r.err)
	}
	close(dial)
	// The first had begun, and is finished under the certificate that it began with.
	r := <-first
	if r.err != nil {
		t.Fatal(r.err)
	}
	r.c.says(200, "")
	at := origin.next(t)
	if leaf := at.peer.PeerCertificate(); !leaf.Equal(st.proxy.Certificate.Leaf) {
		t.Errorf("hop 2 shows serial %v", leaf.SerialNumber)
	}
}

// spec: PRX-39
//
// A handshake that began before the reload and ended after it let in whom the former settings let in.
func TestReloadWhileAHandshakeIsUnderWay(t *testing.T) {
	st := newStage(t)
	origin := st.cooperating()
	client, server := st.pair()
	r, err := st.proxy.start()
	if err != nil {
		t.Fatal(err)
	}
	f := r.current.Load().front
	st.reload(func(p *Proxy) { p.ClientCAs = st.clients.Pool().CertPool })
	served := make(chan error, 1)
	go func() { served <- st.proxy.serveSession(t.Context(), r, f, server, st.proxy.Dial) }()
	var retry *hop.RetryError
	if c, err := st.tryConnect(client, authority); !errors.As(err, &retry) {
		t.Errorf("%+v, %v", c.resp, err)
	}
	<-client.Done()
	if err := <-served; err == nil {
		t.Error("ServeSession returned nil")
	}
	if len(origin.tunnels) != 0 || st.dials() != 0 {
		t.Errorf("%d dials", st.dials())
	}
}

// A DialFunc may hand a target to another proxy's Dial. That one shows its own certificate.
func TestATargetOfAnotherProxysSession(t *testing.T) {
	st := newStage(t)
	origin := st.cooperating()
	other := st.next(func(p *Proxy) { p.Certificate = st.renew() })
	defer other.Close()
	client, server := st.pair()
	served := make(chan error, 1)
	go func() { served <- st.proxy.ServeSession(t.Context(), server, other.Dial) }()
	// The origin does not prove anything to a proxy that the request does not name.
	origin.silent.Store(true)
	st.connect(client, authority).says(200, "")
	if leaf := origin.next(t).peer.PeerCertificate(); !leaf.Equal(other.Certificate.Leaf) {
		t.Errorf("hop 2 shows serial %v", leaf.SerialNumber)
	}
	client.Close(hop.NoError, "")
	<-client.Done()
	<-served
}

func TestShutdownAfterAReload(t *testing.T) {
	st := newStage(t)
	origin := st.cooperating()
	s := st.client(nil)
	b := st.open(s, origin)
	cert := st.renew()
	st.reload(func(p *Proxy) { p.Certificate = cert })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := st.proxy.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown: %v", err)
	}
	if tbs := b.killedBy(&st.proxy.Certificate); tbs.Reason != frames.ReasonShutdown {
		t.Errorf("verdict %+v", tbs)
	}
	<-s.Done()
}

// spec: PRX-36
//
// Clients open tunnels, use them and come again when they are told to, while everything is reloaded again
// and again. Nothing that is open breaks.
func TestReloadUnderLoad(t *testing.T) {
	st := newStage(t)
	origin := st.cooperating()
	certs := []tls.Certificate{st.proxy.Certificate, st.renew(), st.renew()}
	byLeaf := make(map[[32]byte]*tls.Certificate)
	for i := range certs {
		byLeaf[pki.LeafHash(certs[i].Leaf)] = &certs[i]
	}
	var arrived sync.Map // of chan *atOrigin, by evidence-request
	arrival := func(request string) chan *atOrigin {
		ch, _ := arrived.LoadOrStore(request, make(chan *atOrigin, 1))
		return ch.(chan *atOrigin)
	}
	stop := make(chan struct{})
	var post sync.WaitGroup
	post.Go(func() {
		for {
			select {
			case at := <-origin.tunnels:
				arrival(at.req.Header.Get(fields.EvidenceRequest)) <- at
			case <-stop:
				return
			}
		}
	})
	const clients, rounds = 4, 8
	var opened, again atomic.Int32
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			s := st.client(nil)
			for round := range rounds {
				var c *connect
				for c == nil {
					got, err := st.tryConnect(s, authority, by(byLeaf[pki.LeafHash(s.Peer().PeerCertificate())]))
					var retry *hop.RetryError
					switch {
					case errors.As(err, &retry):
						again.Add(1)
						s = st.client(nil)
					case err != nil:
						t.Errorf("client %d, round %d: %v", i, round, err)
						return
					default:
						c = got
					}
				}
				if c.resp.Status != 200 {
					t.Errorf("client %d, round %d: %d %s", i, round, c.resp.Status, c.resp.Header.Get(fields.ProxyStatusName))
					return
				}
				b := st.through(c, <-arrival(fields.FormatEvidenceRequest(c.request)))
				opened.Add(1)
				for range 3 {
					b.exchange("/", random(100_000))
				}
				b.end()
			}
		})
	}
	used := make(chan struct{})
	reloads := 0
	var reloading sync.WaitGroup
	reloading.Go(func() {
		for before := int32(0); ; before = opened.Load() {
			reloads++
			st.reload(func(p *Proxy) {
				p.Certificate = certs[reloads/2%len(certs)]
				p.Policy.HeldBytes = 1<<20 + reloads
				p.Inspectors = []Inspector{censor{fmt.Sprintf("never said, %d", reloads)}}
			})
			for opened.Load() == before {
				select {
				case <-used:
					return
				default:
					pause()
				}
			}
		}
	})
	wg.Wait()
	close(used)
	reloading.Wait()
	close(stop)
	post.Wait()
	t.Logf("%d tunnels, %d reloads, %d sessions made anew", opened.Load(), reloads, again.Load())
	if opened.Load() != clients*rounds || again.Load() == 0 || reloads < 3 {
		t.Errorf("%d tunnels, %d reloads, %d sessions made anew", opened.Load(), reloads, again.Load())
	}
}
