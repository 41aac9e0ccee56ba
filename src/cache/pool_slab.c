/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * Free blocks of a class are on one list, wherever they lie, and nothing can be
 * taken out of its middle. So a slab does not leave its class in one step: it is marked as
 * draining, and from then on whoever comes by one of its blocks while that is free, taking
 * it from the list, giving it back, or having evicted it, sets it aside. As each block
 * has one holder at any time, each is set aside once; with the last one the slab is
 * bare. slab_rotate() takes the blocks off the list that nobody comes by for: it pops
 * each and appends it again.
 *
 * Setting aside, and changing the state of a slab, is done under pool.trade. The look at the
 * state before that takes no lock, and may miss that draining just began: then
 * the block goes on the list, or into use, as if it had been done before that, and the slab
 * waits for it. When it waits for too long (the block is dirty) draining is cancelled, and
 * those set aside go back to the list.
 *
 * The counts of free blocks choose slabs; nothing depends on them being right.
 */
#include "base/util.h"
#include "cache/pool_priv.h"

/* Blocks that one slab_rotate() passes; some milliseconds. */
#define ROTATE_MAX 65536u
/* Slabs that one look under pool.trade covers. */
#define LOOK_MAX 4096u
/* Slabs that begin draining at a time, as one rotation serves them all. */
#define DRAIN_MAX 64u

/* After a look for a sparse slab in vain, so many calls do not look. */
#define SPARSE_SKIP 16u

/* What a block that is set aside has in its link, which nobody else looks at meanwhile. */
#define LINK_ASIDE (POOL_LINK_CLOSED - 1)

static void link_set(struct pool *pool, block_id id, uint32_t what)
{
	uint64_t old = atomic_load_explicit(&pool->link[id], memory_order_relaxed);

	atomic_store_explicit(&pool->link[id], pool_list_link(old, what), memory_order_release);
}

static void count_listed(struct pool *pool, unsigned class, uint32_t slab)
{
	struct pool_class *c = &pool->class[class];

	if (atomic_fetch_add_explicit(&pool->slab[slab].free, 1, memory_order_relaxed) + 1 ==
	    c->per_slab)
		atomic_fetch_add_explicit(&c->empty, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&c->free, 1, memory_order_relaxed);
}

static void count_unlisted(struct pool *pool, unsigned class, uint32_t slab)
{
	struct pool_class *c = &pool->class[class];

	if (atomic_fetch_sub_explicit(&pool->slab[slab].free, 1, memory_order_relaxed) ==
	    c->per_slab)
		atomic_fetch_sub_explicit(&c->empty, 1, memory_order_relaxed);
	atomic_fetch_sub_explicit(&c->free, 1, memory_order_relaxed);
}

static void slab_set_state(struct pool *pool, struct pool_slab *s, enum slab_state state)
{
	uint8_t old = atomic_load_explicit(&s->state, memory_order_relaxed);
	struct pool_class *c = &pool->class[s->class];

	if (state == SLAB_DRAINING)
		atomic_fetch_add_explicit(&c->draining, 1, memory_order_relaxed);
	else if (old == SLAB_DRAINING)
		atomic_fetch_sub_explicit(&c->draining, 1, memory_order_relaxed);
	atomic_store_explicit(&s->state, (uint8_t)state, memory_order_release);
}

/* With the lock. All its blocks are set aside. */
static void slab_return(struct pool *pool, uint32_t slab)
{
	struct pool_slab *s = &pool->slab[slab];
	struct pool_class *c = &pool->class[s->class];

	slab_set_state(pool, s, SLAB_BARE);
	c->aside -= s->aside;
	s->aside = 0;
	c->slabs--;
	s->next = pool->bare;
	pool->bare = slab;
	pool->bares++;
	pool->slabs_returned++;
}

bool slab_block_aside(struct pool *pool, block_id id)
{
	uint32_t slab = slab_of(pool, id);
	struct pool_slab *s = &pool->slab[slab];
	struct pool_class *c;
	bool draining;

	if (likely(!slab_is_draining(pool, slab)))
		return false;
	pthread_mutex_lock(&pool->trade);
	draining = slab_is_draining(pool, slab);
	c = &pool->class[s->class];
	if (draining) {
		link_set(pool, id, LINK_ASIDE);
		c->aside++;
		s->aside++;
	}
	if (draining && s->aside == c->per_slab && !s->held)
		slab_return(pool, slab);
	pthread_mutex_unlock(&pool->trade);
	return draining;
}

block_id slab_block_get(struct pool *pool, unsigned class)
{
	block_id id;

	while ((id = pool_list_pop(&pool->class[class].list, pool->link)) != BLOCK_NONE) {
		count_unlisted(pool, class, slab_of(pool, id));
		if (!slab_block_aside(pool, id))
			break;
	}
	return id;
}

void slab_block_put(struct pool *pool, unsigned class, block_id id)
{
	if (slab_block_aside(pool, id))
		return;
	count_listed(pool, class, slab_of(pool, id));
	pool_list_push(&pool->class[class].list, pool->link, id, 1, 1);
}

