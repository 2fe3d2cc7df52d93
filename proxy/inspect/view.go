package inspect

import (
	"io"
	"unicode/utf8"
)

// A View is a read-only window on bytes that belong to the wire. It is valid until the call that it was
// given to returns: copy what must stay. The zero View is empty. No method hands out the bytes
// themselves, and there is deliberately no WriteTo, which would hand them to foreign code.
type View struct{ p []byte }

// ViewOf is a View of p, for those who try out an Inspector without a Tunnel.
func ViewOf(p []byte) View { return View{p} }

// Len is how many bytes v shows.
func (v View) Len() int { return len(v.p) }

// At is byte i. It panics when i is out of range.
func (v View) At(i int) byte { return v.p[i] }

// Slice is the window [i:j] of v. It panics when out of range, as a slice does.
func (v View) Slice(i, j int) View { return View{v.p[i:j:j]} }

// CopyTo copies what fits into dst and reports how much.
func (v View) CopyTo(dst []byte) int { return copy(dst, v.p) }

// Append appends a copy to dst.
func (v View) Append(dst []byte) []byte { return append(dst, v.p...) }

// String is a copy as a string.
func (v View) String() string { return string(v.p) }

// Reader reads copies out of v. It is an [io.Reader], an [io.ByteReader] and an [io.RuneReader] (for
// regexp.MatchReader), and like v it is valid until the call returns.
func (v View) Reader() *Reader { return &Reader{v: v} }

// A Reader reads a [View] from its start.
type Reader struct {
	v View
	i int
}

// Read implements [io.Reader].
func (r *Reader) Read(p []byte) (int, error) {
	if r.i == len(r.v.p) {
		return 0, io.EOF
	}
	n := copy(p, r.v.p[r.i:])
	r.i += n
	return n, nil
}

// ReadByte implements [io.ByteReader].
func (r *Reader) ReadByte() (byte, error) {
	if r.i == len(r.v.p) {
		return 0, io.EOF
	}
	c := r.v.p[r.i]
	r.i++
	return c, nil
}

// ReadRune implements [io.RuneReader]. A byte that is no UTF-8 is U+FFFD of size 1.
func (r *Reader) ReadRune() (rune, int, error) {
	if r.i == len(r.v.p) {
		return 0, 0, io.EOF
	}
	c, n := utf8.DecodeRune(r.v.p[r.i:])
	r.i += n
	return c, n, nil
}
