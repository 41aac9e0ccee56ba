/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The object is not the version that a commit was for.
 *
 * Maybe that was us: an attempt whose answer was lost (doubt) may have been done all the same.
 * Each attempt has a name of its own, which is stored with the object where the service can do
 * that; so a STAT tells. It was: then that version is our base, on which everything that
 * is dirty still is to be put, and the commit begins anew.
 *
 * Else it is somebody else's. With CACHE_CONFLICT_OVERWRITE the commit is repeated without
 * condition. Otherwise his version stays, ours is given up, and whoever asks gets -ESTALE. With
 * write-back the writer may be gone and never ask: our version is kept then, under a key
 * beside it. Bytes of ours that are in memory are all in there; bytes of the former version that
 * are not, and parts of a stream that had been let go, are zeros, and counted in the log.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "cache/write.h"

#define CONFLICT_INFIX ".ovfs-conflict-"

static bool conflict_doubted(const struct cache_file *f)
{
	return f->doubt[0].write_id[0] != '\0';
}

/* Whether the object is what an attempt of ours made. */
static bool conflict_is_ours(const struct cache_file *f, const struct store_meta *meta)
{
	for (unsigned i = 0; i < ARRAY_SIZE(f->doubt); i++) {
		const char *write_id = f->doubt[i].write_id;

		if (!strcmp(write_id, CONFLICT_ATTR)) {
			if (meta->has_user_mtime && meta->user_mtime_ns == f->doubt[i].mtime_ns &&
			    meta->size == f->base.size && !strcmp(meta->write_id, f->base.write_id))
				return true;
		} else if (*write_id && !strcmp(write_id, meta->write_id)) {
			return true;
		}
	}
	return false;
}

/* The version that an attempt of ours made is the base from now on. What was in it is what we
 * have, but for what changed since, which is dirty still: base_limit holds. */
static void conflict_adopt(struct cache_file *f, const struct store_meta *meta)
{
	log_info("commit_recognised", "key=\"%s\"", f->key);
	if (upload_is(f, meta->write_id))
		upload_discard(f, false);
	table_set_base(f, meta);
	atomic_fetch_and_explicit(&f->flags, ~(uint32_t)FILE_CREATED, memory_order_release);
	memset(f->doubt, 0, sizeof(f->doubt));
}

static int conflict_stat(struct cache_file *f, struct store_meta *meta)
{
	struct store_op op = { .opcode = STORE_STAT, .key = f->key };
	int ret = commit_call(f, &op, false);

	*meta = op.meta;
	return ret;
}

int conflict_settle_doubt(struct cache_file *f)
{
	struct store_meta meta;
	int ret;

	if (!conflict_doubted(f))
		return 0;
	ret = conflict_stat(f, &meta);
	if (ret == 0 && conflict_is_ours(f, &meta))
		conflict_adopt(f, &meta);
	/* Anything else is for the condition of the next attempt to find. */
	return ret == -ENOENT ? 0 : ret;
}

/* ---- Our version, under another key ---- */

struct conflict_copy {
	struct cache_file *file;
	char key[STORE_KEY_MAX + 1];
	char write_id[STORE_WRITE_ID_MAX];
	char session[STORE_SESSION_MAX];
	struct store_part *part;
	uint32_t parts;
	uint64_t size, missing;
};

/* The next piece in one request: PUT, or a part. */
static int conflict_send(struct conflict_copy *c, struct store_op *op, uint64_t start, uint64_t end)
{
	struct gather g = { 0 };
	int ret = gather_range(c->file, &g, start, end, GATHER_ZEROS);

	if (ret == 0) {
		op->key = c->key;
		op->data = iov_cursor(g.iov, g.segments);
		op->length = end - start;
		ret = commit_call(c->file, op, false);
		c->missing += g.missing;
		gather_release(c->file, &g, GATHER_KEEP);
	}
	gather_free(&g);
	return ret;
}

static int conflict_put(struct conflict_copy *c)
{
	struct store_op op = { .opcode = STORE_PUT, .write_id = c->write_id };

	return conflict_send(c, &op, 0, c->size);
}

