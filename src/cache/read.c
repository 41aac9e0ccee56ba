/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading, and the blocks of a file.
 *
 * A hit is: map_find(), block_pin(), map_holds(), block_covers(), copy, block_unpin(); no lock,
 * no allocation. Blocks are copied out as they come; at the first byte that is missing the lock
 * is taken, a fetch begun or found under way, and the request parked there with what it
 * has got so far. The fetch wakes it, on the transfer loop, and it goes on from there. That
 * all bytes of one read are of one version follows from the file being one line of versions.
 */
#include <errno.h>
#include <string.h>

#include "base/loop.h"
#include "base/span.h"
#include "base/util.h"
#include "cache/readahead.h"
#include "cache/write.h"

/* See read_dense(): blocks that a region has, bytes of a GET, and of the largest file, in parts
 * of what may be fetched ahead of a reader: half of the pool at most. */
#define DENSE_BLOCKS 2u
#define DENSE_BYTES (1u << 20)
#define DENSE_FILE_MAX 4u

/* read_ahead_max() */
#define AHEAD_NEAR (64ull << 20)
#define AHEAD_NEAR_NS 25000000ull

static struct storage_hits *hits_of_thread(struct cache_storage *s)
{
	static _Atomic unsigned threads;
	static _Thread_local unsigned mine;

	if (!mine)
		mine = atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) + 1;
	return &s->hits[mine % STORAGE_HIT_SHARDS];
}

/* ---- Blocks ---- */

struct block *file_block_find(struct cache_file *f, uint64_t offset, struct map_place *place)
{
	struct pool *pool = file_pool(f);
	struct block *b;
	block_id id;

	for (;;) {
		id = map_find(&f->storage->cache->layout, &f->map, offset, place);
		if (id == BLOCK_NONE)
			return NULL;
		b = pool_block(pool, id);
		if (!block_pin(b)) {
			/* On its way out, or already another file's. */
			if (map_holds(&f->map, place, id))
				return NULL;
			continue;
		}
		if (map_holds(&f->map, place, id))
			return b;
		block_unpin(b);
	}
}

/* The file whose lock this thread has while it has blocks evicted, for file_evict(). */
static _Thread_local const struct cache_file *evicting_for;

struct block *file_block_get(struct cache_file *f, unsigned class)
{
	struct block *b;

	evicting_for = f;
	b = pool_get(file_pool(f), class, &f->storage->owner);
	evicting_for = NULL;
	return b;
}

struct block *file_block_new(struct cache_file *f, const struct map_place *place)
{
	struct pool *pool = file_pool(f);
	struct block *b = file_block_get(f, place->class);

	if (!b)
		return NULL;
	b->file = f;
	b->region = place->region;
	b->slot = place->slot;
	b->fetch = NULL;
	b->dirty_start = b->dirty_end = 0;
	atomic_store_explicit(&b->generation, 0, memory_order_relaxed);
	atomic_store_explicit(&b->valid, 0, memory_order_relaxed);
	/* Pinned and no longer FREE, in one step. */
	atomic_fetch_add_explicit(&b->state, 1u - BLOCK_FREE, memory_order_release);
	if (map_insert(&f->storage->cache->layout, &f->map, place, pool_block_id(pool, b)) < 0) {
		atomic_fetch_add_explicit(&b->state, BLOCK_FREE - 1u, memory_order_acq_rel);
		pool_put(pool, b, &f->storage->owner);
		return NULL;
	}
	file_ref(f);
	pool_add(pool, b);
	return b;
}

uint32_t file_base_in(const struct cache_file *f, const struct map_place *place)
{
	uint64_t limit = atomic_load_explicit(&f->base_limit, memory_order_acquire);

	if (limit <= place->start)
		return 0;
	return (uint32_t)MIN(limit - place->start, (uint64_t)place->size);
}

