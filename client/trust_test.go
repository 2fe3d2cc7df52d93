package client

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"vitrine/frames"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/hop/raw/pipe"
	"vitrine/internal/pki"
)

func wantTrust(t *testing.T, err error, party Party) *TrustError {
	t.Helper()
	var trust *TrustError
	if !errors.As(err, &trust) || trust.Party != party {
		t.Fatalf("%v, want a TrustError about %s", err, party)
	}
	if trust.Report == nil || trust.Report.Error != err.Error() {
		t.Errorf("report %+v does not carry %q", trust.Report, err)
	}
	return trust
}

// spec: CLI-2
func TestProxyIsVerified(t *testing.T) {
	tests := []struct {
		name string
		set  func(tr *Transport, w *world)
	}{
		{"no roots", func(tr *Transport, _ *world) { tr.ProxyRoots = nil }},
		{"another root", func(tr *Transport, w *world) { tr.ProxyRoots = w.origins.Pool().CertPool }},
		{"another name", func(tr *Transport, w *world) {
			w.cert = func(w *world) tls.Certificate { c, _ := w.proxies.Proxy("other.example"); return c }
		}},
		{"an origin's certificate", func(tr *Transport, w *world) {
			w.cert = func(w *world) tls.Certificate { c, _ := w.proxies.Origin(proxyName); return c }
		}},
		{"proxyAuthentication not critical", func(tr *Transport, w *world) {
			w.cert = func(w *world) tls.Certificate {
				ext, err := pki.ProxyUsage()
				if err != nil {
					t.Error(err)
				}
				ext.Critical = false
				key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
				c, err := w.proxies.Issue(&x509.Certificate{DNSNames: []string{proxyName}, ExtraExtensions: []pkix.Extension{ext}, NotAfter: time.Now().Add(time.Hour)}, key)
				if err != nil {
					t.Error(err)
				}
				return c
			}
		}},
		{"expired", func(tr *Transport, w *world) {
			tr.Time = func() time.Time { return time.Now().Add(60 * 24 * time.Hour) }
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			_, _, err := tryGet(t, w.transport(func(tr *Transport) { tt.set(tr, w) }), "https://origin.example/")
			wantTrust(t, err, PartyProxy)
			if w.opened() != 0 {
				t.Error("a tunnel was opened")
			}
		})
	}
}

// spec: CLI-11
func TestOriginIsVerifiedInTheInnerSession(t *testing.T) {
	for _, level := range []Level{Intact, Blind, Direct} {
		for _, tt := range []struct {
			name string
			cert func(w *world) (tls.Certificate, error)
		}{
			{"another authority", func(w *world) (tls.Certificate, error) {
				a, err := pki.NewAuthority("others", time.Now())
				if err != nil {
					return tls.Certificate{}, err
				}
				return a.Origin(originName)
			}},
			{"another name", func(w *world) (tls.Certificate, error) { return w.origins.Origin("other.example") }},
			{"a proxy's certificate", func(w *world) (tls.Certificate, error) { return w.origins.Proxy(originName) }},
			{"the proxies' authority", func(w *world) (tls.Certificate, error) { return w.proxies.Origin(originName) }},
		} {
			t.Run(string(level)+", "+tt.name, func(t *testing.T) {
				w := newWorld(t)
				cert, err := tt.cert(w)
				if err != nil {
					t.Fatal(err)
				}
				w.innerCert = &cert
				_, _, err = tryGet(t, w.transport(func(tr *Transport) { tr.Levels = []Level{level} }), "https://origin.example/")
				wantTrust(t, err, PartyOrigin)
				if w.took() != 0 {
					t.Error("a request left")
				}
			})
		}
	}
}

// A pool cannot be listed, so that a root in both is found where it matters: it vouches for no origin.
func TestTheProxysRootVouchesForNoOrigin(t *testing.T) {
	for _, level := range []Level{Intact, Blind} {
		w := newWorld(t)
		cert, err := w.proxies.Origin(originName)
		if err != nil {
			t.Fatal(err)
		}
		both := pki.NewPool(w.origins.Root, w.proxies.Root).CertPool
		w.innerCert = &cert
		_, _, err = tryGet(t, w.transport(func(tr *Transport) { tr.Levels, tr.Roots = []Level{level}, both }), "https://origin.example/")
		wantTrust(t, err, PartyOrigin)
		if w.took() != 0 {
			t.Error("a request left")
		}
		w.innerCert = nil
		get(t, w.transport(func(tr *Transport) { tr.Levels, tr.Roots = []Level{level}, both }), "https://origin.example/")
		w.origin = cert
		_, _, err = tryGet(t, w.transport(func(tr *Transport) { tr.Levels, tr.Roots = []Level{level}, both }), "https://origin.example/")
		wantTrust(t, err, PartyOrigin)
	}
}

