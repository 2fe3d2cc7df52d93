package hostile

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"vitrine/internal/hop"
	"vitrine/internal/tlsmsg"
)

// protected is a record of an inner session: content, inner type, padding and a tag.
func protected(t tlsmsg.ContentType, content string, padding, tag int) []byte {
	h := tlsmsg.RecordHeader{Type: tlsmsg.TypeApplicationData, Version: tlsmsg.VersionTLS12, Length: len(content) + 1 + padding + tag}
	b := append(h.Append(nil), content...)
	b = append(append(b, byte(t)), make([]byte, padding)...)
	return append(b, bytes.Repeat([]byte{0xaa}, tag)...)
}

// serverHello is a record that chooses suite.
func serverHello(t *testing.T, suite uint16) []byte {
	t.Helper()
	var x tlsmsg.ExtensionBuilder
	x.SelectedVersion(tlsmsg.VersionTLS13)
	exts, err := x.Extensions()
	if err != nil {
		t.Fatal(err)
	}
	msg, err := (&tlsmsg.ServerHello{LegacyVersion: tlsmsg.VersionTLS12, CipherSuite: suite, Extensions: exts}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return append(tlsmsg.RecordHeader{Type: tlsmsg.TypeHandshake, Version: tlsmsg.VersionTLS12, Length: len(msg)}.Append(nil), msg...)
}

func TestAttacksOnAResponse(t *testing.T) {
	const (
		whole = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd"
		begun = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nabcd"
		head  = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n"
	)
	foreign := protected(tlsmsg.TypeApplicationData, "elsewhere", 0, 32)
	type strikeFunc = func(*responseAttack, []byte) [][]byte
	for _, suite := range []uint16{tlsmsg.SuiteSHA256, tlsmsg.SuiteSHA384} {
		tag := 32
		if suite == tlsmsg.SuiteSHA384 {
			tag = 48
		}
		flight := protected(tlsmsg.TypeHandshake, "the server's flight", 3, tag)
		second := protected(tlsmsg.TypeApplicationData, "efgh", 0, tag)
		before := slices.Concat(serverHello(t, suite), []byte{20, 3, 3, 0, 1, 1}, flight)
		const n = 3 // of the first record of the response
		for _, x := range []struct {
			name     string
			strike   strikeFunc
			response string
			want     func(r []byte) []byte // of response and second
			record   int
			offset   int
			ends     bool
		}{
			{"flip", flipResponse, whole, func(r []byte) []byte {
				f := bytes.Clone(r)
				f[(10+len(whole))/2] ^= 1
				return slices.Concat(f, second)
			}, n, (10 + len(whole)) / 2, false},
			{"drop the only", dropResponse, whole, func([]byte) []byte { return nil }, n, 0, true},
			{"drop the first", dropResponse, begun, func([]byte) []byte { return second }, n, 0, false},
			{"drop a head", dropResponse, head, func([]byte) []byte { return nil }, n, 0, true},
			{"drop what is no response", dropResponse, "EHLO", func([]byte) []byte { return nil }, n, 0, true},
			{"reorder the only", reorderResponse, whole, func(r []byte) []byte {
				i, j := 5+len(whole)/2, 5+len(whole)
				return slices.Concat(r[:5], r[i:j], r[5:i], r[j:], second)
			}, n, 5, false},
			{"reorder two", reorderResponse, begun, func(r []byte) []byte { return slices.Concat(second, r) }, n, 0, false},
			{"replay behind it", replayResponse, begun, func(r []byte) []byte { return slices.Concat(r, r, second) }, n + 1, 0, false},
			{"replay before it", replayResponse, whole, func(r []byte) []byte { return slices.Concat(flight, r, second) }, n, 0, false},
			{"truncate", truncateResponse, whole, func(r []byte) []byte { return r[:len(r)/2] }, n, (6 + tag + len(whole)) / 2, true},
			{"splice", spliceResponse(foreign), whole, func([]byte) []byte { return slices.Concat(foreign, second) }, n, 0, false},
			{"kill", killResponse([]byte("why")), whole, func([]byte) []byte { return nil }, n, 0, true},
		} {
			r := protected(tlsmsg.TypeApplicationData, x.response, 0, tag)
			stream := slices.Concat(before, r, second)
			for _, size := range []int{1, 7, 100, len(stream)} {
				strikes := 0
				a := newResponseAttack(func(record, offset int, what string) {
					if strikes++; record != x.record || offset != x.offset || what == "" {
						t.Errorf("%s: struck at record %d, offset %d: %s", x.name, record, offset, what)
					}
				})
				a.strike = x.strike
				want := slices.Concat(before, x.want(r))
				if got := run(a, stream, size); !bytes.Equal(got, want) {
					t.Errorf("%s in buffers of %d:\n%q, want\n%q", x.name, size, got, want)
				}
				if strikes != 1 || a.Ended() != x.ends || (a.Verdict() != nil) != (x.name == "kill") {
					t.Errorf("%s: struck %d times, ended %v, verdict %q", x.name, strikes, a.Ended(), a.Verdict())
				}
			}
		}
	}
}

// An inserted record looks as one of the session does, to who has not its keys.
func TestAnInsertedRecordIsWellFormed(t *testing.T) {
	r := protected(tlsmsg.TypeApplicationData, "x", 0, 32)
	a := newResponseAttack(func(int, int, string) {})
	a.strike = insertResponse
	got := run(a, r, len(r))
	forged, ok := bytes.CutSuffix(got, r)
	if !ok {
		t.Fatalf("%q", got)
	}
	h, err := tlsmsg.ParseRecordHeader(forged)
	if err != nil || h.Length != len(forged)-tlsmsg.RecordHeaderLen || a.inner(forged) != tlsmsg.TypeApplicationData {
		t.Errorf("%+v, %v: %q", h, err, forged)
	}
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(forgedPage)), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || !strings.HasSuffix(forgedPage, "\r\n\r\n"+string(body)) {
		t.Errorf("its page is %q, %v", body, err)
	}
}

