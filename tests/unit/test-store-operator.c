/* SPDX-License-Identifier: Apache-2.0 */
/* Operations walk down and up a stack, end once, and can be cancelled anywhere. */
#include "store-fixture.h"

#include "store/layers/fault.h"
#include "store/layers/limit.h"
#include "store/layers/metrics.h"
#include "store/layers/retry.h"
#include "store/layers/throttle.h"
#include "store/layers/timeout.h"

/* ---- A layer that keeps a diary ---- */

struct diary {
	struct store store;
	char name;
	char *text;
};

static void diary_write(struct store *store, char direction)
{
	struct diary *diary = container_of(store, struct diary, store);
	size_t used = strlen(diary->text);

	diary->text[used] = diary->name;
	diary->text[used + 1] = direction;
	diary->text[used + 2] = '\0';
}

static void diary_complete(struct store *store, struct store_op *op)
{
	diary_write(store, '^');
	store_op_complete(op, op->result);
}

static void diary_submit(struct store *store, struct store_op *op)
{
	diary_write(store, 'v');
	store_op_forward(store, op, diary_complete);
}

static void diary_free(struct store *store)
{
	diary_write(store, 'x');
	free(container_of(store, struct diary, store));
}

static const struct store_ops diary_ops = {
	.name = "diary",
	.submit = diary_submit,
	.free = diary_free,
};

static struct err *diary_new(struct store **out, struct store *next, char name, char *text)
{
	struct diary *diary = calloc(1, sizeof(*diary));
	struct err *e;

	assert_non_null(diary);
	diary->name = name;
	diary->text = text;
	e = store_init_layer(&diary->store, &diary_ops, next);
	if (e)
		free(diary);
	else
		*out = &diary->store;
	return e;
}

static void layers_are_walked_down_and_up(void **state)
{
	struct env env;
	char text[64] = "";

	(void)state;
	env_memory(&env, NULL);
	for (char name = 'a'; name <= 'c'; name++)
		env_push(&env, diary_new(&env.top, env.top, name, text));
	env_run(&env);
	assert_int_equal(env_stat(&env, "k", NULL), -ENOENT);
	assert_string_equal(text, "cvbvava^b^c^");
	text[0] = '\0';
	env_end(&env);
	assert_string_equal(text, "cxbxax");
}

static void stacks_have_a_height_limit(void **state)
{
	struct env env;
	char text[64] = "";
	struct store *top;
	struct err *e;

	(void)state;
	env_memory(&env, NULL);
	for (unsigned i = 0; i < STORE_LAYERS_MAX; i++)
		env_push(&env, diary_new(&env.top, env.top, 'a', text));
	e = diary_new(&top, env.top, 'b', text);
	assert_non_null(e);
	assert_non_null(strstr(err_msg(e), "diary"));
	err_free(e);
	env_run(&env);
	assert_int_equal(env_stat(&env, "k", NULL), -ENOENT);
	env_end(&env);
}

static void every_opcode_has_a_name(void **state)
{
	(void)state;
	for (enum store_opcode i = 0; i < STORE_OPCODE_COUNT; i++) {
		for (enum store_opcode j = 0; j < i; j++)
			assert_string_not_equal(store_opcode_name(i), store_opcode_name(j));
	}
	assert_string_equal(store_opcode_name(STORE_OPCODE_COUNT), "unknown");
}

static int call_op(struct env *env, struct store_op op)
{
	return store_call(env->top, &op);
}

static void ignore_entry(struct store_op *op, const struct store_entry *entry)
{
	(void)op;
	(void)entry;
}

#define OP(...) ((struct store_op){ __VA_ARGS__ })

