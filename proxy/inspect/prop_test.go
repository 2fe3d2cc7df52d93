package inspect

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"vitrine/frames"
	"vitrine/internal/tlsmsg"
)

// An exchange drawn at random, and the bytes that carry it.
type drawn struct {
	request, response string
}

func drawBody(t *rapid.T, label string) string {
	return rapid.StringOfN(rapid.RuneFrom([]rune("ab\r\n0;: é")), 0, 60, -1).Draw(t, label)
}

// drawFramed returns the framing fields and the wire form of a body.
func drawFramed(t *rapid.T, body, label string) (fields, wire string) {
	if rapid.Bool().Draw(t, label+" has a length") {
		return fmt.Sprintf("Content-Length: %d\r\n", len(body)), body
	}
	var b strings.Builder
	for len(body) > 0 {
		n := rapid.IntRange(1, len(body)).Draw(t, label+" chunk")
		format := rapid.SampledFrom([]string{"%x", "%X", "%04x"}).Draw(t, label+" size")
		fmt.Fprintf(&b, format+"\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	b.WriteString("0\r\n")
	if rapid.Bool().Draw(t, label+" has a trailer") {
		b.WriteString("X-Sum: 12\r\n")
	}
	return "Transfer-Encoding: chunked\r\n", b.String() + "\r\n"
}

func drawFields(t *rapid.T, label string) string {
	var b strings.Builder
	for range rapid.IntRange(0, 4).Draw(t, label+" fields") {
		name := rapid.StringMatching(`X-[A-Za-z0-9!#$%&'*+.^_|~-]{1,8}`).Draw(t, "name")
		value := rapid.StringMatching(`[ -~\t\x80-\xff]{0,12}`).Draw(t, "value")
		fmt.Fprintf(&b, "%s:%s\r\n", name, value)
	}
	return b.String()
}

func drawExchange(t *rapid.T) drawn {
	var d drawn
	method := rapid.SampledFrom([]string{"GET", "POST", "HEAD", "PUT", "M-SEARCH"}).Draw(t, "method")
	target := rapid.StringMatching(`/[a-z0-9/._~!$&'()*+,;=:@-]{0,10}(%2[fF]){0,2}(\?[a-z%{}|=&]{0,10})?`).Draw(t, "target")
	fields, body := "", ""
	if method == "POST" || method == "PUT" {
		fields, body = drawFramed(t, drawBody(t, "request body"), "request")
	}
	d.request = method + " " + target + " HTTP/1.1\r\nHost: origin.example\r\n" + drawFields(t, "request") + fields + "\r\n" + body
	for range rapid.IntRange(0, 2).Draw(t, "interim") {
		d.response += "HTTP/1.1 103 Early Hints\r\n" + drawFields(t, "interim") + "\r\n"
	}
	status := rapid.SampledFrom([]int{200, 204, 304, 404, 500}).Draw(t, "status")
	fields, body = drawFramed(t, drawBody(t, "response body"), "response")
	switch {
	case status == 204:
		fields, body = "", ""
	case status == 304 || method == "HEAD":
		body = ""
	}
	d.response += fmt.Sprintf("HTTP/1.1 %d %s\r\n", status, rapid.StringMatching(`[A-Za-z ]{0,8}`).Draw(t, "reason"))
	d.response += drawFields(t, "response") + fields + "\r\n" + body
	return d
}

// drawRecords cuts p into records of any size, some of them padded, with empty ones between them.
func drawRecords(t *rapid.T, w *wire, p string) []byte {
	var b []byte
	for len(p) > 0 {
		n := rapid.IntRange(1, len(p)).Draw(t, "record")
		b = append(b, w.sealed(tlsmsg.TypeApplicationData, []byte(p[:n]), rapid.SampledFrom([]int{0, 0, 0, 9}).Draw(t, "padding"))...)
		if p = p[n:]; rapid.IntRange(0, 9).Draw(t, "empty") == 0 {
			b = append(b, w.sealed(tlsmsg.TypeApplicationData, nil, 0)...)
		}
	}
	return b
}

// result is everything that a tunnel did.
type result struct {
	err      string
	released [2]int64
	seen     string
	logs     string
}

func runSteps(t fatal, steps []step, decide func(*Exchange, frames.Direction, Part) Decision, cut func(int) int) result {
	var out result
	watch := &watcher{decide: decide}
	cfg := config()
	cfg.Inspectors = judges(watch)
	cfg.Time = func() time.Time { return time.Time{} }
	cfg.Log = func(p Passed) { out.logs += fmt.Sprintf("%+v\n", p) }
	r := newRun(cfg, cut)
	err := r.all(t, steps...)
	var kill *KillError
	if errors.As(err, &kill) {
		out.err = fmt.Sprintf("%+v", *kill)
	} else if err != nil {
		out.err = err.Error()
	}
	r.tun.Close(err)
	out.released = r.released
	for _, e := range watch.seen {
		out.seen += e.String()
	}
	return out
}

// Where the hop cuts the stream makes no difference: the same bytes leave, the inspectors see the same,
// and the same rule kills.
//
// spec: RDR-12
func TestSplitsMakeNoDifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWire()
		steps := w.handshake()
		for range rapid.IntRange(1, 3).Draw(t, "exchanges") {
			d := drawExchange(t)
			steps = append(steps, c(drawRecords(t, w, d.request)), o(drawRecords(t, w, d.response)))
		}
		if rapid.Bool().Draw(t, "damaged") {
			// One byte of one step differs: most of these are kills.
			s := &steps[rapid.IntRange(0, len(steps)-1).Draw(t, "step")]
			s.p[rapid.IntRange(0, len(s.p)-1).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "xor"))
		}
		decide := rapid.SampledFrom([]func(*Exchange, frames.Direction, Part) Decision{
			nil,
			// Holds each message to its end.
			func(_ *Exchange, _ frames.Direction, p Part) Decision {
				if p.End || p.Head != nil && p.Head.Status/100 == 1 {
					return Decision{}
				}
				return Decision{Action: Hold}
			},
			// Kills at a byte.
			func(_ *Exchange, _ frames.Direction, p Part) Decision {
				if strings.ContainsRune(p.Body.String(), ';') {
					return Decision{Action: Kill, Rule: "semicolon"}
				}
				return Decision{}
			},
		}).Draw(t, "decide")
		whole := runSteps(t, steps, decide, nil)
		for range 3 {
			cut := runSteps(t, steps, decide, func(left int) int { return rapid.IntRange(1, left).Draw(t, "n") })
			if cut != whole {
				t.Fatalf("cut: %+v\nwhole: %+v", cut, whole)
			}
		}
	})
}

