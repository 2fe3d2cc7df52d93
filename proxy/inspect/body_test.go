package inspect

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"vitrine/frames"
)

func packed(format string, p []byte) []byte {
	var b bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&b)
	if format == "deflate" {
		w = zlib.NewWriter(&b)
	}
	if _, err := w.Write(p); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// coded is a response with a body of p in as many records as it takes.
func coded(w *wire, status int, coding string, p []byte) step {
	head := fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n", status, coding, len(p))
	records := []string{head}
	for ; len(p) > 0; p = p[min(len(p), 16000):] {
		records = append(records, string(p[:min(len(p), 16000)]))
	}
	return o(w.app(records...))
}

// spec: RDR-29
func TestInspectorsSeeDecodedBodies(t *testing.T) {
	text := []byte(strings.Repeat("everyone may look, nobody can touch; ", 3000))
	once := packed("gzip", text)
	tests := []struct {
		name, coding string
		status       int
		wire         []byte
		want         []byte
		opaque       bool
	}{
		{"gzip", "gzip", 200, once, text, false},
		{"x-gzip", "X-GZIP", 200, once, text, false},
		{"deflate", "deflate", 200, packed("deflate", text), text, false},
		{"identity", "identity", 200, text, text, false},
		{"gzip twice", "gzip, gzip", 200, packed("gzip", once), text, false},
		{"deflate, then gzip", "deflate, gzip", 200, packed("gzip", packed("deflate", text)), text, false},
		{"gzip of nothing", "gzip", 200, packed("gzip", nil), nil, false},
		{"no body", "gzip", 200, nil, nil, false},
		{"three codings", "gzip, gzip, gzip", 200, packed("gzip", packed("gzip", once)), packed("gzip", packed("gzip", once)), true},
		{"an unknown coding", "br", 200, []byte("brotli"), []byte("brotli"), true},
		{"an unknown coding below gzip", "br, gzip", 200, once, once, true},
		{"a range of something coded", "gzip", 206, once[100:200], once[100:200], true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, cut := range []func(int) int{nil, shattered} {
				watch := new(watcher)
				cfg := config()
				cfg.Inspectors = judges(watch)
				r, w := connected(t, cfg, cut)
				r.passes(t, c(w.app(get)), coded(w, tt.status, tt.coding, tt.wire))
				m := watch.seen[0].msgs[toClient][0]
				if !bytes.Equal(m.body, tt.want) || !m.end || m.opaque != tt.opaque {
					t.Fatalf("%d bytes of %d, end %v, opaque %v", len(m.body), len(tt.want), m.end, m.opaque)
				}
			}
		})
	}
}

// The same in chunks, each smaller than the last, with a request body beside it.
func TestDecodedChunks(t *testing.T) {
	text := []byte(strings.Repeat("abc", 500))
	p := packed("gzip", text)
	var b strings.Builder
	for i := 0; i < len(p); i += 7 {
		part := p[i:min(i+7, len(p))]
		fmt.Fprintf(&b, "%x\r\n%s\r\n", len(part), part)
	}
	b.WriteString("0\r\n\r\n")
	fields := "Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"
	watch := new(watcher)
	cfg := config()
	cfg.Inspectors = judges(watch)
	r, w := connected(t, cfg, nil)
	r.passes(t, c(w.app(post(fields, b.String()))), o(w.app("HTTP/1.1 200 OK\r\n"+fields+"\r\n"+b.String())))
	for d := range 2 {
		if m := watch.seen[0].msgs[d][0]; !bytes.Equal(m.body, text) || !m.end {
			t.Fatalf("%v: %d bytes, end %v", frames.Direction(d), len(m.body), m.end)
		}
	}
}

