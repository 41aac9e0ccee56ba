/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory outside of the pool that counts in its budget: as many of its blocks are taken out of
 * use, and their pages given back to the host. See cache.h.
 */
/* #syscalls madvise */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "base/loop.h"
#include "base/util.h"
#include "cache/file.h"

/* Of the pool, at most, so that the rest can work. */
#define RESERVE_PART 2u

/* How long to wait for others to give back what is not there, and how often to look. */
#define REFUSE_AFTER_NS 500000000ull
#define REFUSE_POLL_NS 10000000

struct cache_reserve {
	struct cache_storage *storage;
	uint64_t bytes;
	unsigned count;
	struct block *blocks[];
};

/* The largest blocks that are not larger than @bytes. */
static unsigned reserve_class(const struct pool *pool, uint64_t bytes)
{
	unsigned class = pool_classes(pool) - 1;

	while (class > 0 && pool_class_size(pool, class) > bytes)
		class --;
	return class;
}

static bool reserve_count_now(struct cache *cache, uint64_t bytes)
{
	struct pool_usage usage;
	uint64_t before = atomic_fetch_add(&cache->reserved, bytes);

	pool_usage(cache->pool, &usage);
	if (before + bytes <= usage.arena / RESERVE_PART)
		return true;
	atomic_fetch_sub(&cache->reserved, bytes);
	return false;
}

/*
 * False when it would be too much. A guest's kernel to whom a mapping is refused in a page fault
 * runs the program into the same fault at once, again and again: that is slowed down here.
 */
static bool reserve_count(struct cache *cache, uint64_t bytes, uint64_t deadline_ns)
{
	const struct timespec pause = { .tv_nsec = REFUSE_POLL_NS };
	const uint64_t until_ns = MIN(deadline_ns, loop_now_ns() + REFUSE_AFTER_NS);

	while (!reserve_count_now(cache, bytes)) {
		if (loop_now_ns() >= until_ns)
			return false;
		nanosleep(&pause, NULL);
	}
	return true;
}

static struct block *reserve_block(struct cache_storage *s, unsigned class, uint64_t deadline_ns)
{
	struct pool *pool = s->cache->pool;
	struct block *b = pool_get(pool, class, &s->owner);

	while (!b) {
		cleaner_kick(s, true);
		if (!storage_room_wait(s, deadline_ns))
			return NULL;
		b = pool_get(pool, class, &s->owner);
	}
	/* Nobody looks at the bytes of a block that is out of use. */
	madvise(pool_data(pool, b), pool_class_size(pool, class), MADV_REMOVE);
	return b;
}

int cache_reserve_new(struct cache_reserve **out, struct cache_storage *storage, uint64_t bytes)
{
	const uint64_t deadline_ns = loop_now_ns() + storage->config.wait_timeout_ns;
	struct pool *pool = storage->cache->pool;
	const unsigned class = reserve_class(pool, bytes);
	const uint64_t size = pool_class_size(pool, class);
	const unsigned count = (unsigned)((bytes + size - 1) / size);
	struct cache_reserve *r;

	if (!reserve_count(storage->cache, bytes, deadline_ns))
		return -ENOMEM;
	r = calloc(1, sizeof(*r) + count * sizeof(r->blocks[0]));
	if (!r) {
		atomic_fetch_sub(&storage->cache->reserved, bytes);
		return -ENOMEM;
	}
	r->storage = storage;
	r->bytes = bytes;
	while (r->count < count) {
		r->blocks[r->count] = reserve_block(storage, class, deadline_ns);
		if (!r->blocks[r->count]) {
			cache_reserve_free(r);
			return -ENOMEM;
		}
		r->count++;
	}
	*out = r;
	return 0;
}

void cache_reserve_free(struct cache_reserve *r)
{
	struct cache_storage *s = r->storage;

	for (unsigned i = 0; i < r->count; i++)
		pool_put(s->cache->pool, r->blocks[i], &s->owner);
	atomic_fetch_sub(&s->cache->reserved, r->bytes);
	storage_room(s);
	free(r);
}
