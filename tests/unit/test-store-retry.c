/* SPDX-License-Identifier: Apache-2.0 */
/* Retry repeats what failed for a passing reason, and goes on where it can. */
#include "store-retry-stack.h"

/* ---- What is repeated ---- */

static void passing_errors_are_repeated_others_not(void **state)
{
	static const struct {
		int error;
		bool passing;
	} cases[] = {
		{ -EAGAIN, true },     { -EIO, true },	       { -ETIMEDOUT, true },
		{ -ENOENT, false },    { -EACCES, false },     { -EINVAL, false },
		{ -ERANGE, false },    { -ENOSPC, false },     { -ESTALE, false },
		{ -ECANCELED, false }, { -EOPNOTSUPP, false },
	};
	struct env env;
	struct call call = { .op = { .opcode = STORE_STAT, .key = "k" } };

	(void)state;
	env_hold(&env);
	env_push(&env, store_retry_new(&env.top, env.top, &quick));
	env_run(&env);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		call_submit(&env, &call);
		hold_wait(&env, 1);
		hold_release(&env, cases[i].error);
		if (cases[i].passing) {
			hold_wait(&env, 1);
			hold_release(&env, 0);
		}
		assert_int_equal(call_wait(&call), cases[i].passing ? 0 : cases[i].error);
		assert_int_equal(call.op.attempts, cases[i].passing ? 2 : 1);
	}
	env_end(&env);
}

static void the_last_error_comes_after_the_last_attempt(void **state)
{
	static const struct store_fault fail = { .error_permille = 1000, .error = -EAGAIN };
	struct stack s;

	(void)state;
	stack_begin(&s, &quick);
	store_fault_set(s.fault, STORE_FAULT_ALL, &fail);
	assert_int_equal(env_stat(&s.env, "k", NULL), -EAGAIN);
	assert_int_equal(store_fault_stats(s.fault).errors, 8);
	assert_int_equal(store_retry_stats(s.retry).repeated, 7);
	assert_int_equal(store_retry_stats(s.retry).given_up, 1);
	env_end(&s.env);
}

static void batches_are_repeated_for_keys_that_failed(void **state)
{
	static const char *const keys[] = { "a", "b" };
	struct env env;
	int results[2] = { -EIO, 0 };
	struct call call = { .op = { .opcode = STORE_DELETE_BATCH,
				     .keys = keys,
				     .key_count = 2,
				     .key_results = results } };

	(void)state;
	env_hold(&env);
	env.top->caps.delete_batch_max = 10;
	env_push(&env, store_retry_new(&env.top, env.top, &quick));
	env_run(&env);
	call_submit(&env, &call);
	hold_wait(&env, 1);
	hold_release(&env, 0);
	hold_wait(&env, 1);
	results[0] = -EACCES;
	hold_release(&env, 0);
	assert_int_equal(call_wait(&call), 0);
	assert_int_equal(call.op.attempts, 2);
	assert_int_equal(results[0], -EACCES);
	env_end(&env);
}

/* ---- READ ---- */

static void reads_go_on_where_they_were_cut(void **state)
{
	static const struct store_fault cut = { .cut_permille = 600 };
	struct store_retry_options patient = quick;
	struct stack s;
	struct store_metrics_opcode m;
	char data[1000], buf[1200];

	(void)state;
	patient.attempts_max = 100;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 7 / 3);
	stack_begin(&s, &patient);
	env_put(&s.env, "k", data, sizeof(data));
	store_fault_set(s.fault, STORE_FAULT_ALL, &cut);
	for (int i = 0; i < 50; i++) {
		memset(buf, 0x55, sizeof(buf));
		assert_int_equal(env_read(&s.env, "k", 100, buf, sizeof(buf), NULL, NULL), 900);
		assert_memory_equal(buf, data + 100, 900);
		assert_int_equal(buf[900], 0x55);
	}
	assert_true(store_retry_stats(s.retry).resumed > 10);
	/* no byte was fetched twice */
	store_metrics_read(s.metrics, STORE_READ, &m);
	assert_int_equal(m.bytes_read, 50 * 900);
	env_end(&s.env);
}

static void a_read_that_fails_at_its_end_is_whole(void **state)
{
	struct env env;
	char buf[10];
	struct call call = { .op = { .opcode = STORE_READ, .key = "k" } };

	(void)state;
	env_hold(&env);
	env_push(&env, store_retry_new(&env.top, env.top, &quick));
	env_run(&env);
	call_body(&call, buf, sizeof(buf));
	call_submit(&env, &call);
	hold_wait(&env, 1);
	hold_move(&env, 10);
	hold_release(&env, -EIO);
	assert_int_equal(call_wait(&call), 0);
	assert_int_equal(call.op.done, 10);
	assert_int_equal(call.op.attempts, 1);
	env_end(&env);
}

