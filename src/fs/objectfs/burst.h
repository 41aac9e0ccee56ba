/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many questions at one directory.
 *
 * Who asks for one name after the other (`ls -l` of what was listed long ago, `git
 * status`) is soon given a page: for the PATIENCEth question in one directory, each within two
 * seconds of the one before, a LIST that begins at the name asked for answers up to a thousand that
 * follow (those that are there: a name that is missing is asked for, as it may have come since).
 * Who asks while it is being fetched waits for it, instead of fetching another; and behind a page
 * that answered many questions the first one brings another. Where such a page turns out to be of
 * no use (names in no order, in a huge directory), the patience grows.
 *
 * A directory whose end a page has shown may well be a small one: there a page begins at the
 * front, whatever order names are asked for in, and comes at once where the name would cost two
 * requests. Where that does not go to the end, the directory is a large one after all.
 *
 * Locks: tree.lock covers what they keep in dir_pages.
 */
#ifndef OVFS_FS_OBJECTFS_BURST_H
#define OVFS_FS_OBJECTFS_BURST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fs/objectfs/node.h"

struct objectfs;
struct page;

/* Which question brings the first page. */
#define BURST_PATIENCE_MIN 2u

/* A question in @dir that memory does not answer: whether it is time for a page, which the caller
 * then has to fetch. @known: the name has a node, so that asking for it is one request.
 * tree.lock held. */
bool burst_due(struct objectfs *fs, struct node *dir, bool known);

/* Somebody is fetching a page, which probably has the answer: programs ask for many names at a
 * time, and all would fetch one. tree.lock held, and dropped meanwhile. False: nobody is. */
bool burst_wait(struct tree *t, struct node *dir);

/* Fetches a page that shows @name, if that is there, after burst_due(). With a reference; NULL when
 * it failed: the same shows when the name is asked for. Blocks; called without the lock. */
struct page *burst_fetch(struct objectfs *fs, struct node *dir, const char *name, size_t len);

#endif
