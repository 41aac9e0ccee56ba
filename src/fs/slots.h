/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A table of fixed-size elements that the guest names by number.
 *
 * An element's id is index | generation << 32, below 2^56. The memory of an element is
 * never returned while the table lives (type-stable), so any 64-bit number a
 * guest makes up can be looked at: it names a live element of the right
 * generation, or nothing. Elements hold no pointers into the table and may be
 * moved with it; they refer to each other by index.
 *
 * Life of an element:
 *	slot_alloc()	nobody else can see it; the caller fills it in
 *	slot_publish()	its id works; one reference, the owner's
 *	slot_get()	by id, a reference more
 *	slot_kill()	its id stops to work; references stay. Exactly one caller
 *			gets true, and puts the owner's reference.
 *	slot_put()	true for the last one, who tears the element down and calls
 *	slot_free()
 *
 * Threads: everything may be called from any thread, except slots_free().
 */
#ifndef OVFS_FS_SLOTS_H
#define OVFS_FS_SLOTS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The first member of every element. */
struct slot {
	_Atomic uint64_t state; /* generation << 32 | references */
	uint32_t index;
	uint32_t next_free; /* slots.lock, while free */
};

/* Chunk k holds SLOTS_FIRST << k elements. */
#define SLOTS_FIRST 64u
#define SLOTS_CHUNKS 26

struct slots {
	size_t elem_size;
	uint32_t max;
	_Atomic uint32_t used; /* indices below it have memory */
	pthread_mutex_t lock;
	uint32_t free_head; /* lock */
	uint32_t live;	    /* lock */
	void *_Atomic chunks[SLOTS_CHUNKS];
};

/* @elem_size: of the element, struct slot included. At most @max elements.
 * Index 0 is never given out; the first element has index 1 and generation 0, so
 * its id is 1. */
void slots_init(struct slots *t, size_t elem_size, uint32_t max);

/* The elements are the caller's to have torn down. */
void slots_fini(struct slots *t);

/* NULL when the table is full or memory is short. What follows the struct slot
 * is zero, or as the last owner left it: others may still be looking at it, with
 * an old id, and it is the caller who knows which members have to be atomic. */
void *slot_alloc(struct slots *t);
void slot_publish(void *elem);

/* NULL when @id names nothing. */
void *slot_get(struct slots *t, uint64_t id);

/* A reference more to an element of which the caller knows it has one. */
void slot_hold(void *elem);
bool slot_kill(void *elem, uint64_t id);
bool slot_put(void *elem);

/* @elem: has no references (or was never published). */
void slot_free(struct slots *t, void *elem);

/* The element with @index whatever its state; NULL when it never existed. */
void *slot_peek(const struct slots *t, uint32_t index);

/* As the element is now: only its owner's reference makes it meaningful. */
uint64_t slot_id(const void *elem);
bool slot_live(const void *elem);

uint32_t slots_live(struct slots *t);

#endif
