/* SPDX-License-Identifier: Apache-2.0 */
#include "base/span.h"

#include <time.h>

#include "base/util.h"

static const char *const place_names[] = {
	[SPAN_DRIVER] = "driver",
	[SPAN_QUEUED] = "queued",
	[SPAN_STORAGE] = "storage",
	[SPAN_LOCK] = "lock",
};
_Static_assert(ARRAY_SIZE(place_names) == SPAN_PLACES, "one name for each place");

_Thread_local struct span *span_current;

const char *span_place_name(enum span_place place)
{
	return place < SPAN_PLACES ? place_names[place] : "unknown";
}

static uint64_t span_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* The coarse clock lags behind the other, with which the span began. */
static uint64_t span_since(uint64_t now_ns, uint64_t since_ns)
{
	return now_ns > since_ns ? now_ns - since_ns : 0;
}

void span_enter(struct span *span, enum span_place place)
{
	uint32_t from = atomic_load_explicit(&span->place, memory_order_relaxed);
	uint64_t since = atomic_load_explicit(&span->since_ns, memory_order_relaxed);
	uint64_t now = span_now_ns();
	uint64_t spent = atomic_load_explicit(&span->spent_ns[from], memory_order_relaxed);

	atomic_store_explicit(&span->spent_ns[from], spent + span_since(now, since),
			      memory_order_relaxed);
	atomic_store_explicit(&span->since_ns, MAX(now, since), memory_order_relaxed);
	atomic_store_explicit(&span->place, place, memory_order_relaxed);
}

void span_look(const struct span *span, struct span_times *out)
{
	uint32_t place = atomic_load_explicit(&span->place, memory_order_relaxed);

	/* Of a request that is being begun: any value. */
	out->place = place < SPAN_PLACES ? (enum span_place)place : SPAN_DRIVER;
	for (unsigned i = 0; i < SPAN_PLACES; i++)
		out->spent_ns[i] = atomic_load_explicit(&span->spent_ns[i], memory_order_relaxed);
	out->spent_ns[out->place] += span_since(
		span_now_ns(), atomic_load_explicit(&span->since_ns, memory_order_relaxed));
}
