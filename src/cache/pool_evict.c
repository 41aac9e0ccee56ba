/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks in use. Each owner has lists of its own for each class (cache/lru.h), so that
 * choosing whose memory is taken is choosing a list.
 *
 * Shares: with n owners, each is entitled to 1/n of the arena. Memory is taken from whoever is
 * furthest above that, or from the one who asks; and from anybody, for one who has not got his
 * share, when these have nothing that could go. As long as there is free memory, or somebody
 * who is above, all get what they want.
 *
 * An eviction is tried without a lock, for evict() is other people's code. Meanwhile the block
 * is on no list, in limbo, and its holder may give it back all the same: pool_put()
 * then marks it as abandoned, and leaves the rest to whoever finds evict() refused. So a
 * block never begins a new life while a thread looks at it as what it was.
 */
#include <errno.h>
#include <sched.h>

#include "base/util.h"
#include "cache/pool_priv.h"

/* Blocks of a list that one search looks at, and evict() that it has refused. */
#define SEARCH_STEPS 256u
#define SEARCH_REFUSED 16u
/* Blocks that one look at a class passes over, and whose slabs it collects. Each look lets
 * those that were hit go round, so that a class that needs no memory itself ages too. */
#define LOOK_STEPS 32u
/* pool_ahead_max(), the least, in bytes. */
#define AHEAD_MIN 65536
/* Owners that one search looks at. */
#define SEARCH_OWNERS 256u

static uint32_t now(const struct pool *pool)
{
	return atomic_load_explicit(&pool->clock, memory_order_relaxed);
}

static uint64_t owner_bytes(const struct pool_owner *owner)
{
	return atomic_load_explicit(&owner->bytes, memory_order_acquire);
}

static uint64_t share(const struct pool *pool)
{
	uint32_t owners = atomic_load_explicit(&pool->owners, memory_order_relaxed);

	return pool_arena_bytes(pool) / MAX(owners, 1u);
}

bool owner_below_share(const struct pool *pool, const struct pool_owner *owner)
{
	return owner_bytes(owner) <= share(pool);
}

/* @owner, when it has something in @class. With the lock of the class, as owner_choose(). */
static struct pool_owner *owner_self(const struct pool *pool, unsigned class,
				     const struct pool_owner *owner)
{
	struct pool_owner *own = pool->owner[owner->number];

	return lru_count(&own->lru[class]) ? own : NULL;
}

/* Whose list of @class is to be searched for @owner. With the lock of the class. */
static struct pool_owner *owner_choose(struct pool *pool, unsigned class,
				       const struct pool_owner *owner)
{
	struct pool_class *c = &pool->class[class];
	uint64_t most = share(pool);
	struct pool_owner *best = NULL;

	for (uint32_t i = 0; i < MIN(pool->owner_end, SEARCH_OWNERS); i++) {
		struct pool_owner *o;

		if (++c->cursor >= pool->owner_end)
			c->cursor = 0;
		o = pool->owner[c->cursor];
		if (!o || !lru_count(&o->lru[class]) || owner_bytes(o) <= most)
			continue;
		best = o;
		most = owner_bytes(o);
	}
	return best ? best : owner_self(pool, class, owner);
}

/* Whose blocks evict_one() looks at: his who has most beyond his share, else those of who asks,
 * else anybody's, each once. */
enum search { SEARCH_CHOSEN, SEARCH_OWN, SEARCH_ANY };

/* *@next: of SEARCH_ANY, the number of the next. With the lock of the class. */
static struct pool_owner *owner_search(struct pool *pool, unsigned class,
				       const struct pool_owner *owner, enum search whose,
				       uint32_t *next)
{
	if (whose == SEARCH_CHOSEN)
		return owner_choose(pool, class, owner);
	if (whose == SEARCH_OWN)
		return owner_self(pool, class, owner);
	while (*next < MIN(pool->owner_end, SEARCH_OWNERS)) {
		struct pool_owner *o = pool->owner[(*next)++];

		if (o && lru_count(&o->lru[class]))
			return o;
	}
	return NULL;
}

/*
 * How far ahead of one reader may be fetched, as memory is: it shrinks with each block evicted
 * that nobody read, and grows with each that is added, a sixteenth as fast. So about that part
 * is what is fetched in vain, however many readers there are. Threads that change it at
 * the same time may lose a change.
 */
static void ahead_change(struct pool *pool, unsigned class, bool shrink)
{
	uint64_t ahead = atomic_load_explicit(&pool->ahead, memory_order_relaxed);
	uint64_t size = 1ull << pool->class[class].shift, arena = pool_arena_bytes(pool);
	double part = (double)size / (double)arena;

	if (shrink)
		ahead -= (uint64_t)((double)ahead * MIN(part * 4, 0.5));
	else
		ahead += (uint64_t)((double)ahead * part / 4);
	ahead = MAX(ahead, (uint64_t)AHEAD_MIN);
	ahead = MIN(ahead, arena / AHEAD_PART);
	atomic_store_explicit(&pool->ahead, ahead, memory_order_relaxed);
}

