package main

import (
	"fmt"
	"io"
	"strings"
)

// writeZsh writes a script for zsh's own completion system, to be found in $fpath or to be sourced.
func writeZsh(w io.Writer, all []completion) error {
	var b strings.Builder
	b.WriteString(zshHead)
	for _, c := range all {
		fmt.Fprintf(&b, "%s() {\n", zshFunction(c.path))
		if len(c.commands) > 0 {
			b.WriteString("\tlocal curcontext=$curcontext state state_descr line\n\ttypeset -A opt_args\n")
			zshArguments(&b, "-s -S -C", append(zshFlags(c.flags), "'1:command:->command'", "'*:: :->rest'"))
			zshCommands(&b, c)
		} else {
			specs := zshFlags(c.flags)
			for i, v := range c.args {
				place := fmt.Sprint(i + 1)
				if c.repeats && i == len(c.args)-1 {
					place = "*"
				}
				specs = append(specs, fmt.Sprintf("'%s:%s:%s'", place, zshText(v.label), zshAction(v.label, v)))
			}
			zshArguments(&b, "-s -S", specs)
		}
		b.WriteString("}\n\n")
	}
	b.WriteString(zshTail)
	return fprint(w, &b)
}

const zshHead = `#compdef vitrine
# zsh completion for vitrine, as "vitrine completion zsh" prints it. Put it into a folder of $fpath, as _vitrine.

`

const zshTail = `if [ "$funcstack[1]" = _vitrine ]; then
	_vitrine "$@"
else
	compdef _vitrine vitrine
fi
`

func zshFunction(path string) string { return "_" + strings.ReplaceAll(path, " ", "_") }

func zshArguments(b *strings.Builder, options string, specs []string) {
	fmt.Fprintf(b, "\t_arguments %s \\\n\t\t%s\n", options, strings.Join(specs, " \\\n\t\t"))
}

func zshCommands(b *strings.Builder, c completion) {
	b.WriteString("\tcase $state in\n\tcommand)\n\t\tlocal -a commands\n\t\tcommands=(\n")
	for _, sub := range c.commands {
		fmt.Fprintf(b, "\t\t\t'%s:%s'\n", sub.Name, zshText(sub.Usage))
	}
	b.WriteString("\t\t)\n\t\t_describe -t commands command commands\n\t\t;;\n\trest)\n\t\tcase $line[1] in\n")
	for _, sub := range c.commands {
		fmt.Fprintf(b, "\t\t%s) %s ;;\n", sub.Name, zshFunction(c.path+" "+sub.Name))
	}
	b.WriteString("\t\tesac\n\t\t;;\n\tesac\n")
}

func zshFlags(flags []completedFlag) []string {
	var specs []string
	for _, f := range flags {
		forms := make([]string, len(f.names))
		for i, name := range f.names {
			forms[i] = name
			switch {
			case f.takes && strings.HasPrefix(name, "--"):
				forms[i] += "=" // attached, or the next word
			case f.takes:
				forms[i] += "+"
			}
		}
		tail := "[" + zshText(f.usage) + "]"
		if f.takes {
			tail += ":" + zshText(f.value.label) + ":" + zshAction(strings.TrimLeft(f.names[0], "-"), f.value)
		}
		once := ""
		switch {
		case f.repeats:
			once = "*"
		case len(f.names) > 1:
			once = "(" + strings.Join(f.names, " ") + ")"
		}
		if len(forms) == 1 {
			specs = append(specs, "'"+once+forms[0]+tail+"'")
		} else {
			specs = append(specs, "'"+once+"'{"+strings.Join(forms, ",")+"}'"+tail+"'")
		}
	}
	return specs
}

func zshAction(name string, v completedValue) string {
	switch v.kind {
	case fileValue:
		return "_files"
	case dirValue:
		return "_files -/"
	case wordValue:
		return "(" + strings.Join(v.words, " ") + ")"
	case listValue:
		return "_values -s , " + name + " " + strings.Join(v.words, " ")
	}
	return " "
}

// zshText escapes what stands between single quotes, brackets and colons.
func zshText(s string) string {
	return strings.NewReplacer("'", `'\''`, "[", `\[`, "]", `\]`, ":", `\:`).Replace(s)
}
