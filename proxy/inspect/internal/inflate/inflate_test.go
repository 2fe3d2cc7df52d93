package inflate

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/adler32"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func pack(t interface{ Fatal(...any) }, f Format, level int, flushEvery int, p []byte) []byte {
	var b bytes.Buffer
	var w interface {
		io.WriteCloser
		Flush() error
	}
	var err error
	if f == Gzip {
		w, err = gzip.NewWriterLevel(&b, level)
	} else {
		w, err = zlib.NewWriterLevel(&b, level)
	}
	if err != nil {
		t.Fatal(err)
	}
	for len(p) > 0 {
		n := len(p)
		if flushEvery > 0 {
			n = min(n, flushEvery)
		}
		if _, err := w.Write(p[:n]); err != nil {
			t.Fatal(err)
		}
		if p = p[n:]; flushEvery > 0 {
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// decode feeds p in pieces that next chooses.
func decode(f Format, p []byte, next func(left int) int) ([]byte, *Decoder, error) {
	var out []byte
	d := New(f, func(b []byte) error {
		out = append(out, b...)
		return nil
	})
	for len(p) > 0 {
		n := next(len(p))
		if err := d.Write(p[:n]); err != nil {
			return out, d, err
		}
		p = p[n:]
	}
	return out, d, nil
}

func whole(left int) int { return left }

func samples() map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 200_000)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	skew := make([]byte, 100_000)
	for i := range skew {
		skew[i] = byte(r.ExpFloat64() * 12)
	}
	return map[string][]byte{
		"empty": nil,
		"one":   []byte("x"),
		"text":  []byte(strings.Repeat("the keeper can close the lid, ", 5000)),
		"zeros": make([]byte, 300_000),
		"noise": noise,
		"skew":  skew,
	}
}

func TestDecodesWhatTheStandardLibraryWrites(t *testing.T) {
	for name, p := range samples() {
		for _, f := range []Format{Gzip, Zlib} {
			for _, level := range []int{flate.NoCompression, flate.BestSpeed, flate.BestCompression, flate.HuffmanOnly} {
				for _, flush := range []int{0, 777} {
					packed := pack(t, f, level, flush, p)
					for _, size := range []int{1, 7, 1 << 20} {
						out, d, err := decode(f, packed, func(left int) int { return min(left, size) })
						if err != nil || !d.Complete() || !bytes.Equal(out, p) {
							t.Fatalf("%s format %d level %d flush %d size %d: %d of %d bytes, complete %v, err %v",
								name, f, level, flush, size, len(out), len(p), d.Complete(), err)
						}
					}
				}
			}
		}
	}
}

// What a receiver can read from a prefix, an inspector must have been shown.
func TestEmitsEverythingThatAFlushDetermines(t *testing.T) {
	var wire bytes.Buffer
	w := gzip.NewWriter(&wire)
	var out []byte
	d := New(Gzip, func(b []byte) error {
		out = append(out, b...)
		return nil
	})
	var sent []byte
	for i := range 50 {
		event := fmt.Appendf(nil, "data: event %d\n\n", i)
		sent = append(sent, event...)
		if _, err := w.Write(event); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := d.Write(wire.Next(wire.Len())); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out, sent) {
			t.Fatalf("after event %d: %d bytes shown, %d readable", i, len(out), len(sent))
		}
	}
}

// Without any flush too: the standard library, given a prefix, reads no more than a Decoder showed.
func TestShowsNoLessThanTheStandardLibraryReads(t *testing.T) {
	for name, p := range samples() {
		packed := pack(t, Gzip, flate.DefaultCompression, 0, p)
		for _, n := range []int{0, 5, 11, 30, len(packed) / 3, len(packed) / 2, len(packed) - 9, len(packed) - 1} {
			n = min(max(n, 0), len(packed))
			ours, _, err := decode(Gzip, packed[:n], whole)
			if err != nil {
				t.Fatal(err)
			}
			var theirs []byte
			if r, err := gzip.NewReader(bytes.NewReader(packed[:n])); err == nil {
				theirs, _ = io.ReadAll(r)
			}
			if !bytes.HasPrefix(ours, theirs) {
				t.Fatalf("%s[:%d]: %d bytes shown, %d readable", name, n, len(ours), len(theirs))
			}
		}
	}
}

