package inspect

import (
	"errors"
	"unicode/utf8"

	"vitrine/frames"
)

const (
	maxRule   = 64
	maxReason = 256
)

// ErrClosed is what Feed and End return after Close.
var ErrClosed = errors.New("inspect: tunnel is closed")

// A KillError says why nothing more may leave a tunnel. It goes into the VERDICT.
type KillError struct {
	Reason    frames.Reason
	Direction frames.Direction // in which the bytes went that were not allowed
	Rule      string           // stable id, at most 64 bytes
	Detail    string           // one line for a person, at most 256 bytes
}

func (e *KillError) Error() string {
	s := "inspect: killed by rule " + e.Rule
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// cut shortens s to max bytes without leaving half a character.
func cut(s string, max int) string {
	if len(s) <= max {
		return s
	}
	for max > 0 && !utf8.RuneStart(s[max]) {
		max--
	}
	return s[:max]
}
