/* SPDX-License-Identifier: Apache-2.0 */
#include "store-retry-stack.h"

const struct store_retry_options quick = {
	.attempts_max = 8, .pause_first_ns = MSEC, .pause_max_ns = 4 * MSEC, .seed = 1
};

static void meddler_complete(struct store *store, struct store_op *op)
{
	struct meddler *meddler = container_of(store, struct meddler, store);

	if (meddler->after && --meddler->after == 0)
		meddler->meddle(meddler->env);
	store_op_complete(op, op->result);
}

static void meddler_submit(struct store *store, struct store_op *op)
{
	store_op_forward(store, op, meddler_complete);
}

static void meddler_free(struct store *store)
{
	free(container_of(store, struct meddler, store));
}

static const struct store_ops meddler_ops = {
	.name = "meddler",
	.submit = meddler_submit,
	.free = meddler_free,
};

void stack_begin(struct stack *s, const struct store_retry_options *options)
{
	env_memory(&s->env, NULL);
	s->meddler = calloc(1, sizeof(*s->meddler));
	assert_non_null(s->meddler);
	s->meddler->env = &s->env;
	env_ok(store_init_layer(&s->meddler->store, &meddler_ops, s->env.top));
	env_ok(store_metrics_new(&s->metrics, &s->meddler->store));
	env_ok(store_fault_new(&s->fault, s->metrics, 7));
	env_ok(store_retry_new(&s->retry, s->fault, options));
	s->env.top = s->retry;
	env_run(&s->env);
}

void stack_meddle(struct stack *s, unsigned after, void (*meddle)(struct env *env))
{
	s->meddler->meddle = meddle;
	s->meddler->after = after;
}

void overwrite(struct env *env)
{
	assert_int_equal(store_memory_write(env->memory, "k", "theirs!!!!", 10, NULL), 0);
}

void vanish(struct env *env)
{
	assert_int_equal(store_memory_remove(env->memory, "k"), 0);
}

const struct store_fault lost_once = { .lost_permille = 1000, .count = 1 };
const struct store_fault lost_thrice = { .lost_permille = 1000, .count = 3 };