void file_block_zero_tail(struct cache_file *f, struct block *b, const struct map_place *place)
{
	uint64_t valid = atomic_load_explicit(&b->valid, memory_order_relaxed);
	uint32_t start = block_range_start(valid), end = block_range_end(valid);
	uint32_t base = file_base_in(f, place);
	unsigned char *data = pool_data(file_pool(f), b);

	/* Also while SEALED: what is not valid is not being sent. */
	if (end < base)
		return;
	if (end < place->size) {
		memset(data + end, 0, place->size - end);
		end = place->size;
	}
	if (start > 0 && base == 0) {
		memset(data, 0, start);
		start = 0;
	}
	atomic_store_explicit(&b->valid, block_range(start, end), memory_order_release);
}

void file_block_drop(struct cache_file *f, struct block *b)
{
	struct pool *pool = file_pool(f);
	uint32_t region = b->region;
	bool empty;

	map_remove(&f->map, b, pool_block_id(pool, b), &empty);
	if (empty)
		map_reclaim(&f->storage->cache->layout, &f->map, region);
	if (!block_unpin_evict(b))
		return; /* the evictor's, when nobody has it pinned any more */
	pool_put(pool, b, &f->storage->owner);
	file_put(f);
}

void file_purge(struct cache_file *f, bool dirty)
{
	struct map_layout *layout = &f->storage->cache->layout;
	struct map_place place;
	uint64_t offset = 0;

	pthread_mutex_lock(&f->lock);
	while (map_next(layout, &f->map, offset, &place) != BLOCK_NONE) {
		struct block *b = file_block_find(f, place.start, &place);

		offset = place.start + place.size;
		if (!b)
			continue;
		/* Also of what stays until it is filled: nobody else would see to that. */
		if (dirty && !block_is(b, BLOCK_SEALED))
			block_make_clean(f, b);
		if (block_is(b, BLOCK_FILLING | BLOCK_SEALED | BLOCK_DIRTY))
			block_unpin(b); /* the evictor's, later */
		else
			file_block_drop(f, b);
	}
	pthread_mutex_unlock(&f->lock);
}

/* How long it is believed that larger blocks are not to be had. */
#define SCARCE_NS 1000000000ull

enum map_shape file_shape(struct cache_file *f, uint64_t offset, uint64_t size, bool random)
{
	const struct map_layout *layout = &f->storage->cache->layout;
	enum map_shape shape = map_choose(layout, &f->map, offset, size, random);

	if (shape == MAP_GROW && f->scarce_ns && loop_now_ns() < f->scarce_ns + SCARCE_NS &&
	    map_region_is_empty(layout, &f->map, offset))
		return MAP_SMALL;
	return shape;
}

bool file_region_renew(struct cache_file *f, uint64_t offset)
{
	const struct map_layout *layout = &f->storage->cache->layout;
	uint64_t start = file_region_floor(f, offset), end = start + file_region(f), at;
	struct map_place place;
	block_id id;

	f->scarce_ns = loop_now_ns();
	if (map_region_is_empty(layout, &f->map, offset))
		return true;
	if (map_small_blocks(layout, &f->map, offset) > 0)
		return false;
	for (at = start;
	     (id = map_next(layout, &f->map, at, &place)) != BLOCK_NONE && place.start < end;
	     at = place.start + place.size)
		if (block_is(pool_block(file_pool(f), id), ~BLOCK_HOT))
			return false;
	for (at = start;
	     map_next(layout, &f->map, at, &place) != BLOCK_NONE && place.start < end;) {
		struct block *b = file_block_find(f, place.start, &place);

		at = place.start + place.size;
		/* Nobody but us has it: a write has pinned what it is about to change. */
		if (b && (atomic_load_explicit(&b->state, memory_order_acquire) & ~BLOCK_HOT) == 1)
			file_block_drop(f, b);
		else if (b)
			block_unpin(b);
	}
	return map_region_is_empty(layout, &f->map, offset);
}

struct pool_owner *file_evict(void *arg, struct block *b)
{
	struct cache *cache = arg;
	struct pool_owner *owner;
	struct cache_file *f;
	bool empty;

