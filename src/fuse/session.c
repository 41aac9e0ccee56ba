/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who answers a request: this layer, the driver, the window, or nobody. Which connection it belongs
 * to, and when that ends, is conn.c's business.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/util.h"
#include "fuse/conn.h"

/* What is the window's to offer, not the driver's. */
#define FUSE_FLAGS_WINDOW ((uint64_t)FUSE_MAP_ALIGNMENT | FUSE_HAS_INODE_DAX)

/* How often the end of a session looks whether the workers are done with it. */
#define FUSE_FREE_POLL_US 500

struct log_limit *fuse_session_log_limit(struct fuse_session *session)
{
	return &session->log_limit;
}

/* ---- requests ---- */

/* Of all sessions; UINT64_MAX: none is slow. */
static _Atomic uint64_t slow_ns = UINT64_MAX;

/* The request and its storage are gone after this. @result: 0, a count, or -errno. */
static void fuse_req_end(struct fuse_req *r, size_t written, ssize_t result)
{
	uint32_t opcode = atomic_load_explicit(&r->label.opcode, memory_order_relaxed);
	uint64_t latency_ns = loop_now_ns() - r->begun_ns;
	struct fuse_session *session = r->session;
	fuse_done_fn *done = r->done;
	void *arg = r->arg;

	fuse_metrics_add(session->metrics, r->op->name ? opcode : 0, result, latency_ns);
	if (unlikely(latency_ns >= atomic_load_explicit(&slow_ns, memory_order_relaxed)) &&
	    !r->op->waits)
		fuse_log_slow(r, result, latency_ns);
	/* Counted out first: once done() has been called for every request, the
	 * session may be reset or freed. */
	if (r->conn)
		fuse_conn_leave(r->conn, r->shard);
	done(arg, written);
}

static void fuse_req_complete(struct fs_req *req, ssize_t result)
{
	struct fuse_req *r = container_of(req, struct fuse_req, req);
	struct window *window = r->session->window;
	size_t written;

	if (unlikely(window && window_has_copies(window)))
		window_after(window, r->conn, req, r->body, result, r->copies_begun);
	written = fuse_reply_result(r, result);
	/* Nothing, to be remembered for a while: to those who count it is absent. */
	if (result == 0 && req->opcode == FUSE_LOOKUP && req->out.entry.nodeid == 0)
		result = -ENOENT;
	fuse_req_end(r, written, result);
}

static void fuse_req_reject(struct fuse_req *r, int err)
{
	/* A name that is too long is the guest's user; the rest its kernel. */
	log_limited(&r->session->log_limit, err == -EINVAL ? LOG_LEVEL_WARN : LOG_LEVEL_DEBUG,
		    "fuse_request_malformed", "op=%s opcode=%u unique=%llu error=%d",
		    r->op->name ? r->op->name : "unknown", r->req.opcode,
		    (unsigned long long)r->req.unique, -err);
	fuse_req_end(r, fuse_reply_error(r, err), err);
}

static void fuse_op_init(struct fuse_req *r)
{
	struct fuse_session *session = r->session;
	struct fs_negotiated negotiated;
	struct fuse_init_in in = { .major = 0 };
	/* flags2 and what follows came with 7.36. */
	size_t size = MIN(MAX(r->left, offsetof(struct fuse_init_in, flags2)), sizeof(in));
	struct fuse_init_out out;
	enum fuse_init_outcome outcome;
	uint64_t driver_flags;
	int err = 0;

	if (fuse_decode_struct(r, &in, size) ||
	    fuse_reply_room(r, sizeof(struct fuse_out_header) + sizeof(out)) <
		    sizeof(struct fuse_out_header) + sizeof(out)) {
		fuse_req_reject(r, -EINVAL);
		return;
	}
	driver_flags = session->fs->ops->init_flags(session->fs) & ~FUSE_FLAGS_WINDOW;
	if (session->window && window_ready(session->window))
		driver_flags |= FUSE_FLAGS_WINDOW;
	outcome = fuse_init_negotiate(&in, driver_flags, session->max_write, &out, &negotiated);
	pthread_mutex_lock(&session->lock);
	fuse_conn_drop_window(session);
	fuse_conn_retire(session);
	if (outcome == FUSE_INIT_AGREED)
		err = fuse_conn_create(session, &negotiated);
	else if (outcome == FUSE_INIT_TOO_OLD)
		err = -EPROTO;
	pthread_mutex_unlock(&session->lock);

	log_limited(&session->log_limit, err ? LOG_LEVEL_WARN : LOG_LEVEL_INFO, "fuse_init",
		    "guest=%u.%u guest_flags=0x%08x%08x ours=%u.%u flags=0x%08x%08x "
		    "max_write=%u max_pages=%u error=%d",
		    in.major, in.minor, in.flags & FUSE_INIT_EXT ? in.flags2 : 0, in.flags,
		    out.major, out.minor, out.flags2, out.flags, out.max_write, out.max_pages,
		    -err);
	fuse_req_end(r, err ? fuse_reply_error(r, err) : fuse_reply_struct(r, &out, sizeof(out)),
		     err);
}

