# SPDX-License-Identifier: Apache-2.0
# CASE: 1 GiB written in the guest is the same bytes on the host, and back
# TOOLS: busybox
# LIMIT: 240

size=$((1024 / SCALE))
fscheck pattern write guest $size
sync
[ "$(host 'stat -c %s guest')" = $((size * 1048576)) ]
host "fscheck pattern check guest $size"
[ "$GUEST_KIND" = local ] || echo 3 >/proc/sys/vm/drop_caches
fscheck pattern check guest $size
rm guest
host "fscheck pattern write host $((size / 4))"
fscheck pattern check host $((size / 4))
rm host
