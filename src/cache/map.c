/* SPDX-License-Identifier: Apache-2.0 */
#include "cache/map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

#define MAP_SMALL_MIN 16384u

/* Regions in GROW at the beginning of a file: beyond them half a region is little. */
#define MAP_GROW_REGIONS 4

#define MAP_LEAF_BITS 6
#define MAP_LEAF (1u << MAP_LEAF_BITS)

/* Regions 1 .. MAP_LEAF of a file are in leaf 0, and so on. */
struct map_leaf {
	struct map_region region[MAP_LEAF];
};

/* Grows by doubling; readers may walk the former ones, which go with the file. */
struct map_directory {
	struct map_directory *former;
	size_t leaves;
	struct map_leaf *_Atomic leaf[];
};

struct map_slots {
	unsigned count;
	_Atomic block_id slot[];
};

void map_layout_init(struct map_layout *l, const struct pool *pool)
{
	unsigned slots = 0;

	memset(l, 0, sizeof(*l));
	l->classes = pool_classes(pool);
	for (unsigned i = 0; i < l->classes; i++)
		l->shift[i] = (unsigned)__builtin_ctz(pool_class_size(pool, i));
	l->region_shift = l->shift[l->classes - 1];
	while (l->small_class + 1 < l->classes && l->shift[l->small_class] < 14)
		l->small_class++;

	/* Class i from where blocks of its size begin to where those of the next do. */
	for (unsigned i = 0; i < l->classes; i++) {
		uint32_t from = i ? 1u << l->shift[i] : 0;
		uint32_t to = i + 1 < l->classes ? 1u << l->shift[i + 1] : 0;

		l->grow_first[i] = slots;
		if (to)
			slots += (to - from) >> l->shift[i];
	}
	if (l->classes == 1)
		slots = 1;
	l->grow_first[l->classes] = slots;
	l->slots[MAP_GROW] = slots;
	l->slots[MAP_WHOLE] = 1;
	l->slots[MAP_SMALL] = 1u << (l->region_shift - l->shift[l->small_class]);
}

static void place_uniform(const struct map_layout *l, unsigned class, uint32_t within,
			  struct map_place *place)
{
	unsigned shift = l->shift[class];

	place->slot = (uint16_t)(within >> shift);
	place->class = (uint8_t) class;
	place->size = 1u << shift;
	place->start += (uint64_t)place->slot << shift;
}

void map_place(const struct map_layout *l, enum map_shape shape, uint64_t offset,
	       struct map_place *place)
{
	uint32_t within = (uint32_t)(offset & ((1ull << l->region_shift) - 1));
	unsigned class = 0;

	place->region = (uint32_t)(offset >> l->region_shift);
	place->start = offset - within;
	place->shape = (uint8_t)shape;
	if (shape == MAP_WHOLE || l->classes == 1) {
		place_uniform(l, l->classes - 1, within, place);
		return;
	}
	if (shape == MAP_SMALL) {
		place_uniform(l, l->small_class, within, place);
		return;
	}
	while (class + 2 < l->classes && within >= 1u << l->shift[class + 1])
		class ++;
	place_uniform(l, class, within, place);
	/* It counted from the beginning of the region; class 0 does begin there, the others
	 * one block of their size later. */
	place->slot = (uint16_t)(place->slot + l->grow_first[class] - (class ? 1 : 0));
}

static struct map_region *region_find(struct map *map, uint32_t number)
{
	struct map_directory *d;
	struct map_leaf *leaf;
	size_t i;

	if (number == 0)
		return &map->first;
	d = atomic_load_explicit(&map->others, memory_order_acquire);
	i = (number - 1) >> MAP_LEAF_BITS;
	if (!d || i >= d->leaves)
		return NULL;
	leaf = atomic_load_explicit(&d->leaf[i], memory_order_acquire);
	return leaf ? &leaf->region[(number - 1) & (MAP_LEAF - 1)] : NULL;
}

