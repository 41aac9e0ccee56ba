# SPDX-License-Identifier: Apache-2.0
# CASE: random reads, writes, mappings and truncations, while another client changes its own
# TOOLS: debian
# LIMIT: 400

for seed in 1 2 3; do
	fsx file-$seed $seed 1500
done
for seed in 11 12 13; do
	fsx parallel-$seed $seed 800 &
	pids="${pids:-} $!"
done
for i in 1 2 3 4 5 6; do
	host "seq $i"'00000 | rclone rcat $S3/others'
	sleep 1
	[ "$(tail -n 1 others)" -ge 100000 ]
done
for pid in $pids; do
	wait "$pid"
done
fsx direct 7 500 direct