func TestOriginIsVerifiedInTheEvidence(t *testing.T) {
	w := newWorld(t)
	other, err := pki.NewAuthority("others", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = tryGet(t, w.transport(func(tr *Transport) { tr.Roots = other.Pool().CertPool }), "https://origin.example/")
	wantTrust(t, err, PartyOrigin)
}

// spec: CLI-3
func TestWithoutConsentNoCONNECTLeaves(t *testing.T) {
	refusal := errors.New("I would rather not")
	for name, consent := range map[string]Consent{
		"nobody to ask": nil,
		"refused":       says(refusal),
	} {
		for _, level := range []Level{Intact, Blind} {
			t.Run(name+", "+string(level), func(t *testing.T) {
				w := newWorld(t)
				w.answer = func(hop.Incoming, *hop.Request) bool { t.Error("a CONNECT left"); return false }
				_, _, err := tryGet(t, w.transport(func(tr *Transport) { tr.Consent, tr.Levels = consent, []Level{level} }), "https://origin.example/")
				trust := wantTrust(t, err, PartyConsent)
				if consent == nil && !strings.Contains(err.Error(), "--consent once") {
					t.Errorf("%q does not say how to consent", err)
				}
				if consent != nil && !errors.Is(trust, refusal) {
					t.Errorf("%v does not wrap the refusal", err)
				}
				if len(trust.Report.Proxies) != 1 {
					t.Error("the report does not name the proxy that was refused")
				}
			})
		}
	}
}

// says is a Consent that says no with err.
func says(err error) Consent {
	return ConsentFunc(func(context.Context, *ConsentRequest) (*Agreement, error) { return nil, err })
}

// One error for all refusals is the caller's to share.
func TestRefusalsShareNoReport(t *testing.T) {
	w := newWorld(t)
	never := &TrustError{Party: PartyConsent, Err: errors.New("never")}
	tr := w.transport(func(tr *Transport) { tr.Consent = says(never) })
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			_, _, err := tryGet(t, tr, "https://origin.example/")
			var trust *TrustError
			if !errors.As(err, &trust) || trust.Report == nil || err.Error() != "no consent: never" {
				t.Errorf("%v", err)
			}
		})
	}
	wg.Wait()
	if never.Report != nil {
		t.Error("a report was written into the caller's error")
	}
}

// A group of requests that ends with the first that fails: the others' contexts have its error as their cause.
func TestCauseOfAContextKeepsItsOwnReport(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	theirs := new(Report)
	cause := &KilledError{Proxy: proxyName, Report: theirs}
	w.handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel(cause)
		<-r.Context().Done()
	})
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://origin.example/", nil)
	_, _, err := do(w.transport(nil), req)
	if !errors.Is(err, context.Canceled) || !errors.Is(err, cause) {
		t.Errorf("%v, want the context's end and its cause", err)
	}
	if r := ReportOfError(err); r == theirs || r == nil || r.Killed != nil || r.Level != Intact || cause.Report != theirs {
		t.Errorf("report %+v", r)
	}
}

// spec: CLI-3 CLI-4
func TestRedirectToAnotherAuthorityAsksAgain(t *testing.T) {
	w := newWorld(t)
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "https://second.example/", http.StatusFound)
	})
	var mu sync.Mutex
	var asked []ConsentRequest
	tr := w.transport(func(tr *Transport) {
		tr.Consent = ConsentFunc(func(_ context.Context, req *ConsentRequest) (*Agreement, error) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, *req)
			if req.Authority != "origin.example:443" {
				return nil, errors.New("only that one")
			}
			return new(Agreement), nil
		})
	})
	_, err := (&http.Client{Transport: tr}).Get("https://origin.example/")
	var trust *TrustError
	if !errors.As(err, &trust) || trust.Party != PartyConsent {
		t.Fatalf("%v, want a TrustError about consent", err)
	}
	if len(asked) != 2 || asked[1].Authority != "second.example:443" {
		t.Fatalf("asked %+v", asked)
	}
	q := asked[0]
	if q.ProxyRootSPKI != pki.SPKIHash(w.proxies.Root) || q.ProxyName != proxyName || q.ProxySubject != "CN=proxy.example" ||
		!strings.Contains(q.Words, proxyName) || !strings.Contains(q.Words, "reads everything") || q.Fields != nil {
		t.Errorf("asked %+v", q)
	}
	if w.took() != 1 {
		t.Errorf("the origins saw %d requests, want 1", w.took())
	}
}

