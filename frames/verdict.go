package frames

import (
	"encoding/binary"
	"fmt"
)

const (
	// streamLen is the size of the stream field, the only unsigned part of a VERDICT.
	streamLen = 8
	// maxStream is the largest stream id of QUIC (RFC 9000 section 2.1); those of HTTP/2 are smaller.
	maxStream = 1<<62 - 1
)

// Verdict is the payload of a VERDICT frame: uint64 stream ‖ [SignedVerdict].
type Verdict struct {
	// Stream is the tunnel on the hop that the frame travels on. It is not signed: it differs per hop.
	Stream uint64
	SignedVerdict
}

// SignedVerdict is what the proxy signed, with its signature; it is the same on both hops:
// opaque tbs<1..2^14> ‖ SignatureScheme ‖ opaque signature<0..2^16-1>.
type SignedVerdict struct {
	TBS       []byte // a [VerdictTBS], 1 to 16,384 bytes
	Scheme    uint16 // of TLS 1.3 (RFC 8446 section 4.2.3)
	Signature []byte
}

// Type is [TypeVerdict].
func (Verdict) Type() uint8 { return TypeVerdict }

// ParseVerdict reads the payload of a VERDICT frame. It checks the form only, neither the tbs nor the
// signature. TBS and Signature alias payload.
func ParseVerdict(payload []byte) (Verdict, error) {
	stream, signed, err := SplitVerdict(payload)
	if err != nil {
		return Verdict{}, err
	}
	s, err := ParseSignedVerdict(signed)
	if err != nil {
		return Verdict{}, err
	}
	return Verdict{Stream: stream, SignedVerdict: s}, nil
}

// Append appends the payload to b. Fields that are out of range, or too long for one frame, are errors.
func (v Verdict) Append(b []byte) ([]byte, error) {
	if v.Stream > maxStream {
		return nil, verdictError(ErrMalformed, "stream %d is no stream id", v.Stream)
	}
	return v.SignedVerdict.Append(binary.BigEndian.AppendUint64(b, v.Stream))
}

// SplitVerdict separates the stream from the signed rest, which it does not read further than its size.
// signed aliases payload.
func SplitVerdict(payload []byte) (stream uint64, signed []byte, err error) {
	if len(payload) > MaxFramePayload {
		return 0, nil, verdictError(ErrTooLarge, "payload of %d bytes, at most %d", len(payload), MaxFramePayload)
	}
	if len(payload) < streamLen {
		return 0, nil, verdictError(ErrTruncated, "no stream")
	}
	stream = binary.BigEndian.Uint64(payload)
	if stream > maxStream {
		return 0, nil, verdictError(ErrMalformed, "stream %d is no stream id", stream)
	}
	return stream, payload[streamLen:], nil
}

// AppendVerdict appends the payload that names stream on this hop. signed is what
// [SignedVerdict.Append] made; it is not checked again.
func AppendVerdict(b []byte, stream uint64, signed []byte) []byte {
	return append(binary.BigEndian.AppendUint64(b, stream), signed...)
}

// ParseSignedVerdict reads what follows the stream. TBS and Signature alias p.
func ParseSignedVerdict(p []byte) (SignedVerdict, error) {
	if len(p) > MaxFramePayload-streamLen {
		return SignedVerdict{}, verdictError(ErrTooLarge, "%d bytes behind the stream, at most %d", len(p), MaxFramePayload-streamLen)
	}
	r := reader{p: p}
	v := SignedVerdict{TBS: r.vector16(), Scheme: r.uint16(), Signature: r.vector16()}
	if r.short {
		return SignedVerdict{}, verdictError(ErrTruncated, "the payload ends inside a field")
	}
	if len(r.p) != 0 {
		return SignedVerdict{}, verdictError(ErrMalformed, "%d bytes behind the signature", len(r.p))
	}
	// No upper bound to check: the frame is smaller than the largest tbs with its neighbours.
	if len(v.TBS) == 0 {
		return SignedVerdict{}, verdictError(ErrMalformed, "empty tbs")
	}
	return v, nil
}

// Append appends tbs, scheme and signature to b. An empty tbs, and what does not fit one frame together
// with the stream, are errors.
func (v SignedVerdict) Append(b []byte) ([]byte, error) {
	if len(v.TBS) == 0 {
		return nil, verdictError(ErrMalformed, "empty tbs")
	}
	if n := streamLen + 2 + len(v.TBS) + 2 + 2 + len(v.Signature); n > MaxFramePayload {
		return nil, verdictError(ErrTooLarge, "payload of %d bytes, at most %d", n, MaxFramePayload)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(v.TBS)))
	b = append(b, v.TBS...)
	b = binary.BigEndian.AppendUint16(b, v.Scheme)
	b = binary.BigEndian.AppendUint16(b, uint16(len(v.Signature)))
	return append(b, v.Signature...), nil
}

func verdictError(kind error, format string, args ...any) error {
	return &Error{Where: "VERDICT", Kind: kind, Why: fmt.Sprintf(format, args...)}
}
