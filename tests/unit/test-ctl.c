/* SPDX-License-Identifier: Apache-2.0 */
/* The control socket and the metrics, over mounts and storages that are made up. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <jansson.h>
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/progress.h"
#include "ctl/ctl.h"

#define NSEC_PER_SEC 1000000000ull
#define TEST_GID 54321
#define ANSWER_S 20 /* that nothing takes, on the slowest machine */

/* ---- A daemon ---- */

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

static void mount_stats(void *ctx, struct ctl_mount_stats *out)
{
	struct ctl_operation *op = &out->operations.of[0];

	(void)ctx;
	out->ports = 2;
	out->guests = 1;
	out->parts = 2;
	strcpy(out->part[0].storage, "bucket");
	strcpy(out->part[0].path, "deep/one");
	out->part[0].requests = 12;
	out->part[0].errors = 3;
	strcpy(out->part[1].path, "two");
	out->operations.results = (struct ctl_results){ .count = 2, .name = { "ok", "error" } };
	out->operations.histogram = (struct ctl_histogram){ .first_shift = 10, .buckets = 4 };
	out->operations.count = 1;
	op->name = "LOOKUP";
	op->results[0] = 90;
	op->results[1] = 10;
	op->buckets[0] = 50;
	op->buckets[2] = 49;
	op->buckets[3] = 1;
	op->latency_ns = 2000000000;
	op->bytes_read = 77;
	out->queues = 2;
	out->queue[1] = (struct ctl_queue_stats){
		.queue = 1, .started = true, .size = 128, .waiting = 3, .in_flight = 4
	};
}

static void mount_requests(void *ctx, uint64_t hang_ns, ctl_request_fn *emit, void *arg)
{
	struct world *w = ctx;
	struct ctl_request young = { .operation = "READ", .place = "queued", .age_ns = 5 };
	struct ctl_request old = { .operation = "WRITE",
				   .place = "storage",
				   .age_ns = 40 * NSEC_PER_SEC,
				   .nodeid = 7,
				   .storage_ns = 39 * NSEC_PER_SEC };

	if (hang_ns) {
		if (atomic_fetch_add(&w->hang_looks, 1) == 0)
			emit(arg, &old);
		return;
	}
	emit(arg, &young);
	emit(arg, &old);
}

static void mount_inode(void *ctx, uint64_t nodeid, struct ctl_fields *fields)
{
	(void)ctx;
	if (nodeid != 42)
		return;
	ctl_record_begin(fields);
	ctl_field_string(fields, "path", "caf\xe9"); /* not UTF-8 */
	ctl_field_number(fields, "size", 1234);
	ctl_field_flag(fields, "dirty", true);
}

static const struct ctl_mount_ops mount_ops = {
	.stats = mount_stats,
	.requests = mount_requests,
	.inode = mount_inode,
};

static void storage_stats(void *ctx, struct ctl_storage_stats *out)
{
	struct world *w = ctx;

	out->type = "s3";
	out->state = "silent";
	out->state_age_ns = 3 * NSEC_PER_SEC;
	strcpy(out->error, "nobody is there");
	out->hits = 11;
	out->dirty_bytes = 4096;
	out->bytes = atomic_load(&w->cached);
	out->operations.results = (struct ctl_results){ .count = 1, .name = { "ok" } };
	out->operations.histogram = (struct ctl_histogram){ .first_shift = 15, .buckets = 2 };
	out->operations.count = 1;
	out->operations.of[0] = (struct ctl_operation){
		.name = "put", .results = { 3 }, .buckets = { 3, 0 }, .attempts = 5
	};
}

static void storage_dirty(void *ctx, unsigned max, ctl_dirty_fn *emit, void *arg)
{
	struct ctl_dirty_file file = { .key = "a/b", .dirty_bytes = 4096, .error = -EIO };

	(void)ctx;
	if (max > 0)
		emit(arg, &file);
}

