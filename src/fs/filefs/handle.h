/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open files and directories of a session: what the guest calls fh.
 *
 * A handle owns its descriptor and a reference to its inode. RELEASE ends the
 * number at once; the descriptor is closed when the last request that uses the
 * handle is through. Any thread.
 */
#ifndef OVFS_FS_FILEFS_HANDLE_H
#define OVFS_FS_FILEFS_HANDLE_H

#include <stdbool.h>
#include <stdint.h>

#include "fs/slots.h"

struct filefs_session;
struct inode;
struct datafile;
struct cache_stream;

#define HANDLES_MAX (1u << 24)

enum {
	HANDLE_DIR = 1 << 0,
	HANDLE_SLOW_WRITE = 1 << 1, /* O_DIRECT, O_SYNC, O_DSYNC: for a worker */
	HANDLE_SLOW_READ = 1 << 2,  /* O_DIRECT */
	HANDLE_LOCKED = 1 << 3,	    /* flock was used */
	/* Around the cache, where there is one. */
	HANDLE_THROUGH_READ = 1 << 4,
	HANDLE_THROUGH_WRITE = 1 << 5,
};

struct handle {
	struct slot slot;
	int fd;
	uint32_t inode; /* its index in the inode table */
	uint32_t mount;
	uint32_t dir; /* directory stream, 0 for a file */
	_Atomic uint32_t flags;
	/* With a cache; data.h. Not before OPEN is answered. */
	struct datafile *_Atomic data;
	struct cache_stream *stream;
	uint32_t error_seen; /* filefs_data.lock */
};

/*
 * Takes a handle for @fd, an open descriptor whose place in the budget has been
 * taken, on @inode. Both stay the caller's on failure: -ENFILE or -ENOMEM.
 */
int filefs_handle_add(struct filefs_session *s, struct inode *inode, int fd, uint32_t flags,
		      uint32_t dir, uint64_t *fh);

/* NULL, for EBADF, unless @fh is a handle of the kind that @dir says. */
struct handle *filefs_handle_get(struct filefs_session *s, uint64_t fh, bool dir);
void filefs_handle_put(struct filefs_session *s, struct handle *h);

/* Ends the number @fh. False when it was none. */
bool filefs_handle_release(struct filefs_session *s, uint64_t fh, bool dir);

void filefs_handles_fini(struct filefs_session *s);

#endif
