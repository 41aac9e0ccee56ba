/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: what pool_get() does when its class has no free block and no slab is
 * bare. In this order:
 *
 *	1. blocks that a drain of the class' own slabs set aside
 *	2. slabs with all blocks free, of other classes that have more than one slab's worth
 *	   of free blocks. That much a class may keep, for a slab that was
 *	   just carved would go back and forth otherwise.
 *	3. slabs at least half free, of the same. What is in use there is evicted; the
 *	   class keeps free blocks elsewhere to put it back into.
 *	4. eviction: of one block of the class, or of a whole slab of the class
 *	   whose oldest block is more than twice as old, or belongs to an owner above its
 *	   share while the one who asks is below. With it go its neighbours, whosever they
 *	   are; of the slabs of some of the oldest blocks, the one is taken
 *	   where the fewest of these were hit
 *	5. as 2 and 3, down to the last block
 *	6. any slab that can be emptied, for an owner below its share
 *
 * Fragmentation. Memory is lost to a class, though free, when it lies in blocks of
 * others. Evicting begins when no other class has more free blocks than fill one slab, or than
 * leave its slabs less than half free: what is free then is at most half of the slabs of
 * the class, and usually a slab. And pool_get() fails only when no slab of another class is
 * half free, unless those have a block that cannot be evicted, because it is dirty, being
 * filled, or pinned. tests/unit/test-cache-pool-trade.c measures it.
 */
#include "base/util.h"
#include "cache/pool_priv.h"

#define TRADE_TRIES 3
/* How much older another class' oldest block has to be: by a factor, and by what fills a part
 * of the arena. */
#define TRADE_AGE_FACTOR 2u
#define TRADE_AGE_PART 16u
/* No slab is taken from another class for its age when more than this part was hit. */
#define TRADE_HOT_PART 8u
/* Slabs that step 5 looks at, of a class. */
#define TRADE_SWEEP 64u

/* A block, when there is one without taking anything from anybody. */
static block_id take_free(struct pool *pool, unsigned class)
{
	block_id id = slab_block_get(pool, class);

	return id ? id : slab_carve(pool, class);
}

uint32_t trade_slab_cost(const struct pool *pool, unsigned class, uint32_t slab)
{
	const struct block *b = &pool->arena.block[slab_first(pool, slab)];
	uint32_t cost = 0;

	for (uint32_t i = 0; i < pool->class[class].per_slab; i++, b += class_step(pool, class)) {
		uint32_t state = atomic_load_explicit(&b->state, memory_order_relaxed);

		if (state & BLOCK_FREE)
			continue;
		if (state & ~BLOCK_HOT)
			return COST_NEVER;
		cost += lru_stays(b);
	}
	return cost;
}

bool trade_slab_evict(struct pool *pool, unsigned class, uint32_t slab)
{
	block_id id = slab_first(pool, slab);
	uint32_t step = class_step(pool, class);

	for (uint32_t i = 0; i < pool->class[class].per_slab; i++, id += step)
		if (evict_block(pool, class, id))
			slab_block_put(pool, class, id);
		else if (!block_is(&pool->arena.block[id], BLOCK_FREE))
			return false;
	return true;
}

/* Makes the slab of @from bare, when that can be done. */
static bool slab_empty(struct pool *pool, unsigned from, uint32_t slab)
{
	if (!slab_drain_begin(pool, from, slab))
		return false;
	trade_slab_evict(pool, from, slab);
	slab_rotate(pool, from);
	return slab_drain_end(pool, from, slab);
}

static bool take_sparse(struct pool *pool, unsigned from)
{
	uint32_t least = MAX(pool->class[from].per_slab / 2, 1u);
	uint32_t slab = slab_find_sparse(pool, from, least);

	return slab && trade_slab_cost(pool, from, slab) != COST_NEVER &&
	       slab_empty(pool, from, slab);
}

static bool take_any(struct pool *pool, unsigned from)
{
	for (unsigned i = 0; i < TRADE_SWEEP; i++) {
		uint32_t slab = slab_find_any(pool, from);

		if (!slab)
			return false;
		if (trade_slab_cost(pool, from, slab) != COST_NEVER && slab_empty(pool, from, slab))
			return true;
	}
	return false;
}

