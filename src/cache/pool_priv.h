/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the pool.
 *
 *	pool_arena.c	the memory
 *	pool_huge.c	huge pages for it
 *	pool_list.c	free blocks of a class
 *	pool_slab.c	slabs: carved, drained, bare again
 *	pool_evict.c	blocks in use: the LRU, owners, eviction
 *	pool_trade.c	what to do when nothing is free
 *	pool_resize.c	more or less memory than at the start
 *	pool.c		the rest
 *
 * A block that is not on a list has exactly one holder at any time: a user, a
 * thread on its way between list and user, or its slab (set aside). That is what
 * everything here keeps to; the counts beside it are hints.
 *
 * Locks: pool.trade covers slabs, and is never held together with another.
 * pool_class.lock covers the LRU lists of the class, and, all of them taken in order, the
 * table of owners. Neither while evict() runs.
 */
#ifndef OVFS_CACHE_POOL_PRIV_H
#define OVFS_CACHE_POOL_PRIV_H

#include <pthread.h>

#include "cache/pool.h"
#include "cache/pool_list.h"

#define POOL_OWNERS_MAX 65535u
#define POOL_SLABS_MIN 8u
/* pool_ahead_max(), the most, as a part of the arena. */
#define AHEAD_PART 8u

enum slab_state {
	SLAB_BARE,     /* not carved: on pool.bare, on pool.gone, or pool.fresh and beyond */
	SLAB_CARVED,   /* into blocks of a class */
	SLAB_DRAINING, /* who comes by one of its blocks, free, sets that aside */
};

struct pool_slab {
	_Alignas(64) _Atomic uint32_t free; /* blocks on the list of the class; may be one too many
					     * for a moment, never too few */
	_Atomic uint8_t state;		    /* written under pool.trade */

	/* pool.trade */
	uint8_t class;
	bool held;	/* draining, and somebody is at it: it keeps its class */
	uint16_t aside; /* blocks set aside */
	uint32_t next;	/* bare, gone */
};

struct pool_class {
	struct pool_list list;

	_Alignas(64) _Atomic uint32_t free; /* blocks on the list, as above */
	_Atomic uint32_t empty;		    /* slabs with all blocks on the list, about */
	_Atomic uint32_t draining;	    /* slabs; written under pool.trade */
	unsigned shift;			    /* of bytes of a block */
	unsigned per_slab;		    /* blocks */

	pthread_mutex_t lock;
	/* lock */
	struct lru_ghost ghost;
	uint32_t listed; /* blocks on the LRU lists of all owners */
	uint32_t cursor; /* owner that was looked at first the last time */

	/* pool.trade */
	uint32_t slabs;	      /* of this class */
	uint32_t aside;	      /* blocks */
	uint32_t sparse_skip; /* calls of slab_find_sparse() to ignore */
};

struct pool {
	struct pool_arena arena; /* first, see pool.h */
	pool_link *link;
	struct pool_slab *slab;	 /* 1 .. slabs_max; number 0 is a hole in the arena */
	uint32_t slabs_max;	 /* there are addresses and tables for so many, */
	_Atomic uint32_t slabs;	 /* and so many may have memory; under pool.trade */
	_Atomic uint32_t held;	 /* have it: carved or bare; more than slabs for a while after
				  * pool_resize(); under pool.trade */
	uint32_t slabs_reserved; /* from huge pages: at the start, see pool_arena.c */
	bool hugetlb;
	unsigned slab_shift; /* of bytes */
	unsigned classes;
	struct pool_class class[POOL_CLASSES_MAX];

	pool_evict_fn *evict;
	void *evict_arg;

	/* All class locks to write, any to read. */
	struct pool_owner **owner;
	uint32_t owner_end;	 /* numbers in use are below */
	uint32_t owner_low;	 /* those below are in use */
	_Atomic uint32_t owners; /* their count */

	_Atomic uint64_t evicted;

