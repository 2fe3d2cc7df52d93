package origin

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
	"vitrine/spec/vectors/vectorstest"
)

// badRequests knows one class: an origin says 400, and not what for.
func badRequests(err error) string {
	var r *refusal
	switch {
	case err == nil:
		return vectors.Success
	case errors.As(err, &r) && r.status == http.StatusBadRequest:
		return vectors.Malformed
	}
	return "an error that is not 400"
}

// asked is what an origin makes of a CONNECT with this request for evidence.
func asked(authority, field string) (*evidence.Request, error) {
	return new(carrier).check(&hop.Request{
		Protocol: frames.Protocol, Authority: authority, Path: "/", Header: http.Header{http.CanonicalHeaderKey(fields.EvidenceRequest): {field}},
	})
}

// An origin refuses every bad request for evidence that a proxy hands on, and takes every good one.
func TestVectorsAuthenticatorRequest(t *testing.T) {
	vectorstest.Run(t, "authenticator-request", badRequests, func(_ *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
		authority := v.Inputs["authority"]
		if authority == "" {
			authority = "origin.example:443"
		}
		req, err := asked(authority, fields.FormatEvidenceRequest(v.Bytes))
		if err != nil {
			return nil, nil, err
		}
		return map[string]string{"authority": req.Offer.Authority, "server name": req.ServerName}, req.Raw, nil
	})
}

// The field in any other form is refused, whatever it holds.
func TestVectorsEvidenceRequest(t *testing.T) {
	list, err := vectors.Load("evidence-request")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		if _, err := asked("origin.example:443", string(v.Bytes)); badRequests(err) != vectors.Malformed {
			t.Errorf("%s: %v", v.Name, err)
		}
	}
}

// An origin takes authorities in their one spelling and no other. That of a bad one is refused by itself: a request
// for another authority would be 403.
func TestVectorsAuthority(t *testing.T) {
	list, err := vectors.Load("authority")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		authority, want := string(v.Bytes), vectors.Malformed
		if v.Expect == vectors.Success {
			want = vectors.Success
		}
		request, err := evidence.RequestFor(&tlsmsg.InspectionOffer{Authority: authority, Proxies: make([][32]byte, 1)})
		if (err == nil) != (want == vectors.Success) {
			t.Errorf("%s: a client makes a request: %v", v.Name, err)
		}
		if err != nil {
			request, err = evidence.RequestFor(&tlsmsg.InspectionOffer{Authority: "origin.example:443", Proxies: make([][32]byte, 1)})
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, err := asked(authority, fields.FormatEvidenceRequest(request)); badRequests(err) != want {
			t.Errorf("%s: got %v, want %s", v.Name, err, want)
		}
	}
}
