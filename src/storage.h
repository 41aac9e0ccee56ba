/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a mount shows, from its configuration: a directory, or objects with all that
 * stands between them and the file system driver.
 *
 *	fs		filefs; with a cache -> backend (cache -> stack -> the files)
 *	s3, memory	objectfs -> backend (cache -> stack of layers -> service)
 *
 * or several such parts, each below a name in joinfs ([[mount.directory]]). The drivers are the
 * mount's own, a backend (backend.h) perhaps that of several mounts.
 *
 * Made and freed by one thread.
 */
#ifndef OVFS_STORAGE_H
#define OVFS_STORAGE_H

#include "backend.h"
#include "base/err.h"
#include "base/workers.h"
#include "fs/fs.h"
#include "generation.h"

struct storage;

/* Directories of a mount. */
#define STORAGE_PARTS_MAX 64

/* What a storage uses of others; all of it borrowed, and outlives it. */
struct storage_env {
	struct workers *workers; /* for the driver; directories have their own */
	struct backends *backends;
	const char *context; /* of the log, for threads of its own */
	int proc_self_fd;    /* see filefs_new() */
	unsigned files_max; /* descriptors, where the configuration leaves that open; 0: likewise */
	bool patient;	    /* a directory whose service says no is shown all the same */
};

/* What a mount is made of: its backend, or those of its directories. */
static inline size_t storage_part_count(const struct ovfs_mount *config)
{
	return config->directory_count ? config->directory_count : 1;
}

static inline const struct ovfs_backend *storage_part(const struct ovfs_mount *config, size_t index)
{
	return config->directory_count ? &config->directories[index].backend : &config->backend;
}

/*
 * @config is part of @generation. @roots: for each part of type fs, its directory; they stay the
 * caller's. Asks the services whether they can be used, all at once, and blocks until it knows, or
 * for some seconds: what a service that is not there is asked for fails until it is.
 */
struct err *storage_new(struct storage **out, struct generation *generation,
			const struct ovfs_mount *config, const struct storage_env *env,
			const int *roots) __attribute__((warn_unused_result));

/* The driver, borrowed. */
struct fs *storage_fs(struct storage *storage);

/* The driver of a mount with directories, borrowed; NULL: it has none. */
struct fs *storage_join(struct storage *storage);

/* The @index-th part: its path if it is a directory, else NULL, and its backend, if it has one.
 * False: there are no more. */
bool storage_tell(struct storage *storage, size_t index, const char **path,
		  struct backend **backend);

/*
 * Reload, from @now to @config; see backend.h. Directories may come, go, and become others; a mount
 * without them does not get any, nor become another one. @roots: of parts that are new, the
 * caller's. A directory that goes writes what it has first, which takes as long as its
 * drain_timeout.
 */
struct err *storage_prepare(struct storage *storage, struct generation *generation,
			    const struct ovfs_mount *now, const struct ovfs_mount *config,
			    const int *roots) __attribute__((warn_unused_result));
void storage_commit(struct storage *storage);
void storage_discard(struct storage *storage);

/* Which directory of @now the @index-th of @then is, with other settings perhaps; NULL: it is a
 * new one. Of mounts without directories: the one that there is. */
const struct ovfs_backend *storage_part_before(const struct ovfs_mount *now,
					       const struct ovfs_mount *then, size_t index);

/* Logs how often the service was asked for what, and how the cache did. */
void storage_log(struct storage *storage);

/*
 * The end is near; see backend_settle(). The number of files that could not be written: then
 * whoever still waits for the service does so for longer, and storage_free() would, too.
 */
unsigned storage_settle(struct storage *storage);

/* No request is under way. Writes what came since storage_settle(), as it does, and frees. The
 * number of files that could not be written. Accepts NULL. */
unsigned storage_free(struct storage *storage);

#endif
