package frames

import "fmt"

// Frame is an [Evidence] or a [Verdict].
type Frame interface {
	Type() uint8
}

// Parse reads the payload of a frame of the given HTTP/2 type. For types that are not ours the error
// wraps [ErrUnknownType], and the payload was not looked at. The result aliases payload.
func Parse(frameType uint8, payload []byte) (Frame, error) {
	switch frameType {
	case TypeEvidence:
		e, err := ParseEvidence(payload)
		if err != nil {
			return nil, err
		}
		return e, nil
	case TypeVerdict:
		v, err := ParseVerdict(payload)
		if err != nil {
			return nil, err
		}
		return v, nil
	}
	return nil, &Error{Where: "frame", Kind: ErrUnknownType, Why: fmt.Sprintf("%#02x", frameType)}
}
