/* SPDX-License-Identifier: Apache-2.0 */
/* The threads that drive the queues, and the clock over them. See load.h. */
#include "load.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SMALL 8192u
#define FORGET_SLOTS 64u
#define MAX_ERRORS 1000u
#define SPINS_BEFORE_YIELD 200u

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int task_init(struct load_thread *th, struct load_task *t)
{
	struct load *l = th->load;
	uint32_t size = l->o.size ? l->o.size : l->op->size;
	int err;

	t->th = th;
	t->op = l->op;
	t->segs = calloc(VUC_MAX_SEGS, sizeof(*t->segs));
	if (!t->segs)
		return -ENOMEM;
	err = vuc_mem_alloc(&l->c, 0, SMALL, 4096, &t->small);
	if (!err && size)
		err = vuc_mem_alloc(&l->c, 0, (size + 4095u) & ~4095u, 4096, &t->data);
	return err;
}

static int thread_init(struct load *l, unsigned int i)
{
	struct load_thread *th = &l->threads[i];
	int err = 0;

	th->load = l;
	th->queue = i;
	th->q = &l->c.queues[i + 1];
	th->rng = 0x9e3779b97f4a7c15ull * (i + 1);
	th->tasks = calloc(l->o.depth, sizeof(*th->tasks));
	if (!th->tasks)
		return -ENOMEM;
	for (unsigned int k = 0; !err && k < l->o.depth; k++)
		err = task_init(th, &th->tasks[k]);
	return err;
}

/* Notices that counting begins or ends; only this thread touches its counters. */
static void watch_phase(struct load_thread *th)
{
	bool counting = atomic_load_explicit(&th->load->phase, memory_order_relaxed) == LOAD_COUNT;

	if (counting == th->counting)
		return;
	th->counting = counting;
	th->kicks = th->q->kicks - th->kicks;
	th->calls = th->q->calls - th->calls;
}

/* Puts the next request of the task into the ring. False: this task has ended. */
static bool task_go(struct load_task *t)
{
	struct load_thread *th = t->th;
	struct load *l = th->load;

	while (!t->op->step(t)) {
		uint64_t now = now_ns();

		if (t->stage && th->counting) {
			th->ops++;
			load_hist_add(&th->hist, now - t->start_ns);
		}
		/* An operation that fails at once must not turn round for ever. */
		if (atomic_load_explicit(&l->phase, memory_order_relaxed) == LOAD_OVER ||
		    th->failure || (l->o.count && th->started >= l->o.count) ||
		    th->errors > MAX_ERRORS)
			return false;
		t->stage = 0;
		t->start_ns = now;
		th->started++;
	}
	if (t->stage == 0)
		t->start_ns = now_ns();
	t->stage++;
	if (vuc_queue_submit(th->q, t->segs, t->nout, t->nin, t) < 0) {
		th->failure = -ENOSPC;
		return false;
	}
	return true;
}

static int wait_for_replies(struct load_thread *th, unsigned int *spins)
{
	if (!th->load->o.poll)
		return vuc_queue_wait(th->q, 10000);
	vuc_queue_calls_off(th->q);
	if (++*spins % SPINS_BEFORE_YIELD == 0)
		sched_yield();
	return 0;
}

static void *thread_main(void *arg)
{
	struct load_thread *th = arg;
	unsigned int active = 0, spins = 0;

	pthread_barrier_wait(&th->load->barrier);
	watch_phase(th);
	for (unsigned int k = 0; k < th->load->o.depth; k++) {
		if (th->load->o.count && th->started >= th->load->o.count)
			break;
		th->started++;
		active += task_go(&th->tasks[k]);
	}
	vuc_queue_kick(th->q);
	while (active && !th->failure) {
		void *cookie;
		uint32_t len;
		unsigned int done = 0;
		int n = 0;

		watch_phase(th);
		/* At most a round of all tasks before the other side hears of it. */
		while (done < th->load->o.depth &&
		       (n = vuc_queue_reap(th->q, &cookie, &len)) == 1) {
			struct load_task *t = cookie;

			t->used_len = len;
			th->requests += th->counting;
			active -= !task_go(t);
			done++;
		}
		if (done) {
			vuc_queue_kick(th->q);
			continue;
		}
		th->failure = n < 0 ? n : wait_for_replies(th, &spins);
	}
	if (th->counting) {
		th->kicks = th->q->kicks - th->kicks;
		th->calls = th->q->calls - th->calls;
	}
	load_forget_flush(th);
	return NULL;
}

static void sleep_seconds(double s)
{
	struct timespec ts = { .tv_sec = (time_t)s,
			       .tv_nsec = (long)((s - (double)(time_t)s) * 1e9) };

	while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
}

static int64_t cpu_now(const struct load *l)
{
	return l->o.pid ? load_cpu_us(l->o.pid) : 0;
}

/* Times the counting phase; what tasks do after it to end is not in the figures. */
static void run_clock(struct load *l)
{
	uint64_t begin;
	int64_t cpu;

	if (!l->o.count)
		sleep_seconds(l->o.warmup);
	cpu = cpu_now(l);
	begin = now_ns();
	atomic_store(&l->phase, LOAD_COUNT);
	if (!l->o.count) {
		sleep_seconds(l->o.seconds);
		atomic_store(&l->phase, LOAD_OVER);
	} else {
		pthread_barrier_wait(&l->barrier);
		for (unsigned int i = 0; i < l->o.queues; i++)
			pthread_join(l->threads[i].thread, NULL);
	}
	l->elapsed = (double)(now_ns() - begin) / 1e9;
	l->cpu_us = l->o.pid ? cpu_now(l) - cpu : -1;
	for (unsigned int i = 0; !l->o.count && i < l->o.queues; i++)
		pthread_join(l->threads[i].thread, NULL);
}

int load_run(struct load *l)
{
	int err;

	pthread_mutex_init(&l->hiprio_lock, NULL);
	l->hiprio_free = UINT64_MAX;
	err = vuc_mem_alloc(&l->c, 0, FORGET_SLOTS * 4096u, 4096, &l->hiprio_buf);
	for (unsigned int i = 0; !err && i < l->o.queues; i++)
		err = thread_init(l, i);
	if (err) {
		fprintf(stderr, "ovfs-load: set-up: %s\n", strerror(-err));
		return err;
	}
	pthread_barrier_init(&l->barrier, NULL, l->o.queues + (l->o.count ? 1 : 0));
	atomic_store(&l->phase, LOAD_WARMUP);
	for (unsigned int i = 0; i < l->o.queues; i++)
		pthread_create(&l->threads[i].thread, NULL, thread_main, &l->threads[i]);
	run_clock(l);
	pthread_barrier_destroy(&l->barrier);
	for (unsigned int i = 0; i < l->o.queues; i++) {
		struct load_thread *th = &l->threads[i];

		if (th->failure && !err) {
			err = th->failure;
			fprintf(stderr, "ovfs-load: queue %u: %s\n", i, strerror(-err));
		}
		for (unsigned int k = 0; k < l->o.depth; k++)
			free(th->tasks[k].segs);
		free(th->tasks);
		th->tasks = NULL;
	}
	return err;
}
