/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a range of a file, held still while they are sent.
 *
 * Nothing is copied: the request sends from the blocks, which are pinned, so that they are not
 * evicted, and SEALED, so that writers leave them alone (write.c). Holes are sent from one
 * piece of memory that is all zeros, as often as it takes: a part of nothing costs
 * nothing.
 *
 * What is missing is fetched, which drops the lock; so it is all looked at once more
 * afterwards, and held only when all is there at one moment.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "cache/write.h"

/* Never written: the kernel maps its one page of zeros for it. */
#define ZEROS_SIZE (1u << 20)
static unsigned char zeros[ZEROS_SIZE];

/* Times that what was fetched may be evicted again before all is there. */
#define GATHER_ATTEMPTS 64

static int gather_add_iov(struct gather *g, void *data, size_t length)
{
	if (g->segments == g->iov_room) {
		size_t room = g->iov_room ? g->iov_room * 2 : 16;
		struct iovec *iov = reallocarray(g->iov, room, sizeof(*iov));

		if (!iov)
			return -ENOMEM;
		g->iov = iov;
		g->iov_room = room;
	}
	g->iov[g->segments++] = (struct iovec){ data, length };
	return 0;
}

static int gather_hold(struct gather *g, const struct gather_block *held)
{
	if (g->count == g->held_room) {
		size_t room = g->held_room ? g->held_room * 2 : 16;
		struct gather_block *blocks = reallocarray(g->held, room, sizeof(*blocks));

		if (!blocks)
			return -ENOMEM;
		g->held = blocks;
		g->held_room = room;
	}
	g->held[g->count++] = *held;
	return 0;
}

static int gather_zeros(struct gather *g, uint64_t length)
{
	while (length > 0) {
		size_t n = (size_t)MIN(length, (uint64_t)ZEROS_SIZE);
		int ret = gather_add_iov(g, zeros, n);

		if (ret < 0)
			return ret;
		length -= n;
	}
	return 0;
}

/* Pins of blocks that were not sealed yet. */
static void gather_drop(struct gather *g)
{
	for (size_t i = 0; i < g->count; i++)
		block_unpin(g->held[i].block);
	g->count = g->segments = 0;
}

/* [@offset, @end) is in no block. Whether that is a hole is a matter of the base, not of the
 * block that would be there: the region may get another shape. */
static int gather_absent(struct cache_file *f, struct gather *g, uint64_t offset, uint64_t end,
			 enum gather_missing how)
{
	uint64_t limit = atomic_load_explicit(&f->base_limit, memory_order_relaxed);
	uint64_t base_end = MIN(MAX(limit, offset), end);
	int ret = 0;

	if (offset < base_end && how == GATHER_SPARE) {
		if (offset < g->spare_start || base_end > g->spare_end)
			return -EIO; /* the base does not grow while it is committed */
		ret = gather_add_iov(g, g->spare + (offset - g->spare_start), base_end - offset);
		offset = base_end;
	} else if (offset < base_end && how != GATHER_ZEROS) {
		return -ENODATA;
	}
	g->missing += base_end - offset;
	return ret < 0 ? ret : gather_zeros(g, end - offset);
}

/* [@from, @to) of @b, which is pinned and at @place, as far as it is valid; and the rest. */
static int gather_valid(struct cache_file *f, struct gather *g, struct block *b,
			const struct map_place *place, uint32_t from, uint32_t to,
			enum gather_missing how)
{
	uint64_t valid = atomic_load_explicit(&b->valid, memory_order_acquire);
	uint32_t start = MAX(block_range_start(valid), from);
	uint32_t end = MIN(block_range_end(valid), to);
	int ret;

	if (start >= end)
		start = end = to;
	ret = gather_absent(f, g, place->start + from, place->start + start, how);
	if (ret == 0 && start < end)
		ret = gather_add_iov(g, (unsigned char *)pool_data(file_pool(f), b) + start,
				     end - start);
	return ret < 0 ? ret : gather_absent(f, g, place->start + end, place->start + to, how);
}

/* What [@offset, *@end) is, as far as it is of one block or hole; moves *@end there.
 * -ENODATA: it is not here. */
static int gather_step(struct cache_file *f, struct gather *g, uint64_t offset, uint64_t *end,
		       enum gather_missing how)
{
	struct map_place place;
	struct block *b = file_block_find(f, offset, &place);
	uint32_t from = (uint32_t)(offset - place.start), to;
	bool covers, whole = how == GATHER_FAIL || how == GATHER_FETCH;
	int ret;

	*end = MIN(*end, place.start + place.size);
	to = (uint32_t)(*end - place.start);
	if (!b)
		return gather_absent(f, g, offset, *end, how);
	if (!block_covers(b, from, to) && !block_is(b, BLOCK_FILLING))
		file_block_zero_tail(f, b, &place);
	covers = block_covers(b, from, to) && !block_is(b, BLOCK_FILLING);
	if (!covers && whole) {
		block_unpin(b);
		return -ENODATA;
	}
	ret = gather_hold(g, &(struct gather_block){ .block = b, .offset = place.start });
	if (ret < 0) {
		block_unpin(b);
		return ret;
	}
	return gather_valid(f, g, b, &place, from, to, how);
}

/* -ENODATA: *@missing is the first byte that is not here. After a failure @g has pinned what
 * was found. */
