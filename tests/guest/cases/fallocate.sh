# SPDX-License-Identifier: Apache-2.0
# CASE: space is allocated, holes are punched
# TOOLS: busybox

: >file
fsop fallocate alloc file 0 1048576
[ "$(host 'stat -c %s file')" = 1048576 ]
[ "$(host 'stat -c %b file')" -ge 2048 ]
fsop fallocate keep file 0 2097152
[ "$(stat -c %s file)" = 1048576 ]

yes data | head -c 262144 >full
fsop fallocate punch full 65536 65536
[ "$(stat -c %s full)" = 262144 ]
[ "$(dd if=full bs=65536 skip=1 count=1 2>/dev/null | tr -d '\0' | wc -c)" -eq 0 ]
[ "$(dd if=full bs=65536 skip=2 count=1 2>/dev/null | head -c 5)" = "$(yes data | head -c 131077 | tail -c 5)" ]
[ "$(host 'stat -c %b full')" -lt 512 ]
fsop fallocate zero full 0 4096
[ "$(head -c 4096 full | tr -d '\0' | wc -c)" -eq 0 ]
# Beyond what a file can be.
refused fsop fallocate alloc file 0 9223372036854775807