// spec: CLI-5
func TestCredentialsLeaveOnlyWhereAllowed(t *testing.T) {
	set := func(name string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, "x") }
	}
	for _, tt := range []struct {
		name  string
		with  func(*http.Request)
		field string
	}{
		{"authorization", set("Authorization"), "Authorization"},
		{"cookie", set("Cookie"), "Cookie"},
		{"proxy authorization", set("Proxy-Authorization"), "Proxy-Authorization"},
		{"api key", set("x-api-key"), "X-Api-Key"},
		{"a vendor's token", set("X-Vault-Token"), "X-Vault-Token"},
		{"a password", set("X-Password"), "X-Password"},
		{"under a name in another case", func(r *http.Request) { r.Header["authorization"] = []string{"x"} }, "Authorization"},
		{"a user name in the URL", func(r *http.Request) { r.URL.User = url.User("alice") }, "the user name in the URL"},
		{"in a trailer", func(r *http.Request) { r.Trailer = http.Header{"X-Auth-Token": nil} }, "X-Auth-Token"},
		{"a user name in the Referer", func(r *http.Request) { r.Header.Set("Referer", "https://alice:s3cret@other.example/a?b") }, "Referer"},
		{"a Referer with an @ in its path", func(r *http.Request) { r.Header.Set("Referer", "https://other.example/@alice?a@b#c@d") }, ""},
		{"nothing of the kind", set("Accept"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			request := func() *http.Request {
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://origin.example/", nil)
				tt.with(req)
				return req
			}
			_, _, err := do(w.transport(nil), request())
			if tt.field == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if trust := wantTrust(t, err, PartyCredentials); trust.Field != tt.field || !strings.Contains(err.Error(), tt.field) {
				t.Errorf("%v, field %q; want %q", err, trust.Field, tt.field)
			}
			if w.opened() != 0 {
				t.Error("a CONNECT left")
			}
			if _, _, err := do(w.transport(func(tr *Transport) { tr.Consent = Once{Credentials: true} }), request()); err != nil {
				t.Errorf("allowed: %v", err)
			}
			if _, _, err := do(w.transport(func(tr *Transport) { tr.Levels = []Level{Blind} }), request()); err != nil {
				t.Errorf("blind: %v", err)
			}
		})
	}
}

// spec: CLI-10
func TestInspectionRequired(t *testing.T) {
	noTokens := func(w *world) { // the proxy did not offer what it then says the origin did not take
		w.answer = func(in hop.Incoming, req *hop.Request) bool {
			if req.Protocol != frames.Protocol {
				return false
			}
			w.refuse(in, frames.StatusInspectionRequired, "", nil)
			return true
		}
	}
	modes := func(m ...fields.Mode) []fields.Mode { return m }
	for _, tt := range []struct {
		name    string
		levels  []Level
		modes   []fields.Mode
		lie     func(*world)
		want    Level // "" is a LevelError
		offered string
		option  string
	}{
		{"intact alone", nil, modes(fields.Intact), nil, "", "intact", ""},
		{"intact alone, blind on offer", nil, modes(fields.Intact, fields.Blind), nil, "", "intact blind", "intact,blind"},
		{"blind accepted and on offer", []Level{Intact, Blind}, modes(fields.Intact, fields.Blind), nil, Blind, "", ""},
		{"blind accepted, not on offer", []Level{Intact, Blind}, modes(fields.Intact), nil, "", "intact", ""},
		{"direct accepted", []Level{Intact, Direct}, modes(fields.Intact), nil, Direct, "", ""},
		{"blind before direct", []Level{Direct, Blind, Intact}, modes(fields.Blind), nil, Blind, "", ""},
		{"no evidence", []Level{Intact, Blind}, modes(fields.Blind), noTokens, "", "blind", "blind"},
		{"no evidence, direct accepted", []Level{Intact, Direct}, modes(fields.Blind), noTokens, "", "blind", "blind"},
		{"nothing on offer", []Level{Intact, Blind}, nil, nil, "", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.stock, w.modes = true, tt.modes
			if tt.lie != nil {
				tt.lie(w)
			}
			resp, body, err := tryGet(t, w.transport(func(tr *Transport) { tr.Levels = tt.levels }), "https://origin.example/")
			if tt.want == "" {
				var level *LevelError
				if !errors.As(err, &level) {
					t.Fatalf("%v, want a LevelError", err)
				}
				if got := strings.Join(level.Offered, " "); got != tt.offered || level.Option != tt.option {
					t.Errorf("offered %q, option %q; want %q, %q", got, level.Option, tt.offered, tt.option)
				}
				if tt.option != "" && !strings.Contains(err.Error(), "--level "+tt.option) {
					t.Errorf("%q does not name the option", err)
				}
				if w.took() != 0 {
					t.Error("a request left")
				}
				return
			}
			if err != nil || string(body) != "hello" {
				t.Fatalf("%q, %v", body, err)
			}
			r := ReportOf(resp)
			if r.Level != tt.want || r.Inner.Confirmed || r.Inner.PeerSPKI != spki(w.origin.Leaf) {
				t.Errorf("level %q, inner %+v; want %q", r.Level, r.Inner, tt.want)
			}
			if r.Evidence == nil || r.Evidence.Kind != "transcript" || !r.Evidence.Verified {
				t.Errorf("evidence %+v, want the verified transcript that justified it", r.Evidence)
			}
			if (len(r.Proxies) == 0) != (tt.want == Direct) {
				t.Errorf("proxies %v at %s", r.Proxies, tt.want)
			}
		})
	}
}

