/* SPDX-License-Identifier: Apache-2.0 */
/* What is fetched ahead of whom. A cache that never forgets, and counts, stands for the real one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "cache/readahead.h"

#define KIB 1024ull
#define MIB (1024 * KIB)
#define UNIT (4 * KIB)
#define MAX_AHEAD (64 * MIB)

struct sim {
	struct cache_stream *stream;
	uint64_t size, max;
	uint8_t *cached;	 /* by units */
	uint64_t fetched;	 /* bytes */
	uint64_t twice;		 /* of these, fetched before */
	uint64_t gets;		 /* calls to fetch something */
	uint64_t misses, random; /* requests */
	uint64_t noted;		 /* of those that hit */
	uint64_t furthest;	 /* end of a plan, beyond the request's */
	uint64_t least_fetched_at_hit;
};

static struct sim sim_new(uint64_t size, uint64_t max)
{
	struct sim s = { .stream = cache_stream_new(), .size = size, .max = max };

	s.cached = calloc(size / UNIT + 2, 1);
	return s;
}

static void sim_free(struct sim *s)
{
	cache_stream_free(s->stream);
	free(s->cached);
}

static void sim_fetch(struct sim *s, uint64_t start, uint64_t end)
{
	uint64_t before = s->fetched;

	assert_true(start < end && end <= s->size);
	for (uint64_t u = start / UNIT; u * UNIT < end; u++) {
		if (s->cached[u])
			continue;
		s->cached[u] = 1;
		s->fetched += UNIT;
	}
	s->gets += s->fetched > before;
}

static bool sim_has(const struct sim *s, uint64_t offset, uint64_t end)
{
	for (uint64_t u = offset / UNIT; u * UNIT < end; u++)
		if (!s->cached[u])
			return false;
	return true;
}

/* As read.c does it. Whether the request hit. */
static bool sim_read(struct sim *s, uint64_t offset, uint64_t length)
{
	uint64_t end = MIN(offset + length, s->size);
	bool hit = sim_has(s, offset, end);
	struct readahead_plan plan;

	if (readahead_is_stray(s->stream, offset, end - offset) && hit)
		return true;
	s->noted += hit;
	readahead_next(s->stream, offset, length, s->size, s->max, &plan);
	s->random += plan.random;
	if (plan.end > plan.start) {
		assert_true(plan.end <= s->size);
		assert_true(plan.start >= offset);
		s->furthest = MAX(s->furthest, plan.end - MIN(plan.end, end));
		if (plan.start > offset)
			sim_fetch(s, plan.start, plan.end);
	}
	for (uint64_t u = offset / UNIT; u * UNIT < end; u++) {
		uint64_t from = MAX(u * UNIT, offset);

		if (s->cached[u])
			continue;
		readahead_missed(s->stream, from, MAX(end, plan.end));
		sim_fetch(s, from, MAX(end, plan.end));
		s->misses++;
		return false;
	}
	return true;
}

static void a_sequential_reader_waits_once(void **state)
{
	static const uint64_t lengths[] = { 4 * KIB, 128 * KIB, MIB };

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
		struct sim s = sim_new(1024 * MIB, MAX_AHEAD);

		for (uint64_t at = 0; at < s.size; at += lengths[i])
			sim_read(&s, at, lengths[i]);
		/* no byte is missing, and none was fetched twice (the map would not do it) */
		assert_int_equal(s.fetched, s.size);
		assert_true(s.misses <= 2);
		/* small blocks for the beginning only */
		assert_true(s.random * lengths[i] <= 512 * KIB);
		/* as far ahead as was allowed, give or take what it is rounded to */
		assert_true(s.furthest >= MAX_AHEAD && s.furthest < MAX_AHEAD + 4 * MIB);
		/* in pieces worth a GET, but several of them at a time */
		assert_true(s.gets < 100 && s.gets > 1024 / 64);
		sim_free(&s);
	}
}

