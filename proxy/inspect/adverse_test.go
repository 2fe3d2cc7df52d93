package inspect

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"vitrine/frames"
	"vitrine/internal/tlsmsg"
)

// faulty panics where it is told to.
type faulty struct {
	at     string // "begin", "request", "response" or "close"
	closed int
}

func (f *faulty) fail(at string) {
	if f.at == at {
		panic("it saw a password")
	}
}

func (f *faulty) Begin(*Exchange) Inspection {
	f.fail("begin")
	return f
}

func (f *faulty) Request(Part) Decision {
	f.fail("request")
	return Decision{}
}

func (f *faulty) Response(Part) Decision {
	f.fail("response")
	return Decision{}
}

func (f *faulty) Close(Outcome) {
	f.closed++
	f.fail("close")
}

// An inspector that panics has judged nothing: the tunnel is killed, the process and the other Inspections
// go on, and neither end is told what the panic said.
//
// spec: RDR-33
func TestInspectorPanicKillsTheTunnel(t *testing.T) {
	for _, tt := range []struct {
		at     string
		steps  func(w *wire) []step
		passed int // steps behind the handshake whose bytes leave
		closes int
	}{
		{"begin", func(w *wire) []step { return []step{c(w.app(get))} }, 0, 0},
		{"request", func(w *wire) []step { return []step{c(w.app(get))} }, 0, 1},
		{"response", func(w *wire) []step { return []step{c(w.app(get)), o(w.app(ok5))} }, 1, 1},
		// Both messages have left, but what does not end well shall not see another exchange.
		{"close", func(w *wire) []step { return []step{c(w.app(get)), o(w.app(ok5))} }, 2, 1},
	} {
		t.Run(tt.at, func(t *testing.T) {
			bad, good := &faulty{at: tt.at}, new(watcher)
			cfg := config()
			cfg.Inspectors = judges(good, bad, good)
			var logs []Passed
			cfg.Log = func(p Passed) { logs = append(logs, p) }
			r, w := connected(t, cfg, nil)
			steps := tt.steps(w)
			want := r.fed
			for _, s := range steps[:tt.passed] {
				want[s.dir] += int64(len(s.p))
			}
			err := r.all(t, steps...)
			kills(t, err, RulePanic)
			var kill *KillError
			if errors.As(err, &kill); strings.Contains(kill.Detail, "password") {
				t.Fatalf("the ends are told %q", kill.Detail)
			}
			var panicked *PanicError
			if !errors.As(err, &panicked) || !strings.Contains(panicked.Error(), "password") || !bytes.Contains(panicked.Stack, []byte("faulty")) {
				t.Fatalf("the operator is told %v", panicked)
			}
			if r.released != want {
				t.Fatalf("released %v, want %v", r.released, want)
			}
			r.tun.Close(err)
			if bad.closed != tt.closes {
				t.Fatalf("closed %d times, want %d", bad.closed, tt.closes)
			}
			for _, e := range good.seen {
				if e.outcome == nil {
					t.Fatal("an Inspection beside the faulty one was not closed")
				}
			}
			if len(logs) != 1 {
				t.Fatalf("%d exchanges logged", len(logs))
			}
		})
	}
}

// The same when the panic comes while Decide or Close ends the exchange.
//
// spec: RDR-33
func TestInspectorPanicInTheEnd(t *testing.T) {
	t.Run("Decide", func(t *testing.T) {
		bad := &faulty{at: "close"}
		watch := &watcher{decide: only(toClient, func(*Exchange, Part) Decision { return Decision{Action: Hold} })}
		var got told
		cfg := got.config(watch)
		cfg.Inspectors = judges(watch, bad)
		r, w := connected(t, cfg, nil)
		r.passes(t, c(w.app(get)))
		if err := r.feed(t, o(w.app(ok5))); err != nil {
			t.Fatal(err)
		}
		watch.seen[0].x.Decide(Decision{Action: Allow})
		r.tun.Wait()
		if len(got.kills) != 1 || got.kills[0].Rule != RulePanic || bad.closed != 1 {
			t.Fatalf("kills %v, closed %d times", got.kills, bad.closed)
		}
		_, err := r.tun.Feed(toOrigin, w.app(get))
		kills(t, err, RulePanic)
		r.tun.Close(nil)
	})
	t.Run("Close", func(t *testing.T) {
		bad := &faulty{at: "close"}
		cfg := config()
		cfg.Inspectors = judges(bad)
		r, w := connected(t, cfg, nil)
		r.passes(t, c(w.app(get)))
		r.tun.Close(nil)
		if bad.closed != 1 {
			t.Fatalf("closed %d times", bad.closed)
		}
	})
}