// A proxy strips the tokens from its own ClientHello: the transcript convicts it.
//
// spec: CLI-10
func TestStrippedTokensJustifyNothing(t *testing.T) {
	w := newWorld(t)
	w.stock, w.modes = true, []fields.Mode{fields.Blind}
	w.tokens = []string{"http/1.1"}
	_, _, err := tryGet(t, w.transport(func(tr *Transport) { tr.Levels = []Level{Intact, Blind} }), "https://origin.example/")
	var level *LevelError
	if !errors.As(err, &level) || !strings.Contains(level.Why, "did not offer") {
		t.Errorf("%v, want a LevelError that says so", err)
	}
}

// spec: CLI-6
func TestBlindAloneIsAPlainCONNECT(t *testing.T) {
	w := newWorld(t)
	w.answer = func(_ hop.Incoming, req *hop.Request) bool {
		if req.Protocol != "" || len(req.Header) != 0 {
			t.Errorf("CONNECT with protocol %q and %v", req.Protocol, req.Header)
		}
		return false
	}
	resp, _ := get(t, w.transport(func(tr *Transport) { tr.Levels = []Level{Blind} }), "https://origin.example/")
	r := ReportOf(resp)
	if r.Level != Blind || r.Evidence != nil || r.Inner == nil || r.Inner.Confirmed || len(r.Proxies) != 1 {
		t.Errorf("report %+v", r)
	}
}

// spec: CLI-6
func TestDirectIsUsedOnlyWhenNamed(t *testing.T) {
	w := newWorld(t)
	resp, _ := get(t, w.transport(func(tr *Transport) {
		tr.Levels, tr.Proxy, tr.ProxyRoots, tr.Consent = []Level{Direct}, "", nil, nil
	}), "https://origin.example/")
	if r := ReportOf(resp); r.Level != Direct || len(r.Proxies) != 0 || r.Evidence != nil {
		t.Errorf("report %+v", r)
	}
	if w.dialled() != 0 {
		t.Error("the proxy was dialled")
	}
	// A proxy that cannot be trusted is no reason to go around it.
	_, _, err := tryGet(t, w.transport(func(tr *Transport) {
		tr.Levels, tr.ProxyRoots = []Level{Intact, Direct}, w.origins.Pool().CertPool
	}), "https://origin.example/")
	wantTrust(t, err, PartyProxy)
}

// spec: CLI-19
func TestLowerOfferAfterIntactNeedsTheUser(t *testing.T) {
	w := newWorld(t)
	w.modes = []fields.Mode{fields.Intact, fields.Blind}
	tr := w.transport(func(tr *Transport) { tr.Levels = []Level{Intact, Blind} })
	resp, _ := get(t, tr, "https://origin.example/")
	if ReportOf(resp).Level != Intact {
		t.Fatal("not intact to begin with")
	}
	w.stock = true
	tr.CloseIdleConnections()
	_, _, err := tryGet(t, tr, "https://origin.example/")
	var level *LevelError
	if !errors.As(err, &level) || !strings.Contains(level.Why, "before") || level.Option != "blind" {
		t.Fatalf("%v, want a LevelError that remembers", err)
	}
	tr.Forget("origin.example:443")
	if resp, _ := get(t, tr, "https://origin.example/"); ReportOf(resp).Level != Blind {
		t.Error("not blind after the user accepted it")
	}
}

