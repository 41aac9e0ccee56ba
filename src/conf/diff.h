/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a reload changes: two configurations compared, mount by mount (they are known by their
 * names), directory by directory (by their paths), key by key. Values do not appear: they
 * may be secret.
 *
 * Any thread, while nobody writes either.
 */
#ifndef OVFS_CONF_DIFF_H
#define OVFS_CONF_DIFF_H

#include "conf/conf.h"
#include "conf/schema.h"

enum ovfs_change_kind {
	OVFS_CHANGE_KEY,
	OVFS_CHANGE_MOUNT_ADDED,
	OVFS_CHANGE_MOUNT_REMOVED,
	OVFS_CHANGE_DIRECTORY_ADDED,
	OVFS_CHANGE_DIRECTORY_REMOVED,
	/* A mount that showed one storage has directories now, or the other way round; they
	 * are not compared. */
	OVFS_CHANGE_MOUNT_FORM,
};

struct ovfs_change {
	enum ovfs_change_kind kind;
	enum conf_change when;	 /* LIVE, CONNECTION or RESTART */
	const char *mount;	 /* NULL: of the whole daemon */
	const char *directory;	 /* NULL: not of a directory */
	const char *table, *key; /* of a key: "cache_settings", "size" */
};

struct ovfs_diff {
	struct ovfs_change *change;
	size_t count;
	bool incomplete; /* for lack of memory */
};

/* From @before to @after, which outlive *@diff: it points to their names. Removals come first. */
void ovfs_config_diff(struct ovfs_diff *diff, const struct ovfs_config *before,
		      const struct ovfs_config *after);

/* The most that any change of @mount takes, or with NULL any of the whole daemon;
 * CONF_CHANGE_TABLE when there are none. */
enum conf_change ovfs_diff_needs(const struct ovfs_diff *diff, const char *mount);

/* `mount "a": storage_settings.endpoint`, for the log. @size bytes at @buf, which is
 * returned. */
const char *ovfs_change_text(const struct ovfs_change *change, char *buf, size_t size);

void ovfs_diff_free(struct ovfs_diff *diff);

#endif
