/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a file with changes to an object.
 *
 * One thread at a time commits a file (file.committing); others who want the same wait, and go
 * home when what they wanted was in it. What that is, is a number: write_seq counts the
 * changes, committed_seq says up to which the storage has them all.
 *
 * There are three ways (and another for files that are changed in place: inplace.c):
 *
 *	PUT	small objects, whole, in one request
 *	session	large ones, by parts and copies (upload.c)
 *	COPY	onto itself, when nothing but the modification time changed
 *
 * Each makes a version of the object, on the condition that the storage still has the one that
 * is our base (or none). When that does not hold, conflict.c finds out whether it was
 * ourselves, in an attempt whose answer was lost.
 *
 * After a success the new version is the base: what is clean can be fetched from there.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/span.h"
#include "base/util.h"
#include "cache/fill.h"

#define NSEC_PER_SEC 1000000000ull

/* Between attempts in the background: doubling from the first to the last. */
#define BACKOFF_FIRST_NS (NSEC_PER_SEC / 4)
#define BACKOFF_SHIFT_MAX 8    /* about a minute */
#define BACKOFF_SHIFT_URGENT 2 /* a second */

/* Until one in the background is tried again, for which there was no memory. */
#define COMMIT_STARVED_NS (NSEC_PER_SEC / 20)

/* Attempts of one commit at objects that change under it. */
#define COMMIT_ATTEMPTS 8

int commit_call(struct cache_file *f, struct store_op *op, bool replaces)
{
	int ret;

	f->replacing = replaces;
	pthread_mutex_unlock(&f->lock);
	ret = store_call(f->storage->config.store, op);
	pthread_mutex_lock(&f->lock);
	f->replacing = false;
	return ret;
}

void commit_condition(struct cache_file *f, struct store_op *op, char etag[static STORE_ETAG_MAX])
{
	const struct store_caps *caps = file_caps(f);

	op->if_match = NULL;
	op->if_absent = false;
	if (atomic_load_explicit(&f->storage->unconditional, memory_order_relaxed))
		return;
	if (file_is(f, FILE_CREATED)) {
		op->if_absent = caps->if_absent;
	} else if (caps->write_if_match) {
		memcpy(etag, f->base.etag, STORE_ETAG_MAX);
		op->if_match = etag;
	}
}

int commit_properties(struct cache_file *f, struct store_op *op)
{
	char text[STORE_PROPERTIES_MAX];
	struct store_properties p = { .text = text, .room = sizeof(text) };
	struct store_op stat = { .opcode = STORE_STAT, .key = f->key, .properties_out = &p };

	if (!f->properties_known && file_caps(f)->properties) {
		int ret = commit_call(f, &stat, false);

		if (ret == 0)
			file_set_properties(f, stat.meta.etag, &p);
		else if (ret != -ENOENT)
			return ret;
		/* Another version, or none: the condition of the write will find that. */
	}
	if (f->properties.len)
		op->properties = &f->properties;
	return 0;
}

/* Whether a write that has ended may have been done without our knowing. */
static bool commit_is_doubtful(const struct store_op *op)
{
	/* -EAGAIN holds for all attempts, any other refusal only for the last one. */
	if (op->result == 0 || op->result == -EAGAIN)
		return false;
	return op->attempts > 1 || op->result == -EIO || op->result == -ETIMEDOUT ||
	       op->result == -ECANCELED;
}

void commit_doubt(struct cache_file *f, const struct store_op *op, const char *write_id)
{
	if (!commit_is_doubtful(op))
		return;
	f->doubt[1] = f->doubt[0];
	memset(&f->doubt[0], 0, sizeof(f->doubt[0]));
	memcpy(f->doubt[0].write_id, write_id, strnlen(write_id, sizeof(f->doubt[0].write_id) - 1));
	f->doubt[0].mtime_ns = op->user_mtime_ns;
}

