package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"github.com/urfave/cli/v2"

	"vitrine/client"
	"vitrine/internal/fields"
	"vitrine/internal/hostile"
)

// shells are those that a completion script can be had for.
var shells = map[string]func(io.Writer, []completion) error{
	"bash": writeBash,
	"zsh":  writeZsh,
	"fish": writeFish,
}

func completionCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print a script that completes commands, flags and their values",
		UsageText: "vitrine completion bash|zsh|fish",
		Description: "To have it in every new shell:\n" +
			"   bash   echo 'eval \"$(vitrine completion bash)\"' >> ~/.bashrc\n" +
			"   zsh    vitrine completion zsh > DIR/_vitrine, where DIR is one of $fpath\n" +
			"   fish   vitrine completion fish > ~/.config/fish/completions/vitrine.fish",
		Action: func(c *cli.Context) error {
			write := shells[c.Args().First()]
			if c.NArg() != 1 || write == nil {
				return usagef("completion needs exactly one of bash, zsh, fish")
			}
			return write(std.out, completions(c.App))
		},
	}
}

// closedSets are the values of the flags that take no others, by command and flag; a flag that is not
// here takes what its placeholder says.
func closedSets() map[string][]string {
	levels := names(client.Intact, client.Signed, client.Attested, client.Claimed, client.Blind, client.Direct, askLevel)
	consents := []string{"stored", "ask", "once"}
	return map[string][]string{
		"fetch --level":         levels,
		"fetch --consent":       consents,
		"gateway --level":       levels,
		"gateway --consent":     consents,
		"consent grant --level": names(client.Intact, client.Signed, client.Attested, client.Claimed, client.Blind),
		"proxy --modes":         names(fields.Intact, fields.Split, fields.Blind),
		"proxy --hostile":       names(hostile.Modes()...),
		"demo --chain":          chainLengths(),

		"inner client --suite":  innerSuites(),
		"inner client --groups": names(innerGroups...),
		"inner server --suite":  innerSuites(),
		"inner server --groups": names(innerGroups...),
	}
}

func names[T ~string](values ...T) []string {
	s := make([]string, len(values))
	for i, v := range values {
		s[i] = string(v)
	}
	return s
}

// A completion is what can stand behind one command.
type completion struct {
	path     string // "vitrine pki init"
	commands []*cli.Command
	flags    []completedFlag
	args     []completedValue // by place
	repeats  bool             // the last of args may come again
}

// A completedFlag is one flag under all its names.
type completedFlag struct {
	names   []string // with their dashes
	usage   string   // without the back quotes around its placeholder
	takes   bool     // a value
	repeats bool
	value   completedValue
}

// A completedValue is what a shell offers for a value.
type completedValue struct {
	kind  valueKind
	label string // what --help calls it
	words []string
}

// A valueKind is how a shell finds values.
type valueKind string

const (
	anyValue  valueKind = "any" // nothing is offered
	fileValue valueKind = "files"
	dirValue  valueKind = "dirs"
	wordValue valueKind = "words" // one of words
	listValue valueKind = "list"  // some of words, with commas between them
)

// completions lists what follows the program's name and each of its commands.
func completions(app *cli.App) []completion {
	root := &cli.Command{Name: app.Name, Subcommands: app.Commands, Flags: app.Flags}
	return appendCompletions(nil, "", root, closedSets())
}

func appendCompletions(list []completion, above string, cmd *cli.Command, sets map[string][]string) []completion {
	c := completion{path: strings.TrimSpace(above + " " + cmd.Name)}
	for _, sub := range cmd.Subcommands {
		if !sub.Hidden && sub.Name != "help" {
			c.commands = append(c.commands, sub)
		}
	}
	_, key, _ := strings.Cut(c.path+" ", " ")
	for _, f := range cmd.Flags {
		if doc, ok := f.(cli.DocGenerationFlag); ok && !slices.Contains(f.Names(), "help") {
			c.flags = append(c.flags, completeFlag(f, doc, key, sets))
		}
	}
	c.flags = append(c.flags, completedFlag{names: []string{"--help", "-h"}, usage: "show help"})
	if len(c.commands) == 0 {
		c.args, c.repeats = completeArguments(c.path, cmd)
	}
	list = append(list, c)
	for _, sub := range c.commands {
		list = appendCompletions(list, c.path, sub, sets)
	}
	return list
}

func completeFlag(f cli.Flag, doc cli.DocGenerationFlag, key string, sets map[string][]string) completedFlag {
	before, rest, _ := strings.Cut(doc.GetUsage(), "`")
	label, after, _ := strings.Cut(rest, "`")
	out := completedFlag{usage: before + label + after, takes: doc.TakesValue()}
	for _, name := range f.Names() {
		dashes := "--"
		if len(name) == 1 {
			dashes = "-"
		}
		out.names = append(out.names, dashes+name)
	}
	_, out.repeats = f.(*cli.StringSliceFlag)
	out.value = valueOf(label)
	if words := sets[key+out.names[0]]; words != nil {
		out.value.words, out.value.kind = words, wordValue
		if strings.Contains(label, "[,") {
			out.value.kind = listValue
		}
	}
	return out
}

// valueOf reads a placeholder.
func valueOf(label string) completedValue {
	v := completedValue{label: label, kind: anyValue}
	switch {
	case label == "FILE":
		v.kind = fileValue
	case label == "DIR":
		v.kind = dirValue
	case strings.Contains(label, "|") && !strings.ContainsFunc(label, unicode.IsUpper):
		v.kind, v.words = wordValue, strings.Split(label, "|")
	}
	return v
}

// completeArguments reads the arguments from the command's usage text: what is neither a flag, nor a
// flag's value, nor between brackets.
func completeArguments(path string, cmd *cli.Command) (args []completedValue, repeats bool) {
	takes := map[string]bool{}
	for _, f := range cmd.Flags {
		_, isBool := f.(*cli.BoolFlag)
		takes["--"+f.Names()[0]] = !isBool
	}
	form, _, _ := strings.Cut(cmd.UsageText, "\nvitrine ")
	depth, words := 0, strings.Fields(strings.TrimPrefix(form, path))
	for i := 0; i < len(words); i++ {
		word := words[i]
		before := depth
		depth += strings.Count(word, "[") + strings.Count(word, "(") - strings.Count(word, "]") - strings.Count(word, ")")
		switch {
		case before > 0 || depth > 0 || strings.HasPrefix(word, "[") || word == "|":
		case strings.HasPrefix(word, "--"):
			if takes[word] {
				i++
			}
		default:
			label, more := strings.CutSuffix(word, "...")
			args, repeats = append(args, valueOf(label)), more
		}
	}
	return args, repeats
}

// fprint writes a script that was put together in memory.
func fprint(w io.Writer, script *strings.Builder) error {
	_, err := fmt.Fprint(w, script.String())
	return err
}
