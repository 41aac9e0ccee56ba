/* SPDX-License-Identifier: Apache-2.0 */
/* One file, or one guest, does not stop the others: holes, removed files, files that fail. */
#include "cache-write-fixture.h"

#include <time.h>

#include "base/log.h"

static ssize_t write_now(struct cache_file *f, uint64_t offset, const void *data, size_t len)
{
	struct iovec iov = { (void *)(uintptr_t)data, len };
	struct iov_cursor src = iov_cursor(&iov, 1);

	return cache_write(f, offset, len, &src, false);
}

/* ---- Holes ---- */

static void test_holes_are_bounded(void **state)
{
	struct cw_options options = cw_defaults;
	struct cache_file *f;
	struct cw cw;

	(void)state;
	options.config.sparse_max = 8 * MiB;
	cw_start(&cw, &options);
	f = cw_create(&cw, "a");
	assert_int_equal(cache_truncate(f, 5ull << 40), -EFBIG);
	assert_int_equal(cache_truncate(f, 8 * MiB + 1), -EFBIG);
	assert_int_equal(cache_file_size(f), 0);
	/* Not in small steps either. */
	for (unsigned i = 1; i <= 8; i++)
		assert_int_equal(cache_truncate(f, i * MiB), 0);
	assert_int_equal(cache_truncate(f, 9 * MiB), -EFBIG);
	assert_int_equal(write_now(f, 9 * MiB, "x", 1), -EFBIG);
	assert_int_equal(cw_write(f, 9 * MiB, "x", 1), -EFBIG);
	assert_int_equal(cache_file_size(f), 8 * MiB);
	/* Once they are sent, they are the object's. */
	assert_int_equal(cache_commit(f), 0);
	assert_int_equal(cache_truncate(f, 16 * MiB), 0);
	assert_int_equal(cache_truncate(f, 17 * MiB), -EFBIG);
	assert_int_equal(cache_truncate(f, 1000), 0);
	assert_int_equal(cache_truncate(f, 8 * MiB + 1000), 0);
	assert_int_equal(cache_truncate(f, 8 * MiB + 1001), -EFBIG);
	assert_int_equal(cache_commit(f), 0);
	assert_int_equal(cw_object_size(&cw, "a"), 8 * MiB + 1000);
	cw_expect_object(&cw, "a", 0, 8 * MiB + 1000, 0);
	cache_file_put(f);
	cw_end(&cw);
}

/* What is written is no hole, in whatever order. */
static void test_written_is_no_hole(void **state)
{
	struct cw_options options = cw_defaults;
	struct cache_file *f;
	struct cw cw;

	(void)state;
	options.pool = 32 * MiB;
	options.config.sparse_max = 1 * MiB;
	cw_start(&cw, &options);
	f = cw_create(&cw, "a");
	cw_fill(f, 0, 24 * MiB, 1);
	assert_int_equal(cache_commit(f), 0);
	cw_expect_object(&cw, "a", 0, 24 * MiB, 1);
	cache_file_put(f);

	/* Holes of 64 KiB, each before so much data: 4 MiB together. */
	f = cw_create(&cw, "b");
	for (unsigned i = 0; i < 16; i++)
		cw_fill(f, 64 * KiB + i * 128 * KiB, 64 * KiB, 2);
	assert_int_equal(cw_write(f, 8 * MiB, "x", 1), -EFBIG);
	assert_int_equal(cache_commit(f), 0);
	cw_expect_object(&cw, "b", 64 * KiB, 64 * KiB, 2);
	cw_expect_object(&cw, "b", 128 * KiB, 64 * KiB, 0);
	cache_file_put(f);

	/* Nobody has to send what is removed. */
	f = cw_create(&cw, "c");
	cache_file_unlink(f);
	assert_int_equal(cache_truncate(f, 64 * MiB), 0);
	assert_int_equal(write_now(f, 128 * MiB, "x", 1), 1);
	cw_expect(f, 100 * MiB, 1000, 0);
	cache_file_put(f);
	cw_end(&cw);
}

