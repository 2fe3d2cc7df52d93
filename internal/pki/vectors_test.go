package pki

import (
	"crypto/x509"
	"testing"
	"time"

	"vitrine/spec/vectors"
	"vitrine/spec/vectors/vectorstest"
)

// spec: PKI-1 PKI-2 PKI-3 PKI-4
func TestVectorsProxyCertificate(t *testing.T) {
	class := func(err error) string {
		if err == nil {
			return vectors.Success
		}
		return vectors.Untrusted
	}
	vectorstest.Run(t, "proxy-certificate", class, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
		root, err := x509.ParseCertificate(vectorstest.Hex(t, v, "root"))
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(v.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		o := ProxyOptions{Roots: NewPool(root).CertPool, Time: time.UnixMilli(vectorstest.Int(t, v, "now ms"))}
		switch role := v.Inputs["role"]; role {
		case "server":
			o.Name = v.Inputs["name"]
		case "client":
			o.AsClient = true
		default:
			t.Fatalf("role %q", role)
		}
		_, err = VerifyProxy([]*x509.Certificate{leaf}, o)
		return nil, nil, err
	})
}