static struct map_directory *directory_grow(struct map *map, size_t leaves)
{
	struct map_directory *old = atomic_load_explicit(&map->others, memory_order_relaxed);
	struct map_directory *d;
	size_t n = old ? old->leaves : 1;

	while (n < leaves)
		n *= 2;
	d = calloc(1, sizeof(*d) + n * sizeof(d->leaf[0]));
	if (!d)
		return NULL;
	d->leaves = n;
	d->former = old;
	for (size_t i = 0; old && i < old->leaves; i++)
		atomic_init(&d->leaf[i], atomic_load_explicit(&old->leaf[i], memory_order_relaxed));
	atomic_store_explicit(&map->others, d, memory_order_release);
	return d;
}

static struct map_region *region_make(struct map *map, uint32_t number)
{
	struct map_directory *d = atomic_load_explicit(&map->others, memory_order_relaxed);
	struct map_leaf *leaf;
	size_t i;

	if (number == 0)
		return &map->first;
	i = (number - 1) >> MAP_LEAF_BITS;
	if (!d || i >= d->leaves)
		d = directory_grow(map, i + 1);
	if (!d)
		return NULL;
	leaf = atomic_load_explicit(&d->leaf[i], memory_order_relaxed);
	if (!leaf) {
		leaf = calloc(1, sizeof(*leaf));
		if (!leaf)
			return NULL;
		atomic_store_explicit(&d->leaf[i], leaf, memory_order_release);
	}
	return &leaf->region[(number - 1) & (MAP_LEAF - 1)];
}

static _Atomic block_id *region_slot(struct map_region *region, enum map_shape shape, unsigned slot)
{
	struct map_slots *slots = atomic_load_explicit(&region->slots[shape], memory_order_acquire);

	return slots && slot < slots->count ? &slots->slot[slot] : NULL;
}

static _Atomic block_id *place_slot(struct map *map, const struct map_place *place)
{
	struct map_region *region = region_find(map, place->region);

	return region ? region_slot(region, place->shape, place->slot) : NULL;
}

block_id map_find(const struct map_layout *l, struct map *map, uint64_t offset,
		  struct map_place *place)
{
	struct map_region *region = region_find(map, (uint32_t)(offset >> l->region_shift));
	enum map_shape shape = MAP_WHOLE;
	_Atomic block_id *slot;

	if (region)
		shape = atomic_load_explicit(&region->shape, memory_order_acquire);
	map_place(l, shape, offset, place);
	slot = region ? region_slot(region, shape, place->slot) : NULL;
	return slot ? atomic_load_explicit(slot, memory_order_acquire) : BLOCK_NONE;
}

bool map_holds(struct map *map, const struct map_place *place, block_id id)
{
	_Atomic block_id *slot = place_slot(map, place);

	return slot && atomic_load_explicit(slot, memory_order_acquire) == id;
}

enum map_shape map_choose(const struct map_layout *l, struct map *map, uint64_t offset,
			  uint64_t size, bool random)
{
	uint32_t number = (uint32_t)(offset >> l->region_shift);
	struct map_region *region = region_find(map, number);
	uint64_t region_end = ((uint64_t)number + 1) << l->region_shift;

	if (region && atomic_load_explicit(&region->used, memory_order_acquire))
		return atomic_load_explicit(&region->shape, memory_order_relaxed);
	if (random && size > 1ull << l->region_shift)
		return MAP_SMALL;
	return number >= MAP_GROW_REGIONS || region_end <= size ? MAP_WHOLE : MAP_GROW;
}

