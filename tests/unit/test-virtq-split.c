/* SPDX-License-Identifier: Apache-2.0 */
#include "ring-env.h"

#include <errno.h>

#define W VRING_DESC_F_WRITE

static const struct elem request[] = {
	{ DATA_GPA, 40, 0 },
	{ DATA_GPA + 0x1000, 16, W },
	{ DATA_GPA + 0x2000, 4096, W },
};

static void start(struct ring_env *env, bool event_idx, unsigned size)
{
	ring_env_init(env);
	ring_env_setup(env, false, event_idx, size);
	assert_int_equal(virtq_start(&env->vq), 0);
	assert_true(virtq_should_notify(&env->vq)); /* the one after a start */
}

static void test_one_chain(void **state)
{
	struct ring_env env;

	(void)state;
	start(&env, false, 8);
	assert_int_equal(pop(&env), 0);
	assert_false(virtq_has_chain(&env.vq));
	split_add(&env, 2, request, 3);
	assert_true(virtq_has_chain(&env.vq));
	assert_int_equal(pop(&env), 1);
	assert_int_equal(env.chain.id, 2);
	assert_int_equal(env.chain.in_count, 1);
	assert_int_equal(env.chain.out_count, 2);
	assert_int_equal(env.chain.in_bytes, 40);
	assert_int_equal(env.chain.out_bytes, 16 + 4096);
	assert_int_equal(env.iov[2].iov_len, 4096);
	memcpy(env.iov[1].iov_base, "sixteen bytes...", 16);
	assert_memory_equal(guest(&env, request[1].gpa), "sixteen bytes...", 16);
	assert_int_equal(pop(&env), 0);

	virtq_push(&env.vq, &env.chain, 16);
	assert_int_equal(split_used(&env)->idx, 1);
	assert_int_equal(split_used(&env)->ring[0].id, 2);
	assert_int_equal(split_used(&env)->ring[0].len, 16);
	ring_env_fini(&env);
}

/* Several laps of the ring and of the 16-bit indices, with chains completed in
 * another order than they were taken. */
static void test_index_wrap(void **state)
{
	struct ring_env env;
	struct virtq_chain held[4];
	uint16_t used = 65530;

	(void)state;
	ring_env_init(&env);
	ring_env_setup(&env, false, true, 4);
	env.avail = 65530;
	split_avail(&env)->idx = split_used(&env)->idx = env.avail;
	assert_int_equal(virtq_set_base(&env.vq, 65530), 0);
	assert_int_equal(virtq_start(&env.vq), 0);
	for (unsigned lap = 0; lap < 40000; lap++) {
		for (uint16_t i = 0; i < 4; i++)
			split_add(&env, i, &(struct elem){ DATA_GPA + i * 64u, 64, 0 }, 1);
		for (unsigned i = 0; i < 4; i++) {
			assert_int_equal(pop(&env), 1);
			assert_int_equal(env.chain.id, i);
			held[i] = env.chain;
		}
		assert_int_equal(pop(&env), 0);
		for (unsigned i = 0; i < 4; i++) {
			virtq_push(&env.vq, &held[(i + 2) % 4], lap);
			assert_int_equal(split_used(&env)->ring[used % 4].id, (i + 2) % 4);
			assert_int_equal(split_used(&env)->ring[used % 4].len, lap);
			assert_int_equal(split_used(&env)->idx, ++used);
		}
	}
	assert_int_equal(virtq_get_base(&env.vq), used);
	ring_env_fini(&env);
}

static void test_indirect(void **state)
{
	struct ring_env env;
	struct vring_desc *table;

	(void)state;
	start(&env, false, 4);
	/* Longer than the queue, not 16-aligned, out of order. */
	table = (struct vring_desc *)((char *)guest(&env, TABLE_GPA) + 2);
	for (uint16_t i = 0; i < 6; i++) {
		struct vring_desc d = {
			.addr = DATA_GPA + i * 0x1000u,
			.len = 100,
			.flags = (uint16_t)((i == 1 ? 0 : VRING_DESC_F_NEXT) | (i % 2 ? W : 0)),
			.next = (uint16_t)(i == 4   ? 5
					   : i == 5 ? 3
					   : i == 3 ? 1
						    : i + 2),
		};
		memcpy(&table[i], &d, sizeof(d));
	}
	/* 0 -> 2 -> 4 -> 5 -> 3 -> 1 */
	split_add(&env, 0,
		  (struct elem[]){ { DATA_GPA + 0x8000, 8, 0 },
				   { TABLE_GPA + 2, 96, VRING_DESC_F_INDIRECT | W } },
		  2);
	assert_int_equal(pop(&env), 1);
	assert_int_equal(env.chain.in_count, 4);
	assert_int_equal(env.chain.out_count, 3);
	assert_int_equal(env.chain.in_bytes, 308);
	assert_int_equal(env.chain.out_bytes, 300);
	ring_env_fini(&env);
}

