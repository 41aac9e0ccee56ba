# SPDX-License-Identifier: Apache-2.0
# CASE: umount brings everything to the bucket; a new mount finds it
# TOOLS: debian
# LIMIT: 60

mkdir dir
seq 1000 >dir/file
seq 2000 >dir/other
sum=$(sum_of dir/file)
cd /
umount "$MNT"
[ "$(host 'rclone cat $S3/dir/file | md5sum | cut -d" " -f1')" = "$sum" ]
mount -t virtiofs ovfs "$MNT"
cd "$MNT/remount"
[ "$(sum_of dir/file)" = "$sum" ]
host 'echo theirs | rclone rcat $S3/dir/theirs'
within 5 grep -q theirs dir/theirs
host 'rclone deletefile $S3/dir/theirs'
within 5 sh -c '! cat dir/theirs'
