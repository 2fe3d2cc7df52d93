package hop

import (
	"fmt"
	"net"

	"vitrine/frames"
)

// An ErrorCode is what a RST_STREAM or GOAWAY says, in HTTP/2's numbers (RFC 9113, section 7). A
// carrier of another protocol translates.
type ErrorCode uint64

// The codes that the packages above a carrier use.
const (
	NoError         ErrorCode = 0x0
	ProtocolError   ErrorCode = 0x1
	InternalError   ErrorCode = 0x2
	RefusedStream   ErrorCode = 0x7
	Cancel          ErrorCode = 0x8
	ConnectError    ErrorCode = 0xa
	EnhanceYourCalm ErrorCode = 0xb
	Killed          ErrorCode = frames.CodeKilled
)

// A ResetError says that a stream was reset.
type ResetError struct {
	Code   ErrorCode
	Remote bool // the peer sent it
	// Verdict is the VERDICT payload (behind its stream field) that the peer sent for this stream;
	// nil where it sent none. It is not verified.
	Verdict []byte
}

func (e *ResetError) Error() string {
	by := "locally"
	if e.Remote {
		by = "by the peer"
	}
	if e.Code == Killed {
		return "hop: stream killed " + by
	}
	return fmt.Sprintf("hop: stream reset %s with code %#x", by, uint64(e.Code))
}

// Unwrap makes errors.Is(err, net.ErrClosed) true.
func (e *ResetError) Unwrap() error { return net.ErrClosed }

// A SessionError says why a session ended.
type SessionError struct {
	Code   ErrorCode
	Remote bool // the peer ended it
	Reason string
	Err    error // what was underneath; may be nil
}

func (e *SessionError) Error() string {
	s := "hop: session ended"
	if e.Remote {
		s += " by the peer"
	}
	if e.Code != NoError {
		s += fmt.Sprintf(" with code %#x", uint64(e.Code))
	}
	if e.Reason != "" {
		s += ": " + frames.CleanText(e.Reason, 256) // the peer's words may end in a log or on a terminal
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap makes errors.Is(err, net.ErrClosed) true, beside what was underneath.
func (e *SessionError) Unwrap() []error {
	if e.Err == nil {
		return []error{net.ErrClosed}
	}
	return []error{net.ErrClosed, e.Err}
}

// A RetryError says that the peer provably did not process the stream: it is safe to open again
// elsewhere.
type RetryError struct{ Err error }

func (e *RetryError) Error() string { return "hop: not processed by the peer: " + e.Err.Error() }

func (e *RetryError) Unwrap() error { return e.Err }
