# SPDX-License-Identifier: Apache-2.0
# CASE: dd with seeks, into new and existing files, against the same on another file system
# TOOLS: debian
# LIMIT: 180

twice()
{
	dd "$@" of="$TMPDIR/model" conv=notrunc 2>/dev/null
	dd "$@" of=file conv=notrunc 2>/dev/null
}

head -c 20000000 /dev/urandom >"$TMPDIR/noise"
for args in "bs=1M count=9" "bs=4k seek=5000 count=3" "bs=777 seek=12345 count=100" \
	"bs=1 seek=8388607 count=3" "bs=64k seek=3 skip=7 count=2" "bs=1M seek=40 count=1"; do
	# shellcheck disable=SC2086 # words
	twice if="$TMPDIR/noise" $args
	cmp file "$TMPDIR/model"
done
sync
echo 3 >/proc/sys/vm/drop_caches
cmp file "$TMPDIR/model"
[ "$(host 'rclone cat $S3/file | md5sum | cut -d" " -f1')" = "$(sum_of "$TMPDIR/model")" ]
# In the middle of what is an object now.
twice if="$TMPDIR/noise" bs=5k seek=4000 skip=100 count=5
sync
cmp file "$TMPDIR/model"
[ "$(host 'rclone cat $S3/file | md5sum | cut -d" " -f1')" = "$(sum_of "$TMPDIR/model")" ]
dd if=/dev/zero of=direct bs=64k count=20 oflag=sync 2>/dev/null
[ "$(stat -c %s direct)" = 1310720 ]
