/* SPDX-License-Identifier: Apache-2.0 */
/* What is written shows at once, whatever it is written over. */
#include "cache-write-fixture.h"

static void test_new_file(void **state)
{
	struct cw cw;
	struct cache_file *f;

	(void)state;
	cw_start(&cw, &cw_defaults);
	f = cw_create(&cw, "a");
	cw_fill(f, 0, 5000, 1);
	assert_int_equal(cache_file_size(f), 5000);
	cw_expect(f, 0, 5000, 1);
	assert_int_equal(cw_all_requests(&cw), 0);
	cache_file_put(f);
	cw_end(&cw);
}

/* Far behind the end: what is between is zero. */
static void test_holes(void **state)
{
	struct cw cw;
	struct cache_file *f;

	(void)state;
	cw_start(&cw, &cw_defaults);
	f = cw_create(&cw, "a");
	cw_fill(f, 1000, 100, 1);
	cw_fill(f, 300000, 100, 2);
	cw_expect(f, 0, 1000, 0);
	cw_expect(f, 1000, 100, 1);
	cw_expect(f, 1100, 300000 - 1100, 0);
	cw_expect(f, 300000, 100, 2);
	cw_fill(f, 100, 100, 3);
	cw_expect(f, 0, 100, 0);
	cw_expect(f, 100, 100, 3);
	cw_expect(f, 200, 800, 0);
	assert_int_equal(cache_file_size(f), 300100);
	assert_int_equal(cache_commit(f), 0);
	cw_expect_object(&cw, "a", 0, 100, 0);
	cw_expect_object(&cw, "a", 100, 100, 3);
	cw_expect_object(&cw, "a", 1100, 300000 - 1100, 0);
	cw_expect_object(&cw, "a", 300000, 100, 2);
	cache_file_put(f);
	cw_end(&cw);
}

/* Over an object: only what lies in the gap of one block is fetched. */
static void test_over_object(void **state)
{
	struct cw cw;
	struct cache_file *f;

	(void)state;
	cw_start(&cw, &cw_defaults);
	cw_other(&cw, "a", 200000, 9);
	f = cw_open(&cw, "a");
	cw_fill(f, 70000, 1000, 1);
	assert_int_equal(cw_all_requests(&cw), 0);
	cw_fill(f, 71000, 1000, 1); /* next to it */
	assert_int_equal(cw_all_requests(&cw), 0);
	cw_fill(f, 69000, 500, 2); /* a gap of 500 bytes */
	assert_int_equal(cw_requests(&cw, STORE_READ), 1);
	cw_expect(f, 0, 69000, 9);
	cw_expect(f, 69000, 500, 2);
	cw_expect(f, 69500, 500, 9);
	cw_expect(f, 70000, 2000, 1);
	cw_expect(f, 72000, 128000, 9);
	cache_file_put(f);
	cw_end(&cw);
}

static void test_append(void **state)
{
	struct cw cw;
	struct cache_file *f;
	char byte = 'x';
	struct iovec iov = { &byte, 1 };
	struct iov_cursor src = iov_cursor(&iov, 1);

	(void)state;
	cw_start(&cw, &cw_defaults);
	cw_other(&cw, "a", 10, 9);
	f = cw_open(&cw, "a");
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(cache_write_wait(f, 3, 1, &src, true), 1);
		assert_int_equal(cache_file_size(f), 11 + i);
	}
	cw_expect(f, 0, 10, 9);
	cache_file_put(f);
	cw_end(&cw);
}

static void test_truncate(void **state)
{
	struct cw cw;
	struct cache_file *f;

	(void)state;
	cw_start(&cw, &cw_defaults);
	cw_other(&cw, "a", 200000, 9);
	f = cw_open(&cw, "a");
	cw_fill(f, 150000, 20000, 1);
	assert_int_equal(cache_truncate(f, 155000), 0);
	assert_int_equal(cache_truncate(f, 180000), 0);
	assert_int_equal(cache_file_size(f), 180000);
	cw_expect(f, 150000, 5000, 1);
	cw_expect(f, 155000, 25000, 0);
	cw_expect(f, 0, 150000, 9);
	assert_int_equal(cache_truncate(f, 50000), 0);
	assert_int_equal(cache_truncate(f, 60000), 0);
	cw_expect(f, 0, 50000, 9);
	cw_expect(f, 50000, 10000, 0);
	assert_int_equal(cache_commit(f), 0);
	assert_int_equal(cw_object_size(&cw, "a"), 60000);
	cw_expect_object(&cw, "a", 0, 50000, 9);
	cw_expect_object(&cw, "a", 50000, 10000, 0);
	assert_int_equal(cache_truncate(f, 0), 0);
	assert_int_equal(cache_commit(f), 0);
	assert_int_equal(cw_object_size(&cw, "a"), 0);
	cache_file_put(f);
	cw_end(&cw);
}

