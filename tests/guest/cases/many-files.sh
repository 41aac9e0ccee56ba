# SPDX-License-Identifier: Apache-2.0
# CASE: 100,000 files in one folder
# TOOLS: busybox
# LIMIT: 600

count=$((100000 / SCALE))
# User-mode Linux 6.1 takes more than a minute of its own for so many, 7.2 some seconds.
case $GUEST_KIND-$(uname -r) in uml-6.1.*) count=$((count / 4)) ;; esac
mkdir dir
fsop many dir 0 $count
[ "$(fsop count dir)" = $count ]
[ "$(host 'ls -U dir | wc -l')" = $count ]
[ -e dir/f000000 ]
last=$(printf 'f%06d' $((count - 1)))
[ -e "dir/$last" ]
# Cold: the guest has to ask for all of them.
[ "$GUEST_KIND" = local ] || echo 3 >/proc/sys/vm/drop_caches
[ "$(fsop count dir)" = $count ]
[ "$(ls -l dir | wc -l)" = $((count + 1)) ]
rm -r dir
host '! test -e dir'
