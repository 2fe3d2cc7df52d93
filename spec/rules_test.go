package spec

import (
	"fmt"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strings"
)

// A rule is one sentence of the specification that says MUST.
type rule struct {
	id   string
	line int
}

// A mention is an id behind "// spec:" above a test.
type mention struct {
	id    string
	where string // file:line
}

var (
	ruleStart = regexp.MustCompile(`^\[([A-Z]{3}-[1-9][0-9]*)\] `)
	ruleID    = regexp.MustCompile(`^[A-Z]{3}-[1-9][0-9]*$`)
	// The key words in quotes are those that BCP 14 explains.
	keyWord = regexp.MustCompile(`(?:^|[^"A-Za-z])MUST\b`)
	// A sentence ends before what can begin one.
	sentenceEnd = regexp.MustCompile("[.!?][)\"]?\\s+(?:[A-Z`\"(]|\\[[A-Z])")
	// What begins a new sentence at the start of a line, whatever went before.
	blockStart = regexp.MustCompile(`^\s*(?:#+ |[-*+] |[0-9]+\. |\||\[[A-Z]{3}-[0-9]+\] )`)
	blockMark  = regexp.MustCompile(`^\s*(?:(?:#+|[-*+]|[0-9]+\.|\|)\s+)*`)
)

// parseRules collects the rules of a specification. broken has a line for each sentence with MUST and
// without an id, or the reverse, or with two.
func parseRules(text string) (rules []rule, broken []string) {
	for _, s := range sentences(text) {
		words := len(keyWord.FindAllString(s.text, -1))
		m := ruleStart.FindStringSubmatch(s.text)
		switch {
		case m == nil && words > 0:
			broken = append(broken, fmt.Sprintf("line %d: a sentence with MUST and no id: %.80s", s.line, s.text))
		case m != nil && words != 1:
			broken = append(broken, fmt.Sprintf("line %d: %s says MUST %d times, must be once", s.line, m[1], words))
		case m != nil:
			rules = append(rules, rule{m[1], s.line})
		}
	}
	return rules, broken
}

type sentence struct {
	text string
	line int
}

// sentences cuts Markdown; code is cut like text, since nothing in it may say MUST either.
func sentences(text string) []sentence {
	var out []sentence
	var block []string
	start := 1
	flush := func() {
		rest, line := strings.Join(block, "\n"), start
		block = nil
		for rest != "" {
			end := len(rest)
			if at := sentenceEnd.FindStringIndex(rest); at != nil {
				// The last character of the match begins the next sentence, or two do: "[A".
				end = at[1] - 1
				if rest[end-1] == '[' {
					end--
				}
			}
			whole := rest[:end]
			trimmed := blockMark.ReplaceAllString(whole, "")
			skipped := strings.Count(whole[:len(whole)-len(trimmed)], "\n")
			if trimmed = strings.TrimSpace(trimmed); trimmed != "" {
				out = append(out, sentence{strings.ReplaceAll(trimmed, "\n", " "), line + skipped})
			}
			line += strings.Count(whole, "\n")
			rest = rest[end:]
		}
	}
	for i, l := range strings.Split(text, "\n") {
		if strings.TrimSpace(l) == "" || blockStart.MatchString(l) {
			flush()
			start = i + 1
		}
		if strings.TrimSpace(l) != "" {
			if len(block) == 0 {
				start = i + 1
			}
			block = append(block, l)
		}
	}
	flush()
	return out
}

// parseMentions collects the ids that the comments of one test file name. Strings do not count.
func parseMentions(name string, source []byte) (mentions []mention, broken []string, err error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, source, parser.ParseComments)
	if err != nil {
		return nil, nil, err
	}
	lines := strings.Split(string(source), "\n")
	for _, group := range file.Comments {
		for _, c := range group.List {
			ids, ok := strings.CutPrefix(c.Text, "// spec:")
			if !ok {
				continue
			}
			where := fmt.Sprintf("%s:%d", name, fset.Position(c.Pos()).Line)
			below := fset.Position(group.End()).Line // counts from 1: the index of the line below
			if below >= len(lines) || strings.TrimSpace(lines[below]) == "" {
				broken = append(broken, where+": nothing stands directly below")
			}
			if strings.TrimSpace(ids) == "" {
				broken = append(broken, where+": no ids")
			}
			for _, id := range strings.Fields(ids) {
				if !ruleID.MatchString(id) {
					broken = append(broken, fmt.Sprintf("%s: %q is no id", where, id))
					continue
				}
				mentions = append(mentions, mention{id, where})
			}
		}
	}
	return mentions, broken, nil
}

// compare has a line for each rule without a test, test without a rule, and id that is there twice.
func compare(rules []rule, mentions []mention) (broken []string) {
	known, tested := map[string]int{}, map[string]bool{}
	for _, m := range mentions {
		tested[m.id] = true
	}
	for _, r := range rules {
		if first, twice := known[r.id]; twice {
			broken = append(broken, fmt.Sprintf("line %d: %s is already at line %d", r.line, r.id, first))
			continue
		}
		known[r.id] = r.line
		if !tested[r.id] {
			broken = append(broken, fmt.Sprintf("line %d: no test names %s", r.line, r.id))
		}
	}
	for _, m := range mentions {
		if _, ok := known[m.id]; !ok {
			broken = append(broken, fmt.Sprintf("%s: the specification has no %s", m.where, m.id))
		}
	}
	return slices.Compact(broken)
}
