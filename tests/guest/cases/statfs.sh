# SPDX-License-Identifier: Apache-2.0
# CASE: the guest sees the host's sizes and limits
# TOOLS: busybox

set -- $(fsop statvfs .)
[ $(($1 * $3 / 1048576)) = $(($(host 'stat -f -c %b .') * $(host 'stat -f -c %S .') / 1048576)) ]
[ "$4" = 255 ]
df .
