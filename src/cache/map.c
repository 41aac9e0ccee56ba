/* SPDX-License-Identifier: Apache-2.0 */
#include "cache/map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

#define MAP_SMALL_MIN 16384u

/* Regions in GROW at the beginning of a file: beyond them half a region is little. */
#define MAP_GROW_REGIONS 4

/* Regions that were not taken back, and may stay so: of those there are this part. */
#define MAP_MISSED_MIN 64u
#define MAP_MISSED_PART 8u

#define MAP_LEAF_BITS 4
#define MAP_LEAF (1u << MAP_LEAF_BITS)

/* Regions 1 .. MAP_LEAF of a file are in leaf 0, and so on. */
struct map_leaf {
	struct map_leaf *next; /* map_memory.leaves */
	unsigned busy;	       /* regions with slots of any shape; the file's lock */
	struct map_region region[MAP_LEAF];
};

/* Grows by doubling; readers may walk the former ones, which go with the file. */
struct map_directory {
	struct map_directory *former;
	size_t leaves;
	struct map_leaf *_Atomic leaf[];
};

struct map_slots {
	struct map_slots *next; /* map_memory.slots */
	unsigned count;		/* the same for ever */
	_Atomic block_id slot[];
};

/* ---- Memory: type-stable, see map.h ---- */

void map_memory_init(struct map_memory *memory)
{
	*memory = (struct map_memory){ 0 };
	pthread_mutex_init(&memory->lock, NULL);
}

void map_memory_exit(struct map_memory *memory)
{
	for (unsigned i = 0; i < MAP_SHAPES; i++) {
		while (memory->slots[i]) {
			struct map_slots *slots = memory->slots[i];

			memory->slots[i] = slots->next;
			free(slots);
		}
	}
	while (memory->leaves) {
		struct map_leaf *leaf = memory->leaves;

		memory->leaves = leaf->next;
		free(leaf);
	}
	pthread_mutex_destroy(&memory->lock);
}

uint64_t map_memory_bytes(struct map_memory *memory)
{
	uint64_t bytes;

	pthread_mutex_lock(&memory->lock);
	bytes = memory->bytes;
	pthread_mutex_unlock(&memory->lock);
	return bytes;
}

static void memory_took(struct map_memory *memory, size_t bytes)
{
	pthread_mutex_lock(&memory->lock);
	memory->bytes += bytes;
	pthread_mutex_unlock(&memory->lock);
}

/* Empty slots; NULL without memory. */
static struct map_slots *slots_get(const struct map_layout *l, enum map_shape shape)
{
	size_t size = sizeof(struct map_slots) + l->slots[shape] * sizeof(block_id);
	struct map_slots *slots;

	pthread_mutex_lock(&l->memory->lock);
	slots = l->memory->slots[shape];
	if (slots)
		l->memory->slots[shape] = slots->next;
	pthread_mutex_unlock(&l->memory->lock);
	if (slots)
		return slots;
	slots = calloc(1, size);
	if (slots) {
		slots->count = l->slots[shape];
		memory_took(l->memory, size);
	}
	return slots;
}

/* They are empty. */
static void slots_put(const struct map_layout *l, enum map_shape shape, struct map_slots *slots)
{
	pthread_mutex_lock(&l->memory->lock);
	slots->next = l->memory->slots[shape];
	l->memory->slots[shape] = slots;
	pthread_mutex_unlock(&l->memory->lock);
}

static struct map_leaf *leaf_get(const struct map_layout *l)
{
	struct map_leaf *leaf;

	pthread_mutex_lock(&l->memory->lock);
	leaf = l->memory->leaves;
	if (leaf)
		l->memory->leaves = leaf->next;
	pthread_mutex_unlock(&l->memory->lock);
	if (leaf)
		return leaf;
	leaf = calloc(1, sizeof(*leaf));
	if (leaf)
		memory_took(l->memory, sizeof(*leaf));
	return leaf;
}

/* All of its regions are without slots. */
static void leaf_put(const struct map_layout *l, struct map_leaf *leaf)
{
	pthread_mutex_lock(&l->memory->lock);
	leaf->next = l->memory->leaves;
	l->memory->leaves = leaf;
	pthread_mutex_unlock(&l->memory->lock);
}

/* ---- The layout ---- */

