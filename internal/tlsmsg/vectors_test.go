package tlsmsg

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"testing"

	"vitrine/spec/vectors"
	"vitrine/spec/vectors/vectorstest"
)

// vectorClass knows one class of error only: what else a parser here can say is the alert.
func vectorClass(err error) string {
	if err == nil {
		return vectors.Success
	}
	if _, ok := errors.AsType[*ParseError](err); !ok {
		return "an error that is not *ParseError"
	}
	return vectors.Malformed
}

// spec: INS-1 INS-2 INS-3 INS-4
func TestVectorsInspectionOffer(t *testing.T) {
	meaning := func(o *InspectionOffer, err error) (map[string]string, []byte, error) {
		if err != nil {
			return nil, nil, err
		}
		var proxies []byte
		for _, p := range o.Proxies {
			proxies = append(proxies, p[:]...)
		}
		again, err := o.Append(nil)
		return map[string]string{"nonce": hex.EncodeToString(o.Nonce[:]), "proxies": hex.EncodeToString(proxies), "authority": o.Authority}, again, err
	}
	t.Run("alone", func(t *testing.T) {
		vectorstest.Run(t, "inspection-offer", vectorClass, func(_ *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
			return meaning(ParseInspectionOffer(v.Bytes))
		})
	})
	t.Run("in ClientHello", func(t *testing.T) {
		vectorstest.Run(t, "inspection-offer", vectorClass, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
			msg, err := (&ClientHello{
				LegacyVersion: VersionTLS12, CipherSuites: []uint16{SuiteSHA256}, Compression: []byte{0},
				Extensions: []Extension{{ExtensionInspection, v.Bytes}},
			}).Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			h, err := ParseClientHello(msg)
			if err != nil {
				return nil, nil, err
			}
			return meaning(h.Inspection, nil)
		})
	})
	t.Run("in an authenticator request", func(t *testing.T) {
		vectorstest.Run(t, "inspection-offer", vectorClass, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
			var x ExtensionBuilder
			x.SignatureAlgorithms(Schemes())
			x.Raw(ExtensionInspection, v.Bytes)
			exts, err := x.Extensions()
			if err != nil {
				t.Fatal(err)
			}
			msg, err := (&CertificateRequest{Type: TypeClientCertificateRequest, Extensions: exts}).Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			m, err := ParseCertificateRequest(msg)
			if err != nil {
				return nil, nil, err
			}
			return meaning(m.Inspection, nil)
		})
	})
}

// spec: INS-1 INS-4 INS-5
func TestVectorsInspectionAnswer(t *testing.T) {
	meaning := func(a *InspectionAnswer, err error) (map[string]string, []byte, error) {
		if err != nil {
			return nil, nil, err
		}
		again, err := a.Append(nil)
		return map[string]string{
			"hop peer": strconv.Itoa(int(a.HopPeer)), "hop version": fmt.Sprintf("%04x", a.HopVersion), "hop suite": fmt.Sprintf("%04x", a.HopSuite),
			"hop alpn": hex.EncodeToString([]byte(a.HopALPN)), "hop id": hex.EncodeToString(a.HopID[:]),
			"time ms": strconv.FormatInt(a.Time.UnixMilli(), 10), "lifetime": strconv.FormatInt(int64(a.Lifetime.Seconds()), 10),
		}, again, err
	}
	t.Run("alone", func(t *testing.T) {
		vectorstest.Run(t, "inspection-answer", vectorClass, func(_ *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
			return meaning(ParseInspectionAnswer(v.Bytes))
		})
	})
	t.Run("in EncryptedExtensions", func(t *testing.T) {
		vectorstest.Run(t, "inspection-answer", vectorClass, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
			msg, err := (&EncryptedExtensions{Extensions: []Extension{{ExtensionInspection, v.Bytes}}}).Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			m, err := ParseEncryptedExtensions(msg)
			if err != nil {
				return nil, nil, err
			}
			return meaning(m.Inspection, nil)
		})
	})
	t.Run("in a leaf's entry", func(t *testing.T) {
		vectorstest.Run(t, "inspection-answer", vectorClass, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
			msg, err := (&Certificate{Context: make([]byte, 32), Entries: []CertificateEntry{{Cert: []byte("leaf"), Extensions: []Extension{{ExtensionInspection, v.Bytes}}}}}).Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			m, err := ParseCertificate(msg)
			if err != nil {
				return nil, nil, err
			}
			return meaning(m.Entries[0].Inspection, nil)
		})
	})
}

// spec: INS-12
func TestVectorsHopID(t *testing.T) {
	vectorstest.Run(t, "hop-id", vectorClass, func(_ *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
		id := HopID(v.Bytes)
		return map[string]string{"hop id": hex.EncodeToString(id[:])}, nil, nil
	})
}
