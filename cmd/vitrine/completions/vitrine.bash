# bash completion for vitrine, as "vitrine completion bash" prints it. To load it:
#     eval "$(vitrine completion bash)"

# The commands below a command.
_vitrine_commands() {
	case $1 in
	"vitrine") echo "demo pki origin proxy policy fetch gateway consent evidence inner completion version" ;;
	"vitrine pki") echo "init origin proxy" ;;
	"vitrine policy") echo "check" ;;
	"vitrine consent") echo "list grant revoke forget" ;;
	"vitrine evidence") echo "show" ;;
	"vitrine inner") echo "client server" ;;
	esac
}

# The flags of a command.
_vitrine_flags() {
	case $1 in
	"vitrine") echo "--help -h" ;;
	"vitrine demo") echo "--chain --json --help -h" ;;
	"vitrine pki") echo "--help -h" ;;
	"vitrine pki init") echo "--help -h" ;;
	"vitrine pki origin") echo "--help -h" ;;
	"vitrine pki proxy") echo "--help -h" ;;
	"vitrine origin") echo "--listen --cert --key --root --upstream --sign --no-token --help -h" ;;
	"vitrine proxy") echo "--listen --cert --key --roots --client-roots --upstream --upstream-roots --config --modes --connect-to --drain --keylog --hostile --help -h" ;;
	"vitrine policy") echo "--help -h" ;;
	"vitrine policy check") echo "--json --help -h" ;;
	"vitrine fetch") echo "--proxy --proxy-roots --roots --consent --store --level --client-cert --client-key --allow-credentials --connect-to --keylog --report --evidence --request -X --header -H --data -d --output -o --include -i --head -I --location -L --fail -f --verbose -v --max-time --help -h" ;;
	"vitrine gateway") echo "--proxy --proxy-roots --roots --consent --store --level --client-cert --client-key --allow-credentials --connect-to --keylog --listen --host --map --help -h" ;;
	"vitrine consent") echo "--help -h" ;;
	"vitrine consent list") echo "--store --json --help -h" ;;
	"vitrine consent grant") echo "--store --proxy --proxy-roots --root --scope --for --until --level --credentials --json --help -h" ;;
	"vitrine consent revoke") echo "--store --all --json --help -h" ;;
	"vitrine consent forget") echo "--store --all --json --help -h" ;;
	"vitrine evidence") echo "--help -h" ;;
	"vitrine evidence show") echo "--json --roots --nonce --proxy --report --help -h" ;;
	"vitrine inner") echo "--help -h" ;;
	"vitrine inner client") echo "--connect --server-name --roots --cert --key --session-in --session-out --key-update --suite --groups --alpn --export --keylog --json --help -h" ;;
	"vitrine inner server") echo "--listen --cert --key --client-roots --root --suite --groups --alpn --export --keylog --json --help -h" ;;
	"vitrine completion") echo "--help -h" ;;
	"vitrine version") echo "--json --help -h" ;;
	esac
}

