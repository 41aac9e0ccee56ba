/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An ordered map from byte strings to pointers: what the memory service keeps
 * its objects and sessions in. A skip list: find, insert, remove and seek in
 * O(log n) expected, next in O(1), so that a page of a listing costs what it
 * returns however many keys there are.
 *
 * Keys are copied, values are the caller's. No locks: the caller's.
 */
#ifndef OVFS_STORE_SERVICES_KEYMAP_H
#define OVFS_STORE_SERVICES_KEYMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEYMAP_LEVELS 20 /* for a million keys and more */

struct keymap_node {
	void *value;
	const char *key; /* NUL-terminated beyond key_len */
	size_t key_len;
	struct keymap_node *next[]; /* one for each level of this node */
};

struct keymap {
	struct keymap_node *first[KEYMAP_LEVELS];
	uint64_t random;
	size_t count;
};

void keymap_init(struct keymap *map);

/* Frees the nodes, handing each value to @free_value. */
void keymap_destroy(struct keymap *map, void (*free_value)(void *value));

/* NULL when there is none. */
void *keymap_find(const struct keymap *map, const char *key, size_t key_len);

/* Sets the value of @key; *@old (NULL: there was none) goes back to the caller.
 * 0 or -ENOMEM, which changes nothing. */
int keymap_set(struct keymap *map, const char *key, size_t key_len, void *value, void **old);

/* Removes @key and returns its value, NULL when there is none. */
void *keymap_remove(struct keymap *map, const char *key, size_t key_len);

/* The first node whose key is not less than (@after: is greater than) @key. */
struct keymap_node *keymap_seek(const struct keymap *map, const char *key, size_t key_len,
				bool after);

/* The first node beyond all keys that begin with @prefix. */
struct keymap_node *keymap_seek_past(const struct keymap *map, const char *prefix,
				     size_t prefix_len);

static inline struct keymap_node *keymap_next(const struct keymap_node *node)
{
	return node->next[0];
}

#endif
