# SPDX-License-Identifier: Apache-2.0
# CASE: a file is cut and grown, by name and by descriptor
# TOOLS: busybox

echo 0123456789 >file
fsop ftruncate file 4
[ "$(cat file)" = 0123 ]
[ "$(host 'cat file')" = 0123 ]
fsop ftruncate file 6
[ "$(tr '\0' z <file)" = 0123zz ]
truncate -s 2 file
[ "$(cat file)" = 01 ]
: >file
[ ! -s file ]
[ "$(host 'stat -c %s file')" = 0 ]
fsop open write,trunc file
fails_with ENOENT fsop open write,trunc nothing
# The host cuts what the guest has in its cache.
yes | head -c 100000 >big
cat big >/dev/null
host ': >big && echo short >big'
within 5 sh -c '[ "$(cat big)" = short ]'
