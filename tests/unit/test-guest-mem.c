/* SPDX-License-Identifier: Apache-2.0 */
#include "ring-env.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

static int memfd(uint64_t size)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

static void test_refusals(void **state)
{
	static const struct {
		struct guest_region_desc desc;
		int result;
	} cases[] = {
		{ { .gpa = 0, .size = 0 }, -EINVAL },
		{ { .gpa = UINT64_MAX, .size = 1 }, -EINVAL },
		{ { .gpa = UINT64_MAX - 4095, .size = 4096 }, -EINVAL },
		{ { .uva = UINT64_MAX - 100, .size = 4096 }, -EINVAL },
		{ { .offset = UINT64_MAX - 100, .size = 4096 }, -EINVAL },
		{ { .offset = INT64_MAX, .size = 4096 }, -EINVAL },
		{ { .size = UINT64_MAX }, -EINVAL },
		{ { .size = 65537 }, -EINVAL }, /* past the end of the file */
		{ { .offset = 65536, .size = 1 }, -EINVAL },
		{ { .size = 65536 }, 0 },
		{ { .offset = 100, .size = 65436, .gpa = 1 }, 0 },
	};
	int fd = memfd(65536);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct guest_mem *mem = NULL;

		assert_int_equal(guest_mem_new(&mem, &cases[i].desc, &fd, 1), cases[i].result);
		assert_true(!mem == (cases[i].result < 0));
		guest_mem_unref(mem);
	}
	close(fd);

	struct guest_mem *mem;
	const struct guest_region_desc desc = { .size = 4096 };

	assert_int_equal(guest_mem_new(&mem, &desc, (int[]){ -1 }, 1), -EBADF);
	assert_int_equal(guest_mem_new(&mem, &desc, (int[]){ 0 }, GUEST_MEM_REGIONS_MAX + 1),
			 -ENOSPC);
}

static void test_add_remove(void **state)
{
	struct guest_region_desc desc = { .size = 4096 };
	struct guest_mem *mem, *next;
	struct guest_view *view;
	int fd = memfd(4096);

	(void)state;
	assert_int_equal(guest_mem_new(&mem, NULL, NULL, 0), 0);
	view = guest_view_new(mem);
	assert_null(guest_view_find(view, 0));
	guest_view_unref(view);

	/* From above, every second page, so that each lands in front of the others. */
	for (unsigned i = 0; i < GUEST_MEM_REGIONS_MAX; i++) {
		desc.gpa = (GUEST_MEM_REGIONS_MAX - i) * 8192ull;
		desc.uva = i * 8192ull;
		assert_int_equal(guest_mem_add(&next, mem, &desc, fd), 0);
		guest_mem_unref(mem);
		mem = next;
	}
	desc.gpa = 0;
	assert_int_equal(guest_mem_add(&next, mem, &desc, fd), -ENOSPC);

	view = guest_view_new(mem);
	for (unsigned i = 1; i <= GUEST_MEM_REGIONS_MAX; i++) {
		const struct guest_mem_entry *e = guest_view_find(view, i * 8192ull + 4095);

		assert_non_null(e);
		assert_int_equal(e->gpa, i * 8192ull);
		assert_null(guest_view_find(view, i * 8192ull + 4096));
	}
	assert_null(guest_view_find(view, 0));
	assert_null(guest_view_find(view, UINT64_MAX));
	guest_view_unref(view);

	/* All three have to match. */
	desc = (struct guest_region_desc){ .gpa = 8192, .uva = 508 * 8192, .size = 4096 };
	desc.gpa++;
	assert_int_equal(guest_mem_remove(&next, mem, &desc), -ENOENT);
	desc.gpa--;
	desc.uva++;
	assert_int_equal(guest_mem_remove(&next, mem, &desc), -ENOENT);
	desc.uva--;
	desc.size--;
	assert_int_equal(guest_mem_remove(&next, mem, &desc), -ENOENT);
	desc.size++;
	assert_int_equal(guest_mem_remove(&next, mem, &desc), 0);
	guest_mem_unref(mem);
	mem = next;
	assert_int_equal(mem->count, GUEST_MEM_REGIONS_MAX - 1);

	/* Overlaps: at either end, inside, around, the same. */
	desc.uva = 1ull << 40;
	for (uint64_t gpa = 2 * 8192 - 4095; gpa < 2 * 8192 + 4096; gpa += 819) {
		desc.gpa = gpa;
		assert_int_equal(guest_mem_add(&next, mem, &desc, fd), -EEXIST);
	}
	desc.gpa = 2 * 8192 - 4096;
	assert_int_equal(guest_mem_add(&next, mem, &desc, fd), 0);
	guest_mem_unref(next);
	guest_mem_unref(mem);
	close(fd);
}

