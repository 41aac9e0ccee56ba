/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool of which nothing can be had, because all of it is dirty or in use: commits go on all the
 * same, whatever they have to read first, and so there is memory again some time.
 */
#include "cache-write-fixture.h"

#include "base/log.h"

#define SPARE CW_PART_MIN /* bytes: whole regions, the least part */
#define HOGS 4096

/* Takes all of the pool that can be taken. */
struct hog {
	struct pool_owner *owner;
	struct pool *pool;
	struct block *block[HOGS];
	unsigned count;
};

static void hog_class(struct hog *hog, unsigned class)
{
	struct block *b;

	while ((b = pool_get(hog->pool, class, hog->owner))) {
		assert_true(hog->count < HOGS);
		hog->block[hog->count++] = b;
	}
}

static void hog_all(struct hog *hog, struct cw *cw)
{
	*hog = (struct hog){ .owner = &cw->storage->owner, .pool = cw->cache->pool };
	for (unsigned class = 3; class > 0; class --)
		hog_class(hog, class - 1);
}

static void hog_end(struct hog *hog)
{
	while (hog->count > 0)
		pool_put(hog->pool, hog->block[--hog->count], hog->owner);
}

/* An object of @size bytes of seed 1, with a hundred of seed 2 written at @at, and nothing of it in
 * memory but these. */
static struct cache_file *changed(struct cw *cw, const char *key, size_t size, uint64_t at)
{
	struct cache_file *f;

	cw_other(cw, key, size, 1);
	f = cw_open(cw, key);
	cw_fill(f, at, 100, 2);
	return f;
}

static void expect_changed(struct cw *cw, const char *key, size_t size, uint64_t at)
{
	assert_int_equal(cw_object_size(cw, key), size);
	cw_expect_object(cw, key, 0, at, 1);
	cw_expect_object(cw, key, at, 100, 2);
	cw_expect_object(cw, key, at + 100, size - at - 100, 1);
}

/* In one request, when it fits; with the change in the beginning, the middle and the end. */
static void test_small_files(void **state)
{
	static const uint64_t at[] = { 0, 3, 50000, SPARE - 100 };
	struct cache_file *f;
	struct hog hog;
	struct cw cw;

	(void)state;
	cw_start(&cw, &cw_defaults);
	for (unsigned i = 0; i < ARRAY_SIZE(at); i++) {
		f = changed(&cw, "a", SPARE, at[i]);
		hog_all(&hog, &cw);
		assert_int_equal(cache_commit(f), 0);
		expect_changed(&cw, "a", SPARE, at[i]);
		hog_end(&hog);
		cache_file_put(f);
	}
	assert_int_equal(cw_requests(&cw, STORE_PUT), ARRAY_SIZE(at));
	cw_end(&cw);
}

/* What is of the base has to fit, not what was appended to it. */
static void test_appended(void **state)
{
	struct cache_file *f;
	struct hog hog;
	struct cw cw;

	(void)state;
	cw_start(&cw, &cw_defaults);
	cw_other(&cw, "a", 1000, 1);
	f = cw_open(&cw, "a");
	cw_fill(f, 2000, 3 * SPARE, 2);
	hog_all(&hog, &cw);
	assert_int_equal(cache_commit(f), 0);
	assert_int_equal(cw_requests(&cw, STORE_PUT), 1);
	cw_expect_object(&cw, "a", 0, 1000, 1);
	cw_expect_object(&cw, "a", 1000, 1000, 0);
	cw_expect_object(&cw, "a", 2000, 3 * SPARE, 2);
	hog_end(&hog);
	cache_file_put(f);
	cw_end(&cw);
}

/* Too much for it: by parts that are not. */
static void test_by_parts(void **state)
{
	static const size_t size[] = { SPARE + 1, 3 * SPARE + 10000, 2 * MiB, 9 * MiB + 5 };
	struct cw_options options = cw_defaults;
	struct cache_file *f;
	struct hog hog;
	struct cw cw;

	(void)state;
	options.pool = 8 * MiB;
	cw_start(&cw, &options);
	for (unsigned i = 0; i < ARRAY_SIZE(size); i++) {
		uint64_t last = size[i] - 100;

		f = changed(&cw, "a", size[i], 70000);
		cw_fill(f, last, 100, 3);
		hog_all(&hog, &cw);
		assert_int_equal(cache_commit(f), 0);
		assert_int_equal(cw_object_size(&cw, "a"), size[i]);
		cw_expect_object(&cw, "a", 0, 70000, 1);
		cw_expect_object(&cw, "a", 70000, 100, 2);
		cw_expect_object(&cw, "a", 70100, last - 70100, 1);
		cw_expect_object(&cw, "a", last, 100, 3);
		hog_end(&hog);
		cache_file_put(f);
	}
	assert_int_equal(cw_requests(&cw, STORE_PUT), 0);
	assert_int_equal(cw_requests(&cw, STORE_COMMIT), ARRAY_SIZE(size));
	cw_end(&cw);
}