void map_layout_init(struct map_layout *l, const struct pool *pool, struct map_memory *memory)
{
	unsigned slots = 0;

	memset(l, 0, sizeof(*l));
	l->memory = memory;
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

/* ---- Regions ---- */

/* Of a region but the first; NULL: none, or *@place is NULL, too, and there may be none. */
static struct map_leaf *leaf_find(struct map *map, uint32_t number,
				  struct map_leaf *_Atomic **place)
{
	struct map_directory *d = atomic_load_explicit(&map->others, memory_order_acquire);
	size_t i = (number - 1) >> MAP_LEAF_BITS;

	*place = NULL;
	if (!d || i >= d->leaves)
		return NULL;
	*place = &d->leaf[i];
	return atomic_load_explicit(*place, memory_order_acquire);
}

static struct map_region *region_find(struct map *map, uint32_t number)
{
	struct map_leaf *_Atomic *place;
	struct map_leaf *leaf;

	if (number == 0)
		return &map->first;
	leaf = leaf_find(map, number, &place);
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

/* *@leaf_out: NULL for the first region. */
static struct map_region *region_make(const struct map_layout *l, struct map *map, uint32_t number,
				      struct map_leaf **leaf_out)
{
	struct map_leaf *_Atomic *place;
	struct map_leaf *leaf;

	*leaf_out = NULL;
	if (number == 0)
		return &map->first;
	leaf = leaf_find(map, number, &place);
	if (!place && !directory_grow(map, ((number - 1) >> MAP_LEAF_BITS) + 1ul))
		return NULL;
	if (!leaf) {
		leaf_find(map, number, &place);
		leaf = leaf_get(l);
		if (!leaf)
			return NULL;
		atomic_store_explicit(place, leaf, memory_order_release);
	}
	*leaf_out = leaf;
	return &leaf->region[(number - 1) & (MAP_LEAF - 1)];
}

/* Whether it had any slots. */
static bool region_release(const struct map_layout *l, struct map_region *region)
{
	bool any = false;

	for (unsigned i = 0; i < MAP_SHAPES; i++) {
		struct map_slots *slots =
			atomic_load_explicit(&region->slots[i], memory_order_relaxed);

		if (!slots)
			continue;
		atomic_store_explicit(&region->slots[i], NULL, memory_order_release);
		slots_put(l, (enum map_shape)i, slots);
		any = true;
	}
	return any;
}

static bool region_has_slots(struct map_region *region)
{
	for (unsigned i = 0; i < MAP_SHAPES; i++)
		if (atomic_load_explicit(&region->slots[i], memory_order_relaxed))
			return true;
	return false;
}

void map_reclaim(const struct map_layout *l, struct map *map, uint32_t number)
{
	struct map_region *region = region_find(map, number);
	struct map_leaf *_Atomic *place;
	struct map_leaf *leaf;

	if (!region || atomic_load_explicit(&region->used, memory_order_acquire) ||
	    !region_release(l, region) || number == 0)
		return;
	map->live--;
	leaf = leaf_find(map, number, &place);
	if (--leaf->busy == 0) {
		atomic_store_explicit(place, NULL, memory_order_release);
		leaf_put(l, leaf);
	}
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

bool map_region_is_empty(const struct map_layout *l, struct map *map, uint64_t offset)
{
	struct map_region *region = region_find(map, (uint32_t)(offset >> l->region_shift));

	return !region || !atomic_load_explicit(&region->used, memory_order_acquire);
}

unsigned map_small_blocks(const struct map_layout *l, struct map *map, uint64_t offset)
{
	struct map_region *region = region_find(map, (uint32_t)(offset >> l->region_shift));

	if (!region || atomic_load_explicit(&region->shape, memory_order_relaxed) != MAP_SMALL)
		return 0;
	return atomic_load_explicit(&region->used, memory_order_relaxed);
}

void map_reclaim_missed(struct map *map)
{
	atomic_fetch_add_explicit(&map->missed, 1, memory_order_relaxed);
}

/* All regions: a step or so for each that was missed. */
static void map_reclaim_all(const struct map_layout *l, struct map *map)
{
	struct map_directory *d = atomic_load_explicit(&map->others, memory_order_relaxed);

	atomic_store_explicit(&map->missed, 0, memory_order_relaxed);
	for (size_t i = 0; d && i < d->leaves; i++) {
		for (uint32_t k = 0; k < MAP_LEAF; k++) {
			if (!atomic_load_explicit(&d->leaf[i], memory_order_relaxed))
				break;
			map_reclaim(l, map, (uint32_t)(i << MAP_LEAF_BITS) + k + 1);
		}
	}
}

int map_insert(const struct map_layout *l, struct map *map, const struct map_place *place,
	       block_id id)
{
	struct map_leaf *leaf;
	struct map_region *region = region_make(l, map, place->region, &leaf);
	struct map_slots *slots;
	uint32_t missed;

	if (!region)
		return -ENOMEM;
	slots = atomic_load_explicit(&region->slots[place->shape], memory_order_relaxed);
	if (!slots) {
		missed = atomic_load_explicit(&map->missed, memory_order_relaxed);
		if (missed > MAP_MISSED_MIN && missed > map->live / MAP_MISSED_PART)
			map_reclaim_all(l, map);
		region = region_make(l, map, place->region, &leaf); /* its leaf may have gone */
		if (!region)
			return -ENOMEM;
		slots = slots_get(l, (enum map_shape)place->shape);
		if (!slots)
			return -ENOMEM; /* a leaf without slots goes with the file */
		if (leaf && !region_has_slots(region)) {
			leaf->busy++;
			map->live++;
		}
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

bool map_remove(struct map *map, const struct block *b, block_id id, bool *empty)
{
	struct map_region *region = region_find(map, b->region);
	enum map_shape shape = MAP_WHOLE;
	_Atomic block_id *slot = NULL;

	if (region) {
		shape = atomic_load_explicit(&region->shape, memory_order_acquire);
		slot = region_slot(region, shape, b->slot);
	}
	/* It is not there when it was replaced or dropped while somebody had it pinned; the
	 * region may have another shape by then, or be another file's. */
	*empty = false;
	if (!slot || !atomic_compare_exchange_strong_explicit(
			     slot, &id, BLOCK_NONE, memory_order_acq_rel, memory_order_relaxed))
		return false;
	*empty = atomic_fetch_sub_explicit(&region->used, 1, memory_order_acq_rel) == 1;
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

void map_free(const struct map_layout *l, struct map *map)
{
	struct map_directory *d = atomic_load_explicit(&map->others, memory_order_relaxed);

	region_release(l, &map->first);
	for (size_t i = 0; d && i < d->leaves; i++) {
		struct map_leaf *leaf = atomic_load_explicit(&d->leaf[i], memory_order_relaxed);

		for (unsigned k = 0; leaf && k < MAP_LEAF; k++)
			region_release(l, &leaf->region[k]);
		if (leaf) {
			leaf->busy = 0;
			leaf_put(l, leaf);
		}
	}
	while (d) {
		struct map_directory *former = d->former;

		free(d);
		d = former;
	}
}
