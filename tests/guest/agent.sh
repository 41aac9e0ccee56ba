#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# agent.sh: runs commands for the harness, inside a guest.
#
# The guest's console is the only line to the host, so that the file system
# under test is never needed to talk about itself. One line, one message:
#
#   host -> guest   run ID LIMIT COMMAND     run COMMAND (sh) for at most LIMIT seconds
#                   ans RC TEXT              answer to `@@ host`, see host() in lib.sh
#   guest -> host   @@ ready                 once
#                   @@ out ID LINE           a line that COMMAND printed
#                   @@ end ID RC             COMMAND ended; 124 or 137: it ran out of time
#                   @@ host COMMAND          please run COMMAND on the host, in the case's folder
#
# Everything else on the console is the kernel's, and goes to the log only.
# A command that cannot even be killed (stuck in the kernel) gives no `@@ end`:
# the harness has its own clock and then kills the whole guest.

# Descriptors 3 and 4 stay the console for host() in the commands.
exec 3<&0 4>&1 </dev/null

out=$TMPDIR/agent.out
echo "@@ ready" >&4

while read -r verb id limit command <&3; do
	# A late answer to a case that was killed meanwhile, say.
	[ "$verb" = run ] || continue
	timeout -s KILL "$limit" sh -c "$command" >"$out" 2>&1
	rc=$?
	# The tail is enough to see why; a console is slow.
	tail -n 60 "$out" | sed "s/^/@@ out $id /" >&4
	# In case the last line had no end.
	echo >&4
	echo "@@ end $id $rc" >&4
done
