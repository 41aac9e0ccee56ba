/* SPDX-License-Identifier: Apache-2.0 */
/* What the control socket is asked for, and the answers. */
#include "ctl-fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/progress.h"

static void test_status(void **state)
{
	struct world *w = *state;
	json_t *a = ask(w, "{\"command\": \"status\"}");

	assert_true(is_ok(a));
	assert_string_equal(json_string_value(at(a, "result.version")), "1.2.3");
	assert_int_equal(json_integer_value(at(a, "result.mounts.0.guests")), 1);
	assert_int_equal(json_array_size(at(a, "result.mounts.0.storages")), 1);
	assert_string_equal(json_string_value(at(a, "result.mounts.0.storages.0")), "bucket");
	assert_string_equal(json_string_value(at(a, "result.mounts.0.directories.0.path")),
			    "deep/one");
	assert_int_equal(json_integer_value(at(a, "result.mounts.0.directories.0.errors")), 3);
	assert_true(json_is_null(at(a, "result.mounts.0.directories.1.storage")));
	assert_string_equal(json_string_value(at(a, "result.storages.0.state")), "silent");
	assert_string_equal(json_string_value(at(a, "result.storages.0.error")), "nobody is there");
	/* The one that is not started is left out. */
	assert_int_equal(json_array_size(at(a, "result.mounts.0.queues")), 1);
	assert_int_equal(json_integer_value(at(a, "result.mounts.0.queues.0.waiting")), 3);
	assert_int_equal(json_integer_value(at(a, "result.mounts.0.operations.LOOKUP.count")), 100);
	assert_int_equal(
		json_integer_value(at(a, "result.mounts.0.operations.LOOKUP.results.error")), 10);
	/* The oldest first. */
	assert_string_equal(json_string_value(at(a, "result.mounts.0.requests.0.operation")),
			    "WRITE");
	assert_string_equal(json_string_value(at(a, "result.mounts.0.requests.1.in")), "queued");
	assert_int_equal(json_integer_value(at(a, "result.storages.0.hits")), 11);
	assert_int_equal(json_integer_value(at(a, "result.storages.0.operations.put.attempts")), 5);
	assert_string_equal(json_string_value(at(a, "result.dirty.0.key")), "a/b");
	assert_int_equal(json_integer_value(at(a, "result.pool.classes.0.used")), 5);
	assert_int_equal(json_integer_value(at(a, "result.configuration.generation")), 1);
	json_decref(a);
	a = ask(w, "{\"command\": \"requests\"}");
	assert_int_equal(json_integer_value(at(a, "result.count")), 2);
	json_decref(a);
	a = ask(w, "{\"command\": \"dirty\"}");
	assert_int_equal(json_array_size(at(a, "result")), 1);
	json_decref(a);
}

static void test_inode(void **state)
{
	struct world *w = *state;
	json_t *a = ask(w, "{\"command\": \"inode\", \"mount\": \"data\", \"nodeid\": 42}");

	assert_string_equal(json_string_value(at(a, "result.0.path")), "caf?");
	assert_int_equal(json_integer_value(at(a, "result.0.size")), 1234);
	assert_true(json_is_true(at(a, "result.0.dirty")));
	json_decref(a);
	a = ask(w, "{\"command\": \"inode\", \"mount\": \"data\", \"nodeid\": 43}");
	assert_int_equal(json_array_size(at(a, "result")), 0);
	json_decref(a);
	expect(w, "{\"command\": \"inode\", \"mount\": \"date\", \"nodeid\": 42}", false);
	expect(w, "{\"command\": \"inode\", \"mount\": \"data\"}", false);
	expect(w, "{\"command\": \"inode\", \"mount\": \"data\", \"nodeid\": 0}", false);
	expect(w, "{\"command\": \"inode\", \"mount\": 1, \"nodeid\": \"x\"}", false);
}

static void test_jobs(void **state)
{
	struct world *w = *state;
	json_t *a;

	expect(w, "{\"command\": \"flush\"}", true);
	expect(w, "{\"command\": \"flush\", \"names\": [\"bucket\"]}", true);
	expect(w, "{\"command\": \"flush\", \"names\": [\"data\"]}", true); /* its mount */
	expect(w, "{\"command\": \"flush\", \"names\": [\"data\", \"bucket\"]}", true);
	assert_int_equal(w->flushes, 4); /* once for each */
	expect(w, "{\"command\": \"flush\", \"names\": [\"nobody\"]}", false);
	expect(w, "{\"command\": \"flush\", \"names\": \"bucket\"}", false);
	expect(w, "{\"command\": \"flush\", \"names\": [7]}", false);
	assert_int_equal(w->flushes, 4);

	expect(w, "{\"command\": \"drain\"}", true);
	a = ask(w, "{\"command\": \"drain\", \"timeout\": 0.5}");
	assert_false(is_ok(a));
	assert_int_equal(json_integer_value(at(a, "left.bucket")), 2);
	json_decref(a);
	expect(w, "{\"command\": \"drain\", \"timeout\": -1}", false);
	expect(w, "{\"command\": \"drain\", \"timeout\": 1e300}", false);
	expect(w, "{\"command\": \"drain\", \"timeout\": \"long\"}", false);
	assert_int_equal(w->drains, 2);

	a = ask(w, "{\"command\": \"drop-cache\"}");
	assert_int_equal(json_integer_value(at(a, "result.dropped_bytes")), 4000);
	json_decref(a);
	assert_int_equal(w->drops, 1);

	w->other = ctl_storage_add(w->ctl, "other", &ctl_failing_ops, w);
	a = ask(w, "{\"command\": \"flush\"}");
	assert_false(is_ok(a));
	assert_string_equal(json_string_value(at(a, "failed.other")), strerror(EIO));
	json_decref(a);
	assert_int_equal(w->flushes, 5);
}

