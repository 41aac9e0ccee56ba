# SPDX-License-Identifier: Apache-2.0
# CASE: POSIX ACLs bind, are inherited, and follow chmod
# TOOLS: debian

chmod 755 .
echo x >file
chmod 600 file
fails_with EACCES fsop as 1000 1000 fsop open read file
setfacl -m u:1000:r file
fsop as 1000 1000 fsop open read file
fails_with EACCES fsop as 1001 1001 fsop open read file
fails_with EACCES fsop as 1000 1000 fsop open write file
host 'getfacl -n file' >/dev/null
host 'getfacl -n file | grep -qx user:1000:r--'
# The mask is the group bits of the mode.
[ "$(host 'stat -c %a file')" = 640 ]
chmod 600 file
fails_with EACCES fsop as 1000 1000 fsop open read file
setfacl -b file
[ "$(getfacl -cn file | grep -c 1000)" = 0 ]

# A default one is what new files in a folder get, whatever the umask.
mkdir dir
setfacl -d -m u:1000:rwx,g::rx,o::- dir
umask 077
echo y >dir/new
getfacl -cn dir/new | grep -q '^user:1000:'
mkdir dir/sub
getfacl -cn dir/sub | grep -qx 'default:user:1000:rwx'
chmod 755 dir
fsop as 1000 1000 cat dir/new
