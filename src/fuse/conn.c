/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose request it is: the life of an fs_session between FUSE_INIT and the
 * completion of its last request.
 *
 * Theory of operation
 *
 * INIT makes a connection (struct fuse_conn: an fs_session and what was agreed
 * on). DESTROY, the next INIT, or a reset retire it. A guest that reboots, or
 * means harm, does so on one queue while requests run on others, some of them
 * waiting for a lock or a slow storage; the fs_session has to outlive the last
 * of them and must not outlive it for long. That takes a count of requests in
 * flight which costs the hot path no lock and no cache line shared by queues.
 *
 *  - The count is split into FUSE_SHARDS words, each on a cache line of its own.
 *    A thread counts its requests in in "its" shard; the request remembers
 *    which, and is counted out there, by whichever thread completes it.
 *
 *  - The top bit of a shard, FUSE_SHARD_CLOSED, says that the connection takes no
 *    more requests. Counting in is a compare-and-swap that fails when the bit
 *    is set, so a closed shard only ever falls. It reaches "closed and zero"
 *    exactly once: in fuse_conn_retire() if nothing was in flight, else when
 *    its last request is counted out.
 *
 *  - holds counts the shards that have not got there, plus pins (below). Who
 *    takes it to zero frees the fs_session, on whatever thread that is.
 *
 *  - Connections are FUSE_CONNS slots inside the fuse_session, never freed
 *    before it. So a thread that loaded session->current and was then
 *    overtaken by any number of INITs still looks at a valid shard: a closed
 *    one, and it is refused, or that of a newer connection in the same slot,
 *    and it is served as a request of that one, which it may well be as it
 *    came in after it. A slot is free again when its fs_session is gone; if a
 *    guest manages to have requests stuck in every slot, INIT gets EBUSY.
 *
 *  - A pin keeps an fs_session alive for a call from outside of its requests
 *    (ops->session_interrupt): holds + 1, unless it is zero already.
 *
 * Retiring also interrupts what waits. A request that was counted in before
 * its shard was closed, but began to wait after the interrupt, would be
 * missed: so whoever submits an operation that may wait looks at the shard
 * once more afterwards and repeats the interrupt if it is closed by then. What
 * a driver begins to wait for still later, on a thread of its own, ends with
 * the wait, or when the device stops: it repeats fuse_session_interrupt().
 *
 * INIT, DESTROY and reset are serialised by session->lock. Requests and
 * interrupts take no lock.
 */
#include "fuse/conn.h"

#include <errno.h>

#include "base/util.h"
#include "fuse/window.h"

unsigned fuse_thread_shard(void)
{
	static _Atomic unsigned threads;
	static _Thread_local unsigned mine; /* plus one; 0: none yet */

	if (unlikely(!mine))
		mine = atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) % FUSE_SHARDS +
		       1;
	return mine - 1;
}

void fuse_conn_drop_hold(struct fuse_conn *conn)
{
	struct fs_session *fs_session;

	if (atomic_fetch_sub_explicit(&conn->holds, 1, memory_order_acq_rel) != 1)
		return;
	fs_session = conn->fs_session;
	conn->fs_session = NULL;
	fs_session->fs->ops->session_free(fs_session);
	atomic_store_explicit(&conn->busy, false, memory_order_release);
}

/* Counts a request into the live connection. NULL when there is none. */
struct fuse_conn *fuse_conn_enter(struct fuse_session *session, unsigned shard)
{
	struct fuse_conn *conn = atomic_load_explicit(&session->current, memory_order_acquire);
	uint64_t count;

	if (unlikely(!conn))
		return NULL;
	count = atomic_load_explicit(&conn->shards[shard].count, memory_order_relaxed);
	do {
		if (unlikely(count & FUSE_SHARD_CLOSED))
			return NULL;
	} while (!atomic_compare_exchange_weak_explicit(&conn->shards[shard].count, &count,
							count + 1, memory_order_acquire,
							memory_order_relaxed));
	return conn;
}

