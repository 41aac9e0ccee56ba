/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of the memory service. All functions: memory->lock is held. */
#ifndef OVFS_STORE_SERVICES_MEMORY_INTERNAL_H
#define OVFS_STORE_SERVICES_MEMORY_INTERNAL_H

#include <pthread.h>

#include "store/services/keymap.h"
#include "store/services/memory.h"

/* An object, or a part of a session. Never changes: writes replace it. */
struct memory_blob {
	unsigned references; /* whom it belongs to, and READs under way */
	struct store_meta meta;
	char *properties; /* of store_properties, or NULL */
	size_t properties_len;
	unsigned char data[]; /* meta.size */
};

/* With the next object: a copy, for memory_blob.properties. NULL for none, or for want of memory.
 */
char *memory_properties(const char *text, size_t len);

struct memory {
	struct store store;
	struct store_memory_options options; /* constant */

	pthread_mutex_t lock;	/* covers what follows */
	struct keymap objects;	/* key: struct memory_blob */
	struct keymap sessions; /* key NUL session id: struct memory_session */
	uint64_t bytes;
	uint64_t writes; /* last ETag */
	uint64_t sessions_begun;
};

/* A blob of @size bytes for the caller to fill in, with a fresh ETag and the time.
 * 0, -ENOSPC or -ENOMEM. */
int memory_blob_new(struct memory *memory, uint64_t size, struct memory_blob **out);

/* Gives a reference back. Accepts NULL. */
void memory_blob_put(struct memory *memory, struct memory_blob *blob);

/* Nanoseconds since the epoch. */
int64_t memory_wall_clock_ns(void);

/* The rows that a page of @op may have. */
uint32_t memory_page_rows(const struct memory *memory, const struct store_op *op);

struct memory_blob *memory_lookup(struct memory *memory, const char *key);

/* Puts @blob, consumed in any case, in the place of what @key names. 0 or -ENOMEM. */
int memory_store_blob(struct memory *memory, const char *key, struct memory_blob *blob);

/* 0, -ESTALE or -EEXIST: op->if_match and op->if_absent of a write to op->key. */
int memory_check_write(struct memory *memory, const struct store_op *op);

/* The source of a COPY or COPY_PART; 0, -ENOENT or -ESTALE. */
int memory_copy_source(struct memory *memory, const struct store_op *op,
		       struct memory_blob **source);

/* The operations of write sessions, and of listings. 0 or negative errno. */
int memory_begin(struct memory *memory, struct store_op *op);
int memory_part(struct memory *memory, struct store_op *op);
int memory_copy_part(struct memory *memory, struct store_op *op);
int memory_commit(struct memory *memory, struct store_op *op);
int memory_abort(struct memory *memory, struct store_op *op);
int memory_list(struct memory *memory, struct store_op *op);
int memory_list_sessions(struct memory *memory, struct store_op *op);

void memory_sessions_free(struct memory *memory);

#endif
