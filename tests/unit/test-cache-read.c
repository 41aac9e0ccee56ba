/* SPDX-License-Identifier: Apache-2.0 */
/* Reading through the cache: hits, misses, versions, expiry, errors. */
#include "cache-fixture.h"

#include "store/layers/fault.h"

static struct cache_env ce;

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

static void a_small_file_costs_one_get_and_then_nothing(void **state)
{
	unsigned char buf[8192];
	struct cache_file *f;

	(void)state;
	cache_env_open(&ce);
	cache_env_object(&ce, "a", 1, 3000);
	f = cache_env_file(&ce, "a");
	for (int i = 0; i < 3; i++) {
		memset(buf, 0xaa, sizeof(buf));
		assert_int_equal(read_all(f, NULL, 0, buf, sizeof(buf)), 3000);
		pattern_check(1, 0, buf, 3000);
		assert_int_equal(buf[3000], 0xaa);
	}
	assert_int_equal(read_all(f, NULL, 3000, buf, 10), 0);
	assert_int_equal(read_all(f, NULL, UINT64_MAX - 5, buf, 10), 0);
	assert_int_equal(cache_env_count(&ce, STORE_READ), 1);
	assert_int_equal(cache_env_downloaded(&ce), 3000);
	cache_file_put(f);
}

static void any_range_reads_what_the_object_has(void **state)
{
	const size_t size = (5u << 20) + 12345;
	unsigned char *buf = malloc(3u << 20);
	struct cache_file *f;

	(void)state;
	cache_env_open(&ce);
	cache_env_object(&ce, "a", 2, size);
	f = cache_env_file(&ce, "a");
	srand(4);
	for (int i = 0; i < 300; i++) {
		uint64_t offset = (uint64_t)rand() % (size + 1000);
		size_t len = (size_t)rand() % ((i % 3) ? 20000 : 3u << 20);
		ssize_t want = offset >= size ? 0 : (ssize_t)MIN(len, size - offset);

		assert_int_equal(read_all(f, NULL, offset, buf, len), want);
		pattern_check(2, offset, buf, (size_t)want);
	}
	assert_true(cache_env_downloaded(&ce) <= size);
	cache_file_put(f);
	free(buf);
}

static void random_reads_of_a_large_object_fetch_little(void **state)
{
	unsigned char buf[4096];
	struct cache_file *f;

	(void)state;
	cache_env_open(&ce);
	cache_env_object(&ce, "a", 3, 16u << 20);
	f = cache_env_file(&ce, "a");
	for (uint64_t i = 0; i < 8; i++) {
		uint64_t offset = i * 7 % 8 * (2u << 20) + 40960;

		assert_int_equal(read_all(f, NULL, offset, buf, sizeof(buf)), sizeof(buf));
		pattern_check(3, offset, buf, sizeof(buf));
	}
	assert_true(cache_env_downloaded(&ce) <= 8 * 16384);
	cache_file_put(f);
}

/* @n reads of 4 KiB at random places of the object @key, of @size bytes. */
static void read_at_random(const char *key, unsigned seed, uint64_t size, unsigned n)
{
	struct cache_stream *stream = cache_stream_new();
	struct cache_file *f = cache_env_file(&ce, key);
	unsigned char buf[4096];

	assert_non_null(stream);
	srand(7);
	for (unsigned i = 0; i < n; i++) {
		uint64_t offset = (uint64_t)rand() % (size / sizeof(buf)) * sizeof(buf);

		assert_int_equal(read_all(f, stream, offset, buf, sizeof(buf)), sizeof(buf));
		pattern_check(seed, offset, buf, sizeof(buf));
	}
	cache_file_put(f);
	cache_stream_free(stream);
}

/* An eighth of it is read, everywhere: then it costs less to have all of it. */
static void random_reads_that_come_back_to_all_regions_fetch_them_whole(void **state)
{
	const uint64_t size = 16u << 20;

	(void)state;
	ce.pool.size = 64u << 20;
	cache_env_open(&ce);
	cache_env_object(&ce, "a", 3, size);
	read_at_random("a", 3, size, 512);
	/* Two for each region, and one for each gap between them of at most a MiB. */
	assert_true(cache_env_count(&ce, STORE_READ) <= 8 * 6);
	assert_true(cache_env_downloaded(&ce) <= size);
}

/* What would be evicted before it is read is not fetched. */
static void random_reads_of_what_the_pool_cannot_hold_fetch_what_they_ask_for(void **state)
{
	const uint64_t size = 64u << 20;

	(void)state;
	cache_env_open(&ce);
	cache_env_object(&ce, "a", 3, size);
	read_at_random("a", 3, size, 512);
	assert_true(cache_env_downloaded(&ce) <= 512 * 16384);
}

