# SPDX-License-Identifier: Apache-2.0
# CASE: 256 MiB through the guest's cache, without it, and as another client sees them
# TOOLS: debian
# LIMIT: 300

fscheck pattern write large 256
sync
echo 3 >/proc/sys/vm/drop_caches
fscheck pattern check large 256
[ "$(host 'rclone cat $S3/large | md5sum | cut -d" " -f1')" = "$(sum_of large)" ]
fscheck mmap mapped
sync
[ "$(host 'rclone cat $S3/mapped | md5sum | cut -d" " -f1')" = "$(sum_of mapped)" ]
fscheck direct direct
cp "$(command -v fsop)" prog
./prog stat prog
cp large copy
cmp large copy
truncate -s 100M copy
sync
[ "$(host 'rclone lsl $S3/copy | tr -s " " | sed "s/^ //" | cut -d" " -f1')" = 104857600 ]
rm large copy
