# SPDX-License-Identifier: Apache-2.0
# CASE: flock excludes, shares, waits, and is dropped at close
# TOOLS: busybox
# LIMIT: 60

: >file
fsop flock file exclusive now 3 "$TMPDIR/flocked" &
within 5 test -e "$TMPDIR/flocked"
fails_with EAGAIN fsop flock file exclusive now 0
fails_with EAGAIN fsop flock file shared now 0
fsop killed 0.5 fsop flock file exclusive wait 0
fsop flock file exclusive wait 0
wait
rm "$TMPDIR/flocked"
fsop flock file shared now 3 "$TMPDIR/flocked" &
within 5 test -e "$TMPDIR/flocked"
fsop flock file shared now 0
fails_with EAGAIN fsop flock file exclusive now 0
wait
fsop flock file exclusive now 0
rm "$TMPDIR/flocked"
