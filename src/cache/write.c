/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing into blocks.
 *
 * A write has two steps under one hold of the lock: first every block that it touches is found,
 * made or copied so that it can take the bytes, then all bytes are copied. So a write that
 * cannot be done at once has changed nothing, appends are atomic, and of two writes to
 * the same place one is wholly the last.
 *
 * Of each block one range is valid (block.h). A write next to or into it extends it. One that
 * is apart from it leaves a gap: beyond the base the gap is zeros, else it has to be
 * fetched first, on a worker. So a block never keeps a list of pieces, and a sequential
 * writer never waits for anything.
 *
 * A block that is being sent (SEALED) keeps its bytes until the commit ends: the write goes into
 * a copy, which takes its place in the map.
 *
 * Where a commit writes into the file itself (inplace.c), what is dirty of a block has no gaps,
 * either: a write that would leave one has the file committed first.
 *
 * Dirty memory is bounded by config.dirty_percent of the pool; without write-back, that of a
 * stream by the parts that it has in flight. Beyond that nothing that is clean may become
 * dirty; who wants it waits for the cleaner, or the stream. Files that were removed while somebody
 * has them open have a share of their own (life.c), for which nobody can wait.
 *
 * A hole costs no memory, but has to be sent as zeros by a commit: 5 TiB are written in a moment
 * that take days to send. So the bytes between the base and the end of a hole are bounded, by
 * config.sparse_max.
 */
#include "cache/write.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/loop.h"
#include "base/util.h"

/* Blocks of a write that need no allocation: 1 MiB in the smallest blocks of SMALL. */
#define WRITE_PIECES 72

/* The largest object of S3. */
#define SIZE_MAX_OBJECT (5ull << 40)

/* Writes of several queues arrive a little out of order: so far they are one stream. Or so many
 * requests, when they are large. */
#define RUN_SLACK (4ull << 20)
#define RUN_REQUESTS 32u

struct write_piece {
	struct block *block; /* pinned */
	struct map_place place;
	uint32_t from, to; /* of the block */
};

struct write_plan {
	struct write_piece *piece; /* local, or allocated */
	unsigned count, room;
	uint64_t fetch_start, fetch_end; /* -EAGAIN for these bytes; empty: for memory, */
	bool commit;			 /* or for a commit; */
	bool starved;			 /* there is no block for it, */
	uint64_t starved_at;		 /* that is, there */
	struct write_piece local[WRITE_PIECES];
};

uint64_t storage_size_max(const struct cache_storage *s)
{
	const struct store_caps *caps = store_caps(s->config.store);
	uint64_t max = caps->put_max;

	if (caps->sessions && caps->part_max <= SIZE_MAX_OBJECT / caps->parts_max)
		max = MAX(max, caps->part_max * caps->parts_max);
	else if (caps->sessions)
		max = SIZE_MAX_OBJECT;
	return MIN(max, SIZE_MAX_OBJECT);
}

/* ---- Accounting ---- */

void block_make_dirty(struct cache_file *f, struct block *b, const struct map_place *place,
		      uint32_t from, uint32_t to)
{
	atomic_fetch_add_explicit(&b->generation, 1, memory_order_release);
	if (block_is(b, BLOCK_DIRTY)) {
		b->dirty_start = MIN(b->dirty_start, from);
		b->dirty_end = MAX(b->dirty_end, to);
		return;
	}
	b->dirty_start = from;
	b->dirty_end = to;
	block_set(b, BLOCK_DIRTY);
	f->dirty_blocks++;
	file_count_dirty(f, place->size);
}

void block_make_clean(struct cache_file *f, struct block *b)
{
	if (!block_is(b, BLOCK_DIRTY))
		return;
	block_clear(b, BLOCK_DIRTY);
	b->dirty_start = b->dirty_end = 0;
	f->dirty_blocks--;
	file_count_dirty(f, -(int64_t)pool_class_size(file_pool(f), b->class));
}

void file_changed(struct cache_file *f)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	f->mtime_ns = now.tv_sec * 1000000000ll + now.tv_nsec;
	f->mtime_set = false;
	f->attr_dirty = false;
	f->write_seq++;
	f->write_ns = loop_now_ns();
	/* What was removed is written for its holders only. */
	if (!file_is(f, FILE_UNLINKED))
		file_dirty_begin(f);
}

/* ---- Blocks that can take bytes ---- */

