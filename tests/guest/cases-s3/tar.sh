# SPDX-License-Identifier: Apache-2.0
# CASE: tar x into the bucket, and what tar says of the difference
# TOOLS: debian
# LIMIT: 180

mkdir "$TMPDIR/in"
cp -r /usr/share/perl5/Debian /usr/share/perl5/Dpkg "$TMPDIR/in/" 2>/dev/null || :
mkdir -p "$TMPDIR/in/deep/er/and/deeper"
seq 50000 >"$TMPDIR/in/deep/er/and/deeper/file"
: >"$TMPDIR/in/empty"
chmod 751 "$TMPDIR/in/empty"
tar -C "$TMPDIR/in" -cf "$TMPDIR/tree.tar" .
mkdir out
tar -C out -xpf "$TMPDIR/tree.tar"
diff -r "$TMPDIR/in" out
# Times came along, of the files.
[ "$(stat -c %Y out/deep/er/and/deeper/file)" = "$(stat -c %Y "$TMPDIR/in/deep/er/and/deeper/file")" ]
# And back out of the bucket.
tar -C out -cf - . | tar -tf - | sort >names
tar -tf "$TMPDIR/tree.tar" | sort | cmp - names
sync
[ "$(host 'rclone cat $S3/out/deep/er/and/deeper/file | md5sum | cut -d" " -f1')" = \
	"$(sum_of out/deep/er/and/deeper/file)" ]
