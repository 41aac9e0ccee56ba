/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What rename.c and rename_dir.c share: a rename under way. On a changer's thread, with the names
 * of both directories (tree_names_begin()), and both names claimed.
 */
#ifndef OVFS_FS_OBJECTFS_RENAME_H
#define OVFS_FS_OBJECTFS_RENAME_H

#include "fs/objectfs/claim.h"
#include "fs/objectfs/move.h"

/* How often something is tried that others undo. */
#define RENAME_TRIES 4

/* Outcomes that are no errors: try again; try again with the lock for directories. */
#define RENAME_AGAIN 1
#define RENAME_AS_DIR 2

struct rename {
	struct objectfs *fs;
	struct node *from_dir, *to_dir;
	const char *from_name, *to_name;
	struct node *node;   /* with a reference */
	struct node *target; /* what is there, with a reference, or NULL */
	struct claim from_claim, to_claim;
	bool moved;    /* a directory: everything is there, only originals may be left */
	uint64_t size; /* of a file */
	char from[NODE_KEY_SIZE], to[NODE_KEY_SIZE]; /* keys; of a directory with the slash */
};

/*
 * The object @from, of which @f (or NULL) is cached, goes to @to, where @replaces says that
 * there may be one. *@deletes: there is an object to be deleted at @from. Blocks.
 */
int rename_object(struct objectfs *fs, struct cache_file *f, const char *from, const char *to,
		  bool replaces, uint64_t size, struct store_meta *meta, bool *deletes);
/* The tree changes. tree.lock is held. */
void rename_install(struct rename *r);
/* The originals are deleted, or (@ret) perhaps not. */
void rename_done(struct rename *r, int ret);

/* rename_dir.c. Blocks. */
int rename_dir(struct rename *r);

#endif
