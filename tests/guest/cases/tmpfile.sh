# SPDX-License-Identifier: Apache-2.0
# CASE: O_TMPFILE: a file without a name, which may get one
# TOOLS: busybox

fsop tmpfile . named
[ "$(cat named)" = unnamed ]
[ "$(host 'cat named')" = unnamed ]
fsop tmpfile . -
[ "$(fsop count .)" = 1 ]
