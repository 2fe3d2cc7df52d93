package testnet

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"vitrine/frames"
	"vitrine/internal/hop"
	"vitrine/internal/hostile"
)

// A chain is Manglers one behind the other.
type chain []hostile.Mangler

func (c chain) Mangle(b *hop.Buffer) []*hop.Buffer { return c.pass(0, []*hop.Buffer{b}) }

// pass gives buffers to the links from i on.
func (c chain) pass(i int, buffers []*hop.Buffer) []*hop.Buffer {
	for ; i < len(c); i++ {
		var next []*hop.Buffer
		for _, b := range buffers {
			next = append(next, c[i].Mangle(b)...)
		}
		buffers = next
	}
	return buffers
}

func (c chain) Flush() (out []*hop.Buffer) {
	for i, m := range c {
		if h, ok := m.(hostile.Holder); ok {
			out = append(out, c.pass(i+1, h.Flush())...)
		}
	}
	return out
}

func (c chain) Ended() bool {
	for _, m := range c {
		if e, ok := m.(hostile.Cutter); ok && e.Ended() {
			return true
		}
	}
	return false
}

// P3, at random on a large exchange: one to three attacks at once, in both directions.
func TestP3RandomAttacksOnALargeExchange(t *testing.T) {
	t.Parallel()
	forged := forgeries()
	names := slices.Sorted(maps.Keys(forged))
	large := func(t *testing.T) *lab {
		l := newLab(t, lengths, nil)
		l.question, l.answer = string(pattern(150_000)), string(pattern(250_000))
		return l
	}
	var other [2][][]byte // of another tunnel
	bubble(t, func(t *testing.T) { other = large(t).tapes() })
	attack := func(rt *rapid.T) hostile.Mangler {
		n := rapid.IntRange(0, 18).Draw(rt, "record")
		switch rapid.SampledFrom([]string{"flip", "flip byte", "cut", "drop", "stall", "replay", "swap", "split", "forge", "splice", "again"}).Draw(rt, "operation") {
		case "flip":
			return hostile.FlipRecord(n, rapid.IntRange(-40, 16500).Draw(rt, "byte"), rapid.ByteRange(1, 255).Draw(rt, "mask"))
		case "flip byte":
			return hostile.FlipByte(int64(rapid.IntRange(0, 260_000).Draw(rt, "offset")), rapid.ByteRange(1, 255).Draw(rt, "mask"))
		case "cut":
			return hostile.Cut(n, rapid.IntRange(0, 16500).Draw(rt, "keep"))
		case "drop":
			return hostile.Drop(n)
		case "stall":
			return hostile.Stall(n)
		case "replay":
			return hostile.Replay(n)
		case "swap":
			return hostile.Swap(n)
		case "split":
			return hostile.Split(n, rapid.IntRange(0, 16500).Draw(rt, "at"))
		case "forge":
			return hostile.Insert(n, forged[rapid.SampledFrom(names).Draw(rt, "what")])
		case "splice":
			from := other[rapid.IntRange(0, 1).Draw(rt, "from")]
			return hostile.Replace(n, rapid.SampledFrom(from).Draw(rt, "spliced"))
		}
		return again(n, rapid.IntRange(0, n).Draw(rt, "earlier"))
	}
	succeeded, failed := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		var links [2]chain
		for range rapid.IntRange(1, 3).Draw(rt, "attacks") {
			d := rapid.IntRange(0, 1).Draw(rt, "direction")
			links[d] = append(links[d], attack(rt))
		}
		var witnesses [2]*witness
		var r result
		bubble(t, func(t *testing.T) {
			l := large(t)
			for d := range witnesses {
				witnesses[d] = l.watch(frames.Direction(d), links[d])
				l.set(frames.Direction(d), witnesses[d])
			}
			r = l.exchange()
		})
		if r.class != "success" {
			failed++
		} else if succeeded++; !witnesses[0].intact() || !witnesses[1].intact() {
			rt.Error("accepted in silence")
		}
		if r.lie != "" {
			rt.Errorf("%s (%s)", r.lie, r.class)
		}
		switch r.class {
		case "success", "integrity", "killed", "unreachable:origin", "withheld":
		default:
			rt.Errorf("%s: %v", r.class, r.err)
		}
	})
	t.Logf("%d exchanges failed, %d were not touched where it matters", failed, succeeded)
}
