package main

import (
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdPrefix is "prefix A B": B begins with the bytes of A.
func cmdPrefix(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: prefix A B")
	}
	if strings.HasPrefix(ts.ReadFile(args[1]), ts.ReadFile(args[0])) == neg {
		ts.Fatalf("%s is a prefix of %s: %t", args[0], args[1], !neg)
	}
}
