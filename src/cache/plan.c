/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which bytes are sent, and which copied within the storage.
 *
 * An object is put together from parts, at least part_min long but for the last one. From the
 * front on, what is clean and in the base is copied, in pieces as large as a part may be, when it
 * is long enough for a part; everything else is sent: what is dirty, what is new, and
 * clean bytes that fill a part up. So a change of some bytes in a gigabyte is two copies and a
 * part of a few MiB.
 *
 * All limits but the end are multiples of a region, so that no block is in two parts.
 *
 * Parts grow with their number, so that the numbers suffice for the largest object; but not
 * beyond a share of the memory, which must hold several at once. When the numbers run out
 * all the same (a large file with many small changes, or very little memory) the rest is
 * copied as it is, and what is dirty there is left for another commit.
 */
#include "base/util.h"
#include "cache/upload.h"

/* Every tenth of the numbers, parts get twice as large: 1023 times as much in all. */
#define PART_STEPS 10

/* Zeros in a part, bytes, when the numbers suffice. */
#define HOLE_PART (64ull << 20)

/* Numbers that a stream leaves for its end. */
#define PART_RESERVE 64

static uint64_t region_ceil(const struct cache_file *f, uint64_t offset)
{
	return file_region_floor(f, offset + file_region(f) - 1);
}

uint64_t upload_part_size(const struct cache_storage *s, uint32_t index)
{
	const struct store_caps *caps = store_caps(s->config.store);
	uint64_t region = 1ull << s->cache->layout.region_shift;
	uint64_t first = MAX((uint64_t)s->config.part_size, caps->part_min);
	uint32_t step = MAX(caps->parts_max / PART_STEPS, 1u);
	uint64_t max;

	first = (first + region - 1) & ~(region - 1);
	max = MIN(caps->part_max, s->dirty_max / 4) & ~(region - 1);
	max = MAX(max, first);
	first <<= MIN(index / step, (uint32_t)PART_STEPS);
	return MIN(first, max);
}

/* The first dirty block that begins at @from or later, but before @to, is at *@place; false when
 * there is none. */
static bool next_dirty(struct cache_file *f, uint64_t from, uint64_t to, struct map_place *place)
{
	const struct map_layout *layout = &f->storage->cache->layout;
	uint64_t offset = from;
	block_id id;

	while ((id = map_next(layout, &f->map, offset, place)) != BLOCK_NONE && place->start < to) {
		if (block_is(pool_block(file_pool(f), id), BLOCK_DIRTY))
			return true;
		offset = place->start + place->size;
	}
	return false;
}

bool upload_is_dirty(struct cache_file *f, uint64_t start, uint64_t end)
{
	struct map_place place;

	return next_dirty(f, start, end, &place);
}

/* Where the base, as far as it can be copied from @at on, ends. */
static uint64_t copy_limit(const struct cache_file *f, uint64_t size)
{
	const struct store_caps *caps = store_caps(f->storage->config.store);
	uint64_t limit = atomic_load_explicit(&f->base_limit, memory_order_relaxed);

	if (!caps->copy_part || file_is(f, FILE_CREATED) || !f->base.etag[0])
		return 0;
	return limit >= size ? size : file_region_floor(f, limit);
}

/* The end of what is clean from @at on, at most @limit. */
static uint64_t clean_end(struct cache_file *f, uint64_t at, uint64_t limit)
{
	struct map_place place;

	if (at >= limit)
		return at;
	return next_dirty(f, at, limit, &place) ? MAX(file_region_floor(f, place.start), at)
						: limit;
}

static uint64_t part_max_aligned(const struct cache_file *f)
{
	return file_region_floor(f, store_caps(f->storage->config.store)->part_max);
}

/* Long enough to be a part, or the last. */
static bool is_part(const struct cache_file *f, uint64_t at, uint64_t end, uint64_t size)
{
	return end > at &&
	       (end >= size || end - at >= store_caps(f->storage->config.store)->part_min);
}

/* The end of what is to be sent from @at on, at most @max: behind it a copy is worth it. */
static uint64_t sent_end(struct cache_file *f, uint64_t at, uint64_t max, uint64_t limit,
			 uint64_t size)
{
	uint64_t end = at;

	while (end < max && end < limit) {
		uint64_t clean = clean_end(f, end, limit);

		if (is_part(f, end, clean, size))
			break;
		/* Past the region with the change. */
		end = MIN(MAX(clean, end) + file_region(f), limit);
	}
	if (end >= limit)
		return max;
	return MIN(end, max);
}

/* A run of nothing beyond the base, @at is its beginning: the end of it. */
static uint64_t hole_end(struct cache_file *f, uint64_t at, uint64_t size)
{
	const struct map_layout *layout = &f->storage->cache->layout;
	struct map_place place;

	if (atomic_load_explicit(&f->base_limit, memory_order_relaxed) > at)
		return at;
	if (map_next(layout, &f->map, at, &place) == BLOCK_NONE || place.start >= size)
		return size;
	return MAX(file_region_floor(f, place.start), at);
}

/* Zeros in one part: not so many that a connection has nothing else to do for long, and not so few
 * that the numbers do not suffice. */
