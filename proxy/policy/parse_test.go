package policy

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"cel.dev/cel-go/cel"
	"github.com/pelletier/go-toml/v2/unstable"

	"vitrine/internal/fields"
)

const whole = `
scan_bytes = 0x10
targets.ports = [443, 8_443]
targets.private = ["10.0.0.0/8", "192.0.2.7", "fd00::/8", "::ffff:192.0.2.8"]
host = [{ match = ["Shop.Example:443", "*.blind.example"], modes = ["blind", "intact"] }, { match = "no.example", modes = [] }]

[[rule]] # a comment
id = "one"
when = 'request.path == "/"'
action = "kill"
reason = "why"
description = """
Long
words"""
`

func TestAWholeFile(t *testing.T) {
	p, err := Parse("f", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	if p.scan != 16 || !slices.Equal(p.Ports(), []int{443, 8443}) || p.Hosts() != 2 || !slices.Equal(p.Rules(), []string{"one"}) {
		t.Errorf("%+v", p)
	}
	want := []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.7/32"),
		netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("192.0.2.8/32"),
	}
	if !slices.Equal(p.Private(), want) {
		t.Errorf("private %v", p.Private())
	}
	for authority, want := range map[string][]fields.Mode{
		"shop.example:443": {fields.Blind, fields.Intact}, "shop.example:8443": {fields.Intact},
		"a.blind.example:1": {fields.Blind, fields.Intact}, "blind.example:1": {fields.Intact}, "no.example:443": {},
	} {
		if got := p.Modes(authority); got == nil || !slices.Equal(got, want) {
			t.Errorf("%s gets %v, want %v", authority, got, want)
		}
	}
	if r := p.rules[0]; !r.kill || r.reason != "why" {
		t.Errorf("rule %+v", r)
	}
	if p.Inspector() == nil {
		t.Error("no inspector")
	}
}

func TestAnEmptyFileIsTheDefault(t *testing.T) {
	p, err := Parse("f", nil)
	if err != nil {
		t.Fatal(err)
	}
	if p.Inspector() != nil || p.scan != defaultScan || p.Ports() != nil || !slices.Equal(p.Modes("a.example:443"), []fields.Mode{fields.Intact}) {
		t.Errorf("%+v", p)
	}
}

