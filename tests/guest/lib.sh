# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
#
# lib.sh: what the cases share. A case is a file cases/NAME.sh with a header:
#
#   # CASE: what must hold, in a line
#   # TOOLS: busybox          every guest can run it: busybox and GUEST_BIN suffice
#   # TOOLS: debian           takes programs of a Debian system, so User-mode Linux only
#   # LIMIT: seconds          default 30; several times as long in an emulated machine
#   # WITH: readonly          also needs the second device, whose daemon is read-only
#
# It runs under `set -eux` in a fresh folder of the mounted file system; the
# first command that fails, fails it, and the trace says which. Under busybox
# sh and dash alike. Variables that it finds:
#
#   MNT          where the file system is mounted; the folder is $MNT/$NAME
#   GUEST_KIND   uml, qemu or local (no guest at all: the case on a local file system)
#   TMPDIR       a folder outside the file system under test
#   SCALE        1, or less in a slow guest: 10 means do a tenth of the work

# Run a command line on the host, in the same folder. One line of what it
# prints comes back; its exit code too.
host()
{
	echo "@@ host $*" >&4
	read -r _ans host_rc host_text <&3
	[ -z "$host_text" ] || echo "$host_text"
	return "$host_rc"
}

# The command must fail.
refused()
{
	if "$@"; then
		echo "should have been refused: $*"
		return 1
	fi
}

# The command must fail, and say that it is because of error $1.
fails_with()
{
	_want=$1
	shift
	if _said=$("$@" 2>&1); then
		echo "should have failed with $_want: $*"
		return 1
	fi
	case $_said in
	*"$_want"*) ;;
	*)
		echo "should have failed with $_want, but: $_said"
		return 1
		;;
	esac
}

# Try a command for up to $1 seconds until it succeeds.
within()
{
	# Out of the trace, of which it would fill the part that gets shown.
	{ set +x; } 2>/dev/null
	_left=$(($1 * 10))
	shift
	until "$@" 2>/dev/null; do
		if [ "$_left" -eq 0 ]; then
			echo "not within the time: $*"
			exit 1
		fi
		_left=$((_left - 1))
		sleep 0.1
	done
	set -x
}

sum_of()
{
	md5sum "$1" | cut -d' ' -f1
}
