package main

import (
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

func lastLine(s string) string {
	trimmed := strings.TrimSuffix(s, "\n")
	return s[strings.LastIndexByte(trimmed, '\n')+1:]
}

// cmdLastLine is "lastline FILE TO": it writes the last line of FILE to TO.
func cmdLastLine(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: lastline FILE TO")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(lastLine(ts.ReadFile(args[0]))), 0o644))
}