static uint64_t hole_part(const struct cache_file *f)
{
	uint64_t most = f->storage->config.sparse_max;
	uint32_t numbers = MAX(store_caps(f->storage->config.store)->parts_max / 4, 1u);
	uint64_t length;

	most = most ? most : storage_size_max(f->storage);
	length = region_ceil(f, MAX(HOLE_PART, most / numbers));
	return MIN(length, part_max_aligned(f));
}

static void plan_sent(struct cache_file *f, struct upload_plan *plan, uint64_t size, uint64_t limit,
		      uint32_t index)
{
	const struct store_caps *caps = store_caps(f->storage->config.store);
	uint64_t at = plan->start, max = MIN(at + upload_part_size(f->storage, index), size);
	uint64_t end = hole_end(f, at, size);

	if (end > max) { /* takes no memory */
		plan->length = MIN(end - at, hole_part(f));
		return;
	}
	end = sent_end(f, at, max, limit, size);
	plan->length = MIN(MAX(end, at + region_ceil(f, caps->part_min)), max) - at;
}

/* Of a copy of [@at, @end): as much as a part may be, and no rest that is too little for one. */
static uint64_t copy_length(const struct cache_file *f, uint64_t at, uint64_t end)
{
	uint64_t max = part_max_aligned(f), length = end - at;
	uint64_t min = region_ceil(f, store_caps(f->storage->config.store)->part_min);

	if (length <= max)
		return length;
	return length - max < min ? max - min : max;
}

bool upload_plan_part(struct cache_file *f, uint64_t at, uint64_t size, uint32_t index,
		      struct upload_plan *plan)
{
	const struct store_caps *caps = store_caps(f->storage->config.store);
	uint64_t limit = copy_limit(f, size), max = part_max_aligned(f), clean;

	*plan = (struct upload_plan){ .start = at };
	/* Just enough numbers for the rest of the base, and one for its odd end. */
	if (limit >= at + caps->part_min && index + (limit - at) / max + 2 >= caps->parts_max) {
		plan->copy = plan->partial = true;
		plan->length = copy_length(f, at, limit);
		return true;
	}
	if (index >= caps->parts_max)
		return false;
	clean = clean_end(f, at, limit);
	if (is_part(f, at, clean, size)) {
		plan->copy = true;
		plan->length = copy_length(f, at, clean);
	} else {
		plan_sent(f, plan, size, limit, index);
	}
	return true;
}

/* ---- Streams ---- */

/* So much behind a gap, the gap is a hole: before memory is full of what waits for it. */
static uint64_t stream_patience(const struct cache_storage *s)
{
	return MIN(UPLOAD_RUN_SLACK, s->dirty_max / 4);
}

/* So far behind the last write nothing more is expected to arrive out of order; less when
 * memory is short. */
static uint64_t stream_slack(const struct cache_file *f, uint64_t part)
{
	const struct cache_storage *s = f->storage;
	uint64_t dirty = atomic_load_explicit(&s->dirty_bytes, memory_order_relaxed);

	return dirty >= storage_dirty_max(s) / 2 ? 0 : MIN(part, 4ull << 20);
}

/* Whether something of [@start, @end) was not written yet, though what follows was: requests of
 * one writer overtake each other, when they wait for memory most of all. */
static bool stream_has_gap(struct cache_file *f, uint64_t start, uint64_t end)
{
	const struct map_layout *layout = &f->storage->cache->layout;
	uint64_t offset = MAX(start, atomic_load_explicit(&f->base_limit, memory_order_relaxed));
	struct map_place place;

	while (offset < end) {
		block_id id = map_find(layout, &f->map, offset, &place);
		struct block *b = id == BLOCK_NONE ? NULL : pool_block(file_pool(f), id);

		if (!b || !block_covers(b, (uint32_t)(offset - place.start), place.size))
			return true;
		offset = place.start + place.size;
	}
	return false;
}

bool upload_stream_ready(struct cache_file *f, uint64_t front, uint32_t index, uint64_t *length)
{
	const struct store_caps *caps = store_caps(f->storage->config.store);
	uint64_t part = upload_part_size(f->storage, index), end = front + part;

	*length = part;
	if (f->write_start > end || index + PART_RESERVE >= caps->parts_max ||
	    f->write_end < end + stream_slack(f, part))
		return false;
	/* A gap that stays is a hole. */
	return f->write_end - end >= stream_patience(f->storage) || !stream_has_gap(f, front, end);
}

bool upload_waits_for(const struct cache_file *f, uint64_t end)
{
	return f->upload && end > f->upload->front && end <= f->write_end &&
	       f->write_end - end <= stream_patience(f->storage);
}

bool upload_stream_start(struct cache_file *f, uint64_t *start)
{
	const struct store_caps *caps = store_caps(f->storage->config.store);
	uint64_t part = upload_part_size(f->storage, 0);
	uint64_t size = atomic_load_explicit(&f->size, memory_order_relaxed);
	struct map_place place;
	uint64_t at;

	if (!caps->sessions || caps->parts_max <= PART_RESERVE ||
	    !next_dirty(f, 0, f->write_end, &place))
		return false;
	/* What was written before the run goes with its first part, when that is near. */
	at = file_region_floor(f, place.start);
	if (at + part < f->write_start || f->write_end < at + 2 * part)
		return false;
	/* What lies before is copied, or is too little for that. */
	if (at > 0 && at < caps->part_min)
		at = 0;
	*start = at;
	return at <= copy_limit(f, size) || at == 0;
}
