package main

import (
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdHup is "hup NAME TEXT": it sends SIGHUP to a server, waits until the log says what came of it, and demands that
// what is new in it has TEXT.
func cmdHup(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: hup NAME TEXT")
	}
	s := ts.Value("servers").(map[string]*server)[args[0]]
	if s == nil {
		ts.Fatalf("no server %s", args[0])
	}
	before := len(s.log.String())
	ts.Check(s.cmd.Process.Signal(syscall.SIGHUP))
	silence := time.After(serverTime)
	for {
		said := s.log.String()[before:]
		if strings.Contains(said, "reloaded") {
			if !strings.Contains(said, args[1]) {
				ts.Fatalf("no %q in %s", args[1], said)
			}
			return
		}
		select {
		case <-s.log.grown:
		case <-s.closed:
			ts.Fatalf("%s ended: %s", args[0], s.log)
		case <-silence:
			ts.Fatalf("%s says nothing of a reload: %s", args[0], s.log)
		}
	}
}