// TestProblems has every problem at its place; the file of each has one or more.
func TestProblems(t *testing.T) {
	rule := func(when string) string {
		return "[[rule]]\nid = \"a\"\naction = \"kill\"\nwhen = " + when + "\n"
	}
	for _, x := range []struct {
		name, file string
		want       []string // LINE:COLUMN: and how the message begins
	}{
		{"syntax", "a = ", []string{"1:4: expected value"}},
		{"a key twice", "scan_bytes = 1\nscan_bytes = 2", []string{"2:1: "}},
		{"a table twice", "[targets]\n[targets]", []string{"2:2: "}},
		{"not UTF-8", "# a\n# \xff", []string{"2:3: not UTF-8"}},
		{"unknown keys", "a = 1\n[targets]\nb.c = 1\n[x]\n", []string{`1:1: unknown key "a"`, `3:1: unknown key "b"`, `4:2: unknown key "x"`}},
		{"scan_bytes of a type", `scan_bytes = "1"`, []string{"1:14: scan_bytes is a whole number"}},
		{"scan_bytes too small and too large", "scan_bytes = -1", []string{"1:14: scan_bytes is -1"}},
		{"scan_bytes too large", "scan_bytes = 524289", []string{"1:14: scan_bytes is 524289"}},
		{"scan_bytes beyond everything", "scan_bytes = 99999999999", []string{"1:14: scan_bytes is too large"}},
		{"ports", "[targets]\nports = [0, 65536, 1.0, '1']", []string{"2:10: port 0", "2:13: port 65536", "2:20: a port is a whole", "2:25: a port is a whole"}},
		{"no ports", "[targets]\nports = []", []string{"2:1: ports is empty"}},
		{"targets is a list", "targets = []", []string{"1:1: targets is a table"}},
		{"private", "[targets]\nprivate = ['10.0.0.1/8', 'x', '::ffff:1.2.3.0/120', 1]", []string{`2:12: "10.0.0.1/8" has bits behind its length; did you mean 10.0.0.0/8?`, `2:26: "x" is neither`, `2:31: `, `2:53: a range`}},
		{"a host without anything", "[[host]]", []string{"1:3: [[host]] has no match", "1:3: [[host]] has no modes"}},
		{"a host that is no list", "[host]", []string{"1:2: host is a list of tables"}},
		{"hosts that are no tables", "host = [1]", []string{"1:1: host is a list of tables"}},
		{"match", "[[host]]\nmodes = []\nmatch = ['a', 'a b', 1]", []string{`3:15: pattern "a b"`, "3:22: match is a string"}},
		{"no match", "[[host]]\nmodes = []\nmatch = []", []string{"3:1: match is empty"}},
		{"modes", "[[host]]\nmatch = '*'\nmodes = ['intact', 'split', 'x', 'intact', 1]", []string{`3:29: "x" is no mode`, "3:34: intact is there twice", "3:44: a mode is a string"}},
		{"modes is a string", "[[host]]\nmatch = '*'\nmodes = 'intact'", []string{"3:9: modes is a list"}},
		{"a rule without anything", "[[rule]]", []string{"1:3: [[rule]] has no id", "1:3: [[rule]] has no action", "1:3: [[rule]] has no when"}},
		{"an id", rule("'true'") + "[[rule]]\nid = 'A b'\naction = 'kill'\nwhen = 'true'", []string{`6:6: "A b" is no id`}},
		{"an id twice", rule("'true'") + rule("'true'"), []string{"6:6: the id a is there twice"}},
		{"an id of ours", "[[rule]]\nid = 'unreadable'\naction = 'kill'\nwhen = 'true'", []string{"2:6: unreadable is what"}},
		{"a long id", "[[rule]]\nid = '" + strings.Repeat("a", 65) + "'\naction = 'kill'\nwhen = 'true'", []string{"2:6: "}},
		{"an action", "[[rule]]\nid = 'a'\naction = 'deny'\nwhen = 'true'", []string{`3:10: "deny" is no action`}},
		{"a long reason", rule("'true'") + "reason = '" + strings.Repeat("a", 257) + "'", []string{"5:10: reason has 257 bytes"}},
		{"a reason of two lines", rule("'true'") + `reason = "a\nb"`, []string{"5:10: reason is one line"}},
		{"a reason that turns the text around", rule("'true'") + `reason = "a\u202eb"`, []string{"5:10: reason is one line"}},
		{"a reason to allow", "[[rule]]\nid = 'a'\naction = 'allow'\nwhen = 'true'\nreason = 'x'", []string{"5:10: reason is what a kill says"}},
		{"when is no string", rule("true"), []string{"4:8: when is a string"}},
		{"when is too long", rule("'" + strings.Repeat(" ", maxWhen+1) + "'"), []string{"4:8: when has 4097 bytes"}},
		{"when is empty", rule("''"), []string{"4:9: "}},
		{"when is not bool", rule("'request.path'"), []string{"4:16: when is string"}},
		{"when is dyn", rule("'dyn(true)'"), []string{"4:12: when is dyn"}},
		{"a typo", rule("'request.staus == 1'"), []string{"4:16: undefined field 'staus'"}},
		{"an unknown name", rule("'requests.path == \"\"'"), []string{"4:9: undeclared reference to 'requests'"}},
		{"status of a request", rule("'request.status == 1'"), []string{"4:16: undefined field 'status'"}},
		{"syntax of CEL", rule("'true &&'"), []string{"4:16: Syntax error"}},
		{"in a basic string", rule(`"request.path == \"\u00e4\" && request.x == 1"`), []string{"4:46: undefined field 'x'"}},
		{"in a multi-line literal", rule("'''\ntrue &&\n  request.x == 1'''"), []string{"6:10: undefined field 'x'"}},
		{"in a multi-line string", rule("\"\"\"\ntrue \\\n   &&\n  \\\"\\\" == \\x22\\x22 || request.x == 1\"\"\""), []string{"7:30: undefined field 'x'"}},
		{"in a multi-line string of another system", rule("\"\"\"\r\ntrue &&\r\n  request.x == 1\"\"\""), []string{"6:10: undefined field 'x'"}},
		{"a header of a number", rule("'request.header(1) == \"\"'"), []string{"4:23: found no matching overload for 'header' applied to '(int)'"}},
		{"header of something else", rule("'[1].header(1) == \"\"'"), []string{"4:19: undeclared reference to 'header'"}},
		{"the whole request", rule("'request == request'"), []string{"4:9: request is used through its fields", "4:20: request is used through its fields"}},
		{"the whole response, hidden", rule("'[response].size() == 1'"), []string{"4:10: response is used through its fields"}},
		{"a made request", rule("'policy.request{host: \"a\"}.host == \"a\"'"), []string{"4:23: a rule makes no policy.request"}},
		{"a variable called request", rule("'[1].all(request, request == 1)'"), []string{"4:16: the variable of a macro", "4:26: request is used"}},
		{"a pattern from a peer", rule("'request.path.matches(request.query)'"), []string{"4:37: the pattern of matches() must be a literal"}},
		{"a pattern that is none", rule("'request.path.matches(\"(\")'"), []string{"4:30: "}},
		{"a pattern of many states", rule("'request.path.matches(\"^(a?){1000}(b?){1000}$\")'"), []string{"4:30: the pattern is too large for texts of 65536 bytes: 8004 states, at most 1024"}},
		{"a pattern for long texts", "scan_bytes = 524288\n" + rule("'request.path.matches(\"a{200}\")'"), []string{"5:30: the pattern is too large for texts of 524288 bytes: 20"}},
		{"an upper-case header", rule("'request.headers[\"Cookie\"] == \"\"'"), []string{`4:25: names in headers are in lower case: "cookie"`}},
		{"an upper-case header in headers", rule("'\"Cookie\" in request.headers'"), []string{`4:9: names in headers are in lower case: "cookie"`}},
		{"an upper-case header as a field", rule("'request.headers.Cookie == \"\"'"), []string{`4:24: names in headers are in lower case: "cookie"`}},
		{"whether there is an upper-case header", rule("'!has(response.headers.Age)'"), []string{`4:13: names in headers are in lower case: "age"`}},
		{"host as a header", rule("'request.headers[\"host\"] == \"a\"'"), []string{"4:25: Host is not among the headers: there is request.host"}},
		{"host by header()", rule("'request.header(\"Host\") == \"a\"'"), []string{"4:24: Host is not among the headers: there is request.host"}},
		{"macros three deep", rule("'[1].all(a, [1].all(b, [1].all(c, a == b && b == c)))'"), []string{"4:"}},
		{"deep brackets", rule("'" + strings.Repeat("(", 1000) + "true" + strings.Repeat(")", 1000) + "'"), []string{"4:"}},
		{"deep arrays", "a = " + strings.Repeat("[", 20000), []string{"1:"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			p, err := Parse("f", []byte(x.file))
			var bad *Errors
			if !errors.As(err, &bad) || p != nil {
				t.Fatalf("accepted: %v", err)
			}
			ok := len(bad.List) == len(x.want)
			for i, e := range bad.List {
				ok = ok && strings.HasPrefix(fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Message), x.want[i]) && !strings.Contains(e.Message, "\n")
			}
			if !ok {
				t.Errorf("%v\nwant %q", errors.Join(bad.Unwrap()...), x.want)
			}
		})
	}
}

