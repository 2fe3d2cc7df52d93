package fields_test

import (
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"testing"

	"vitrine/internal/fields"
	"vitrine/spec/vectors"
)

// runVectors calls entry with every vector of the kind and compares what it found with the inputs.
func runVectors(t *testing.T, kind string, entry func(t *testing.T, v vectors.Vector) (found map[string]string, err error)) {
	t.Helper()
	list, err := vectors.Load(kind)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		t.Run(v.Name, func(t *testing.T) {
			found, err := entry(t, v)
			if got := class(err); got != v.Expect {
				t.Fatalf("%s: got %q (%v), want %q", v.Comment, got, err, v.Expect)
			}
			if err != nil {
				if _, ok := errors.AsType[*fields.Error](err); !ok {
					t.Errorf("error %T is not *fields.Error", err)
				}
				return
			}
			for key, value := range found {
				if want, ok := v.Inputs[key]; !ok || value != want {
					t.Errorf("%s is %q, want %q", key, value, want)
				}
			}
		})
	}
}

func class(err error) string {
	switch {
	case err == nil:
		return vectors.Success
	case errors.Is(err, fields.ErrMalformed):
		return vectors.Malformed
	case errors.Is(err, fields.ErrTooLarge):
		return vectors.TooLarge
	}
	return "an error of no class"
}

// spec: FLD-2 FLD-3 FLD-4 FLD-5 FLD-6
func TestVectorsAuthority(t *testing.T) {
	runVectors(t, "authority", func(t *testing.T, v vectors.Vector) (map[string]string, error) {
		host, port, err := fields.ParseAuthority(string(v.Bytes))
		if err != nil {
			return nil, err
		}
		again, err := fields.CanonicalAuthority(host, port)
		if err != nil || again != string(v.Bytes) {
			t.Errorf("written again: %q, %v", again, err)
		}
		return map[string]string{"host": host, "port": strconv.Itoa(port)}, nil
	})
}

// spec: FLD-1 FLD-3 FLD-4 FLD-5
func TestVectorsCanonicalAuthority(t *testing.T) {
	runVectors(t, "canonical-authority", func(t *testing.T, v vectors.Vector) (map[string]string, error) {
		port, err := strconv.Atoi(v.Inputs["port"])
		if err != nil {
			t.Fatal(err)
		}
		authority, err := fields.CanonicalAuthority(string(v.Bytes), port)
		if err != nil {
			return nil, err
		}
		if _, _, err := fields.ParseAuthority(authority); err != nil {
			t.Errorf("%q is not read back: %v", authority, err)
		}
		return map[string]string{"authority": authority}, nil
	})
}

// spec: FLD-7 FLD-8 FLD-9
func TestVectorsEvidenceRequest(t *testing.T) {
	runVectors(t, "evidence-request", func(t *testing.T, v vectors.Vector) (map[string]string, error) {
		request, err := fields.ParseEvidenceRequest([]string{string(v.Bytes)})
		if err != nil {
			return nil, err
		}
		if again := fields.FormatEvidenceRequest(request); again != string(v.Bytes) {
			t.Errorf("written again: %q", again)
		}
		return map[string]string{"request": hex.EncodeToString(request)}, nil
	})
}

// spec: FLD-10 FLD-11 FLD-12
func TestVectorsInspectionOptions(t *testing.T) {
	runVectors(t, "inspection-options", func(t *testing.T, v vectors.Vector) (map[string]string, error) {
		modes, err := fields.ParseOptions([]string{string(v.Bytes)})
		if err != nil {
			return nil, err
		}
		names := make([]string, len(modes))
		for i, m := range modes {
			names[i] = string(m)
		}
		return map[string]string{"modes": strings.Join(names, " ")}, nil
	})
}
