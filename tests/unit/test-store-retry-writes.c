/* SPDX-License-Identifier: Apache-2.0 */
/* Retry finds out what became of writes whose answer was lost. */
#include "store-retry-stack.h"

static int put_as(struct stack *s, const char *write_id, const char *if_match, bool if_absent,
		  struct store_meta *meta)
{
	struct call call = { .op = { .opcode = STORE_PUT,
				     .key = "k",
				     .if_match = if_match,
				     .if_absent = if_absent,
				     .write_id = write_id } };

	call_body(&call, "ours", 4);
	store_call(s->env.top, &call.op);
	*meta = call.op.meta;
	/* in the caller's clothes again */
	assert_int_equal(call.op.opcode, STORE_PUT);
	assert_ptr_equal(call.op.if_match, if_match);
	assert_int_equal(call.op.if_absent, if_absent);
	return call.op.result;
}

static void our_own_put_is_recognised(void **state)
{
	struct stack s;
	struct store_meta first, second, now;

	(void)state;
	stack_begin(&s, &quick);
	store_fault_set(s.fault, 1u << STORE_PUT, &lost_thrice);
	assert_int_equal(put_as(&s, "w1", NULL, true, &first), 0);
	assert_int_equal(env_stat(&s.env, "k", &now), 0);
	assert_string_equal(first.etag, now.etag);
	assert_int_equal(first.size, 4);
	store_fault_set(s.fault, 1u << STORE_PUT, &lost_once);
	assert_int_equal(put_as(&s, "w2", first.etag, false, &second), 0);
	assert_int_equal(env_stat(&s.env, "k", &now), 0);
	assert_string_equal(second.etag, now.etag);
	assert_string_not_equal(second.etag, first.etag);
	assert_int_equal(store_retry_stats(s.retry).ours, 2);
	env_end(&s.env);
}

static void another_put_is_never_taken_for_ours(void **state)
{
	struct stack s;
	struct store_meta meta, now;
	char buf[10];

	(void)state;
	stack_begin(&s, &quick);
	/* ours was there, theirs came after it */
	store_fault_set(s.fault, 1u << STORE_PUT, &lost_once);
	stack_meddle(&s, 1, overwrite);
	assert_int_equal(put_as(&s, "w1", NULL, true, &meta), -EEXIST);
	assert_string_equal(meta.etag, "");
	assert_int_equal(env_stat(&s.env, "k", &now), 0);
	store_fault_set(s.fault, 1u << STORE_PUT, &lost_once);
	stack_meddle(&s, 1, overwrite);
	assert_int_equal(put_as(&s, "w2", now.etag, false, &meta), -ESTALE);
	assert_int_equal(env_read(&s.env, "k", 0, buf, 10, NULL, NULL), 10);
	assert_memory_equal(buf, "theirs!!!!", 10);
	/* nothing was lost, so nothing is compared */
	assert_int_equal(store_retry_stats(s.retry).compared, 2);
	assert_int_equal(put_as(&s, "w3", NULL, true, &meta), -EEXIST);
	assert_int_equal(store_retry_stats(s.retry).compared, 2);
	/* gone again: not ours either */
	env_stat(&s.env, "k", &now);
	store_fault_set(s.fault, 1u << STORE_PUT, &lost_once);
	stack_meddle(&s, 1, vanish);
	assert_int_equal(put_as(&s, "w4", now.etag, false, &meta), -ESTALE);
	assert_int_equal(store_retry_stats(s.retry).ours, 0);
	env_end(&s.env);
}

static void without_a_name_the_error_stands(void **state)
{
	struct stack s;
	struct store_meta meta;

	(void)state;
	stack_begin(&s, &quick);
	store_fault_set(s.fault, 1u << STORE_PUT, &lost_once);
	assert_int_equal(put_as(&s, NULL, NULL, true, &meta), -EEXIST);
	/* an unconditional one is simply done again */
	store_fault_set(s.fault, 1u << STORE_PUT, &lost_once);
	assert_int_equal(put_as(&s, NULL, NULL, false, &meta), 0);
	assert_int_equal(store_retry_stats(s.retry).compared, 0);
	env_end(&s.env);
}

/* A session with one part, committed. */
static int commit_as(struct stack *s, const char *write_id, bool if_absent, struct store_meta *meta)
{
	struct store_op begin = { .opcode = STORE_BEGIN, .key = "k", .write_id = write_id };
	struct store_part part;
	struct store_op commit = { .opcode = STORE_COMMIT,
				   .key = "k",
				   .session = begin.session_out,
				   .write_id = write_id,
				   .parts = &part,
				   .part_count = 1,
				   .if_absent = if_absent };

	assert_int_equal(store_call(s->env.top, &begin), 0);
	assert_int_equal(env_part(&s->env, "k", begin.session_out, 1, "ours", 4, &part), 0);
	if (s->meddler->meddle)
		s->meddler->after = 1;
	store_call(s->env.top, &commit);
	s->meddler->after = 0;
	assert_int_equal(commit.opcode, STORE_COMMIT);
	*meta = commit.meta;
	return commit.result;
}

