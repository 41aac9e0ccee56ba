/* SPDX-License-Identifier: Apache-2.0 */
/* What is below a switch is exchanged under operations, and let go after the last of them. */
#include "store-fixture.h"

#include "store/layers/limit.h"
#include "store/layers/switch.h"

static _Atomic unsigned released;
static struct store *_Atomic last_released;

static void count_released(void *arg, struct store *side)
{
	assert_ptr_equal(arg, &released);
	last_released = side;
	released++;
	store_free(side);
}

static const struct store_switch_options options = { .released = count_released, .arg = &released };

struct change {
	struct store *layer, *next;
	int ret;
};

static void change_run(void *arg)
{
	struct change *c = arg;

	c->ret = store_switch_to(c->layer, c->next);
}

/* From a held service to one in memory. */
static struct store *change(struct env *env)
{
	struct change c = { .layer = env->top };

	env_ok(store_memory_new(&c.next, env->loop, NULL));
	c.next->caps = env->hold->caps;
	env_ok(store_limit_new(&c.next, c.next, NULL));
	assert_true(store_switch_fits(env->top, c.next));
	env_on_loop(env, change_run, &c);
	assert_int_equal(c.ret, 0);
	return c.next;
}

static void begin(struct env *env)
{
	released = 0;
	last_released = NULL;
	env_hold(env);
	env_push(env, store_limit_new(&env->top, env->top, NULL));
	env_push(env, store_switch_new(&env->top, env->top, &options));
	env_run(env);
}

static void wait_released(unsigned count)
{
	for (int ms = 0; released != count; ms++) {
		assert_true(ms < 10000);
		sleep_ms(1);
	}
}

static void those_under_way_stay_where_they_are(void **state)
{
	struct call first = { .op = { .opcode = STORE_STAT, .key = "k" } };
	struct env env;
	struct store *old;

	(void)state;
	begin(&env);
	old = env.top->next;
	call_submit(&env, &first);
	hold_wait(&env, 1);
	change(&env);
	/* The new side answers, the old one has not let go. */
	assert_int_equal(env_put(&env, "k", "abc", 3), 0);
	assert_int_equal(env_stat(&env, "k", &(struct store_meta){ 0 }), 0);
	assert_int_equal(released, 0);
	hold_release(&env, -ENOENT);
	assert_int_equal(call_wait(&first), -ENOENT);
	wait_released(1);
	assert_ptr_equal(last_released, old);
	env_end(&env);
}

static void an_idle_side_is_released_at_once(void **state)
{
	struct env env;
	struct store *second;

	(void)state;
	begin(&env);
	second = change(&env);
	wait_released(1);
	assert_int_equal(env_put(&env, "k", "abc", 3), 0);
	assert_ptr_equal(env.top->next, second);
	env_end(&env);
	/* What is current goes with the switch. */
	assert_int_equal(released, 1);
}

static void what_the_old_side_refuses_is_asked_of_the_new_one(void **state)
{
	struct call first = { .op = { .opcode = STORE_PUT, .key = "k" } };
	struct env env;

	(void)state;
	begin(&env);
	call_body(&first, "abc", 3);
	call_submit(&env, &first);
	hold_wait(&env, 1);
	change(&env);
	hold_release(&env, -EACCES);
	assert_int_equal(call_wait(&first), 0);
	assert_int_equal(env_stat(&env, "k", &(struct store_meta){ 0 }), 0);
	wait_released(1);
	env_end(&env);
}

static void a_refusal_of_the_current_side_stands(void **state)
{
	struct call first = { .op = { .opcode = STORE_STAT, .key = "k" } };
	struct env env;

	(void)state;
	begin(&env);
	call_submit(&env, &first);
	hold_wait(&env, 1);
	hold_release(&env, -EACCES);
	assert_int_equal(call_wait(&first), -EACCES);
	assert_int_equal(hold_total(&env), 1);
	env_end(&env);
}

static void cancelled_ones_are_not_asked_again(void **state)
{
	struct call first = { .op = { .opcode = STORE_STAT, .key = "k" } };
	struct env env;

	(void)state;
	begin(&env);
	call_submit(&env, &first);
	hold_wait(&env, 1);
	change(&env);
	hold_cancel_result(&env, -EACCES);
	store_cancel(&first.op);
	assert_int_equal(call_wait(&first), -EACCES);
	wait_released(1);
	env_end(&env);
}

static void other_capabilities_do_not_fit(void **state)
{
	struct store *next;
	struct env env;

	(void)state;
	begin(&env);
	env_ok(store_memory_new(&next, env.loop, NULL));
	next->caps = env.hold->caps;
	assert_false(store_switch_fits(env.top, next)); /* a layer less */
	next->caps.put_max++;
	env_ok(store_limit_new(&next, next, NULL));
	assert_false(store_switch_fits(env.top, next));
	store_free(next);
	env_end(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(those_under_way_stay_where_they_are),
		cmocka_unit_test(an_idle_side_is_released_at_once),
		cmocka_unit_test(what_the_old_side_refuses_is_asked_of_the_new_one),
		cmocka_unit_test(a_refusal_of_the_current_side_stands),
		cmocka_unit_test(cancelled_ones_are_not_asked_again),
		cmocka_unit_test(other_capabilities_do_not_fit),
	};

	return cmocka_run_group_tests_name("store-switch", tests, NULL, NULL);
}