# What a command's flag takes, or its argument at a place; it fails for what takes nothing.
_vitrine_value() {
	case "$1 $2" in
	"vitrine demo --chain") echo "words 2 3 4 5" ;;
	"vitrine pki init 1") echo "dirs" ;;
	"vitrine pki origin 1") echo "dirs" ;;
	"vitrine pki origin "[0-9]*) echo "any" ;;
	"vitrine pki proxy 1") echo "dirs" ;;
	"vitrine pki proxy 2") echo "any" ;;
	"vitrine origin --listen") echo "any" ;;
	"vitrine origin --cert") echo "files" ;;
	"vitrine origin --key") echo "files" ;;
	"vitrine origin --root") echo "dirs" ;;
	"vitrine origin --upstream") echo "any" ;;
	"vitrine proxy --listen") echo "any" ;;
	"vitrine proxy --cert") echo "files" ;;
	"vitrine proxy --key") echo "files" ;;
	"vitrine proxy --roots") echo "files" ;;
	"vitrine proxy --client-roots") echo "files" ;;
	"vitrine proxy --upstream") echo "any" ;;
	"vitrine proxy --upstream-roots") echo "files" ;;
	"vitrine proxy --config") echo "files" ;;
	"vitrine proxy --modes") echo "list intact split blind" ;;
	"vitrine proxy --connect-to") echo "any" ;;
	"vitrine proxy --drain") echo "any" ;;
	"vitrine proxy --keylog") echo "files" ;;
	"vitrine proxy --hostile") echo "words flip drop insert reorder replay truncate splice swap-cert fake-evidence stale-evidence strip-token other-proxy other-hop no-answer false-verdict split-alter split-replay split-other-connection" ;;
	"vitrine policy check 1") echo "files" ;;
	"vitrine fetch --proxy") echo "any" ;;
	"vitrine fetch --proxy-roots") echo "files" ;;
	"vitrine fetch --roots") echo "files" ;;
	"vitrine fetch --consent") echo "words stored ask once" ;;
	"vitrine fetch --store") echo "files" ;;
	"vitrine fetch --level") echo "list intact signed attested claimed blind direct ask" ;;
	"vitrine fetch --client-cert") echo "files" ;;
	"vitrine fetch --client-key") echo "files" ;;
	"vitrine fetch --connect-to") echo "any" ;;
	"vitrine fetch --keylog") echo "files" ;;
	"vitrine fetch --report") echo "files" ;;
	"vitrine fetch --evidence") echo "files" ;;
	"vitrine fetch --request" | "vitrine fetch -X") echo "any" ;;
	"vitrine fetch --header" | "vitrine fetch -H") echo "any" ;;
	"vitrine fetch --data" | "vitrine fetch -d") echo "any" ;;
	"vitrine fetch --output" | "vitrine fetch -o") echo "files" ;;
	"vitrine fetch --max-time") echo "any" ;;
	"vitrine fetch 1") echo "any" ;;
	"vitrine gateway --proxy") echo "any" ;;
	"vitrine gateway --proxy-roots") echo "files" ;;
	"vitrine gateway --roots") echo "files" ;;
	"vitrine gateway --consent") echo "words stored ask once" ;;
	"vitrine gateway --store") echo "files" ;;
	"vitrine gateway --level") echo "list intact signed attested claimed blind direct ask" ;;
	"vitrine gateway --client-cert") echo "files" ;;
	"vitrine gateway --client-key") echo "files" ;;
	"vitrine gateway --connect-to") echo "any" ;;
	"vitrine gateway --keylog") echo "files" ;;
	"vitrine gateway --listen") echo "any" ;;
	"vitrine gateway --host") echo "any" ;;
	"vitrine gateway --map") echo "any" ;;
	"vitrine consent list --store") echo "files" ;;
	"vitrine consent grant --store") echo "files" ;;
	"vitrine consent grant --proxy") echo "any" ;;
	"vitrine consent grant --proxy-roots") echo "files" ;;
	"vitrine consent grant --root") echo "any" ;;
	"vitrine consent grant --scope") echo "any" ;;
	"vitrine consent grant --for") echo "any" ;;
	"vitrine consent grant --until") echo "any" ;;
	"vitrine consent grant --level") echo "list intact signed attested claimed blind" ;;
	"vitrine consent revoke --store") echo "files" ;;
	"vitrine consent revoke "[0-9]*) echo "any" ;;
	"vitrine consent forget --store") echo "files" ;;
	"vitrine consent forget "[0-9]*) echo "any" ;;
	"vitrine evidence show --roots") echo "files" ;;
	"vitrine evidence show --nonce") echo "any" ;;
	"vitrine evidence show --proxy") echo "files" ;;
	"vitrine evidence show --report") echo "files" ;;
	"vitrine evidence show 1") echo "files" ;;
	"vitrine inner client --connect") echo "any" ;;
	"vitrine inner client --server-name") echo "any" ;;
	"vitrine inner client --roots") echo "files" ;;
	"vitrine inner client --cert") echo "files" ;;
	"vitrine inner client --key") echo "files" ;;
	"vitrine inner client --session-in") echo "files" ;;
	"vitrine inner client --session-out") echo "files" ;;
	"vitrine inner client --suite") echo "list TLS_SHA256_SHA256 TLS_SHA384_SHA384" ;;
	"vitrine inner client --groups") echo "list X25519 P-256 P-384 X25519MLKEM768" ;;
	"vitrine inner client --alpn") echo "any" ;;
	"vitrine inner client --export") echo "any" ;;
	"vitrine inner client --keylog") echo "files" ;;
	"vitrine inner server --listen") echo "any" ;;
	"vitrine inner server --cert") echo "files" ;;
	"vitrine inner server --key") echo "files" ;;
	"vitrine inner server --client-roots") echo "files" ;;
	"vitrine inner server --root") echo "dirs" ;;
	"vitrine inner server --suite") echo "list TLS_SHA256_SHA256 TLS_SHA384_SHA384" ;;
	"vitrine inner server --groups") echo "list X25519 P-256 P-384 X25519MLKEM768" ;;
	"vitrine inner server --alpn") echo "any" ;;
	"vitrine inner server --export") echo "any" ;;
	"vitrine inner server --keylog") echo "files" ;;
	"vitrine completion 1") echo "words bash zsh fish" ;;
	*) return 1 ;;
	esac
}

_vitrine() {
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
