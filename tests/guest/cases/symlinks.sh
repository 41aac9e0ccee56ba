# SPDX-License-Identifier: Apache-2.0
# CASE: symbolic links keep their text, whatever it is, and the guest resolves them
# TOOLS: busybox

echo target >file
ln -s file link
[ "$(readlink link)" = file ]
[ "$(host 'readlink link')" = file ]
[ "$(cat link)" = target ]
ln -s nowhere dangling
[ -L dangling ]
refused cat dangling
fails_with ELOOP fsop open read,nofollow link
ln -s loop loop
fails_with ELOOP fsop open read loop
refused ln -s file link

mkdir dir
ln -s ../file dir/up
[ "$(cat dir/up)" = target ]
ln -s dir dirlink
[ -L dirlink/up ]

# As long as a link can be.
long=$(printf '%4000s' x | tr ' ' /)
ln -s "$long" longlink
[ "$(readlink longlink)" = "$long" ]

# Its own owner, not the target's.
chown -h 12:34 link
set -- $(fsop stat link)
[ "$2:$3" = 12:34 ]
set -- $(fsop stat file)
[ "$2:$3" = 0:0 ]
rm link
[ -e file ]
