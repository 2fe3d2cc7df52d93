#!/usr/bin/env bash
# Unpacks programs of Debian 13 beside their own C library, for the interoperability tests:
#
#   debian.sh openssl DIR    OpenSSL 3.5, which has the suites of RFC 9150; DIR/openssl runs it
#   debian.sh haproxy DIR    HAProxy 3.0; DIR/haproxy runs it
#
# It takes them from the Debian mirror that this machine's apt has configured, or from DEBIAN_MIRROR. apt checks
# signatures and checksums with the keys that this machine trusts already. It needs no root, installs nothing and
# changes nothing outside DIR. What DIR has is left alone.
#
# Exit codes: 0 it is there; 3 the mirror cannot be used; 2 anything else about the command; 1 the rest.
set -euo pipefail

fail() { echo "debian.sh: $2" >&2; exit "$1"; }

[ $# = 2 ] || fail 2 "usage: debian.sh openssl|haproxy DIR"
program=$1
case $program in
openssl) packages="openssl openssl-provider-legacy libssl3t64 zlib1g libzstd1 libc6" binary=usr/bin/openssl ;;
haproxy) packages="haproxy libssl3t64 zlib1g libzstd1 libcap2 libcrypt1 libjemalloc2 liblua5.4-0 libopentracing-c-wrapper0t64 libopentracing1 libpcre2-8-0 libpcre2-posix3 libsystemd0 libstdc++6 libgcc-s1 libc6" binary=usr/sbin/haproxy ;;
*) fail 2 "unknown program $program" ;;
esac
mkdir -p "$2"
dir=$(cd "$2" && pwd)
[ ! -x "$dir/$program" ] || exit 0

for tool in apt-get dpkg dpkg-deb; do
	[ -n "$(type -P $tool)" ] || fail 3 "$tool is not installed: name a program yourself (OPENSSL=…)"
done
arch=$(dpkg --print-architecture)
keys=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r $keys ] || fail 3 "$keys is not there: install debian-archive-keyring"
# A site is one that apt's own sources name, and whose address says that it is Debian's main archive.
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 -E '/debian/?$' || true)}
[ -n "$mirror" ] || fail 3 "apt has no Debian mirror configured: set DEBIAN_MIRROR"

work=$dir/apt
rm -rf "$work" && mkdir -p "$work"/{etc/apt.conf.d,lists/partial,cache/archives/partial,debs}
: >"$work/status"
echo "deb [signed-by=$keys] $mirror trixie main" >"$work/sources.list"
# apt's own settings hold, but for where it keeps things: so its proxies and credentials for the mirror do.
apt=(apt-get -q -o APT::Sandbox::User="$(id -un)"
	-o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
	-o Dir::State="$work" -o Dir::State::lists="$work/lists" -o Dir::State::status="$work/status"
	-o Dir::Cache="$work/cache" -o Acquire::Languages=none -o Acquire::Retries=1
	-o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false
	-o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
	-o Acquire::http::Timeout=10 -o Acquire::https::Timeout=10)
# apt says on failure which address it was, and why; a failed update is only a warning to it.
log=$work/log
timeout 60 "${apt[@]}" -o APT::Update::Error-Mode=any update >"$log" 2>&1 ||
	{ cat "$log" >&2; fail 3 "the mirror $mirror cannot be reached, or has no Debian 13"; }
(cd "$work/debs" && timeout 60 "${apt[@]}" download $packages >"$log" 2>&1) ||
	{ cat "$log" >&2; fail 3 "the packages cannot be had from $mirror"; }

rm -rf "$dir/root" && mkdir "$dir/root"
for deb in "$work"/debs/*.deb; do
	dpkg-deb -x "$deb" "$dir/root"
done
# Debian 13's programs name their loader by a path that is this machine's; so its own is named here.
loader=$(find "$dir/root" \( -name 'ld-linux*.so.*' -o -name 'ld64.so.*' \) \( -type f -o -type l \) | head -n1)
[ -n "$loader" ] || fail 1 "no loader among the packages for $arch"
libraries=$(dirname "$(find "$dir/root/usr/lib" -name 'libssl.so.3' | head -n1)")
cat >"$dir/$program.new" <<WRAPPER
#!/bin/sh
# Made by debian.sh: $program of Debian 13, with its own C library and without this machine's configuration.
OPENSSL_CONF=/dev/null OPENSSL_MODULES='$libraries/ossl-modules' \\
	exec '$loader' --library-path '$libraries' '$dir/root/$binary' "\$@"
WRAPPER
chmod +x "$dir/$program.new"
"$dir/$program.new" $([ $program = openssl ] && echo version || echo -v) >"$log" 2>&1 ||
	{ cat "$log" >&2; fail 1 "$program does not run"; }
head -n1 "$log"
mv "$dir/$program.new" "$dir/$program"
rm -rf "$work"
