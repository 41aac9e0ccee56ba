# SPDX-License-Identifier: Apache-2.0
# CASE: POSIX locks exclude, wait, end with their owner, and can be interrupted
# TOOLS: busybox
# LIMIT: 60

echo 0123456789 >file
# Another process of the guest: refused, told who, and waits until it is free.
fsop lock file write 0 5 now 3 "$TMPDIR/locked" &
within 5 test -e "$TMPDIR/locked"
fails_with EAGAIN fsop lock file write 0 1 now 0
fails_with EAGAIN fsop lock file read 4 1 now 0
fsop lock file write 5 5 now 0
[ "$(fsop getlk file write 0 0)" = 'write 0 5' ]
[ "$(fsop getlk file write 6 0)" = free ]
start=$(date +%s)
fsop lock file write 0 5 wait 0
[ $(($(date +%s) - start)) -ge 1 ]
wait
[ "$(fsop getlk file write 0 0)" = free ]

# Readers share.
rm "$TMPDIR/locked"
fsop lock file read 0 0 now 3 "$TMPDIR/locked" &
within 5 test -e "$TMPDIR/locked"
fsop lock file read 0 0 now 0
fails_with EAGAIN fsop lock file write 0 0 now 0
# Waiting can be interrupted.
fsop killed 0.5 fsop lock file write 0 0 wait 0
wait
fsop lock file write 0 0 now 0
rm "$TMPDIR/locked"