func TestLimitsOfAFile(t *testing.T) {
	many := func(n int, s string) string { return strings.Repeat(s, n) }
	var ids strings.Builder
	for i := range maxRules + 1 {
		fmt.Fprintf(&ids, "[[rule]]\nid = 'r%d'\naction = 'kill'\nwhen = 'true'\n", i)
	}
	for name, file := range map[string]string{
		"more than 1 MiB":                      many(maxFile+1, " "),
		"more than 1000 [[host]]":              many(maxHosts+1, "[[host]]\nmatch = 'a'\nmodes = []\n"),
		"more than 256 [[rule]]":               ids.String(),
		"match has 1001 items, at most 100":    "[[host]]\nmodes = []\nmatch = [" + many(maxPatterns+1, "'a',") + "]",
		"ports has 65537 items, at most 65536": "targets = {ports = [" + many(1<<16+1, "1,") + "]}",
		"private has 1001 items, at most 1000": "targets = {private = [" + many(maxPatterns+1, "'::1',") + "]}",
		"modes has 9 items, at most 8":         "[[host]]\nmatch = 'a'\nmodes = [" + many(9, "'blind',") + "]",
		"(and 999 more problems)":              "targets = {private = [" + many(maxPatterns, "1,") + "]}\n[[host]]\nmodes = ['x']",
	} {
		if _, err := Parse("f", []byte(file)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %.100v", name, err)
		}
	}
}

