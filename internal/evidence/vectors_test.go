package evidence

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"vitrine/internal/pki"
	"vitrine/spec/vectors"
)

var update = flag.Bool("update", false, "write testdata/vectors anew")

// vectorsOf makes the vectors: all for one request, so that they can be told apart by what is wrong with
// them alone. Real keys and servers make them, so that they differ each time they are written.
func vectorsOf(t *testing.T) (*connect, map[string]vectors.Vector) {
	t.Helper()
	c := newConnect(t, testAuthority)
	other := newConnect(t, testAuthority)
	d := hop2(t, c, parties().origin)
	auth, _ := authenticated(t, c, d, parties().origin, answerFor(t, d))
	silent, _ := authenticated(t, c, d, parties().origin, nil)
	plain := transcriptOf(t, c)
	claim := *plain
	claim.Kind = Claim
	stripped := transcriptOf(t, c, func(cfg, _ *tls.Config) { cfg.NextProtos = []string{"http/1.1"} })
	edited := *plain
	edited.Hop.ALPN = "itls-h2/1"
	downgraded, err := handshake(t, c, &tls.Config{
		RootCAs: parties().origins.Pool().CertPool, ServerName: testHost, NextProtos: proxyConfig().NextProtos, MaxVersion: tls.VersionTLS12,
	}, serverConfig(parties().origin))
	if err != nil {
		t.Fatal(err)
	}
	sent, received, secret := downgraded.dial.take()
	stranger, err := parties().strangers.Origin(testHost)
	if err != nil {
		t.Fatal(err)
	}
	untrusted := transcriptOf(t, c, func(cfg, server *tls.Config) {
		cfg.InsecureSkipVerify, server.Certificates[0] = true, stranger
	})
	out := map[string]vectors.Vector{}
	for name, v := range map[string]struct {
		comment string
		verify  string
		e       *Evidence
	}{
		"authenticator":           {"a cooperating origin's, with its answer", "success", auth},
		"authenticator-no-answer": {"an RFC 9261 origin that does not know the inspection extension", "success", silent},
		"transcript":              {"an unmodified TLS 1.3 origin that picked http/1.1 or nothing", "success", plain},
		"transcript-retry": {"a HelloRetryRequest and a CertificateRequest", "success", transcriptOf(t, c, func(_, server *tls.Config) {
			server.CurvePreferences = []tls.CurveID{tls.CurveP384}
			server.ClientAuth = tls.RequestClientCert
		})},
		"transcript-tls12":      {"an origin that speaks TLS 1.2 only", "success", transcriptOf(t, c, func(_, server *tls.Config) { server.MaxVersion = tls.VersionTLS12 })},
		"transcript-stripped":   {"the proxy offered no itls token: true, and justifies nothing", "success", stripped},
		"claim":                 {"a chain and the proxy's word", "success", &claim},
		"transcript-replayed":   {"the answer to another nonce", string(ReasonForeign), transcriptOf(t, other)},
		"transcript-edited":     {"the proxy says that the origin picked itls-h2/1", string(ReasonAltered), &edited},
		"transcript-downgraded": {"a proxy that offered TLS 1.2 to an origin that speaks 1.3", string(ReasonDowngrade), assemble(t, downgraded, sent, received, secret)},
		"transcript-untrusted":  {"an origin whose root the client does not have", "untrusted", untrusted},
	} {
		p, err := v.e.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = vectors.Vector{Expect: vectors.Success, Comment: v.comment, Bytes: p, Inputs: map[string]string{
			"request": hex.EncodeToString(c.req.Raw),
			"root":    hex.EncodeToString(parties().origins.Root.Raw),
			"verify":  v.verify,
		}}
	}
	return c, out
}

// load reads a vector and the verifier for it. The clock stands where the evidence says.
func load(t testing.TB, name string) (vectors.Vector, *Verifier) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	v, err := vectors.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(v.Inputs["request"])
	if err != nil {
		t.Fatal(err)
	}
	der, err := hex.DecodeString(v.Inputs["root"])
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	req, err := ParseRequest(raw)
	if err != nil {
		t.Fatal(err)
	}
	e, err := Parse(v.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return v, &Verifier{
		Request: raw, Authority: req.Offer.Authority, Proxies: req.Offer.Proxies, Roots: pki.NewPool(root).CertPool,
		Time: func() time.Time { return e.Time },
	}
}

func TestVectors(t *testing.T) {
	if *update {
		_, all := vectorsOf(t)
		for name, v := range all {
			p, err := v.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join("testdata", "vectors", name), p, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	entries, err := os.ReadDir(filepath.Join("testdata", "vectors"))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) < 11 {
		t.Fatalf("%d vectors", len(entries))
	}
	for _, entry := range entries {
		t.Run(entry.Name(), func(t *testing.T) {
			v, verifier := load(t, entry.Name())
			e, err := Parse(v.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			again, err := e.Append(nil)
			if err != nil || !bytes.Equal(again, v.Bytes) {
				t.Errorf("encodes as %x: %v", again, err)
			}
			_, err = verifier.Verify(e)
			var refused *Error
			var untrusted *CertificateError
			got := "success"
			switch {
			case errors.As(err, &refused):
				got = string(refused.Reason)
			case errors.As(err, &untrusted):
				got = "untrusted"
			case err != nil:
				got = err.Error()
			}
			if got != v.Inputs["verify"] {
				t.Errorf("got %s (%v), want %s", got, err, v.Inputs["verify"])
			}
		})
	}
}

// FuzzVerify starts at good evidence: nothing that differs from it in what the origin signed may pass.
func FuzzVerify(f *testing.F) {
	var verifier *Verifier
	var leaf []byte
	var signed [][]byte // messages and authenticators
	for _, name := range []string{"authenticator", "authenticator-no-answer", "transcript", "transcript-retry", "transcript-stripped"} {
		v, ver := load(f, name)
		f.Add(v.Bytes)
		e, err := Parse(v.Bytes)
		if err != nil {
			f.Fatal(err)
		}
		r, err := ver.Verify(e)
		if err != nil {
			f.Fatal(err)
		}
		verifier, leaf = ver, r.Origin.Raw
		signed = append(signed, e.Messages, withoutFinished(e.Authenticator))
	}
	at := verifier.Time()
	f.Fuzz(func(t *testing.T, p []byte) {
		e, err := Parse(p)
		if err != nil {
			return
		}
		e.Time = at
		r, err := verifier.Verify(e)
		if err != nil {
			var typed *Error
			var untrusted *CertificateError
			if !errors.As(err, &typed) && !errors.As(err, &untrusted) {
				t.Fatalf("untyped %v", err)
			}
			return
		}
		if !bytes.Equal(r.Origin.Raw, leaf) {
			t.Fatalf("another origin: %v", r.Origin.Subject)
		}
		what := e.Messages
		if e.Kind == Authenticator {
			what = withoutFinished(e.Authenticator)
		}
		for _, s := range signed {
			if e.Kind == Claim || bytes.Equal(what, s) {
				return
			}
		}
		t.Fatalf("a %v that the origin did not sign: %+v", e.Kind, r)
	})
}

// withoutFinished cuts off what the client cannot verify.
func withoutFinished(authenticator []byte) []byte {
	return authenticator[:max(0, len(authenticator)-32)]
}