static void nonsense_is_refused_before_the_service(void **state)
{
	static const struct store_part parts[] = { { .number = 1 }, { .number = 1 } };
	static const char *const keys[] = { "k", "" };
	struct env env;
	struct store_page page;
	char key[STORE_KEY_MAX + 2], buf[4];
	struct call call = { .op = { .opcode = STORE_READ, .key = "k" } };
	int results[2];

	(void)state;
	memset(key, 'k', sizeof(key));
	key[sizeof(key) - 1] = '\0';
	env_memory(&env, NULL);
	env_run(&env);
	assert_int_equal(call_op(&env, OP(STORE_OPCODE_COUNT, "k")), -EINVAL);
	assert_int_equal(call_op(&env, OP(STORE_STAT, "")), -EINVAL);
	assert_int_equal(call_op(&env, OP(STORE_STAT, NULL)), -EINVAL);
	assert_int_equal(call_op(&env, OP(STORE_STAT, key)), -ENAMETOOLONG);
	assert_int_equal(call_op(&env, OP(STORE_STAT, key + 1)), -ENOENT);
	assert_int_equal(call_op(&env, OP(STORE_READ, "k")), -EINVAL); /* no room */
	call_body(&call, buf, 4);
	call.op.length = 5;
	assert_int_equal(store_call(env.top, &call.op), -EINVAL);
	call.op.length = 4;
	call.op.offset = UINT64_MAX - 2;
	assert_int_equal(store_call(env.top, &call.op), -EINVAL);
	assert_int_equal(call_op(&env, OP(STORE_PUT, "k", .if_match = "\"1\"", .if_absent = true)),
			 -EINVAL);
	assert_int_equal(call_op(&env, OP(STORE_STAT, "k", .if_absent = true)), -EOPNOTSUPP);
	assert_int_equal(call_op(&env, OP(STORE_LIST, "", .if_match = "x")), -EOPNOTSUPP);
	assert_int_equal(call_op(&env, OP(STORE_PUT, "k", .write_id = key)), -EINVAL);
	assert_int_equal(call_op(&env, OP(STORE_PART, "k", .part_number = 1)), -EINVAL);
	assert_int_equal(call_op(&env, OP(STORE_ABORT, "k", .session = "")), -EINVAL);
	assert_int_equal(call_op(&env, OP(STORE_COMMIT, "k", .session = "s")), -EINVAL);
	assert_int_equal(call_op(&env, OP(STORE_COMMIT, "k", .session = "s", .parts = parts,
					  .part_count = 2)),
			 -EINVAL);
	/* There is no such service here; see test-filefs-cache.c for one. */
	assert_int_equal(call_op(&env, OP(STORE_WRITE, "k")), -EOPNOTSUPP);
	assert_int_equal(call_op(&env, OP(STORE_COPY, "k")), -EINVAL);
	assert_int_equal(call_op(&env, OP(STORE_COPY_PART, "k", .session = "s", .part_number = 1,
					  .source_key = "s")),
			 -EINVAL);
	assert_int_equal(call_op(&env, OP(STORE_LIST, "", .list.page = &page)), -EINVAL);
	assert_int_equal(call_op(&env, OP(STORE_LIST, "", .list.entry = ignore_entry)), -EINVAL);
	assert_int_equal(call_op(&env, OP(STORE_DELETE_BATCH, .keys = keys, .key_count = 2,
					  .key_results = results)),
			 -EINVAL);
	assert_int_equal(
		call_op(&env, OP(STORE_DELETE_BATCH, .keys = keys, .key_results = results)),
		-EINVAL);
	assert_int_equal(call_op(&env, OP(STORE_DELETE_BATCH, .keys = keys, .key_count = 1001,
					  .key_results = results)),
			 -EFBIG);
	env_end(&env);
}

static void missing_capabilities_are_told(void **state)
{
	static const char *const keys[] = { "k" };
	struct env env;
	struct store_page page;
	int result;

	(void)state;
	env_hold(&env);
	env.top->caps = (struct store_caps){ 0 };
	env_run(&env);
	assert_int_equal(call_op(&env, OP(STORE_READ, "k", .if_match = "\"1\"")), -EOPNOTSUPP);
	assert_int_equal(call_op(&env, OP(STORE_PUT, "k", .if_match = "\"1\"")), -EOPNOTSUPP);
	assert_int_equal(call_op(&env, OP(STORE_PUT, "k", .if_absent = true)), -EOPNOTSUPP);
	assert_int_equal(call_op(&env, OP(STORE_PUT, "k", .set_user_mtime = true)), -EOPNOTSUPP);
	assert_int_equal(call_op(&env, OP(STORE_DELETE, "k", .if_match = "\"1\"")), -EOPNOTSUPP);
	assert_int_equal(call_op(&env, OP(STORE_BEGIN, "k")), -EOPNOTSUPP);
	assert_int_equal(call_op(&env, OP(STORE_COPY, "k", .source_key = "s")), -EOPNOTSUPP);
	assert_int_equal(
		call_op(&env,
			OP(STORE_LIST, "",
			   .list = { .start_after = "a", .entry = ignore_entry, .page = &page })),
		-EOPNOTSUPP);
	assert_int_equal(call_op(&env, OP(STORE_DELETE_BATCH, .keys = keys, .key_count = 1,
					  .key_results = &result)),
			 -EOPNOTSUPP);
	assert_int_equal(hold_total(&env), 0);
	env_end(&env);
}

