package hop

import (
	"sync"
	"sync/atomic"
)

const (
	// Headroom is where the next carrier writes its frame header, in front of the payload, in place.
	Headroom = 16
	// MaxChunk and a 9-byte header fill one outer TLS record exactly; 16,384 would spill into a second.
	MaxChunk = 16384 - 9
)

// A Creditor gives n bytes of window back to the sender of a stream. The carriers implement it.
type Creditor interface{ Credit(n int) }

type block struct {
	refs  atomic.Int32
	bytes [Headroom + 16384]byte
}

var blocks = sync.Pool{New: func() any { return new(block) }}

// A Buffer is one chunk of a tunnel's bytes together with the flow-control credit that they hold.
// It has one owner at a time. Release gives memory and credit back; whoever holds it is the
// back-pressure.
type Buffer struct {
	blk      *block
	off, end int
	owed     int
	from     Creditor
}

// NewBuffer returns an empty buffer that owes nobody, for ends that make bytes.
func NewBuffer() *Buffer {
	blk := blocks.Get().(*block)
	blk.refs.Store(1)
	return &Buffer{blk: blk, off: Headroom, end: Headroom}
}

// Bytes is the payload. It is valid until Send or Release.
func (b *Buffer) Bytes() []byte { return b.blk.bytes[b.off:b.end] }

// Len is the number of payload bytes.
func (b *Buffer) Len() int { return b.end - b.off }

// Append copies what fits below [MaxChunk] and reports how much.
func (b *Buffer) Append(p []byte) int {
	n := copy(b.blk.bytes[b.end:Headroom+MaxChunk], p)
	b.end += n
	return n
}

// Fill returns n bytes of payload for a carrier to read into. The buffer must be empty and n at
// most 16,384.
func (b *Buffer) Fill(n int) []byte {
	b.end = b.off + n
	return b.blk.bytes[b.off:b.end]
}

// Owe records that releasing b returns n bytes of window to from.
func (b *Buffer) Owe(n int, from Creditor) { b.owed, b.from = n, from }

// Advance drops the first n bytes, as a reader that has consumed them does; their credit stays owed.
func (b *Buffer) Advance(n int) { b.off += n }

// WithHeader returns the payload behind n bytes of headroom, for a carrier to stamp its frame
// header into. n is at most [Headroom].
func (b *Buffer) WithHeader(n int) []byte { return b.blk.bytes[b.off-n : b.end] }

// Split cuts the first n bytes off into a buffer of their own, without copying. The head must be
// written or released before the tail is written: the tail's frame header overwrites the head's
// last bytes.
func (b *Buffer) Split(n int) *Buffer {
	b.blk.refs.Add(1)
	h := &Buffer{blk: b.blk, off: b.off, end: b.off + n, owed: min(n, b.owed), from: b.from}
	b.off += n
	b.owed -= h.owed
	return h
}

// Detach gives the credit back now and keeps the bytes: for a held body that is larger than the
// window, which would otherwise wait for itself. The holder then answers for the memory.
func (b *Buffer) Detach() {
	if b.from != nil && b.owed > 0 {
		b.from.Credit(b.owed)
	}
	b.owed, b.from = 0, nil
}

// Release gives memory and credit back. The buffer must not be used afterwards.
func (b *Buffer) Release() {
	b.Detach()
	if b.blk.refs.Add(-1) == 0 {
		blocks.Put(b.blk)
	}
	b.blk = nil
}
