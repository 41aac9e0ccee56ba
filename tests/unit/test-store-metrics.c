/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics count what goes through a place of a stack. */
#include "store-fixture.h"

#include "store/layers/fault.h"
#include "store/layers/metrics.h"
#include "store/layers/retry.h"

static void operations_are_counted_by_kind_and_result(void **state)
{
	struct env env;
	struct store_metrics_opcode m;
	struct env_list list = { 0 };
	char buf[16];

	(void)state;
	env_memory(&env, NULL);
	env_push(&env, store_metrics_new(&env.top, env.top));
	env_run(&env);
	env_put(&env, "k", "0123456789", 10);
	env_put(&env, "l", "01234", 5);
	env_put_if(&env, "k", "x", 1, NULL, true, NULL);
	env_read(&env, "k", 4, buf, 16, NULL, NULL);
	env_read(&env, "k", 10, buf, 16, NULL, NULL);
	env_read(&env, "absent", 0, buf, 16, NULL, NULL);
	env_read(&env, "k", 0, buf, 16, "\"old\"", NULL);
	env_list_text(&env, &list);

	store_metrics_read(env.top, STORE_PUT, &m);
	assert_int_equal(m.results[STORE_METRICS_OK].count, 2);
	assert_int_equal(m.results[STORE_METRICS_CONDITION].count, 1);
	assert_int_equal(m.bytes_written, 15);
	assert_int_equal(m.requests, 3);
	store_metrics_read(env.top, STORE_READ, &m);
	assert_int_equal(m.results[STORE_METRICS_OK].count, 1);
	assert_int_equal(m.results[STORE_METRICS_ABSENT].count, 2);
	assert_int_equal(m.results[STORE_METRICS_CONDITION].count, 1);
	assert_int_equal(m.bytes_read, 6);
	store_metrics_read(env.top, STORE_LIST, &m);
	assert_int_equal(m.entries, 2);
	store_metrics_read(env.top, STORE_STAT, &m);
	for (unsigned r = 0; r < STORE_METRICS_RESULTS; r++)
		assert_int_equal(m.results[r].count, 0);
	assert_int_equal(store_metrics_requests(env.top), 8);
	env_end(&env);
}

/* In which result an error is counted. */
static void errors_have_their_results(void **state)
{
	static const struct {
		int error;
		enum store_metrics_result result;
	} cases[] = {
		{ 0, STORE_METRICS_OK },
		{ -ENOENT, STORE_METRICS_ABSENT },
		{ -ERANGE, STORE_METRICS_ABSENT },
		{ -ESTALE, STORE_METRICS_CONDITION },
		{ -EEXIST, STORE_METRICS_CONDITION },
		{ -EACCES, STORE_METRICS_REFUSED },
		{ -EAGAIN, STORE_METRICS_SLOW_DOWN },
		{ -ETIMEDOUT, STORE_METRICS_TIMEOUT },
		{ -ECANCELED, STORE_METRICS_CANCELLED },
		{ -EIO, STORE_METRICS_ERROR },
		{ -ENOSPC, STORE_METRICS_ERROR },
	};
	struct env env;
	struct call call = { .op = { .opcode = STORE_STAT, .key = "k" } };
	struct store_metrics_opcode before, after;

	(void)state;
	env_hold(&env);
	env_push(&env, store_metrics_new(&env.top, env.top));
	env_run(&env);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		store_metrics_read(env.top, STORE_STAT, &before);
		call_submit(&env, &call);
		hold_wait(&env, 1);
		store_metrics_read(env.top, STORE_STAT, &after);
		assert_int_equal(after.in_flight, 1);
		hold_release(&env, cases[i].error);
		call_wait(&call);
		store_metrics_read(env.top, STORE_STAT, &after);
		assert_int_equal(after.in_flight, 0);
		for (unsigned r = 0; r < STORE_METRICS_RESULTS; r++)
			assert_int_equal(after.results[r].count - before.results[r].count,
					 r == cases[i].result);
	}
	env_end(&env);
}

