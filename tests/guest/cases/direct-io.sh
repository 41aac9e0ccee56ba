# SPDX-License-Identifier: Apache-2.0
# CASE: O_DIRECT agrees with the page cache
# TOOLS: busybox

fscheck direct file
host 'test $(stat -c %s file) -eq 262144'
