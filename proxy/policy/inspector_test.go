package policy

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"vitrine/frames"
	"vitrine/proxy/inspect"
)

// ruleFile is a policy file of rules, each "kill WHEN" or "allow WHEN"; their ids are r0, r1 and so on.
func ruleFile(rules ...string) []byte {
	var b strings.Builder
	for i, r := range rules {
		action, when, _ := strings.Cut(r, " ")
		fmt.Fprintf(&b, "[[rule]]\nid = \"r%d\"\nwhen = '''%s'''\naction = %q\n", i, when, action)
	}
	return []byte(b.String())
}

func rules(t testing.TB, list ...string) *Policy {
	t.Helper()
	p, err := Parse("test", ruleFile(list...))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// An exchange plays the tunnel: it notes what an inspection holds, and its answers.
type exchange struct {
	t  rapid.TB
	in *inspection

	mu      sync.Mutex
	called  bool     // an answer is carried out when the call returns
	answers []func() // which wait for that
	held    [2]bool
	done    bool
	killed  *inspect.Decision
	changed chan struct{}
}

func begin(t testing.TB, p *Policy) *exchange {
	x := &exchange{t: t, changed: make(chan struct{}, 1)}
	x.in = newInspection(p, "shop.example:443", x)
	t.Cleanup(func() { x.in.Close(inspect.Outcome{}) })
	return x
}

func (x *exchange) Decide(d inspect.Decision) {
	x.answer(func() {
		if d.Action == inspect.Hold {
			x.t.Error("Hold is no answer")
		}
		x.settle(d, [2]bool{})
	})
}

func (x *exchange) Release(d frames.Direction) { x.answer(func() { x.held[d] = false }) }

func (x *exchange) answer(f func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.called {
		x.answers = append(x.answers, f)
		return
	}
	f()
	select {
	case x.changed <- struct{}{}:
	default:
	}
}

func (x *exchange) settle(d inspect.Decision, held [2]bool) {
	if x.done {
		return
	}
	x.held, x.done = held, d.Action == inspect.Done || d.Action == inspect.Kill
	if d.Action == inspect.Kill {
		x.killed = &d
	}
}

// give shows the inspection a part and returns what is held once it has worked it out.
func (x *exchange) give(d frames.Direction, p inspect.Part) (held [2]bool) {
	x.t.Helper()
	x.mu.Lock()
	if x.done {
		x.mu.Unlock()
		return held
	}
	x.called = true
	x.mu.Unlock()
	var decision inspect.Decision
	if d == frames.ToOrigin {
		decision = x.in.Request(p)
	} else {
		decision = x.in.Response(p)
	}
	x.mu.Lock()
	held = x.held
	held[d] = decision.Action == inspect.Hold
	x.settle(decision, held)
	x.called = false
	for _, f := range x.answers {
		f()
	}
	x.answers = nil
	x.mu.Unlock()
	if x.in.idle != nil {
		<-x.in.idle
		x.in.mu.Lock()
		verdict, needs := x.in.rules.verdict(x.in.p.rules)
		x.in.mu.Unlock()
		for verdict.Action != inspect.Hold && !x.over() || needs&ofRequest == 0 && x.holds(frames.ToOrigin) {
			<-x.changed
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.held
}

func (x *exchange) over() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.done
}

func (x *exchange) holds(d frames.Direction) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.held[d] && !x.done
}

// rule is what killed the exchange, "" where nothing did.
func (x *exchange) rule() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.killed == nil {
		return ""
	}
	return x.killed.Rule
}

func requestHead(size int64, end bool, h ...string) inspect.Part {
	return inspect.Part{Head: &inspect.Head{Method: "POST", Scheme: "https", Host: "shop.example:443", Path: "/a", Query: "q=1", Header: header(h), Size: size}, End: end}
}

func responseHeadPart(status int, size int64, end bool, h ...string) inspect.Part {
	return inspect.Part{Head: &inspect.Head{Status: status, Header: header(h), Size: size}, End: end}
}

