/* SPDX-License-Identifier: Apache-2.0 */
#include "ring-env.h"

#include <errno.h>

#define W VRING_DESC_F_WRITE
#define WRAP (1u << VRING_PACKED_EVENT_F_WRAP_CTR)

static const struct elem request[] = {
	{ DATA_GPA, 40, 0 },
	{ DATA_GPA + 0x1000, 16, W },
	{ DATA_GPA + 0x2000, 4096, W },
};

static void start(struct ring_env *env, bool event_idx, unsigned size)
{
	ring_env_init(env);
	ring_env_setup(env, true, event_idx, size);
	assert_int_equal(virtq_start(&env->vq), 0);
	assert_true(virtq_should_notify(&env->vq)); /* the one after a start */
}

static void test_one_chain(void **state)
{
	struct ring_env env;
	uint16_t id;
	uint32_t len;

	(void)state;
	start(&env, false, 8);
	assert_int_equal(pop(&env), 0); /* a ring of zeros has nothing available */
	assert_false(virtq_has_chain(&env.vq));
	packed_add(&env, 77, request, 3);
	assert_true(virtq_has_chain(&env.vq));
	assert_int_equal(pop(&env), 1);
	assert_int_equal(env.chain.id, 77);
	assert_int_equal(env.chain.slots, 3);
	assert_int_equal(env.chain.in_count, 1);
	assert_int_equal(env.chain.out_count, 2);
	assert_int_equal(env.chain.out_bytes, 16 + 4096);
	assert_int_equal(pop(&env), 0);
	assert_false(packed_take_used(&env, 3, &id, &len));
	virtq_push(&env.vq, &env.chain, 16);
	assert_true(packed_take_used(&env, 3, &id, &len));
	assert_int_equal(id, 77);
	assert_int_equal(len, 16);
	assert_false(packed_take_used(&env, 3, &id, &len));

	/* Nothing written: no WRITE flag (2.8.3). */
	packed_add(&env, 78, request, 1);
	assert_int_equal(pop(&env), 1);
	virtq_push(&env.vq, &env.chain, 0);
	assert_int_equal(packed_slot(&env, 3)->flags & W, 0);
	ring_env_fini(&env);
}

/* Chains of one to three slots in a ring that they do not divide, for many laps,
 * completed in another order than taken, so that used descriptors overwrite
 * slots of chains in flight. */
static void test_wrap(void **state)
{
	for (unsigned size = 1; size <= 13; size++) {
		struct ring_env env;
		uint32_t random = size;

		(void)state;
		start(&env, false, size);
		for (unsigned round = 0; round < 3000; round++) {
			struct virtq_chain held[16];
			unsigned chains = 0, slots = 0;

			for (;;) {
				random = random * 1103515245 + 12345;
				unsigned n = 1 + (random >> 16) % 3;

				if (slots + n > size)
					break;
				packed_add(&env, (uint16_t)(chains + 100), request, n);
				assert_int_equal(pop(&env), 1);
				assert_int_equal(env.chain.slots, n);
				assert_int_equal(env.chain.in_count, 1);
				assert_int_equal(env.chain.out_count, n - 1);
				held[chains++] = env.chain;
				slots += n;
			}
			assert_int_equal(pop(&env), 0);
			for (unsigned i = chains; i-- > 0;) {
				uint16_t id;
				uint32_t len;

				virtq_push(&env.vq, &held[i], round + i);
				assert_true(packed_take_used(&env, held[i].slots, &id, &len));
				assert_int_equal(id, i + 100);
				assert_int_equal(len, round + i);
			}
			assert_int_equal(env.vq.in_flight, 0);
		}
		ring_env_fini(&env);
	}
}

static void indirect(struct ring_env *env, uint64_t gpa, uint32_t len)
{
	packed_add(env, 5, (struct elem[]){ { gpa, len, VRING_DESC_F_INDIRECT | W } }, 1);
}

static void fill_table(struct ring_env *env, unsigned count)
{
	struct vring_packed_desc *t = guest(env, TABLE_GPA);

	for (unsigned i = 0; i < count; i++) {
		/* Flags other than WRITE, and ids, are to be ignored (2.8.7). */
		t[i] = (struct vring_packed_desc){
			.addr = DATA_GPA + i * 16u,
			.len = 8,
			.id = (uint16_t)(i + 1000),
			.flags = (uint16_t)((i == count - 1 ? W : 0) |
					    (i % 2 ? VRING_DESC_F_NEXT : 0)),
		};
	}
}

