package frames_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"vitrine/frames"
	"vitrine/spec/vectors"
	"vitrine/spec/vectors/vectorstest"
)

// errIncomplete is what a caller says about a stream that ended before its reader was done.
var errIncomplete = fmt.Errorf("stream ended: %w", frames.ErrTruncated)

func class(err error) string {
	if err == nil {
		return vectors.Success
	}
	if _, ok := errors.AsType[*frames.Error](err); !ok && !errors.Is(err, errIncomplete) {
		return "an error that is not *frames.Error"
	}
	switch {
	case errors.Is(err, frames.ErrMalformed):
		return vectors.Malformed
	case errors.Is(err, frames.ErrTruncated):
		return vectors.Truncated
	case errors.Is(err, frames.ErrTooLarge):
		return vectors.TooLarge
	case errors.Is(err, frames.ErrHopBinding):
		return vectors.Foreign
	}
	return "an error of no class"
}

// spec: FRM-7 FRM-9 FRM-10
func TestVectorsEvidenceFrame(t *testing.T) {
	meaning := func(e frames.Evidence) (map[string]string, []byte, error) {
		found := map[string]string{"last": strconv.FormatBool(e.Last), "fragment": hex.EncodeToString(e.Fragment)}
		return found, e.Append(nil), nil
	}
	t.Run("ParseEvidence", func(t *testing.T) {
		vectorstest.Run(t, "evidence-frame", class, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
			e, err := frames.ParseEvidence(v.Bytes)
			if err != nil {
				return nil, nil, err
			}
			return meaning(e)
		})
	})
	t.Run("Parse", func(t *testing.T) {
		vectorstest.Run(t, "evidence-frame", class, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
			f, err := frames.Parse(frames.TypeEvidence, v.Bytes)
			if err != nil {
				return nil, nil, err
			}
			return meaning(f.(frames.Evidence))
		})
	})
	t.Run("Framer", func(t *testing.T) {
		vectorstest.Run(t, "evidence-frame", class, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
			f, err := throughFramer(t, frames.TypeEvidence, v.Bytes)
			if err != nil {
				return nil, nil, err
			}
			return meaning(f.(frames.Evidence))
		})
	})
}

// spec: FRM-11 FRM-13 FRM-15
func TestVectorsEvidenceFrames(t *testing.T) {
	vectorstest.Run(t, "evidence-frames", class, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
		a := frames.EvidenceAssembler{Max: int(vectorstest.Int(t, v, "max"))}
		rest := v.Bytes
		var again []byte
		var evidence []byte
		var complete bool
		for _, size := range strings.Fields(v.Inputs["frames"]) {
			n, err := strconv.Atoi(size)
			if err != nil || n > len(rest) {
				t.Fatalf("frames: %q does not cut %d bytes", v.Inputs["frames"], len(v.Bytes))
			}
			e, err := frames.ParseEvidence(rest[:n])
			if err == nil {
				again = e.Append(again)
			} else if n > 1 {
				t.Fatalf("a frame of this kind is malformed by itself: %v", err)
			}
			// An empty fragment must not get past the assembler either, when a carrier forgot to ask.
			got, done, err := a.Add(e)
			if err != nil {
				return nil, nil, err
			}
			if done {
				evidence, complete = got, true
			}
			rest = rest[n:]
		}
		if len(rest) != 0 {
			t.Fatalf("%d bytes in no frame", len(rest))
		}
		if !complete {
			return nil, nil, errIncomplete
		}
		return map[string]string{"evidence": hex.EncodeToString(evidence)}, again, nil
	})
}

// spec: FRM-16 FRM-17 FRM-18
func TestVectorsLateEvidence(t *testing.T) {
	for _, step := range []int{1, 2, 3, 5, 1 << 20} {
		t.Run(fmt.Sprintf("by %d", step), func(t *testing.T) {
			vectorstest.Run(t, "late-evidence", class, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
				evidence, rest, err := feed(&frames.LateEvidenceReader{Max: int(vectorstest.Int(t, v, "max"))}, v.Bytes, step)
				if err != nil {
					return nil, nil, err
				}
				again, err := frames.AppendLateEvidence(nil, evidence)
				if err != nil {
					return nil, nil, err
				}
				found := map[string]string{"evidence": hex.EncodeToString(evidence), "rest": hex.EncodeToString(rest)}
				return found, append(again, rest...), nil
			})
		})
	}
}