static void *commit_run(void *arg)
{
	return (void *)(intptr_t)cache_commit(arg);
}

static pthread_t commit_begin(struct cache_file *f)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, commit_run, f), 0);
	return thread;
}

static int commit_end(pthread_t thread)
{
	void *result;

	assert_int_equal(pthread_join(thread, &result), 0);
	return (int)(intptr_t)result;
}

/* It grows, and changes, while the rest of it is being read. */
static void test_written_meanwhile(void **state)
{
	struct store_fault slow = { .delay_permille = 1000,
				    .delay_min_ns = 300 * MSEC,
				    .delay_max_ns = 300 * MSEC };
	struct cache_file *f;
	pthread_t thread;
	struct hog hog;
	struct cw cw;

	(void)state;
	cw_start(&cw, &cw_defaults);
	f = changed(&cw, "a", 100000, 99900);
	hog_all(&hog, &cw);
	store_fault_set(cw.fault, 1u << STORE_READ, &slow);
	thread = commit_begin(f);
	cw_wait_for(store_fault_stats(cw.fault).delayed == 1);
	cw_fill(f, 99850, 50, 3);
	cw_fill(f, 100000, 500, 4);
	assert_int_equal(commit_end(thread), 0);
	cw_expect_object(&cw, "a", 0, 99850, 1);
	cw_expect_object(&cw, "a", 99900, 100, 2);
	hog_end(&hog);
	assert_int_equal(cache_commit(f), 0);
	assert_int_equal(cw_object_size(&cw, "a"), 100500);
	cw_expect_object(&cw, "a", 0, 99850, 1);
	cw_expect_object(&cw, "a", 99850, 50, 3);
	cw_expect_object(&cw, "a", 99900, 100, 2);
	cw_expect_object(&cw, "a", 100000, 500, 4);
	cache_file_put(f);
	cw_end(&cw);
}

/* The spare memory comes back after each failure. */
static void test_failures(void **state)
{
	static const int error[][2] = {
		{ -EACCES, -EACCES }, { -EIO, -EIO }, { -EAGAIN, -EIO }, { -ETIMEDOUT, -ETIMEDOUT }
	};
	struct cache_file *f;
	struct hog hog;
	struct cw cw;

	(void)state;
	cw_start(&cw, &cw_defaults);
	f = changed(&cw, "a", 100000, 50000);
	hog_all(&hog, &cw);
	for (unsigned i = 0; i < ARRAY_SIZE(error); i++) {
		struct store_fault fault = { .error_permille = 1000, .error = error[i][0] };

		store_fault_set(cw.fault, 1u << STORE_READ, &fault);
		assert_int_equal(cache_commit(f), error[i][1]);
		store_fault_set(cw.fault, STORE_FAULT_ALL, NULL);
		fault.error = -EACCES;
		store_fault_set(cw.fault, 1u << STORE_PUT, &fault);
		assert_int_equal(cache_commit(f), -EACCES);
		store_fault_set(cw.fault, STORE_FAULT_ALL, NULL);
	}
	assert_int_equal(cache_commit(f), 0);
	expect_changed(&cw, "a", 100000, 50000);
	/* Somebody else was faster. */
	cw_fill(f, 0, 100, 2);
	cw_other(&cw, "a", 100000, 3);
	hog_class(&hog, 0);
	assert_int_equal(cache_commit(f), -ESTALE);
	cw_expect_object(&cw, "a", 0, 100000, 3);
	cache_file_put(f);
	f = changed(&cw, "b", 100000, 50000);
	assert_int_equal(cache_commit(f), 0);
	expect_changed(&cw, "b", 100000, 50000);
	hog_end(&hog);
	cache_file_put(f);
	cw_end(&cw);
}

#define MANY 8