// What is drawn passes to its last byte, in records and pieces of any size.
func TestEveryDrawnExchangePasses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, w := connected(t, config(), func(left int) int { return rapid.IntRange(1, left).Draw(t, "n") })
		for range rapid.IntRange(1, 3).Draw(t, "exchanges") {
			d := drawExchange(t)
			r.passes(t, c(drawRecords(t, w, d.request)), o(drawRecords(t, w, d.response)))
		}
		r.passes(t, c(w.closeNotify()), o(w.closeNotify()))
		for d := range 2 {
			if err := r.tun.End(frames.Direction(d)); err != nil {
				t.Fatalf("%v", err)
			}
		}
	})
}

// A tunnel forwards by count alone, so what leaves is what came: a relay built on Feed's result, with
// inspectors that hold and allow as they like, delivers the bytes that were fed and nothing else.
//
// spec: RDR-24
func TestBytesInAreBytesOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var held []*Exchange
		watch := &watcher{decide: func(x *Exchange, _ frames.Direction, _ Part) Decision {
			if rapid.IntRange(0, 2).Draw(t, "hold") == 0 {
				held = append(held, x)
				return Decision{Action: Hold}
			}
			return Decision{}
		}}
		cfg := config()
		cfg.Inspectors = judges(watch)
		var in, out [2][]byte
		relay := func(d frames.Direction, upTo int64) {
			out[d] = append(out[d], in[d][len(out[d]):max(upTo, int64(len(out[d])))]...)
		}
		cfg.Release = relay
		tun := NewTunnel(cfg)
		w := newWire()
		steps := w.handshake()
		for range rapid.IntRange(1, 3).Draw(t, "exchanges") {
			d := drawExchange(t)
			steps = append(steps, c(drawRecords(t, w, d.request)), o(drawRecords(t, w, d.response)))
		}
		for _, s := range steps {
			wire := bytes.Clone(s.p)
			for p := s.p; len(p) > 0; {
				n := rapid.IntRange(1, len(p)).Draw(t, "n")
				in[s.dir] = append(in[s.dir], p[:n]...)
				release, err := tun.Feed(s.dir, p[:n])
				if err != nil {
					t.Fatalf("%v", err)
				}
				relay(s.dir, release)
				p = p[n:]
			}
			if !bytes.Equal(wire, s.p) {
				t.Fatalf("Feed changed what it was fed")
			}
			for _, x := range held {
				x.Decide(Decision{Action: Allow})
			}
			held = nil
		}
		tun.Close(nil)
		tun.Wait()
		for d := range 2 {
			if !bytes.Equal(in[d], out[d]) {
				t.Fatalf("%v: %d bytes in, %d out", frames.Direction(d), len(in[d]), len(out[d]))
			}
		}
	})
}

