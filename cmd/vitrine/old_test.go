package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdOld is "old NAME PKI HOST": an HTTPS server of TLS 1.2 with RSA key exchange, of which no transcript proves
// anything, on $NAME. Its certificate is issued by the root for origins in PKI; it answers with the path.
func cmdOld(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: old NAME PKI HOST")
	}
	root, err := tls.LoadX509KeyPair(ts.MkAbs(args[1]+"/root.pem"), ts.MkAbs(args[1]+"/root.key"))
	ts.Check(err)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	ts.Check(err)
	now := time.Now()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: args[2]}, DNSNames: []string{args[2]},
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, root.Leaf, key.Public(), root.PrivateKey)
	ts.Check(err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(args[0], ln.Addr().String())
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // HTTP/2 forbids the suite
	srv := &http.Server{
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
			MaxVersion:   tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256},
		},
		Protocols: protocols,
		ErrorLog:  log.New(io.Discard, "", 0),
		Handler:   http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path) }),
	}
	go srv.ServeTLS(ln, "", "")
	ts.Defer(func() { srv.Close() })
}
