/* SPDX-License-Identifier: Apache-2.0 */
/* Moments of a few microseconds between two threads, held open so that one can look at them. */
#include "cache-write-fixture.h"

#include <time.h>

#include "base/log.h"
#include "cache/write.h"

/*
 * A write had passed its checks when somebody else's lookup found another version and made the
 * file stale: what was acknowledged goes beside the object, like any conflict, and nothing
 * stays dirty for ever.
 */
static void test_replaced_while_written(void **state)
{
	struct cw_options options = cw_defaults;
	struct cache_storage_usage usage;
	struct cache_file *f, *other;
	struct cw cw;

	(void)state;
	options.config.write_back = true;
	cw_start(&cw, &options);
	cw_other(&cw, "a", 1000, 1);
	f = cw_open(&cw, "a");
	cw_other(&cw, "a", 1000, 3);
	other = cw_open(&cw, "a"); /* the lookup; the write came just before */
	assert_ptr_not_equal(f, other);
	atomic_fetch_and(&f->flags, ~(uint32_t)FILE_REPLACED);
	cw_fill(f, 0, 1000, 2);
	atomic_fetch_or(&f->flags, FILE_REPLACED);

	assert_int_equal(cache_commit(f), -ESTALE);
	cache_storage_usage(cw.storage, &usage);
	assert_int_equal(usage.dirty_files, 0);
	assert_int_equal(usage.dirty_bytes, 0);
	assert_int_equal(store_memory_usage(cw.env.memory).objects, 2);
	assert_int_equal(cache_storage_drain(cw.storage, SEC), 0);
	cw_expect_object(&cw, "a", 0, 1000, 3);
	cw_expect(other, 0, 1000, 3);
	cache_file_put(f);
	cache_file_put(other);
	cw_end(&cw);
}

struct background {
	struct work work;
	struct cache_file *file;
	int result;
	_Atomic bool done;
};

static void background_run(struct work *work)
{
	struct background *b = container_of(work, struct background, work);

	b->result = cache_commit(b->file);
	atomic_store(&b->done, true);
}

/* Sets how much may be dirty; what it was. Who reads it has one of the locks. */
static uint64_t dirty_limit(struct cw *cw, struct cache_file *f, uint64_t max)
{
	uint64_t was;

	pthread_mutex_lock(&f->lock);
	pthread_mutex_lock(&cw->storage->lock);
	was = cw->storage->dirty_max;
	cw->storage->dirty_max = max;
	pthread_mutex_unlock(&cw->storage->lock);
	pthread_mutex_unlock(&f->lock);
	return was;
}

/*
 * A write copied a block that was being sent, and then could not be done for lack of memory: the
 * copy is clean when the block would be.
 */
static void test_copied_for_nothing(void **state)
{
	struct store_fault slow = { .delay_permille = 1000,
				    .delay_min_ns = 500 * MSEC,
				    .delay_max_ns = 500 * MSEC };
	struct background b = { .work = { .run = background_run } };
	struct cache_storage_usage usage;
	unsigned char buf[2000] = { 0 };
	struct iovec iov = { buf, sizeof(buf) };
	struct iov_cursor src = iov_cursor(&iov, 1);
	struct cw cw;
	uint64_t max;

	(void)state;
	cw_start(&cw, &cw_defaults);
	b.file = cw_create(&cw, "a");
	cw_fill(b.file, 0, 4 * KiB, 1);
	store_fault_set(cw.fault, 1u << STORE_PUT, &slow);
	workers_submit(cw.workers, &b.work);
	cw_wait_for(atomic_load(&b.file->committing));
	/* The end of the block that is sent and the beginning of the next. */
	max = dirty_limit(&cw, b.file, 0);
	assert_int_equal(cache_write(b.file, 3 * KiB, sizeof(buf), &src, false), -EAGAIN);
	dirty_limit(&cw, b.file, max);
	assert_false(atomic_load(&b.done));
	cw_wait_for(atomic_load(&b.done));
	assert_int_equal(b.result, 0);
	cache_storage_usage(cw.storage, &usage);
	assert_int_equal(usage.dirty_files, 0);
	assert_int_equal(usage.dirty_bytes, 0);
	assert_int_equal(b.file->dirty_blocks, 0);
	cw_expect(b.file, 0, 4 * KiB, 1);
	cache_file_put(b.file);
	cw_end(&cw);
}

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * SEC + (uint64_t)ts.tv_nsec;
}

