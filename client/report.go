package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"time"

	"vitrine/internal/pki"
	"vitrine/internal/tlsmsg"
)

// A Report says what is known of an exchange, or of the failure to have one. Everything but Bytes,
// BodySHA256, Killed and Error is final when RoundTrip returns; those four are complete once the body
// returned io.EOF or another error, or was closed, and are written by the goroutine that reads it.
type Report struct {
	Level      Level            // "" when no tunnel was opened
	Status     int              // of the HTTP response; 0 when there was none
	Exit       int              // left to the command line
	Bytes      int64            // of the response's body, delivered
	BodySHA256 string           // of those bytes, in hex; "" when there was no response
	Proxies    []ProxyReport    // who could read or stop it, client side first
	Hops       []HopReport      // behind each of Proxies, in their order, as far as evidence came; the last is Evidence.Hop
	Evidence   *EvidenceReport  // nil when the proxy showed none
	Inner      *InnerReport     // the TLS session with the origin; nil when there was none
	Signature  *SignatureReport // the origin's, over the response; nil where there is none, or none was wanted
	Killed     *KilledReport    // nil unless a proxy killed it
	Error      string           // "" when all went well

	// EvidenceBytes is the evidence as it arrived, whether or not it was verified.
	EvidenceBytes []byte
	// Chains are the verified chains of the origin in the session with it, and Proxy the leaf of the
	// proxy. Neither is in the JSON.
	Chains [][]*x509.Certificate
	Proxy  *x509.Certificate
}

// A ProxyReport names a proxy by its certificate, which was verified on hop 1, or in the evidence of the proxy before.
type ProxyReport struct {
	Subject string `json:"subject"`
	SPKI    string `json:"spki_sha256"`
	Leaf    string `json:"leaf_sha256"` // of the whole certificate: its name in evidence and verdicts
}

// An EvidenceReport is what the proxy showed about the origin. Unless Verified, kind, authority and hop
// are only what was claimed.
type EvidenceReport struct {
	// Kind is claim, transcript or authenticator. An authenticator in which the origin does not answer
	// `inspection` is a transcript here: it proves no more than one.
	Kind      string `json:"kind"`
	Authority string `json:"authority"`
	// Nonce is N of the CONNECT, in hex: what the evidence answers if it was made for this tunnel. With
	// it, and with ProxyReport.Leaf, saved evidence can be verified again.
	Nonce         string    `json:"nonce"`
	Verified      bool      `json:"verified"`
	OriginSubject string    `json:"origin_subject"`
	OriginSPKI    string    `json:"origin_spki_sha256"`
	Hop           HopReport `json:"hop"`
}

// A HopReport is hop 2 as the proxy sees it. With InnerReport.Confirmed the origin vouches for version,
// suite and ALPN, and a verified transcript shows them in its own handshake. The rest, and all of it
// otherwise, is the proxy's word; so is the group unless the evidence is a transcript of TLS 1.3.
type HopReport struct {
	Version string `json:"version"`
	Suite   string `json:"suite"`
	Group   string `json:"group"`
	ALPN    string `json:"alpn"`
}

// An InnerReport is the TLS session with the origin: the inner session at intact, an ordinary one at
// blind and direct.
type InnerReport struct {
	Version string `json:"version"`
	Suite   string `json:"suite"`
	Group   string `json:"group"`
	ALPN    string `json:"alpn"`
	Resumed bool   `json:"resumed"`
	// Confirmed says that the origin confirmed, in the inner session and in its evidence alike, this
	// proxy and the hop 2 that the proxy described.
	Confirmed bool   `json:"confirmed"`
	PeerSPKI  string `json:"peer_spki_sha256"`
}

// A SignatureReport is the origin's signature over a response (RFC 9421), at level signed.
type SignatureReport struct {
	// Verified says that the signature holds, with all that it covers. Of a body that streams it becomes true
	// with the body's io.EOF.
	Verified bool      `json:"verified"`
	KeyID    string    `json:"keyid"` // SHA-256 of the key's SubjectPublicKeyInfo, in hex
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires"`
	// Fresh says that the origin signed the nonce of this very request.
	Fresh bool `json:"fresh"`
	// ReplayableUntil is how long whoever has the response can show it again in the place of a newer one. Zero
	// when Fresh.
	ReplayableUntil time.Time `json:"replayable_until,omitzero"`
	Covered         []string  `json:"covered"` // the components, as the signature names them
}

// A KilledReport says why a proxy killed the tunnel. Rule and Reason are empty unless SignatureVerified.
type KilledReport struct {
	Rule              string `json:"rule"`
	Reason            string `json:"reason"`
	Proxy             string `json:"proxy"`
	SignatureVerified bool   `json:"signature_verified"`
}

// MarshalJSON writes null for what there is none of.
func (r *Report) MarshalJSON() ([]byte, error) {
	proxies := r.Proxies
	if proxies == nil {
		proxies = []ProxyReport{}
	}
	hops := r.Hops
	if hops == nil {
		hops = []HopReport{}
	}
	return json.Marshal(struct {
		Level      *Level           `json:"level"`
		Status     *int             `json:"status"`
		Exit       int              `json:"exit"`
		BodySHA256 *string          `json:"body_sha256"`
		Bytes      int64            `json:"bytes"`
		Proxies    []ProxyReport    `json:"proxies"`
		Hops       []HopReport      `json:"hops"`
		Evidence   *EvidenceReport  `json:"evidence"`
		Inner      *InnerReport     `json:"inner"`
		Signature  *SignatureReport `json:"signature"`
		Killed     *KilledReport    `json:"killed"`
		Error      *string          `json:"error"`
	}{
		orNull(r.Level), orNull(r.Status), r.Exit, orNull(r.BodySHA256), r.Bytes, proxies, hops, r.Evidence, r.Inner, r.Signature, r.Killed, orNull(r.Error),
	})
}

func orNull[T comparable](v T) *T {
	if v == *new(T) {
		return nil
	}
	return &v
}

type reportKey struct{}

// ReportOf returns the report of a response that came from a [Transport], and nil for any other. It
// survives what http.Client wraps around the body.
func ReportOf(resp *http.Response) *Report {
	if resp == nil || resp.Request == nil {
		return nil
	}
	r, _ := resp.Request.Context().Value(reportKey{}).(*Report)
	return r
}

func withReport(ctx context.Context, r *Report) context.Context {
	return context.WithValue(ctx, reportKey{}, r)
}

func proxyReport(leaf *x509.Certificate, name string) ProxyReport {
	subject := leaf.Subject.String()
	if subject == "" {
		subject = name
	}
	hash := pki.LeafHash(leaf)
	return ProxyReport{Subject: subject, SPKI: spki(leaf), Leaf: hex.EncodeToString(hash[:])}
}

func spki(cert *x509.Certificate) string {
	if cert == nil {
		return ""
	}
	h := pki.SPKIHash(cert)
	return hex.EncodeToString(h[:])
}

func innerReport(cs *tls.ConnectionState) *InnerReport {
	r := &InnerReport{
		Version: tls.VersionName(cs.Version),
		Suite:   suiteName(cs.CipherSuite),
		Group:   tlsmsg.GroupName(cs.CurveID),
		ALPN:    cs.NegotiatedProtocol,
		Resumed: cs.DidResume,
	}
	if len(cs.PeerCertificates) > 0 {
		r.PeerSPKI = spki(cs.PeerCertificates[0])
	}
	return r
}

// suiteName is empty where there is no suite.
func suiteName(id uint16) string {
	if id == 0 {
		return ""
	}
	return tlsmsg.SuiteName(id)
}