/* Whoever stops early has caused a few times of what he read to be fetched, no more. */
static void fetching_ahead_is_in_proportion(void **state)
{
	(void)state;
	for (uint64_t start = 0; start <= 100 * MIB; start += 100 * MIB) {
		struct sim s = sim_new(10240 * MIB, MAX_AHEAD);

		for (uint64_t done = 0; done < 64 * MIB; done += 64 * KIB) {
			sim_read(&s, start + done, 64 * KIB);
			assert_true(s.fetched <= 4 * (done + 64 * KIB) + 512 * KIB);
		}
		sim_free(&s);
	}
}

static void random_reads_fetch_what_they_ask_for(void **state)
{
	struct sim s = sim_new(4096 * MIB, MAX_AHEAD);
	uint64_t x = 88172645463325252u, n = 10000;

	(void)state;
	for (uint64_t i = 0; i < n; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		sim_read(&s, (x >> 20) % (s.size / UNIT) * UNIT, UNIT);
	}
	assert_true(s.random > n * 99 / 100);
	assert_true(s.fetched < n * UNIT * 105 / 100);
	sim_free(&s);
}

/* Readers of one handle, each in its own part of the file, in turn, and random reads between. */
static void several_readers_are_told_apart(void **state)
{
	for (unsigned noise = 0; noise < 2; noise++) {
		struct sim s = sim_new(4096 * MIB, MAX_AHEAD);
		uint64_t x = 88172645463325252u, misses;

		(void)state;
		for (uint64_t i = 0; i < 1000; i++) {
			misses = s.misses;
			for (unsigned r = 0; r < READAHEAD_SLOTS / (1 + noise); r++)
				sim_read(&s, (1 + r * 500) * MIB + i * 128 * KIB, 128 * KIB);
			if (i > 10)
				assert_int_equal(s.misses, misses);
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			if (noise) {
				sim_read(&s, (x >> 20) % (s.size / UNIT) * UNIT, UNIT);
				sim_read(&s, (x >> 30) % (s.size / UNIT) * UNIT, UNIT);
			}
		}
		sim_free(&s);
	}
}

/* Several queues: the requests of one reader come in another order. */
static void requests_out_of_order_are_one_reader(void **state)
{
	static const unsigned order[] = { 1, 0, 3, 2, 6, 4, 5, 7 };
	struct sim s = sim_new(256 * MIB, MAX_AHEAD);

	(void)state;
	for (uint64_t i = 0; i < 2048; i++)
		sim_read(&s, (i / 8 * 8 + order[i % 8]) * 128 * KIB, 128 * KIB);
	assert_int_equal(s.fetched, s.size);
	assert_true(s.misses <= 4);
	assert_true(s.random * 128 * KIB <= MIB);
	assert_true(s.furthest >= MAX_AHEAD);
	sim_free(&s);
}

static void small_seeks_do_not_end_a_stream(void **state)
{
	struct sim s = sim_new(1024 * MIB, MAX_AHEAD);
	uint64_t at = 0, misses, random;

	(void)state;
	for (; at < 64 * MIB; at += 128 * KIB)
		sim_read(&s, at, 128 * KIB);
	misses = s.misses;
	random = s.random;
	for (unsigned i = 0; i < 100; i++) {
		/* back a bit and again, then onward over a hole */
		assert_true(sim_read(&s, at - 512 * KIB, 128 * KIB));
		assert_true(sim_read(&s, at, 128 * KIB));
		at += 128 * KIB + 256 * KIB;
	}
	assert_int_equal(s.misses, misses);
	assert_int_equal(s.random, random);
	sim_free(&s);
}

/* Who is faster than the storage, or far away, is fetched more at a time: fewer round trips. */
static void who_waits_for_his_window_gets_a_larger_one(void **state)
{
	uint64_t fetched[2];

	(void)state;
	for (unsigned waits = 0; waits < 2; waits++) {
		struct sim s = sim_new(64 * MIB, MAX_AHEAD);

		for (uint64_t at = 0; at < 8 * MIB; at += MIB) {
			if (sim_read(&s, at, MIB) && waits)
				readahead_waited(s.stream, at);
			assert_true(s.furthest <= (waits ? 5 : 3) * (at + MIB) + MIB);
		}
		fetched[waits] = s.fetched;
		sim_free(&s);
	}
	assert_true(fetched[1] >= fetched[0] * 3 / 2);
}

