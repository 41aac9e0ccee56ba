/* SPDX-License-Identifier: Apache-2.0 */
/* #syscalls epoll_create1 epoll_ctl epoll_wait epoll_pwait eventfd2 */
#include "base/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

#define LOOP_EVENTS_MAX 32
#define NSEC_PER_MSEC 1000000ull
#define NSEC_PER_SEC 1000000000ull

struct loop {
	int epoll_fd;
	int wake_fd; /* eventfd, edge-triggered: never has to be read */
	_Atomic bool stopping;

	/* Entries of the batch under way; loop_fd_remove() takes its own out. */
	struct epoll_event events[LOOP_EVENTS_MAX];
	int event_next, event_count;

	struct list timers; /* sorted by deadline; few, so a list will do */

	pthread_mutex_t tasks_lock; /* covers the two below */
	struct loop_task *tasks, **tasks_tail;
};

static _Thread_local uint64_t last_ns;

uint64_t loop_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	last_ns = (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
	return last_ns;
}

uint64_t loop_last_ns(void)
{
	return last_ns;
}

struct err *loop_new(struct loop **out)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET, .data.ptr = NULL };

	if (!loop)
		return err_errno(ENOMEM, "event loop");
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	list_init(&loop->timers);
	loop->tasks_tail = &loop->tasks;
	pthread_mutex_init(&loop->tasks_lock, NULL);
	if (loop->epoll_fd < 0 || loop->wake_fd < 0 ||
	    epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &ev) < 0) {
		int errnum = errno;

		loop_free(loop);
		return err_errno(errnum, "event loop");
	}
	*out = loop;
	return NULL;
}

/* Runs tasks until there are none. */
static void loop_run_tasks(struct loop *loop)
{
	struct loop_task *task, *next;

	for (;;) {
		pthread_mutex_lock(&loop->tasks_lock);
		task = loop->tasks;
		loop->tasks = NULL;
		loop->tasks_tail = &loop->tasks;
		pthread_mutex_unlock(&loop->tasks_lock);
		if (!task)
			return;
		for (; task; task = next) {
			next = task->next;
			task->run(task);
		}
	}
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	loop_run_tasks(loop);
	if (loop->epoll_fd >= 0)
		close(loop->epoll_fd);
	if (loop->wake_fd >= 0)
		close(loop->wake_fd);
	pthread_mutex_destroy(&loop->tasks_lock);
	free(loop);
}

static void loop_wake(struct loop *loop)
{
	uint64_t one = 1;
	ssize_t n;

	do {
		n = write(loop->wake_fd, &one, sizeof(one));
	} while (n < 0 && errno == EINTR);
}

void loop_stop(struct loop *loop)
{
	atomic_store(&loop->stopping, true);
	loop_wake(loop);
}

void loop_post(struct loop *loop, struct loop_task *task)
{
	bool first;

	task->next = NULL;
	pthread_mutex_lock(&loop->tasks_lock);
	first = !loop->tasks;
	*loop->tasks_tail = task;
	loop->tasks_tail = &task->next;
	pthread_mutex_unlock(&loop->tasks_lock);
	if (first)
		loop_wake(loop);
}

struct loop_waiter {
	struct loop_task task;
	void (*run)(void *arg);
	void *arg;
	pthread_mutex_t lock; /* covers done */
	pthread_cond_t cond;
	bool done;
};

static void loop_waiter_run(struct loop_task *task)
{
	struct loop_waiter *w = container_of(task, struct loop_waiter, task);

	w->run(w->arg);
	pthread_mutex_lock(&w->lock);
	w->done = true;
	pthread_cond_signal(&w->cond); /* locked: the waiter frees it all */
	pthread_mutex_unlock(&w->lock);
}

void loop_call(struct loop *loop, void (*run)(void *arg), void *arg)
{
	struct loop_waiter w = { .task.run = loop_waiter_run,
				 .run = run,
				 .arg = arg,
				 .lock = PTHREAD_MUTEX_INITIALIZER,
				 .cond = PTHREAD_COND_INITIALIZER };

	loop_post(loop, &w.task);
	pthread_mutex_lock(&w.lock);
	while (!w.done)
		pthread_cond_wait(&w.cond, &w.lock);
	pthread_mutex_unlock(&w.lock);
	pthread_cond_destroy(&w.cond);
	pthread_mutex_destroy(&w.lock);
}

int loop_fd_add(struct loop *loop, struct loop_fd *entry, int fd, uint32_t events,
		void (*ready)(struct loop_fd *entry, uint32_t events))
{
	struct epoll_event ev = { .events = events, .data.ptr = entry };

	entry->fd = fd;
	entry->ready = ready;
	return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

int loop_fd_modify(struct loop *loop, struct loop_fd *entry, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = entry };

	return epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, entry->fd, &ev) < 0 ? -errno : 0;
}

void loop_fd_remove(struct loop *loop, struct loop_fd *entry)
{
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, entry->fd, NULL) < 0)
		log_warn("loop_fd_remove_failed", "fd=%d error=\"%s\"", entry->fd, strerror(errno));
	for (int i = loop->event_next; i < loop->event_count; i++) {
		if (loop->events[i].data.ptr == entry)
			loop->events[i].data.ptr = NULL;
	}
}

void loop_timer_init(struct loop_timer *timer, void (*expired)(struct loop_timer *timer))
{
	list_init(&timer->link);
	timer->expired = expired;
}

void loop_timer_arm(struct loop *loop, struct loop_timer *timer, uint64_t delay_ns)
{
	struct list *pos;

	list_remove(&timer->link);
	timer->deadline_ns = loop_now_ns() + delay_ns;
	for (pos = loop->timers.prev; pos != &loop->timers; pos = pos->prev) {
		if (list_entry(pos, struct loop_timer, link)->deadline_ns <= timer->deadline_ns)
			break;
	}
	list_insert(pos, pos->next, &timer->link);
}

void loop_timer_disarm(struct loop_timer *timer)
{
	list_remove(&timer->link);
}

/* Runs what is due; returns the milliseconds to the next timer, -1 for none. */
static int loop_run_timers(struct loop *loop)
{
	while (!list_empty(&loop->timers)) {
		struct loop_timer *timer = list_entry(loop->timers.next, struct loop_timer, link);
		uint64_t now = loop_now_ns();

		if (timer->deadline_ns > now) {
			uint64_t ms =
				(timer->deadline_ns - now + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC;

			return (int)MIN(ms, (uint64_t)60000);
		}
		loop_timer_disarm(timer);
		timer->expired(timer);
	}
	return -1;
}

void loop_run(struct loop *loop)
{
	while (!atomic_load_explicit(&loop->stopping, memory_order_acquire)) {
		int timeout_ms = loop_run_timers(loop);
		int n = epoll_wait(loop->epoll_fd, loop->events, LOOP_EVENTS_MAX, timeout_ms);

		if (n < 0) {
			if (errno != EINTR)
				log_error("epoll_wait_failed", "error=\"%s\"", strerror(errno));
			continue;
		}
		loop->event_count = n;
		for (loop->event_next = 0; loop->event_next < n;) {
			struct epoll_event *ev = &loop->events[loop->event_next++];
			struct loop_fd *entry = ev->data.ptr;

			if (entry)
				entry->ready(entry, ev->events);
			else
				loop_run_tasks(loop);
		}
		loop->event_count = 0;
	}
}