func TestGzipHeaderFields(t *testing.T) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Name, w.Comment, w.Extra = "name.txt", "a comment", []byte("extra")
	if _, err := w.Write([]byte("body")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	out, d, err := decode(Gzip, b.Bytes(), func(int) int { return 1 })
	if err != nil || !d.Complete() || string(out) != "body" {
		t.Fatalf("%q, complete %v, err %v", out, d.Complete(), err)
	}
}

// gzip writers in Go do not sum the header; others do.
func TestGzipHeaderSum(t *testing.T) {
	good := pack(t, Gzip, 6, 0, []byte("body"))
	header := bytes.Clone(good[:10])
	header[3] = 0x02 | 0x08
	header = append(header, "name\x00"...)
	sum := crc32.ChecksumIEEE(header)
	summed := append(append(header, byte(sum), byte(sum>>8)), good[10:]...)
	for _, size := range []int{1, len(summed)} {
		next := func(left int) int { return min(left, size) }
		out, d, err := decode(Gzip, summed, next)
		if err != nil || !d.Complete() || string(out) != "body" {
			t.Fatalf("%q, complete %v, err %v", out, d.Complete(), err)
		}
		wrong := bytes.Clone(summed)
		wrong[len(header)+1] ^= 1
		if _, _, err := decode(Gzip, wrong, next); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("a wrong header sum: %v", err)
		}
	}
}

// An empty extra field is legal, if odd.
func TestGzipEmptyExtra(t *testing.T) {
	good := pack(t, Gzip, 6, 0, []byte("body"))
	header := bytes.Clone(good[:10])
	header[3] = 0x04
	in := append(append(header, 0, 0), good[10:]...)
	if out, d, err := decode(Gzip, in, whole); err != nil || !d.Complete() || string(out) != "body" {
		t.Fatalf("%q, complete %v, err %v", out, d.Complete(), err)
	}
}

func TestRefuses(t *testing.T) {
	good := pack(t, Gzip, 6, 0, []byte("hello, hello, hello, hello"))
	zgood := pack(t, Zlib, 6, 0, []byte("hello, hello, hello, hello"))
	change := func(p []byte, i int, v byte) []byte {
		p = bytes.Clone(p)
		if i < 0 {
			i += len(p)
		}
		p[i] ^= v
		return p
	}
	raw := func(block ...byte) []byte { return append(bytes.Clone(good[:10]), block...) }
	tests := []struct {
		name   string
		format Format
		in     []byte
		want   error
	}{
		{"a second gzip member", Gzip, append(bytes.Clone(good), good...), ErrTrailing},
		{"a byte behind gzip", Gzip, append(bytes.Clone(good), 0), ErrTrailing},
		{"a byte behind zlib", Zlib, append(bytes.Clone(zgood), 0), ErrTrailing},
		{"no gzip", Gzip, []byte("<html>hello</html>"), ErrCorrupt},
		{"raw deflate called zlib", Zlib, zgood[2:], ErrCorrupt},
		{"reserved gzip flag", Gzip, change(good, 3, 0x20), ErrCorrupt},
		{"wrong crc", Gzip, change(good, -8, 1), ErrCorrupt},
		{"wrong size", Gzip, change(good, -1, 1), ErrCorrupt},
		{"wrong adler", Zlib, change(zgood, -1, 1), ErrCorrupt},
		{"preset dictionary", Zlib, []byte{0x78, 0xbb, 0, 0, 0, 0}, ErrCorrupt},
		{"reserved block type", Gzip, raw(0x07), ErrCorrupt},
		{"stored length without its inverse", Gzip, raw(0x01, 5, 0, 0, 0), ErrCorrupt},
		{"distance before the start", Gzip, raw(0x03, 0x02, 0, 0), ErrCorrupt},
		{"name without an end", Gzip, append([]byte{0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 0}, bytes.Repeat([]byte("n"), maxHeader)...), ErrCorrupt},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{1, 1 << 20} {
				_, d, err := decode(tt.format, tt.in, func(left int) int { return min(left, size) })
				if !errors.Is(err, tt.want) || d.Complete() {
					t.Fatalf("size %d: err %v, complete %v", size, err, d.Complete())
				}
				if again := d.Write([]byte("x")); !errors.Is(again, tt.want) {
					t.Fatalf("the error did not stay: %v", again)
				}
			}
		})
	}
}

