/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Multipart uploads: one write session of a file, from BEGIN to COMMIT.
 *
 * A session is begun by a commit of a large file, or by a stream: a file that is written
 * sequentially sends its parts while it is written, in the background, so that its commit has
 * little left to do and it never takes more memory than a few parts. A stream that appends to an
 * existing object, or changes it from somewhere on, begins with copies of what lies before.
 *
 * The bytes that a stream has sent are in the session, which nobody can read from, and for a while
 * still in blocks, clean, which may be evicted. So:
 *
 *	a read that misses there has the file committed, and reads from the object;
 *	a write into a block that is there makes it dirty. At the commit its part is sent
 *		again under the same number, if all of it is still there; if not, the session
 *		is committed as it is, and the change by another one, that copies;
 *	a truncation drops the parts behind it; of the part that is cut, what remains
 *		becomes dirty again, if it is all there; if not, a commit comes first.
 *
 * Should a session vanish (a bucket's rule, an administrator), what was let go is lost; that is
 * the one way to lose acknowledged bytes, and the log says so. While anything is let go the
 * session is therefore kept through all other failures.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "cache/upload.h"

/* ---- Sessions ---- */

/* BEGIN; the lock is dropped meanwhile. */
static int upload_begin(struct cache_file *f)
{
	struct store_op op = { .opcode = STORE_BEGIN, .key = f->key };
	struct upload *u = calloc(1, sizeof(*u));
	int ret;

	if (!u)
		return -ENOMEM;
	store_write_id(u->write_id);
	u->set_mtime = f->mtime_set;
	u->mtime_ns = f->mtime_ns;
	op.write_id = u->write_id;
	op.set_user_mtime = u->set_mtime;
	op.user_mtime_ns = u->mtime_ns;
	ret = commit_properties(f, &op);
	if (ret == 0)
		ret = commit_call(f, &op, false);
	if (ret < 0) {
		free(u);
		return ret;
	}
	memcpy(u->session, op.session_out, sizeof(u->session));
	u->real_limit = atomic_load_explicit(&f->base_limit, memory_order_relaxed);
	f->upload = u;
	return 0;
}

void upload_discard(struct cache_file *f, bool abort)
{
	struct upload *u = f->upload;

	if (!u)
		return;
	f->upload = NULL;
	if (abort)
		leftover_abort(f->storage, f->key, u->session);
	free(u->part);
	free(u);
}

bool upload_is_behind(const struct cache_file *f)
{
	const struct storage_config *config = &f->storage->config;
	uint64_t front = f->upload ? f->upload->front : f->write_start;
	uint64_t part = upload_part_size(f->storage, f->upload ? f->upload->parts : 0);

	return !config->write_back && f->streaming && f->write_end > front &&
	       f->write_end - front > (config->parts_in_flight + 3ull) * part;
}

bool upload_let_go(const struct cache_file *f)
{
	const struct upload *u = f->upload;

	return u && u->parts > 0 && u->part[u->parts - 1].let_go;
}

bool upload_is_empty(const struct cache_file *f)
{
	return !f->upload || f->upload->parts == 0;
}

bool upload_is(const struct cache_file *f, const char *write_id)
{
	return f->upload && !strcmp(f->upload->write_id, write_id);
}

/* The first part that ends behind @offset. */
static uint32_t upload_find_part(const struct upload *u, uint64_t offset)
{
	uint32_t low = 0, high = u->parts;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (u->part[middle].start + u->part[middle].length > offset)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

bool upload_holds(struct cache_file *f, uint64_t start, uint64_t end)
{
	const struct upload *u = f->upload;

	if (!u || start >= u->front)
		return false;
	for (uint32_t i = upload_find_part(u, start); i < u->parts && u->part[i].start < end; i++) {
		if (u->part[i].let_go) {
			f->commit_wanted = true;
			cleaner_commit(f);
			return true;
		}
	}
	return false;
}

/* After a failure: only what was let go is worth keeping, and what lies before it. */
static void upload_settle_failure(struct cache_file *f)
{
	struct upload *u = f->upload;

	while (u->parts > 0 && !u->part[u->parts - 1].let_go)
		u->parts--;
	if (u->parts == 0) {
		upload_discard(f, true);
		return;
	}
	u->front = u->part[u->parts - 1].start + u->part[u->parts - 1].length;
}

/* The storage knows nothing of the session. -ENOENT: another one will do. */
static int upload_vanished(struct cache_file *f)
{
	if (!upload_let_go(f)) {
		upload_discard(f, false);
		return -ENOENT;
	}
	log_error("upload_lost", "key=\"%s\" session=\"%s\" bytes=%llu", f->key, f->upload->session,
		  (unsigned long long)f->upload->front);
	conflict_give_up(f, -EIO);
	return -EIO;
}

/* ---- The end of it ---- */

/* The time was set after the session began: by a COPY then, that is due. */
static bool upload_lacks_mtime(const struct cache_file *f, const struct upload *u)
{
	return f->mtime_set && !(u->set_mtime && u->mtime_ns == f->mtime_ns);
}

static int upload_commit_op(struct cache_file *f, struct store_op *op, bool conditional)
{
	struct upload *u = f->upload;
	struct store_part *parts = calloc(u->parts, sizeof(*parts));
	char etag[STORE_ETAG_MAX];
	int ret;

	if (!parts)
		return -ENOMEM;
	for (uint32_t i = 0; i < u->parts; i++)
		parts[i] = u->part[i].sent;
	*op = (struct store_op){ .opcode = STORE_COMMIT,
				 .key = f->key,
				 .session = u->session,
				 .write_id = u->write_id,
				 .set_user_mtime = u->set_mtime,
				 .user_mtime_ns = u->mtime_ns,
				 .parts = parts,
				 .part_count = u->parts };
	if (conditional)
		commit_condition(f, op, etag);
	ret = commit_call(f, op, true);
	commit_doubt(f, op, u->write_id);
	free(parts);
	return ret;
}

/* All parts are sent. */
static int upload_commit(struct cache_file *f, struct gather *kept,
			 const struct upload_result *result, uint64_t seq, bool conditional)
{
	struct upload *u = f->upload;
	struct store_op op;
	struct commit_done done = { .meta = &op.meta,
				    .size = result->size,
				    .set_mtime = u->set_mtime,
				    .mtime_ns = u->mtime_ns };
	char write_id[STORE_WRITE_ID_MAX];
	int ret = upload_commit_op(f, &op, conditional);

	/* Before the blocks may go: where none is, nobody may see a hole. */
	if (ret == 0)
		atomic_store_explicit(&f->base_limit, result->size, memory_order_release);
	gather_release(f, kept, ret == 0 ? GATHER_CLEAN : GATHER_KEEP);
	if (ret < 0)
		return ret;
	if (upload_lacks_mtime(f, u)) {
		f->attr_dirty = true;
		seq = 0;
	}
	done.seq = result->complete ? seq : 0;
	memcpy(write_id, u->write_id, sizeof(write_id));
	done.write_id = write_id;
	upload_discard(f, false);
	commit_settle(f, &done);
	return done.seq ? 0 : 1;
}

static int upload_try(struct cache_file *f, bool conditional)
{
	struct upload_result result;
	struct gather kept = { 0 };
	uint64_t seq;
	int ret = 0;

	if (!f->upload)
		ret = upload_begin(f);
	if (ret < 0)
		return ret;
	seq = f->write_seq;
	ret = upload_send_all(f, atomic_load_explicit(&f->size, memory_order_relaxed), &kept,
			      &result);
	if (ret == 0)
		ret = upload_commit(f, &kept, &result, seq, conditional);
	gather_release(f, &kept, GATHER_KEEP);
	gather_free(&kept);
	if (ret == -ENOENT)
		return upload_vanished(f);
	if (ret < 0 && f->upload)
		upload_settle_failure(f);
	return ret;
}

int upload_finish(struct cache_file *f, bool conditional)
{
	int ret;

	/* A time that is no longer that of the file would go with it. */
	if (f->upload && f->upload->set_mtime && !f->mtime_set && !upload_let_go(f))
		upload_discard(f, true);
	ret = upload_try(f, conditional);
	if (ret == -ENOENT && !f->upload)
		ret = upload_try(f, conditional);
	return ret;
}

bool upload_cut(struct cache_file *f, uint64_t size)
{
	struct upload *u = f->upload;
	struct gather rest = { 0 };
	uint32_t i = upload_find_part(u, size);
	uint64_t limit;

	if (size == 0 || u->parts == 0) {
		upload_discard(f, true);
		return true;
	}
	if (i == u->parts)
		return true;
	/* The part that is cut: dirty from now on, as if it had never been sent. */
	if (u->part[i].start < size && u->part[i].let_go) {
		int ret = gather_range(f, &rest, u->part[i].start, size, GATHER_FAIL);

		for (size_t k = 0; k < rest.count; k++) {
			struct map_place place;
			struct block *b = file_block_find(f, rest.held[k].offset, &place);
			uint32_t end = (uint32_t)MIN(size - place.start, (uint64_t)place.size);

			block_make_dirty(f, b, &place, 0, end);
			block_unpin(b);
		}
		gather_release(f, &rest, GATHER_KEEP);
		gather_free(&rest);
		if (ret < 0)
			return false;
	}
	u->front = u->part[i].start;
	u->parts = i;
	u->real_limit = MIN(u->real_limit, size);
	limit = MAX(u->real_limit, upload_let_go(f) ? u->front : 0);
	atomic_store_explicit(&f->base_limit, limit, memory_order_release);
	upload_settle_failure(f);
	return true;
}

/* ---- Streams ---- */

struct stream_job {
	struct work work;
	struct cache_file *file;
};

/* The copies that a stream from @start on begins with. */
static int stream_copy_head(struct cache_file *f, uint64_t start)
{
	struct upload_result result;
	struct gather none = { 0 };
	int ret = start ? upload_send_all(f, start, &none, &result) : 0;

	/* What lies before the stream is clean, else it would begin there; should it have
	 * been written meanwhile, that is found at the commit. */
	gather_release(f, &none, GATHER_KEEP);
	gather_free(&none);
	return ret;
}

static int stream_begin(struct cache_file *f)
{
	uint64_t start;
	int ret;

	if (!upload_stream_start(f, &start))
		return 0;
	ret = upload_begin(f);
	if (ret == 0)
		ret = stream_copy_head(f, start);
	/* Something was written there meanwhile, and cut it differently. */
	for (uint32_t i = 0; ret == 0 && f->upload && i < f->upload->parts; i++)
		if (f->upload->part[i].length < store_caps(f->storage->config.store)->part_min)
			upload_discard(f, true);
	return ret;
}

static void stream_failed(struct cache_file *f, int error)
{
	static struct log_limit limit;
	struct upload *u = f->upload;

	log_limited(&limit, LOG_LEVEL_WARN, "upload_failed", "key=\"%s\" error=\"%s\"", f->key,
		    strerror(-error));
	file_failed(f, error);
	if (u)
		upload_settle_failure(f);
}

static void stream_run(struct work *work)
{
	struct stream_job *job = container_of(work, struct stream_job, work);
	struct cache_file *f = job->file;
	struct cache_storage *s = f->storage;

	free(job);
	pthread_mutex_lock(&f->lock);
	if (!atomic_load_explicit(&f->committing, memory_order_relaxed) && !f->commit_waiters &&
	    !file_is(f, FILE_UNLINKED | FILE_REPLACED)) {
		int ret = 0;

		atomic_store_explicit(&f->committing, true, memory_order_release);
		if (!f->upload)
			ret = stream_begin(f);
		if (ret == 0 && f->upload)
			ret = upload_send_ready(f);
		if (ret < 0)
			stream_failed(f, ret);
		atomic_store_explicit(&f->committing, false, memory_order_release);
		pthread_cond_broadcast(&f->changed);
	}
	f->streaming = false;
	if (f->upload && !f->commit_waiters)
		upload_poke(f, f->write_start); /* there may be more */
	pthread_mutex_unlock(&f->lock);
	storage_room(s);
	file_put(f);
	storage_end(s);
}

void upload_poke(struct cache_file *f, uint64_t former_end)
{
	uint64_t part = upload_part_size(f->storage, 0), unused;
	struct stream_job *job;
	bool ready;

	if (f->streaming || file_is(f, FILE_UNLINKED) ||
	    atomic_load_explicit(&f->committing, memory_order_relaxed) ||
	    (f->failures && loop_now_ns() < file_retry_ns(f, true)))
		return;
	/* To find out whether to begin takes a look at all blocks: once for each part. */
	if (f->upload)
		ready = upload_stream_ready(f, f->upload->front, f->upload->parts, &unused);
	else
		ready = f->write_end - f->write_start >= part &&
			f->write_end / part != former_end / part && upload_stream_start(f, &unused);
	job = ready ? malloc(sizeof(*job)) : NULL;
	if (!job)
		return;
	f->streaming = true;
	job->file = file_ref(f);
	job->work.run = stream_run;
	storage_begin(f->storage);
	workers_submit(f->storage->config.workers, &job->work);
}