static void fuse_destroy_synced(struct fs_req *req, ssize_t result)
{
	struct fuse_req *r = container_of(req, struct fuse_req, req);
	struct fuse_session *session = r->session;

	pthread_mutex_lock(&session->lock);
	/* Another INIT may have come, and made another one. */
	if (atomic_load_explicit(&session->current, memory_order_relaxed) == r->conn)
		fuse_conn_retire(session);
	pthread_mutex_unlock(&session->lock);
	result = MIN(result, (ssize_t)0);
	fuse_req_end(r, fuse_reply_error(r, (int)result), result);
}

static void fuse_op_destroy(struct fuse_req *r)
{
	if (r->session->window) {
		pthread_mutex_lock(&r->session->lock);
		fuse_conn_drop_window(r->session);
		pthread_mutex_unlock(&r->session->lock);
	}
	if (r->session->fs->ops->sync_at_unmount) {
		r->shard = fuse_thread_shard();
		r->conn = fuse_conn_enter(r->session, r->shard);
	}
	if (r->conn) {
		r->req.opcode = FUSE_SYNCFS;
		r->req.nodeid = FUSE_ROOT_ID;
		r->req.in.syncfs = (struct fuse_syncfs_in){ 0 };
		r->req.complete = fuse_destroy_synced;
		fs_submit(r->conn->fs_session, &r->req);
		return;
	}
	pthread_mutex_lock(&r->session->lock);
	fuse_conn_retire(r->session);
	pthread_mutex_unlock(&r->session->lock);
	fuse_req_end(r, fuse_reply_error(r, 0), 0);
}

static void fuse_op_interrupt(struct fuse_req *r)
{
	struct fuse_interrupt_in in;
	struct fs_session *fs_session;

	if (fuse_decode_struct(r, &in, sizeof(in))) {
		fuse_req_reject(r, -EINVAL);
		return;
	}
	r->shard = fuse_thread_shard();
	r->conn = fuse_conn_enter(r->session, r->shard);
	/* 0 is no request's, and means all of them to the driver. */
	if (r->conn && in.unique) {
		fs_session = r->conn->fs_session;
		fs_session->fs->ops->session_interrupt(fs_session, in.unique);
	}
	fuse_req_end(r, 0, 0);
}

/* ---- requests that have to do with the window; on a worker ---- */

static ssize_t fuse_op_removemapping(struct fuse_req *r)
{
	struct fuse_removemapping_one one;
	ssize_t result = 0;

	for (uint32_t i = 0; i < r->req.in.removemapping.count; i++) {
		int err;

		iov_read(&r->req.data, &one, sizeof(one));
		err = window_remove(r->session->window, r->conn, r->req.nodeid, &one);
		if (result == 0)
			result = err;
	}
	return result;
}

static void fuse_window_refresh_run(struct work *work)
{
	struct fs_req *req = fs_req_resume(work);
	struct fuse_req *r = container_of(req, struct fuse_req, req);

	window_refresh(r->session->window, r->conn, req->nodeid);
	fs_req_complete(req, 0);
}

/* The driver may have answered on a thread that must not block. */
static void fuse_window_opened(struct fs_req *req, ssize_t result)
{
	req->complete = fuse_req_complete;
	if (result < 0)
		req->complete(req, result);
	else
		fs_req_defer(req, container_of(req, struct fuse_req, req)->session->workers,
			     fuse_window_refresh_run);
}