/* The slab of an old block, when it costs less than @least. */
static bool take_old(struct pool *pool, unsigned from, const struct evict_outlook *look,
		     uint32_t least)
{
	uint32_t best = 0;

	for (unsigned i = 0; i < look->count; i++) {
		uint32_t slab = look->slab[i], cost = trade_slab_cost(pool, from, slab);

		if (cost < least) {
			best = slab;
			least = cost;
		}
	}
	return best && slab_empty(pool, from, best);
}

/* Whether the class has more free blocks than it may keep for itself. */
static bool class_idles(const struct pool *pool, unsigned class)
{
	const struct pool_class *c = &pool->class[class];

	return atomic_load_explicit(&c->free, memory_order_relaxed) > c->per_slab;
}

/* 2 and 3; with @all 5. */
static bool take_idle(struct pool *pool, unsigned class, bool all)
{
	for (unsigned i = 0; i < pool->classes; i++) {
		if (i == class || !(all || class_idles(pool, i)) || !slab_drain_empty(pool, i))
			continue;
		slab_rotate(pool, i);
		return true;
	}
	for (unsigned i = 0; i < pool->classes; i++)
		if (i != class && (all || class_idles(pool, i)) && take_sparse(pool, i))
			return true;
	return false;
}

/* 4: whether @other's is to be taken rather than @own. */
static bool trade_wanted(const struct pool *pool, const struct evict_outlook *own,
			 const struct evict_outlook *other, bool below)
{
	uint64_t slack = (pool_arena_bytes(pool) >> pool->arena.shift) / TRADE_AGE_PART;

	if (!other->count)
		return false;
	if (!own->count)
		return true;
	if (below && own->excess != other->excess)
		return other->excess;
	/* What somebody is about to read, or has read: its age is that of the wish for it. */
	if (own->unread && !other->unread)
		return other->age > own->age;
	return other->age > own->age * (uint64_t)TRADE_AGE_FACTOR + slack;
}

static block_id take_used(struct pool *pool, unsigned class, struct pool_owner *owner,
			  unsigned effort)
{
	bool below = owner_below_share(pool, owner);
	struct evict_outlook own, look[POOL_CLASSES_MAX];
	unsigned best = class;
	uint32_t least;
	block_id id;

	evict_look(pool, class, owner, effort, &own);
	look[class] = own;
	for (unsigned i = 0; i < pool->classes; i++) {
		if (i == class)
			continue;
		evict_look(pool, i, owner, effort, &look[i]);
		if (trade_wanted(pool, &own, &look[i], below) &&
		    (best == class || look[i].age > look[best].age))
			best = i;
	}
	least = own.count ? pool->class[best].per_slab / TRADE_HOT_PART + 1 : COST_NEVER;
	if (best != class && take_old(pool, best, &look[best], least)) {
		id = take_free(pool, class);
		if (id)
			return id;
	}
	id = evict_one(pool, class, owner);
	for (unsigned i = 0; i < pool->classes && !id; i++)
		if (i != class && take_old(pool, i, &look[i], COST_NEVER))
			id = take_free(pool, class);
	return id;
}

/* 6. */
static block_id take_forced(struct pool *pool, unsigned class, struct pool_owner *owner)
{
	block_id id = BLOCK_NONE;

	if (!owner_below_share(pool, owner))
		return BLOCK_NONE;
	for (unsigned i = 0; i < pool->classes && !id; i++)
		if (i != class && take_any(pool, i))
			id = take_free(pool, class);
	return id;
}

block_id trade_get(struct pool *pool, unsigned class, struct pool_owner *owner)
{
	for (unsigned tries = 0; tries < TRADE_TRIES; tries++) {
		block_id id = BLOCK_NONE;

		if (slab_drain_cancel_all(pool, class) || take_idle(pool, class, false))
			id = take_free(pool, class);
		if (!id)
			id = take_used(pool, class, owner, tries);
		if (!id && take_idle(pool, class, true))
			id = take_free(pool, class);
		if (!id)
			id = take_forced(pool, class, owner);
		if (!id) /* somebody else's eviction may have been in the way */
			id = take_free(pool, class);
		if (id)
			return id;
	}
	return BLOCK_NONE;
}
