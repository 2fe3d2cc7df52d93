package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// The two authorities of a test PKI, by the names of their files.
const (
	originRoot = "root"
	proxyRoot  = "proxy-root"
)

// Init makes a test PKI in dir: root.pem and root.key for origins, proxy-root.pem and proxy-root.key
// for proxies. It makes dir when there is none, and writes nothing when any of the files is there already.
func Init(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fileError(dir, err)
	}
	for _, name := range []string{originRoot, proxyRoot} {
		for _, ext := range []string{".pem", ".key"} {
			file := filepath.Join(dir, name+ext)
			if _, err := os.Lstat(file); err == nil {
				return fmt.Errorf("%s: exists already", file)
			}
		}
	}
	// Two PKIs on a machine must not have roots of one name: x509's errors would then say that the
	// right root signed wrongly.
	var id [4]byte
	if _, err := rand.Read(id[:]); err != nil {
		return err
	}
	for _, r := range []struct{ file, what string }{{originRoot, "origin"}, {proxyRoot, "proxy"}} {
		a, err := NewAuthority(fmt.Sprintf("Vitrine test %s root %s", r.what, hex.EncodeToString(id[:])), time.Now())
		if err != nil {
			return err
		}
		if err := writePair(dir, r.file, [][]byte{a.Root.Raw}, a.Key); err != nil {
			return err
		}
	}
	return nil
}

// IssueOrigin writes NAME.pem and NAME.key for an origin with these DNS names and IP literals; the
// first names the files. Files that exist are never overwritten.
func IssueOrigin(dir string, names ...string) error {
	return issue(dir, originRoot, names, (*Authority).Origin)
}

// IssueProxy writes NAME.pem and NAME.key for a proxy, valid for 30 days.
func IssueProxy(dir, name string) error {
	return issue(dir, proxyRoot, []string{name}, (*Authority).Proxy)
}

func issue(dir, root string, names []string, f func(*Authority, ...string) (tls.Certificate, error)) error {
	a, err := loadAuthority(dir, root)
	if err != nil {
		return err
	}
	cert, err := f(a, names...)
	if err != nil {
		return err
	}
	return writePair(dir, names[0], cert.Certificate, cert.PrivateKey)
}

func loadAuthority(dir, name string) (*Authority, error) {
	pair, err := LoadKeyPair(filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w (is %s a directory that \"pki init\" made?)", err, dir)
	}
	if err != nil {
		return nil, err
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !pair.Leaf.IsCA {
		return nil, fmt.Errorf("%s.pem is no certificate authority's", filepath.Join(dir, name))
	}
	now := time.Now()
	if now.After(pair.Leaf.NotAfter) {
		return nil, fmt.Errorf("%s.pem expired at %s", filepath.Join(dir, name), pair.Leaf.NotAfter.Format(time.RFC3339))
	}
	return &Authority{Root: pair.Leaf, Key: key, now: now}, nil
}

// writePair writes the key first: a certificate whose key is lost would be in the way of the next try.
func writePair(dir, name string, chain [][]byte, key any) (err error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	keyFile := filepath.Join(dir, name+".key")
	certFile := filepath.Join(dir, name+".pem")
	if err := writeNew(keyFile, 0o600, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
		return err
	}
	var certs []byte
	for _, c := range chain {
		certs = append(certs, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	if err := writeNew(certFile, 0o644, certs); err != nil {
		os.Remove(keyFile) // ours: writeNew made it a moment ago
		return err
	}
	return nil
}

// writeNew never touches a file that is there, and leaves none behind that is half written.
func writeNew(name string, mode fs.FileMode, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: exists already", name)
	}
	if err != nil {
		return fileError(name, err)
	}
	_, err = f.Write(data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(name)
		return fileError(name, err)
	}
	return nil
}