static void fuse_window_run(struct work *work)
{
	struct fs_req *req = fs_req_resume(work);
	struct fuse_req *r = container_of(req, struct fuse_req, req);
	ssize_t result;

	if (req->opcode == FUSE_SETUPMAPPING) {
		result = window_setup(r->session->window, r->conn, r->conn->fs_session, req->nodeid,
				      &req->in.setupmapping);
	} else if (req->opcode == FUSE_REMOVEMAPPING) {
		result = fuse_op_removemapping(r);
	} else {
		result = window_before(r->session->window, r->conn, req, &r->copies_begun);
		if (result == 0) {
			if (req->opcode == FUSE_OPEN)
				req->complete = fuse_window_opened;
			span_detach(&req->span);
			fs_submit(r->conn->fs_session, req);
			return;
		}
	}
	fs_req_complete(req, result);
}

/* Hands @r over, if it is for the window or a copy in it has to know of it. */
static bool fuse_req_windowed(struct fuse_req *r)
{
	struct window *window = r->session->window;

	r->copies_begun = 0;
	if (r->op->handler != FUSE_HANDLER_WINDOW &&
	    (!window_has_copies(window) || !window_concerns(window, r->conn, &r->req)))
		return false;
	fs_req_defer(&r->req, r->session->workers, fuse_window_run);
	return true;
}

static void fuse_req_submit(struct fuse_req *r)
{
	unsigned shard = fuse_thread_shard();
	struct fuse_conn *conn = fuse_conn_enter(r->session, shard);
	bool waits = r->op->waits;
	int err;

	if (unlikely(!conn)) {
		fuse_req_end(r, fuse_reply_error(r, -EIO), -EIO);
		return;
	}
	r->conn = conn;
	r->shard = shard;
	if (unlikely(r->op->handler == FUSE_HANDLER_WINDOW &&
		     !(conn->flags & FUSE_MAP_ALIGNMENT))) {
		fuse_req_end(r, fuse_reply_error(r, -ENOSYS), -ENOSYS);
		return;
	}
	err = fuse_decode_body(r, conn->flags);
	if (unlikely(err)) {
		fuse_req_reject(r, err);
		return;
	}
	r->req.complete = fuse_req_complete;
	if (unlikely(r->session->window) && fuse_req_windowed(r))
		return;
	fs_submit(conn->fs_session, &r->req);
	/* @r may be gone, @conn be another: see conn.c. */
	if (unlikely(waits) &&
	    atomic_load_explicit(&conn->shards[shard].count, memory_order_seq_cst) &
		    FUSE_SHARD_CLOSED)
		fuse_conn_interrupt(conn);
}

static void fuse_req_own(struct fuse_req *r)
{
	switch (r->req.opcode) {
	case FUSE_INIT:
		fuse_op_init(r);
		break;
	case FUSE_DESTROY:
		fuse_op_destroy(r);
		break;
	case FUSE_INTERRUPT:
		fuse_op_interrupt(r);
		break;
	}
}

static void fuse_req_own_run(struct work *work)
{
	struct fs_req *req = fs_req_resume(work);

	fuse_req_own(container_of(req, struct fuse_req, req));
}

/* Lets who looks at requests under way know which one this is. */
static void fuse_req_label(struct fuse_req *r, uint64_t begun_ns)
{
	struct fuse_label *label = &r->label;

	span_begin(&r->req.span, begun_ns);
	atomic_store_explicit(&label->opcode, r->req.opcode, memory_order_relaxed);
	atomic_store_explicit(&label->unique, r->req.unique, memory_order_relaxed);
	atomic_store_explicit(&label->nodeid, r->req.nodeid, memory_order_relaxed);
	atomic_store_explicit(&label->reported, false, memory_order_relaxed);
	atomic_store_explicit(&label->begun_ns, begun_ns, memory_order_release);
}

void fuse_session_request(struct fuse_session *session, void *storage, uint64_t begun_ns,
			  const struct iovec *in, size_t in_count, const struct iovec *out,
			  size_t out_count, fuse_done_fn *done, void *arg)
{
	const size_t header = sizeof(struct fuse_out_header);
	struct fuse_req *r = storage;
	int err;

	r->session = session;
	r->conn = NULL;
	r->begun_ns = begun_ns;
	r->out = out;
	r->out_count = out_count;
	r->done = done;
	r->arg = arg;
	r->req.name = NULL;
	r->req.newname = NULL;
	r->req.nodeid_tag = 0;
	err = fuse_decode_header(r, in, in_count);
	fuse_req_label(r, begun_ns);
	if (unlikely(err ||
		     (r->op->reply != FUSE_REPLY_NONE && fuse_reply_room(r, header) < header))) {
		fuse_req_reject(r, err ? err : -EINVAL);
		return;
	}
	switch ((enum fuse_handler)r->op->handler) {
	case FUSE_HANDLER_DRIVER:
	case FUSE_HANDLER_WINDOW:
		fuse_req_submit(r);
		break;
	case FUSE_HANDLER_SESSION:
		/* These empty the window first, which waits. */
		if (session->window && r->req.opcode != FUSE_INTERRUPT)
			fs_req_defer(&r->req, session->workers, fuse_req_own_run);
		else
			fuse_req_own(r);
		break;
	case FUSE_HANDLER_NONE:
		fuse_req_end(r, fuse_reply_error(r, -r->op->refusal), -r->op->refusal);
		break;
	}
}

