package inspect

import (
	"errors"
	"fmt"
	"runtime/debug"
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
	// Err is for the proxy's operator alone and no part of the VERDICT: a *[PanicError], or nil.
	Err error
}

func (e *KillError) Error() string {
	s := "inspect: killed by rule " + e.Rule
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap is Err.
func (e *KillError) Unwrap() error { return e.Err }

// A PanicError is what an inspector panicked with, and where. Neither end is told of it: it may name
// what the inspector was shown.
type PanicError struct {
	Value any
	Stack []byte // as debug.Stack has it
}

func (e *PanicError) Error() string { return cut(fmt.Sprintf("panic: %v", e.Value), maxReason) }

// recovered makes a kill of a panic in an inspector's code, where it is deferred. A panic ends neither
// the process, which serves other tunnels, nor the inspection, which would let the rest pass unseen.
func recovered(d frames.Direction, kill **KillError) {
	if v := recover(); v != nil {
		*kill = &KillError{
			Reason: reasonOf(RulePanic), Direction: d, Rule: RulePanic, Detail: "an inspector failed",
			Err: &PanicError{Value: v, Stack: debug.Stack()},
		}
	}
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
