# SPDX-License-Identifier: Apache-2.0
# CASE: a write or a new owner takes the set-user-id bits away
# TOOLS: busybox

chmod 777 .
for change in 'echo more >>file' ': >file' 'fsop ftruncate file 1'; do
	echo x >file
	chmod 6777 file
	fsop as 1000 1000 sh -c "$change"
	[ "$(host 'stat -c %a file')" = 777 ]
	set -- $(fsop stat file)
	[ "$1" = 100777 ]
done
# Without the group's execute bit it means something else, and stays.
echo x >file
chmod 2767 file
fsop as 1000 1000 sh -c 'echo more >>file'
set -- $(fsop stat file)
[ "$1" = 102767 ] || [ "$1" = 100767 ]

# Root's write keeps them; chown takes them, even root's.
echo x >file
chmod 6755 file
echo more >>file
set -- $(fsop stat file)
[ "$1" = 106755 ]
chown 5:5 file
[ "$(host 'stat -c %a file')" = 755 ]
