/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that the host does not give: a guest's work on a bucket, with each allocation in turn
 * failing, in objectfs, the cache, the storage's layers and the service, on whatever thread. What
 * fails says so with an errno that makes sense, works when it is tried again, and nothing that was
 * acknowledged is lost; under a sanitizer, nothing leaks.
 *
 * The allocators are those of the linker's --wrap, so what libraries allocate never fails.
 */
#include "objectfs-fixture.h"

#include "store/layers/fault.h"

/* ---- Allocators ---- */

static _Atomic long allocations, fail_first, fail_last; /* fail_first 0: none fails */

static bool refuse(void)
{
	long first = atomic_load(&fail_first), n;

	if (!first)
		return false;
	n = atomic_fetch_add(&allocations, 1) + 1;
	return n >= first && n <= atomic_load(&fail_last);
}

#define WRAP(name, parameters, arguments)                                                          \
	void *__real_##name parameters;                                                            \
	void *__wrap_##name parameters;                                                            \
	void *__wrap_##name parameters                                                             \
	{                                                                                          \
		if (refuse()) {                                                                    \
			errno = ENOMEM;                                                            \
			return NULL;                                                               \
		}                                                                                  \
		return __real_##name arguments;                                                    \
	}

WRAP(malloc, (size_t size), (size))
WRAP(calloc, (size_t count, size_t size), (count, size))
WRAP(realloc, (void *p, size_t size), (p, size))
WRAP(reallocarray, (void *p, size_t count, size_t size), (p, count, size))
WRAP(aligned_alloc, (size_t align, size_t size), (align, size))
WRAP(strdup, (const char *s), (s))
WRAP(strndup, (const char *s, size_t n), (s, n))

/* The next allocations but @first - 1 fail, @count of them. */
static void arm(long first, long count)
{
	atomic_store(&allocations, 0);
	atomic_store(&fail_last, first + count - 1);
	atomic_store(&fail_first, first);
}

/* Returns how many there were. */
static long disarm(void)
{
	atomic_store(&fail_first, 0);
	return atomic_load(&allocations);
}

/* ---- What a guest does ---- */

#define KIB 1024u
#define OLD_SIZE (300 * KIB)
#define NEW_SIZE (200 * KIB)
#define PIECE (192 * KIB)
#define LARGE_SIZE (12 * PIECE)
#define TRIES 10

static unsigned char old[OLD_SIZE], new[NEW_SIZE], large[LARGE_SIZE], found[LARGE_SIZE];