	if (!block_try_evict(b))
		return NULL;
	f = b->file;
	owner = &f->storage->owner;
	map_remove(&f->map, b, pool_block_id(cache->pool, b), &empty);
	if (empty && f == evicting_for) {
		map_reclaim(&cache->layout, &f->map, b->region);
	} else if (empty && pthread_mutex_trylock(&f->lock) == 0) {
		map_reclaim(&cache->layout, &f->map, b->region);
		pthread_mutex_unlock(&f->lock);
	} else if (empty) {
		map_reclaim_missed(&f->map);
	}
	file_put(f);
	return owner;
}

/* ---- Reading ---- */

/* Copies what is there, and says whether that was all. */
static bool read_step(struct cache_file *f, struct cache_wait *w, bool random, uint64_t *hits)
{
	struct pool *pool = file_pool(f);

	while (w->length > 0) {
		struct map_place place;
		struct block *b = file_block_find(f, w->offset, &place);
		uint32_t from = (uint32_t)(w->offset - place.start);
		size_t n = (size_t)MIN(w->length, (uint64_t)(place.size - from));

		if (b) {
			if (!block_covers(b, from, from + (uint32_t)n)) {
				block_unpin(b);
				return false;
			}
			iov_write(&w->cursor, (unsigned char *)pool_data(pool, b) + from, n);
			/* Who reads a block from end to end in pieces has hit it once. */
			if (random || from + n == place.size)
				block_touch(b);
			block_unpin(b);
			(*hits)++;
		} else {
			uint64_t limit = atomic_load_explicit(&f->base_limit, memory_order_acquire);

			if (limit > w->offset)
				return false;
			iov_zero(&w->cursor, n);
		}
		w->copied += n;
		w->offset += n;
		w->length -= n;
	}
	return true;
}

/* On a worker: memory is short. */
static void read_starved(struct work *work)
{
	struct cache_wait *w = container_of(work, struct cache_wait, work);

	if (!storage_room_wait(w->file->storage, w->deadline_ns))
		w->wake(w, -ETIMEDOUT);
	else
		w->wake(w, 0);
}

/*
 * What to fetch at @offset, [*start, *end), for a reader at random places: false, or more than
 * asked.
 *
 * A place that nobody comes back to should cost no more than it needs, for the next one is
 * somewhere else in the object. A reader who keeps coming back to a region would be better off with
 * all of it, in one GET. What he will do nobody knows, but what it costs: with a service 10 to 30
 * ms away that gives 90 MB/s on a connection, or one on this host that takes half a millisecond for
 * a GET, a GET is worth half a MiB or more. So when two GETs went to a region the third takes what
 * lies around it, too: at worst twice is paid what would have been the least (the rule of the hired
 * skis).
 *
 * Only what stays in the cache until it is read is worth it: so not in files that are large beside
 * the memory there is for things nobody has asked for, which shrinks when such things are evicted
 * unread.
 */
static bool read_dense(struct cache_file *f, uint64_t offset, uint64_t *start, uint64_t *end)
{
	const struct map_layout *layout = &f->storage->cache->layout;
	uint64_t size = atomic_load_explicit(&f->size, memory_order_relaxed);
	uint64_t first = offset & ~(DENSE_BYTES - 1ull);
	struct map_place place;

	if (size > DENSE_FILE_MAX * pool_ahead_max(file_pool(f)) ||
	    !atomic_load_explicit(&f->storage->config.read_ahead_max, memory_order_relaxed) ||
	    map_small_blocks(layout, &f->map, offset) < DENSE_BLOCKS)
		return false;
	/* The gap between the blocks that are there, so that it is one GET. */
	*end = MIN(first + DENSE_BYTES, file_region_floor(f, offset) + file_region(f));
	if (map_next(layout, &f->map, offset, &place) != BLOCK_NONE)
		*end = MIN(*end, place.start);
	*start = offset;
	for (uint64_t at = offset; at >= first; at = place.start - 1) {
		if (map_find(layout, &f->map, at, &place) != BLOCK_NONE)
			break;
		*start = MAX(place.start, first);
		if (place.start == 0)
			break;
	}
	return true;
}

