package evidence

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
	"vitrine/spec/vectors"
	"vitrine/spec/vectors/vectorstest"
)

// class is the expectation that an error of this package meets.
func class(err error) string {
	var refused *Error
	var untrusted *CertificateError
	switch {
	case err == nil:
		return vectors.Success
	case errors.As(err, &refused):
		return string(refused.Reason) // the names are the same
	case errors.As(err, &untrusted):
		return vectors.Untrusted
	}
	return fmt.Sprintf("an error of no class: %v", err)
}

func hexList(list [][]byte) string {
	out := make([]string, len(list))
	for i, b := range list {
		out[i] = hex.EncodeToString(b)
	}
	return strings.Join(out, " ")
}

// spec: EVD-1 EVD-2
func TestVectorsEvidence(t *testing.T) {
	vectorstest.Run(t, "evidence", class, func(_ *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
		e, err := Parse(v.Bytes)
		if err != nil {
			return nil, nil, err
		}
		h := &e.Hop
		found := map[string]string{
			"kind": strconv.Itoa(int(e.Kind)), "hop version": fmt.Sprintf("%04x", h.Version), "hop suite": fmt.Sprintf("%04x", h.Suite),
			"hop group": fmt.Sprintf("%04x", uint16(h.Group)), "hop alpn": hex.EncodeToString([]byte(h.ALPN)),
			"hop verified": map[bool]string{true: "1", false: "0"}[h.Verified], "chain": hexList(h.Chain), "ocsp": hex.EncodeToString(h.OCSP),
			"scts": hexList(h.SCTs), "authority": e.Authority, "time ms": strconv.FormatInt(e.Time.UnixMilli(), 10),
		}
		switch e.Kind {
		case Transcript:
			found["salt"], found["messages"] = hex.EncodeToString(e.Salt[:]), hex.EncodeToString(e.Messages)
		case Authenticator:
			found["handshake context"], found["authenticator"] = hex.EncodeToString(e.HandshakeContext), hex.EncodeToString(e.Authenticator)
		case Chain:
			found["salt"], found["messages"], found["next"] = hex.EncodeToString(e.Salt[:]), hex.EncodeToString(e.Messages), hex.EncodeToString(e.Next)
		}
		again, err := e.Append(nil)
		return found, again, err
	})
}

// spec: EVD-3 EVD-4
func TestVectorsAuthenticatorRequest(t *testing.T) {
	vectorstest.Run(t, "authenticator-request", class, func(_ *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
		r, err := ParseRequest(v.Bytes)
		if err != nil {
			return nil, nil, err
		}
		var proxies, schemes []byte
		for _, p := range r.Offer.Proxies {
			proxies = append(proxies, p[:]...)
		}
		for _, s := range r.Schemes {
			schemes = append(schemes, byte(s>>8), byte(s))
		}
		return map[string]string{
			"nonce": hex.EncodeToString(r.Nonce[:]), "proxies": hex.EncodeToString(proxies), "authority": r.Offer.Authority,
			"server name": r.ServerName, "schemes": hex.EncodeToString(schemes),
		}, nil, nil
	})
}

// A client of ours writes the request that the vectors call plain.
func TestVectorsRequestFor(t *testing.T) {
	list, err := vectors.Load("authenticator-request")
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, v := range list {
		if !slices.Contains([]string{"plain", "ip", "five-proxies"}, v.Name) {
			continue
		}
		ran++
		r, err := ParseRequest(v.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := RequestFor(r.Offer); err != nil || !bytes.Equal(again, v.Bytes) {
			t.Errorf("%s: %x, %v, want %x", v.Name, again, err, v.Bytes)
		}
	}
	if ran != 3 {
		t.Errorf("ran %d vectors", ran)
	}
}

// spec: EVD-2 EVD-9
func TestVectorsHop2Authenticator(t *testing.T) {
	vectorstest.Run(t, "hop2-authenticator", class, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
		if _, err := Parse(v.Bytes); err == nil {
			t.Error("taken for evidence")
		}
		req, err := ParseRequest(vectorstest.Hex(t, v, "request"))
		if err != nil {
			t.Fatal(err)
		}
		id := vectorstest.Hex(t, v, "hop suite")
		s, ok := suiteOf(uint16(id[0])<<8 | uint16(id[1]))
		if !ok {
			t.Fatalf("hop suite %x", id)
		}
		k := &hopKeys{suite: s, context: vectorstest.Hex(t, v, "handshake context"), finished: vectorstest.Hex(t, v, "finished key")}
		_, raw, err := k.open(v.Bytes, req)
		return map[string]string{"authenticator": hex.EncodeToString(raw)}, nil, err
	})
}

