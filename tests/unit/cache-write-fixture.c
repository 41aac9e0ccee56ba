/* SPDX-License-Identifier: Apache-2.0 */
#include "cache-write-fixture.h"

#include "base/iov.h"
#include "store/layers/retry.h"

const struct cw_options cw_defaults = {
	.pool = 4 * MiB,
	.config = { .write_back = false,
		    .write_back_delay_ns = 60 * SEC,
		    .dirty_percent = 50,
		    .wait_timeout_ns = 10 * SEC,
		    .read_ahead_max = 0,
		    .part_size = CW_PART,
		    .parts_in_flight = 3 },
	.memory = { .bytes_max = 256 * MiB,
		    .part_min = CW_PART_MIN,
		    .part_max = 1 * MiB,
		    .parts_max = 200,
		    .put_max = 2 * MiB,
		    .copy_max = 2 * MiB,
		    .list_max = 100 },
};

void cw_start(struct cw *cw, const struct cw_options *options)
{
	static const struct store_retry_options quick = { .attempts_max = 4,
							  .pause_first_ns = MSEC,
							  .pause_max_ns = 4 * MSEC };
	struct pool_config pool = { .size = options->pool,
				    .block_sizes = { 4 * KiB, 16 * KiB, CW_REGION },
				    .classes = 3,
				    .huge_pages = POOL_HUGE_NEVER };
	struct cache_storage_config config = options->config;

	memset(cw, 0, sizeof(*cw));
	env_memory(&cw->env, &options->memory);
	env_push(&cw->env, store_fault_new(&cw->env.top, cw->env.top, 1));
	cw->fault = cw->env.top;
	env_push(&cw->env, store_metrics_new(&cw->env.top, cw->env.top));
	cw->metrics = cw->env.top;
	if (options->retry)
		env_push(&cw->env, store_retry_new(&cw->env.top, cw->env.top, &quick));
	env_run(&cw->env);
	env_ok(workers_new(&cw->workers, "test", 12));
	env_ok(cache_new(&cw->cache, &pool));
	config.store = cw->env.top;
	config.workers = cw->workers;
	env_ok(cache_storage_new(&cw->storage, cw->cache, &config));
}

void cw_end(struct cw *cw)
{
	struct pool_usage usage;

	cache_storage_free(cw->storage);
	cache_usage(cw->cache, &usage);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(usage.blocks[i], 0);
	cache_free(cw->cache);
	workers_free(cw->workers);
	env_end(&cw->env);
}

struct cache_file *cw_create(struct cw *cw, const char *key)
{
	int error = 0;
	struct cache_file *f = cache_file_create(cw->storage, key, &error);

	assert_int_equal(error, 0);
	assert_non_null(f);
	return f;
}

struct cache_file *cw_open(struct cw *cw, const char *key)
{
	struct store_meta meta;
	struct cache_file *f;
	char none;

	assert_int_equal(store_memory_read(cw->env.memory, key, &none, 0, &meta), 0);
	f = cache_file_get(cw->storage, key, &meta, loop_now_ns());
	assert_non_null(f);
	return f;
}

void cw_other(struct cw *cw, const char *key, size_t len, unsigned seed)
{
	unsigned char *buf = malloc(len + 1);

	assert_non_null(buf);
	cw_pattern(buf, 0, len, seed);
	assert_int_equal(store_memory_write(cw->env.memory, key, buf, len, NULL), 0);
	free(buf);
}

static unsigned char pattern_byte(uint64_t offset, unsigned seed)
{
	uint64_t x = (offset / 8 + 1) * 0x9e3779b97f4a7c15u * (seed * 2 + 1);

	return seed ? (unsigned char)((x >> 32) + (offset % 8) * 29 + seed) : 0;
}

void cw_pattern(unsigned char *buf, uint64_t offset, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = pattern_byte(offset + i, seed);
}