/* Files that take for ever are not all that is committed. */
static void test_long_commits_leave_workers(void **state)
{
	struct store_fault slow = { .delay_permille = 1000,
				    .delay_min_ns = 2 * SEC,
				    .delay_max_ns = 2 * SEC };
	struct cw_options options = cw_defaults;
	struct cache_file *f[16], *small;
	struct cw cw;
	char key[] = "A";

	(void)state;
	options.config.write_back = true;
	options.config.write_back_delay_ns = 10 * MSEC;
	options.memory.part_max = 64 * MiB;
	cw_start(&cw, &options);
	store_fault_set(cw.fault, 1u << STORE_PART, &slow); /* a minute each */
	for (unsigned i = 0; i < 16; i++, key[0]++) {
		f[i] = cw_create(&cw, key);
		assert_int_equal(cache_truncate(f[i], 4ull << 30), 0);
	}
	cw_wait_for(store_fault_stats(cw.fault).delayed >= 2);
	for (unsigned i = 0; i < 20; i++) {
		char name[16];

		snprintf(name, sizeof(name), "small-%u", i);
		small = cw_create(&cw, name);
		cw_fill(small, 0, 1000, i + 1);
		cache_file_put(small);
		cw_wait_for(cw_object_size(&cw, name) == 1000);
	}
	for (unsigned i = 0; i < 16; i++) {
		cache_file_unlink(f[i]); /* which ends the commit with the next part */
		cache_file_put(f[i]);
	}
	cw_end(&cw);
}

/* ---- Who waits for whom ---- */

static void test_syncfs_is_of_a_session(void **state)
{
	struct store_fault down = { .error_permille = 1000, .error = -EACCES };
	struct cw_options options = cw_defaults;
	struct cache_file *mine, *his;
	uint32_t me, him;
	struct cw cw;

	(void)state;
	options.config.write_back = true;
	cw_start(&cw, &options);
	me = cache_storage_session(cw.storage);
	him = cache_storage_session(cw.storage);
	assert_int_not_equal(me, him);
	mine = cw_create(&cw, "mine");
	his = cw_create(&cw, "his");
	cw_fill(mine, 0, 1000, 1);
	cache_file_wrote(mine, me);
	/* Large files do not get through. */
	store_fault_set(cw.fault, 1u << STORE_BEGIN, &down);
	cw_fill(his, 0, 1 * MiB, 2);
	cache_file_wrote(his, him);
	assert_int_equal(cache_storage_sync_session(cw.storage, me), 0);
	cw_expect_object(&cw, "mine", 0, 1000, 1);
	assert_int_equal(cache_storage_sync_session(cw.storage, him), -EACCES);
	assert_int_equal(cache_storage_sync(cw.storage), -EACCES);
	/* Written by both, or by somebody unknown: everybody's. */
	cw_fill(his, 0, 1000, 3);
	cache_file_wrote(his, me);
	assert_int_equal(cache_storage_sync_session(cw.storage, me), -EACCES);
	store_fault_set(cw.fault, STORE_FAULT_ALL, NULL);
	assert_int_equal(cache_storage_sync_session(cw.storage, me), 0);
	store_fault_set(cw.fault, STORE_FAULT_ALL, &down);
	cw_fill(mine, 0, 1000, 4);
	assert_int_equal(cache_storage_sync_session(cw.storage, him), -EACCES);
	/* And what a session leaves. */
	cache_file_wrote(mine, me);
	assert_int_equal(cache_storage_sync_session(cw.storage, him), 0);
	cache_storage_session_end(cw.storage, me);
	assert_int_equal(cache_storage_sync_session(cw.storage, him), -EACCES);
	store_fault_set(cw.fault, STORE_FAULT_ALL, NULL);
	assert_int_equal(cache_storage_sync_session(cw.storage, him), 0);
	cw_expect_object(&cw, "mine", 0, 1000, 4);
	cw_expect_object(&cw, "his", 0, 1000, 3);
	cw_expect_object(&cw, "his", 1000, 1 * MiB - 1000, 2);
	cache_file_put(mine);
	cache_file_put(his);
	cw_end(&cw);
}

