/* SPDX-License-Identifier: Apache-2.0 */
/* Time-outs end what is silent, leave alone what is slow, and learn the difference. */
#include "store-fixture.h"

#include "store/layers/retry.h"
#include "store/layers/timeout.h"

static const struct store_timeout_options quick = { .silence_min_ns = 50 * MSEC,
						    .silence_max_ns = 200 * MSEC,
						    .server_max_ns = 600 * MSEC };

static uint64_t elapsed_ms(uint64_t since_ns)
{
	return (loop_now_ns() - since_ns) / MSEC;
}

static void silence_ends_in_a_timeout(void **state)
{
	struct env env;
	uint64_t start = loop_now_ns();

	(void)state;
	env_hold(&env);
	env_push(&env, store_timeout_new(&env.top, env.top, &quick));
	env_run(&env);
	assert_int_equal(env_stat(&env, "k", NULL), -ETIMEDOUT);
	assert_in_range(elapsed_ms(start), 195, 10000);
	assert_int_equal(hold_count(&env), 0);
	env_end(&env);
}

static void answers_and_errors_pass(void **state)
{
	struct env env;
	struct call call = { .op = { .opcode = STORE_STAT, .key = "k" } };

	(void)state;
	env_hold(&env);
	env_push(&env, store_timeout_new(&env.top, env.top, &quick));
	env_run(&env);
	call_submit(&env, &call);
	hold_wait(&env, 1);
	hold_release(&env, -EACCES);
	assert_int_equal(call_wait(&call), -EACCES);
	call_submit(&env, &call);
	hold_wait(&env, 1);
	store_cancel(&call.op);
	assert_int_equal(call_wait(&call), -ECANCELED);
	sleep_ms(250); /* a timer left behind would strike now */
	env_end(&env);
}

static void a_late_success_is_a_success(void **state)
{
	struct env env;

	(void)state;
	env_hold(&env);
	hold_cancel_result(&env, 0);
	env_push(&env, store_timeout_new(&env.top, env.top, &quick));
	env_run(&env);
	assert_int_equal(env_stat(&env, "k", NULL), 0);
	env_end(&env);
}

static void a_moving_body_is_not_timed_out(void **state)
{
	struct env env;
	char buf[1000];
	struct call call = { .op = { .opcode = STORE_READ, .key = "k" } };
	uint64_t start = loop_now_ns();

	(void)state;
	env_hold(&env);
	env_push(&env, store_timeout_new(&env.top, env.top, &quick));
	env_run(&env);
	call_body(&call, buf, sizeof(buf));
	call_submit(&env, &call);
	hold_wait(&env, 1);
	while (elapsed_ms(start) < 700) {
		hold_move(&env, 1);
		sleep_ms(10);
	}
	assert_false(atomic_load(&call.completed));
	/* then it stops */
	assert_int_equal(call_wait(&call), -ETIMEDOUT);
	assert_true(call.op.done > 0);
	env_end(&env);
}

static void a_trickle_runs_out_of_time(void **state)
{
	struct store_timeout_options options = quick;
	struct env env;
	char buf[1000];
	struct call call = { .op = { .opcode = STORE_READ, .key = "k" } };
	uint64_t start = loop_now_ns();

	(void)state;
	options.bytes_per_second_min = 2000; /* 1000 bytes: half a second more */
	env_hold(&env);
	env_push(&env, store_timeout_new(&env.top, env.top, &options));
	env_run(&env);
	call_body(&call, buf, sizeof(buf));
	call_submit(&env, &call);
	hold_wait(&env, 1);
	while (!atomic_load(&call.completed) && elapsed_ms(start) < 10000) {
		hold_move(&env, 1);
		sleep_ms(10);
	}
	assert_int_equal(call_wait(&call), -ETIMEDOUT);
	assert_in_range(elapsed_ms(start), 690, 9000);
	env_end(&env);
}