/* As somebody asked for by configuration. */
static void without_read_ahead_random_reads_fetch_what_they_ask_for(void **state)
{
	const uint64_t size = 16u << 20;

	(void)state;
	ce.pool.size = 64u << 20;
	ce.config.read_ahead_max = 0;
	cache_env_open(&ce);
	cache_env_object(&ce, "a", 3, size);
	read_at_random("a", 3, size, 256);
	assert_true(cache_env_downloaded(&ce) <= 256 * 16384);
}

struct reader {
	struct cache_file *file;
	pthread_t thread;
	uint64_t offset;
	ssize_t result;
	unsigned char buf[65536];
};

static void *reader_main(void *arg)
{
	struct reader *r = arg;

	r->result = read_all(r->file, NULL, r->offset, r->buf, sizeof(r->buf));
	return NULL;
}

static void many_readers_of_one_block_fetch_it_once(void **state)
{
	struct store_fault slow = { .delay_permille = 1000,
				    .delay_min_ns = 100 * MSEC,
				    .delay_max_ns = 100 * MSEC };
	struct reader *r = calloc(16, sizeof(*r));
	struct cache_file *f;

	(void)state;
	cache_env_open(&ce);
	cache_env_object(&ce, "a", 5, 1u << 20);
	f = cache_env_file(&ce, "a");
	store_fault_set(ce.fault, 1u << STORE_READ, &slow);
	for (int i = 0; i < 16; i++) {
		r[i].file = f;
		r[i].offset = 4096 * (uint64_t)(i % 4);
		pthread_create(&r[i].thread, NULL, reader_main, &r[i]);
	}
	for (int i = 0; i < 16; i++) {
		pthread_join(r[i].thread, NULL);
		assert_int_equal(r[i].result, sizeof(r[i].buf));
		pattern_check(5, r[i].offset, r[i].buf, sizeof(r[i].buf));
	}
	assert_true(cache_env_downloaded(&ce) <= 262144);
	cache_file_put(f);
	free(r);
}

static void two_guests_of_one_version_share_what_is_cached(void **state)
{
	struct cache_file *a, *b;
	unsigned char buf[4096];

	(void)state;
	cache_env_open(&ce);
	cache_env_object(&ce, "a", 1, 4096);
	a = cache_env_file(&ce, "a");
	assert_int_equal(read_all(a, NULL, 0, buf, 4096), 4096);
	b = cache_env_file(&ce, "a");
	assert_ptr_equal(a, b);
	cache_file_put(a);
	cache_file_put(b);
	/* And keep it when nobody has it open. */
	a = cache_env_file(&ce, "a");
	assert_int_equal(read_all(a, NULL, 0, buf, 4096), 4096);
	assert_int_equal(cache_env_count(&ce, STORE_READ), 1);
	cache_file_put(a);
}

static void a_changed_object_is_never_mixed(void **state)
{
	unsigned char *buf = malloc(4u << 20);
	struct cache_file *old, *new;

	(void)state;
	cache_env_open(&ce);
	cache_env_object(&ce, "a", 1, 8u << 20);
	old = cache_env_file(&ce, "a");
	assert_int_equal(read_all(old, NULL, 0, buf, 4096), 4096);
	cache_env_object(&ce, "a", 2, 8u << 20);
	/* Nobody told us yet: the condition of the GET does. */
	assert_int_equal(read_all(old, NULL, 4u << 20, buf, 4096), -ESTALE);
	new = cache_env_file(&ce, "a");
	assert_ptr_not_equal(old, new);
	assert_int_equal(read_all(new, NULL, 0, buf, 4u << 20), 4u << 20);
	pattern_check(2, 0, buf, 4u << 20);
	assert_int_equal(read_all(old, NULL, 0, buf, 4096), -ESTALE);
	cache_file_put(old);
	cache_file_put(new);
	free(buf);
}

static void an_old_listing_does_not_bring_back_an_old_version(void **state)
{
	struct store_meta former, meta;
	struct cache_file *f, *g;
	uint64_t seen;

	(void)state;
	cache_env_open(&ce);
	cache_env_object(&ce, "a", 1, 100);
	seen = loop_now_ns();
	assert_int_equal(env_stat(&ce.env, "a", &former), 0);
	cache_env_object(&ce, "a", 2, 200);
	f = cache_env_file(&ce, "a");
	g = cache_file_get(ce.storage, "a", &former, seen);
	assert_ptr_equal(f, g);
	assert_int_equal(env_stat(&ce.env, "a", &meta), 0);
	assert_int_equal(cache_file_size(f), 200);
	cache_file_put(f);
	cache_file_put(g);
}

