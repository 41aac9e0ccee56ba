#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# install-deps.sh: install what ovfs is built, tested and shown with.
#
#   scripts/install-deps.sh [GROUP]...      default: build test service
#
#   build   compilers, libraries, formatters, fuzzing runtime
#   test    both kinds of guest and the tools that the test cases run in them
#   demo    only what `make demo` needs: a compiler and User-mode Linux
#   service the S3 server that tests run against, built here, and other clients of it
#   qemu    QEMU and a stock Debian kernel for its guest (part of test)
#   bench   debootstrap and measuring tools
#   package what the Debian package is made and tried with
#
# For Debian 12 and 13 (Ubuntu mostly works too). It needs root or sudo, only
# when something is missing; with everything there it changes nothing and ends
# at once. It never asks a question, and exits non-zero when anything could not
# be installed.
#
# The guest's kernel is never installed as the host's: its package is unpacked
# into the cache folder, $OVFS_CACHE or ~/.cache/ovfs, as guest-kernel/.
set -eu

PROG=install-deps

# What `make` takes; it sets up the unit tests too. python3 runs meson and the guests.
PKGS_COMPILE="meson ninja-build pkg-config gcc g++ libc6-dev linux-libc-dev make python3
	libtomlplusplus-dev libseccomp-dev libcap-ng-dev libcmocka-dev
	libcurl4-openssl-dev libexpat1-dev libssl-dev libjansson-dev
	libmicrohttpd-dev"

# What the other build targets take: lint, fuzzing, man pages.
PKGS_BUILD="$PKGS_COMPILE clang libclang-rt-dev clang-format clang-tidy
	shellcheck scdoc git"

# User-mode Linux, and the busybox that the guests' first scripts call.
PKGS_UML="user-mode-linux busybox-static"

PKGS_QEMU="qemu-system-x86 busybox-static cpio xz-utils libc6-dev gcc"

# The programs that the cases in tests/guest/cases run inside a guest.
PKGS_CASES="acl attr git rsync sqlite3 tar e2fsprogs util-linux"

# Independent clients, to see what a bucket holds.
PKGS_SERVICE="python3 python3-boto3 rclone openssl ca-certificates"

# The model checker, for the free lists of the block pool.
PKGS_MODEL="spin gcc libc6-dev"

# What counts the instructions of hot paths (bench/guard).
PKGS_GUARD="valgrind binutils"

PKGS_TEST="$PKGS_MODEL $PKGS_GUARD $PKGS_UML $PKGS_QEMU $PKGS_CASES"
PKGS_DEMO="$PKGS_COMPILE $PKGS_UML"
# Beside the peers here, scripts/peers.sh has the newer virtiofsd. qemu-system-common has the C one.
PKGS_BENCH="$PKGS_COMPILE debootstrap fio strace python3 sysbench git s3fs rclone fuse3
	qemu-system-common"
PKGS_PACKAGE="$PKGS_COMPILE build-essential debhelper dpkg-dev lintian scdoc systemd"

say()
{
	printf '%s: %s\n' "$PROG" "$*"
}

die()
{
	printf '%s: %s\n' "$PROG" "$*" >&2
	exit 1
}

usage()
{
	sed -n '/^#   scripts/,/^# be installed/s/^# \{0,1\}//p' "$0"
}

# The distribution must have apt and Debian's package names.
check_debian()
{
	if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
		die "this is not Debian: no apt-get here. Install by hand: $*"
	fi
	arch=$(dpkg --print-architecture)
	[ "$arch" = amd64 ] ||
		die "only amd64 is supported (User-mode Linux is x86 only), this is $arch"
}

as_root()
{
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo -- "$@"
	else
		die "needs root to run: $*  (not root, and there is no sudo)"
	fi
}

# The packages among $* that are not installed.
missing()
{
	for pkg in "$@"; do
		status=$(dpkg-query -W -f='${db:Status-Status}' "$pkg" 2>/dev/null || :)
		[ "$status" = installed ] || echo "$pkg"
	done | sort -u
}

