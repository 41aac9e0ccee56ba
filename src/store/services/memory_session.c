/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Write sessions of the memory service.
 *
 * As in S3, a commit that is refused leaves the session as it was, parts may be
 * sent again (the last one counts) and in any order, and parts that the commit does
 * not name are dropped.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/services/memory_internal.h"

#define SESSION_ID_LEN 16

struct memory_session {
	char id[SESSION_ID_LEN + 1];
	int64_t begun_ns;
	bool has_user_mtime;
	int64_t user_mtime_ns;
	char write_id[STORE_WRITE_ID_MAX];
	char *properties;
	size_t properties_len;
	uint32_t slots;		    /* of the array below */
	struct memory_blob **parts; /* by number - 1; NULL: not sent yet */
};

/* "KEY\0ID": sessions are listed by key, those of one key by age. */
struct session_key {
	char bytes[STORE_KEY_MAX + 1 + STORE_SESSION_MAX];
	size_t len;
};

static bool session_key_make(struct session_key *key, const char *object, const char *id)
{
	size_t object_len = strlen(object), id_len = strlen(id);

	if (object_len > STORE_KEY_MAX || id_len >= STORE_SESSION_MAX)
		return false;
	memcpy(key->bytes, object, object_len + 1);
	memcpy(key->bytes + object_len + 1, id, id_len);
	key->len = object_len + 1 + id_len;
	return true;
}

static struct memory_session *session_find(struct memory *memory, const struct store_op *op)
{
	struct session_key key;

	if (!session_key_make(&key, op->key, op->session))
		return NULL;
	return keymap_find(&memory->sessions, key.bytes, key.len);
}

static void session_free(struct memory *memory, struct memory_session *session)
{
	for (uint32_t i = 0; i < session->slots; i++)
		memory_blob_put(memory, session->parts[i]);
	free(session->parts);
	free(session->properties);
	free(session);
}

static void session_end(struct memory *memory, const struct store_op *op)
{
	struct session_key key;

	if (session_key_make(&key, op->key, op->session))
		session_free(memory, keymap_remove(&memory->sessions, key.bytes, key.len));
}

int memory_begin(struct memory *memory, struct store_op *op)
{
	struct memory_session *session = calloc(1, sizeof(*session));
	struct session_key key;
	void *old;
	int err;

	if (!session)
		return -ENOMEM;
	session->begun_ns = memory_wall_clock_ns();
	snprintf(session->id, sizeof(session->id), "%0*" PRIx64, SESSION_ID_LEN,
		 ++memory->sessions_begun);
	session->has_user_mtime = op->set_user_mtime;
	session->user_mtime_ns = op->user_mtime_ns;
	if (op->write_id)
		memcpy(session->write_id, op->write_id, strlen(op->write_id) + 1);
	if (op->properties)
		session->properties = memory_properties(op->properties->text, op->properties->len);
	session->properties_len = session->properties ? op->properties->len : 0;
	session_key_make(&key, op->key, session->id);
	err = keymap_set(&memory->sessions, key.bytes, key.len, session, &old);
	if (err) {
		session_free(memory, session);
		return err;
	}
	memcpy(op->session_out, session->id, sizeof(session->id));
	return 0;
}

/* Puts @blob, consumed in any case, in its place. */
static int session_store_part(struct memory *memory, struct memory_session *session,
			      struct store_op *op, struct memory_blob *blob)
{
	if (op->part_number > session->slots) {
		uint32_t slots = MAX(op->part_number, session->slots * 2);
		struct memory_blob **parts =
			reallocarray(session->parts, slots, sizeof(struct memory_blob *));

		if (!parts) {
			memory_blob_put(memory, blob);
			return -ENOMEM;
		}
		memset(parts + session->slots, 0,
		       (slots - session->slots) * sizeof(struct memory_blob *));
		session->parts = parts;
		session->slots = slots;
	}
	memory_blob_put(memory, session->parts[op->part_number - 1]);
	session->parts[op->part_number - 1] = blob;
	memcpy(op->meta.etag, blob->meta.etag, sizeof(op->meta.etag));
	return 0;
}

int memory_part(struct memory *memory, struct store_op *op)
{
	struct memory_session *session = session_find(memory, op);
	struct iov_cursor from = store_op_cursor(op);
	struct memory_blob *blob;
	int err;

	if (!session)
		return -ENOENT;
	err = memory_blob_new(memory, op->length, &blob);
	if (err)
		return err;
	iov_read(&from, blob->data, op->length);
	store_op_moved(op, op->length);
	return session_store_part(memory, session, op, blob);
}

