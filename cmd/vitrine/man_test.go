package main

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

var update = flag.Bool("update", false, "write the generated files: vitrine.1, completions")

// TestTheManPageSaysWhatHelpSays holds vitrine.1 to the flags and texts of the commands.
func TestTheManPageSaysWhatHelpSays(t *testing.T) {
	want := manPage(newApp(stdio{strings.NewReader(""), io.Discard, io.Discard}))
	if *update {
		if err := os.WriteFile("vitrine.1", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("vitrine.1")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("vitrine.1 is stale; run: go test ./cmd/vitrine -run TestTheManPage -update")
	}
}

// TestTheManPageHasEveryCommandAndFlag reads the page itself, so that a generator that forgets is noticed.
func TestTheManPageHasEveryCommandAndFlag(t *testing.T) {
	page, err := os.ReadFile("vitrine.1")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "\n.SH COMMANDS\n")
	rest, _, _ = strings.Cut(rest, "\n.SH ")
	sections := strings.Split(rest, ".SS ")
	for _, c := range testCompletions()[1:] {
		i := slices.IndexFunc(sections, func(s string) bool { return strings.HasPrefix(s, roff(c.path)+"\n") })
		if i < 0 {
			t.Errorf("no section %q", c.path)
			continue
		}
		for _, f := range c.flags {
			if name := f.names[0]; name != "--help" && !strings.Contains(sections[i], "\n\\fB"+roff(name)+`\fR`) {
				t.Errorf("%s: no flag %s", c.path, name)
			}
		}
	}
}

// manPage is the page in the language of man(7).
func manPage(app *cli.App) string {
	var b strings.Builder
	b.WriteString(".TH VITRINE 1\n.SH NAME\n")
	fmt.Fprintf(&b, "%s \\- %s\n", app.Name, roff(app.Usage))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n%s\n.SH DESCRIPTION\n", roff(app.UsageText))
	manText(&b, app.Description)
	b.WriteString("Flags may stand anywhere behind the command; \\fB\\-\\-\\fR ends them.\n.SH COMMANDS\n")
	environment := map[string][]string{}
	manCommands(&b, app.Name, app.Commands, environment)
	b.WriteString(".SH EXIT STATUS\n")
	_, codes, _ := strings.Cut(exitCodesHelp, "\n")
	for line := range strings.Lines(codes + "\n") {
		code, words, _ := strings.Cut(strings.TrimSpace(line), " ")
		fmt.Fprintf(&b, ".TP 6\n%s\n%s\n", code, roff(strings.TrimSpace(words)))
	}
	b.WriteString(".SH ENVIRONMENT\n")
	for _, name := range slices.Sorted(maps.Keys(environment)) {
		fmt.Fprintf(&b, ".TP\n%s\nthe default of %s\n", roff(name), strings.Join(environment[name], ", "))
	}
	return b.String()
}

func manCommands(b *strings.Builder, path string, commands []*cli.Command, environment map[string][]string) {
	for _, c := range commands {
		if c.Hidden || c.Name == "help" {
			continue
		}
		path := path + " " + c.Name
		fmt.Fprintf(b, ".SS %s\n%s.\n.PP\n.nf\n%s\n.fi\n.PP\n", roff(path), roff(c.Usage), roff(c.UsageText))
		manText(b, c.Description)
		for _, f := range c.Flags {
			doc, ok := f.(cli.DocGenerationFlag)
			if !ok || slices.Contains(f.Names(), "help") {
				continue
			}
			flag := completeFlag(f, doc, "", nil)
			for i, name := range flag.names {
				flag.names[i] = `\fB` + roff(name) + `\fR`
			}
			term := strings.Join(flag.names, ", ")
			if flag.takes {
				term += ` \fI` + roff(flag.value.label) + `\fR`
			}
			fmt.Fprintf(b, ".TP\n%s\n%s\n", term, roff(flag.usage))
			if preset := strings.Trim(doc.GetDefaultText(), `"`); flag.takes && preset != "" {
				fmt.Fprintf(b, "(default: %s)\n", roff(preset))
			}
			for _, name := range doc.GetEnvVars() {
				environment[name] = append(environment[name], fmt.Sprintf("%s of \\fB%s\\fR", flag.names[0], roff(path)))
			}
		}
		manCommands(b, path, c.Subcommands, environment)
	}
}

// manText writes paragraphs as they are, without the exit statuses, which have a section.
func manText(b *strings.Builder, s string) {
	s = strings.TrimSpace(strings.ReplaceAll(s, exitCodesHelp, ""))
	if s != "" {
		fmt.Fprintf(b, ".nf\n%s\n.fi\n.PP\n", roff(s))
	}
}

// roff escapes text.
func roff(s string) string {
	lines := strings.Split(strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
