# SPDX-License-Identifier: Apache-2.0
# CASE: times are set to the nanosecond and move when they should
# TOOLS: busybox

echo x >file
touch -d '2001-02-03 04:05:06' file
[ "$(date -r file +%Y-%m-%dT%H:%M:%S)" = 2001-02-03T04:05:06 ]
[ "$(host 'stat -c %Y file')" = "$(stat -c %Y file)" ]
before=$(stat -c %Y file)
echo y >>file
sync
[ "$(host 'stat -c %Y file')" -gt "$before" ]
# Reading leaves it alone.
touch -d '2001-02-03 04:05:06' file
cat file
[ "$(stat -c %Y file)" = "$before" ]
# A folder's time moves with its entries.
mkdir dir
touch -d '2001-02-03 04:05:06' dir
echo x >dir/x
[ "$(stat -c %Y dir)" -gt "$before" ]
# Before 1970, and after 2038.
touch -d '1960-01-01 00:00:00' file
[ "$(host 'stat -c %Y file')" -lt 0 ]
touch -d '2100-01-01 00:00:00' file
[ "$(host 'stat -c %Y file')" -gt 4000000000 ]
# Only the owner may set it.
chmod 666 file
refused fsop as 1000 1000 touch -d '2001-02-03 04:05:06' file
