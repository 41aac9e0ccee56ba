/* SPDX-License-Identifier: Apache-2.0 */
/* #syscalls getrandom */
#include "fs/objectfs/node.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/util.h"
#include "fs/objectfs/claim.h"
#include "fs/objectfs/listing.h"
#include "fs/objectfs/names.h"

#define BUCKETS_MIN 1024u

/*
 * What an inode costs: the node, a name of 24 bytes with malloc's head, two bucket heads (the
 * index is between half and fully loaded), and the session's record (struct known).
 * Longer names cost what they are longer.
 */
#define NODE_COST (sizeof(struct node) + 32 + 2 * sizeof(uint32_t) + 24)
_Static_assert(sizeof(struct node) <= 208 && NODE_COST <= 300, "bytes for each inode");

int tree_init(struct tree *t, int64_t root_mtime_ns)
{
	struct node *root;

	memset(t, 0, sizeof(*t));
	slots_init(&t->slots, sizeof(struct node), NODES_MAX);
	pthread_mutex_init(&t->lock, NULL);
	pthread_mutex_init(&t->rename_lock, NULL);
	pthread_cond_init(&t->moved, NULL);
	list_init(&t->page_lru);
	list_init(&t->claims);
	list_init(&t->inquiries);
	if (getrandom(&t->seed, sizeof(t->seed), 0) != sizeof(t->seed))
		t->seed = (uintptr_t)t;
	t->buckets = calloc(BUCKETS_MIN, sizeof(t->buckets[0]));
	t->mask = BUCKETS_MIN - 1;
	root = slot_alloc(&t->slots);
	if (!t->buckets || !root)
		return -ENOMEM;
	root->name = strdup("");
	root->flags = NODE_DIR | NODE_MARKER;
	root->ino = 1;
	root->refs = 1;
	root->mtime_ns = root_mtime_ns;
	t->root = root;
	slot_publish(root);
	return root->name ? 0 : -ENOMEM;
}

static void node_teardown(struct tree *t, struct node *n)
{
	if (node_is(n, NODE_DIR))
		dir_pages_free(t, n);
	else if (n->file)
		cache_file_put(n->file);
	free(n->name);
	n->name = NULL;
}

void tree_fini(struct tree *t)
{
	uint32_t used = atomic_load(&t->slots.used);

	for (uint32_t i = 1; i < used; i++) {
		struct node *n = node_peek(t, i);

		if (slot_live(n))
			node_teardown(t, n);
	}
	free(t->buckets);
	pthread_cond_destroy(&t->moved);
	pthread_mutex_destroy(&t->rename_lock);
	pthread_mutex_destroy(&t->lock);
	slots_fini(&t->slots);
}

/* ---- The index ---- */

static uint32_t node_hash(const struct tree *t, uint32_t parent, const char *name, size_t len)
{
	return (uint32_t)name_hash(name, len, t->seed ^ parent);
}

/* Doubles the buckets; failing to is only slower. */
static void index_grow(struct tree *t)
{
	uint32_t old = t->mask + 1, mask = old * 2 - 1;
	uint32_t *buckets;

	if (t->count <= old || old >= NODES_MAX)
		return;
	buckets = calloc((size_t)mask + 1, sizeof(buckets[0]));
	if (!buckets)
		return;
	for (uint32_t b = 0; b < old; b++) {
		uint32_t index = t->buckets[b];

		while (index) {
			struct node *n = node_peek(t, index);
			uint32_t next = n->hash_next;

			n->hash_next = buckets[n->hash & mask];
			buckets[n->hash & mask] = index;
			index = next;
		}
	}
	free(t->buckets);
	t->buckets = buckets;
	t->mask = mask;
}

static void index_insert(struct tree *t, struct node *n)
{
	uint32_t *head;

	t->count++;
	index_grow(t);
	n->hash = node_hash(t, n->parent, n->name, n->name_len);
	head = &t->buckets[n->hash & t->mask];
	n->hash_next = *head;
	*head = n->slot.index;
}

