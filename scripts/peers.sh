#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# peers.sh: a small Debian tree of a newer suite, for the programs that this
# host's own suite does not have: the Rust virtiofsd, QEMU 11 with its generic
# vhost-user device, and a User-mode Linux with several virtio-fs queues.
# Only the bench and the QEMU 11 guest tests ask for it.
#
#   scripts/peers.sh                 make it if it is not there, print what is in it
#   scripts/peers.sh path            the same, quietly; prints only the tree's path
#   scripts/peers.sh exec [-b DIR]... [-r DIR]... [--] CMD [ARG]...
#                                    make it if needed, run CMD inside it
#   scripts/peers.sh clean           remove it
#
# Programs inside need the tree's own libc, so they are run by `exec`: in a
# private mount namespace that has the tree as its root. The process keeps its
# pid, its standard files and its environment (but PATH), so it can be waited
# for, killed and traced from the host like any other. Of the host it sees, at
# the same paths:
#
#   /dev /proc /sys /tmp    the host's own: sockets and files below /tmp are shared
#   /dev/shm                a fresh tmpfs of its own, exec allowed (UML maps its memory there)
#   -b DIR                  host directory DIR, bound at the same path (writable)
#   -r DIR                  the same, read-only
#
# The working directory is kept where it exists inside, else it is /.
#
# Inside are: virtiofsd (/usr/libexec/virtiofsd), qemu-system-x86_64 (has
# `-device vhost-user-test-device-pci`), linux.uml with its modules under
# /usr/lib/uml/modules/$RELEASE, fio, strace, busybox (static), and a plain
# minbase system. A UML guest is started with the tree itself as its root:
#
#   scripts/peers.sh exec -- linux.uml mem=1G ncpus=2 rootfstype=hostfs rootflags=/ rw \
#       init=/tmp/INIT virtio_uml.device=/tmp/SOCKET:26 con=null con0=fd:0,fd:1
#
# Settings (environment):
#   OVFS_PEERS_SUITE   suite of the tree; default forky
#   OVFS_CACHE         where trees are kept; default ~/.cache/ovfs
#   OVFS_MIRROR        Debian mirror; default http://deb.debian.org/debian
#
# Exit code: CMD's own; 1 when the tree can not be made; 2 for wrong usage.
# Needs root (chroot, mount). Making it takes under a minute and 500 MB.

set -euo pipefail