size_t fuse_request_size(void)
{
	return (sizeof(struct fuse_req) + 15) & ~(size_t)15;
}

/* ---- the session ---- */

struct fuse_session *fuse_session_new(struct fs *fs, uint32_t max_write)
{
	struct fuse_session *session = aligned_alloc(FUSE_CACHE_LINE, sizeof(*session));

	if (!session)
		return NULL;
	memset(session, 0, sizeof(*session));
	session->fs = fs;
	session->max_write = max_write;
	/* A connection that never was is like one whose last request is gone. */
	for (unsigned i = 0; i < FUSE_CONNS; i++) {
		for (unsigned j = 0; j < FUSE_SHARDS; j++)
			atomic_init(&session->conns[i].shards[j].count, FUSE_SHARD_CLOSED);
	}
	session->metrics = fuse_metrics_new();
	if (!session->metrics || pthread_mutex_init(&session->lock, NULL)) {
		fuse_metrics_free(session->metrics);
		free(session);
		return NULL;
	}
	return session;
}

int fuse_session_set_window(struct fuse_session *session, const struct fuse_window_config *config,
			    struct workers *workers)
{
	if (!session->fs->ops->window)
		return 0;
	session->window = window_new(config);
	session->workers = workers;
	return session->window ? 0 : -ENOMEM;
}

void fuse_session_save_window(struct fuse_session *session)
{
	bool pinned[FUSE_CONNS];

	if (!session->window)
		return;
	/* A worker may be dropping what a guest has left behind: then the last to hold a copy,
	 * who closes its file, may be this thread. */
	for (unsigned i = 0; i < FUSE_CONNS; i++)
		pinned[i] = fuse_conn_pin(&session->conns[i]);
	window_save(session->window);
	for (unsigned i = 0; i < FUSE_CONNS; i++) {
		if (pinned[i])
			fuse_conn_drop_hold(&session->conns[i]);
	}
}

void fuse_session_reset(struct fuse_session *session)
{
	pthread_mutex_lock(&session->lock);
	fuse_conn_lose_window(session);
	fuse_conn_retire(session);
	pthread_mutex_unlock(&session->lock);
}

bool fuse_session_idle(const struct fuse_session *session)
{
	for (unsigned i = 0; i < FUSE_CONNS; i++) {
		if (atomic_load_explicit(&session->conns[i].busy, memory_order_acquire))
			return false;
	}
	return true;
}

void fuse_session_free(struct fuse_session *session)
{
	fuse_session_reset(session);
	/* Workers may be busy with what was in the window. */
	while (!fuse_session_idle(session))
		usleep(FUSE_FREE_POLL_US);
	window_free(session->window);
	pthread_mutex_destroy(&session->lock);
	fuse_metrics_free(session->metrics);
	free(session);
}

void fuse_session_interrupt(struct fuse_session *session)
{
	for (unsigned i = 0; i < FUSE_CONNS; i++)
		fuse_conn_interrupt(&session->conns[i]);
}

bool fuse_session_describe(struct fuse_session *session, uint64_t nodeid, fs_tell_fn *tell,
			   void *arg)
{
	struct fuse_conn *conn = atomic_load_explicit(&session->current, memory_order_acquire);
	const struct fs_ops *ops;
	bool known;

	if (!conn || !fuse_conn_pin(conn))
		return false;
	ops = conn->fs_session->fs->ops;
	known = ops->describe && ops->describe(conn->fs_session, nodeid, tell, arg);
	fuse_conn_drop_hold(conn);
	return known;
}

bool fuse_session_metrics(const struct fuse_session *session, uint32_t opcode,
			  struct fuse_opcode_metrics *out)
{
	return fuse_metrics_read(session->metrics, opcode, out);
}

void fuse_set_slow(uint64_t ns)
{
	atomic_store_explicit(&slow_ns, ns ? ns : UINT64_MAX, memory_order_relaxed);
}
