/* SPDX-License-Identifier: Apache-2.0 */
#include "cache/lru.h"

#include <stddef.h>

/* Of all blocks on the two queues, this part is small's. */
#define SMALL_PART 10

static struct lru_queue *lru_queue_of(struct lru *lru, const struct block *b)
{
	return atomic_load_explicit(&b->queue, memory_order_relaxed) == LRU_SMALL ? &lru->small
										  : &lru->main;
}

static void queue_append(struct lru_queue *q, struct block *blocks, block_id id)
{
	struct block *b = &blocks[id];

	b->prev = q->newest;
	b->next = BLOCK_NONE;
	if (q->newest)
		blocks[q->newest].next = id;
	else
		q->oldest = id;
	q->newest = id;
	q->count++;
}

static void queue_remove(struct lru_queue *q, struct block *blocks, block_id id)
{
	struct block *b = &blocks[id];

	if (b->prev)
		blocks[b->prev].next = b->next;
	else
		q->oldest = b->next;
	if (b->next)
		blocks[b->next].prev = b->prev;
	else
		q->newest = b->prev;
	q->count--;
}

/* Of what the block holds. The file's address stands for the file: when the memory is
 * reused for another file, a block of that one is taken for known, which costs little. */
static uint32_t lru_print(const struct block *b)
{
	uint64_t h = (uint64_t)(uintptr_t)b->file * 0x9e3779b97f4a7c15u;

	h ^= ((uint64_t)b->region << 16 | b->slot) * 0xc2b2ae3d27d4eb4fu;
	h ^= h >> 29;
	h *= 0xbf58476d1ce4e5b9u;
	h ^= h >> 32;
	return (uint32_t)h | 1; /* 0 is an empty entry */
}

/* One entry in a table of about as many entries as there are blocks: it is overwritten,
 * on average, after as many evictions. */
static uint32_t *ghost_entry(struct lru_ghost *ghost, uint32_t print, uint32_t held)
{
	uint32_t size = 64;

	while (size < held && size < ghost->size)
		size *= 2;
	if (size > ghost->size)
		size = ghost->size;
	return &ghost->print[(print >> 1) & (size - 1)];
}

static void ghost_add(struct lru_ghost *ghost, const struct block *b, uint32_t held)
{
	uint32_t print = lru_print(b);

	if (ghost && b->file)
		*ghost_entry(ghost, print, held) = print;
}

static bool ghost_take(struct lru_ghost *ghost, const struct block *b, uint32_t held)
{
	uint32_t print, *entry;

	if (!ghost || !b->file)
		return false;
	print = lru_print(b);
	entry = ghost_entry(ghost, print, held);
	if (*entry != print)
		return false;
	*entry = 0;
	return true;
}

void lru_add(struct lru *lru, struct lru_ghost *ghost, struct block *blocks, block_id id,
	     bool to_main, uint32_t held, uint32_t now)
{
	struct block *b = &blocks[id];

	to_main |= ghost_take(ghost, b, held);
	atomic_store_explicit(&b->queue, to_main ? LRU_MAIN : LRU_SMALL, memory_order_relaxed);
	b->added = now;
	queue_append(lru_queue_of(lru, b), blocks, id);
}

void lru_remove(struct lru *lru, struct block *blocks, block_id id)
{
	struct block *b = &blocks[id];

	queue_remove(lru_queue_of(lru, b), blocks, id);
	atomic_store_explicit(&b->queue, LRU_NONE, memory_order_relaxed);
}

static const struct lru_queue *lru_next_queue(const struct lru *lru)
{
	if (!lru->main.count)
		return &lru->small;
	if (!lru->small.count)
		return &lru->main;
	return (uint64_t)lru->small.count * SMALL_PART >= lru_count(lru) ? &lru->small : &lru->main;
}

/* Forgets hits: one of two, or all. */
static void block_cool(struct block *b, bool all)
{
	uint32_t hot = atomic_load_explicit(&b->state, memory_order_relaxed) & BLOCK_HOT;
	uint32_t forget = !all && hot == BLOCK_HOT ? BLOCK_HOT & ~BLOCK_HOT_ONE : BLOCK_HOT;

	atomic_fetch_and_explicit(&b->state, ~forget, memory_order_relaxed);
}

block_id lru_look(struct lru *lru, struct block *blocks, unsigned *steps, uint32_t now)
{
	/* In use, and seen by this look: when that is all of one queue, the other's turn comes,
	 * whatever their lengths are. */
	uint32_t passed_small = 0, passed_main = 0;

	while (*steps > 0 && lru_count(lru) > 0) {
		const struct lru_queue *q = lru_next_queue(lru);
		struct block *b;
		uint32_t state, hot;
		block_id id;
		bool small;

		if (q == &lru->small && passed_small >= lru->small.count && lru->main.count)
			q = &lru->main;
		else if (q == &lru->main && passed_main >= lru->main.count && lru->small.count)
			q = &lru->small;
		id = q->oldest;
		b = &blocks[id];
		state = atomic_load_explicit(&b->state, memory_order_relaxed);
		small = q == &lru->small;
		hot = state & BLOCK_HOT;
		if (state == hot && !lru_stays(b))
			return id;
		--*steps;
		lru_remove(lru, blocks, id);
		if (state == hot) {
			block_cool(b, small);
			lru_add(lru, NULL, blocks, id, true, 0, now);
		} else {
			/* In use: another round, in the same queue. */
			lru_add(lru, NULL, blocks, id, !small, 0, now);
			if (small)
				passed_small++;
			else
				passed_main++;
		}
	}
	return BLOCK_NONE;
}

void lru_take(struct lru *lru, struct lru_ghost *ghost, struct block *blocks, block_id id,
	      uint32_t held)
{
	struct block *b = &blocks[id];

	/* What was never read was fetched ahead in vain, which is no reason to keep it later. */
	if (atomic_load_explicit(&b->queue, memory_order_relaxed) == LRU_SMALL && !lru_unread(b))
		ghost_add(ghost, b, held);
	lru_remove(lru, blocks, id);
	atomic_store_explicit(&b->queue, LRU_LIMBO, memory_order_relaxed);
}
