package fields_test

import (
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"vitrine/internal/fields"
	"vitrine/spec/vectors"
	"vitrine/spec/vectors/vectorstest"
)

func class(err error) string {
	if err == nil {
		return vectors.Success
	}
	if _, ok := errors.AsType[*fields.Error](err); !ok {
		return "an error that is not *fields.Error"
	}
	switch {
	case errors.Is(err, fields.ErrMalformed):
		return vectors.Malformed
	case errors.Is(err, fields.ErrTooLarge):
		return vectors.TooLarge
	}
	return "an error of no class"
}

// spec: FLD-2 FLD-3 FLD-4 FLD-5 FLD-6
func TestVectorsAuthority(t *testing.T) {
	vectorstest.Run(t, "authority", class, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
		host, port, err := fields.ParseAuthority(string(v.Bytes))
		if err != nil {
			return nil, nil, err
		}
		again, err := fields.CanonicalAuthority(host, port)
		return map[string]string{"host": host, "port": strconv.Itoa(port)}, []byte(again), err
	})
}

// spec: FLD-1 FLD-3 FLD-4 FLD-5
func TestVectorsCanonicalAuthority(t *testing.T) {
	vectorstest.Run(t, "canonical-authority", class, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
		port, err := strconv.Atoi(v.Inputs["port"])
		if err != nil {
			t.Fatal(err)
		}
		authority, err := fields.CanonicalAuthority(string(v.Bytes), port)
		if err != nil {
			return nil, nil, err
		}
		if _, _, err := fields.ParseAuthority(authority); err != nil {
			t.Errorf("%q is not read back: %v", authority, err)
		}
		return map[string]string{"authority": authority}, nil, nil
	})
}

// spec: FLD-7 FLD-8 FLD-9
func TestVectorsEvidenceRequest(t *testing.T) {
	vectorstest.Run(t, "evidence-request", class, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
		request, err := fields.ParseEvidenceRequest([]string{string(v.Bytes)})
		if err != nil {
			return nil, nil, err
		}
		return map[string]string{"request": hex.EncodeToString(request)}, []byte(fields.FormatEvidenceRequest(request)), nil
	})
}

// spec: FLD-10 FLD-11 FLD-12
func TestVectorsInspectionOptions(t *testing.T) {
	vectorstest.Run(t, "inspection-options", class, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
		modes, err := fields.ParseOptions([]string{string(v.Bytes)})
		if err != nil {
			return nil, nil, err
		}
		names := make([]string, len(modes))
		for i, m := range modes {
			names[i] = string(m)
		}
		return map[string]string{"modes": strings.Join(names, " ")}, nil, nil
	})
}

// spec: FLD-13 FLD-14 FLD-15
func TestVectorsProxyStatus(t *testing.T) {
	word := func(s string) string {
		if s == "" {
			return "-"
		}
		return hex.EncodeToString([]byte(s))
	}
	vectorstest.Run(t, "proxy-status", class, func(_ *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
		list, err := fields.ParseProxyStatus([]string{string(v.Bytes)})
		if err != nil {
			return nil, nil, err
		}
		var members, again []string
		for _, s := range list {
			status := ""
			if s.ReceivedStatus != 0 {
				status = strconv.Itoa(s.ReceivedStatus)
			}
			for _, w := range []string{s.Proxy, s.Error, s.NextHop, s.NextProtocol, status, s.Details} {
				members = append(members, word(w))
			}
			again = append(again, s.String())
		}
		return map[string]string{"members": strings.Join(members, " ")}, []byte(strings.Join(again, ", ")), nil
	})
}

// spec: FLD-16
func TestVectorsVia(t *testing.T) {
	vectorstest.Run(t, "via", class, func(_ *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
		h := http.Header{"Via": strings.Split(string(v.Bytes), "\n")}
		return map[string]string{"found": strconv.FormatBool(fields.HasVia(h, v.Inputs["pseudonym"]))}, nil, nil
	})
}
