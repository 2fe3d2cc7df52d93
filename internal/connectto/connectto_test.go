package connectto

import "testing"

func TestLookupFollowsCurl(t *testing.T) {
	tests := []struct {
		rules    []string
		host     string
		port     int
		wantAddr string
		wantPort int
		wantOK   bool
	}{
		{[]string{"a.example:443:127.0.0.1:8443"}, "a.example", 443, "127.0.0.1", 8443, true},
		{[]string{"A.Example:443:127.0.0.1:8443"}, "a.exAMPLE", 443, "127.0.0.1", 8443, true},
		{[]string{"a.example:443:127.0.0.1:8443"}, "a.example", 444, "a.example", 444, false},
		{[]string{"a.example:443:127.0.0.1:8443"}, "b.example", 443, "b.example", 443, false},
		{[]string{"::127.0.0.1:1"}, "any.example", 77, "127.0.0.1", 1, true},
		{[]string{":443::8443"}, "any.example", 443, "any.example", 8443, true},
		{[]string{"a.example::b.example:"}, "a.example", 99, "b.example", 99, true},
		{[]string{"a.example:443::", "::127.0.0.1:1"}, "a.example", 443, "a.example", 443, true},
		{[]string{"a.example:443:1.1.1.1:1", "a.example:443:2.2.2.2:2"}, "a.example", 443, "1.1.1.1", 1, true},
		{[]string{"[2001:db8:0::1]:443:[::1]:8443"}, "2001:db8::1", 443, "::1", 8443, true},
		{[]string{"[::1]:443:::"}, "::1", 443, "", 0, false},
		{nil, "a.example", 443, "a.example", 443, false},
	}
	for _, tt := range tests {
		var rules Rules
		bad := false
		for _, s := range tt.rules {
			r, err := Parse(s)
			if err != nil {
				bad = true
				break
			}
			rules = append(rules, r)
		}
		if bad {
			if tt.wantAddr != "" {
				t.Errorf("%v: does not parse", tt.rules)
			}
			continue
		}
		addr, port, ok := rules.Lookup(tt.host, tt.port)
		if addr != tt.wantAddr || port != tt.wantPort || ok != tt.wantOK {
			t.Errorf("%v: Lookup(%s, %d) = %s, %d, %v; want %s, %d, %v", tt.rules, tt.host, tt.port, addr, port, ok, tt.wantAddr, tt.wantPort, tt.wantOK)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, s := range []string{
		"", "a", "a:1", "a:1:b", "a:1:b:2:3", "a:0:b:1", "a:65536:b:1", "a:x:b:1", "a:1:b:-1",
		"[::1:1:b:2", "[::1]x:1:b:2", "[a]:1:b:2", "[1.2.3.4]:1:b:2", "a/b:1:c:2", "::1:443:b:2", "[fe80::1%eth0]:1:b:2", "a:1:[::1]",
		string(make([]byte, maxRule+1)),
	} {
		if r, err := Parse(s); err == nil {
			t.Errorf("Parse(%q) = %+v, want an error", s, r)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"a.example:443:127.0.0.1:8443", "::127.0.0.1:1", "[2001:db8::1]:443:[::1]:8443", ":::"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Parse(s)
		if err != nil {
			return
		}
		again, err := Parse(r.String())
		if err != nil {
			t.Fatalf("%q parses, its String %q does not: %v", s, r, err)
		}
		if again != r {
			t.Fatalf("%q: %+v, read back as %+v", s, r, again)
		}
	})
}