void evict_set_ahead(struct pool *pool)
{
	atomic_store_explicit(&pool->ahead, pool_arena_bytes(pool) / AHEAD_PART,
			      memory_order_relaxed);
}

uint64_t pool_ahead_max(const struct pool *pool)
{
	return atomic_load_explicit(&pool->ahead, memory_order_relaxed);
}

/* Lets evict() try a block that is in limbo. */
static bool evict_try(struct pool *pool, unsigned class, struct block *b, enum lru_place place,
		      bool unread)
{
	struct pool_class *c = &pool->class[class];
	block_id id = pool_block_id(pool, b);
	struct pool_owner *owner = pool->evict(pool->evict_arg, b);
	bool abandoned;

	if (owner) {
		atomic_store_explicit(&b->queue, LRU_NONE, memory_order_relaxed);
		owner_discharge(pool, owner, class);
		atomic_fetch_add_explicit(&pool->evicted, 1, memory_order_relaxed);
		if (unread)
			ahead_change(pool, class, true);
		return true;
	}
	pthread_mutex_lock(&c->lock);
	abandoned = atomic_load_explicit(&b->queue, memory_order_relaxed) == LRU_ABANDONED;
	if (abandoned) {
		atomic_store_explicit(&b->queue, LRU_NONE, memory_order_relaxed);
	} else {
		/* Somebody uses it: as if it had been in use at the first look. */
		c->listed++;
		lru_add(&pool->owner[b->owner]->lru[class], NULL, pool->arena.block, id,
			place == LRU_MAIN, c->listed, now(pool));
	}
	pthread_mutex_unlock(&c->lock);
	if (abandoned)
		slab_block_put(pool, class, id);
	return false;
}

block_id evict_one(struct pool *pool, unsigned class, struct pool_owner *owner)
{
	struct pool_class *c = &pool->class[class];
	unsigned steps = SEARCH_STEPS, refused = 0;
	enum search whose = SEARCH_CHOSEN;
	uint32_t next = 0;

	while (refused < SEARCH_REFUSED) {
		struct pool_owner *from;
		block_id id = BLOCK_NONE;
		enum lru_place place = LRU_NONE;
		bool unread = false;

		pthread_mutex_lock(&c->lock);
		from = owner_search(pool, class, owner, whose, &next);
		if (from)
			id = lru_look(&from->lru[class], pool->arena.block, &steps, now(pool));
		if (id) {
			place = lru_place_of(&pool->arena.block[id]);
			unread = lru_unread(&pool->arena.block[id]);
			lru_take(&from->lru[class], &c->ghost, pool->arena.block, id, c->listed);
			c->listed--;
		}
		pthread_mutex_unlock(&c->lock);
		if (!id) {
			if (whose == SEARCH_ANY && !from)
				break;
			/* All that the others have may be dirty, for as long as their storages are
			 * dead. But who has his share takes nothing from those who have not. */
			if (whose == SEARCH_CHOSEN)
				whose = SEARCH_OWN;
			else if (whose == SEARCH_OWN && owner_below_share(pool, owner))
				whose = SEARCH_ANY;
			else if (whose == SEARCH_OWN)
				break;
			steps = SEARCH_STEPS;
			continue;
		}
		/* Another thread may be after the slab. */
		if (evict_try(pool, class, &pool->arena.block[id], place, unread) &&
		    !slab_block_aside(pool, id))
			return id;
		refused++;
	}
	return BLOCK_NONE;
}

bool evict_block(struct pool *pool, unsigned class, block_id id)
{
	struct pool_class *c = &pool->class[class];
	struct block *b = &pool->arena.block[id];
	bool listed, unread = false;
	enum lru_place place;

	pthread_mutex_lock(&c->lock);
	place = lru_place_of(b);
	listed = place == LRU_SMALL || place == LRU_MAIN;
	if (listed) {
		unread = lru_unread(b);
		lru_take(&pool->owner[b->owner]->lru[class], NULL, pool->arena.block, id, 0);
		c->listed--;
	}
	pthread_mutex_unlock(&c->lock);
	return listed && evict_try(pool, class, b, place, unread);
}

void evict_look(struct pool *pool, unsigned class, const struct pool_owner *owner, unsigned effort,
		struct evict_outlook *out)
{
	struct pool_class *c = &pool->class[class];
	unsigned steps = LOOK_STEPS << 3 * effort;
	struct pool_owner *from;
	block_id id = BLOCK_NONE;

