/* SPDX-License-Identifier: Apache-2.0 */
/* The memory service: whole objects, copies, and the other client. */
#include "store/services/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/services/memory_internal.h"

#define NSEC_PER_SEC 1000000000ll
#define MEMORY_READ_STEP 65536 /* bytes between two calls of progress() */

const struct store_memory_options store_memory_defaults = {
	.bytes_max = 1ull << 30,
	.part_min = 5ull << 20,
	.part_max = 5ull << 30,
	.parts_max = 10000,
	.put_max = 5ull << 30,
	.copy_max = 5ull << 30,
	.list_max = 1000,
};

static struct memory *memory_of(struct store *store)
{
	return container_of(store, struct memory, store);
}

/* ---- Blobs; the lock is held ---- */

int64_t memory_wall_clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

int memory_blob_new(struct memory *memory, uint64_t size, struct memory_blob **out)
{
	struct memory_blob *blob;

	if (size > memory->options.bytes_max - memory->bytes)
		return -ENOSPC;
	blob = malloc(sizeof(*blob) + size);
	if (!blob)
		return -ENOMEM;
	blob->references = 1;
	memset(&blob->meta, 0, sizeof(blob->meta));
	blob->properties = NULL;
	blob->properties_len = 0;
	blob->meta.size = size;
	blob->meta.mtime_ns = memory_wall_clock_ns();
	snprintf(blob->meta.etag, sizeof(blob->meta.etag), "\"%016" PRIx64 "\"", ++memory->writes);
	memory->bytes += size;
	*out = blob;
	return 0;
}

void memory_blob_put(struct memory *memory, struct memory_blob *blob)
{
	if (!blob || --blob->references)
		return;
	memory->bytes -= blob->meta.size;
	free(blob->properties);
	free(blob);
}

char *memory_properties(const char *text, size_t len)
{
	char *copy = len ? malloc(len) : NULL;

	if (copy)
		memcpy(copy, text, len);
	return copy;
}

static void memory_set_properties(struct memory_blob *blob, const char *text, size_t len)
{
	blob->properties = memory_properties(text, len);
	blob->properties_len = blob->properties ? len : 0;
}

uint32_t memory_page_rows(const struct memory *memory, const struct store_op *op)
{
	return op->list.limit ? MIN(op->list.limit, memory->options.list_max)
			      : memory->options.list_max;
}

struct memory_blob *memory_lookup(struct memory *memory, const char *key)
{
	return keymap_find(&memory->objects, key, strlen(key));
}

int memory_store_blob(struct memory *memory, const char *key, struct memory_blob *blob)
{
	void *old;
	int err = keymap_set(&memory->objects, key, strlen(key), blob, &old);

	memory_blob_put(memory, err ? blob : old);
	return err;
}

/* ---- Conditions ---- */

static bool etag_differs(const char *wanted, const struct memory_blob *blob)
{
	return wanted && *wanted && strcmp(wanted, blob->meta.etag) != 0;
}

int memory_check_write(struct memory *memory, const struct store_op *op)
{
	const struct memory_blob *blob = memory_lookup(memory, op->key);

	if (op->if_absent && blob)
		return -EEXIST;
	if (op->if_match && *op->if_match && (!blob || etag_differs(op->if_match, blob)))
		return -ESTALE;
	return 0;
}

static int memory_find(struct memory *memory, const char *key, const char *if_match,
		       struct memory_blob **out)
{
	*out = memory_lookup(memory, key);
	if (!*out)
		return -ENOENT;
	return etag_differs(if_match, *out) ? -ESTALE : 0;
}

int memory_copy_source(struct memory *memory, const struct store_op *op,
		       struct memory_blob **source)
{
	return memory_find(memory, op->source_key, op->source_if_match, source);
}

/* ---- Operations ---- */

static int memory_stat(struct memory *memory, struct store_op *op)
{
	struct memory_blob *blob;
	int err = memory_find(memory, op->key, op->if_match, &blob);

	if (err)
		return err;
	op->meta = blob->meta;
	if (op->properties_out) {
		struct store_properties *p = op->properties_out;

		p->cut = blob->properties_len > p->room;
		p->len = p->cut ? 0 : blob->properties_len;
		if (p->len)
			memcpy(p->text, blob->properties, p->len);
	}
	return 0;
}

