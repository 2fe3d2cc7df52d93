package main

import (
	"bytes"
	"encoding/json"
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
