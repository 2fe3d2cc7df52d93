package main

import (
	"flag"
	"io"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write vitrine.1")

// TestTheManPageSaysWhatHelpSays holds vitrine.1 to the flags and texts of the commands.
func TestTheManPageSaysWhatHelpSays(t *testing.T) {
	want, err := newApp(stdio{strings.NewReader(""), io.Discard, io.Discard}).ToManWithSection(1)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("vitrine.1", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("vitrine.1")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("vitrine.1 is stale; run: go test ./cmd/vitrine -run TestTheManPage -update")
	}
}