/* Contiguous elements become one segment, never across the change of direction;
 * empty ones none at all; one that spans regions two. */
static void test_segments(void **state)
{
	struct ring_env env;

	(void)state;
	start(&env, false, 8);
	split_add(&env, 0,
		  (struct elem[]){ { DATA_GPA, 100, 0 },
				   { DATA_GPA + 100, 28, 0 },
				   { 0xdead000000000000, 0, 0 },
				   { DATA_GPA + 128, 128, W },
				   { DATA_GPA + 256, 128, W },
				   { DATA_GPA + 512, 0, W } },
		  6);
	assert_int_equal(pop(&env), 1);
	assert_int_equal(env.chain.in_count, 1);
	assert_int_equal(env.iov[0].iov_len, 128);
	assert_int_equal(env.chain.out_count, 1);
	assert_int_equal(env.iov[1].iov_len, 256);

	split_add(&env, 0, (struct elem[]){ { MIB - 100, 300, 0 }, { HIGH_GPA + MIB - 8, 8, W } },
		  2);
	memset(guest(&env, MIB - 100), 'a', 100);
	memset(guest(&env, MIB), 'b', 200);
	assert_int_equal(pop(&env), 1);
	assert_int_equal(env.chain.in_count, 2);
	assert_int_equal(env.iov[0].iov_len, 100);
	assert_int_equal(*(char *)env.iov[0].iov_base, 'a');
	assert_int_equal(env.iov[1].iov_len, 200);
	assert_int_equal(*(char *)env.iov[1].iov_base, 'b');
	assert_int_equal(env.chain.out_bytes, 8);

	/* Only writable. */
	split_add(&env, 0, (struct elem[]){ { DATA_GPA, 8, W } }, 1);
	assert_int_equal(pop(&env), 1);
	assert_int_equal(env.chain.in_count, 0);
	assert_int_equal(env.chain.out_count, 1);
	ring_env_fini(&env);
}

static void test_long_chains(void **state)
{
	struct ring_env env;

	(void)state;
	start(&env, false, 8);
	split_fill_table(&env, 1024, 8, 16);
	split_add_indirect(&env, TABLE_GPA, 1024 * 16, 0);
	assert_int_equal(pop(&env), 1);
	assert_int_equal(env.chain.in_count, 1024);

	/* One segment too many for the room given. */
	split_fill_table(&env, 3, 8, 16);
	split_add_indirect(&env, TABLE_GPA, 3 * 16, 0);
	assert_int_equal(virtq_pop(&env.vq, &env.chain, env.iov, 2), -EPROTO);
	assert_string_equal(virtq_error(&env.vq), "descriptor chain has too many segments");
	ring_env_fini(&env);
}

static unsigned push_many(struct ring_env *env, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		split_add(env, 0, request, 1);
		assert_int_equal(pop(env), 1);
		virtq_push(&env->vq, &env->chain, 0);
	}
	return virtq_should_notify(&env->vq);
}

static void test_notify_event_idx(void **state)
{
	struct ring_env env;

	(void)state;
	start(&env, true, 8);
	*split_used_event(&env) = 0; /* the next one, please */
	assert_true(push_many(&env, 1));
	assert_false(push_many(&env, 1)); /* used_event was not moved on */
	assert_false(virtq_should_notify(&env.vq));
	*split_used_event(&env) = 5; /* when idx becomes 6 */
	assert_false(push_many(&env, 3));
	assert_true(push_many(&env, 1));
	*split_used_event(&env) = 8;
	assert_true(push_many(&env, 7)); /* stepped over in the middle of a batch */
	*split_used_event(&env) = 12;	 /* already behind */
	assert_false(push_many(&env, 8));
	/* The flag does not count with EVENT_IDX. */
	split_avail(&env)->flags = VRING_AVAIL_F_NO_INTERRUPT;
	*split_used_event(&env) = split_used(&env)->idx;
	assert_true(push_many(&env, 1));

	/* Around the end of the indices. */
	while (split_used(&env)->idx != 65534) {
		*split_used_event(&env) = (uint16_t)(split_used(&env)->idx + 2); /* out of reach */
		assert_false(push_many(&env, split_used(&env)->idx % 2 ? 1 : 2));
	}
	*split_used_event(&env) = 0;
	assert_false(push_many(&env, 2));
	assert_true(push_many(&env, 1));
	ring_env_fini(&env);
}

