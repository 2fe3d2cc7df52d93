package main

import (
	"flag"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"
)

func TestConsentIsToAName(t *testing.T) {
	for given, want := range map[string]string{
		"glass.example":               "glass.example",
		"GLASS.Example":               "glass.example",
		"bücher.example":              "xn--bcher-kva.example",
		"192.0.2.1":                   "192.0.2.1",
		"2001:DB8::1":                 "2001:db8::1",
		"[2001:db8::1]":               "2001:db8::1",
		"https://glass.example":       "glass.example",
		"https://glass.example/":      "glass.example",
		"https://glass.example:8443":  "glass.example",
		"https://[2001:db8::1]:8443/": "2001:db8::1",
	} {
		if got, err := proxyName(given); err != nil || got != want {
			t.Errorf("%q: %q, %v", given, got, err)
		}
	}
	for _, given := range []string{
		"", "glass.example:443", "*", "*.example", "glass..example", "glass.example.", "http://glass.example", "https://",
		"https://user:hunter2@glass.example", "hunter2@glass.example", "https://glass.example/hunter2", "https://glass.example?hunter2",
		"https://glass.example#hunter2", "://hunter2", "https://%zz@hunter2",
	} {
		got, err := proxyName(given)
		if err == nil {
			t.Errorf("%q is taken for %q", given, got)
		} else if exitCode(err) != exitUsage || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", given, err)
		}
	}
}

func TestEndOfAGrant(t *testing.T) {
	zone := time.FixedZone("here", 2*60*60)
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, zone)
	end := func(args ...string) (time.Time, error) {
		set := flag.NewFlagSet("grant", flag.ContinueOnError)
		set.String("for", "", "")
		set.String("until", "", "")
		if err := set.Parse(args); err != nil {
			t.Fatal(err)
		}
		return grantEnd(cli.NewContext(nil, set, nil), now)
	}
	for _, tt := range []struct {
		args []string
		want time.Time
	}{
		{nil, now.Add(30 * 24 * time.Hour)},
		{[]string{"--for=1d"}, now.Add(24 * time.Hour)},
		{[]string{"--for=366d"}, now.Add(366 * 24 * time.Hour)},
		{[]string{"--for=1h30m"}, now.Add(90 * time.Minute)},
		{[]string{"--until=2026-11-23"}, time.Date(2026, 11, 23, 0, 0, 0, 0, zone)},
		{[]string{"--until=2026-11-22T10:00:01Z"}, now.Add(time.Second)},
		{[]string{"--until=2027-11-23T12:00:00+02:00"}, now.Add(366 * 24 * time.Hour)},
	} {
		if got, err := end(tt.args...); err != nil || !got.Equal(tt.want) {
			t.Errorf("%q: %v, %v; want %v", tt.args, got, err, tt.want)
		}
	}
	for _, args := range [][]string{
		{"--for=30"},
		{"--for="},
		{"--for=d"},
		{"--for=0d"},
		{"--for=0s"},
		{"--for=-1d"},
		{"--for=-1h"},
		{"--for=+1d"},
		{"--for=1.5d"},
		{"--for=367d"},
		{"--for=8785h"},
		{"--for=65535d"},
		{"--for=65536d"},
		{"--for=106752d"},
		{"--for=213504d"},
		{"--for=99999999999999999999d"},
		{"--until="},
		{"--until=tomorrow"},
		{"--until=2026-11-22"},
		{"--until=2026-11-22T10:00:00Z"},
		{"--until=2026-13-01"},
		{"--until=2026-02-30"},
		{"--until=2027-11-24"},
		{"--until=9999-12-31"},
		{"--until=0001-01-01"},
		{"--until=2027-01-01", "--for=1d"},
	} {
		if got, err := end(args...); exitCode(err) != exitUsage {
			t.Errorf("%q: until %v, %v", args, got, err)
		}
	}
}

func TestAScopeInWords(t *testing.T) {
	for scope, want := range map[string]string{
		"*":                              "every host",
		"*:8443":                         "every host on port 8443",
		"*.example":                      "every host below example",
		"*.example:8443":                 "every host below example:8443",
		"shop.example:443 [2001:db8::1]": "shop.example:443, [2001:db8::1]",
	} {
		if got := inWords(strings.Fields(scope)); got != want {
			t.Errorf("%q: %q, want %q", scope, got, want)
		}
	}
}
