/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which block goes first: the order of eviction of the blocks of one class and one owner.
 *
 * Not plain LRU: a hit would have to move the block under a lock, and reading one
 * large file once would push out everything else. Instead two FIFO queues (after
 * "S3-FIFO", Yang and others, SOSP 2023), where a hit only sets a bit in the block's
 * state, see block_touch():
 *
 *	small	what is new, about a tenth. At its end, who was hit twice moves to main; all
 *		others go, and those hit once leave a fingerprint in the ghost.
 *	main	at its end, who was hit since it was last here goes round once more for each
 *		remembered hit; all others go.
 *	ghost	fingerprints of what left small. Who comes back while it is known here was
 *		evicted too early, and is added to main.
 *
 * So a scan passes through the small queue and touches nothing else.
 *
 * The first hit is that of the reader for whom the block was fetched: it does not save the
 * block. Without any, it was fetched ahead of somebody who did not come. Who reads a
 * block in many small pieces, one after the other, must not count each as a hit.
 *
 * Blocks are linked by number, so a list costs 24 bytes and links 8 bytes a block; the ghost
 * costs 4 bytes a block.
 *
 * Time (now) is whatever the caller counts.
 *
 * Threads: the caller's lock, that of the class in the pool, covers all of it. Nothing here
 * is called on a hit.
 */
#ifndef OVFS_CACHE_LRU_H
#define OVFS_CACHE_LRU_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/block.h"

/* block->queue. Written with the lock; LRU_NONE can be relied on without it by whoever
 * made the block FREE or has not added it yet. */
enum lru_place {
	LRU_NONE,
	LRU_SMALL,
	LRU_MAIN,
	LRU_LIMBO,    /* taken out by lru_take(), its eviction is being tried */
	LRU_ABANDONED /* given back by its holder while in limbo */
};

struct lru_queue {
	block_id oldest, newest;
	uint32_t count;
};

/* All zero is empty. */
struct lru {
	struct lru_queue small, main;
};

/* Fingerprints of evicted blocks, of a class. @print: zeroed, of @size, a power of two;
 * owned by the caller. */
struct lru_ghost {
	uint32_t *print;
	uint32_t size;
};

static inline uint32_t lru_count(const struct lru *lru)
{
	return lru->small.count + lru->main.count;
}

/* Adds the block numbered @id as the newest; to main when the ghost knows it or @to_main.
 * @held: how many blocks the class has on its lists, which is how far back the
 * ghost remembers. @ghost may be NULL. */
void lru_add(struct lru *lru, struct lru_ghost *ghost, struct block *blocks, block_id id,
	     bool to_main, uint32_t held, uint32_t now);

/* It is on one of @lru's queues. */
void lru_remove(struct lru *lru, struct block *blocks, block_id id);

/* The block to evict next, looking at no more than *@steps blocks, which is counted down.
 * Those that were hit or are in use get their further round. BLOCK_NONE when all were. */
block_id lru_look(struct lru *lru, struct block *blocks, unsigned *steps, uint32_t now);

static inline enum lru_place lru_place_of(const struct block *b)
{
	return (enum lru_place)atomic_load_explicit(&b->queue, memory_order_relaxed);
}

/* Whether it came and goes without having been read. With the lock. */
static inline bool lru_unread(const struct block *b)
{
	return lru_place_of(b) == LRU_SMALL && !block_is(b, BLOCK_HOT);
}

/* Whether it would get another round for its hits. Without the lock: a guess. */
static inline bool lru_stays(const struct block *b)
{
	uint32_t hot = atomic_load_explicit(&b->state, memory_order_relaxed) & BLOCK_HOT;

	return atomic_load_explicit(&b->queue, memory_order_relaxed) == LRU_SMALL ? hot == BLOCK_HOT
										  : hot != 0;
}

/* Takes that block, or any, out, into LRU_LIMBO. @held as in lru_add(). */
void lru_take(struct lru *lru, struct lru_ghost *ghost, struct block *blocks, block_id id,
	      uint32_t held);

#endif
