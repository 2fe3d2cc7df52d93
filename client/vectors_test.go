package client

import (
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"vitrine/internal/evidence"
	"vitrine/internal/pki"
	"vitrine/spec/vectors"
	"vitrine/spec/vectors/vectorstest"
)

// What a client says of evidence: the class of its error, and its report.
// spec: EVD-31
func TestVectorsVerifiedEvidence(t *testing.T) {
	class := func(err error) string {
		var (
			integrity *IntegrityError
			trust     *TrustError
			reason    *evidence.Error
		)
		switch {
		case err == nil:
			return vectors.Success
		case errors.As(err, &integrity) && errors.As(err, &reason):
			return string(reason.Reason)
		case errors.As(err, &trust) && trust.Party == PartyOrigin:
			return vectors.Untrusted
		}
		return "an error of no class"
	}
	vectorstest.Run(t, "verified-evidence", class, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
		request := vectorstest.Hex(t, v, "request")
		req, err := evidence.ParseRequest(request)
		if err != nil {
			t.Fatal(err)
		}
		root, err := x509.ParseCertificate(vectorstest.Hex(t, v, "root"))
		if err != nil {
			t.Fatal(err)
		}
		now := time.UnixMilli(vectorstest.Int(t, v, "now ms"))
		a := &attempt{rep: new(Report)}
		_, err = a.verifyEvidence(v.Bytes, req.Nonce, &evidence.Verifier{
			Request: request, Authority: req.Offer.Authority, Proxies: req.Offer.Proxies, Roots: pki.NewPool(root).CertPool,
			Time: func() time.Time { return now },
		})
		rep := a.rep.Evidence
		if rep.Verified != (err == nil && rep.Kind != "claim") || (rep.OriginSPKI != "") != (err == nil) {
			t.Errorf("%v, and the report says %+v", err, rep)
		}
		if kind := v.Inputs["proves"]; v.Inputs["answer"] == "none" {
			if rep.Kind != "transcript" {
				t.Errorf("reported as %s", rep.Kind)
			}
		} else if err == nil && rep.Kind != kind {
			t.Errorf("reported as %s, is %s", rep.Kind, kind)
		}
		return nil, nil, err
	})
}