/* With the lock. A slab that had no memory has some now; 0: there may be no more. */
static uint32_t slab_provide(struct pool *pool)
{
	uint32_t held = atomic_load_explicit(&pool->held, memory_order_relaxed);
	bool fresh = pool->fresh <= pool->slabs_max;
	uint32_t slab = pool->gone ? pool->gone : pool->fresh;

	if (held >= atomic_load_explicit(&pool->slabs, memory_order_relaxed) ||
	    !(pool->gone || fresh))
		return 0;
	if ((pool->gone || slab > pool->slabs_reserved) && !pool_arena_provide(pool, slab))
		return 0;
	if (pool->gone)
		pool->gone = pool->slab[slab].next;
	else
		pool->fresh++;
	atomic_store_explicit(&pool->held, held + 1, memory_order_relaxed);
	return slab;
}

void slab_release_bare(struct pool *pool)
{
	uint32_t held;

	pthread_mutex_lock(&pool->trade);
	while ((held = atomic_load_explicit(&pool->held, memory_order_relaxed)) >
		       atomic_load_explicit(&pool->slabs, memory_order_relaxed) &&
	       pool->bare) {
		uint32_t slab = pool->bare;

		/* On no list meanwhile: it is ours. */
		pool->bare = pool->slab[slab].next;
		pool->bares--;
		pthread_mutex_unlock(&pool->trade);
		pool_arena_release(pool, slab);
		pthread_mutex_lock(&pool->trade);
		pool->slab[slab].next = pool->gone;
		pool->gone = slab;
		atomic_fetch_sub_explicit(&pool->held, 1, memory_order_relaxed);
	}
	pthread_mutex_unlock(&pool->trade);
}

block_id slab_carve(struct pool *pool, unsigned class)
{
	struct pool_class *c = &pool->class[class];
	uint32_t step = class_step(pool, class), slab;
	struct pool_slab *s;
	block_id first;

	pthread_mutex_lock(&pool->trade);
	/* More than there may be, it is for slab_release_bare(). */
	if (pool->bare && atomic_load_explicit(&pool->held, memory_order_relaxed) <=
				  atomic_load_explicit(&pool->slabs, memory_order_relaxed)) {
		slab = pool->bare;
		pool->bare = pool->slab[slab].next;
		pool->bares--;
	} else {
		slab = slab_provide(pool);
		if (slab) { /* on no list: it is ours */
			pthread_mutex_unlock(&pool->trade);
			pool_huge_back(pool, slab);
			pthread_mutex_lock(&pool->trade);
		}
	}
	if (!slab) {
		pthread_mutex_unlock(&pool->trade);
		return BLOCK_NONE;
	}
	s = &pool->slab[slab];
	s->class = (uint8_t) class;
	c->slabs++;
	first = slab_first(pool, slab);
	for (uint32_t i = 0; i < c->per_slab; i++) {
		struct block *b = &pool->arena.block[first + i * step];

		/* A reader that came too late may hold a pin for a moment. */
		atomic_fetch_or_explicit(&b->state, BLOCK_FREE, memory_order_relaxed);
		b->class = (uint8_t) class;
	}
	link_set(pool, first, POOL_LINK_CLOSED);
	/* before anybody can take one */
	atomic_store_explicit(&s->free, c->per_slab - 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&c->free, c->per_slab - 1, memory_order_relaxed);
	slab_set_state(pool, s, SLAB_CARVED);
	if (c->per_slab > 1)
		pool_list_push(&c->list, pool->link, first + step, step, c->per_slab - 1);
	pthread_mutex_unlock(&pool->trade);
	return first;
}

/* With the lock. */
static bool slab_is_of(const struct pool *pool, uint32_t slab, unsigned class,
		       enum slab_state state)
{
	const struct pool_slab *s = &pool->slab[slab];

	return atomic_load_explicit(&s->state, memory_order_relaxed) == state && s->class == class;
}

/* With the lock. The list takes no lock, so that it may be appended to here. */
static void drain_cancel(struct pool *pool, unsigned class, uint32_t slab)
{
	struct pool_class *c = &pool->class[class];
	struct pool_slab *s = &pool->slab[slab];
	uint32_t step = class_step(pool, class);
	block_id id = slab_first(pool, slab);

	slab_set_state(pool, s, SLAB_CARVED);
	for (uint32_t i = 0; i < c->per_slab && s->aside > 0; i++, id += step) {
		if (pool_list_link_id(pool->link[id]) != LINK_ASIDE)
			continue;
		s->aside--;
		c->aside--;
		count_listed(pool, class, slab);
		pool_list_push(&c->list, pool->link, id, 1, 1);
	}
}

bool slab_drain_begin(struct pool *pool, unsigned class, uint32_t slab)
{
	bool can;

	pthread_mutex_lock(&pool->trade);
	can = slab_is_of(pool, slab, class, SLAB_CARVED);
	if (can) {
		slab_set_state(pool, &pool->slab[slab], SLAB_DRAINING);
		pool->slab[slab].held = true;
	}
	pthread_mutex_unlock(&pool->trade);
	return can;
}

