/* SPDX-License-Identifier: Apache-2.0 */
#include "cache/pool.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "cache/pool_priv.h"

static struct err *config_check(const struct pool_config *config)
{
	if (config->classes < 1 || config->classes > POOL_CLASSES_MAX)
		return err_new("%u block sizes: 1 to %u are possible", config->classes,
			       POOL_CLASSES_MAX);
	for (unsigned i = 0; i < config->classes; i++) {
		uint32_t size = config->block_sizes[i];

		if (size < POOL_BLOCK_MIN || size > POOL_BLOCK_MAX || size & (size - 1))
			return err_new("block size %u is not a power of two from %u to %u", size,
				       POOL_BLOCK_MIN, POOL_BLOCK_MAX);
		if (i > 0 && size <= config->block_sizes[i - 1])
			return err_new("block sizes do not ascend: %u after %u", size,
				       config->block_sizes[i - 1]);
	}
	if (config->size / POOL_SLABS_MIN < config->block_sizes[config->classes - 1])
		return err_new("the cache's size is %ju: less than %u of its largest blocks, of %u",
			       (uintmax_t)config->size, POOL_SLABS_MIN,
			       config->block_sizes[config->classes - 1]);
	return NULL;
}

static struct err *pool_setup(struct pool *pool, const struct pool_config *config)
{
	uint64_t cost, slabs, most;

	pool->classes = config->classes;
	pool->arena.shift = (unsigned)__builtin_ctz(config->block_sizes[0]);
	pool->slab_shift = (unsigned)__builtin_ctz(config->block_sizes[pool->classes - 1]);
	for (unsigned i = 0; i < pool->classes; i++) {
		struct pool_class *c = &pool->class[i];

		c->shift = (unsigned)__builtin_ctz(config->block_sizes[i]);
		c->per_slab = 1u << (pool->slab_shift - c->shift);
	}
	cost = pool_arena_slab_cost(pool);
	slabs = config->size / cost;
	most = ((UINT32_MAX - 1024u) >> (pool->slab_shift - pool->arena.shift)) - 2;
	if (slabs > most)
		return err_new("the cache's size is %ju: with blocks of %u, at most %ju",
			       (uintmax_t)config->size, config->block_sizes[0],
			       (uintmax_t)UINT32_MAX << pool->arena.shift);
	pool->slabs = (uint32_t)slabs;
	pool->slabs_max = (uint32_t)MIN(MAX(slabs, config->size_max / cost), most);
	evict_set_ahead(pool);
	pool->fresh = 1;
	pool->owner = calloc(POOL_OWNERS_MAX, sizeof(struct pool_owner *));
	if (!pool->owner)
		return err_new("out of memory for the cache's tables");
	return pool_arena_init(pool, config->huge_pages);
}

struct err *pool_new(struct pool **out, const struct pool_config *config, pool_evict_fn *evict,
		     void *arg)
{
	struct err *e = config_check(config);
	struct pool *pool;
	uint32_t sentinel;

	*out = NULL;
	if (e)
		return e;
	pool = aligned_alloc(_Alignof(struct pool), sizeof(*pool));
	if (!pool)
		return err_new("out of memory for the cache");
	*pool = (struct pool){ .arena.memfd = -1, .evict = evict, .evict_arg = arg };
	pthread_mutex_init(&pool->trade, NULL);
	pthread_mutex_init(&pool->trimming, NULL);
	for (unsigned i = 0; i < POOL_CLASSES_MAX; i++)
		pthread_mutex_init(&pool->class[i].lock, NULL);
	e = pool_setup(pool, config);
	if (e) {
		pool_free(pool);
		return e;
	}
	sentinel = slab_first(pool, pool->slabs_max + 1);
	for (unsigned i = 0; i < pool->classes; i++)
		pool_list_init(&pool->class[i].list, pool->link, sentinel + 8 * (i + 1));
	*out = pool;
	return NULL;
}

void pool_free(struct pool *pool)
{
	if (!pool)
		return;
	pool_arena_exit(pool);
	pthread_mutex_destroy(&pool->trade);
	pthread_mutex_destroy(&pool->trimming);
	for (unsigned i = 0; i < POOL_CLASSES_MAX; i++)
		pthread_mutex_destroy(&pool->class[i].lock);
	free(pool->owner);
	free(pool);
}

struct block *pool_get(struct pool *pool, unsigned class, struct pool_owner *owner)
{
	block_id id = slab_block_get(pool, class);
	struct block *b;

	if (!id)
		id = slab_carve(pool, class);
	if (!id)
		id = trade_get(pool, class, owner);
	if (!id)
		return NULL;
	b = pool_block(pool, id);
	b->owner = owner->number;
	owner_charge(pool, owner, class);
	return b;
}

void pool_put(struct pool *pool, struct block *b, struct pool_owner *owner)
{
	unsigned class = b->class;

	assert((atomic_load(&b->state) & ~BLOCK_PINS) == BLOCK_FREE);
	if (evict_forget(pool, b, owner))
		slab_block_put(pool, class, pool_block_id(pool, b));
}

unsigned pool_classes(const struct pool *pool)
{
	return pool->classes;
}

uint32_t pool_class_size(const struct pool *pool, unsigned class)
{
	return 1u << pool->class[class].shift;
}

void pool_usage(const struct pool *pool_const, struct pool_usage *out)
{
	struct pool *pool = (struct pool *)pool_const; /* for its locks */
	uint32_t slabs, held, carved;

	*out = (struct pool_usage){ .arena = pool_arena_bytes(pool) };
	pthread_mutex_lock(&pool->trade);
	slabs = atomic_load_explicit(&pool->slabs, memory_order_relaxed);
	held = atomic_load_explicit(&pool->held, memory_order_relaxed);
	carved = held - pool->bares;
	out->free = (uint64_t)(slabs - MIN(slabs, carved)) << pool->slab_shift;
	out->held = (uint64_t)held << pool->slab_shift;
	out->evicted = atomic_load_explicit(&pool->evicted, memory_order_relaxed);
	out->slabs_returned = pool->slabs_returned;
	for (unsigned i = 0; i < pool->classes; i++) {
		struct pool_class *c = &pool->class[i];
		uint64_t all = (uint64_t)c->slabs * c->per_slab;
		uint64_t free = atomic_load_explicit(&c->free, memory_order_relaxed) + c->aside;

		/* Others may be at it: these are two looks at two moments. */
		out->free_blocks[i] = MIN(free, all);
		out->blocks[i] = all - out->free_blocks[i];
	}
	pthread_mutex_unlock(&pool->trade);
}