static void quick_answers_make_it_impatient(void **state)
{
	struct env env;

	(void)state;
	env_memory(&env, NULL);
	env_push(&env, store_timeout_new(&env.top, env.top, &quick));
	env_run(&env);
	assert_int_equal(env_put(&env, "k", "", 0), 0);
	assert_int_equal(store_timeout_allowed_ns(env.top, STORE_STAT), 200 * MSEC);
	for (int i = 0; i < 7; i++)
		assert_int_equal(env_stat(&env, "k", NULL), 0);
	assert_int_equal(store_timeout_allowed_ns(env.top, STORE_STAT), 200 * MSEC);
	/* soon, but for the moments that this process does not run */
	for (int i = 0; i < 10000; i++) {
		assert_int_equal(env_stat(&env, "absent", NULL), -ENOENT);
		if (store_timeout_allowed_ns(env.top, STORE_STAT) == 50 * MSEC)
			break;
	}
	assert_int_equal(store_timeout_allowed_ns(env.top, STORE_STAT), 50 * MSEC);
	/* of its kind only */
	assert_int_equal(store_timeout_allowed_ns(env.top, STORE_LIST), 200 * MSEC);
	assert_int_equal(store_timeout_allowed_ns(env.top, STORE_COPY), 600 * MSEC);
	env_end(&env);
}

static void timeouts_make_it_patient_again(void **state)
{
	struct env env;
	struct call call = { .op = { .opcode = STORE_STAT, .key = "k" } };

	(void)state;
	env_hold(&env);
	env_push(&env, store_timeout_new(&env.top, env.top, &quick));
	env_run(&env);
	for (int i = 0; i < 20; i++) {
		call_submit(&env, &call);
		hold_wait(&env, 1);
		hold_release(&env, 0);
		call_wait(&call);
	}
	/* Slow machines may have taught it more than the minimum; then there is less
	 * to double, but never more than the maximum. */
	for (uint64_t before = store_timeout_allowed_ns(env.top, STORE_STAT);
	     before < 200 * MSEC;) {
		assert_int_equal(env_stat(&env, "k", NULL), -ETIMEDOUT);
		assert_int_equal(store_timeout_allowed_ns(env.top, STORE_STAT),
				 MIN(2 * before, 200 * MSEC));
		before = store_timeout_allowed_ns(env.top, STORE_STAT);
	}
	assert_int_equal(env_stat(&env, "k", NULL), -ETIMEDOUT);
	assert_int_equal(store_timeout_allowed_ns(env.top, STORE_STAT), 200 * MSEC);
	env_end(&env);
}

static void copies_get_the_time_of_the_server(void **state)
{
	struct env env;
	struct store_op copy = { .opcode = STORE_COPY, .key = "k", .source_key = "s" };
	uint64_t start = loop_now_ns();

	(void)state;
	env_hold(&env);
	env_push(&env, store_timeout_new(&env.top, env.top, &quick));
	env_run(&env);
	assert_int_equal(store_call(env.top, &copy), -ETIMEDOUT);
	assert_in_range(elapsed_ms(start), 595, 10000);
	env_end(&env);
}

static void retries_are_timed_each_for_itself(void **state)
{
	static const struct store_retry_options retries = { .attempts_max = 3,
							    .pause_first_ns = MSEC,
							    .pause_max_ns = MSEC };
	struct env env;
	struct call call = { .op = { .opcode = STORE_STAT, .key = "k" } };

	(void)state;
	env_hold(&env);
	env_push(&env, store_timeout_new(&env.top, env.top, &quick));
	env_push(&env, store_retry_new(&env.top, env.top, &retries));
	env_run(&env);
	assert_int_equal(store_call(env.top, &call.op), -ETIMEDOUT);
	assert_int_equal(call.op.attempts, 3);
	call_submit(&env, &call);
	while (hold_total(&env) != 5)
		sleep_ms(1);
	hold_wait(&env, 1); /* the second attempt of the second call */
	hold_release(&env, 0);
	assert_int_equal(call_wait(&call), 0);
	env_end(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(silence_ends_in_a_timeout),
		cmocka_unit_test(answers_and_errors_pass),
		cmocka_unit_test(a_late_success_is_a_success),
		cmocka_unit_test(a_moving_body_is_not_timed_out),
		cmocka_unit_test(a_trickle_runs_out_of_time),
		cmocka_unit_test(quick_answers_make_it_impatient),
		cmocka_unit_test(timeouts_make_it_patient_again),
		cmocka_unit_test(copies_get_the_time_of_the_server),
		cmocka_unit_test(retries_are_timed_each_for_itself),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
