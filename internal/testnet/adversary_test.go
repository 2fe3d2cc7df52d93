package testnet

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"vitrine/frames"
	"vitrine/internal/hostile"
	"vitrine/internal/tlsmsg"
)

// A tally counts how attacks ended.
type tally struct {
	attacks int
	classes map[string]int
}

// judge does one exchange under attack and fails the test when an end was deceived. where says what was
// attacked: a record's number in direction d.
func (l *lab) judge(ty *tally, name string, d frames.Direction, n int, m hostile.Mangler) {
	l.Helper()
	w := l.watch(d, m)
	l.set(d, w)
	r := l.exchange()
	ty.attacks++
	if ty.classes == nil {
		ty.classes = make(map[string]int)
	}
	ty.classes[r.class]++
	// The client's ClientHello and Finished, the origin's ServerHello and flight.
	handshake := n <= 1
	switch {
	case r.lie != "":
		l.Errorf("%v, record %d, %s: %s (%s)", d, n, name, r.lie, r.class)
	case r.class == "success":
		if !w.intact() {
			l.Errorf("%v, record %d, %s: accepted in silence", d, n, name)
		}
	case r.class == "integrity", r.class == "killed":
	case r.class == "unreachable:origin" && (handshake || d == frames.ToOrigin):
		// Nobody is known yet; or the origin never had a request, and ended the session itself.
	case r.class == "withheld" && !handshake:
		// Who carries bytes can always keep them.
	default:
		l.Errorf("%v, record %d, %s: %s: %v", d, n, name, r.class, r.err)
	}
}

func (ty *tally) log(t *testing.T) {
	t.Helper()
	var ended []string
	for _, c := range slices.Sorted(maps.Keys(ty.classes)) {
		ended = append(ended, fmt.Sprintf("%s %d", c, ty.classes[c]))
	}
	t.Logf("%d attacks: %s; accepted in silence: none", ty.attacks, strings.Join(ended, ", "))
}

// P3, exhaustive on a small exchange: each operation on each record of each direction, the goodbyes included.
func TestP3EveryOperationOnEveryRecord(t *testing.T) {
	t.Parallel()
	for _, s := range []shape{lengths, chunks, untilClose} {
		t.Run(s.String(), func(t *testing.T) { everyOperation(t, s) })
	}
}

func everyOperation(t *testing.T, s shape) {
	bubble(t, func(t *testing.T) {
		l := newLab(t, s, nil)
		tapes := l.tapes()
		other := l.tapes() // of another tunnel
		var ty tally
		for d := range tapes {
			d := frames.Direction(d)
			for n, record := range tapes[d] {
				for i := range record {
					switch i {
					case 0, 1, 2, 3, 4, 5, len(record) / 2, len(record) - 1:
						l.judge(&ty, fmt.Sprintf("flip byte %d", i), d, n, hostile.FlipRecord(n, i, 0x80))
					}
				}
				for _, keep := range []int{0, 1, 5, 6, len(record) - 1, 1 << 20} {
					l.judge(&ty, fmt.Sprintf("cut behind %d bytes", keep), d, n, hostile.Cut(n, keep))
				}
				for _, i := range []int{1, len(record) - 6} {
					l.judge(&ty, "split", d, n, hostile.Split(n, i))
				}
				l.judge(&ty, "drop", d, n, hostile.Drop(n))
				l.judge(&ty, "stall", d, n, hostile.Stall(n))
				l.judge(&ty, "replay", d, n, hostile.Replay(n))
				l.judge(&ty, "swap with the next", d, n, hostile.Swap(n))
				for name, extra := range forgeries() {
					l.judge(&ty, "insert "+name, d, n, hostile.Insert(n, extra))
					l.judge(&ty, "replace by "+name, d, n, hostile.Replace(n, extra))
				}
				for from := range tapes {
					for m, spliced := range other[from] {
						name := fmt.Sprintf("record %d of another tunnel's %v", m, frames.Direction(from))
						l.judge(&ty, "insert "+name, d, n, hostile.Insert(n, spliced))
						l.judge(&ty, "replace by "+name, d, n, hostile.Replace(n, spliced))
					}
				}
			}
			// Records of the tunnel itself, later and in the other direction.
			for n := range tapes[d] {
				for m := range n {
					l.judge(&ty, fmt.Sprintf("replay record %d", m), d, n, again(n, m))
				}
				for m := range tapes[1-d] {
					l.reflect(&ty, d, n, m)
				}
			}
		}
		ty.log(t)
		if ty.classes["success"] == 0 || ty.classes["integrity"] == 0 {
			t.Error("the oracle was not exercised")
		}
	})
}

