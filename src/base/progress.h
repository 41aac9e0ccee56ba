/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What takes long, and how far it is: a drain, the rename of a large directory.
 *
 * Who does it has a struct progress, usually on his stack, from progress_begin() to progress_end(),
 * and keeps the numbers up to date. Who is curious (the log, ovfsctl) looks at all there are.
 *
 * Threads: any. progress_add() and the like are atomic; begin and end take a lock, for moments.
 */
#ifndef OVFS_BASE_PROGRESS_H
#define OVFS_BASE_PROGRESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/util.h"

#define PROGRESS_SUBJECT_MAX 256 /* bytes with the NUL; longer ones are cut */

struct progress {
	struct list link;
	const char *task; /* "drain", "rename"; a constant */
	const char *unit; /* "files", "objects"; a constant */
	char subject[PROGRESS_SUBJECT_MAX];
	uint64_t started_ns, logged_ns; /* loop_now_ns() */
	_Atomic uint64_t done, total;	/* total 0: not known */
};

void progress_begin(struct progress *progress, const char *task, const char *unit,
		    const char *subject, ...) PRINTF_LIKE(4, 5);
void progress_end(struct progress *progress);

static inline void progress_add(struct progress *progress, uint64_t n)
{
	atomic_fetch_add_explicit(&progress->done, n, memory_order_relaxed);
}

static inline void progress_set(struct progress *progress, uint64_t done, uint64_t total)
{
	atomic_store_explicit(&progress->total, total, memory_order_relaxed);
	atomic_store_explicit(&progress->done, done, memory_order_relaxed);
}

/* What one looked like. */
struct progress_view {
	const char *task, *unit;
	char subject[PROGRESS_SUBJECT_MAX];
	uint64_t age_ns, done, total;
};

/* The first @max, the oldest first; how many. */
unsigned progress_list(struct progress_view *out, unsigned max);

/* Logs each that is under way for @every_ns, and again when that time has passed. */
void progress_log(uint64_t every_ns);

#endif