/* Who removes a file waits for a commit of it, and while he does the cleaner finds it due: nothing
 * comes of that, but not again and again. */
static void test_unlinked_while_committed(void **state)
{
	struct store_fault slow = { .delay_permille = 1000,
				    .delay_min_ns = 800 * MSEC,
				    .delay_max_ns = 800 * MSEC,
				    .count = 1 };
	struct background b = { .work = { .run = background_run } };
	struct cw_options options = cw_defaults;
	uint64_t before;
	struct cw cw;

	(void)state;
	options.config.write_back = true;
	options.config.write_back_delay_ns = 200 * MSEC;
	cw_start(&cw, &options);
	store_fault_set(cw.fault, 1u << STORE_PUT, &slow);
	b.file = cw_create(&cw, "a");
	cw_fill(b.file, 0, 1000, 1);
	workers_submit(cw.workers, &b.work);
	cw_wait_for(atomic_load(&b.file->committing));
	before = cpu_ns();
	cache_file_unlink_begin(b.file);
	assert_true(cpu_ns() - before < 300 * MSEC);
	cw_wait_for(atomic_load(&b.done));
	assert_int_equal(b.result, 0);
	cache_file_unlink(b.file);
	cache_file_put(b.file);
	cw_end(&cw);
}

/* What a stream had sent goes with the file: nothing of the version below is shown in its place,
 * as long as that is there. */
static void test_stream_unlinked(void **state)
{
	struct cache_file *f;
	struct cw cw;
	char byte;

	(void)state;
	cw_start(&cw, &cw_defaults);
	cw_other(&cw, "a", 12 * MiB, 1);
	f = cw_open(&cw, "a");
	cw_fill(f, 0, 12 * MiB, 2);
	assert_true(cw_requests(&cw, STORE_PART) > 10);
	cache_file_unlink(f);
	cw_expect(f, 12 * MiB - 100, 100, 2);
	assert_int_equal(cw_read(f, 0, &byte, 1), -ESTALE);
	cache_file_put(f);
	cw_end(&cw);
}

struct reader {
	struct cache_file *file;
	uint64_t offset;
};

static void *reader_run(void *arg)
{
	struct reader *r = arg;
	char byte;

	return (void *)(intptr_t)cw_read(r->file, r->offset, &byte, 1);
}

/* Somebody reads beside what was written to a block, which is being filled for him when it comes to
 * a conflict: nothing is left of it then. */
static void test_given_up_while_filled(void **state)
{
	struct store_fault slow = { .delay_permille = 1000,
				    .delay_min_ns = 500 * MSEC,
				    .delay_max_ns = 500 * MSEC,
				    .count = 1 };
	struct cache_storage_usage usage;
	struct reader reader = { .offset = 128 * KiB };
	pthread_t thread;
	void *result;
	struct cw cw;

	(void)state;
	cw_start(&cw, &cw_defaults);
	cw_other(&cw, "a", 200 * KiB, 1);
	reader.file = cw_open(&cw, "a");
	cw_fill(reader.file, 1000, 1000, 2);
	cw_fill(reader.file, 128 * KiB + 1000, 1000, 2);
	store_fault_set(cw.fault, 1u << STORE_READ, &slow);
	assert_int_equal(pthread_create(&thread, NULL, reader_run, &reader), 0);
	cw_wait_for(store_fault_stats(cw.fault).delayed == 1);
	cw_other(&cw, "a", 200 * KiB, 3);
	/* Which finds that out when it reads what is around the other one. */
	assert_int_equal(cache_commit(reader.file), -ESTALE);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_int_equal((intptr_t)result, -ESTALE);
	cache_storage_usage(cw.storage, &usage);
	assert_int_equal(usage.dirty_bytes, 0);
	assert_int_equal(reader.file->dirty_blocks, 0);
	cache_file_put(reader.file);
	cache_storage_drop(cw.storage);
	cw_wait_for(atomic_load(&cw.storage->count.files) == 0);
	cw_end(&cw);
}

