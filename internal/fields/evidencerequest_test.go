package fields_test

import (
	"errors"
	"strings"
	"testing"

	"vitrine/internal/fields"
	"vitrine/spec/vectors"
)

// spec: FLD-8
func TestEvidenceRequestIsExactlyOneLine(t *testing.T) {
	for _, values := range [][]string{nil, {}} {
		if _, err := fields.ParseEvidenceRequest(values); !errors.Is(err, fields.ErrAbsent) {
			t.Errorf("%q: %v, want absent", values, err)
		}
	}
	one := fields.FormatEvidenceRequest([]byte("hello"))
	for _, values := range [][]string{{one, one}, {one, ""}, {"", one}, {":aGVs", "bG8=:"}} {
		if _, err := fields.ParseEvidenceRequest(values); !errors.Is(err, fields.ErrMalformed) {
			t.Errorf("%q: %v, want malformed", values, err)
		}
	}
	// RFC 9110 section 5.5: spaces around a value are not part of it.
	if got, err := fields.ParseEvidenceRequest([]string{"  " + one + " "}); err != nil || string(got) != "hello" {
		t.Errorf("with spaces around: %q, %v", got, err)
	}
}

func seed(f *testing.F, kind string) {
	f.Helper()
	list, err := vectors.Load(kind)
	if err != nil {
		f.Fatal(err)
	}
	for _, v := range list {
		f.Add(string(v.Bytes))
	}
}

func FuzzEvidenceRequest(f *testing.F) {
	seed(f, "evidence-request")
	f.Fuzz(func(t *testing.T, value string) {
		request, err := fields.ParseEvidenceRequest([]string{value})
		if err != nil {
			return
		}
		if len(request) == 0 || len(request) > fields.MaxEvidenceRequest {
			t.Fatalf("accepted %d bytes", len(request))
		}
		if again := fields.FormatEvidenceRequest(request); again != strings.Trim(value, " ") {
			t.Fatalf("%q is written as %q", value, again)
		}
	})
}
