/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the window.
 *
 *	window.c		slots: what is mapped where
 *	window_copies.c		the copies among them, and the requests they have to know of
 *	window_memory.c		the memory of a copy, which guests may share
 */
#ifndef OVFS_FUSE_WINDOW_PRIV_H
#define OVFS_FUSE_WINDOW_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/list.h"
#include "base/log.h"
#include "fuse/window.h"
#include "fuse/window_memory.h"

#define COPY_BUCKETS 64u

enum slot_state {
	SLOT_FREE,
	SLOT_BUSY,   /* of whoever set it so */
	SLOT_MAPPED, /* a mapping begins here */
	SLOT_TAIL,   /* and goes on here */
	SLOT_LEFT, /* nobody's; the front end could not be told to unmap it, and has to be first */
};

/* A range of a file that is mapped as a copy. All but the last two under the window's lock. */
struct window_copy {
	struct list entry; /* of its bucket */
	unsigned refs;
	uint64_t seq; /* rises along the list */
	const void *owner;
	uint64_t nodeid, offset;
	bool orphan; /* its mapping is gone; what is written is to be saved yet */

	struct window_memory *memory;
	unsigned begun; /* see window_memory_begin_change() */
};

struct window_slot {
	uint8_t state;
	bool writable; /* the front end has mapped it so */
	uint32_t span; /* slots, of MAPPED */
	uint32_t left; /* slots, of LEFT, and of what was LEFT before it was BUSY; else 0 */
	const void *owner;
	uint64_t nodeid, offset;
	struct window_copy *copy; /* NULL: mapped as it is. A reference */
};

/* What the front end refused once, and need not be asked again. */
struct window_refused {
	_Atomic bool beyond_end;
	_Atomic bool readonly;
};

struct window {
	struct fuse_window_config config;
	struct window_refused refused;
	struct log_limit log_limit;

	pthread_mutex_t lock;		  /* covers the rest */
	struct list copies[COPY_BUCKETS]; /* by nodeid */
	uint64_t next_seq;
	_Atomic unsigned copy_count;
	/* Their mappings are undone as soon as they are made. */
	const void *dropped[FUSE_WINDOW_OWNERS_MAX];
	size_t slot_count;
	struct window_slot slots[];
};

/* ---- window_copies.c ---- */

/* A copy in @memory, which it takes, also on failure; the caller has the one reference. NULL for
 * lack of memory. */
struct window_copy *copy_new(struct window *w, const void *owner, uint64_t nodeid, uint64_t offset,
			     struct window_memory *memory);

/* Gives a reference back. */
void copy_put(struct window *w, struct window_copy *copy);

/* The next one after *@seq, of all files, of all owners when @owner is NULL; with a reference. The
 * list may change between two calls. */
struct window_copy *copy_of_all_next(struct window *w, const void *owner, uint64_t *seq);

#endif