#define FAILING 700

/* Many files that fail, and are not to be tried again soon, do not hide one that can be written. */
static void test_failing_files_hide_no_other(void **state)
{
	struct store_fault down = { .error_permille = 1000, .error = -EACCES };
	struct cw_options options = cw_defaults;
	struct cache_file *f[FAILING], *good;
	char key[16];
	struct cw cw;

	(void)state;
	options.pool = 16 * MiB;
	options.config.write_back = true;
	options.config.write_back_delay_ns = 10 * MSEC;
	cw_start(&cw, &options);
	store_fault_set(cw.fault, 1u << STORE_PUT, &down);
	for (unsigned i = 0; i < FAILING; i++) {
		snprintf(key, sizeof(key), "%u", i);
		f[i] = cw_create(&cw, key);
		pthread_mutex_lock(&f[i]->lock);
		f[i]->failures = 20; /* as if it had failed for long: the pause is a minute */
		pthread_mutex_unlock(&f[i]->lock);
	}
	cw_wait_for(cw.storage->count.commit_failures >= FAILING);
	/* By a session, which works. */
	good = cw_create(&cw, "good");
	cw_fill(good, 0, 1 * MiB, 1);
	cw_wait_for(cw_object_size(&cw, "good") == 1 * MiB);
	cache_file_put(good);
	store_fault_set(cw.fault, STORE_FAULT_ALL, NULL);
	for (unsigned i = 0; i < FAILING; i++) {
		assert_int_equal(cache_commit(f[i]), 0);
		cache_file_put(f[i]);
	}
	cw_end(&cw);
}

/* ---- Removed, and open still ---- */

static struct cache_storage_usage usage_of(struct cw *cw)
{
	struct cache_storage_usage usage;

	cache_storage_usage(cw->storage, &usage);
	return usage;
}

/* 4 MiB: half may be dirty, a quarter be of removed files. */
static void test_removed_files_have_a_share(void **state)
{
	struct cw_options options = cw_defaults;
	unsigned char buf[64 * KiB];
	struct cache_file *f, *g;
	uint64_t size = 0;
	ssize_t n;
	struct cw cw;

	(void)state;
	options.config.write_back = true;
	options.config.wait_timeout_ns = 60 * SEC;
	cw_start(&cw, &options);
	f = cw_create(&cw, "a");
	cw_fill(f, 0, 500 * KiB, 1);
	assert_true(usage_of(&cw).dirty_bytes >= 500 * KiB);
	cache_file_unlink(f);
	assert_int_equal(usage_of(&cw).dirty_bytes, 0);
	assert_true(usage_of(&cw).apart_bytes >= 500 * KiB);
	/* As much as there is of its share, and then no more. */
	for (size = 500 * KiB;; size += sizeof(buf)) {
		cw_pattern(buf, size, sizeof(buf), 1);
		n = cw_write(f, size, buf, sizeof(buf));
		if (n < 0)
			break;
		assert_int_equal(n, sizeof(buf));
	}
	assert_int_equal(n, -ENOSPC);
	assert_in_range(size, 900 * KiB, 1 * MiB + 128 * KiB);
	assert_int_equal(cache_file_size(f), size);
	/* What is there can be changed. */
	cw_fill(f, 1000, 100 * KiB, 1);
	/* The others write as much as they like. */
	g = cw_create(&cw, "b");
	cw_fill(g, 0, 12 * MiB, 2);
	assert_int_equal(cache_commit(g), 0);
	cw_expect_object(&cw, "b", 0, 12 * MiB, 2);
	cw_expect(f, 0, size, 1);
	cache_file_put(f);
	assert_int_equal(usage_of(&cw).apart_bytes, 0);
	cache_file_put(g);
	cw_end(&cw);
}

