package proxy

import (
	"crypto/x509"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"vitrine/frames"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
	"vitrine/internal/verdict"
)

func TestAnUpstreamIsANameAndRoots(t *testing.T) {
	roots := x509.NewCertPool()
	for url, want := range map[string]string{
		"https://next.example":             "",
		"https://next.example/":            "",
		"https://NEXT.example:8443":        "",
		"http://next.example":              "want https://",
		"next.example:443":                 "want https://",
		"https://":                         "want https://",
		"https://next.example/path":        "want https://",
		"https://next.example?query":       "want https://",
		"https://next.example#fragment":    "want https://",
		"https://user:secret@next.example": "want https://",
		"https://next.example:0":           "port",
		"https://next.example:65536":       "port",
		"https://192.0.2.1":                "a DNS name",
		"https://[2001:db8::1]:443":        "a DNS name",
		"https://a b/":                     "not a URL",
		"https://next.example:secret":      "not a URL",
	} {
		err := (&UpstreamProxy{URL: url, Roots: roots}).Check()
		switch {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", url, err, want)
		case err != nil && strings.Contains(err.Error(), "secret"):
			t.Errorf("%s: %v tells a password", url, err)
		}
	}
	if err := (&UpstreamProxy{URL: "https://next.example"}).Check(); err == nil || !strings.Contains(err.Error(), "no roots") {
		t.Errorf("without roots: %v", err)
	}
}

// Settings that say the same keep the connections to the next proxy; others do not. Split does not go through one.
//
// spec: PRX-41 PRX-75
func TestSettingsOfAChain(t *testing.T) {
	cert, err := newAuthority(t, "proxies").Proxy(proxyName)
	if err != nil {
		t.Fatal(err)
	}
	a, b := newAuthority(t, "one").Pool().CertPool, newAuthority(t, "two").Pool().CertPool
	with := func(url string, roots *x509.CertPool) *Proxy {
		return &Proxy{Certificate: cert, Upstream: &UpstreamProxy{URL: url, Roots: roots}}
	}
	p := with("https://next.example", a)
	r, err := p.start()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	first := r.current.Load()
	for _, step := range []struct {
		name string
		next *Proxy
		kept bool
	}{
		{"the same", with("https://NEXT.example:443/", a), true},
		{"another port", with("https://next.example:8443", a), false},
		{"another name", with("https://other.example", a), false},
		{"other roots", with("https://other.example", b), false},
		{"none", &Proxy{Certificate: cert}, false},
		{"none again", &Proxy{Certificate: cert}, true},
	} {
		before := r.current.Load()
		if err := p.Reload(step.next); err != nil {
			t.Fatal(err)
		}
		now := r.current.Load()
		if (now.next == before.next) != step.kept || (now.epoch == before.epoch) != step.kept {
			t.Errorf("%s: %+v after %+v", step.name, now.next, before.next)
		}
	}
	if first.next.name != "next.example" || first.next.port != 443 {
		t.Errorf("%+v", first.next)
	}
	bad := with("https://next.example", a)
	bad.Policy.Modes = []fields.Mode{fields.Intact, fields.Split}
	if err := p.Reload(bad); err == nil {
		t.Error("split through another proxy")
	}
	if err := p.Reload(with("https://next.example", nil)); err == nil {
		t.Error("a next proxy that nobody vouches for")
	}
	mixed := with("https://next.example", a)
	mixed.Policy.HostModes = func(string) []fields.Mode { return []fields.Mode{fields.Split, fields.Blind} }
	if err := p.Reload(mixed); err != nil {
		t.Fatal(err)
	}
	if got := r.current.Load().policy.modes(authority); !slices.Equal(got, []fields.Mode{fields.Blind}) {
		t.Errorf("modes %v", got)
	}
}

// What goes wrong on the way to the next proxy is said of that one. Its certificate is the operator's to mend.
//
// spec: PRX-35
func TestErrorsOfTheNextProxy(t *testing.T) {
	for _, tt := range []struct {
		err     error
		status  int
		reason  string
		details string
	}{
		{errRefused, 502, fields.ErrorConnectionRefused, "the next proxy refused the connection"},
		{&handshakeError{x509.UnknownAuthorityError{}}, 500, fields.ErrorProxyConfiguration, "the next proxy's certificate was issued by an unknown authority"},
		{&handshakeError{pki.ErrProfile}, 500, fields.ErrorProxyConfiguration, "the next proxy's certificate is not one of a proxy"},
		{errNotAProxy, 500, fields.ErrorProxyConfiguration, "the next proxy is not one"},
		{&evidenceMissingError{}, 502, fields.ErrorHTTPProtocol, "the next proxy's evidence does not hold"},
		{&hop.RetryError{Err: errRefused}, 502, fields.ErrorConnectionRefused, "the next proxy refused the connection"},
		{errUpstreamsFull, 503, fields.ErrorConnectionLimitReached, "too many connections"},
		{errors.New("whatever"), 500, fields.ErrorProxyInternal, "the proxy failed"},
	} {
		a := answerTo(&nextError{err: tt.err, next: "next.example"})
		if a.status != tt.status || a.reason != tt.reason || a.details != tt.details || !errors.Is(a.cause, tt.err) {
			t.Errorf("%v: %+v", tt.err, a)
		}
		resp := a.response(&front{name: "me", via: "me"}, "2", authority)
		if s := resp.Header.Get(fields.ProxyStatusName); !strings.Contains(s, "next-hop=next.example") {
			t.Errorf("%v: %s", tt.err, s)
		}
	}
}