/* What is cached already costs nothing: no plan that makes the caller take a lock. */
static void hits_are_left_alone(void **state)
{
	struct sim s = sim_new(64 * MIB, MAX_AHEAD);
	struct readahead_plan plan;

	(void)state;
	for (uint64_t at = 0; at < s.size; at += 128 * KIB) {
		readahead_next(s.stream, at, 128 * KIB, s.size, s.max, &plan);
		assert_true(plan.start <= at);
		assert_true(at < MIB || !plan.random);
	}
	sim_free(&s);
	/* the second half is not: begun with the first miss, with a full window */
	s = sim_new(256 * MIB, MAX_AHEAD);
	sim_fetch(&s, 0, 128 * MIB);
	for (uint64_t at = 0; at < s.size; at += 128 * KIB)
		sim_read(&s, at, 128 * KIB);
	assert_int_equal(s.misses, 1);
	assert_true(s.furthest >= MAX_AHEAD);
	sim_free(&s);
}

static void small_files_are_fetched_whole(void **state)
{
	struct sim s = sim_new(3 * UNIT, MAX_AHEAD);

	(void)state;
	sim_read(&s, 0, UNIT);
	assert_int_equal(s.fetched, s.size);
	assert_int_equal(s.gets, 1);
	sim_free(&s);
	s = sim_new(MIB, MAX_AHEAD);
	sim_read(&s, 0, 128 * KIB);
	assert_int_equal(s.fetched, s.size);
	sim_free(&s);
	s = sim_new(MIB, MAX_AHEAD);
	sim_read(&s, 512 * KIB, UNIT);
	assert_int_equal(s.fetched, UNIT);
	assert_int_equal(s.random, 1);
	sim_free(&s);
}

static void nothing_is_fetched_ahead_when_that_is_off(void **state)
{
	struct sim s = sim_new(64 * MIB, 0);

	(void)state;
	for (uint64_t at = 0; at < s.size; at += 128 * KIB) {
		sim_read(&s, at, 128 * KIB);
		assert_int_equal(s.fetched, at + 128 * KIB);
	}
	assert_true(s.random * 128 * KIB <= 512 * KIB);
	sim_free(&s);
}

/* A pool that holds less than a window: what was fetched ahead is gone again. */
static void short_memory_shortens_the_window(void **state)
{
	struct sim s = sim_new(1024 * MIB, MAX_AHEAD);
	const uint64_t room = 8 * MIB;
	uint64_t at = 0, fetched, late = 0;

	(void)state;
	for (; at < s.size; at += 128 * KIB) {
		sim_read(&s, at, 128 * KIB);
		/* beyond room nothing stays */
		if (at + room < s.size)
			memset(s.cached + (at + room) / UNIT, 0, (s.size - at - room) / UNIT);
		fetched = s.fetched;
		if (at == s.size / 4)
			late = fetched;
	}
	print_message("# fetched %.2f times, %ju of %ju requests waited\n",
		      (double)(s.fetched - late) / (double)(s.size - s.size / 4),
		      (uintmax_t)s.misses, (uintmax_t)(s.size / (128 * KIB)));
	/* In the steady state the window is about what there is room for: little is fetched
	 * that is dropped, and the reader seldom waits. */
	assert_true(s.fetched - late < (s.size - s.size / 4) * 2);
	assert_true(s.misses < s.size / (128 * KIB) / 8);
	sim_free(&s);
}

static void random_hits_are_not_noted(void **state)
{
	struct sim s = sim_new(1024 * MIB, MAX_AHEAD);

	(void)state;
	sim_fetch(&s, 0, s.size / 2);
	s.fetched = 0;
	for (uint64_t i = 1; i < 512; i++)
		assert_true(sim_read(&s, i * 37 % 512 * MIB, 4 * KIB));
	/* the first byte of the file, once, and who comes near to whom that might be */
	assert_true(s.noted <= 4);
	assert_int_equal(s.fetched, 0);
	/* what misses is, as ever */
	assert_false(sim_read(&s, 700 * MIB, 4 * KIB));
	assert_false(sim_read(&s, 700 * MIB + 4 * KIB, 4 * KIB));
	assert_true(s.fetched > 8 * KIB);
	sim_free(&s);
}

