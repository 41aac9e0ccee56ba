/* SPDX-License-Identifier: Apache-2.0 */
/* Random reads that miss: what they cost the storage, and when all that lies around is fetched. */
#include "cache-fixture.h"

#include "base/util.h"
#include "store/layers/fault.h"

#define KIB 1024ull
#define MIB (1024 * KIB)
#define SMALL (16 * KIB)
#define REGION (2 * MIB)

static struct cache_env ce;

/* Half of the pool has room for the largest file of these tests. */
static int setup(void **state)
{
	(void)state;
	cache_env_init(&ce, NULL);
	ce.pool.size = 576 * MIB;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	cache_env_close(&ce);
	return 0;
}

/* The @i-th of places spread evenly over @size, never two in a row near each other. */
static uint64_t place(uint64_t i, uint64_t size)
{
	return (i * 2654435761u + 12345) % (size / 4096) * 4096;
}

static void read_places(struct cache_file *f, uint64_t size, unsigned seed, unsigned n)
{
	struct cache_stream *stream = cache_stream_new();
	unsigned char buf[4096];

	for (uint64_t i = 0; i < n; i++) {
		uint64_t offset = place(i, size);

		assert_int_equal(read_all(f, stream, offset, buf, sizeof(buf)), sizeof(buf));
		pattern_check(seed, offset, buf, sizeof(buf));
	}
	cache_stream_free(stream);
}

static void check_all(struct cache_file *f, uint64_t size, unsigned seed)
{
	unsigned char *buf = malloc(REGION);

	for (uint64_t at = 0; at < size; at += REGION) {
		assert_int_equal(read_all(f, NULL, at, buf, REGION), REGION);
		pattern_check(seed, at, buf, REGION);
	}
	free(buf);
}

/* A few requests for each MiB, however many reads. */
static void a_file_read_all_over_costs_few_gets(void **state)
{
	const uint64_t size = 32 * MIB;
	struct cache_file *f;

	(void)state;
	cache_env_open(&ce);
	cache_env_object(&ce, "a", 1, size);
	f = cache_env_file(&ce, "a");
	read_places(f, size, 1, 512);
	print_message("# %ju GETs, %ju KiB for 512 reads\n",
		      (uintmax_t)cache_env_count(&ce, STORE_READ),
		      (uintmax_t)(cache_env_downloaded(&ce) / KIB));
	assert_true(cache_env_count(&ce, STORE_READ) <= 4 * (size / MIB));
	/* no byte twice */
	assert_true(cache_env_downloaded(&ce) <= size);
	check_all(f, size, 1);
	cache_file_put(f);
}

static void a_region_read_a_lot_costs_a_few_gets_and_no_other(void **state)
{
	const uint64_t size = 128 * MIB, here = 64 * MIB;
	struct cache_stream *stream = cache_stream_new();
	unsigned char buf[4096];
	struct cache_file *f;

	(void)state;
	cache_env_open(&ce);
	cache_env_object(&ce, "a", 3, size);
	f = cache_env_file(&ce, "a");
	for (uint64_t i = 0; i < 128; i++) {
		uint64_t offset = here + i * 37 % 128 * SMALL;

		assert_int_equal(read_all(f, stream, offset, buf, sizeof(buf)), sizeof(buf));
		pattern_check(3, offset, buf, sizeof(buf));
	}
	print_message("# %ju GETs for 128 reads\n", (uintmax_t)cache_env_count(&ce, STORE_READ));
	assert_true(cache_env_count(&ce, STORE_READ) <= 8);
	assert_true(cache_env_downloaded(&ce) <= REGION);
	cache_stream_free(stream);
	cache_file_put(f);
}

/* What was written there, before, stays. */
static void what_was_written_stays(void **state)
{
	const uint64_t size = 16 * MIB;
	struct cache_file *f;
	unsigned char *buf = malloc(REGION);

	(void)state;
	cache_env_open(&ce);
	cache_env_object(&ce, "a", 6, size);
	f = cache_env_file(&ce, "a");
	for (uint64_t at = 40 * KIB; at < size; at += REGION / 2 + SMALL) {
		pattern_fill(7, at, buf, 4096);
		assert_int_equal(write_all(f, at, buf, 4096), 4096);
	}
	for (uint64_t at = 40 * KIB; at < size; at += REGION / 2 + SMALL) {
		struct cache_stream *stream = cache_stream_new();

		/* around it, until all of the region is fetched */
		for (uint64_t i = 0; i < 40; i++) {
			uint64_t offset = (at & ~(REGION - 1)) + i * 37 % 128 * SMALL;

			assert_int_equal(read_all(f, stream, offset, buf, 4096), 4096);
			pattern_check(6, offset, buf, 4096);
		}
		cache_stream_free(stream);
	}
	for (uint64_t at = 40 * KIB; at < size; at += REGION / 2 + SMALL) {
		uint64_t start = at & ~(SMALL - 1);

		assert_int_equal(read_all(f, NULL, start, buf, 4 * SMALL), 4 * SMALL);
		pattern_check(6, start, buf, at - start);
		pattern_check(7, at, buf + (at - start), 4096);
		pattern_check(6, at + 4096, buf + (at - start) + 4096,
			      start + 4 * SMALL - at - 4096);
	}
	free(buf);
	cache_file_put(f);
}

static void a_get_over_a_region_may_fail(void **state)
{
	const struct store_fault broken = { .error_permille = 1000, .error = -EIO };
	const uint64_t size = 16 * MIB;
	struct cache_stream *stream = cache_stream_new();
	unsigned char buf[4096];
	struct cache_file *f;
	unsigned failed = 0;

	(void)state;
	cache_env_open(&ce);
	cache_env_object(&ce, "a", 8, size);
	f = cache_env_file(&ce, "a");
	for (uint64_t i = 0; i < 40; i++) {
		ssize_t ret;

		store_fault_set(ce.fault, 1u << STORE_READ, i % 4 == 3 ? &broken : NULL);
		ret = read_all(f, stream, place(i, size), buf, sizeof(buf));
		assert_true(ret == -EIO || ret == sizeof(buf));
		failed += ret < 0;
	}
	store_fault_set(ce.fault, 1u << STORE_READ, NULL);
	assert_true(failed > 0);
	check_all(f, size, 8);
	cache_stream_free(stream);
	cache_file_put(f);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_file_read_all_over_costs_few_gets),
		CASE(a_region_read_a_lot_costs_a_few_gets_and_no_other),
		CASE(what_was_written_stays),
		CASE(a_get_over_a_region_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
