/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block pool: all memory of the cache, in blocks of several sizes.
 *
 * One memfd arena, mapped once, cut into slabs of the size of the largest class. A slab is
 * carved into blocks of one class when that class has none left, and goes back
 * when all its blocks are free, so that classes trade memory. The free blocks of
 * a class are a linked list, taken at the head and returned at the tail, O(1),
 * lock-free; pool.c explains how, and why ABA cannot hurt.
 *
 * Blocks in use are on the LRU. pool_get() prefers a free block, then a free slab,
 * and then has clean blocks evicted, those first that were not hit for long; and those
 * of owners that hold more than their fair share before those of others.
 *
 * Fragmentation: what is free may lie in blocks of other classes. Where it can be had, that is
 * where nothing dirty or pinned is in the way, all of it is. In a pool of 64 MiB
 * full of dirty blocks of 4 KiB to 2 MiB that come and go at random, pool_get() fails with 14 %
 * free on average, 29 % at worst, and only for large blocks (test-cache-pool-trade.c).
 *
 * The budget is the arena and the descriptors of what was carved: pool_new() makes the
 * arena so much smaller than @size. Nothing else grows with what is cached here. In a pool that
 * was larger once, the descriptors of then stay: 2 % of what it is smaller by, at most.
 *
 * Threads: everything from any thread. Nothing blocks; locks inside cover one class'
 * LRU list, or the carving of a slab, and are never held while evict() runs for another.
 */
#ifndef OVFS_CACHE_POOL_H
#define OVFS_CACHE_POOL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "cache/block.h"
#include "cache/lru.h"

#define POOL_CLASSES_MAX 8
#define POOL_BLOCK_MIN 4096u /* bytes, the least a class may have */
#define POOL_BLOCK_MAX (16u << 20)

enum pool_huge_pages { POOL_HUGE_AUTO, POOL_HUGE_NEVER, POOL_HUGE_ALWAYS };

struct pool_config {
	uint64_t size;				/* bytes in all, at least 8 slabs */
	uint64_t size_max;			/* pool_resize() can make it so large; address
						 * space is taken for that. At least size */
	uint32_t block_sizes[POOL_CLASSES_MAX]; /* bytes, ascending powers of two, at least
						 * POOL_BLOCK_MIN; class i has [i] */
	unsigned classes;			/* 1 .. POOL_CLASSES_MAX */
	enum pool_huge_pages huge_pages;	/* AUTO: madvise, as the host allows it */
};

/* Who holds blocks: a storage. Embedded there. */
struct pool_owner {
	_Atomic uint64_t bytes; /* of blocks held */
	uint16_t number;
	struct lru lru[POOL_CLASSES_MAX]; /* the pool's, under the lock of the class */
};

/*
 * Asked to give @block up. Makes it FREE with block_try_evict(), forgets it, and says who
 * held it; or says NULL when it is in use, dirty, or no longer what it was. Afterwards
 * the pool reuses the block; the function does not call pool_put(). Called from inside of
 * pool_get(), thus with the locks that its caller holds (a file's), on any thread, with no
 * lock of the pool held.
 */
typedef struct pool_owner *pool_evict_fn(void *arg, struct block *block);

struct pool;

struct err *pool_new(struct pool **out, const struct pool_config *config, pool_evict_fn *evict,
		     void *arg) __attribute__((warn_unused_result));
/* All blocks are back. Accepts NULL. */
void pool_free(struct pool *pool);

/*
 * A block of @class for @owner, NULL when everything is pinned or dirty (or the bounded
 * search gave up). It is FREE still, with undefined bytes: the caller fills in the descriptor,
 * clears FREE (which is the moment others may pin it), and says pool_add().
 */
struct block *pool_get(struct pool *pool, unsigned class, struct pool_owner *owner);

/* Puts a block from pool_get() that is now in use onto the LRU. Nobody makes it FREE
 * before this returns (the lock of its file sees to that). */
void pool_add(struct pool *pool, struct block *block);

/* Gives back a block that is FREE (and has no other flag), on the LRU or never added; @owner
 * as in pool_get(). After an eviction through evict() the pool does this itself. */
void pool_put(struct pool *pool, struct block *block, struct pool_owner *owner);

/* Owners share the pool: each may hold all of it as long as nobody else wants it, and
 * keeps size / owners when others do. -ENOSPC when there are too many (65535). */
int pool_owner_init(struct pool *pool, struct pool_owner *owner);
/* Nothing is held any more. Waits for pool_get() elsewhere that just evicted the last of it. */
void pool_owner_exit(struct pool *pool, struct pool_owner *owner);

unsigned pool_classes(const struct pool *pool);
uint32_t pool_class_size(const struct pool *pool, unsigned class); /* bytes */

/* Bytes that may be fetched ahead of one reader, as memory is: the more is evicted that nobody
 * read, the less. Up to an eighth of the pool. */
uint64_t pool_ahead_max(const struct pool *pool);

/*
 * Another size, while it is in use: @size bytes in all, as in pool_config. A larger one holds at
 * once. For a smaller one what is clean is evicted now, those first that cost least, a slab at a
 * time, and the memory goes back to the host. What is dirty or pinned cannot go: no more is carved
 * until it has, by pool_trim(). Takes some microseconds for each block that goes. Refuses what is
 * impossible, and changes nothing then. Not from inside of evict(). Any thread.
 */
struct err *pool_resize(struct pool *pool, uint64_t size) __attribute__((warn_unused_result));

/* The largest that pool_resize() can make it. */
uint64_t pool_size_max(const struct pool *pool);

/* Goes on with what pool_resize() has begun. Returns the bytes that still are to go: with any,
 * call it again after a while. Cheap when there is nothing to do. */
uint64_t pool_trim(struct pool *pool);

struct pool_usage {
	uint64_t arena;			   /* bytes that it may have, */
	uint64_t held;			   /* and has; more after pool_resize(), for a while */
	uint64_t free;			   /* bytes of slabs that are not carved */
	uint64_t blocks[POOL_CLASSES_MAX]; /* in use */
	uint64_t free_blocks[POOL_CLASSES_MAX];
	uint64_t evicted; /* blocks, since the start */
	uint64_t slabs_returned;
};
void pool_usage(const struct pool *pool, struct pool_usage *out);

/* ---- Addresses: constant for the life of the pool. ---- */

/* Head of struct pool, so that these two can be inline. */
struct pool_arena {
	unsigned char *base;
	struct block *block; /* descriptors, indexed by block_id */
	unsigned shift;	     /* of the smallest class */
	int memfd;	     /* for DAX; the offset in it is that in the arena */
};

static inline struct block *pool_block(const struct pool *pool, block_id id)
{
	return &((const struct pool_arena *)(const void *)pool)->block[id];
}

static inline block_id pool_block_id(const struct pool *pool, const struct block *b)
{
	return (block_id)(b - ((const struct pool_arena *)(const void *)pool)->block);
}

static inline void *pool_data(const struct pool *pool, const struct block *b)
{
	const struct pool_arena *arena = (const struct pool_arena *)(const void *)pool;

	return arena->base + ((size_t)(b - arena->block) << arena->shift);
}

#endif
