# SPDX-License-Identifier: Apache-2.0
# CASE: sqlite on a bucket: rollback journal, and the write-ahead log
# TOOLS: debian
# LIMIT: 240

for mode in delete truncate persist wal; do
	db=$mode.db
	sqlite3 "$db" "pragma journal_mode=$mode; create table t (id integer primary key, v blob);"
	for writer in 1 2; do
		for i in $(seq 10); do
			echo "begin immediate; insert into t (v) values (randomblob(3000)); commit;"
		done | sqlite3 -cmd '.timeout 60000' "$db" &
		pids="${pids:-} $!"
	done
	for pid in $pids; do
		wait "$pid"
	done
	pids=
	sqlite3 "$db" "insert into t (v) select randomblob(500) from t, t as u;"
	[ "$(sqlite3 "$db" 'select count(*) from t;')" = 420 ]
	[ "$(sqlite3 "$db" 'pragma integrity_check;')" = ok ]
	sqlite3 "$db" "delete from t where id % 2; vacuum;"
	[ "$(sqlite3 "$db" 'pragma integrity_check;')" = ok ]
	sync
	# What the bucket holds is a database, too.
	[ "$(host "rclone cat \$S3/$db >s3.db && sqlite3 s3.db 'pragma integrity_check;'")" = ok ]
done
