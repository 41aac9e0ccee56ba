/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File storage: forwards every request to a directory of the host.
 *
 * Full POSIX, as far as the host file system has it. Data goes straight
 * between guest memory and the file (preadv2, pwritev2), without a copy; or, when that is
 * configured, through the cache (data.h). See the comment on top of filefs.c for how inodes,
 * descriptors and the caller's identity are kept.
 */
#ifndef OVFS_FS_FILEFS_H
#define OVFS_FS_FILEFS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/workers.h"
#include "fs/fs.h"

struct cache_storage;
struct filefs_data;
struct loop;
struct store;

/* What the guest may keep in its caches (virtiofsd's --cache). */
enum filefs_cache {
	FILEFS_CACHE_AUTO,     /* attributes for their time-outs, data until changed */
	FILEFS_CACHE_ALWAYS,   /* everything, for long: nobody else changes the tree */
	FILEFS_CACHE_NEVER,    /* nothing; files are opened FOPEN_DIRECT_IO */
	FILEFS_CACHE_METADATA, /* as auto, but data is not kept (FOPEN_DIRECT_IO) */
};

struct filefs_config {
	_Atomic bool readonly; /* changes by fs_ops.set_readonly() */
	enum filefs_cache cache;
	uint64_t attr_timeout_ns; /* ignored (0, or a day) by never and always */
	uint64_t entry_timeout_ns;
	uint64_t negative_timeout_ns;
	bool writeback;		  /* FUSE_WRITEBACK_CACHE */
	bool xattr;		  /* forward extended attributes */
	bool posix_acl;		  /* FUSE_POSIX_ACL; needs xattr */
	bool posix_locks;	  /* forward fcntl and flock locks to the host */
	bool announce_submounts;  /* FUSE_SUBMOUNTS */
	bool allow_direct_io;	  /* honour O_DIRECT of the guest on the host file */
	bool readdirplus;	  /* FUSE_DO_READDIRPLUS, READDIRPLUS_AUTO */
	bool inode_file_handles;  /* name inodes by file handle when the host can */
	unsigned fd_limit;	  /* descriptors this mount may use; 0: from RLIMIT_NOFILE */
	struct filefs_data *data; /* data goes through the cache; borrowed. NULL: it does not */
};

/*
 * @root_fd: the directory to serve, opened O_PATH or O_RDONLY; owned by the
 * driver from now on, also on failure. @proc_self_fd: an open /proc/self/fd
 * directory, borrowed, outlives the driver: O_PATH descriptors are reopened
 * through it after the file system roots have been changed. @workers: for what
 * blocks; borrowed, outlives the driver.
 */
struct err *filefs_new(struct fs **out, const struct filefs_config *config, int root_fd,
		       int proc_self_fd, struct workers *workers);

/*
 * The cached data of a directory. It is made, its store put under a struct cache_storage (maybe
 * with layers in between), told of that, and then given to filefs_new(), once or more often. In the
 * end: the drivers are freed, the cache drained, filefs_data_stop(), the cache_storage freed,
 * filefs_data_free(), and then the store with its @loop. One thread.
 */
struct err *filefs_data_new(struct filefs_data **out, struct loop *loop)
	__attribute__((warn_unused_result));
struct store *filefs_data_store(struct filefs_data *data);
void filefs_data_start(struct filefs_data *data, struct cache_storage *cache, bool write_back);
/* From now on. Any thread. */
void filefs_data_set_write_back(struct filefs_data *data, bool write_back);
void filefs_data_stop(struct filefs_data *data);
/* Accepts NULL. */
void filefs_data_free(struct filefs_data *data);

#endif
