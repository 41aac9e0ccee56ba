# SPDX-License-Identifier: Apache-2.0
# CASE: rsync -a --inplace into the bucket: the second time there is no data left to send
# TOOLS: debian
# LIMIT: 180

mkdir "$TMPDIR/src"
set +x
for i in $(seq 100); do
	mkdir -p "$TMPDIR/src/d$((i % 10))"
	seq "$i" >"$TMPDIR/src/d$((i % 10))/f$i"
done
set -x
head -c 3000000 /dev/urandom >"$TMPDIR/src/large"
find "$TMPDIR/src" -type f -exec touch -d '2001-02-03 04:05:06' {} +
rsync -a --inplace "$TMPDIR/src/" dst/
# Modes and owners stay what they are: only they may differ (.f...p..).
rsync -ai --inplace "$TMPDIR/src/" dst/ >second
[ "$(grep -c '^>f' second)" = 0 ]
diff -r "$TMPDIR/src" dst
# A change in the middle, written in place.
printf changed | dd of="$TMPDIR/src/large" bs=1 seek=1500000 conv=notrunc 2>/dev/null
echo more >>"$TMPDIR/src/d5/f5"
rm "$TMPDIR/src/d6/f6"
rsync -a --inplace --no-whole-file --delete "$TMPDIR/src/" dst/
diff -r "$TMPDIR/src" dst
# Without --inplace, too: a temporary file, renamed.
rsync -a "$TMPDIR/src/" other/
diff -r "$TMPDIR/src" other
sync
[ "$(host 'rclone cat $S3/dst/large | md5sum | cut -d" " -f1')" = "$(sum_of "$TMPDIR/src/large")" ]
[ "$(host 'rclone lsf -R --files-only $S3/dst | wc -l')" = 100 ]