ssize_t cw_write(struct cache_file *f, uint64_t offset, const void *data, size_t len)
{
	struct iovec iov = { (void *)(uintptr_t)data, len };
	struct iov_cursor src = iov_cursor(&iov, 1);
	ssize_t ret = cache_write(f, offset, len, &src, false);

	return ret == -EAGAIN ? cache_write_wait(f, offset, len, &src, false) : ret;
}

void cw_fill(struct cache_file *f, uint64_t offset, size_t len, unsigned seed)
{
	static const size_t step = 128 * KiB;
	unsigned char *buf = malloc(MIN(len, step));

	assert_non_null(buf);
	for (size_t done = 0; done < len;) {
		size_t n = MIN(len - done, step);

		cw_pattern(buf, offset + done, n, seed);
		assert_int_equal(cw_write(f, offset + done, buf, n), (ssize_t)n);
		done += n;
	}
	free(buf);
}

struct read_wait {
	struct cache_wait wait;
	ssize_t result;
	_Atomic bool done;
};

static void read_done(struct cache_wait *wait, ssize_t result)
{
	struct read_wait *w = container_of(wait, struct read_wait, wait);

	w->result = result;
	atomic_store(&w->done, true);
}

ssize_t cw_read(struct cache_file *f, uint64_t offset, void *buf, size_t len)
{
	struct read_wait *w = calloc(1, sizeof(*w));
	struct iovec iov = { buf, len };
	struct iov_cursor dst = iov_cursor(&iov, 1);
	ssize_t ret;

	assert_non_null(w);
	ret = cache_read(f, NULL, offset, len, &dst, &w->wait, read_done);
	if (ret == CACHE_PENDING) {
		for (unsigned i = 0; !atomic_load(&w->done); i++) {
			if (i > 300000)
				fail_msg("a read does not end");
			usleep(100);
		}
		ret = w->result;
	}
	free(w);
	return ret;
}

static void expect_pattern(const unsigned char *buf, uint64_t offset, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		if (buf[i] != pattern_byte(offset + i, seed))
			fail_msg("byte %llu is %02x, not %02x of seed %u",
				 (unsigned long long)(offset + i), buf[i],
				 pattern_byte(offset + i, seed), seed);
}

void cw_expect(struct cache_file *f, uint64_t offset, size_t len, unsigned seed)
{
	unsigned char *buf = malloc(len);

	assert_non_null(buf);
	memset(buf, 0xaa, len);
	assert_int_equal(cw_read(f, offset, buf, len), (ssize_t)len);
	expect_pattern(buf, offset, len, seed);
	free(buf);
}

void cw_expect_object(struct cw *cw, const char *key, uint64_t offset, size_t len, unsigned seed)
{
	size_t size = (size_t)offset + len;
	unsigned char *buf = malloc(size);
	struct store_meta meta;

	assert_non_null(buf);
	assert_int_equal(store_memory_read(cw->env.memory, key, buf, size, &meta), 0);
	assert_true(meta.size >= size);
	expect_pattern(buf + offset, offset, len, seed);
	free(buf);
}

int64_t cw_object_size(struct cw *cw, const char *key)
{
	struct store_meta meta;
	char none;
	int ret = store_memory_read(cw->env.memory, key, &none, 0, &meta);

	return ret < 0 ? ret : (int64_t)meta.size;
}

uint64_t cw_requests(struct cw *cw, enum store_opcode opcode)
{
	struct store_metrics_opcode m;

	store_metrics_read(cw->metrics, opcode, &m);
	return m.requests;
}

uint64_t cw_sent(struct cw *cw)
{
	struct store_metrics_opcode put, part;

	store_metrics_read(cw->metrics, STORE_PUT, &put);
	store_metrics_read(cw->metrics, STORE_PART, &part);
	return put.bytes_written + part.bytes_written;
}

uint64_t cw_all_requests(struct cw *cw)
{
	return store_metrics_requests(cw->metrics);
}
