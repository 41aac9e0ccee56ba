/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of the mounts: listening sockets, shared directories, and the sandbox that the
 * daemon is to run in. All of it is of the host's file system, which the sandboxed process does
 * not see any more: it is opened before, and for what a reload adds by the process that
 * stays outside.
 *
 *	start		host_init(), sandbox_enter(), then inside host_take() for each mount
 *	reload		host_add() for what is new; its descriptors are sent inside; then
 *			host_keep(), or host_drop()
 *	end		host_remove_sockets(): those that we made
 *
 * One thread; after sandbox_enter() each of the two processes has one of its own.
 */
#ifndef OVFS_HOST_H
#define OVFS_HOST_H

#include "base/err.h"
#include "conf/conf.h"
#include "mount.h"
#include "operate.h"
#include "sandbox/sandbox.h"
#include "storage_paths.h"

struct host_socket {
	char *mount, *path; /* path NULL: inherited */
	int fd;		    /* -1: closed here */
	/* While a configuration is being applied: */
	bool wanted; /* by it */
	bool fresh;  /* it was opened for it */
};

struct host {
	struct sandbox_config isolation;
	struct storage_paths paths;
	struct sandbox_root *roots; /* of the start, in the order of the mounts */
	size_t root_count;
	struct host_socket *sockets;
	size_t socket_count;
	char **sealed; /* "MOUNT:PATH": directories that are mounted read-only in the sandbox */
	size_t sealed_count;
	struct operate_sockets operate;
};

/* Opens everything for @config, which outlives it. */
struct err *host_init(struct host *host, const struct ovfs_config *config)
	__attribute__((warn_unused_result));

/* Inside: the descriptors for mount @index of @config. */
void host_take(struct host *host, const struct ovfs_config *config, size_t index,
	       struct mount_fds *fds);

/* Outside: closes what only the other process needs. */
void host_close(struct host *host);

/* Removes the sockets that we made. */
void host_remove_sockets(struct host *host);

void host_destroy(struct host *host);

/* How long the end may take: as long as the mounts may drain, and some more. */
unsigned host_stop_timeout_s(const struct ovfs_config *config);

/* ---- Reload ---- */

/*
 * A socket that @mount wants: *@fd is its descriptor, which stays the host's, when it is a new one,
 * and -1 when it is there. host_keep() or host_drop() follow after all of them.
 */
struct err *host_want_socket(struct host *host, const struct ovfs_mount *mount, const char *path,
			     int *fd) __attribute__((warn_unused_result));

/* Whether directory @path can be opened for @mount: one that hangs would take us with it. */
struct err *host_check_root(const struct ovfs_mount *mount, const char *path)
	__attribute__((warn_unused_result));

/* Directory @path was given to the daemon for @mount, mounted read-only or not. -ENOMEM. */
int host_note_root(struct host *host, const char *mount, const char *path, bool readonly);
/* @mount cannot write to @path, whatever a configuration says. */
bool host_is_sealed(const struct host *host, const char *mount, const char *path);

/* The new configuration holds: removes sockets that it does not want. */
void host_keep(struct host *host);
/* It does not: removes sockets that only it wanted. */
void host_drop(struct host *host);

#endif
