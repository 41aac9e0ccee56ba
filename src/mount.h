/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mount: one storage shown to guests through one socket. It puts the three
 * layers together
 *
 *	virtio_device  --request-->  fuse_session  --fs_submit-->  fs (driver)
 *
 * and owns all of them, with the worker pool. Control loop's thread.
 */
#ifndef OVFS_MOUNT_H
#define OVFS_MOUNT_H

#include "base/err.h"
#include "base/loop.h"
#include "conf/conf.h"

struct mount;

/*
 * @listen_fd is the mount's from now on, also on failure; so is @root_fd.
 * @proc_self_fd is borrowed (see filefs_new()). @config outlives the mount.
 */
struct err *mount_new(struct mount **out, const struct ovfs_config *config, struct loop *loop,
		      int listen_fd, int root_fd, int proc_self_fd);

/* Disconnects the guest, completing its requests, and frees. Accepts NULL. */
void mount_free(struct mount *mount);

#endif
