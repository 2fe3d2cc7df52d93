package h2

import (
	"fmt"
	"io"

	"golang.org/x/net/http2"
	"golang.org/x/time/rate"

	"vitrine/internal/hop"
)

// budgets are spent by the reader alone.
type budgets struct {
	resets, pings, settings, empty, updates *rate.Limiter

	updatesSeen uint64 // WINDOW_UPDATEs, of which four for each DATA frame of ours are free
}

func newBudgets(l *hop.Limits) budgets {
	bucket := func(r hop.Rate) *rate.Limiter { return rate.NewLimiter(rate.Limit(r.PerSecond), r.Burst) }
	return budgets{
		resets:   bucket(l.Resets),
		pings:    bucket(l.Pings),
		settings: bucket(l.Settings),
		empty:    bucket(l.Empty),
		updates:  bucket(l.Updates),
	}
}

// spend ends the session when the peer has no budget left for what it does.
func (s *session) spend(l *rate.Limiter, what string) error {
	if l.Allow() {
		return nil
	}
	return calm("too many: %s", what)
}

// spendUpdate pays for a WINDOW_UPDATE.
func (s *session) spendUpdate() error {
	s.budgets.updatesSeen++
	if s.budgets.updatesSeen <= 4*s.w.dataFrames.Load() {
		return nil
	}
	return s.spend(s.budgets.updates, "WINDOW_UPDATE")
}

// A connError is an error of the peer's that ends the connection.
type connError struct {
	code   http2.ErrCode
	reason string
}

func (e *connError) Error() string { return e.code.String() + ": " + e.reason }

// A causedError is a connError with a cause that whoever uses the session may want to know.
type causedError struct {
	*connError
	cause error
}

func (e *causedError) Unwrap() error { return e.connError }

func protocol(format string, args ...any) error {
	return &connError{http2.ErrCodeProtocol, fmt.Sprintf(format, args...)}
}

func calm(format string, args ...any) error {
	return &connError{http2.ErrCodeEnhanceYourCalm, fmt.Sprintf(format, args...)}
}

// A blockReader sits below the Framer and counts the CONTINUATION frames of a header block: the
// Framer reads them by itself, empty ones without end.
type blockReader struct {
	r   io.Reader
	max int

	on     bool
	left   int // payload bytes of the current frame
	header [9]byte
	got    int // of header
	frames int
	err    error
}

// begin is called between the header and the payload of a HEADERS frame.
func (b *blockReader) begin(length uint32) {
	b.on, b.left, b.got, b.frames = true, int(length), 0, 0
}

func (b *blockReader) end() { b.on = false }

func (b *blockReader) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.r.Read(p)
	if b.on {
		b.count(p[:n])
	}
	return n, err
}

func (b *blockReader) count(p []byte) {
	for len(p) > 0 {
		if b.left > 0 {
			n := min(b.left, len(p))
			b.left -= n
			p = p[n:]
			continue
		}
		n := copy(b.header[b.got:], p)
		b.got += n
		p = p[n:]
		if b.got < len(b.header) {
			return
		}
		b.got = 0
		b.left = int(b.header[0])<<16 | int(b.header[1])<<8 | int(b.header[2])
		if b.frames++; b.frames > b.max {
			b.err = calm("more than %d CONTINUATION frames in a header block", b.max)
		}
	}
}
