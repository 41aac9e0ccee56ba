/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that is short everywhere: many files, all of them partly in memory, changed here and
 * there, so that each commit has to read what it lacks, into memory that is full of what waits for
 * its commit. Nobody may wait for ever, nor fail.
 */
#include "cache-write-fixture.h"

#include "base/log.h"

#define FILES 48
#define SIZE (192 * KiB) /* whole regions */
#define THREADS 8
#define STEPS 40

struct shared {
	struct cw cw;
	struct cache_file *file[FILES];
};

struct writer {
	pthread_t thread;
	struct shared *shared;
	unsigned number;
};

static void *writer_run(void *arg)
{
	struct writer *w = arg;
	uint64_t x = w->number + 1;

	for (unsigned i = 0; i < STEPS; i++) {
		unsigned char buf[9000];
		struct cache_file *f;
		uint64_t offset;
		size_t len;

		x = x * 6364136223846793005ull + 1442695040888963407ull;
		f = w->shared->file[(x >> 33) % (FILES / THREADS) * THREADS + w->number];
		offset = (x >> 40) % SIZE;
		len = MIN((size_t)((x >> 20) % sizeof(buf)) + 1, (size_t)(SIZE - offset));
		cw_pattern(buf, offset, len, 1);
		assert_int_equal(cw_write(f, offset, buf, len), len);
		offset = (x >> 22) % (SIZE - 5000);
		cw_expect(f, offset, 5000, 1);
		if (i % 32 == 7)
			assert_int_equal(cache_commit(f), 0);
	}
	return NULL;
}

static void test_nobody_waits_for_ever(void **state)
{
	struct cw_options options = cw_defaults;
	struct writer writer[THREADS];
	struct shared shared;
	char key[16];

	(void)state;
	options.pool = 2 * MiB;
	options.config.write_back = true;
	options.config.write_back_delay_ns = 5 * SEC;
	options.config.wait_timeout_ns = 60 * SEC;
	cw_start(&shared.cw, &options);
	for (unsigned i = 0; i < FILES; i++) {
		snprintf(key, sizeof(key), "%u", i);
		cw_other(&shared.cw, key, SIZE, 1);
		shared.file[i] = cw_open(&shared.cw, key);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		writer[i] = (struct writer){ .shared = &shared, .number = i };
		assert_int_equal(pthread_create(&writer[i].thread, NULL, writer_run, &writer[i]),
				 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(writer[i].thread, NULL);
	assert_int_equal(cache_storage_sync(shared.cw.storage), 0);
	for (unsigned i = 0; i < FILES; i++) {
		snprintf(key, sizeof(key), "%u", i);
		cw_expect_object(&shared.cw, key, 0, SIZE, 1);
		cache_file_put(shared.file[i]);
	}
	cw_end(&shared.cw);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_nobody_waits_for_ever) };

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
