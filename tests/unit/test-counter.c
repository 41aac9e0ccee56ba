/* SPDX-License-Identifier: Apache-2.0 */
/* Counters of many threads, histograms, and where the time of a request goes. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/counter.h"
#include "base/loop.h"
#include "base/span.h"
#include "base/util.h"

#define THREADS 100u
#define ADDS 20000u

static struct {
	_Alignas(COUNTER_LINE) counter value;
} cells[COUNTER_SLOTS];
static pthread_barrier_t barrier;
static _Atomic unsigned owners[COUNTER_SLOTS];

static void *count_many(void *arg)
{
	unsigned slot = counter_slot();

	(void)arg;
	atomic_fetch_add(&owners[slot], 1);
	pthread_barrier_wait(&barrier); /* all have one now */
	for (unsigned i = 0; i < ADDS; i++) {
		unsigned mine = counter_slot();

		if (mine != slot)
			return NULL;
		counter_add(&cells[mine].value, 1, mine);
	}
	return (void *)1;
}

static void test_slots(void **state)
{
	(void)state;
	counter_slot(); /* this thread has one for itself, too */
	for (unsigned round = 1; round <= 3; round++) {
		pthread_t thread[THREADS];
		uint64_t sum = 0;

		memset(owners, 0, sizeof(owners));
		assert_int_equal(pthread_barrier_init(&barrier, NULL, THREADS), 0);
		for (unsigned i = 0; i < THREADS; i++)
			assert_int_equal(pthread_create(&thread[i], NULL, count_many, NULL), 0);
		for (unsigned i = 0; i < THREADS; i++) {
			void *same;

			pthread_join(thread[i], &same);
			assert_non_null(same);
		}
		pthread_barrier_destroy(&barrier);
		/* Those that ended gave theirs back: it is the same in each round. */
		for (unsigned i = 0; i < COUNTER_SLOT_SHARED; i++)
			assert_int_equal(owners[i], i != counter_slot());
		assert_int_equal(owners[COUNTER_SLOT_SHARED], THREADS - (COUNTER_SLOT_SHARED - 1));
		for (unsigned i = 0; i < COUNTER_SLOTS; i++)
			sum += counter_get(&cells[i].value);
		assert_int_equal(sum, (uint64_t)round * THREADS * ADDS);
	}
}

static void test_histogram(void **state)
{
	(void)state;
	assert_int_equal(histogram_bucket(0), 0);
	assert_int_equal(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
	assert_int_equal(histogram_bound_ns(0), 1024);
	assert_int_equal(histogram_bound_ns(HISTOGRAM_BUCKETS - 1), UINT64_MAX);
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
		uint64_t bound = histogram_bound_ns(i);

		assert_int_equal(histogram_bucket(bound - 1), i);
		assert_int_equal(histogram_bucket(bound), i + 1);
	}
	/* A minute is told from more. */
	assert_true(histogram_bound_ns(HISTOGRAM_BUCKETS - 2) > 60000000000ull);
}

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){ .tv_nsec = ms * 1000000 }, NULL);
}

static void test_span(void **state)
{
	struct span_times t;
	struct span span;
	uint64_t begun;

	(void)state;
	memset(&span, 0xa5, sizeof(span)); /* what was there does not matter */
	begun = loop_now_ns();
	assert_int_equal(loop_last_ns(), begun);
	span_begin(&span, begun);
	span_look(&span, &t);
	assert_int_equal(t.place, SPAN_DRIVER);
	for (unsigned i = 1; i < SPAN_PLACES; i++)
		assert_int_equal(t.spent_ns[i], 0);

	span_mark(SPAN_STORAGE); /* of no request: nothing happens */
	span_attach(&span);
	span_mark(SPAN_STORAGE);
	pause_ms(60);
	span_look(&span, &t);
	assert_int_equal(t.place, SPAN_STORAGE);
	assert_true(t.spent_ns[SPAN_STORAGE] >= 50000000);
	span_mark(SPAN_DRIVER);
	pause_ms(30);
	span_detach(&(struct span){ 0 }); /* another's */
	span_mark(SPAN_QUEUED);
	span_detach(&span);
	span_mark(SPAN_LOCK);
	span_look(&span, &t);
	assert_int_equal(t.place, SPAN_QUEUED);
	assert_true(t.spent_ns[SPAN_DRIVER] >= 20000000);
	assert_int_equal(t.spent_ns[SPAN_LOCK], 0);
	for (unsigned i = 0; i < SPAN_PLACES; i++)
		assert_true(strcmp(span_place_name((enum span_place)i), "unknown") != 0);
	assert_string_equal(span_place_name(SPAN_PLACES), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slots),
		cmocka_unit_test(test_histogram),
		cmocka_unit_test(test_span),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
