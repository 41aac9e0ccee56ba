/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A storage service in memory, for tests and trials, as strict as S3: every
 * write gives a new ETag, conditions, write sessions with limits on parts,
 * paged listings in the byte order of keys, batches, copies.
 *
 * Operations are done at once, on the transfer loop. The functions below go
 * behind the back of the stack, from any thread: they are the other client that
 * shares the bucket. One mutex covers everything; it is held for the time that a
 * copy in memory takes, and while list.entry() is called, not for progress().
 *
 * Not kept, because nothing could see it: content_type.
 */
#ifndef OVFS_STORE_SERVICES_MEMORY_H
#define OVFS_STORE_SERVICES_MEMORY_H

#include "base/err.h"
#include "store/operator.h"

struct store_memory_options {
	uint64_t bytes_max; /* of all objects and parts together; then -ENOSPC */
	uint64_t part_min, part_max;
	uint32_t parts_max;
	uint64_t put_max;
	uint64_t copy_max;
	uint32_t list_max; /* rows of a page */
};

/* The limits of S3; 1 GiB of data. */
extern const struct store_memory_options store_memory_defaults;

/* @options: NULL for the defaults; copied. Freed by store_free(). */
struct err *store_memory_new(struct store **out, struct loop *loop,
			     const struct store_memory_options *options)
	__attribute__((warn_unused_result));

/*
 * Behind the back; @service is what store_memory_new() gave, not a layer above it.
 * 0 or negative errno. @meta may be NULL.
 */
int store_memory_write(struct store *service, const char *key, const void *data, size_t len,
		       struct store_meta *meta);

/* Copies at most @size bytes of the object; meta->size is its whole size. */
int store_memory_read(struct store *service, const char *key, void *buf, size_t size,
		      struct store_meta *meta);

/* -ENOENT when there is none. */
int store_memory_remove(struct store *service, const char *key);

struct store_memory_usage {
	size_t objects;
	size_t sessions;
	uint64_t bytes; /* of objects and parts */
};
struct store_memory_usage store_memory_usage(struct store *service);

#endif
