package proxy

import (
	"errors"
	"net/http"
	"testing"

	"vitrine/frames"
	"vitrine/internal/evidence"
	"vitrine/internal/fields"
	"vitrine/internal/hop"
	"vitrine/internal/tlsmsg"
	"vitrine/spec/vectors"
)

// listening is a hop whose peer takes evidence.
type listening struct{ hop.Session }

func (listening) Peer() *hop.Peer { return &hop.Peer{Settings: hop.Settings{Evidence: true}} }

// targeted is what a proxy with this leaf makes of a CONNECT with this request for evidence: the target, or the
// status and what it says.
func targeted(t *testing.T, leaf [32]byte, authority, field string) (*Target, string) {
	t.Helper()
	s := &session{run: new(running), hop: listening{}, front: &front{hash: leaf, via: "glass.example"}}
	s.run.current.Store(new(settings))
	target, err := s.target(&hop.Request{
		Protocol: frames.Protocol, Authority: authority, Path: "/", Header: http.Header{http.CanonicalHeaderKey(fields.EvidenceRequest): {field}},
	})
	if err == nil {
		return target, ""
	}
	a, ok := errors.AsType[*answer](err)
	if ok && a.status == http.StatusForbidden && a.reason == fields.ErrorHTTPRequestDenied {
		return nil, a.details
	}
	if !ok || a.status != http.StatusBadRequest || a.reason != fields.ErrorHTTPRequest {
		t.Errorf("%v is not 400 %s", err, fields.ErrorHTTPRequest)
		return nil, "-"
	}
	return nil, a.details
}

// A proxy refuses every bad request for evidence and takes every good one that is for it alone.
//
// spec: PRX-2 PRX-28
func TestVectorsAuthenticatorRequest(t *testing.T) {
	list, err := vectors.Load("authenticator-request")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		leaf, authority, want := [32]byte{}, "origin.example:443", "evidence-request does not hold a request for evidence"
		if v.Expect == vectors.Success {
			req, err := evidence.ParseRequest(v.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			leaf, authority, want = req.Offer.Proxies[len(req.Offer.Proxies)-1], req.Offer.Authority, ""
			if len(req.Offer.Proxies) > 1 {
				want = "a proxy that asks its clients for no certificate cannot be behind another one"
			}
		}
		if v.Name == "too-large" || v.Name == "empty" {
			want = "evidence-request is missing or malformed" // the field has these limits too
		}
		target, got := targeted(t, leaf, authority, fields.FormatEvidenceRequest(v.Bytes))
		if got != want || (target != nil) != (want == "") {
			t.Errorf("%s: %q, want %q", v.Name, got, want)
		}
	}
}

// spec: PRX-2
func TestVectorsEvidenceRequest(t *testing.T) {
	list, err := vectors.Load("evidence-request")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		want := "evidence-request is missing or malformed"
		if v.Expect == vectors.Success {
			want = "evidence-request does not hold a request for evidence" // these hold other bytes
		}
		if _, got := targeted(t, [32]byte{}, "origin.example:443", string(v.Bytes)); got != want {
			t.Errorf("%s: %q, want %q", v.Name, got, want)
		}
	}
}

// spec: PRX-2
func TestVectorsAuthority(t *testing.T) {
	list, err := vectors.Load("authority")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		authority, want := string(v.Bytes), ":authority must be host:port in canonical form"
		field := ""
		if v.Expect == vectors.Success {
			request, err := evidence.RequestFor(&tlsmsg.InspectionOffer{Authority: authority, Proxies: make([][32]byte, 1)})
			if err != nil {
				t.Fatal(err)
			}
			field, want = fields.FormatEvidenceRequest(request), ""
		}
		if _, got := targeted(t, [32]byte{}, authority, field); got != want {
			t.Errorf("%s: %q, want %q", v.Name, got, want)
		}
	}
}