struct parked_read {
	struct cache_wait wait;
	char buf[1 * MiB];
	_Atomic bool done;
};

static void parked_read_done(struct cache_wait *wait, ssize_t result)
{
	(void)result;
	atomic_store(&container_of(wait, struct parked_read, wait)->done, true);
}

static ssize_t read_or_park(struct cache_file *f, struct parked_read *r, uint64_t offset,
			    size_t len)
{
	struct iovec iov = { r->buf, len };
	struct iov_cursor dst = iov_cursor(&iov, 1);

	return cache_read(f, NULL, offset, len, &dst, &r->wait, parked_read_done);
}

/* What is read of a file that is changed in place is not shown to who reads after the change: not
 * what had arrived before, and not what arrives later. */
static void test_changed_while_fetched(void **state)
{
	struct pool_config pool = { .size = 4 * MiB,
				    .block_sizes = { 4 * KiB, 16 * KiB, CW_REGION },
				    .classes = 3,
				    .huge_pages = POOL_HUGE_NEVER };
	struct cache_storage_config config = cw_defaults.config;
	struct store_meta before = { .size = 1 * MiB, .etag = "1" };
	struct store_meta after = { .size = 1 * MiB, .etag = "2" };
	static struct parked_read read[3];
	struct cache_storage *s;
	struct workers *workers;
	struct cache *cache;
	struct cache_file *f;
	struct env env;
	char byte[1];
	struct iovec iov = { byte, 1 };
	struct iov_cursor dst = iov_cursor(&iov, 1);
	struct cache_wait hit;

	(void)state;
	env_hold(&env);
	env.hold->caps.write_range = true;
	env_run(&env);
	env_ok(workers_new(&workers, "test", 4));
	env_ok(cache_new(&cache, &pool));
	config.store = env.top;
	config.workers = workers;
	env_ok(cache_storage_new(&s, cache, &config));
	f = cache_file_get(s, "a", &before, loop_now_ns());
	assert_non_null(f);

	assert_int_equal(read_or_park(f, &read[0], 0, 1 * MiB), CACHE_PENDING);
	hold_wait(&env, 1);
	hold_move(&env, 260 * KiB); /* blocks of 16 KiB, and a quarter of one */
	assert_int_equal(cache_read(f, NULL, 256 * KiB, 1, &dst, &hit, parked_read_done), 1);
	assert_int_equal(cache_bypass_begin(f), 0);
	cache_bypass_end(f, &before, &after, 0, 1 * MiB);
	assert_int_equal(read_or_park(f, &read[1], 256 * KiB, 1), CACHE_PENDING);
	hold_move(&env, 260 * KiB);
	assert_int_equal(read_or_park(f, &read[2], 300 * KiB, 1), CACHE_PENDING);
	hold_release(&env, -EIO);
	for (unsigned i = 0; i < ARRAY_SIZE(read); i++)
		cw_wait_for(atomic_load(&read[i].done));

	cache_file_put(f);
	cache_storage_free(s);
	cache_free(cache);
	workers_free(workers);
	env_end(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replaced_while_written),
		cmocka_unit_test(test_copied_for_nothing),
		cmocka_unit_test(test_unlinked_while_committed),
		cmocka_unit_test(test_stream_unlinked),
		cmocka_unit_test(test_given_up_while_filled),
		cmocka_unit_test(test_changed_while_fetched),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