// An event that the origin flushed is shown, judged and released at once, though the stream goes on.
func TestCompressedEventsFlowAtOnce(t *testing.T) {
	watch := new(watcher)
	cfg := config()
	cfg.Inspectors = judges(watch)
	r, w := connected(t, cfg, nil)
	r.passes(t, c(w.app(get)), o(w.app("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Type: text/event-stream\r\n\r\n")))
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	var want []byte
	for i := range 20 {
		want = fmt.Appendf(want, "data: %d\n\n", i)
		if _, err := fmt.Fprintf(z, "data: %d\n\n", i); err != nil {
			t.Fatal(err)
		}
		if err := z.Flush(); err != nil {
			t.Fatal(err)
		}
		r.passes(t, o(w.app(string(b.Next(b.Len())))))
		if got := watch.seen[0].msgs[toClient][0].body; !bytes.Equal(got, want) {
			t.Fatalf("shown %q after %q", got, want)
		}
	}
}

// spec: RDR-29 RDR-30
func TestCodingsThatDoNotDecode(t *testing.T) {
	good := packed("gzip", []byte("hello"))
	bomb := packed("gzip", make([]byte, 64<<20))
	tests := []struct {
		name, rule, coding string
		body               []byte
	}{
		{"no gzip", RuleContentCoding, "gzip", []byte("<html>")},
		{"gzip cut short", RuleContentCoding, "gzip", good[:len(good)-1]},
		{"two gzip members", RuleContentCoding, "gzip", append(bytes.Clone(good), good...)},
		{"a byte behind gzip", RuleContentCoding, "gzip", append(bytes.Clone(good), 0)},
		{"raw deflate", RuleContentCoding, "deflate", good[10 : len(good)-8]},
		{"inner gzip cut short", RuleContentCoding, "gzip, gzip", packed("gzip", good[:9])},
		{"a bomb", RuleRatio, "gzip", bomb},
		{"a bomb in a bomb", RuleRatio, "gzip, gzip", packed("gzip", bomb)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			watch := new(watcher)
			cfg := config()
			cfg.Inspectors = judges(watch)
			r, w := connected(t, cfg, nil)
			r.passes(t, c(w.app(get)))
			kills(t, r.feed(t, coded(w, 200, tt.coding, tt.body)), tt.rule)
			if n := len(watch.seen[0].msgs[toClient][0].body); n > 3<<20 {
				t.Fatalf("%d bytes were decoded", n)
			}
		})
	}
}

// An inspector that is Done costs no more decoding, whatever the body is.
func TestDoneEndsDecoding(t *testing.T) {
	watch := &watcher{decide: only(toClient, func(*Exchange, Part) Decision { return Decision{Action: Done} })}
	cfg := config()
	cfg.Inspectors = judges(watch)
	r, w := connected(t, cfg, nil)
	r.passes(t, c(w.app(get)), coded(w, 200, "gzip", []byte("this is no gzip")))
	if m := watch.seen[0].msgs[toClient][0]; len(m.body) > 0 {
		t.Fatalf("shown %q", m.body)
	}
}

// A kill inside a decoded body is the inspector's.
func TestKillInsideADecodedBody(t *testing.T) {
	watch := &watcher{decide: only(toClient, func(_ *Exchange, p Part) Decision {
		if strings.Contains(p.Body.String(), "secret") {
			return Decision{Action: Kill, Rule: "no-secrets"}
		}
		return Decision{}
	})}
	cfg := config()
	cfg.Inspectors = judges(watch)
	r, w := connected(t, cfg, nil)
	r.passes(t, c(w.app(get)))
	before := r.released
	err := r.feed(t, coded(w, 200, "gzip, deflate", packed("deflate", packed("gzip", []byte("a secret")))))
	var kill *KillError
	if !errors.As(err, &kill) || kill.Rule != "no-secrets" || kill.Reason != frames.ReasonInspector {
		t.Fatalf("err %v", err)
	}
	// The head went ahead in its own record; the body did not.
	head := r.records[toClient][len(r.records[toClient])-2]
	if r.released[toOrigin] != before[toOrigin] || r.released[toClient] > head {
		t.Fatalf("released %v, head ends at %d", r.released, head)
	}
}