	out->count = 0;
	pthread_mutex_lock(&c->lock);
	from = owner_choose(pool, class, owner);
	if (from)
		id = lru_look(&from->lru[class], pool->arena.block, &steps, now(pool));
	if (id) {
		out->age = now(pool) - pool->arena.block[id].added;
		out->excess = !owner_below_share(pool, from);
		out->unread = lru_unread(&pool->arena.block[id]);
	}
	for (unsigned i = 0; id && i < LOOK_STEPS && out->count < EVICT_SLABS; i++) {
		uint32_t slab = slab_of(pool, id);

		if (!out->count || out->slab[out->count - 1] != slab)
			out->slab[out->count++] = slab;
		id = pool->arena.block[id].next;
	}
	pthread_mutex_unlock(&c->lock);
}

void pool_add(struct pool *pool, struct block *b)
{
	struct pool_class *c = &pool->class[b->class];

	atomic_fetch_add_explicit(&pool->clock, class_step(pool, b->class), memory_order_relaxed);
	ahead_change(pool, b->class, false);
	pthread_mutex_lock(&c->lock);
	c->listed++;
	lru_add(&pool->owner[b->owner]->lru[b->class], &c->ghost, pool->arena.block,
		pool_block_id(pool, b), false, c->listed, now(pool));
	pthread_mutex_unlock(&c->lock);
}

bool evict_forget(struct pool *pool, struct block *b, struct pool_owner *owner)
{
	struct pool_class *c = &pool->class[b->class];
	bool limbo = false;
	uint8_t queue;

	if (atomic_load_explicit(&b->queue, memory_order_relaxed) != LRU_NONE) {
		pthread_mutex_lock(&c->lock);
		queue = atomic_load_explicit(&b->queue, memory_order_relaxed);
		limbo = queue == LRU_LIMBO;
		if (limbo) {
			atomic_store_explicit(&b->queue, LRU_ABANDONED, memory_order_relaxed);
		} else {
			c->listed--;
			lru_remove(&owner->lru[b->class], pool->arena.block,
				   pool_block_id(pool, b));
		}
		pthread_mutex_unlock(&c->lock);
	}
	/* b is not ours any more when it is in limbo. */
	owner_discharge(pool, owner, (unsigned)(c - pool->class));
	return !limbo;
}

/* ---- Owners ---- */

static void lock_classes(struct pool *pool)
{
	for (unsigned i = 0; i < pool->classes; i++)
		pthread_mutex_lock(&pool->class[i].lock);
}

static void unlock_classes(struct pool *pool)
{
	for (unsigned i = pool->classes; i > 0; i--)
		pthread_mutex_unlock(&pool->class[i - 1].lock);
}

int pool_owner_init(struct pool *pool, struct pool_owner *owner)
{
	uint32_t number;

	*owner = (struct pool_owner){ 0 };
	lock_classes(pool);
	number = pool->owner_low;
	while (number < POOL_OWNERS_MAX && pool->owner[number])
		number++;
	if (number < POOL_OWNERS_MAX) {
		owner->number = (uint16_t)number;
		pool->owner[number] = owner;
		pool->owner_low = number + 1;
		pool->owner_end = MAX(pool->owner_end, number + 1);
		atomic_fetch_add_explicit(&pool->owners, 1, memory_order_relaxed);
	}
	unlock_classes(pool);
	return number < POOL_OWNERS_MAX ? 0 : -ENOSPC;
}

/* Evicts a block of each class that @owner still has: one that was dropped while somebody
 * looked at it was left to the evictor. */
static void owner_reclaim(struct pool *pool, struct pool_owner *owner)
{
	for (unsigned i = 0; i < pool->classes; i++) {
		struct pool_class *c = &pool->class[i];
		struct lru *lru = &owner->lru[i];
		enum lru_place place = LRU_NONE;
		block_id id;

		pthread_mutex_lock(&c->lock);
		id = lru->small.oldest ? lru->small.oldest : lru->main.oldest;
		if (id) {
			place = lru_place_of(&pool->arena.block[id]);
			lru_take(lru, &c->ghost, pool->arena.block, id, c->listed);
			c->listed--;
		}
		pthread_mutex_unlock(&c->lock);
		if (id && evict_try(pool, i, &pool->arena.block[id], place, false))
			slab_block_put(pool, i, id);
	}
}

void pool_owner_exit(struct pool *pool, struct pool_owner *owner)
{
	while (owner_bytes(owner) > 0) {
		owner_reclaim(pool, owner);
		sched_yield();
	}
	lock_classes(pool);
	pool->owner[owner->number] = NULL;
	pool->owner_low = MIN(pool->owner_low, owner->number);
	while (pool->owner_end > 0 && !pool->owner[pool->owner_end - 1])
		pool->owner_end--;
	atomic_fetch_sub_explicit(&pool->owners, 1, memory_order_relaxed);
	unlock_classes(pool);
}
