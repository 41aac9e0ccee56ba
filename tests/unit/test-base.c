/* SPDX-License-Identifier: Apache-2.0 */
/* Errors, log lines, the loop, the acceptor and the worker pool do what their headers say. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/acceptor.h"
#include "base/apart.h"
#include "base/err.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/workers.h"

static void errors_carry_context_and_errno(void **state)
{
	struct err *e = err_errno(ENOENT, "open %s", "x.toml");

	(void)state;
	e = err_wrap(e, "mount %d", 3);
	assert_string_equal(err_msg(e), "mount 3: open x.toml: No such file or directory");
	err_free(e);
	err_free(NULL);
}

static uint64_t thread_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* What log_event() writes for the call in @emit. */
static void capture(char *buf, size_t size, void (*emit)(void))
{
	int saved = dup(STDERR_FILENO), pipes[2];
	ssize_t n;

	assert_int_equal(pipe(pipes), 0);
	dup2(pipes[1], STDERR_FILENO);
	close(pipes[1]);
	emit();
	dup2(saved, STDERR_FILENO);
	close(saved);
	n = read(pipes[0], buf, size - 1);
	buf[n > 0 ? n : 0] = '\0';
	close(pipes[0]);
}

static void emit_forged(void)
{
	log_event(LOG_LEVEL_WARN, "test", "name=\"%s\"", "a\n2026 error forged\x1b[0m");
}

static void emit_long(void)
{
	char text[5000];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	log_event(LOG_LEVEL_WARN, "test", "text=%s", text);
}

static void log_line_cannot_be_forged_or_overrun(void **state)
{
	char line[8192];

	(void)state;
	capture(line, sizeof(line), emit_forged);
	assert_non_null(strstr(line, " warn test name=\"a\\x0a2026 error forged\\x1b[0m\"\n"));
	assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);

	capture(line, sizeof(line), emit_long);
	assert_true(strlen(line) < 2048);
	assert_int_equal(line[strlen(line) - 1], '\n');
}

static void log_limit_swallows_and_counts(void **state)
{
	struct log_limit limit = { 0 };
	uint32_t swallowed = 0;
	int passed = 0;

	(void)state;
	for (int i = 0; i < 1000; i++)
		passed += log_limit_pass(&limit, &swallowed);
	assert_in_range(passed, 10, 12); /* a second may begin meanwhile */
	assert_true(limit.swallowed > 0);
}

struct loop_test {
	struct loop *loop;
	struct loop_fd a, b;
	struct loop_timer timer;
	struct loop_task task;
	int order[8];
	int steps;
	int ready;
};

static struct loop_test lt;

static void on_ready(struct loop_fd *entry, uint32_t events)
{
	(void)events;
	lt.ready++;
	/* Both are ready in one batch; whoever is first removes the other, whose
	 * callback must not run any more. */
	loop_fd_remove(lt.loop, entry == &lt.a ? &lt.b : &lt.a);
	loop_fd_remove(lt.loop, entry);
	loop_stop(lt.loop);
}

static void loop_removed_entry_is_not_called(void **state)
{
	int fd_a = eventfd(1, EFD_CLOEXEC), fd_b = eventfd(1, EFD_CLOEXEC);

	(void)state;
	memset(&lt, 0, sizeof(lt));
	assert_null(loop_new(&lt.loop));
	assert_int_equal(loop_fd_add(lt.loop, &lt.a, fd_a, EPOLLIN, on_ready), 0);
	assert_int_equal(loop_fd_add(lt.loop, &lt.b, fd_b, EPOLLIN, on_ready), 0);
	loop_run(lt.loop);
	assert_int_equal(lt.ready, 1);
	loop_free(lt.loop);
	close(fd_a);
	close(fd_b);
}

static void on_timer(struct loop_timer *timer)
{
	(void)timer;
	lt.order[lt.steps++] = 1;
	loop_stop(lt.loop);
}

static void on_task(struct loop_task *task)
{
	(void)task;
	lt.order[lt.steps++] = 2;
	loop_timer_arm(lt.loop, &lt.timer, 50000000);
}

