/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon, inside of its sandbox: all mounts, the loop that signals come to, and the end.
 *
 * It owns the mounts, the storages (backend.h) and the current generation of the configuration.
 * The loop serves no guest, each mount has one of its own: so the daemon hears of signals
 * and answers questions whatever hangs.
 *
 * At start: a mount whose service refuses is tried again in the background when there are
 * others; alone it ends the daemon with its error, as do all other errors. One that is not there is
 * no error (storage_stack.h).
 *
 * At the end all mounts drain at once. One that hangs does not hold up the others; the daemon
 * waits for it as long as it may drain, and some more.
 *
 * One thread, the main one.
 */
#ifndef OVFS_DAEMON_H
#define OVFS_DAEMON_H

#include "base/err.h"
#include "base/loop.h"
#include "generation.h"
#include "host.h"
#include "mount.h"
#include "options.h"

struct daemon;

/* Exit statuses. */
#define DAEMON_UNWRITTEN 3 /* there was data that could not be written */

struct daemon_config {
	struct generation *generation; /* the daemon has a reference of its own */
	struct host *host;	       /* opened; borrowed */
	const struct options *options; /* with the command line; borrowed */
	int channel;		       /* the inner end, the daemon's now; -1: no reload */
	/* SIGHUP came here. NULL: somebody outside gets it. On the daemon's loop. */
	void (*hangup)(void *arg);
	void *hangup_arg;
	int proc_self_fd;
	int supervisor_fd; /* end of file when the process outside died; -1: none */
};

/* Makes the loop, which sees signals from now on. They are blocked already. */
struct err *daemon_new(struct daemon **out, const struct daemon_config *config)
	__attribute__((warn_unused_result));

/* Serves until a signal. *@status: to exit with. An error is one of the start. May end the
 * process itself, after @cleanup, when something of it hangs. */
struct err *daemon_run(struct daemon *daemon, int *status, void (*cleanup)(void *arg), void *arg)
	__attribute__((warn_unused_result));

/* Accepts NULL. */
void daemon_free(struct daemon *daemon);

struct loop *daemon_loop(struct daemon *daemon);

#endif
