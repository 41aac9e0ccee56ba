# SPDX-License-Identifier: Apache-2.0
# CASE: names of 255 bytes work, of 256 do not; paths as deep as the guest allows
# TOOLS: busybox

name=$(printf '%255s' '' | tr ' ' n)
echo long >"$name"
[ "$(cat "$name")" = long ]
[ "$(host "cat $name")" = long ]
mv "$name" "m${name#n}"
mkdir "$name"
ln -s "$name" s
ls | grep -qx "$name"
fails_with ENAMETOOLONG fsop open creat,rdwr "x$name"
rmdir "$name"

part=$(printf '%200s' '' | tr ' ' d)
for _ in 1 2 3 4 5 6 7 8 9 10; do
	mkdir "$part"
	cd "$part"
done
echo deep >file
[ "$(cat file)" = deep ]