func TestErrorIsOneLine(t *testing.T) {
	one := &Error{File: "f", Line: 1, Column: 2, Message: "m"}
	for n, want := range map[int]string{1: "f:1:2: m", 2: "f:1:2: m (and 1 more problem)", 3: "f:1:2: m (and 2 more problems)"} {
		if got := (&Errors{slices.Repeat([]*Error{one}, n)}).Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := (&Error{File: "f", Message: "m"}).Error(); got != "f: m" {
		t.Error(got)
	}
}

func TestLoad(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.toml")
	if _, err := Load(file); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	for text, want := range map[string]string{"": "", "x = 1": file + ":1:1: unknown key \"x\"", strings.Repeat("#", maxFile+1): file + ": more than 1 MiB"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(file)
		if (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.10q: %v", text, err)
		}
	}
}

func TestWarnings(t *testing.T) {
	for _, x := range []struct {
		name  string
		rules []string
		want  []string // RULE MESSAGE, as they begin
	}{
		{"nothing odd", []string{`kill request.path == "/a"`, `kill response.status == 500`}, nil},
		{"held streams", []string{`kill response.body.contains("x")`}, []string{"r0 holds event streams"}},
		{"held streams by size", []string{`kill response.size > 5`}, []string{"r0 holds event streams"}},
		{"streams are excluded by the rule", []string{`kill !response.header("content-type").startsWith("text/event-stream") && response.body.contains("x")`}, nil},
		{"streams are excluded by another rule", []string{`allow response.header("content-type") == "text/event-stream"`, `kill response.body.contains("x")`}, nil},
		{"streams of some paths", []string{`kill request.path == "/a" && response.body.contains("x")`}, []string{"r0 holds event streams"}},
		{"behind a rule that wants a field", []string{`kill response.headers["server"] == "x"`, `kill response.body.contains("x")`}, []string{"r1 holds event streams"}},
		{"a request that waits for 100 (Continue)", []string{`kill request.method == "POST" && request.header("x") == "y" && request.body.contains("x")`}, []string{"r0 holds a request"}},
		{"and for its response too", []string{`kill response.status == 200 && request.body.contains("x")`}, []string{"r0 holds a request"}},
		{"an allow rule holds it", []string{`allow request.body == "x"`, `kill request.path == "/"`}, []string{"r0 holds a request"}},
		{"behind a rule that looks at the head", []string{`kill request.path == "/"`, `kill request.body.contains("x")`}, []string{"r1 holds a request"}},
		{"such requests are excluded by the rule", []string{`kill request.header("Expect") == "" && request.body.contains("x")`}, nil},
		{"such requests are excluded by another rule", []string{`kill "expect" in request.headers`, `kill request.body.contains("x")`}, nil},
		{"the response comes first", []string{`kill response.status == 200 ? request.body.contains("x") : false`}, nil},
		{"the size of a request", []string{`kill request.size > 5`}, nil},
		{"a late kill", []string{`allow response.status == 1`, `kill request.path == "/"`}, []string{"r1 looks at the request alone, but r0"}},
		{"a kill that looks at the response anyway", []string{`allow response.status == 1`, `kill request.path == "/" && response.status == 2`}, nil},
		{"never reached", []string{`kill true`, `kill request.path == "/"`}, []string{"r0 kills every exchange", "r1 is never reached: r0"}},
		{"never reached behind an allow", []string{`allow 1 == 1 || request.path == "/"`, `kill request.path == "/"`}, []string{"r1 is never reached"}},
		{"never matches", []string{`kill false && request.path == "/"`}, []string{"r0 never matches"}},
		{"an allow for nothing", []string{`kill request.path == "/"`, `allow request.path == "/a"`}, []string{"r1 changes nothing"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			var got []string
			for _, w := range rules(t, x.rules...).Warnings() {
				got = append(got, w.Rule+" "+w.Message)
				if w.Line == 0 || w.Column == 0 {
					t.Errorf("no place: %+v", w)
				}
			}
			if !slices.EqualFunc(got, x.want, strings.HasPrefix) {
				t.Errorf("%q, want %q", got, x.want)
			}
		})
	}
	p, err := Parse("f", []byte("[[host]]\nmatch = '*'\nmodes = []\n[[host]]\nmatch = 'a'\nmodes = []\n"))
	if err != nil || len(p.Warnings()) != 1 || p.Warnings()[0].Line != 4 {
		t.Error(err, p.Warnings())
	}
}

// FuzzParse: it never panics; every problem has a place in the file; what is read is read again as the same; and the
// places inside strings are those of the TOML package's decoder.
func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add(ruleFile(`kill response.body.contains("x")`, `allow request.header("a") == "b"`))
	f.Add([]byte("a = \"\"\"\\\n  x\\u00e4\\x41\\U0001F600\\\r\n \\\"y\"\"\"\nb = '''\r\nz'''\n[c]\n[[d.e]]\nf.g = {h = [1, [2]]}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse("f", text)
		lines := linesOf(text)
		var bad *Errors
		if errors.As(err, &bad) {
			for _, e := range bad.List {
				if e.Line > len(lines) || e.Line > 0 && (e.Column < 1 || lines[e.Line-1]+e.Column-1 > len(text)) || e.Message == "" {
					t.Fatalf("%v is not in a file of %d lines", e, len(lines))
				}
			}
		} else if again, err := Parse("f", text); err != nil || !same(p, again) {
			t.Fatalf("read again as %+v, %v", again, err)
		}
		if root := readDocument(text, &problems{lines: lines}); root != nil {
			root.walk(func(n *node) {
				if n.kind != unstable.String {
					return
				}
				for i := 0; i < len(n.text); i++ {
					at := n.offset(i)
					if at < n.at || at >= n.at+len(n.token) || n.text[i] != text[at] && text[at] != '\\' {
						if start, escapes := opening(n.token); escapes && insideEscape(n.token[start:], at-n.at-start) {
							continue
						}
						t.Fatalf("byte %d of %q is at %d", i, n.text, at)
					}
				}
			})
		}
	})
}