/* What the service said, and what it did not say. */
static void commit_new_base(struct cache_file *f, const struct commit_done *done)
{
	struct store_meta meta = *done->meta;

	meta.size = done->size;
	if (meta.mtime_ns == 0) {
		struct timespec now;

		clock_gettime(CLOCK_REALTIME, &now);
		meta.mtime_ns = now.tv_sec * 1000000000ll + now.tv_nsec;
	}
	meta.has_user_mtime = done->set_mtime;
	meta.user_mtime_ns = done->set_mtime ? done->mtime_ns : 0;
	memset(meta.write_id, 0, sizeof(meta.write_id));
	if (done->write_id)
		memcpy(meta.write_id, done->write_id, sizeof(meta.write_id));
	/* In this order: who sees the new version believes that it is current. */
	atomic_store_explicit(&f->validated_ns, loop_now_ns(), memory_order_relaxed);
	table_set_base(f, &meta);
	atomic_store_explicit(&f->base_limit, done->size, memory_order_release);
	atomic_fetch_and_explicit(&f->flags, ~(uint32_t)FILE_CREATED, memory_order_release);
}

void commit_settle(struct cache_file *f, const struct commit_done *done)
{
	struct cache_storage *s = f->storage;

	commit_new_base(f, done);
	if (done->seq > f->committed_seq)
		f->committed_seq = done->seq;
	f->failures = 0;
	f->error = 0;
	memset(f->doubt, 0, sizeof(f->doubt));
	if (f->committed_seq == f->write_seq) {
		/* mtime_ns stays what it was: the time of the last write. A commit later on does
		 * not change a file, as make(1) sees it. */
		f->attr_dirty = false;
		file_dirty_end(f);
	} else {
		f->dirty_since_ns = loop_now_ns();
	}
	atomic_fetch_add_explicit(&s->count.commits, 1, memory_order_relaxed);
	storage_room(s);
}

/* ---- PUT ---- */

static bool commit_is_small(const struct cache_file *f)
{
	const struct store_caps *caps = file_caps(f);
	uint64_t size = atomic_load_explicit(&f->size, memory_order_relaxed);
	uint64_t small = 2ull * f->storage->config.part_size;

	if (!caps->sessions)
		return true;
	/* All of it is in memory at once. */
	small = MIN(MAX(small, caps->part_min), MAX(caps->part_min, f->storage->dirty_max / 2));
	return size <= MIN(small, caps->put_max);
}

static int commit_put(struct cache_file *f, bool conditional)
{
	char write_id[STORE_WRITE_ID_MAX], etag[STORE_ETAG_MAX];
	struct store_op op = { .opcode = STORE_PUT };
	struct commit_done done = { .meta = &op.meta, .write_id = write_id };
	struct gather g = { 0 };
	struct fill fill = { .whole = true };
	int ret;

	upload_discard(f, true);
	if (atomic_load_explicit(&f->size, memory_order_relaxed) > file_caps(f)->put_max)
		return -EFBIG;
	ret = commit_properties(f, &op);
	if (ret < 0)
		return ret;
	done.size = atomic_load_explicit(&f->size, memory_order_relaxed);
	ret = gather_range(f, &g, 0, done.size, GATHER_FAIL);
	if (ret == -ENODATA)
		ret = fill_gather(f, &fill, &g, 0, &done.size, !f->background);
	if (ret == 0) {
		done.seq = f->write_seq;
		done.set_mtime = file_caps(f)->user_mtime;
		done.mtime_ns = f->mtime_ns;
		store_write_id(write_id);
		op.key = f->key;
		op.write_id = write_id;
		op.set_user_mtime = done.set_mtime;
		op.user_mtime_ns = done.mtime_ns;
		op.data = iov_cursor(g.iov, g.segments);
		op.length = done.size;
		if (conditional)
			commit_condition(f, &op, etag);
		ret = commit_call(f, &op, true);
		commit_doubt(f, &op, write_id);
		/* Before the blocks may go: where none is, nobody may see a hole. */
		if (ret == 0)
			atomic_store_explicit(&f->base_limit, done.size, memory_order_release);
		gather_release(f, &g, ret == 0 ? GATHER_CLEAN : GATHER_KEEP);
		if (ret == 0)
			commit_settle(f, &done);
	}
	gather_free(&g);
	fill_end(f, &fill);
	return ret;
}

