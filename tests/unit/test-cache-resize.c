/* SPDX-License-Identifier: Apache-2.0 */
/* A cache that gets another size, and other settings, while it is in use. */
#include "cache-write-fixture.h"

#include <sys/stat.h>

#include "base/log.h"

static struct pool_owner owner;

static struct pool_owner *evict_clean(void *arg, struct block *b)
{
	(void)arg;
	return block_try_evict(b) ? &owner : NULL;
}

static struct pool *pool_start(void)
{
	const struct pool_config config = { .size = 8 * MiB,
					    .size_max = 32 * MiB,
					    .block_sizes = { 4 * KiB, 16 * KiB, 256 * KiB },
					    .classes = 3,
					    .huge_pages = POOL_HUGE_NEVER };
	struct pool *pool = NULL;

	env_ok(pool_new(&pool, &config, evict_clean, NULL));
	assert_int_equal(pool_owner_init(pool, &owner), 0);
	return pool;
}

static void pool_end(struct pool *pool)
{
	pool_owner_exit(pool, &owner);
	pool_free(pool);
}

/* Takes a block into use, with @flags, and writes to all of it. */
static struct block *take(struct pool *pool, unsigned class, uint32_t flags)
{
	struct block *b = pool_get(pool, class, &owner);

	if (!b)
		return NULL;
	memset(pool_data(pool, b), 7, pool_class_size(pool, class));
	atomic_store(&b->state, flags);
	pool_add(pool, b);
	return b;
}