// again sends record m once more in front of record n.
func again(n, m int) *hostile.Attack {
	var kept []byte
	return hostile.NewAttack(func(i int, record []byte) [][]byte {
		switch i {
		case m:
			kept = bytes.Clone(record)
		case n:
			return [][]byte{kept, record}
		}
		return [][]byte{record}
	})
}

// reflect puts record m of the other direction of the same tunnel in the place of record n.
func (l *lab) reflect(ty *tally, d frames.Direction, n, m int) {
	l.Helper()
	var tape hostile.Tape
	l.set(1-d, tape.Mangler())
	l.judge(ty, fmt.Sprintf("replace by record %d of the other direction", m), d, n, hostile.NewAttack(func(i int, record []byte) [][]byte {
		if back := tape.Records(); i == n && m < len(back) {
			return [][]byte{back[m]}
		}
		return [][]byte{record}
	}))
	l.set(1-d, nil)
}

// forgeries are records that somebody without a key can make.
func forgeries() map[string][]byte {
	record := func(t tlsmsg.ContentType, fragment ...byte) []byte {
		return append(tlsmsg.RecordHeader{Type: t, Version: 0x0303, Length: len(fragment)}.Append(nil), fragment...)
	}
	tagged := func(t tlsmsg.ContentType, content ...byte) []byte { // a readable record with a tag that is none
		return record(tlsmsg.TypeApplicationData, append(append(content, byte(t)), make([]byte, 32)...)...)
	}
	return map[string][]byte{
		"change_cipher_spec":               record(tlsmsg.TypeChangeCipherSpec, 1),
		"a change_cipher_spec that lies":   record(tlsmsg.TypeChangeCipherSpec, 2),
		"an unprotected close_notify":      record(tlsmsg.TypeAlert, 1, 0),
		"an unprotected user_canceled":     record(tlsmsg.TypeAlert, 1, 90),
		"an unprotected fatal alert":       record(tlsmsg.TypeAlert, 2, 40),
		"an unprotected handshake":         record(tlsmsg.TypeHandshake, 0, 0, 0, 0),
		"unprotected data":                 record(tlsmsg.TypeHandshake, []byte("GET / HTTP/1.1\r\n\r\n")...),
		"an empty record":                  record(tlsmsg.TypeApplicationData),
		"a record shorter than a tag":      record(tlsmsg.TypeApplicationData, make([]byte, 31)...),
		"a record of nothing but a tag":    record(tlsmsg.TypeApplicationData, make([]byte, 32)...),
		"data with a tag of zeros":         tagged(tlsmsg.TypeApplicationData, []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")...),
		"empty data with a tag of zeros":   tagged(tlsmsg.TypeApplicationData),
		"close_notify with a tag of zeros": tagged(tlsmsg.TypeAlert, 1, 0),
		"KeyUpdate with a tag of zeros":    tagged(tlsmsg.TypeHandshake, 24, 0, 0, 1, 1),
		"a ticket with a tag of zeros":     tagged(tlsmsg.TypeHandshake, 4, 0, 0, 0),
	}
}

// P3, exhaustive on a small exchange: each bit of each direction.
func TestP3EveryBitFlipped(t *testing.T) {
	t.Parallel()
	every := 1
	if raceEnabled || testing.Short() {
		every = 8*7 + 1 // every seventh byte, each time another bit
	}
	for _, s := range []shape{lengths, chunks, untilClose} {
		step := every
		if s != lengths {
			// What a bit means in a record does not depend on how HTTP says where it ends, so one or two of each byte
			// are enough.
			step = max(every, 7)
		}
		for d := range 2 {
			d := frames.Direction(d)
			t.Run(fmt.Sprintf("%v %v", s, d), func(t *testing.T) {
				t.Parallel()
				everyBit(t, s, d, step)
			})
		}
	}
}

func everyBit(t *testing.T, s shape, d frames.Direction, step int) {
	var ty tally
	const batch = 400 // exchanges on a pair of hops; an origin answers for 1,024 tunnels of a hop
	for bit, more := 0, true; more; {
		bubble(t, func(t *testing.T) {
			l := newLab(t, s, nil)
			tape := l.tapes()[d]
			for end := bit + batch*step; bit < end && more; bit += step {
				n, offset := 0, bit/8
				for n < len(tape) && offset >= len(tape[n]) {
					offset -= len(tape[n])
					n++
				}
				if more = n < len(tape); more {
					l.judge(&ty, fmt.Sprintf("flip bit %d of byte %d", bit%8, offset), d, n, hostile.FlipByte(int64(bit/8), 1<<(bit%8)))
				}
			}
		})
	}
	if step > 1 {
		t.Logf("one bit in %d", step)
	}
	ty.log(t)
	if ty.attacks*step < 8*400 || ty.classes["integrity"] == 0 {
		t.Errorf("only %d bits were flipped", ty.attacks)
	}
}
