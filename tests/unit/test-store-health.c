/* SPDX-License-Identifier: Apache-2.0 */
/* A service that has not answered yet is asked for nothing but an answer; one that fails later is
 * told of, and used as ever. */
#include "store-fixture.h"

#include "store/layers/health.h"

static const struct store_health_options quick = {
	.name = "bucket",
	.probe_first_ns = MSEC,
	.probe_max_ns = 4 * MSEC,
	.probe_patience_ns = 3600 * SEC,
};

static enum store_health_state health(struct env *env)
{
	uint64_t since_ns;

	return store_health_read(env->top, &since_ns);
}

static void begin(struct env *env, const struct store_health_options *options)
{
	env_hold(env);
	env_push(env, store_health_new(&env->top, env->top, options));
	env_run(env);
}

static void end(struct env *env)
{
	store_health_stop(env->top);
	assert_int_equal(hold_count(env), 0);
	env_end(env);
}

static void close_run(void *arg)
{
	store_health_close(((struct env *)arg)->top, "nobody is there");
}

static void look_run(void *arg)
{
	store_health_look(((struct env *)arg)->top);
}

/* Something that is asked, and the answer. */
static int ask(struct env *env, int result)
{
	struct call c = { .op = { .opcode = STORE_STAT, .key = "k" } };

	call_submit(env, &c);
	hold_wait(env, 1);
	hold_release(env, result);
	return call_wait(&c);
}

static void nothing_passes_a_closed_door(void **state)
{
	struct env env;

	(void)state;
	begin(&env, &quick);
	env_on_loop(&env, close_run, &env);
	assert_int_equal(health(&env), STORE_HEALTH_CLOSED);
	hold_wait(&env, 1); /* the question */
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(env_stat(&env, "k", NULL), -EIO);
	for (unsigned i = 0; i < 5; i++) {
		hold_release(&env, i % 2 ? -ETIMEDOUT : -EACCES);
		assert_int_equal(env_stat(&env, "k", NULL), -EIO);
		hold_wait(&env, 1); /* the next */
		assert_int_equal(health(&env), STORE_HEALTH_CLOSED);
	}
	hold_release(&env, 0);
	for (unsigned ms = 0; health(&env) != STORE_HEALTH_WELL; ms++) {
		assert_in_range(ms, 0, 20000);
		sleep_ms(1);
	}
	assert_int_equal(ask(&env, 0), 0);
	assert_int_equal(hold_total(&env), 7);
	end(&env);
}

static void it_is_failing_after_some_in_a_row(void **state)
{
	struct env env;

	(void)state;
	begin(&env, &quick);
	assert_int_equal(ask(&env, -EIO), -EIO);
	assert_int_equal(ask(&env, -ETIMEDOUT), -ETIMEDOUT);
	assert_int_equal(ask(&env, -ENOENT), -ENOENT); /* an answer */
	assert_int_equal(ask(&env, -EIO), -EIO);
	assert_int_equal(ask(&env, -EIO), -EIO);
	assert_int_equal(health(&env), STORE_HEALTH_WELL);
	assert_int_equal(ask(&env, -EIO), -EIO);
	assert_int_equal(health(&env), STORE_HEALTH_FAILING);
	end(&env);
}

static void a_failing_one_is_used_and_comes_back(void **state)
{
	struct store_health_options never = quick;
	struct env env;

	(void)state;
	never.probe_first_ns = 3600 * SEC;
	begin(&env, &never);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(ask(&env, -EIO), -EIO);
	assert_int_equal(health(&env), STORE_HEALTH_FAILING);
	assert_int_equal(ask(&env, -ENOENT), -ENOENT);
	assert_int_equal(health(&env), STORE_HEALTH_FAILING);
	assert_int_equal(ask(&env, 0), 0);
	assert_int_equal(health(&env), STORE_HEALTH_WELL);
	end(&env);
}

static void a_question_has_an_end(void **state)
{
	struct store_health_options impatient = quick;
	struct env env;

	(void)state;
	impatient.probe_patience_ns = 5 * MSEC;
	begin(&env, &impatient);
	env_on_loop(&env, close_run, &env);
	for (unsigned ms = 0; hold_total(&env) < 5; ms++) {
		assert_in_range(ms, 0, 20000);
		sleep_ms(1);
	}
	assert_int_equal(health(&env), STORE_HEALTH_CLOSED);
	end(&env);
}

static void a_slow_one_is_heard_in_the_end(void **state)
{
	struct store_health_options impatient = quick;
	struct env env;

	(void)state;
	impatient.probe_patience_ns = 10 * MSEC;
	begin(&env, &impatient);
	env_on_loop(&env, close_run, &env);
	/* What is asked the ninth time may take 2.5 s. */
	for (unsigned ms = 0; hold_total(&env) < 9; ms++) {
		assert_in_range(ms, 0, 20000);
		sleep_ms(1);
	}
	sleep_ms(500);
	assert_int_equal(hold_total(&env), 9);
	hold_release(&env, 0);
	for (unsigned ms = 0; health(&env) != STORE_HEALTH_WELL; ms++) {
		assert_in_range(ms, 0, 20000);
		sleep_ms(1);
	}
	end(&env);
}

static void a_change_has_it_asked_soon(void **state)
{
	struct store_health_options slow = quick;
	struct env env;

	(void)state;
	slow.probe_max_ns = 3600 * SEC;
	slow.probe_first_ns = 50 * MSEC;
	begin(&env, &slow);
	env_on_loop(&env, look_run, &env); /* it is well: nothing is asked */
	env_on_loop(&env, close_run, &env);
	for (unsigned i = 0; i < 3; i++) {
		hold_wait(&env, 1);
		hold_release(&env, -EIO);
		env_on_loop(&env, look_run, &env);
	}
	hold_wait(&env, 1);
	assert_int_equal(hold_total(&env), 4);
	end(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_passes_a_closed_door),
		cmocka_unit_test(it_is_failing_after_some_in_a_row),
		cmocka_unit_test(a_failing_one_is_used_and_comes_back),
		cmocka_unit_test(a_question_has_an_end),
		cmocka_unit_test(a_slow_one_is_heard_in_the_end),
		cmocka_unit_test(a_change_has_it_asked_soon),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