static void test_notify_flags(void **state)
{
	struct ring_env env;

	(void)state;
	start(&env, false, 8);
	assert_true(push_many(&env, 1));
	assert_false(virtq_should_notify(&env.vq));
	split_avail(&env)->flags = VRING_AVAIL_F_NO_INTERRUPT;
	assert_false(push_many(&env, 3));
	ring_env_fini(&env);
}

static void test_kicks(void **state)
{
	struct ring_env env;

	(void)state;
	start(&env, false, 8);
	virtq_disable_kicks(&env.vq);
	assert_int_equal(split_used(&env)->flags, VRING_USED_F_NO_NOTIFY);
	assert_false(virtq_enable_kicks(&env.vq));
	assert_int_equal(split_used(&env)->flags, 0);
	split_add(&env, 0, request, 3);
	assert_true(virtq_enable_kicks(&env.vq));
	ring_env_fini(&env);

	start(&env, true, 8);
	for (unsigned i = 0; i < 3; i++) {
		split_add(&env, 0, request, 3);
		assert_int_equal(pop(&env), 1);
		virtq_push(&env.vq, &env.chain, 0);
	}
	assert_false(virtq_enable_kicks(&env.vq));
	assert_int_equal(*split_avail_event(&env), 3);
	virtq_disable_kicks(&env.vq);
	assert_int_equal(*split_avail_event(&env), 3); /* asks for nothing any more once passed */
	split_add(&env, 0, request, 3);
	assert_true(virtq_enable_kicks(&env.vq));
	ring_env_fini(&env);
}

static void test_base(void **state)
{
	struct ring_env env;
	struct virtq_chain held;

	(void)state;
	start(&env, false, 8);
	split_add(&env, 0, request, 3);
	split_add(&env, 3, request, 3);
	assert_int_equal(pop(&env), 1);
	held = env.chain;
	assert_int_equal(virtq_set_base(&env.vq, 0), -EINVAL); /* runs */
	assert_int_equal(virtq_set_size(&env.vq, 4), -EINVAL);
	virtq_stop(&env.vq);
	assert_int_equal(virtq_get_base(&env.vq), 1);
	assert_int_equal(pop(&env), 0);
	virtq_push(&env.vq, &held, 7); /* too late */
	assert_int_equal(split_used(&env)->idx, 0);

	assert_int_equal(virtq_set_base(&env.vq, 65536), -EINVAL);
	assert_int_equal(virtq_set_base(&env.vq, 1), 0);
	assert_int_equal(virtq_start(&env.vq), 0);
	virtq_push(&env.vq, &held, 7); /* of another life */
	assert_int_equal(split_used(&env)->idx, 0);
	assert_int_equal(pop(&env), 1);
	assert_int_equal(env.chain.id, 3);
	virtq_push(&env.vq, &env.chain, 7);
	assert_int_equal(split_used(&env)->idx, 1);
	ring_env_fini(&env);
}

static void test_setup_refusals(void **state)
{
	struct ring_env env;
	struct virtq_addr addr;

	(void)state;
	ring_env_init(&env);
	assert_int_equal(virtq_start(&env.vq), -EINVAL); /* nothing set */
	ring_env_setup(&env, false, true, 1024);
	assert_int_equal(virtq_set_size(&env.vq, 0), -EINVAL);
	assert_int_equal(virtq_set_size(&env.vq, 24), -EINVAL);
	assert_int_equal(virtq_set_size(&env.vq, 2048), -EINVAL);

	addr = env.vq.addr;
	addr.desc += 8;
	virtq_set_addr(&env.vq, &addr);
	assert_int_equal(virtq_start(&env.vq), -EINVAL);
	assert_string_equal(virtq_error(&env.vq), "ring not aligned");
	addr.desc -= 8;
	addr.driver += 1;
	virtq_set_addr(&env.vq, &addr);
	assert_int_equal(virtq_start(&env.vq), -EINVAL);
	addr.driver -= 1;
	addr.device += 2;
	virtq_set_addr(&env.vq, &addr);
	assert_int_equal(virtq_start(&env.vq), -EINVAL);

	/* The last byte of avail_event just inside the region, and just not. */
	addr.device = UVA_OFFSET + 2 * MIB - (4 + 8 * 1024 + 2) - 2;
	virtq_set_addr(&env.vq, &addr);
	assert_int_equal(virtq_start(&env.vq), 0);
	virtq_stop(&env.vq);
	addr.device += 4;
	virtq_set_addr(&env.vq, &addr);
	assert_int_equal(virtq_start(&env.vq), -EFAULT);
	assert_string_equal(virtq_error(&env.vq), "ring not in guest memory");

	/* A size that was set for the other format. */
	ring_env_setup(&env, true, true, 24);
	virtq_set_features(&env.vq, false, true, true);
	assert_int_equal(virtq_start(&env.vq), -EINVAL);
	ring_env_fini(&env);
}

