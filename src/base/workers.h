/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bounded pool of worker threads for what may block.
 *
 * Work items are embedded in the requests they belong to, so that submitting
 * allocates nothing and the queue is bounded by the requests in flight. Each
 * mount has its own pool: a dead storage that holds every worker of one mount
 * leaves the others alone. Threads start on demand, up to the limit.
 */
#ifndef OVFS_BASE_WORKERS_H
#define OVFS_BASE_WORKERS_H

#include "base/err.h"

struct workers;

struct work {
	struct work *next;
	void (*run)(struct work *work); /* owns the item from here on */
};

/* @name: thread name prefix, copied. @max_threads >= 1. */
struct err *workers_new(struct workers **out, const char *name, unsigned max_threads);

/* Queues @work; it runs on some worker. Never blocks, never fails. Any thread. */
void workers_submit(struct workers *workers, struct work *work);

/* Runs what is queued, then joins the threads. No submits may be under way. */
void workers_free(struct workers *workers);

#endif
