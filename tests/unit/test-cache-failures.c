/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of data that the service does not take, and who is told: the writer, with an errno
 * that says why, and the log, with a name to look for. And who is not concerned goes on. */
#include "cache-write-fixture.h"

#include "base/log.h"

/* Each error of the service, as whoever asks next is told, once. */
static void test_errors_of_the_background(void **state)
{
	static const struct {
		int said, told;
	} errors[] = {
		{ -EACCES, -EACCES }, { -EDQUOT, -EDQUOT }, { -ENOSPC, -ENOSPC },
		{ -EFBIG, -EFBIG },   { -EIO, -EIO },	    { -ETIMEDOUT, -ETIMEDOUT },
		{ -EINVAL, -EIO },    { -EAGAIN, -EIO }, /* slow down, for longer than is retried */
	};
	struct cw_options options = cw_defaults;
	struct cw cw;

	(void)state;
	options.config.write_back = true;
	options.config.write_back_delay_ns = 10 * MSEC;
	cw_start(&cw, &options);
	for (unsigned i = 0; i < ARRAY_SIZE(errors); i++) {
		struct store_fault fault = { .error_permille = 1000, .error = errors[i].said };
		struct cache_storage_usage usage;
		uint32_t seen = 0, other = 0;
		struct cache_file *f;
		char key[16];
		int error;

		store_fault_set(cw.fault, 1u << STORE_PUT, &fault);
		snprintf(key, sizeof(key), "%u", i);
		f = cw_create(&cw, key);
		cache_file_error(f, &seen);
		cw_fill(f, 0, 500, 1);
		cw_wait_for((error = cache_file_error(f, &seen)) != 0);
		assert_int_equal(error, errors[i].told);
		assert_int_equal(cache_file_error(f, &other), errors[i].told);
		cache_storage_usage(cw.storage, &usage);
		assert_true(usage.commit_failures > 0);
		assert_int_equal(usage.dirty_files, 1);
		assert_int_equal(cache_commit(f), errors[i].told);
		cw_expect(f, 0, 500, 1);
		store_fault_set(cw.fault, STORE_FAULT_ALL, NULL);
		assert_int_equal(cache_commit(f), 0);
		cw_expect_object(&cw, key, 0, 500, 1);
		cache_file_put(f);
	}
	cw_end(&cw);
}

/* A service that is too busy for longer than is retried: no guest expects EAGAIN of a file. */
static void test_busy_reads(void **state)
{
	struct store_fault busy = { .error_permille = 1000, .error = -EAGAIN };
	struct cw_options options = cw_defaults;
	struct cache_file *f;
	struct cw cw;
	char byte;

	(void)state;
	options.config.expiration = true;
	options.config.expiration_ns = MSEC;
	cw_start(&cw, &options);
	cw_other(&cw, "a", 1000, 1);
	f = cw_open(&cw, "a");
	sleep_ms(5);
	store_fault_set(cw.fault, 1u << STORE_STAT, &busy);
	assert_int_equal(cw_read(f, 0, &byte, 1), -EIO);
	atomic_store(&cw.storage->config.expiration, false);
	store_fault_set(cw.fault, STORE_FAULT_ALL, &busy);
	assert_int_equal(cw_read(f, 0, &byte, 1), -EIO);
	store_fault_set(cw.fault, STORE_FAULT_ALL, NULL);
	cw_expect(f, 0, 1000, 1);
	cache_file_put(f);
	cw_end(&cw);
}

struct waiting_write {
	struct cache_file *file;
	_Atomic bool ended;
};

static void *write_run(void *arg)
{
	struct waiting_write *w = arg;
	ssize_t n = cw_write(w->file, 0, "x", 1);

	atomic_store(&w->ended, true);
	return (void *)(intptr_t)n;
}

