# SPDX-License-Identifier: Apache-2.0
# CASE: a file stays usable by those who have it open when its name goes
# TOOLS: busybox

fscheck unlinked file
# Its name goes on the host instead.
echo kept >here
exec 5<>here
host 'rm here'
[ "$(cat <&5)" = kept ]
echo more >&5
exec 5>&-
[ "$(fsop count .)" = 0 ]
