# SPDX-License-Identifier: Apache-2.0
# CASE: new files belong to whoever made them in the guest
# TOOLS: busybox

chmod 777 .
fsop as 1234 5678 sh -c 'echo mine >file && mkdir dir && ln -s x link && mkfifo pipe'
for name in file dir link pipe; do
	[ "$(host "stat -c %u:%g $name")" = 1234:5678 ]
done
set -- $(fsop stat file)
[ "$2:$3" = 1234:5678 ]

# Its owner may change the mode, not the owner, and the group only to an own one.
fsop as 1234 5678 chmod 640 file
fails_with "not permitted" fsop as 1234 5678 chown 0 file
fails_with "not permitted" fsop as 1234 5678 chgrp 99 file
fsop as 1234 5678,99 chgrp 99 file
[ "$(host 'stat -c %u:%g:%a file')" = 1234:99:640 ]
fails_with "not permitted" fsop as 4321 5678 chmod 777 file
# Root in the guest may do all of that.
chown 77:88 file
[ "$(host 'stat -c %u:%g file')" = 77:88 ]
