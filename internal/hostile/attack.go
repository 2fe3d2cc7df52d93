package hostile

import (
	"bytes"
	"sync"
	"sync/atomic"

	"vitrine/internal/hop"
	"vitrine/internal/tlsmsg"
)

// An Attack is a [Mangler] of a tunnel's bytes as the stream of TLS records that they are. Each serves
// one stream.
type Attack struct {
	// edit is given each record, header included, with its number from 0, and returns what is sent in its place.
	// It owns record.
	edit  func(n int, record []byte) [][]byte
	flush func() [][]byte // what edit kept back; may be nil

	in    []byte // of a record that is not complete
	n     int
	end   atomic.Bool
	fired atomic.Bool
}

// NewAttack returns an Attack that sends what edit makes of each record, header included, numbered
// from 0.
func NewAttack(edit func(n int, record []byte) [][]byte) *Attack { return &Attack{edit: edit} }

// Fired reports whether the attack has changed anything. Only those of the functions of this package
// know.
func (a *Attack) Fired() bool { return a.fired.Load() }

// Ended implements [Cutter].
func (a *Attack) Ended() bool { return a.end.Load() }

// Mangle implements [Mangler].
func (a *Attack) Mangle(b *hop.Buffer) []*hop.Buffer {
	a.in = append(a.in, b.Bytes()...)
	b.Release()
	var out []byte
	for !a.end.Load() {
		h, err := tlsmsg.ParseRecordHeader(a.in)
		if err != nil || len(a.in) < tlsmsg.RecordHeaderLen+h.Length {
			break // what is no record comes from a liar before us, and leaves with Flush
		}
		end := tlsmsg.RecordHeaderLen + h.Length
		out = append(out, bytes.Join(a.edit(a.n, bytes.Clone(a.in[:end])), nil)...)
		a.in = a.in[end:]
		a.n++
	}
	return Buffers(out)
}

// Flush implements [Holder].
func (a *Attack) Flush() []*hop.Buffer {
	if a.end.Load() {
		return nil
	}
	var out []byte
	if a.flush != nil {
		out = bytes.Join(a.flush(), nil)
	}
	out = append(out, a.in...)
	a.in = nil
	return Buffers(out)
}

// Buffers copies p into as many buffers as it needs.
func Buffers(p []byte) []*hop.Buffer {
	var out []*hop.Buffer
	for len(p) > 0 {
		b := hop.NewBuffer()
		p = p[b.Append(p):]
		out = append(out, b)
	}
	return out
}

// at returns an Attack that treats record n with f and leaves all others alone.
func at(n int, f func(a *Attack, record []byte) [][]byte) *Attack {
	a := new(Attack)
	a.edit = func(i int, record []byte) [][]byte {
		if i != n {
			return [][]byte{record}
		}
		a.fired.Store(true)
		return f(a, record)
	}
	return a
}

// FlipRecord changes byte i of record n; a negative i counts from its end.
func FlipRecord(n, i int, mask byte) *Attack {
	return at(n, func(_ *Attack, record []byte) [][]byte {
		if i < 0 {
			i += len(record)
		}
		record[min(max(i, 0), len(record)-1)] ^= mask
		return [][]byte{record}
	})
}

// Drop leaves record n out.
func Drop(n int) *Attack {
	return at(n, func(*Attack, []byte) [][]byte { return nil })
}

// Insert puts extra in front of record n.
func Insert(n int, extra []byte) *Attack {
	return at(n, func(_ *Attack, record []byte) [][]byte { return [][]byte{extra, record} })
}

// Replace puts other in the place of record n.
func Replace(n int, other []byte) *Attack {
	return at(n, func(*Attack, []byte) [][]byte { return [][]byte{other} })
}

// Replay sends record n twice.
func Replay(n int) *Attack {
	return at(n, func(_ *Attack, record []byte) [][]byte { return [][]byte{record, record} })
}

// Cut ends the stream behind the first keep bytes of record n, and never inside it where keep is at least
// its length.
func Cut(n, keep int) *Attack {
	return at(n, func(a *Attack, record []byte) [][]byte {
		a.end.Store(true)
		return [][]byte{record[:min(keep, len(record))]}
	})
}

// Stall sends nothing from record n on, and does not end the stream until its sender does.
func Stall(n int) *Attack {
	a := new(Attack)
	a.edit = func(i int, record []byte) [][]byte {
		if i < n {
			return [][]byte{record}
		}
		a.fired.Store(true)
		return nil
	}
	return a
}

// Split puts a record boundary behind the first i bytes of record n's fragment.
func Split(n, i int) *Attack {
	return at(n, func(_ *Attack, record []byte) [][]byte {
		fragment := record[tlsmsg.RecordHeaderLen:]
		i := min(i, len(fragment))
		h, err := tlsmsg.ParseRecordHeader(record)
		if err != nil {
			return [][]byte{record}
		}
		first, second := h, h
		first.Length, second.Length = i, len(fragment)-i
		return [][]byte{first.Append(nil), fragment[:i], second.Append(nil), fragment[i:]}
	})
}

// Swap sends record n+1 before record n.
func Swap(n int) *Attack {
	a := new(Attack)
	var kept []byte
	a.edit = func(i int, record []byte) [][]byte {
		switch i {
		case n:
			kept = record
			return nil
		case n + 1:
			a.fired.Store(true)
			first := kept
			kept = nil
			return [][]byte{record, first}
		}
		return [][]byte{record}
	}
	a.flush = func() [][]byte { return [][]byte{kept} }
	return a
}

// FlipByte changes byte offset of the stream, whatever record it is in.
func FlipByte(offset int64, mask byte) *ByteFlip { return &ByteFlip{offset: offset, mask: mask} }

// A ByteFlip is the Mangler that [FlipByte] returns.
type ByteFlip struct {
	offset, seen int64
	mask         byte
	fired        atomic.Bool
}

// Mangle implements [Mangler].
func (f *ByteFlip) Mangle(b *hop.Buffer) []*hop.Buffer {
	if i := f.offset - f.seen; i >= 0 && i < int64(b.Len()) {
		b.Bytes()[i] ^= f.mask
		f.fired.Store(true)
	}
	f.seen += int64(b.Len())
	return []*hop.Buffer{b}
}

// Fired reports whether the byte has passed.
func (f *ByteFlip) Fired() bool { return f.fired.Load() }

// A Tape keeps the records that passed a stream. It is safe for concurrent use.
type Tape struct {
	mu      sync.Mutex
	records [][]byte
}

// Mangler returns a Mangler that changes nothing and keeps a copy.
func (t *Tape) Mangler() *Attack {
	return NewAttack(func(_ int, record []byte) [][]byte {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.records = append(t.records, bytes.Clone(record))
		return [][]byte{record}
	})
}

// Records returns what was kept so far.
func (t *Tape) Records() [][]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([][]byte(nil), t.records...)
}
