# SPDX-License-Identifier: Apache-2.0
# CASE: reading a folder tells the type of each entry without another call
# TOOLS: busybox

echo x >reg
mkdir dir
ln -s x lnk
mkfifo fifo
fsop socket sock
mknod chr c 1 3
mknod blk b 7 0
for type in reg dir lnk fifo sock chr blk; do
	fsop types . | grep -qx "$type $type"
done
fsop types . | grep -qx '. dir'
fsop types . | grep -qx '.. dir'
[ "$(fsop types . | wc -l)" -eq 9 ]