static void *post_from_outside(void *arg)
{
	usleep(1000);
	loop_post(lt.loop, arg);
	return NULL;
}

static void loop_runs_posted_tasks_and_timers(void **state)
{
	uint64_t start = loop_now_ns();
	pthread_t thread;

	(void)state;
	memset(&lt, 0, sizeof(lt));
	assert_null(loop_new(&lt.loop));
	loop_timer_init(&lt.timer, on_timer);
	lt.task.run = on_task;
	assert_int_equal(pthread_create(&thread, NULL, post_from_outside, &lt.task), 0);
	loop_run(lt.loop);
	pthread_join(thread, NULL);
	assert_true(loop_now_ns() - start >= 50000000);
	assert_int_equal(lt.steps, 2);
	assert_int_equal(lt.order[0], 2);
	assert_int_equal(lt.order[1], 1);
	loop_free(lt.loop);
}

struct counted {
	struct work work;
	_Atomic int *count;
};

static void count_one(struct work *work)
{
	struct counted *c = container_of(work, struct counted, work);

	atomic_fetch_add(c->count, 1);
}

static void workers_run_everything_before_they_are_freed(void **state)
{
	static struct counted items[10000];
	struct workers *workers;
	_Atomic int count = 0;

	(void)state;
	assert_null(workers_new(&workers, "test", 4));
	for (size_t i = 0; i < ARRAY_SIZE(items); i++) {
		items[i] = (struct counted){ .work.run = count_one, .count = &count };
		workers_submit(workers, &items[i].work);
	}
	workers_free(workers);
	assert_int_equal(count, ARRAY_SIZE(items));
}

struct blocked {
	struct work work;
	int fd;
};

static void block_on_fd(struct work *work)
{
	struct blocked *b = container_of(work, struct blocked, work);
	uint64_t value;

	assert_int_equal(read(b->fd, &value, sizeof(value)), sizeof(value));
}

static void workers_start_threads_while_others_block(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
	struct blocked blocked[3];
	struct workers *workers;
	struct counted item;
	_Atomic int count = 0;
	uint64_t three = 3;

	(void)state;
	assert_null(workers_new(&workers, "test", 4));
	for (size_t i = 0; i < 3; i++) {
		blocked[i] = (struct blocked){ .work.run = block_on_fd, .fd = fd };
		workers_submit(workers, &blocked[i].work);
	}
	item = (struct counted){ .work.run = count_one, .count = &count };
	workers_submit(workers, &item.work);
	for (int i = 0; i < 5000 && !atomic_load(&count); i++)
		usleep(1000);
	assert_int_equal(atomic_load(&count), 1);
	assert_int_equal(write(fd, &three, sizeof(three)), sizeof(three));
	workers_free(workers);
	close(fd);
}

/* ---- What may not answer ---- */

static int answer(void *arg)
{
	return *(int *)arg;
}

/* As long as the test runs. */
static int hang(void *arg)
{
	for (unsigned i = 0; i < 6000 && kill(*(pid_t *)arg, 0) == 0; i++)
		usleep(10000);
	return 0;
}

static void what_hangs_is_left_alone(void **state)
{
	int good = 0, bad = -EIO, ends[2];
	struct pollfd end = { .events = POLLIN };
	pid_t self = getpid();

	(void)state;
	assert_int_equal(apart_run(answer, &good, 20000), 0);
	assert_int_equal(apart_run(answer, &bad, 20000), -EIO);
	assert_int_equal(apart_look_at_directory("/", 20000), 0);
	assert_int_equal(apart_look_at_directory("/etc/passwd", 20000), -ENOTDIR);
	assert_int_equal(apart_look_at_directory("/none", 20000), -ENOENT);
	/* It keeps none of our descriptors open. */
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(apart_run(hang, &self, 10), -ETIMEDOUT);
	close(ends[1]);
	end.fd = ends[0];
	assert_int_equal(poll(&end, 1, 20000), 1);
	assert_int_equal(end.revents, POLLHUP);
	close(ends[0]);
}

/* ---- A listening socket ---- */

static struct accept_test {
	struct loop *loop;
	struct acceptor acceptor;
	struct loop_timer timer;
	struct loop_fd other;
	struct rlimit enough;
	int listener, client;
	int accepted;
} at;

