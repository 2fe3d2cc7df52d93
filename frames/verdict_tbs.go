package frames

import (
	"encoding/binary"
	"fmt"
	"time"
)

const (
	verdictVersion = 1

	maxAuthority = 255
	maxRule      = 255
	maxDetail    = 1024
	// maxTime is the last millisecond of the year 9999, past which times have no RFC 3339 form.
	maxTime = 253402300799999
)

// Direction says which way the bytes went that a verdict is about.
type Direction uint8

const (
	ToOrigin Direction = 0 // from the client: requests
	ToClient Direction = 1 // from the origin: responses
)

func (d Direction) String() string {
	switch d {
	case ToOrigin:
		return "to origin"
	case ToClient:
		return "to client"
	}
	return fmt.Sprintf("direction %d", uint8(d))
}

// Reason is the class of a kill. A receiver takes classes that it does not know; 0 is none.
type Reason uint16

const (
	ReasonInspector Reason = 1 // an inspector's rule
	ReasonOpaque    Reason = 2 // the proxy cannot read what passes
	ReasonMalformed Reason = 3 // the strict HTTP reader
	ReasonInnerTLS  Reason = 4 // the inner TLS state machine
	ReasonLimit     Reason = 5 // a budget
	ReasonPolicy    Reason = 6 // the proxy's policy for the target or the client
	ReasonShutdown  Reason = 7 // the proxy is closing
)

func (r Reason) String() string {
	switch r {
	case ReasonInspector:
		return "inspector"
	case ReasonOpaque:
		return "opaque"
	case ReasonMalformed:
		return "malformed"
	case ReasonInnerTLS:
		return "inner-tls"
	case ReasonLimit:
		return "limit"
	case ReasonPolicy:
		return "policy"
	case ReasonShutdown:
		return "shutdown"
	}
	return fmt.Sprintf("reason %d", uint16(r))
}

// VerdictTBS is what the proxy signs when it kills a tunnel.
type VerdictTBS struct {
	ProxyLeaf [32]byte  // SHA-256 of the proxy's leaf certificate
	Nonce     [32]byte  // N of the CONNECT
	Authority string    // of the CONNECT, 1 to 255 bytes of visible ASCII
	Time      time.Time // of the kill, to the millisecond, 1970 to 9999
	Direction Direction // in which the bytes went that were not allowed
	// ReleasedToOrigin and ReleasedToClient count the bytes of the inner session that left the proxy
	// before the kill.
	ReleasedToOrigin, ReleasedToClient uint64
	Reason                             Reason
	Rule                               string // stable id, at most 255 bytes; see [CleanText]
	Detail                             string // one line for a person, at most 1,024 bytes; see [CleanText]
}

// ParseVerdictTBS reads a tbs of version 1. Every field is checked; nothing may follow the last.
func ParseVerdictTBS(p []byte) (*VerdictTBS, error) {
	r := reader{p: p}
	if version := r.uint8(); !r.short && version != verdictVersion {
		return nil, tbsError(ErrMalformed, "version %d", version)
	}
	t := new(VerdictTBS)
	copy(t.ProxyLeaf[:], r.bytes(len(t.ProxyLeaf)))
	copy(t.Nonce[:], r.bytes(len(t.Nonce)))
	t.Authority = string(r.vector8())
	ms := r.uint64()
	t.Direction = Direction(r.uint8())
	t.ReleasedToOrigin = r.uint64()
	t.ReleasedToClient = r.uint64()
	t.Reason = Reason(r.uint16())
	t.Rule = string(r.vector8())
	t.Detail = string(r.vector16())
	if r.short {
		return nil, tbsError(ErrTruncated, "it ends inside a field")
	}
	if len(r.p) != 0 {
		return nil, tbsError(ErrMalformed, "%d bytes behind the detail", len(r.p))
	}
	if ms > maxTime {
		return nil, tbsError(ErrMalformed, "time %d ms is past the year 9999", ms)
	}
	t.Time = time.UnixMilli(int64(ms)).UTC()
	if err := t.check(); err != nil {
		return nil, err
	}
	return t, nil
}

// Append appends the tbs to b. It refuses exactly what [ParseVerdictTBS] would refuse.
func (t *VerdictTBS) Append(b []byte) ([]byte, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	b = append(b, verdictVersion)
	b = append(b, t.ProxyLeaf[:]...)
	b = append(b, t.Nonce[:]...)
	b = append(b, byte(len(t.Authority)))
	b = append(b, t.Authority...)
	b = binary.BigEndian.AppendUint64(b, uint64(t.Time.UnixMilli()))
	b = append(b, byte(t.Direction))
	b = binary.BigEndian.AppendUint64(b, t.ReleasedToOrigin)
	b = binary.BigEndian.AppendUint64(b, t.ReleasedToClient)
	b = binary.BigEndian.AppendUint16(b, uint16(t.Reason))
	b = append(b, byte(len(t.Rule)))
	b = append(b, t.Rule...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(t.Detail)))
	return append(b, t.Detail...), nil
}

func (t *VerdictTBS) check() error {
	switch ms := t.Time.UnixMilli(); {
	case t.Authority == "":
		return tbsError(ErrMalformed, "empty authority")
	case len(t.Authority) > maxAuthority:
		return tbsError(ErrTooLarge, "authority of %d bytes, at most %d", len(t.Authority), maxAuthority)
	case !visibleASCII(t.Authority):
		return tbsError(ErrMalformed, "authority is not visible ASCII")
	case ms < 0 || ms > maxTime:
		return tbsError(ErrMalformed, "time is not between 1970 and 9999")
	case t.Direction > ToClient:
		return tbsError(ErrMalformed, "%v", t.Direction)
	case t.Reason == 0:
		return tbsError(ErrMalformed, "no reason")
	case len(t.Rule) > maxRule:
		return tbsError(ErrTooLarge, "rule of %d bytes, at most %d", len(t.Rule), maxRule)
	case len(t.Detail) > maxDetail:
		return tbsError(ErrTooLarge, "detail of %d bytes, at most %d", len(t.Detail), maxDetail)
	case !clean(t.Rule):
		return tbsError(ErrMalformed, "rule has characters that could deceive a terminal")
	case !clean(t.Detail):
		return tbsError(ErrMalformed, "detail has characters that could deceive a terminal")
	}
	return nil
}

func tbsError(kind error, format string, args ...any) error {
	return &Error{Where: "verdict tbs", Kind: kind, Why: fmt.Sprintf(format, args...)}
}
