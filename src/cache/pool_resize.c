/* SPDX-License-Identifier: Apache-2.0 */
/*
 * More or less memory, while the pool is in use.
 *
 * Addresses, descriptors and links are there for the largest size from the beginning; a size is
 * but the number of slabs that may have memory (pool.slabs). So growing is setting that.
 *
 * Shrinking is setting it, which stops carving, and then emptying slabs, wherever they lie, as a
 * drain does (pool_slab.c), until enough are bare; their pages are punched out of the memfd. A
 * round goes over the classes and takes slabs where nothing was hit for long, the next one those
 * with some hits, the last one all that can be evicted. Several slabs are drained at a time,
 * because each rotation of a list of free blocks serves them all.
 *
 * A slab with a dirty or pinned block waits for the next pool_trim(): somebody who knows
 * when to try again calls it, for the pool has no thread.
 */
#include "base/util.h"
#include "cache/pool_priv.h"

/* Slabs that are drained at one time. */
#define TRIM_BATCH 32u

/* Of the blocks of a slab, the part that may be hot for it to be taken, by round. */
static const unsigned trim_hot_part[] = { 8, 2, 1 };

/* Slabs that have memory and should not. */
static uint32_t trim_excess(const struct pool *pool)
{
	uint32_t held = atomic_load_explicit(&pool->held, memory_order_relaxed);
	uint32_t slabs = atomic_load_explicit(&pool->slabs, memory_order_relaxed);

	return held > slabs ? held - slabs : 0;
}

/* Empties slabs of @class from *@slab on, @want at most, which is moved on; 0: it was the last. */
static void trim_batch(struct pool *pool, unsigned class, uint32_t most, uint32_t *slab,
		       uint32_t want)
{
	uint32_t batch[TRIM_BATCH], count = 0;

	while (count < MIN(want, TRIM_BATCH) && (*slab = slab_find_next(pool, class, *slab)) != 0) {
		uint32_t cost = trade_slab_cost(pool, class, *slab);

		if (cost == COST_NEVER || cost > most || !slab_drain_begin(pool, class, *slab))
			continue;
		if (trade_slab_evict(pool, class, *slab))
			batch[count++] = *slab;
		else
			slab_drain_end(pool, class, *slab);
	}
	if (count == 0)
		return;
	slab_rotate(pool, class);
	while (count > 0)
		slab_drain_end(pool, class, batch[--count]);
	slab_release_bare(pool);
}

static void trim_round(struct pool *pool, unsigned hot_part)
{
	for (unsigned class = 0; class < pool->classes; class ++) {
		uint32_t most = pool->class[class].per_slab / hot_part, slab = 0, want;

		do {
			want = trim_excess(pool);
			if (want == 0)
				return;
			trim_batch(pool, class, most, &slab, want);
		} while (slab);
	}
}

uint64_t pool_trim(struct pool *pool)
{
	if (trim_excess(pool) == 0)
		return 0;
	pthread_mutex_lock(&pool->trimming);
	slab_release_bare(pool);
	for (unsigned i = 0; i < sizeof(trim_hot_part) / sizeof(trim_hot_part[0]); i++)
		trim_round(pool, trim_hot_part[i]);
	pthread_mutex_unlock(&pool->trimming);
	return (uint64_t)trim_excess(pool) << pool->slab_shift;
}

uint64_t pool_size_max(const struct pool *pool)
{
	return (pool->slabs_max + 1) * pool_arena_slab_cost(pool) - 1;
}

struct err *pool_resize(struct pool *pool, uint64_t size)
{
	uint64_t slabs = size / pool_arena_slab_cost(pool);

	if (size >> pool->slab_shift < POOL_SLABS_MIN)
		return err_new("the cache's size is %ju: less than %u of its largest blocks, of %u",
			       (uintmax_t)size, POOL_SLABS_MIN, 1u << pool->slab_shift);
	if (slabs > pool->slabs_max)
		return err_new("the cache's size is %ju: while it runs it can grow to %ju at most",
			       (uintmax_t)size, (uintmax_t)pool_size_max(pool));
	pthread_mutex_lock(&pool->trade);
	atomic_store_explicit(&pool->slabs, (uint32_t)slabs, memory_order_relaxed);
	pthread_mutex_unlock(&pool->trade);
	evict_set_ahead(pool);
	pool_trim(pool);
	return NULL;
}
