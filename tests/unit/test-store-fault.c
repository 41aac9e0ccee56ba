/* SPDX-License-Identifier: Apache-2.0 */
/* Fault injection does the harm that it says, and no other. */
#include "store-fixture.h"

#include "store/layers/fault.h"

static struct store *fault_env(struct env *env, uint64_t seed)
{
	struct store *fault;

	env_memory(env, NULL);
	env_push(env, store_fault_new(&env->top, env->top, seed));
	fault = env->top;
	env_run(env);
	return fault;
}

static void errors_come_without_the_deed(void **state)
{
	static const struct store_fault slow_down = { .error_permille = 1000,
						      .error = -EAGAIN,
						      .retry_after_ms = 70 };
	struct env env;
	struct store *fault = fault_env(&env, 1);
	struct call put = { .op = { .opcode = STORE_PUT, .key = "k" } };

	(void)state;
	store_fault_set(fault, 1u << STORE_PUT, &slow_down);
	call_body(&put, "x", 1);
	assert_int_equal(store_call(env.top, &put.op), -EAGAIN);
	assert_int_equal(put.op.retry_after_ms, 70);
	assert_int_equal(put.op.attempts, 0);
	assert_int_equal(store_memory_usage(env.memory).objects, 0);
	/* other kinds are not touched */
	assert_int_equal(env_stat(&env, "k", NULL), -ENOENT);
	store_fault_set(fault, STORE_FAULT_ALL, NULL);
	assert_int_equal(store_call(env.top, &put.op), 0);
	assert_int_equal(put.op.retry_after_ms, 0);
	assert_int_equal(store_fault_stats(fault).errors, 1);
	env_end(&env);
}

static void lost_answers_come_after_the_deed(void **state)
{
	static const struct store_fault lost = { .lost_permille = 1000 };
	struct env env;
	struct store *fault = fault_env(&env, 1);
	struct store_meta meta;
	char session[STORE_SESSION_MAX];

	(void)state;
	store_fault_set(fault, STORE_FAULT_ALL, &lost);
	assert_int_equal(env_put_if(&env, "k", "x", 1, NULL, false, &meta), -EIO);
	assert_string_equal(meta.etag, "");
	assert_int_equal(store_memory_usage(env.memory).objects, 1);
	assert_int_equal(env_begin(&env, "k", session), -EIO);
	assert_string_equal(session, "");
	assert_int_equal(store_memory_usage(env.memory).sessions, 1);
	assert_int_equal(env_delete(&env, "k"), -EIO);
	assert_int_equal(store_memory_usage(env.memory).objects, 0);
	/* an answer that is an error is not lost */
	assert_int_equal(env_stat(&env, "k", NULL), -ENOENT);
	env_end(&env);
}

static void cut_reads_leave_what_they_say(void **state)
{
	static const struct store_fault cut = { .cut_permille = 1000 };
	struct env env;
	struct store *fault = fault_env(&env, 3);
	char data[100], buf[100];
	struct call call = { .op = { .opcode = STORE_READ, .key = "k" } };
	bool none = false, some = false;

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i + 1);
	env_put(&env, "k", data, sizeof(data));
	store_fault_set(fault, STORE_FAULT_ALL, &cut);
	for (int i = 0; i < 500; i++) {
		memset(buf, 0, sizeof(buf));
		call_body(&call, buf, sizeof(buf));
		assert_int_equal(store_call(env.top, &call.op), -EIO);
		assert_in_range(call.op.done, 0, 99);
		assert_memory_equal(buf, data, call.op.done);
		for (size_t j = call.op.done; j < sizeof(buf); j++)
			assert_int_equal(buf[j], 0);
		none |= call.op.done == 0;
		some |= call.op.done > 0;
	}
	assert_true(none && some);
	env_end(&env);
}

static void cut_listings_deliver_in_part(void **state)
{
	static const struct store_fault cut = { .cut_permille = 1000 };
	struct env env;
	struct store *fault = fault_env(&env, 3);
	struct env_list list = { .limit = 3 };
	bool some = false;

	(void)state;
	env_put(&env, "a", "", 0);
	env_put(&env, "b", "", 0);
	env_put(&env, "c", "", 0);
	store_fault_set(fault, STORE_FAULT_ALL, &cut);
	for (int i = 0; i < 50; i++) {
		assert_int_equal(env_list(&env, &list), -EIO);
		assert_memory_equal("a,b,c", list.text, strlen(list.text));
		assert_int_equal(list.call.op.list.limit, 3);
		some |= strlen(list.text) < 5;
	}
	assert_true(some);
	env_end(&env);
}

