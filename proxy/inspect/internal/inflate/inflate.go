// Package inflate undoes gzip (RFC 1952) and zlib (RFC 1950) in push form: call [New], give what arrives
// to [Decoder.Write], and ask [Decoder.Complete] at the end.
//
// compress/flate pulls its input and keeps back up to 32 KiB of output until a block or its window is
// full. A proxy that released the input meanwhile would show its inspectors less than a receiver can
// already read. A Decoder emits every byte as soon as its code is complete, and stops wherever the input
// does without a goroutine to wait in.
//
// It is stricter than most decoders, because what two of them read in two ways must not pass: one
// member, nothing behind it, reserved bits zero, both checksums right.
package inflate

import (
	"errors"
	"hash/adler32"
	"hash/crc32"
)

// A Format is what wraps the deflate stream.
type Format uint8

// The formats.
const (
	Gzip Format = iota
	Zlib
)

var (
	// ErrCorrupt says that the input is not a stream of the format.
	ErrCorrupt = errors.New("inflate: corrupt stream")
	// ErrTrailing says that bytes follow a complete stream; some decoders read on, others stop.
	ErrTrailing = errors.New("inflate: bytes behind the stream")
)

const (
	windowSize = 32 << 10
	// maxHeader bounds gzip's header, whose name and comment have no length of their own.
	maxHeader = 64 << 10

	maxLit  = 286
	maxDist = 30
	endOf   = 256
)

type state uint8

const (
	stMagic state = iota
	stExtraLen
	stExtra
	stName
	stComment
	stHeaderSum
	stZlib
	stBlock
	stStoredLen
	stStored
	stCounts
	stCodeLens
	stLens
	stSymbol
	stLength
	stDist
	stOffset
	stSum
	stDone
)

// A Decoder undoes one stream.
type Decoder struct {
	format Format
	emit   func([]byte) error
	err    error
	state  state

	bits uint64 // the next input, least significant bit first
	n    uint   // how many of bits are input

	header [10]byte
	read   int    // bytes of the header or trailer so far
	flags  byte   // of gzip
	hsum   uint32 // over gzip's header
	left   int    // bytes of a stored block, or of what is skipped

	final        bool
	nlit, ndist  int
	nlens, have  int
	lens         [maxLit + maxDist]uint8
	lit, dist    huffman
	isFixed      bool // lit and dist are those of fixed blocks
	length       int  // of the match
	distSym      int
	window       [windowSize]byte
	pos, flushed int
	full         bool // the whole window was written once

	sum    uint32 // the trailer's checksum, as it is read
	crc    uint32
	adler  uint32
	isSize bool // the trailer's second word is being read
	size   uint32
}

// New returns a Decoder that gives its output to emit, in pieces of at most 32 KiB that are valid until
// emit returns. An error of emit ends the stream.
func New(f Format, emit func([]byte) error) *Decoder {
	d := &Decoder{format: f, emit: emit, adler: 1}
	if f == Zlib {
		d.state = stZlib
	}
	return d
}

// Write reads p and emits everything that the input so far determines. The error, [ErrCorrupt],
// [ErrTrailing] or emit's, stays.
func (d *Decoder) Write(p []byte) error {
	if d.err != nil {
		return d.err
	}
	d.err = d.run(p)
	switch d.err {
	case nil:
		d.err = d.flush()
	case ErrCorrupt, ErrTrailing:
		// What stands before the mistake is shown too, wherever the input was split.
		if err := d.flush(); err != nil {
			d.err = err
		}
	}
	return d.err
}

// Complete says whether the stream has ended as it must.
func (d *Decoder) Complete() bool { return d.err == nil && d.state == stDone }

