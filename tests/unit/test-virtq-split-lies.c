/* SPDX-License-Identifier: Apache-2.0 */
/* Split rings that lie: each is refused, with its reason, and breaks the queue
 * and nothing else. */
#include "ring-env.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

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

/* A lie, told by make_available(), and a word of the reason. */
struct lie {
	const char *reason;
	void (*tell)(struct ring_env *env);
};

static void lie_loop(struct ring_env *env)
{
	split_write(env, 0, request, 3);
	split_desc(env, 2)->flags |= VRING_DESC_F_NEXT;
	split_desc(env, 2)->next = 1;
	split_make_available(env, 0);
}

static void lie_self(struct ring_env *env)
{
	split_write(env, 3, request, 1);
	split_desc(env, 3)->flags |= VRING_DESC_F_NEXT;
	split_desc(env, 3)->next = 3;
	split_make_available(env, 3);
}

static void lie_head(struct ring_env *env)
{
	split_make_available(env, 8);
}

static void lie_next(struct ring_env *env)
{
	split_write(env, 0, request, 2);
	split_desc(env, 0)->next = 8;
	split_make_available(env, 0);
}

static void lie_idx(struct ring_env *env)
{
	split_avail(env)->idx = 9;
}

static void lie_idx_behind(struct ring_env *env)
{
	split_avail(env)->idx = 65535;
}

static void lie_order(struct ring_env *env)
{
	split_add(env, 0, (struct elem[]){ { DATA_GPA, 8, W }, { DATA_GPA, 8, 0 } }, 2);
}

static void lie_hole(struct ring_env *env)
{
	split_add(env, 0, (struct elem[]){ { 2 * MIB - 8, 9, W } }, 1);
}

static void lie_far(struct ring_env *env)
{
	split_add(env, 0, (struct elem[]){ { UINT64_MAX - 7, 16, W } }, 1);
}

static void lie_end(struct ring_env *env)
{
	split_add(env, 0, (struct elem[]){ { HIGH_GPA + MIB, 1, 0 } }, 1);
}

static void lie_huge(struct ring_env *env)
{
	split_add(env, 0, (struct elem[]){ { 0, UINT32_MAX, 0 } }, 1);
}

static void lie_indirect_next(struct ring_env *env)
{
	split_add_indirect(env, TABLE_GPA, 16, VRING_DESC_F_NEXT);
}

static void lie_indirect_empty(struct ring_env *env)
{
	split_add_indirect(env, TABLE_GPA, 0, 0);
}

static void lie_indirect_odd(struct ring_env *env)
{
	split_add_indirect(env, TABLE_GPA, 24, 0);
}

static void lie_indirect_outside(struct ring_env *env)
{
	split_add_indirect(env, 2 * MIB - 8, 16, 0);
}

static void lie_indirect_wraps(struct ring_env *env)
{
	split_add_indirect(env, UINT64_MAX - 15, 32, 0);
}

static void lie_indirect_nested(struct ring_env *env)
{
	*(struct vring_desc *)guest(env, TABLE_GPA) =
		(struct vring_desc){ .addr = TABLE_GPA, .len = 16, .flags = VRING_DESC_F_INDIRECT };
	split_add_indirect(env, TABLE_GPA, 16, 0);
}

static void lie_indirect_loop(struct ring_env *env)
{
	*(struct vring_desc *)guest(env, TABLE_GPA) =
		(struct vring_desc){ .addr = DATA_GPA, .len = 16, .flags = VRING_DESC_F_NEXT };
	split_add_indirect(env, TABLE_GPA, 160, 0);
}

static void lie_indirect_beyond(struct ring_env *env)
{
	*(struct vring_desc *)guest(env, TABLE_GPA) = (struct vring_desc){
		.addr = DATA_GPA, .len = 16, .flags = VRING_DESC_F_NEXT, .next = 2
	};
	split_add_indirect(env, TABLE_GPA, 32, 0);
}

static void lie_long(struct ring_env *env)
{
	split_fill_table(env, 1025, 8, 16);
	split_add_indirect(env, TABLE_GPA, 1025 * 16, 0);
}

static void test_lies(void **state)
{
	static const struct lie lies[] = {
		{ "descriptor chain loops", lie_loop },
		{ "descriptor chain loops", lie_self },
		{ "available ring names no descriptor", lie_head },
		{ "next descriptor beyond the table", lie_next },
		{ "available index further ahead than the ring is long", lie_idx },
		{ "available index further ahead than the ring is long", lie_idx_behind },
		{ "device-readable descriptor after a writable one", lie_order },
		{ "descriptor outside guest memory", lie_hole },
		{ "descriptor outside guest memory", lie_far },
		{ "descriptor outside guest memory", lie_end },
		{ "descriptor outside guest memory", lie_huge },
		{ "indirect descriptor with a next one", lie_indirect_next },
		{ "indirect table length not a multiple of 16", lie_indirect_empty },
		{ "indirect table length not a multiple of 16", lie_indirect_odd },
		{ "indirect table outside guest memory", lie_indirect_outside },
		{ "indirect table outside guest memory", lie_indirect_wraps },
		{ "indirect descriptor in an indirect table", lie_indirect_nested },
		{ "descriptor chain loops", lie_indirect_loop },
		{ "next descriptor beyond the indirect table", lie_indirect_beyond },
		{ "descriptor chain too long", lie_long },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		struct ring_env env;
		struct virtq_chain held;

		start(&env, false, 8);
		split_add(&env, 7, request, 1);
		assert_int_equal(pop(&env), 1);
		held = env.chain;
		lies[i].tell(&env);
		assert_int_equal(pop(&env), -EPROTO);
		assert_string_equal(virtq_error(&env.vq), lies[i].reason);
		/* Broken it stays, and whatever comes in does no harm. */
		assert_int_equal(pop(&env), -EPROTO);
		assert_true(virtq_has_chain(&env.vq));
		assert_true(virtq_enable_kicks(&env.vq));
		virtq_push(&env.vq, &held, 1);
		assert_int_equal(split_used(&env)->idx, 0);
		assert_false(virtq_should_notify(&env.vq));
		ring_env_fini(&env);
	}
}