static void expired_data_is_asked_about_once_and_kept(void **state)
{
	unsigned char *buf = malloc(4u << 20);
	struct cache_file *f;
	uint64_t stats;

	(void)state;
	ce.config.expiration = true;
	ce.config.expiration_ns = 50 * MSEC;
	cache_env_open(&ce);
	cache_env_object(&ce, "a", 1, 4u << 20);
	f = cache_env_file(&ce, "a");
	assert_int_equal(read_all(f, NULL, 0, buf, 4u << 20), 4u << 20);
	stats = cache_env_count(&ce, STORE_STAT);
	sleep_ms(70);
	assert_int_equal(read_all(f, NULL, 0, buf, 4u << 20), 4u << 20);
	pattern_check(1, 0, buf, 4u << 20);
	assert_int_equal(cache_env_count(&ce, STORE_STAT), stats + 1);
	assert_int_equal(cache_env_downloaded(&ce), 4u << 20);

	cache_env_object(&ce, "a", 2, 4u << 20);
	sleep_ms(70);
	assert_int_equal(read_all(f, NULL, 0, buf, 100), -ESTALE);
	assert_null(cache_file_peek(ce.storage, "a"));
	cache_file_put(f);
	free(buf);
}

static void a_failed_get_fails_the_read_and_nothing_else(void **state)
{
	struct store_fault fail = { .error_permille = 1000, .error = -ETIMEDOUT };
	struct store_fault cut = { .cut_permille = 1000 };
	unsigned char buf[65536];
	struct cache_file *f;

	(void)state;
	cache_env_open(&ce);
	cache_env_object(&ce, "a", 1, 65536);
	f = cache_env_file(&ce, "a");
	store_fault_set(ce.fault, 1u << STORE_READ, &fail);
	assert_int_equal(read_all(f, NULL, 0, buf, sizeof(buf)), -ETIMEDOUT);
	store_fault_set(ce.fault, 1u << STORE_READ, &cut);
	assert_int_equal(read_all(f, NULL, 0, buf, sizeof(buf)), -EIO);
	store_fault_set(ce.fault, STORE_FAULT_ALL, &(struct store_fault){ 0 });
	assert_int_equal(read_all(f, NULL, 0, buf, sizeof(buf)), sizeof(buf));
	pattern_check(1, 0, buf, sizeof(buf));
	cache_file_put(f);
}

static void more_data_than_memory_reads_right(void **state)
{
	const size_t size = 100u << 20;
	unsigned char *buf = malloc(1u << 20);
	struct cache_stream *stream;
	struct cache_file *f;

	(void)state;
	cache_env_open(&ce);
	cache_env_object(&ce, "a", 6, size);
	f = cache_env_file(&ce, "a");
	stream = cache_stream_new();
	for (uint64_t at = 0; at < size; at += 1u << 20) {
		assert_int_equal(read_all(f, stream, at, buf, 1u << 20), 1u << 20);
		pattern_check(6, at, buf, 1u << 20);
	}
	/* No byte twice, though the pool holds a third of it. */
	assert_int_equal(cache_env_downloaded(&ce), size);
	cache_stream_free(stream);
	cache_file_put(f);
	free(buf);
}

static void *churn_main(void *arg)
{
	struct cache_file **files = arg;
	unsigned char *buf = malloc(300000);
	unsigned seed = (unsigned)(uintptr_t)buf;

	for (int i = 0; i < 400; i++) {
		unsigned k = (unsigned)rand_r(&seed) % 4;
		uint64_t offset = (uint64_t)rand_r(&seed) % (14u << 20);
		size_t len = (size_t)rand_r(&seed) % 300000;
		ssize_t n = read_all(files[k], NULL, offset, buf, len);

		assert_int_equal(n, len);
		pattern_check(k, offset, buf, len);
	}
	free(buf);
	return NULL;
}

static void threads_that_evict_each_other_read_right(void **state)
{
	struct cache_file *files[4];
	pthread_t thread[4];

	(void)state;
	cache_env_open(&ce);
	for (unsigned k = 0; k < 4; k++) {
		char key[2] = { (char)('a' + k), 0 };

		cache_env_object(&ce, key, k, 15u << 20);
		files[k] = cache_env_file(&ce, key);
	}
	for (int i = 0; i < 4; i++)
		pthread_create(&thread[i], NULL, churn_main, files);
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	for (int i = 0; i < 4; i++)
		cache_file_put(files[i]);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_small_file_costs_one_get_and_then_nothing),
		CASE(any_range_reads_what_the_object_has),
		CASE(random_reads_of_a_large_object_fetch_little),
		CASE(random_reads_that_come_back_to_all_regions_fetch_them_whole),
		CASE(random_reads_of_what_the_pool_cannot_hold_fetch_what_they_ask_for),
		CASE(without_read_ahead_random_reads_fetch_what_they_ask_for),
		CASE(many_readers_of_one_block_fetch_it_once),
		CASE(two_guests_of_one_version_share_what_is_cached),
		CASE(a_changed_object_is_never_mixed),
		CASE(an_old_listing_does_not_bring_back_an_old_version),
		CASE(expired_data_is_asked_about_once_and_kept),
		CASE(a_failed_get_fails_the_read_and_nothing_else),
		CASE(more_data_than_memory_reads_right),
		CASE(threads_that_evict_each_other_read_right),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
