/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operating side of the daemon: the control socket that ovfsctl talks to, /metrics and
 * /healthz for Prometheus, and the log of requests that hang.
 *
 * It knows nothing of mounts and storages but what they register: a name, and functions that
 * tell and do things. main hands it listening sockets, opened before the sandbox was entered.
 *
 * Threads: one of its own for sockets and status, which never waits for a storage, so that
 * it answers whatever hangs; and one for each job (flush, drain, ...) while that runs. The
 * functions here are for the control thread. Callbacks that only tell run on the thread of ctl
 * and must not block; those of jobs may.
 *
 * The protocol is in docs/operating.md.
 */
#ifndef OVFS_CTL_CTL_H
#define OVFS_CTL_CTL_H

#include <sys/types.h>

#include "base/err.h"
#include "base/loop.h"
#include "ctl/stats.h"

struct ctl;
struct ctl_mount;
struct ctl_storage;
struct ctl_fields; /* a record that is being told */

#define CTL_FD_NONE (-1)

struct ctl_config {
	int control_fd; /* a listening Unix socket, or CTL_FD_NONE; ctl's from now on, also on */
	int metrics_fd; /* failure. A listening stream socket, likewise */
	gid_t gid;	/* a group that may use the control socket, too; or (gid_t)-1 */
	const char *version;
	struct loop *loop; /* the control loop: whether it turns is the daemon's health. NULL: do
			    * not look */
	uint64_t hang_ns;  /* requests that are in flight for longer are logged, once; 0: none */
	uint64_t silent_max_ns; /* ... when it has not turned for so long; 0: 30 s */
};

struct ctl_hooks {
	void *ctx;
	/* On a thread of its own; may block. NULL: there is no reload. */
	struct err *(*reload)(void *ctx);
	/* Each may be NULL. */
	void (*config_stats)(void *ctx, struct ctl_config_stats *out);
	void (*pool_stats)(void *ctx, struct ctl_pool_stats *out);
};

/* Starts to serve. On failure, too, the descriptors are ctl's. */
struct err *ctl_new(struct ctl **out, const struct ctl_config *config,
		    const struct ctl_hooks *hooks) __attribute__((warn_unused_result));

/* Everything is removed. Waits for a job that runs. Accepts NULL. */
void ctl_free(struct ctl *ctl);

/* ---- Mounts ---- */

typedef void ctl_request_fn(void *arg, const struct ctl_request *request);

struct ctl_mount_ops {
	void (*stats)(void *ctx, struct ctl_mount_stats *out);

	/* Calls @emit for each request under way. @hang_ns other than 0: only for those that are
	 * under way for longer, and were not told with a @hang_ns before. */
	void (*requests)(void *ctx, uint64_t hang_ns, ctl_request_fn *emit, void *arg);

	/* Tells what is known of a node, one record for each guest that knows it (@fields as
	 * ctl_record_begin() begins one). NULL: nothing. */
	void (*inode)(void *ctx, uint64_t nodeid, struct ctl_fields *fields);
};

/* @name is copied; @ops outlives the mount. NULL for lack of memory, or when @ctl is. */
struct ctl_mount *ctl_mount_add(struct ctl *ctl, const char *name, const struct ctl_mount_ops *ops,
				void *ctx);
/* No callback runs any more when it returns. Accepts NULL. */
void ctl_mount_remove(struct ctl_mount *mount);

void ctl_record_begin(struct ctl_fields *fields);
void ctl_field_string(struct ctl_fields *fields, const char *name, const char *value);
void ctl_field_number(struct ctl_fields *fields, const char *name, uint64_t value);
void ctl_field_flag(struct ctl_fields *fields, const char *name, bool value);

/* ---- Storages ---- */

typedef void ctl_dirty_fn(void *arg, const struct ctl_dirty_file *file);

struct ctl_storage_ops {
	void (*stats)(void *ctx, struct ctl_storage_stats *out);
	/* The files that are not in the storage, the oldest first, @max of them at most. */
	void (*dirty)(void *ctx, unsigned max, ctl_dirty_fn *emit, void *arg);

	/* The rest on threads of jobs. */

	/* Writes what is dirty now. 0, or the first error. */
	int (*flush)(void *ctx);
	/* Writes until nothing is dirty, trying for @timeout_ns. The files that are left. */
	unsigned (*drain)(void *ctx, uint64_t timeout_ns);
	/* Drops what is cached and clean. */
	void (*drop)(void *ctx);
};

/* As ctl_mount_add(). The second one of a name is called "name#2". */
struct ctl_storage *ctl_storage_add(struct ctl *ctl, const char *name,
				    const struct ctl_storage_ops *ops, void *ctx);
const char *ctl_storage_name(const struct ctl_storage *storage);
/* Waits for a job that it is part of, too. Accepts NULL. */
void ctl_storage_remove(struct ctl_storage *storage);

#endif