/* Where what is cached ends, he has been known for long. */
static void a_reader_of_cached_data_is_noted(void **state)
{
	struct sim s = sim_new(1024 * MIB, MAX_AHEAD);
	uint64_t at = 16 * MIB + 4 * KIB;

	(void)state;
	sim_fetch(&s, 0, 64 * MIB);
	s.gets = s.fetched = 0;
	assert_true(sim_read(&s, at, 128 * KIB));
	assert_int_equal(s.noted, 0);
	for (at += 128 * KIB; at + 128 * KIB <= 64 * MIB; at += 128 * KIB)
		assert_true(sim_read(&s, at, 128 * KIB));
	assert_true(s.noted >= 48 * MIB / (128 * KIB) - 3);
	assert_int_equal(s.misses, 0);
	sim_read(&s, at, 128 * KIB);
	assert_true(s.furthest >= MAX_AHEAD / 2);
	for (at += 128 * KIB; at < s.size; at += 128 * KIB)
		sim_read(&s, at, 128 * KIB);
	assert_true(s.misses <= 2);
	sim_free(&s);
}

static void no_offset_is_too_large(void **state)
{
	struct cache_stream *stream = cache_stream_new();
	struct readahead_plan plan;

	(void)state;
	for (unsigned shift = 0; shift < 64; shift++) {
		uint64_t at = UINT64_MAX >> shift;

		for (unsigned k = 0; k < 4; k++) {
			readahead_next(stream, at - 4096 * k, UINT64_MAX, UINT64_MAX, UINT64_MAX,
				       &plan);
			readahead_missed(stream, at, UINT64_MAX);
			readahead_is_stray(stream, at - 4096 * k, UINT64_MAX);
			readahead_is_stray(stream, at, 4096 * k);
			readahead_next(stream, at, 4096 * k, at, UINT64_MAX, &plan);
			assert_int_equal(plan.start, plan.end);
			readahead_next(stream, at / 2, 4096 * k, at, 64 * MIB, &plan);
			assert_true(plan.end <= at);
		}
	}
	cache_stream_free(stream);
	cache_stream_free(NULL);
}

static void *read_a_part(void *arg)
{
	struct cache_stream *stream = arg;
	struct readahead_plan plan;

	for (uint64_t at = 0; at < 2048 * MIB; at += 128 * KIB) {
		readahead_is_stray(stream, 2048 * MIB - at, 4 * KIB);
		readahead_next(stream, at, 128 * KIB, 2048 * MIB, MAX_AHEAD, &plan);
		if (plan.end > plan.start)
			readahead_missed(stream, at, plan.end);
	}
	return NULL;
}

static void threads_may_share_a_handle(void **state)
{
	struct cache_stream *stream = cache_stream_new();
	pthread_t threads[4];

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_a_part, stream), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	cache_stream_free(stream);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_sequential_reader_waits_once),
		cmocka_unit_test(fetching_ahead_is_in_proportion),
		cmocka_unit_test(random_reads_fetch_what_they_ask_for),
		cmocka_unit_test(several_readers_are_told_apart),
		cmocka_unit_test(requests_out_of_order_are_one_reader),
		cmocka_unit_test(small_seeks_do_not_end_a_stream),
		cmocka_unit_test(who_waits_for_his_window_gets_a_larger_one),
		cmocka_unit_test(hits_are_left_alone),
		cmocka_unit_test(random_hits_are_not_noted),
		cmocka_unit_test(a_reader_of_cached_data_is_noted),
		cmocka_unit_test(small_files_are_fetched_whole),
		cmocka_unit_test(nothing_is_fetched_ahead_when_that_is_off),
		cmocka_unit_test(short_memory_shortens_the_window),
		cmocka_unit_test(no_offset_is_too_large),
		cmocka_unit_test(threads_may_share_a_handle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
