/* SPDX-License-Identifier: Apache-2.0 */
#include "objectfs-fixture.h"

#include "fs/objectfs/move.h"
#include "store/layers/fault.h"
#include "store/layers/retry.h"

static void test_file(void **state)
{
	struct ox *ox = *state;
	struct fuse_entry_out before, after;

	ox_bucket_put(ox, "a", "text");
	ox_bucket_put(ox, "d/x", "");
	assert_int_equal(ox_stat(ox, "a", &before), 0);
	assert_int_equal(ox_rename(ox, "a", "d/b", 0), 0);
	assert_string_equal(ox_bucket(ox, "a"), "(none)");
	assert_string_equal(ox_bucket(ox, "d/b"), "text");
	assert_int_equal(ox_stat(ox, "a", NULL), -ENOENT);
	assert_int_equal(ox_stat(ox, "d/b", &after), 0);
	assert_int_equal(before.nodeid, after.nodeid);
	assert_int_equal(before.attr.mtime, after.attr.mtime);
	ox_expect(ox, "d/b", "text");
}

static void test_over(void **state)
{
	struct ox *ox = *state;
	char buf[16] = "";
	uint64_t fh;

	ox_bucket_put(ox, "a", "new");
	ox_bucket_put(ox, "b", "old");
	assert_int_equal(ox_openat(ox, "b", O_RDONLY, &fh), 0);
	assert_int_equal(ox_read(ox, fh, buf, sizeof(buf), 0), 3);
	assert_int_equal(ox_rename(ox, "a", "b", 1), -EEXIST);
	assert_int_equal(ox_rename(ox, "a", "b", 2), -EINVAL);
	assert_int_equal(ox_rename(ox, "a", "b", 0), 0);
	assert_string_equal(ox_bucket(ox, "b"), "new");
	/* Whoever has the old one open has it open. */
	memset(buf, 0, sizeof(buf));
	assert_int_equal(ox_read(ox, fh, buf, sizeof(buf), 0), 3);
	assert_string_equal(buf, "old");
	ox_release(ox, fh);
	ox_expect(ox, "b", "new");
	assert_int_equal(ox_rename(ox, "b", "b", 0), 0);
	assert_int_equal(ox_rename(ox, "b", "c", 1), 0);
	assert_string_equal(ox_bucket(ox, "c"), "new");
	assert_int_equal(ox_rename(ox, "missing", "c", 0), -ENOENT);
}

static void test_kinds(void **state)
{
	struct ox *ox = *state;

	ox_bucket_put(ox, "f", "");
	ox_bucket_put(ox, "d/e/x", "");
	assert_int_equal(ox_mkdir(ox, "empty"), 0);
	assert_int_equal(ox_rename(ox, "f", "d", 0), -EISDIR);
	assert_int_equal(ox_rename(ox, "d", "f", 0), -ENOTDIR);
	assert_int_equal(ox_rename(ox, "empty", "d", 0), -ENOTEMPTY);
	assert_int_equal(ox_rename(ox, "d", "d/e/d", 0), -EINVAL);
	assert_int_equal(ox_rename(ox, "d/e", "d", 0), -ENOTEMPTY);
	assert_int_equal(ox_rename(ox, "d", "empty", 0), 0);
	assert_string_equal(ox_bucket(ox, "empty/e/x"), "");
	assert_string_equal(ox_bucket(ox, "d/e/x"), "(none)");
	assert_string_equal(ox_list(ox, ""), "empty/,f");
}