# Fetch the package lists, once: a fresh system has none, an old one stale ones.
update_done=
apt_update()
{
	[ -z "$update_done" ] || return 0
	say "fetching the package lists"
	# A third party's unreachable archive is a warning here; when it mattered,
	# the install below fails and says what is missing.
	as_root apt-get -qq -o Acquire::Retries=3 update || say "apt-get update had errors"
	update_done=1
}

install_packages()
{
	need=$(missing "$@" | tr '\n' ' ')
	[ -n "$need" ] || return 0
	apt_update
	say "installing: $need"
	# A file in /etc that somebody changed stays what it is: dpkg would ask.
	# shellcheck disable=SC2086 # a list of words
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -qq \
		-o Acquire::Retries=3 -o Dpkg::Use-Pty=0 \
		-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
		install --no-install-recommends $need >"$log" 2>&1 || {
		tail -n 30 "$log" >&2
		die "apt-get could not install: $need"
	}
	left=$(missing "$@" | tr '\n' ' ')
	[ -z "$left" ] || die "still not installed: $left"
}

# A stock kernel for the QEMU guest, unpacked into the cache folder:
#   guest-kernel/vmlinuz, guest-kernel/modules/ (its /lib/modules/RELEASE),
#   guest-kernel/release
# The `cloud` build is Debian's own kernel with fewer drivers: a third of the
# size, and it has all of virtio.
fetch_guest_kernel()
{
	dir=$cache/guest-kernel
	[ ! -s "$dir/release" ] || return 0
	apt_update
	pkg=$(apt-cache depends linux-image-cloud-amd64 |
		sed -n 's/^ *Depends: *\(linux-image-[0-9][^ ]*\)$/\1/p' | head -n 1)
	[ -n "$pkg" ] || die "no kernel package behind linux-image-cloud-amd64"
	say "unpacking $pkg into $dir"
	mkdir -p "$cache"
	tmp=$(mktemp -d "$cache/guest-kernel.XXXXXX")
	opts=
	# As root apt would drop to a user who cannot write into our folder.
	[ "$(id -u)" -ne 0 ] || opts="-o APT::Sandbox::User=root"
	# shellcheck disable=SC2086 # a list of words
	(cd "$tmp" && apt-get -qq $opts -o Acquire::Retries=3 download "$pkg") >"$log" 2>&1 || {
		cat "$log" >&2
		rm -rf "$tmp"
		die "could not download $pkg"
	}
	dpkg-deb -x "$tmp/$pkg"_*.deb "$tmp/x"
	release=${pkg#linux-image-}
	mkdir "$tmp/new"
	mv "$tmp/x/boot/vmlinuz-$release" "$tmp/new/vmlinuz"
	# trixie's packages have /usr/lib, bookworm's /lib.
	if [ -d "$tmp/x/usr/lib/modules/$release" ]; then
		mv "$tmp/x/usr/lib/modules/$release" "$tmp/new/modules"
	else
		mv "$tmp/x/lib/modules/$release" "$tmp/new/modules"
	fi
	echo "$release" >"$tmp/new/release"
	rm -rf "$dir"
	mv "$tmp/new" "$dir"
	rm -rf "$tmp"
}

[ $# -gt 0 ] || set -- build test service

packages=
kernel=
server=
for group in "$@"; do
	case $group in
	build) packages="$packages $PKGS_BUILD" ;;
	test) packages="$packages $PKGS_TEST" kernel=1 ;;
	service) packages="$packages $PKGS_SERVICE" server=1 ;;
	demo) packages="$packages $PKGS_DEMO" ;;
	qemu) packages="$packages $PKGS_QEMU" kernel=1 ;;
	bench) packages="$packages $PKGS_BENCH" ;;
	package) packages="$packages $PKGS_PACKAGE" ;;
	-h | --help)
		usage
		exit 0
		;;
	*)
		usage >&2
		die "no such group: $group"
		;;
	esac
done

cache=${OVFS_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/ovfs}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

s3_server=$(dirname "$0")/s3-server.sh
if [ -n "$server" ] && "$s3_server" need-go; then
	packages="$packages golang-go"
fi

# shellcheck disable=SC2086 # lists of words
check_debian $packages
# shellcheck disable=SC2086
install_packages $packages
[ -z "$kernel" ] || fetch_guest_kernel
[ -z "$server" ] || "$s3_server" path >/dev/null
