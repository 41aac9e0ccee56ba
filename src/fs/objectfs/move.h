/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moving objects to other keys: for rename.c, on its worker. Everything blocks. move.c
 * explains.
 */
#ifndef OVFS_FS_OBJECTFS_MOVE_H
#define OVFS_FS_OBJECTFS_MOVE_H

#include "fs/objectfs/internal.h"

struct move;

/*
 * Copies the object @from (of @size bytes, as far as is known) to @to, with what is stored
 * with it, unless it is another version than @if_match ("" or NULL: whatever it is): -ESTALE.
 * -EXDEV when the service copies nothing.
 */
int move_copy(struct objectfs *fs, const char *from, const char *to, const char *if_match,
	      uint64_t size, struct store_meta *meta);

/* Copies all objects below the prefix @from to below @to; both outlive the move. 0, or nothing
 * has changed and there is no move: -EXDEV when there are too many. */
int move_begin(struct move **out, struct objectfs *fs, const char *from, const char *to);
size_t move_count(const struct move *m);
/* Also the object @from, that the caller has copied; unless it is known already. -ENOMEM. */
int move_add(struct move *m, const char *from);
/* Deletes the originals. */
int move_finish(struct move *m);
/* Deletes the copies, as far as that can be done. */
void move_undo(struct move *m);
void move_end(struct move *m);

#endif
