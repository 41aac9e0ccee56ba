/* SPDX-License-Identifier: Apache-2.0 */
/* Unfinished uploads whose ABORT failed: aborted again, some day. */
#include "cache-write-fixture.h"

#include "base/log.h"
#include "cache/leftover.h"

static size_t sessions(struct cw *cw)
{
	return store_memory_usage(cw->env.memory).sessions;
}

static unsigned remembered(struct cw *cw)
{
	unsigned count;

	pthread_mutex_lock(&cw->storage->lock);
	count = cw->storage->leftovers.count;
	pthread_mutex_unlock(&cw->storage->lock);
	return count;
}

/* No abort is under way. */
static bool is_quiet(struct cw *cw)
{
	bool quiet;

	pthread_mutex_lock(&cw->storage->lock);
	quiet = list_empty(&cw->storage->leftovers.trying);
	pthread_mutex_unlock(&cw->storage->lock);
	return quiet;
}

/* Begins a session for @key, and has it aborted. */
static void begin_and_abort(struct cw *cw, const char *key)
{
	struct store_op op = { .opcode = STORE_BEGIN, .key = key };

	assert_int_equal(store_call(cw->env.top, &op), 0);
	leftover_abort(cw->storage, key, op.session_out);
}

/* The service does not answer while a file that is being streamed is removed. */
static void test_tried_again(void **state)
{
	struct store_fault down = { .error_permille = 1000, .error = -EIO };
	struct cw cw;
	struct cache_file *f;
	uint64_t start;

	(void)state;
	cw_start(&cw, &cw_defaults);
	store_fault_set(cw.fault, 1u << STORE_ABORT, &down);
	f = cw_create(&cw, "a");
	/* Not as much as would make memory short: the cleaner would commit it. */
	cw_fill(f, 0, 1 * MiB, 1);
	cw_wait_for(sessions(&cw) == 1);
	start = loop_now_ns();
	cache_file_unlink(f);
	cache_file_put(f);
	/* After half a second, and a whole one. */
	cw_wait_for(store_fault_stats(cw.fault).errors == 3);
	assert_true(loop_now_ns() - start >= 1500 * MSEC);
	assert_int_equal(sessions(&cw), 1);
	store_fault_set(cw.fault, STORE_FAULT_ALL, NULL);
	cw_wait_for(sessions(&cw) == 0);
	cw_wait_for(remembered(&cw) == 0);
	assert_int_equal(cw_requests(&cw, STORE_ABORT), 1);
	cw_end(&cw);
}

/* One that gets through is a sign to try the others. */
static void test_service_is_back(void **state)
{
	struct store_fault down = { .error_permille = 1000, .error = -ETIMEDOUT };
	struct cw cw;

	(void)state;
	cw_start(&cw, &cw_defaults);
	store_fault_set(cw.fault, 1u << STORE_ABORT, &down);
	for (unsigned i = 0; i < 20; i++)
		begin_and_abort(&cw, "a");
	/* By now the pause is four seconds. */
	cw_wait_for(store_fault_stats(cw.fault).errors == 23);
	cw_wait_for(is_quiet(&cw));
	assert_int_equal(remembered(&cw), 20);
	store_fault_set(cw.fault, STORE_FAULT_ALL, NULL);
	begin_and_abort(&cw, "b");
	for (unsigned ms = 0; sessions(&cw) > 0; ms++) {
		if (ms == 2000)
			fail_msg("%zu sessions are left", sessions(&cw));
		sleep_ms(1);
	}
	cw_wait_for(remembered(&cw) == 0);
	assert_int_equal(cw_requests(&cw, STORE_ABORT), 21);
	cw_end(&cw);
}

/* Only the answer was lost: there is none any more, which is as good. */
static void test_gone_already(void **state)
{
	struct store_fault lost = { .lost_permille = 1000, .count = 1 };
	struct cw cw;

	(void)state;
	cw_start(&cw, &cw_defaults);
	store_fault_set(cw.fault, 1u << STORE_ABORT, &lost);
	begin_and_abort(&cw, "a");
	cw_wait_for(cw_requests(&cw, STORE_ABORT) == 2);
	sleep_ms(800);
	assert_int_equal(cw_requests(&cw, STORE_ABORT), 2);
	assert_int_equal(remembered(&cw), 0);
	assert_int_equal(sessions(&cw), 0);
	cw_end(&cw);
}

