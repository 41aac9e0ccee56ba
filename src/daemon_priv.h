/* SPDX-License-Identifier: Apache-2.0 */
/* What daemon.c and reload.c share; nobody else includes it. All of it is of the daemon's loop. */
#ifndef OVFS_DAEMON_PRIV_H
#define OVFS_DAEMON_PRIV_H

#include "base/list.h"
#include "base/workers.h"
#include "daemon.h"
#include "mount.h"
#include "operate.h"

struct daemon_mount {
	struct list link;
	struct mount *mount;
	const struct ovfs_mount *config; /* of the current generation; NULL: it is being removed */
	bool told;			 /* to stop */
	bool was_ready;
	bool missed;	/* an event of it came during a reload */
	bool unwritten; /* that was said */
	/* What takes its place when it has ended; config NULL: nothing. */
	struct mount_fds next_fds;
	const struct ovfs_mount *next;
};

struct daemon {
	struct loop *loop;
	struct generation *generation;
	struct host *host;
	const struct options *options; /* the command line */
	struct mount_env env;
	struct operate *operate;
	struct list mounts;
	int signal_fd;
	struct loop_fd signal_entry;
	struct loop_fd supervisor_entry;
	void (*hangup)(void *arg); /* SIGHUP, when nobody outside gets it */
	void *hangup_arg;

	struct err *error; /* of the start */
	bool alone;	   /* one mount at the start */
	bool started;	   /* "started" was said */
	bool stopping;
	bool stop_wanted; /* stopping, as soon as a reload has ended */
	unsigned unwritten;
	bool stuck; /* something was left as it is: no way to free all */
	struct loop_timer deadline;

	/* reload.c */
	int channel; /* -1: none */
	struct loop_fd channel_entry;
	struct loop_timer alive;
	struct workers *reloader; /* one thread, made when it is needed */
	bool reloading;
	unsigned reloads, reload_failures;
};

/* Starts a mount of the current generation. */
struct err *daemon_add(struct daemon *daemon, const struct ovfs_mount *config,
		       struct mount_fds *fds, enum mount_patience patience)
	__attribute__((warn_unused_result));

void daemon_stop_mount(struct daemon_mount *mount);

/* The end, now or after the reload that is under way. */
void daemon_begin_end(struct daemon *daemon);

/* A reload is over: mounts that have ended meanwhile go. */
void daemon_catch_up(struct daemon *daemon);

/* ---- reload.c ---- */

struct err *reload_init(struct daemon *daemon) __attribute__((warn_unused_result));
/* All mounts are ready, or have been told apart. */
void reload_started(struct daemon *daemon);
void reload_exit(struct daemon *daemon);

#endif
