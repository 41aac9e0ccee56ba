/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl-fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"

/* ---- A daemon ---- */

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

const struct ctl_storage_ops ctl_failing_ops = {
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

int ctl_setup(void **state)
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

int ctl_teardown(void **state)
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

void set_timeout(int fd)
{
	struct timeval tv = { .tv_sec = ANSWER_S };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
}

int dial(const struct world *w)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, w->path);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	set_timeout(fd);
	return fd;
}

void say_bytes(int fd, const void *bytes, size_t len)
{
	assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), len);
}

void say(int fd, const char *line)
{
	say_bytes(fd, line, strlen(line));
	say_bytes(fd, "\n", 1);
}

json_t *hear(int fd)
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

json_t *ask_on(int fd, const char *line)
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

json_t *ask(const struct world *w, const char *line)
{
	int fd = dial(w);
	json_t *answer = ask_on(fd, line);

	close(fd);
	return answer;
}

bool is_ok(const json_t *answer)
{
	return json_is_true(json_object_get(answer, "ok"));
}

void expect(const struct world *w, const char *line, bool ok)
{
	json_t *answer = ask(w, line);

	assert_int_equal(is_ok(answer), ok);
	if (!ok)
		assert_true(json_is_string(json_object_get(answer, "error")));
	json_decref(answer);
}

json_t *at(const json_t *value, const char *path)
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
