/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Misses: from the storage into blocks.
 *
 * A fetch is one conditional, ranged GET that fills a run of new blocks, or what one
 * block lacks, straight from the connection. Its blocks are in the map from the beginning, FILLING
 * and pinned: whoever else wants their bytes finds them there and parks on the fetch, so
 * that a block is fetched once however many ask for it. Bytes become valid as they arrive, and
 * who waits for them goes on then, not at the end of the GET.
 *
 * The GET is conditional on the file's base. Does the condition fail, or is the object gone,
 * the base has been replaced: by a commit or rename of our own in between (then those who
 * waited begin anew), or by somebody else: the file is stale.
 *
 * Locks: under the file's, but the GET itself and its progress(), which run on the transfer loop
 * and take it for a moment each time that a step's worth has arrived.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/loop.h"
#include "base/util.h"
#include "cache/file.h"

/* Of one GET. Enough blocks for its bytes in the smallest size of SMALL, in most pools. */
#define FETCH_BLOCKS 64
#define FETCH_BYTES (8u << 20)

/* How often bytes of a GET become valid. */
#define FETCH_STEP (256u << 10)

/* What a measurement of the storage's distance weighs less if it is longer. */
#define DISTANCE_WEIGHT 32u

struct cache_fetch {
	struct store_op op;
	struct cache_file *file;
	struct list file_link; /* cache_file.fetches */
	struct list waiters;   /* cache_wait.link */
	uint64_t start, length;
	uint64_t next_step;   /* transfer loop */
	uint64_t begun_ns;    /* 0: something of it has come */
	uint64_t ready_bytes; /* of the blocks that are ready */
	unsigned blocks, ready;
	struct block *block[FETCH_BLOCKS];
	struct iovec iov[FETCH_BLOCKS + 2];
	unsigned segments;
	bool fill;     /* of one block that has something valid in it */
	void *sink;    /* where what is valid already goes, again; or NULL */
	bool obsolete; /* fetch_obsolete(); under the lock */
	char etag[STORE_ETAG_MAX];
	char key[];
};

static uint64_t place_end(const struct map_place *place)
{
	return place->start + place->size;
}

/* Detaches those of @from who can go on with @arrived bytes from @start on; all when failed. */
static void waiters_take(struct list *from, struct list *to, uint64_t start, uint64_t length,
			 uint64_t arrived, bool all)
{
	struct list *pos, *tmp;

	list_for_each_safe (pos, tmp, from) {
		struct cache_wait *w = list_entry(pos, struct cache_wait, link);
		uint64_t end = MIN(w->offset + w->length, start + length);

		if (all || end <= start + arrived) {
			list_remove(pos);
			list_push_back(to, pos);
		}
	}
}

void fetch_wake(struct list *list, int error)
{
	struct list *pos;

	while ((pos = list_pop_front(list))) {
		struct cache_wait *w = list_entry(pos, struct cache_wait, link);

		w->wake(w, error);
	}
}

/* ---- Arrival: transfer loop ---- */

/* All bytes of a block have arrived, or of what it lacked: [@start, @start + @length) of the
 * file. Under the lock. */
static void fetch_block_ready(struct cache_file *f, struct block *b, uint64_t start,
			      uint64_t length)
{
	uint64_t valid = atomic_load_explicit(&b->valid, memory_order_relaxed);
	struct map_place place;
	uint32_t from, to;

	map_find(&f->storage->cache->layout, &f->map, start, &place);
	from = (uint32_t)(start - place.start);
	to = from + (uint32_t)length;
	if (block_range_start(valid) < block_range_end(valid)) {
		from = MIN(from, block_range_start(valid));
		to = MAX(to, block_range_end(valid));
	}
	atomic_store_explicit(&b->valid, block_range(from, to), memory_order_release);
	b->fetch = NULL;
	block_clear(b, BLOCK_FILLING);
	file_block_zero_tail(f, b, &place);
	block_unpin(b);
}

/* @arrived bytes are in place. Under the lock. */
static void fetch_arrive(struct cache_fetch *cf, uint64_t arrived)
{
	if (cf->fill) {
		if (arrived == cf->length) {
			cf->ready = 1;
			fetch_block_ready(cf->file, cf->block[0], cf->start, cf->length);
		}
		return;
	}
	while (cf->ready < cf->blocks) {
		struct block *b = cf->block[cf->ready];
		size_t n = cf->iov[cf->ready].iov_len;

		if (arrived < cf->ready_bytes + n) {
			if (arrived > cf->ready_bytes)
				atomic_store_explicit(
					&b->valid,
					block_range(0, (uint32_t)(arrived - cf->ready_bytes)),
					memory_order_release);
			return;
		}
		fetch_block_ready(cf->file, b, cf->start + cf->ready_bytes, n);
		cf->ready_bytes += n;
		cf->ready++;
	}
}

