# SPDX-License-Identifier: Apache-2.0
# CASE: sqlite with a rollback journal and with a write-ahead log
# TOOLS: debian
# LIMIT: 120

for mode in delete wal; do
	db=$mode.db
	sqlite3 "$db" "pragma journal_mode=$mode; create table t (id integer primary key, v blob);"
	# Two writers and a reader at a time: it is all locks.
	for writer in 1 2; do
		for i in $(seq 20); do
			echo "begin immediate; insert into t (v) values (randomblob(3000)); commit;"
		done | sqlite3 -cmd '.timeout 30000' "$db" &
		pids="${pids:-} $!"
	done
	for pid in $pids; do
		wait "$pid"
	done
	pids=
	sqlite3 "$db" "insert into t (v) select randomblob(500) from t, t as u;"
	[ "$(sqlite3 "$db" 'select count(*) from t;')" = 1640 ]
	[ "$(sqlite3 "$db" 'pragma integrity_check;')" = ok ]
	sqlite3 "$db" "delete from t where id % 2; vacuum;"
	[ "$(sqlite3 "$db" 'pragma integrity_check;')" = ok ]
	[ "$(host "sqlite3 $db 'pragma integrity_check;'")" = ok ]
done
