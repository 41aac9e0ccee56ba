/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cache over a memory service, its layers and a transfer loop, and reads and writes that
 * look like function calls.
 */
#ifndef OVFS_TESTS_CACHE_FIXTURE_H
#define OVFS_TESTS_CACHE_FIXTURE_H

#include "store-fixture.h"

#include "base/workers.h"
#include "cache/cache.h"

struct cache_env {
	struct env env;
	struct store *fault, *metrics; /* just above the service */
	struct workers *workers;
	struct cache *cache;
	struct cache_storage *storage;
	struct cache_storage_config config; /* change it before cache_env_open() */
	struct pool_config pool;
};

/* Fills in defaults: a pool of 32 MiB, no write-back, no expiration. @options of the
 * memory service, NULL for its defaults. */
void cache_env_init(struct cache_env *ce, const struct store_memory_options *options);
/* Adds the layers and starts everything. */
void cache_env_open(struct cache_env *ce);
void cache_env_close(struct cache_env *ce);

/* Requests that reached the service, all or of one kind; bytes of bodies. */
uint64_t cache_env_requests(struct cache_env *ce);
uint64_t cache_env_count(struct cache_env *ce, enum store_opcode opcode);
uint64_t cache_env_uploaded(struct cache_env *ce);
uint64_t cache_env_downloaded(struct cache_env *ce);

/* Behind the back: an object of @size bytes of pattern_byte(@seed, offset). */
void cache_env_object(struct cache_env *ce, const char *key, unsigned seed, size_t size);
unsigned char pattern_byte(unsigned seed, uint64_t offset);
void pattern_fill(unsigned seed, uint64_t offset, void *buf, size_t len);
/* Fails the test at the first byte that differs. */
void pattern_check(unsigned seed, uint64_t offset, const void *buf, size_t len);

/* The file as a STAT of now finds it. */
struct cache_file *cache_env_file(struct cache_env *ce, const char *key);

/* cache_read(), waiting for its end; @stream may be NULL. */
ssize_t read_all(struct cache_file *f, struct cache_stream *stream, uint64_t offset, void *buf,
		 size_t len);
/* cache_write(), and cache_write_wait() when that is needed. */
ssize_t write_all(struct cache_file *f, uint64_t offset, const void *buf, size_t len);

#endif
