/* SPDX-License-Identifier: Apache-2.0 */
/* Several users of one pool: storages of their own, and drivers on the same storage. */
#include "cache-fixture.h"

#include "base/log.h"
#include "store/layers/fault.h"

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

/* As much as it takes, in pieces that leave a dirty block in as many slabs as can be: each is
 * followed by what can be evicted again. */
static unsigned dirty_to_the_limit(struct cache_storage *s, struct cache_file **dirty, unsigned max,
				   size_t len)
{
	struct cache_file *clean = file_of(s, "clean");
	unsigned n;

	for (n = 0; n < max; n++) {
		char key[16];
		int ret;

		snprintf(key, sizeof(key), "dirty%u", n);
		dirty[n] = cache_file_create(s, key, &ret);
		assert_non_null(dirty[n]);
		if (write_all(dirty[n], 0, buf, len) != (ssize_t)len)
			break;
		read_all(clean, NULL, n * sizeof(buf) % (2 * POOL), buf, sizeof(buf));
	}
	cache_file_put(clean);
	return n;
}

/* A cache whose storage is about to die, and @env, which another storage of it is on: that one. */
static struct cache_storage *open_beside(struct env *env)
{
	struct cache_storage_config config;
	struct cache_storage *well;

	cache_env_init(&ce, NULL);
	ce.pool.size = POOL;
	ce.config.write_back = true;
	ce.config.wait_timeout_ns = 200 * MSEC;
	cache_env_open(&ce);
	config = ce.config;
	config.store = env->top;
	config.wait_timeout_ns = 10 * SEC;
	env_ok(cache_storage_new(&well, ce.cache, &config));
	cache_env_object(&ce, "clean", 1, 2 * POOL);
	return well;
}

/* More than the pool holds, written, committed and read again. */
static struct cache_file *write_and_read(struct cache_storage *s, const char *key)
{
	struct cache_file *f;
	int ret;

	f = cache_file_create(s, key, &ret);
	assert_non_null(f);
	for (uint64_t at = 0; at < 2 * POOL; at += sizeof(buf)) {
		pattern_fill(7, at, buf, sizeof(buf));
		assert_int_equal(write_all(f, at, buf, sizeof(buf)), sizeof(buf));
	}
	assert_int_equal(cache_commit(f), 0);
	read_through(f, 2 * POOL, 7);
	return f;
}

/* With the service of one mount dead, and as much waiting for it as may, another one reads and
 * writes in pieces of all sizes. */
static void the_dead_leave_room(void **state)
{
	static const size_t sizes[] = { 14000, 60000 };
	static struct cache_file *dirty[20000];
	const struct store_fault dead = { .error_permille = 1000, .error = -EIO };
	struct cache_storage *well;
	struct env env;

	(void)state;
	log_set_level(LOG_LEVEL_ERROR);
	env_memory(&env, NULL);
	env_run(&env);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct cache_storage_usage usage;
		struct cache_file *f;
		char key[16];
		unsigned n;

		well = open_beside(&env);
		store_fault_set(ce.fault, STORE_FAULT_ALL & ~(1u << STORE_READ | 1u << STORE_STAT),
				&dead);
		n = dirty_to_the_limit(ce.storage, dirty, ARRAY_SIZE(dirty), sizes[i]);
		store_fault_set(ce.fault, STORE_FAULT_ALL, &dead);
		cache_storage_usage(ce.storage, &usage);
		assert_true(usage.dirty_bytes >= POOL / 5 * 2);

		snprintf(key, sizeof(key), "f%u", i);
		f = write_and_read(well, key);
		for (unsigned at = 0; at < 4000; at++) {
			uint64_t where = (at * 7919ull * 4096) % (2 * POOL);

			assert_int_equal(read_all(f, NULL, where, buf, 4096), 4096);
			pattern_check(7, where, buf, 64);
		}
		cache_file_put(f);
		for (unsigned j = 0; j <= n && j < ARRAY_SIZE(dirty); j++) {
			cache_file_unlink(dirty[j]);
			cache_file_put(dirty[j]);
		}
		cache_storage_free(well);
		cache_env_close(&ce);
	}
	env_end(&env);
}

