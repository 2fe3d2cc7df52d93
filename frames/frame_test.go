package frames_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"golang.org/x/net/http2"

	"vitrine/frames"
)

// errOrdinary is a frame that x/net knows, or refused by itself: it never comes to us.
var errOrdinary = errors.New("a frame of HTTP/2 itself")

// readFrame is the dispatch of a carrier: what the framer does not know is offered to us.
func readFrame(fr *http2.Framer) (frames.Frame, error) {
	f, err := fr.ReadFrame()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errOrdinary, err)
	}
	u, ok := f.(*http2.UnknownFrame)
	if !ok {
		return nil, errOrdinary
	}
	return frames.Parse(uint8(u.Type), u.Payload())
}

func throughFramer(t *testing.T, frameType uint8, payload []byte) (frames.Frame, error) {
	t.Helper()
	var wire bytes.Buffer
	fr := http2.NewFramer(&wire, &wire)
	if err := fr.WriteRawFrame(http2.FrameType(frameType), 0, 1, payload); err != nil {
		t.Fatal(err)
	}
	f, err := readFrame(fr)
	if errors.Is(err, errOrdinary) {
		t.Fatalf("%#02x is not an unknown frame to x/net: %v", frameType, err)
	}
	return f, err
}

// spec: FRM-1
func TestAll256FrameTypesThroughTheReader(t *testing.T) {
	evidence := frames.Evidence{Last: true, Fragment: []byte("evidence")}
	verdict := frames.Verdict{Stream: 1, SignedVerdict: frames.SignedVerdict{TBS: []byte("tbs"), Scheme: 0x0403, Signature: []byte("sig")}}
	verdictPayload, err := verdict.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.NewChaCha8([32]byte{1})
	payloads := [][]byte{nil, {0}, {1}, {1, 2}, make([]byte, 5), make([]byte, 6), make([]byte, 8), make([]byte, frames.MaxFramePayload), evidence.Append(nil), verdictPayload}
	for range 16 {
		p := make([]byte, random.Uint64()%64)
		_, _ = random.Read(p) // never fails
		payloads = append(payloads, p)
	}
	for frameType := range 256 {
		ours := frameType == frames.TypeEvidence || frameType == frames.TypeVerdict
		taken := 0
		for _, stream := range []uint32{0, 1, 2, 1<<31 - 1} {
			for _, flags := range []http2.Flags{0, 0x1, 0x4, 0x8, 0x20, 0xff} {
				for i, payload := range payloads {
					var wire bytes.Buffer
					fr := http2.NewFramer(&wire, &wire)
					fr.AllowIllegalWrites = true
					if err := fr.WriteRawFrame(http2.FrameType(frameType), flags, stream, payload); err != nil {
						t.Fatal(err)
					}
					f, err := readFrame(fr)
					switch {
					case !ours && !errors.Is(err, errOrdinary) && !errors.Is(err, frames.ErrUnknownType):
						t.Fatalf("type %#02x, payload %d: %v, %v; want it ignored", frameType, i, f, err)
					case ours && (errors.Is(err, errOrdinary) || errors.Is(err, frames.ErrUnknownType)):
						t.Fatalf("type %#02x, payload %d did not come to us: %v", frameType, i, err)
					case err == nil && int(f.Type()) != frameType:
						t.Fatalf("type %#02x, payload %d was read as %#02x", frameType, i, f.Type())
					case err == nil:
						taken++
					}
				}
			}
		}
		if ours != (taken > 0) {
			t.Errorf("type %#02x: %d frames taken", frameType, taken)
		}
	}
}

func TestEveryPrefixOfAFrameIsEOF(t *testing.T) {
	signed := frames.SignedVerdict{TBS: []byte("tbs"), Scheme: 0x0403, Signature: []byte("sig")}
	verdict, err := frames.Verdict{Stream: 1, SignedVerdict: signed}.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	for frameType, payload := range map[uint8][]byte{
		frames.TypeEvidence: frames.Evidence{Last: true, Fragment: []byte("evidence")}.Append(nil),
		frames.TypeVerdict:  verdict,
	} {
		var wire bytes.Buffer
		if err := http2.NewFramer(&wire, nil).WriteRawFrame(http2.FrameType(frameType), 0, 1, payload); err != nil {
			t.Fatal(err)
		}
		whole := wire.Bytes()
		for n := range whole {
			_, err := readFrame(http2.NewFramer(nil, bytes.NewReader(whole[:n])))
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("type %#02x, %d of %d bytes: %v, want EOF", frameType, n, len(whole), err)
			}
		}
		if _, err := readFrame(http2.NewFramer(nil, bytes.NewReader(whole))); err != nil {
			t.Errorf("type %#02x, whole: %v", frameType, err)
		}
	}
}

// The framer reuses its buffer with the next read, so an assembler that kept fragments would end with the
// last one many times.
func TestAssemblerCopiesOutOfTheFramer(t *testing.T) {
	want := make([]byte, 3*frames.MaxFramePayload)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(want) // never fails
	fragments, err := frames.FragmentEvidence(want)
	if err != nil {
		t.Fatal(err)
	}
	var wire bytes.Buffer
	fr := http2.NewFramer(&wire, &wire)
	fr.SetReuseFrames()
	for _, e := range fragments {
		if err := fr.WriteRawFrame(frames.TypeEvidence, 0, 1, e.Append(nil)); err != nil {
			t.Fatal(err)
		}
	}
	var a frames.EvidenceAssembler
	for {
		f, err := readFrame(fr)
		if err != nil {
			t.Fatal(err)
		}
		got, done, err := a.Add(f.(frames.Evidence))
		if err != nil {
			t.Fatal(err)
		}
		if done {
			if !bytes.Equal(got, want) {
				t.Error("assembled evidence differs")
			}
			return
		}
	}
}