/* With files that were written and not committed, or are being written. */
static void test_open_file(void **state)
{
	struct ox *ox = *state;
	uint64_t fh, old;

	assert_int_equal(ox_create(ox, "a", O_RDWR, &fh), 0);
	assert_int_equal(ox_write(ox, fh, "one", 3, 0), 3);
	ox_spent(ox);
	assert_int_equal(ox_rename(ox, "a", "b", 0), 0);
	assert_in_range(ox_spent(ox), 0, 2); /* is there a b? */
	assert_int_equal(ox_write(ox, fh, "two", 3, 3), 3);
	assert_int_equal(ox_closeat(ox, fh), 0);
	assert_string_equal(ox_bucket(ox, "a"), "(none)");
	assert_string_equal(ox_bucket(ox, "b"), "onetwo");
	/* Changes on top of an object. */
	assert_int_equal(ox_openat(ox, "b", O_RDWR, &fh), 0);
	assert_int_equal(ox_write(ox, fh, "TWO", 3, 3), 3);
	assert_int_equal(ox_rename(ox, "b", "c", 0), 0);
	assert_int_equal(ox_write(ox, fh, "!", 1, 6), 1);
	assert_int_equal(ox_closeat(ox, fh), 0);
	assert_string_equal(ox_bucket(ox, "b"), "(none)");
	assert_string_equal(ox_bucket(ox, "c"), "oneTWO!");
	/* A new file over an old one, both open. */
	assert_int_equal(ox_openat(ox, "c", O_RDWR, &old), 0);
	assert_int_equal(ox_write(ox, old, "x", 1, 0), 1);
	assert_int_equal(ox_create(ox, "new", O_RDWR, &fh), 0);
	assert_int_equal(ox_write(ox, fh, "new", 3, 0), 3);
	assert_int_equal(ox_rename(ox, "new", "c", 0), 0);
	assert_int_equal(ox_closeat(ox, old), 0);
	assert_int_equal(ox_closeat(ox, fh), 0);
	assert_string_equal(ox_bucket(ox, "new"), "(none)");
	assert_string_equal(ox_bucket(ox, "c"), "new");
	ox_expect(ox, "c", "new");
}

static void test_directory(void **state)
{
	struct ox *ox = *state;
	struct fuse_entry_out before, after;
	char key[32];
	uint64_t fh, created;

	for (unsigned i = 0; i < 100; i++) {
		snprintf(key, sizeof(key), "old/%u/f%u", i % 3, i);
		ox_bucket_put(ox, key, key);
	}
	ox_bucket_put(ox, "old/made/", "");
	assert_int_equal(ox_stat(ox, "old/1/f1", &before), 0);
	assert_int_equal(ox_openat(ox, "old/2/f2", O_RDWR, &fh), 0);
	assert_int_equal(ox_write(ox, fh, "OLD", 3, 0), 3);
	assert_int_equal(ox_create(ox, "old/2/new", O_RDWR, &created), 0);
	assert_int_equal(ox_write(ox, created, "created", 7, 0), 7);
	assert_int_equal(ox_list(ox, "old/")[0], '0');
	assert_int_equal(ox_rename(ox, "old", "new", 0), 0);
	assert_int_equal(ox_write(ox, fh, "NEW", 3, 0), 3);
	assert_int_equal(ox_closeat(ox, fh), 0);
	assert_int_equal(ox_closeat(ox, created), 0);
	assert_int_equal(ox_stat(ox, "old", NULL), -ENOENT);
	assert_int_equal(ox_stat(ox, "new/1/f1", &after), 0);
	assert_int_equal(before.nodeid, after.nodeid);
	for (unsigned i = 0; i < 100; i++) {
		char text[32];

		snprintf(text, sizeof(text), "%s/%u/f%u", i == 2 ? "NEW" : "old", i % 3, i);
		snprintf(key, sizeof(key), "old/%u/f%u", i % 3, i);
		assert_string_equal(ox_bucket(ox, key), "(none)");
		memcpy(key, "new", 3);
		assert_string_equal(ox_bucket(ox, key), text);
		ox_expect(ox, key, text);
	}
	assert_string_equal(ox_bucket(ox, "new/2/new"), "created");
	assert_string_equal(ox_list(ox, "new/"), "0/,1/,2/,made/");
	assert_int_equal(store_memory_usage(ox->ce.env.memory).objects, 102);
}

/* A directory that has nothing but what no bucket knows. */
static void test_directory_unwritten(void **state)
{
	struct ox *ox = *state;
	uint64_t fh;

	assert_int_equal(ox_mkdir(ox, "a"), 0);
	assert_int_equal(ox_create(ox, "a/f", O_RDWR, &fh), 0);
	assert_int_equal(ox_rename(ox, "a", "b", 0), 0);
	assert_string_equal(ox_list(ox, "b/"), "f");
	assert_int_equal(ox_closeat(ox, fh), 0);
	assert_string_equal(ox_bucket(ox, "b/f"), "");
	assert_string_equal(ox_bucket(ox, "a/"), "(none)");
	assert_string_equal(ox_list(ox, ""), "b/");
}