// feed cuts p into pieces of step bytes.
func feed(r *frames.LateEvidenceReader, p []byte, step int) (evidence, rest []byte, err error) {
	complete := false
	for len(p) > 0 {
		n := min(step, len(p))
		behind, got, done, err := r.Feed(p[:n])
		if err != nil {
			return nil, nil, err
		}
		if done {
			complete, evidence = true, got
			rest = append(rest, behind...)
		}
		p = p[n:]
	}
	if !complete {
		return nil, nil, errIncomplete
	}
	return evidence, rest, nil
}

// spec: FRM-7 FRM-19 FRM-20 FRM-21
func TestVectorsVerdict(t *testing.T) {
	meaning := func(v frames.Verdict) (map[string]string, []byte, error) {
		again, err := v.Append(nil)
		return map[string]string{
			"stream":    strconv.FormatUint(v.Stream, 10),
			"tbs":       hex.EncodeToString(v.TBS),
			"scheme":    fmt.Sprintf("%04x", v.Scheme),
			"signature": hex.EncodeToString(v.Signature),
		}, again, err
	}
	t.Run("ParseVerdict", func(t *testing.T) {
		vectorstest.Run(t, "verdict", class, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
			verdict, err := frames.ParseVerdict(v.Bytes)
			if err != nil {
				return nil, nil, err
			}
			return meaning(verdict)
		})
	})
	t.Run("SplitVerdict and ParseSignedVerdict", func(t *testing.T) {
		vectorstest.Run(t, "verdict", class, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
			stream, signed, err := frames.SplitVerdict(v.Bytes)
			if err != nil {
				return nil, nil, err
			}
			s, err := frames.ParseSignedVerdict(signed)
			if err != nil {
				return nil, nil, err
			}
			if got := frames.AppendVerdict(nil, stream, signed); !bytes.Equal(got, v.Bytes) {
				t.Errorf("AppendVerdict gives %x, want %x", got, v.Bytes)
			}
			return meaning(frames.Verdict{Stream: stream, SignedVerdict: s})
		})
	})
	t.Run("Framer", func(t *testing.T) {
		vectorstest.Run(t, "verdict", class, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
			f, err := throughFramer(t, frames.TypeVerdict, v.Bytes)
			if err != nil {
				return nil, nil, err
			}
			return meaning(f.(frames.Verdict))
		})
	})
}

// spec: FRM-22 FRM-23 FRM-24 FRM-25 FRM-26 FRM-27 FRM-28 FRM-29 FRM-30
func TestVectorsVerdictTBS(t *testing.T) {
	vectorstest.Run(t, "verdict-tbs", class, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
		tbs, err := frames.ParseVerdictTBS(v.Bytes)
		if err != nil {
			return nil, nil, err
		}
		again, err := tbs.Append(nil)
		return map[string]string{
			"proxy leaf":         hex.EncodeToString(tbs.ProxyLeaf[:]),
			"nonce":              hex.EncodeToString(tbs.Nonce[:]),
			"authority":          tbs.Authority,
			"time ms":            strconv.FormatInt(tbs.Time.UnixMilli(), 10),
			"direction":          strconv.Itoa(int(tbs.Direction)),
			"released to origin": strconv.FormatUint(tbs.ReleasedToOrigin, 10),
			"released to client": strconv.FormatUint(tbs.ReleasedToClient, 10),
			"reason":             strconv.Itoa(int(tbs.Reason)),
			"rule":               hex.EncodeToString([]byte(tbs.Rule)),
			"detail":             hex.EncodeToString([]byte(tbs.Detail)),
		}, again, err
	})
}

// spec: FRM-3
func TestVectorsHopBinding(t *testing.T) {
	vectorstest.Run(t, "hop-binding", class, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
		found := fmt.Sprintf("%08x", frames.HopBinding([frames.HopBindingLen]byte(v.Bytes)))
		return map[string]string{"binding": found}, v.Bytes, nil
	})
}

// spec: FRM-2 FRM-4 FRM-5
func TestVectorsSettings(t *testing.T) {
	vectorstest.Run(t, "settings", class, func(t *testing.T, v vectors.Vector) (map[string]string, []byte, error) {
		var peer frames.PeerSettings
		for rest := v.Bytes; len(rest) > 0; rest = rest[6:] {
			peer.Set(uint64(binary.BigEndian.Uint16(rest)), uint64(binary.BigEndian.Uint32(rest[2:])))
		}
		if err := peer.Check(binary.BigEndian.Uint32(vectorstest.Hex(t, v, "binding"))); err != nil {
			return nil, nil, err
		}
		return map[string]string{"takes": strconv.FormatBool(peer.Evidence), "late": strconv.FormatBool(peer.Late)}, nil, nil
	})
}
