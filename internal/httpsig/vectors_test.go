package httpsig

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"vitrine/spec/vectors"
	"vitrine/spec/vectors/vectorstest"
)

func class(err error) string {
	switch {
	case err == nil:
		return vectors.Success
	case errors.Is(err, ErrMalformed):
		return vectors.Malformed
	case errors.Is(err, ErrAltered), errors.Is(err, ErrUncovered):
		return vectors.Altered
	case errors.Is(err, ErrForeign):
		return vectors.Foreign
	case errors.Is(err, ErrStale):
		return vectors.Stale
	case errors.Is(err, ErrKey):
		return vectors.Untrusted
	}
	return "an error of no class"
}

// fromVector is the message of a vector.
func fromVector(t *testing.T, v vectors.Vector) *message {
	t.Helper()
	leaf, err := x509.ParseCertificate(vectorstest.Hex(t, v, "leaf"))
	if err != nil {
		t.Fatal(err)
	}
	m := &message{
		req:  Request{Method: v.Inputs["method"], TargetURI: v.Inputs["target uri"], Header: http.Header{}},
		leaf: leaf, nonce: [32]byte(vectorstest.Hex(t, v, "nonce")), now: time.UnixMilli(vectorstest.Int(t, v, "now ms")),
	}
	for key, field := range map[string]string{
		"content digest": ContentDigest, "authorization": "Authorization", "cookie": "Cookie", "evidence request": "Evidence-Request",
	} {
		if value, ok := v.Inputs[key]; ok {
			m.req.Header.Set(field, value)
		}
	}
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(v.Bytes)), &http.Request{Method: m.req.Method})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if m.content, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	m.status, m.head, m.trailer = resp.StatusCode, resp.Header, resp.Trailer
	return m
}

// What a client makes of a signed response.
func TestVectorsResponseSignature(t *testing.T) {
	vectorstest.Run(t, "response-signature", class, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
		s, err := fromVector(t, v).verify()
		if err != nil {
			return nil, nil, err
		}
		found := map[string]string{"fresh": fmt.Sprint(s.Fresh)}
		if !s.Fresh {
			found["replayable until"] = fmt.Sprint(s.ReplayableUntil.Unix())
		}
		return found, nil, nil
	})
}

// The signature base of every good vector, byte for byte.
func TestVectorsSignatureBase(t *testing.T) {
	list, err := vectors.Load("response-signature")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		if v.Expect != vectors.Success {
			continue
		}
		m := fromVector(t, v)
		s, err := Read(&m.req, m.status, m.head)
		if err != nil {
			t.Fatal(v.Name, err)
		}
		if got, want := hex.EncodeToString(s.base(m.trailer.Get(ContentDigest))), v.Inputs["base"]; got != want {
			t.Errorf("%s: the base is %s, want %s", v.Name, got, want)
		}
	}
}