/* Under the lock: parks @w where it is woken with its next byte. 0: parked; 1: there is
 * something to copy by now; or an error. */
static int read_park(struct cache_file *f, struct cache_wait *w, uint64_t ahead_end, bool random)
{
	for (unsigned tries = 0;; tries++) {
		struct map_place place;
		struct block *b = file_block_find(f, w->offset, &place);
		uint32_t from = (uint32_t)(w->offset - place.start);
		uint32_t to = from + (uint32_t)MIN(w->length, (uint64_t)(place.size - from));
		uint64_t start = w->offset, end, dense_end;
		int ret = 1;

		if (b) {
			if (block_is(b, BLOCK_FILLING)) {
				if (w->stream && !random && tries == 0)
					readahead_waited(w->stream, w->offset);
				fetch_park(b, w);
				ret = 0;
			} else if (!block_covers(b, from, to)) { /* as read_step() */
				ret = -EAGAIN;
			}
			block_unpin(b);
		} else if (w->offset < atomic_load_explicit(&f->base_limit, memory_order_relaxed)) {
			ret = -EAGAIN;
		}
		if (ret != -EAGAIN)
			return ret;
		if (tries == 2) /* what was there is gone again: memory is very short */
			return -EAGAIN;
		end = MAX(w->offset + w->length, ahead_end);
		if (w->stream && tries == 0)
			readahead_missed(w->stream, w->offset, end);
		/* Who continues somebody is read-ahead's. With too little memory for all of it, the
		 * second try is for what was asked for. */
		if (random && !b && end > ahead_end && tries == 0 &&
		    read_dense(f, w->offset, &start, &dense_end))
			end = MAX(end, dense_end);
		ret = fetch_range(f, start, end, w->offset + w->length - start, random);
		if (ret < 0)
			return ret;
	}
}

/* Goes on with @w until it is done or parked. */
static ssize_t read_run(struct cache_file *f, struct cache_wait *w, uint64_t ahead_end, bool random)
{
	struct storage_hits *counter = hits_of_thread(f->storage);
	uint64_t hits = 0, misses = 0;
	ssize_t result;

	for (;;) {
		int ret;

		if (file_is(f, FILE_REPLACED)) {
			result = -ESTALE;
			break;
		}
		if (read_step(f, w, random, &hits)) {
			result = (ssize_t)w->copied;
			break;
		}
		misses++;
		span_mark(SPAN_STORAGE);
		pthread_mutex_lock(&f->lock);
		ret = read_park(f, w, ahead_end, random);
		pthread_mutex_unlock(&f->lock);
		if (ret == 1)
			continue;
		result = ret < 0 ? ret : CACHE_PENDING;
		if (ret == -EAGAIN) {
			cleaner_kick(f->storage, true);
			w->work.run = read_starved;
			workers_submit(f->storage->config.workers, &w->work);
			result = CACHE_PENDING;
		}
		break;
	}
	if (hits)
		atomic_fetch_add_explicit(&counter->hits, hits, memory_order_relaxed);
	if (misses)
		atomic_fetch_add_explicit(&counter->misses, misses, memory_order_relaxed);
	return result;
}

/* A request that no read-ahead is interested in, as long as it hits: true when that is all of it.
 * It can be gone on with, if not. */
static bool read_stray(struct cache_file *f, struct cache_wait *w)
{
	uint64_t hits = 0;
	bool done;

	if (file_is(f, FILE_REPLACED))
		return false;
	done = read_step(f, w, true, &hits);
	if (hits)
		atomic_fetch_add_explicit(&hits_of_thread(f->storage)->hits, hits,
					  memory_order_relaxed);
	return done;
}

static void read_resume(struct cache_wait *w, int error, bool random)
{
	ssize_t result = error;

	if (error == 0)
		result = read_run(w->file, w, 0, random);
	if (result != CACHE_PENDING)
		w->done(w, result);
}

/* The pattern was judged when the request came: which of these is wake says how. */
static void read_wake(struct cache_wait *w, int error)
{
	read_resume(w, error, true);
}