static int storage_flush(void *ctx)
{
	struct world *w = ctx;

	atomic_fetch_add(&w->flushes, 1);
	if (atomic_load(&w->hang))
		sem_wait(&w->go);
	return 0;
}

static int storage_flush_fails(void *ctx)
{
	(void)ctx;
	return -EIO;
}

static unsigned storage_drain(void *ctx, uint64_t timeout_ns)
{
	struct world *w = ctx;

	atomic_fetch_add(&w->drains, 1);
	return timeout_ns < NSEC_PER_SEC ? 2 : 0;
}

static void storage_drop(void *ctx)
{
	struct world *w = ctx;

	atomic_fetch_add(&w->drops, 1);
	atomic_store(&w->cached, 1000);
}

static const struct ctl_storage_ops storage_ops = {
	.stats = storage_stats,
	.dirty = storage_dirty,
	.flush = storage_flush,
	.drain = storage_drain,
	.drop = storage_drop,
};

static const struct ctl_storage_ops other_ops = {
	.stats = storage_stats,
	.dirty = storage_dirty,
	.flush = storage_flush_fails,
	.drain = storage_drain,
	.drop = storage_drop,
};

static struct err *hook_reload(void *ctx)
{
	struct world *w = ctx;

	atomic_fetch_add(&w->reloads, 1);
	return atomic_load(&w->reload_fails) ? err_new("line 7: \"siez\" is no key") : NULL;
}

static void hook_config(void *ctx, struct ctl_config_stats *out)
{
	struct world *w = ctx;

	out->generation = 1 + atomic_load(&w->reloads);
	out->loaded_s = 1700000000;
}

static void hook_pool(void *ctx, struct ctl_pool_stats *out)
{
	(void)ctx;
	out->arena = 1 << 20;
	out->classes = 1;
	out->class[0] = (struct ctl_pool_class){ .block_size = 4096, .used = 5, .free = 6 };
}

static int listen_unix(struct world *w)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	strcpy(w->dir, "/tmp/test-ctl.XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->path, sizeof(w->path), "%s/sock", w->dir);
	strcpy(addr.sun_path, w->path);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

static int listen_tcp(struct world *w)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(addr);

	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 8), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
	w->port = ntohs(addr.sin_port);
	return fd;
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct ctl_hooks hooks = {
		.ctx = w,
		.reload = hook_reload,
		.config_stats = hook_config,
		.pool_stats = hook_pool,
	};
	struct ctl_config config = {
		.control_fd = listen_unix(w),
		.metrics_fd = listen_tcp(w),
		.version = "1.2.3",
		.gid = TEST_GID,
		.hang_ns = 30 * NSEC_PER_SEC,
		.silent_max_ns = NSEC_PER_SEC * 3 / 2,
	};

	signal(SIGPIPE, SIG_IGN);
	log_set_level(LOG_LEVEL_ERROR);
	sem_init(&w->go, 0, 0);
	atomic_store(&w->cached, 5000);
	assert_null(loop_new(&w->loop));
	config.loop = w->loop;
	assert_null(ctl_new(&w->ctl, &config, &hooks));
	w->mount = ctl_mount_add(w->ctl, "data", &mount_ops, w);
	w->storage = ctl_storage_add(w->ctl, "bucket", &storage_ops, w);
	assert_non_null(w->mount);
	assert_non_null(w->storage);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	ctl_mount_remove(w->mount);
	ctl_storage_remove(w->storage);
	ctl_storage_remove(w->other);
	ctl_free(w->ctl);
	loop_free(w->loop); /* with a sign of life that nobody waits for any more */
	unlink(w->path);
	rmdir(w->dir);
	sem_destroy(&w->go);
	free(w);
	return 0;
}

/* ---- A client ---- */

static void set_timeout(int fd)
{
	struct timeval tv = { .tv_sec = ANSWER_S };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
}

static int dial(const struct world *w)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, w->path);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	set_timeout(fd);
	return fd;
}

static void say_bytes(int fd, const void *bytes, size_t len)
{
	assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), len);
}

