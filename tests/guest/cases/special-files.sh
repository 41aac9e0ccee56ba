# SPDX-License-Identifier: Apache-2.0
# CASE: pipes, sockets and device nodes
# TOOLS: busybox

mkfifo pipe
[ -p pipe ]
host 'test -p pipe'
# A pipe of a guest is the guest's own: both ends in it.
(echo through >pipe) &
[ "$(cat pipe)" = through ]
wait

fsop socket sock
[ -S sock ]
host 'test -S sock'

mknod null c 1 3
mknod disk b 7 200
[ -c null ]
[ -b disk ]
[ "$(host 'stat -c %t:%T null')" = 1:3 ]
[ "$(host 'stat -c %t:%T disk')" = 7:c8 ]
[ "$GUEST_KIND" = local ] || echo gone >null
fails_with EEXIST fsop open creat,excl,rdwr pipe
rm pipe sock null disk
[ "$(fsop count .)" = 0 ]
