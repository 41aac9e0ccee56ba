# SPDX-License-Identifier: Apache-2.0
# CASE: a removed file is gone on both sides, and its name is free again
# TOOLS: busybox

echo 1 >file
rm file
[ ! -e file ]
host '! test -e file'
refused rm file
echo 2 >file
[ "$(host 'cat file')" = 2 ]
mkdir dir
refused unlink dir
# Many at once.
fsop many . 0 500
rm f0*
[ "$(fsop count .)" = 2 ]