static void test_too_many(void **state)
{
	struct ox *ox = *state;
	char key[32];

	for (unsigned i = 0; i < 1001; i++) {
		snprintf(key, sizeof(key), "d/%u", i);
		ox_bucket_put(ox, key, "");
	}
	assert_int_equal(ox_rename(ox, "d", "e", 0), -EXDEV);
	assert_int_equal(store_memory_usage(ox->ce.env.memory).objects, 1001);
	assert_int_equal(ox_unlink(ox, "d/0"), 0);
	assert_int_equal(ox_rename(ox, "d", "e", 0), 0);
	assert_int_equal(store_memory_usage(ox->ce.env.memory).objects, 1000);
	assert_int_equal(ox_stat(ox, "e/1000", NULL), 0);
}

/* The service refuses some copies: all is as it was. */
static void test_failure(void **state)
{
	struct ox *ox = *state;
	struct store_fault fault = { .error_permille = 100, .error = -EACCES };
	char key[32];

	for (unsigned i = 0; i < 100; i++) {
		snprintf(key, sizeof(key), "d/%02u", i);
		ox_bucket_put(ox, key, key);
	}
	assert_int_equal(ox_stat(ox, "d/07", NULL), 0);
	store_fault_set(ox->ce.fault, 1u << STORE_COPY, &fault);
	assert_int_equal(ox_rename(ox, "d", "e", 0), -EACCES);
	store_fault_set(ox->ce.fault, STORE_FAULT_ALL, NULL);
	assert_int_equal(store_memory_usage(ox->ce.env.memory).objects, 100);
	assert_string_equal(ox_bucket(ox, "d/42"), "d/42");
	ox_expect(ox, "d/07", "d/07");
	assert_int_equal(ox_stat(ox, "e", NULL), -ENOENT);
}

/* The copy is there, the original cannot be deleted: both are seen, and doing it again completes
 * it. */
static void test_file_unfinished(void **state)
{
	struct store_fault fault = { .error_permille = 1000, .error = -EACCES };
	struct ox *ox = *state;

	ox_bucket_put(ox, "a", "text");
	store_fault_set(ox->ce.fault, 1u << STORE_DELETE, &fault);
	assert_int_equal(ox_rename(ox, "a", "b", 0), -EACCES);
	store_fault_set(ox->ce.fault, STORE_FAULT_ALL, NULL);
	ox_expect(ox, "a", "text");
	ox_expect(ox, "b", "text");
	assert_int_equal(ox_rename(ox, "a", "b", 0), 0);
	assert_int_equal(ox_stat(ox, "a", NULL), -ENOENT);
	ox_expect(ox, "b", "text");
	assert_int_equal(store_memory_usage(ox->ce.env.memory).objects, 1);
}

/* The same of a directory: all of it is at the new name, and what is left at the old one can be
 * removed. */
static void test_directory_unfinished(void **state)
{
	struct store_fault fault = { .error_permille = 1000, .error = -EACCES };
	struct ox *ox = *state;
	char key[32];

	ox_bucket_put(ox, "d/", "");
	for (unsigned i = 0; i < 20; i++) {
		snprintf(key, sizeof(key), "d/%02u", i);
		ox_bucket_put(ox, key, key);
	}
	ox_expect(ox, "d/07", "d/07");
	store_fault_set(ox->ce.fault, 1u << STORE_DELETE | 1u << STORE_DELETE_BATCH, &fault);
	assert_int_equal(ox_rename(ox, "d", "e", 0), -EACCES);
	store_fault_set(ox->ce.fault, STORE_FAULT_ALL, NULL);
	for (unsigned i = 0; i < 20; i++) {
		char copy[32];

		snprintf(key, sizeof(key), "d/%02u", i);
		snprintf(copy, sizeof(copy), "e/%02u", i);
		ox_expect(ox, key, key);
		ox_expect(ox, copy, key);
	}
	/* Not by doing it again: there is something by now. */
	assert_int_equal(ox_rename(ox, "d", "e", 0), -ENOTEMPTY);
	for (unsigned i = 0; i < 20; i++) {
		snprintf(key, sizeof(key), "d/%02u", i);
		assert_int_equal(ox_unlink(ox, key), 0);
	}
	assert_int_equal(ox_rmdir(ox, "d"), 0);
	assert_int_equal(store_memory_usage(ox->ce.env.memory).objects, 21);
	assert_string_equal(ox_bucket(ox, "e/07"), "d/07");
}