	_Atomic uint64_t ahead; /* pool_ahead_max() */

	_Atomic uint32_t huge_skip; /* pool_huge.c's: slabs to go without; UINT32_MAX: all */

	/* What was added to the LRU since the start, in units of the smallest class. Ages
	 * of blocks are differences of it, so that they mean the same in a fast pool and
	 * in a slow one. */
	_Alignas(64) _Atomic uint32_t clock;

	pthread_mutex_t trade;
	/* trade */
	uint32_t fresh;	 /* first slab that was never carved */
	uint32_t bare;	 /* others that are bare, linked by next; 0: none */
	uint32_t bares;	 /* their count */
	uint32_t gone;	 /* those whose memory was given back, likewise */
	uint32_t cursor; /* slab that was looked at first the last time */
	uint64_t slabs_returned;

	pthread_mutex_t trimming; /* outside of pool.trade: one pool_trim() at a time */

	/* The mappings, for munmap(). */
	void *map_arena, *map_block, *map_link, *map_ghost, *map_slab;
	size_t map_arena_len, map_block_len, map_link_len, map_ghost_len, map_slab_len;
};

static inline uint32_t slab_of(const struct pool *pool, block_id id)
{
	return id >> (pool->slab_shift - pool->arena.shift);
}

static inline block_id slab_first(const struct pool *pool, uint32_t slab)
{
	return slab << (pool->slab_shift - pool->arena.shift);
}

/* Distance of two blocks of @class. */
static inline uint32_t class_step(const struct pool *pool, unsigned class)
{
	return 1u << (pool->class[class].shift - pool->arena.shift);
}

static inline uint64_t pool_arena_bytes(const struct pool *pool)
{
	return (uint64_t)atomic_load_explicit(&pool->slabs, memory_order_relaxed)
	       << pool->slab_shift;
}

/* ---- pool_arena.c ---- */

/* Maps all memory for pool->slabs_max slabs, the classes being set. Released by
 * pool_arena_exit() also when it fails. */
struct err *pool_arena_init(struct pool *pool, enum pool_huge_pages huge_pages)
	__attribute__((warn_unused_result));
void pool_arena_exit(struct pool *pool);
/* Bytes of anything that a slab costs: itself, descriptors, links, ghosts. */
uint64_t pool_arena_slab_cost(const struct pool *pool);
/* The memory of a bare slab goes back to the host. Its bytes are zero afterwards. */
void pool_arena_release(struct pool *pool, uint32_t slab);
/* Before a slab is carved that has no memory: false when the host has none for it. */
bool pool_arena_provide(struct pool *pool, uint32_t slab);

/* ---- pool_huge.c ---- */

/* Before a slab is carved that has no memory yet: huge pages for it, if they can be had. Without
 * pool.trade. */
void pool_huge_back(struct pool *pool, uint32_t slab);

/* ---- pool_slab.c ---- */

/* A free block of the class, BLOCK_NONE when there is none. */
block_id slab_block_get(struct pool *pool, unsigned class);
/* The caller's free block @id of @class goes back. */
void slab_block_put(struct pool *pool, unsigned class, block_id id);
/* Whether the caller's free block was set aside, as its slab drains: it is gone then. */
bool slab_block_aside(struct pool *pool, block_id id);

/* Carves a bare slab and takes its first block; BLOCK_NONE when there is none. */
block_id slab_carve(struct pool *pool, unsigned class);

/* From now on, free blocks of the slab are set aside, and it keeps its class, until the caller
 * says slab_drain_end(). False when it is not one of @class, or is being drained. */
bool slab_drain_begin(struct pool *pool, unsigned class, uint32_t slab);
/* True: all were, it is bare. False: they are free again. */
bool slab_drain_end(struct pool *pool, unsigned class, uint32_t slab);
static inline bool slab_is_draining(const struct pool *pool, uint32_t slab)
{
	return atomic_load_explicit(&pool->slab[slab].state, memory_order_acquire) == SLAB_DRAINING;
}