int memory_copy_part(struct memory *memory, struct store_op *op)
{
	struct memory_session *session = session_find(memory, op);
	struct memory_blob *source, *blob;
	int err;

	if (!session)
		return -ENOENT;
	err = memory_copy_source(memory, op, &source);
	if (err)
		return err;
	if (op->offset > source->meta.size || op->length > source->meta.size - op->offset)
		return -EINVAL;
	err = memory_blob_new(memory, op->length, &blob);
	if (err)
		return err;
	memcpy(blob->data, source->data + op->offset, op->length);
	return session_store_part(memory, session, op, blob);
}

/* Whether the parts that a commit names are there and large enough; their size. */
static int session_check_parts(struct memory *memory, const struct memory_session *session,
			       const struct store_op *op, uint64_t *size)
{
	*size = 0;
	for (size_t i = 0; i < op->part_count; i++) {
		const struct store_part *named = &op->parts[i];
		const struct memory_blob *part =
			named->number <= session->slots ? session->parts[named->number - 1] : NULL;

		if (!part || strcmp(part->meta.etag, named->etag) != 0)
			return -EINVAL;
		if (i + 1 < op->part_count && part->meta.size < memory->options.part_min)
			return -EINVAL;
		*size += part->meta.size;
	}
	return 0;
}

int memory_commit(struct memory *memory, struct store_op *op)
{
	struct memory_session *session = session_find(memory, op);
	struct memory_blob *blob;
	unsigned char *to;
	uint64_t size;
	int err;

	if (!session)
		return -ENOENT;
	err = session_check_parts(memory, session, op, &size);
	if (!err)
		err = memory_check_write(memory, op);
	if (!err)
		err = memory_blob_new(memory, size, &blob);
	if (err)
		return err;
	to = blob->data;
	for (size_t i = 0; i < op->part_count; i++) {
		const struct memory_blob *part = session->parts[op->parts[i].number - 1];

		memcpy(to, part->data, part->meta.size);
		to += part->meta.size;
	}
	blob->meta.has_user_mtime = session->has_user_mtime;
	blob->meta.user_mtime_ns = session->user_mtime_ns;
	memcpy(blob->meta.write_id, session->write_id, sizeof(blob->meta.write_id));
	blob->properties = memory_properties(session->properties, session->properties_len);
	blob->properties_len = blob->properties ? session->properties_len : 0;
	op->meta = blob->meta;
	err = memory_store_blob(memory, op->key, blob);
	if (!err)
		session_end(memory, op);
	return err;
}

int memory_abort(struct memory *memory, struct store_op *op)
{
	if (!session_find(memory, op))
		return -ENOENT;
	session_end(memory, op);
	return 0;
}

/* The token of a page: the id of its last session and the key, "ID KEY". */
static struct keymap_node *list_sessions_first(struct memory *memory, const struct store_op *op)
{
	struct session_key key;
	char id[SESSION_ID_LEN + 1];

	if (!op->list.token)
		return keymap_seek(&memory->sessions, op->key, strlen(op->key), false);
	if (strlen(op->list.token) <= SESSION_ID_LEN)
		return NULL;
	memcpy(id, op->list.token, SESSION_ID_LEN);
	id[SESSION_ID_LEN] = '\0';
	if (!session_key_make(&key, op->list.token + SESSION_ID_LEN + 1, id))
		return NULL;
	return keymap_seek(&memory->sessions, key.bytes, key.len, true);
}

int memory_list_sessions(struct memory *memory, struct store_op *op)
{
	uint32_t limit = memory_page_rows(memory, op);
	struct keymap_node *node = list_sessions_first(memory, op);
	size_t prefix_len = strlen(op->key);

	op->list.page->truncated = false;
	for (uint32_t rows = 0; node; node = keymap_next(node), rows++) {
		struct memory_session *session = node->value;
		struct store_entry entry = { .key = node->key,
					     .key_len = strlen(node->key),
					     .session = session->id,
					     .meta.mtime_ns = session->begun_ns };

		if (strncmp(node->key, op->key, prefix_len) != 0)
			break;
		if (rows == limit) {
			op->list.page->truncated = true;
			break;
		}
		snprintf(op->list.page->token, sizeof(op->list.page->token), "%s %s", session->id,
			 node->key);
		store_op_entry(op, &entry);
	}
	return 0;
}

void memory_sessions_free(struct memory *memory)
{
	struct keymap_node *node;

	for (node = memory->sessions.first[0]; node; node = keymap_next(node)) {
		session_free(memory, node->value);
		node->value = NULL;
	}
	keymap_destroy(&memory->sessions, free);
}
