package httpsig

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"testing"
)

// Of two digests one that holds is not enough, and one that nobody can compute says nothing.
//
// spec: SIG-16
func TestEachDigestHasToHold(t *testing.T) {
	right := func(s string) (string, string) {
		short, long := sha256.Sum256([]byte(s)), sha512.Sum512([]byte(s))
		b := base64.StdEncoding.EncodeToString
		return "sha-256=:" + b(short[:]) + ":", "sha-512=:" + b(long[:]) + ":"
	}
	s256, s512 := right("paid")
	w256, w512 := right("owed")
	for _, tt := range []struct {
		lines []string
		parse bool
		holds bool
	}{
		{[]string{s256}, true, true},
		{[]string{s512}, true, true},
		{[]string{s256 + ", " + s512}, true, true},
		{[]string{s256, s512}, true, true},
		{[]string{s512, "md5=:AAAA:"}, true, true},
		{[]string{w256}, true, false},
		{[]string{w512}, true, false},
		{[]string{s256, w512}, true, false},
		{[]string{w256, s512}, true, false},
		{[]string{"md5=:AAAA:"}, false, false},
		{[]string{"sha-256=:AAAA:", s512}, false, false},
		{[]string{"sha-512=1", s256}, false, false},
		{nil, false, false},
	} {
		d, err := ParseDigest(tt.lines)
		if (err == nil) != tt.parse || err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", tt.lines, err)
		}
		if err != nil {
			continue
		}
		d.Write([]byte("pa"))
		d.Write([]byte("id"))
		if err := d.Check(); (err == nil) != tt.holds || err != nil && !errors.Is(err, ErrAltered) {
			t.Errorf("%q: %v", tt.lines, err)
		}
	}
}
