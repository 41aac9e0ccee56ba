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
 * Finding a block takes no lock. A region changes its shape when all its slots are empty, under
 * the file's lock. Slots of regions without blocks are taken back, and leaves of regions without
 * slots, and become others, perhaps of another file, but never anything else (map_memory): who
 * walked over them without the lock finds something else there, or nothing, and with map_holds(),
 * which begins at the file, that it is not his. So the memory of all maps is bounded by the
 * blocks there are, not by the files: 1 KiB for each block at worst, that is blocks of 16 KiB,
 * each 32 MiB from the others; but for the directory, 16 bytes for each 32 MiB of a file.
 *
 * Threads: map_find() any; the others under the lock of the file; map_free() the last.
 */
#ifndef OVFS_CACHE_MAP_H
#define OVFS_CACHE_MAP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cache/block.h"
#include "cache/pool.h"

enum map_shape { MAP_WHOLE, MAP_SMALL, MAP_GROW, MAP_SHAPES };

/* Of one cache. Taken from the host when there is none to be used again, and given back with
 * the cache. */
struct map_memory {
	pthread_mutex_t lock; /* innermost */
	struct map_slots *slots[MAP_SHAPES];
	struct map_leaf *leaves;
	uint64_t bytes; /* of these, and of those in use */
};
void map_memory_init(struct map_memory *memory);
/* All maps are free. */
void map_memory_exit(struct map_memory *memory);
uint64_t map_memory_bytes(struct map_memory *memory);

/* How offsets become slots; constant, from the classes of the pool. */
struct map_layout {
	struct map_memory *memory;
	unsigned classes;
	unsigned shift[POOL_CLASSES_MAX]; /* size of class i is 1 << shift[i] */
	unsigned region_shift;
	unsigned small_class;
	unsigned grow_first[POOL_CLASSES_MAX + 1]; /* slot in GROW where class i begins */
	unsigned slots[MAP_SHAPES];
};
void map_layout_init(struct map_layout *layout, const struct pool *pool, struct map_memory *memory);

struct map_slots;

struct map_region {
	_Atomic uint32_t shape;			     /* of the blocks it has now */
	_Atomic uint32_t used;			     /* slots that hold a block */
	struct map_slots *_Atomic slots[MAP_SHAPES]; /* NULL: has had no block in it */
};

struct map {
	struct map_region first;	      /* of most files the only one */
	struct map_directory *_Atomic others; /* regions 1 and up */
	uint32_t live;			      /* of those, that have slots; the lock */
	_Atomic uint32_t missed;	      /* map_reclaim() that were due */
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

/* Whether the region around @offset has no block, and may get any shape. */
bool map_region_is_empty(const struct map_layout *layout, struct map *map, uint64_t offset);

/* How many blocks the region around @offset has for random access; 0 when it has others. */
unsigned map_small_blocks(const struct map_layout *layout, struct map *map, uint64_t offset);

/* Puts a block where none is (replacing: where @old is). The region takes the shape of @place.
 * -ENOMEM. */
int map_insert(const struct map_layout *layout, struct map *map, const struct map_place *place,
	       block_id id);
void map_replace(struct map *map, const struct map_place *place, block_id id);

/* Takes @id, which is @b, out of its slot; says false when it is not there (any more). Any
 * thread that made the block FREE, without the lock. *@empty: b->region has no block left,
 * and map_reclaim() is due. */
bool map_remove(struct map *map, const struct block *b, block_id id, bool *empty);

/* Takes back the memory of a region, when it has no block. Under the lock. Who cannot have that
 * says map_reclaim_missed(): map_insert() looks at all regions when that was said often. */
void map_reclaim(const struct map_layout *layout, struct map *map, uint32_t region);
void map_reclaim_missed(struct map *map);

/* The first block at or after @offset, and where it is. BLOCK_NONE at the end. */
block_id map_next(const struct map_layout *layout, struct map *map, uint64_t offset,
		  struct map_place *place);

/* No blocks are left. */
void map_free(const struct map_layout *layout, struct map *map);

#endif