/* Passes the list of @class through once, or a bounded part of it, so that free blocks of
 * draining slabs are set aside. */
void slab_rotate(struct pool *pool, unsigned class);

/* Cancels what slab_drain_empty() began in @class. Whether that set a block free. */
bool slab_drain_cancel_all(struct pool *pool, unsigned class);
/* Starts draining slabs of @class whose blocks are all free; how many. */
unsigned slab_drain_empty(struct pool *pool, unsigned class);
/* The slab of @class, of a bounded part of them, with the most free blocks; 0 when none has
 * @least, and for some calls after that. */
uint32_t slab_find_sparse(struct pool *pool, unsigned class, uint32_t least);
/* Any slab of @class, each in turn; 0 when there is none near. */
uint32_t slab_find_any(struct pool *pool, unsigned class);
/* The next slab of @class after @slab that is carved; 0 at the end. */
uint32_t slab_find_next(struct pool *pool, unsigned class, uint32_t slab);

/* Gives back the memory of bare slabs until no more have any than pool.slabs. */
void slab_release_bare(struct pool *pool);

/* ---- pool_evict.c ---- */

/* Evicts one block of @class for @owner: it is FREE and the caller's. Else BLOCK_NONE.
 * Of owners above their share, or of @owner itself; else of anybody, when @owner is below his. */
block_id evict_one(struct pool *pool, unsigned class, struct pool_owner *owner);

/* Evicts the block @id, if it can be; it is the caller's then. Its slab is being drained by
 * the caller and of @class. */
bool evict_block(struct pool *pool, unsigned class, block_id id);

#define EVICT_SLABS 8u

/* With what evict_one() would begin. @effort: 0 and up, how far to look. */
struct evict_outlook {
	uint32_t age;		    /* of the first, by pool.clock */
	bool excess;		    /* of an owner above its share */
	bool unread;		    /* the first was never read */
	unsigned count;		    /* 0: with nothing */
	uint32_t slab[EVICT_SLABS]; /* of the first and some after that */
};
void evict_look(struct pool *pool, unsigned class, const struct pool_owner *owner, unsigned effort,
		struct evict_outlook *out);

/* pool_ahead_max() of a pool of another size. */
void evict_set_ahead(struct pool *pool);

/* Whether @owner holds less than its share. */
bool owner_below_share(const struct pool *pool, const struct pool_owner *owner);

/* Takes @block off the LRU for pool_put(). False: it is in limbo, and whoever tries to evict
 * it will find it abandoned and give it back. The bytes are no longer @owner's then. */
bool evict_forget(struct pool *pool, struct block *block, struct pool_owner *owner);

static inline void owner_charge(struct pool *pool, struct pool_owner *owner, unsigned class)
{
	atomic_fetch_add_explicit(&owner->bytes, 1ull << pool->class[class].shift,
				  memory_order_relaxed);
}

/* The last that the pool does with @owner for a block. */
static inline void owner_discharge(struct pool *pool, struct pool_owner *owner, unsigned class)
{
	atomic_fetch_sub_explicit(&owner->bytes, 1ull << pool->class[class].shift,
				  memory_order_release);
}

/* ---- pool_trade.c ---- */

/* A block of @class when no block and no slab is free, or BLOCK_NONE. */
block_id trade_get(struct pool *pool, unsigned class, struct pool_owner *owner);

#define COST_NEVER UINT32_MAX

/* What is lost with the slab: blocks that would stay for hits. COST_NEVER: one that cannot be
 * evicted. A guess. */
uint32_t trade_slab_cost(const struct pool *pool, unsigned class, uint32_t slab);
/* Evicts all of a slab that the caller drains. False: it cannot be done now. */
bool trade_slab_evict(struct pool *pool, unsigned class, uint32_t slab);

#endif
