package frames

import "encoding/binary"

const lateHeader = 4

// AppendLateEvidence appends evidence as it travels in the alternative place, inside DATA:
// uint32 length ‖ evidence. Evidence that is empty or over [MaxEvidence] is an error.
func AppendLateEvidence(b, evidence []byte) ([]byte, error) {
	if err := checkEvidenceSize(len(evidence), MaxEvidence); err != nil {
		return nil, err
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(evidence)))
	return append(b, evidence...), nil
}

// A LateEvidenceReader reads evidence from the first bytes of DATA, however they were cut. The zero value
// is ready; use one for each stream. After an error it returns that error for ever. A stream that ends
// before done is truncated; only the caller can see that.
type LateEvidenceReader struct {
	// Max bounds the evidence in bytes; 0 means [MaxEvidence]. It stops a peer that declares a length
	// which we would have to buffer.
	Max int

	header   [lateHeader]byte
	got      int // of header
	want     int // bytes of evidence, once the header is complete
	evidence []byte
	done     bool
	err      error
}

// Feed takes the next bytes and copies what is evidence. When it is complete, done is true and rest is
// what follows it in p (aliasing p). Called again after that it returns the same evidence and all of p.
func (r *LateEvidenceReader) Feed(p []byte) (rest, evidence []byte, done bool, err error) {
	if r.err != nil {
		return nil, nil, false, r.err
	}
	if r.done {
		return p, r.evidence, true, nil
	}
	if r.got < lateHeader {
		n := copy(r.header[r.got:], p)
		r.got += n
		p = p[n:]
		if r.got < lateHeader {
			return nil, nil, false, nil
		}
		declared := binary.BigEndian.Uint32(r.header[:])
		limit := limitOr(r.Max, MaxEvidence)
		if uint64(declared) > uint64(limit) {
			r.err = evidenceError(ErrTooLarge, "%d bytes declared, at most %d", declared, limit)
			return nil, nil, false, r.err
		}
		if r.err = checkEvidenceSize(int(declared), limit); r.err != nil {
			return nil, nil, false, r.err
		}
		r.want = int(declared)
	}
	n := min(len(p), r.want-len(r.evidence))
	r.evidence = append(r.evidence, p[:n]...)
	if len(r.evidence) < r.want {
		return nil, nil, false, nil
	}
	r.done = true
	return p[n:], r.evidence, true, nil
}