// Half a unit never leaves, so neither does what came behind it: whoever waits for it must learn that its
// direction ended, or the tunnel would wait for ever.
//
// spec: RDR-11 RDR-23
func TestAClosedDirectionCutsTheUnitItStandsIn(t *testing.T) {
	length := "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
	chunked := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, half := range []string{"HTTP/1.1 200", length[:len(length)-1], chunked + "5", chunked + "5\r\nhello\r", chunked + "0\r\nX: "} {
		for _, a := range []tlsmsg.Alert{tlsmsg.AlertCloseNotify, tlsmsg.AlertInternalError} {
			r, w := connected(t, config(), nil)
			r.passes(t, c(w.app(get)))
			before := r.released[toClient]
			if err := r.all(t, o(w.app(half), w.alert(a)), originEnds()); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%q, %v: %v", half, a, err)
			}
			if r.released[toClient] != before {
				t.Fatalf("%q, %v: released %d bytes", half, a, r.released[toClient]-before)
			}
			r.tun.Close(nil)
		}
	}
	r, w := connected(t, config(), nil)
	if err := r.all(t, c(w.app(get[:9]), w.closeNotify()), clientEnds()); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
}

// What Content-Encoding hides from those who undo it is what those read who do not: most origins.
//
// spec: RDR-34
func TestCodedBytesAreShownToo(t *testing.T) {
	const hidden = "<script>for receivers that do not decode</script>"
	plain := []byte(strings.Repeat("harmless ", 30))
	once := packed("gzip", plain)
	// gzip's extra field: no decoder shows it.
	coded := append([]byte{0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, byte(len(hidden)), 0}, hidden...)
	coded = append(coded, once[10:]...)
	fields := func(framing string) string { return "Content-Encoding: gzip\r\n" + framing + "\r\n" }
	length := fmt.Sprintf("Content-Length: %d", len(coded))
	chunked := fmt.Sprintf("7\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", coded[:7], len(coded)-7, coded[7:])
	for _, tt := range []struct {
		name              string
		request, response string
		end               bool
	}{
		{"a length", post(fields(length), string(coded)), "HTTP/1.1 200 OK\r\n" + fields(length) + "\r\n" + string(coded), false},
		{"chunks", post(fields("Transfer-Encoding: chunked"), chunked), "HTTP/1.1 200 OK\r\n" + fields("Transfer-Encoding: chunked") + "\r\n" + chunked, false},
		{"the direction's end", post(fields(length), string(coded)), "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + string(coded), true},
	} {
		for _, size := range []int{1, 9, 1 << 14} {
			var seen, shown [2][]byte
			watch := &watcher{decide: func(_ *Exchange, d frames.Direction, p Part) Decision {
				seen[d] = p.Coded.Append(seen[d])
				shown[d] = p.Body.Append(shown[d])
				if p.Coded.Len() > 0 && bytes.Contains(seen[d], []byte(hidden[:40])) && !bytes.Contains(shown[d], plain[:1]) {
					return Decision{Action: Hold}
				}
				return Decision{}
			}}
			cfg := config()
			cfg.Inspectors = judges(watch)
			r, w := connected(t, cfg, nil)
			steps := []step{c(records(w, tt.request, size)), o(records(w, tt.response, size))}
			if tt.end {
				steps = append(steps, o(w.closeNotify()))
			}
			r.passes(t, steps...)
			for d := range 2 {
				if !bytes.Equal(seen[d], coded) || !bytes.Equal(shown[d], plain) {
					t.Fatalf("%s, %d bytes a record, %v: %d of %d coded bytes, %d of %d bytes", tt.name, size, frames.Direction(d), len(seen[d]), len(coded), len(shown[d]), len(plain))
				}
			}
		}
	}
}

// records cuts s into records of size bytes.
func records(w *wire, s string, size int) []byte {
	var list []string
	for len(s) > 0 {
		n := min(len(s), size)
		list = append(list, s[:n])
		s = s[n:]
	}
	return w.app(list...)
}

// A kill by what the coded bytes hold stops them, though they decode to nothing yet.
//
// spec: RDR-34 RDR-23
func TestCodedBytesAreHeldAndKilled(t *testing.T) {
	head := "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 300\r\n\r\n"
	start := "\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\xffa name that no decoder shows"
	for _, act := range []Action{Kill, Hold} {
		watch := &watcher{decide: only(toClient, func(_ *Exchange, p Part) Decision {
			if strings.Contains(p.Coded.String(), "no decoder") {
				return Decision{Action: act, Rule: "coded"}
			}
			return Decision{}
		})}
		cfg := config()
		cfg.Inspectors = judges(watch)
		r, w := connected(t, cfg, nil)
		r.passes(t, c(w.app(get)), o(w.app(head)))
		before := r.released[toClient]
		err := r.feed(t, o(w.app(start)))
		if (err != nil) != (act == Kill) || r.released[toClient] != before {
			t.Fatalf("%v: %v, released %d bytes", act, err, r.released[toClient]-before)
		}
		r.tun.Close(err)
	}
}
