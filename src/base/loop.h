/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An event loop on epoll: file descriptors, timers, and tasks posted by other
 * threads. One loop belongs to one thread, the one inside loop_run().
 *
 * All entries are embedded in their owners; the loop allocates nothing after
 * loop_new(). Only loop_post(), loop_call(), loop_stop() may be called from other threads
 * (or before loop_run() from the creator, who may call everything).
 */
#ifndef OVFS_BASE_LOOP_H
#define OVFS_BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"

struct loop;

/* @events as epoll(7) reports them. The callback may remove any entry. */
struct loop_fd {
	int fd;
	void (*ready)(struct loop_fd *entry, uint32_t events);
};

struct loop_timer {
	struct list link; /* self-linked when not armed */
	uint64_t deadline_ns;
	void (*expired)(struct loop_timer *timer); /* disarmed before the call */
};

struct loop_task {
	struct loop_task *next;
	void (*run)(struct loop_task *task); /* owns the task from here on */
};

struct err *loop_new(struct loop **out);
void loop_free(struct loop *loop);

/* Runs until loop_stop(). */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* Watches @fd for @events (EPOLLIN, EPOLLET, ...); @fd stays the caller's.
 * Negative errno on failure. */
int loop_fd_add(struct loop *loop, struct loop_fd *entry, int fd, uint32_t events,
		void (*ready)(struct loop_fd *entry, uint32_t events));
int loop_fd_modify(struct loop *loop, struct loop_fd *entry, uint32_t events);

/* Call before closing the descriptor. No callback for @entry runs after it. */
void loop_fd_remove(struct loop *loop, struct loop_fd *entry);

void loop_timer_init(struct loop_timer *timer, void (*expired)(struct loop_timer *timer));
/* (Re)arms @timer to expire @delay_ns from now. */
void loop_timer_arm(struct loop *loop, struct loop_timer *timer, uint64_t delay_ns);
void loop_timer_disarm(struct loop_timer *timer);

/* Runs @task on the loop's thread, in the order of posting. Any thread. Tasks
 * posted after loop_stop() are run by loop_free(). */
void loop_post(struct loop *loop, struct loop_task *task);

/* Runs @run(@arg) on the loop's thread, as a task, and waits for it. The loop runs; not from its
 * own thread. */
void loop_call(struct loop *loop, void (*run)(void *arg), void *arg);

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t loop_now_ns(void);

/* What loop_now_ns() said last on this thread; 0: it was not asked. */
uint64_t loop_last_ns(void);

#endif