func TestVectorsTranscriptRandom(t *testing.T) {
	vectorstest.Run(t, "transcript-random", class, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
		var proxies [][32]byte
		for word := range strings.FieldsSeq(v.Inputs["proxies"]) {
			p, err := hex.DecodeString(word)
			if err != nil {
				t.Fatal(err)
			}
			proxies = append(proxies, [32]byte(p))
		}
		random := transcriptRandom([32]byte(vectorstest.Hex(t, v, "nonce")), [32]byte(vectorstest.Hex(t, v, "salt")), proxies, v.Inputs["authority"])
		return nil, random[:], nil
	})
}

// verifierOf is what the client of a vector of verified-evidence knows.
func verifierOf(t testing.TB, v vectors.Vector) *Verifier {
	t.Helper()
	raw := vectorstest.Hex(t, v, "request")
	req, err := ParseRequest(raw)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(vectorstest.Hex(t, v, "root"))
	if err != nil {
		t.Fatal(err)
	}
	now := time.UnixMilli(vectorstest.Int(t, v, "now ms"))
	return &Verifier{
		Request: raw, Authority: req.Offer.Authority, Proxies: req.Offer.Proxies, Roots: pki.NewPool(root).CertPool,
		Time: func() time.Time { return now },
	}
}

// spec: EVD-40 EVD-41
func TestVectorsEvidencePath(t *testing.T) {
	vectorstest.Run(t, "evidence-path", class, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
		e, err := Parse(v.Bytes)
		if err != nil {
			t.Fatalf("its form is good: %v", err)
		}
		again, err := e.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		req, err := ParseRequest(vectorstest.Hex(t, v, "request"))
		if err != nil {
			t.Fatal(err)
		}
		now := time.UnixMilli(vectorstest.Int(t, v, "now ms"))
		ver := &Verifier{Request: req.Raw, Authority: req.Offer.Authority, Proxies: req.Offer.Proxies, Time: func() time.Time { return now }}
		p, err := ver.Walk(e)
		if err != nil {
			return nil, nil, err
		}
		var links, fresh []string
		for _, l := range p.Links {
			hash := pki.LeafHash(l.Proxy)
			links, fresh = append(links, hex.EncodeToString(hash[:])), append(fresh, strconv.FormatBool(l.Fresh))
		}
		found := map[string]string{"links": strings.Join(links, " "), "fresh": strings.Join(fresh, " "), "ahead": ""}
		if p.Ahead != nil {
			hash := pki.LeafHash(p.Ahead.Proxy)
			found["ahead"] = hex.EncodeToString(hash[:]) + " " + p.Ahead.Name
		}
		return found, again, nil
	})
}

func answerOf(a *tlsmsg.InspectionAnswer) string {
	if a == nil {
		return "none"
	}
	return strconv.Itoa(int(a.HopPeer))
}

// spec: EVD-11 EVD-12 EVD-13 EVD-14 EVD-17 EVD-18 EVD-19 EVD-20 EVD-21 EVD-22 EVD-23 EVD-24 EVD-25 EVD-26 EVD-27
// EVD-28 EVD-29 EVD-30 EVD-32
func TestVectorsVerifiedEvidence(t *testing.T) {
	verify := func(t *testing.T, v vectors.Vector, check func(e *Evidence, v *Verifier) (*Result, error)) (map[string]string, []byte, error) {
		e, err := Parse(v.Bytes)
		if err != nil {
			t.Fatalf("its form is good: %v", err)
		}
		again, err := e.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := check(e, verifierOf(t, v))
		if err != nil {
			return nil, nil, err
		}
		found := map[string]string{
			"proves": r.Kind.String(), "offered tokens": strconv.FormatBool(r.OfferedTokens), "picked none": strconv.FormatBool(r.PickedNone),
		}
		if r.Kind == Authenticator {
			found["answer"] = answerOf(r.Answer)
		}
		return found, again, nil
	}
	t.Run("Verify", func(t *testing.T) {
		vectorstest.Run(t, "verified-evidence", class, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
			return verify(t, v, func(e *Evidence, ver *Verifier) (*Result, error) { return ver.Verify(e) })
		})
	})
	t.Run("Recheck", func(t *testing.T) {
		vectorstest.Run(t, "verified-evidence", class, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
			return verify(t, v, func(e *Evidence, ver *Verifier) (*Result, error) {
				if v.Expect == vectors.Stale {
					return ver.Verify(e) // what was kept has no age
				}
				req, err := ParseRequest(ver.Request)
				if err != nil {
					return nil, err
				}
				return Recheck(e, req.Offer, ver.Roots)
			})
		})
	})
}

