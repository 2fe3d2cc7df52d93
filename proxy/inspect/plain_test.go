package inspect

import (
	"errors"
	"io"
	"strings"
	"testing"

	"vitrine/frames"
	modes "vitrine/internal/fields"
)

func plainConfig(in ...Inspector) *Config {
	return &Config{Authority: authority, Plain: true, Inspectors: judges(in...)}
}

// feedPlain feeds p in pieces of n bytes and returns what may leave of it.
func feedPlain(t *Tunnel, d frames.Direction, p string, n int) (release int64, err error) {
	for len(p) > 0 && err == nil {
		n := min(n, len(p))
		release, err = t.Feed(d, []byte(p[:n]))
		p = p[n:]
	}
	return release, err
}

// What inspectors are told of messages that the proxy wrote down for its reader, however it cuts them.
//
// spec: RDR-12 RDR-40 RDR-41
func TestPlainMessages(t *testing.T) {
	request := post("Content-Length: 6\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n", "")
	response := "HTTP/1.1 200 \r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
	for _, n := range []int{1, 2, 7, 1000} {
		watch := new(watcher)
		cfg := plainConfig(watch)
		var logs []Passed
		cfg.Log = func(p Passed) { logs = append(logs, p) }
		r := NewTunnel(cfg)
		if got, err := feedPlain(r, toOrigin, request, n); err != nil || got != int64(len(request)) {
			t.Fatalf("request head by %d: %d released, %v", n, got, err)
		}
		if got, err := feedPlain(r, toClient, response, n); err != nil || got != int64(len(response)) {
			t.Fatalf("response by %d: %d released, %v", n, got, err)
		}
		// The response did not wait for the body, which comes all the same.
		rest := "3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"
		if got, err := feedPlain(r, toOrigin, rest, n); err != nil || got != int64(len(request)+len(rest)) {
			t.Fatalf("request body by %d: %d released, %v", n, got, err)
		}
		e := watch.seen[0]
		for d, want := range []struct {
			body    string
			size    int64
			trailer string
		}{{"abcdef", 6, ""}, {"hello", 5, "1"}} {
			m := e.msgs[d][0]
			if string(m.body) != want.body || m.head.Size != want.size || !m.end || m.trailer.Get("X-Sum") != want.trailer {
				t.Errorf("direction %d by %d: %q, size %d, end %t, trailer %v", d, n, m.body, m.head.Size, m.end, m.trailer)
			}
			if m.head.Header.Get("Transfer-Encoding") != "" {
				t.Errorf("direction %d: inspectors saw our own Transfer-Encoding", d)
			}
		}
		if e.x.Mode != modes.Split {
			t.Errorf("mode %q", e.x.Mode)
		}
		if len(logs) != 1 || logs[0].Err != nil || logs[0].ToOrigin != int64(len(request)+len(rest)) || logs[0].ToClient != int64(len(response)) {
			t.Errorf("log %+v", logs)
		}
		r.Close(nil)
	}
}

// spec: RDR-40
func TestAPlainBodyEndsWithItsDirection(t *testing.T) {
	watch := new(watcher)
	r := NewTunnel(plainConfig(watch))
	defer r.Close(nil)
	if _, err := feedPlain(r, toOrigin, get, 100); err != nil {
		t.Fatal(err)
	}
	if _, err := feedPlain(r, toClient, "HTTP/1.1 200 \r\n\r\nhello", 100); err != nil {
		t.Fatal(err)
	}
	if err := r.End(toClient); err != nil {
		t.Fatal(err)
	}
	if e := watch.seen[0]; string(e.msgs[1][0].body) != "hello" || !e.msgs[1][0].end || e.outcome == nil || e.outcome.Err != nil {
		t.Errorf("seen %+v, %+v", e.msgs[1][0], e.outcome)
	}

	cut := NewTunnel(plainConfig())
	defer cut.Close(nil)
	feedPlain(cut, toOrigin, get, 100)
	feedPlain(cut, toClient, ok5[:len(ok5)-1], 100)
	if err := cut.End(toClient); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a body cut short ends with %v", err)
	}
}

// What is lenient is only what our own writing can have.
//
// spec: RDR-41
func TestPlainIsAsStrict(t *testing.T) {
	for name, tt := range map[string]struct{ request, response, rule string }{
		"another Host":       {"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "", RuleHost},
		"a bad path":         {"GET /\\ HTTP/1.1\r\nHost: origin.example\r\n\r\n", "", RuleTarget},
		"two lengths":        {post("Content-Length: 1\r\nContent-Length: 1\r\n", ""), "", RuleContentLength},
		"101":                {get, "HTTP/1.1 101 \r\n\r\n", RuleOpaque},
		"another exchange":   {get + get, "", RuleOpaque},
		"unsolicited":        {"", ok5, RuleUnsolicited},
		"too many fields":    {"GET / HTTP/1.1\r\nHost: origin.example\r\n" + strings.Repeat("a: b\r\n", 200) + "\r\n", "", RuleFields},
		"a framing trailer":  {post("Transfer-Encoding: chunked\r\n", "0\r\nHost: x\r\n\r\n"), "", RuleTrailer},
		"204 with a body":    {get, "HTTP/1.1 204 \r\nTransfer-Encoding: chunked\r\n\r\n", RuleNoBody},
		"interim for ever":   {get, strings.Repeat("HTTP/1.1 103 \r\n\r\n", 9), RuleInterim},
		"an expected wonder": {post("Expect: wonders\r\n", ""), "", RuleExpect},
	} {
		r := NewTunnel(plainConfig())
		_, err := feedPlain(r, toOrigin, tt.request, 1000)
		if err == nil {
			_, err = feedPlain(r, toClient, tt.response, 1000)
		}
		var kill *KillError
		if !errors.As(err, &kill) || kill.Rule != tt.rule {
			t.Errorf("%s: %v, want %s", name, err, tt.rule)
		}
		r.Close(nil)
	}
}

// spec: RDR-23 RDR-25 RDR-27
func TestPlainHolds(t *testing.T) {
	head := "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n"
	hold := &watcher{decide: func(_ *Exchange, d frames.Direction, p Part) Decision {
		if d == toClient && !p.End {
			return Decision{Action: Hold}
		}
		return Decision{}
	}}
	r := NewTunnel(plainConfig(hold))
	feedPlain(r, toOrigin, get, 100)
	if got, err := feedPlain(r, toClient, head+"5\r\nhello\r\n", 3); got != 0 || err != nil {
		t.Fatalf("%d released, %v", got, err)
	}
	if got, err := feedPlain(r, toClient, "0\r\n\r\n", 3); got != int64(len(head)+15) || err != nil {
		t.Fatalf("%d released, %v", got, err)
	}
	r.Close(nil)

	cfg := plainConfig(hold)
	cfg.Limits.HeldBytes = 100
	r = NewTunnel(cfg)
	defer r.Close(nil)
	feedPlain(r, toOrigin, get, 100)
	got, err := feedPlain(r, toClient, head+"40\r\n"+strings.Repeat("x", 64)+"\r\n", 10)
	var kill *KillError
	if got != 0 || !errors.As(err, &kill) || kill.Rule != RuleHeldBytes {
		t.Errorf("%d released, %v", got, err)
	}
}