/* What a view was made of stays mapped until the view is gone. */
static void test_lifetime(void **state)
{
	const struct guest_region_desc desc = { .gpa = 4096, .uva = 1, .size = 4096 };
	struct guest_mem *mem, *without;
	struct guest_view *view;
	struct iovec iov[1];
	int fd = memfd(4096);

	(void)state;
	assert_int_equal(guest_mem_new(&mem, &desc, &fd, 1), 0);
	view = guest_view_ref(guest_view_new(mem));
	assert_int_equal(guest_view_translate(view, 5000, 10, iov, 0, 0, 1), 1);
	assert_int_equal(guest_mem_remove(&without, mem, &desc), 0);
	guest_mem_unref(mem);
	guest_mem_unref(without);
	guest_view_unref(view);
	memcpy(iov[0].iov_base, "still here", 10);
	guest_view_unref(view);

	char back[10];

	assert_int_equal(pread(fd, back, 10, 5000 - 4096), 10);
	assert_memory_equal(back, "still here", 10);
	close(fd);
}

static void test_translate(void **state)
{
	struct ring_env env;
	struct guest_view *view;
	struct iovec iov[4];
	uint64_t gpa, len;

	(void)state;
	ring_env_init(&env);
	view = guest_view_new(env.mem);
	assert_int_equal(guest_view_translate(view, 0, 2 * MIB, iov, 0, 0, 4), 2);
	assert_int_equal(iov[0].iov_len, MIB);
	assert_int_equal(iov[1].iov_len, MIB);
	assert_int_equal(guest_view_translate(view, 0, 2 * MIB + 1, iov, 0, 0, 4), -EFAULT);
	assert_int_equal(guest_view_translate(view, 0, 2 * MIB, iov, 0, 0, 1), -E2BIG);
	assert_int_equal(guest_view_translate(view, 2 * MIB, 1, iov, 0, 0, 4), -EFAULT);
	assert_int_equal(guest_view_translate(view, HIGH_GPA - 1, 2, iov, 0, 0, 4), -EFAULT);
	assert_int_equal(guest_view_translate(view, UINT64_MAX, UINT64_MAX, iov, 0, 0, 4), -EFAULT);
	assert_int_equal(guest_view_translate(view, 0, UINT64_MAX, iov, 0, 0, 4), -EFAULT);

	/* Merging. */
	assert_int_equal(guest_view_translate(view, 100, 50, iov, 0, 0, 4), 1);
	assert_int_equal(guest_view_translate(view, 150, 50, iov, 1, 0, 4), 1);
	assert_int_equal(iov[0].iov_len, 100);
	assert_int_equal(guest_view_translate(view, 200, 50, iov, 1, 1, 4), 2);
	assert_int_equal(guest_view_translate(view, 251, 50, iov, 2, 1, 4), 3);

	/* And back. */
	for (unsigned i = 0; i < 3; i++) {
		uint64_t base = (uint64_t[]){ 0, MIB, HIGH_GPA }[i];

		assert_int_equal(guest_view_translate(view, base + 77, 1, iov, 0, 0, 4), 1);
		assert_true(guest_mem_hva_to_gpa(env.mem, iov[0].iov_base, &gpa, &len));
		assert_int_equal(gpa, base + 77);
		assert_int_equal(len, MIB - 77);
	}
	assert_false(guest_mem_hva_to_gpa(env.mem, &gpa, &gpa, &len));
	assert_false(guest_mem_hva_to_gpa(env.mem, NULL, &gpa, &len));

	/* Front-end addresses; not across regions. */
	assert_ptr_equal(guest_mem_from_uva(env.mem, UVA_OFFSET + MIB - 4, 4),
			 env.mem->entry[0].hva + MIB - 4);
	assert_null(guest_mem_from_uva(env.mem, UVA_OFFSET + MIB - 4, 5));
	assert_null(guest_mem_from_uva(env.mem, UVA_OFFSET - 1, 1));
	assert_null(guest_mem_from_uva(env.mem, UVA_OFFSET, UINT64_MAX));
	assert_true(guest_mem_uva_to_gpa(env.mem, UVA_OFFSET + HIGH_GPA + 9, &gpa));
	assert_int_equal(gpa, HIGH_GPA + 9);
	assert_false(guest_mem_uva_to_gpa(env.mem, 0, &gpa));
	guest_view_unref(view);
	ring_env_fini(&env);
}