/* Beyond the share what is removed can be evicted; and is not zeros then. */
static void test_removed_beyond_the_share(void **state)
{
	struct cw_options options = cw_defaults;
	unsigned char buf[4096];
	struct cache_file *f, *g;
	struct cw cw;
	bool gone = false;

	(void)state;
	options.config.write_back = true;
	options.config.wait_timeout_ns = 60 * SEC;
	options.config.part_size = 1 * MiB; /* so that nothing is sent before */
	cw_start(&cw, &options);
	f = cw_create(&cw, "a");
	cw_fill(f, 0, 800 * KiB, 1);
	cache_file_unlink(f);
	g = cw_create(&cw, "b");
	cw_fill(g, 0, 800 * KiB, 2);
	cache_file_unlink(g);
	assert_in_range(usage_of(&cw).apart_bytes, 800 * KiB, 1 * MiB);
	cw_expect(g, 0, 800 * KiB, 2);
	env_ok(cache_resize(cw.cache, 1 * MiB));
	for (unsigned at = 0; at < 800 * KiB; at += sizeof(buf)) {
		ssize_t n = cw_read(g, at, buf, sizeof(buf));

		gone |= n == -ESTALE;
		if (n != -ESTALE)
			cw_expect(g, at, sizeof(buf), 2);
	}
	assert_true(gone);
	cw_expect(f, 0, 800 * KiB, 1);
	cache_file_put(f);
	cache_file_put(g);
	assert_int_equal(usage_of(&cw).apart_bytes, 0);
	cw_end(&cw);
}

/* ---- Not removed after all: the object could not be deleted ---- */

static void test_restored_stream(void **state)
{
	struct cw_options options = cw_defaults;
	struct cache_file *f;
	struct cw cw;

	(void)state;
	options.pool = 32 * MiB;
	cw_start(&cw, &options);
	f = cw_create(&cw, "a");
	cw_fill(f, 0, 2 * MiB, 1);
	cw_wait_for(cw_requests(&cw, STORE_PART) >= 4);
	/* With parts that are in the session only. */
	cache_file_unlink_begin(f);
	file_purge(f, false);
	cache_file_restore(f);
	cw_fill(f, 2 * MiB, 1 * MiB, 1);
	assert_int_equal(cache_commit(f), 0);
	cw_expect_object(&cw, "a", 0, 3 * MiB, 1);
	assert_int_equal(cw_requests(&cw, STORE_BEGIN), 1);
	assert_int_equal(cw_sent(&cw), 3 * MiB);
	cache_file_put(f);
	cw_end(&cw);
}

#define WORKERS 12 /* of the fixture */

struct blocker {
	struct work work;
	_Atomic unsigned *running;
	_Atomic bool *go;
};

static void blocker_run(struct work *work)
{
	struct blocker *b = container_of(work, struct blocker, work);

	atomic_fetch_add(b->running, 1);
	while (!atomic_load(b->go))
		sleep_ms(1);
	atomic_fetch_sub(b->running, 1);
}

static bool is_cleaning(struct cw *cw, const struct cache_file *f)
{
	bool cleaning;

	pthread_mutex_lock(&cw->storage->lock);
	cleaning = f->cleaning;
	pthread_mutex_unlock(&cw->storage->lock);
	return cleaning;
}

/* The cleaner had it in hand when the DELETE began, and looks at it before that fails. */
static void test_restored_before_the_cleaner(void **state)
{
	struct cw_options options = cw_defaults;
	struct blocker blocker[WORKERS];
	_Atomic unsigned running = 0;
	_Atomic bool go = false;
	struct cache_file *f;
	struct cw cw;

	(void)state;
	options.pool = 32 * MiB;
	cw_start(&cw, &options);
	cw_other(&cw, "a", 8 * MiB, 1);
	f = cw_open(&cw, "a");
	cw_fill(f, 0, 2 * MiB, 2);
	cw_wait_for(cw_requests(&cw, STORE_PART) >= 4);
	for (unsigned i = 0; i < WORKERS; i++) {
		blocker[i] =
			(struct blocker){ .work.run = blocker_run, .running = &running, .go = &go };
		workers_submit(cw.workers, &blocker[i].work);
	}
	cw_wait_for(atomic_load(&running) == WORKERS);
	pthread_mutex_lock(&f->lock);
	cleaner_commit(f);
	pthread_mutex_unlock(&f->lock);
	assert_true(is_cleaning(&cw, f));
	/* With parts that are in the session only. */
	cache_file_unlink_begin(f);
	file_purge(f, false);
	atomic_store(&go, true);
	cw_wait_for(atomic_load(&running) == 0 && !is_cleaning(&cw, f));
	cache_file_restore(f);
	assert_int_equal(cache_commit(f), 0);
	cw_expect_object(&cw, "a", 0, 2 * MiB, 2);
	cw_expect_object(&cw, "a", 2 * MiB, 6 * MiB, 1);
	assert_int_equal(usage_of(&cw).apart_bytes, 0);
	assert_int_equal(usage_of(&cw).dirty_bytes, 0);
	cache_file_put(f);
	cw_end(&cw);
}

