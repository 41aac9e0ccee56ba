/* SPDX-License-Identifier: Apache-2.0 */
#include "base/counter.h"

#include <pthread.h>
#include <stdbool.h>

_Thread_local unsigned counter_slot_of_thread;

/* A bit for each slot that a living thread has. */
static _Atomic uint64_t taken;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static bool have_key;

/* The thread ends: the next one that takes the slot goes on from what it sees there. */
static void slot_release(void *value)
{
	unsigned slot = (unsigned)(uintptr_t)value - 1;

	/* Other destructors may count still. */
	counter_slot_of_thread = COUNTER_SLOT_SHARED + 1;
	atomic_fetch_and_explicit(&taken, ~(1ull << slot), memory_order_release);
}

static void slots_init(void)
{
	have_key = pthread_key_create(&key, slot_release) == 0;
}

unsigned counter_slot_take(void)
{
	uint64_t map = atomic_load_explicit(&taken, memory_order_relaxed);
	unsigned slot;

	pthread_once(&once, slots_init);
	do {
		slot = ~map ? (unsigned)__builtin_ctzll(~map) : COUNTER_SLOT_SHARED;
		if (slot >= COUNTER_SLOT_SHARED || !have_key) {
			counter_slot_of_thread = COUNTER_SLOT_SHARED + 1;
			return COUNTER_SLOT_SHARED;
		}
	} while (!atomic_compare_exchange_weak_explicit(
		&taken, &map, map | 1ull << slot, memory_order_acquire, memory_order_relaxed));
	counter_slot_of_thread = slot + 1;
	if (pthread_setspecific(key, (void *)(uintptr_t)(slot + 1)) != 0) {
		/* It would never come back. */
		slot_release((void *)(uintptr_t)(slot + 1));
		return COUNTER_SLOT_SHARED;
	}
	return slot;
}
