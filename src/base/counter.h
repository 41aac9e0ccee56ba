/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counters for hot paths: each thread counts in cells of its own, readers add the cells up.
 *
 * A module that counts keeps COUNTER_SLOTS copies of its counters, each on cache lines of its own,
 * and uses that of counter_slot(). The first COUNTER_SLOTS - 1 threads have a slot to themselves
 * (until they end), where adding is a plain load and store; all others share the last one, where
 * it is an atomic addition. Readers, of any thread, see each counter whole and never falling.
 */
#ifndef OVFS_BASE_COUNTER_H
#define OVFS_BASE_COUNTER_H

#include <stdatomic.h>
#include <stdint.h>

#define COUNTER_SLOTS 64u
#define COUNTER_SLOT_SHARED (COUNTER_SLOTS - 1)
#define COUNTER_LINE 64 /* bytes: slots begin at multiples of it */

typedef _Atomic uint64_t counter;

extern _Thread_local unsigned counter_slot_of_thread; /* plus one; 0: none yet */
unsigned counter_slot_take(void);

/* The slot of this thread. */
static inline unsigned counter_slot(void)
{
	unsigned slot = counter_slot_of_thread;

	return __builtin_expect(slot != 0, 1) ? slot - 1 : counter_slot_take();
}

/* @slot: where @c lies, that of this thread. */
static inline void counter_add(counter *c, uint64_t n, unsigned slot)
{
	if (__builtin_expect(slot == COUNTER_SLOT_SHARED, 0)) {
		atomic_fetch_add_explicit(c, n, memory_order_relaxed);
		return;
	}
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

static inline uint64_t counter_get(const counter *c)
{
	return atomic_load_explicit(c, memory_order_relaxed);
}

/* ---- Histograms of latencies, by powers of two ---- */

#define HISTOGRAM_BUCKETS 28u
#define HISTOGRAM_FIRST_SHIFT 10 /* 2^10 ns, "1 us" */

/* Bucket i counts what is below histogram_bound_ns(i) and not below that of i - 1. About 1 us
 * for the first, twice as much for each next, up to 69 s; UINT64_MAX for the last. */
static inline uint64_t histogram_bound_ns(unsigned bucket)
{
	return bucket < HISTOGRAM_BUCKETS - 1 ? 1ull << (HISTOGRAM_FIRST_SHIFT + bucket)
					      : UINT64_MAX;
}

static inline unsigned histogram_bucket(uint64_t ns)
{
	uint64_t above = ns >> HISTOGRAM_FIRST_SHIFT;
	unsigned bucket = above ? 64 - (unsigned)__builtin_clzll(above) : 0;

	return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

#endif
