/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A copy of a range of a file, in memory that a front end can map: see window.h.
 *
 * The memory is a memfd of exactly its length, which nobody can shrink, so that no front end
 * can take it away under us; what lies beyond the end of the file is zero.
 *
 * What the guest has written since is found by comparing each page with a checksum of what it
 * was. A copy that the guest has not asked to write to has none and is never written back.
 *
 * Locks: copy->lock covers the checksums, and is held while the storage is read or written.
 * entry, refs and what says whose it is belong to the window, under its lock.
 */
#ifndef OVFS_FUSE_WINDOW_COPY_H
#define OVFS_FUSE_WINDOW_COPY_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/list.h"
#include "fs/fs.h"

#define WINDOW_COPY_PAGE 4096u

struct window_copy {
	struct list entry;
	unsigned refs;
	uint64_t seq; /* rises along the list */
	const void *owner;
	uint64_t nodeid, offset, length;
	bool orphan; /* its mapping is gone; what is written is to be saved yet */

	/* Constant. */
	struct fs_session *session;
	int fd;
	unsigned char *map;

	pthread_mutex_t lock;
	struct fs_window_file file; /* open as long as the copy is there */
	uint64_t *sums;		    /* one for each page; NULL: not written to */
	unsigned writers;	    /* WRITEs under way */
	bool raced;		    /* was written back during one */
};

/* Makes room for a copy of [@offset, @offset + @length) of @file, which it closes in the end,
 * also on failure. Negative errno. */
int window_copy_new(struct window_copy **out, struct fs_session *session,
		    struct fs_window_file *file, uint64_t offset, uint64_t length);
void window_copy_free(struct window_copy *copy);

/* Reads what the file has. Changes of the file have to be told from before on. */
int window_copy_fill(struct window_copy *copy);

/* The guest will write to it. -EROFS, -EACCES, ...: it may not; -ENOMEM. */
int window_copy_make_writable(struct window_copy *copy, uint64_t nodeid);

/* Brings what was written to the file. Negative errno: some of it is not there. */
int window_copy_write_back(struct window_copy *copy);

/* The guest has opened the file anew: takes what it has now, but for what was written and is not
 * there yet. */
int window_copy_refresh(struct window_copy *copy);

/* A WRITE, or another change of the file, begins and ends; if the copy is written back between,
 * and with it what the file had before, it is written back again. A copy that was made meanwhile
 * only hears of the end. */
void window_copy_begin_change(struct window_copy *copy);
/* The file has got @size bytes of @data at @offset; @data NULL for zeros. 0: none. */
void window_copy_end_change(struct window_copy *copy, uint64_t offset, uint64_t size,
			    const struct iov_cursor *data);

#endif
