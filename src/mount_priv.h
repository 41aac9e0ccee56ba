/* SPDX-License-Identifier: Apache-2.0 */
/* What mount.c and mount_reload.c share; nobody else includes it. */
#ifndef OVFS_MOUNT_PRIV_H
#define OVFS_MOUNT_PRIV_H

#include <pthread.h>

#include "base/acceptor.h"
#include "base/workers.h"
#include "mount.h"
#include "port.h"
#include "storage.h"

/* Before the second attempt with a service that refuses. */
#define RETRY_FIRST_NS 1000000000ull

struct mount {
	const struct mount_env *env;
	char *name;
	char context[64]; /* of the log */
	enum mount_patience patience;
	struct loop *loop;
	pthread_t thread;

	/* ---- Control loop ---- */
	struct generation *generation;
	const struct ovfs_mount *config;
	struct mount_fds fds;			   /* until the ports have them */
	struct acceptor closed[MOUNT_SOCKETS_MAX]; /* not served yet: front ends are told so */
	size_t closed_count;
	struct workers *workers;
	struct storage *storage;
	struct list ports;
	struct observer *observer; /* NULL: nobody looks */
	struct loop_timer retry;
	uint64_t retry_ns;
	struct loop_task start_task, stop_task, log_task, end_task;

	/* ---- Everybody's, under the lock ---- */
	pthread_mutex_t lock;
	enum mount_state state;
	unsigned unwritten;
	struct err *error;
	bool event_posted, log_posted;
	bool freed; /* by mount_free(), but for an event that was posted */
	struct loop_task event_task;
};

/* ---- Control loop ---- */

/* Front ends that connect to sockets in m->fds are told to come again later; or wait for a port. */
void mount_turn_away(struct mount *m);
void mount_let_in(struct mount *m);

/* Whoever looks at the mount is told what it shows by now. */
void mount_tell_parts(struct mount *m);

struct port_config mount_port_config(struct mount *m, const struct ovfs_mount *config);

/* A port for each socket in m->fds, which has none afterwards. */
struct err *mount_open_ports(struct mount *m) __attribute__((warn_unused_result));

#endif