// insideEscape says whether offset i of s is behind an escape of several bytes, which stands for them all.
func insideEscape(s string, i int) bool {
	for at := 0; at < len(s) && at < i; {
		from, to := unit(s[at:])
		if at += from; at == i {
			return to > 1
		}
	}
	return false
}

func (n *node) walk(f func(*node)) {
	f(n)
	for _, item := range n.items {
		item.walk(f)
	}
	for _, v := range n.keys {
		v.walk(f)
	}
}

func same(a, b *Policy) bool {
	strip := func(p *Policy) Policy {
		q := *p
		q.rules = nil
		for _, r := range p.rules {
			bare := *r
			bare.program = nil
			q.rules = append(q.rules, &bare)
		}
		q.patterns = [allNeeds + 1][]*cel.AttributePatternType{}
		return q
	}
	return reflect.DeepEqual(strip(a), strip(b))
}

// A CONNECT, and a request in an intact tunnel, is compared with every host in the worst case.
func BenchmarkModes(b *testing.B) {
	p, err := Parse("f", []byte(strings.Repeat("[[host]]\nmatch = '*.other.example'\nmodes = []\n", maxHosts)))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		p.Modes("shop.example:443")
	}
}

func TestAllowsNamesTheModesOfAnyHost(t *testing.T) {
	p, err := Parse("file", []byte("[[host]]\nmatch = \"a.example\"\nmodes = [\"blind\"]\n[[host]]\nmatch = \"*\"\nmodes = [\"intact\", \"split\"]\n"))
	if err != nil {
		t.Fatal(err)
	}
	none, err := Parse("file", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []fields.Mode{fields.Blind, fields.Intact, fields.Split} {
		if !p.Allows(m) || none.Allows(m) {
			t.Errorf("%s: %v, without hosts %v", m, p.Allows(m), none.Allows(m))
		}
	}
}