static void index_remove(struct tree *t, struct node *n)
{
	uint32_t *link = &t->buckets[n->hash & t->mask];

	while (*link != n->slot.index)
		link = &node_peek(t, *link)->hash_next;
	*link = n->hash_next;
	t->count--;
}

struct node *node_find(struct tree *t, const struct node *parent, const char *name, size_t len)
{
	uint32_t hash = node_hash(t, parent->slot.index, name, len);
	uint32_t index = t->buckets[hash & t->mask];

	while (index) {
		struct node *n = node_peek(t, index);

		if (n->hash == hash && n->parent == parent->slot.index && n->name_len == len &&
		    !memcmp(n->name, name, len))
			return n;
		index = n->hash_next;
	}
	return NULL;
}

/* ---- Links ---- */

/* Puts @n under its parent and into the index. */
static void node_link(struct tree *t, struct node *n, struct node *parent)
{
	n->parent = parent->slot.index;
	n->prev_sibling = 0;
	n->next_sibling = parent->first_child;
	if (n->next_sibling)
		node_peek(t, n->next_sibling)->prev_sibling = n->slot.index;
	parent->first_child = n->slot.index;
	index_insert(t, n);
}

/* Takes @n out from under its parent, which keeps the reference. */
static void node_unlink(struct tree *t, struct node *n, struct node *parent)
{
	index_remove(t, n);
	if (n->prev_sibling)
		node_peek(t, n->prev_sibling)->next_sibling = n->next_sibling;
	else
		parent->first_child = n->next_sibling;
	if (n->next_sibling)
		node_peek(t, n->next_sibling)->prev_sibling = n->prev_sibling;
	n->next_sibling = n->prev_sibling = 0;
}

struct node *node_get(struct tree *t, uint64_t nodeid)
{
	struct node *n = node_peek(t, (uint32_t)nodeid);

	if (!n || !slot_live(n) || slot_id(n) != nodeid)
		return NULL;
	n->refs++;
	return n;
}

struct node *node_get_unlocked(struct tree *t, uint64_t nodeid)
{
	struct node *n;

	tree_lock(t);
	n = node_get(t, nodeid);
	tree_unlock(t);
	return n;
}

/* Nobody refers to @n: its memory goes back. Returns the parent, which lost a reference. */
static struct node *node_free(struct tree *t, struct node *n)
{
	struct node *parent = node_peek(t, n->parent);

	if (!node_is(n, NODE_GONE)) {
		/* A name that is ours and that no listing showed would be thought missing. */
		if (node_is(n, NODE_UNLISTED))
			dir_pages_forget(parent, n->listed_ns);
		/* Nobody will know of the new version but the storage: what was listed before
		 * must not bring the old one back. */
		if (node_is(n, NODE_CHANGED))
			dir_pages_changed(parent, n);
		node_unlink(t, n, parent);
	}
	node_teardown(t, n);
	slot_kill(n, slot_id(n));
	slot_put(n);
	slot_free(&t->slots, n);
	return parent;
}

void node_reap(struct tree *t, struct node *n)
{
	while (!n->refs) {
		n = node_free(t, n);
		n->refs--;
	}
}

void node_put(struct tree *t, struct node *n)
{
	n->refs--;
	node_reap(t, n);
}

void node_put_unlocked(struct tree *t, struct node *n)
{
	tree_lock(t);
	node_put(t, n);
	tree_unlock(t);
}

struct node *node_add(struct tree *t, struct node *parent, const char *name, size_t len,
		      unsigned flags)
{
	struct node *n = slot_alloc(&t->slots);
	struct slot slot;

	if (!n)
		return NULL;
	slot = n->slot;
	/* The slot's state may be looked at by slot_live(), under the lock too: no atomics. */
	memset((char *)n + sizeof(slot), 0, sizeof(*n) - sizeof(slot));
	n->name = strndup(name, len);
	if (!n->name) {
		slot_free(&t->slots, n);
		return NULL;
	}
	n->name_len = (uint16_t)len;
	n->flags = (uint16_t)flags;
	n->ino = name_ino(parent->ino, name, len);
	node_link(t, n, parent);
	node_hold(parent);
	slot_publish(n);
	return n;
}