func (d *Decoder) run(src []byte) error {
	for {
		if d.state == stStored && d.left > 0 {
			if d.n == 0 {
				// The rest of a stored block needs no detour through bits.
				n := min(d.left, len(src))
				if err := d.copyIn(src[:n]); err != nil {
					return err
				}
				src = src[n:]
				if d.left -= n; d.left > 0 {
					return nil
				}
				continue
			}
		} else {
			for d.n <= 56 && len(src) > 0 {
				d.bits |= uint64(src[0]) << d.n
				d.n += 8
				src = src[1:]
			}
		}
		more, err := d.step()
		if err != nil {
			return err
		}
		if more {
			// A step needs at most 32 bits, so src is empty here.
			return nil
		}
		if d.state == stDone {
			if d.n >= 8 || len(src) > 0 {
				return ErrTrailing
			}
			return nil
		}
	}
}

func (d *Decoder) take(n uint) uint32 {
	v := uint32(d.bits & (1<<n - 1))
	d.bits >>= n
	d.n -= n
	return v
}

// step does one thing; more says that it needs input first.
func (d *Decoder) step() (more bool, err error) {
	switch d.state {
	case stMagic, stExtraLen, stExtra, stName, stComment, stHeaderSum, stZlib:
		if d.n < 8 {
			return true, nil
		}
		return false, d.headerByte(byte(d.take(8)))
	case stBlock:
		if d.n < 3 {
			return true, nil
		}
		return false, d.block()
	case stStoredLen:
		if d.n < 32 {
			return true, nil
		}
		n, inverse := d.take(16), d.take(16)
		if n != inverse^0xffff {
			return false, ErrCorrupt
		}
		d.left = int(n)
		d.state = stStored
	case stStored:
		if d.left == 0 {
			d.endBlock()
			return false, nil
		}
		if d.n < 8 {
			return true, nil
		}
		d.left--
		return false, d.put(byte(d.take(8)))
	case stCounts, stCodeLens, stLens:
		return d.tables()
	case stSymbol, stLength, stDist, stOffset:
		return d.match()
	case stSum:
		if d.n < 8 {
			return true, nil
		}
		return false, d.trailerByte(byte(d.take(8)))
	}
	return false, nil
}

// headerByte reads the wrapper's header.
func (d *Decoder) headerByte(c byte) error {
	if d.read++; d.read > maxHeader {
		return ErrCorrupt
	}
	if d.state == stZlib {
		d.header[d.read-1] = c
		if d.read < 2 {
			return nil
		}
		cmf, flg := d.header[0], d.header[1]
		if cmf&0x0f != 8 || cmf>>4 > 7 || (uint(cmf)<<8|uint(flg))%31 != 0 || flg&0x20 != 0 {
			return ErrCorrupt
		}
		d.state = stBlock
		return nil
	}
	if d.state != stHeaderSum {
		d.hsum = crc32.Update(d.hsum, crc32.IEEETable, []byte{c})
	}
	switch d.state {
	case stMagic:
		d.header[d.read-1] = c
		if d.read < len(d.header) {
			return nil
		}
		if d.header[0] != 0x1f || d.header[1] != 0x8b || d.header[2] != 8 || d.header[3]&0xe0 != 0 {
			return ErrCorrupt
		}
		d.flags = d.header[3]
		d.nextHeader(stMagic)
	case stExtraLen:
		d.left |= int(c) << d.have
		if d.have += 8; d.have < 16 {
			return nil
		}
		if d.have = 0; d.left == 0 {
			d.nextHeader(stExtra)
		} else {
			d.state = stExtra
		}
	case stExtra:
		if d.left--; d.left == 0 {
			d.nextHeader(stExtra)
		}
	case stName, stComment:
		if c == 0 {
			d.nextHeader(d.state)
		}
	case stHeaderSum:
		if c != byte(d.hsum>>d.have) {
			return ErrCorrupt
		}
		if d.have += 8; d.have == 16 {
			d.have = 0
			d.state = stBlock
		}
	}
	return nil
}

