/* SPDX-License-Identifier: Apache-2.0 */
/* The throttle holds each direction to its rate, and nothing else back. */
#include "store-fixture.h"

#include "store/layers/throttle.h"

static uint64_t elapsed_ms(uint64_t since_ns)
{
	return (loop_now_ns() - since_ns) / MSEC;
}

/* 1000 bytes are there at once, 10000 more each second. */
static const struct store_throttle_options up_only = { .up = { 10000, 1000 } };
static const struct store_throttle_options down_only = { .down = { 10000, 1000 } };

static void bodies_wait_for_the_debt_before_them(void **state)
{
	struct env env;
	char body[1000] = "";
	uint64_t start;

	(void)state;
	env_memory(&env, NULL);
	env_push(&env, store_throttle_new(&env.top, env.top, &up_only));
	env_run(&env);
	start = loop_now_ns();
	/* the burst, one body into debt, then three that wait for 100 ms each */
	for (int i = 0; i < 5; i++)
		assert_int_equal(env_put(&env, "k", body, sizeof(body)), 0);
	assert_in_range(elapsed_ms(start), 295, 5000);
	env_end(&env);
}

static void idleness_saves_no_more_than_the_burst(void **state)
{
	struct env env;
	char body[1000] = "";
	uint64_t start;

	(void)state;
	env_memory(&env, NULL);
	env_push(&env, store_throttle_new(&env.top, env.top, &up_only));
	env_run(&env);
	assert_int_equal(env_put(&env, "k", body, sizeof(body)), 0);
	sleep_ms(500); /* would pay for five */
	start = loop_now_ns();
	for (int i = 0; i < 5; i++)
		assert_int_equal(env_put(&env, "k", body, sizeof(body)), 0);
	assert_in_range(elapsed_ms(start), 295, 5000);
	env_end(&env);
}

static void other_directions_and_metadata_pass(void **state)
{
	static const struct store_throttle_options crawl = { .up = { 10, 1 } };
	struct env env;
	char body[1000] = "", buf[1000];
	struct call put = { .op = { .opcode = STORE_PUT, .key = "k" } };

	(void)state;
	env_memory(&env, NULL);
	env_push(&env, store_throttle_new(&env.top, env.top, &crawl));
	env_run(&env);
	assert_int_equal(env_put(&env, "k", body, sizeof(body)), 0);
	call_body(&put, body, sizeof(body));
	call_submit(&env, &put); /* waits for 100 s */
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(env_read(&env, "k", 0, buf, sizeof(buf), NULL, NULL), 1000);
		assert_int_equal(env_stat(&env, "k", NULL), 0);
	}
	assert_false(atomic_load(&put.completed));
	store_cancel(&put.op);
	assert_int_equal(call_wait(&put), -ECANCELED);
	env_end(&env);
}

static void what_was_not_read_is_given_back(void **state)
{
	struct env env;
	char body[1000] = "";
	uint64_t start;

	(void)state;
	env_memory(&env, NULL);
	env_push(&env, store_throttle_new(&env.top, env.top, &down_only));
	env_run(&env);
	store_memory_write(env.memory, "k", "0123456789", 10, NULL);
	start = loop_now_ns();
	/* asked for 50000, got 500 */
	for (int i = 0; i < 50; i++)
		assert_int_equal(env_read(&env, "k", 0, body, sizeof(body), NULL, NULL), 10);
	for (int i = 0; i < 50; i++)
		assert_int_equal(env_read(&env, "absent", 0, body, sizeof(body), NULL, NULL),
				 -ENOENT);
	assert_in_range(elapsed_ms(start), 0, 2000);
	env_end(&env);
}

static void the_queue_keeps_its_order(void **state)
{
	static const struct store_throttle_options slow = { .up = { 100000, 1 } };
	struct env env;
	struct call calls[10];
	char body[1000] = "";

	(void)state;
	env_hold(&env);
	env_push(&env, store_throttle_new(&env.top, env.top, &slow));
	env_run(&env);
	for (unsigned i = 0; i < 10; i++) {
		calls[i] = (struct call){ .op = { .opcode = STORE_PUT, .key = "k" } };
		call_body(&calls[i], body, sizeof(body));
		call_submit(&env, &calls[i]);
	}
	for (unsigned i = 0; i < 10; i++) {
		while (hold_count(&env) == 0)
			sleep_ms(1);
		hold_move(&env, sizeof(body));
		hold_release(&env, 0);
		assert_int_equal(call_wait(&calls[i]), 0);
	}
	env_end(&env);
}

static void a_cancelled_one_leaves_its_tokens(void **state)
{
	struct env env;
	char body[1000] = "", big[1000] = "";
	struct call put = { .op = { .opcode = STORE_PUT, .key = "k" } };
	struct call late = { .op = { .opcode = STORE_PUT, .key = "k" } };
	uint64_t start;

	(void)state;
	env_memory(&env, NULL);
	env_push(&env, store_throttle_new(&env.top, env.top, &up_only));
	env_run(&env);
	start = loop_now_ns();
	assert_int_equal(env_put(&env, "k", body, sizeof(body)), 0);
	call_body(&put, big, sizeof(big));
	call_body(&late, body, 1);
	for (int i = 0; i < 100; i++) {
		/* were its tokens gone, the last would come after 10 s */
		call_submit(&env, &put);
		store_cancel(&put.op);
		call_wait(&put);
	}
	call_submit(&env, &late);
	assert_int_equal(call_wait(&late), 0);
	assert_in_range(elapsed_ms(start), 0, 4000);
	env_end(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bodies_wait_for_the_debt_before_them),
		cmocka_unit_test(idleness_saves_no_more_than_the_burst),
		cmocka_unit_test(other_directions_and_metadata_pass),
		cmocka_unit_test(what_was_not_read_is_given_back),
		cmocka_unit_test(the_queue_keeps_its_order),
		cmocka_unit_test(a_cancelled_one_leaves_its_tokens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