static void our_own_commit_is_recognised(void **state)
{
	static const struct store_fault before = { .error_permille = 1000, .count = 2 };
	struct stack s;
	struct store_meta meta, now;

	(void)state;
	stack_begin(&s, &quick);
	store_fault_set(s.fault, 1u << STORE_COMMIT, &lost_thrice);
	assert_int_equal(commit_as(&s, "w1", true, &meta), 0);
	assert_int_equal(env_stat(&s.env, "k", &now), 0);
	assert_string_equal(meta.etag, now.etag);
	assert_int_equal(store_retry_stats(s.retry).ours, 1);
	/* not done at all the first times: nothing to compare */
	store_fault_set(s.fault, 1u << STORE_COMMIT, &before);
	assert_int_equal(commit_as(&s, "w2", false, &meta), 0);
	assert_int_equal(store_retry_stats(s.retry).compared, 1);
	/* without a name, nothing is known */
	store_fault_set(s.fault, 1u << STORE_COMMIT, &lost_once);
	assert_int_equal(commit_as(&s, NULL, false, &meta), -ENOENT);
	env_end(&s.env);
}

static void another_commit_is_never_taken_for_ours(void **state)
{
	struct stack s;
	struct store_meta meta;

	(void)state;
	stack_begin(&s, &quick);
	stack_meddle(&s, 0, overwrite);
	store_fault_set(s.fault, 1u << STORE_COMMIT, &lost_once);
	assert_int_equal(commit_as(&s, "w1", false, &meta), -ESTALE);
	assert_string_equal(meta.etag, "");
	stack_meddle(&s, 0, vanish);
	store_fault_set(s.fault, 1u << STORE_COMMIT, &lost_once);
	assert_int_equal(commit_as(&s, "w2", false, &meta), -ESTALE);
	assert_int_equal(store_retry_stats(s.retry).ours, 0);
	env_end(&s.env);
}

static void the_comparison_is_retried_too(void **state)
{
	static const struct store_fault fail_twice = { .error_permille = 1000, .count = 2 };
	static const struct store_fault fail = { .error_permille = 1000 };
	static const struct store_fault stuck = { .delay_permille = 1000,
						  .delay_min_ns = STORE_FAULT_FOREVER };
	static const struct store_fault stuck_reply = { .reply_delay_permille = 1000,
							.delay_min_ns = STORE_FAULT_FOREVER };
	struct stack s;
	struct store_meta meta;
	struct call call = {
		.op = { .opcode = STORE_PUT, .key = "x", .if_absent = true, .write_id = "w" }
	};

	(void)state;
	stack_begin(&s, &quick);
	store_fault_set(s.fault, 1u << STORE_PUT, &lost_once);
	store_fault_set(s.fault, 1u << STORE_STAT, &fail_twice);
	assert_int_equal(put_as(&s, "w1", NULL, true, &meta), 0);
	/* it stays unknown */
	store_memory_remove(s.env.memory, "k");
	store_fault_set(s.fault, 1u << STORE_PUT, &lost_once);
	store_fault_set(s.fault, 1u << STORE_STAT, &fail);
	assert_int_equal(put_as(&s, "w1", NULL, true, &meta), -EIO);
	/* cancelled on the way: no success of a PUT from that of a STAT */
	for (int i = 0; i < 2; i++) {
		uint64_t compared = store_retry_stats(s.retry).compared;

		store_fault_set(s.fault, 1u << STORE_PUT, &lost_once);
		store_fault_set(s.fault, 1u << STORE_STAT, i ? &stuck_reply : &stuck);
		store_memory_remove(s.env.memory, "x");
		call_body(&call, "x", 1);
		call_submit(&s.env, &call);
		while (store_retry_stats(s.retry).compared == compared)
			sleep_ms(1);
		sleep_ms(20);
		store_cancel(&call.op);
		assert_int_equal(call_wait(&call), -ECANCELED);
		assert_int_equal(call.op.opcode, STORE_PUT);
		assert_true(call.op.if_absent);
	}
	env_end(&s.env);
}

/* The STAT of a comparison may succeed although it was called back. */
static void a_cancelled_comparison_is_no_success(void **state)
{
	struct env env;
	struct call call = {
		.op = { .opcode = STORE_PUT, .key = "k", .if_absent = true, .write_id = "w" }
	};

	(void)state;
	env_hold(&env);
	hold_cancel_result(&env, 0);
	env_push(&env, store_retry_new(&env.top, env.top, &quick));
	env_run(&env);
	call_submit(&env, &call);
	hold_wait(&env, 1);
	hold_release(&env, -EIO);
	hold_wait(&env, 1);
	hold_release(&env, -EEXIST);
	hold_wait(&env, 1); /* the STAT */
	store_cancel(&call.op);
	assert_int_equal(call_wait(&call), -EEXIST);
	env_end(&env);
}

