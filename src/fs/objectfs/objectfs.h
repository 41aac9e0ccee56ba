/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Object storage as a file system: a tree built from keys.
 *
 * The path of a file, without the leading slash, is the key of its object; a directory is
 * a common prefix, or an empty object (a marker) whose key ends in a slash, or both. What
 * is known of names and attributes is kept for their time-outs, in memory only; data
 * goes through the cache (cache/cache.h). See the comment on top of objectfs.c
 * for the semantics, which row costs which requests, and who owns what.
 */
#ifndef OVFS_FS_OBJECTFS_H
#define OVFS_FS_OBJECTFS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/workers.h"
#include "cache/cache.h"
#include "fs/fs.h"
#include "store/operator.h"

struct objectfs_config {
	_Atomic bool readonly; /* changes by fs_ops.set_readonly() */
	uid_t uid;	       /* who everything belongs to */
	gid_t gid;
	mode_t file_mode, dir_mode; /* permission bits */
	bool ignore_unsupported;    /* chmod and chown succeed and do nothing; else EOPNOTSUPP */
	_Atomic bool write_back;    /* close() does not wait for the commit */
	uint64_t attr_timeout_ns;   /* how long attributes are believed, by us and the guest */
	uint64_t open_timeout_ns;   /* the same, by an open to read what is cached; 0: it asks */
	uint64_t entry_timeout_ns;
	uint64_t negative_timeout_ns;
	bool readdirplus;
	unsigned listing_max; /* entries of a directory that are remembered; more are streamed */
	unsigned rename_max;  /* objects that a rename of a directory may move; then -EXDEV */
	uint64_t statfs_size; /* bytes, what df says there is */
};

/*
 * @store: the top of the stack that @cache stands on, for metadata. @workers: for what blocks;
 * requests of several steps run there. All three are borrowed and outlive the driver.
 */
struct err *objectfs_new(struct fs **out, const struct objectfs_config *config, struct store *store,
			 struct cache_storage *cache, struct workers *workers)
	__attribute__((warn_unused_result));

/* objectfs_config.write_back from now on. Any thread. */
void objectfs_set_write_back(struct fs *fs, bool write_back);

#endif
