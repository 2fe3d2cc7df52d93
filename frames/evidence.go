package frames

import "fmt"

const (
	// MaxFramePayload bounds the payload of each of our frames: RFC 9113 section 4.2 lets no peer send
	// more before the receiver allowed it.
	MaxFramePayload = 16384
	// MaxEvidenceFragments bounds the frames of one evidence. It stops a peer that sends one-byte
	// fragments for ever, each of which costs us a read and a wake-up.
	MaxEvidenceFragments = 16
	// MaxEvidence bounds the bytes of one evidence. It stops a peer that makes us buffer without end
	// before any signature could be checked.
	MaxEvidence = 64 << 10

	maxFragment = MaxFramePayload - 1
	flagLast    = 0x01
)

// Evidence is the payload of one EVIDENCE frame: uint8 flags ‖ fragment.
type Evidence struct {
	Last     bool   // no fragment follows
	Fragment []byte // 1 to 16,383 bytes
}

// Type is [TypeEvidence].
func (Evidence) Type() uint8 { return TypeEvidence }

// ParseEvidence reads the payload of one EVIDENCE frame. Unknown flags, an empty fragment and a payload
// over [MaxFramePayload] are errors. The fragment aliases payload.
func ParseEvidence(payload []byte) (Evidence, error) {
	switch {
	case len(payload) > MaxFramePayload:
		return Evidence{}, evidenceError(ErrTooLarge, "payload of %d bytes, at most %d", len(payload), MaxFramePayload)
	case len(payload) == 0:
		return Evidence{}, evidenceError(ErrTruncated, "no flags")
	case payload[0]&^flagLast != 0:
		return Evidence{}, evidenceError(ErrMalformed, "unknown flags %#02x", payload[0])
	case len(payload) == 1:
		return Evidence{}, evidenceError(ErrMalformed, "empty fragment")
	}
	return Evidence{Last: payload[0] == flagLast, Fragment: payload[1:]}, nil
}

// Append appends the payload to b. It checks nothing: [FragmentEvidence] makes values that fit.
func (e Evidence) Append(b []byte) []byte {
	var flags byte
	if e.Last {
		flags = flagLast
	}
	return append(append(b, flags), e.Fragment...)
}

// FragmentEvidence cuts evidence into the frames that carry it, the fewest that will do; their fragments
// alias evidence. Evidence that is empty or over [MaxEvidence] is an error.
func FragmentEvidence(evidence []byte) ([]Evidence, error) {
	if err := checkEvidenceSize(len(evidence), MaxEvidence); err != nil {
		return nil, err
	}
	out := make([]Evidence, 0, (len(evidence)+maxFragment-1)/maxFragment)
	for len(evidence) > 0 {
		n := min(len(evidence), maxFragment)
		out = append(out, Evidence{Last: n == len(evidence), Fragment: evidence[:n:n]})
		evidence = evidence[n:]
	}
	return out, nil
}

// An EvidenceAssembler puts the fragments of one evidence together. The zero value is ready; use one for
// each stream. After an error it returns that error for ever.
type EvidenceAssembler struct {
	// Max bounds the evidence in bytes; 0 means [MaxEvidence]. It stops a peer that makes us buffer
	// without end.
	Max int

	buf   []byte
	count int
	done  bool
	err   error
}

// Add takes the next fragment, which it copies. At the last one it returns the whole evidence and done.
// A frame behind the last one, more than [MaxEvidenceFragments], and more than Max bytes are errors.
func (a *EvidenceAssembler) Add(e Evidence) (evidence []byte, done bool, err error) {
	if a.err == nil {
		a.err = a.check(e)
	}
	if a.err != nil {
		a.buf = nil
		return nil, false, a.err
	}
	a.count++
	a.buf = append(a.buf, e.Fragment...)
	if !e.Last {
		return nil, false, nil
	}
	evidence, a.buf, a.done = a.buf, nil, true
	return evidence, true, nil
}

func (a *EvidenceAssembler) check(e Evidence) error {
	switch {
	case a.done:
		return evidenceError(ErrMalformed, "a frame behind the last one")
	case len(e.Fragment) == 0:
		return evidenceError(ErrMalformed, "empty fragment")
	case a.count == MaxEvidenceFragments:
		return evidenceError(ErrTooLarge, "more than %d fragments", MaxEvidenceFragments)
	}
	return checkEvidenceSize(len(a.buf)+len(e.Fragment), limitOr(a.Max, MaxEvidence))
}

func checkEvidenceSize(n, limit int) error {
	if n == 0 {
		return evidenceError(ErrMalformed, "empty evidence")
	}
	if n > limit {
		return evidenceError(ErrTooLarge, "evidence of %d bytes or more, at most %d", n, limit)
	}
	return nil
}

func limitOr(n, fallback int) int {
	if n > 0 {
		return n
	}
	return fallback
}

func evidenceError(kind error, format string, args ...any) error {
	return &Error{Where: "EVIDENCE", Kind: kind, Why: fmt.Sprintf(format, args...)}
}