/* A file of one small block: written and left dirty, or read. */
static void small_file(struct cache_storage *s, const char *key, bool write)
{
	struct cache_file *f;
	int ret;

	if (write) {
		f = cache_file_create(s, key, &ret);
		assert_non_null(f);
		assert_int_equal(write_all(f, 0, buf, 4096), 4096);
	} else {
		assert_int_equal(store_memory_write(ce.env.memory, key, buf, 4096, NULL), 0);
		f = file_of(s, key);
		assert_int_equal(read_all(f, NULL, 0, buf, 4096), 4096);
	}
	cache_file_put(f);
}

/* All slabs have something dirty in them of a storage that is in no hurry to write it: it is, when
 * another one finds no memory. */
static void who_is_starved_is_heard_by_all(void **state)
{
	struct cache_storage_config config;
	struct cache_storage_usage usage;
	struct cache_storage *lazy;
	struct cache_file *f;
	uint64_t before;

	(void)state;
	cache_env_init(&ce, NULL);
	ce.pool.size = POOL / 2;
	ce.config.wait_timeout_ns = 5 * SEC;
	cache_env_open(&ce);
	config = ce.config;
	config.write_back = true;
	config.write_back_delay_ns = 3600 * SEC;
	env_ok(cache_storage_new(&lazy, ce.cache, &config));
	for (unsigned i = 0; i < ce.pool.size / 4096; i++) {
		char key[16];

		snprintf(key, sizeof(key), "small%u", i);
		small_file(lazy, key, i % 4 == 0);
	}
	cache_storage_usage(lazy, &usage);
	assert_true(usage.dirty_bytes >= ce.pool.size / 8);

	cache_env_object(&ce, "f", 5, MIB);
	f = file_of(ce.storage, "f");
	before = loop_now_ns();
	read_through(f, MIB, 5);
	assert_true(loop_now_ns() - before < 3 * SEC);
	cache_file_put(f);
	cache_storage_free(lazy);
	cache_env_close(&ce);
}

/* A service that several mounts use is dead: together they leave room, too, and each has some. */
static void several_dead_leave_room(void **state)
{
	enum { DEAD = 4, EACH = 4000 };
	static struct cache_file *dirty[DEAD][EACH];
	const struct store_fault dead = { .error_permille = 1000, .error = -EIO };
	struct cache_storage *storage[DEAD], *well;
	unsigned n[DEAD];
	struct cache_file *f;
	struct env env;

	(void)state;
	log_set_level(LOG_LEVEL_ERROR);
	env_memory(&env, NULL);
	env_run(&env);
	well = open_beside(&env);
	storage[0] = ce.storage;
	for (unsigned i = 1; i < DEAD; i++)
		env_ok(cache_storage_new(&storage[i], ce.cache, &ce.config));
	store_fault_set(ce.fault, STORE_FAULT_ALL & ~(1u << STORE_READ | 1u << STORE_STAT), &dead);
	for (unsigned i = 0; i < DEAD; i++) {
		n[i] = dirty_to_the_limit(storage[i], dirty[i], EACH, 60000);
		assert_in_range(n[i], 4, EACH - 1);
	}
	store_fault_set(ce.fault, STORE_FAULT_ALL, &dead);

	f = write_and_read(well, "f");
	cache_file_put(f);
	for (unsigned i = 0; i < DEAD; i++)
		for (unsigned j = 0; j <= n[i] && j < EACH; j++) {
			cache_file_unlink(dirty[i][j]);
			cache_file_put(dirty[i][j]);
		}
	for (unsigned i = 1; i < DEAD; i++)
		cache_storage_free(storage[i]);
	cache_storage_free(well);
	cache_env_close(&ce);
	env_end(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_stream_leaves_others_their_share, setup,
						teardown),
		cmocka_unit_test_setup_teardown(users_of_one_storage_share_the_data, setup,
						teardown),
		cmocka_unit_test(the_dead_leave_room),
		cmocka_unit_test(who_is_starved_is_heard_by_all),
		cmocka_unit_test(several_dead_leave_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