struct progress {
	struct call call;
	unsigned restarts;
};

static void count_restarts(struct store_op *op, uint64_t done)
{
	struct progress *progress =
		container_of(container_of(op, struct call, op), struct progress, call);

	progress->restarts += done == 0;
}

/* After some bytes, or before the first: tests that need the former try more than once. */
static void cut_once(struct stack *s)
{
	static const struct store_fault cut = { .cut_permille = 1000, .count = 1 };

	store_fault_set(s->fault, STORE_FAULT_ALL, &cut);
}

static void a_read_is_of_one_version(void **state)
{
	struct progress p = {
		.call.op = { .opcode = STORE_READ, .key = "k", .progress = count_restarts }
	};
	struct stack s;
	struct store_meta meta;
	char buf[10];
	uint64_t resumed;

	(void)state;
	stack_begin(&s, &quick);
	call_body(&p.call, buf, sizeof(buf));
	for (int i = 0; i < 20; i++) {
		/* unconditional: the new one, whole */
		env_put_if(&s.env, "k", "ours......", 10, NULL, false, &meta);
		stack_meddle(&s, 1, overwrite);
		cut_once(&s);
		p.call.op.if_match = NULL;
		resumed = store_retry_stats(s.retry).resumed;
		assert_int_equal(store_call(s.env.top, &p.call.op), 0);
		assert_int_equal(p.call.op.done, 10);
		if (store_retry_stats(s.retry).resumed > resumed) {
			assert_memory_equal(buf, "theirs!!!!", 10);
			assert_string_not_equal(p.call.op.meta.etag, meta.etag);
		}
		assert_null(p.call.op.if_match);
		s.meddler->after = 0;

		/* conditional: an error */
		env_put_if(&s.env, "k", "ours......", 10, NULL, false, &meta);
		stack_meddle(&s, 1, overwrite);
		cut_once(&s);
		p.call.op.if_match = meta.etag;
		resumed = store_retry_stats(s.retry).resumed;
		store_call(s.env.top, &p.call.op);
		if (store_retry_stats(s.retry).resumed > resumed)
			assert_int_equal(p.call.op.result, -ESTALE);
		s.meddler->after = 0;
	}
	assert_true(p.restarts > 0);
	assert_true(store_retry_stats(s.retry).resumed > 20);
	env_end(&s.env);
}

static void a_read_of_what_vanished_ends(void **state)
{
	struct stack s;
	char buf[10];

	(void)state;
	stack_begin(&s, &quick);
	for (int i = 0; i < 20; i++) {
		env_put(&s.env, "k", "ours......", 10);
		stack_meddle(&s, 1, vanish);
		cut_once(&s);
		if (env_read(&s.env, "k", 0, buf, 10, NULL, NULL) == 10)
			assert_memory_equal(buf, "ours......", 10); /* cut before it began */
		s.meddler->after = 0;
	}
	assert_true(store_retry_stats(s.retry).resumed > 0);
	env_end(&s.env);
}

/* ---- LIST ---- */

static void listings_have_each_row_once(void **state)
{
	static const struct store_fault cut = { .cut_permille = 500 };
	struct stack s;
	struct store_retry_options patient = quick;
	struct env_list list = { .limit = 3 };

	(void)state;
	patient.attempts_max = 100;
	stack_begin(&s, &patient);
	for (char key[2] = "a"; key[0] <= 'g'; key[0]++)
		env_put(&s.env, key, "", 0);
	store_fault_set(s.fault, STORE_FAULT_ALL, &cut);
	for (int i = 0; i < 30; i++)
		assert_string_equal(env_list_text(&s.env, &list), "a,b,c|d,e,f|g");
	assert_true(store_retry_stats(s.retry).repeated > 10);
	env_end(&s.env);
}

static void ignore_row(struct store_op *op, const struct store_entry *entry)
{
	(void)op;
	(void)entry;
}

static void a_listing_that_cannot_begin_anew_fails(void **state)
{
	static const struct store_fault cut = { .cut_permille = 1000, .count = 1 };
	static const struct store_fault fail = { .error_permille = 1000, .count = 1 };
	struct stack s;
	struct store_page page;
	struct store_op list = { .opcode = STORE_LIST,
				 .key = "",
				 .list = { .entry = ignore_row, .page = &page } };

	(void)state;
	stack_begin(&s, &quick);
	env_put(&s.env, "a", "", 0);
	store_fault_set(s.fault, STORE_FAULT_ALL, &cut);
	assert_int_equal(store_call(s.env.top, &list), -EIO);
	/* before the first row it may be repeated all the same */
	store_fault_set(s.fault, STORE_FAULT_ALL, &fail);
	assert_int_equal(store_call(s.env.top, &list), 0);
	env_end(&s.env);
}