static void test_too_large(void **state)
{
	struct cw cw;
	struct cache_file *f;
	char byte = 0;

	(void)state;
	cw_start(&cw, &cw_defaults);
	f = cw_create(&cw, "a");
	/* 200 parts of 1 MiB. */
	assert_int_equal(cw_write(f, 200 * MiB, &byte, 1), -EFBIG);
	assert_int_equal(cw_write(f, UINT64_MAX, &byte, 1), -EFBIG);
	assert_int_equal(cache_truncate(f, 200 * MiB + 1), -EFBIG);
	assert_int_equal(cache_truncate(f, 200 * MiB), 0);
	cache_file_put(f);
	cw_end(&cw);
}

/* Nothing can be written out: at the limit writers wait, then fail; what is there is readable. */
static void test_dirty_limit(void **state)
{
	struct cw_options options = cw_defaults;
	struct store_fault broken = { .error_permille = 1000 };
	struct cache_storage_usage usage;
	struct cache_file *f;
	unsigned char byte = 1;
	uint64_t offset;
	struct cw cw;

	(void)state;
	options.config.wait_timeout_ns = 200 * MSEC;
	cw_start(&cw, &options);
	store_fault_set(cw.fault, STORE_FAULT_ALL, &broken);
	f = cw_create(&cw, "a");
	for (offset = 0; cw_write(f, offset, &byte, 1) == 1; offset += CW_REGION)
		;
	cache_storage_usage(cw.storage, &usage);
	assert_in_range(usage.dirty_bytes, MiB, 3 * MiB);
	assert_true(cw_write(f, offset, &byte, 1) < 0);
	/* What is dirty already may be written again. */
	assert_int_equal(cw_write(f, 0, &byte, 1), 1);
	store_fault_set(cw.fault, STORE_FAULT_ALL, NULL);
	cw_wait_for(cw_write(f, offset, &byte, 1) == 1);
	assert_int_equal(cache_commit(f), 0);
	assert_int_equal(cw_object_size(&cw, "a"), (int64_t)offset + 1);
	cache_file_put(f);
	cw_end(&cw);
}

struct dirty_seen {
	unsigned count;
	uint64_t bytes;
	char first[64];
};

static void see_dirty(void *arg, const struct cache_dirty_file *file)
{
	struct dirty_seen *seen = arg;

	if (seen->count++ == 0)
		snprintf(seen->first, sizeof(seen->first), "%s", file->key);
	seen->bytes += file->dirty_bytes;
}

/* What is dirty is told by file, the oldest first, and adds up. */
static void test_look_at_dirty(void **state)
{
	struct cache_storage_usage usage;
	struct dirty_seen seen = { 0 };
	struct cache_file *a, *b;
	struct cw cw;

	(void)state;
	cw_start(&cw, &cw_defaults);
	a = cw_create(&cw, "a");
	cw_fill(a, 0, 200000, 1);
	b = cw_create(&cw, "b");
	cw_fill(b, 0, 5000, 1);
	cache_storage_dirty(cw.storage, 10, see_dirty, &seen);
	assert_int_equal(seen.count, 2);
	assert_string_equal(seen.first, "a");
	cache_storage_usage(cw.storage, &usage);
	assert_int_equal(seen.bytes, usage.dirty_bytes);
	assert_true(seen.bytes >= 205000);

	seen = (struct dirty_seen){ 0 };
	cache_storage_dirty(cw.storage, 1, see_dirty, &seen);
	assert_int_equal(seen.count, 1);
	assert_int_equal(cache_commit(a), 0);
	seen = (struct dirty_seen){ 0 };
	cache_storage_dirty(cw.storage, 10, see_dirty, &seen);
	assert_int_equal(seen.count, 1);
	assert_string_equal(seen.first, "b");

	/* Only what is clean is dropped, and can be fetched again. */
	cache_storage_drop(cw.storage);
	cw_expect(b, 0, 5000, 1);
	assert_int_equal(cw_requests(&cw, STORE_READ), 0);
	cw_expect(a, 0, 200000, 1);
	assert_true(cw_requests(&cw, STORE_READ) > 0);
	cache_file_put(a);
	cache_file_put(b);
	cw_end(&cw);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new_file),      cmocka_unit_test(test_holes),
		cmocka_unit_test(test_look_at_dirty), cmocka_unit_test(test_over_object),
		cmocka_unit_test(test_append),	      cmocka_unit_test(test_truncate),
		cmocka_unit_test(test_too_large),     cmocka_unit_test(test_dirty_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