void node_remove(struct tree *t, struct node *n)
{
	if (node_is(n, NODE_GONE) || n == t->root)
		return;
	node_unlink(t, n, node_peek(t, n->parent));
	n->flags |= NODE_GONE;
}

static void node_number(struct node *n, void *arg)
{
	const struct tree *t = arg;

	n->ino = name_ino(node_peek(t, n->parent)->ino, n->name, n->name_len);
}

int node_move(struct tree *t, struct node *n, struct node *parent, const char *name, size_t len)
{
	char *copy = strndup(name, len);
	struct node *former = node_peek(t, n->parent);

	if (!copy)
		return -ENOMEM;
	node_unlink(t, n, former);
	free(n->name);
	n->name = copy;
	n->name_len = (uint16_t)len;
	node_link(t, n, parent);
	node_hold(parent);
	n->flags |= NODE_UNLISTED;
	n->flags &= (uint16_t)~NODE_FOUND;
	n->listed_ns = 0;
	node_walk(t, n, node_number, t);
	node_put(t, former);
	return 0;
}

bool node_below(const struct tree *t, const struct node *n, const struct node *ancestor)
{
	for (; n; n = node_peek(t, n->parent))
		if (n == ancestor)
			return true;
	return false;
}

void node_walk(struct tree *t, struct node *top, void (*fn)(struct node *n, void *arg), void *arg)
{
	struct node *n = top;

	for (;;) {
		fn(n, arg);
		if (n->first_child) {
			n = node_peek(t, n->first_child);
			continue;
		}
		while (n != top && !n->next_sibling)
			n = node_peek(t, n->parent);
		if (n == top)
			return;
		n = node_peek(t, n->next_sibling);
	}
}

int node_key(const struct tree *t, const struct node *n, const char *name, size_t len,
	     char key[static NODE_KEY_SIZE])
{
	size_t pos = STORE_KEY_MAX, total;

	/* From the end of the buffer to the front, then moved into place. */
	key[pos] = '\0';
	if (name) {
		if (len > pos)
			return -ENAMETOOLONG;
		pos -= len;
		memcpy(key + pos, name, len);
	}
	for (; n->name_len; n = node_peek(t, n->parent)) {
		size_t slash = node_is(n, NODE_DIR);

		if (n->name_len + slash > pos)
			return -ENAMETOOLONG;
		if (slash)
			key[--pos] = '/';
		pos -= n->name_len;
		memcpy(key + pos, n->name, n->name_len);
	}
	total = STORE_KEY_MAX - pos;
	memmove(key, key + pos, total + 1);
	return (int)total;
}

/* ---- Attributes ---- */

void node_set_meta(struct node *n, const struct store_meta *meta, uint64_t seen_ns)
{
	bool same = meta->etag[0] && !strcmp(n->etag, meta->etag);

	if (n->fetched_ns > seen_ns)
		return; /* something newer is known */
	if (n->etag[0] && !same)
		n->flags |= NODE_CHANGED;
	n->fetched_ns = seen_ns;
	n->size = meta->size;
	memcpy(n->etag, meta->etag, sizeof(n->etag));
	if (meta->has_user_mtime) {
		n->mtime_ns = meta->user_mtime_ns;
		n->flags |= NODE_USER_MTIME;
	} else if (!same || !node_is(n, NODE_USER_MTIME)) {
		n->mtime_ns = meta->mtime_ns;
		n->flags &= (uint16_t)~NODE_USER_MTIME;
	}
}

void node_meta(const struct node *n, struct store_meta *meta)
{
	*meta = (struct store_meta){ .size = n->size, .mtime_ns = n->mtime_ns };
	if (node_is(n, NODE_USER_MTIME)) {
		meta->has_user_mtime = true;
		meta->user_mtime_ns = n->mtime_ns;
	}
	memcpy(meta->etag, n->etag, sizeof(meta->etag));
}

