package fields_test

import (
	"slices"
	"testing"

	"vitrine/internal/fields"
)

// spec: FLD-10
func TestOptionsRoundTripAndJoinLines(t *testing.T) {
	for _, modes := range [][]fields.Mode{nil, {fields.Blind}, {fields.Intact, fields.Split, fields.Blind}} {
		got, err := fields.ParseOptions([]string{fields.FormatOptions(modes)})
		if err != nil || !slices.Equal(got, modes) {
			t.Errorf("%q: %q, %v", modes, got, err)
		}
	}
	if got, err := fields.ParseOptions(nil); err != nil || len(got) != 0 {
		t.Errorf("absent: %q, %v", got, err)
	}
	got, err := fields.ParseOptions([]string{"blind", "intact, blind"})
	if err != nil || !slices.Equal(got, []fields.Mode{fields.Blind, fields.Intact}) {
		t.Errorf("two lines: %q, %v", got, err)
	}
}

func TestParseMode(t *testing.T) {
	for _, m := range []fields.Mode{fields.Intact, fields.Split, fields.Blind} {
		if got, err := fields.ParseMode(string(m)); err != nil || got != m {
			t.Errorf("%q: %q, %v", m, got, err)
		}
	}
	for _, s := range []string{"", "Intact", "intact ", "direct"} {
		if got, err := fields.ParseMode(s); err == nil {
			t.Errorf("%q was taken as %q", s, got)
		}
	}
}

func FuzzOptions(f *testing.F) {
	seed(f, "inspection-options")
	f.Fuzz(func(t *testing.T, value string) {
		modes, err := fields.ParseOptions([]string{value})
		if err != nil {
			return
		}
		if len(modes) > 3 {
			t.Fatalf("%q: %d modes out of 3", value, len(modes))
		}
		again, err := fields.ParseOptions([]string{fields.FormatOptions(modes)})
		if err != nil || !slices.Equal(again, modes) {
			t.Fatalf("%q became %q, then %q, %v", value, modes, again, err)
		}
	})
}
