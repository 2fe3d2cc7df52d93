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
	// maxPayload is the largest frame payload that a carrier reads.
	maxPayload = 16384
)

// A Creditor gives n bytes of window back to the sender of a stream. The carriers implement it.
type Creditor interface{ Credit(n int) }

// A block is a Buffer's memory. Small frames get small blocks: a sender of one-byte frames must not
// make every byte of its window cost us 16 KiB (data dribble, CVE-2019-9511).
type block struct {
	refs  atomic.Int32
	class *blockClass
	meter *atomic.Int64 // what the block is charged to; nil where nobody counts
	mem   []byte
}

type blockClass struct {
	size int
	pool sync.Pool
}

func newBlockClass(payload int) *blockClass {
	c := &blockClass{size: Headroom + payload}
	c.pool.New = func() any { return &block{class: c, mem: make([]byte, c.size)} }
	return c
}

// The classes lie a factor of four apart, so that a block that was chosen for its payload is at
// least a quarter full, or the smallest.
var blockClasses = [...]*blockClass{newBlockClass(1 << 10), newBlockClass(4 << 10), newBlockClass(maxPayload)}

// A Buffer is one chunk of a tunnel's bytes together with the flow-control credit that they hold.
// It has one owner at a time. Release gives memory and credit back; whoever holds it is the
// back-pressure.
type Buffer struct {
	blk      *block
	off, end int
	owed     int
	from     Creditor
}

// NewBuffer returns an empty buffer of [MaxChunk] bytes that owes nobody, for ends that make bytes.
func NewBuffer() *Buffer { return NewBufferSize(maxPayload) }

// NewBufferSize returns an empty buffer for n bytes, at most 16,384, that owes nobody.
func NewBufferSize(n int) *Buffer {
	i := 0
	for i < len(blockClasses)-1 && n > blockClasses[i].size-Headroom {
		i++
	}
	blk := blockClasses[i].pool.Get().(*block)
	blk.refs.Store(1)
	return &Buffer{blk: blk, off: Headroom, end: Headroom}
}

// Bytes is the payload. It is valid until Send or Release.
func (b *Buffer) Bytes() []byte { return b.blk.mem[b.off:b.end] }

// Len is the number of payload bytes.
func (b *Buffer) Len() int { return b.end - b.off }

// Append copies what fits, at most [MaxChunk] in all, and reports how much.
func (b *Buffer) Append(p []byte) int {
	limit := min(len(b.blk.mem), Headroom+MaxChunk)
	if b.end >= limit {
		return 0
	}
	n := copy(b.blk.mem[b.end:limit], p)
	b.end += n
	return n
}

// Fill returns n bytes of payload for a carrier to read into. The buffer must be empty and made for
// n bytes.
func (b *Buffer) Fill(n int) []byte {
	b.end = b.off + n
	return b.blk.mem[b.off:b.end]
}

// Owe records that releasing b returns n bytes of window to from.
func (b *Buffer) Owe(n int, from Creditor) { b.owed, b.from = n, from }

// Charge adds the memory behind b to meter until it is free again, whoever holds it then. A carrier
// sees so what a stream's bytes really cost. It is called once, before b is split.
func (b *Buffer) Charge(meter *atomic.Int64) {
	b.blk.meter = meter
	meter.Add(int64(len(b.blk.mem)))
}

// Advance drops the first n bytes, as a reader that has consumed them does; their credit stays owed.
func (b *Buffer) Advance(n int) { b.off += n }

// WithHeader returns the payload behind n bytes of headroom, for a carrier to stamp its frame
// header into. n is at most [Headroom].
func (b *Buffer) WithHeader(n int) []byte { return b.blk.mem[b.off-n : b.end] }

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

// Absorb moves o's bytes and credit to the end of b and frees o's memory, or does nothing and
// returns false: where they do not fit, where o is larger than 4 KiB and cheaper to move than to
// copy, where the two owe different streams, or where b was split and its block has two owners. A
// queue that absorbs costs at most about twice the bytes in it. o must not be used after true.
func (b *Buffer) Absorb(o *Buffer) bool {
	if o.Len() > 4<<10 || (o.from != nil && b.from != nil && o.from != b.from) {
		return false
	}
	if b.blk.refs.Load() != 1 || b.end+o.Len() > min(len(b.blk.mem), Headroom+MaxChunk) {
		return false
	}
	b.Append(o.Bytes())
	b.owed += o.owed
	if b.from == nil {
		b.from = o.from
	}
	o.owed, o.from = 0, nil
	o.Release()
	return true
}

// Detach gives the credit back now and keeps the bytes: for a held body that is larger than the
// window, which would otherwise wait for itself. The holder then answers for the memory.
func (b *Buffer) Detach() {
	if b.from != nil && b.owed > 0 {
		b.from.Credit(b.owed)
	}
	b.owed, b.from = 0, nil
}

// Release gives memory and credit back. The buffer must not be used afterwards. It calls the stream
// that the credit is owed to: hold no lock that a carrier's callback may want.
func (b *Buffer) Release() {
	b.Detach()
	blk := b.blk
	b.blk = nil
	if blk.refs.Add(-1) > 0 {
		return
	}
	if blk.meter != nil {
		blk.meter.Add(-int64(len(blk.mem)))
		blk.meter = nil
	}
	blk.class.pool.Put(blk)
}
