package pki

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"strings"
	"testing"
	"time"
)

func authority(t *testing.T, name string) *Authority {
	t.Helper()
	a, err := NewAuthority(name, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func usages(t *testing.T, critical bool, oids ...asn1.ObjectIdentifier) pkix.Extension {
	t.Helper()
	value, err := asn1.Marshal(oids)
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: oidExtKeyUsage(), Critical: critical, Value: value}
}

var (
	serverAuth = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
	clientAuth = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
	anyUsage   = asn1.ObjectIdentifier{2, 5, 29, 37, 0}
)

func chainOf(t *testing.T, cert tls.Certificate) []*x509.Certificate {
	t.Helper()
	var chain []*x509.Certificate
	for _, der := range cert.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, c)
	}
	return chain
}

// spec: PKI-1 PKI-2 PKI-3
func TestProfileOfAProxy(t *testing.T) {
	a := authority(t, "proxy root")
	now := time.Now()
	own := OIDProxyAuthentication()
	template := func(x ...pkix.Extension) *x509.Certificate {
		return &x509.Certificate{DNSNames: []string{"proxy.example"}, NotAfter: now.Add(24 * time.Hour), ExtraExtensions: x}
	}
	month := template(usages(t, true, own, serverAuth, clientAuth))
	month.NotBefore = now.Add(-time.Minute)
	month.NotAfter = month.NotBefore.Add(MaxProxyLifetime)
	long := template(usages(t, true, own, serverAuth, clientAuth))
	long.NotBefore = now.Add(-time.Minute)
	long.NotAfter = long.NotBefore.Add(MaxProxyLifetime + time.Second)
	ca := template(usages(t, true, own, serverAuth, clientAuth))
	ca.BasicConstraintsValid, ca.IsCA = true, true
	for name, tt := range map[string]struct {
		cert *x509.Certificate
		want string // of the error; "" for none
	}{
		"good":                  {template(usages(t, true, own, serverAuth, clientAuth)), ""},
		"in another order":      {template(usages(t, true, clientAuth, serverAuth, own)), ""},
		"30 days":               {month, ""},
		"not critical":          {template(usages(t, false, own, serverAuth, clientAuth)), "not critical"},
		"an origin's":           {template(usages(t, true, serverAuth, clientAuth)), "lacks proxyAuthentication"},
		"any usage":             {template(usages(t, true, anyUsage)), "lacks proxyAuthentication"},
		"any usage and ours":    {template(usages(t, true, own, anyUsage)), "lacks serverAuth"},
		"a neighbour of ours":   {template(usages(t, true, append(own[:len(own)-1:len(own)-1], 2), serverAuth, clientAuth)), "lacks proxyAuthentication"},
		"no clientAuth":         {template(usages(t, true, own, serverAuth)), "lacks clientAuth"},
		"no extended key usage": {template(), "has no extended key usage"},
		"more than 30 days":     {long, "more than 30 days"},
		"a CA's":                {ca, "certificate authority"},
	} {
		t.Run(name, func(t *testing.T) {
			cert, err := a.Issue(tt.cert, a.Key)
			if err != nil {
				t.Fatal(err)
			}
			_, err = VerifyProxy(chainOf(t, cert), ProxyOptions{Roots: a.Pool().CertPool, Name: "proxy.example"})
			check := CheckProxyCertificate(cert, now)
			if tt.want == "" {
				if err != nil || check != nil {
					t.Errorf("got %v and %v", err, check)
				}
				return
			}
			if !errors.Is(err, ErrProfile) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("VerifyProxy: got %v, want %q", err, tt.want)
			}
			if !errors.Is(check, ErrProfile) || !strings.Contains(check.Error(), tt.want) {
				t.Errorf("CheckProxyCertificate: got %v, want %q", check, tt.want)
			}
		})
	}
}