static void say_the_size(void *arg)
{
	struct store_op *op = arg;

	op->meta.size = 10;
}

static void short_bodies_are_no_success(void **state)
{
	struct env env;
	char buf[8];
	struct call read = { .op = { .opcode = STORE_READ, .key = "k" } };
	struct call begin = { .op = { .opcode = STORE_BEGIN, .key = "k" } };

	(void)state;
	env_hold(&env);
	env_run(&env);
	call_body(&read, buf, sizeof(buf));
	for (uint64_t offset = 0; offset < 5; offset += 4) {
		read.op.offset = offset;
		call_submit(&env, &read);
		hold_wait(&env, 1);
		env_on_loop(&env, say_the_size, &read.op);
		hold_move(&env, 6);
		hold_release(&env, 0);
		/* of 8 bytes there are 8; of the last 6, there are 6 */
		assert_int_equal(call_wait(&read), offset ? 0 : -EIO);
		assert_int_equal(read.op.done, 6);
	}
	call_submit(&env, &begin);
	hold_wait(&env, 1);
	hold_release(&env, 0);
	assert_int_equal(call_wait(&begin), -EIO);
	env_end(&env);
}

static void write_ids_differ(void **state)
{
	char ids[50][STORE_WRITE_ID_MAX];

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(ids); i++) {
		store_write_id(ids[i]);
		assert_int_equal(strlen(ids[i]), STORE_WRITE_ID_MAX - 1);
		for (unsigned j = 0; j < i; j++)
			assert_string_not_equal(ids[i], ids[j]);
	}
}

/* ---- From several threads ---- */

#define CALLERS 4
#define CALLS 500

struct caller {
	struct env *env;
	pthread_t thread;
	unsigned number;
};

static void *caller_run(void *arg)
{
	struct caller *caller = arg;
	char key[16], data[16], buf[16];

	for (unsigned i = 0; i < CALLS; i++) {
		int len;

		snprintf(key, sizeof(key), "%u/%u", caller->number, i % 7);
		len = snprintf(data, sizeof(data), "%u-%u", caller->number, i);
		if (env_put(caller->env, key, data, (size_t)len) != 0 ||
		    env_read(caller->env, key, 0, buf, sizeof(buf), NULL, NULL) != len ||
		    memcmp(buf, data, (size_t)len) != 0)
			return caller;
	}
	return NULL;
}

static void threads_call_at_the_same_time(void **state)
{
	struct env env;
	struct caller callers[CALLERS];
	struct store_metrics_opcode counted;
	struct store *metrics;

	(void)state;
	env_memory(&env, NULL);
	env_push(&env, store_limit_new(&env.top, env.top, NULL));
	env_push(&env, store_metrics_new(&env.top, env.top));
	metrics = env.top;
	env_run(&env);
	for (unsigned i = 0; i < CALLERS; i++) {
		callers[i] = (struct caller){ .env = &env, .number = i };
		assert_int_equal(pthread_create(&callers[i].thread, NULL, caller_run, &callers[i]),
				 0);
	}
	for (unsigned i = 0; i < CALLERS; i++) {
		void *failed;

		pthread_join(callers[i].thread, &failed);
		assert_null(failed);
	}
	store_metrics_read(metrics, STORE_PUT, &counted);
	assert_int_equal(counted.results[STORE_METRICS_OK].count, CALLERS * CALLS);
	assert_int_equal(counted.in_flight, 0);
	env_end(&env);
}

/* ---- Cancelling ---- */

static void a_cancelled_operation_leaves_the_service(void **state)
{
	struct env env;
	struct call call = { .op = { .opcode = STORE_STAT, .key = "k" } };

	(void)state;
	env_hold(&env);
	env_run(&env);
	call_submit(&env, &call);
	hold_wait(&env, 1);
	store_cancel(&call.op);
	assert_int_equal(call_wait(&call), -ECANCELED);
	assert_int_equal(hold_count(&env), 0);
	/* a late one is harmless */
	store_cancel(&call.op);
	call_submit(&env, &call);
	hold_wait(&env, 1);
	/* and the next is not cancelled by it */
	hold_release(&env, -ENOENT);
	assert_int_equal(call_wait(&call), -ENOENT);
	env_end(&env);
}

