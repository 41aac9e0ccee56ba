/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is a name? The questions that lookup.c has for the storage. On workers: they block.
 */
#ifndef OVFS_FS_OBJECTFS_ASK_H
#define OVFS_FS_OBJECTFS_ASK_H

#include "fs/objectfs/internal.h"

/* A question and its answer; all of it is ask.c's but the second part. */
struct asked {
	struct store_op stat, list;
	struct store_page page;
	char prefix[NODE_KEY_SIZE + 1]; /* the key with a slash */
	pthread_mutex_t lock;
	pthread_cond_t done;
	bool stat_done;

	bool rows;   /* it is a directory */
	bool marker; /* that has one */
	int64_t marker_mtime_ns;
	uint64_t sent_ns;
};

enum what { WAS_NOTHING, WAS_FILE, WAS_DIR };

/*
 * 0, with a->rows for a directory, a->stat for a file; -ENOENT; or what went wrong. @was:
 * what it used to be, which is asked for first.
 */
int ask(struct objectfs *fs, struct asked *a, const char *key, enum what was);

/* Only whether there is an object, into a->stat, and @properties (may be NULL). The same results.
 */
int ask_stat(struct objectfs *fs, struct asked *a, const char *key,
	     struct store_properties *properties);

#endif
