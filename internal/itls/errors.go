package itls

import (
	"errors"
	"fmt"
	"io"

	"vitrine/internal/tlsmsg"
)

// ErrTruncated says that the carrier ended without close_notify: what was read is a beginning. It
// wraps [io.ErrUnexpectedEOF].
var ErrTruncated error = truncatedError{}

type truncatedError struct{}

func (truncatedError) Error() string { return "itls: the session was cut off without close_notify" }
func (truncatedError) Unwrap() error { return io.ErrUnexpectedEOF }

// ErrClosedWrite says that Write was called after CloseWrite.
var ErrClosedWrite = errors.New("itls: Write after CloseWrite")

// An AlertError says that the session ended with an alert.
type AlertError struct {
	Alert  tlsmsg.Alert
	Remote bool  // the peer sent it; otherwise we did
	Err    error // why we sent it; nil when Remote
}

func (e *AlertError) Error() string {
	if e.Remote {
		return "itls: the peer sent " + e.Alert.String()
	}
	return fmt.Sprintf("itls: %v (sent %s)", e.Err, e.Alert)
}

func (e *AlertError) Unwrap() error { return e.Err }

// A RecordError says that a record is not the one the peer sent next: it was changed, inserted,
// dropped, reordered or replayed on the way.
type RecordError struct {
	Sequence uint64 // of the record, since its key came into use
}

func (e *RecordError) Error() string {
	return fmt.Sprintf("record %d failed authentication", e.Sequence)
}

// A CertificateError says that the peer's certificate was refused, by the chain's verification or by
// a callback.
type CertificateError struct{ Err error }

func (e *CertificateError) Error() string { return "certificate refused: " + e.Err.Error() }
func (e *CertificateError) Unwrap() error { return e.Err }

// abort is an error that fail turns into an alert.
func abort(alert tlsmsg.Alert, format string, args ...any) error {
	return &AlertError{Alert: alert, Err: fmt.Errorf(format, args...)}
}

// alertFor gives an error its alert: the one it names, or internal_error.
func alertFor(err error) *AlertError {
	if a, ok := err.(*AlertError); ok {
		return a
	}
	if p, ok := errors.AsType[*tlsmsg.ParseError](err); ok {
		return &AlertError{Alert: p.Alert, Err: err}
	}
	return &AlertError{Alert: tlsmsg.AlertInternalError, Err: err}
}
