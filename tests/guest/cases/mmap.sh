# SPDX-License-Identifier: Apache-2.0
# CASE: shared and private mappings agree with read, write and the host
# TOOLS: busybox

fscheck mmap file
sum=$(sum_of file)
[ "$(host 'md5sum <file | cut -d" " -f1')" = "$sum" ]
# Run from the mount: the program is mapped from it.
cp "$(command -v fsop)" prog
[ "$(./prog stat file | cut -d' ' -f5)" = 262144 ]