/* All of them, though it takes longer than one would wait for memory. */
static void test_one_after_the_other(void **state)
{
	struct store_fault slow = { .delay_permille = 1000,
				    .delay_min_ns = 500 * MSEC,
				    .delay_max_ns = 500 * MSEC };
	struct cw_options options = cw_defaults;
	struct cache_file *f[MANY];
	pthread_t thread[MANY];
	char key[] = "a";
	struct hog hog;
	struct cw cw;

	(void)state;
	options.config.wait_timeout_ns = 3 * SEC;
	cw_start(&cw, &options);
	for (unsigned i = 0; i < MANY; i++, key[0]++)
		f[i] = changed(&cw, key, 100000, 1000 * i);
	hog_all(&hog, &cw);
	store_fault_set(cw.fault, 1u << STORE_READ, &slow);
	for (unsigned i = 0; i < MANY; i++)
		thread[i] = commit_begin(f[i]);
	key[0] = 'a';
	for (unsigned i = 0; i < MANY; i++, key[0]++) {
		assert_int_equal(commit_end(thread[i]), 0);
		expect_changed(&cw, key, 100000, 1000 * i);
		cache_file_put(f[i]);
	}
	hog_end(&hog);
	cw_end(&cw);
}

/* Those that nobody waits for, small and large; and who writes more meanwhile gets memory. */
static void test_in_the_background(void **state)
{
	struct cw_options options = cw_defaults;
	struct cache_file *f[3 * MANY];
	char key[] = "A";
	struct hog hog;
	struct cw cw;

	(void)state;
	options.config.write_back = true;
	options.config.write_back_delay_ns = 3600 * SEC;
	cw_start(&cw, &options);
	for (unsigned i = 0; i < ARRAY_SIZE(f); i++, key[0]++)
		f[i] = changed(&cw, key, 70000 + 20000 * i, 1000 * i);
	hog_all(&hog, &cw);
	/* Nothing of it in memory, and no block to be had but by commits. */
	cw_fill(f[0], 66000, 100, 3);
	hog_end(&hog);
	key[0] = 'A';
	assert_int_equal(cache_storage_sync(cw.storage), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(f); i++, key[0]++) {
		if (i > 0)
			expect_changed(&cw, key, 70000 + 20000 * i, 1000 * i);
		cache_file_put(f[i]);
	}
	cw_expect_object(&cw, "A", 66000, 100, 3);
	cw_end(&cw);
}

/* Hardly anything is dirty, but something in each slab, so that none can become another class. */
static void test_a_reader_has_it_written(void **state)
{
	struct cw_options options = cw_defaults;
	unsigned char buf[4 * KiB] = { 1 };
	struct cache_file *f;
	char key[16];
	struct hog hog;
	struct cw cw;

	(void)state;
	options.config.write_back = true;
	options.config.write_back_delay_ns = 3600 * SEC;
	cw_start(&cw, &options);
	cw_other(&cw, "a", 1 * MiB, 1);
	hog = (struct hog){ .owner = &cw.storage->owner, .pool = cw.cache->pool };
	hog_class(&hog, 0);
	for (unsigned i = 0; i < hog.count; i += CW_REGION / sizeof(buf)) {
		struct block *b = hog.block[i];

		/* The only one that is free, thus the one that is written to. */
		pool_put(hog.pool, b, hog.owner);
		snprintf(key, sizeof(key), "dirty-%u", i);
		f = cw_create(&cw, key);
		assert_int_equal(cw_write(f, 0, buf, sizeof(buf)), sizeof(buf));
		assert_true(block_is(b, BLOCK_DIRTY));
		cache_file_put(f);
		hog.block[i] = NULL;
	}
	for (unsigned i = 0; i < hog.count; i++)
		if (hog.block[i])
			pool_put(hog.pool, hog.block[i], hog.owner);
	assert_true(atomic_load(&cw.storage->dirty_bytes) < cw.storage->dirty_max / 4);
	assert_int_equal(cw_requests(&cw, STORE_PUT), 0);
	f = cw_open(&cw, "a");
	cw_expect(f, 0, 1 * MiB, 1);
	cache_file_put(f);
	cw_end(&cw);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small_files),
		cmocka_unit_test(test_appended),
		cmocka_unit_test(test_by_parts),
		cmocka_unit_test(test_written_meanwhile),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_one_after_the_other),
		cmocka_unit_test(test_in_the_background),
		cmocka_unit_test(test_a_reader_has_it_written),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
