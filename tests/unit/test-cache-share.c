/* SPDX-License-Identifier: Apache-2.0 */
/* Several users of one pool: storages of their own, and drivers on the same storage. */
#include "cache-fixture.h"

#define MIB (1u << 20)
#define POOL (32u * MIB)
#define SET (12u * MIB) /* less than half of the pool, with what it costs */

static struct cache_env ce;
static unsigned char buf[128u << 10];

static int setup(void **state)
{
	(void)state;
	cache_env_init(&ce, NULL);
	ce.pool.size = POOL;
	cache_env_open(&ce);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	cache_env_close(&ce);
	return 0;
}

static struct cache_file *file_of(struct cache_storage *storage, const char *key)
{
	uint64_t now = loop_now_ns();
	struct store_meta meta;
	struct cache_file *f;

	assert_int_equal(env_stat(&ce.env, key, &meta), 0);
	f = cache_file_get(storage, key, &meta, now);
	assert_non_null(f);
	return f;
}

static void read_through(struct cache_file *f, uint64_t size, unsigned seed)
{
	for (uint64_t at = 0; at < size; at += sizeof(buf)) {
		assert_int_equal(read_all(f, NULL, at, buf, sizeof(buf)), sizeof(buf));
		pattern_check(seed, at, buf, 64);
	}
}

/* Who streams gets what is free, and what is his; but not what others use within their share. */
static void a_stream_leaves_others_their_share(void **state)
{
	struct cache_storage *other;
	struct cache_file *set, *stream;
	struct cache_storage_usage usage;
	uint64_t before;

	(void)state;
	env_ok(cache_storage_new(&other, ce.cache, &ce.config));
	cache_env_object(&ce, "set", 1, SET);
	cache_env_object(&ce, "stream", 2, 4 * POOL);
	set = file_of(ce.storage, "set");
	for (unsigned i = 0; i < 3; i++)
		read_through(set, SET, 1);
	stream = file_of(other, "stream");
	read_through(stream, 4 * POOL, 2);
	cache_storage_usage(ce.storage, &usage);
	assert_true(usage.bytes >= SET);
	before = usage.fetched;
	read_through(set, SET, 1);
	cache_storage_usage(ce.storage, &usage);
	assert_int_equal(usage.fetched, before);
	/* Alone, it may have all. */
	cache_file_put(set);
	cache_storage_usage(other, &usage);
	assert_true(usage.bytes >= POOL / 2);
	cache_file_put(stream);
	cache_storage_free(other);
}

/* Two mounts of one storage use one cache_storage: what one has read the other finds. */
static void users_of_one_storage_share_the_data(void **state)
{
	struct cache_file *a, *b;
	uint64_t fetched;

	(void)state;
	cache_env_object(&ce, "set", 1, SET);
	a = file_of(ce.storage, "set");
	read_through(a, SET, 1);
	fetched = cache_env_downloaded(&ce);
	b = file_of(ce.storage, "set");
	assert_ptr_equal(a, b);
	read_through(b, SET, 1);
	assert_int_equal(cache_env_downloaded(&ce), fetched);
	assert_int_equal(write_all(a, 100, "new", 3), 3);
	assert_int_equal(read_all(b, NULL, 100, buf, 3), 3);
	assert_memory_equal(buf, "new", 3);
	cache_file_put(a);
	cache_file_put(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_stream_leaves_others_their_share, setup,
						teardown),
		cmocka_unit_test_setup_teardown(users_of_one_storage_share_the_data, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
