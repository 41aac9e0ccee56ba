/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data of files through the cache (cache/cache.h), when that is configured for a directory.
 *
 *	struct filefs_data	the files of one directory, whose drivers may be several, and the
 *				storage service that the cache reads and writes them through
 *	struct datafile		a file of the host of which the cache may want something: it is
 *				open, or has changes that are not written yet
 *
 *	data.c		files: descriptors, versions, opening and closing
 *	data_life.c	all of it, made and freed
 *	data_store.c	the service: STAT, READ, WRITE of keys that name files
 *	data_io.c	READ, WRITE, and what has to go around the cache
 *
 * A key is device and inode number, in hexadecimal: names do not matter to data, and neither
 * do renames. A datafile has a descriptor of its own, so that its inode is not used again. What the
 * cache keeps of a file beyond that is told from a later file of the same number by its
 * version, which is made of the times of data and inode and the size.
 *
 * Without it (struct filefs_config.data is NULL) nothing of this is in the way: READ and WRITE are
 * those of io.c, in a table of operations of their own.
 *
 * Locks: filefs_data.lock covers the table, and what struct datafile says. It is taken outside of
 * the cache's, and never held over a system call that may wait.
 */
#ifndef OVFS_FS_FILEFS_DATA_H
#define OVFS_FS_FILEFS_DATA_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/list.h"
#include "base/workers.h"
#include "cache/cache.h"
#include "fs/filefs/filefs.h"
#include "store/operator.h"

struct filefs;
struct filefs_session;
struct handle;
struct inode;

#define DATA_KEY_MAX 40
#define DATA_BUCKETS 1024

/* Bytes: the map of the cache goes no further, nor do offsets of it. */
#define DATA_SIZE_MAX (4ull << 40)

struct datafile {
	char key[DATA_KEY_MAX];
	struct list link;     /* of its bucket; lock */
	struct list lingerer; /* dirty, but not open any more; lock */
	unsigned uses;	      /* handles, and whoever is at work with it; lock */
	unsigned handles;     /* lock */
	bool closing;	      /* work is queued; lock */
	bool writable;	      /* fd is; lock */
	bool memory;	      /* the host's own cache is where the file is */
	bool remote;
	int fd;
	int proc_self_fd;    /* filefs_new()'s */
	uint32_t error_seen; /* by OPEN; lock */
	struct cache_file *file;
	_Atomic bool suspect; /* look whether it was changed before the next READ */
	_Atomic bool setid;   /* its mode had set-id bits when last looked at */
	_Atomic bool kill;    /* ... which the next WRITE has to take away */
	struct filefs_data *data;
	struct filefs *fs; /* whose budget the descriptor is of; NULL: that is gone; lock */
	struct work work;
};

struct filefs_data {
	struct workers *io;	 /* requests of guests that wait for a file */
	struct workers *readers; /* the service's */
	struct store *store;
	struct cache_storage *cache;
	_Atomic bool write_back;

	pthread_mutex_t lock; /* covers what follows */
	struct list buckets[DATA_BUCKETS];
	struct list lingering; /* datafile.lingerer */
	uint64_t reaped_ns;
};

/* ---- data.c ---- */

/* The version of a file: store_meta with all but write_id. */
void data_meta(const struct statx *stx, struct store_meta *meta);
/* The same of @fd, as it is now. Negative errno. */
int data_stat(int fd, struct store_meta *meta);

/* The datafile with @key, used once more; NULL when there is none. */
struct datafile *data_find(struct filefs_data *data, const char *key);
/* The same for @inode, or what @nodeid is. */
struct datafile *data_find_inode(struct filefs *fs, const struct inode *inode);
struct datafile *data_find_node(struct filefs_session *s, uint64_t nodeid);
void data_put(struct datafile *d);
/* Out of the table, and used by nobody. */
void data_free(struct datafile *d);

/* The open file @fh gets its datafile. @out: flags for the guest. @made: it is new. Negative
 * errno, and then it is open no more. Does not wait for what is being written. */
int data_attach(struct filefs_session *s, struct fuse_open_out *out, uint32_t flags);

/* Asks the host whether @d was changed, and has the cache know. May block. */
int data_refresh(struct datafile *d);

/* The handle @h, which nobody else uses, ends. Does not wait. */
void data_close(struct handle *h);

/* The driver goes. */
void data_detach(struct filefs *fs);

/*
 * What the guest is to see of a file that the host shows as @stx, when there is data that it does
 * not have yet. @started_ns: before it was asked. And has the cache see what the host shows.
 */
void data_show(const struct filefs *fs, const struct statx *stx, uint64_t *size, uint64_t *blocks,
	       struct timespec *mtime);

/* An operation begins on this thread: what data_show() needs to know. */
void data_begin(void);

/* A lock was taken through the handle @fh: who takes it expects to see what others wrote. */
void data_locked(struct filefs_session *s, uint64_t fh);

/* ---- data_io.c ---- */

/* inode_open() with O_TRUNC among @flags: what is dirty is written first, and what is cached
 * dropped. May block. */
int data_open_truncating(struct filefs_session *s, struct inode *inode, int flags);

/* ---- data_store.c ---- */

struct err *data_store_new(struct filefs_data *data, struct loop *loop)
	__attribute__((warn_unused_result));

#endif
