# SPDX-License-Identifier: Apache-2.0
# CASE: a read-only share refuses every change, with EROFS
# TOOLS: busybox
# WITH: readonly

ro=$MNT-ro
mkdir -p "$ro"
echo x >file
mkdir dir
mount -t virtiofs ovfs-ro "$ro"
cd "$ro/$NAME"
[ "$(cat file)" = x ]
fails_with EROFS fsop open write file
fails_with EROFS fsop open rdwr,creat new
fails_with EROFS fsop ftruncate file 0
fails_with EROFS fsop rename2 none file other
for change in 'rm -f file' 'mkdir new' 'rmdir dir' 'ln file hard' 'ln -s x soft' \
	'chmod 600 file' 'chown 1 file' 'touch -d 2001-01-01 file' 'mkfifo pipe'; do
	refused sh -c "$change"
done
cd /
umount "$ro"
[ "$(host 'cat file && ls | wc -l')" = 2 ]

# The same asked for by the guest, of a share that is not.
mount -t virtiofs -o ro ovfs "$ro"
cd "$ro/$NAME"
refused sh -c 'echo y >file'
cd /
umount "$ro"