bool slab_drain_end(struct pool *pool, unsigned class, uint32_t slab)
{
	struct pool_slab *s = &pool->slab[slab];
	bool all;

	pthread_mutex_lock(&pool->trade);
	s->held = false;
	all = s->aside == pool->class[class].per_slab;
	if (all)
		slab_return(pool, slab);
	else
		drain_cancel(pool, class, slab);
	pthread_mutex_unlock(&pool->trade);
	return all;
}

bool slab_drain_cancel_all(struct pool *pool, unsigned class)
{
	struct pool_class *c = &pool->class[class];
	bool any = false;

	if (!atomic_load_explicit(&c->draining, memory_order_relaxed))
		return false;
	pthread_mutex_lock(&pool->trade);
	for (uint32_t slab = 1; slab < pool->fresh; slab++) {
		if (!slab_is_of(pool, slab, class, SLAB_DRAINING) || pool->slab[slab].held)
			continue;
		any |= pool->slab[slab].aside > 0;
		drain_cancel(pool, class, slab);
	}
	pthread_mutex_unlock(&pool->trade);
	return any;
}

/* With the lock. The next slab to look at, all in turn. */
static uint32_t slab_next(struct pool *pool)
{
	if (pool->cursor == 0 || ++pool->cursor >= pool->fresh)
		pool->cursor = 1;
	return pool->cursor;
}

unsigned slab_drain_empty(struct pool *pool, unsigned class)
{
	const uint32_t per_slab = pool->class[class].per_slab;
	unsigned count = 0;

	if (!atomic_load_explicit(&pool->class[class].empty, memory_order_relaxed))
		return 0;
	pthread_mutex_lock(&pool->trade);
	for (uint32_t i = 1; i < MIN(pool->fresh, LOOK_MAX) && count < DRAIN_MAX; i++) {
		uint32_t slab = slab_next(pool);

		if (!slab_is_of(pool, slab, class, SLAB_CARVED) ||
		    atomic_load_explicit(&pool->slab[slab].free, memory_order_relaxed) < per_slab)
			continue;
		slab_set_state(pool, &pool->slab[slab], SLAB_DRAINING);
		count++;
	}
	pthread_mutex_unlock(&pool->trade);
	return count;
}

uint32_t slab_find_sparse(struct pool *pool, unsigned class, uint32_t least)
{
	struct pool_class *c = &pool->class[class];
	uint32_t free = atomic_load_explicit(&c->free, memory_order_relaxed);
	uint32_t best = 0, most = MAX(least, 1u);

	if (free < most)
		return 0;
	pthread_mutex_lock(&pool->trade);
	if (c->sparse_skip > 0) {
		c->sparse_skip--;
		pthread_mutex_unlock(&pool->trade);
		return 0;
	}
	for (uint32_t i = 1; i < MIN(pool->fresh, LOOK_MAX); i++) {
		uint32_t slab = slab_next(pool), n;

		n = atomic_load_explicit(&pool->slab[slab].free, memory_order_relaxed);
		if (n < most || !slab_is_of(pool, slab, class, SLAB_CARVED))
			continue;
		best = slab;
		most = n + 1;
	}
	c->sparse_skip = best ? 0 : SPARSE_SKIP;
	pthread_mutex_unlock(&pool->trade);
	return best;
}

uint32_t slab_find_any(struct pool *pool, unsigned class)
{
	uint32_t found = 0;

	pthread_mutex_lock(&pool->trade);
	for (uint32_t i = 1; i < MIN(pool->fresh, LOOK_MAX) && !found; i++) {
		uint32_t slab = slab_next(pool);

		if (slab_is_of(pool, slab, class, SLAB_CARVED))
			found = slab;
	}
	pthread_mutex_unlock(&pool->trade);
	return found;
}

uint32_t slab_find_next(struct pool *pool, unsigned class, uint32_t slab)
{
	pthread_mutex_lock(&pool->trade);
	do {
		slab++;
	} while (slab < pool->fresh && !slab_is_of(pool, slab, class, SLAB_CARVED));
	if (slab >= pool->fresh)
		slab = 0;
	pthread_mutex_unlock(&pool->trade);
	return slab;
}

void slab_rotate(struct pool *pool, unsigned class)
{
	struct pool_class *c = &pool->class[class];
	uint32_t steps = atomic_load_explicit(&c->free, memory_order_relaxed);

	for (steps = MIN(steps, ROTATE_MAX); steps > 0; steps--) {
		block_id id;

		if (!atomic_load_explicit(&c->draining, memory_order_relaxed))
			return;
		id = pool_list_pop(&c->list, pool->link);
		if (id == BLOCK_NONE)
			return;
		count_unlisted(pool, class, slab_of(pool, id));
		slab_block_put(pool, class, id);
	}
}
