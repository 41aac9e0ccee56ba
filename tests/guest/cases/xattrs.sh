# SPDX-License-Identifier: Apache-2.0
# CASE: extended attributes are set, listed, replaced and removed
# TOOLS: debian

echo x >file
setfattr -n user.one -v 1 file
setfattr -n user.two -v '' file
[ "$(getfattr --only-values -n user.one file)" = 1 ]
[ "$(host 'getfattr --only-values -n user.one file')" = 1 ]
[ "$(getfattr -d file | grep -c ^user)" = 2 ]
setfattr -n user.one -v changed file
[ "$(getfattr --only-values -n user.one file)" = changed ]
setfattr -x user.one file
refused getfattr -n user.one file
refused setfattr -x user.one file
# A long value, a binary one, one on a folder.
long=$(printf '%3000s' '' | tr ' ' v)
setfattr -n user.long -v "$long" file
[ "$(getfattr --only-values -n user.long file)" = "$long" ]
setfattr -n user.bin -v 0x00ff00 file
[ "$(getfattr -e hex -n user.bin file | grep bin)" = user.bin=0x00ff00 ]
mkdir dir
setfattr -n user.dir -v d dir
# File capabilities are one, which a write takes away.
cp "$(command -v cat)" prog
capability=0x0100000200200000000000000000000000000000
setfattr -n security.capability -v $capability prog
[ "$(getfattr -e hex -n security.capability prog | grep =)" = security.capability=$capability ]
fsop write prog 0 x
refused getfattr -n security.capability prog
# The mode binds here too.
chmod 644 file
refused fsop as 1000 1000 setfattr -n user.evil -v x file
fsop as 1000 1000 getfattr -n user.long file
# Set by the host.
host 'setfattr -n user.host -v yes file'
[ "$(getfattr --only-values -n user.host file)" = yes ]
