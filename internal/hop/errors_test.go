package hop

import (
	"strings"
	"testing"
)

// GOAWAY carries words of the peer's: they must not become lines of a log, or move a terminal's cursor.
func TestWhatAPeerSaysAtTheEndIsOneLine(t *testing.T) {
	err := &SessionError{Remote: true, Reason: "bye\r\nlevel=INFO msg=passed \x1b[2J\x9b1A\u202e" + strings.Repeat("x", 1000)}
	s := err.Error()
	if strings.ContainsAny(s, "\r\n\x1b\u009b\u202e") || len(s) > 400 {
		t.Errorf("%q", s)
	}
	if !strings.Contains(s, "bye") {
		t.Errorf("%q does not say why", s)
	}
}
