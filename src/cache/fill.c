/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a commit has to read before it can send.
 *
 * A service takes objects and parts whole. So a commit of a few changed bytes may lack those
 * around them. They are read into the pool, where the next reader finds them, when there is room.
 * But all of the pool may be such that only commits can make room: every slab has something dirty
 * in it. Were they to wait for that, none would ever go on. So no commit waits for the pool.
 *
 * Each storage has spare memory instead, outside of the pool: enough for the smallest part that
 * the service takes. A commit that finds no room reads into that, and sends from there. Of an
 * object that does not fit it sends parts that do, and has the service copy the rest. One commit
 * has it at a time; who waits for it waits for somebody who waits for the service only. In the
 * background nobody waits for it: others go first, that may lack nothing. Its pages are given back
 * to the host after each use.
 *
 * Even where there is room, not all commits may read at once what they lack, or each would get a
 * half of it, and evict that of the others: a share of the pool is for it (storage.fill_max), that
 * they reserve parts of. When that is used up there is the spare memory, too.
 */
/* #syscalls mmap munmap madvise */
#include "cache/fill.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/loop.h"
#include "base/util.h"

/* ---- The spare memory of a storage ---- */

int fill_init(struct cache_storage *s)
{
	const struct store_caps *caps = store_caps(s->config.store);
	uint64_t region = 1ull << s->cache->layout.region_shift, bytes;
	void *memory;

	if (caps->write_range)
		return 0; /* inplace.c sends what is dirty, and nothing else */
	bytes = MAX(caps->sessions ? caps->part_min : 0, region);
	bytes = (bytes + region - 1) & ~(region - 1);
	/* Taken now, so that it is there when it is needed; no page of it is, before. */
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return -errno;
	s->spare.memory = memory;
	s->spare.bytes = bytes;
	return 0;
}

void fill_exit(struct cache_storage *s)
{
	if (s->spare.memory)
		munmap(s->spare.memory, s->spare.bytes);
}

uint64_t fill_spare_bytes(const struct cache_storage *s)
{
	return s->spare.bytes;
}

/* Who waits for it goes before those who do not. */
static bool spare_take(struct cache_storage *s, bool patient)
{
	bool mine;

	pthread_mutex_lock(&s->lock);
	mine = !s->spare.taken && (patient || s->spare.waiters == 0);
	s->spare.taken |= mine;
	pthread_mutex_unlock(&s->lock);
	return mine;
}

static void spare_give(struct cache_storage *s)
{
	madvise(s->spare.memory, s->spare.bytes, MADV_DONTNEED);
	pthread_mutex_lock(&s->lock);
	s->spare.taken = false;
	pthread_mutex_unlock(&s->lock);
	storage_room(s);
}

/* The base's bytes [@start, @end), all of them: which of them are needed is not known before they
 * are here. Drops the lock. */
static int spare_read(struct cache_file *f, uint64_t start, uint64_t end)
{
	struct iovec iov = { f->storage->spare.memory, end - start };
	char etag[STORE_ETAG_MAX];
	struct store_op op = { .opcode = STORE_READ,
			       .key = f->key,
			       .if_match = etag,
			       .offset = start,
			       .length = end - start,
			       .data = iov_cursor(&iov, 1) };
	int ret;

	memcpy(etag, f->base.etag, sizeof(etag));
	ret = commit_call(f, &op, false);
	atomic_fetch_add_explicit(&f->storage->count.fetched, op.done, memory_order_relaxed);
	if (ret == 0 && op.done == end - start) {
		pthread_mutex_lock(&f->storage->lock);
		f->storage->spare.turns++;
		pthread_mutex_unlock(&f->storage->lock);
		return 0;
	}
	/* Another version, or none: the commit will find out whose. */
	if (ret == -ENOENT || ret == -ERANGE)
		return -ESTALE;
	return ret ? ret : -EIO;
}

static int fill_spare(struct cache_file *f, struct fill *fill, struct gather *g, uint64_t start,
		      uint64_t *end, bool patient)
{
	struct cache_storage *s = f->storage;
	uint64_t limit = atomic_load_explicit(&f->base_limit, memory_order_relaxed);
	int ret;

	limit = MIN(limit, *end);
	if (limit > start + s->spare.bytes)
		return store_caps(s->config.store)->sessions ? -EMSGSIZE : -ENOBUFS;
	if (!spare_take(s, patient))
		return -ENOBUFS;
	fill->spare = true;
	ret = start < limit ? spare_read(f, start, limit) : 0;
	if (ret < 0)
		return ret;
	g->spare = s->spare.memory;
	g->spare_start = start;
	g->spare_end = limit;
	/* What grew meanwhile is in blocks, or zero. */
	if (fill->whole)
		*end = atomic_load_explicit(&f->size, memory_order_relaxed);
	return gather_range(f, g, start, *end, GATHER_SPARE);
}

