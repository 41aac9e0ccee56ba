/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The map of a file: which block holds which bytes.
 *
 * A file is cut into regions of the size of the largest class. Each region has at any
 * time one shape, which says how it is cut into slots, and each slot holds a block or
 * nothing:
 *
 *	WHOLE	one block of the largest class: streams, full regions
 *	SMALL	blocks of the smallest class of at least 16 KiB: random access
 *	GROW	4 blocks of 4 KiB, 3 of 16 KiB, 3 of 64 KiB, ... each class up to where the
 *		next one starts: small files, and files whose end nobody knows
 *		yet. What is not used of the last block is at most half of what is stored.
 *
 * Memory taken is at most 1/4 more than stored for files beyond 4 regions, at most twice
 * below, and one block of the smallest class for the smallest.
 *
 * Finding a block takes no lock: nothing that a reader walks over is freed before the
 * file is. A region changes its shape when all its slots are empty, under the file's lock;
 * it keeps the slots of its former shapes for that reason.
 *
 * Threads: map_find() any; the others under the lock of the file; map_free() the last.
 */
#ifndef OVFS_CACHE_MAP_H
#define OVFS_CACHE_MAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cache/block.h"
#include "cache/pool.h"

enum map_shape { MAP_WHOLE, MAP_SMALL, MAP_GROW, MAP_SHAPES };

/* How offsets become slots; constant, from the classes of the pool. */
struct map_layout {
	unsigned classes;
	unsigned shift[POOL_CLASSES_MAX]; /* size of class i is 1 << shift[i] */
	unsigned region_shift;
	unsigned small_class;
	unsigned grow_first[POOL_CLASSES_MAX + 1]; /* slot in GROW where class i begins */
	unsigned slots[MAP_SHAPES];
};
void map_layout_init(struct map_layout *layout, const struct pool *pool);

struct map_slots;

struct map_region {
	_Atomic uint32_t shape;			     /* of the blocks it has now */
	_Atomic uint32_t used;			     /* slots that hold a block */
	struct map_slots *_Atomic slots[MAP_SHAPES]; /* NULL: never had this shape */
};

struct map {
	struct map_region first;	      /* of most files the only one */
	struct map_directory *_Atomic others; /* regions 1 and up */
};

/* A slot of a region, and the bytes it is for. */
struct map_place {
	uint64_t start;	 /* in the file, bytes */
	uint32_t size;	 /* bytes, of its class */
	uint32_t region; /* number */
	uint16_t slot;
	uint8_t class, shape;
};

/* The place that @offset has in a region of @shape. */
void map_place(const struct map_layout *layout, enum map_shape shape, uint64_t offset,
	       struct map_place *place);

/*
 * The block for @offset, BLOCK_NONE when there is none; *@place says where that is (with
 * none: in the shape that the region has now). The caller pins it, and looks again with
 * map_holds().
 */
block_id map_find(const struct map_layout *layout, struct map *map, uint64_t offset,
		  struct map_place *place);

/* Whether the slot still holds @id. */
bool map_holds(struct map *map, const struct map_place *place, block_id id);

/* The shape that new blocks around @offset have to have: that of the region when it has any
 * block, else the best for a file of @size bytes and this kind of access. */
enum map_shape map_choose(const struct map_layout *layout, struct map *map, uint64_t offset,
			  uint64_t size, bool random);

/* Puts a block where none is (replacing: where @old is). The region takes the shape of @place.
 * -ENOMEM. */
int map_insert(const struct map_layout *layout, struct map *map, const struct map_place *place,
	       block_id id);
void map_replace(struct map *map, const struct map_place *place, block_id id);

/* Takes @id, which is @b, out of its slot; says false when it is not there (any more). Any
 * thread that made the block FREE, without the lock. */
bool map_remove(struct map *map, const struct block *b, block_id id);

/* The first block at or after @offset, and where it is. BLOCK_NONE at the end. */
block_id map_next(const struct map_layout *layout, struct map *map, uint64_t offset,
		  struct map_place *place);

/* No blocks are left. */
void map_free(struct map *map);

#endif
