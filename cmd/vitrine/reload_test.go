package main

import (
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdHup is "hup NAME TEXT": it sends SIGHUP to a server and waits for a line of its log that is new and has TEXT.
func cmdHup(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: hup NAME TEXT")
	}
	s := ts.Value("servers").(map[string]*server)[args[0]]
	if s == nil {
		ts.Fatalf("no server %s", args[0])
	}
	before := strings.Count(s.log.String(), args[1])
	ts.Check(s.cmd.Process.Signal(syscall.SIGHUP))
	for strings.Count(s.log.String(), args[1]) == before {
		select {
		case <-s.log.grown:
		case <-s.closed:
			ts.Fatalf("%s ended: %s", args[0], s.log)
		}
	}
}