/* @call, tried until it works, or says @done: the attempt before had done it. */
#define TRY_OR(call, done)                                                                         \
	({                                                                                         \
		ssize_t result_ = -ENOMEM;                                                         \
		for (unsigned try_ = 0; try_ < TRIES && result_ < 0; try_++) {                     \
			result_ = (call);                                                          \
			if (try_ > 0 && (done) && result_ == -(done))                              \
				result_ = 0;                                                       \
			if (result_ < 0 && result_ != -ENOMEM && result_ != -EIO &&                \
			    result_ != -ENFILE)                                                    \
				fail_msg("%s: %s", #call, strerror((int)-result_));                \
		}                                                                                  \
		if (result_ < 0)                                                                   \
			fail_msg("%s fails for ever: %s", #call, strerror((int)-result_));         \
		result_;                                                                           \
	})
#define TRY(call) TRY_OR(call, 0)

static void write_piece(struct ox *ox, uint64_t fh, unsigned char *model, size_t at, size_t len,
			unsigned seed)
{
	static unsigned char buf[PIECE];

	pattern_fill(seed, at, buf, len);
	assert_int_equal(TRY(ox_write(ox, fh, buf, len, at)), len);
	memcpy(model + at, buf, len);
}

static void check_file(struct ox *ox, uint64_t fh, const unsigned char *model, size_t size)
{
	assert_int_equal(TRY(ox_read(ox, fh, found, size, 0)), size);
	assert_memory_equal(found, model, size);
}

static void change_old(struct ox *ox)
{
	uint64_t fh = 0;

	TRY(ox_openat(ox, "old", O_RDWR, &fh));
	write_piece(ox, fh, old, 1000, 100, 2);
	write_piece(ox, fh, old, 250 * KIB, 9000, 2);
	check_file(ox, fh, old, OLD_SIZE);
	TRY(ox_fsync(ox, fh));
	write_piece(ox, fh, old, OLD_SIZE - 5000, 5000, 3);
	TRY(ox_flush(ox, fh));
	TRY(ox_release(ox, fh));
}

static void make_new(struct ox *ox)
{
	uint64_t fh = 0;

	TRY_OR(ox_mkdir(ox, "d"), EEXIST);
	TRY(ox_create(ox, "d/new", O_RDWR, &fh));
	for (size_t at = 0; at < NEW_SIZE; at += NEW_SIZE / 2)
		write_piece(ox, fh, new, at, NEW_SIZE / 2, 4);
	TRY(ox_flush(ox, fh));
	TRY_OR(ox_rename(ox, "d/new", "d/moved", 0), ENOENT);
	check_file(ox, fh, new, NEW_SIZE);
	TRY(ox_release(ox, fh));
}

/* By parts, while it is written. */
static void make_large(struct ox *ox)
{
	uint64_t fh = 0;

	TRY(ox_create(ox, "large", O_RDWR, &fh));
	for (size_t at = 0; at < LARGE_SIZE; at += PIECE)
		write_piece(ox, fh, large, at, PIECE, 5);
	TRY(ox_fsync(ox, fh));
	write_piece(ox, fh, large, 1024 * KIB, 10, 6);
	TRY(ox_flush(ox, fh));
	TRY(ox_release(ox, fh));
}

static void look_around(struct ox *ox)
{
	struct fuse_entry_out e;
	char buf[4096];
	uint64_t fh = 0;

	TRY(ox_opendir(ox, FUSE_ROOT_ID, &fh));
	TRY(ox_readdir(ox, FUSE_READDIRPLUS, fh, 0, buf, sizeof(buf)));
	TRY(ox_releasedir(ox, fh));
	TRY(ox_stat(ox, "d/moved", &e));
	assert_int_equal(e.attr.size, NEW_SIZE);
	TRY(ox_truncate(ox, "old", 1000));
	TRY_OR(ox_unlink(ox, "gone"), ENOENT);
}

static void expect_object(struct ox *ox, const char *key, const unsigned char *model, size_t size)
{
	struct store_meta meta;

	assert_int_equal(store_memory_read(ox->ce.env.memory, key, found, sizeof(found), &meta), 0);
	assert_int_equal(meta.size, size);
	assert_memory_equal(found, model, size);
}

/* Returns the number of allocations that it took. */
static long work(bool write_back, long first, long count)
{
	struct ox ox;
	long n;

	ox_init(&ox);
	ox.config.write_back = write_back;
	ox.ce.config.write_back_delay_ns = MSEC;
	ox_open(&ox);
	pattern_fill(1, 0, old, OLD_SIZE);
	assert_int_equal(store_memory_write(ox.ce.env.memory, "old", old, OLD_SIZE, NULL), 0);
	assert_int_equal(store_memory_write(ox.ce.env.memory, "gone", "x", 1, NULL), 0);
	arm(first, count);
	change_old(&ox);
	make_new(&ox);
	make_large(&ox);
	look_around(&ox);
	n = disarm();
	TRY(cache_storage_sync(ox.ce.storage));
	expect_object(&ox, "old", old, 1000);
	expect_object(&ox, "d/moved", new, NEW_SIZE);
	expect_object(&ox, "large", large, LARGE_SIZE);
	assert_int_equal(store_memory_read(ox.ce.env.memory, "d/new", found, 0, NULL), -ENOENT);
	assert_int_equal(store_memory_read(ox.ce.env.memory, "gone", found, 0, NULL), -ENOENT);
	assert_int_equal(cache_storage_drain(ox.ce.storage, 10 * SEC), 0);
	ox_close(&ox);
	return n;
}

static void fail_each(bool write_back, long count, long step)
{
	for (long first = 1; work(write_back, first, count) >= first; first += step)
		;
}

static void test_write_back(void **state)
{
	(void)state;
	fail_each(true, 1, 1);
}

static void test_write_through(void **state)
{
	(void)state;
	fail_each(false, 1, 3);
}

static void test_several(void **state)
{
	(void)state;
	fail_each(true, 4, 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_write_back),
		cmocka_unit_test(test_write_through),
		cmocka_unit_test(test_several),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