static void on_accepted(struct acceptor *acceptor, int fd)
{
	at.accepted = fd;
	acceptor_stop(acceptor);
	loop_stop(at.loop);
}

static void on_descriptors_again(struct loop_timer *timer)
{
	(void)timer;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &at.enough), 0);
}

static void on_enough_of_it(struct loop_timer *timer)
{
	(void)timer;
	acceptor_stop(&at.acceptor);
	loop_stop(at.loop);
}

/* A connection waits at a socket. */
static void accept_begin(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(address.sun_family);

	at = (struct accept_test){ .accepted = -1 };
	at.listener = socket(AF_UNIX, SOCK_STREAM, 0);
	at.client = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(at.listener, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(at.listener, 1), 0);
	len = sizeof(address);
	assert_int_equal(getsockname(at.listener, (struct sockaddr *)&address, &len), 0);
	assert_int_equal(connect(at.client, (struct sockaddr *)&address, len), 0);
	assert_null(loop_new(&at.loop));
}

static void accept_end(void)
{
	loop_free(at.loop);
	close(at.client);
	close(at.listener);
}

/* No descriptor is left for the connection until @expired. */
static void accept_without_descriptors(void (*expired)(struct loop_timer *timer))
{
	struct rlimit none;

	accept_begin();
	acceptor_start(&at.acceptor, at.loop, at.listener, on_accepted);
	loop_timer_init(&at.timer, expired);
	loop_timer_arm(at.loop, &at.timer, 500000000);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &at.enough), 0);
	none = at.enough;
	none.rlim_cur = (rlim_t)dup(at.client);
	close((int)none.rlim_cur);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	loop_run(at.loop);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &at.enough), 0);
	accept_end();
}

/* That takes no processor time, and ends when there are descriptors again. */
static void accepting_waits_for_descriptors(void **state)
{
	uint64_t cpu_ns = thread_cpu_ns();

	(void)state;
	accept_without_descriptors(on_descriptors_again);
	assert_true(at.accepted >= 0);
	close(at.accepted);
	assert_true(thread_cpu_ns() - cpu_ns < 100000000);
}

static void accepting_is_stopped_while_it_waits(void **state)
{
	(void)state;
	accept_without_descriptors(on_enough_of_it);
	assert_int_equal(at.accepted, -1);
	acceptor_stop(&at.acceptor);
}

static void on_nothing(struct loop_fd *entry, uint32_t events)
{
	(void)entry;
	(void)events;
}

static void on_unwatched(struct loop_timer *timer)
{
	loop_fd_remove(at.loop, &at.other);
	timer->expired = on_enough_of_it;
	loop_timer_arm(at.loop, timer, 10000000000);
}

/* There may be no room for it in the kernel: here, because a descriptor is watched once only. */
static void accepting_waits_until_it_can_watch(void **state)
{
	(void)state;
	accept_begin();
	assert_int_equal(loop_fd_add(at.loop, &at.other, at.listener, 0, on_nothing), 0);
	acceptor_start(&at.acceptor, at.loop, at.listener, on_accepted);
	loop_timer_init(&at.timer, on_unwatched);
	loop_timer_arm(at.loop, &at.timer, 100000000);
	loop_run(at.loop);
	loop_timer_disarm(&at.timer);
	assert_true(at.accepted >= 0);
	close(at.accepted);
	accept_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(errors_carry_context_and_errno),
		cmocka_unit_test(log_line_cannot_be_forged_or_overrun),
		cmocka_unit_test(log_limit_swallows_and_counts),
		cmocka_unit_test(loop_removed_entry_is_not_called),
		cmocka_unit_test(loop_runs_posted_tasks_and_timers),
		cmocka_unit_test(accepting_waits_for_descriptors),
		cmocka_unit_test(accepting_is_stopped_while_it_waits),
		cmocka_unit_test(accepting_waits_until_it_can_watch),
		cmocka_unit_test(workers_run_everything_before_they_are_freed),
		cmocka_unit_test(workers_start_threads_while_others_block),
		cmocka_unit_test(what_hangs_is_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
