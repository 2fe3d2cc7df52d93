package spec

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParseRules(t *testing.T) {
	const text = `# Title

The key words "MUST", "MUST NOT" and "SHOULD" are those of BCP 14.

    frame = flags, fragment

Some text. [ABC-1] The client MUST do it (RFC 8446, Section 4.4.3). Then more
text follows; it may see [ABC-1] again.
[ABC-2] The proxy
MUST NOT do it
[XYZ-30] Whoever reads this MUST stop!

- [ABC-3] A list item MUST count.
1. [ABC-4] So MUST a numbered one.
| [ABC-5] A row MUST count | too |
`
	rules, broken := parseRules(text)
	want := []rule{{"ABC-1", 7}, {"ABC-2", 9}, {"XYZ-30", 11}, {"ABC-3", 13}, {"ABC-4", 14}, {"ABC-5", 15}}
	if !reflect.DeepEqual(rules, want) || len(broken) > 0 {
		t.Errorf("rules %v, broken %q", rules, broken)
	}
}

func TestParseRulesCanFail(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"no id":               {"One.\nThe client MUST do it.", "line 2: a sentence with MUST and no id: The client MUST do it."},
		"no id behind a rule": {"[ABC-1] It MUST be. The client MUST do it.", "line 1: a sentence with MUST and no id: The client"},
		"id at the end":       {"The client MUST do it [ABC-1].", "line 1: a sentence with MUST and no id"},
		"id in bold":          {"**[ABC-1]** The client MUST do it.", "line 1: a sentence with MUST and no id"},
		"in code":             {"    x = y ; MUST be even", "line 1: a sentence with MUST and no id"},
		"in a heading":        {"## What you MUST know", "line 1: a sentence with MUST and no id"},
		"in a table":          {"| a | it MUST be |", "line 1: a sentence with MUST and no id"},
		"two MUSTs":           {"[ABC-1] It MUST be and MUST stay.", "line 1: ABC-1 says MUST 2 times"},
		"no MUST":             {"[ABC-1] It should be.", "line 1: ABC-1 says MUST 0 times"},
		"lower case":          {"[ABC-1] It must be.", "line 1: ABC-1 says MUST 0 times"},
		"bad id":              {"[ABCD-1] It MUST be.", "line 1: a sentence with MUST and no id"},
		"id zero":             {"[ABC-0] It MUST be.", "line 1: a sentence with MUST and no id"},
	} {
		if _, broken := parseRules(c.text); len(broken) != 1 || !strings.HasPrefix(broken[0], c.want) {
			t.Errorf("%s: %q, want %q", name, broken, c.want)
		}
	}
}

func TestParseMentions(t *testing.T) {
	const source = `package x

// A sentence before.
// spec: ABC-1 ABC-22
func TestA(t *testing.T) {
	for _, c := range []int{
		// spec: XYZ-3
		1,
	} {
		_ = c
	}
	_ = "// spec: STR-1"
	_ = ` + "`\n// spec: STR-2\n`" + `
}

// spec: ABC-4
`
	const name = "x_test.go"
	got, broken, err := parseMentions(name, []byte(source))
	want := []mention{{"ABC-1", "x_test.go:4"}, {"ABC-22", "x_test.go:4"}, {"XYZ-3", "x_test.go:7"}, {"ABC-4", "x_test.go:18"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if !slices.Equal(broken, []string{"x_test.go:18: nothing stands directly below"}) {
		t.Errorf("broken %q", broken)
	}
	for comment, want := range map[string]string{
		"// spec:":             `x_test.go:2: no ids`,
		"// spec: ABC-1, DE-2": `x_test.go:2: "ABC-1," is no id`,
		"// spec: abc-1 ABC-1": `x_test.go:2: "abc-1" is no id`,
		"// spec: ABC-01":      `x_test.go:2: "ABC-01" is no id`,
	} {
		_, broken, err := parseMentions(name, []byte("package x\n"+comment+"\nvar y int\n"))
		if err != nil || len(broken) == 0 || broken[0] != want {
			t.Errorf("%s: %q, %v", comment, broken, err)
		}
	}
	if _, _, err := parseMentions(name, []byte("no Go")); err == nil {
		t.Error("a file that is no Go was read")
	}
}

func TestCompareCanFail(t *testing.T) {
	rules := []rule{{"ABC-1", 5}, {"ABC-2", 6}}
	both := []mention{{"ABC-1", "x_test.go:1"}, {"ABC-2", "x_test.go:2"}}
	for name, c := range map[string]struct {
		rules    []rule
		mentions []mention
		want     []string
	}{
		"all is well":  {rules, both, nil},
		"no test":      {rules, both[:1], []string{"line 6: no test names ABC-2"}},
		"no rule":      {rules[:1], both, []string{"x_test.go:2: the specification has no ABC-2"}},
		"id twice":     {append(rules, rule{"ABC-1", 9}), both, []string{"line 9: ABC-1 is already at line 5"}},
		"tested twice": {rules, append(both, both[0]), nil},
	} {
		if got := compare(c.rules, c.mentions); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