/* The first of it has come: how far away the storage is. On the transfer loop. */
static void fetch_measure(struct cache_fetch *cf)
{
	struct cache_storage *s = cf->file->storage;
	uint64_t known = atomic_load_explicit(&s->distance_ns, memory_order_relaxed), took;

	if (!cf->begun_ns)
		return;
	took = loop_now_ns() - cf->begun_ns;
	cf->begun_ns = 0;
	/* Others on the line make it longer: so it grows slowly, and falls at once. */
	if (known && took > known)
		took = known + (took - known) / DISTANCE_WEIGHT;
	atomic_store_explicit(&s->distance_ns, took, memory_order_relaxed);
}

static void fetch_progress(struct store_op *op, uint64_t done)
{
	struct cache_fetch *cf = container_of(op, struct cache_fetch, op);
	struct list ready;

	fetch_measure(cf);
	/* Without a version to hold it to, a READ may begin anew. */
	if (done < cf->next_step || done == cf->length || !cf->etag[0])
		return;
	cf->next_step = done + FETCH_STEP;
	list_init(&ready);
	pthread_mutex_lock(&cf->file->lock);
	if (!cf->obsolete) {
		fetch_arrive(cf, done);
		waiters_take(&cf->waiters, &ready, cf->start, cf->length, cf->fill ? 0 : done,
			     false);
	}
	pthread_mutex_unlock(&cf->file->lock);
	fetch_wake(&ready, 0);
}

/* Gives up the blocks that did not arrive. Under the lock. */
static void fetch_abandon(struct cache_fetch *cf)
{
	for (; cf->ready < cf->blocks; cf->ready++) {
		struct block *b = cf->block[cf->ready];

		b->fetch = NULL;
		block_clear(b, BLOCK_FILLING);
		if (cf->fill)
			block_unpin(b);
		else
			file_block_drop(cf->file, b);
	}
}

static void fetch_complete(struct store_op *op)
{
	struct cache_fetch *cf = container_of(op, struct cache_fetch, op);
	struct cache_file *f = cf->file;
	struct cache_storage *s = f->storage;
	int result = op->result;
	struct list waiters;

	/* -EAGAIN: a service too busy all the time. Here, and to a guest, it means something else.
	 */
	if ((result == 0 && op->done < cf->length) || result == -EAGAIN)
		result = -EIO;
	if (result == 0)
		fetch_measure(cf);
	atomic_fetch_add_explicit(&s->count.fetched, op->done, memory_order_relaxed);
	list_init(&waiters);
	pthread_mutex_lock(&f->lock);
	if (result == 0 && cf->obsolete) {
		fetch_abandon(cf);
	} else if (result == 0) {
		fetch_arrive(cf, cf->length);
		if (op->meta.has_user_mtime &&
		    !atomic_load_explicit(&f->dirty, memory_order_relaxed))
			f->mtime_ns = op->meta.user_mtime_ns;
	} else {
		fetch_abandon(cf);
		if (result == -ENOENT || result == -ERANGE)
			result = -ESTALE;
		if (result == -ESTALE)
			result = fetch_base_lost(f, cf->etag, cf->key);
	}
	list_remove(&cf->file_link);
	waiters_take(&cf->waiters, &waiters, 0, 0, 0, true);
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
	fetch_wake(&waiters, result);
	storage_room(s);
	free(cf->sink);
	free(cf);
	file_put(f);
	storage_end(s);
}

/* ---- Departure: under the lock ---- */

static struct cache_fetch *fetch_new(struct cache_file *f, uint64_t start)
{
	size_t key_size = strlen(f->key) + 1;
	struct cache_fetch *cf = malloc(sizeof(*cf) + key_size);

	if (!cf)
		return NULL;
	memset(cf, 0, sizeof(*cf));
	memcpy(cf->key, f->key, key_size);
	memcpy(cf->etag, f->base.etag, sizeof(cf->etag));
	cf->file = f;
	cf->start = start;
	list_init(&cf->waiters);
	list_init(&cf->file_link);
	return cf;
}

static void fetch_submit(struct cache_file *f, struct cache_fetch *cf)
{
	struct cache_storage *s = f->storage;

	cf->op.opcode = STORE_READ;
	cf->op.key = cf->key;
	cf->op.if_match = file_in_place(f) ? NULL : cf->etag;
	cf->op.data = iov_cursor(cf->iov, cf->segments);
	cf->op.offset = cf->start;
	cf->op.length = cf->length;
	cf->op.progress = fetch_progress;
	cf->op.complete = fetch_complete;
	cf->next_step = FETCH_STEP;
	cf->begun_ns = loop_now_ns();
	for (unsigned i = 0; i < cf->blocks; i++)
		cf->block[i]->fetch = cf;
	file_ref(f);
	list_push_back(&f->fetches, &cf->file_link);
	storage_begin(s);
	store_submit(s->config.store, &cf->op);
}

