# Completes each line of standard input.
source $SCRIPT; or exit
while read -l line
    echo "== $line"
    complete -C "$line" | string split -f 1 \t | string unescape
end
exit 0
