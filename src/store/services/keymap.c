/* SPDX-License-Identifier: Apache-2.0 */
#include "store/services/keymap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

void keymap_init(struct keymap *map)
{
	memset(map, 0, sizeof(*map));
	map->random = 0x9e3779b97f4a7c15ull;
}

void keymap_destroy(struct keymap *map, void (*free_value)(void *value))
{
	struct keymap_node *node = map->first[0];

	while (node) {
		struct keymap_node *next = node->next[0];

		free_value(node->value);
		free(node);
		node = next;
	}
	keymap_init(map);
}

/* A quarter of the nodes of each level are on the next one, too. */
static unsigned keymap_random_levels(struct keymap *map)
{
	unsigned levels = 1;
	uint64_t bits;

	map->random ^= map->random << 13;
	map->random ^= map->random >> 7;
	map->random ^= map->random << 17;
	for (bits = map->random; levels < KEYMAP_LEVELS && (bits & 3) == 0; bits >>= 2)
		levels++;
	return levels;
}

/* Before, at, behind @key in byte order: < 0, 0, > 0. */
static int keymap_compare(const struct keymap_node *node, const char *key, size_t key_len)
{
	int order = memcmp(node->key, key, MIN(node->key_len, key_len));

	if (order)
		return order;
	return (node->key_len > key_len) - (node->key_len < key_len);
}

/*
 * Walks to the last node before @key (@after: not behind it) and returns its
 * links, map->first when there is none. @path, if not NULL, gets for each level
 * the link that has to change for an insertion or removal at this place.
 */
static struct keymap_node *const *keymap_walk(const struct keymap *map, const char *key,
					      size_t key_len, bool after,
					      struct keymap_node **path[KEYMAP_LEVELS])
{
	struct keymap_node *const *links = map->first;

	for (unsigned level = KEYMAP_LEVELS; level-- > 0;) {
		while (links[level]) {
			int order = keymap_compare(links[level], key, key_len);

			if (order > 0 || (order == 0 && !after))
				break;
			links = links[level]->next;
		}
		if (path)
			path[level] = (struct keymap_node **)&links[level];
	}
	return links;
}

static bool keymap_is(const struct keymap_node *node, const char *key, size_t key_len)
{
	return node && keymap_compare(node, key, key_len) == 0;
}

void *keymap_find(const struct keymap *map, const char *key, size_t key_len)
{
	struct keymap_node *node = keymap_walk(map, key, key_len, false, NULL)[0];

	return keymap_is(node, key, key_len) ? node->value : NULL;
}

int keymap_set(struct keymap *map, const char *key, size_t key_len, void *value, void **old)
{
	struct keymap_node **path[KEYMAP_LEVELS], *node;
	unsigned levels;
	char *copy;

	keymap_walk(map, key, key_len, false, path);
	node = *path[0];
	if (keymap_is(node, key, key_len)) {
		*old = node->value;
		node->value = value;
		return 0;
	}
	*old = NULL;
	levels = keymap_random_levels(map);
	node = malloc(sizeof(*node) + levels * sizeof(node->next[0]) + key_len + 1);
	if (!node)
		return -ENOMEM;
	copy = (char *)&node->next[levels];
	memcpy(copy, key, key_len);
	copy[key_len] = '\0';
	node->key = copy;
	node->key_len = key_len;
	node->value = value;
	for (unsigned level = 0; level < levels; level++) {
		node->next[level] = *path[level];
		*path[level] = node;
	}
	map->count++;
	return 0;
}

void *keymap_remove(struct keymap *map, const char *key, size_t key_len)
{
	struct keymap_node **path[KEYMAP_LEVELS], *node;
	void *value;

	keymap_walk(map, key, key_len, false, path);
	node = *path[0];
	if (!keymap_is(node, key, key_len))
		return NULL;
	for (unsigned level = 0; level < KEYMAP_LEVELS && *path[level] == node; level++)
		*path[level] = node->next[level];
	value = node->value;
	free(node);
	map->count--;
	return value;
}

struct keymap_node *keymap_seek(const struct keymap *map, const char *key, size_t key_len,
				bool after)
{
	return keymap_walk(map, key, key_len, after, NULL)[0];
}

/* Whether @node comes before or among the keys that begin with @prefix. */
static bool keymap_not_past(const struct keymap_node *node, const char *prefix, size_t prefix_len)
{
	int order = memcmp(node->key, prefix, MIN(node->key_len, prefix_len));

	return order <= 0;
}

struct keymap_node *keymap_seek_past(const struct keymap *map, const char *prefix,
				     size_t prefix_len)
{
	struct keymap_node *const *links = map->first;

	for (unsigned level = KEYMAP_LEVELS; level-- > 0;) {
		while (links[level] && keymap_not_past(links[level], prefix, prefix_len))
			links = links[level]->next;
	}
	return links[0];
}
