package main

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// arrange puts the flags of a command line in front of its arguments, where the flag parser wants
// them, so that a flag after the URL counts. As in curl, one-letter flags may be joined (-iv) and
// their value may be attached (-XPOST). Everything behind "--" is an argument.
func arrange(app *cli.App, args []string) ([]string, error) {
	if len(args) == 0 {
		return args, nil
	}
	n, commands := 1, app.Commands
	var flags []cli.Flag
	for n < len(args) {
		cmd := find(commands, args[n])
		if cmd == nil {
			break
		}
		n, commands, flags = n+1, cmd.Subcommands, cmd.Flags
	}
	a := arranger{kinds: map[string]bool{"help": false, "h": false}, name: strings.Join(args[:n], " ")}
	for _, f := range flags {
		_, isBool := f.(*cli.BoolFlag)
		for _, name := range f.Names() {
			a.kinds[name] = !isBool
		}
	}
	if err := a.all(args[n:]); err != nil {
		return nil, err
	}
	out := append([]string{}, args[:n]...)
	out = append(out, a.flags...)
	if len(a.rest) > 0 {
		out = append(append(out, "--"), a.rest...)
	}
	if n == 1 && len(a.rest) > 0 {
		return nil, usagef("unknown command %q; see \"vitrine --help\"", a.rest[0])
	}
	return out, nil
}

func find(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

// an arranger sorts one command's words. kinds says which flags exist and whether they take a value.
type arranger struct {
	name        string
	kinds       map[string]bool
	flags, rest []string
}

func (a *arranger) all(words []string) error {
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		var err error
		switch {
		case word == "--":
			a.rest = append(a.rest, words...)
			return nil
		case strings.HasPrefix(word, "--"):
			words, err = a.long(word[2:], words)
		case len(word) > 1 && word[0] == '-':
			words, err = a.short(word[1:], words)
		default:
			a.rest = append(a.rest, word)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *arranger) long(word string, words []string) ([]string, error) {
	name, value, attached := strings.Cut(word, "=")
	takes, ok := a.kinds[name]
	switch {
	case !ok || len(name) == 1:
		return nil, a.unknown("--" + name)
	case !takes && attached:
		return nil, usagef("--%s takes no value", name)
	case !takes:
		a.flags = append(a.flags, "--"+name)
		return words, nil
	case attached:
	case len(words) == 0:
		return nil, usagef("--%s needs a value; see \"%s --help\"", name, a.name)
	default:
		value, words = words[0], words[1:]
	}
	a.flags = append(a.flags, "--"+name+"="+value)
	return words, nil
}

func (a *arranger) short(cluster string, words []string) ([]string, error) {
	for i := 0; i < len(cluster); i++ {
		name := cluster[i : i+1]
		takes, ok := a.kinds[name]
		switch value := cluster[i+1:]; {
		case !ok:
			return nil, a.unknown("-" + name)
		case !takes:
			a.flags = append(a.flags, "-"+name)
			continue
		case value != "":
			a.flags = append(a.flags, "-"+name+"="+value)
		case len(words) == 0:
			return nil, usagef("-%s needs a value; see \"%s --help\"", name, a.name)
		default:
			a.flags = append(a.flags, "-"+name+"="+words[0])
			words = words[1:]
		}
		break
	}
	return words, nil
}

func (a *arranger) unknown(flag string) error {
	return usagef("unknown flag %s; see \"%s --help\"", flag, a.name)
}
