# SPDX-License-Identifier: Apache-2.0
# CASE: guest and host work in one tree at the same time
# TOOLS: busybox
# LIMIT: 60

mkdir tree
host '(i=0; while [ $i -lt 100 ]; do echo $i >tree/host-$i; mv tree/host-$i tree/HOST-$i; i=$((i+1)); done; touch host-done) >/dev/null 2>&1 &'
i=0
set +x
while [ $i -lt 100 ]; do
	echo $i >tree/guest-$i
	mv tree/guest-$i tree/GUEST-$i
	fsop types tree >/dev/null
	i=$((i + SCALE))
done
set -x
within 30 test -e host-done
within 5 sh -c '[ "$(ls tree | grep -c HOST)" = 100 ]'
guests=$(ls tree | grep -c GUEST)
[ "$(host 'ls tree | grep -c GUEST')" = "$guests" ]
[ "$(cat tree/HOST-99)" = 99 ]
# The host removes under the guest's feet.
host 'rm -r tree'
within 5 refused ls tree