// spec: PKI-4
func TestVerifyProxyRefusesWhatX509Does(t *testing.T) {
	a, other := authority(t, "proxy root"), authority(t, "origin root")
	cert, err := a.Proxy("proxy.example", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	noServer, err := a.Issue(&x509.Certificate{
		DNSNames: []string{"proxy.example"}, NotAfter: time.Now().Add(time.Hour),
		ExtraExtensions: []pkix.Extension{usages(t, true, OIDProxyAuthentication(), clientAuth)},
	}, a.Key)
	if err != nil {
		t.Fatal(err)
	}
	noClient, err := a.Issue(&x509.Certificate{
		DNSNames: []string{"proxy.example"}, NotAfter: time.Now().Add(time.Hour),
		ExtraExtensions: []pkix.Extension{usages(t, true, OIDProxyAuthentication(), serverAuth)},
	}, a.Key)
	if err != nil {
		t.Fatal(err)
	}
	roots := a.Pool().CertPool
	chain := chainOf(t, cert)
	for name, tt := range map[string]struct {
		certs []*x509.Certificate
		o     ProxyOptions
		ok    bool
	}{
		"by name":         {chain, ProxyOptions{Roots: roots, Name: "proxy.example"}, true},
		"by address":      {chain, ProxyOptions{Roots: roots, Name: "127.0.0.1"}, true},
		"as a client":     {chain, ProxyOptions{Roots: roots, AsClient: true}, true},
		"another name":    {chain, ProxyOptions{Roots: roots, Name: "other.example"}, false},
		"no name":         {chain, ProxyOptions{Roots: roots}, false},
		"no roots":        {chain, ProxyOptions{Name: "proxy.example"}, false},
		"origin's roots":  {chain, ProxyOptions{Roots: other.Pool().CertPool, Name: "proxy.example"}, false},
		"expired":         {chain, ProxyOptions{Roots: roots, Name: "proxy.example", Time: time.Now().Add(31 * 24 * time.Hour)}, false},
		"not yet valid":   {chain, ProxyOptions{Roots: roots, Name: "proxy.example", Time: time.Now().Add(-2 * time.Hour)}, false},
		"no certificate":  {nil, ProxyOptions{Roots: roots, Name: "proxy.example"}, false},
		"no clientAuth":   {chainOf(t, noClient), ProxyOptions{Roots: roots, AsClient: true}, false},
		"no serverAuth":   {chainOf(t, noServer), ProxyOptions{Roots: roots, Name: "proxy.example"}, false},
		"client, profile": {chainOf(t, noServer), ProxyOptions{Roots: roots, AsClient: true}, false},
	} {
		got, err := VerifyProxy(tt.certs, tt.o)
		if (err == nil) != tt.ok {
			t.Errorf("%s: got %v", name, err)
		}
		if err != nil && errors.Is(err, ErrProfile) != strings.HasSuffix(name, "profile") {
			t.Errorf("%s: got %v", name, err)
		}
		if tt.ok && (len(got) != 2 || got[1] != a.Root && !got[1].Equal(a.Root)) {
			t.Errorf("%s: the chain does not end at the root", name)
		}
	}
}

// spec: PKI-5
func TestIntermediateMustBeAllowedToIssueForProxies(t *testing.T) {
	a := authority(t, "proxy root")
	for name, tt := range map[string]struct {
		ca *x509.Certificate
		ok bool
	}{
		"without a limit": {&x509.Certificate{}, true},
		"any usage":       {&x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}, true},
		"for proxies": {&x509.Certificate{
			ExtKeyUsage:        []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			UnknownExtKeyUsage: []asn1.ObjectIdentifier{OIDProxyAuthentication()},
		}, true},
		"for servers and clients": {&x509.Certificate{
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			tt.ca.Subject = pkix.Name{CommonName: name}
			inter, err := a.Intermediate(tt.ca)
			if err != nil {
				t.Fatal(err)
			}
			cert, err := inter.Proxy("proxy.example")
			if err != nil {
				t.Fatal(err)
			}
			chain, err := VerifyProxy(chainOf(t, cert), ProxyOptions{Roots: a.Pool().CertPool, Name: "proxy.example"})
			if tt.ok && (err != nil || len(chain) != 3) {
				t.Errorf("got %d certificates, %v", len(chain), err)
			}
			if !tt.ok && !errors.Is(err, ErrProfile) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// spec: PKI-6
func TestLeafOfAProxyIsNoOrigins(t *testing.T) {
	a := authority(t, "root")
	proxy, err := a.Proxy("a.example")
	if err != nil {
		t.Fatal(err)
	}
	origin, err := a.Origin("a.example")
	if err != nil {
		t.Fatal(err)
	}
	soft, err := a.Issue(&x509.Certificate{
		DNSNames:        []string{"a.example"},
		ExtraExtensions: []pkix.Extension{usages(t, false, serverAuth, OIDProxyAuthentication())},
	}, a.Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := RefuseProxyAsOrigin(proxy.Leaf); !errors.Is(err, ErrProxyAsOrigin) {
		t.Errorf("got %v", err)
	}
	if err := RefuseProxyAsOrigin(soft.Leaf); !errors.Is(err, ErrProxyAsOrigin) {
		t.Errorf("not critical: got %v", err)
	}
	if err := RefuseProxyAsOrigin(origin.Leaf); err != nil {
		t.Errorf("got %v", err)
	}
	// The traps that make this check necessary: x509 is content with a proxy's leaf for an origin.
	if _, err := proxy.Leaf.Verify(x509.VerifyOptions{DNSName: "a.example", Roots: a.Pool().CertPool}); err != nil {
		t.Errorf("x509 has learnt of the usage: %v", err)
	}
}

// x509 would take the system's roots, which vouch for origins.
func TestProxyPoolHasNoDefault(t *testing.T) {
	cert, err := authority(t, "root").Proxy("proxy.example")
	if err != nil {
		t.Fatal(err)
	}
	_, err = VerifyProxy(chainOf(t, cert), ProxyOptions{Name: "proxy.example"})
	if err == nil || !strings.Contains(err.Error(), "no proxy roots") {
		t.Errorf("got %v", err)
	}
}

func TestCheckProxyCertificateLooksAtTheClock(t *testing.T) {
	a := authority(t, "root")
	cert, err := a.Proxy("proxy.example")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		at   time.Time
		want string
	}{
		{time.Now(), ""},
		{time.Now().Add(-2 * time.Hour), "not valid before"},
		{time.Now().Add(31 * 24 * time.Hour), "expired at"},
	} {
		err := CheckProxyCertificate(cert, tt.at)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
	if err := CheckProxyCertificate(tls.Certificate{}, time.Now()); err == nil {
		t.Error("no certificate passes")
	}
	if err := CheckProxyCertificate(tls.Certificate{Certificate: [][]byte{[]byte("garbage")}}, time.Now()); err == nil {
		t.Error("garbage passes")
	}
}

func TestHashes(t *testing.T) {
	a := authority(t, "root")
	one, err := a.Issue(&x509.Certificate{DNSNames: []string{"a.example"}}, a.Key)
	if err != nil {
		t.Fatal(err)
	}
	two, err := a.Issue(&x509.Certificate{DNSNames: []string{"a.example"}}, a.Key)
	if err != nil {
		t.Fatal(err)
	}
	if LeafHash(one.Leaf) == LeafHash(two.Leaf) {
		t.Error("two certificates with one hash")
	}
	if SPKIHash(one.Leaf) != SPKIHash(two.Leaf) || SPKIHash(one.Leaf) == LeafHash(one.Leaf) {
		t.Error("one key with two hashes")
	}
}

// A handshake of crypto/tls alone accepts everything that the profile is about.
func TestVerifyProxyInVerifyConnection(t *testing.T) {
	a := authority(t, "root")
	for name, tt := range map[string]struct {
		issue func(...string) (tls.Certificate, error)
		ok    bool
	}{"a proxy's": {a.Proxy, true}, "an origin's": {a.Origin, false}} {
		cert, err := tt.issue("proxy.example")
		if err != nil {
			t.Fatal(err)
		}
		cs := tls.ConnectionState{PeerCertificates: chainOf(t, cert), ServerName: "proxy.example"}
		_, err = VerifyProxy(cs.PeerCertificates, ProxyOptions{Roots: a.Pool().CertPool, Name: cs.ServerName})
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOriginOfAKeyOfTheCallers(t *testing.T) {
	a := authority(t, "origins")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := a.OriginOf(key, "old.example", "192.0.2.7")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"old.example", "192.0.2.7"} {
		if _, err := cert.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: a.Pool().CertPool}); err != nil {
			t.Error(err)
		}
	}
	if !key.PublicKey.Equal(cert.Leaf.PublicKey) || cert.Leaf.KeyUsage&x509.KeyUsageKeyEncipherment == 0 {
		t.Errorf("%T, key usage %b", cert.Leaf.PublicKey, cert.Leaf.KeyUsage)
	}
	if _, err := a.OriginOf(key); err == nil {
		t.Error("a certificate without a name")
	}
}
