package policy

import (
	"context"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"vitrine/frames"
	"vitrine/proxy/inspect"
)

// A plain is a message of a random exchange.
type plain struct {
	head     inspect.Head
	body     string
	coded    string // what is on the wire, where that is not the body
	opaque   bool
	declared bool
}

func drawMessage(t *rapid.T, name string) plain {
	m := plain{
		body:     rapid.StringMatching(`[ab]{0,12}`).Draw(t, name+" body"),
		opaque:   rapid.IntRange(0, 5).Draw(t, name+" opaque") == 0,
		declared: rapid.Bool().Draw(t, name+" declared"),
	}
	m.head = inspect.Head{
		Method: rapid.SampledFrom([]string{"GET", "POST"}).Draw(t, name+" method"),
		Path:   rapid.SampledFrom([]string{"/a", "/b"}).Draw(t, name+" path"),
		Status: rapid.SampledFrom([]int{200, 404}).Draw(t, name+" status"),
		Header: header(rapid.SampledFrom([][]string{nil, {"X", "1"}, {"X", "2"}}).Draw(t, name+" fields")),
		Size:   -1,
	}
	m.opaque = m.opaque && m.body != ""
	if !m.opaque && rapid.IntRange(0, 2).Draw(t, name+" coded") == 0 {
		m.coded = rapid.StringMatching(`[ab]{1,12}`).Draw(t, name+" on the wire")
	}
	if m.declared || m.wire() == "" {
		m.head.Size = int64(len(m.wire()))
	}
	return m
}

// wire is the body as it is on the wire.
func (m *plain) wire() string {
	if m.coded != "" {
		return m.coded
	}
	return m.body
}

// parts cuts m anywhere; its end may come with the last bytes or by itself.
func (m *plain) parts(t *rapid.T) []inspect.Part {
	h := m.head
	list := []inspect.Part{{Head: &h, Opaque: m.opaque, End: m.head.Size == 0}}
	for rest := m.body; rest != "" && m.coded == ""; {
		n := rapid.IntRange(1, len(rest)).Draw(t, "cut")
		list = append(list, inspect.Part{Body: inspect.ViewOf([]byte(rest[:n])), Opaque: m.opaque})
		rest = rest[n:]
	}
	for rest, text := m.coded, m.body; rest != ""; {
		n, shown := rapid.IntRange(1, len(rest)).Draw(t, "cut"), rapid.IntRange(0, len(text)).Draw(t, "decoded")
		if n == len(rest) {
			shown = len(text)
		}
		list = append(list, inspect.Part{Coded: inspect.ViewOf([]byte(rest[:n])), Body: inspect.ViewOf([]byte(text[:shown]))})
		rest, text = rest[n:], text[shown:]
	}
	last := &list[len(list)-1]
	switch {
	case last.End:
	case len(list) > 1 && (m.declared || rapid.Bool().Draw(t, "end")):
		last.End = true
	default:
		list = append(list, inspect.Part{End: true, Opaque: m.opaque})
	}
	return list
}

// whole is what is known of m when everything is.
func (m *plain) whole(scan int) (text string, size int64) {
	text, size = m.body[:min(len(m.body), scan)], m.head.Size
	switch {
	case size >= 0:
	case len(text) == scan:
		size = int64(scan)
	default:
		size = int64(len(m.wire()))
	}
	return text, size
}

