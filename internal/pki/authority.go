package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"vitrine/internal/fields"
)

const (
	rootLifetime = 365 * 24 * time.Hour
	leafLifetime = 90 * 24 * time.Hour
	// backdate keeps a fresh certificate good on a machine whose clock is a little behind.
	backdate = time.Hour
)

// Authority is a certificate authority for tests and demonstrations, with its key in memory. A PKI of
// ours has two, one for origins and one for proxies. Make it with [NewAuthority].
type Authority struct {
	Root *x509.Certificate
	Key  crypto.Signer

	now   time.Time
	chain [][]byte // of an intermediate: its own certificates below the root
}

// NewAuthority makes a root with the common name name, valid for a year from now. What it issues is
// valid from now too. All keys are ECDSA P-256.
func NewAuthority(name string, now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	a := &Authority{Key: key, now: now}
	cert, err := a.Issue(&x509.Certificate{
		Subject:  pkix.Name{CommonName: name},
		NotAfter: now.Add(rootLifetime),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,

		BasicConstraintsValid: true,
		IsCA:                  true,
	}, key)
	if err != nil {
		return nil, err
	}
	a.Root = cert.Leaf
	return a, nil
}

// Pool returns a pool that holds the root alone.
func (a *Authority) Pool() *Pool { return NewPool(a.Root) }

// Origin issues a server certificate for DNS names and IP literals.
func (a *Authority) Origin(names ...string) (tls.Certificate, error) {
	return a.leaf(names, &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
}

// OriginOf is Origin for a key of the caller's. The certificate allows what TLS 1.2 does with a key of RSA, too.
func (a *Authority) OriginOf(key crypto.Signer, names ...string) (tls.Certificate, error) {
	t := &x509.Certificate{
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if err := setNames(t, names); err != nil {
		return tls.Certificate{}, err
	}
	return a.Issue(t, key)
}

// Proxy issues a certificate of the profile that [VerifyProxy] demands.
func (a *Authority) Proxy(names ...string) (tls.Certificate, error) {
	ext, err := ProxyUsage()
	if err != nil {
		return tls.Certificate{}, err
	}
	return a.leaf(names, &x509.Certificate{
		NotAfter:        a.now.Add(MaxProxyLifetime - backdate),
		ExtraExtensions: []pkix.Extension{ext},
	})
}

// Client issues a client certificate with the common name name and no other names.
func (a *Authority) Client(name string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	return a.Issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, key)
}

// Intermediate issues a CA below a. template may narrow it (ExtKeyUsage, name constraints); its
// validity is filled in where it is empty.
func (a *Authority) Intermediate(template *x509.Certificate) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := *template
	t.BasicConstraintsValid, t.IsCA = true, true
	t.KeyUsage |= x509.KeyUsageCertSign
	cert, err := a.Issue(&t, key)
	if err != nil {
		return nil, err
	}
	return &Authority{Root: cert.Leaf, Key: key, now: a.now, chain: cert.Certificate}, nil
}

// Issue signs template for key as it is; an empty validity is filled in, and x509 picks a serial number.
// Tests make certificates with it that the other methods would not.
func (a *Authority) Issue(template *x509.Certificate, key crypto.Signer) (tls.Certificate, error) {
	t := *template
	if t.NotBefore.IsZero() {
		t.NotBefore = a.now.Add(-backdate)
	}
	if t.NotAfter.IsZero() {
		t.NotAfter = a.now.Add(leafLifetime)
	}
	parent := a.Root
	if parent == nil {
		parent = &t
	}
	der, err := x509.CreateCertificate(rand.Reader, &t, parent, key.Public(), a.Key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: append([][]byte{der}, a.chain...), PrivateKey: key, Leaf: leaf}, nil
}

func (a *Authority) leaf(names []string, t *x509.Certificate) (tls.Certificate, error) {
	if err := setNames(t, names); err != nil {
		return tls.Certificate{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	return a.Issue(t, key)
}

// ProxyUsage is the extended key usage extension of a proxy's certificate, for CA software that can
// only copy extensions, and for templates.
func ProxyUsage() (pkix.Extension, error) {
	value, err := asn1.Marshal([]asn1.ObjectIdentifier{
		OIDProxyAuthentication(),
		{1, 3, 6, 1, 5, 5, 7, 3, 1}, // serverAuth
		{1, 3, 6, 1, 5, 5, 7, 3, 2}, // clientAuth
	})
	return pkix.Extension{Id: oidExtKeyUsage(), Critical: true, Value: value}, err
}

func setNames(t *x509.Certificate, names []string) error {
	if len(names) == 0 {
		return errors.New("a certificate needs a name")
	}
	for _, n := range names {
		dns, ip, err := parseName(n)
		if err != nil {
			return err
		}
		if ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, dns)
		}
	}
	t.Subject.CommonName = names[0]
	if len(names[0]) > 64 {
		t.Subject.CommonName = "" // ub-common-name (RFC 5280 A.1); the name is in subjectAltName
	}
	return nil
}

// parseName takes what can be the host of an authority, which is nothing that a file name could not be.
func parseName(name string) (dns string, ip net.IP, err error) {
	bad := func(why string) (string, net.IP, error) {
		return "", nil, fmt.Errorf("%q cannot be a certificate's name: %s", name, why)
	}
	if strings.ContainsAny(name, "/\\[]") {
		return bad("a host name or IP address alone, without scheme, brackets or port")
	}
	authority, err := fields.CanonicalAuthority(name, 443)
	if err != nil {
		return bad(err.Error())
	}
	host, _, err := fields.ParseAuthority(authority)
	if err != nil {
		return bad(err.Error())
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return "", addr.AsSlice(), nil
	}
	return host, nil, nil
}