static void test_refused_for_good(void **state)
{
	struct store_fault refused = { .error_permille = 1000, .error = -EINVAL };
	int saved = dup(STDERR_FILENO), pipes[2];
	char text[4096];
	struct cw cw;
	ssize_t n;

	(void)state;
	cw_start(&cw, &cw_defaults);
	store_fault_set(cw.fault, 1u << STORE_ABORT, &refused);
	assert_int_equal(pipe(pipes), 0);
	dup2(pipes[1], STDERR_FILENO);
	log_set_level(LOG_LEVEL_WARN);
	begin_and_abort(&cw, "a");
	sleep_ms(800);
	cw_wait_for(remembered(&cw) == 0);
	log_set_level(LOG_LEVEL_ERROR);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(pipes[1]);
	n = read(pipes[0], text, sizeof(text) - 1);
	close(pipes[0]);
	text[n > 0 ? n : 0] = '\0';
	assert_non_null(strstr(text, "upload_left_over key=\"a\" session=\""));
	assert_true(is_quiet(&cw));
	assert_int_equal(store_fault_stats(cw.fault).errors, 1);
	assert_int_equal(remembered(&cw), 0);
	cw_end(&cw);
}

/* The oldest go when there are too many. */
static void test_bounded(void **state)
{
	struct store_fault down = { .error_permille = 1000, .error = -EIO };
	struct cw cw;

	(void)state;
	cw_start(&cw, &cw_defaults);
	store_fault_set(cw.fault, 1u << STORE_ABORT, &down);
	for (unsigned i = 0; i < LEFTOVER_MAX + 30; i++) {
		begin_and_abort(&cw, "a");
		assert_true(remembered(&cw) <= LEFTOVER_MAX);
	}
	cw_wait_for(is_quiet(&cw));
	assert_int_equal(remembered(&cw), LEFTOVER_MAX);
	assert_int_equal(sessions(&cw), LEFTOVER_MAX + 30);
	store_fault_set(cw.fault, STORE_FAULT_ALL, NULL);
	assert_int_equal(cache_storage_drain(cw.storage, 10 * SEC), 0);
	assert_int_equal(sessions(&cw), 30);
	assert_int_equal(remembered(&cw), 0);
	cw_end(&cw);
}

/* The drain does not wait for the time of the next try. */
static void test_drain(void **state)
{
	struct store_fault down = { .error_permille = 1000, .error = -EAGAIN };
	struct cw cw;

	(void)state;
	cw_start(&cw, &cw_defaults);
	store_fault_set(cw.fault, 1u << STORE_ABORT, &down);
	for (unsigned i = 0; i < 10; i++)
		begin_and_abort(&cw, "a");
	cw_wait_for(remembered(&cw) == 10);
	/* In vain, and not for long. */
	assert_int_equal(cache_storage_drain(cw.storage, 60 * SEC), 0);
	assert_int_equal(sessions(&cw), 10);
	store_fault_set(cw.fault, STORE_FAULT_ALL, NULL);
	assert_int_equal(cache_storage_drain(cw.storage, 60 * SEC), 0);
	assert_int_equal(sessions(&cw), 0);
	cw_end(&cw);
}

/* Nor for a service that never answers; what is left then ends with the storage. */
static void test_drain_without_answer(void **state)
{
	struct store_fault down = { .error_permille = 1000, .error = -EIO };
	struct store_fault hung = { .delay_permille = 1000, .delay_min_ns = STORE_FAULT_FOREVER };
	struct cw cw;
	uint64_t start;

	(void)state;
	cw_start(&cw, &cw_defaults);
	store_fault_set(cw.fault, 1u << STORE_ABORT, &down);
	for (unsigned i = 0; i < 10; i++)
		begin_and_abort(&cw, "a");
	cw_wait_for(remembered(&cw) == 10);
	store_fault_set(cw.fault, 1u << STORE_ABORT, &hung);
	start = loop_now_ns();
	assert_int_equal(cache_storage_drain(cw.storage, 300 * MSEC), 0);
	assert_in_range(loop_now_ns() - start, 300 * MSEC, 10 * SEC);
	store_fault_set(cw.fault, STORE_FAULT_ALL, NULL);
	cw_end(&cw);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tried_again),
		cmocka_unit_test(test_service_is_back),
		cmocka_unit_test(test_gone_already),
		cmocka_unit_test(test_refused_for_good),
		cmocka_unit_test(test_bounded),
		cmocka_unit_test(test_drain),
		cmocka_unit_test(test_drain_without_answer),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