// TestDecisionsDoNotDependOnHowAnExchangeArrives plays an exchange twice, cut in different places, and compares both with
// the plain meaning of the rules: the first that matches, of all that is known in the end.
func TestDecisionsDoNotDependOnHowAnExchangeArrives(t *testing.T) {
	const scan = 3
	atoms := []string{
		`request.path == "/a"`, `request.method == "GET"`, `request.header("x") == "1"`, `request.headers["x"] == "1"`,
		`request.body.contains("ab")`, `request.body == "a"`, `request.size > 3`, `request.body.matches("^b+a")`,
		`response.status == 200`, `response.header("x") == request.header("x")`, `response.headers["x"] == "2"`,
		`response.body.contains("bb")`, `response.body == request.body`, `response.size < 5`, `response.size == request.size`,
		`(response.status == 404 ? request.body.contains("a") : response.body.contains("a"))`, `request.headers.exists(k, response.body.contains(k))`,
	}
	policies := map[string]*Policy{}
	rapid.Check(t, func(t *rapid.T) {
		var list []string
		for range rapid.IntRange(1, 4).Draw(t, "rules") {
			when := rapid.SampledFrom(atoms).Draw(t, "atom")
			for range rapid.IntRange(0, 2).Draw(t, "more") {
				when = fmt.Sprintf("%s %s(%s)", when, rapid.SampledFrom([]string{"&&", "||", "&& !"}).Draw(t, "op"), rapid.SampledFrom(atoms).Draw(t, "atom"))
			}
			list = append(list, rapid.SampledFrom([]string{"kill ", "allow "}).Draw(t, "action")+when)
		}
		file := fmt.Sprintf("scan_bytes = %d\n%s", scan, ruleFile(list...))
		p := policies[file]
		if p == nil {
			var err error
			if p, err = Parse("f", []byte(file)); err != nil {
				t.Fatal(err)
			}
			policies[file] = p
		}
		request, response := drawMessage(t, "request"), drawMessage(t, "response")
		early := rapid.Bool().Draw(t, "the response comes before the request's end")
		want := oracle(p, &request, &response)
		var rule string
		for i := range 2 {
			got := play(t, p, request.parts(t), response.parts(t), early)
			if (got != "") != want {
				t.Fatalf("killed by %q, and the rules' plain meaning is %v\n%s", got, want, file)
			}
			if i > 0 && got != rule {
				t.Fatalf("killed by %q, and cut otherwise by %q\n%s", got, rule, file)
			}
			rule = got
		}
	})
}

// play gives an exchange to the rules and returns what killed it.
func play(t *rapid.T, p *Policy, request, response []inspect.Part, early bool) string {
	x := &exchange{t: t, changed: make(chan struct{}, 1)}
	x.in = newInspection(p, "shop.example:443", x)
	defer x.in.Close(inspect.Outcome{})
	give := func(d frames.Direction, parts []inspect.Part) {
		for _, part := range parts {
			x.give(d, part)
		}
	}
	held := x.give(frames.ToOrigin, request[0])
	// No response begins before the request's head has left.
	if early && !held[frames.ToOrigin] {
		give(frames.ToClient, response)
		give(frames.ToOrigin, request[1:])
	} else {
		give(frames.ToOrigin, request[1:])
		give(frames.ToClient, response)
	}
	if !x.over() {
		t.Fatal("the exchange ended, and the rules wait for more")
	}
	return x.rule()
}

// oracle says whether the first rule that matches kills: one that kills by any reading of the request, and one that
// allows by all.
func oracle(p *Policy, request, response *plain) bool {
	readings := []*facts{factsOf(p, request, response)}
	if request.coded != "" {
		asItIs := *request
		asItIs.body = request.coded
		f := factsOf(p, &asItIs, response)
		f.request.Size = readings[0].request.Size
		readings = append(readings, f)
	}
	for _, r := range p.rules {
		matches := 0
		for _, f := range readings {
			if s, _ := r.evaluate(context.Background(), f); r.ends(s) {
				matches++
			}
		}
		if r.kill && matches > 0 || matches == len(readings) {
			return r.kill
		}
	}
	return false
}

func factsOf(p *Policy, in, out *plain) *facts {
	q := requestOf(in)
	q.Body, q.Size = in.whole(p.scan)
	r := &response{Status: int64(out.head.Status)}
	r.Headers, r.First, _ = headers(out.head.Header)
	r.Body, r.Size = out.whole(p.scan)
	f := &facts{request: q, response: r}
	if in.opaque {
		f.unknown |= requestBody
	}
	if out.opaque {
		f.unknown |= responseBody
	}
	f.lost, f.patterns = f.unknown, p.patterns[f.unknown]
	return f
}

func requestOf(m *plain) *request {
	r := &request{Host: "shop.example", Method: m.head.Method, Path: m.head.Path}
	r.Headers, r.First, _ = headers(m.head.Header)
	return r
}
