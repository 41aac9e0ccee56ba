/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that are changed in place (caps.write_range): those of a directory, behind filefs.
 *
 * A commit there makes no new object. It is a few WRITEs of what is dirty, as exactly as it was
 * written: write.c keeps one dirty range of each block without gaps, and has the file committed
 * before a block would need two. So bytes that no guest wrote are never written, and two hosts may
 * change different records of one file.
 *
 * The file of the cache stays the same whatever becomes of the file on the host. Its version (time
 * of the data, of the inode, and size: what the service calls etag) is compared when the file is
 * opened, when it has expired, and with each WRITE, which says what it found. When that is not
 * what we left, somebody else changed the file: what is clean is dropped. What is dirty stays, and
 * will be written over his: files have no conditional write, the last writer wins.
 *
 * Everything but plain reads and writes (truncation, appending, direct I/O, ...), and all writes
 * when there is no write-back, is done on the host's file itself, in a section between
 * cache_bypass_begin() and cache_bypass_end(): what was dirty is written before, and what is
 * cached of the range is dropped behind it, fetches under way included. A section excludes commits
 * and other sections of that file, by file.committing, and neither reads nor writes into blocks:
 * these come before it or after it.
 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "cache/write.h"

/* Of one WRITE. */
#define BATCH_RANGES 256
#define BATCH_BYTES (8u << 20)

/* Waits, under the lock, until nobody commits @f, and is the one who does from then on. */
static void inplace_hold(struct cache_file *f)
{
	f->commit_waiters++;
	while (atomic_load_explicit(&f->committing, memory_order_relaxed))
		pthread_cond_wait(&f->changed, &f->lock);
	f->commit_waiters--;
	atomic_store_explicit(&f->committing, true, memory_order_release);
}

static void inplace_release(struct cache_file *f)
{
	atomic_store_explicit(&f->committing, false, memory_order_release);
	pthread_cond_broadcast(&f->changed);
	storage_room(f->storage);
}

/* ---- What somebody else, or a bypass, has changed. Under the lock ---- */

/* Drops what is cached of [@start, @end), but for what is dirty. Nothing is SEALED. */
static void inplace_drop(struct cache_file *f, uint64_t start, uint64_t end)
{
	const struct map_layout *layout = &f->storage->cache->layout;
	uint64_t offset = start;
	struct map_place place;

	if (start >= end)
		return;
	/* By regions: what fills one block does not always begin where that begins. */
	fetch_obsolete(f, file_region_floor(f, start),
		       end > UINT64_MAX - file_region(f) ? UINT64_MAX : end + file_region(f));
	while (map_next(layout, &f->map, offset, &place) != BLOCK_NONE && place.start < end) {
		struct block *b = file_block_find(f, MAX(place.start, offset), &place);

		offset = place.start + place.size;
		if (!b)
			continue;
		if (block_is(b, BLOCK_DIRTY))
			atomic_store_explicit(&b->valid, block_range(b->dirty_start, b->dirty_end),
					      memory_order_release);
		else if (block_is(b, BLOCK_FILLING)) /* what has arrived so far */
			atomic_store_explicit(&b->valid, 0, memory_order_release);
		if (block_is(b, BLOCK_DIRTY | BLOCK_FILLING)) /* what fills it, drops it */
			block_unpin(b);
		else
			file_block_drop(f, b);
	}
}

/* Where the last dirty byte ends. */
static uint64_t inplace_dirty_end(struct cache_file *f)
{
	const struct map_layout *layout = &f->storage->cache->layout;
	uint64_t offset = 0, end = 0;
	struct map_place place;
	block_id id;

	if (f->dirty_blocks == 0)
		return 0;
	while ((id = map_next(layout, &f->map, offset, &place)) != BLOCK_NONE) {
		const struct block *b = pool_block(file_pool(f), id);

		offset = place.start + place.size;
		if (block_is(b, BLOCK_DIRTY))
			end = place.start + b->dirty_end;
	}
	return end;
}

/* The file is @meta now. */
static void inplace_set(struct cache_file *f, const struct store_meta *meta)
{
	table_set_base(f, meta);
	atomic_store_explicit(&f->size, MAX(meta->size, inplace_dirty_end(f)),
			      memory_order_release);
	atomic_store_explicit(&f->base_limit, meta->size, memory_order_release);
	if (f->dirty_blocks == 0)
		f->mtime_ns = meta->mtime_ns;
}

/* It is not what we left. */
static void inplace_replace(struct cache_file *f, const struct store_meta *meta)
{
	log_debug("file_changed", "key=\"%s\" version=%s found=%s", f->key, f->base.etag,
		  meta->etag);
	inplace_drop(f, 0, UINT64_MAX);
	inplace_set(f, meta);
	f->version = atomic_fetch_add_explicit(&f->storage->version, 1, memory_order_relaxed) + 1;
}

