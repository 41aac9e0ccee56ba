/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's mounts below the shared directory, as far as guests hold inodes
 * on them: one for each (mount id, device); a btrfs subvolume is a device of its
 * own on the same mount.
 *
 * A mount is kept, with a descriptor on it, while inodes refer to it, so that
 * its mount id cannot be used again meanwhile. Any thread.
 */
#ifndef OVFS_FS_FILEFS_MOUNTS_H
#define OVFS_FS_FILEFS_MOUNTS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#define MOUNTS_MAX 1024

struct mount {
	_Atomic uint32_t refs; /* 0 to 1 only under mounts.lock */
	int fd;		       /* O_RDONLY on it, for open_by_handle_at and syncfs; or -1 */
	uint64_t mnt_id;
	dev_t dev;
	bool handles;		    /* file handles can be made and opened */
	bool remote;		    /* a call may wait for another machine */
	bool memory;		    /* a call never waits for a device */
	_Atomic bool nowait_broken; /* RWF_NOWAIT is not supported */
};

struct mounts {
	pthread_mutex_t lock;
	bool want_handles;
	_Atomic bool any_remote;
	struct mount table[MOUNTS_MAX];
};

void mounts_init(struct mounts *m, bool want_handles);
void mounts_fini(struct mounts *m);

/*
 * The index of the mount that @stx lies on, a reference taken. @near: a mount to
 * try first, to which the caller has a reference, or MOUNTS_MAX. (@dirfd, @name)
 * is what @stx describes (@name "" for @dirfd itself), opened to hold the mount
 * when it is new. Negative errno: -ENFILE when the table is full.
 */
int mounts_get(struct mounts *m, unsigned near, const struct statx *stx, int dirfd,
	       const char *name);
void mounts_put(struct mounts *m, unsigned index);

#endif
