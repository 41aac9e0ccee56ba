/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listings of the memory service.
 *
 * The token of the next page says what the last row was: 'k' and its key, or 'p'
 * and its common prefix, beyond all keys of which the next page begins.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/services/memory_internal.h"

/* Where the page begins, whatever the prefix. -EINVAL: not a token of ours. */
static int list_first(struct memory *memory, const struct store_op *op, struct keymap_node **first)
{
	const struct keymap *objects = &memory->objects;
	const char *token = op->list.token, *after = op->list.start_after;
	size_t prefix_len = strlen(op->key);

	if (token) {
		if (*token != 'k' && *token != 'p')
			return -EINVAL;
		*first = *token == 'k' ? keymap_seek(objects, token + 1, strlen(token + 1), true)
				       : keymap_seek_past(objects, token + 1, strlen(token + 1));
		return 0;
	}
	if (after && strcmp(after, op->key) >= 0)
		*first = keymap_seek(objects, after, strlen(after), true);
	else
		*first = keymap_seek(objects, op->key, prefix_len, false);
	return 0;
}

/* The length of the common prefix that stands for @node; 0: it stands for itself. */
static size_t list_prefix_len(const struct store_op *op, const struct keymap_node *node,
			      size_t prefix_len)
{
	const char *found;

	if (!op->list.delimiter || !*op->list.delimiter)
		return 0;
	found = strstr(node->key + prefix_len, op->list.delimiter);
	return found ? (size_t)(found - node->key) + strlen(op->list.delimiter) : 0;
}

static void list_remember(struct store_page *page, char kind, const char *key, size_t key_len)
{
	page->token[0] = kind;
	memcpy(page->token + 1, key, key_len);
	page->token[1 + key_len] = '\0';
}

int memory_list(struct memory *memory, struct store_op *op)
{
	uint32_t limit = memory_page_rows(memory, op);
	size_t prefix_len = strlen(op->key);
	struct keymap_node *node;
	int err = list_first(memory, op, &node);

	if (err)
		return err;
	op->list.page->truncated = false;
	for (uint32_t rows = 0; node && strncmp(node->key, op->key, prefix_len) == 0; rows++) {
		struct store_entry entry = { .key = node->key, .key_len = node->key_len };
		size_t common = list_prefix_len(op, node, prefix_len);

		if (rows == limit) {
			op->list.page->truncated = true;
			break;
		}
		if (common) {
			entry.key_len = common;
			entry.is_prefix = true;
		} else {
			const struct memory_blob *blob = node->value;

			entry.meta = blob->meta;
			entry.meta.has_user_mtime = false;
			entry.meta.user_mtime_ns = 0;
			entry.meta.write_id[0] = '\0';
		}
		list_remember(op->list.page, common ? 'p' : 'k', entry.key, entry.key_len);
		store_op_entry(op, &entry);
		node = common ? keymap_seek_past(&memory->objects, node->key, common)
			      : keymap_next(node);
	}
	return 0;
}