/* Puts a copy of @old, which is SEALED, in its place; pinned. @old's pin is given back. */
static struct block *block_copy(struct cache_file *f, struct block *old,
				const struct map_place *place)
{
	struct pool *pool = file_pool(f);
	struct block *b = file_block_get(f, place->class);
	uint64_t valid = atomic_load_explicit(&old->valid, memory_order_acquire);
	uint32_t start = block_range_start(valid), end = block_range_end(valid);
	uint32_t dirty = block_is(old, BLOCK_DIRTY) ? BLOCK_DIRTY : 0;

	if (!b)
		return NULL;
	b->file = f;
	b->region = place->region;
	b->slot = place->slot;
	b->fetch = NULL;
	b->dirty_start = old->dirty_start;
	b->dirty_end = old->dirty_end;
	atomic_store_explicit(&b->generation, 0, memory_order_relaxed);
	atomic_store_explicit(&b->valid, valid, memory_order_relaxed);
	memcpy((unsigned char *)pool_data(pool, b) + start,
	       (unsigned char *)pool_data(pool, old) + start, end - start);
	/* Being dirty goes over to it: that of @old is no longer counted. */
	atomic_fetch_add_explicit(&b->state, (1u | dirty) - BLOCK_FREE, memory_order_release);
	map_replace(&f->map, place, pool_block_id(pool, b));
	file_ref(f);
	pool_add(pool, b);
	block_unpin(old);
	return b;
}

/* Whether [@from, @to) written into @b leaves no gap in what is valid. */
static bool block_joins(const struct block *b, uint32_t from, uint32_t to)
{
	uint64_t valid = atomic_load_explicit(&b->valid, memory_order_relaxed);
	uint32_t start = block_range_start(valid), end = block_range_end(valid);

	return start == end || (from <= end && to >= start);
}

/* Whether [@from, @to) would leave a gap in what is dirty of @b, where there may be none. */
static bool block_splits(const struct cache_file *f, const struct block *b, uint32_t from,
			 uint32_t to)
{
	return file_in_place(f) && block_is(b, BLOCK_DIRTY) &&
	       (from > b->dirty_end || to < b->dirty_start);
}

/* The block at piece->place, when it can take the piece now; pinned. */
static int write_prepare_block(struct cache_file *f, struct write_piece *piece, struct block *b)
{
	if (block_is(b, BLOCK_FILLING)) {
		block_unpin(b);
		return -EINPROGRESS;
	}
	if (block_splits(f, b, piece->from, piece->to)) {
		block_unpin(b);
		return -EBUSY;
	}
	if (block_is(b, BLOCK_SEALED)) {
		struct block *copy = block_copy(f, b, &piece->place);

		if (!copy) {
			block_unpin(b);
			return -EAGAIN;
		}
		b = copy;
	}
	if (!block_joins(b, piece->from, piece->to)) {
		file_block_zero_tail(f, b, &piece->place);
		if (!block_joins(b, piece->from, piece->to)) {
			block_unpin(b);
			return -EINPROGRESS;
		}
	}
	piece->block = b;
	return 0;
}

/* Small and not near the end of the write before: 16 KiB are better than 2 MiB. */
static bool write_is_random(const struct cache_file *f, uint64_t offset, uint64_t length)
{
	uint64_t distance = offset > f->write_end ? offset - f->write_end : f->write_end - offset;

	return length < file_region(f) / 4 && distance > 4 * length;
}

/* Fills in @piece for what of [@offset, @end) is in one block. */
static int write_prepare(struct cache_file *f, struct write_piece *piece, uint64_t offset,
			 uint64_t end, bool random)
{
	struct map_layout *layout = &f->storage->cache->layout;
	struct map_place *place = &piece->place;
	struct block *b = file_block_find(f, offset, place);
	uint64_t size = atomic_load_explicit(&f->size, memory_order_relaxed);

	if (!b) {
		map_place(layout, file_shape(f, offset, MAX(size, end), random), offset, place);
		b = file_block_new(f, place);
		/* As fetch_place(). */
		if (!b && file_region_renew(f, offset)) {
			map_place(layout, MAP_SMALL, offset, place);
			b = file_block_new(f, place);
		}
	}
	piece->from = (uint32_t)(offset - place->start);
	piece->to = (uint32_t)MIN(end - place->start, (uint64_t)place->size);
	return b ? write_prepare_block(f, piece, b) : -EAGAIN;
}

