# Completes each line of standard input as readline asks for it: words, cut at "=" too.
. "$SCRIPT" || exit
while IFS= read -r line; do
	echo "== $line"
	spaced=${line//=/ = }
	read -ra COMP_WORDS <<<"$spaced"
	case $line in *' ') COMP_WORDS+=("") ;; esac
	COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
	_vitrine vitrine 2>&1
	printf '%s\n' "${COMPREPLY[@]}"
done
