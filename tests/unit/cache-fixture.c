/* SPDX-License-Identifier: Apache-2.0 */
#include "cache-fixture.h"

#include "store/layers/fault.h"
#include "store/layers/metrics.h"

void cache_env_init(struct cache_env *ce, const struct store_memory_options *options)
{
	memset(ce, 0, sizeof(*ce));
	env_memory(&ce->env, options);
	ce->pool = (struct pool_config){
		.size = 32u << 20,
		.block_sizes = { 4096, 16384, 65536, 262144, 1048576, 2097152 },
		.classes = 6,
	};
	ce->config = (struct cache_storage_config){
		.write_back_delay_ns = 5 * SEC,
		.dirty_percent = 50,
		.expiration_ns = 60 * SEC,
		.wait_timeout_ns = 10 * SEC,
		.read_ahead_max = 8u << 20,
		.part_size = 1u << 20,
		.parts_in_flight = 4,
	};
}

void cache_env_open(struct cache_env *ce)
{
	struct env *env = &ce->env;

	env_push(env, store_fault_new(&env->top, env->top, 1));
	ce->fault = env->top;
	env_push(env, store_metrics_new(&env->top, env->top));
	ce->metrics = env->top;
	env_run(env);
	env_ok(workers_new(&ce->workers, "test", 8));
	env_ok(cache_new(&ce->cache, &ce->pool));
	ce->config.store = env->top;
	ce->config.workers = ce->workers;
	env_ok(cache_storage_new(&ce->storage, ce->cache, &ce->config));
}

void cache_env_close(struct cache_env *ce)
{
	struct pool_usage usage;

	cache_storage_free(ce->storage);
	workers_free(ce->workers);
	cache_usage(ce->cache, &usage);
	for (unsigned i = 0; i < ce->pool.classes; i++)
		assert_int_equal(usage.blocks[i], 0);
	cache_free(ce->cache);
	env_end(&ce->env);
}

uint64_t cache_env_requests(struct cache_env *ce)
{
	return store_metrics_requests(ce->metrics);
}

uint64_t cache_env_count(struct cache_env *ce, enum store_opcode opcode)
{
	struct store_metrics_opcode m;

	store_metrics_read(ce->metrics, opcode, &m);
	return m.requests;
}

uint64_t cache_env_uploaded(struct cache_env *ce)
{
	struct store_metrics_opcode put, part;

	store_metrics_read(ce->metrics, STORE_PUT, &put);
	store_metrics_read(ce->metrics, STORE_PART, &part);
	return put.bytes_written + part.bytes_written;
}

uint64_t cache_env_downloaded(struct cache_env *ce)
{
	struct store_metrics_opcode m;

	store_metrics_read(ce->metrics, STORE_READ, &m);
	return m.bytes_read;
}

unsigned char pattern_byte(unsigned seed, uint64_t offset)
{
	uint64_t x = (offset / 8 + 1) * 0x9e3779b97f4a7c15u + seed * 0xbf58476d1ce4e5b9u;

	x ^= x >> 29;
	return (unsigned char)(x >> (offset % 8 * 8));
}

void pattern_fill(unsigned seed, uint64_t offset, void *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((unsigned char *)buf)[i] = pattern_byte(seed, offset + i);
}

void pattern_check(unsigned seed, uint64_t offset, const void *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (((const unsigned char *)buf)[i] != pattern_byte(seed, offset + i))
			fail_msg("byte %llu is %u, not %u", (unsigned long long)(offset + i),
				 ((const unsigned char *)buf)[i], pattern_byte(seed, offset + i));
}

void cache_env_object(struct cache_env *ce, const char *key, unsigned seed, size_t size)
{
	unsigned char *buf = malloc(size + 1);

	assert_non_null(buf);
	pattern_fill(seed, 0, buf, size);
	assert_int_equal(store_memory_write(ce->env.memory, key, buf, size, NULL), 0);
	free(buf);
}

struct cache_file *cache_env_file(struct cache_env *ce, const char *key)
{
	uint64_t now = loop_now_ns();
	struct store_meta meta;
	struct cache_file *f;

	assert_int_equal(env_stat(&ce->env, key, &meta), 0);
	f = cache_file_get(ce->storage, key, &meta, now);
	assert_non_null(f);
	return f;
}

struct read_call {
	struct cache_wait wait;
	pthread_mutex_t lock;
	pthread_cond_t done;
	bool finished;
	ssize_t result;
};

static void read_done(struct cache_wait *wait, ssize_t result)
{
	struct read_call *call = container_of(wait, struct read_call, wait);

	pthread_mutex_lock(&call->lock);
	call->result = result;
	call->finished = true;
	pthread_cond_signal(&call->done);
	pthread_mutex_unlock(&call->lock);
}

ssize_t read_all(struct cache_file *f, struct cache_stream *stream, uint64_t offset, void *buf,
		 size_t len)
{
	struct read_call call = { .lock = PTHREAD_MUTEX_INITIALIZER,
				  .done = PTHREAD_COND_INITIALIZER };
	struct iovec iov = { buf, len };
	struct iov_cursor dst = iov_cursor(&iov, 1);
	ssize_t ret;

	ret = cache_read(f, stream, offset, len, &dst, &call.wait, read_done);
	if (ret != CACHE_PENDING)
		return ret;
	pthread_mutex_lock(&call.lock);
	while (!call.finished)
		pthread_cond_wait(&call.done, &call.lock);
	pthread_mutex_unlock(&call.lock);
	return call.result;
}

ssize_t write_all(struct cache_file *f, uint64_t offset, const void *buf, size_t len)
{
	struct iovec iov = { (void *)buf, len };
	struct iov_cursor src = iov_cursor(&iov, 1);
	ssize_t ret;

	ret = cache_write(f, offset, len, &src, false);
	if (ret == -EAGAIN) {
		src = iov_cursor(&iov, 1);
		ret = cache_write_wait(f, offset, len, &src, false);
	}
	return ret;
}
