/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random operations on a few files, in a pool that does not hold them, while requests fail, are
 * cut, or are done without an answer; against a model that is an array of bytes. Whatever is read
 * has to be the model's, and so has the object after each commit that succeeded.
 *
 *	test-cache-write-model [SEED [STEPS]]	a run of its own
 */
#include "cache-write-fixture.h"

#include "base/log.h"
#include "cache/write.h"

#define FILES 3
#define FILE_MAX (3 * MiB)

struct model {
	char key[32];
	struct cache_file *file; /* NULL: there is none */
	unsigned char *bytes;
	size_t size;
	size_t stream; /* where the sequential writer is */
};

struct run {
	struct cw cw;
	struct model model[FILES];
	struct store_random random;
	unsigned char *scratch;
	bool faults;
	unsigned names;
	uint64_t seed, step;
};

static uint64_t below(struct run *run, uint64_t bound)
{
	return store_random_below(&run->random, bound);
}

static void random_bytes(struct run *run, unsigned char *buf, size_t len)
{
	uint64_t x = store_random_next(&run->random);

	for (size_t i = 0; i < len; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		buf[i] = (unsigned char)(x >> 56);
	}
}

#define check(run, condition)                                                                      \
	do {                                                                                       \
		if (!(condition))                                                                  \
			fail_msg("seed %llu step %llu: %s", (unsigned long long)(run)->seed,       \
				 (unsigned long long)(run)->step, #condition);                     \
	} while (0)

/* Errors that faults explain. */
static bool excused(const struct run *run, int64_t result)
{
	return run->faults && (result == -EIO || result == -ETIMEDOUT || result == -EAGAIN);
}

static void compare(struct run *run, const struct model *m, const unsigned char *buf, size_t offset,
		    size_t len, const char *what)
{
	for (size_t i = 0; i < len; i++)
		if (buf[i] != m->bytes[offset + i])
			fail_msg("seed %llu step %llu: %s of %s: byte %zu of %zu is %02x, not %02x",
				 (unsigned long long)run->seed, (unsigned long long)run->step, what,
				 m->key, offset + i, m->size, buf[i], m->bytes[offset + i]);
}

static void do_write(struct run *run, struct model *m, size_t offset, size_t len)
{
	ssize_t ret;

	if (offset + len > FILE_MAX)
		return;
	random_bytes(run, run->scratch, len);
	ret = cw_write(m->file, offset, run->scratch, len);
	if (excused(run, ret))
		return;
	if (ret < 0)
		fail_msg("seed %llu step %llu: write: %zd", (unsigned long long)run->seed,
			 (unsigned long long)run->step, ret);
	check(run, ret == (ssize_t)len);
	if (offset > m->size)
		memset(m->bytes + m->size, 0, offset - m->size);
	memcpy(m->bytes + offset, run->scratch, len);
	m->size = MAX(m->size, offset + len);
}

static void do_write_somewhere(struct run *run, struct model *m)
{
	size_t len = (size_t)below(run, below(run, 4) ? 9000 : 200000) + 1;

	do_write(run, m, (size_t)below(run, m->size + 100000), len);
}

/* A stream, now from the beginning, now from the end, or where it was. */
static void do_stream(struct run *run, struct model *m)
{
	unsigned pieces = (unsigned)below(run, 24);

	if (!below(run, 4))
		m->stream = below(run, 2) ? 0 : m->size;
	for (unsigned i = 0; i < pieces; i++) {
		do_write(run, m, m->stream, 65536);
		m->stream += 65536;
	}
}

static void do_truncate(struct run *run, struct model *m)
{
	size_t size = (size_t)below(run, below(run, 3) ? m->size + 1 : FILE_MAX);
	int ret;

	if (!below(run, 4))
		size = 0;
	ret = cache_truncate(m->file, size);
	if (excused(run, ret))
		return;
	check(run, ret == 0);
	if (size > m->size)
		memset(m->bytes + m->size, 0, size - m->size);
	m->size = size;
}

static void do_read(struct run *run, struct model *m)
{
	size_t offset = (size_t)below(run, m->size + 1);
	size_t len = (size_t)below(run, below(run, 3) ? 20000 : 600000) + 1;
	ssize_t ret = cw_read(m->file, offset, run->scratch, len);

	if (excused(run, ret))
		return;
	if (ret < 0)
		fail_msg("seed %llu step %llu: read: %zd", (unsigned long long)run->seed,
			 (unsigned long long)run->step, ret);
	check(run, ret == (ssize_t)MIN(len, m->size - offset));
	compare(run, m, run->scratch, offset, (size_t)ret, "read");
}

static void check_object(struct run *run, struct model *m)
{
	struct store_meta meta;

	check(run,
	      store_memory_read(run->cw.env.memory, m->key, run->scratch, FILE_MAX, &meta) == 0);
	check(run, meta.size == m->size);
	compare(run, m, run->scratch, 0, m->size, "object");
}

static void do_commit(struct run *run, struct model *m)
{
	struct cache_file_info info;
	int ret = cache_commit(m->file);

	if (excused(run, ret))
		return;
	if (ret < 0)
		fail_msg("seed %llu step %llu: commit: %d", (unsigned long long)run->seed,
			 (unsigned long long)run->step, ret);
	check_object(run, m);
	cache_file_info(m->file, &info);
	check(run, !info.dirty && !info.created && info.size == m->size);
	check(run, m->file->dirty_blocks == 0);
}

/* The other client, while nothing of ours is under way. */
static void do_other(struct run *run, struct model *m)
{
	size_t len = (size_t)below(run, 500000);
	struct cache_file_info info;

	if (run->faults)
		return;
	do_commit(run, m);
	cache_file_info(m->file, &info);
	random_bytes(run, run->scratch, len);
	check(run, store_memory_write(run->cw.env.memory, m->key, run->scratch, len, NULL) == 0);
	memcpy(m->bytes, run->scratch, len);
	m->size = len;
	cache_file_put(m->file);
	m->file = cw_open(&run->cw, m->key);
}

static void new_key(struct run *run, char key[32])
{
	snprintf(key, 32, "file-%u", ++run->names);
}

static void do_replace(struct run *run, struct model *m)
{
	cache_file_unlink(m->file);
	cache_file_put(m->file);
	store_memory_remove(run->cw.env.memory, m->key);
	new_key(run, m->key);
	m->file = cw_create(&run->cw, m->key);
	m->size = m->stream = 0;
}

static void do_rename(struct run *run, struct model *m)
{
	struct store_op op = { .opcode = STORE_COPY, .source_key = m->key };
	struct cache_file_info info;
	char key[32];
	int ret;

	if (run->faults)
		return;
	cache_file_info(m->file, &info);
	new_key(run, key);
	if (info.created) {
		ret = cache_file_rename(m->file, key, NULL, NULL);
		if (ret == -EINVAL || ret == -EBUSY)
			return; /* committed meanwhile, or half on its way */
		check(run, ret == 0);
	} else {
		op.key = key;
		do {
			cache_file_info(m->file, &info);
			op.source_if_match = info.etag;
			ret = store_call(run->cw.env.top, &op);
			if (ret == -ESTALE)
				continue;
			check(run, ret == 0);
			ret = cache_file_rename(m->file, key, &op.meta, info.etag);
			if (ret == -EBUSY)
				do_commit(run, m);
		} while (ret == -EBUSY || ret == -ESTALE);
		check(run, ret == 0);
		store_memory_remove(run->cw.env.memory, m->key);
	}
	memcpy(m->key, key, sizeof(m->key));
}

static void do_faults(struct run *run)
{
	struct store_fault fault = { .error_permille = 30,
				     .lost_permille = 30,
				     .cut_permille = 20,
				     .delay_permille = 100,
				     .delay_min_ns = 0,
				     .delay_max_ns = 2 * MSEC };

	run->faults = !run->faults;
	store_fault_set(run->cw.fault, STORE_FAULT_ALL, run->faults ? &fault : NULL);
	/* What is in doubt is settled by a commit. */
	if (!run->faults) {
		int ret = -EIO;

		/* What is under way may fail yet, and others with it. */
		for (unsigned i = 0; i < 3 && ret == -EIO; i++)
			ret = cache_storage_sync(run->cw.storage);
		if (ret < 0)
			fail_msg("seed %llu step %llu: sync: %d", (unsigned long long)run->seed,
				 (unsigned long long)run->step, ret);
	}
}

static void step(struct run *run)
{
	struct model *m = &run->model[below(run, FILES)];
	unsigned what = (unsigned)below(run, run->faults ? 46 : 40);
	int ret;

	switch (what) {
	case 0 ... 9:
		do_write_somewhere(run, m);
		break;
	case 10 ... 15:
		do_stream(run, m);
		break;
	case 16 ... 27:
		do_read(run, m);
		break;
	case 28 ... 30:
		do_truncate(run, m);
		break;
	case 31 ... 34:
		do_commit(run, m);
		break;
	case 35:
		do_other(run, m);
		break;
	case 36:
		do_replace(run, m);
		break;
	case 37:
		do_rename(run, m);
		break;
	case 38:
		ret = cache_storage_sync(run->cw.storage);
		for (unsigned i = 0; i < FILES && ret == 0; i++)
			check_object(run, &run->model[i]);
		if (ret < 0 && !excused(run, ret))
			fail_msg("seed %llu step %llu: sync: %d", (unsigned long long)run->seed,
				 (unsigned long long)run->step, ret);
		break;
	case 39 ... 45:
		do_faults(run);
		break;
	default:
		break;
	}
}

static void model_run(uint64_t seed, uint64_t steps, bool write_back, bool retry)
{
	struct cw_options options = cw_defaults;
	struct run *run = calloc(1, sizeof(*run));
	struct store_memory_usage usage;

	assert_non_null(run);
	options.pool = 2 * MiB;
	options.memory.copy_max = 4 * MiB;
	options.config.write_back = write_back;
	options.config.write_back_delay_ns = write_back ? 20 * MSEC : 60 * SEC;
	options.config.wait_timeout_ns = 3 * SEC;
	options.retry = retry;
	run->seed = seed;
	store_random_seed(&run->random, seed);
	cw_start(&run->cw, &options);
	run->scratch = malloc(FILE_MAX);
	for (unsigned i = 0; i < FILES; i++) {
		run->model[i].bytes = malloc(FILE_MAX);
		new_key(run, run->model[i].key);
		run->model[i].file = cw_create(&run->cw, run->model[i].key);
	}
	for (run->step = 0; run->step < steps; run->step++)
		step(run);
	if (run->faults)
		do_faults(run);
	assert_int_equal(cache_storage_drain(run->cw.storage, 10 * SEC), 0);
	for (unsigned i = 0; i < FILES; i++) {
		check_object(run, &run->model[i]);
		cache_file_put(run->model[i].file);
		free(run->model[i].bytes);
	}
	usage = store_memory_usage(run->cw.env.memory);
	assert_int_equal(usage.objects, FILES);
	cw_end(&run->cw);
	free(run->scratch);
	free(run);
}

static void test_plain(void **state)
{
	(void)state;
	model_run(1, 800, false, false);
}

static void test_write_back(void **state)
{
	(void)state;
	model_run(2, 800, true, false);
}

static void test_retry(void **state)
{
	(void)state;
	model_run(3, 800, true, true);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_write_back),
		cmocka_unit_test(test_retry),
	};

	log_set_level(LOG_LEVEL_ERROR);
	if (argc > 1) {
		uint64_t seed = strtoull(argv[1], NULL, 0);

		model_run(seed, argc > 2 ? strtoull(argv[2], NULL, 0) : 2000, seed & 1, seed & 2);
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