static int write_plan_grow(struct write_plan *plan)
{
	unsigned room = plan->room * 2;
	struct write_piece *piece = calloc(room, sizeof(*piece));

	if (!piece)
		return -ENOMEM;
	memcpy(piece, plan->piece, plan->count * sizeof(*piece));
	if (plan->piece != plan->local)
		free(plan->piece);
	plan->piece = piece;
	plan->room = room;
	return 0;
}

static void write_plan_end(struct write_plan *plan)
{
	for (unsigned i = 0; i < plan->count; i++)
		block_unpin(plan->piece[i].block);
	plan->count = 0;
	if (plan->piece != plan->local)
		free(plan->piece);
}

bool file_may_have_hole(const struct cache_file *f, uint64_t end)
{
	uint64_t max = f->storage->config.sparse_max;
	uint64_t limit = atomic_load_explicit(&f->base_limit, memory_order_relaxed);

	/* What is dirty was written: it is no hole. Nor will a removed file be sent. */
	return !max || end <= limit || end - limit <= max + f->dirty_bytes ||
	       file_is(f, FILE_UNLINKED);
}

/* Whether no more may become dirty, for a write up to @end: -EAGAIN, for now. */
static int write_bounded(const struct cache_file *f, uint64_t end)
{
	struct cache_storage *s = f->storage;

	if (f->apart)
		return atomic_load_explicit(&s->apart_bytes, memory_order_relaxed) >= s->apart_max
			       ? -ENOSPC
			       : 0;
	if (upload_waits_for(f, end))
		return 0;
	return atomic_load_explicit(&s->dirty_bytes, memory_order_relaxed) >=
				       storage_dirty_max(s) ||
			       upload_is_behind(f)
		       ? -EAGAIN
		       : 0;
}

/* All blocks for [@offset, @end). */
static int write_plan(struct cache_file *f, struct write_plan *plan, uint64_t offset, uint64_t end)
{
	bool random = write_is_random(f, offset, end - offset), grows = false;

	plan->piece = plan->local;
	plan->room = WRITE_PIECES;
	plan->count = 0;
	plan->fetch_start = plan->fetch_end = 0;
	plan->commit = plan->starved = false;
	while (offset < end) {
		struct write_piece *piece;
		int ret = 0;

		if (plan->count == plan->room)
			ret = write_plan_grow(plan);
		if (ret < 0)
			return ret;
		piece = &plan->piece[plan->count];
		ret = write_prepare(f, piece, offset, end, random);
		if (ret == -EINPROGRESS) {
			plan->fetch_start = piece->place.start;
			plan->fetch_end = piece->place.start + piece->place.size;
			return -EAGAIN;
		}
		plan->commit = ret == -EBUSY;
		plan->starved = ret == -EAGAIN;
		plan->starved_at = offset;
		if (ret < 0)
			return plan->commit ? -EAGAIN : ret;
		plan->count++;
		grows |= !block_is(piece->block, BLOCK_DIRTY);
		offset = piece->place.start + piece->to;
	}
	return grows ? write_bounded(f, end) : 0;
}

/* ---- Writing ---- */

static void write_piece(struct cache_file *f, struct write_piece *piece, struct iov_cursor *src)
{
	struct block *b = piece->block;
	uint64_t valid = atomic_load_explicit(&b->valid, memory_order_relaxed);
	uint32_t start = piece->from, end = piece->to;

	iov_read(src, (unsigned char *)pool_data(file_pool(f), b) + start, end - start);
	if (block_range_start(valid) < block_range_end(valid)) {
		start = MIN(start, block_range_start(valid));
		end = MAX(end, block_range_end(valid));
	}
	atomic_store_explicit(&b->valid, block_range(start, end), memory_order_release);
	block_make_dirty(f, b, &piece->place, piece->from, piece->to);
	block_touch(b);
}

/* Is [@offset, @end) the next of the stream? Requests that are under way at one time overtake
 * each other: by a queue full of them. */
static void write_note_run(struct cache_file *f, uint64_t offset, uint64_t end)
{
	uint64_t early = MIN(RUN_REQUESTS * (end - offset), UPLOAD_RUN_SLACK);
	uint64_t late = MAX(early, RUN_SLACK);

	if (offset + early >= f->write_start && offset <= f->write_end + late) {
		f->write_start = MIN(f->write_start, offset);
		f->write_end = MAX(f->write_end, end);
		return;
	}
	f->write_start = offset;
	f->write_end = end;
}

