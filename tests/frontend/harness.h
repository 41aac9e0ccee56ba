/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every behaviour test starts with: a daemon of its own in a temporary
 * directory, and a guest (front end and FUSE client) connected to it.
 *
 * The daemon is $OVFS_BIN (set by meson), with a generated configuration.
 * OVFS_TEST_COMMAND replaces it by any other vhost-user-fs daemon, to hold the
 * tests themselves against: a shell command in which %S stands for the socket
 * and %R for the shared directory.
 *
 * With OVFS_TEST_CACHE in the environment, the data of the directory goes through the cache.
 *
 * daemon_stop() fails the test when the daemon had died, when it does not end
 * with status 0 on SIGTERM, or when a sanitizer complained in its log.
 */
#ifndef TESTS_FRONTEND_HARNESS_H
#define TESTS_FRONTEND_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

#include "fuc.h"

struct daemon_options {
	unsigned int request_queues; /* 0: 4 */
	unsigned int sockets;	     /* of the mount: socket, socket.1, ...; 0: one */
	const char *tag;	     /* NULL: none */
	const char *log_level;	     /* NULL: debug */
	const char *socket;	     /* more lines for [socket_settings] */
	const char *storage;	     /* and for [storage_settings] */
	bool memory;		     /* objects in memory in place of the shared directory */
	const char *extra;	     /* more lines of TOML, with tables of their own */
};

struct daemon {
	pid_t pid;
	char dir[64]; /* all of the following are in it */
	char root[80], socket[80], config[80], log[80];
	bool foreign; /* OVFS_TEST_COMMAND */
};

/* Makes the directory. The configuration comes next, then daemon_restart(). */
void daemon_make(struct daemon *d);

/* How people and programs save a file. */
enum save_style {
	SAVE_IN_PLACE,
	SAVE_RENAMED, /* another one, renamed over it */
	SAVE_ASIDE,   /* the old one is moved away, then there is a new one */
};
/* Writes the configuration, in which %D stands for the daemon's directory. */
void daemon_configure(const struct daemon *d, const char *text, enum save_style style);

/* Makes the directory and starts the daemon. Fails the test when that fails. */
void daemon_start(struct daemon *d, const struct daemon_options *o);
/* The same directory, socket and configuration, after daemon_kill or a stop. */
void daemon_restart(struct daemon *d);
/* SIGKILL to the process that serves, wherever it is in the tree; waits for its end. */
void daemon_kill(struct daemon *d);
/* Ends it, checks how it ended, removes the directory. */
void daemon_stop(struct daemon *d);
bool daemon_running(const struct daemon *d);
/* Of the process that serves (the daemon may have forked into a pid namespace). */
pid_t daemon_worker(const struct daemon *d);
unsigned int daemon_fd_count(const struct daemon *d);
long daemon_rss_kib(const struct daemon *d);
/* Like it, but waits up to two seconds for the count to fall to `limit`. */
unsigned int daemon_fd_settle(const struct daemon *d, unsigned int limit);
/* Removes everything in the shared directory, from the host's side. */
void daemon_wipe(const struct daemon *d);
/* A path under the shared directory, in one of four static buffers. */
const char *daemon_path(const struct daemon *d, const char *name);
/* A line of the log holds `text`. */
bool daemon_logged(const struct daemon *d, const char *text);
unsigned int daemon_log_count(const struct daemon *d, const char *text); /* lines */
/* Waits until it is in so many lines. */
void daemon_log_wait(const struct daemon *d, const char *text, unsigned int count);

/* --- a guest ---------------------------------------------------------------- */

struct guest {
	struct daemon *d;
	struct vuc c;
	struct fuc f;
};

/* Four queues (hiprio and three), 128 entries, everything negotiated, INIT done. */
extern const struct vuc_config guest_default;

/* Connects and mounts. NULL for the defaults. Fails the test when that fails. */
void guest_open(struct guest *g, struct daemon *d, const struct vuc_config *cfg);
/* Connects only: negotiation, memory and queues, without INIT. */
void guest_connect(struct guest *g, struct daemon *d, const struct vuc_config *cfg);
/* Goes away without a word, as a killed virtual machine. */
void guest_close(struct guest *g);
/* Opens and closes a guest that does a little: "others are still served". */
void guest_probe(struct daemon *d);

/* CREATE, fails the test otherwise. Returns the node. */
uint64_t guest_create(struct guest *g, const char *name, uint64_t *fh);
/* Unlinks, and gives back the one lookup it had. */
void guest_remove(struct guest *g, uint64_t node, const char *name);

/* --- every kind of ring and every layout ------------------------------------- */

struct ring_variant {
	const char *name;
	bool packed, indirect, event_idx;
};
extern const struct ring_variant ring_variants[8];

/* The guest that run_matrix() opened for the tests under it. */
extern struct guest *matrix_guest;

/* A test of such a group; it begins with an empty shared directory. */
#define matrix_test(f) cmocka_unit_test_setup(f, matrix_wipe)
int matrix_wipe(void **state);

/*
 * Runs the group for each ring variant with Linux's layout, and for each layout
 * on a split and a packed ring, all on one daemon. Returns the failures.
 */
int run_matrix(const char *name, const struct CMUnitTest *tests, size_t count,
	       const struct daemon_options *o);

/* For a daemon that is not ours: skips what it has no notion of. */
#define skip_if_foreign(d)                                                                         \
	do {                                                                                       \
		if ((d)->foreign)                                                                  \
			skip();                                                                    \
	} while (0)

#define assert_ok(expression) assert_int_equal((expression), 0)

#endif
