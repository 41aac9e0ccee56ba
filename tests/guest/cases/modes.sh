# SPDX-License-Identifier: Apache-2.0
# CASE: umask, set-group-id folders, and what chmod may set
# TOOLS: busybox

umask 027
echo x >file
mkdir dir
mknod pipe p
[ "$(host 'stat -c %a file')" = 640 ]
[ "$(host 'stat -c %a dir')" = 750 ]
[ "$(host 'stat -c %a pipe')" = 640 ]
umask 0
echo x >open
[ "$(host 'stat -c %a open')" = 666 ]
chmod 7777 file
[ "$(host 'stat -c %a file')" = 7777 ]
chmod 0 file
set -- $(fsop stat file)
[ "$1" = 100000 ]

# What is made in a set-group-id folder has the folder's group; folders inherit the bit.
mkdir sgid
chgrp 900 sgid
chmod 2777 sgid
fsop as 1000 1000 sh -c 'umask 022; echo x >sgid/file; mkdir sgid/dir'
[ "$(host 'stat -c %u:%g:%a sgid/file')" = 1000:900:644 ]
[ "$(host 'stat -c %u:%g:%a sgid/dir')" = 1000:900:2755 ]
