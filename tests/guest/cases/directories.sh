# SPDX-License-Identifier: Apache-2.0
# CASE: folders are made, entered, counted and removed as on any file system
# TOOLS: busybox

mkdir a a/b a/b/c
echo x >a/b/c/file
[ "$(host 'cat a/b/c/file')" = x ]
[ -d a/b/c ]
fails_with "exists" mkdir a
fails_with "not empty" rmdir a/b
refused mkdir a/b/c/file/below
refused rmdir a/b/c/file
rm a/b/c/file
rmdir a/b/c
[ ! -e a/b/c ]
refused ls a/b/c
host '! test -e a/b/c'

# A folder's link count tells its sub-folders.
mkdir a/d
set -- $(fsop stat a)
[ "$4" = "$(host 'stat -c %h a')" ]

# One that the host makes, with entries of its own.
host 'mkdir -p h/i/j && echo deep >h/i/j/file'
[ "$(cat h/i/j/file)" = deep ]
rm -r a h
host '! test -e a && ! test -e h'