struct truncation {
	struct cache_file *file;
	int result;
	uint64_t cpu_ns;
	_Atomic bool done;
};

static void *truncation_run(void *arg)
{
	struct truncation *t = arg;
	struct timespec cpu;

	t->result = cache_truncate(t->file, 1000);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
	t->cpu_ns = (uint64_t)cpu.tv_sec * SEC + (uint64_t)cpu.tv_nsec;
	atomic_store(&t->done, true);
	return NULL;
}

/* Cut off where it is in the session only, for which a commit has to come first: it waits for the
 * DELETE, and does nothing meanwhile. */
static void test_truncated_before_it_is_known(void **state)
{
	for (unsigned restored = 0; restored < 2; restored++) {
		struct cw_options options = cw_defaults;
		struct truncation t = { .done = false };
		pthread_t thread;
		struct cw cw;

		(void)state;
		options.pool = 32 * MiB;
		cw_start(&cw, &options);
		t.file = cw_create(&cw, "a");
		cw_fill(t.file, 0, 2 * MiB, 1);
		cw_wait_for(cw_requests(&cw, STORE_PART) >= 4);
		cache_file_unlink_begin(t.file);
		file_purge(t.file, false);
		assert_int_equal(pthread_create(&thread, NULL, truncation_run, &t), 0);
		sleep_ms(500);
		assert_false(atomic_load(&t.done));
		if (restored)
			cache_file_restore(t.file);
		else
			cache_file_unlink(t.file);
		pthread_join(thread, NULL);
		assert_int_equal(t.result, 0);
		assert_true(t.cpu_ns < 250 * MSEC);
		assert_int_equal(cache_file_size(t.file), 1000);
		assert_int_equal(cache_commit(t.file), 0);
		if (restored)
			cw_expect_object(&cw, "a", 0, 1000, 1);
		assert_int_equal(cw_object_size(&cw, "a"), restored ? 1000 : -ENOENT);
		cache_file_put(t.file);
		cw_end(&cw);
	}
}

/* More than removed files may have of the memory, and written to while it was not known. */
static void test_restored_memory(void **state)
{
	struct cw_options options = cw_defaults;
	struct cache_file *f;
	struct cw cw;

	(void)state;
	options.config.write_back = true;
	options.config.part_size = 1 * MiB;
	cw_start(&cw, &options);
	f = cw_create(&cw, "a");
	cw_fill(f, 0, 1400 * KiB, 1);
	cache_file_unlink_begin(f);
	cw_fill(f, 0, 1000, 2);
	env_ok(cache_resize(cw.cache, 3 * MiB));
	cache_file_restore(f);
	/* Dirty again, unless the cleaner, for which it is too much, was faster. */
	assert_int_equal(usage_of(&cw).apart_bytes, 0);
	assert_int_equal(cache_commit(f), 0);
	cw_expect_object(&cw, "a", 0, 1000, 2);
	cw_expect_object(&cw, "a", 1000, 1400 * KiB - 1000, 1);
	assert_int_equal(usage_of(&cw).dirty_bytes, 0);
	cache_file_put(f);
	cw_end(&cw);
}

