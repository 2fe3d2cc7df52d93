package hosts

import (
	"strings"
	"testing"
)

func TestPatterns(t *testing.T) {
	for _, x := range []struct {
		pattern string
		yes, no string // authorities, separated by spaces
	}{
		{"*", "shop.example:443 192.0.2.1:80 [2001:db8::1]:443", "shop.example SHOP.example:443"},
		{"shop.example", "shop.example:443 shop.example:8443", "a.shop.example:443 xshop.example:443 example:443 shop.example.:443"},
		{"Shop.Example", "shop.example:443", "other.example:443"},
		{"*.example", "shop.example:443 a.b.example:1", "example:443 xexample:443 shop.example.org:443"},
		{"*.shop.example:8443", "a.shop.example:8443", "a.shop.example:443 shop.example:8443"},
		{"shop.example:443", "shop.example:443", "shop.example:8443"},
		{"*:443", "shop.example:443", "shop.example:444"},
		{"192.0.2.1", "192.0.2.1:443", "192.0.2.10:443 1.192.0.2.1:443"},
		{"[2001:DB8::1]", "[2001:db8::1]:443", "[2001:db8::2]:443"},
		{"[2001:db8::1]:8443", "[2001:db8::1]:8443", "[2001:db8::1]:443"},
		{"bücher.example", "xn--bcher-kva.example:443", "bucher.example:443"},
	} {
		p, err := Parse(x.pattern)
		if err != nil {
			t.Errorf("%s: %v", x.pattern, err)
			continue
		}
		for _, a := range strings.Fields(x.yes) {
			if !p.Match(a) || !MatchAny([]Pattern{{}, p}, a) {
				t.Errorf("%s does not match %s", x.pattern, a)
			}
		}
		for _, a := range strings.Fields(x.no) {
			if p.Match(a) {
				t.Errorf("%s matches %s", x.pattern, a)
			}
		}
		if again, err := Parse(p.String()); err != nil || again != p {
			t.Errorf("%s became %q, which is read as %v, %v", x.pattern, p, again, err)
		}
	}
	if (Pattern{}).Match("shop.example:443") {
		t.Error("the zero Pattern matches")
	}
}

func TestBadPatterns(t *testing.T) {
	for _, s := range []string{
		"", "a*.example", "*example", "*.*.example", "**", "*.", "*.192.0.2.1", "*.[::1]", "*.[fd::1]", "shop.example:", "shop.example:0", "shop.example:65536",
		"shop.example:0443", "shop.example:x", "2001:db8::1", "https://shop.example", "shop.example/", "[::1", "127.1", strings.Repeat("a.", 200),
	} {
		if p, err := Parse(s); err == nil {
			t.Errorf("%q is read as %v", s, p)
		}
	}
	if _, err := Parse(strings.Repeat("a", maxPattern+1)); err == nil || err.Error() != "a pattern of 301 bytes, at most 300" {
		t.Errorf("a pattern that is too long: %v", err)
	}
}

// FuzzParse: a pattern that is read has one spelling, which is read as the same, and it matches no
// authority that is not canonical.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"*", "*.example:443", "[2001:db8::1]:1", "bücher.example", "*:1"} {
		f.Add(s, "a.example:443")
	}
	f.Fuzz(func(t *testing.T, s, authority string) {
		p, err := Parse(s)
		if err != nil {
			return
		}
		again, err := Parse(p.String())
		if err != nil || again != p {
			t.Fatalf("%q became %q, which is read as %v, %v", s, p, again, err)
		}
		if p.Match(authority) && strings.ToLower(authority) != authority {
			t.Fatalf("%q matches %q", s, authority)
		}
	})
}
