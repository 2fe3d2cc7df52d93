package main

import (
	"context"
	_ "embed"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"vitrine/internal/hostile"
)

// completionFiles are the generated copies, under the names that the shells look for.
var completionFiles = map[string]string{"bash": "vitrine.bash", "zsh": "_vitrine", "fish": "vitrine.fish"}

func testCompletions() []completion {
	return completions(newApp(stdio{strings.NewReader(""), io.Discard, io.Discard}))
}

func TestTheCompletionScriptsAreThoseOfTheCommands(t *testing.T) {
	all := testCompletions()
	for shell, write := range shells {
		var want strings.Builder
		if err := write(&want, all); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("completions", completionFiles[shell])
		if *update {
			if err := os.WriteFile(file, []byte(want.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != want.String() {
			t.Errorf("%s is stale (%v); run: go test ./cmd/vitrine -run TestTheCompletionScripts -update", file, err)
		}
	}
}

// TestEveryValueIsKnownToTheCompletion fails for a new flag or argument until somebody has decided what a shell
// offers for it.
func TestEveryValueIsKnownToTheCompletion(t *testing.T) {
	free := []string{
		"ADDR", "ADDR=URL", "DATA", "DATE", "DURATION", "HEX", "HOST", "HOST:PORT:ADDR:PORT", "'K: V'", "ID", "LABEL:LEN", "METHOD", "NAME", "P[,P...]", "PATTERN",
		"SECONDS", "URL",
	}
	sets := closedSets()
	for _, c := range testCompletions() {
		for i, v := range c.args {
			if v.kind == anyValue && !slices.Contains(free, v.label) {
				t.Errorf("%s: argument %d is %q, which is none of %q", c.path, i+1, v.label, free)
			}
		}
		for _, f := range c.flags {
			_, key, _ := strings.Cut(c.path+" "+f.names[0], " ")
			delete(sets, key)
			if f.takes && f.value.kind == anyValue && !slices.Contains(free, f.value.label) {
				t.Errorf("%s %s: %q is no FILE, no DIR, not in closedSets, and none of %q", c.path, f.names[0], f.value.label, free)
			}
		}
	}
	for key := range sets {
		t.Errorf("there is no %q", key)
	}
}

// TestWhatIsOfferedIsTaken holds the closed sets to the parsers of the flags.
func TestWhatIsOfferedIsTaken(t *testing.T) {
	parsers := map[string]func(string) error{
		"fetch --level":   func(s string) error { _, _, err := parseLevels(s); return err },
		"proxy --modes":   func(s string) error { _, err := parseModes(s); return err },
		"proxy --hostile": func(s string) error { _, err := hostile.ParseMode(s); return err },
		"demo --chain": func(s string) error {
			n, err := strconv.Atoi(s)
			return errors.Join(err, chainLength(n))
		},

		"inner client --suite":  func(s string) error { _, err := parseInnerSuites(s); return err },
		"inner client --groups": func(s string) error { _, err := parseInnerGroups(s); return err },
		"inner server --suite":  func(s string) error { _, err := parseInnerSuites(s); return err },
		"inner server --groups": func(s string) error { _, err := parseInnerGroups(s); return err },
	}
	for key, parse := range parsers {
		words := closedSets()[key]
		if len(words) == 0 {
			t.Errorf("%s: nothing is offered", key)
		}
		for _, word := range words {
			if err := parse(word); err != nil {
				t.Errorf("%s: %v", key, err)
			}
		}
		if parse("nonsense") == nil {
			t.Errorf("%s takes anything", key)
		}
	}
}

func TestArgumentsOfAUsageText(t *testing.T) {
	want := map[string]string{
		"vitrine pki init":   "DIR:dirs",
		"vitrine pki origin": "DIR:dirs NAME:any...",
		"vitrine pki proxy":  "DIR:dirs NAME:any",
		"vitrine fetch":      "URL:any",
		"vitrine proxy":      "",
		"vitrine completion": "bash|zsh|fish:words",
		"vitrine version":    "",
	}
	for _, c := range testCompletions() {
		var words []string
		for _, v := range c.args {
			words = append(words, v.label+":"+string(v.kind))
		}
		got := strings.Join(words, " ")
		if c.repeats {
			got += "..."
		}
		if want, ok := want[c.path]; ok && got != want {
			t.Errorf("%s: %q, want %q", c.path, got, want)
		}
		delete(want, c.path)
	}
	for path := range want {
		t.Errorf("there is no %q", path)
	}
}

// completionCases are lines, with the cursor at their end, and what a shell has to offer there. In the folder where
// they are tried there are the files "a b.pem" and "a.pem" and the folder "alone".
var completionCases = []struct {
	line string
	want []string
}{
	{"vitrine fe", []string{"fetch"}},
	{"vitrine p", []string{"pki", "policy", "proxy"}},
	{"vitrine pki ", []string{"init", "origin", "proxy"}},
	{"vitrine pki or", []string{"origin"}},
	{"vitrine version --j", []string{"--json"}},
	{"vitrine fetch --allow", []string{"--allow-credentials"}},
	{"vitrine fetch --proxy-r", []string{"--proxy-roots"}},
	{"vitrine proxy --dr", []string{"--drain"}},
	{"vitrine proxy --allow", nil},
	{"vitrine policy check a.", []string{"a.pem"}},
	{"vitrine evidence show --json a", []string{"a b.pem", "a.pem", "alone"}},
	{"vitrine consent ", []string{"forget", "grant", "list", "revoke"}},
	{"vitrine fetch --consent s", []string{"stored"}},
	{"vitrine proxy --hostile fa", []string{"fake-evidence", "false-verdict"}},
	{"vitrine completion ", []string{"bash", "fish", "zsh"}},
	{"vitrine inner ", []string{"client", "server"}},
	{"vitrine inner server --suite TLS_SHA3", []string{"TLS_SHA384_SHA384"}},
	{"vitrine inner client --groups ", []string{"P-256", "P-384", "X25519", "X25519MLKEM768"}},
	{"vitrine inner client --session-in a.", []string{"a.pem"}},
	{"vitrine fetch --level ", []string{"ask", "attested", "blind", "claimed", "direct", "intact", "signed"}},
	{"vitrine fetch --level b", []string{"blind"}},
	{"vitrine fetch https://shop.example/ --level d", []string{"direct"}},
	{"vitrine fetch -v --level i", []string{"intact"}},
	{"vitrine proxy --modes in", []string{"intact"}},
	{"vitrine fetch --max-time ", nil},
	{"vitrine fetch --report a", []string{"a b.pem", "a.pem", "alone"}},
	{"vitrine fetch -o a.", []string{"a.pem"}},
	{"vitrine fetch -vo a.", []string{"a.pem"}},
	{"vitrine pki init a", []string{"alone"}},
	{"vitrine pki origin alone a", nil},
}

// completionFolder is where the cases are tried.
func completionFolder(t *testing.T) string {
	dir := t.TempDir()
	for _, name := range []string{"a b.pem", "a.pem"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "alone"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Each shell has its own way to complete a line that is not typed. These scripts complete each line of standard input, and
// write "== " and the line, then what was offered, a line each.
//
//go:embed testdata/completion.bash
var bashCompletes string

//go:embed testdata/completion.zsh
var zshCompletes string

//go:embed testdata/completion.fish
var fishCompletes string

func TestBashCompletes(t *testing.T) {
	// bash alone cuts words at "=", and takes lists apart by our code.
	cases := append(slices.Clone(completionCases), []struct {
		line string
		want []string
	}{
		{"vitrine fetch --level=", []string{"ask", "attested", "blind", "claimed", "direct", "intact", "signed"}},
		{"vitrine fetch --level=b", []string{"blind"}},
		{"vitrine fetch --level=blind --consent ", []string{"ask", "once", "stored"}},
		{"vitrine fetch --level intact,b", []string{"intact,blind"}},
		{"vitrine fetch --level intact,", []string{"intact,ask", "intact,attested", "intact,blind", "intact,claimed", "intact,direct", "intact,signed"}},
		{"vitrine fetch --level=intact,d", []string{"intact,direct"}},
		{"vitrine completion bash ", nil},
		{"vitrine pki origin -- a", []string{"alone"}},
		{"vitrine pki init alone/../a", []string{"alone/../alone"}},
	}...)
	tryCompletions(t, "bash", bashCompletes, cases)
}

func TestZshCompletes(t *testing.T) { tryCompletions(t, "zsh", zshCompletes, completionCases) }

func TestFishCompletes(t *testing.T) { tryCompletions(t, "fish", fishCompletes, completionCases) }

func tryCompletions(t *testing.T, shell, driver string, cases []struct {
	line string
	want []string
},
) {
	path, err := exec.LookPath(shell)
	if err != nil {
		t.Skip(shell + " is not installed")
	}
	script, err := filepath.Abs(filepath.Join("completions", completionFiles[shell]))
	if err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	for _, c := range cases {
		lines.WriteString(c.line + "\n")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "-c", driver)
	cmd.WaitDelay = time.Second // for what the shell has started
	cmd.Dir = completionFolder(t)
	cmd.Env = append(os.Environ(), "SCRIPT="+script, "OUT="+filepath.Join(t.TempDir(), "out"), "HOME="+t.TempDir(), "TERM=dumb", "LC_ALL=C")
	cmd.Stdin = strings.NewReader(lines.String())
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got := map[string][]string{}
	var line string
	for s := range strings.Lines(string(out)) {
		s = strings.TrimSuffix(s, "\n")
		if rest, ok := strings.CutPrefix(s, "== "); ok {
			line = rest
			got[line] = []string{}
		} else if s != "" {
			got[line] = append(got[line], strings.TrimSuffix(s, "/"))
		}
	}
	for _, c := range cases {
		offers, ok := got[c.line]
		slices.Sort(offers)
		offers = slices.Compact(offers)
		if !ok || !slices.Equal(offers, c.want) {
			t.Errorf("%q: %q, want %q", c.line, offers, c.want)
		}
	}
}
