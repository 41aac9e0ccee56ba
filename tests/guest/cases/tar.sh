# SPDX-License-Identifier: Apache-2.0
# CASE: a tree goes through tar with its links, holes, owners and attributes
# TOOLS: debian
# LIMIT: 60

mkdir in out
cd in
echo x >file
ln file hard
ln -s file soft
mkfifo pipe
mknod null c 1 3
truncate -s 1M sparse
fsop write sparse 500000 data
setfattr -n user.key -v value file
chown 12:34 file
chmod 4751 file
mkdir dir
touch -d 2001-02-03 dir
cd ..
tar -C in --xattrs --acls --sparse -cf tree.tar .
tar -C out --xattrs --acls --sparse -xpf tree.tar
cd out
[ "$(stat -c %h file)" = 2 ]
[ "$(stat -c %i file)" = "$(stat -c %i hard)" ]
[ "$(stat -c %u:%g:%a file)" = 12:34:4751 ]
[ "$(getfattr --only-values -n user.key file)" = value ]
[ "$(readlink soft)" = file ]
[ -p pipe ]
[ -c null ]
[ "$(stat -c %Y dir)" = "$(stat -c %Y ../in/dir)" ]
[ "$(host 'stat -c %b out/sparse')" -lt 1024 ]
cmp sparse ../in/sparse
# The host reads it the same.
host 'tar -C in --compare -f tree.tar'
