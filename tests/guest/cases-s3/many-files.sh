# SPDX-License-Identifier: Apache-2.0
# CASE: 2000 files in a folder of a bucket
# TOOLS: debian
# LIMIT: 300

mkdir dir
fsop many dir 0 2000
[ "$(fsop count dir)" = 2000 ]
sync
[ "$(host 'rclone lsf $S3/dir | wc -l')" = 2000 ]
echo 3 >/proc/sys/vm/drop_caches
[ "$(ls -l dir | wc -l)" = 2001 ]
mv dir moved
[ "$(fsop count moved)" = 2000 ]
rm -r moved
[ ! -e moved ]
mkdir tell
fscheck telldir tell