static void test_reload(void **state)
{
	struct world *w = *state;
	json_t *a;

	expect(w, "{\"command\": \"reload\"}", true);
	atomic_store(&w->reload_fails, true);
	a = ask(w, "{\"command\": \"reload\"}");
	assert_false(is_ok(a));
	assert_string_equal(json_string_value(at(a, "error")), "line 7: \"siez\" is no key");
	json_decref(a);
	assert_int_equal(w->reloads, 2);
}

static void test_log_level(void **state)
{
	struct world *w = *state;
	int null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC), stderr_fd = dup(STDERR_FILENO);
	json_t *a;

	expect(w, "{\"command\": \"log-level\", \"level\": \"loud\"}", false);
	expect(w, "{\"command\": \"log-level\", \"level\": 3}", false);
	assert_int_equal(log_get_level(), LOG_LEVEL_ERROR);
	assert_int_equal(dup2(null_fd, STDERR_FILENO), STDERR_FILENO); /* it is logged */
	a = ask(w, "{\"command\": \"log-level\", \"level\": \"debug\"}");
	assert_string_equal(json_string_value(at(a, "result.level")), "debug");
	json_decref(a);
	assert_int_equal(log_get_level(), LOG_LEVEL_DEBUG);
	log_set_level(LOG_LEVEL_ERROR);
	dup2(stderr_fd, STDERR_FILENO);
	close(stderr_fd);
	close(null_fd);
	a = ask(w, "{\"command\": \"log-level\"}");
	assert_string_equal(json_string_value(at(a, "result.level")), "error");
	json_decref(a);
}

/* A storage that hangs holds up those who asked it for something, and nobody else. */
static void test_hanging_storage(void **state)
{
	struct world *w = *state;
	struct progress rename;
	int hanging[8], fd;
	json_t *a;

	atomic_store(&w->hang, true);
	progress_begin(&rename, "rename", "objects", "%s", "x -> y");
	progress_set(&rename, 3, 10);
	for (unsigned i = 0; i < 8; i++) {
		hanging[i] = dial(w);
		say(hanging[i], "{\"command\": \"flush\"}");
	}
	while (atomic_load(&w->flushes) < 8)
		usleep(1000);
	a = ask(w, "{\"command\": \"status\"}");
	assert_true(is_ok(a));
	assert_int_equal(json_array_size(at(a, "result.tasks")), 9);
	assert_string_equal(json_string_value(at(a, "result.tasks.0.subject")), "x -> y");
	assert_int_equal(json_integer_value(at(a, "result.tasks.0.done")), 3);
	assert_string_equal(json_string_value(at(a, "result.tasks.1.task")), "flush");
	json_decref(a);
	/* Their number is bounded. */
	expect(w, "{\"command\": \"drain\"}", false);
	/* Who waits is told what is going on. */
	a = hear(hanging[0]);
	assert_int_equal(json_integer_value(at(a, "progress.0.total")), 10);
	json_decref(a);
	progress_end(&rename);
	/* One who goes leaves his job to itself. */
	close(hanging[1]);
	for (unsigned i = 0; i < 8; i++)
		sem_post(&w->go);
	for (unsigned i = 0; i < 8; i++) {
		if (i == 1)
			continue;
		do {
			a = hear(hanging[i]);
		} while (json_object_get(a, "progress") && (json_decref(a), true));
		assert_true(is_ok(a));
		json_decref(a);
		/* The connection goes on. */
		a = ask_on(hanging[i], "{\"command\": \"log-level\"}");
		assert_true(is_ok(a));
		json_decref(a);
		close(hanging[i]);
	}
	atomic_store(&w->hang, false);
	fd = dial(w);
	/* Several requests at once are answered in their order. */
	say(fd, "{\"command\": \"flush\"}\n{\"command\": \"nonsense\"}\n{\"command\": \"dirty\"}");
	assert_true(is_ok(a = hear(fd)));
	json_decref(a);
	assert_false(is_ok(a = hear(fd)));
	json_decref(a);
	assert_true(is_ok(a = hear(fd)));
	json_decref(a);
	close(fd);
}

static void *remove_storage(void *arg)
{
	struct world *w = arg;

	ctl_storage_remove(w->storage);
	w->storage = NULL;
	atomic_store(&w->removed, true);
	return NULL;
}

static void test_remove_waits(void **state)
{
	struct world *w = *state;
	pthread_t thread;
	json_t *a;
	int fd = dial(w);

	atomic_store(&w->hang, true);
	say(fd, "{\"command\": \"flush\"}");
	while (atomic_load(&w->flushes) < 1)
		usleep(1000);
	atomic_store(&w->hang, false);
	pthread_create(&thread, NULL, remove_storage, w);
	do { /* it takes no new jobs as soon as it is to go */
		a = ask(w, "{\"command\": \"flush\", \"names\": [\"bucket\"]}");
	} while (is_ok(a) && (json_decref(a), true));
	json_decref(a);
	assert_false(atomic_load(&w->removed));
	sem_post(&w->go);
	pthread_join(thread, NULL);
	assert_true(atomic_load(&w->removed));
	do {
		a = hear(fd);
	} while (json_object_get(a, "progress") && (json_decref(a), true));
	assert_true(is_ok(a));
	json_decref(a);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_status),	 CASE(test_inode),     CASE(test_jobs),
		CASE(test_reload),	 CASE(test_log_level), CASE(test_hanging_storage),
		CASE(test_remove_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