static void say(int fd, const char *line)
{
	say_bytes(fd, line, strlen(line));
	say_bytes(fd, "\n", 1);
}

/* The next line; NULL: the connection is closed. */
static json_t *hear(int fd)
{
	static char line[1 << 20];
	size_t len = 0;
	json_t *answer;

	for (;;) {
		ssize_t n = recv(fd, line + len, 1, 0);

		assert_true(n >= 0 || errno == ECONNRESET);
		if (n <= 0) {
			assert_int_equal(len, 0);
			return NULL;
		}
		if (line[len] == '\n')
			break;
		assert_true(++len < sizeof(line));
	}
	answer = json_loadb(line, len, 0, NULL);
	assert_non_null(answer);
	return answer;
}

static json_t *ask_on(int fd, const char *line)
{
	json_t *answer;

	say(fd, line);
	for (;;) {
		answer = hear(fd);
		assert_non_null(answer);
		if (!json_object_get(answer, "progress"))
			return answer;
		json_decref(answer);
	}
}

static json_t *ask(const struct world *w, const char *line)
{
	int fd = dial(w);
	json_t *answer = ask_on(fd, line);

	close(fd);
	return answer;
}

static bool is_ok(const json_t *answer)
{
	return json_is_true(json_object_get(answer, "ok"));
}

static void expect(const struct world *w, const char *line, bool ok)
{
	json_t *answer = ask(w, line);

	assert_int_equal(is_ok(answer), ok);
	if (!ok)
		assert_true(json_is_string(json_object_get(answer, "error")));
	json_decref(answer);
}

/* What is at a path like "mounts.0.guests". */
static json_t *at(const json_t *value, const char *path)
{
	char *copy = strdup(path), *save = NULL;

	for (char *name = strtok_r(copy, ".", &save); name; name = strtok_r(NULL, ".", &save))
		value = json_is_array(value) ? json_array_get(value, (size_t)atoi(name))
					     : json_object_get(value, name);
	free(copy);
	if (!value)
		fail_msg("nothing at %s", path);
	return (json_t *)value;
}

/* ---- Tests ---- */

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

	w->other = ctl_storage_add(w->ctl, "other", &other_ops, w);
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

static void test_garbage(void **state)
{
	static const char *const lines[] = {
		"",
		"{",
		"null",
		"[]",
		"7",
		"\"status\"",
		"{}",
		"{\"command\": null}",
		"{\"command\": 7}",
		"{\"command\": \"status\"} {\"command\": \"status\"}",
		"{\"command\": \"status\", \"command\": \"flush\"}",
		"{\"command\": \"\\u0000\"}",
		"{\"command\": \"stat\\u00fcs\"}",
		"{\"command\": \"st\xff\"}",
		"GET / HTTP/1.1\r",
	};
	struct world *w = *state;
	unsigned char noise[3000];
	char *deep = malloc(16000);
	uint32_t seed = 1;
	int fd = dial(w);
	json_t *a;

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		a = ask_on(fd, lines[i]);
		if (is_ok(a))
			fail_msg("accepted: %s", lines[i]);
		json_decref(a);
	}
	memset(deep, '[', 15999);
	deep[15999] = '\0';
	a = ask_on(fd, deep);
	assert_false(is_ok(a));
	json_decref(a);
	close(fd);
	for (unsigned round = 0; round < 200; round++) {
		size_t len = 1 + round * 14;

		for (size_t i = 0; i < len; i++) {
			seed = seed * 1664525 + 1013904223;
			noise[i] = (unsigned char)(seed >> 24);
		}
		noise[len - 1] = '\n';
		fd = dial(w);
		say_bytes(fd, noise, len);
		a = hear(fd);
		assert_false(is_ok(a));
		json_decref(a);
		close(fd);
	}
	/* A line without an end. */
	fd = dial(w);
	memset(deep, ' ', 15999);
	say_bytes(fd, deep, 15999);
	say_bytes(fd, deep, 16384 - 15999);
	a = hear(fd);
	assert_false(is_ok(a));
	json_decref(a);
	assert_null(hear(fd));
	close(fd);
	free(deep);
	expect(w, "{\"command\": \"status\"}", true);
}

