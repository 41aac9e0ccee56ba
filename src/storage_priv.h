/* SPDX-License-Identifier: Apache-2.0 */
/* What storage.c and storage_reload.c share; nobody else includes it. */
#ifndef OVFS_STORAGE_PRIV_H
#define OVFS_STORAGE_PRIV_H

#include <pthread.h>

#include "storage.h"

struct part {
	char *path; /* of a directory; NULL: it is all there is */
	struct fs *fs;
	struct backend *backend; /* of objects, and of directories that are cached */
	/* Of a directory, so that one which hangs takes no thread from another; else NULL. */
	struct workers *workers;
	bool settled;
	/* While a configuration is being applied: what it says; NULL: the part goes. */
	const struct ovfs_backend *then;
	struct part *next; /* storage.hidden */
};

struct storage {
	struct storage_env env;
	struct fs *join;      /* NULL: there are no directories */
	pthread_mutex_t lock; /* parts and count change under it; for storage_log() */
	struct part *parts[STORAGE_PARTS_MAX];
	size_t count;
	struct part *hidden; /* removed, but a request was inside for too long */
	/* Made ready by storage_prepare(). */
	struct part *fresh[STORAGE_PARTS_MAX];
	size_t fresh_count;
};

/* The @index-th part of @mount, which is part of @generation. @may_refuse: see backend_get(). */
struct err *part_new(struct part **out, struct generation *generation,
		     const struct ovfs_mount *mount, size_t index, const struct storage_env *env,
		     int root, bool may_refuse) __attribute__((warn_unused_result));

/* Writes what it has, and frees. The number of files that could not be written: then
 * nothing is freed. */
unsigned part_free(struct part *part);

#endif
