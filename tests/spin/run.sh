#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/spin/run.sh: has spin visit every state of the model of the pool's free lists, and
# find the error in each copy of the model that has one. TAP. About 20 seconds, 600 MB.
set -u
model=$(cd "$(dirname "$0")" && pwd)/freelist.pml
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
count=0 status=0

if ! command -v spin >/dev/null; then
	echo "1..1"
	echo "not ok 1 - spin is not installed: scripts/install-deps.sh test"
	exit 1
fi

found()
{
	grep -qE '^pan:[0-9]+: (assertion violated|invalid end state)' log
}

# explore OPTION...: sets $errors and $states; both are empty when anything went wrong, a
# search that ran out of memory or of depth included.
explore()
{
	errors='' states=''
	spin -a "$@" "$model" >log 2>&1 &&
		${CC:-cc} -O2 -w -DSAFETY -DCOLLAPSE -DMEMLIM=1500 -o pan pan.c >>log 2>&1 || return
	./pan -m20000 -n >>log 2>&1
	found || ! grep -qE 'Search not completed|search depth too small|reached -DMEMLIM' log || return
	errors=$(sed -n 's/.*errors: \([0-9]*\)$/\1/p' log)
	states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' log)
}

report()
{
	count=$((count + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $count - $2"
	else
		echo "not ok $count - $2"
		sed 's/^/# /' log
		status=1
	fi
}

# right NAME OPTION...
right()
{
	local name=$1

	shift
	explore "$@"
	[ "$errors" = 0 ] && ! found
	report $? "$name: $states states"
}

# wrong NAME OPTION...
wrong()
{
	local name=$1

	shift
	explore "$@"
	found
	report $? "$name is found out"
}

echo "1..8"
right "two users and a trader" -DTHREADS=2 -DROUNDS=1
right "two users, four rounds" -DLIST_ONLY -DTHREADS=2 -DROUNDS=4
right "three users, a round each" -DLIST_ONLY -DTHREADS=3 -DROUNDS=1
wrong "a list without tags" -DBUG_TAG
wrong "a pop that does not close the last link" -DBUG_CLOSE
wrong "a pop that does not help tail" -DBUG_HELP
wrong "a push that does not look again" -DBUG_RECHECK
wrong "setting aside without a second look" -DBUG_ASIDE
exit $status