static void test_indirect(void **state)
{
	struct ring_env env;

	(void)state;
	start(&env, false, 4);
	fill_table(&env, 6);
	indirect(&env, TABLE_GPA, 96);
	assert_int_equal(pop(&env), 1);
	assert_int_equal(env.chain.id, 5);
	assert_int_equal(env.chain.slots, 1);
	assert_int_equal(env.chain.in_count, 5);
	assert_int_equal(env.chain.out_count, 1);

	fill_table(&env, 1024);
	indirect(&env, TABLE_GPA, 1024 * 16);
	assert_int_equal(pop(&env), 1);
	assert_int_equal(env.chain.in_count, 1023);
	ring_env_fini(&env);
}

struct lie {
	const char *reason;
	void (*tell)(struct ring_env *env);
};

static void lie_endless(struct ring_env *env)
{
	packed_add(env, 1, request, 3);
	for (unsigned i = 0; i < 8; i++)
		packed_slot(env, i)->flags |= VRING_DESC_F_NEXT;
}

static void lie_too_many(struct ring_env *env)
{
	packed_add(env, 1, (struct elem[8]){ [0 ... 7] = { DATA_GPA, 8, 0 } }, 8);
}

static void lie_order(struct ring_env *env)
{
	packed_add(env, 1, (struct elem[]){ { DATA_GPA, 8, W }, { DATA_GPA, 8, 0 } }, 2);
}

static void lie_hole(struct ring_env *env)
{
	packed_add(env, 1, (struct elem[]){ { 2 * MIB - 8, 9, W } }, 1);
}

static void lie_indirect_next(struct ring_env *env)
{
	packed_add(env, 1,
		   (struct elem[]){ { TABLE_GPA, 16, VRING_DESC_F_INDIRECT }, { DATA_GPA, 8, 0 } },
		   2);
}

static void lie_indirect_later(struct ring_env *env)
{
	packed_add(env, 1,
		   (struct elem[]){ { DATA_GPA, 8, 0 }, { TABLE_GPA, 16, VRING_DESC_F_INDIRECT } },
		   2);
}

static void lie_indirect_empty(struct ring_env *env)
{
	indirect(env, TABLE_GPA, 0);
}

static void lie_indirect_odd(struct ring_env *env)
{
	indirect(env, TABLE_GPA, 17);
}

static void lie_indirect_long(struct ring_env *env)
{
	indirect(env, TABLE_GPA, 1025 * 16);
}

static void lie_indirect_outside(struct ring_env *env)
{
	indirect(env, 2 * MIB - 8, 16);
}

static void lie_indirect_wraps(struct ring_env *env)
{
	indirect(env, UINT64_MAX - 15, 32);
}

static void test_lies(void **state)
{
	static const struct lie lies[] = {
		{ "more descriptors available than the ring is long", lie_endless },
		{ "more descriptors available than the ring is long", lie_too_many },
		{ "device-readable descriptor after a writable one", lie_order },
		{ "descriptor outside guest memory", lie_hole },
		{ "indirect descriptor with a next one", lie_indirect_next },
		{ "indirect descriptor in a chain of others", lie_indirect_later },
		{ "indirect table length not a multiple of 16", lie_indirect_empty },
		{ "indirect table length not a multiple of 16", lie_indirect_odd },
		{ "descriptor chain too long", lie_indirect_long },
		{ "indirect table outside guest memory", lie_indirect_outside },
		{ "indirect table outside guest memory", lie_indirect_wraps },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		struct ring_env env;
		struct virtq_chain held;
		uint16_t id;
		uint32_t len;

		start(&env, false, 8);
		packed_add(&env, 7, request, 1);
		assert_int_equal(pop(&env), 1);
		held = env.chain;
		lies[i].tell(&env);
		assert_int_equal(pop(&env), -EPROTO);
		assert_string_equal(virtq_error(&env.vq), lies[i].reason);
		assert_int_equal(pop(&env), -EPROTO);
		virtq_push(&env.vq, &held, 1);
		assert_false(packed_take_used(&env, 1, &id, &len));
		assert_true(virtq_has_chain(&env.vq));
		assert_false(virtq_should_notify(&env.vq));
		ring_env_fini(&env);
	}
}

static void test_no_indirect_feature(void **state)
{
	struct ring_env env;

	(void)state;
	ring_env_init(&env);
	ring_env_setup(&env, true, false, 8);
	virtq_set_features(&env.vq, true, false, false);
	assert_int_equal(virtq_start(&env.vq), 0);
	indirect(&env, TABLE_GPA, 16);
	assert_int_equal(pop(&env), -EPROTO);
	ring_env_fini(&env);
}

static bool push_many(struct ring_env *env, unsigned count, unsigned slots)
{
	for (unsigned i = 0; i < count; i++) {
		packed_add(env, 1, request, slots);
		assert_int_equal(pop(env), 1);
		virtq_push(&env->vq, &env->chain, 0);
	}
	return virtq_should_notify(&env->vq);
}

