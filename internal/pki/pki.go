// Package pki is trust: the certificate profile of proxies, the two pools of roots, and a test PKI.
//
// A client that has dialled a proxy calls [VerifyProxy] in VerifyConnection; an origin calls it with
// AsClient on the certificate that the proxy shows on hop 2. Whoever verifies an origin calls
// [RefuseProxyAsOrigin] on its leaf. [LoadPool], [CheckDisjoint] and [LoadKeyPair] read what is on
// disk; [Init], [IssueOrigin] and [IssueProxy] make a test PKI there, and [NewAuthority] one in memory.
//
// crypto/x509 enforces nothing about an extended key usage that it does not know, not even that its
// extension is critical: it counts the extension as handled. So the profile is checked here by hand.
package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"
)

// MaxProxyLifetime is the longest validity of a proxy's leaf. Who steals its key can stand in for that
// proxy until then; nothing revokes it sooner.
const MaxProxyLifetime = 30 * 24 * time.Hour

// OIDProxyAuthentication is the extended key usage of a proxy that inspects: an experimental number
// below the enterprise number that is reserved for examples (RFC 5612).
func OIDProxyAuthentication() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 32473, 1, 1}
}

func oidExtKeyUsage() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 29, 37} }

// LeafHash is the name of a certificate in every message of ours: SHA-256 of its DER.
func LeafHash(cert *x509.Certificate) [32]byte { return sha256.Sum256(cert.Raw) }

// SPKIHash is SHA-256 of the DER of the certificate's SubjectPublicKeyInfo: what consent is tied to.
func SPKIHash(cert *x509.Certificate) [32]byte { return sha256.Sum256(cert.RawSubjectPublicKeyInfo) }

// ErrProfile is what a certificate wraps that is not a proxy's although its chain is good.
var ErrProfile = errors.New("not a proxy's certificate")

// ErrProxyAsOrigin says that the certificate of a proxy was shown as an origin's.
var ErrProxyAsOrigin = errors.New("the certificate of a proxy cannot be an origin's")

// ProxyOptions say what a proxy's certificate has to be good for.
type ProxyOptions struct {
	// Roots are the proxy roots. There is no default: nil is an error, because x509 would take the
	// system's roots, which vouch for origins.
	Roots *x509.CertPool
	// Name is the DNS name or IP literal that the proxy was dialled by. Required unless AsClient.
	Name string
	// AsClient verifies a certificate that was shown by a TLS client: for clientAuth, and for no name.
	AsClient bool
	// Time is the moment to verify for. Default: now.
	Time time.Time
}

// VerifyProxy verifies the certificates that a proxy showed, leaf first, and returns the chain, root
// last. The error wraps [ErrProfile] when the chain is good and the leaf is not a proxy's.
func VerifyProxy(certs []*x509.Certificate, o ProxyOptions) ([]*x509.Certificate, error) {
	if len(certs) == 0 {
		return nil, errors.New("the proxy showed no certificate")
	}
	if o.Roots == nil {
		return nil, errors.New("no proxy roots are configured")
	}
	if o.Name == "" && !o.AsClient {
		return nil, errors.New("no name to verify the proxy by")
	}
	usage := x509.ExtKeyUsageServerAuth
	if o.AsClient {
		usage = x509.ExtKeyUsageClientAuth
	}
	opts := x509.VerifyOptions{
		Roots:         o.Roots,
		Intermediates: x509.NewCertPool(),
		CurrentTime:   o.Time,
		KeyUsages:     []x509.ExtKeyUsage{usage},
	}
	if !o.AsClient {
		opts.DNSName = o.Name
	}
	for _, c := range certs[1:] {
		opts.Intermediates.AddCert(c)
	}
	chains, err := certs[0].Verify(opts)
	if err != nil {
		return nil, err
	}
	if err := checkProfile(certs[0]); err != nil {
		return nil, err
	}
	for _, chain := range chains {
		if err = checkAuthorities(chain); err == nil {
			return chain, nil
		}
	}
	return nil, err
}

// checkProfile is what a proxy's leaf has to be, whatever it chains to.
func checkProfile(leaf *x509.Certificate) error {
	critical, ok := extKeyUsage(leaf)
	switch {
	case !ok:
		return fmt.Errorf("%w: it has no extended key usage", ErrProfile)
	case !hasOID(leaf):
		return fmt.Errorf("%w: its extended key usage lacks proxyAuthentication (%v)", ErrProfile, OIDProxyAuthentication())
	case !critical:
		return fmt.Errorf("%w: its extended key usage is not critical", ErrProfile)
	case !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth):
		return fmt.Errorf("%w: its extended key usage lacks serverAuth", ErrProfile)
	case !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth):
		return fmt.Errorf("%w: its extended key usage lacks clientAuth", ErrProfile)
	case leaf.BasicConstraintsValid && leaf.IsCA:
		return fmt.Errorf("%w: it is a certificate authority's", ErrProfile)
	case leaf.NotAfter.Sub(leaf.NotBefore) > MaxProxyLifetime:
		return fmt.Errorf("%w: it is valid for %v, more than 30 days", ErrProfile, leaf.NotAfter.Sub(leaf.NotBefore))
	}
	return nil
}

// checkAuthorities refuses a CA that was issued for something else. The root speaks for itself: it is
// in the pool because the user put it there.
func checkAuthorities(chain []*x509.Certificate) error {
	for i := 1; i < len(chain)-1; i++ {
		c := chain[i]
		if _, ok := extKeyUsage(c); !ok || hasOID(c) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) {
			continue
		}
		return fmt.Errorf("%w: its issuer %q may not issue for proxyAuthentication", ErrProfile, c.Subject)
	}
	return nil
}

// RefuseProxyAsOrigin returns [ErrProxyAsOrigin] for a leaf that carries proxyAuthentication, critical
// or not: a proxy's key is to open no origin.
func RefuseProxyAsOrigin(leaf *x509.Certificate) error {
	if hasOID(leaf) {
		return ErrProxyAsOrigin
	}
	return nil
}

func hasOID(c *x509.Certificate) bool {
	return slices.ContainsFunc(c.UnknownExtKeyUsage, OIDProxyAuthentication().Equal)
}

func extKeyUsage(c *x509.Certificate) (critical, present bool) {
	for _, e := range c.Extensions {
		if e.Id.Equal(oidExtKeyUsage()) {
			return e.Critical, true
		}
	}
	return false, false
}
