package origin

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What peers say and provoke must neither forge lines of the server's log nor fill it.
func TestPeersNeitherForgeNorFloodTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		o := newServer(w.srv, new(Config), w.srv.TLSConfig)
		o.logf("hop: %s", "bye\r\norigin: all is well\x1b[2J")
		if s := w.log.String(); strings.Count(s, "\n") != 1 || strings.ContainsAny(s, "\r\x1b") {
			t.Errorf("log %q", s)
		}
		for range 10 * lineBurst {
			o.logf("again")
		}
		if n := strings.Count(w.log.String(), "\n"); n != lineBurst {
			t.Errorf("%d lines", n)
		}
		<-time.After(time.Second)
		o.logf("later")
		if s := w.log.String(); !strings.HasSuffix(s, "later (1801 lines before it were left out)\n") {
			t.Errorf("log ends %q", s[len(s)-100:])
		}
	})
}