/* Adds a new block to *@cf, sending that first when it is full or ends elsewhere. 0, -EAGAIN. */
static int fetch_append(struct cache_file *f, struct cache_fetch **cf,
			const struct map_place *place)
{
	uint32_t n = file_base_in(f, place);
	struct block *b;

	if (upload_holds(f, place->start, place_end(place)))
		return -EAGAIN;
	if (*cf && ((*cf)->blocks == FETCH_BLOCKS || (*cf)->length + n > FETCH_BYTES ||
		    (*cf)->start + (*cf)->length != place->start)) {
		fetch_submit(f, *cf);
		*cf = NULL;
	}
	if (!*cf) {
		*cf = fetch_new(f, place->start);
		if (!*cf)
			return -EAGAIN;
	}
	b = file_block_new(f, place);
	if (!b) {
		if ((*cf)->blocks == 0) {
			free(*cf);
			*cf = NULL;
		}
		return -EAGAIN;
	}
	block_set(b, BLOCK_FILLING);
	(*cf)->iov[(*cf)->segments++] = (struct iovec){ pool_data(file_pool(f), b), n };
	(*cf)->block[(*cf)->blocks++] = b;
	(*cf)->length += n;
	return 0;
}

/* Fetches what @b, pinned by the caller, lacks of the base. */
static int fetch_fill(struct cache_file *f, struct block *b, const struct map_place *place)
{
	uint64_t valid = atomic_load_explicit(&b->valid, memory_order_relaxed);
	uint32_t start = block_range_start(valid), end = block_range_end(valid);
	uint32_t base = file_base_in(f, place);
	unsigned char *data = pool_data(file_pool(f), b);
	struct cache_fetch *cf;

	if (upload_holds(f, place->start, place_end(place)))
		return -EAGAIN;
	if (start >= end)
		start = end = 0;
	cf = fetch_new(f, place->start + (start ? 0 : end));
	if (!cf)
		return -EAGAIN;
	if (start > 0) /* whatever is written lies behind: the hull ends there */
		cf->iov[cf->segments++] = (struct iovec){ data, MIN(start, base) };
	if (start > 0 && end < base) {
		cf->sink = malloc(end - start);
		if (!cf->sink) {
			free(cf);
			return -EAGAIN;
		}
		cf->iov[cf->segments++] = (struct iovec){ cf->sink, end - start };
	}
	if (end < base)
		cf->iov[cf->segments++] = (struct iovec){ data + end, base - end };
	for (unsigned i = 0; i < cf->segments; i++)
		cf->length += cf->iov[i].iov_len;
	/* Between the base's end and what was written: zeros. */
	if (start > base)
		memset(data + base, 0, start - base);
	cf->fill = true;
	cf->block[cf->blocks++] = b;
	atomic_fetch_add_explicit(&b->state, 1, memory_order_relaxed); /* the fetch's pin */
	block_set(b, BLOCK_FILLING);
	fetch_submit(f, cf);
	return 0;
}

/* A block that is there: has it what can be had of it? */
static int fetch_complete_block(struct cache_file *f, struct block *b,
				const struct map_place *place)
{
	uint64_t valid;

	if (block_is(b, BLOCK_FILLING) || block_covers(b, 0, place->size))
		return 0;
	file_block_zero_tail(f, b, place);
	valid = atomic_load_explicit(&b->valid, memory_order_relaxed);
	if (block_range_start(valid) == 0 && block_range_end(valid) >= file_base_in(f, place))
		return 0;
	return fetch_fill(f, b, place);
}

/* What is in no block yet, from @offset on; *@place says up to where. */
static int fetch_place(struct cache_file *f, struct cache_fetch **cf, uint64_t offset, bool random,
		       struct map_place *place)
{
	struct map_layout *layout = &f->storage->cache->layout;
	uint64_t size = atomic_load_explicit(&f->size, memory_order_relaxed);
	enum map_shape shape = file_shape(f, offset, size, random);
	int ret;

	map_place(layout, shape, offset, place);
	if (file_base_in(f, place) == 0)
		return 0;
	ret = fetch_append(f, cf, place);
	/* What is dirty may wait for what is to be fetched. */
	if (ret == -EAGAIN && shape != MAP_SMALL && !*cf && file_region_renew(f, offset)) {
		map_place(layout, MAP_SMALL, offset, place);
		ret = file_base_in(f, place) ? fetch_append(f, cf, place) : 0;
	}
	return ret;
}

