package fields_test

import (
	"net/netip"
	"strings"
	"testing"

	"vitrine/internal/fields"
)

// spec: FLD-6
func TestLongNamesDoNotReachIDNA(t *testing.T) {
	for _, host := range []string{strings.Repeat("a.", 127), strings.Repeat("ü", 64), strings.Repeat("ü.", 200), strings.Repeat("ü", 1<<20), "[" + strings.Repeat(":", 1<<20) + "]"} {
		if authority, err := fields.CanonicalAuthority(host, 443); err == nil {
			t.Errorf("%d bytes were accepted as %.40q", len(host), authority)
		}
	}
}

func FuzzAuthority(f *testing.F) {
	seed(f, "authority")
	f.Fuzz(func(t *testing.T, s string) {
		host, port, err := fields.ParseAuthority(s)
		if err != nil {
			return
		}
		if len(s) > 255 || s != strings.ToLower(s) || strings.ContainsAny(s, " /@%\\?#\x00") || port < 1 || port > 65535 {
			t.Fatalf("accepted %q", s)
		}
		if addr, err := netip.ParseAddr(host); err == nil && (addr.Zone() != "" || addr.Is4In6() || addr.String() != host) {
			t.Fatalf("accepted address %q", host)
		}
		again, err := fields.CanonicalAuthority(host, port)
		if err != nil || again != s {
			t.Fatalf("%q is canonically %q, %v", s, again, err)
		}
	})
}

func FuzzCanonicalAuthority(f *testing.F) {
	seed(f, "canonical-authority")
	f.Fuzz(func(t *testing.T, host string) {
		authority, err := fields.CanonicalAuthority(host, 443)
		if err != nil {
			return
		}
		if _, _, err := fields.ParseAuthority(authority); err != nil {
			t.Fatalf("%q became %q, which is not canonical: %v", host, authority, err)
		}
	})
}