/* Bytes of memory that the arena has of the host. */
static uint64_t resident(const struct pool *pool)
{
	const struct pool_arena *arena = (const void *)pool;
	struct stat st;

	assert_int_equal(fstat(arena->memfd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static unsigned take_all(struct pool *pool, unsigned class, uint32_t flags)
{
	unsigned n = 0;

	while (take(pool, class, flags))
		n++;
	return n;
}

static struct pool_usage usage_of(struct pool *pool)
{
	struct pool_usage u;

	pool_usage(pool, &u);
	return u;
}

static void test_pool_grows(void **state)
{
	struct pool *pool = pool_start();
	uint64_t before = usage_of(pool).arena;
	unsigned n;

	(void)state;
	n = take_all(pool, 2, BLOCK_DIRTY);
	assert_int_equal(n * 256ull * KiB, before);
	env_ok(pool_resize(pool, 32 * MiB));
	assert_in_range(usage_of(pool).arena, 31 * MiB, 32 * MiB);
	n += take_all(pool, 0, BLOCK_DIRTY) / 64;
	assert_int_equal(n * 256ull * KiB, usage_of(pool).arena);
	assert_int_equal(usage_of(pool).held, usage_of(pool).arena);
	for (block_id id = 64; id < 64 * (n + 1); id++)
		block_clear(pool_block(pool, id), BLOCK_DIRTY);
	pool_end(pool);
}

/* Down, and up, and down again: each time all of it can be had, and no more. */
static void test_pool_shrinks(void **state)
{
	static const uint64_t size[] = { 4 * MiB, 16 * MiB, 3 * MiB, 32 * MiB,
					 2 * MiB + 400 * KiB };
	struct pool *pool = pool_start();

	(void)state;
	for (unsigned i = 0; i < sizeof(size) / sizeof(size[0]); i++) {
		unsigned class = i % 3;

		/* In use, clean, of several classes. */
		for (unsigned k = 0; k < 10000; k++)
			assert_non_null(take(pool, k % 7 ? class : 2, 0));
		env_ok(pool_resize(pool, size[i]));
		assert_true(usage_of(pool).arena <= size[i]);
		assert_true(usage_of(pool).held <= usage_of(pool).arena);
		assert_true(resident(pool) <= size[i]);
		assert_int_equal(pool_trim(pool), 0);
		for (unsigned k = 0; k < 10000; k++)
			assert_non_null(take(pool, class, 0));
		assert_true(usage_of(pool).held <= usage_of(pool).arena);
		assert_true(resident(pool) <= size[i]);
	}
	pool_end(pool);
}

static void test_hot_blocks_stay(void **state)
{
	struct pool *pool = pool_start();
	struct block *hot[8];

	(void)state;
	for (unsigned i = 0; i < 24; i++) {
		struct block *b = take(pool, 2, i % 3 ? 0 : BLOCK_HOT);

		assert_non_null(b);
		if (i % 3 == 0)
			hot[i / 3] = b;
	}
	env_ok(pool_resize(pool, 4 * MiB));
	for (unsigned i = 0; i < 8; i++)
		assert_false(block_is(hot[i], BLOCK_FREE));
	pool_end(pool);
}

/* What is dirty stays where it is, and its slab goes when it is clean. */
static void test_dirty_blocks_hold_their_slabs(void **state)
{
	struct pool *pool = pool_start();
	struct block *dirty[20];
	uint64_t left;

	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		dirty[i] = take(pool, 0, BLOCK_DIRTY);
		for (unsigned k = 0; k < 63; k++)
			assert_non_null(take(pool, 0, 0));
	}
	env_ok(pool_resize(pool, 2 * MiB + 300 * KiB));
	left = usage_of(pool).held - usage_of(pool).arena;
	assert_true(left > 0);
	assert_int_equal(pool_trim(pool), left);
	/* Room is to be had nevertheless: what is clean is evicted. */
	assert_non_null(take(pool, 0, 0));
	for (unsigned i = 0; i < 20; i++) {
		assert_true(block_is(dirty[i], BLOCK_DIRTY));
		assert_int_equal(*(unsigned char *)pool_data(pool, dirty[i]), 7);
		block_clear(dirty[i], BLOCK_DIRTY);
	}
	assert_int_equal(pool_trim(pool), 0);
	assert_true(resident(pool) <= usage_of(pool).arena);
	pool_end(pool);
}

static void refuse(struct pool *pool, uint64_t size, const char *text)
{
	struct err *e = pool_resize(pool, size);

	assert_non_null(e);
	assert_non_null(strstr(err_msg(e), text));
	err_free(e);
}

static void test_impossible_sizes(void **state)
{
	struct pool *pool = pool_start();
	uint64_t before = usage_of(pool).arena;

	(void)state;
	refuse(pool, 2 * MiB - 1, "less than 8 of its largest blocks, of 262144");
	refuse(pool, 33 * MiB, "it can grow to");
	refuse(pool, pool_size_max(pool) + 1, "it can grow to");
	assert_int_equal(usage_of(pool).arena, before);
	env_ok(pool_resize(pool, pool_size_max(pool)));
	env_ok(pool_resize(pool, 8 * MiB));
	assert_int_equal(usage_of(pool).arena, before);
	pool_end(pool);
}

/* ---- With files ---- */

static struct pool_usage cw_usage(struct cw *cw)
{
	struct pool_usage u;

	cache_usage(cw->cache, &u);
	return u;
}

static bool cw_is_trimmed(struct cw *cw)
{
	return cw_usage(cw).held <= cw_usage(cw).arena;
}

/* Changes that nobody has written yet are in the way of a smaller pool, and go to the storage. */
static void test_shrinking_writes_what_is_dirty(void **state)
{
	struct cw_options options = cw_defaults;
	struct cache_file *f[8];
	struct cw cw;
	char key[] = "a";

	(void)state;
	options.pool = 8 * MiB;
	options.config.write_back = true;
	cw_start(&cw, &options);
	for (unsigned i = 0; i < 8; i++, key[0]++) {
		f[i] = cw_create(&cw, key);
		cw_fill(f[i], 0, 200 * KiB, i + 1);
	}
	env_ok(cache_resize(cw.cache, 1 * MiB));
	cw_wait_for(cw_is_trimmed(&cw));
	for (unsigned i = 0; i < 8; i++) {
		cw_expect(f[i], 0, 200 * KiB, i + 1);
		/* The smaller one is as good as any. */
		cw_fill(f[i], 200 * KiB, 100 * KiB, i + 1);
	}
	assert_true(cw_is_trimmed(&cw));
	env_ok(cache_resize(cw.cache, 16 * MiB));
	for (unsigned i = 0; i < 8; i++)
		cw_fill(f[i], 0, 300 * KiB, i + 21);
	key[0] = 'a';
	for (unsigned i = 0; i < 8; i++, key[0]++) {
		assert_int_equal(cache_commit(f[i]), 0);
		cw_expect_object(&cw, key, 0, 300 * KiB, i + 21);
		cache_file_put(f[i]);
	}
	cw_end(&cw);
}

static struct cache_storage_config config_of(const struct cw_options *options)
{
	return options->config; /* store and workers are not looked at */
}

static void test_write_back_off_writes_first(void **state)
{
	struct store_fault down = { .error_permille = 1000, .error = -EACCES };
	struct cw_options options = cw_defaults;
	struct cache_storage_config config;
	struct cache_file *f;
	struct cw cw;

	(void)state;
	options.config.write_back = true;
	cw_start(&cw, &options);
	f = cw_create(&cw, "a");
	cw_fill(f, 0, 100000, 1);
	config = config_of(&options);
	config.write_back = false;
	assert_int_equal(cache_storage_reconfigure(cw.storage, &config, 10 * SEC), 0);
	cw_expect_object(&cw, "a", 0, 100000, 1);
	/* On is just on; and off again tells what it could not write. */
	config.write_back = true;
	assert_int_equal(cache_storage_reconfigure(cw.storage, &config, 0), 0);
	cw_fill(f, 0, 100000, 2);
	store_fault_set(cw.fault, STORE_FAULT_ALL, &down);
	config.write_back = false;
	assert_int_equal(cache_storage_reconfigure(cw.storage, &config, 50 * MSEC), 1);
	store_fault_set(cw.fault, STORE_FAULT_ALL, NULL);
	assert_int_equal(cache_commit(f), 0);
	cw_expect_object(&cw, "a", 0, 100000, 2);
	cache_file_put(f);
	cw_end(&cw);
}

/* What has been dirty for longer than the new delay is due at once. */
static void test_shorter_delay(void **state)
{
	struct cw_options options = cw_defaults;
	struct cache_storage_config config;
	struct cache_file *f;
	struct cw cw;

	(void)state;
	options.config.write_back = true;
	options.config.write_back_delay_ns = 3600 * SEC;
	cw_start(&cw, &options);
	f = cw_create(&cw, "a");
	cw_fill(f, 0, 100000, 1);
	config = config_of(&options);
	config.write_back_delay_ns = 10 * MSEC;
	assert_int_equal(cache_storage_reconfigure(cw.storage, &config, 0), 0);
	cw_wait_for(cw_object_size(&cw, "a") == 100000);
	cache_file_put(f);
	cw_end(&cw);
}

/* Limits that follow from settings, and a time to believe in a version that has run out. */
static void test_other_settings(void **state)
{
	struct cw_options options = cw_defaults;
	struct cache_storage_config config;
	struct cache_file *f;
	uint64_t before;
	struct cw cw;

	(void)state;
	cw_start(&cw, &options);
	before = cw.storage->dirty_max;
	config = config_of(&options);
	config.dirty_percent = 25;
	config.read_ahead_max = 123;
	config.part_size = 3 * MiB;
	assert_int_equal(cache_storage_reconfigure(cw.storage, &config, 0), 0);
	assert_in_range(cw.storage->dirty_max, before / 2 - 1, before / 2 + 1);
	assert_int_equal(cw.storage->config.read_ahead_max, 123);
	assert_int_equal(cw.storage->config.part_size, 3 * MiB);
	cw_other(&cw, "a", 1000, 1);
	f = cw_open(&cw, "a");
	cw_expect(f, 0, 1000, 1);
	cw_expect(f, 0, 1000, 1);
	assert_int_equal(cw_all_requests(&cw), 1);
	config.expiration = true;
	config.expiration_ns = 0;
	assert_int_equal(cache_storage_reconfigure(cw.storage, &config, 0), 0);
	cw_expect(f, 0, 1000, 1);
	assert_int_equal(cw_all_requests(&cw), 2);
	cache_file_put(f);
	cw_end(&cw);
}

/* ---- Under load ---- */

#define LOAD_THREADS 4
#define LOAD_SIZE (600 * KiB)

struct load {
	struct cw *cw;
	pthread_t thread;
	unsigned number;
	_Atomic bool *stop;
	unsigned rounds;
};

static void *load_run(void *arg)
{
	struct load *load = arg;
	unsigned char *buf = malloc(LOAD_SIZE), *want = malloc(LOAD_SIZE);
	char key[2] = { (char)('a' + load->number), 0 };
	struct cache_file *f = cw_create(load->cw, key);

	while (!atomic_load(load->stop) || load->rounds < 2) {
		unsigned seed = load->number * 1000 + ++load->rounds;

		cw_pattern(want, 0, LOAD_SIZE, seed);
		for (size_t at = 0; at < LOAD_SIZE; at += 50 * KiB)
			assert_int_equal(cw_write(f, at, want + at, 50 * KiB), 50 * KiB);
		if (load->rounds % 3 == 0)
			assert_int_equal(cache_commit(f), 0);
		assert_int_equal(cw_read(f, 0, buf, LOAD_SIZE), LOAD_SIZE);
		assert_memory_equal(buf, want, LOAD_SIZE);
	}
	assert_int_equal(cache_commit(f), 0);
	cw_expect_object(load->cw, key, 0, LOAD_SIZE, load->number * 1000 + load->rounds);
	cache_file_put(f);
	free(buf);
	free(want);
	return NULL;
}

static void test_under_load(void **state)
{
	static const unsigned size_kib[] = { 8192, 1024, 3000, 700, 12000, 2000 };
	struct cw_options options = cw_defaults;
	struct load load[LOAD_THREADS];
	_Atomic bool stop = false;
	struct cw cw;

	(void)state;
	options.config.wait_timeout_ns = 100 * SEC;
	options.config.write_back = true;
	cw_start(&cw, &options);
	for (unsigned i = 0; i < LOAD_THREADS; i++) {
		load[i] = (struct load){ .cw = &cw, .number = i, .stop = &stop };
		assert_int_equal(pthread_create(&load[i].thread, NULL, load_run, &load[i]), 0);
	}
	for (unsigned i = 0; i < 48; i++) {
		struct cache_storage_config config = config_of(&options);

		env_ok(cache_resize(cw.cache, size_kib[i % 6] * (uint64_t)KiB));
		config.write_back = i / 2 % 2;
		config.dirty_percent = 30 + i % 4 * 10;
		config.write_back_delay_ns = i % 5 * 10 * MSEC;
		config.expiration = i % 3 == 0;
		config.part_size = CW_PART_MIN << i % 3;
		config.parts_in_flight = 1 + i % 5;
		cache_storage_reconfigure(cw.storage, &config, 20 * MSEC);
		sleep_ms(20);
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < LOAD_THREADS; i++)
		pthread_join(load[i].thread, NULL);
	env_ok(cache_resize(cw.cache, 1 * MiB));
	cw_wait_for(cw_is_trimmed(&cw));
	cw_end(&cw);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pool_grows),
		cmocka_unit_test(test_pool_shrinks),
		cmocka_unit_test(test_hot_blocks_stay),
		cmocka_unit_test(test_dirty_blocks_hold_their_slabs),
		cmocka_unit_test(test_impossible_sizes),
		cmocka_unit_test(test_shrinking_writes_what_is_dirty),
		cmocka_unit_test(test_write_back_off_writes_first),
		cmocka_unit_test(test_shorter_delay),
		cmocka_unit_test(test_other_settings),
		cmocka_unit_test(test_under_load),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
