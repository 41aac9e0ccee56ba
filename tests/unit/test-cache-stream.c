/* SPDX-License-Identifier: Apache-2.0 */
/* Read-ahead as it works out in the cache: requests that the storage sees. */
#include "cache-fixture.h"

#include "cache/file.h"
#include "store/layers/fault.h"

static struct cache_env ce;
static unsigned char buf[128u << 10];

static int setup(void **state)
{
	(void)state;
	cache_env_init(&ce, NULL);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	cache_env_close(&ce);
	return 0;
}

/* Reads [@start, @end) in requests of @step, checking each byte. */
static void read_range(struct cache_file *f, struct cache_stream *stream, uint64_t start,
		       uint64_t end, size_t step)
{
	for (uint64_t at = start; at < end; at += step) {
		ssize_t want = (ssize_t)MIN(step, end - at);

		assert_int_equal(read_all(f, stream, at, buf, (size_t)want), want);
		pattern_check(1, at, buf, (size_t)want);
	}
}

/* Requests are counted when they end, and a reader has his bytes before that. */
static uint64_t downloaded(uint64_t least)
{
	for (int ms = 0; cache_env_downloaded(&ce) < least; ms++) {
		assert_true(ms < 10000);
		sleep_ms(1);
	}
	return cache_env_downloaded(&ce);
}

static void a_sequential_reader_fetches_each_byte_once(void **state)
{
	const uint64_t size = 24u << 20;

	(void)state;
	cache_env_open(&ce);
	cache_env_object(&ce, "a", 1, size);
	for (unsigned round = 0; round < 2; round++) {
		struct cache_file *f = cache_env_file(&ce, "a");
		struct cache_stream *stream = cache_stream_new();

		read_range(f, stream, 0, size, sizeof(buf));
		assert_int_equal(downloaded(size), size);
		/* 1 and 2 MiB in small blocks at first, then up to 4 MiB */
		assert_in_range(cache_env_count(&ce, STORE_READ), 6, 20);
		cache_stream_free(stream);
		cache_file_put(f);
	}
}

/* The same through a pool that holds a fourth of it. Fetched ahead, but never twice. */
static void a_stream_through_a_small_pool_fetches_each_byte_once(void **state)
{
	const uint64_t size = 64u << 20;
	struct cache_stream *stream = cache_stream_new();
	struct cache_file *f;

	(void)state;
	ce.pool.size = 17u << 20;
	ce.config.read_ahead_max = 4u << 20;
	cache_env_open(&ce);
	cache_env_object(&ce, "a", 1, size);
	f = cache_env_file(&ce, "a");
	read_range(f, stream, 0, size, sizeof(buf));
	assert_int_equal(downloaded(size), size);
	cache_stream_free(stream);
	cache_file_put(f);
}

/* Eight of them at a time want as much as there is: they get less each, but all get on. */
static void windows_that_do_not_fit_get_smaller(void **state)
{
	const uint64_t size = 8u << 20;
	struct cache_stream *stream[8];
	struct cache_file *f[8];
	char key[2] = "a";

	(void)state;
	ce.pool.size = 33u << 20;
	ce.config.read_ahead_max = 64u << 20;
	cache_env_open(&ce);
	for (unsigned i = 0; i < 8; i++) {
		key[0] = (char)('a' + i);
		cache_env_object(&ce, key, 1, size);
		f[i] = cache_env_file(&ce, key);
		stream[i] = cache_stream_new();
	}
	for (uint64_t at = 0; at < size; at += sizeof(buf))
		for (unsigned i = 0; i < 8; i++)
			read_range(f[i], stream[i], at, at + sizeof(buf), sizeof(buf));
	print_message("# 8 streams in a pool of half: %.2f times fetched, %ju requests\n",
		      (double)downloaded(8 * size) / (double)(8 * size),
		      (uintmax_t)cache_env_count(&ce, STORE_READ));
	assert_true(cache_env_downloaded(&ce) <= 8 * size * 2);
	for (unsigned i = 0; i < 8; i++) {
		cache_stream_free(stream[i]);
		cache_file_put(f[i]);
	}
}

/* For how far ahead to fetch: at once when it comes nearer, slowly when it seems to go away. */
static void the_distance_of_a_storage_is_learnt(void **state)
{
	const uint64_t far_ns = 100 * MSEC, step = 1u << 20;
	const struct store_fault slow = { .delay_permille = 1000,
					  .delay_min_ns = far_ns,
					  .delay_max_ns = far_ns };
	uint64_t at = 0, distance_ns, near_ns;
	struct cache_file *f;

	(void)state;
	cache_env_open(&ce);
	cache_env_object(&ce, "a", 1, 16 * step);
	f = cache_env_file(&ce, "a");
	store_fault_set(ce.fault, 1u << STORE_READ, &slow);
	read_range(f, NULL, at, at + 4096, 4096);
	distance_ns = atomic_load(&ce.storage->distance_ns);
	assert_in_range(distance_ns, far_ns, 60 * SEC);
	store_fault_set(ce.fault, 1u << STORE_READ, NULL);
	do {
		at += step;
		assert_true(at < 15 * step);
		read_range(f, NULL, at, at + 4096, 4096);
		near_ns = atomic_load(&ce.storage->distance_ns);
	} while (near_ns > far_ns / 2);
	store_fault_set(ce.fault, 1u << STORE_READ, &slow);
	at += step;
	read_range(f, NULL, at, at + 4096, 4096);
	distance_ns = atomic_load(&ce.storage->distance_ns);
	assert_in_range(distance_ns, near_ns + 1, far_ns - 1);
	cache_file_put(f);
}

static void the_head_of_a_large_file_is_cheap(void **state)
{
	struct cache_stream *stream = cache_stream_new();
	struct cache_file *f;

	(void)state;
	cache_env_open(&ce);
	cache_env_object(&ce, "a", 1, 24u << 20);
	f = cache_env_file(&ce, "a");
	read_range(f, stream, 0, 4096, 4096);
	assert_true(downloaded(256u << 10) <= 512u << 10);
	assert_int_equal(cache_env_count(&ce, STORE_READ), 1);
	/* all of it lies ahead still */
	read_range(f, stream, 4096, 128u << 10, 4096);
	assert_true(cache_env_downloaded(&ce) <= 1u << 20);
	cache_stream_free(stream);
	cache_file_put(f);
}

static void small_files_cost_one_request(void **state)
{
	struct cache_stream *stream = cache_stream_new();
	struct cache_file *f;

	(void)state;
	cache_env_open(&ce);
	cache_env_object(&ce, "a", 1, 700u << 10);
	f = cache_env_file(&ce, "a");
	read_range(f, stream, 0, 700u << 10, 4096);
	assert_int_equal(downloaded(700u << 10), 700u << 10);
	assert_int_equal(cache_env_count(&ce, STORE_READ), 1);
	cache_stream_free(stream);
	cache_file_put(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_sequential_reader_fetches_each_byte_once, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			a_stream_through_a_small_pool_fetches_each_byte_once, setup, teardown),
		cmocka_unit_test_setup_teardown(windows_that_do_not_fit_get_smaller, setup,
						teardown),
		cmocka_unit_test_setup_teardown(the_distance_of_a_storage_is_learnt, setup,
						teardown),
		cmocka_unit_test_setup_teardown(the_head_of_a_large_file_is_cheap, setup, teardown),
		cmocka_unit_test_setup_teardown(small_files_cost_one_request, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