/* ---- The modification time alone ---- */

static bool commit_is_attr(const struct cache_file *f)
{
	const struct store_caps *caps = file_caps(f);

	return f->attr_dirty && f->dirty_blocks == 0 && !f->upload && !file_is(f, FILE_CREATED) &&
	       caps->copy && f->base.size <= caps->copy_max && f->base.etag[0] &&
	       f->base.size == atomic_load_explicit(&f->size, memory_order_relaxed) &&
	       f->base.size == atomic_load_explicit(&f->base_limit, memory_order_relaxed);
}

static int commit_attr(struct cache_file *f)
{
	const bool known = f->properties_known && !f->properties.cut && file_caps(f)->write_id;
	char etag[STORE_ETAG_MAX], write_id[STORE_WRITE_ID_MAX];
	struct store_op op = { .opcode = STORE_COPY };
	struct commit_done done = { .meta = &op.meta,
				    .size = f->base.size,
				    .seq = f->write_seq,
				    .set_mtime = true,
				    .mtime_ns = f->mtime_ns,
				    .write_id = write_id };
	int ret;

	memcpy(etag, f->base.etag, sizeof(etag));
	if (known) {
		store_write_id(write_id);
		op.write_id = write_id;
		op.properties = &f->properties;
	} else {
		/* The service looks them up, and the copy has this, too. */
		memcpy(write_id, f->base.write_id, sizeof(write_id));
	}
	op.key = op.source_key = f->key;
	op.source_if_match = etag;
	op.set_user_mtime = true;
	op.user_mtime_ns = f->mtime_ns;
	ret = commit_call(f, &op, true);
	if (ret == -ENOENT)
		ret = -ESTALE;
	commit_doubt(f, &op, known ? write_id : CONFLICT_ATTR);
	if (ret == 0)
		commit_settle(f, &done);
	return ret;
}

/* ---- A commit ---- */

/*
 * The service said that it does not do such a thing: that will have been the condition. From then
 * on the last writer wins (the log has it from the service); but it was something else, when it
 * says so of a write without a condition.
 */
static bool commit_unconditionally(struct cache_file *f, int result)
{
	bool before;

	if (result != -EOPNOTSUPP)
		return false;
	before = atomic_exchange(&f->storage->unconditional, true);
	if (before)
		atomic_store(&f->storage->unconditional, false);
	return !before;
}

/* One version more. 1: what remains takes another. */
static int commit_round(struct cache_file *f)
{
	bool conditional = true, by_parts = false;
	int ret;

	if (file_in_place(f))
		return inplace_commit(f);
	ret = conflict_settle_doubt(f);
	for (unsigned i = 0; i < COMMIT_ATTEMPTS && ret == 0; i++) {
		if (commit_is_attr(f))
			ret = commit_attr(f);
		else if (upload_is_empty(f) && commit_is_small(f) && !by_parts)
			ret = commit_put(f, conditional);
		else
			ret = upload_finish(f, conditional);
		if (ret == -EMSGSIZE && !by_parts) {
			/* There is no memory for all of it at once, but for a part. */
			by_parts = true;
			ret = 0;
			continue;
		}
		if (commit_unconditionally(f, ret)) {
			ret = 0;
			continue;
		}
		if (ret != -ESTALE && ret != -EEXIST)
			return ret;
		ret = conflict_resolve(f, &conditional);
	}
	return ret == 0 ? -EIO : ret; /* it changes faster than we look */
}