/* Byte offsets that are not page-aligned. */
static void test_odd_offset(void **state)
{
	const struct guest_region_desc desc = { .gpa = 0, .size = 5000, .uva = 0, .offset = 4095 };
	int fd = memfd(4095 + 5000);
	struct guest_mem *mem;

	(void)state;
	assert_int_equal(pwrite(fd, "x", 1, 4095), 1);
	assert_int_equal(pwrite(fd, "y", 1, 4095 + 4999), 1);
	assert_int_equal(guest_mem_new(&mem, &desc, &fd, 1), 0);
	assert_int_equal(mem->entry[0].hva[0], 'x');
	assert_int_equal(mem->entry[0].hva[4999], 'y');
	guest_mem_unref(mem);
	close(fd);
}

/* Has the kernel set two huge pages aside for this test, and back again. */
static int huge_pages(int change)
{
	int fd = open("/proc/sys/vm/nr_hugepages", O_RDWR | O_CLOEXEC), n = -1;
	char text[32] = "";

	if (fd >= 0 && pread(fd, text, sizeof(text) - 1, 0) > 0) {
		n = snprintf(text, sizeof(text), "%d", atoi(text) + change);
		n = (int)pwrite(fd, text, (size_t)n, 0);
	}
	if (fd >= 0)
		close(fd);
	return n < 0 ? -1 : 0;
}

/* hugetlbfs: offset and length in multiples of its page size. Needs the right to set two
 * huge pages aside. */
static void test_huge_pages(void **state)
{
	const uint64_t huge = 2 * MIB;
	const struct guest_region_desc desc = { .size = huge / 2, .offset = huge + 4096 };
	struct guest_mem *mem;
	int fd;

	(void)state;
	assert_int_equal(huge_pages(2), 0);
	fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)(2 * huge)), 0);
	assert_int_equal(fallocate(fd, 0, 0, (off_t)(2 * huge)), 0);
	assert_int_equal(guest_mem_new(&mem, &desc, &fd, 1), 0);
	memset(mem->entry[0].hva, 'h', huge / 2);
	guest_mem_unref(mem);

	char *p = mmap(NULL, 2 * huge, PROT_READ, MAP_SHARED, fd, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(p[huge + 4095], 0);
	assert_int_equal(p[huge + 4096], 'h');
	assert_int_equal(p[huge + 4096 + huge / 2 - 1], 'h');
	assert_int_equal(p[huge + 4096 + huge / 2], 0);
	munmap(p, 2 * huge);
	close(fd);
	assert_int_equal(huge_pages(-2), 0);
}

static void one_thread(void)
{
	const struct guest_region_desc desc[] = {
		{ .gpa = 0, .size = 65536, .uva = 0 },
		{ .gpa = 65536, .size = 65536, .uva = 65536 },
	};
	int fds[2] = { memfd(65536), memfd(65536) };
	struct guest_mem *mem;
	volatile char *first, *second;

	assert_int_equal(guest_mem_new(&mem, desc, fds, 2), 0);
	first = mem->entry[0].hva;
	second = mem->entry[1].hva;
	first[0] = second[0] = 'a';
	first[65535] = second[65535] = 'z';
	assert_false(guest_mem_broken(mem));

	assert_int_equal(ftruncate(fds[1], 4096), 0);
	assert_int_equal(second[0], 'a');
	assert_false(guest_mem_broken(mem));
	assert_int_equal(second[65535], 0); /* would be the end of us */
	assert_true(guest_mem_broken(mem));
	second[4096] = 'w';
	assert_int_equal(second[4096], 'w');
	assert_int_equal(second[0], 'a');
	assert_int_equal(first[65535], 'z');
	assert_true(shm_map_faults() >= 2);
	guest_mem_unref(mem);

	/* Another table is not concerned. */
	assert_int_equal(guest_mem_new(&mem, desc, fds, 1), 0);
	assert_false(guest_mem_broken(mem));
	guest_mem_unref(mem);
	close(fds[0]);
	close(fds[1]);
}