static void success_wins_over_cancelling(void **state)
{
	struct env env;
	struct call call = { .op = { .opcode = STORE_STAT, .key = "k" } };

	(void)state;
	env_hold(&env);
	hold_cancel_result(&env, 0);
	env_run(&env);
	call_submit(&env, &call);
	hold_wait(&env, 1);
	store_cancel(&call.op);
	assert_int_equal(call_wait(&call), 0);
	env_end(&env);
}

static void cancelling_at_once_or_twice_ends_once(void **state)
{
	struct env env;
	struct call call = { .op = { .opcode = STORE_STAT, .key = "k" } };

	(void)state;
	env_hold(&env);
	env_run(&env);
	for (int i = 0; i < 200; i++) {
		call_submit(&env, &call);
		store_cancel(&call.op);
		store_cancel(&call.op);
		assert_int_equal(call_wait(&call), -ECANCELED);
	}
	assert_int_equal(hold_count(&env), 0);
	env_end(&env);
}

/* Each operation is cancelled by a thread that holds the lock that its owner's
 * complete() needs, while the loop completes it: at whatever moment. */
struct contended {
	struct store_op op;
	pthread_mutex_t lock;
	bool alive;
	_Atomic bool completed;
};

static void contended_complete(struct store_op *op)
{
	struct contended *c = container_of(op, struct contended, op);

	pthread_mutex_lock(&c->lock);
	c->alive = false;
	memset(&c->op, 0xaa, sizeof(c->op)); /* nobody may need it any more */
	pthread_mutex_unlock(&c->lock);
	atomic_store(&c->completed, true);
}

static void cancelling_races_with_completing(void **state)
{
	struct env env;
	unsigned ends[2] = { 0, 0 };

	(void)state;
	env_memory(&env, NULL);
	env_push(&env, store_limit_new(&env.top, env.top, NULL));
	env_run(&env);
	srandom(11);
	for (int i = 0; i < 3000; i++) {
		struct contended c = { .alive = true };

		pthread_mutex_init(&c.lock, NULL);
		c.op = (struct store_op){ .opcode = STORE_STAT,
					  .key = "k",
					  .complete = contended_complete };
		store_submit(env.top, &c.op);
		for (long spin = random() % 4000; spin > 0; spin--)
			__asm__ volatile("");
		pthread_mutex_lock(&c.lock);
		ends[c.alive]++;
		if (c.alive)
			store_cancel(&c.op);
		pthread_mutex_unlock(&c.lock);
		while (!atomic_load(&c.completed))
			;
		pthread_mutex_destroy(&c.lock);
	}
	assert_true(ends[1] > 0);
	env_end(&env);
}