int fetch_range(struct cache_file *f, uint64_t start, uint64_t end, uint64_t must, bool random)
{
	uint64_t size = atomic_load_explicit(&f->size, memory_order_relaxed);
	struct cache_fetch *cf = NULL;
	int ret = 0;

	/* Without an object, what was let go by an upload that was given up. */
	if (file_is(f, FILE_REPLACED) || f->lost ||
	    (file_is(f, FILE_CREATED) && !f->upload &&
	     atomic_load_explicit(&f->base_limit, memory_order_relaxed)))
		return -ESTALE;
	end = MIN(end, size);
	for (uint64_t offset = start; offset < end;) {
		struct map_place place;
		struct block *b = file_block_find(f, offset, &place);

		if (b) {
			ret = offset < start + must ? fetch_complete_block(f, b, &place) : 0;
			block_unpin(b);
		} else {
			ret = fetch_place(f, &cf, offset, random, &place);
		}
		if (ret < 0) {
			if (offset > start || must == 0)
				ret = 0;
			break;
		}
		offset = place_end(&place);
	}
	if (cf)
		fetch_submit(f, cf);
	return ret;
}

void fetch_park(struct block *b, struct cache_wait *w)
{
	list_push_back(&b->fetch->waiters, &w->link);
}

/* ---- For workers ---- */

struct fetch_sleeper {
	struct cache_wait wait;
	pthread_mutex_t *lock;
	pthread_cond_t *changed;
	bool woken;
	int error;
};

static void sleeper_wake(struct cache_wait *w, int error)
{
	struct fetch_sleeper *sleeper = container_of(w, struct fetch_sleeper, wait);

	pthread_mutex_lock(sleeper->lock);
	sleeper->error = error;
	sleeper->woken = true;
	pthread_cond_broadcast(sleeper->changed);
	pthread_mutex_unlock(sleeper->lock);
}

/* Parks this thread on @b's fetch. */
static int fetch_sleep(struct cache_file *f, struct block *b, const struct map_place *place)
{
	struct fetch_sleeper sleeper = {
		.wait = { .wake = sleeper_wake, .offset = place->start, .length = place->size },
		.lock = &f->lock,
		.changed = &f->changed,
	};

	fetch_park(b, &sleeper.wait);
	while (!sleeper.woken)
		pthread_cond_wait(&f->changed, &f->lock);
	return sleeper.error;
}

/* Has the bytes from @offset on, *@next is where they end. 1: look again. */
static int fetch_wait_step(struct cache_file *f, uint64_t offset, uint64_t end, uint64_t *next)
{
	struct map_place place;
	struct block *b = file_block_find(f, offset, &place);
	int ret = 0;

	*next = place_end(&place);
	if (b) {
		if (block_is(b, BLOCK_FILLING)) {
			block_unpin(b);
			ret = fetch_sleep(f, b, &place);
			return ret < 0 ? ret : 1;
		}
		file_block_zero_tail(f, b, &place);
		if (!block_covers(b, 0, MAX(file_base_in(f, &place), 1u)))
			ret = 1;
		block_unpin(b);
	} else if (offset < atomic_load_explicit(&f->base_limit, memory_order_relaxed)) {
		ret = 1;
	}
	if (ret == 1) {
		ret = fetch_range(f, offset, end, MIN(end, place_end(&place)) - offset, false);
		return ret < 0 ? ret : 1;
	}
	return 0;
}

int fetch_wait(struct cache_file *f, uint64_t start, uint64_t end, bool patient)
{
	uint64_t deadline = loop_now_ns() + f->storage->config.wait_timeout_ns;
	uint64_t offset = start, next;

	while (offset < end) {
		int ret = fetch_wait_step(f, offset, end, &next);

		if (ret == -EAGAIN) {
			bool time_left;

			if (!patient)
				return -ENOBUFS;
			pthread_mutex_unlock(&f->lock);
			cleaner_kick(f->storage, true);
			time_left = storage_room_wait(f->storage, deadline);
			pthread_mutex_lock(&f->lock);
			if (!time_left)
				return -ETIMEDOUT;
			continue;
		}
		if (ret < 0)
			return ret;
		if (ret == 0)
			offset = next;
	}
	return 0;
}

void fetch_obsolete(struct cache_file *f, uint64_t start, uint64_t end)
{
	struct list *pos;

	list_for_each (pos, &f->fetches) {
		struct cache_fetch *cf = list_entry(pos, struct cache_fetch, file_link);

		if (cf->start < end && cf->start + cf->length > start)
			cf->obsolete = true;
	}
}

void fetch_settle(struct cache_file *f, uint64_t start)
{
	for (;;) {
		bool busy = false;
		struct list *pos;

		list_for_each (pos, &f->fetches) {
			struct cache_fetch *cf = list_entry(pos, struct cache_fetch, file_link);

			busy |= cf->start + cf->length > start;
		}
		if (!busy)
			return;
		pthread_cond_wait(&f->changed, &f->lock);
	}
}