/* Neither the copies nor their removal work out: once they are removed, it can be done again. */
static void test_undo_fails(void **state)
{
	struct store_fault fault = { .error_permille = 1000, .error = -EACCES, .skip = 5 };
	struct ox *ox = *state;
	char key[32];

	for (unsigned i = 0; i < 10; i++) {
		snprintf(key, sizeof(key), "d/%02u", i);
		ox_bucket_put(ox, key, key);
	}
	store_fault_set(ox->ce.fault, 1u << STORE_COPY, &fault);
	fault.skip = 0;
	store_fault_set(ox->ce.fault, 1u << STORE_DELETE | 1u << STORE_DELETE_BATCH, &fault);
	assert_int_equal(ox_rename(ox, "d", "e", 0), -EACCES);
	store_fault_set(ox->ce.fault, STORE_FAULT_ALL, NULL);
	assert_string_equal(ox_list(ox, "d/"), "00,01,02,03,04,05,06,07,08,09");
	assert_string_equal(ox_list(ox, "e/"), "00,01,02,03,04");
	assert_int_equal(ox_rename(ox, "d", "e", 0), -ENOTEMPTY);
	for (unsigned i = 0; i < 5; i++) {
		snprintf(key, sizeof(key), "e/%02u", i);
		assert_int_equal(ox_unlink(ox, key), 0);
	}
	assert_int_equal(ox_rename(ox, "d", "e", 0), 0);
	assert_int_equal(ox_stat(ox, "d", NULL), -ENOENT);
	ox_expect(ox, "e/07", "d/07");
	assert_int_equal(store_memory_usage(ox->ce.env.memory).objects, 11); /* and e/ */
}

/* An object too large for one COPY. */
static void test_large(void **state)
{
	struct ox *ox = malloc(sizeof(*ox));
	struct store_memory_options options = store_memory_defaults;

	(void)state;
	options.copy_max = 100000;
	options.part_min = 4096;
	options.part_max = 90000;
	ox_init(ox);
	ox->ce.env.top->ops->free(ox->ce.env.top);
	loop_free(ox->ce.env.loop);
	env_memory(&ox->ce.env, &options);
	ox_open(ox);
	cache_env_object(&ox->ce, "big", 3, 300000);
	cache_env_object(&ox->ce, "d/big", 4, 200000);
	assert_int_equal(ox_rename(ox, "big", "bigger", 0), 0);
	assert_int_equal(ox_rename(ox, "d", "e", 0), 0);
	{
		unsigned char *buf = malloc(300000);

		assert_int_equal(store_memory_read(ox->ce.env.memory, "bigger", buf, 300000, NULL),
				 0);
		pattern_check(3, 0, buf, 300000);
		assert_int_equal(store_memory_read(ox->ce.env.memory, "e/big", buf, 200000, NULL),
				 0);
		pattern_check(4, 0, buf, 200000);
		free(buf);
	}
	assert_int_equal(store_memory_usage(ox->ce.env.memory).objects, 2);
	assert_int_equal(store_memory_usage(ox->ce.env.memory).sessions, 0);
	ox_close(ox);
	free(ox);
}

/* What is to be replaced is being committed: that comes first, or it would come after the copy. */
static void test_over_commit(void **state)
{
	struct store_fault slow = { .delay_permille = 1000,
				    .delay_min_ns = 300 * MSEC,
				    .delay_max_ns = 300 * MSEC };
	struct ox *ox = *state;
	struct ox_req fsync;
	uint64_t fh;

	ox_bucket_put(ox, "a", "new");
	ox_bucket_put(ox, "b", "old");
	assert_int_equal(ox_openat(ox, "b", O_RDWR, &fh), 0);
	assert_int_equal(ox_write(ox, fh, "former", 6, 0), 6);
	store_fault_set(ox->ce.fault, 1u << STORE_PUT, &slow);
	ox_req_init(&fsync, FUSE_FSYNC, 1);
	fsync.req.in.fsync.fh = fh;
	ox_start(ox, &fsync);
	sleep_ms(50);
	assert_int_equal(ox_rename(ox, "a", "b", 0), 0);
	assert_int_equal(ox_wait(&fsync), 0);
	assert_string_equal(ox_bucket(ox, "b"), "new");
	ox_expect(ox, "b", "new");
	assert_int_equal(ox_closeat(ox, fh), 0);
	assert_string_equal(ox_bucket(ox, "b"), "new");
}