static int gather_once(struct cache_file *f, struct gather *g, uint64_t start, uint64_t end,
		       enum gather_missing how, uint64_t *missing)
{
	uint64_t offset = start;

	g->missing = 0;
	while (offset < end) {
		uint64_t next = end;
		int ret = gather_step(f, g, offset, &next, how);

		if (ret < 0) {
			*missing = offset;
			return ret;
		}
		offset = next;
	}
	for (size_t i = 0; i < g->count; i++) {
		struct gather_block *held = &g->held[i];

		/* Of the last one more may be dirty by now than is sent. */
		held->dirty = block_is(held->block, BLOCK_DIRTY) &&
			      held->offset + held->block->dirty_start >= start &&
			      held->offset + held->block->dirty_end <= end;
		block_set(held->block, BLOCK_SEALED);
	}
	return 0;
}

int gather_range(struct cache_file *f, struct gather *g, uint64_t start, uint64_t end,
		 enum gather_missing how)
{
	struct gather former = { 0 }, other;
	uint64_t missing, reached = start, until = end;
	int ret = -ENODATA;

	for (unsigned i = 0; i < GATHER_ATTEMPTS && ret == -ENODATA; i++) {
		ret = gather_once(f, g, start, end, how, &missing);
		/* Of what is fetched the first may be evicted for the last, before it is pinned
		 * here. Then one block after the other: what was reached stays. */
		if (ret == -ENODATA && missing > reached) {
			reached = missing;
			i = 0;
		} else if (ret == -ENODATA && i > 0) {
			until = missing + 1;
		}
		gather_drop(&former);
		if (ret == 0)
			break;
		/* What was found stays pinned while the rest is fetched. */
		other = former;
		former = *g;
		*g = other;
		if (ret == -ENODATA && how == GATHER_FETCH) {
			ret = fetch_wait(f, missing, MAX(MIN(until, end), missing + 1), false);
			if (ret == 0)
				ret = -ENODATA;
		} else {
			break;
		}
	}
	gather_drop(&former);
	gather_free(&former);
	/* Of the pool: it does not hold it all at once. */
	return ret == -ENODATA && how == GATHER_FETCH ? -ENOBUFS : ret;
}

int gather_dirty(struct cache_file *f, struct gather *g, uint64_t *offset, uint64_t max,
		 struct store_range *range, size_t room, size_t *count)
{
	const struct map_layout *layout = &f->storage->cache->layout;
	struct map_place place;
	uint64_t bytes = 0;
	int ret = 0;

	*count = 0;
	while (ret == 0 && *count < room && bytes < max &&
	       map_next(layout, &f->map, *offset, &place) != BLOCK_NONE) {
		struct block *b = file_block_find(f, MAX(place.start, *offset), &place);
		uint64_t start, length;

		*offset = place.start + place.size;
		if (!b)
			continue;
		if (!block_is(b, BLOCK_DIRTY)) {
			block_unpin(b);
			continue;
		}
		start = place.start + b->dirty_start;
		length = b->dirty_end - b->dirty_start;
		ret = gather_hold(g, &(struct gather_block){
					     .block = b, .offset = place.start, .dirty = true });
		if (ret < 0) {
			block_unpin(b);
			break;
		}
		block_set(b, BLOCK_SEALED);
		ret = gather_add_iov(
			g, (unsigned char *)pool_data(file_pool(f), b) + b->dirty_start, length);
		if (*count && range[*count - 1].offset + range[*count - 1].length == start)
			range[*count - 1].length += length;
		else
			range[(*count)++] = (struct store_range){ start, length };
		bytes += length;
	}
	if (ret < 0)
		gather_release(f, g, GATHER_KEEP);
	return ret;
}

static void gather_release_block(struct cache_file *f, const struct gather_block *held,
				 enum gather_end end)
{
	struct block *b = held->block, *there;
	struct map_place place;

	block_clear(b, BLOCK_SEALED);
	there = file_block_find(f, held->offset, &place);
	if (end == GATHER_CLEAN && held->dirty && there &&
	    (there == b || atomic_load_explicit(&there->generation, memory_order_relaxed) == 0))
		block_make_clean(f, there); /* the block itself, or a copy that nobody wrote to */
	if (there)
		block_unpin(there);
	if (there == b) {
		block_unpin(b);
		return;
	}
	/* A writer put a copy in its place, which is what counts as dirty now. */
	block_clear(b, BLOCK_DIRTY);
	file_block_drop(f, b);
}

void gather_release(struct cache_file *f, struct gather *g, enum gather_end end)
{
	for (size_t i = 0; i < g->count; i++)
		gather_release_block(f, &g->held[i], end);
	g->count = g->segments = 0;
}

int gather_retain(struct cache_file *f, struct gather *g, struct gather *to)
{
	int ret = 0;

	for (size_t i = 0; i < g->count; i++) {
		struct gather_block *held = &g->held[i];

		if (held->dirty && ret == 0)
			ret = gather_hold(to, held);
		if (!held->dirty || ret < 0)
			gather_release_block(f, held, GATHER_KEEP);
	}
	g->count = g->segments = 0;
	return ret;
}

void gather_free(struct gather *g)
{
	free(g->iov);
	free(g->held);
	*g = (struct gather){ 0 };
}