/* The memory table changes under a running queue. */
static void test_memory_changes(void **state)
{
	const struct guest_region_desc low = { .gpa = 0, .size = MIB, .uva = UVA_OFFSET };
	const struct guest_region_desc mid = { .gpa = MIB, .size = MIB, .uva = MIB + UVA_OFFSET };
	struct guest_mem *mem;
	struct guest_view *view;
	struct virtq_chain held;
	struct iovec seg;
	struct ring_env env;

	(void)state;
	start(&env, false, 8);
	split_add(&env, 0, (struct elem[]){ { MIB, 8, W } }, 1);
	assert_int_equal(pop(&env), 1);
	view = guest_view_ref(env.vq.view);
	held = env.chain;
	seg = env.iov[0];

	/* Without the region of the request, which stays writable. */
	assert_int_equal(guest_mem_remove(&mem, env.mem, &mid), 0);
	assert_int_equal(virtq_set_mem(&env.vq, mem), 0);
	guest_mem_unref(env.mem);
	env.mem = mem;
	memcpy(seg.iov_base, "written", 8);
	assert_string_equal(guest(&env, MIB), "written");
	guest_view_unref(view);
	virtq_push(&env.vq, &held, 8);
	assert_int_equal(split_used(&env)->idx, 1);

	/* Without the region of the ring: it goes on, but finds no buffers there. */
	assert_int_equal(guest_mem_remove(&mem, env.mem, &low), 0);
	assert_int_equal(virtq_set_mem(&env.vq, mem), 0);
	guest_mem_unref(env.mem);
	env.mem = mem;
	split_add(&env, 0, (struct elem[]){ { HIGH_GPA, 8, W } }, 1);
	assert_int_equal(pop(&env), 1);
	virtq_push(&env.vq, &env.chain, 8);
	assert_int_equal(split_used(&env)->idx, 2);

	/* And with it again. */
	assert_int_equal(guest_mem_add(&mem, env.mem, &low, env.fd), 0);
	assert_int_equal(virtq_set_mem(&env.vq, mem), 0);
	guest_mem_unref(env.mem);
	env.mem = mem;
	split_add(&env, 0, request, 3);
	assert_int_equal(pop(&env), 1);
	split_add(&env, 0, (struct elem[]){ { MIB, 8, W } }, 1);
	assert_int_equal(pop(&env), -EPROTO);
	ring_env_fini(&env);
}

/* The ring moves in mid-flight, first to a good place, then to none. */
static void test_ring_moves(void **state)
{
	struct ring_env env;
	struct virtq_addr addr;

	(void)state;
	start(&env, false, 8);
	split_add(&env, 0, request, 3);
	assert_int_equal(pop(&env), 1);
	addr = env.vq.addr;
	addr.device = HIGH_GPA + UVA_OFFSET;
	assert_int_equal(virtq_set_addr(&env.vq, &addr), 0);
	virtq_push(&env.vq, &env.chain, 3);
	assert_int_equal(split_used(&env)->idx, 0);
	assert_int_equal(((struct vring_used *)guest(&env, HIGH_GPA))->idx, 1);
	addr.device = 12345;
	assert_int_equal(virtq_set_addr(&env.vq, &addr), -EFAULT);
	assert_int_equal(pop(&env), -EPROTO);
	ring_env_fini(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_chain),      cmocka_unit_test(test_index_wrap),
		cmocka_unit_test(test_indirect),       cmocka_unit_test(test_segments),
		cmocka_unit_test(test_long_chains),    cmocka_unit_test(test_notify_event_idx),
		cmocka_unit_test(test_notify_flags),   cmocka_unit_test(test_kicks),
		cmocka_unit_test(test_base),	       cmocka_unit_test(test_setup_refusals),
		cmocka_unit_test(test_memory_changes), cmocka_unit_test(test_ring_moves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
