package hop

import (
	"bytes"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// ledger is a Creditor that only counts.
type ledger struct{ back int }

func (l *ledger) Credit(n int) { l.back += n }

// held is a Buffer with what should be in it.
type held struct {
	b    *Buffer
	want []byte
	owed int
	from *ledger
}

// TestBufferConservesBytesAndCredit does random things to Buffers and checks after each that every one
// holds the bytes it should, and at the end that each creditor got back what was owed to it, once, and
// that all memory is free.
func TestBufferConservesBytesAndCredit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var meter atomic.Int64
		ledgers := []*ledger{{}, {}}
		owed := make(map[*ledger]int)
		var all []*held
		pick := func() int { return rapid.IntRange(0, len(all)-1).Draw(t, "buffer") }
		remove := func(i int) { all = append(all[:i], all[i+1:]...) }
		actions := map[string]func(*rapid.T){
			"fill": func(t *rapid.T) {
				n := rapid.IntRange(0, 16384).Draw(t, "size")
				b := NewBufferSize(n)
				p := b.Fill(n)
				for i := range p {
					p[i] = byte(rand.Uint32())
				}
				l := ledgers[rapid.IntRange(0, 1).Draw(t, "creditor")]
				b.Owe(n, l)
				b.Charge(&meter)
				owed[l] += n
				all = append(all, &held{b, bytes.Clone(p), n, l})
			},
			"append": func(t *rapid.T) {
				n := rapid.IntRange(0, 20000).Draw(t, "size")
				p := bytes.Repeat([]byte{byte(n)}, n)
				b := NewBufferSize(min(n, MaxChunk))
				if m := b.Append(p); m != min(n, MaxChunk) {
					t.Fatalf("Append took %d of %d", m, n)
				}
				all = append(all, &held{b, p[:b.Len()], 0, nil})
			},
			"split": func(t *rapid.T) {
				if len(all) == 0 {
					t.Skip()
				}
				h := all[pick()]
				n := rapid.IntRange(0, h.b.Len()).Draw(t, "at")
				head := &held{h.b.Split(n), h.want[:n], min(n, h.owed), h.from}
				h.want, h.owed = h.want[n:], h.owed-head.owed
				all = append(all, head)
			},
			"absorb": func(t *rapid.T) {
				if len(all) < 2 {
					t.Skip()
				}
				i := pick()
				j := pick()
				if i == j {
					t.Skip()
				}
				a, o := all[i], all[j]
				if !a.b.Absorb(o.b) {
					return
				}
				if a.owed > 0 && o.owed > 0 && a.from != o.from {
					t.Fatal("credit of two streams was mixed")
				}
				if a.owed == 0 && o.owed > 0 && a.from == nil {
					a.from = o.from
				}
				a.want = append(bytes.Clone(a.want), o.want...)
				a.owed += o.owed
				remove(j)
			},
			"advance": func(t *rapid.T) {
				if len(all) == 0 {
					t.Skip()
				}
				h := all[pick()]
				n := rapid.IntRange(0, h.b.Len()).Draw(t, "by")
				h.b.Advance(n)
				h.want = h.want[n:]
			},
			"detach": func(t *rapid.T) {
				if len(all) == 0 {
					t.Skip()
				}
				h := all[pick()]
				before := 0
				if h.from != nil {
					before = h.from.back
				}
				h.b.Detach()
				if h.from != nil && h.from.back != before+h.owed {
					t.Fatalf("Detach gave %d back, %d were owed", h.from.back-before, h.owed)
				}
				h.owed, h.from = 0, nil
			},
			"release": func(t *rapid.T) {
				if len(all) == 0 {
					t.Skip()
				}
				i := pick()
				all[i].b.Release()
				remove(i)
			},
			"": func(t *rapid.T) {
				for _, h := range all {
					if !bytes.Equal(h.b.Bytes(), h.want) || h.b.Len() != len(h.want) {
						t.Fatal("a buffer does not hold its bytes")
					}
				}
			},
		}
		t.Repeat(actions)
		for _, h := range all {
			h.b.Release()
		}
		for _, l := range ledgers {
			if l.back != owed[l] {
				t.Fatalf("%d bytes of credit came back, %d were owed", l.back, owed[l])
			}
		}
		if n := meter.Load(); n != 0 {
			t.Fatalf("%d bytes of memory are still charged", n)
		}
	})
}

func TestHeaderIsStampedIntoTheHeadroom(t *testing.T) {
	b := NewBuffer()
	b.Append([]byte("headtail"))
	head := b.Split(4)
	p := head.WithHeader(9)
	copy(p, "123456789")
	if string(p) != "123456789head" || string(b.Bytes()) != "tail" {
		t.Errorf("%q, %q", p, b.Bytes())
	}
	head.Release()
	p = b.WithHeader(9)
	copy(p, "123456789")
	if string(p) != "123456789tail" {
		t.Errorf("%q", p)
	}
	b.Release()
}

// A block with two owners must not be written into: the bytes behind a head are its tail.
func TestAbsorbLeavesASplitBlockAlone(t *testing.T) {
	b := NewBuffer()
	b.Append([]byte("headtail"))
	head := b.Split(4)
	o := NewBufferSize(1)
	o.Append([]byte("x"))
	if head.Absorb(o) {
		t.Fatal("a head took bytes that lie where its tail is")
	}
	if string(b.Bytes()) != "tail" {
		t.Errorf("%q", b.Bytes())
	}
}

func TestSmallBuffersTakeLittleMemory(t *testing.T) {
	for _, c := range []struct{ n, most int }{{0, 2 << 10}, {1, 2 << 10}, {1024, 2 << 10}, {1025, 5 << 10}, {4096, 5 << 10}, {4097, 17 << 10}, {16384, 17 << 10}} {
		var meter atomic.Int64
		b := NewBufferSize(c.n)
		b.Charge(&meter)
		if len(b.Fill(c.n)) != c.n || meter.Load() > int64(c.most) {
			t.Errorf("%d bytes take %d", c.n, meter.Load())
		}
		b.Release()
	}
}
