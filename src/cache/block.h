/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A block of the pool: its descriptor, and how it is held.
 *
 * Descriptors are never freed and never become anything else, only the bytes that
 * they stand for change owners. That is what makes a hit free of locks: a reader
 * that found a block's number in a file's map pins it, and looks at the map
 * once more. Is the number still there, the block belongs to this file and stays as
 * long as the pin; is it not, the reader has held something of a stranger's for a
 * moment, which harms nobody.
 *
 * state is one word of pins and flags, so that "nobody holds it and it is clean" is one
 * compare-and-swap (block_try_evict()):
 *
 *	FREE	 belongs to the pool, or to whoever just took it from there or is
 *		 about to give it back. Pins do not hold while it is set.
 *	FILLING	 a fetch is writing into the part that is not valid yet
 *	DIRTY	 holds bytes that the storage does not have
 *	SEALED	 is being uploaded: writers replace the block by a copy
 *	HOT (2 bits) hits lately: none, one, more; the LRU's
 *
 * Who may change what:
 *	pins			anybody
 *	FREE			the evictor, the pool's users
 *	FILLING, DIRTY, SEALED	holders of the file's lock
 *	valid			holders of the file's lock; a fetch without it, while FILLING
 *	dirty_*, generation, fetch, file, region, slot
 *				holders of the file's lock; all but the first three are
 *				constant from publishing until FREE
 *	next, prev, queue, owner, class, added
 *				the pool, the LRU
 */
#ifndef OVFS_CACHE_BLOCK_H
#define OVFS_CACHE_BLOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct cache_file;
struct cache_fetch;

/* The number of a block: its first byte's place in the arena, in units of the
 * smallest class. 0 is never handed out. */
typedef uint32_t block_id;
#define BLOCK_NONE 0u

#define BLOCK_PINS 0x0000ffffu
#define BLOCK_FREE 0x00010000u
#define BLOCK_FILLING 0x00020000u
#define BLOCK_DIRTY 0x00040000u
#define BLOCK_SEALED 0x00080000u
#define BLOCK_HOT_ONE 0x00100000u
#define BLOCK_HOT 0x00300000u

struct block {
	_Alignas(64) _Atomic uint32_t state;
	_Atomic uint32_t generation; /* changes with each write into it */

	/* One range of bytes that hold what the file holds, start << 32 | end,
	 * relative to the block. Beyond it nothing may be read. */
	_Atomic uint64_t valid;

	uint32_t dirty_start, dirty_end; /* hull of what was written; with DIRTY */

	struct cache_file *file;
	uint32_t region; /* of the file, see cache/map.h */
	uint16_t slot;	 /* in the region */
	uint8_t class;	 /* constant while not FREE */

	_Atomic uint8_t queue; /* the LRU's: which list it is on, enum lru_place */

	struct cache_fetch *fetch; /* with FILLING */

	uint32_t next, prev; /* the LRU's: the block added after, and before this one */
	uint16_t owner;	     /* the pool's: number of the holder */
	uint32_t added;	     /* the LRU's: when, by the pool's clock, which wraps */
};
_Static_assert(sizeof(struct block) == 64, "a block descriptor is one cache line");

/* Holds @b where it is, or fails when it is free. A reader then checks that the map
 * still says so. */
static inline bool block_pin(struct block *b)
{
	uint32_t old = atomic_fetch_add_explicit(&b->state, 1, memory_order_acquire);

	if (!(old & BLOCK_FREE))
		return true;
	atomic_fetch_sub_explicit(&b->state, 1, memory_order_relaxed);
	return false;
}

static inline void block_unpin(struct block *b)
{
	atomic_fetch_sub_explicit(&b->state, 1, memory_order_release);
}

static inline bool block_is(const struct block *b, uint32_t flag)
{
	return atomic_load_explicit(&b->state, memory_order_acquire) & flag;
}

static inline void block_set(struct block *b, uint32_t flag)
{
	atomic_fetch_or_explicit(&b->state, flag, memory_order_acq_rel);
}

static inline void block_clear(struct block *b, uint32_t flag)
{
	atomic_fetch_and_explicit(&b->state, ~flag, memory_order_acq_rel);
}

/* Makes a block that nobody holds, clean and filled, FREE: it is the caller's alone. */
static inline bool block_try_evict(struct block *b)
{
	uint32_t old = atomic_load_explicit(&b->state, memory_order_acquire);

	while (!(old & ~BLOCK_HOT))
		if (atomic_compare_exchange_weak_explicit(&b->state, &old, BLOCK_FREE,
							  memory_order_acq_rel,
							  memory_order_acquire))
			return true;
	return false;
}

/* Gives the caller's pin back, and makes the block FREE with the same step, when that was the
 * last pin and it is clean. Not in two steps: a block that is not pinned may be somebody
 * else's a moment later. */
static inline bool block_unpin_evict(struct block *b)
{
	uint32_t old = atomic_load_explicit(&b->state, memory_order_acquire), new;

	do {
		new = (old & ~BLOCK_HOT) == 1 ? BLOCK_FREE : old - 1;
	} while (!atomic_compare_exchange_weak_explicit(&b->state, &old, new, memory_order_acq_rel,
							memory_order_acquire));
	return new == BLOCK_FREE;
}

static inline uint64_t block_range(uint32_t start, uint32_t end)
{
	return (uint64_t)start << 32 | end;
}
static inline uint32_t block_range_start(uint64_t range)
{
	return (uint32_t)(range >> 32);
}
static inline uint32_t block_range_end(uint64_t range)
{
	return (uint32_t)range;
}

/* Whether [@start, @end) of the block may be read. */
static inline bool block_covers(const struct block *b, uint32_t start, uint32_t end)
{
	uint64_t valid = atomic_load_explicit(&b->valid, memory_order_acquire);

	return block_range_start(valid) <= start && end <= block_range_end(valid);
}

/* A hit; two are remembered, as bits (an addition could run over into the flags). Plain
 * load first: the line of a hot block stays shared. */
static inline void block_touch(struct block *b)
{
	uint32_t hot = atomic_load_explicit(&b->state, memory_order_relaxed) & BLOCK_HOT;

	if (hot != BLOCK_HOT)
		atomic_fetch_or_explicit(&b->state, (hot << 1 | BLOCK_HOT_ONE) & BLOCK_HOT,
					 memory_order_relaxed);
}

#endif