static int memory_read(struct memory *memory, struct store_op *op)
{
	struct iov_cursor to = store_op_cursor(op);
	struct memory_blob *blob;
	uint64_t begin = op->offset + op->done, end;
	int err = memory_find(memory, op->key, op->if_match, &blob);

	if (err)
		return err;
	op->meta = blob->meta;
	if (op->offset >= blob->meta.size)
		return -ERANGE;
	end = op->offset + MIN(op->length, blob->meta.size - op->offset);
	blob->references++;
	pthread_mutex_unlock(&memory->lock);
	while (begin < end) {
		size_t step = iov_write(&to, blob->data + begin,
					(size_t)MIN(end - begin, (uint64_t)MEMORY_READ_STEP));

		store_op_moved(op, step);
		begin += step;
	}
	pthread_mutex_lock(&memory->lock);
	memory_blob_put(memory, blob);
	return 0;
}

static void memory_set_metadata(struct memory_blob *blob, const struct store_op *op)
{
	if (op->set_user_mtime) {
		blob->meta.has_user_mtime = true;
		blob->meta.user_mtime_ns = op->user_mtime_ns;
	}
}

static int memory_put(struct memory *memory, struct store_op *op)
{
	struct iov_cursor from = store_op_cursor(op);
	struct memory_blob *blob;
	int err = memory_check_write(memory, op);

	if (!err)
		err = memory_blob_new(memory, op->length, &blob);
	if (err)
		return err;
	iov_read(&from, blob->data, op->length);
	store_op_moved(op, op->length);
	memory_set_metadata(blob, op);
	if (op->write_id)
		memcpy(blob->meta.write_id, op->write_id, strlen(op->write_id) + 1);
	if (op->properties)
		memory_set_properties(blob, op->properties->text, op->properties->len);
	op->meta = blob->meta;
	return memory_store_blob(memory, op->key, blob);
}

static int memory_copy(struct memory *memory, struct store_op *op)
{
	struct memory_blob *source, *blob;
	int err = memory_check_write(memory, op);

	if (!err)
		err = memory_copy_source(memory, op, &source);
	if (!err && source->meta.size > memory->options.copy_max)
		err = -EFBIG;
	if (!err)
		err = memory_blob_new(memory, source->meta.size, &blob);
	if (err)
		return err;
	memcpy(blob->data, source->data, source->meta.size);
	blob->meta.has_user_mtime = source->meta.has_user_mtime;
	blob->meta.user_mtime_ns = source->meta.user_mtime_ns;
	memcpy(blob->meta.write_id, source->meta.write_id, sizeof(blob->meta.write_id));
	memory_set_metadata(blob, op);
	if (op->properties)
		memory_set_properties(blob, op->properties->text, op->properties->len);
	else
		memory_set_properties(blob, source->properties, source->properties_len);
	if (op->properties && op->write_id)
		memcpy(blob->meta.write_id, op->write_id, strlen(op->write_id) + 1);
	op->meta = blob->meta;
	return memory_store_blob(memory, op->key, blob);
}

static int memory_remove(struct memory *memory, const char *key)
{
	struct memory_blob *blob = keymap_remove(&memory->objects, key, strlen(key));

	if (!blob)
		return -ENOENT;
	memory_blob_put(memory, blob);
	return 0;
}

static int memory_delete(struct memory *memory, struct store_op *op)
{
	if (op->if_match && *op->if_match) {
		struct memory_blob *blob;
		int err = memory_find(memory, op->key, op->if_match, &blob);

		if (err)
			return err;
	}
	memory_remove(memory, op->key);
	return 0;
}

static int memory_delete_batch(struct memory *memory, struct store_op *op)
{
	for (size_t i = 0; i < op->key_count; i++) {
		memory_remove(memory, op->keys[i]);
		op->key_results[i] = 0;
	}
	return 0;
}

static int (*const memory_table[STORE_OPCODE_COUNT])(struct memory *memory, struct store_op *op) = {
	[STORE_STAT] = memory_stat,
	[STORE_READ] = memory_read,
	[STORE_PUT] = memory_put,
	[STORE_BEGIN] = memory_begin,
	[STORE_PART] = memory_part,
	[STORE_COPY_PART] = memory_copy_part,
	[STORE_COMMIT] = memory_commit,
	[STORE_ABORT] = memory_abort,
	[STORE_LIST] = memory_list,
	[STORE_DELETE] = memory_delete,
	[STORE_DELETE_BATCH] = memory_delete_batch,
	[STORE_COPY] = memory_copy,
	[STORE_LIST_SESSIONS] = memory_list_sessions,
};

