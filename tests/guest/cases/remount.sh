# SPDX-License-Identifier: Apache-2.0
# CASE: unmounted and mounted again, everything is where it was
# TOOLS: busybox

[ "$GUEST_KIND" != local ] || exit 0
echo kept >file
inode=$(stat -c %i file)
second=$MNT-2
mkdir -p "$second"
# Twice at the same time is one file system; and after the last umount, again.
mount -t virtiofs ovfs "$second"
[ "$(cat "$second/$NAME/file")" = kept ]
cd /
umount "$second"
umount "$MNT"
mount -t virtiofs ovfs "$MNT"
cd "$MNT/$NAME"
[ "$(cat file)" = kept ]
[ "$(stat -c %i file)" = "$inode" ]
[ "$(host 'stat -c %i file')" = "$inode" ]
refused mount -t virtiofs no-such-tag "$second"
