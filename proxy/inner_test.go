package proxy

import (
	"crypto/rand"
	"crypto/tls"
	"testing"

	"vitrine/internal/tlsmsg"
)

// The functions here write an inner session that only looks like one: its keys and MACs are random.
// The proxy has neither and cannot tell.

const (
	innerTag = 32 // of TLS_SHA256_SHA256
	recordOf = tlsmsg.RecordHeaderLen + 1 + innerTag
)

// clear is an unprotected record.
func clearRecord(typ tlsmsg.ContentType, p []byte) []byte {
	h := tlsmsg.RecordHeader{Type: typ, Version: tls.VersionTLS12, Length: len(p)}
	return append(h.Append(nil), p...)
}

// protected is a record of RFC 9150, recordOf bytes longer than p.
func protected(typ tlsmsg.ContentType, p []byte) []byte {
	h := tlsmsg.RecordHeader{Type: tlsmsg.TypeApplicationData, Version: tls.VersionTLS12, Length: len(p) + 1 + innerTag}
	b := append(append(h.Append(nil), p...), byte(typ))
	tag := make([]byte, innerTag)
	rand.Read(tag)
	return append(b, tag...)
}

// data is application data in records of at most 16,000 bytes.
func data(p []byte) []byte {
	var b []byte
	for len(p) > 0 {
		n := min(len(p), 16000)
		b = append(b, protected(tlsmsg.TypeApplicationData, p[:n])...)
		p = p[n:]
	}
	return b
}

func closeNotify() []byte { return protected(tlsmsg.TypeAlert, []byte{1, 0}) }

// innerHello is the client's first record.
func innerHello(t *testing.T, offer *tlsmsg.InspectionOffer, host string) []byte {
	t.Helper()
	var x tlsmsg.ExtensionBuilder
	x.ServerName(host)
	x.ALPN("http/1.1")
	x.SupportedVersions(tls.VersionTLS13)
	x.SupportedGroups([]tls.CurveID{tls.X25519})
	x.SignatureAlgorithms(tlsmsg.Schemes())
	x.KeyShares(tlsmsg.KeyShare{Group: tls.X25519, Data: make([]byte, 32)})
	x.InspectionOffer(offer)
	exts, err := x.Extensions()
	if err != nil {
		t.Fatal(err)
	}
	h := &tlsmsg.ClientHello{
		LegacyVersion: tls.VersionTLS12, CipherSuites: []uint16{tlsmsg.SuiteSHA256}, Compression: []byte{0}, Extensions: exts,
	}
	msg, err := h.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return clearRecord(tlsmsg.TypeHandshake, msg)
}

// innerServerFlight is all that the server says before the client's Finished.
func innerServerFlight(t *testing.T) []byte {
	t.Helper()
	var x, ee tlsmsg.ExtensionBuilder
	x.SelectedVersion(tls.VersionTLS13)
	x.KeyShare(tlsmsg.KeyShare{Group: tls.X25519, Data: make([]byte, 32)})
	ee.ALPN("http/1.1")
	xs, err := x.Extensions()
	if err != nil {
		t.Fatal(err)
	}
	ees, err := ee.Extensions()
	if err != nil {
		t.Fatal(err)
	}
	var b []byte
	add := func(msg []byte, err error) {
		if err != nil {
			t.Fatal(err)
		}
		if b == nil {
			b = clearRecord(tlsmsg.TypeHandshake, msg)
			return
		}
		b = append(b, protected(tlsmsg.TypeHandshake, msg)...)
	}
	add((&tlsmsg.ServerHello{LegacyVersion: tls.VersionTLS12, Random: [32]byte{1}, CipherSuite: tlsmsg.SuiteSHA256, Extensions: xs}).Append(nil))
	add((&tlsmsg.EncryptedExtensions{Extensions: ees}).Append(nil))
	add((&tlsmsg.Certificate{Entries: []tlsmsg.CertificateEntry{{Cert: []byte("not looked at")}}}).Append(nil))
	add((&tlsmsg.CertificateVerify{Scheme: tls.ECDSAWithP256AndSHA256, Signature: []byte("nor this")}).Append(nil))
	add((&tlsmsg.Finished{VerifyData: make([]byte, 32)}).Append(nil))
	return b
}

func innerClientFinished(t *testing.T) []byte {
	t.Helper()
	msg, err := (&tlsmsg.Finished{VerifyData: make([]byte, 32)}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return protected(tlsmsg.TypeHandshake, msg)
}
