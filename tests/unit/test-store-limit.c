/* SPDX-License-Identifier: Apache-2.0 */
/* The concurrency limit bounds what is below it, first come, first served. */
#include "store-fixture.h"

#include "store/layers/fault.h"
#include "store/layers/limit.h"

static const struct store_limit_options two_and_one = { .in_flight_max = { 2, 1 } };

static void wait_queued(struct store *limit, enum store_limit_class class, unsigned queued)
{
	for (int ms = 0; store_limit_usage(limit, class).queued != queued; ms++) {
		assert_true(ms < 10000);
		sleep_ms(1);
	}
}

static void no_more_than_the_limit_are_in_flight(void **state)
{
	struct env env;
	struct call calls[6];
	char buf[4];

	(void)state;
	env_hold(&env);
	env_push(&env, store_limit_new(&env.top, env.top, &two_and_one));
	env_run(&env);
	for (unsigned i = 0; i < 6; i++) {
		calls[i] = (struct call){ .op = { .opcode = STORE_READ, .key = "k" } };
		call_body(&calls[i], buf, 4);
		call_submit(&env, &calls[i]);
	}
	wait_queued(env.top, STORE_LIMIT_DATA, 4);
	assert_int_equal(hold_count(&env), 2);
	assert_int_equal(store_limit_usage(env.top, STORE_LIMIT_DATA).in_flight, 2);
	for (unsigned i = 0; i < 6; i++) {
		/* in the order of arrival, failed or not */
		hold_release(&env, i % 2 ? -EIO : 0);
		assert_int_equal(call_wait(&calls[i]), i % 2 ? -EIO : 0);
	}
	assert_int_equal(hold_total(&env), 6);
	assert_int_equal(hold_peak(&env), 2);
	assert_int_equal(store_limit_usage(env.top, STORE_LIMIT_DATA).in_flight, 0);
	env_end(&env);
}

static void metadata_does_not_wait_for_data(void **state)
{
	struct env env;
	struct call reads[3], stats[2];
	char buf[4];

	(void)state;
	env_hold(&env);
	env_push(&env, store_limit_new(&env.top, env.top, &two_and_one));
	env_run(&env);
	for (unsigned i = 0; i < 3; i++) {
		reads[i] = (struct call){ .op = { .opcode = STORE_READ, .key = "k" } };
		call_body(&reads[i], buf, 4);
		call_submit(&env, &reads[i]);
	}
	for (unsigned i = 0; i < 2; i++) {
		stats[i] = (struct call){ .op = { .opcode = STORE_STAT, .key = "k" } };
		call_submit(&env, &stats[i]);
	}
	wait_queued(env.top, STORE_LIMIT_METADATA, 1);
	hold_wait(&env, 3);
	assert_int_equal(store_limit_usage(env.top, STORE_LIMIT_DATA).queued, 1);
	for (unsigned i = 0; i < 5; i++)
		hold_release(&env, 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(call_wait(&reads[i]), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(call_wait(&stats[i]), 0);
	env_end(&env);
}

static void a_cancelled_one_leaves_the_queue(void **state)
{
	struct env env;
	struct call calls[3];

	(void)state;
	env_hold(&env);
	env_push(&env, store_limit_new(&env.top, env.top, &two_and_one));
	env_run(&env);
	for (unsigned i = 0; i < 3; i++) {
		calls[i] = (struct call){ .op = { .opcode = STORE_STAT, .key = "k" } };
		call_submit(&env, &calls[i]);
	}
	wait_queued(env.top, STORE_LIMIT_METADATA, 2);
	store_cancel(&calls[1].op);
	assert_int_equal(call_wait(&calls[1]), -ECANCELED);
	assert_int_equal(calls[1].op.attempts, 0);
	/* one in flight makes room */
	store_cancel(&calls[0].op);
	assert_int_equal(call_wait(&calls[0]), -ECANCELED);
	hold_wait(&env, 1);
	hold_release(&env, -ENOENT);
	assert_int_equal(call_wait(&calls[2]), -ENOENT);
	assert_int_equal(store_limit_usage(env.top, STORE_LIMIT_METADATA).queued, 0);
	assert_int_equal(store_limit_usage(env.top, STORE_LIMIT_METADATA).in_flight, 0);
	env_end(&env);
}

/* The service answers from within submit(): as deep a recursion as the queue is
 * long would not survive this. */
static void a_long_queue_drains_without_recursion(void **state)
{
	enum { COUNT = 20000 };
	static const struct store_limit_options one = { .in_flight_max = { 1, 1 } };
	static const struct store_fault stuck = { .delay_permille = 1000,
						  .delay_min_ns = STORE_FAULT_FOREVER,
						  .count = 1 };
	struct call *calls = calloc(COUNT, sizeof(*calls));
	struct env env;

	(void)state;
	assert_non_null(calls);
	env_memory(&env, NULL);
	env_push(&env, store_fault_new(&env.top, env.top, 1));
	store_fault_set(env.top, STORE_FAULT_ALL, &stuck);
	env_push(&env, store_limit_new(&env.top, env.top, &one));
	env_run(&env);
	for (unsigned i = 0; i < COUNT; i++) {
		calls[i].op = (struct store_op){ .opcode = STORE_STAT, .key = "k" };
		call_submit(&env, &calls[i]);
	}
	wait_queued(env.top, STORE_LIMIT_METADATA, COUNT - 1);
	store_cancel(&calls[0].op);
	for (unsigned i = 0; i < COUNT; i++)
		assert_int_equal(call_wait(&calls[i]), i ? -ENOENT : -ECANCELED);
	env_end(&env);
	free(calls);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_more_than_the_limit_are_in_flight),
		cmocka_unit_test(metadata_does_not_wait_for_data),
		cmocka_unit_test(a_cancelled_one_leaves_the_queue),
		cmocka_unit_test(a_long_queue_drains_without_recursion),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
