/* SPDX-License-Identifier: Apache-2.0 */
/* What it costs to know which block is where: bounded by the blocks, not by the files. */
#include "cache-write-fixture.h"

#include "base/log.h"

/* Blocks of 16 KiB in a pool of 1 MiB, for each a leaf of 16 regions, and slots. */
#define BOUND (64 * 700u)

static void write_one(struct cache_file *f, uint64_t offset, unsigned seed)
{
	unsigned char buf[64];

	cw_pattern(buf, offset, sizeof(buf), seed);
	assert_int_equal(cw_write(f, offset, buf, sizeof(buf)), sizeof(buf));
}

static void expect_one(struct cache_file *f, uint64_t offset, unsigned seed)
{
	cw_expect(f, offset, 64, seed);
}

/* Here and there in a large file: 3000 regions, of which few have a block. */
static void test_random_access(void **state)
{
	struct cw_options options = cw_defaults;
	const uint64_t size = 190 * MiB;
	uint64_t most = 0, x = 12345;
	struct cache_file *f;
	struct cw cw;

	(void)state;
	options.pool = 1 * MiB;
	cw_start(&cw, &options);
	cw_other(&cw, "a", size, 1);
	f = cw_open(&cw, "a");
	for (unsigned i = 0; i < 10000; i++) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		expect_one(f, (x >> 20) % (size - 64), 1);
		most = MAX(most, cache_map_bytes(cw.cache));
	}
	if (most > BOUND)
		fail_msg("%llu bytes", (unsigned long long)most);
	cache_file_put(f);
	cw_end(&cw);
}

/* From the storage, by several threads at once, which evict each other's blocks; and it is
 * the right bytes that they find. */
struct reader {
	pthread_t thread;
	struct cache_file *f[2];
	unsigned number;
	uint64_t size;
};

static void *read_run(void *arg)
{
	struct reader *r = arg;
	uint64_t x = r->number + 1;

	for (unsigned i = 0; i < 6000; i++) {
		uint64_t offset;

		x = x * 6364136223846793005ull + 1442695040888963407ull;
		offset = (x >> 20) % (r->size - 64);
		expect_one(r->f[x >> 63], offset, (unsigned)(x >> 63) + 1);
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct cw_options options = cw_defaults;
	struct reader reader[4];
	struct cache_file *f[2];
	struct cw cw;

	(void)state;
	options.pool = 1 * MiB;
	cw_start(&cw, &options);
	cw_other(&cw, "a", 32 * MiB, 1);
	cw_other(&cw, "b", 32 * MiB, 2);
	f[0] = cw_open(&cw, "a");
	f[1] = cw_open(&cw, "b");
	for (unsigned i = 0; i < 4; i++) {
		reader[i] = (struct reader){ .f = { f[0], f[1] }, .number = i, .size = 32 * MiB };
		assert_int_equal(pthread_create(&reader[i].thread, NULL, read_run, &reader[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(reader[i].thread, NULL);
	/* And those that were missed. */
	if (cache_map_bytes(cw.cache) > 2 * BOUND)
		fail_msg("%llu bytes", (unsigned long long)cache_map_bytes(cw.cache));
	cache_file_put(f[0]);
	cache_file_put(f[1]);
	cw_end(&cw);
}

/* Written: the blocks are evicted after their commits, and others are where they were. */
static void test_written(void **state)
{
	struct cw_options options = cw_defaults;
	struct cache_file *f;
	struct cw cw;

	(void)state;
	options.pool = 2 * MiB;
	options.config.write_back = true;
	options.memory.bytes_max = 512 * MiB;
	cw_start(&cw, &options);
	cw_other(&cw, "a", 64 * MiB, 1);
	f = cw_open(&cw, "a");
	for (unsigned i = 0; i < 60; i++)
		write_one(f, i * 1024ull * KiB + 777, 2);
	assert_int_equal(cache_commit(f), 0);
	for (unsigned i = 0; i < 1024; i++)
		expect_one(f, i * 64ull * KiB, 1);
	for (unsigned i = 0; i < 60; i++)
		expect_one(f, i * 1024ull * KiB + 777, 2);
	cw_expect_object(&cw, "a", 777, 64, 2);
	assert_true(cache_map_bytes(cw.cache) <= 2 * BOUND);
	cache_file_put(f);
	cw_end(&cw);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_access),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_written),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