/* 0, -EAGAIN with the reason in @plan, or another negative errno. Under the lock. */
static int write_locked(struct cache_file *f, struct write_plan *plan, uint64_t offset,
			size_t length, const struct iov_cursor *src, bool append)
{
	uint64_t size = atomic_load_explicit(&f->size, memory_order_relaxed);
	uint64_t max = storage_size_max(f->storage), end, run_end;
	struct iov_cursor from = *src;
	int ret;

	if (file_is(f, FILE_REPLACED))
		return -ESTALE;
	if (append)
		offset = size;
	if (length > max || offset > max - length)
		return -EFBIG;
	if (offset > size && !file_may_have_hole(f, offset))
		return -EFBIG;
	end = offset + length;
	ret = write_plan(f, plan, offset, end);
	if (ret == 0) {
		for (unsigned i = 0; i < plan->count; i++)
			write_piece(f, &plan->piece[i], &from);
		if (end > size)
			atomic_store_explicit(&f->size, end, memory_order_release);
		file_changed(f);
		run_end = f->write_end;
		write_note_run(f, offset, end);
		upload_poke(f, run_end);
	}
	write_plan_end(plan);
	return ret;
}

ssize_t cache_write(struct cache_file *f, uint64_t offset, size_t length,
		    const struct iov_cursor *src, bool append)
{
	struct write_plan plan;
	int ret;

	if (length == 0)
		return 0;
	pthread_mutex_lock(&f->lock);
	ret = write_locked(f, &plan, offset, length, src, append);
	pthread_mutex_unlock(&f->lock);
	if (ret == -EAGAIN && plan.fetch_start == plan.fetch_end && !plan.commit)
		cleaner_kick(f->storage, plan.starved);
	return ret < 0 ? ret : (ssize_t)length;
}

/* Nothing became free in time: because of what? Under the lock. */
static int write_timeout(const struct cache_file *f)
{
	return f->error ? f->error : -ETIMEDOUT;
}

/* What the plan itself had pinned stood in the way. True once: the region is in small blocks then.
 */
static bool write_renews(struct cache_file *f, uint64_t offset)
{
	return !map_region_is_empty(&f->storage->cache->layout, &f->map, offset) &&
	       file_region_renew(f, offset);
}

/* Waits for what @plan lacks, with the lock dropped: 0, or the error of what it waited for. */
static int write_await(struct cache_file *f, const struct write_plan *plan, uint64_t deadline)
{
	bool time_left = true;
	int ret = 0;

	if (plan->fetch_start < plan->fetch_end) {
		ret = fetch_wait(f, plan->fetch_start, plan->fetch_end, true);
		time_left = loop_now_ns() < deadline;
	} else if (plan->commit) {
		pthread_mutex_unlock(&f->lock);
		ret = cache_commit(f);
		pthread_mutex_lock(&f->lock);
	} else if (plan->starved && write_renews(f, plan->starved_at)) {
		return 0;
	} else {
		pthread_mutex_unlock(&f->lock);
		cleaner_kick(f->storage, plan->starved);
		time_left = storage_room_wait(f->storage, deadline);
		pthread_mutex_lock(&f->lock);
	}
	if (ret < 0 && ret != -EAGAIN)
		return ret;
	return time_left ? 0 : write_timeout(f);
}

ssize_t cache_write_wait(struct cache_file *f, uint64_t offset, size_t length,
			 const struct iov_cursor *src, bool append)
{
	uint64_t deadline = loop_now_ns() + f->storage->config.wait_timeout_ns;
	struct write_plan plan;
	int ret;

	if (length == 0)
		return 0;
	pthread_mutex_lock(&f->lock);
	while ((ret = write_locked(f, &plan, offset, length, src, append)) == -EAGAIN) {
		ret = write_await(f, &plan, deadline);
		if (ret < 0)
			break;
	}
	pthread_mutex_unlock(&f->lock);
	return ret < 0 ? ret : (ssize_t)length;
}

void cache_set_mtime(struct cache_file *f, int64_t mtime_ns)
{
	pthread_mutex_lock(&f->lock);
	f->mtime_ns = mtime_ns;
	if (store_caps(f->storage->config.store)->user_mtime &&
	    !file_is(f, FILE_UNLINKED | FILE_REPLACED)) {
		f->mtime_set = true;
		if (f->write_seq == f->committed_seq)
			f->attr_dirty = true;
		f->write_seq++;
		f->write_ns = loop_now_ns();
		file_dirty_begin(f);
	}
	pthread_mutex_unlock(&f->lock);
}