static void read_wake_sequential(struct cache_wait *w, int error)
{
	read_resume(w, error, false);
}

/* Cuts the request at the end of the file, as that is now. */
static void read_clip(struct cache_file *f, struct cache_wait *w)
{
	uint64_t size = atomic_load_explicit(&f->size, memory_order_acquire);

	w->length = w->offset < size ? MIN(w->length, size - w->offset) : 0;
}

/* The base was believed in for long enough. */
static void read_revalidated(struct cache_wait *w, int error)
{
	w->wake = read_wake;
	read_clip(w->file, w);
	read_wake(w, error);
}

/* How far to run ahead of a reader at most. From far away more has to be under way for the same
 * rate: from up to AHEAD_NEAR_NS AHEAD_NEAR is enough for whatever a guest can read. */
static uint64_t read_ahead_max(const struct cache_file *f)
{
	const struct cache_storage *s = f->storage;
	uint64_t max = MIN(s->config.read_ahead_max, pool_ahead_max(file_pool(f)));
	uint64_t distance_ns = atomic_load_explicit(&s->distance_ns, memory_order_relaxed);

	return MIN(max, MAX(distance_ns / AHEAD_NEAR_NS, 1ull) * AHEAD_NEAR);
}

ssize_t cache_read(struct cache_file *f, struct cache_stream *stream, uint64_t offset,
		   size_t length, const struct iov_cursor *dst, struct cache_wait *w,
		   void (*done)(struct cache_wait *wait, ssize_t result))
{
	struct cache_storage *s = f->storage;
	struct readahead_plan plan = { .random = true };

	w->done = done;
	w->wake = read_wake;
	w->file = f;
	w->stream = stream;
	w->cursor = *dst;
	w->offset = offset;
	w->length = length;
	w->copied = 0;
	w->deadline_ns = loop_now_ns() + s->config.wait_timeout_ns;
	if (fetch_expired(f)) {
		int ret;

		pthread_mutex_lock(&f->lock);
		w->wake = read_revalidated;
		span_mark(SPAN_STORAGE);
		ret = fetch_revalidate(f, w);
		pthread_mutex_unlock(&f->lock);
		return ret < 0 ? ret : CACHE_PENDING;
	}
	read_clip(f, w);
	if (w->length == 0)
		return 0;
	length = w->length;
	if (stream && readahead_is_stray(stream, offset, length) && read_stray(f, w))
		return (ssize_t)w->copied;
	if (stream) {
		readahead_next(stream, offset, length,
			       atomic_load_explicit(&f->size, memory_order_relaxed),
			       read_ahead_max(f), &plan);
		if (!plan.random)
			w->wake = read_wake_sequential;
		/* Ahead of a reader who still hits: begun before he arrives there. */
		if (plan.end > plan.start && plan.start > w->offset) {
			pthread_mutex_lock(&f->lock);
			fetch_range(f, plan.start, plan.end, 0, plan.random);
			pthread_mutex_unlock(&f->lock);
		}
	}
	return read_run(f, w, plan.end, plan.random);
}

/* ---- What is known of a file ---- */

uint64_t cache_file_size(struct cache_file *f)
{
	return atomic_load_explicit(&f->size, memory_order_acquire);
}

void cache_file_info(struct cache_file *f, struct cache_file_info *out)
{
	pthread_mutex_lock(&f->lock);
	out->size = atomic_load_explicit(&f->size, memory_order_relaxed);
	out->mtime_ns = f->mtime_ns;
	out->dirty = atomic_load_explicit(&f->dirty, memory_order_relaxed);
	out->dirty_blocks = f->dirty_blocks;
	out->created = file_is(f, FILE_CREATED);
	out->doubtful = f->doubt[0].write_id[0];
	out->stale = file_is(f, FILE_REPLACED | FILE_UNLINKED);
	out->error = f->error;
	memcpy(out->etag, f->base.etag, sizeof(out->etag));
	out->validated_ns = atomic_load_explicit(&f->validated_ns, memory_order_relaxed);
	out->version = f->version;
	pthread_mutex_unlock(&f->lock);
}