/* A SIGBUS that is none of ours ends the process as ever. */
static void test_other_sigbus(void **state)
{
	(void)state;
	for (unsigned sent = 0; sent < 2; sent++) {
		pid_t child = fork();
		int status;

		assert_true(child >= 0);
		if (child == 0) {
			char *p;
			int fd = memfd(4096);

			signal(SIGBUS, SIG_DFL); /* not a sanitizer's */
			(void)shm_map_install_guard();
			p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
			if (ftruncate(fd, 0) < 0)
				_exit(2);
			if (sent)
				raise(SIGBUS);
			else
				_exit(*(volatile char *)p);
			_exit(1);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), SIGBUS);
	}
}

/*
 * Faults, tables that come and go, and references, all at once: the handler
 * looks through slots that change hands while it does.
 */
#define ROUNDS 300

struct crowd {
	struct guest_mem *shared;
	atomic_bool stop;
	atomic_uint rounds;
};

/* The front end that truncates. */
static void *fault_over_and_over(void *arg)
{
	struct crowd *crowd = arg;
	const struct guest_region_desc desc = { .size = 65536 };

	while (!atomic_load(&crowd->stop)) {
		int fd = memfd(65536);
		struct guest_mem *mem;

		if (guest_mem_new(&mem, &desc, &fd, 1) < 0)
			abort();
		((volatile char *)mem->entry[0].hva)[0] = 1;
		if (ftruncate(fd, 0) < 0 || ((volatile char *)mem->entry[0].hva)[40000] != 0 ||
		    !guest_mem_broken(mem))
			abort();
		guest_mem_unref(mem);
		close(fd);
		atomic_fetch_add(&crowd->rounds, 1);
	}
	return NULL;
}

/* The others. */
static void *come_and_go(void *arg)
{
	struct crowd *crowd = arg;
	struct guest_region_desc desc = { .size = 8192, .gpa = 1 << 20, .uva = 1 << 20 };
	int fd = memfd(8192);

	while (!atomic_load(&crowd->stop)) {
		struct guest_mem *mem = guest_mem_ref(crowd->shared), *more;

		if (guest_mem_add(&more, mem, &desc, fd) < 0)
			abort();
		guest_mem_unref(mem);
		((volatile char *)more->entry[1].hva)[8191] = 7;
		if (guest_mem_broken(more))
			abort();
		guest_mem_unref(more);
	}
	close(fd);
	return NULL;
}

static void many_threads(void)
{
	const struct guest_region_desc desc = { .size = 4096 };
	struct crowd crowd = { .shared = NULL };
	int fd = memfd(4096);
	pthread_t thread[4];

	assert_int_equal(guest_mem_new(&crowd.shared, &desc, &fd, 1), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&thread[i], NULL,
						i % 2 ? come_and_go : fault_over_and_over, &crowd),
				 0);
	while (atomic_load(&crowd.rounds) < ROUNDS)
		usleep(1000);
	atomic_store(&crowd.stop, true);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	assert_false(guest_mem_broken(crowd.shared));
	guest_mem_unref(crowd.shared);
	close(fd);
}

/* One test: cmocka sets handlers of its own around each, and the guard is
 * installed once. */
static void test_guard(void **state)
{
	(void)state;
	assert_int_equal(shm_map_install_guard(), 0);
	assert_int_equal(shm_map_install_guard(), 0);
	one_thread();
	many_threads();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_add_remove),
		cmocka_unit_test(test_lifetime),
		cmocka_unit_test(test_translate),
		cmocka_unit_test(test_odd_offset),
		cmocka_unit_test(test_huge_pages),
		/* Before the guard is installed in this process. */
		cmocka_unit_test(test_other_sigbus),
		cmocka_unit_test(test_guard),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
