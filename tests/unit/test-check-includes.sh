#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# scripts/check-includes.sh accepts the tree and finds each kind of violation. TAP.
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
count=0 status=0

# expect STATUS TEXT NAME: runs the check over $tree.
expect()
{
	local output got

	count=$((count + 1))
	output=$("$top/scripts/check-includes.sh" "$tree" 2>&1)
	got=$?
	if [ "$got" -eq "$1" ] && [[ $output == *"$2"* ]]; then
		echo "ok $count - $3"
	else
		echo "not ok $count - $3"
		echo "# status $got, expected $1 and: $2"
		echo "# ${output//$'\n'/$'\n'# }"
		status=1
	fi
}

# plant FILE LINE: a tree with one good file and this one.
plant()
{
	rm -rf "${tree:?}"/*
	mkdir -p "$tree/base" "$tree/$(dirname "$1")"
	echo '#include "base/err.h"' >"$tree/base/err.c"
	printf '%s\n' "$2" >"$tree/$1"
}

echo 1..11
expect 2 "no source file" "an empty tree is no success"
plant fuse/session.c '#include "fs/fs.h"'
expect 0 "" "an allowed edge"
plant virtio/device.c '#include "fuse/session.h"'
expect 1 "src/virtio/device.c:1: virtio may not include fuse" "virtio knows no FUSE"
plant fs/fs.c '  #  include "fs/filefs/filefs.h"'
expect 1 "fs may not include fs/filefs" "an interface does not know its drivers"
plant conf/toml.cpp '#include "options.h"'
expect 1 "include as module/file.h" "modules do not include what assembles them"
plant conf/conf.c '#include "../base/err.h"'
expect 1 "not by a relative path" "no relative path around the check"
plant fuse/reply.c '#include "syscalls.h"'
expect 1 "fuse may not include sandbox" "a generated header has one user"
plant new/x.c 'int x;'
expect 1 "its folder is not in the table" "a new folder needs a line in the table"
plant store/layers/retry.c '#include "store/layers/retry.h"'
expect 0 "" "a layer has a header"
plant store/layers/retry.c '#include "store/layers/timeout.h"'
expect 1 "may not include one another" "layers do not know each other"
rm -rf "$tree"
cp -r "$top/src" "$tree"
expect 0 "" "the tree as it is"
exit $status