static void memory_submit(struct store *store, struct store_op *op)
{
	struct memory *memory = memory_of(store);
	int result;

	pthread_mutex_lock(&memory->lock);
	result = memory_table[op->opcode](memory, op);
	pthread_mutex_unlock(&memory->lock);
	store_op_complete(op, result);
}

static void memory_blob_free(void *value)
{
	struct memory_blob *blob = value;

	free(blob->properties);
	free(blob);
}

static void memory_free(struct store *store)
{
	struct memory *memory = memory_of(store);

	memory_sessions_free(memory);
	keymap_destroy(&memory->objects, memory_blob_free);
	pthread_mutex_destroy(&memory->lock);
	free(memory);
}

static const struct store_ops memory_ops = {
	.name = "memory",
	.submit = memory_submit,
	.free = memory_free,
};

struct err *store_memory_new(struct store **out, struct loop *loop,
			     const struct store_memory_options *options)
{
	struct memory *memory = calloc(1, sizeof(*memory));

	if (!memory)
		return err_errno(ENOMEM, "memory storage");
	store_init(&memory->store, &memory_ops, loop);
	memory->options = options ? *options : store_memory_defaults;
	pthread_mutex_init(&memory->lock, NULL);
	keymap_init(&memory->objects);
	keymap_init(&memory->sessions);
	memory->store.caps = (struct store_caps){
		.if_match = true,
		.write_if_match = true,
		.delete_if_match = true,
		.if_absent = true,
		.copy_if_absent = true,
		.sessions = true,
		.copy = true,
		.copy_part = true,
		.start_after = true,
		.user_mtime = true,
		.write_id = true,
		.properties = true,
		.part_min = memory->options.part_min,
		.part_max = memory->options.part_max,
		.parts_max = memory->options.parts_max,
		.put_max = memory->options.put_max,
		.copy_max = memory->options.copy_max,
		.delete_batch_max = STORE_DELETE_BATCH_MAX,
		.list_max = memory->options.list_max,
	};
	*out = &memory->store;
	return NULL;
}

/* ---- The other client; any thread ---- */

int store_memory_write(struct store *service, const char *key, const void *data, size_t len,
		       struct store_meta *meta)
{
	struct memory *memory = memory_of(service);
	struct memory_blob *blob;
	int err;

	if (strnlen(key, STORE_KEY_MAX + 1) > STORE_KEY_MAX)
		return -ENAMETOOLONG;
	pthread_mutex_lock(&memory->lock);
	err = memory_blob_new(memory, len, &blob);
	if (!err) {
		memcpy(blob->data, data, len);
		if (meta)
			*meta = blob->meta;
		err = memory_store_blob(memory, key, blob);
	}
	pthread_mutex_unlock(&memory->lock);
	return err;
}

int store_memory_read(struct store *service, const char *key, void *buf, size_t size,
		      struct store_meta *meta)
{
	struct memory *memory = memory_of(service);
	struct memory_blob *blob;

	pthread_mutex_lock(&memory->lock);
	blob = memory_lookup(memory, key);
	if (blob) {
		memcpy(buf, blob->data, (size_t)MIN(blob->meta.size, (uint64_t)size));
		if (meta)
			*meta = blob->meta;
	}
	pthread_mutex_unlock(&memory->lock);
	return blob ? 0 : -ENOENT;
}

int store_memory_remove(struct store *service, const char *key)
{
	struct memory *memory = memory_of(service);
	int err;

	pthread_mutex_lock(&memory->lock);
	err = memory_remove(memory, key);
	pthread_mutex_unlock(&memory->lock);
	return err;
}

struct store_memory_usage store_memory_usage(struct store *service)
{
	struct memory *memory = memory_of(service);
	struct store_memory_usage usage;

	pthread_mutex_lock(&memory->lock);
	usage = (struct store_memory_usage){
		.objects = memory->objects.count,
		.sessions = memory->sessions.count,
		.bytes = memory->bytes,
	};
	pthread_mutex_unlock(&memory->lock);
	return usage;
}
