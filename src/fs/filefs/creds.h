/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The identity with which the calling thread acts on the host, and what else
 * the kernel keeps for each thread: umask, working directory, CAP_FSETID.
 *
 * The threads belong to others (queues, worker pools); the state is thread-local and set up
 * when a thread first needs it. Raw system calls throughout: libc's setresuid
 * and setgroups change all threads.
 */
#ifndef OVFS_FS_FILEFS_CREDS_H
#define OVFS_FS_FILEFS_CREDS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fs/fs.h"

struct filefs;

struct creds {
	bool uid, gid, groups; /* changed, to be put back */
};

/*
 * Takes the caller's uid, gid and supplementary group, for making an entry.
 * -EPERM, with a line in the log, when we may not. Nothing to do, no system
 * call, when the caller is who we are.
 */
int creds_enter(struct filefs *fs, const struct fs_req *req, struct creds *creds);

/* The host said EACCES to what the guest's kernel had permitted (by a group it
 * did not tell us, a capability, an ACL): grants CAP_DAC_OVERRIDE until
 * creds_leave(). False when there is nothing to gain. */
bool creds_override(const struct creds *creds);
void creds_leave(struct creds *creds);

/*
 * Whether writes, truncations and ACL changes of this thread drop the set-id
 * bits (no CAP_FSETID) or not. Changed lazily: a stream of equal requests costs
 * no call.
 */
void creds_kill_suidgid(bool kill);

/*
 * Sets the thread's umask for the creation at hand; the caller leaves it so. Returns @mode
 * as it must be given: with @umask taken off when the thread cannot
 * have a umask of its own.
 */
mode_t creds_umask(mode_t mode, mode_t umask);

/* Makes @dirfd the working directory of this thread alone. Negative errno. */
int creds_chdir(int dirfd);

#endif
