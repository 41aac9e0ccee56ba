# SPDX-License-Identifier: Apache-2.0
# CASE: an open file and an open folder keep working under new names
# TOOLS: busybox

mkdir top
fscheck renamed top
# Renamed by the host: the guest's descriptor is of the file, not of the name.
echo one >a
exec 5<>a
host 'mv a b'
echo two >&5
exec 5>&-
[ "$(host 'cat b')" = two ]