// A proxy that goes through another one judges what it can judge itself, and dials nobody for what may not be.
//
// spec: PRX-7 PRX-8
func TestAChainDialsNobodyForWhatMayNotBe(t *testing.T) {
	st := newStage(t, func(p *Proxy) {
		p.Upstream = &UpstreamProxy{URL: "https://next.example", Roots: x509.NewCertPool()}
		p.Policy.Modes = []fields.Mode{fields.Intact, fields.Blind}
	})
	s := st.client(nil)
	for target, reason := range map[string]string{
		originName + ":8443": "http_request_denied",
		"10.0.0.1:443":       "destination_ip_prohibited",
		"[::1]:443":          "destination_ip_prohibited",
	} {
		status := http.StatusBadGateway
		if reason == "http_request_denied" {
			status = http.StatusForbidden
		}
		if strings.HasPrefix(target, originName) {
			st.connect(s, target).says(status, reason)
		}
		resp, _, err := s.Open(t.Context(), &hop.Request{Authority: target})
		if err != nil {
			t.Fatal(err)
		}
		says(t, resp, status, reason)
	}
	if st.dials() != 0 {
		t.Error("dialled")
	}
	// The next proxy's own address may be any: the operator wrote it down.
	st.connect(s, authority).says(http.StatusBadGateway, "connection_refused")
}

// Only the client whose certificate stands before this proxy's may say that somebody reads before it.
//
// spec: PRX-72
func TestWhoStandsBeforeTheProxy(t *testing.T) {
	st := newStage(t)
	o := st.cooperating()
	before, err := st.proxies.Proxy("before.example")
	if err != nil {
		t.Fatal(err)
	}
	st.reload(func(p *Proxy) { p.ClientCAs = st.proxies.Pool().CertPool })
	s := st.client(&before)
	path := func(leaves ...[32]byte) func(*hop.Request, *tlsmsg.InspectionOffer) {
		return func(_ *hop.Request, o *tlsmsg.InspectionOffer) { o.Proxies = append(leaves, o.Proxies...) }
	}
	st.connect(s, authority, path([32]byte{1})).says(http.StatusForbidden, "http_request_denied")
	st.connect(s, authority, path(pki.LeafHash(before.Leaf), [32]byte{1})).says(http.StatusForbidden, "http_request_denied")
	if st.dials() != 0 {
		t.Error("dialled")
	}
	st.connect(s, authority, path([32]byte{1}, pki.LeafHash(before.Leaf))).says(http.StatusOK, "")
	o.next(t)
	// An ordinary client does not read, and its word that somebody killed is not to become this proxy's.
	user, err := st.proxies.Client("user")
	if err != nil {
		t.Fatal(err)
	}
	st.connect(st.client(&user), authority, path(pki.LeafHash(user.Leaf))).says(http.StatusForbidden, "http_request_denied")
}

// A kill is passed on for proxies of the path alone: an origin has none to say, and neither has a client.
//
// spec: PRX-76 PRX-77
func TestNobodyButAProxyOfThePathKills(t *testing.T) {
	for name, before := range map[string]bool{"a proxy before": true, "a client": false} {
		t.Run(name, func(t *testing.T) {
			st := newStage(t)
			o := st.cooperating()
			cert, err := st.proxies.Proxy("before.example")
			if err != nil {
				t.Fatal(err)
			}
			st.reload(func(p *Proxy) { p.ClientCAs = st.proxies.Pool().CertPool })
			c := st.connect(st.client(&cert), authority, func(_ *hop.Request, o *tlsmsg.InspectionOffer) {
				if before {
					o.Proxies = append([][32]byte{pki.LeafHash(cert.Leaf)}, o.Proxies...)
				}
			})
			c.says(http.StatusOK, "")
			b := st.through(c, o.next(t))
			signed, err := verdict.Sign(&cert, &frames.VerdictTBS{
				Nonce: c.offer.Nonce, Authority: authority, Time: time.Now(), Reason: frames.ReasonPolicy, Rule: "mine", Detail: "because",
			})
			if err != nil {
				t.Fatal(err)
			}
			b.client.Kill(signed)
			_, err = b.toOrigin.end()
			kill := isKilled(err)
			if (kill != nil) != before {
				t.Fatalf("the origin: %v", err)
			}
			if !before {
				return
			}
			tbs, err := verdict.Verify(kill.Verdict, verdict.Expect{
				Proxy: st.proxy.Certificate.Leaf, Nonce: c.offer.Nonce, Authority: authority, CheckLeaf: true,
			})
			if err != nil || tbs.Reason != frames.ReasonPolicy || tbs.Rule != "" || tbs.Detail != "" {
				t.Errorf("%+v, %v", tbs, err)
			}
		})
	}
	t.Run("an origin", func(t *testing.T) {
		st := newStage(t)
		b := st.open(st.client(nil), st.cooperating())
		b.origin.Kill([]byte("whatever"))
		_, err := b.toClient.end()
		if reset := (*hop.ResetError)(nil); !errors.As(err, &reset) || reset.Code != hop.ConnectError {
			t.Errorf("the client: %v", err)
		}
	})
}
