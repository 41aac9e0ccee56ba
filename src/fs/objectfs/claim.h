/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names that are being changed, and questions about names, while the storage works on them.
 *
 * A request to the storage takes its time, and none of our locks is held meanwhile. So a question
 * may be answered by what the storage was like before a change of ours, and the answer come after
 * it: put into the tree, it would make a name missing that was just made, or a file appear that was
 * just removed; and the next one who makes a file or a directory of that name would believe it.
 * Against that, every change and every question is known here for as long as it is under way:
 *
 *	claim	  A name that somebody is changing in the storage. What it leads to, until
 *		  he is done, is what the tree says, and nobody asks: whoever changes it has found
 *		  out before, and puts the outcome into the tree in one step.
 *	inquiry	  A name that somebody asks about. A change of it overtakes him: his answer counts
 *		  for nothing, and he asks again.
 *
 * Claims are made by who has the names of the directory (tree_names_begin()), so there are at most
 * two in a directory. Both live on the stacks of their makers, in lists of the tree: few, as there
 * are few threads to make them.
 *
 * tree.lock is held for everything here. Who has a claim or an inquiry has a reference to @parent,
 * and keeps the name.
 */
#ifndef OVFS_FS_OBJECTFS_CLAIM_H
#define OVFS_FS_OBJECTFS_CLAIM_H

#include "fs/objectfs/node.h"

struct claim {
	struct list link;
	const struct node *parent;
	const char *name;
	size_t len;
};

/* Overtakes the inquiries that are under way. */
void claim_begin(struct tree *t, struct claim *c, const struct node *parent, const char *name);
void claim_end(struct claim *c);
bool claim_is(const struct tree *t, const struct node *parent, const char *name, size_t len);

struct inquiry {
	struct list link;
	const struct node *parent;
	const char *name;
	size_t len;
	bool overtaken; /* the name was changed */
	bool stirred;	/* it is a directory's, in which somebody began to change names */
};

void inquiry_begin(struct tree *t, struct inquiry *q, const struct node *parent, const char *name,
		   size_t len);
/* False when it was overtaken. */
bool inquiry_end(struct inquiry *q);

/* For changes that need no request, thus no claim. */
void inquiries_overtake(struct tree *t, const struct node *parent, const char *name, size_t len);
/* Somebody is about to change names in @dir. */
void inquiries_stir(struct tree *t, const struct node *dir);

#endif