/* Nothing more may become dirty. */
static void test_dirty_limit_is_the_writers(void **state)
{
	struct store_fault down = { .error_permille = 1000, .error = -EACCES };
	struct cw_options options = cw_defaults;
	struct waiting_write w = { .ended = false };
	struct cache_file *f, *hot, *cold;
	unsigned char byte = 1;
	pthread_t thread;
	void *result;
	struct cw cw;

	(void)state;
	options.config.write_back = true;
	options.config.wait_timeout_ns = SEC;
	cw_start(&cw, &options);
	cw_other(&cw, "hot", 200 * KiB, 2);
	cw_other(&cw, "cold", 200 * KiB, 3);
	hot = cw_open(&cw, "hot");
	cold = cw_open(&cw, "cold");
	cw_expect(hot, 0, 200 * KiB, 2);
	store_fault_set(cw.fault, 1u << STORE_PUT | 1u << STORE_BEGIN, &down);
	f = cw_create(&cw, "a");
	for (uint64_t offset = CW_REGION;; offset += CW_REGION) {
		struct iovec iov = { &byte, 1 };
		struct iov_cursor src = iov_cursor(&iov, 1);

		if (cache_write(f, offset, 1, &src, false) == -EAGAIN)
			break;
	}
	/* A writer waits; who reads does not, be it there or in the storage only. */
	w.file = cold;
	assert_int_equal(pthread_create(&thread, NULL, write_run, &w), 0);
	cw_expect(hot, 0, 200 * KiB, 2);
	cw_expect(cold, 1, 100 * KiB, 3);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_int_equal((intptr_t)result, -ETIMEDOUT);
	/* Whose own file is what cannot be written is told why. */
	cw_wait_for(f->error);
	assert_int_equal(cw_write(f, 0, "x", 1), -EACCES);
	/* The next one waits until it goes on. */
	atomic_store(&w.ended, false);
	pthread_mutex_lock(&f->lock);
	atomic_store(&cw.storage->config.wait_timeout_ns, 60 * SEC);
	pthread_mutex_unlock(&f->lock);
	assert_int_equal(pthread_create(&thread, NULL, write_run, &w), 0);
	sleep_ms(50);
	assert_false(atomic_load(&w.ended));
	store_fault_set(cw.fault, STORE_FAULT_ALL, NULL);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_int_equal((intptr_t)result, 1);
	assert_int_equal(cache_storage_drain(cw.storage, 10 * SEC), 0);
	cache_file_put(f);
	cache_file_put(hot);
	cache_file_put(cold);
	cw_end(&cw);
}

/* cache_storage_sync(), and what was logged meanwhile. */
static int sync_logged(struct cw *cw, char *text, size_t size)
{
	int saved = dup(STDERR_FILENO), pipes[2], ret;
	ssize_t n;

	assert_int_equal(pipe(pipes), 0);
	dup2(pipes[1], STDERR_FILENO);
	close(pipes[1]);
	ret = cache_storage_sync(cw->storage);
	dup2(saved, STDERR_FILENO);
	close(saved);
	n = read(pipes[0], text, size - 1);
	close(pipes[0]);
	text[n > 0 ? n : 0] = '\0';
	return ret;
}

/* The writer is gone: the log is where he finds the name of what he wrote. */
static void test_conflict_is_named(void **state)
{
	struct cw_options options = cw_defaults;
	char text[8192], kept[STORE_KEY_MAX + 1], *at;
	struct cache_file *f;
	struct cw cw;

	(void)state;
	options.config.write_back = true;
	cw_start(&cw, &options);
	cw_other(&cw, "dir/a", 1000, 1);
	f = cw_open(&cw, "dir/a");
	cw_fill(f, 100, 70000, 2);
	cache_file_put(f);
	cw_other(&cw, "dir/a", 1000, 3);
	assert_int_equal(sync_logged(&cw, text, sizeof(text)), -ESTALE);
	at = strstr(text, "conflict_kept key=\"dir/a\" kept_as=\"");
	assert_non_null(at);
	assert_int_equal(sscanf(strstr(at, "kept_as=\""), "kept_as=\"%1024[^\"]\"", kept), 1);
	assert_memory_equal(kept, "dir/a.", 6);
	assert_int_equal(cw_object_size(&cw, kept), 70100);
	cw_expect_object(&cw, kept, 100, 70000, 2);
	cw_expect_object(&cw, "dir/a", 0, 1000, 3);
	cw_end(&cw);
}

/* There is no key beside it for what he wrote: the log says that, too. */
static void test_lost_conflict_is_named(void **state)
{
	struct cw_options options = cw_defaults;
	char text[8192], key[STORE_KEY_MAX + 1];
	struct cache_file *f;
	struct cw cw;

	(void)state;
	options.config.write_back = true;
	cw_start(&cw, &options);
	memset(key, 'k', STORE_KEY_MAX);
	key[STORE_KEY_MAX] = '\0';
	cw_other(&cw, key, 1000, 1);
	f = cw_open(&cw, key);
	cw_fill(f, 100, 500, 2);
	cache_file_put(f);
	cw_other(&cw, key, 1000, 3);
	assert_int_equal(sync_logged(&cw, text, sizeof(text)), -ESTALE);
	/* A line is bounded. */
	assert_non_null(strstr(text, "conflict_lost key=\"kkkkkkkk"));
	cw_expect_object(&cw, key, 0, 1000, 3);
	cw_end(&cw);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_errors_of_the_background),
		cmocka_unit_test(test_busy_reads),
		cmocka_unit_test(test_dirty_limit_is_the_writers),
		cmocka_unit_test(test_conflict_is_named),
		cmocka_unit_test(test_lost_conflict_is_named),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
