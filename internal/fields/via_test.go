package fields_test

import (
	"net/http"
	"strings"
	"testing"

	"vitrine/internal/fields"
)

// spec: FLD-16
func TestViaFindsLoops(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines []string
		want  bool
	}{
		{"no field", nil, false},
		{"another proxy", []string{"1.1 other.example"}, false},
		{"ours alone", []string{"2 proxy.example"}, true},
		{"with the protocol's name", []string{"HTTP/1.1 proxy.example"}, true},
		{"in capitals", []string{"2 PROXY.example"}, true},
		{"between others", []string{"1.1 a, 2 proxy.example, 3 b"}, true},
		{"without spaces", []string{"1.1 a,2 proxy.example,3 b"}, true},
		{"on the second line", []string{"1.1 a", "3 proxy.example"}, true},
		{"with a comment", []string{"1.1 proxy.example (a, b)"}, true},
		{"with a comment that touches", []string{"1.1 proxy.example(a)"}, true},
		{"behind a nested comment", []string{"1.1 a (x (y, z) w), 2 proxy.example"}, true},
		{"behind a quoted bracket in a comment", []string{`1.1 a (x \) , y), 2 proxy.example`}, true},
		{"behind a comment that never ends", []string{"1.1 a (, 2 proxy.example"}, true},
		{"behind a bracket too many", []string{"1.1 a ), 2 proxy.example"}, true},
		{"in a comment", []string{"1.1 a (x, 2 proxy.example)"}, false},
		{"as a protocol", []string{"proxy.example a"}, false},
		{"as part of a name", []string{"2 proxy.example.org"}, false},
		{"with a port", []string{"2 proxy.example:8443"}, false},
		{"garbage", []string{",,, \\ ((((", ")))("}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := http.Header{"Via": c.lines}
			if got := fields.HasVia(h, "proxy.example"); got != c.want {
				t.Errorf("%q: %v", c.lines, got)
			}
		})
	}
}

func TestAppendViaKeepsWhatIsThere(t *testing.T) {
	h := http.Header{}
	h.Set("Via", "1.1 first.example (a, b)")
	fields.AppendVia(h, "2", "proxy.example")
	if got := strings.Join(h.Values(fields.Via), ", "); got != "1.1 first.example (a, b), 2 proxy.example" {
		t.Errorf("via: %s", got)
	}
}

func FuzzVia(f *testing.F) {
	f.Add("1.1 a (x (y, z) w), 2 b", "proxy.example")
	f.Add("1.1 a (", "p")
	f.Fuzz(func(t *testing.T, line, pseudonym string) {
		if pseudonym == "" || strings.ContainsAny(pseudonym, " \t\r\n\v\f,()\\\u0085\u00a0") || len(strings.Fields(pseudonym)) != 1 || strings.Fields(pseudonym)[0] != pseudonym {
			return
		}
		h := http.Header{"Via": {line}}
		fields.AppendVia(h, "2", pseudonym)
		if !fields.HasVia(h, pseudonym) {
			t.Fatalf("%q is not found behind %q", pseudonym, line)
		}
	})
}
