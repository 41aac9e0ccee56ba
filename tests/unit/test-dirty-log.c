/* SPDX-License-Identifier: Apache-2.0 */
#include "ring-env.h"

#include <errno.h>

#define W VRING_DESC_F_WRITE

/* One bit for each page up to a little above 4 GiB. */
#define BITMAP_SIZE ((HIGH_GPA + MIB) / DIRTY_LOG_PAGE / 8)

struct bitmap {
	int fd;
	uint8_t *bits;
	struct dirty_log *log;
};

/* At an offset that is not page-aligned, as QEMU may choose one. */
static void bitmap_init(struct bitmap *b)
{
	b->fd = memfd_create("log", MFD_CLOEXEC);
	assert_int_equal(ftruncate(b->fd, 64 + BITMAP_SIZE), 0);
	b->bits = mmap(NULL, 64 + BITMAP_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd, 0);
	assert_ptr_not_equal(b->bits, MAP_FAILED);
	b->bits += 64;
	assert_int_equal(dirty_log_new(&b->log, b->fd, 64, BITMAP_SIZE), 0);
}

static void bitmap_fini(struct bitmap *b)
{
	dirty_log_unref(b->log);
	munmap(b->bits - 64, 64 + BITMAP_SIZE);
	close(b->fd);
}

/* Exactly these pages are marked; then clears all. */
static void assert_pages(struct bitmap *b, const uint64_t *pages, size_t count)
{
	size_t marked = 0;

	for (size_t i = 0; i < count; i++) {
		if (!(b->bits[pages[i] / 8] & 1u << pages[i] % 8))
			fail_msg("page %llu not marked", (unsigned long long)pages[i]);
	}
	for (size_t i = 0; i < BITMAP_SIZE; i++)
		marked += (size_t)__builtin_popcount(b->bits[i]);
	assert_int_equal(marked, count);
	memset(b->bits, 0, BITMAP_SIZE);
}

#define ASSERT_PAGES(b, ...)                                                                       \
	assert_pages(b, (uint64_t[]){ __VA_ARGS__ }, ARRAY_SIZE(((uint64_t[]){ __VA_ARGS__ })))

static void test_mark(void **state)
{
	struct bitmap b;

	(void)state;
	bitmap_init(&b);
	dirty_log_mark(b.log, 0, 0);
	assert_pages(&b, NULL, 0);
	dirty_log_mark(b.log, 0, 1);
	ASSERT_PAGES(&b, 0);
	dirty_log_mark(b.log, 4095, 1);
	ASSERT_PAGES(&b, 0);
	dirty_log_mark(b.log, 4095, 2);
	ASSERT_PAGES(&b, 0, 1);
	dirty_log_mark(b.log, 7 * 4096, 4096);
	ASSERT_PAGES(&b, 7);
	dirty_log_mark(b.log, 7 * 4096, 4097);
	ASSERT_PAGES(&b, 7, 8);
	dirty_log_mark(b.log, 6 * 4096 + 1, 13 * 4096);
	ASSERT_PAGES(&b, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19);
	dirty_log_mark(b.log, HIGH_GPA + MIB - 1, 1);
	ASSERT_PAGES(&b, (HIGH_GPA + MIB) / 4096 - 1);

	/* Past the end, over the end, over the end of all addresses. */
	dirty_log_mark(b.log, HIGH_GPA + MIB, 1);
	assert_pages(&b, NULL, 0);
	dirty_log_mark(b.log, HIGH_GPA + MIB - 4097, 100000);
	ASSERT_PAGES(&b, (HIGH_GPA + MIB) / 4096 - 2, (HIGH_GPA + MIB) / 4096 - 1);
	dirty_log_mark(b.log, UINT64_MAX - 5, 100);
	assert_pages(&b, NULL, 0);
	assert_false(dirty_log_broken(b.log));
	bitmap_fini(&b);
}

static void test_refusals(void **state)
{
	struct dirty_log *log;
	int fd = memfd_create("log", MFD_CLOEXEC);

	(void)state;
	assert_int_equal(ftruncate(fd, 4096), 0);
	assert_int_equal(dirty_log_new(&log, fd, 0, 0), -EINVAL);
	assert_int_equal(dirty_log_new(&log, fd, 0, 4097), -EINVAL);
	assert_int_equal(dirty_log_new(&log, fd, UINT64_MAX, 2), -EINVAL);
	assert_int_equal(dirty_log_new(&log, -1, 0, 1), -EBADF);
	close(fd);
}

