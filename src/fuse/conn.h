/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections of a guest: an fs_session and what was agreed on with it, counted by its requests.
 * For session.c; see conn.c for the theory of operation.
 */
#ifndef OVFS_FUSE_CONN_H
#define OVFS_FUSE_CONN_H

#include <pthread.h>
#include <stdatomic.h>

#include "fuse/internal.h"
#include "fuse/window.h"

/* A power of two, and no fewer than the queues of a device, so that queue
 * threads of one mount mostly have their own. */
#define FUSE_SHARDS 64

#define FUSE_SHARD_CLOSED (1ull << 63)

/* Connections of one guest with requests in flight, the live one included. */
#define FUSE_CONNS 8

#define FUSE_CACHE_LINE 64

_Static_assert(FUSE_CONNS <= FUSE_WINDOW_OWNERS_MAX, "each may have a window");

struct fuse_shard {
	_Alignas(FUSE_CACHE_LINE) _Atomic uint64_t count;
};

struct fuse_conn {
	struct fuse_shard shards[FUSE_SHARDS];
	_Atomic uint32_t holds; /* shards not drained, and pins */
	_Atomic bool busy;	/* the slot is in use; ends after session_free() */

	/* Constant while holds != 0. */
	struct fs_session *fs_session;
	uint64_t flags; /* agreed on by FUSE_INIT */

	struct fuse_session *session;
	struct work drop; /* of what it had in the window, with a pin */
};

struct fuse_session {
	struct fuse_conn conns[FUSE_CONNS];
	_Alignas(FUSE_CACHE_LINE) struct fuse_conn *_Atomic current;
	struct fs *fs;
	struct fuse_metrics *metrics;
	uint32_t max_write;
	struct window *window;	 /* NULL: none */
	struct workers *workers; /* with a window */
	pthread_mutex_t lock;	 /* INIT, DESTROY, reset */
	struct log_limit log_limit;
};

/* Which shard a request of this thread is counted in. */
unsigned fuse_thread_shard(void);

/* Counts a request into the live connection. NULL when there is none. */
struct fuse_conn *fuse_conn_enter(struct fuse_session *session, unsigned shard);
void fuse_conn_leave(struct fuse_conn *conn, unsigned shard);

/* Keeps the fs_session alive for a call from outside of its requests. False: it is not. */
bool fuse_conn_pin(struct fuse_conn *conn);
void fuse_conn_drop_hold(struct fuse_conn *conn);

/* Ends what waits in @conn, if it is alive. */
void fuse_conn_interrupt(struct fuse_conn *conn);

/* ---- Under session->lock ---- */

/* The fs_session is gone on return, or goes with the last request that is still in flight. */
void fuse_conn_retire(struct fuse_session *session);

/* With no live connection. Returns 0 or -errno. */
int fuse_conn_create(struct fuse_session *session, const struct fs_negotiated *negotiated);

/* Empties the window of the live connection, which waits for the front end and the storage. */
void fuse_conn_drop_window(struct fuse_session *session);

/* The same when the front end is gone: what there is to save is saved later. */
void fuse_conn_lose_window(struct fuse_session *session);

#endif