/* More connections than there may be: the rest is turned away, and later ones are not. */
static void test_many_connections(void **state)
{
	struct world *w = *state;
	int fds[32];
	json_t *a;
	int fd;

	for (unsigned i = 0; i < 32; i++) {
		fds[i] = dial(w);
		a = ask_on(fds[i], "{\"command\": \"log-level\"}");
		json_decref(a);
	}
	fd = dial(w);
	assert_null(hear(fd));
	close(fd);
	for (unsigned i = 0; i < 32; i++)
		close(fds[i]);
	for (;;) {
		fd = dial(w);
		send(fd, "{\"command\": \"log-level\"}\n", 25, MSG_NOSIGNAL);
		a = hear(fd);
		close(fd);
		if (a)
			break;
	}
	json_decref(a);
}

/* Whether somebody with that group, and another beside it, is answered. */
static bool other_user_is_served(const struct world *w, gid_t gid, gid_t beside)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct sockaddr_un addr = { .sun_family = AF_UNIX };
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);
		char c;

		strcpy(addr.sun_path, w->path);
		if (setgroups(1, &beside) || setgid(gid) || setuid(65534) ||
		    connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
			_exit(2);
		send(fd, "{\"command\": \"status\"}\n", 22, MSG_NOSIGNAL);
		_exit(recv(fd, &c, 1, 0) > 0 ? 1 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_in_range(WEXITSTATUS(status), 0, 1);
	return WEXITSTATUS(status);
}

static void test_other_user(void **state)
{
	struct world *w = *state;

	if (geteuid() != 0)
		skip();
	/* Whatever became of the file's mode. */
	assert_int_equal(chmod(w->dir, 0755) | chmod(w->path, 0666), 0);
	assert_false(other_user_is_served(w, 65534, 65534));
	assert_true(other_user_is_served(w, TEST_GID, 65534));
	assert_true(other_user_is_served(w, 65534, TEST_GID));
}

static void test_hangs_are_reported(void **state)
{
	struct world *w = *state;

	for (unsigned i = 0; i < ANSWER_S * 100 && atomic_load(&w->hang_looks) < 2; i++)
		usleep(10000);
	assert_true(atomic_load(&w->hang_looks) >= 2);
}

/* ---- HTTP ---- */

static char *http(const struct world *w, const char *request, unsigned *status)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				    .sin_port = htons(w->port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char *text = calloc(1, 1 << 20), *body;
	size_t len = 0;
	ssize_t n;

	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	set_timeout(fd);
	say_bytes(fd, request, strlen(request));
	shutdown(fd, SHUT_WR);
	while ((n = recv(fd, text + len, (1 << 20) - 1 - len, 0)) > 0)
		len += (size_t)n;
	close(fd);
	*status = 0;
	sscanf(text, "HTTP/1.%*u %u", status);
	body = strstr(text, "\r\n\r\n");
	if (body)
		memmove(text, body + 4, strlen(body + 4) + 1);
	return text;
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

static void test_metrics(void **state)
{
	static const char *const lines[] = {
		"ovfs_build_info{version=\"1.2.3\"} 1",
		"ovfs_guests{mount=\"data\"} 1",
		"ovfs_requests_total{mount=\"data\",opcode=\"LOOKUP\",result=\"ok\"} 90",
		"ovfs_requests_total{mount=\"data\",opcode=\"LOOKUP\",result=\"error\"} 10",
		"ovfs_request_duration_seconds_bucket{mount=\"data\",opcode=\"LOOKUP\","
		"le=\"1.024e-06\"} 50",
		"ovfs_request_duration_seconds_bucket{mount=\"data\",opcode=\"LOOKUP\","
		"le=\"4.096e-06\"} 99",
		"ovfs_request_duration_seconds_bucket{mount=\"data\",opcode=\"LOOKUP\","
		"le=\"+Inf\"} 100",
		"ovfs_request_duration_seconds_sum{mount=\"data\",opcode=\"LOOKUP\"} 2.000000000",
		"ovfs_request_duration_seconds_count{mount=\"data\",opcode=\"LOOKUP\"} 100",
		"ovfs_requests_in_flight{mount=\"data\"} 2",
		"ovfs_oldest_request_age_seconds{mount=\"data\"} 40.000000000",
		"ovfs_read_bytes_total{mount=\"data\"} 77",
		"ovfs_directory_requests_total{mount=\"data\",directory=\"deep/one\"} 12",
		"ovfs_directory_errors_total{mount=\"data\",directory=\"two\"} 0",
		"ovfs_storage_up{storage=\"bucket\"} 0",
		"ovfs_queue_waiting{mount=\"data\",socket=\"0\",queue=\"1\"} 3",
		"ovfs_cache_hits_total{storage=\"bucket\"} 11",
		"ovfs_cache_hits_total{storage=\"q\\\"\\\\\\n\"} 11",
		"ovfs_storage_attempts_total{storage=\"bucket\",operation=\"put\"} 5",
		"ovfs_pool_blocks{block_size=\"4096\",state=\"free\"} 6",
		"ovfs_config_last_reload_successful 1",
	};
	struct world *w = *state;
	unsigned status;
	char *text;

	w->other = ctl_storage_add(w->ctl, "q\"\\\n", &other_ops, w);
	text = http(w, GET("/metrics"), &status);
	assert_int_equal(status, 200);
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		char line[256];

		snprintf(line, sizeof(line), "\n%s\n", lines[i]);
		if (!strstr(text, line))
			fail_msg("not there: %s", lines[i]);
	}
	free(text);
}

static void test_http(void **state)
{
	static const struct {
		const char *request;
		unsigned status;
	} cases[] = {
		{ GET("/"), 404 },
		{ GET("/metrics/../etc/passwd"), 404 },
		{ "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
		  "Content-Length: 3\r\n\r\nabc",
		  405 },
		{ "HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200 },
		{ GET("/healthz"), 200 },
	};
	struct world *w = *state;
	unsigned status;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		free(http(w, cases[i].request, &status));
		assert_int_equal(status, cases[i].status);
	}
	/* Nothing sensible is answered, and nothing breaks. */
	free(http(w, "\x16\x03\x01\x02nonsense\r\n\r\n", &status));
	free(http(w, "{\"command\": \"status\"}\n", &status));
	free(http(w, GET("/healthz"), &status));
	assert_int_equal(status, 200);
}

static void *turn(void *arg)
{
	loop_run(arg);
	return NULL;
}

static void test_health(void **state)
{
	struct world *w = *state;
	pthread_t thread;
	unsigned status;

	/* Nobody runs the control loop. */
	for (unsigned i = 0; i < ANSWER_S * 100; i++) {
		free(http(w, GET("/healthz"), &status));
		if (status == 503)
			break;
		assert_int_equal(status, 200);
		usleep(10000);
	}
	assert_int_equal(status, 503);
	pthread_create(&thread, NULL, turn, w->loop);
	for (unsigned i = 0; i < ANSWER_S * 100 && status != 200; i++) {
		free(http(w, GET("/healthz"), &status));
		usleep(10000);
	}
	assert_int_equal(status, 200);
	loop_stop(w->loop);
	pthread_join(thread, NULL);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_status),
		CASE(test_inode),
		CASE(test_jobs),
		CASE(test_reload),
		CASE(test_log_level),
		CASE(test_hanging_storage),
		CASE(test_remove_waits),
		CASE(test_garbage),
		CASE(test_many_connections),
		CASE(test_other_user),
		CASE(test_hangs_are_reported),
		CASE(test_metrics),
		CASE(test_http),
		CASE(test_health),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
