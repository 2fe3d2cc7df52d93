# Types each line of standard input and a tab into a zsh on a terminal of its own, in which compadd notes what it is told to offer.
zmodload zsh/zpty || exit
lines=("${(@f)$(cat)}")
zpty inner zsh -f -i
zpty -w inner 'PS1=; LISTMAX=100000; unsetopt beep; autoload -Uz compinit && compinit -D -u; . "$SCRIPT"
compadd() {
	if [[ " $* " == *" -"[ODA]" "* ]]; then builtin compadd "$@"; return; fi
	local -a hits
	builtin compadd -A hits "$@"
	(( $#hits )) && print -rl -- "${(@Q)hits}" >>"$OUT"
	builtin compadd "$@"
}
note() { print -r -- "== $BUFFER" >>"$OUT"; zle complete-word; BUFFER= }
finish() { exit }
zle -N note; zle -N finish; bindkey "^I" note; bindkey "^X" finish; print REA''DY'
zpty -r inner seen '*READY*' || exit
for line in $lines; do zpty -w -n inner "$line"$'\t'; done
zpty -w -n inner $'\x18'
while zpty -r inner seen; do :; done
cat "$OUT"
