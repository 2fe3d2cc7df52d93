package main

import (
	"io"
	"slices"
	"strings"
	"testing"
)

func TestFlagsMayFollowArguments(t *testing.T) {
	for _, tt := range []struct{ in, out string }{
		{"fetch URL --proxy P", "fetch --proxy=P -- URL"},
		{"fetch URL -o F", "fetch -o=F -- URL"},
		{"fetch -iv URL", "fetch -i -v -- URL"},
		{"fetch -XPOST URL", "fetch -X=POST -- URL"},
		{"fetch -ioF URL", "fetch -i -o=F -- URL"},
		{"fetch -d a=b -d @f URL", "fetch -d=a=b -d=@f -- URL"},
		{"fetch --proxy=P --report=R=S URL", "fetch --proxy=P --report=R=S -- URL"},
		{"fetch -- --proxy", "fetch -- --proxy"},
		{"fetch -o - URL", "fetch -o=- -- URL"},
		{"fetch -d - URL", "fetch -d=- -- URL"},
		{"pki origin DIR a b", "pki origin -- DIR a b"},
		{"pki init", "pki init"},
		{"demo --json", "demo --json"},
		{"fetch --help", "fetch --help"},
		{"fetch -h", "fetch -h"},
	} {
		app := newApp(stdio{strings.NewReader(""), io.Discard, io.Discard})
		got, err := arrange(app, append([]string{"vitrine"}, strings.Fields(tt.in)...))
		if err != nil {
			t.Errorf("%s: %v", tt.in, err)
			continue
		}
		if want := append([]string{"vitrine"}, strings.Fields(tt.out)...); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", tt.in, got, want)
		}
	}
}

func TestWrongFlagsAreUsageErrors(t *testing.T) {
	for _, in := range []string{
		"nonsense", "--nonsense", "fetch --nonsense URL", "fetch -Z URL", "fetch URL --proxy", "fetch URL -o",
		"demo --json=yes", "fetch -proxy P URL", "version extra --json",
	} {
		code := run(t.Context(), append([]string{"vitrine"}, strings.Fields(in)...), stdio{strings.NewReader(""), io.Discard, io.Discard})
		if code != exitUsage {
			t.Errorf("%s: exit status %d, want %d", in, code, exitUsage)
		}
	}
}

func FuzzArrange(f *testing.F) {
	f.Add("fetch -iv URL --proxy=P")
	f.Add("fetch -- -x")
	f.Fuzz(func(t *testing.T, line string) {
		app := newApp(stdio{strings.NewReader(""), io.Discard, io.Discard})
		args := append([]string{"vitrine"}, strings.Fields(line)...)
		once, err := arrange(app, args)
		if err != nil {
			return
		}
		twice, err := arrange(app, once)
		if err != nil || !slices.Equal(once, twice) {
			t.Errorf("%q arranged once is %q and twice %q, %v", line, once, twice, err)
		}
	})
}
