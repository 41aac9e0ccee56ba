/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A lock-free list of free blocks: taken at the head, returned at the tail, both O(1).
 * pool_list.c explains it. Any thread, at any time.
 */
#ifndef OVFS_CACHE_POOL_LIST_H
#define OVFS_CACHE_POOL_LIST_H

#include <stdatomic.h>
#include <stdint.h>

#include "cache/block.h"

/* A number in the lower half, a tag in the upper. Indexed by block_id and by the lists' sentinels;
 * zeroed at first, and never used for anything else. */
typedef _Atomic uint64_t pool_link;

/* The word after @old, which names @id: a change counts the tag on. */
static inline uint64_t pool_list_link(uint64_t old, uint32_t id)
{
	return ((old >> 32) + 1) << 32 | id;
}

/* What the link of a block says that is not on a list: this, or any block's number, or what
 * its holder puts there with pool_list_link(), but never BLOCK_NONE. */
#define POOL_LINK_CLOSED UINT32_MAX

static inline uint32_t pool_list_link_id(uint64_t word)
{
	return (uint32_t)word;
}

struct pool_list {
	_Alignas(64) _Atomic uint64_t tail;
	uint32_t sentinel; /* link[sentinel] is the head */
};

void pool_list_init(struct pool_list *list, pool_link *link, uint32_t sentinel);

/* Appends @count blocks, @id, @id + @step, ..., that are the caller's alone. */
void pool_list_push(struct pool_list *list, pool_link *link, block_id id, uint32_t step,
		    uint32_t count);

/* Takes the first block; BLOCK_NONE when the list is empty. */
block_id pool_list_pop(struct pool_list *list, pool_link *link);

#endif
