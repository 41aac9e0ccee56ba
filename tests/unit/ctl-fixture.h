/* SPDX-License-Identifier: Apache-2.0 */
/* A control socket and metrics over mounts and storages that are made up, and a client. */
#ifndef OVFS_TESTS_CTL_FIXTURE_H
#define OVFS_TESTS_CTL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/loop.h"
#include "ctl/ctl.h"

#define NSEC_PER_SEC 1000000000ull
#define TEST_GID 54321
#define ANSWER_S 20 /* that nothing takes, on the slowest machine */

struct world {
	struct ctl *ctl;
	struct ctl_mount *mount;
	struct ctl_storage *storage, *other;
	char dir[32], path[64];
	uint16_t port;
	struct loop *loop; /* the control loop; turns when the test lets it */
	sem_t go;	   /* lets a flush end */
	_Atomic bool hang, reload_fails, removed;
	atomic_uint flushes, drains, drops, reloads, hang_looks;
	_Atomic uint64_t cached;
};

/* A mount "data", a storage "bucket"; *state is the struct world. */
int ctl_setup(void **state);
int ctl_teardown(void **state);

#define CASE(test) cmocka_unit_test_setup_teardown(test, ctl_setup, ctl_teardown)

/* A storage that cannot be flushed; its ctx is the world. */
extern const struct ctl_storage_ops ctl_failing_ops;

/* ---- A client of the control socket ---- */

int dial(const struct world *w);
void set_timeout(int fd);
void say_bytes(int fd, const void *bytes, size_t len);
/* A line. */
void say(int fd, const char *line);
/* The next line; NULL: the connection is closed. */
json_t *hear(int fd);
/* The answer to @line, without what tells of progress before it. */
json_t *ask_on(int fd, const char *line);
json_t *ask(const struct world *w, const char *line);
bool is_ok(const json_t *answer);
/* It is, or is not; then it says why. */
void expect(const struct world *w, const char *line, bool ok);
/* What is at a path like "mounts.0.guests"; there has to be something. */
json_t *at(const json_t *value, const char *path);

#endif
