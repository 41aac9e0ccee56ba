# SPDX-License-Identifier: Apache-2.0
# CASE: random reads, writes, mappings, truncations and holes against a model
# TOOLS: busybox
# LIMIT: 120

for seed in 1 2 3 4 5 6; do
	fsx file-$seed $seed $((4000 / SCALE))
done
fsx direct 7 $((2000 / SCALE)) direct
# Several at a time.
for seed in 11 12 13; do
	fsx parallel-$seed $seed $((2000 / SCALE)) &
	pids="${pids:-} $!"
done
for pid in $pids; do
	wait "$pid"
done
fscheck vectors vectors