func TestEveryPrefixIsIncomplete(t *testing.T) {
	good := pack(t, Gzip, 6, 0, []byte(strings.Repeat("abc", 100)))
	for n := range good {
		if _, d, err := decode(Gzip, good[:n], whole); err != nil || d.Complete() {
			t.Fatalf("prefix %d: err %v, complete %v", n, err, d.Complete())
		}
	}
}

func TestEmitErrorStays(t *testing.T) {
	stop := errors.New("stop")
	d := New(Gzip, func([]byte) error { return stop })
	good := pack(t, Gzip, 6, 0, []byte("hello"))
	if err := d.Write(good); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	if err := d.Write(nil); !errors.Is(err, stop) || d.Complete() {
		t.Fatal(err)
	}
}

func TestSplitsMakeNoDifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := []byte(rapid.StringOfN(rapid.RuneFrom([]rune("abcd ")), 0, 5000, -1).Draw(t, "p"))
		f := Format(rapid.IntRange(0, 1).Draw(t, "format"))
		packed := pack(t, f, rapid.IntRange(-2, 9).Draw(t, "level"), rapid.IntRange(0, 500).Draw(t, "flush"), p)
		out, d, err := decode(f, packed, func(left int) int { return rapid.IntRange(1, left).Draw(t, "n") })
		if err != nil || !d.Complete() || !bytes.Equal(out, p) {
			t.Fatalf("%d of %d bytes, complete %v, err %v", len(out), len(p), d.Complete(), err)
		}
	})
}

// FuzzDecoder: splits make no difference, and what a Decoder calls complete the standard library reads
// in the same way.
func FuzzDecoder(f *testing.F) {
	for _, p := range samples() {
		p = p[:min(len(p), 600)]
		f.Add(pack(f, Gzip, 9, 0, p), uint8(3))
		f.Add(pack(f, Gzip, 1, 50, p), uint8(1))
	}
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		one, d1, err1 := decode(Gzip, in, whole)
		if len(one) > 1032*len(in) {
			t.Fatalf("%d bytes became %d", len(in), len(one))
		}
		two, d2, err2 := decode(Gzip, in, func(left int) int { return min(left, int(size)+1) })
		if !bytes.Equal(one, two) || d1.Complete() != d2.Complete() || !errors.Is(err2, err1) {
			t.Fatalf("splits differ: %d and %d bytes, %v and %v", len(one), len(two), err1, err2)
		}
		r, err := gzip.NewReader(bytes.NewReader(in))
		if err != nil {
			if d1.Complete() {
				t.Fatalf("the standard library says %v", err)
			}
			return
		}
		theirs, err := io.ReadAll(io.LimitReader(r, 1<<22))
		if d1.Complete() && (err != nil || !bytes.Equal(theirs, one)) {
			t.Fatalf("the standard library reads %d bytes, %v; we %d", len(theirs), err, len(one))
		}
		if err1 == nil && !bytes.HasPrefix(one, theirs) && len(theirs) < 1<<22 {
			t.Fatalf("the standard library reads more: %d bytes, we %d", len(theirs), len(one))
		}
	})
}

