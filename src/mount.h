/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mount: one storage shown to guests through one socket. It puts the three
 * layers together
 *
 *	virtio_device  --request-->  fuse_session  --fs_submit-->  fs (driver)
 *
 * and owns all of them, with the worker pool; storage.h makes the driver. Control loop's thread.
 */
#ifndef OVFS_MOUNT_H
#define OVFS_MOUNT_H

#include "base/err.h"
#include "base/loop.h"
#include "conf/conf.h"

struct mount;

/*
 * @listen_fd is the mount's from now on, also on failure; so is @root_fd (-1 for a storage
 * that is no directory). @mount is one of @config. @proc_self_fd is borrowed (see filefs_new()).
 * @config outlives the mount. Blocks until the storage has answered.
 */
struct err *mount_new(struct mount **out, const struct ovfs_config *config,
		      const struct ovfs_mount *mount, struct loop *loop, int listen_fd, int root_fd,
		      int proc_self_fd);

/* Logs what the storage was asked for so far. */
void mount_log(struct mount *mount);

/*
 * Takes no more requests, writes what is not written yet, completes what is under way,
 * disconnects the guest and frees. Accepts NULL.
 *
 * The number of files that could not be written; see the log. Then the service does not
 * answer, or refuses, and nothing was freed, for requests and threads may still be waiting
 * for it: the caller ends the process.
 */
unsigned mount_free(struct mount *mount);

#endif