// agree checks what was shown of a complete exchange against net/http, reading the same bytes.
func agree(t testing.TB, e *exchangeSeen, request, response string) {
	t.Helper()
	ours := e.msgs[toOrigin][0]
	reader := bufio.NewReaderSize(strings.NewReader(request), 128<<10)
	req, err := http.ReadRequest(reader)
	if err != nil {
		t.Fatalf("net/http refuses the request %q: %v", request, err)
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		t.Fatalf("net/http refuses the request body of %q: %v", request, err)
	}
	if rest, _ := io.ReadAll(reader); len(rest) > 0 {
		t.Fatalf("net/http leaves %q of the request %q", rest, request)
	}
	path, query, _ := strings.Cut(req.RequestURI, "?")
	if i := strings.Index(path, "://"); i >= 0 && path[0] != '/' {
		path = path[i+3:]
		path = path[strings.IndexByte(path, '/'):]
	}
	if req.Method != ours.head.Method || path != ours.head.Path || query != ours.head.Query || !bytes.Equal(body, ours.body) {
		t.Fatalf("net/http reads %s %s?%s %q, we %+v %q", req.Method, path, query, body, ours.head, ours.body)
	}
	if req.ContentLength != ours.head.Size {
		t.Fatalf("net/http reads a length of %d, we %d", req.ContentLength, ours.head.Size)
	}
	sameHeader(t, req.Header, ours.head.Header)

	reader = bufio.NewReaderSize(strings.NewReader(response), 128<<10)
	for _, m := range e.msgs[toClient] {
		res, err := http.ReadResponse(reader, req)
		if err != nil {
			t.Fatalf("net/http refuses the response %q: %v", response, err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatalf("net/http refuses the body of %q: %v", response, err)
		}
		if res.StatusCode != m.head.Status || !bytes.Equal(body, m.body) {
			t.Fatalf("net/http reads %d %q, we %+v %q", res.StatusCode, body, m.head, m.body)
		}
		sameHeader(t, res.Header, m.head.Header)
		for k, v := range m.trailer {
			if fmt.Sprint(res.Trailer[k]) != fmt.Sprint(v) {
				t.Fatalf("net/http reads the trailer %v, we %v", res.Trailer, m.trailer)
			}
		}
	}
	if rest, _ := io.ReadAll(reader); len(rest) > 0 {
		t.Fatalf("net/http leaves %q of the response %q", rest, response)
	}
}

// sameHeader compares but for the fields that net/http takes out of a header.
func sameHeader(t testing.TB, theirs, ours http.Header) {
	t.Helper()
	theirs, ours = theirs.Clone(), ours.Clone()
	for _, k := range []string{"Transfer-Encoding", "Trailer", "Content-Length", "Host"} {
		theirs.Del(k)
		ours.Del(k)
	}
	if theirs.Get("Pragma") == "no-cache" {
		// net/http adds what it takes to be meant.
		theirs.Del("Cache-Control")
		ours.Del("Cache-Control")
	}
	if fmt.Sprint(theirs) != fmt.Sprint(ours) {
		t.Fatalf("net/http reads %q, we %q", theirs, ours)
	}
}

// spec: RDR-13
func TestNetHTTPReadsTheSame(t *testing.T) {
	rapid.Check(t, func(t2 *rapid.T) {
		d := drawExchange(t2)
		watch := new(watcher)
		cfg := config()
		cfg.Inspectors = judges(watch)
		r, w := connected(t2, cfg, nil)
		r.passes(t2, c(w.app(d.request)), o(w.app(d.response)))
		agree(t, watch.seen[0], d.request, d.response)
	})
}