/* ---- Changes and moves ---- */

bool tree_moving(const struct tree *t, const struct node *n)
{
	for (; n; n = node_peek(t, n->parent))
		if (node_is(n, NODE_MOVING))
			return true;
	return false;
}

/* The chain is what it was at the beginning when it ends: nothing in it moves meanwhile. A file may
 * be moved at any time: who takes one for a directory changes nothing, and is not counted. */
static void node_changing(struct tree *t, struct node *n, uint32_t by)
{
	if (n && !node_is(n, NODE_DIR))
		return;
	for (; n; n = node_peek(t, n->parent)) {
		n->changing += by;
		if (!n->changing)
			pthread_cond_broadcast(&t->moved);
	}
}

void tree_change_begin(struct tree *t, struct node *dir)
{
	tree_lock(t);
	while (tree_moving(t, dir))
		pthread_cond_wait(&t->moved, &t->lock);
	node_changing(t, dir, 1);
	tree_unlock(t);
}

void tree_change_end(struct tree *t, struct node *dir)
{
	tree_lock(t);
	node_changing(t, dir, UINT32_MAX);
	tree_unlock(t);
}

static bool names_taken(const struct tree *t, const struct node *dir)
{
	return dir && (node_is(dir, NODE_BUSY) || tree_moving(t, dir));
}

/* 0, or why no names can be changed in @dir: it may have gone while it was waited for. */
static int names_refused(const struct node *dir)
{
	if (!dir)
		return 0;
	return !node_is(dir, NODE_DIR) ? -ENOTDIR : node_is(dir, NODE_GONE) ? -ENOENT : 0;
}

static void names_take(struct tree *t, struct node *dir)
{
	if (!dir)
		return;
	node_changing(t, dir, 1);
	dir->flags |= NODE_BUSY;
	inquiries_stir(t, dir);
}

/* Both at once: who has one and waits for the other could wait for a move that waits for him. */
int tree_names_begin(struct tree *t, struct node *dir, struct node *other)
{
	int ret;

	if (other == dir)
		other = NULL;
	tree_lock(t);
	while (names_taken(t, dir) || names_taken(t, other))
		pthread_cond_wait(&t->moved, &t->lock);
	ret = names_refused(dir);
	if (!ret)
		ret = names_refused(other);
	if (!ret) {
		names_take(t, dir);
		names_take(t, other);
	}
	tree_unlock(t);
	return ret;
}

void tree_names_end(struct tree *t, struct node *dir, struct node *other)
{
	if (other == dir)
		other = NULL;
	tree_lock(t);
	dir->flags &= (uint16_t)~NODE_BUSY;
	if (other)
		other->flags &= (uint16_t)~NODE_BUSY;
	node_changing(t, dir, UINT32_MAX);
	node_changing(t, other, UINT32_MAX);
	pthread_cond_broadcast(&t->moved);
	tree_unlock(t);
}

/*
 * Whoever waits to move something above waits for the caller, so that must not be waited for
 * here. And whoever has @child is either deeper down, too, or has all that he needs.
 */
int tree_names_also(struct tree *t, struct node *child)
{
	int ret;

	tree_lock(t);
	while (node_is(child, NODE_BUSY))
		pthread_cond_wait(&t->moved, &t->lock);
	ret = names_refused(child);
	if (!ret)
		names_take(t, child);
	tree_unlock(t);
	return ret;
}

void tree_move_begin(struct tree *t, struct node *dir)
{
	tree_lock(t);
	dir->flags |= NODE_MOVING;
	while (dir->changing)
		pthread_cond_wait(&t->moved, &t->lock);
	tree_unlock(t);
}

void tree_move_end(struct tree *t, struct node *dir)
{
	tree_lock(t);
	dir->flags &= (uint16_t)~NODE_MOVING;
	pthread_cond_broadcast(&t->moved);
	tree_unlock(t);
}