void file_failed(struct cache_file *f, int error)
{
	f->failure = error;
	f->failures++;
	f->failed_ns = loop_now_ns();
}

uint64_t file_retry_ns(const struct cache_file *f, bool urgent)
{
	unsigned max = urgent ? BACKOFF_SHIFT_URGENT : BACKOFF_SHIFT_MAX;

	if (f->failures == 0)
		return 0;
	return f->failed_ns + (BACKOFF_FIRST_NS << MIN(f->failures - 1, max));
}

/* What a guest is told; the log has the error itself. */
static int commit_errno(int error)
{
	switch (error) {
	case -EACCES:
	case -EDQUOT:
	case -EFBIG:
	case -ENAMETOOLONG:
	case -ENOMEM:
	case -ENOSPC:
	case -ESTALE:
	case -ETIMEDOUT:
		return error;
	default:
		return -EIO;
	}
}

int commit_failed(struct cache_file *f, int error, bool background)
{
	static struct log_limit limit;

	file_failed(f, error);
	if (background) {
		f->error = commit_errno(error);
		f->error_count++;
	}
	atomic_fetch_add_explicit(&f->storage->count.commit_failures, 1, memory_order_relaxed);
	log_limited(&limit, LOG_LEVEL_WARN, "commit_failed",
		    "key=\"%s\" error=\"%s\" failures=%u retry_ms=%llu", f->key, strerror(-error),
		    f->failures,
		    (unsigned long long)((file_retry_ns(f, false) - f->failed_ns) / 1000000));
	return commit_errno(error);
}

/* Becomes the one who commits, or finds that there is nothing to do (false). Under the lock. */
static bool commit_begin(struct cache_file *f, uint64_t want, int *result)
{
	bool committing;

	for (;;) {
		*result = 0;
		if (file_is(f, FILE_UNLINKED) || f->committed_seq >= want)
			return false;
		committing = atomic_load_explicit(&f->committing, memory_order_relaxed);
		if (file_is(f, FILE_REPLACED) &&
		    (committing || !atomic_load_explicit(&f->dirty, memory_order_relaxed))) {
			*result = f->error ? f->error : -ESTALE;
			return false;
		}
		if (!committing)
			break;
		f->commit_waiters++;
		pthread_cond_wait(&f->changed, &f->lock);
		f->commit_waiters--;
	}
	atomic_store_explicit(&f->committing, true, memory_order_release);
	return true;
}

static int commit_file(struct cache_file *f, bool background)
{
	uint64_t want;
	int ret;

	pthread_mutex_lock(&f->lock);
	want = f->write_seq;
	if (commit_begin(f, want, &ret)) {
		f->background = background;
		/* The write was under way when a lookup found another version. */
		if (file_is(f, FILE_REPLACED))
			ret = conflict_lost(f);
		while (ret >= 0 && f->committed_seq < want &&
		       !file_is(f, FILE_UNLINKED | FILE_REPLACED))
			ret = commit_round(f);
		f->commit_wanted = false;
		if (ret == -ENOBUFS && background)
			f->starved_ns = loop_now_ns() + COMMIT_STARVED_NS;
		else if (ret < 0 && !file_is(f, FILE_UNLINKED) &&
			 atomic_load_explicit(&f->dirty, memory_order_relaxed))
			commit_failed(f, ret, background);
		ret = ret < 0 ? commit_errno(ret) : 0;
		atomic_store_explicit(&f->committing, false, memory_order_release);
		pthread_cond_broadcast(&f->changed);
		storage_room(f->storage);
	}
	pthread_mutex_unlock(&f->lock);
	return ret;
}

int cache_commit(struct cache_file *f)
{
	enum span_place before = span_mark(SPAN_STORAGE);
	int ret = commit_file(f, false);

	span_mark(before);
	return ret;
}

int cache_commit_background(struct cache_file *f)
{
	return commit_file(f, true);
}