// nextHeader goes to the first part of gzip's header behind s that the flags announce.
func (d *Decoder) nextHeader(s state) {
	const fhcrc, fextra, fname, fcomment = 0x02, 0x04, 0x08, 0x10
	switch {
	case s < stExtraLen && d.flags&fextra != 0:
		d.state = stExtraLen
	case s < stName && d.flags&fname != 0:
		d.state = stName
	case s < stComment && d.flags&fcomment != 0:
		d.state = stComment
	case d.flags&fhcrc != 0:
		d.state = stHeaderSum
	default:
		d.state = stBlock
	}
}

func (d *Decoder) block() error {
	d.final = d.take(1) == 1
	switch d.take(2) {
	case 0:
		d.take(d.n % 8)
		d.state = stStoredLen
	case 1:
		return d.fixed()
	case 2:
		d.state = stCounts
	default:
		return ErrCorrupt
	}
	return nil
}

func (d *Decoder) endBlock() {
	if !d.final {
		d.state = stBlock
		return
	}
	d.take(d.n % 8)
	d.read = 0
	d.state = stSum
}

func (d *Decoder) trailerByte(c byte) error {
	if d.format == Zlib {
		d.sum = d.sum<<8 | uint32(c)
	} else {
		d.sum |= uint32(c) << (8 * d.read)
	}
	if d.read++; d.read < 4 {
		return nil
	}
	if err := d.flush(); err != nil {
		return err
	}
	want := d.crc
	switch {
	case d.format == Zlib:
		want = d.adler
	case d.isSize:
		want = d.size
	}
	if d.sum != want {
		return ErrCorrupt
	}
	if d.format == Gzip && !d.isSize {
		d.isSize, d.read, d.sum = true, 0, 0
		return nil
	}
	d.state = stDone
	return nil
}

// put writes one byte of output.
func (d *Decoder) put(c byte) error {
	d.window[d.pos] = c
	if d.pos++; d.pos == windowSize {
		return d.wrap()
	}
	return nil
}

func (d *Decoder) copyIn(p []byte) error {
	for len(p) > 0 {
		n := copy(d.window[d.pos:], p)
		p = p[n:]
		if d.pos += n; d.pos == windowSize {
			if err := d.wrap(); err != nil {
				return err
			}
		}
	}
	return nil
}

// copyBack repeats length bytes from distance bytes ago.
func (d *Decoder) copyBack(length, distance int) error {
	if distance > d.pos && !d.full {
		return ErrCorrupt
	}
	from := (d.pos - distance + windowSize) % windowSize
	for length > 0 {
		n := min(length, windowSize-d.pos, windowSize-from)
		if from < d.pos {
			// What is being written may be read again: distance bytes at a time are safe.
			n = min(n, distance)
		}
		copy(d.window[d.pos:d.pos+n], d.window[from:from+n])
		length -= n
		from = (from + n) % windowSize
		if d.pos += n; d.pos == windowSize {
			if err := d.wrap(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Decoder) wrap() error {
	err := d.flush()
	d.pos, d.flushed, d.full = 0, 0, true
	return err
}

func (d *Decoder) flush() error {
	p := d.window[d.flushed:d.pos]
	if len(p) == 0 {
		return nil
	}
	d.flushed = d.pos
	d.size += uint32(len(p))
	if d.format == Gzip {
		d.crc = crc32.Update(d.crc, crc32.IEEETable, p)
	} else {
		d.adler = updateAdler(d.adler, p)
	}
	return d.emit(p[:len(p):len(p)])
}

// updateAdler continues an Adler-32. hash/adler32 starts anew each time, so the two sums of its result
// are combined with those so far, as zlib's adler32_combine does.
func updateAdler(adler uint32, p []byte) uint32 {
	const mod = 65521
	sum := adler32.Checksum(p)
	a, b := adler&0xffff, adler>>16
	n := uint32(len(p) % mod)
	a2, b2 := sum&0xffff, sum>>16
	// The second sum of p counts its start value 1 once for each byte; a takes its place.
	b = (b + b2 + n*((a+mod-1)%mod)%mod) % mod
	a = (a + a2 + mod - 1) % mod
	return b<<16 | a
}