func TestAResponseAttackPassesWhatItDoesNotAimAt(t *testing.T) {
	for _, stream := range []string{
		"", "GET / HTTP/1.1\r\n\r\n", "\x17\x03\x03\x00\x10short", "\x17\x03\x03\x00\x02no", "\x16\x03\x03\x00\x00",
		string(protected(tlsmsg.TypeHandshake, "a ticket", 0, 32)), string(protected(0, "", 4, 32)),
		string(protected(tlsmsg.TypeAlert, "\x01\x00", 0, 32)),
	} {
		for _, size := range []int{1, 1000} {
			a := newResponseAttack(func(int, int, string) { t.Errorf("%q: struck", stream) })
			a.strike = flipResponse
			if got := run(a, []byte(stream), size); string(got) != stream {
				t.Errorf("%q became %q", stream, got)
			}
		}
	}
}

// What comes behind the strike is not copied: it keeps the credit of the hop it came from.
func TestBehindAStrikeBuffersPassAsTheyAre(t *testing.T) {
	a := newResponseAttack(func(int, int, string) {})
	a.strike = flipResponse
	run(a, protected(tlsmsg.TypeApplicationData, "x", 0, 32), 1000)
	b := hop.NewBuffer()
	if got := a.Mangle(b); len(got) != 1 || got[0] != b {
		t.Errorf("%v", got)
	}
	b.Release()
}

// A response whose first record may be all of it is taken for whole: who waits for more could wait for ever.
func TestWhetherAResponseGoesOn(t *testing.T) {
	a := newResponseAttack(nil)
	for content, want := range map[string]bool{
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab":                            true,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n":          true,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n": false,
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc":                           false,
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n":                              false, // to HEAD, it may be
		"HTTP/1.1 200 OK\r\n\r\nabc":                                                false,
		"HTTP/1.1 200 OK\r\nContent-":                                               false,
		"HTTP/1.1 100 Continue\r\n\r\n":                                             false,
		"":                                                                          false,
	} {
		if got := a.goesOn(protected(tlsmsg.TypeApplicationData, content, 2, 32)); got != want {
			t.Errorf("%q: %v", content, got)
		}
	}
}

func FuzzResponseAttack(f *testing.F) {
	f.Add([]byte("\x17\x03\x03\x00\x10short"), 3)
	f.Add(protected(tlsmsg.TypeApplicationData, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", 0, 32), 1)
	f.Add(slices.Concat(protected(tlsmsg.TypeHandshake, "x", 0, 32), protected(tlsmsg.TypeApplicationData, "y", 0, 32)), 50)
	f.Fuzz(func(t *testing.T, stream []byte, size int) {
		size = min(max(size, 1), hop.MaxChunk)
		for i, strike := range []func(*responseAttack, []byte) [][]byte{
			flipResponse, dropResponse, insertResponse, reorderResponse, replayResponse, truncateResponse,
		} {
			whole, strikes := "", 0
			for _, n := range []int{size, min(max(len(stream), 1), hop.MaxChunk)} {
				strikes = 0
				a := newResponseAttack(func(int, int, string) { strikes++ })
				a.strike = strike
				got := string(run(a, stream, n))
				if strikes > 1 {
					t.Fatalf("%d: struck %d times", i, strikes)
				}
				if strikes == 0 && got != string(stream) {
					t.Fatalf("%d: changed without a strike", i)
				}
				if i == 2 {
					continue // its tag is another each time
				}
				if whole == "" {
					whole = fmt.Sprint(strikes, got)
				} else if whole != fmt.Sprint(strikes, got) {
					t.Fatalf("%d: buffers of %d bytes make a difference", i, size)
				}
			}
		}
	})
}

func TestAKillerKillsItsStreamOnce(t *testing.T) {
	f := &fake{req: &hop.Request{}}
	a := newResponseAttack(func(int, int, string) {})
	a.strike = killResponse([]byte("why"))
	s := &stream{Stream: fakeStream{f}, s: &session{Session: fakeSession{f}}, m: a}
	r := protected(tlsmsg.TypeApplicationData, "x", 0, 32)
	for range 2 {
		if err := s.Send(Buffers(r)[0]); err != nil {
			t.Error(err)
		}
	}
	if err := s.CloseSend(); err != nil {
		t.Error(err)
	}
	if got := strings.Join(f.did, ", "); got != "kill why" {
		t.Errorf("%s", got)
	}
}

// An origin that answers without end does not fill the tape.
func TestTheTapeIsBounded(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	go func() {
		defer far.Close()
		far.Write(make([]byte, maxTaped+1000))
	}()
	wire := &inside{Conn: near}
	if n, err := io.Copy(io.Discard, struct{ io.Reader }{wire}); n != maxTaped+1000 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if len(wire.tape) != maxTaped {
		t.Errorf("%d bytes on the tape", len(wire.tape))
	}
}
