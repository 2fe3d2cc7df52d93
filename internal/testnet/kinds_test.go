package testnet

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"net/http"
	"sync"
	"testing"

	"vitrine/origin"
)

// A kind is what an origin can do for those who shall not have to trust a proxy.
type kind string

const (
	kindToken   kind = "token"                 // inner sessions
	kindSigning kind = "signing"               // no inner sessions; its responses are signed
	kindStock   kind = "stock"                 // net/http as it ships: TLS 1.3, HTTP/2
	kindStock11 kind = "stock, HTTP/1.1"       // the same, without HTTP/2
	kindECDHE12 kind = "TLS 1.2, ECDHE"        // an old one
	kindRSA12   kind = "TLS 1.2, RSA exchange" // one that no evidence can be had of
)

func kinds() []kind {
	return []kind{kindToken, kindSigning, kindStock, kindStock11, kindECDHE12, kindRSA12}
}

// rsaKey is made once: it takes long.
var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// as makes the origin of cfg one of kind k, whose handler is set.
func (k kind) as(t *testing.T, cfg Config) Config {
	t.Helper()
	if k == kindToken {
		return cfg
	}
	cfg.Stock = true
	cfg.Origin = func(n *Net, srv *http.Server, _ *origin.Config) {
		switch k {
		case kindSigning:
			srv.Handler = n.sign(srv.Handler, srv.TLSConfig)
		case kindStock11:
			srv.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
		case kindECDHE12:
			srv.TLSConfig.MaxVersion = tls.VersionTLS12
		case kindRSA12:
			key, err := rsaKey()
			if err != nil {
				n.Fatal(err)
			}
			n.OriginCert = n.certificate(n.Origins.OriginOf(key, n.cfg.Names...))
			srv.TLSConfig.Certificates = []tls.Certificate{n.OriginCert}
			srv.TLSConfig.MaxVersion = tls.VersionTLS12
			srv.TLSConfig.CipherSuites = []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
			srv.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
		}
	}
	return cfg
}

// sign makes h a handler that signs its responses.
func (n *Net) sign(h http.Handler, cfg *tls.Config) http.Handler {
	n.Helper()
	signed, err := origin.SignResponses(h, &origin.SignConfig{TLSConfig: cfg})
	if err != nil {
		n.Fatal(err)
	}
	return signed
}