/* Somebody opened the object in between. */
static void test_restored_over_a_reader(void **state)
{
	struct cache_file *f, *g, *there;
	struct cache_file_info info;
	struct cw cw;

	(void)state;
	cw_start(&cw, &cw_defaults);
	cw_other(&cw, "a", 300 * KiB, 1);
	f = cw_open(&cw, "a");
	cw_fill(f, 0, 1000, 2);
	cache_file_unlink_begin(f);
	g = cw_open(&cw, "a");
	assert_ptr_not_equal(f, g);
	cw_expect(g, 0, 1000, 1);
	cache_file_restore(f);
	there = cache_file_peek(cw.storage, "a");
	assert_ptr_equal(there, f);
	cache_file_info(g, &info);
	assert_true(info.stale);
	assert_int_equal(cache_commit(f), 0);
	cw_expect_object(&cw, "a", 0, 1000, 2);
	cw_expect_object(&cw, "a", 1000, 299 * KiB, 1);
	cache_file_put(there);
	cache_file_put(g);
	cache_file_put(f);
	cw_end(&cw);
}

/* Somebody changed it, too: his changes are the object, and ours are kept beside it. */
static void test_restored_beside_a_writer(void **state)
{
	struct cw_options options = cw_defaults;
	struct cache_file *f, *g;
	uint32_t seen = 0;
	struct cw cw;

	(void)state;
	options.config.write_back = true;
	cw_start(&cw, &options);
	cw_other(&cw, "a", 1000, 1);
	f = cw_open(&cw, "a");
	cw_fill(f, 0, 70000, 2);
	cache_file_unlink_begin(f);
	g = cw_open(&cw, "a");
	cw_fill(g, 0, 500, 3);
	cache_file_restore(f);
	assert_int_equal(cache_storage_sync(cw.storage), -ESTALE);
	assert_int_equal(cache_file_error(f, &seen), -ESTALE);
	cw_expect_object(&cw, "a", 0, 500, 3);
	cw_expect_object(&cw, "a", 500, 500, 1);
	assert_int_equal(cw_object_size(&cw, "a"), 1000);
	assert_int_equal(store_memory_usage(cw.env.memory).objects, 2);
	assert_int_equal(store_memory_usage(cw.env.memory).bytes, 71000);
	assert_int_equal(usage_of(&cw).dirty_bytes, 0);
	assert_int_equal(cache_storage_sync(cw.storage), 0);
	cache_file_put(g);
	cache_file_put(f);
	cw_end(&cw);
}

/* ---- Streams whose writes overtake each other ---- */

/* As of a queue of 16: each part of the file is written once, and sent once. */
static void test_overtaking_writes_are_one_stream(void **state)
{
	const size_t step = 64 * KiB, depth = 16, size = 16 * MiB;
	struct cw_options options = cw_defaults;
	struct cache_file *f;
	struct cw cw;

	(void)state;
	options.pool = 32 * MiB;
	cw_start(&cw, &options);
	f = cw_create(&cw, "a");
	/* In each group from the last to the first. */
	for (size_t group = 0; group < size; group += step * depth)
		for (size_t i = depth; i-- > 0;)
			cw_fill(f, group + i * step, step, 1);
	assert_int_equal(cache_commit(f), 0);
	cw_expect_object(&cw, "a", 0, size, 1);
	assert_int_equal(cw_sent(&cw), size);
	assert_int_equal(cw_requests(&cw, STORE_COMMIT), 1);
	assert_int_equal(cw_requests(&cw, STORE_COPY_PART), 0);
	cache_file_put(f);
	cw_end(&cw);
}

