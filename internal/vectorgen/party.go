package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"time"
)

// A party has a key that is public knowledge, so that whoever makes vectors of their own can sign with
// it: Ed25519 from a seed of 32 equal bytes, or P-256 with such a scalar. Both sign deterministically (ECDSA
// by RFC 6979), and so the files are the same each time.
type party struct {
	key  crypto.Signer
	cert *x509.Certificate
}

const (
	schemeP256    = 0x0403
	schemeEd25519 = 0x0807
)

// The moment of the vectors, in milliseconds: 2025-11-24T16:00:00.123Z.
const moment = 1764000000123

// validity of the certificates of the vectors; a proxy's is below 30 days.
func notBefore() time.Time { return time.Date(2025, 11, 1, 0, 0, 0, 0, time.UTC) }

func seeded(seed byte) crypto.Signer { return ed25519.NewKeyFromSeed(fill(seed, ed25519.SeedSize)) }

func scalar(seed byte) crypto.Signer {
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), fill(seed, 32))
	if err != nil {
		panic(err) // no input reaches this
	}
	return key
}

// issue makes a certificate of template for key; a nil issuer signs for itself.
func issue(issuer *party, key crypto.Signer, template x509.Certificate) *party {
	p := &party{key: key}
	template.SubjectKeyId = sha256Of(template.RawSubject, text(template.Subject.CommonName))[:20]
	template.NotBefore = notBefore()
	if template.NotAfter.IsZero() {
		template.NotAfter = notBefore().AddDate(10, 0, 0)
	}
	template.SerialNumber = new(big.Int).SetBytes(sha256Of(text(template.Subject.CommonName), template.Raw)[:8])
	signer, parent := p, &template
	if issuer != nil {
		signer, parent = issuer, issuer.cert
	}
	der, err := x509.CreateCertificate(bytes.NewReader(nil), &template, parent, key.Public(), signer.key)
	if err == nil {
		p.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		panic(err) // no input reaches this
	}
	return p
}

func root(name string, seed byte) *party {
	return issue(nil, seeded(seed), x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
}

func originRoot() *party   { return root("vectors: origin root", 1) }
func strangerRoot() *party { return root("vectors: a root of somebody else", 2) }
func proxyRoot() *party    { return root("vectors: proxy root", 3) }

const (
	originHost = "origin.example"
	originAuth = originHost + ":443"
	proxyName  = "proxy.example"
)

func webServer(name string) x509.Certificate {
	t := x509.Certificate{
		Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if ip := net.ParseIP(name); ip != nil {
		t.IPAddresses = []net.IP{ip}
	} else {
		t.DNSNames = []string{name}
	}
	return t
}

func origin() *party     { return issue(originRoot(), seeded(4), webServer(originHost)) }
func originP256() *party { return issue(originRoot(), scalar(5), webServer(originHost)) }

// usage is an extended key usage as a proxy's certificate has it (section 5.1 of the specification).
func usage(critical bool, oids ...asn1.ObjectIdentifier) pkix.Extension {
	value, err := asn1.Marshal(oids)
	if err != nil {
		panic(err) // no input reaches this
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: critical, Value: value}
}

func serverAuth() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1} }
func clientAuth() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2} }
func proxyAuth() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 32473, 1, 1}
}

// proxyTemplate is the profile of a proxy's leaf; a generator changes what its vector is about.
func proxyTemplate() x509.Certificate { return proxyAt(proxyName) }

func proxyAt(name string) x509.Certificate {
	t := webServer(name)
	t.ExtKeyUsage = nil
	t.ExtraExtensions = []pkix.Extension{usage(true, proxyAuth(), serverAuth(), clientAuth())}
	t.NotAfter = notBefore().AddDate(0, 0, 30)
	return t
}

func proxy() *party     { return issue(proxyRoot(), seeded(6), proxyTemplate()) }
func proxyP256() *party { return issue(proxyRoot(), scalar(7), proxyTemplate()) }

// leaf names the party in messages of this protocol.
func (p *party) leaf() []byte { return sha256Of(p.cert.Raw) }

func (p *party) scheme() uint16 {
	if _, ok := p.key.(ed25519.PrivateKey); ok {
		return schemeEd25519
	}
	return schemeP256
}

// sign signs as TLS 1.3 does (RFC 8446, section 4.4.3), and verdicts with it.
func (p *party) sign(context string, content []byte) []byte {
	return p.signBare(join(fill(' ', 64), text(context), u8(0), content))
}

// signBare signs what TLS 1.2 does: the content itself.
func (p *party) signBare(content []byte) []byte {
	options := crypto.SignerOpts(crypto.Hash(0))
	if p.scheme() == schemeP256 {
		sum := sha256.Sum256(content)
		content, options = sum[:], crypto.SHA256
	}
	sig, err := p.key.Sign(nil, content, options)
	if err != nil {
		panic(err) // no input reaches this
	}
	return sig
}