static void set_event(struct ring_env *env, unsigned idx, bool wrap)
{
	packed_driver_event(env)->flags = VRING_PACKED_EVENT_FLAG_DESC;
	packed_driver_event(env)->off_wrap = (uint16_t)(idx | (wrap ? WRAP : 0));
}

static void test_notify_event_idx(void **state)
{
	struct ring_env env;

	(void)state;
	start(&env, true, 8);
	/* Used position 0, wrap 1. */
	set_event(&env, 0, true);
	assert_true(push_many(&env, 1, 1));  /* 1 */
	assert_false(push_many(&env, 1, 1)); /* 2 */
	assert_false(virtq_should_notify(&env.vq));
	set_event(&env, 4, true);
	assert_false(push_many(&env, 2, 1)); /* 4 */
	assert_true(push_many(&env, 1, 3));  /* 7: a chain of three steps over it */
	/* In the next lap: not by the end of this one. */
	set_event(&env, 0, false);
	assert_false(push_many(&env, 1, 1)); /* 0 of the next lap */
	assert_true(push_many(&env, 1, 1));  /* 1 */
	/* Of the lap before: long behind. */
	set_event(&env, 5, true);
	assert_false(push_many(&env, 2, 1)); /* 3 */
	/* Over the end of the ring in a batch, the event just before the end. */
	set_event(&env, 7, false);
	assert_true(push_many(&env, 3, 2)); /* 9 = 1 of the next lap */
	set_event(&env, 2, true);
	assert_false(push_many(&env, 1, 1)); /* 2 */
	assert_true(push_many(&env, 1, 1));  /* 3 */

	packed_driver_event(&env)->flags = VRING_PACKED_EVENT_FLAG_DISABLE;
	assert_false(push_many(&env, 5, 1));
	packed_driver_event(&env)->flags = VRING_PACKED_EVENT_FLAG_ENABLE;
	assert_true(push_many(&env, 1, 1));
	assert_false(virtq_should_notify(&env.vq));
	ring_env_fini(&env);
}

static void test_notify_flags(void **state)
{
	struct ring_env env;

	(void)state;
	start(&env, false, 8);
	assert_true(push_many(&env, 1, 1));
	packed_driver_event(&env)->flags = VRING_PACKED_EVENT_FLAG_DISABLE;
	assert_false(push_many(&env, 1, 1));
	set_event(&env, 7, false); /* not negotiated: on the safe side */
	assert_true(push_many(&env, 1, 1));
	ring_env_fini(&env);
}

static void test_kicks(void **state)
{
	struct ring_env env;

	(void)state;
	start(&env, false, 8);
	virtq_disable_kicks(&env.vq);
	assert_int_equal(packed_device_event(&env)->flags, VRING_PACKED_EVENT_FLAG_DISABLE);
	assert_false(virtq_enable_kicks(&env.vq));
	assert_int_equal(packed_device_event(&env)->flags, VRING_PACKED_EVENT_FLAG_ENABLE);
	ring_env_fini(&env);

	start(&env, true, 5);
	(void)push_many(&env, 1, 3);
	assert_false(virtq_enable_kicks(&env.vq));
	assert_int_equal(packed_device_event(&env)->flags, VRING_PACKED_EVENT_FLAG_DESC);
	assert_int_equal(packed_device_event(&env)->off_wrap, 3 | WRAP);
	virtq_disable_kicks(&env.vq);
	assert_int_equal(packed_device_event(&env)->flags, VRING_PACKED_EVENT_FLAG_DISABLE);
	(void)push_many(&env, 1, 3);
	assert_false(virtq_enable_kicks(&env.vq));
	assert_int_equal(packed_device_event(&env)->off_wrap, 1);
	packed_add(&env, 1, request, 1);
	assert_true(virtq_enable_kicks(&env.vq));
	ring_env_fini(&env);
}