/* ---- Memory of the pool ---- */

static bool fill_reserve(struct cache_storage *s, uint64_t bytes)
{
	bool may;

	pthread_mutex_lock(&s->lock);
	may = s->filling == 0 || s->filling + bytes <= s->fill_max;
	if (may)
		s->filling += bytes;
	pthread_mutex_unlock(&s->lock);
	return may;
}

static void fill_unreserve(struct cache_storage *s, uint64_t bytes)
{
	pthread_mutex_lock(&s->lock);
	s->filling -= bytes;
	pthread_mutex_unlock(&s->lock);
	storage_room(s);
}

void fill_ahead(struct cache_file *f, uint64_t start, uint64_t length)
{
	if (!fill_reserve(f->storage, length))
		return;
	fetch_range(f, start, start + length, length, false);
	fill_unreserve(f->storage, length);
}

static int fill_pool(struct cache_file *f, struct fill *fill, struct gather *g, uint64_t start,
		     uint64_t *end)
{
	uint64_t size;

	if (!fill_reserve(f->storage, *end - start))
		return -ENOBUFS;
	fill->reserved = *end - start;
	for (;;) {
		int ret = gather_range(f, g, start, *end, GATHER_FETCH);

		size = atomic_load_explicit(&f->size, memory_order_relaxed);
		if (ret < 0 || !fill->whole || *end == size)
			return ret;
		/* It grew while bytes were read: now they are here. */
		gather_release(f, g, GATHER_KEEP);
		*end = size;
	}
}

/* ---- A commit ---- */

void fill_end(struct cache_file *f, struct fill *fill)
{
	if (fill->reserved)
		fill_unreserve(f->storage, fill->reserved);
	if (fill->spare)
		spare_give(f->storage);
	*fill = (struct fill){ .whole = fill->whole };
}

static int fill_try(struct cache_file *f, struct fill *fill, struct gather *g, uint64_t start,
		    uint64_t *end, bool patient)
{
	int ret = fill_pool(f, fill, g, start, end);

	if (ret == -ENOBUFS) {
		fill_end(f, fill);
		ret = fill_spare(f, fill, g, start, end, patient);
	}
	if (ret < 0)
		fill_end(f, fill);
	return ret;
}

/* Until there may be memory, a little while at most. Returns the number of times that somebody has
 * filled the spare memory. */
static uint64_t fill_wait(struct cache_file *f, uint64_t deadline)
{
	struct cache_storage *s = f->storage;
	uint64_t turns;

	pthread_mutex_unlock(&f->lock);
	cleaner_kick(s, true);
	pthread_mutex_lock(&s->lock);
	s->spare.waiters++;
	pthread_mutex_unlock(&s->lock);
	storage_room_wait(s, deadline);
	pthread_mutex_lock(&s->lock);
	s->spare.waiters--;
	turns = s->spare.turns;
	pthread_mutex_unlock(&s->lock);
	pthread_mutex_lock(&f->lock);
	return turns;
}

int fill_gather(struct cache_file *f, struct fill *fill, struct gather *g, uint64_t start,
		uint64_t *end, bool patient)
{
	uint64_t timeout = f->storage->config.wait_timeout_ns;
	uint64_t deadline = loop_now_ns() + timeout, turns = UINT64_MAX;

	for (;;) {
		int ret = fill_try(f, fill, g, start, end, patient);
		uint64_t now;

		if (ret != -ENOBUFS || !patient)
			return ret;
		if (file_is(f, FILE_UNLINKED))
			return -ECANCELED;
		now = fill_wait(f, deadline);
		if (now != turns) /* others get on: it will be our turn */
			deadline = loop_now_ns() + timeout;
		else if (loop_now_ns() >= deadline)
			return -ETIMEDOUT;
		turns = now;
		if (fill->whole)
			*end = atomic_load_explicit(&f->size, memory_order_relaxed);
	}
}