func BenchmarkDecoder(b *testing.B) {
	p := samples()["text"]
	packed := pack(b, Gzip, 6, 0, p)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		d := New(Gzip, func([]byte) error { return nil })
		if err := d.Write(packed); err != nil {
			b.Fatal(err)
		}
	}
}

// An empty fixed block is ten bits: a record of them must not cost a table each.
func TestFixedBlocksAreCheap(t *testing.T) {
	d := New(Zlib, func([]byte) error { return nil })
	// Four blocks, not final, of type 1, with nothing but the end of the block.
	four := []byte{0x02, 0x08, 0x20, 0x80, 0x00}
	if err := d.Write(append([]byte{0x78, 0x9c}, four...)); err != nil {
		t.Fatal(err)
	}
	const mark = 77
	d.lit.count[0] = mark // what builds a table resets it
	for range 1000 {
		if err := d.Write(four); err != nil {
			t.Fatal(err)
		}
	}
	if d.lit.count[0] != mark {
		t.Fatal("the codes of fixed blocks were built again")
	}
}

// Kinds of blocks in any order, each with its own codes.
func TestBlocksOfEveryKindInTurn(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		var p []byte
		packed := bytes.Buffer{}
		w, err := flate.NewWriter(&packed, flate.DefaultCompression)
		if err != nil {
			t.Fatal(err)
		}
		for range 8 {
			var piece []byte
			switch r.IntN(3) {
			case 0: // too short for its own codes
				piece = []byte("abcab"[:1+r.IntN(5)])
			case 1:
				piece = bytes.Repeat([]byte{byte('a' + r.IntN(20)), byte('a' + r.IntN(20)), byte(r.IntN(256))}, 500)
				for i := range piece {
					piece[i] ^= byte(r.ExpFloat64())
				}
			case 2:
				piece = make([]byte, 300)
				for i := range piece {
					piece[i] = byte(r.Uint32())
				}
			}
			p = append(p, piece...)
			if _, err := w.Write(piece); err != nil {
				t.Fatal(err)
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		in := append([]byte{0x78, 0x9c}, packed.Bytes()...)
		in = binary.BigEndian.AppendUint32(in, adler32.Checksum(p))
		out, d, err := decode(Zlib, in, func(left int) int { return 1 + r.IntN(left) })
		if err != nil || !d.Complete() || !bytes.Equal(out, p) {
			t.Fatalf("%d of %d bytes, complete %v, err %v", len(out), len(p), d.Complete(), err)
		}
	}
}

// FuzzBlocks: the blocks alone, which no checksum guards: where a Decoder sees them end, the standard
// library does, behind the same bytes.
func FuzzBlocks(f *testing.F) {
	for _, p := range samples() {
		p = p[:min(len(p), 600)]
		for _, level := range []int{flate.NoCompression, flate.HuffmanOnly, flate.BestSpeed, flate.BestCompression} {
			packed := pack(f, Zlib, level, 200, p)
			f.Add(packed[2 : len(packed)-4])
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		ours, d, err := decode(Zlib, append([]byte{0x78, 0x9c}, in...), whole)
		ended := d.state == stSum || d.state == stDone || err == ErrTrailing
		source := bytes.NewReader(in)
		theirs, theirErr := io.ReadAll(io.LimitReader(flate.NewReader(source), 1<<22))
		if len(theirs) == 1<<22 {
			return
		}
		if ended && (theirErr != nil || !bytes.Equal(ours, theirs)) {
			t.Fatalf("the standard library reads %d bytes, %v; we %d", len(theirs), theirErr, len(ours))
		}
		if !ended && err == nil && theirErr == nil {
			t.Fatal("the standard library sees the end, we do not")
		}
		if err == nil && !bytes.HasPrefix(ours, theirs) {
			t.Fatalf("the standard library reads more: %d bytes, we %d", len(theirs), len(ours))
		}
	})
}
