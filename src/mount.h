/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mount: one storage shown to guests through one or several sockets (port.h).
 *
 * It owns its ports, the driver (storage.h), the worker pool, and a thread with a loop, the
 * control loop, where the front ends' messages are handled, and where all of it is made and
 * freed. So mounts wait for nobody but their own storage: when one is slow to start, stops a queue,
 * or drains, the others go on.
 *
 *	STARTING --> READY --> STOPPING --> ENDED, or UNWRITTEN
 *	    `-> WAITING (its service refuses, perhaps: tried again) --> READY
 *	    `-> FAILED
 *
 * Threads: the daemon's loop calls all functions here, and is told of changes by mount_env.event
 * on itself.
 */
#ifndef OVFS_MOUNT_H
#define OVFS_MOUNT_H

#include "backend.h"
#include "base/err.h"
#include "base/list.h"
#include "base/loop.h"
#include "ctl/ctl.h"
#include "generation.h"
#include "storage.h"

#define MOUNT_SOCKETS_MAX 64

struct mount;

enum mount_state {
	MOUNT_STARTING,
	MOUNT_WAITING, /* its service refuses; front ends are turned away */
	MOUNT_READY,
	MOUNT_FAILED, /* mount_error() says why; it has no thread any more */
	MOUNT_STOPPING,
	MOUNT_ENDED,	 /* all is written and freed */
	MOUNT_UNWRITTEN, /* mount_unwritten() files could not be; nothing is freed, threads of it
			  * may be stuck */
};

/* What the mounts of a daemon have in common; outlives them. */
struct mount_env {
	struct loop *loop; /* the daemon's */
	struct backends *backends;
	struct ctl *ctl; /* NULL: nobody looks */
	int proc_self_fd;
	unsigned files_max; /* descriptors for each mount of a directory; 0: as there are */
	/* The state of @mount has changed, perhaps more than once. On the daemon's loop. */
	void (*event)(void *ctx, struct mount *mount);
	void *ctx;
};

struct mount_socket {
	const char *path; /* NULL: inherited */
	int fd;		  /* listening */
};

/* Descriptors for a mount, which owns them from the call on, whatever comes of it. */
struct mount_fds {
	struct mount_socket socket[MOUNT_SOCKETS_MAX];
	size_t sockets;
	int root[STORAGE_PARTS_MAX]; /* of each part (storage.h); -1: it is no directory */
};

/* None. */
void mount_fds_init(struct mount_fds *fds);
void mount_fds_close(struct mount_fds *fds);

/* What becomes of a mount that cannot be opened. */
enum mount_patience {
	MOUNT_IMPATIENT, /* FAILED */
	MOUNT_PATIENT,	 /* a service that refuses is asked again and again (WAITING), that of a
			  * directory without keeping the others from being served; else FAILED */
	MOUNT_STAYS,	 /* WAITING, whatever it is: its sockets and directories are here, for the
			  * next attempt or the next reload */
};

/*
 * Starts; the rest is told by events. @config is part of @generation.
 */
struct err *mount_start(struct mount **out, const struct mount_env *env,
			struct generation *generation, const struct ovfs_mount *config,
			struct mount_fds *fds, enum mount_patience patience)
	__attribute__((warn_unused_result));

const char *mount_name(const struct mount *mount);
enum mount_state mount_state(struct mount *mount);
const char *mount_state_name(enum mount_state state);
unsigned mount_unwritten(struct mount *mount);
/* Why it waits or has failed; until the next event. NULL: for no reason. */
const char *mount_error(struct mount *mount);

/* ---- Reload: one at a time, on a thread that may block; not of a mount that was stopped ---- */

/* Whether the mount has to be another one to become as @then says: its guests would see another
 * tree. */
bool mount_is_other(const struct ovfs_mount *now, const struct ovfs_mount *then);

/* Makes ready for @config of @generation; see storage_prepare(). @fds: of sockets and directories
 * that are new, the caller's. On success one of the next two follows. */
struct err *mount_prepare(struct mount *mount, struct generation *generation,
			  const struct ovfs_mount *config, const struct mount_fds *fds)
	__attribute__((warn_unused_result));
void mount_discard(struct mount *mount);

/* @fds: as above, the mount's now. Sockets that are not in @config any more go when
 * their guest does. Blocks as backend_commit() does. */
void mount_commit(struct mount *mount, struct generation *generation,
		  const struct ovfs_mount *config, struct mount_fds *fds);

/*
 * Of a mount that is not open yet: the descriptors @fds, as @now wants them, become those that
 * @then does. @fresh: what came for it; none is left there. Paths are @then's afterwards.
 */
void mount_fds_change(struct mount_fds *fds, const struct ovfs_mount *now,
		      const struct ovfs_mount *then, struct mount_fds *fresh);

/* Duplicates of the listening sockets that @config wants, too: for a mount that takes this one's
 * place. The paths are @config's. */
void mount_copy_sockets(struct mount *mount, const struct ovfs_mount *config,
			struct mount_fds *fds);

/* Logs what the storage was asked for so far. */
void mount_log(struct mount *mount);

/*
 * Takes no more requests, writes what is not written yet, completes what is under way and
 * disconnects the guests: ENDED or UNWRITTEN will follow. Once.
 */
void mount_stop(struct mount *mount);

/* FAILED or ENDED. On the daemon's loop. */
void mount_free(struct mount *mount);

#endif