func TestLevelsWithoutATunnelOpenNone(t *testing.T) {
	w := newWorld(t)
	d := &Dialer{Proxy: "https://proxy.example:8443", Levels: []Level{Signed, Attested, Claimed}, NetDial: w.netDial}
	defer d.Close()
	_, err := d.DialTunnel(t.Context(), "origin.example:443")
	var level *LevelError
	if !errors.As(err, &level) || !strings.Contains(err.Error(), "there are no tunnels") {
		t.Error(err)
	}
	if _, _, err := tryGet(t, w.transport(func(tr *Transport) { tr.Levels = []Level{"inspected"} }), "https://origin.example/"); err == nil {
		t.Error("an unknown level is accepted")
	}
	if w.dialled() != 0 {
		t.Error("the proxy was dialled")
	}
}

func TestRefusalsOfTheProxy(t *testing.T) {
	for _, tt := range []struct {
		status int
		error  string
		party  Party
		trust  bool
	}{
		{502, fields.ErrorDNSError, PartyOrigin, false},
		{504, fields.ErrorDNSTimeout, PartyOrigin, false},
		{502, fields.ErrorConnectionRefused, PartyOrigin, false},
		{504, fields.ErrorConnectionTimeout, PartyOrigin, false},
		{502, fields.ErrorTLSProtocol, PartyOrigin, false},
		{502, fields.ErrorTLSAlertReceived, PartyOrigin, false},
		{502, fields.ErrorTLSCertificate, PartyOrigin, true},
		{403, fields.ErrorDestinationIPProhibited, PartyProxy, false},
		{403, fields.ErrorHTTPRequestDenied, PartyProxy, false},
		{400, fields.ErrorHTTPRequest, PartyProxy, false},
		{502, fields.ErrorProxyLoopDetected, PartyProxy, false},
		{500, fields.ErrorProxyInternal, PartyProxy, false},
		{407, "", PartyClient, true},
		{501, "", PartyProxy, false},
		{502, "", PartyOrigin, false},
		{302, "", PartyProxy, false},
	} {
		for _, level := range []Level{Intact, Blind} {
			w := newWorld(t)
			w.answer = func(in hop.Incoming, _ *hop.Request) bool { w.refuse(in, tt.status, tt.error, nil); return true }
			_, _, err := tryGet(t, w.transport(func(tr *Transport) { tr.Levels = []Level{level} }), "https://origin.example/")
			if tt.trust {
				wantTrust(t, err, tt.party)
				continue
			}
			var u *UnreachableError
			if !errors.As(err, &u) || u.Party != tt.party || u.Status != tt.status || u.ProxyError != tt.error {
				t.Errorf("%d %s: %v, want %s unreachable", tt.status, tt.error, err, tt.party)
				continue
			}
			if !strings.Contains(err.Error(), "because of the test") {
				t.Errorf("%q does not say what the proxy said", err)
			}
		}
	}
}

func TestProxyTextIsPrintable(t *testing.T) {
	if got := printable("a\x1b[31mb\r\nc\u202ed" + strings.Repeat("x", 1000)); strings.ContainsAny(got, "\x1b\r\n\u202e") || len(got) > 300 {
		t.Errorf("%q", got)
	}
}