void fuse_conn_leave(struct fuse_conn *conn, unsigned shard)
{
	if (unlikely(atomic_fetch_sub_explicit(&conn->shards[shard].count, 1,
					       memory_order_acq_rel) == FUSE_SHARD_CLOSED + 1))
		fuse_conn_drop_hold(conn);
}

bool fuse_conn_pin(struct fuse_conn *conn)
{
	uint32_t holds = atomic_load_explicit(&conn->holds, memory_order_relaxed);

	do {
		if (!holds)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(
		&conn->holds, &holds, holds + 1, memory_order_acquire, memory_order_relaxed));
	return true;
}

/* Ends what waits in @conn, if it is alive. */
void fuse_conn_interrupt(struct fuse_conn *conn)
{
	if (!fuse_conn_pin(conn))
		return;
	conn->fs_session->fs->ops->session_interrupt(conn->fs_session, 0);
	fuse_conn_drop_hold(conn);
}

/* Under session->lock. The fs_session is gone on return, or goes with the last
 * request that is still in flight. */
void fuse_conn_retire(struct fuse_session *session)
{
	struct fuse_conn *conn =
		atomic_exchange_explicit(&session->current, NULL, memory_order_acq_rel);

	if (!conn)
		return;
	fuse_conn_pin(conn); /* open shards hold it: this succeeds */
	for (unsigned i = 0; i < FUSE_SHARDS; i++) {
		if (atomic_fetch_or_explicit(&conn->shards[i].count, FUSE_SHARD_CLOSED,
					     memory_order_seq_cst) == 0)
			fuse_conn_drop_hold(conn);
	}
	if (atomic_load_explicit(&conn->holds, memory_order_relaxed) > 1)
		conn->fs_session->fs->ops->session_interrupt(conn->fs_session, 0);
	fuse_conn_drop_hold(conn);
}

/*
 * Under session->lock: empties the window of the live connection, which waits for the front end
 * and the storage. It has to outlive that.
 */
void fuse_conn_drop_window(struct fuse_session *session)
{
	struct fuse_conn *conn = atomic_load_explicit(&session->current, memory_order_relaxed);

	if (!session->window || !conn || !fuse_conn_pin(conn))
		return;
	window_drop(session->window, conn);
	fuse_conn_drop_hold(conn);
}

static void fuse_conn_drop_run(struct work *work)
{
	struct fuse_conn *conn = container_of(work, struct fuse_conn, drop);

	window_drop(conn->session->window, conn);
	fuse_conn_drop_hold(conn);
}

/* The same when the front end is gone: what there is to save is saved later. */
void fuse_conn_lose_window(struct fuse_session *session)
{
	struct fuse_conn *conn = atomic_load_explicit(&session->current, memory_order_relaxed);

	if (!session->window)
		return;
	window_gone(session->window);
	if (!conn || !window_has_copies(session->window) || !fuse_conn_pin(conn))
		return;
	conn->drop.run = fuse_conn_drop_run;
	workers_submit(session->workers, &conn->drop);
}

/* Under session->lock, with no live connection. Returns 0 or -errno. */
int fuse_conn_create(struct fuse_session *session, const struct fs_negotiated *negotiated)
{
	struct fs *fs = session->fs;
	struct fuse_conn *conn = NULL;

	for (unsigned i = 0; i < FUSE_CONNS && !conn; i++) {
		if (!atomic_load_explicit(&session->conns[i].busy, memory_order_acquire))
			conn = &session->conns[i];
	}
	if (!conn)
		return -EBUSY;
	conn->fs_session = fs->ops->session_new(fs, negotiated);
	if (!conn->fs_session)
		return -ENOMEM;
	conn->flags = negotiated->flags;
	conn->session = session;
	conn->fs_session->inode_dax = negotiated->flags & FUSE_HAS_INODE_DAX;
	if (session->window)
		window_forget(session->window, conn);
	atomic_store_explicit(&conn->busy, true, memory_order_relaxed);
	atomic_store_explicit(&conn->holds, FUSE_SHARDS, memory_order_release);
	for (unsigned i = 0; i < FUSE_SHARDS; i++)
		atomic_store_explicit(&conn->shards[i].count, 0, memory_order_release);
	atomic_store_explicit(&session->current, conn, memory_order_release);
	return 0;
}