func header(pairs []string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func body(s string, end bool) inspect.Part {
	return inspect.Part{Body: inspect.ViewOf([]byte(s)), End: end}
}

// A step is a part and what has to be held behind it: "request", "response", "" for nothing, or "killed by RULE",
// or "done".
type step struct {
	d    frames.Direction
	part inspect.Part
	want string
}

func up(p inspect.Part, want string) step   { return step{frames.ToOrigin, p, want} }
func down(p inspect.Part, want string) step { return step{frames.ToClient, p, want} }

func (x *exchange) run(t *testing.T, steps []step) {
	t.Helper()
	for i, s := range steps {
		held := x.give(s.d, s.part)
		got := ""
		switch {
		case x.rule() != "":
			got = "killed by " + x.rule()
		case x.over():
			got = "done"
		case held[frames.ToOrigin]:
			got = "request"
		case held[frames.ToClient]:
			got = "response"
		}
		if got != s.want {
			t.Errorf("step %d: %q, want %q", i, got, s.want)
			return
		}
	}
}

// TestRulesAreDecidedAsSoonAsTheyCanBe goes through the moments at which rules are asked: a head that decides holds
// nothing, and what has to be held is held from its head on.
func TestRulesAreDecidedAsSoonAsTheyCanBe(t *testing.T) {
	for _, x := range []struct {
		name  string
		rules []string
		steps []step
	}{
		{"the head of a request kills", []string{`kill request.path == "/a"`}, []step{up(requestHead(0, true), "killed by r0")}},
		{"the head of a request is enough", []string{`kill request.path == "/b"`}, []step{up(requestHead(5, false), "done")}},
		{"a declared size is known at the head", []string{`kill request.size > 4`}, []step{up(requestHead(5, false), "killed by r0")}},
		{"a chunked size is not", []string{`kill request.size > 4`}, []step{up(requestHead(-1, false), "request"), up(body("12345", false), "request"), up(body("", true), "killed by r0")}},
		{
			"a body is judged at its end",
			[]string{`kill !request.body.contains("ok")`},
			[]step{up(requestHead(8, false), "request"), up(body("forbo", false), "request"), up(body("kok", true), "done")},
		},
		{
			"a word over two records is found",
			[]string{`kill response.body.contains("FORBIDDEN")`},
			[]step{up(requestHead(0, true), ""), down(responseHeadPart(200, 9, false), "response"), down(body("FORB", false), "response"), down(body("IDDEN", true), "killed by r0")},
		},
		{
			"a status decides without the body",
			[]string{`kill response.body.contains("X") && response.status == 404`},
			[]step{up(requestHead(0, true), ""), down(responseHeadPart(200, 9, false), "done")},
		},
		{
			"a rule that needs the response does not hold the request",
			[]string{`kill response.status == 500`},
			[]step{up(requestHead(8, false), ""), up(body("a", false), ""), down(responseHeadPart(500, -1, false), "killed by r0")},
		},
		{
			"a response waits for the request's body",
			[]string{`kill response.status == 200 ? request.body.contains("x") : false`},
			[]step{up(requestHead(3, false), ""), down(responseHeadPart(200, 0, true), "response"), up(body("ab", false), "response"), up(body("x", true), "killed by r0")},
		},
		{
			"and leaves when that is over",
			[]string{`kill response.status == 200 ? request.body.contains("x") : false`},
			[]step{up(requestHead(3, false), ""), down(responseHeadPart(200, 0, true), "response"), up(body("abc", true), "done")},
		},
		{"an interim response passes", []string{`kill response.status < 200`}, []step{up(requestHead(3, false), ""), down(responseHeadPart(100, -1, false), ""), down(responseHeadPart(200, 0, true), "done")}},
		{"an earlier allow wins", []string{`allow request.method == "POST"`, `kill true`}, []step{up(requestHead(0, true), "done")}},
		{"an earlier kill wins", []string{`kill request.method == "POST"`, `allow true`}, []step{up(requestHead(0, true), "killed by r0")}},
		{"a kill behind an undecided kill is at once", []string{`kill response.status == 200`, `kill request.path == "/a"`}, []step{up(requestHead(0, true), "killed by r1")}},
		{
			"a kill behind an undecided allow waits, and the request goes",
			[]string{`allow response.status == 200`, `kill request.path == "/a"`},
			[]step{up(requestHead(0, true), ""), down(responseHeadPart(404, 0, true), "killed by r1")},
		},
		{
			"a kill behind an allow by the request's body holds it",
			[]string{`allow request.body == "ok"`, `kill request.path == "/a"`},
			[]step{up(requestHead(2, false), "request"), up(body("ok", true), "done")},
		},
		{"an allow that nothing kills behind holds nothing", []string{`kill request.path == "/b"`, `allow response.body == "ok"`}, []step{up(requestHead(2, false), "done")}},
		{"rules behind a decided allow hold nothing", []string{`allow request.path == "/a"`, `kill response.body == "ok"`}, []step{up(requestHead(2, false), "done")}},
		{"a missing header is an error, and that kills", []string{`kill request.headers["x"] == "1"`}, []step{up(requestHead(0, true), "killed by rule-error")}},
		{"a missing header in an allow rule does not match", []string{`allow request.headers["x"] == "1"`, `kill request.path == "/a"`}, []step{up(requestHead(0, true), "killed by r1")}},
		{"header() of a missing header is empty", []string{`kill request.header("X") == ""`}, []step{up(requestHead(0, true), "killed by r0")}},
		{"header() is the first value", []string{`kill request.header("X-y") == "1" && request.headers["x-y"] == "1, 2"`}, []step{up(requestHead(0, true, "X-Y", "1", "X-Y", "2"), "killed by r0")}},
		{"the names of a request", []string{`kill request.host == "shop.example" && request.method == "POST" && request.path == "/a" && request.query == "q=1" && request.body == "" && request.size == 0`}, []step{up(requestHead(0, true), "killed by r0")}},
		{"the names of a response", []string{`kill response.status == 201 && response.header("A") == "b" && "a" in response.headers && response.body == "xy" && response.size == 2`}, []step{up(requestHead(0, true), ""), down(responseHeadPart(201, -1, false, "A", "b"), "response"), down(body("xy", true), "killed by r0")}},
		{"a body that is no UTF-8 is text as it is", []string{`kill request.body.contains("b")`}, []step{up(requestHead(3, false), "request"), up(body("\xff\xfeb", true), "killed by r0")}},
		{"an unreadable body kills where it is needed", []string{`kill response.status == 200 && response.body.contains("x")`}, []step{up(requestHead(0, true), ""), down(inspect.Part{Head: &inspect.Head{Status: 200, Size: 3}, Opaque: true}, "killed by unreadable")}},
		{"and not where it is not", []string{`kill response.status == 404 && response.body.contains("x")`}, []step{up(requestHead(0, true), ""), down(inspect.Part{Head: &inspect.Head{Status: 200, Size: 3}, Opaque: true}, "done")}},
		{"an unreadable body does not match an allow rule", []string{`allow request.body == "x"`, `kill request.path == "/a"`}, []step{up(inspect.Part{Head: &inspect.Head{Path: "/a", Size: 3}, Opaque: true}, "killed by r1")}},
		{
			"the size of an unreadable body is known at its end",
			[]string{`kill response.size == 3`},
			[]step{up(requestHead(0, true), ""), down(inspect.Part{Head: &inspect.Head{Status: 200, Size: -1}, Opaque: true}, "response"), down(inspect.Part{Body: inspect.ViewOf([]byte("abc")), Opaque: true, End: true}, "killed by r0")},
		},
		{
			"an evaluation that costs too much kills",
			[]string{`kill request.headers.all(a, request.headers.all(b, request.path.contains(a + b) || true))`},
			[]step{up(manyFields(), "killed by rule-error")},
		},
	} {
		t.Run(x.name, func(t *testing.T) {
			begin(t, rules(t, x.rules...)).run(t, x.steps)
		})
	}
}

// manyFields is a head with as many fields as a tunnel lets pass, and a path to go through for each pair of them.
func manyFields() inspect.Part {
	p := requestHead(0, true)
	for i := range headFields {
		p.Head.Header.Add(fmt.Sprintf("X-%d", i), "v")
	}
	p.Head.Path = "/" + strings.Repeat("a", 8<<10)
	return p
}

// Of a long body the text is cut at scan_bytes, what follows changes nothing, and no more is kept.
func TestABodyIsJudgedAtScanBytes(t *testing.T) {
	p, err := Parse("test", append([]byte("scan_bytes = 8\n"), ruleFile(`kill response.body.contains("x") || response.size > 8`, `kill response.body != "12345678" || response.size != 8`)...))
	if err != nil {
		t.Fatal(err)
	}
	x := begin(t, p)
	x.run(t, []step{
		up(requestHead(0, true), ""), down(responseHeadPart(200, -1, false), "response"),
		down(body("1234567", false), "response"), down(body("8x", false), "done"),
	})
	if n := x.in.response.text.Len(); n != 8 {
		t.Errorf("%d bytes are kept", n)
	}
	x = begin(t, p)
	x.run(t, []step{up(requestHead(0, true), ""), down(responseHeadPart(200, 9, false), "killed by r0")})
	// The last byte counts, wherever the body is cut.
	last := rules(t, `kill response.body.endsWith("x")`)
	last.scan = 4
	for cut := range 4 {
		begin(t, last).run(t, []step{
			up(requestHead(0, true), ""), down(responseHeadPart(200, -1, false), "response"),
			down(body("abcxyz"[:cut], false), "response"), down(body("abcxyz"[cut:], false), "killed by r0"),
		})
	}
}

// Decoded text is what rules see, and the size is what was on the wire.
func TestCodedBodies(t *testing.T) {
	coded := func(wire, text string, end bool) inspect.Part {
		return inspect.Part{Coded: inspect.ViewOf([]byte(wire)), Body: inspect.ViewOf([]byte(text)), End: end}
	}
	begin(t, rules(t, `kill response.body == "abcdef" && response.size == 3`)).run(t, []step{
		up(requestHead(0, true), ""), down(responseHeadPart(200, -1, false), "response"),
		down(coded("12", "abc", false), "response"), down(coded("", "def", false), "response"), down(coded("3", "", true), "killed by r0"),
	})
}

// A request in a content coding is two texts, because most origins do not undo one: what a decoder shows, and what is
// there, which can be in a gzip header.
func TestACodedRequestIsReadInBothWays(t *testing.T) {
	coded := func(wire, text string, end bool) inspect.Part {
		return inspect.Part{Coded: inspect.ViewOf([]byte(wire)), Body: inspect.ViewOf([]byte(text)), End: end}
	}
	for _, x := range []struct {
		rules      []string
		wire, text string
		want       string
	}{
		{[]string{`kill request.body.contains("evil")`}, "..evil..", "fine", "killed by r0"},
		{[]string{`kill request.body.contains("evil")`}, "....", "evil", "killed by r0"},
		{[]string{`kill request.body.contains("evil")`}, "....", "fine", "done"},
		{[]string{`allow request.body.contains("fine")`, `kill request.path == "/a"`}, "....", "fine", "killed by r1"},
		{[]string{`allow request.body.contains("fine")`, `kill request.path == "/a"`}, "fine", "....", "killed by r1"},
		{[]string{`allow request.body.contains("fine")`, `kill request.path == "/a"`}, "fine", "fine", "done"},
		{[]string{`kill request.size != 8 || int(request.body) > 0`}, "12345678", "0", "killed by r0"},
		{[]string{`kill request.size != 8 || int(request.body) > 0`}, "evil1234", "0", "killed by rule-error"},
	} {
		e := begin(t, rules(t, x.rules...))
		e.run(t, []step{up(requestHead(int64(len(x.wire)), false), "request"), up(coded(x.wire[:3], "", false), "request"), up(coded(x.wire[3:], x.text, false), "request"), up(body("", true), x.want)})
	}
	// What is there counts up to scan_bytes, too, although the text has reached it long before.
	p := rules(t, `kill request.body.contains("evil")`)
	p.scan = 8
	for cut := 1; cut < 4; cut++ {
		begin(t, p).run(t, []step{
			up(requestHead(-1, false), "request"), up(coded("...."[:cut], "much text, all of it fine", false), "request"),
			up(coded("...."[cut:], "", false), "request"), up(coded("evil....", "", false), "killed by r0"),
		})
	}
}

// A body that no rule mentions is not kept.
func TestABodyThatNobodyMentionsIsNotKept(t *testing.T) {
	x := begin(t, rules(t, `kill response.status == 500 || response.size == 77`))
	x.run(t, []step{up(requestHead(5, false), ""), up(body("12345", true), ""), down(responseHeadPart(200, -1, false), "response"), down(body("12345", false), "response")})
	if n := x.in.request.text.Len() + x.in.response.text.Len(); n != 0 {
		t.Errorf("%d bytes are kept", n)
	}
}

// Long work goes to another goroutine, which holds the message meanwhile, and gives the same answers.
func TestLongWorkIsDoneElsewhere(t *testing.T) {
	long := strings.Repeat("a", 40<<10)
	fields := requestHead(0, true)
	for i := range headFields {
		fields.Head.Header.Add(fmt.Sprintf("X%d", i), "")
	}
	many := make([]string, maxRules)
	for i := range many {
		many[i] = fmt.Sprintf(`kill request.path == "/%d"`, i)
	}
	for _, x := range []struct {
		name  string
		rules []string
		steps []step
	}{
		{"killed", []string{`kill request.body.matches("b+")`}, []step{up(requestHead(-1, false), "request"), up(body(long+"b", true), "killed by r0")}},
		{"let go", []string{`kill request.body.matches("b+")`}, []step{up(requestHead(-1, false), "request"), up(body(long, true), "done")}},
		{
			"the request is let go and the response held",
			[]string{`kill request.body.matches("a+$") && response.body.contains("no")`},
			[]step{up(requestHead(-1, false), "request"), up(body(long, true), ""), down(responseHeadPart(200, -1, false), "response"), down(body("no", true), "killed by r0")},
		},
		{
			"a head alone",
			[]string{`kill request.header("x").matches("b$") || response.status == 500`},
			[]step{up(requestHead(0, true, "X", long), ""), down(responseHeadPart(500, 0, true), "killed by r0")},
		},
		{"a pattern of many states and a short text", []string{`kill request.path.matches("^/(b?){200}a$")`}, []step{up(longPath(200), "done")}},
		{"fields for each field", []string{`kill request.headers.exists(a, request.headers.exists(b, a == b + "x"))`}, []step{up(fields, "done")}},
		{"fields without text", []string{`kill request.headers.exists(a, a == "y")`}, []step{up(fields, "done")}},
		{"many rules", many, []step{up(requestHead(0, true), "done")}},
		{"long text without loops", []string{`kill response.body.contains("b")`}, []step{
			up(requestHead(0, true, "X", long), ""), down(responseHeadPart(200, -1, false), "response"), down(body(strings.Repeat("a", defaultScan)+"b", false), "done"),
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			e := begin(t, rules(t, x.rules...))
			e.run(t, x.steps)
			if e.in.idle == nil {
				t.Error("nothing was done on another goroutine")
			}
		})
	}
}

// Who is gone must not be worked for: a macro that counts on looks whether its exchange has ended.
func TestMacrosAreInterrupted(t *testing.T) {
	p := rules(t, `kill request.headers.all(a, a != "y")`)
	head := requestHead(0, true)
	for i := range headFields {
		head.Head.Header.Add(fmt.Sprintf("X%d", i), "")
	}
	f := facts{request: &request{}, patterns: p.patterns[0]}
	f.request.Headers, f.request.First, _ = headers(head.Head.Header)
	ctx, cancel := context.WithCancel(t.Context())
	if s, _ := p.rules[0].decide(ctx, &f); s != yes {
		t.Errorf("state %d before the end", s)
	}
	cancel()
	if s, _ := p.rules[0].decide(ctx, &f); s != failed {
		t.Errorf("state %d behind the end", s)
	}
}

// longPath is a head with a path of n letters.
func longPath(n int) inspect.Part {
	p := requestHead(0, true)
	p.Head.Path = "/" + strings.Repeat("a", n)
	return p
}

// Close ends long work and waits for it; an answer behind it is none.
func TestCloseEndsLongWork(t *testing.T) {
	x := begin(t, rules(t, `kill request.headers.all(a, request.headers.all(b, a != b + "x")) && response.status == 1`))
	if d := x.in.Request(manyFields()); d.Action != inspect.Hold {
		t.Fatalf("the long work came back as %+v", d)
	}
	x.in.Close(inspect.Outcome{})
	x.in.mu.Lock()
	defer x.in.mu.Unlock()
	if x.in.working || x.rule() != "" {
		t.Error("it works on")
	}
}

// What an error of CEL quotes is not for a verdict: it may be a password.
func TestReasonsQuoteNothing(t *testing.T) {
	const secret = "hunter2"
	x := begin(t, rules(t, `kill int(request.header("authorization")) > 1`))
	x.run(t, []step{up(requestHead(0, true, "Authorization", secret), "killed by rule-error")})
	if strings.Contains(x.killed.Reason, secret) || !strings.Contains(x.killed.Reason, "r0") {
		t.Errorf("reason %q", x.killed.Reason)
	}
}

// What rules cost an exchange: two that the head decides, and one that reads a body of 2 KB.
func BenchmarkExchange(b *testing.B) {
	p := rules(b, `kill request.path.startsWith("/admin") && request.method != "GET"`, `kill response.status == 200 && response.body.contains("MACRO")`)
	text := strings.Repeat("a page. ", 256)
	b.ReportAllocs()
	for b.Loop() {
		in := newInspection(p, "shop.example:443", &exchange{t: b})
		in.Request(requestHead(0, true, "Accept", "*/*", "User-Agent", "x"))
		in.Response(responseHeadPart(200, int64(len(text)), false, "Content-Type", "text/html"))
		if d := in.Response(body(text, true)); d.Action != inspect.Done {
			b.Fatal(d)
		}
		in.Close(inspect.Outcome{})
	}
}