/* ---- Time ---- */

static uint64_t elapsed_ms(uint64_t since_ns)
{
	return (loop_now_ns() - since_ns) / MSEC;
}

static void the_service_is_given_the_time_it_asks_for(void **state)
{
	static const struct store_fault slow_down = {
		.error_permille = 1000, .error = -EAGAIN, .retry_after_ms = 150, .count = 2
	};
	struct store_retry_options hasty = quick;
	struct stack s;
	uint64_t start = loop_now_ns();

	(void)state;
	stack_begin(&s, &quick);
	store_fault_set(s.fault, STORE_FAULT_ALL, &slow_down);
	assert_int_equal(env_stat(&s.env, "k", NULL), -ENOENT);
	assert_in_range(elapsed_ms(start), 299, 10000);
	env_end(&s.env);

	/* but not more than there is */
	hasty.total_ns = 100 * MSEC;
	start = loop_now_ns();
	stack_begin(&s, &hasty);
	store_fault_set(s.fault, STORE_FAULT_ALL, &slow_down);
	assert_int_equal(env_stat(&s.env, "k", NULL), -EAGAIN);
	assert_in_range(elapsed_ms(start), 0, 99);
	env_end(&s.env);
}

static void pauses_are_spread_and_grow(void **state)
{
	static const struct store_fault fail = { .error_permille = 1000 };
	static const struct store_retry_options steps = {
		.attempts_max = 4, .pause_first_ns = 20 * MSEC, .pause_max_ns = 40 * MSEC, .seed = 3
	};
	struct stack s;
	uint64_t shortest = UINT64_MAX, longest = 0;

	(void)state;
	stack_begin(&s, &steps);
	store_fault_set(s.fault, STORE_FAULT_ALL, &fail);
	for (int i = 0; i < 20; i++) {
		uint64_t start = loop_now_ns(), ms;

		assert_int_equal(env_stat(&s.env, "k", NULL), -EIO);
		ms = elapsed_ms(start);
		shortest = MIN(shortest, ms);
		longest = MAX(longest, ms);
	}
	/* Slots of 20, 40 and 40 ms, and somewhere in the last the last attempt: 80 on average,
	 * and never before 60, when a server that restarts may be back. All equal, or all at
	 * the bound, would be no jitter. */
	assert_in_range(shortest, 60, 80);
	assert_true(longest > 80);
	assert_true(longest - shortest > 15);
	env_end(&s.env);
}

static void all_of_it_has_a_deadline(void **state)
{
	static const struct store_fault stuck = { .delay_permille = 1000,
						  .delay_min_ns = STORE_FAULT_FOREVER };
	static const struct store_fault fail = { .error_permille = 1000 };
	static const struct store_fault fail_once = { .error_permille = 1000,
						      .error = -EAGAIN,
						      .count = 1 };
	struct store_retry_options options = quick;
	struct stack s;
	uint64_t start;

	(void)state;
	options.total_ns = 150 * MSEC;
	options.attempts_max = 100000;
	stack_begin(&s, &options);
	store_fault_set(s.fault, STORE_FAULT_ALL, &stuck);
	start = loop_now_ns();
	assert_int_equal(env_stat(&s.env, "k", NULL), -ETIMEDOUT);
	assert_in_range(elapsed_ms(start), 149, 10000);
	store_fault_set(s.fault, STORE_FAULT_ALL, &fail);
	start = loop_now_ns();
	assert_int_equal(env_stat(&s.env, "k", NULL), -EIO);
	assert_in_range(elapsed_ms(start), 100, 10000);
	/* none of it is left behind */
	store_fault_set(s.fault, STORE_FAULT_ALL, &fail_once);
	assert_int_equal(env_stat(&s.env, "k", NULL), -ENOENT);
	sleep_ms(200);
	env_end(&s.env);
}

/* Many at once, begun at different times, each gets its own. */
static void deadlines_are_each_their_own(void **state)
{
	enum { COUNT = 30 };
	struct store_retry_options options = quick;
	struct env env;
	struct call calls[COUNT];
	uint64_t begun[COUNT];

	(void)state;
	options.total_ns = 120 * MSEC;
	env_hold(&env);
	env_push(&env, store_retry_new(&env.top, env.top, &options));
	env_run(&env);
	for (unsigned i = 0; i < COUNT; i++) {
		calls[i] = (struct call){ .op = { .opcode = STORE_STAT, .key = "k" } };
		begun[i] = loop_now_ns();
		call_submit(&env, &calls[i]);
		sleep_ms(10);
		if (i % 3 == 0)
			store_cancel(&calls[i].op);
	}
	for (unsigned i = 0; i < COUNT; i++) {
		assert_int_equal(call_wait(&calls[i]), i % 3 ? -ETIMEDOUT : -ECANCELED);
		assert_true(i % 3 == 0 || elapsed_ms(begun[i]) >= 119);
	}
	assert_int_equal(store_retry_stats(env.top).given_up, COUNT - COUNT / 3);
	env_end(&env);
}