/* More chains in flight than the ring has entries, by naming one twice. */
static void test_in_flight_bound(void **state)
{
	struct ring_env env;

	(void)state;
	start(&env, false, 4);
	split_write(&env, 0, request, 1);
	for (unsigned i = 0; i < 4; i++) {
		split_make_available(&env, 0);
		assert_int_equal(pop(&env), 1);
	}
	split_make_available(&env, 0);
	assert_int_equal(pop(&env), -EPROTO);
	ring_env_fini(&env);
}

static void test_no_indirect_feature(void **state)
{
	struct ring_env env;

	(void)state;
	ring_env_init(&env);
	ring_env_setup(&env, false, false, 8);
	virtq_set_features(&env.vq, false, false, false);
	assert_int_equal(virtq_start(&env.vq), 0);
	split_fill_table(&env, 1, 8, 16);
	split_add_indirect(&env, TABLE_GPA, 16, 0);
	assert_int_equal(pop(&env), -EPROTO);
	ring_env_fini(&env);
}

/* Every element is fine, the sum is not. */
static void test_total_length(void **state)
{
	const struct guest_region_desc big = { .gpa = HIGH_GPA, .size = 6144 * MIB, .uva = 0x1000 };
	struct guest_mem *mem;
	struct ring_env env;
	int fd = memfd_create("big", MFD_CLOEXEC); /* sparse */

	(void)state;
	assert_int_equal(ftruncate(fd, 6144 * MIB), 0);
	ring_env_init(&env);
	assert_int_equal(
		guest_mem_remove(&mem, env.mem,
				 &(struct guest_region_desc){ .gpa = HIGH_GPA,
							      .size = MIB,
							      .uva = HIGH_GPA + UVA_OFFSET }),
		0);
	guest_mem_unref(env.mem);
	assert_int_equal(guest_mem_add(&env.mem, mem, &big, fd), 0);
	guest_mem_unref(mem);
	ring_env_setup(&env, false, false, 8);
	assert_int_equal(virtq_start(&env.vq), 0);

	split_add(&env, 0, (struct elem[]){ { HIGH_GPA, UINT32_MAX - 1, 0 }, { 0, 1, W } }, 2);
	assert_int_equal(pop(&env), 1);
	assert_int_equal(env.chain.in_bytes, UINT32_MAX - 1);
	split_add(&env, 0, (struct elem[]){ { HIGH_GPA, UINT32_MAX, 0 }, { 0, 1, W } }, 2);
	assert_int_equal(pop(&env), -EPROTO);
	assert_string_equal(virtq_error(&env.vq), "descriptor chain longer than 4 GiB");
	ring_env_fini(&env);
	close(fd);
}

/* Another CPU of the guest rewrites descriptor and table length while they are
 * read: what comes out was valid at one moment, or the queue is broken. */
struct scribbler {
	struct ring_env *env;
	atomic_bool stop;
};

static void *scribble(void *arg)
{
	struct scribbler *s = arg;
	struct vring_desc *d = split_desc(s->env, 0), *t = guest(s->env, TABLE_GPA);

	for (unsigned i = 0; !atomic_load_explicit(&s->stop, memory_order_relaxed); i++) {
		__atomic_store_n(&t->addr, i & 1 ? DATA_GPA : 2 * MIB - 64, __ATOMIC_RELAXED);
		__atomic_store_n(&t->len, i & 2 ? 64u : 128u, __ATOMIC_RELAXED);
		__atomic_store_n(&d->len, i & 4 ? 16u : 0xfffffff0u, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void test_changing_descriptors(void **state)
{
	struct ring_env env;
	struct scribbler s = { .env = &env };
	const struct guest_mem_entry *entry;
	unsigned good = 0, broken = 0;
	pthread_t thread;

	(void)state;
	start(&env, false, 8);
	entry = env.mem->entry;
	split_fill_table(&env, 1, 64, 0);
	split_add_indirect(&env, TABLE_GPA, 16, 0);
	assert_int_equal(pthread_create(&thread, NULL, scribble, &s), 0);
	for (unsigned i = 0; i < 200000 || ((good == 0 || broken == 0) && i < 50000000); i++) {
		const char *base;

		if (pop(&env) == 1) {
			good++;
			assert_true(env.chain.in_count <= 1);
			assert_int_equal(env.chain.in_count, 1);
			base = env.iov[0].iov_base;
			if (base == entry[1].hva + MIB - 64)
				assert_int_equal(env.iov[0].iov_len, 64);
			else
				assert_ptr_equal(base, entry[0].hva + DATA_GPA);
		} else {
			broken++;
		}
		env.vq.error = NULL;
		env.vq.in_flight = 0;
		env.vq.avail_idx = 0;
	}
	atomic_store(&s.stop, true);
	pthread_join(thread, NULL);
	assert_true(good > 0);
	assert_true(broken > 0);
	ring_env_fini(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lies),
		cmocka_unit_test(test_in_flight_bound),
		cmocka_unit_test(test_no_indirect_feature),
		cmocka_unit_test(test_total_length),
		cmocka_unit_test(test_changing_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