static void test_no_part_goes_with_a_gap(void **state)
{
	const uint64_t gap = 320 * KiB; /* in the second part */
	struct cw_options options = cw_defaults;
	struct cache_file *f;
	struct cw cw;

	(void)state;
	options.pool = 32 * MiB;
	cw_start(&cw, &options);
	f = cw_create(&cw, "a");
	cw_fill(f, 0, gap, 1);
	cw_fill(f, gap + 64 * KiB, 2 * MiB, 1);
	cw_wait_for(cw_requests(&cw, STORE_PART) == 1);
	sleep_ms(50);
	assert_int_equal(cw_requests(&cw, STORE_PART), 1);
	/* It arrives, and what waited for it goes. */
	cw_fill(f, gap, 64 * KiB, 1);
	cw_wait_for(cw_requests(&cw, STORE_PART) >= 4);
	assert_int_equal(cache_commit(f), 0);
	assert_int_equal(cw_sent(&cw), gap + 64 * KiB + 2 * MiB);
	cw_expect_object(&cw, "a", 0, gap + 64 * KiB + 2 * MiB, 1);
	cache_file_put(f);
	cw_end(&cw);
}

/* Memory is full of dirty data: what fills the gap is let in, else nothing would ever go. */
static void test_who_fills_the_gap_goes_first(void **state)
{
	struct store_fault down = { .error_permille = 1000, .error = -EACCES };
	struct cw_options options = cw_defaults;
	const uint64_t gap = 320 * KiB;
	static unsigned char buf[64 * KiB];
	struct cache_file *f, *other;
	struct cw cw;
	char key[16];

	(void)state;
	options.pool = 8 * MiB;
	options.config.write_back = true;
	options.config.write_back_delay_ns = 3600 * SEC;
	cw_start(&cw, &options);
	/* Nor is the stream committed as it is, when the cleaner takes it for given up. */
	store_fault_set(cw.fault, 1u << STORE_PUT | 1u << STORE_COMMIT, &down);
	f = cw_create(&cw, "a");
	cw_fill(f, 0, gap, 1);
	cw_fill(f, gap + 64 * KiB, 640 * KiB, 1);
	cw_wait_for(cw_requests(&cw, STORE_PART) == 1);
	/* Small files that cannot be written, until nothing more may be dirty. */
	for (unsigned i = 0;; i++) {
		ssize_t n;

		snprintf(key, sizeof(key), "%u", i);
		other = cw_create(&cw, key);
		cw_pattern(buf, 0, sizeof(buf), 2);
		n = write_now(other, 0, buf, sizeof(buf));
		cache_file_put(other);
		if (n == -EAGAIN)
			break;
		assert_int_equal(n, sizeof(buf));
	}
	cw_pattern(buf, 4 * MiB, sizeof(buf), 1);
	assert_int_equal(write_now(f, 4 * MiB, buf, sizeof(buf)), -EAGAIN);
	cw_pattern(buf, gap, sizeof(buf), 1);
	/* Not while such a commit is being tried. */
	cw_wait_for(write_now(f, gap, buf, sizeof(buf)) == sizeof(buf));
	cw_wait_for(cw_requests(&cw, STORE_PART) >= 2);
	store_fault_set(cw.fault, STORE_FAULT_ALL, NULL);
	assert_int_equal(cache_commit(f), 0);
	cw_expect_object(&cw, "a", 0, gap + 704 * KiB, 1);
	assert_int_equal(cache_storage_drain(cw.storage, 10 * SEC), 0);
	cache_file_put(f);
	cw_end(&cw);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_holes_are_bounded),
		cmocka_unit_test(test_written_is_no_hole),
		cmocka_unit_test(test_long_commits_leave_workers),
		cmocka_unit_test(test_syncfs_is_of_a_session),
		cmocka_unit_test(test_failing_files_hide_no_other),
		cmocka_unit_test(test_removed_files_have_a_share),
		cmocka_unit_test(test_removed_beyond_the_share),
		cmocka_unit_test(test_restored_stream),
		cmocka_unit_test(test_restored_before_the_cleaner),
		cmocka_unit_test(test_truncated_before_it_is_known),
		cmocka_unit_test(test_restored_memory),
		cmocka_unit_test(test_restored_over_a_reader),
		cmocka_unit_test(test_restored_beside_a_writer),
		cmocka_unit_test(test_overtaking_writes_are_one_stream),
		cmocka_unit_test(test_no_part_goes_with_a_gap),
		cmocka_unit_test(test_who_fills_the_gap_goes_first),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