static void test_base(void **state)
{
	struct ring_env env;
	uint16_t id;
	uint32_t base, len;

	(void)state;
	start(&env, false, 5);
	assert_int_equal(virtq_get_base(&env.vq), 0x80008000);
	packed_add(&env, 1, request, 3);
	packed_add(&env, 2, request, 2);
	assert_int_equal(pop(&env), 1);
	virtq_push(&env.vq, &env.chain, 1);
	assert_true(packed_take_used(&env, 3, &id, &len));
	assert_int_equal(pop(&env), 1);
	virtq_stop(&env.vq);
	base = virtq_get_base(&env.vq);
	assert_int_equal(base, 0x80030000); /* used 3 of lap 1, avail 0 of lap 0 */

	/* Another device takes over where this one stopped, but for the chain that was
	 * lost: the front end gives the avail half twice. */
	env.seen = env.avail;
	env.seen_wrap = env.avail_wrap;
	assert_int_equal(virtq_set_base(&env.vq, 3 | WRAP | (3 | WRAP) << 16), 0);
	assert_int_equal(virtq_get_base(&env.vq), 0x80038003);
	assert_int_equal(virtq_start(&env.vq), 0);
	env.seen = 3;
	env.seen_wrap = true;
	assert_int_equal(pop(&env), 1);
	assert_int_equal(env.chain.id, 2);
	virtq_push(&env.vq, &env.chain, 9);
	assert_true(packed_take_used(&env, 2, &id, &len));
	assert_int_equal(id, 2);
	virtq_stop(&env.vq);
	assert_int_equal(virtq_get_base(&env.vq), 0);

	/* A front end that leaves the upper half out. */
	assert_int_equal(virtq_set_base(&env.vq, 0x8002), 0);
	assert_int_equal(virtq_get_base(&env.vq), 0x80028002);
	/* Outside this ring, and outside every ring. */
	assert_int_equal(virtq_set_base(&env.vq, 0x80058005), 0);
	assert_int_equal(virtq_start(&env.vq), -EPROTO);
	assert_int_equal(virtq_set_base(&env.vq, 0x80008400), -EINVAL);
	assert_int_equal(virtq_set_base(&env.vq, 0x84008000), -EINVAL);
	ring_env_fini(&env);
}

/* Used position 0 with wrap counter 0 has an upper half of 0, too, and chains are out. */
static void test_base_of_its_own(void **state)
{
	struct ring_env env;
	uint16_t id;
	uint32_t len;

	(void)state;
	start(&env, false, 4);
	(void)push_many(&env, 4, 1);
	env.seen = 0;
	env.seen_wrap = false;
	packed_add(&env, 7, request, 1);
	assert_int_equal(pop(&env), 1);
	virtq_stop(&env.vq);
	assert_int_equal(virtq_get_base(&env.vq), 1);
	assert_int_equal(virtq_set_base(&env.vq, 1), 0);
	assert_int_equal(virtq_get_base(&env.vq), 1);
	assert_int_equal(virtq_start(&env.vq), 0);
	packed_add(&env, 8, request, 1);
	assert_int_equal(pop(&env), 1);
	virtq_push(&env.vq, &env.chain, 5);
	assert_true(packed_take_used(&env, 1, &id, &len));
	assert_int_equal(id, 8);
	virtq_stop(&env.vq);
	/* Any other one is a front end's. */
	assert_int_equal(virtq_set_base(&env.vq, 1), 0);
	assert_int_equal(virtq_get_base(&env.vq), 0x10001);
	ring_env_fini(&env);
}

static void test_setup_refusals(void **state)
{
	struct ring_env env;
	struct virtq_addr addr;

	(void)state;
	ring_env_init(&env);
	ring_env_setup(&env, true, true, 1000);
	assert_int_equal(virtq_start(&env.vq), 0);
	virtq_stop(&env.vq);
	assert_int_equal(virtq_set_size(&env.vq, 1025), -EINVAL);
	for (unsigned i = 0; i < 3; i++) {
		addr = env.vq.addr;
		*(i == 0 ? &addr.desc : i == 1 ? &addr.driver : &addr.device) += i == 0 ? 8 : 2;
		virtq_set_addr(&env.vq, &addr);
		assert_int_equal(virtq_start(&env.vq), -EINVAL);
		*(i == 0 ? &addr.desc : i == 1 ? &addr.driver : &addr.device) -= i == 0 ? 8 : 2;
		virtq_set_addr(&env.vq, &addr);
	}
	addr.desc = UVA_OFFSET + 2 * MIB - 16000;
	virtq_set_addr(&env.vq, &addr);
	assert_int_equal(virtq_start(&env.vq), 0);
	virtq_stop(&env.vq);
	addr.desc += 16;
	virtq_set_addr(&env.vq, &addr);
	assert_int_equal(virtq_start(&env.vq), -EFAULT);
	ring_env_fini(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_chain),
		cmocka_unit_test(test_wrap),
		cmocka_unit_test(test_indirect),
		cmocka_unit_test(test_lies),
		cmocka_unit_test(test_no_indirect_feature),
		cmocka_unit_test(test_notify_event_idx),
		cmocka_unit_test(test_notify_flags),
		cmocka_unit_test(test_kicks),
		cmocka_unit_test(test_base),
		cmocka_unit_test(test_base_of_its_own),
		cmocka_unit_test(test_setup_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
