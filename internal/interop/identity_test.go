package interop

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// host is what servers' certificates are for.
const host = "origin.example"

// kinds are the signatures in common.
var kinds = []string{"ECDSA P-256", "ECDSA P-384", "ECDSA P-521", "Ed25519", "RSA-PSS"}

// An identity is a certificate with its key, here and in files that a peer reads.
type identity struct {
	cert            tls.Certificate
	certFile        string
	keyFile, others string // others: the certificates behind the leaf
}

// A party of identities has one root.
type party struct {
	dir    string
	root   *x509.Certificate
	key    crypto.Signer
	pool   *x509.CertPool
	file   string // the root
	serial int64

	servers, clients map[string]*identity
	long             *identity // a server with a chain that fits no record
}

func newKey(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case "ECDSA P-256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ECDSA P-384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ECDSA P-521":
		key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "Ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "RSA-PSS":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		t.Fatalf("no key of kind %q", kind)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// newParty makes a root and, of each kind, a server and a client.
func newParty(t testing.TB) *party {
	t.Helper()
	p := &party{dir: t.TempDir(), key: newKey(t, kinds[0]), servers: make(map[string]*identity), clients: make(map[string]*identity)}
	template := p.template("interop root")
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, p.key.Public(), p.key)
	if err != nil {
		t.Fatal(err)
	}
	if p.root, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	p.pool = x509.NewCertPool()
	p.pool.AddCert(p.root)
	p.file = p.save(t, "root.pem", certificatePEM(der))
	for _, kind := range kinds {
		p.servers[kind] = p.issue(t, kind, x509.ExtKeyUsageServerAuth)
		p.clients[kind] = p.issue(t, kind, x509.ExtKeyUsageClientAuth)
	}
	// A few of 8 KiB, because we take 16 at most.
	large := p.template("large")
	large.ExtraExtensions = []pkix.Extension{{Id: []int{2, 999, 1}, Value: make([]byte, 8<<10)}}
	var others [][]byte
	for range 6 {
		der, err := x509.CreateCertificate(rand.Reader, large, p.root, p.key.Public(), p.key)
		if err != nil {
			t.Fatal(err)
		}
		others = append(others, der)
	}
	p.long = p.issue(t, kinds[0], x509.ExtKeyUsageServerAuth, others...)
	return p
}

func (p *party) template(name string) *x509.Certificate {
	p.serial++
	return &x509.Certificate{
		SerialNumber: big.NewInt(p.serial),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(1, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

func (p *party) issue(t testing.TB, kind string, usage x509.ExtKeyUsage, others ...[]byte) *identity {
	t.Helper()
	key := newKey(t, kind)
	template := p.template(kind)
	template.ExtKeyUsage = []x509.ExtKeyUsage{usage}
	if usage == x509.ExtKeyUsageServerAuth {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, p.root, key.Public(), p.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	id := &identity{cert: tls.Certificate{Certificate: append([][]byte{der}, others...), PrivateKey: key}}
	id.certFile = p.save(t, fmt.Sprintf("%d.pem", p.serial), certificatePEM(der))
	id.keyFile = p.save(t, fmt.Sprintf("%d.key", p.serial), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	if len(others) > 0 {
		id.others = p.save(t, fmt.Sprintf("%d-others.pem", p.serial), certificatePEM(others...))
	}
	return id
}

func certificatePEM(list ...[]byte) []byte {
	var b bytes.Buffer
	for _, der := range list {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der}) // a Buffer takes everything
	}
	return b.Bytes()
}

func (p *party) save(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
