package main

import (
	"fmt"
	"io"
	"strings"
)

// writeFish writes a script for fish 3 and later.
func writeFish(w io.Writer, all []completion) error {
	var paths, takes []string
	var lines strings.Builder
	for _, c := range all {
		paths = append(paths, fishText(c.path))
		for _, sub := range c.commands {
			fmt.Fprintf(&lines, "complete -c vitrine -n %s -a %s -d %s\n", fishAt(c.path, "1"), sub.Name, fishText(sub.Usage))
		}
		for _, f := range c.flags {
			fmt.Fprintf(&lines, "complete -c vitrine -n %s", fishAt(c.path, ""))
			for _, name := range f.names {
				if f.takes {
					takes = append(takes, fishText(c.path+" "+name))
				}
				if long, ok := strings.CutPrefix(name, "--"); ok {
					fmt.Fprintf(&lines, " -l %s", long)
				} else {
					fmt.Fprintf(&lines, " -s %s", name[1:])
				}
			}
			if f.takes {
				fmt.Fprintf(&lines, " -r%s", fishValue(f.value))
			}
			fmt.Fprintf(&lines, " -d %s\n", fishText(f.usage))
		}
		for i, v := range c.args {
			place := fmt.Sprint(i + 1)
			if c.repeats && i == len(c.args)-1 {
				place += "+"
			}
			if v.kind != anyValue {
				fmt.Fprintf(&lines, "complete -c vitrine -n %s%s\n", fishAt(c.path, place), fishValue(v))
			}
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, fishHead, strings.Join(takes, " "), strings.Join(paths[1:], " "))
	b.WriteString(lines.String())
	return fprint(w, &b)
}

const fishHead = `# fish completion for vitrine, as "vitrine completion fish" prints it. Put it into ~/.config/fish/completions, as vitrine.fish.

# __vitrine_takes COMMAND-AND-FLAG: does the flag take a value?
function __vitrine_takes
    contains -- $argv[1] %s
end

# __vitrine_at COMMAND [PLACE]: does the line name this command, with the cursor at this argument, or (2+) at one from there on?
function __vitrine_at --argument-names command place
    set -l words (commandline -opc)
    set -e words[1]
    set -l path vitrine
    while set -q words[1]; and contains -- "$path $words[1]" %s
        set path "$path $words[1]"
        set -e words[1]
    end
    test "$path" = "$command"; or return 1
    test -n "$place"; or return 0
    set -l at 1
    set -l flag
    set -l only
    for word in $words
        if set -q flag[1]
            set -e flag[1]
        else if set -q only[1]
            set at (math $at + 1)
        else
            switch $word
                case --
                    set only yes
                case '--*=*'
                case '--*'
                    __vitrine_takes "$path $word"; and set flag $word
                case '-?*'
                    set -l letters (string split '' -- (string sub -s 2 -- $word))
                    while set -q letters[1]
                        if __vitrine_takes "$path -$letters[1]"
                            set -q letters[2]; or set flag $word
                            break
                        end
                        set -e letters[1]
                    end
                case '*'
                    set at (math $at + 1)
            end
        end
    end
    if string match -q '*+' -- $place
        test $at -ge (string trim -c + -- $place)
    else
        test $at -eq $place
    end
end

complete -c vitrine -f
`

func fishAt(path, place string) string {
	return fishText(strings.TrimSpace(fmt.Sprintf("__vitrine_at %q %s", path, place)))
}

func fishValue(v completedValue) string {
	switch v.kind {
	case fileValue:
		return " -F"
	case dirValue:
		return " -f -a '(__fish_complete_directories)'"
	case wordValue:
		return " -f -a " + fishText(strings.Join(v.words, " "))
	case listValue:
		return fmt.Sprintf(" -f -a '(__fish_complete_list , \"string split , %s\")'", strings.Join(v.words, ","))
	}
	return " -f"
}

// fishText quotes a word.
func fishText(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'"
}
