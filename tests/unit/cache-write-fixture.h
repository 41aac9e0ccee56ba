/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cached storage over the memory service, small in everything, for tests of the writing half:
 *
 *	cache -> (retry) -> metrics -> fault -> memory
 *
 * Blocks of 4, 16 and 64 KiB, parts of 128 KiB and more.
 */
#ifndef OVFS_TESTS_CACHE_WRITE_FIXTURE_H
#define OVFS_TESTS_CACHE_WRITE_FIXTURE_H

#include "store-fixture.h"

#include "base/workers.h"
#include "cache/cache.h"
#include "cache/file.h"
#include "store/layers/fault.h"
#include "store/layers/metrics.h"
#include "store/random.h"

#define KiB 1024u
#define MiB (1024u * 1024u)

#define CW_REGION (64 * KiB)
#define CW_PART_MIN (128 * KiB)
#define CW_PART (256 * KiB) /* of the configuration */

struct cw_options {
	uint64_t pool; /* bytes */
	struct cache_storage_config config;
	struct store_memory_options memory;
	bool retry;
};

struct cw {
	struct env env;
	struct store *fault, *metrics;
	struct workers *workers;
	struct cache *cache;
	struct cache_storage *storage;
};

/* 4 MiB of pool, no write-back, nothing in the background for a minute. */
extern const struct cw_options cw_defaults;

void cw_start(struct cw *cw, const struct cw_options *options);
void cw_end(struct cw *cw);

/* A file to be created; one for what the other client wrote there. */
struct cache_file *cw_create(struct cw *cw, const char *key);
struct cache_file *cw_open(struct cw *cw, const char *key);
/* Another client writes @len bytes of the pattern of @seed. */
void cw_other(struct cw *cw, const char *key, size_t len, unsigned seed);

/* Bytes that say where they belong. */
void cw_pattern(unsigned char *buf, uint64_t offset, size_t len, unsigned seed);

/* cache_write(), and cache_write_wait() where that has to wait. The result. */
ssize_t cw_write(struct cache_file *f, uint64_t offset, const void *data, size_t len);
/* The pattern of @seed; must succeed. */
void cw_fill(struct cache_file *f, uint64_t offset, size_t len, unsigned seed);
/* Bytes or negative errno; waits. */
ssize_t cw_read(struct cache_file *f, uint64_t offset, void *buf, size_t len);

/* Fails unless these bytes of the file, or of the object, are the pattern of @seed, or zero
 * (@seed 0). */
void cw_expect(struct cache_file *f, uint64_t offset, size_t len, unsigned seed);
void cw_expect_object(struct cw *cw, const char *key, uint64_t offset, size_t len, unsigned seed);
/* Size of the object; -ENOENT. */
int64_t cw_object_size(struct cw *cw, const char *key);

/* Requests of a kind so far, and bytes sent with them. */
uint64_t cw_requests(struct cw *cw, enum store_opcode opcode);
uint64_t cw_sent(struct cw *cw);
uint64_t cw_all_requests(struct cw *cw);

/* Waits until @condition, fails after 10 s. */
#define cw_wait_for(condition)                                                                     \
	do {                                                                                       \
		for (unsigned ms_ = 0; !(condition); ms_++) {                                      \
			if (ms_ == 10000)                                                          \
				fail_msg("%s does not come", #condition);                          \
			sleep_ms(1);                                                               \
		}                                                                                  \
	} while (0)

#endif