/* Called back before it could be compared, a refusal says nothing. */
static void a_refusal_that_was_not_compared_is_no_answer(void **state)
{
	struct store_retry_options options = quick;
	struct env env;
	struct call call = {
		.op = { .opcode = STORE_PUT, .key = "k", .if_absent = true, .write_id = "w" }
	};

	(void)state;
	for (int cancel = 0; cancel < 2; cancel++) {
		options.total_ns = cancel ? 0 : 100 * MSEC;
		env_hold(&env);
		hold_cancel_result(&env, -EEXIST);
		env_push(&env, store_retry_new(&env.top, env.top, &options));
		env_run(&env);
		call_submit(&env, &call);
		hold_wait(&env, 1);
		hold_release(&env, -ETIMEDOUT);
		if (cancel) {
			hold_wait(&env, 1);
			store_cancel(&call.op);
		}
		assert_int_equal(call_wait(&call), cancel ? -ECANCELED : -ETIMEDOUT);
		env_end(&env);
	}
}

static void a_comparison_that_is_refused_leaves_it_unknown(void **state)
{
	struct env env;
	struct call call = {
		.op = { .opcode = STORE_PUT, .key = "k", .if_absent = true, .write_id = "w" }
	};
	static const int results[] = { -EIO, -EEXIST, -EACCES };

	(void)state;
	env_hold(&env);
	env_push(&env, store_retry_new(&env.top, env.top, &quick));
	env_run(&env);
	call_submit(&env, &call);
	for (size_t i = 0; i < ARRAY_SIZE(results); i++) {
		hold_wait(&env, 1);
		hold_release(&env, results[i]);
	}
	assert_int_equal(call_wait(&call), -EIO);
	env_end(&env);
}

static void what_is_gone_was_deleted_by_us(void **state)
{
	struct stack s;
	struct store_meta meta;
	char session[STORE_SESSION_MAX];
	struct store_op delete = { .opcode = STORE_DELETE, .key = "k", .if_match = meta.etag };

	(void)state;
	stack_begin(&s, &quick);
	env_put_if(&s.env, "k", "", 0, NULL, false, &meta);
	store_fault_set(s.fault, STORE_FAULT_ALL, &lost_once);
	assert_int_equal(store_call(s.env.top, &delete), 0);
	assert_int_equal(store_call(s.env.top, &delete), -ENOENT);
	store_fault_set(s.fault, STORE_FAULT_ALL, NULL);
	env_begin(&s.env, "k", session);
	store_fault_set(s.fault, STORE_FAULT_ALL, &lost_once);
	assert_int_equal(env_abort(&s.env, "k", session), 0);
	assert_int_equal(env_abort(&s.env, "k", session), -ENOENT);
	env_end(&s.env);
}

static void slow_down_after_an_unknown_attempt_is_unknown(void **state)
{
	struct env env;
	struct store_retry_options twice = quick;
	struct call call = { .op = { .opcode = STORE_PUT, .key = "k" } };

	(void)state;
	twice.attempts_max = 2;
	env_hold(&env);
	env_push(&env, store_retry_new(&env.top, env.top, &twice));
	env_run(&env);
	call_submit(&env, &call);
	hold_wait(&env, 1);
	hold_release(&env, -ETIMEDOUT);
	hold_wait(&env, 1);
	hold_release(&env, -EAGAIN);
	assert_int_equal(call_wait(&call), -EIO);
	env_end(&env);
}

/* The time is up while the second attempt is under way. */
static void what_is_cut_off_after_a_slow_down_is_unknown(void **state)
{
	struct env env;
	struct store_retry_options options = quick;
	struct call call = { .op = { .opcode = STORE_PUT, .key = "k" } };

	(void)state;
	options.total_ns = SEC;
	env_hold(&env);
	env_push(&env, store_retry_new(&env.top, env.top, &options));
	env_run(&env);
	call_submit(&env, &call);
	hold_wait(&env, 1);
	hold_release(&env, -EAGAIN);
	hold_wait(&env, 1);
	assert_int_equal(call_wait(&call), -EIO);
	assert_int_equal(hold_total(&env), 2);
	env_end(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(our_own_put_is_recognised),
		cmocka_unit_test(another_put_is_never_taken_for_ours),
		cmocka_unit_test(without_a_name_the_error_stands),
		cmocka_unit_test(our_own_commit_is_recognised),
		cmocka_unit_test(another_commit_is_never_taken_for_ours),
		cmocka_unit_test(the_comparison_is_retried_too),
		cmocka_unit_test(a_cancelled_comparison_is_no_success),
		cmocka_unit_test(a_refusal_that_was_not_compared_is_no_answer),
		cmocka_unit_test(a_comparison_that_is_refused_leaves_it_unknown),
		cmocka_unit_test(what_is_gone_was_deleted_by_us),
		cmocka_unit_test(slow_down_after_an_unknown_attempt_is_unknown),
		cmocka_unit_test(what_is_cut_off_after_a_slow_down_is_unknown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
