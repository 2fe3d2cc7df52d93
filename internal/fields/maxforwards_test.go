package fields

import (
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"
)

func TestMaxForwards(t *testing.T) {
	for _, tt := range []struct {
		method string
		values []string
		left   int
		given  bool
		bad    bool
	}{
		{"TRACE", nil, 0, false, false},
		{"GET", []string{"0"}, 0, false, false},
		{"GET", []string{"x"}, 0, false, false},
		{"TRACE", []string{"0"}, 0, true, false},
		{"OPTIONS", []string{"007"}, 7, true, false},
		{"OPTIONS", []string{strings.Repeat("9", 100)}, math.MaxInt32, true, false},
		{"OPTIONS", []string{"-1"}, 0, false, true},
		{"OPTIONS", []string{"+1"}, 0, false, true},
		{"OPTIONS", []string{""}, 0, false, true},
		{"OPTIONS", []string{"1 "}, 0, false, true},
		{"OPTIONS", []string{"1", "1"}, 0, false, true},
	} {
		left, given, err := MaxForwards(tt.method, http.Header{MaxForwardsName: tt.values})
		if left != tt.left || given != tt.given || errors.Is(err, ErrMalformed) != tt.bad || err != nil != tt.bad {
			t.Errorf("%s %q: %d, %v, %v", tt.method, tt.values, left, given, err)
		}
	}
}

// What comes back of a TRACE is no way to read what the program itself cannot, and has an end.
func TestTraceKeepsSecrets(t *testing.T) {
	got := string(Trace("TRACE", "/a?b", "a.example", http.Header{
		"Cookie": {"secret"}, "Authorization": {"secret"}, "Proxy-Authorization": {"secret"}, "Host": {"other"},
		"Via": {"1.1 x", "1.1 y"}, "A": {"b"}, "Long": {strings.Repeat("x", 5000)},
	}))
	if want := "TRACE /a?b HTTP/1.1\r\nHost: a.example\r\nA: b\r\nVia: 1.1 x\r\nVia: 1.1 y\r\n\r\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if n := len(Trace("TRACE", "/"+strings.Repeat("x", 10_000), "a.example", nil)); n > maxTrace {
		t.Errorf("%d bytes", n)
	}
}
