# SPDX-License-Identifier: Apache-2.0
# CASE: fsync, fdatasync and syncfs succeed, of files and of folders
# TOOLS: busybox

echo x >file
mkdir dir
for how in fsync fdatasync syncfs; do
	fsop sync $how file
	fsop sync $how dir
done
sync
fsop open rdwr,creat,sync synced
[ "$(host 'cat file')" = x ]
