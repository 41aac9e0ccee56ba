/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changing the size of a file.
 *
 * Upwards it is a number: what lies beyond the base and in no block is zero. Downwards the blocks
 * behind go, the one that is cut keeps what is before the cut, and the base shows no further
 * than that, for ever: growing again shows zeros.
 *
 * Neither a commit nor a fetch may be under way behind the cut, as these have blocks in
 * use, so that shrinking waits for both.
 */
#include <errno.h>
#include <time.h>

#include "base/loop.h"
#include "base/util.h"
#include "cache/write.h"

/* Waits, under the lock, until @f is not being committed. */
static int truncate_wait(struct cache_file *f)
{
	uint64_t deadline = loop_now_ns() + f->storage->config.wait_timeout_ns;
	struct timespec ts = {
		.tv_sec = (time_t)(deadline / 1000000000),
		.tv_nsec = (long)(deadline % 1000000000),
	};
	int ret = 0;

	f->commit_waiters++;
	while (atomic_load_explicit(&f->committing, memory_order_relaxed) && ret == 0)
		ret = pthread_cond_timedwait(&f->changed, &f->lock, &ts);
	f->commit_waiters--;
	return atomic_load_explicit(&f->committing, memory_order_relaxed) ? -ETIMEDOUT : 0;
}

/* Cuts what @b, which stays, has at @at of it and beyond. */
static void block_cut(struct cache_file *f, struct block *b, uint32_t at)
{
	uint64_t valid = atomic_load_explicit(&b->valid, memory_order_relaxed);
	uint32_t start = MIN(block_range_start(valid), at);
	uint32_t end = MIN(block_range_end(valid), at);

	atomic_store_explicit(&b->valid, start < end ? block_range(start, end) : 0,
			      memory_order_release);
	if (!block_is(b, BLOCK_DIRTY))
		return;
	if (b->dirty_start >= at)
		block_make_clean(f, b);
	else
		b->dirty_end = MIN(b->dirty_end, at);
}

static void truncate_blocks(struct cache_file *f, uint64_t size)
{
	struct map_layout *layout = &f->storage->cache->layout;
	uint64_t offset = size;
	struct map_place place;

	while (map_next(layout, &f->map, offset, &place) != BLOCK_NONE) {
		uint64_t start = place.start;
		struct block *b = file_block_find(f, MAX(start, offset), &place);

		offset = start + place.size;
		if (!b)
			continue;
		if (place.start < size) {
			block_cut(f, b, (uint32_t)(size - place.start));
			block_unpin(b);
		} else {
			block_make_clean(f, b);
			file_block_drop(f, b);
		}
	}
}

/* Under the lock. -EBUSY: only after a commit. */
static int truncate_down(struct cache_file *f, uint64_t size)
{
	int ret;

	do {
		ret = truncate_wait(f);
		if (ret < 0)
			return ret;
		fetch_settle(f, file_region_floor(f, size));
	} while (atomic_load_explicit(&f->committing, memory_order_relaxed));
	if (file_is(f, FILE_REPLACED))
		return -ESTALE;
	if (f->upload && !upload_cut(f, size))
		return -EBUSY;
	if (atomic_load_explicit(&f->base_limit, memory_order_relaxed) > size)
		atomic_store_explicit(&f->base_limit, size, memory_order_release);
	atomic_store_explicit(&f->size, size, memory_order_release);
	truncate_blocks(f, size);
	f->write_end = MIN(f->write_end, size);
	f->write_start = MIN(f->write_start, f->write_end);
	storage_room(f->storage);
	return 0;
}

/* After -EBUSY, with the lock dropped: 0 when it may be different now. */
static int truncate_await(struct cache_file *f, uint64_t deadline)
{
	/* No commit comes while its object is being deleted, but an end of that. */
	if (file_is(f, FILE_UNLINKED))
		return storage_room_wait(f->storage, deadline) ? 0 : -ETIMEDOUT;
	return cache_commit(f);
}

int cache_truncate(struct cache_file *f, uint64_t size)
{
	uint64_t deadline = loop_now_ns() + f->storage->config.wait_timeout_ns;
	uint64_t old;
	int ret = 0;

	if (size > storage_size_max(f->storage))
		return -EFBIG;
	pthread_mutex_lock(&f->lock);
	do {
		old = atomic_load_explicit(&f->size, memory_order_relaxed);
		if (file_is(f, FILE_REPLACED)) {
			ret = -ESTALE;
		} else if (size < old) {
			ret = truncate_down(f, size);
		} else if (size > old && !file_may_have_hole(f, size)) {
			ret = -EFBIG;
		} else {
			atomic_store_explicit(&f->size, size, memory_order_release);
			ret = 0;
		}
		if (ret == -EBUSY) {
			pthread_mutex_unlock(&f->lock);
			ret = truncate_await(f, deadline);
			pthread_mutex_lock(&f->lock);
			ret = ret < 0 ? ret : -EBUSY;
		}
	} while (ret == -EBUSY);
	if (ret == 0 && size != old)
		file_changed(f);
	pthread_mutex_unlock(&f->lock);
	return ret;
}

int cache_extend(struct cache_file *f, uint64_t size)
{
	int ret = 0;

	if (size > storage_size_max(f->storage))
		return -EFBIG;
	pthread_mutex_lock(&f->lock);
	if (file_is(f, FILE_REPLACED)) {
		ret = -ESTALE;
	} else if (size > atomic_load_explicit(&f->size, memory_order_relaxed)) {
		if (file_may_have_hole(f, size)) {
			atomic_store_explicit(&f->size, size, memory_order_release);
			file_changed(f);
		} else {
			ret = -EFBIG;
		}
	}
	pthread_mutex_unlock(&f->lock);
	return ret;
}
