#!/usr/bin/env bash
# Finds Chromium for the browser test, or installs Debian's with apt-get, which takes root and some 600 MB. It prints
# where the program is. CHROMIUM names another.
#
# Exit codes: 0 it is there; 3 it cannot be had here, for want of root, apt-get or a mirror; 1 anything else.
set -euo pipefail

fail() { echo "chromium.sh: $2" >&2; exit "$1"; }

found() {
	for program in ${CHROMIUM:-chromium chromium-browser google-chrome}; do
		path=$(type -P "$program") || continue
		echo "$path"
		exit 0
	done
}

found
[ -z "${CHROMIUM:-}" ] || fail 1 "CHROMIUM=$CHROMIUM is no program"
[ -n "$(type -P apt-get)" ] || fail 3 "there is no Chromium, and no apt-get to install it with: set CHROMIUM to a program"
[ "$(id -u)" = 0 ] || fail 3 "there is no Chromium: install it as root (apt-get install chromium), or set CHROMIUM to a program"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt=(apt-get -q -o Acquire::Retries=1 -o Acquire::http::Timeout=10 -o Acquire::https::Timeout=10)
# apt says on failure which address it was, and why; a failed update is only a warning to it.
timeout 60 "${apt[@]}" -o APT::Update::Error-Mode=any update >"$log" 2>&1 ||
	{ cat "$log" >&2; fail 3 "the mirror cannot be used"; }
DEBIAN_FRONTEND=noninteractive timeout 300 "${apt[@]}" install -y --no-install-recommends chromium >"$log" 2>&1 ||
	{ tail -n20 "$log" >&2; fail 3 "chromium cannot be had from the mirror"; }
found
fail 1 "it is installed and not to be found"
