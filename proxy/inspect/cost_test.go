package inspect

import (
	"strings"
	"testing"
	"unsafe"

	"vitrine/internal/tlsmsg"
)

// bulk returns a tunnel inside a body that does not end, and a full record of it.
func bulk(t testing.TB, chunked bool, in ...Inspector) (*Tunnel, []byte) {
	cfg := config()
	cfg.Inspectors = judges(in...)
	r, w := connected(t, cfg, nil)
	if chunked {
		r.passes(t, c(w.app(get)), o(w.app("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")))
		return r.tun, w.app("3f00\r\n" + strings.Repeat("x", 0x3f00) + "\r\n")
	}
	r.passes(t, c(w.app(get)), o(w.app("HTTP/1.1 200 OK\r\nContent-Length: 999999999999999999\r\n\r\n")))
	return r.tun, w.sealed(tlsmsg.TypeApplicationData, make([]byte, 16337), 0)
}

func TestBodyRecordsCostNoAllocation(t *testing.T) {
	done := &watcher{decide: act(Done)}
	for name, in := range map[string][]Inspector{"no inspectors": nil, "not interested": {new(picky)}, "done": {done}} {
		for _, chunked := range []bool{false, true} {
			tun, record := bulk(t, chunked, in...)
			// In one piece, and in two as another record layer would cut it.
			n := testing.AllocsPerRun(100, func() {
				for _, p := range [][]byte{record, record[:1000], record[1000:]} {
					if _, err := tun.Feed(toClient, p); err != nil {
						t.Fatal(err)
					}
				}
			})
			// The garbage collector may empty the pool of fragments now and then.
			if n > 0.5 {
				t.Errorf("%s, chunked %v: %v allocations for two records", name, chunked, n)
			}
		}
	}
}

// An idle tunnel keeps no buffers.
func TestIdleTunnelIsSmall(t *testing.T) {
	r, w := connected(t, config(), shattered)
	r.passes(t, c(w.app(post("Content-Length: 3\r\n", "abc"))), o(w.app(ok5)))
	for i := range r.tun.sides {
		s := &r.tun.sides[i]
		if s.part != nil || cap(s.handshake) > 0 || cap(s.reader.section.buf) > 0 || cap(s.marks) > 8 {
			t.Errorf("direction %d keeps buffers: %+v", i, s)
		}
	}
	if n := unsafe.Sizeof(Tunnel{}); n > 1536 {
		t.Errorf("a Tunnel is %d bytes", n)
	}
}

func BenchmarkBody(b *testing.B) {
	for _, bb := range []struct {
		name    string
		chunked bool
		in      []Inspector
	}{{"length", false, nil}, {"chunked", true, nil}, {"watched", false, []Inspector{inspectorFunc(func(*Exchange) Inspection { return idle{} })}}} {
		b.Run(bb.name, func(b *testing.B) {
			tun, record := bulk(b, bb.chunked, bb.in...)
			b.SetBytes(int64(len(record)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := tun.Feed(toClient, record); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkExchange(b *testing.B) {
	r, w := connected(b, config(), nil)
	request := w.app("GET /path?q=1 HTTP/1.1\r\nHost: origin.example\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\r\n")
	response := w.app("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Length: 1024\r\n\r\n" + strings.Repeat("x", 1024))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.tun.Feed(toOrigin, request); err != nil {
			b.Fatal(err)
		}
		if _, err := r.tun.Feed(toClient, response); err != nil {
			b.Fatal(err)
		}
	}
}

// idle watches and does nothing.
type idle struct{}

func (idle) Request(Part) Decision  { return Decision{} }
func (idle) Response(Part) Decision { return Decision{} }
func (idle) Close(Outcome)          {}
