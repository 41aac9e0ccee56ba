/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a mount shows, from its configuration: a directory, or objects with all that
 * stands between them and the file system driver.
 *
 *	fs		filefs
 *	s3, memory	objectfs -> backend (cache -> stack of layers -> service)
 *
 * The driver is the mount's own, a backend (backend.h) perhaps that of several mounts.
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

/* What a storage uses of others; all of it borrowed, and outlives it. */
struct storage_env {
	struct workers *workers; /* for the driver */
	struct backends *backends;
	int proc_self_fd;   /* see filefs_new() */
	unsigned files_max; /* descriptors, where the configuration leaves that open; 0: likewise */
};

/*
 * @config is part of @generation. *@root_fd: of type fs, the directory, which is taken and left
 * -1, also on failure. Asks the service whether it can be used, and blocks until it knows.
 */
struct err *storage_new(struct storage **out, struct generation *generation,
			const struct ovfs_mount *config, const struct storage_env *env,
			int *root_fd) __attribute__((warn_unused_result));

/* The driver, borrowed. */
struct fs *storage_fs(struct storage *storage);

/* NULL: it is a directory. */
struct backend *storage_backend(struct storage *storage);

/* ---- Reload; see backend.h ---- */

struct err *storage_prepare(struct storage *storage, struct generation *generation,
			    const struct ovfs_mount *config) __attribute__((warn_unused_result));
void storage_commit(struct storage *storage, const struct ovfs_mount *config);
void storage_discard(struct storage *storage);

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