/* A whole stack; an operation is held by each layer in turn. */
static void cancelling_reaches_every_stage(void **state)
{
	static const struct store_limit_options one = { .in_flight_max = { 1, 1 } };
	static const struct store_throttle_options slow = { .up = { 10, 10 }, .down = { 10, 10 } };
	static const struct store_retry_options retries = { .attempts_max = 5,
							    .pause_first_ns = 3600 * SEC,
							    .pause_max_ns = 3600 * SEC };
	static const struct store_fault fail = { .error_permille = 1000 };
	static const struct store_fault stuck = { .delay_permille = 1000,
						  .delay_min_ns = STORE_FAULT_FOREVER };
	static const struct store_fault stuck_reply = { .reply_delay_permille = 1000,
							.delay_min_ns = STORE_FAULT_FOREVER };
	struct env env;
	struct store *fault, *limit, *metrics;
	struct store_metrics_opcode counted;
	char buf[100] = "";
	struct call a = { .op = { .opcode = STORE_PUT, .key = "a" } };
	struct call b = { .op = { .opcode = STORE_PUT, .key = "b" } };

	(void)state;
	env_memory(&env, NULL);
	env_push(&env, store_fault_new(&env.top, env.top, 1));
	fault = env.top;
	env_push(&env, store_timeout_new(&env.top, env.top, NULL));
	env_push(&env, store_limit_new(&env.top, env.top, &one));
	limit = env.top;
	env_push(&env, store_throttle_new(&env.top, env.top, &slow));
	env_push(&env, store_retry_new(&env.top, env.top, &retries));
	env_push(&env, store_metrics_new(&env.top, env.top));
	metrics = env.top;
	env_run(&env);

	/* one at the service (or beyond), one in the queue of limit */
	store_fault_set(fault, STORE_FAULT_ALL, &stuck);
	call_body(&a, buf, 1);
	call_body(&b, buf, 1);
	call_submit(&env, &a);
	call_submit(&env, &b);
	for (int ms = 0; store_limit_usage(limit, STORE_LIMIT_DATA).queued != 1; ms++) {
		assert_true(ms < 10000);
		sleep_ms(1);
	}
	store_cancel(&b.op);
	assert_int_equal(call_wait(&b), -ECANCELED);
	store_cancel(&a.op);
	assert_int_equal(call_wait(&a), -ECANCELED);
	assert_int_equal(store_memory_usage(env.memory).objects, 0);

	/* done, but the answer does not come */
	store_fault_set(fault, STORE_FAULT_ALL, &stuck_reply);
	call_submit(&env, &a);
	for (int ms = 0; store_memory_usage(env.memory).objects != 1; ms++) {
		assert_true(ms < 10000);
		sleep_ms(1);
	}
	store_cancel(&a.op);
	assert_int_equal(call_wait(&a), -ECANCELED);

	/* between two attempts */
	store_fault_set(fault, STORE_FAULT_ALL, &fail);
	call_submit(&env, &a);
	for (int ms = 0; store_fault_stats(fault).errors != 1; ms++) {
		assert_true(ms < 10000);
		sleep_ms(1);
	}
	store_cancel(&a.op);
	assert_int_equal(call_wait(&a), -ECANCELED);

	/* waiting for the bandwidth: the first takes it, for longer than the test */
	store_fault_set(fault, STORE_FAULT_ALL, NULL);
	call_body(&a, buf, 100);
	assert_int_equal(store_call(env.top, &a.op), 0);
	call_submit(&env, &b);
	sleep_ms(20);
	assert_false(atomic_load(&b.completed));
	store_cancel(&b.op);
	assert_int_equal(call_wait(&b), -ECANCELED);

	store_metrics_read(metrics, STORE_PUT, &counted);
	assert_int_equal(counted.results[STORE_METRICS_CANCELLED].count, 5);
	assert_int_equal(counted.results[STORE_METRICS_OK].count, 1);
	assert_int_equal(counted.in_flight, 0);
	assert_int_equal(store_limit_usage(limit, STORE_LIMIT_DATA).in_flight, 0);
	env_end(&env);
}

/* ---- From complete() ---- */

struct chain {
	struct store_op op;
	struct env *env;
	unsigned left;
	bool inside;
	_Atomic bool done;
};

static void chain_complete(struct store_op *op)
{
	struct chain *chain = container_of(op, struct chain, op);

	assert_false(chain->inside);
	if (--chain->left == 0) {
		atomic_store(&chain->done, true);
		return;
	}
	chain->inside = true;
	store_submit(chain->env->top, op);
	chain->inside = false;
}

static void complete_submits_without_nesting(void **state)
{
	struct env env;
	struct chain chain = {
		.op = { .opcode = STORE_STAT, .key = "k", .complete = chain_complete },
		.env = &env,
		.left = 10000
	};

	(void)state;
	env_memory(&env, NULL);
	env_run(&env);
	store_submit(env.top, &chain.op);
	while (!atomic_load(&chain.done))
		sleep_ms(1);
	env_end(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(layers_are_walked_down_and_up),
		cmocka_unit_test(stacks_have_a_height_limit),
		cmocka_unit_test(every_opcode_has_a_name),
		cmocka_unit_test(nonsense_is_refused_before_the_service),
		cmocka_unit_test(missing_capabilities_are_told),
		cmocka_unit_test(short_bodies_are_no_success),
		cmocka_unit_test(write_ids_differ),
		cmocka_unit_test(threads_call_at_the_same_time),
		cmocka_unit_test(a_cancelled_operation_leaves_the_service),
		cmocka_unit_test(success_wins_over_cancelling),
		cmocka_unit_test(cancelling_at_once_or_twice_ends_once),
		cmocka_unit_test(cancelling_races_with_completing),
		cmocka_unit_test(cancelling_reaches_every_stage),
		cmocka_unit_test(complete_submits_without_nesting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
