# SPDX-License-Identifier: Apache-2.0
# CASE: holes are found, read as zeroes and take no space
# TOOLS: busybox

fscheck sparse file
: >holes
fsop ftruncate holes 1048576
fsop write holes 524288 data
sync
[ "$(fsop seek data holes 0)" = 524288 ]
[ "$(fsop seek hole holes 0)" = 0 ]
hole=$(fsop seek hole holes 524288)
[ "$hole" -gt 524288 ]
[ "$hole" -le 589824 ]
fails_with ENXIO fsop seek data holes 600000
fails_with ENXIO fsop seek hole holes 1048576
[ "$(host 'stat -c %s holes')" = 1048576 ]
