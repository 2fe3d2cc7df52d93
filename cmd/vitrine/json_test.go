package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
)

// U+009B begins a terminal's command as ESC [ does, and encoding/json lets it pass.
func TestJSONIsPrintableAndSaysTheSame(t *testing.T) {
	want := map[string]string{"subject": "CN=\x1b[2J\u009b2J\x7f\u202egnp.exe\u2028\u00ad\U000e0041 bücher 書\"\\"}
	var out bytes.Buffer
	if err := writeJSON(&out, want); err != nil {
		t.Fatal(err)
	}
	line, ended := strings.CutSuffix(out.String(), "\n")
	if !ended || strings.ContainsFunc(line, func(r rune) bool { return r != ' ' && !unicode.IsPrint(r) }) || !strings.Contains(line, "bücher 書") {
		t.Errorf("%q", out.String())
	}
	var got map[string]string
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || got["subject"] != want["subject"] {
		t.Errorf("%q is read as %q %v", line, got, err)
	}
	indented, err := json.MarshalIndent(want, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(string(printableJSON(indented)), "\n"); len(lines) != 3 {
		t.Errorf("%q", lines)
	}
}

// Every --json that repeats what somebody else chose.
func TestJSONOfCommandsIsPrintable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.toml")
	text := "[[rule]]\nid = \"a\"\naction = \"kill\"\nwhen = \"request.path == \u009b2J\"\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, say := range map[string]func(std stdio){
		"policy check": func(std stdio) {
			run(t.Context(), []string{"vitrine", "policy", "check", "--json", file}, std)
		},
		"inner": func(std stdio) {
			s := newInnerSession(&innerSetup{std: stdio{err: std.out}, json: true}, "client", nil)
			s.report.Certificate = &innerPeer{Subject: "CN=\u009b2J"}
			s.end(nil)
		},
		"demo": func(std stdio) {
			if err := printStepJSON(std, demoStep{}, sights{"proxy   \u009b2J"}, nil); err != nil {
				t.Error(err)
			}
		},
	} {
		var out bytes.Buffer
		say(stdio{strings.NewReader(""), &out, io.Discard})
		if !strings.Contains(out.String(), `\u009b`) || strings.ContainsRune(out.String(), '\u009b') {
			t.Errorf("%s: %q", name, out.String())
		}
	}
}