func TestClientCertificateForTheProxy(t *testing.T) {
	authority := func(name string) *pki.Authority {
		a, err := pki.NewAuthority(name, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	users, others, namesake := authority("users"), authority("others"), authority("users")
	cert := func(a *pki.Authority) *tls.Certificate {
		c, err := a.Client("alice")
		if err != nil {
			t.Fatal(err)
		}
		return &c
	}
	w := newWorld(t)
	w.clientCAs = users.Pool().CertPool
	for _, tt := range []struct {
		name string
		cert *tls.Certificate
		want string
	}{
		{"none", nil, "wants a client certificate"},
		{"of an authority that the proxy did not ask for", cert(others), "wants a client certificate"},
		{"that does not verify", cert(namesake), "does not take the certificate"},
	} {
		_, _, err := tryGet(t, w.transport(func(tr *Transport) { tr.ClientCertificate = tt.cert }), "https://origin.example/")
		wantTrust(t, err, PartyClient)
		if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "proxy is not trusted") {
			t.Errorf("%s: %q", tt.name, err)
		}
	}
	get(t, w.transport(func(tr *Transport) { tr.ClientCertificate = cert(users) }), "https://origin.example/")
}

// In TLS 1.3 the origin's word on a client's certificate comes behind the handshake.
func TestClientCertificateForTheOrigin(t *testing.T) {
	users, err := pki.NewAuthority("users", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	alice, err := users.Client("alice")
	if err != nil {
		t.Fatal(err)
	}
	for _, level := range []Level{Intact, Blind, Direct} {
		w := newWorld(t)
		w.users = users.Pool().CertPool
		_, _, err := tryGet(t, w.transport(func(tr *Transport) { tr.Levels = []Level{level} }), "https://origin.example/")
		var u *UnreachableError
		if !errors.As(err, &u) || u.Party != PartyOrigin || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: %v, want an origin that refused this client", level, err)
		}
		get(t, w.transport(func(tr *Transport) { tr.Levels, tr.Certificates = []Level{level}, []tls.Certificate{alice} }), "https://origin.example/")
	}
}

// The alert is lost when we write into a connection that the proxy has closed.
func TestAProxyThatHangsUpWhereACertificateIsMissing(t *testing.T) {
	for _, asked := range []bool{true, false} {
		w := newWorld(t)
		w.dial = func(context.Context) (net.Conn, error) {
			c, s := pipe.New()
			w.wg.Go(func() {
				cfg := &tls.Config{Certificates: []tls.Certificate{w.proxy}, NextProtos: []string{"h2"}}
				if asked {
					cfg.ClientAuth = tls.RequestClientCert
				}
				tls.Server(s, cfg).HandshakeContext(context.Background())
				s.Close()
			})
			return c, nil
		}
		_, _, err := tryGet(t, w.transport(nil), "https://origin.example/")
		if asked {
			wantTrust(t, err, PartyClient)
			continue
		}
		var u *UnreachableError
		if !errors.As(err, &u) || u.Party != PartyProxy {
			t.Errorf("%v, want the proxy unreachable", err)
		}
	}
}

func TestProxyURLs(t *testing.T) {
	for _, u := range []string{
		"", "http://proxy.example:8443", "proxy.example:8443", "https://", "https://proxy.example/path", "https://user@proxy.example",
		"https://proxy.example:0", "https://proxy.example?x", "https://proxy.example:99999", "https://proxy.example.:8443", "https://127.1:8443",
		"https://alice:s3cret@proxy.example", "https://alice:s3cret@proxy.example:x", "https://alice:s3cret/x@proxy.example", "https://alice:s3cret%zz@proxy.example",
		"https://proxy.example:s3cret@evil", "https://proxy.example/?token=s3cret",
	} {
		d := &Dialer{Proxy: u, ProxyRoots: x509.NewCertPool(), Consent: Once{}, NetDial: refuseDial(t)}
		if _, err := d.DialTunnel(t.Context(), "origin.example:443"); err == nil {
			t.Errorf("proxy %q is accepted", u)
		} else if ReportOfError(err) == nil {
			t.Errorf("proxy %q: no report in %v", u, err)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("proxy %q: a password in %q", u, err)
		}
		d.Close()
	}
}

// Consent is tied to the proxy's name, which has one spelling.
func TestProxyNameHasOneSpelling(t *testing.T) {
	for _, tt := range []struct{ url, name string }{
		{"https://PROXY.example:8443", proxyName},
		{"https://proxy.example:08443/", proxyName},
		{"https://bücher.example:8443", "xn--bcher-kva.example"},
		{"https://[2001:DB8:0::1]:8443", "2001:db8::1"},
	} {
		w := newWorld(t)
		w.cert = func(w *world) tls.Certificate {
			c, err := w.proxies.Proxy(tt.name)
			if err != nil {
				t.Error(err)
			}
			return c
		}
		asked := ""
		d := w.dialer()
		d.Proxy = tt.url
		d.NetDial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if want := net.JoinHostPort(tt.name, "8443"); addr != want {
				t.Errorf("dialled %s, want %s", addr, want)
			}
			return w.netDial(ctx, network, proxyName+":8443")
		}
		d.Consent = ConsentFunc(func(_ context.Context, req *ConsentRequest) (*Agreement, error) {
			asked = req.ProxyName
			return nil, errors.New("that is all I wanted to know")
		})
		_, err := d.DialTunnel(t.Context(), "origin.example:443")
		wantTrust(t, err, PartyConsent)
		if asked != tt.name {
			t.Errorf("%s: asked about %q, want %q", tt.url, asked, tt.name)
		}
	}
}