/* The parts of a request that were written, in three regions. */
static void test_mark_iov(void **state)
{
	struct bitmap b;
	struct ring_env env;
	struct guest_view *view;
	struct iovec iov[4];
	int n;

	(void)state;
	bitmap_init(&b);
	ring_env_init(&env);
	view = guest_view_new(env.mem);
	n = guest_view_translate(view, MIB - 100, 5000, iov, 0, 0, 4);
	n = guest_view_translate(view, HIGH_GPA + 4096, 4096, iov, (unsigned)n, 0, 4);
	assert_int_equal(n, 3);
	dirty_log_mark_iov(b.log, env.mem, iov, 3, 0);
	assert_pages(&b, NULL, 0);
	dirty_log_mark_iov(b.log, env.mem, iov, 3, 100);
	ASSERT_PAGES(&b, 255);
	dirty_log_mark_iov(b.log, env.mem, iov, 3, 101);
	ASSERT_PAGES(&b, 255, 256);
	dirty_log_mark_iov(b.log, env.mem, iov, 3, 5001);
	ASSERT_PAGES(&b, 255, 256, 257, HIGH_GPA / 4096 + 1);
	dirty_log_mark_iov(b.log, env.mem, iov, 3, UINT64_MAX);
	ASSERT_PAGES(&b, 255, 256, 257, HIGH_GPA / 4096 + 1);

	/* A merged segment over two regions that happen to be neighbours here. */
	const struct guest_mem_entry *e = env.mem->entry;

	for (unsigned i = 0; i < 3; i++) {
		for (unsigned k = 0; k < 3; k++) {
			if (e[i].hva + MIB != e[k].hva)
				continue;
			iov[0] = (struct iovec){ e[k].hva - 8, 16 };
			dirty_log_mark_iov(b.log, env.mem, iov, 1, 16);
			ASSERT_PAGES(&b, (e[i].gpa + MIB - 1) / 4096, e[k].gpa / 4096);
		}
	}
	guest_view_unref(view);
	ring_env_fini(&env);
	bitmap_fini(&b);
}

/* Every write of ours to a split ring is logged at log_gpa, here far from the
 * place where it really is. */
static void test_split_ring(void **state)
{
	struct bitmap b;
	struct ring_env env;
	struct virtq_addr addr;

	(void)state;
	bitmap_init(&b);
	ring_env_init(&env);
	ring_env_setup(&env, false, true, 1024);
	assert_int_equal(virtq_start(&env.vq), 0);
	for (unsigned i = 0; i < 600; i++) {
		split_add(&env, 0, (struct elem[]){ { HIGH_GPA, 8, W } }, 1);
		assert_int_equal(pop(&env), 1);
		virtq_push(&env.vq, &env.chain, 8);
	}
	virtq_set_log(&env.vq, b.log);
	split_add(&env, 0, (struct elem[]){ { HIGH_GPA, 8, W } }, 1);
	assert_int_equal(pop(&env), 1);
	virtq_push(&env.vq, &env.chain, 8);
	assert_pages(&b, NULL, 0); /* the flag is not set yet */

	addr = env.vq.addr;
	addr.log = true;
	addr.log_gpa = 0x80000;
	assert_int_equal(virtq_set_addr(&env.vq, &addr), 0);
	split_add(&env, 0, (struct elem[]){ { HIGH_GPA, 8, W } }, 1);
	assert_int_equal(pop(&env), 1);
	assert_pages(&b, NULL, 0); /* popping writes nothing */
	virtq_log_written(&env.vq, env.vq.view, env.iov, 1, 8);
	ASSERT_PAGES(&b, HIGH_GPA / 4096);
	virtq_push(&env.vq, &env.chain, 8);
	/* Element 601 at 4 + 601 * 8 is in the second page, idx in the first. */
	ASSERT_PAGES(&b, 0x80, 0x81);
	(void)virtq_enable_kicks(&env.vq); /* avail_event at 4 + 8192 */
	ASSERT_PAGES(&b, 0x82);
	virtq_stop(&env.vq);
	virtq_set_features(&env.vq, false, false, true);
	assert_int_equal(virtq_start(&env.vq), 0);
	virtq_disable_kicks(&env.vq);
	ASSERT_PAGES(&b, 0x80);

	virtq_set_log(&env.vq, NULL);
	virtq_disable_kicks(&env.vq);
	assert_pages(&b, NULL, 0);
	ring_env_fini(&env);
	bitmap_fini(&b);
}

/* Packed: the descriptor ring where it is, the device event at log_gpa. */
static void test_packed_ring(void **state)
{
	struct bitmap b;
	struct ring_env env;
	struct virtq_addr addr;

	(void)state;
	bitmap_init(&b);
	ring_env_init(&env);
	ring_env_setup(&env, true, true, 1024);
	addr = env.vq.addr;
	addr.log = true;
	virtq_set_addr(&env.vq, &addr);
	virtq_set_log(&env.vq, b.log);
	assert_int_equal(virtq_start(&env.vq), 0);
	for (unsigned i = 0; i < 300; i++) {
		packed_add(&env, 0, (struct elem[]){ { DATA_GPA, 8, W } }, 1);
		assert_int_equal(pop(&env), 1);
		assert_pages(&b, NULL, 0);
		virtq_push(&env.vq, &env.chain, 8);
		ASSERT_PAGES(&b, (DESC_GPA + i * 16) / 4096);
	}
	(void)virtq_enable_kicks(&env.vq);
	ASSERT_PAGES(&b, DEVICE_GPA / 4096);
	ring_env_fini(&env);
	bitmap_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mark),	    cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_mark_iov),    cmocka_unit_test(test_split_ring),
		cmocka_unit_test(test_packed_ring),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