void inplace_found(struct cache_file *f, const char *etag, const struct store_meta *meta)
{
	/* A commit looks for itself; and after one, @meta is of before. */
	if (atomic_load_explicit(&f->committing, memory_order_relaxed) ||
	    strcmp(f->base.etag, etag) != 0 || !strcmp(f->base.etag, meta->etag))
		return;
	inplace_replace(f, meta);
}

bool cache_file_dirty(const struct cache_file *f)
{
	return atomic_load_explicit(&f->dirty, memory_order_acquire);
}

bool cache_file_seen(struct cache_file *f, const struct store_meta *meta, uint64_t seen_ns,
		     bool wait)
{
	bool seen = true;

	pthread_mutex_lock(&f->lock);
	f->commit_waiters++;
	while (wait && atomic_load_explicit(&f->committing, memory_order_relaxed))
		pthread_cond_wait(&f->changed, &f->lock);
	f->commit_waiters--;
	if (atomic_load_explicit(&f->validated_ns, memory_order_relaxed) > seen_ns) {
		/* We know it, as it was later. */
	} else if (atomic_load_explicit(&f->committing, memory_order_relaxed)) {
		seen = false;
	} else {
		if (strcmp(f->base.etag, meta->etag) != 0)
			inplace_replace(f, meta);
		atomic_store_explicit(&f->validated_ns, seen_ns, memory_order_relaxed);
	}
	pthread_mutex_unlock(&f->lock);
	return seen;
}

/* ---- Bypass ---- */

int cache_bypass_begin(struct cache_file *f)
{
	int ret = 0;

	pthread_mutex_lock(&f->lock);
	inplace_hold(f);
	if (f->write_seq > f->committed_seq)
		ret = inplace_commit(f);
	if (ret < 0) {
		ret = commit_failed(f, ret, false);
		inplace_release(f);
	}
	pthread_mutex_unlock(&f->lock);
	return ret;
}

void cache_bypass_end(struct cache_file *f, const struct store_meta *former,
		      const struct store_meta *meta, uint64_t start, uint64_t end)
{
	static const struct store_meta unknown;
	bool foreign;

	pthread_mutex_lock(&f->lock);
	foreign = !former || !meta || strcmp(f->base.etag, former->etag) != 0;
	if (!meta)
		meta = former ? former : &unknown;
	if (foreign)
		inplace_replace(f, meta);
	else
		inplace_drop(f, start, end);
	inplace_set(f, meta);
	atomic_store_explicit(&f->validated_ns, loop_now_ns(), memory_order_relaxed);
	inplace_release(f);
	pthread_mutex_unlock(&f->lock);
}

/* ---- Commit ---- */

/* A WRITE has succeeded; its blocks are still held. */
static void inplace_written(struct cache_file *f, const struct store_op *op, struct gather *g)
{
	bool foreign = strcmp(op->former, f->base.etag) != 0;
	uint64_t limit = atomic_load_explicit(&f->base_limit, memory_order_relaxed);

	/* Before the blocks may go: where none is, nobody may see a hole. */
	if (limit < op->meta.size)
		atomic_store_explicit(&f->base_limit, op->meta.size, memory_order_release);
	gather_release(f, g, GATHER_CLEAN);
	storage_room(f->storage);
	if (foreign)
		inplace_replace(f, &op->meta);
	else
		table_set_base(f, &op->meta);
}

/* The dirty ranges from *@offset on, as many as one WRITE takes. 1: there was nothing. */
static int inplace_batch(struct cache_file *f, uint64_t *offset)
{
	struct store_range range[BATCH_RANGES];
	struct store_op op = { .opcode = STORE_WRITE, .key = f->key, .ranges = range };
	struct gather g = { 0 };
	int ret = gather_dirty(f, &g, offset, BATCH_BYTES, range, BATCH_RANGES, &op.range_count);

	if (ret == 0 && op.range_count == 0)
		ret = 1;
	if (ret == 0) {
		op.data = iov_cursor(g.iov, g.segments);
		op.set_user_mtime = file_caps(f)->user_mtime;
		op.user_mtime_ns = f->mtime_ns;
		ret = commit_call(f, &op, true);
		if (ret == 0)
			inplace_written(f, &op, &g);
		else
			gather_release(f, &g, GATHER_KEEP);
	}
	gather_free(&g);
	return ret;
}

int inplace_commit(struct cache_file *f)
{
	struct store_meta meta;
	struct commit_done done = { .meta = &meta, .seq = f->write_seq };
	uint64_t offset = 0;
	int ret;

	do {
		ret = inplace_batch(f, &offset);
	} while (ret == 0);
	if (ret < 0)
		return ret;
	if (f->dirty_blocks == 0)
		done.seq = f->write_seq;
	meta = f->base;
	done.size = meta.size;
	commit_settle(f, &done);
	if (f->dirty_blocks == 0)
		inplace_set(f, &meta);
	return 0;
}
