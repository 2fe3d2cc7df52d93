package frames

import "encoding/binary"

// reader takes fields off the front of p. After one that is cut it stays short and yields zeroes, so that
// a parser can check once, at its end.
type reader struct {
	p     []byte
	short bool
}

func (r *reader) bytes(n int) []byte {
	if r.short || n > len(r.p) {
		r.short = true
		return nil
	}
	b := r.p[:n:n]
	r.p = r.p[n:]
	return b
}

func (r *reader) uint8() uint8 {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.bytes(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) vector8() []byte  { return r.bytes(int(r.uint8())) }
func (r *reader) vector16() []byte { return r.bytes(int(r.uint16())) }
