/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the time of a request goes: which kind of place it is in, since when, and how long it
 * was in each.
 *
 * A request has a struct span, which whoever works on the request keeps up to date when it
 * goes from one kind of place to another; while it stays where it began, as most do, that costs
 * nothing. The thread that works on a request names its span (span_attach()), so that
 * what is called deep below, and knows of no request, can say where the time goes (span_mark()).
 *
 * The clock is the coarse one, right to some milliseconds: this is for people who look at
 * requests that take long.
 *
 * Threads: a span belongs to whom its request belongs to; span_look() is for any thread, as
 * long as the memory is there, and may see a moment that is no more.
 */
#ifndef OVFS_BASE_SPAN_H
#define OVFS_BASE_SPAN_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum span_place {
	SPAN_DRIVER,  /* somebody works on it */
	SPAN_QUEUED,  /* for a free worker */
	SPAN_STORAGE, /* for an answer of the storage, or for data that comes from it */
	SPAN_LOCK,    /* for a lock that another guest's program holds */
	SPAN_PLACES,
};

struct span {
	_Atomic uint64_t since_ns;
	_Atomic uint64_t spent_ns[SPAN_PLACES]; /* without the present place */
	_Atomic uint32_t place;
};

/* What span_look() found; the present place is counted up to now. */
struct span_times {
	enum span_place place;
	uint64_t spent_ns[SPAN_PLACES];
};

/* "driver", "queued", ... */
const char *span_place_name(enum span_place place);

/* The request began at @now_ns (loop_now_ns()). */
static inline void span_begin(struct span *span, uint64_t now_ns)
{
	atomic_store_explicit(&span->since_ns, now_ns, memory_order_relaxed);
	for (unsigned i = 0; i < SPAN_PLACES; i++)
		atomic_store_explicit(&span->spent_ns[i], 0, memory_order_relaxed);
	atomic_store_explicit(&span->place, SPAN_DRIVER, memory_order_relaxed);
}

void span_enter(struct span *span, enum span_place place);
void span_look(const struct span *span, struct span_times *out);

/* ---- The span of what this thread works on, or NULL ---- */

extern _Thread_local struct span *span_current;

static inline void span_attach(struct span *span)
{
	span_current = span;
}

/* The request is another's from here on, or over. */
static inline void span_detach(const struct span *span)
{
	if (span_current == span)
		span_current = NULL;
}

/* As span_enter() for the span of this thread. Before others may go on with the request. The place
 * before it, to be gone back to. */
static inline enum span_place span_mark(enum span_place place)
{
	enum span_place before = SPAN_DRIVER;

	if (span_current) {
		before = (enum span_place)atomic_load_explicit(&span_current->place,
							       memory_order_relaxed);
		span_enter(span_current, place);
	}
	return before;
}

#endif
