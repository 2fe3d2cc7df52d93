package fields

import (
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
)

// spec: FLD-17
func TestEvidenceIDHasOneForm(t *testing.T) {
	id := sha256.Sum256([]byte("evidence"))
	good := FormatEvidenceID(id)
	for _, c := range []struct {
		name   string
		values []string
		want   error
	}{
		{"as it is written", []string{good}, nil},
		{"spaces around it", []string{" " + good + " "}, nil},
		{"absent", nil, ErrAbsent},
		{"two lines", []string{good, good}, ErrMalformed},
		{"empty", []string{""}, ErrMalformed},
		{"a string", []string{`"` + good[1:len(good)-1] + `"`}, ErrMalformed},
		{"31 bytes", []string{":" + strings.Repeat("A", 42) + "==:"}, ErrMalformed},
		{"33 bytes", []string{":" + strings.Repeat("A", 44) + ":"}, ErrMalformed},
		{"bits behind the end", []string{good[:len(good)-3] + "B=:"}, ErrMalformed},
		{"a parameter", []string{good + ";a"}, ErrMalformed},
		{"no base64", []string{":" + strings.Repeat("!", 44) + ":"}, ErrMalformed},
	} {
		got, err := ParseEvidenceID(c.values)
		if c.want == nil && (err != nil || got != id) || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %x, %v, want %v", c.name, got, err, c.want)
		}
	}
}

func FuzzEvidenceID(f *testing.F) {
	f.Add(FormatEvidenceID(sha256.Sum256(nil)))
	f.Fuzz(func(t *testing.T, value string) {
		if id, err := ParseEvidenceID([]string{value}); err == nil && FormatEvidenceID(id) != strings.Trim(value, " ") {
			t.Errorf("%q was read as %x", value, id)
		}
	})
}
