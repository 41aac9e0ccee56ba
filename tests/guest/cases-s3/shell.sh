# SPDX-License-Identifier: Apache-2.0
# CASE: what people do in a shell, on a bucket
# TOOLS: debian
# LIMIT: 120

mkdir -p a/b/c
echo one >a/one
cp a/one a/b/two
cp -r a copy
cp -p a/one kept
mv a/b/two a/b/c/three
[ "$(cat a/b/c/three)" = one ]
[ "$(find copy -type f | sort | tr '\n' ' ')" = "copy/b/two copy/one " ]
seq 20000 >numbers
sort -rn numbers | tee reversed | tail -n 1
[ "$(head -n 1 reversed)" = 20000 ]
sed -i 's/^7$/seven/' numbers
[ "$(grep -c seven numbers)" = 1 ]
split -l 5000 numbers part-
cat part-* | cmp - numbers
gzip -k numbers
gunzip -c numbers.gz | cmp - numbers
for i in $(seq 50); do
	echo "$i" >>log
done
[ "$(wc -l <log)" = 50 ]
[ "$(tail -n 1 log)" = 50 ]
touch -d '2001-02-03 04:05:06' numbers
[ "$(date -r numbers +%Y-%m-%dT%H:%M:%S)" = 2001-02-03T04:05:06 ]
[ "$(stat -c %s log)" = "$(wc -c <log)" ]
ls -lR >listing
[ "$(grep -c ^- listing)" -ge 10 ]
du -s a
df .
sync
[ "$(host 'rclone cat $S3/a/b/c/three')" = one ]
[ "$(host 'rclone cat $S3/numbers | md5sum | cut -d" " -f1')" = "$(sum_of numbers)" ]
rm -r a copy part-*
[ ! -e a ]
sync
[ "$(host 'rclone lsf $S3/ | grep -c "^[ac]"')" = 0 ]