int map_insert(const struct map_layout *l, struct map *map, const struct map_place *place,
	       block_id id)
{
	struct map_region *region = region_make(map, place->region);
	struct map_slots *slots;

	if (!region)
		return -ENOMEM;
	slots = atomic_load_explicit(&region->slots[place->shape], memory_order_relaxed);
	if (!slots) {
		unsigned count = l->slots[place->shape];

		slots = calloc(1, sizeof(*slots) + count * sizeof(slots->slot[0]));
		if (!slots)
			return -ENOMEM;
		slots->count = count;
		atomic_store_explicit(&region->slots[place->shape], slots, memory_order_release);
	}
	atomic_store_explicit(&region->shape, place->shape, memory_order_release);
	atomic_fetch_add_explicit(&region->used, 1, memory_order_relaxed);
	/* A block that is being evicted at this moment may still be there: its map_remove()
	 * will find ours, and count nothing. */
	if (atomic_exchange_explicit(&slots->slot[place->slot], id, memory_order_acq_rel) !=
	    BLOCK_NONE)
		atomic_fetch_sub_explicit(&region->used, 1, memory_order_relaxed);
	return 0;
}

void map_replace(struct map *map, const struct map_place *place, block_id id)
{
	atomic_store_explicit(place_slot(map, place), id, memory_order_release);
}

bool map_remove(struct map *map, const struct block *b, block_id id)
{
	struct map_region *region = region_find(map, b->region);
	enum map_shape shape = atomic_load_explicit(&region->shape, memory_order_acquire);
	_Atomic block_id *slot = region_slot(region, shape, b->slot);

	/* It is not there when it was replaced or dropped while somebody had it pinned; the
	 * region may have another shape by then. */
	if (!slot || !atomic_compare_exchange_strong_explicit(
			     slot, &id, BLOCK_NONE, memory_order_acq_rel, memory_order_relaxed))
		return false;
	atomic_fetch_sub_explicit(&region->used, 1, memory_order_release);
	return true;
}

/* The first slot of @region, from that of @offset on, with a block. */
static block_id region_next(const struct map_layout *l, struct map_region *region, uint64_t offset,
			    struct map_place *place)
{
	enum map_shape shape = atomic_load_explicit(&region->shape, memory_order_acquire);
	uint64_t end = ((offset >> l->region_shift) + 1) << l->region_shift;

	if (!atomic_load_explicit(&region->used, memory_order_acquire))
		return BLOCK_NONE;
	while (offset < end) {
		_Atomic block_id *slot;
		block_id id;

		map_place(l, shape, offset, place);
		slot = region_slot(region, shape, place->slot);
		id = slot ? atomic_load_explicit(slot, memory_order_acquire) : BLOCK_NONE;
		if (id != BLOCK_NONE)
			return id;
		offset = place->start + place->size;
	}
	return BLOCK_NONE;
}

block_id map_next(const struct map_layout *l, struct map *map, uint64_t offset,
		  struct map_place *place)
{
	struct map_directory *d = atomic_load_explicit(&map->others, memory_order_acquire);
	uint64_t number = offset >> l->region_shift;
	uint64_t limit = 1 + (d ? (uint64_t)d->leaves << MAP_LEAF_BITS : 0);

	while (number < limit) {
		struct map_region *region = region_find(map, (uint32_t)number);
		block_id id;

		if (!region) { /* no leaf: on to the next one's first region */
			number = ((((number - 1) >> MAP_LEAF_BITS) + 1) << MAP_LEAF_BITS) + 1;
			offset = number << l->region_shift;
			continue;
		}
		id = region_next(l, region, offset, place);
		if (id != BLOCK_NONE)
			return id;
		number++;
		offset = number << l->region_shift;
	}
	return BLOCK_NONE;
}

static void region_free(struct map_region *region)
{
	for (unsigned i = 0; i < MAP_SHAPES; i++)
		free(atomic_load_explicit(&region->slots[i], memory_order_relaxed));
}

void map_free(struct map *map)
{
	struct map_directory *d = atomic_load_explicit(&map->others, memory_order_relaxed);

	region_free(&map->first);
	for (size_t i = 0; d && i < d->leaves; i++) {
		struct map_leaf *leaf = atomic_load_explicit(&d->leaf[i], memory_order_relaxed);

		for (unsigned k = 0; leaf && k < MAP_LEAF; k++)
			region_free(&leaf->region[k]);
		free(leaf);
	}
	while (d) {
		struct map_directory *former = d->former;

		free(d);
		d = former;
	}
}
