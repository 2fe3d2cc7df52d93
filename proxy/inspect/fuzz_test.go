package inspect

import (
	"errors"
	"testing"

	"vitrine/internal/tlsmsg"
)

// FuzzExchange: whatever passes as an exchange, net/http reads in the same way; and where it is cut makes
// no difference.
func FuzzExchange(f *testing.F) {
	for _, s := range []struct{ request, response string }{
		{get, ok5},
		{post("Content-Length: 3\r\n", "abc"), ok5},
		{post("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\nX: y\r\n\r\n"), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"},
		{"HEAD / HTTP/1.1\r\nHost: origin.example\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"},
		{"GET https://origin.example/x?y HTTP/1.1\r\nHost: origin.example:443\r\nConnection: close\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 304 Not Modified\r\n\r\n"},
		{"OPTIONS * HTTP/1.0\r\nHost: origin.example\r\nExpect: 100-continue\r\n\r\n", "HTTP/1.0 204 \r\n\r\n"},
		{post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), ok5},
		{"GET / HTTP/1.1\nHost: origin.example\n\n", "HTTP/1.1 200 OK\r\n\r\n"},
	} {
		f.Add(s.request, s.response, uint16(5))
	}
	f.Fuzz(func(t *testing.T, request, response string, size uint16) {
		if len(request) > 16000 || len(response) > 16000 || request == "" || response == "" {
			return
		}
		w := newWire()
		steps := append(w.handshake(), c(w.app(request)), o(w.app(response)))
		watch := new(watcher)
		cfg := config()
		cfg.Inspectors = judges(watch)
		r := newRun(cfg, nil)
		err := r.all(t, steps...)
		whole := err == nil && r.released == r.fed && len(watch.seen) == 1 && watch.seen[0].outcome != nil
		if whole {
			agree(t, watch.seen[0], request, response)
		}
		r.tun.Close(nil)
		one := runSteps(t, steps, nil, nil)
		two := runSteps(t, steps, nil, func(left int) int { return min(left, int(size)+1) })
		if one != two {
			t.Fatalf("whole: %+v\ncut: %+v", one, two)
		}
	})
}

// FuzzTunnel: any bytes in any order neither panic nor leave but in whole records, the result does not
// depend on where they are cut, and after a kill nothing leaves.
func FuzzTunnel(f *testing.F) {
	w := newWire()
	var a, b []byte
	for _, s := range append(w.handshake(), c(w.app(get)), o(w.app(ok5)), c(w.closeNotify())) {
		if s.dir == toOrigin {
			a = append(a, s.p...)
		} else {
			b = append(b, s.p...)
		}
	}
	f.Add(a, b, uint16(300), uint16(3))
	f.Add(a[:200], b, uint16(200), uint16(1))
	f.Add(plain(tlsmsg.TypeHandshake, newHello().bytes()), b, uint16(5000), uint16(100))
	f.Add(a, plain(tlsmsg.TypeAlert, []byte{2, 40}), uint16(5000), uint16(0))
	f.Fuzz(func(t *testing.T, a, b []byte, turn, size uint16) {
		// The two directions take turns of turn bytes, so that a handshake can get somewhere.
		var steps []step
		for len(a) > 0 || len(b) > 0 {
			n := min(len(a), int(turn)+1)
			steps = append(steps, c(a[:n]))
			a = a[n:]
			n = min(len(b), int(turn)+1)
			steps = append(steps, o(b[:n]))
			b = b[n:]
		}
		if len(steps) > 1000 {
			return
		}
		one, two := newRun(config(), nil), newRun(config(), func(left int) int { return min(left, int(size)+1) })
		one.loose, two.loose = true, true
		err1, err2 := one.all(t, steps...), two.all(t, steps...)
		var kill1, kill2 *KillError
		if errors.As(err1, &kill1) != errors.As(err2, &kill2) || kill1 != nil && *kill1 != *kill2 || one.released != two.released {
			t.Fatalf("whole: %v %v\ncut: %v %v", one.released, err1, two.released, err2)
		}
	})
}
