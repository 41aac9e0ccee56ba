#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# demo.sh: what `make demo` calls. Installs what is missing, builds build/ovfs,
# and lets a real Linux guest share a directory with this host.
#
# The guest is User-mode Linux, which needs no virtualisation; where that does
# not come up, QEMU with a stock Debian kernel.
set -eu

cd "$(dirname "$0")/.."

scripts/install-deps.sh demo
# The daemon alone, of all that make would build.
[ -f build/build.ninja ] || make --no-print-directory build/build.ninja
ninja -C build --quiet ovfs

as_root=
if [ "$(id -u)" -ne 0 ]; then
	# The daemon acts with the uid of whoever calls in the guest.
	command -v sudo >/dev/null || {
		echo "demo: run it as root, or install sudo" >&2
		exit 1
	}
	as_root="sudo --preserve-env=OVFS_CACHE,XDG_CACHE_HOME,HOME,OVFS_GUEST_ACCEL"
fi

rc=0
$as_root tests/guest/demo uml || rc=$?
if [ "$rc" -eq 3 ]; then
	echo "demo: no User-mode Linux guest here, trying QEMU" >&2
	scripts/install-deps.sh qemu
	rc=0
	$as_root tests/guest/demo qemu || rc=$?
fi
exit "$rc"
