/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several threads write, read, append to and commit the same files, others come and go beside
 * them, in a pool that is too small. Each writer has stripes of its own, in blocks and parts that
 * all share, and knows what is in them.
 */
#include "cache-write-fixture.h"

#include "base/log.h"
#include "cache/write.h"

#define WRITERS 4
#define STRIPE 3000
#define STRIPES 150 /* of each writer, in each file */
#define FILES 2

struct shared {
	struct cw cw;
	struct cache_file *file[FILES];
	_Atomic bool stop;
	_Atomic unsigned appended;
	unsigned rounds;
};

struct writer {
	struct shared *shared;
	unsigned number;
	pthread_t thread;
	struct store_random random;
	unsigned seed[FILES][STRIPES]; /* of what is there; 0: nothing yet */
};

static uint64_t stripe_offset(const struct writer *w, unsigned stripe)
{
	return ((uint64_t)stripe * WRITERS + w->number) * STRIPE;
}

static void check_stripe(struct writer *w, unsigned file, unsigned stripe)
{
	unsigned char is[STRIPE], wanted[STRIPE];
	uint64_t offset = stripe_offset(w, stripe);

	if (!w->seed[file][stripe])
		return;
	assert_int_equal(cw_read(w->shared->file[file], offset, is, STRIPE), STRIPE);
	cw_pattern(wanted, offset, STRIPE, w->seed[file][stripe]);
	assert_memory_equal(is, wanted, STRIPE);
}

static void *writer_run(void *arg)
{
	struct writer *w = arg;

	for (unsigned i = 0; i < w->shared->rounds; i++) {
		unsigned file = (unsigned)store_random_below(&w->random, FILES);
		unsigned stripe = (unsigned)store_random_below(&w->random, STRIPES);
		unsigned seed = (unsigned)store_random_below(&w->random, 1000) + 1;

		check_stripe(w, file, stripe);
		if (i % 3 == 0) {
			cw_fill(w->shared->file[file], stripe_offset(w, stripe), STRIPE, seed);
			w->seed[file][stripe] = seed;
		}
	}
	return NULL;
}

static void *committer_run(void *arg)
{
	struct shared *shared = arg;

	for (unsigned i = 0; !atomic_load(&shared->stop); i++) {
		assert_int_equal(cache_commit(shared->file[i % FILES]), 0);
		if (i % 16 == 0)
			assert_int_equal(cache_storage_sync(shared->cw.storage), 0);
	}
	return NULL;
}

/* Files that come and go, larger than they may stay in memory; some are cut, some renamed. */
static void *passer_run(void *arg)
{
	struct shared *shared = arg;

	for (unsigned i = 0; !atomic_load(&shared->stop); i++) {
		struct cache_file *f;
		char key[32], other[32];

		snprintf(key, sizeof(key), "pass-%u", i);
		snprintf(other, sizeof(other), "pass-%u-renamed", i);
		f = cw_create(&shared->cw, key);
		cw_fill(f, 0, i % 4 == 0 ? 3 * MiB : 100000, i + 1);
		if (i % 3 == 0)
			assert_int_equal(cache_truncate(f, 50000), 0);
		if (i % 5 == 0)
			cache_file_rename(f, other, NULL, NULL);
		cw_expect(f, 10000, 40000, i + 1);
		if (i % 2 == 0)
			assert_int_equal(cache_commit(f), 0);
		cache_file_unlink(f);
		cw_expect(f, 40000, 1, i + 1);
		cache_file_put(f);
	}
	return NULL;
}

static void *appender_run(void *arg)
{
	struct shared *shared = arg;
	int error = 0;
	struct cache_file *f = cache_file_peek(shared->cw.storage, "log");

	assert_int_equal(error, 0);
	for (unsigned i = 0; i < shared->rounds; i++) {
		char line[16] = "0123456789abcde";
		struct iovec iov = { line, sizeof(line) };
		struct iov_cursor src = iov_cursor(&iov, 1);

		assert_int_equal(cache_write_wait(f, 0, sizeof(line), &src, true), sizeof(line));
		atomic_fetch_add(&shared->appended, 1);
	}
	cache_file_put(f);
	return NULL;
}

static void check_end(struct shared *shared, struct writer *writers)
{
	assert_int_equal(cache_storage_drain(shared->cw.storage, 20 * SEC), 0);
	for (unsigned k = 0; k < WRITERS; k++)
		for (unsigned file = 0; file < FILES; file++)
			for (unsigned i = 0; i < STRIPES; i++) {
				struct writer *w = &writers[k];
				char key[16];

				snprintf(key, sizeof(key), "shared-%u", file);
				check_stripe(w, file, i);
				if (w->seed[file][i])
					cw_expect_object(&shared->cw, key, stripe_offset(w, i),
							 STRIPE, w->seed[file][i]);
			}
	assert_int_equal(cw_object_size(&shared->cw, "log"), atomic_load(&shared->appended) * 16);
}

static void threads_run(unsigned rounds, bool write_back)
{
	struct cw_options options = cw_defaults;
	struct shared *shared = calloc(1, sizeof(*shared));
	struct writer *writers = calloc(WRITERS, sizeof(*writers));
	struct cache_file *log;
	pthread_t committer, passer, appender[2];

	options.pool = 4 * MiB;
	options.config.write_back = write_back;
	options.config.write_back_delay_ns = write_back ? 5 * MSEC : 60 * SEC;
	options.config.wait_timeout_ns = 60 * SEC;
	shared->rounds = rounds;
	cw_start(&shared->cw, &options);
	log = cw_create(&shared->cw, "log");
	for (unsigned i = 0; i < FILES; i++) {
		char key[16];

		snprintf(key, sizeof(key), "shared-%u", i);
		if (i)
			cw_other(&shared->cw, key, 2 * MiB, 7);
		shared->file[i] = i ? cw_open(&shared->cw, key) : cw_create(&shared->cw, key);
	}
	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i].shared = shared;
		writers[i].number = i;
		store_random_seed(&writers[i].random, i + 1);
		pthread_create(&writers[i].thread, NULL, writer_run, &writers[i]);
	}
	pthread_create(&committer, NULL, committer_run, shared);
	pthread_create(&passer, NULL, passer_run, shared);
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&appender[i], NULL, appender_run, shared);
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(writers[i].thread, NULL);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(appender[i], NULL);
	atomic_store(&shared->stop, true);
	pthread_join(committer, NULL);
	pthread_join(passer, NULL);
	check_end(shared, writers);
	cache_file_put(log);
	for (unsigned i = 0; i < FILES; i++)
		cache_file_put(shared->file[i]);
	cw_end(&shared->cw);
	free(writers);
	free(shared);
}

static void test_write_through(void **state)
{
	(void)state;
	threads_run(1500, false);
}

static void test_write_back(void **state)
{
	(void)state;
	threads_run(1500, true);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_write_through),
		cmocka_unit_test(test_write_back),
	};

	log_set_level(LOG_LEVEL_ERROR);
	if (argc > 1) {
		threads_run((unsigned)atoi(argv[1]), argc > 2);
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
