package inflate

import "math/bits"

const (
	maxCodeLen = 15
	fastBits   = 9
)

// A huffman is a canonical code (RFC 1951, section 3.2.2).
type huffman struct {
	count  [maxCodeLen + 1]uint16
	symbol [288]uint16           // by length, then value
	fast   [1 << fastBits]uint16 // symbol<<4 | length for codes of at most fastBits, else 0
}

// build makes the code whose lengths are given. It refuses an over-subscribed code and an incomplete
// one, but for a lone code of one bit and, where none says so, no code at all.
func (h *huffman) build(lens []uint8, none bool) bool {
	h.count = [maxCodeLen + 1]uint16{}
	clear(h.fast[:])
	used := 0
	for _, n := range lens {
		if n > 0 {
			h.count[n]++
			used++
		}
	}
	if used == 0 {
		return none
	}
	left := 1
	var next, offset [maxCodeLen + 2]uint16
	for n := 1; n <= maxCodeLen; n++ {
		left = left<<1 - int(h.count[n])
		if left < 0 {
			return false
		}
		next[n+1] = (next[n] + h.count[n]) << 1
		offset[n+1] = offset[n] + h.count[n]
	}
	if left > 0 && (used != 1 || h.count[1] != 1) {
		return false
	}
	for sym, n := range lens {
		if n == 0 {
			continue
		}
		h.symbol[offset[n]] = uint16(sym)
		offset[n]++
		code := next[n]
		next[n]++
		if n > fastBits {
			continue
		}
		entry := uint16(sym)<<4 | uint16(n)
		for i := int(bits.Reverse16(code) >> (16 - n)); i < len(h.fast); i += 1 << n {
			h.fast[i] = entry
		}
	}
	return true
}

// symbol reads one code. more: the input ends within it.
func (d *Decoder) symbol(h *huffman) (sym int, more bool, err error) {
	// Where fewer than fastBits are there the missing ones read as zero; an entry that is no longer
	// than the input does not depend on them.
	if e := h.fast[d.bits&(1<<fastBits-1)]; e != 0 {
		n := uint(e & 15)
		if n > d.n {
			return 0, true, nil
		}
		d.bits >>= n
		d.n -= n
		return int(e >> 4), false, nil
	}
	code, first, index := 0, 0, 0
	for n := uint(1); n <= maxCodeLen; n++ {
		if n > d.n {
			return 0, true, nil
		}
		code |= int(d.bits>>(n-1)) & 1
		count := int(h.count[n])
		if code-first < count {
			d.bits >>= n
			d.n -= n
			return int(h.symbol[index+code-first]), false, nil
		}
		index += count
		first = (first + count) << 1
		code <<= 1
	}
	return 0, false, ErrCorrupt
}

// fixed makes the codes of a fixed block, unless they stand there still: such a block may be ten bits
// long, so to build them for each would let a sender buy much work with few bytes.
func (d *Decoder) fixed() error {
	d.state = stSymbol
	if d.isFixed {
		return nil
	}
	var lens [288]uint8
	for i := range lens {
		switch {
		case i < 144:
			lens[i] = 8
		case i < 256:
			lens[i] = 9
		case i < 280:
			lens[i] = 7
		default:
			lens[i] = 8
		}
	}
	var dist [32]uint8
	for i := range dist {
		dist[i] = 5
	}
	if !d.lit.build(lens[:], false) || !d.dist.build(dist[:], false) {
		return ErrCorrupt
	}
	d.isFixed = true
	return nil
}

// tables reads what a dynamic block begins with (RFC 1951, section 3.2.7).
func (d *Decoder) tables() (more bool, err error) {
	switch d.state {
	case stCounts:
		if d.n < 14 {
			return true, nil
		}
		d.nlit, d.ndist, d.nlens = int(d.take(5))+257, int(d.take(5))+1, int(d.take(4))+4
		if d.nlit > maxLit || d.ndist > maxDist {
			return false, ErrCorrupt
		}
		clear(d.lens[:])
		d.have = 0
		d.state = stCodeLens
	case stCodeLens:
		if d.n < 3 {
			return true, nil
		}
		order := [...]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
		d.lens[order[d.have]] = uint8(d.take(3))
		if d.have++; d.have < d.nlens {
			return false, nil
		}
		// The lengths' own code stands where the literals' will.
		d.isFixed = false
		if !d.lit.build(d.lens[:19], false) {
			return false, ErrCorrupt
		}
		clear(d.lens[:])
		d.have = 0
		d.state = stLens
	case stLens:
		return d.codeLength()
	}
	return false, nil
}

func (d *Decoder) codeLength() (more bool, err error) {
	bits, n := d.bits, d.n
	sym, more, err := d.symbol(&d.lit)
	if more || err != nil {
		return more, err
	}
	repeat, value := 1, uint8(sym)
	if sym >= 16 {
		extra := [...]uint{2, 3, 7}[sym-16]
		if d.n < extra {
			d.bits, d.n = bits, n
			return true, nil
		}
		repeat = int(d.take(extra)) + [...]int{3, 3, 11}[sym-16]
		value = 0
		if sym == 16 {
			if d.have == 0 {
				return false, ErrCorrupt
			}
			value = d.lens[d.have-1]
		}
	}
	total := d.nlit + d.ndist
	if d.have+repeat > total {
		return false, ErrCorrupt
	}
	for range repeat {
		d.lens[d.have] = value
		d.have++
	}
	if d.have < total {
		return false, nil
	}
	if d.lens[endOf] == 0 ||
		!d.lit.build(d.lens[:d.nlit], false) || !d.dist.build(d.lens[d.nlit:total], true) {
		return false, ErrCorrupt
	}
	d.have = 0
	d.state = stSymbol
	return false, nil
}

// match reads a literal, or one of the four parts of a repetition.
func (d *Decoder) match() (more bool, err error) {
	switch d.state {
	case stSymbol:
		sym, more, err := d.symbol(&d.lit)
		switch {
		case more || err != nil:
			return more, err
		case sym < endOf:
			return false, d.put(byte(sym))
		case sym == endOf:
			d.endBlock()
			return false, nil
		case sym >= maxLit:
			return false, ErrCorrupt
		}
		d.length = sym - 257
		d.state = stLength
	case stLength:
		base, extra := lengthOf(d.length)
		if d.n < extra {
			return true, nil
		}
		d.length = base + int(d.take(extra))
		d.state = stDist
	case stDist:
		sym, more, err := d.symbol(&d.dist)
		if more || err != nil {
			return more, err
		}
		if sym >= maxDist {
			return false, ErrCorrupt
		}
		d.distSym = sym
		d.state = stOffset
	case stOffset:
		base, extra := distanceOf(d.distSym)
		if d.n < extra {
			return true, nil
		}
		d.state = stSymbol
		return false, d.copyBack(d.length, base+int(d.take(extra)))
	}
	return false, nil
}

// lengthOf is the base and the extra bits of length code 257+i.
func lengthOf(i int) (base int, extra uint) {
	switch {
	case i < 8:
		return i + 3, 0
	case i == 28:
		return 258, 0
	}
	extra = uint(i/4 - 1)
	return (4+i%4)<<extra + 3, extra
}

// distanceOf is the base and the extra bits of distance code i.
func distanceOf(i int) (base int, extra uint) {
	if i < 4 {
		return i + 1, 0
	}
	extra = uint(i/2 - 1)
	return (2+i%2)<<extra + 1, extra
}
