package proxy

import (
	"crypto/x509"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/pki"
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