/* One pauses, soon for up to an hour. Then the service answers another. */
static void an_answer_ends_the_pauses_of_an_outage(void **state)
{
	struct store_retry_options patient = { .attempts_max = 1000,
					       .pause_first_ns = 10 * MSEC,
					       .pause_max_ns = 3600 * SEC,
					       .seed = 1 };
	struct call calls[2] = { 0 };
	struct env env;
	uint64_t begun;

	(void)state;
	env_hold(&env);
	env_push(&env, store_retry_new(&env.top, env.top, &patient));
	env_run(&env);
	for (unsigned i = 0; i < ARRAY_SIZE(calls); i++)
		calls[i].op = (struct store_op){ .opcode = STORE_STAT, .key = "k" };
	call_submit(&env, &calls[0]);
	for (unsigned failures = 0; failures < 16; failures++) {
		begun = loop_now_ns();
		while (!hold_count(&env) && elapsed_ms(begun) < 1000)
			sleep_ms(1);
		if (!hold_count(&env))
			break; /* a long pause */
		hold_release(&env, -EIO);
	}
	call_submit(&env, &calls[1]);
	/* On a busy machine the pause may end by itself, just now. */
	begun = loop_now_ns();
	while (!atomic_load(&calls[0].completed) || !atomic_load(&calls[1].completed)) {
		assert_true(elapsed_ms(begun) < 20000);
		if (hold_count(&env))
			hold_release(&env, 0);
		sleep_ms(1);
	}
	assert_int_equal(calls[0].op.result, 0);
	assert_int_equal(calls[1].op.result, 0);
	env_end(&env);
}

/* At the end nobody waits out an hour: not in a pause, not for an answer, not later. */
static void after_a_stop_nothing_takes_long(void **state)
{
	struct store_retry_options patient = { .attempts_max = 1000,
					       .pause_first_ns = 3600 * SEC,
					       .pause_max_ns = 3600 * SEC };
	struct call calls[3] = { 0 };
	struct env env;
	uint64_t begun;

	(void)state;
	env_hold(&env);
	env_push(&env, store_retry_new(&env.top, env.top, &patient));
	env_run(&env);
	for (unsigned i = 0; i < ARRAY_SIZE(calls); i++)
		calls[i].op = (struct store_op){ .opcode = STORE_STAT, .key = "k" };
	call_submit(&env, &calls[0]);
	hold_wait(&env, 1);
	hold_release(&env, -EIO);
	call_submit(&env, &calls[1]);
	hold_wait(&env, 1);
	assert_false(atomic_load(&calls[0].completed));
	begun = loop_now_ns();
	store_retry_stop(env.top);
	assert_int_equal(call_wait(&calls[0]), -EIO);
	assert_int_equal(call_wait(&calls[1]), -ETIMEDOUT);
	assert_true(elapsed_ms(begun) < 4000);
	assert_int_equal(env_stat(&env, "k", NULL), -ETIMEDOUT);
	assert_true(elapsed_ms(begun) >= 4999);
	/* A service that answers is asked as before. */
	call_submit(&env, &calls[2]);
	hold_wait(&env, 1);
	hold_release(&env, 0);
	assert_int_equal(call_wait(&calls[2]), 0);
	env_end(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(passing_errors_are_repeated_others_not),
		cmocka_unit_test(the_last_error_comes_after_the_last_attempt),
		cmocka_unit_test(batches_are_repeated_for_keys_that_failed),
		cmocka_unit_test(reads_go_on_where_they_were_cut),
		cmocka_unit_test(a_read_that_fails_at_its_end_is_whole),
		cmocka_unit_test(a_read_is_of_one_version),
		cmocka_unit_test(a_read_of_what_vanished_ends),
		cmocka_unit_test(listings_have_each_row_once),
		cmocka_unit_test(a_listing_that_cannot_begin_anew_fails),
		cmocka_unit_test(the_service_is_given_the_time_it_asks_for),
		cmocka_unit_test(pauses_are_spread_and_grow),
		cmocka_unit_test(all_of_it_has_a_deadline),
		cmocka_unit_test(deadlines_are_each_their_own),
		cmocka_unit_test(an_answer_ends_the_pauses_of_an_outage),
		cmocka_unit_test(after_a_stop_nothing_takes_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