/* Also what is too large for one COPY is copied in the version that was asked for. */
static void test_large_version(void **state)
{
	struct ox *ox = *state;
	struct objectfs *fs = container_of(ox->fs, struct objectfs, fs);
	uint64_t large = store_caps(fs->store)->copy_max + 1;
	struct store_meta former, meta = { .size = 0 };

	ox_bucket_put(ox, "f", "old text");
	assert_int_equal(store_memory_read(ox->ce.env.memory, "f", &former, 0, &former), 0);
	ox_bucket_put(ox, "f", "new text");
	assert_int_equal(move_copy(fs, "f", "g", former.etag, large, &meta), -ESTALE);
	assert_string_equal(ox_bucket(ox, "g"), "(none)");
	assert_int_equal(move_copy(fs, "f", "g", NULL, large, &meta), 0);
	assert_string_equal(ox_bucket(ox, "g"), "new text");
}

/* Nothing is left over of one that may not be committed. */
static void test_large_commit(void **state)
{
	static const int errors[] = { -EACCES, -EINVAL, -EIO };
	struct ox *ox = *state;
	struct objectfs *fs = container_of(ox->fs, struct objectfs, fs);
	uint64_t large = store_caps(fs->store)->copy_max + 1;
	struct store_meta meta = { .size = 0 };

	ox_bucket_put(ox, "f", "text");
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		const struct store_fault refused = { .error_permille = 1000, .error = errors[i] };

		store_fault_set(ox->ce.fault, 1u << STORE_COMMIT, &refused);
		assert_int_equal(move_copy(fs, "f", "g", NULL, large, &meta), errors[i]);
		assert_string_equal(ox_bucket(ox, "g"), "(none)");
		assert_int_equal(store_memory_usage(ox->ce.env.memory).sessions, 0);
	}
	/* Parts that find no source, too. */
	store_fault_set(ox->ce.fault, 1u << STORE_COPY_PART,
			&(struct store_fault){ .error_permille = 1000, .error = -ENOENT });
	assert_int_equal(move_copy(fs, "f", "g", NULL, large, &meta), -ENOENT);
	assert_int_equal(store_memory_usage(ox->ce.env.memory).sessions, 0);
}

/* Nobody takes a COMMIT that was done for one that was not: the layer for retries knows it by its
 * name. */
static void test_large_commit_lost(void **state)
{
	struct ox *ox = *state;
	struct store *below = ox->ce.env.top, *retry;
	struct objectfs *fs = container_of(ox->fs, struct objectfs, fs);
	uint64_t large = store_caps(fs->store)->copy_max + 1;
	struct store_meta meta = { .size = 0 };

	ox_bucket_put(ox, "f", "text");
	env_ok(store_retry_new(&retry, below, NULL));
	fs->store = retry;
	store_fault_set(ox->ce.fault, 1u << STORE_COMMIT,
			&(struct store_fault){ .lost_permille = 1000, .count = 1 });
	assert_int_equal(move_copy(fs, "f", "g", NULL, large, &meta), 0);
	assert_int_equal(store_retry_stats(retry).ours, 1);
	assert_string_equal(ox_bucket(ox, "g"), "text");
	fs->store = below;
	retry->ops->free(retry);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, ox_setup, ox_teardown)
	static const struct CMUnitTest tests[] = {
		TEST(test_file),
		TEST(test_over),
		TEST(test_kinds),
		TEST(test_open_file),
		TEST(test_directory),
		TEST(test_directory_unwritten),
		TEST(test_too_many),
		TEST(test_failure),
		TEST(test_file_unfinished),
		TEST(test_directory_unfinished),
		TEST(test_undo_fails),
		cmocka_unit_test(test_large),
		TEST(test_large_version),
		TEST(test_large_commit),
		TEST(test_large_commit_lost),
		TEST(test_over_commit),
	};

	return cmocka_run_group_tests_name("objectfs-rename", tests, NULL, NULL);
}
