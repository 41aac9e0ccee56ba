/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver of a mount that shows several storages as directories of one tree.
 *
 *	/			ours: read-only, made up
 *	/datasets		the root of one driver (a child)
 *	/scratch/fast		that of another; /scratch is ours
 *
 * A request that names something inside of a child is handed to the child's own
 * session, as if its guest had mounted it alone. Nodeids tell whose it is: bits 56 to 63
 * are the number of the child, 0 for our own directories; drivers keep theirs below 2^56
 * (fs.h). Handles need no mark, they always come with a nodeid. RENAME, LINK and
 * COPY_FILE_RANGE from one child to another are EXDEV, as between two mounts.
 *
 * It is one device to the guest. Inode numbers have the child's number in their upper byte, too,
 * so that those of two children that are equal are no hard links; statfs is the child's.
 * (Children are not announced as submounts. A submount whose directory goes is unmounted by the
 * guest's kernel while files in it are open, and Linux 6.1, for one, does not live to tell: the
 * reply to the RELEASE finds no superblock.)
 *
 * Children come and go while guests are connected. What the guest's kernel and a driver
 * agree on once (FUSE_INIT) is what all children at that time can do; a child that came later
 * and cannot do it is shown to that guest when it connects again.
 *
 * Threads: joinfs_add(), joinfs_remove(), joinfs_unused() and joinfs_each() any thread; the rest as
 * fs.h.
 * Requests take no lock, except LOOKUP and READDIR in our own directories.
 */
#ifndef OVFS_FS_JOINFS_JOINFS_H
#define OVFS_FS_JOINFS_JOINFS_H

#include <stdbool.h>

#include "base/err.h"
#include "fs/fs.h"

#define JOINFS_CHILDREN_MAX 255

/* An empty tree. Its ops->free() leaves the children alone. @workers, borrowed: a guest's
 * first look into a child may have to wait for its storage. */
struct err *joinfs_new(struct fs **out, struct workers *workers)
	__attribute__((warn_unused_result));

/*
 * Shows @child, borrowed, at @path ("a" or "a/b"). Fails when something is there, or
 * is to be below or above a child, or when there are JOINFS_CHILDREN_MAX (those that were
 * removed count as long as a guest is connected that used them).
 */
struct err *joinfs_add(struct fs *join, const char *path, struct fs *child)
	__attribute__((warn_unused_result));

/* How many children joinfs_add() has room for. */
unsigned joinfs_room(struct fs *join);

/* Hides @child: what guests still ask of it is ESTALE. Nothing when it is not shown. */
void joinfs_remove(struct fs *join, struct fs *child);

/* After joinfs_remove(): no request is inside of @child any more, no guest has a file of it in its
 * window, and none of our sessions uses it. Interrupts what waits there without bound; to be
 * asked again until true. */
bool joinfs_unused(struct fs *join, struct fs *child);

#define JOINFS_PATH_MAX 1024 /* bytes of a path that is told, with the NUL; its end */

struct joinfs_usage {
	const char *path;
	uint64_t requests, errors; /* that were answered; errors: -EIO, -ETIMEDOUT */
	unsigned in_flight;
};

typedef void joinfs_tell_fn(void *arg, const struct joinfs_usage *usage);

/* Tells of each child that is shown; @tell must not call back. */
void joinfs_each(struct fs *join, joinfs_tell_fn *tell, void *arg);

#endif
