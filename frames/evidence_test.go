package frames_test

import (
	"bytes"
	"errors"
	"testing"

	"vitrine/frames"
	"vitrine/spec/vectors"
)

// spec: FRM-6 FRM-8 FRM-12 FRM-14
func TestFragmentEvidenceFitsItsFrames(t *testing.T) {
	for _, size := range []int{1, 2, 16382, 16383, 16384, 32766, 32767, frames.MaxEvidence - 1, frames.MaxEvidence} {
		evidence := bytes.Repeat([]byte{'e'}, size)
		fragments, err := frames.FragmentEvidence(evidence)
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if len(fragments) > frames.MaxEvidenceFragments {
			t.Errorf("%d bytes: %d fragments", size, len(fragments))
		}
		var a frames.EvidenceAssembler
		for i, e := range fragments {
			payload := e.Append(nil)
			if len(payload) > frames.MaxFramePayload {
				t.Errorf("%d bytes: frame %d has a payload of %d", size, i, len(payload))
			}
			if last := i == len(fragments)-1; e.Last != last {
				t.Errorf("%d bytes: frame %d of %d says last=%v", size, i, len(fragments), e.Last)
			}
			again, err := frames.ParseEvidence(payload)
			if err != nil {
				t.Fatalf("%d bytes: frame %d: %v", size, i, err)
			}
			got, done, err := a.Add(again)
			if err != nil || done != e.Last {
				t.Fatalf("%d bytes: frame %d: done=%v, %v", size, i, done, err)
			}
			if done && !bytes.Equal(got, evidence) {
				t.Errorf("%d bytes: assembled to %d others", size, len(got))
			}
		}
	}
	for _, size := range []int{0, frames.MaxEvidence + 1} {
		if _, err := frames.FragmentEvidence(make([]byte, size)); err == nil {
			t.Errorf("%d bytes were cut up", size)
		}
		if _, err := frames.AppendLateEvidence(nil, make([]byte, size)); err == nil {
			t.Errorf("%d bytes were written as late evidence", size)
		}
	}
}

// spec: FRM-15
func TestAssemblerBuffersNothingAboveItsLimit(t *testing.T) {
	var a frames.EvidenceAssembler
	full := frames.Evidence{Fragment: make([]byte, frames.MaxFramePayload-1)}
	for range 4 {
		if _, _, err := a.Add(full); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := a.Add(full)
	if !errors.Is(err, frames.ErrTooLarge) {
		t.Fatalf("the frame that passes 64 KiB: %v", err)
	}
	if _, _, again := a.Add(frames.Evidence{Last: true, Fragment: []byte("x")}); again != err {
		t.Errorf("after an error: %v, want the same error", again)
	}
}

// spec: FRM-16
func TestLateEvidenceReaderStaysBroken(t *testing.T) {
	r := frames.LateEvidenceReader{Max: 4}
	_, _, _, err := r.Feed([]byte{0, 0, 0, 5})
	if !errors.Is(err, frames.ErrTooLarge) {
		t.Fatalf("a length above the limit: %v", err)
	}
	if _, _, _, again := r.Feed([]byte("abcde")); again != err {
		t.Errorf("after an error: %v, want the same error", again)
	}
}

func seedVectors(f *testing.F, kind string) {
	f.Helper()
	list, err := vectors.Load(kind)
	if err != nil {
		f.Fatal(err)
	}
	for _, v := range list {
		f.Add(v.Bytes)
	}
}

func FuzzEvidence(f *testing.F) {
	seedVectors(f, "evidence-frame")
	f.Fuzz(func(t *testing.T, payload []byte) {
		e, err := frames.ParseEvidence(payload)
		if err != nil {
			return
		}
		if len(e.Fragment) == 0 || len(payload) > frames.MaxFramePayload {
			t.Fatalf("accepted %d bytes with a fragment of %d", len(payload), len(e.Fragment))
		}
		if again := e.Append(nil); !bytes.Equal(again, payload) {
			t.Fatalf("encodes to %x, was %x", again, payload)
		}
	})
}

// FuzzEvidenceAssembler reads the input as fragments: a size, the last flag in its top bit.
func FuzzEvidenceAssembler(f *testing.F) {
	f.Add([]byte{0x81}, 0)
	f.Add([]byte{1, 1, 1, 1, 0x81}, 5)
	f.Add(bytes.Repeat([]byte{1}, 17), 100)
	f.Add([]byte{127, 127, 0x80}, 200)
	f.Fuzz(func(t *testing.T, shape []byte, limit int) {
		a := frames.EvidenceAssembler{Max: limit}
		if limit <= 0 {
			limit = frames.MaxEvidence
		}
		var want []byte
		finished := false
		for i, c := range shape {
			e := frames.Evidence{Last: c&0x80 != 0, Fragment: bytes.Repeat([]byte{byte(i)}, int(c&0x7f))}
			legal := !finished && len(e.Fragment) > 0 && i < frames.MaxEvidenceFragments && len(want)+len(e.Fragment) <= limit
			got, done, err := a.Add(e)
			if (err == nil) != legal {
				t.Fatalf("fragment %d: %v, legal is %v", i, err, legal)
			}
			if err != nil {
				return
			}
			want = append(want, e.Fragment...)
			finished = e.Last
			if done != finished || done && !bytes.Equal(got, want) {
				t.Fatalf("fragment %d: done=%v with %d bytes, want %v with %d", i, done, len(got), finished, len(want))
			}
		}
	})
}

// FuzzLateEvidence: however the bytes are cut, the answer is that of one piece.
func FuzzLateEvidence(f *testing.F) {
	list, err := vectors.Load("late-evidence")
	if err != nil {
		f.Fatal(err)
	}
	for _, v := range list {
		f.Add(v.Bytes, 1)
		f.Add(v.Bytes, 3)
	}
	f.Fuzz(func(t *testing.T, p []byte, step int) {
		if step < 1 || len(p) > 1<<16 {
			return
		}
		evidence, rest, err := feed(new(frames.LateEvidenceReader), p, len(p)+1)
		evidence2, rest2, err2 := feed(new(frames.LateEvidenceReader), p, step)
		if class(err) != class(err2) || !bytes.Equal(evidence, evidence2) || !bytes.Equal(rest, rest2) {
			t.Fatalf("by %d: %v, in one piece: %v", step, err2, err)
		}
		if err != nil {
			return
		}
		again, err := frames.AppendLateEvidence(nil, evidence)
		if err != nil {
			t.Fatal(err)
		}
		if again = append(again, rest...); !bytes.Equal(again, p) {
			t.Fatalf("encodes to %x, was %x", again, p)
		}
	})
}
