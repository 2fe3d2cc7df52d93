package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// ran is what scripts did: which exit statuses they demanded of a command, with which words, and behind which of those
// statuses they looked at standard error.
type ran struct {
	statuses  map[string]map[int]bool
	words     map[string][]string
	explained map[int]bool
}

func newRan() *ran {
	return &ran{statuses: map[string]map[int]bool{}, words: map[string][]string{}, explained: map[int]bool{}}
}

// uses says whether a script gave a command the flag: on its own, with "=", or with its value attached.
func (r *ran) uses(command, flag string) bool {
	return slices.ContainsFunc(r.words[command], func(word string) bool {
		return word == flag || strings.HasPrefix(word, flag+"=") || len(flag) == 2 && strings.HasPrefix(word, flag)
	})
}

// read adds a script. commands are the names of all, "pki" and "pki init" alike.
func (r *ran) read(script string, commands []string) {
	script, _, _ = strings.Cut("\n"+script, "\n-- ")
	last := 0
	for line := range strings.Lines(script) {
		words := strings.Fields(line)
		for len(words) > 0 && strings.HasPrefix(words[0], "[") {
			words = words[1:]
		}
		status := 0
		switch {
		case len(words) > 1 && words[0] == "stderr" && last > 0:
			r.explained[last] = true
			continue
		case len(words) > 2 && words[0] == "exits":
			n, err := strconv.Atoi(words[1])
			if err != nil {
				continue
			}
			status, last, words = n, n, words[2:]
		case len(words) > 2 && words[0] == "serve":
			words, last = words[2:], 0
		case len(words) > 1 && words[0] == "exec":
			words, last = words[1:], 0
		default:
			continue
		}
		if words[0] != "vitrine" {
			continue
		}
		name := ""
		for _, word := range words[1:] {
			longer := strings.TrimSpace(name + " " + word)
			if !slices.Contains(commands, longer) {
				break
			}
			name = longer
		}
		if r.statuses[name] == nil {
			r.statuses[name] = map[int]bool{}
		}
		r.statuses[name][status] = true
		r.words[name] = append(r.words[name], words[1:]...)
	}
}

// missing says what the scripts leave out: for each command that does something, a run that is fine and one with wrong
// words; and for each other exit status a run whose words somebody looked at.
func (r *ran) missing(leaves []string, statuses []int) (list []string) {
	for _, name := range leaves {
		for _, status := range []int{exitOK, exitUsage} {
			if !r.statuses[name][status] {
				list = append(list, fmt.Sprintf("no script runs %q to exit status %d", "vitrine "+name, status))
			}
		}
	}
	for _, status := range statuses {
		if status != exitOK && !r.explained[status] {
			list = append(list, fmt.Sprintf("no script looks at the words of exit status %d", status))
		}
	}
	return list
}

// TestEveryCommandAndExitStatusHasAScript fails when a command, a flag or an exit status is new and no script in testdata shows it.
func TestEveryCommandAndExitStatusHasAScript(t *testing.T) {
	var all, leaves []string
	commands := testCompletions()
	for _, c := range commands {
		_, name, _ := strings.Cut(c.path, " ")
		all = append(all, name)
		if len(c.commands) == 0 {
			leaves = append(leaves, name)
		}
	}
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	r := newRan()
	for _, file := range files {
		script, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		r.read(string(script), all)
	}
	for _, line := range r.missing(leaves, exitStatuses(t)) {
		t.Error(line)
	}
	for _, c := range commands {
		_, name, _ := strings.Cut(c.path, " ")
		for _, f := range c.flags {
			if f.names[0] != "--help" && !slices.ContainsFunc(f.names, func(flag string) bool { return r.uses(name, flag) }) {
				t.Errorf("no script uses %s %s", c.path, f.names[0])
			}
		}
	}
}

func TestAMissingScriptIsNoticed(t *testing.T) {
	r := newRan()
	r.read("exec vitrine pki init d\nexits 2 vitrine pki\nstderr 'needs'\nexits 20 vitrine fetch x --json -o f -XPUT --level=blind\nserve P vitrine proxy\n"+
		"stderr 'not that of 20'\nexits 21 vitrine fetch y\n! stderr z\n-- file --\nexits 2 vitrine pki init\n",
		[]string{"pki", "pki init", "fetch", "proxy"})
	want := []string{
		`no script runs "vitrine pki init" to exit status 2`,
		`no script runs "vitrine fetch" to exit status 0`,
		`no script runs "vitrine fetch" to exit status 2`,
		`no script runs "vitrine proxy" to exit status 2`,
		"no script looks at the words of exit status 20",
		"no script looks at the words of exit status 21",
	}
	for _, c := range []struct {
		flag string
		used bool
	}{{"--json", true}, {"-o", true}, {"-X", true}, {"--level", true}, {"--lev", false}, {"--jso", false}, {"-q", false}} {
		if got := r.uses("fetch", c.flag); got != c.used {
			t.Errorf("%s: used is %t", c.flag, got)
		}
	}
	if got := r.missing([]string{"pki init", "fetch", "proxy"}, []int{0, 2, 20, 21}); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// exitStatuses are the constants of exit.go.
func exitStatuses(t *testing.T) []int {
	file, err := parser.ParseFile(token.NewFileSet(), "exit.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	statuses := map[int]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "exit") || len(spec.Values) != 1 {
			return true
		}
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok && lit.Kind == token.INT {
			n, err := strconv.Atoi(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			statuses[n] = true
		}
		return true
	})
	return slices.Sorted(maps.Keys(statuses))
}

// TestTheExitStatusesAreToldAsTheyAre holds --help and README to the constants.
func TestTheExitStatusesAreToldAsTheyAre(t *testing.T) {
	want := exitStatuses(t)
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for where, told := range map[string][][]string{
		"--help":    regexp.MustCompile(`(?m)^   (\d+) +\S`).FindAllStringSubmatch(exitCodesHelp, -1),
		"README.md": regexp.MustCompile(`(?m)^\| (\d+) \| `).FindAllStringSubmatch(string(readme), -1),
	} {
		var got []int
		for _, match := range told {
			n, err := strconv.Atoi(match[1])
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, n)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s lists the exit statuses %d, want %d", where, got, want)
		}
	}
}

// TestTheCommandsInREADMEAreThere holds what README tells people to type to the commands and their flags.
func TestTheCommandsInREADMEAreThere(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(readme), "\\\n", " ")
	lines := regexp.MustCompile(`(?m)^(?:\$ |    go run \./cmd/vitrine).*$`).FindAllString(text, -1)
	found := 0
	for _, line := range lines {
		line = strings.ReplaceAll(line, "go run ./cmd/vitrine", "./vitrine")
		for part := range strings.SplitSeq(line, "&&") {
			words := strings.Fields(strings.NewReplacer("$ ", "", "'", "", "&", "").Replace(part))
			if len(words) == 0 || words[0] != "./vitrine" {
				continue
			}
			found++
			if _, err := arrange(newApp(stdio{strings.NewReader(""), io.Discard, io.Discard}), words); err != nil {
				t.Errorf("%q: %v", part, err)
			}
		}
	}
	if found < 10 {
		t.Errorf("README has only %d commands: are its blocks read as they are?", found)
	}
}
