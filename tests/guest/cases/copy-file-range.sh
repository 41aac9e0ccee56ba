# SPDX-License-Identifier: Apache-2.0
# CASE: copy_file_range within the file system
# TOOLS: busybox

fscheck pattern write a 4
fsop copyrange a 0 b 0 4194304
cmp a b
fsop copyrange a 1000000 b 5 70000
dd if=a bs=1000 skip=1000 count=70 of=x 2>/dev/null
dd if=b bs=5 skip=1 count=14000 of=y 2>/dev/null
cmp x y
[ "$(stat -c %s b)" = 4194304 ]
[ "$(host 'md5sum <x')" = "$(host 'md5sum <y')" ]