// What can be explained without the request is what Verify would say with it; and nobody who lacks it finds fault
// with good evidence.
func TestVectorsExplain(t *testing.T) {
	vectorstest.Run(t, "verified-evidence", class, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
		e, err := Parse(v.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		x, err := Explain(e)
		if err != nil {
			// What is wrong with it may have a stronger name for who knows the nonce.
			if v.Expect == vectors.Success || v.Expect == vectors.Untrusted || v.Expect == vectors.Stale {
				t.Errorf("%s: %v", v.Comment, err)
			}
			return nil, nil, verdictOf(v)
		}
		if err := VerifyChain(e, x.Chain, verifierOf(t, v).Roots); (err != nil) != (v.Expect == vectors.Untrusted) && v.Expect != vectors.Foreign {
			t.Errorf("the chain: %v", err)
		}
		if v.Expect != vectors.Success {
			if v.Expect == vectors.Downgrade {
				t.Errorf("%s was not seen", v.Comment)
			}
			return nil, nil, verdictOf(v)
		}
		found := map[string]string{}
		if s := x.Transcript; s != nil {
			found["offered tokens"], found["picked none"] = strconv.FormatBool(s.OfferedTokens), strconv.FormatBool(s.PickedNone)
		}
		if s := x.Statement; s != nil {
			found["answer"] = answerOf(s.Answer)
			if want := Transcript; s.Answer == nil && e.Strength() != want {
				t.Errorf("counts as %v, want %v", e.Strength(), want)
			}
		}
		return found, nil, nil
	})
}

// verdictOf is an error of the class that a vector expects.
func verdictOf(v vectors.Vector) error {
	switch v.Expect {
	case vectors.Success:
		return nil
	case vectors.Untrusted:
		return &CertificateError{errors.New(v.Comment)}
	}
	return fail(Reason(v.Expect), "%s", v.Comment)
}

// FuzzVerify starts at good evidence: nothing that differs from it in what the origin signed may pass.
func FuzzVerify(f *testing.F) {
	list, err := vectors.Load("verified-evidence")
	if err != nil {
		f.Fatal(err)
	}
	var verifier *Verifier
	var origins, signed [][]byte // leaves; messages and authenticators
	for _, v := range list {
		f.Add(v.Bytes)
		if v.Expect != vectors.Success || v.Name == "transcript-ip" || strings.HasPrefix(v.Name, "transcript-tls12") {
			continue
		}
		ver := verifierOf(f, v)
		e, err := Parse(v.Bytes)
		if err != nil {
			f.Fatal(err)
		}
		r, err := ver.Verify(e)
		if err != nil {
			f.Fatal(err)
		}
		if v.Name == "transcript" {
			verifier = ver
		}
		origins = append(origins, r.Origin.Raw)
		signed = append(signed, e.Messages, withoutFinished(e))
	}
	at := verifier.Time()
	f.Fuzz(func(t *testing.T, p []byte) {
		e, err := Parse(p)
		if err != nil {
			return
		}
		e.Time = at
		x, _ := Explain(e)
		if x == nil {
			t.Fatal("no explanation")
		}
		r, err := verifier.Verify(e)
		if err != nil {
			var typed *Error
			var untrusted *CertificateError
			if !errors.As(err, &typed) && !errors.As(err, &untrusted) {
				t.Fatalf("untyped %v", err)
			}
			return
		}
		if _, err := Explain(e); err != nil {
			t.Fatalf("what verifies does not explain itself: %v", err)
		}
		if !slices.ContainsFunc(origins, func(o []byte) bool { return bytes.Equal(o, r.Origin.Raw) }) {
			t.Fatalf("another origin: %v", r.Origin.Subject)
		}
		if e.Hop.Version == tlsmsg.VersionTLS12 {
			return // whose signature covers the randoms and the key share alone
		}
		what := e.Messages
		if e.Kind == Authenticator {
			what = withoutFinished(e)
		}
		for _, s := range signed {
			if e.Kind == Claim || bytes.Equal(what, s) {
				return
			}
		}
		t.Fatalf("a %v that the origin did not sign: %+v", e.Kind, r)
	})
}

// withoutFinished cuts off what the client cannot verify, which is as long as the handshake context.
func withoutFinished(e *Evidence) []byte {
	return e.Authenticator[:max(0, len(e.Authenticator)-len(e.HandshakeContext))]
}