static void cut_uploads_store_nothing(void **state)
{
	static const struct store_fault cut = { .cut_permille = 1000 };
	struct env env;
	struct store *fault = fault_env(&env, 3);

	(void)state;
	store_fault_set(fault, STORE_FAULT_ALL, &cut);
	assert_int_equal(env_put(&env, "k", "x", 1), -EIO);
	assert_int_equal(store_memory_usage(env.memory).objects, 0);
	env_end(&env);
}

static void delays_come_before_or_after(void **state)
{
	static const struct store_fault before = { .delay_permille = 1000,
						   .delay_min_ns = 60 * MSEC,
						   .delay_max_ns = 80 * MSEC };
	static const struct store_fault stuck = { .delay_permille = 1000,
						  .delay_min_ns = STORE_FAULT_FOREVER };
	static const struct store_fault stuck_reply = { .reply_delay_permille = 1000,
							.delay_min_ns = STORE_FAULT_FOREVER };
	struct env env;
	struct store *fault = fault_env(&env, 3);
	struct call put = { .op = { .opcode = STORE_PUT, .key = "k" } };
	uint64_t start = loop_now_ns();

	(void)state;
	store_fault_set(fault, STORE_FAULT_ALL, &before);
	assert_int_equal(env_put(&env, "k", "x", 1), 0);
	assert_in_range(loop_now_ns() - start, 60 * MSEC, 10 * SEC);
	store_memory_remove(env.memory, "k");

	store_fault_set(fault, STORE_FAULT_ALL, &stuck);
	call_body(&put, "x", 1);
	call_submit(&env, &put);
	sleep_ms(50);
	assert_false(atomic_load(&put.completed));
	assert_int_equal(store_memory_usage(env.memory).objects, 0);
	store_cancel(&put.op);
	assert_int_equal(call_wait(&put), -ECANCELED);

	store_fault_set(fault, STORE_FAULT_ALL, &stuck_reply);
	call_submit(&env, &put);
	for (int ms = 0; store_memory_usage(env.memory).objects == 0; ms++) {
		assert_true(ms < 10000);
		sleep_ms(1);
	}
	assert_false(atomic_load(&put.completed));
	store_cancel(&put.op);
	assert_int_equal(call_wait(&put), -ECANCELED);
	assert_string_equal(put.op.meta.etag, "");
	env_end(&env);
}

static void skip_and_count_pick_operations(void **state)
{
	static const struct store_fault third = { .error_permille = 1000, .skip = 2, .count = 2 };
	static const int expected[] = { -ENOENT, -ENOENT, -EIO, -EIO, -ENOENT, -ENOENT };
	struct env env;
	struct store *fault = fault_env(&env, 1);

	(void)state;
	store_fault_set(fault, STORE_FAULT_ALL, &third);
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
		assert_int_equal(env_stat(&env, "k", NULL), expected[i]);
	env_end(&env);
}

/* 1000 STATs as a string of '.' and 'x'. */
static unsigned run_seed(uint64_t seed, char text[1001])
{
	static const struct store_fault fifth = { .error_permille = 200 };
	struct env env;
	struct store *fault = fault_env(&env, seed);
	unsigned errors = 0;

	store_fault_set(fault, STORE_FAULT_ALL, &fifth);
	for (int i = 0; i < 1000; i++) {
		bool error = env_stat(&env, "k", NULL) == -EIO;

		text[i] = error ? 'x' : '.';
		errors += error;
	}
	text[1000] = '\0';
	assert_int_equal(store_fault_stats(fault).errors, errors);
	env_end(&env);
	return errors;
}

static void rates_hold_and_repeat_with_the_seed(void **state)
{
	char a[1001], b[1001], c[1001];

	(void)state;
	assert_in_range(run_seed(5, a), 130, 270);
	run_seed(5, b);
	run_seed(6, c);
	assert_string_equal(a, b);
	assert_string_not_equal(a, c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(errors_come_without_the_deed),
		cmocka_unit_test(lost_answers_come_after_the_deed),
		cmocka_unit_test(cut_reads_leave_what_they_say),
		cmocka_unit_test(cut_listings_deliver_in_part),
		cmocka_unit_test(cut_uploads_store_nothing),
		cmocka_unit_test(delays_come_before_or_after),
		cmocka_unit_test(skip_and_count_pick_operations),
		cmocka_unit_test(rates_hold_and_repeat_with_the_seed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