static void latencies_fall_into_their_buckets(void **state)
{
	struct env env;
	struct call call = { .op = { .opcode = STORE_STAT, .key = "k" } };
	struct store_metrics_opcode m;
	const struct store_metrics_cell *cell = &m.results[STORE_METRICS_OK];
	unsigned bucket = 0;
	uint64_t start, longest;

	(void)state;
	assert_int_equal(store_metrics_bound_ns(0), 32768);
	assert_int_equal(store_metrics_bound_ns(STORE_METRICS_BUCKETS - 1), UINT64_MAX);
	for (unsigned i = 1; i < STORE_METRICS_BUCKETS; i++)
		assert_true(store_metrics_bound_ns(i) > store_metrics_bound_ns(i - 1));
	env_hold(&env);
	env_push(&env, store_metrics_new(&env.top, env.top));
	env_run(&env);
	start = loop_now_ns();
	call_submit(&env, &call);
	hold_wait(&env, 1);
	sleep_ms(70);
	hold_release(&env, 0);
	call_wait(&call);
	longest = loop_now_ns() - start;
	store_metrics_read(env.top, STORE_STAT, &m);
	while (bucket < STORE_METRICS_BUCKETS && !cell->buckets[bucket])
		bucket++;
	assert_int_equal(cell->buckets[bucket], 1);
	assert_true(store_metrics_bound_ns(bucket) > 70 * MSEC);
	assert_true(store_metrics_bound_ns(bucket - 1) <= longest);
	assert_in_range(cell->latency_ns, 70 * MSEC, longest);
	env_end(&env);
}

static void attempts_are_seen_below_retry(void **state)
{
	static const struct store_retry_options retries = { .attempts_max = 9,
							    .pause_first_ns = 1,
							    .pause_max_ns = 1 };
	static const struct store_fault lost = { .lost_permille = 1000, .count = 3 };
	struct env env;
	struct store *fault, *below, *above;
	struct store_metrics_opcode m;

	(void)state;
	env_memory(&env, NULL);
	env_push(&env, store_fault_new(&env.top, env.top, 1));
	fault = env.top;
	env_push(&env, store_metrics_new(&env.top, env.top));
	below = env.top;
	env_push(&env, store_retry_new(&env.top, env.top, &retries));
	env_push(&env, store_metrics_new(&env.top, env.top));
	above = env.top;
	env_run(&env);
	store_fault_set(fault, STORE_FAULT_ALL, &lost);
	assert_int_equal(env_put(&env, "k", "0123456789", 10), 0);
	store_metrics_read(above, STORE_PUT, &m);
	assert_int_equal(m.results[STORE_METRICS_OK].count, 1);
	assert_int_equal(m.results[STORE_METRICS_ERROR].count, 0);
	assert_int_equal(m.requests, 4);
	assert_int_equal(m.bytes_written, 10);
	store_metrics_read(below, STORE_PUT, &m);
	assert_int_equal(m.results[STORE_METRICS_OK].count, 1);
	assert_int_equal(m.results[STORE_METRICS_ERROR].count, 3);
	assert_int_equal(m.requests, 4);
	env_end(&env);
}

static void *read_all_the_time(void *arg)
{
	struct env *env = arg;
	struct store_metrics_opcode m;
	uint64_t last = 0;

	do {
		store_metrics_read(env->top, STORE_STAT, &m);
		if (m.results[STORE_METRICS_ABSENT].count < last)
			return env;
		last = m.results[STORE_METRICS_ABSENT].count;
	} while (last < 3000);
	return NULL;
}

static void any_thread_reads_them(void **state)
{
	struct env env;
	pthread_t reader;
	void *failed;

	(void)state;
	env_memory(&env, NULL);
	env_push(&env, store_metrics_new(&env.top, env.top));
	env_run(&env);
	assert_int_equal(pthread_create(&reader, NULL, read_all_the_time, &env), 0);
	for (int i = 0; i < 3000; i++)
		env_stat(&env, "k", NULL);
	pthread_join(reader, &failed);
	assert_null(failed);
	env_end(&env);
}

static void results_have_names(void **state)
{
	(void)state;
	for (enum store_metrics_result i = 0; i < STORE_METRICS_RESULTS; i++) {
		for (enum store_metrics_result j = 0; j < i; j++)
			assert_string_not_equal(store_metrics_result_name(i),
						store_metrics_result_name(j));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(operations_are_counted_by_kind_and_result),
		cmocka_unit_test(errors_have_their_results),
		cmocka_unit_test(latencies_fall_into_their_buckets),
		cmocka_unit_test(attempts_are_seen_below_retry),
		cmocka_unit_test(any_thread_reads_them),
		cmocka_unit_test(results_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
