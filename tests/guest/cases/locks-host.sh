# SPDX-License-Identifier: Apache-2.0
# CASE: the host's processes see a guest's locks, and the guest theirs
# TOOLS: debian
# LIMIT: 60

echo x >file
fsop flock file exclusive now 4 "$TMPDIR/locked" &
within 5 test -e "$TMPDIR/locked"
refused host 'flock -n file true'
wait
host 'flock -n file true'
# The host holds one.
host '(flock file sh -c "touch held; sleep 3") >/dev/null 2>&1 &'
within 5 test -e held
fails_with EAGAIN fsop flock file exclusive now 0
fsop flock file exclusive wait 0
rm "$TMPDIR/locked"