static int conflict_parts(struct conflict_copy *c)
{
	const struct cache_storage *s = c->file->storage;
	uint32_t room = store_caps(s->config.store)->parts_max;
	uint64_t offset = 0;

	c->part = calloc(room, sizeof(*c->part));
	if (!c->part)
		return -ENOMEM;
	while (offset < c->size) {
		struct store_part *part = &c->part[c->parts];
		uint64_t end = MIN(offset + upload_part_size(s, c->parts), c->size);
		struct store_op op = { .opcode = STORE_PART,
				       .session = c->session,
				       .part_number = ++c->parts };
		int ret = c->parts > room ? -EFBIG : conflict_send(c, &op, offset, end);

		if (ret < 0)
			return ret;
		part->number = c->parts;
		memcpy(part->etag, op.meta.etag, sizeof(part->etag));
		memcpy(part->checksum, op.checksum, sizeof(part->checksum));
		offset = end;
	}
	return 0;
}

static int conflict_session(struct conflict_copy *c)
{
	struct store_op op = { .opcode = STORE_BEGIN, .key = c->key, .write_id = c->write_id };
	int ret = commit_call(c->file, &op, false);

	if (ret < 0)
		return ret;
	memcpy(c->session, op.session_out, sizeof(c->session));
	ret = conflict_parts(c);
	op = (struct store_op){ .opcode = STORE_COMMIT,
				.key = c->key,
				.session = c->session,
				.write_id = c->write_id,
				.parts = c->part,
				.part_count = c->parts };
	if (ret == 0)
		ret = commit_call(c->file, &op, false);
	if (ret == -ENOENT)
		ret = -EIO; /* the session has gone; the name has not */
	if (ret < 0)
		leftover_abort(c->file->storage, c->key, c->session);
	free(c->part);
	return ret;
}

/* 0: kept, or there is nothing to keep, or no way. Under the lock. */
static int conflict_keep(struct cache_file *f)
{
	const struct store_caps *caps = store_caps(f->storage->config.store);
	struct conflict_copy c = { .file = f };
	int ret;

	store_write_id(c.write_id);
	c.size = atomic_load_explicit(&f->size, memory_order_relaxed);
	if (snprintf(c.key, sizeof(c.key), "%s%s%s", f->key, CONFLICT_INFIX, c.write_id) >=
	    (int)sizeof(c.key))
		ret = -ENAMETOOLONG;
	else if (!caps->sessions || c.size <= caps->part_min)
		ret = conflict_put(&c);
	else
		ret = conflict_session(&c);
	if (ret == 0)
		log_error("conflict_kept", "key=\"%s\" kept_as=\"%s\" size=%llu missing=%llu",
			  f->key, c.key, (unsigned long long)c.size, (unsigned long long)c.missing);
	if (ret == -ENAMETOOLONG || ret == -EFBIG) {
		log_error("conflict_lost", "key=\"%s\" size=%llu error=\"%s\"", f->key,
			  (unsigned long long)c.size, strerror(-ret));
		return 0;
	}
	return ret;
}

/* ---- What becomes of it ---- */

void conflict_give_up(struct cache_file *f, int error)
{
	atomic_fetch_or_explicit(&f->flags, FILE_REPLACED, memory_order_release);
	f->error = error;
	f->error_count++;
	upload_discard(f, true);
	table_remove(f);
	pthread_mutex_unlock(&f->lock);
	file_purge(f, true);
	pthread_mutex_lock(&f->lock);
	file_dirty_end(f);
	storage_room(f->storage);
}

int conflict_lost(struct cache_file *f)
{
	if (f->storage->config.write_back && f->dirty_blocks > 0) {
		int ret = conflict_keep(f);

		if (ret < 0)
			return ret; /* all of it again, later */
	}
	conflict_give_up(f, -ESTALE);
	return -ESTALE;
}

int conflict_resolve(struct cache_file *f, bool *conditional)
{
	struct store_meta meta;
	int ret = conflict_stat(f, &meta);

	if (ret == 0 && conflict_is_ours(f, &meta)) {
		conflict_adopt(f, &meta);
		return 0;
	}
	if (ret < 0 && ret != -ENOENT)
		return ret;
	if (ret == -ENOENT && file_is(f, FILE_CREATED))
		return 0; /* gone again */
	if (ret == 0 && !file_is(f, FILE_CREATED) && f->base.etag[0] &&
	    !strcmp(meta.etag, f->base.etag))
		return *conditional ? 0 : -EIO; /* it is as it was */
	if (f->storage->config.conflict == CACHE_CONFLICT_OVERWRITE && *conditional) {
		log_warn("conflict_overwritten", "key=\"%s\"", f->key);
		*conditional = false;
		return 0;
	}
	log_error("conflict", "key=\"%s\" base=%s found=%s", f->key,
		  f->base.etag[0] ? f->base.etag : "none", ret == 0 ? meta.etag : "none");
	return conflict_lost(f);
}
