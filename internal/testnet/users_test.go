package testnet

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"vitrine/internal/pki"
)

// users is a root for clients' certificates.
type users struct{ *pki.Authority }

func newUsers(t *testing.T) (*users, error) {
	t.Helper()
	a, err := pki.NewAuthority("Users", time.Now())
	return &users{a}, err
}

func (u *users) pool() *x509.CertPool { return u.Pool().CertPool }

func (u *users) client(t *testing.T, name string) tls.Certificate {
	t.Helper()
	cert, err := u.Client(name)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
