package itls

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"testing"
	"time"

	"vitrine/internal/tlsmsg"
)

// hugeAuthority is an intermediate certificate with an RSA key of so many bits, to which nobody has the
// private half: whoever verifies a signature by it works for as long as the sender likes.
func hugeAuthority(t *testing.T, bits uint) []byte {
	t.Helper()
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	n.SetBit(n, 0, 1)
	root := identities().root
	template := &x509.Certificate{
		SerialNumber: nextSerial(),
		Subject:      pkix.Name{CommonName: "huge"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IsCA:         true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, root.cert, &rsa.PublicKey{N: n, E: 65537}, root.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestChainWithAKeyThatIsSlowToVerifyIsRefused(t *testing.T) {
	for _, bits := range []uint{8192, 8193, 100_000} {
		der := hugeAuthority(t, bits)
		with := func(cert tls.Certificate) tls.Certificate {
			cert.Certificate = append(cert.Certificate[:1:1], der)
			return cert
		}
		for _, ofClient := range []bool{false, true} {
			cc, sc := clientConfig(), serverConfig()
			if ofClient {
				cc.TLS.Certificates = []tls.Certificate{with(identities().client)}
				sc.TLS.ClientAuth, sc.TLS.ClientCAs = tls.RequireAndVerifyClientCert, identities().root.pool
			} else {
				sc.TLS.Certificates = []tls.Certificate{with(identities().server)}
			}
			a, b := newPipe()
			client, server := Client(a, cc), Server(b, sc)
			err, other := shake(client, server)
			if ofClient {
				err = other
			}
			a.Close()
			b.Close()
			if bits <= 8192 {
				if err != nil {
					t.Errorf("%d bits: %v", bits, err)
				}
				continue
			}
			var cert *CertificateError
			var alert *AlertError
			if !errors.As(err, &cert) || !errors.As(err, &alert) || alert.Alert != tlsmsg.AlertBadCertificate {
				t.Errorf("%d bits, of the client %v: %v, want a CertificateError and bad_certificate", bits, ofClient, err)
			}
		}
	}
}