suite=${OVFS_PEERS_SUITE:-forky}
cache=${OVFS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ovfs}
mirror=${OVFS_MIRROR:-http://deb.debian.org/debian}
tree=$cache/peers-$suite
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
packages="virtiofsd qemu-system-x86 user-mode-linux fio strace busybox-static kmod"
# Written last into a finished tree; another recipe means another tree.
recipe="1 $suite $packages"

say() { echo "peers: $*" >&2; }
die() { say "$*"; exit 1; }

tree_is_ready() {
	[ "$(cat "$tree/.ovfs-peers" 2>/dev/null)" = "$recipe" ]
}

tools_install() {
	local missing=()
	command -v debootstrap >/dev/null || missing+=(debootstrap)
	[ -e "$keyring" ] || missing+=(debian-archive-keyring)
	[ ${#missing[@]} -eq 0 ] && return
	say "installing ${missing[*]}"
	apt-get install -qy --no-install-recommends "${missing[@]}" >&2 ||
		die "cannot install ${missing[*]}"
}

# Runs in namespaces of its own (see tree_make): what it mounts and starts
# goes away with it, however it ends.
tree_build() {
	local dir=$1 script=
	# A host older than the suite may not know its name: all are built as sid is.
	[ -e "/usr/share/debootstrap/scripts/$suite" ] || script=/usr/share/debootstrap/scripts/sid
	debootstrap --variant=minbase --keyring="$keyring" "$suite" "$dir" "$mirror" $script
	mount -t proc proc "$dir/proc"
	# No services are started in a chroot, and no documentation is kept.
	printf '#!/bin/sh\nexit 101\n' >"$dir/usr/sbin/policy-rc.d"
	chmod 755 "$dir/usr/sbin/policy-rc.d"
	printf 'path-exclude=/usr/share/%s/*\n' doc man locale info lintian \
		>"$dir/etc/dpkg/dpkg.cfg.d/ovfs-small"
	# shellcheck disable=SC2086 # a list of words
	DEBIAN_FRONTEND=noninteractive LC_ALL=C chroot "$dir" \
		apt-get install -qy --no-install-recommends $packages
	chroot "$dir" apt-get clean
	rm -rf "$dir"/var/lib/apt/lists/* "$dir"/usr/share/{doc,man,locale}/*
	umount "$dir/proc"
}

tree_make() {
	local tmp=$tree.tmp start=$SECONDS
	[ "$(id -u)" = 0 ] || die "needs root to make $tree"
	mkdir -p "$cache"
	# One builder at a time; who waited finds the tree made.
	exec 9>"$cache/peers-$suite.lock"
	flock 9
	if tree_is_ready; then
		exec 9>&-
		return
	fi
	tools_install
	say "making $tree from $mirror (log: $tree.log)"
	tree_remove "$tmp"
	if ! unshare --mount --propagation private --pid --fork --kill-child \
		-- "$0" build-inner "$tmp" >"$tree.log" 2>&1 9>&-; then
		tail -n 20 "$tree.log" >&2
		tree_remove "$tmp"
		die "cannot make $tree, see $tree.log"
	fi
	echo "$recipe" >"$tmp/.ovfs-peers"
	tree_remove "$tree"
	mv "$tmp" "$tree"
	exec 9>&-
	say "made in $((SECONDS - start)) s, $(du -sm "$tree" | cut -f1) MB"
}

# Mounts are only ever made in private namespaces, so nothing of the host can
# lie below a tree; --one-file-system is the belt to those braces.
tree_remove() {
	[ ! -e "$1" ] || rm -rf --one-file-system "$1"
}

tree_print() {
	echo "tree        $tree ($suite)"
	# shellcheck disable=SC2016,SC2086 # dpkg's variables; a list of words
	chroot "$tree" dpkg-query -W -f '${Package}\t${Version}\n' $packages |
		while IFS=$'\t' read -r name version; do
			printf '%-16s %s\n' "$name" "$version"
		done
	echo "kernel modules   $(ls "$tree/usr/lib/uml/modules")"
}

# The second half of `exec`, in the private mount namespace. The tree becomes the
# root of that namespace (not a mere chroot: virtiofsd's own sandbox pivots again,
# which the kernel allows only where the root is a mount point).
exec_inner() {
	local cwd=$PWD dir how
	mount --bind "$tree" "$tree"
	for dir in dev proc sys tmp; do
		mount --rbind "/$dir" "$tree/$dir"
	done
	mount -t tmpfs -o exec,mode=1777 shm "$tree/dev/shm"
	while [ $# -gt 0 ]; do
		case $1 in
		-b | -r) how=$1 dir=${2:?} && shift 2 ;;
		--) shift && break ;;
		*) break ;;
		esac
		mkdir -p "$tree$dir"
		mount --rbind "$dir" "$tree$dir"
		[ "$how" = -b ] || mount -o remount,bind,ro "$tree$dir"
	done
	[ $# -gt 0 ] || { say "exec what?"; exit 2; }
	export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/libexec
	cd "$tree"
	pivot_root . mnt
	# From here on all programs are the tree's.
	hash -r
	# shellcheck disable=SC2016 # expanded by the inner shell
	exec chroot . /bin/sh -c \
		'umount -l /mnt; cd "$0" 2>/dev/null || cd /; exec "$@"' "$cwd" "$@"
}

verb=${1:-print}
[ $# -eq 0 ] || shift
case $verb in
build-inner)
	set -x
	tree_build "$1"
	;;
exec-inner)
	exec_inner "$@"
	;;
print | path | exec)
	[ "$verb" != exec ] || [ $# -gt 0 ] || { say "exec what?"; exit 2; }
	tree_is_ready || tree_make
	case $verb in
	print) tree_print ;;
	path) echo "$tree" ;;
	exec) exec unshare --mount --propagation private -- "$0" exec-inner "$@" ;;
	esac
	;;
clean)
	tree_remove "$tree.tmp"
	tree_remove "$tree"
	;;
*)
	sed -n '/^# peers.sh/,/^$/s/^# \?//p' "$0" >&2
	exit 2
	;;
esac
