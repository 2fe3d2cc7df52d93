package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// maxFile bounds what is read from a file that the user named: /dev/zero is a name too. The roots of
// a whole operating system are below 1 MiB.
const maxFile = 8 << 20

// Pool is an x509.CertPool whose certificates can be listed, for [CheckDisjoint].
type Pool struct {
	*x509.CertPool
	Certs []*x509.Certificate
}

// NewPool returns a pool of certs.
func NewPool(certs ...*x509.Certificate) *Pool {
	p := &Pool{CertPool: x509.NewCertPool(), Certs: certs}
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}

// LoadPool reads a PEM file of one or more certificates. Text between them is allowed, as in the
// bundles of operating systems; any other PEM block is an error.
func LoadPool(file string) (*Pool, error) {
	data, err := readFile(file)
	if err != nil {
		return nil, err
	}
	certs, err := parseCertificates(file, data)
	if err != nil {
		return nil, err
	}
	return NewPool(certs...), nil
}

// CheckDisjoint returns an error that names a root whose key both pools hold. A nil originRoots means
// the system's roots. Whoever could vouch for a proxy and for an origin could be both.
func CheckDisjoint(proxyRoots, originRoots *Pool) error {
	if originRoots == nil {
		return checkSystem(proxyRoots)
	}
	origins := make(map[[32]byte]bool, len(originRoots.Certs))
	for _, c := range originRoots.Certs {
		origins[SPKIHash(c)] = true
	}
	for _, c := range proxyRoots.Certs {
		if origins[SPKIHash(c)] {
			return fmt.Errorf("%q is both a proxy root and an origin root", c.Subject)
		}
	}
	return nil
}

// checkSystem asks the system's verifier, because its roots cannot be listed on every platform. A root
// that the system's roots vouch for is as bad as one that is among them.
func checkSystem(proxyRoots *Pool) error {
	for _, c := range proxyRoots.Certs {
		_, err := c.Verify(x509.VerifyOptions{
			CurrentTime: c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) / 2),
			KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		})
		if err == nil {
			return fmt.Errorf("%q is both a proxy root and a root of this system", c.Subject)
		}
	}
	return nil
}

// LoadKeyPair reads a PEM chain, leaf first, and its private key. It does not look at the clock.
func LoadKeyPair(certFile, keyFile string) (tls.Certificate, error) {
	certPEM, err := readFile(certFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	keyPEM, err := readFile(keyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	certs, err := parseChain(certFile, certPEM)
	if err != nil {
		return tls.Certificate{}, err
	}
	if !hasKey(keyPEM) {
		return tls.Certificate{}, fmt.Errorf("%s: no PEM private key in it", keyFile)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s is not the key of %s: %w", keyFile, certFile, err)
	}
	pair.Leaf = certs[0]
	return pair, nil
}

// Leaf is the end-entity certificate of cert, parsed where that was not done yet.
func Leaf(cert *tls.Certificate) (*x509.Certificate, error) {
	switch {
	case cert.Leaf != nil:
		return cert.Leaf, nil
	case len(cert.Certificate) == 0:
		return nil, errors.New("no certificate")
	}
	return x509.ParseCertificate(cert.Certificate[0])
}

// CheckProxyCertificate says whether cert can be a proxy's, on both hops, at the time now: the profile
// that [VerifyProxy] demands, and its validity.
func CheckProxyCertificate(cert tls.Certificate, now time.Time) error {
	if len(cert.Certificate) == 0 {
		return errors.New("no certificate")
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return fmt.Errorf("the certificate does not parse: %w", err)
	}
	if err := checkProfile(leaf); err != nil {
		return err
	}
	if now.Before(leaf.NotBefore) {
		return fmt.Errorf("the proxy's certificate is not valid before %s", leaf.NotBefore.Format(time.RFC3339))
	}
	if now.After(leaf.NotAfter) {
		return fmt.Errorf("the proxy's certificate expired at %s", leaf.NotAfter.Format(time.RFC3339))
	}
	return nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fileError(name, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fileError(name, err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: larger than %d bytes", name, maxFile)
	}
	return data, nil
}

func fileError(name string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return fmt.Errorf("%s: %w", name, err)
}

// parseCertificates takes certificates only: a key in a file of roots is a mistake to be told of.
func parseCertificates(file string, data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s: holds a PEM block %q; certificates only", file, b.Type)
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d: %w", file, len(certs)+1, err)
		}
		certs = append(certs, c)
	}
	if bytes.Contains(data, []byte("-----BEGIN")) {
		return nil, fmt.Errorf("%s: a PEM block in it is cut or damaged", file)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("%s: no PEM certificate in it", file)
	}
	return certs, nil
}

// parseChain skips keys: many tools write both into one file.
func parseChain(file string, data []byte) ([]*x509.Certificate, error) {
	var only []byte
	for rest := data; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if b.Type == "CERTIFICATE" {
			only = append(only, pem.EncodeToMemory(b)...)
		}
	}
	return parseCertificates(file, only)
}

func hasKey(data []byte) bool {
	for {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			return false
		}
		if b.Type == "PRIVATE KEY" || bytes.HasSuffix([]byte(b.Type), []byte(" PRIVATE KEY")) {
			return true
		}
	}
}
