package main

import (
	"fmt"
	"io"
	"strings"
)

// writeBash writes a script that runs in every bash since 3.1, without any package of completions.
func writeBash(w io.Writer, all []completion) error {
	var commands, flags, values strings.Builder
	for _, c := range all {
		if len(c.commands) > 0 {
			var words []string
			for _, sub := range c.commands {
				words = append(words, sub.Name)
			}
			fmt.Fprintf(&commands, "\t%q) echo %q ;;\n", c.path, strings.Join(words, " "))
		}
		var words []string
		for _, f := range c.flags {
			words = append(words, f.names...)
			if !f.takes {
				continue
			}
			var patterns []string
			for _, name := range f.names {
				patterns = append(patterns, fmt.Sprintf("%q", c.path+" "+name))
			}
			bashValue(&values, strings.Join(patterns, " | "), f.value)
		}
		fmt.Fprintf(&flags, "\t%q) echo %q ;;\n", c.path, strings.Join(words, " "))
		for i, v := range c.args {
			pattern := fmt.Sprintf("\"%s %d\"", c.path, i+1)
			if c.repeats && i == len(c.args)-1 {
				pattern = fmt.Sprintf("\"%s \"[0-9]*", c.path)
			}
			bashValue(&values, pattern, v)
		}
	}
	var b strings.Builder
	b.WriteString(bashHead)
	fmt.Fprintf(&b, "# The commands below a command.\n_vitrine_commands() {\n\tcase $1 in\n%s\tesac\n}\n\n", commands.String())
	fmt.Fprintf(&b, "# The flags of a command.\n_vitrine_flags() {\n\tcase $1 in\n%s\tesac\n}\n\n", flags.String())
	fmt.Fprintf(&b, "# What a command's flag takes, or its argument at a place; it fails for what takes nothing.\n"+
		"_vitrine_value() {\n\tcase \"$1 $2\" in\n%s\t*) return 1 ;;\n\tesac\n}\n\n", values.String())
	b.WriteString(bashTail)
	return fprint(w, &b)
}

func bashValue(b *strings.Builder, pattern string, v completedValue) {
	fmt.Fprintf(b, "\t%s) echo %q ;;\n", pattern, strings.Join(append([]string{string(v.kind)}, v.words...), " "))
}

const bashHead = `# bash completion for vitrine, as "vitrine completion bash" prints it. To load it:
#     eval "$(vitrine completion bash)"

`

const bashTail = `_vitrine() {
	local cur=${COMP_WORDS[COMP_CWORD]} path=vitrine at=1 args=0 flag= only= prefix= word rest value
	COMPREPLY=()
	# The first words name the command.
	while [ "$at" -lt "$COMP_CWORD" ]; do
		case " $(_vitrine_commands "$path") " in
		*" ${COMP_WORDS[at]} "*) path="$path ${COMP_WORDS[at]}" ;;
		*) break ;;
		esac
		at=$((at + 1))
	done
	# What came before the cursor: a flag that waits for its value, and how many arguments.
	while [ "$at" -lt "$COMP_CWORD" ]; do
		word=${COMP_WORDS[at]}
		at=$((at + 1))
		if [ "$word" = "=" ]; then
			continue # bash cuts --flag=value into three words
		elif [ -n "$flag" ]; then
			flag=
		elif [ -n "$only" ]; then
			args=$((args + 1))
		else
			case $word in
			--) only=yes ;;
			--*=*) ;;
			--*) _vitrine_value "$path" "$word" >/dev/null && flag=$word ;;
			-?*)
				rest=${word#-}
				while [ -n "$rest" ]; do
					word=-${rest:0:1} rest=${rest:1}
					if _vitrine_value "$path" "$word" >/dev/null; then
						[ -n "$rest" ] || flag=$word
						break
					fi
				done
				;;
			*) args=$((args + 1)) ;;
			esac
		fi
	done
	[ "$cur" != "=" ] || cur=
	if [ -z "$flag$only" ]; then
		case $cur in
		--*=*) flag=${cur%%=*} prefix=${cur%%=*}= cur=${cur#*=} ;;
		-*)
			COMPREPLY=($(compgen -W "$(_vitrine_flags "$path")" -- "$cur"))
			return
			;;
		esac
	fi
	if [ -n "$flag" ]; then
		value=$(_vitrine_value "$path" "$flag")
	elif value=$(_vitrine_commands "$path") && [ -n "$value" ]; then
		[ "$args" = 0 ] && value="words $value" || value=
	else
		value=$(_vitrine_value "$path" "$((args + 1))")
	fi
	case $value in
	files) set -- -f ;;
	dirs) set -- -d ;;
	words*) set -- -W "${value#words}" ;;
	list*)
		prefix=$prefix${cur%"${cur##*,}"}
		rest=
		for word in ${value#list}; do
			case ",$cur" in
			*",$word,"*) ;;
			*) rest="$rest $word" ;;
			esac
		done
		cur=${cur##*,}
		set -- -W "$rest"
		;;
	*) return ;;
	esac
	[ "$1" = -W ] || compopt -o filenames 2>/dev/null # bash before 4 has none
	while IFS= read -r word; do
		COMPREPLY+=("$prefix$word")
	done < <(compgen "$@" -- "$cur")
}

complete -F _vitrine vitrine
`
