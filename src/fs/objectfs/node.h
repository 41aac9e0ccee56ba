/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tree: what is known of names and of what they lead to.
 *
 * One tree belongs to the driver; all its sessions walk in it. A node stands for a
 * name in a directory, not for an object: its key is the chain of names up to the root, so
 * the rename of a directory moves one node and all below follow. The number that a guest
 * gets (nodeid) is index and generation of the node's slot.
 *
 * Life: a node exists while somebody refers to it: a session whose guest was given its
 * number, its children, open handles, requests under way, and itself as long as it has
 * changes that the storage lacks (NODE_KEPT); some directories also for their pages (NODE_LISTED).
 * Names leave the index when they
 * are removed (NODE_GONE); the node stays for its holders.
 *
 * Memory: sizeof(struct node) is at most 208 bytes; with the name (malloc), its place in
 * the index and in its session's table a known inode takes at most 300 (node.c asserts it).
 *
 * Locks: tree.lock, a mutex, covers everything here but what is marked. It is held for
 * a few hash look-ups and a walk through the pages of a directory, for a thousand when a listing
 * comes in, and for the nodes below a directory that is renamed; never during a
 * request to the storage. READ and WRITE do not take it. One lock for all: a metadata operation
 * takes some microseconds at the least on its way through a virtqueue, and less than half of
 * one here.
 * Inside of it: locks of the cache (cache_file_info(), cache_file_peek(), ..._put()).
 */
#ifndef OVFS_FS_OBJECTFS_NODE_H
#define OVFS_FS_OBJECTFS_NODE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "cache/cache.h"
#include "fs/slots.h"
#include "store/operator.h"

#define NODES_MAX (1u << 27)

enum {
	NODE_DIR = 1 << 0,
	NODE_GONE = 1 << 1,	  /* no name leads here any more */
	NODE_UNLISTED = 1 << 2,	  /* came from elsewhere than a listing: see listed_ns */
	NODE_KEPT = 1 << 3,	  /* holds itself: has changes that the storage lacks */
	NODE_MOVING = 1 << 4,	  /* directory: being renamed, nothing may change below */
	NODE_MARKER = 1 << 5,	  /* directory: has a marker */
	NODE_NO_MARKER = 1 << 6,  /* directory: had none when we looked; neither: not known */
	NODE_USER_MTIME = 1 << 7, /* file: mtime_ns is the object's user mtime, or our own */
	NODE_BUSY = 1 << 8,	  /* directory: its names are being changed */
	NODE_CHANGED = 1 << 9,	  /* file: has been another version since the node was made */
	NODE_FOUND = 1 << 10,	  /* UNLISTED: the storage had it when it was asked, at listed_ns */
	NODE_LISTED = 1 << 11,	  /* directory: held for its pages, see session.c */
};

struct dir_pages;

struct node {
	struct slot slot;
	uint32_t parent; /* indices; 0: none. The parent of a GONE one stays, for its ref */
	uint32_t hash_next;
	uint32_t first_child, next_sibling, prev_sibling;
	uint32_t refs;
	uint32_t opens;	     /* handles, of all sessions */
	uint32_t changing;   /* directory: operations that change something in or below it */
	uint32_t writer;     /* file: number of the session that wrote last; 0: see node_opened() */
	uint32_t writes;     /* file: changes of writer */
	uint32_t error_seen; /* file: by open(), see cache_file_error() */
	uint16_t flags;
	uint16_t name_len;
	uint32_t hash;
	char *name; /* NUL-terminated; "" for the root */
	uint64_t ino;
	uint64_t fetched_ns; /* when the storage, or we, last said that it is so; 0: never */
	uint64_t listed_ns;  /* UNLISTED: since when listings show it; 0: none does */
	int64_t mtime_ns;
	union {
		struct {
			uint64_t size;
			struct cache_file *file; /* while open or dirty */
			char etag[STORE_ETAG_MAX];
		};
		struct dir_pages *pages; /* listing.h's; NULL: none */
	};
};

struct tree {
	pthread_mutex_t lock;
	struct slots slots;
	struct node *root; /* always there, with nodeid 1 */
	uint32_t *buckets; /* heads of chains of indices */
	uint32_t mask, count;
	uint64_t seed;
	pthread_cond_t moved;	       /* NODE_MOVING went, changing fell to 0, bursting ended */
	pthread_mutex_t rename_lock;   /* outside of lock: one directory rename at a time */
	struct list claims, inquiries; /* claim.h */
	struct list page_lru;	       /* listing.c's: retained pages, oldest first */
	uint64_t page_rows;	       /* in them, see page.charge */
	struct negative *negative;     /* lookup.c's table of missing names */
};

/* 0 or -ENOMEM. */
int tree_init(struct tree *t, int64_t root_mtime_ns);
void tree_fini(struct tree *t);

static inline void tree_lock(struct tree *t)
{
	pthread_mutex_lock(&t->lock);
}

static inline void tree_unlock(struct tree *t)
{
	pthread_mutex_unlock(&t->lock);
}

static inline bool node_is(const struct node *n, unsigned flags)
{
	return n->flags & flags;
}

/* ---- All below: tree.lock is held, unless it says otherwise. ---- */

static inline struct node *node_peek(const struct tree *t, uint32_t index)
{
	return slot_peek(&t->slots, index);
}

/* By nodeid, with a reference; NULL for ESTALE. */
struct node *node_get(struct tree *t, uint64_t nodeid);
/* The same for who does not hold the lock. */
struct node *node_get_unlocked(struct tree *t, uint64_t nodeid);
static inline void node_hold(struct node *n)
{
	n->refs++;
}
void node_put(struct tree *t, struct node *n);
void node_put_unlocked(struct tree *t, struct node *n);

static inline uint64_t node_id(const struct node *n)
{
	return slot_id(n);
}

/* The child of that name, without a reference; NULL when none is known. */
struct node *node_find(struct tree *t, const struct node *parent, const char *name, size_t len);

/* A new child, without references: the caller takes one (or says node_reap()). NULL: no memory.
 * @flags: NODE_DIR or 0. There is none of that name. */
struct node *node_add(struct tree *t, struct node *parent, const char *name, size_t len,
		      unsigned flags);

/* Frees @n if nobody refers to it. */
void node_reap(struct tree *t, struct node *n);

/* The name is gone; @n stays for its holders. */
void node_remove(struct tree *t, struct node *n);

/* To another directory and name, where there is none. -ENOMEM, before anything changed. */
int node_move(struct tree *t, struct node *n, struct node *parent, const char *name, size_t len);

/* Whether @n is @ancestor or below it. */
bool node_below(const struct tree *t, const struct node *n, const struct node *ancestor);

/*
 * The key of @n, NUL-terminated, for a directory with the slash at its end ("" for the root),
 * @name (may be NULL) appended. Returns its length or -ENAMETOOLONG.
 */
#define NODE_KEY_SIZE (STORE_KEY_MAX + 1)
int node_key(const struct tree *t, const struct node *n, const char *name, size_t len,
	     char key[static NODE_KEY_SIZE]);

/* What an object was just (at @seen_ns) found to be. Where the version is the one known,
 * a user mtime that @meta lacks is kept. */
void node_set_meta(struct node *n, const struct store_meta *meta, uint64_t seen_ns);
/* What is known, for cache_file_get(). */
void node_meta(const struct node *n, struct store_meta *meta);

/* Calls @fn for @n and all below it. */
void node_walk(struct tree *t, struct node *n, void (*fn)(struct node *n, void *arg), void *arg);

/* ---- Who may change what at one time; all of these block, and are called without the lock ----
 *
 * A guest's kernel lets one at a time change the names in a directory; several guests
 * share our tree, so we do the same: tree_names_begin(). Who changes only what is behind names
 * (commits) says tree_change_begin(). Of both, any number may be at work
 * in different directories; but a directory that is being renamed waits until nobody is
 * at work in or below it, and lets nobody begin. What is asked meanwhile: claim.h. A directory
 * in which somebody is at work is not found missing by a LOOKUP (lookup.c).
 */
void tree_change_begin(struct tree *t, struct node *dir);
void tree_change_end(struct tree *t, struct node *dir);
/* @other: another directory (or the same, or NULL), at once, not one after the other. 0, and
 * neither goes from the tree until tree_names_end(); or -ENOENT when one has gone, -ENOTDIR. */
int tree_names_begin(struct tree *t, struct node *dir, struct node *other);
void tree_names_end(struct tree *t, struct node *dir, struct node *other);
/* Also @child, a directory, for who has its parent, until tree_names_end(child, NULL). -ENOENT. */
int tree_names_also(struct tree *t, struct node *child);
/* With rename_lock and the names of its parent. */
void tree_move_begin(struct tree *t, struct node *dir);
void tree_move_end(struct tree *t, struct node *dir);
/* Whether @n or a directory above is being moved; tree.lock is held. */
bool tree_moving(const struct tree *t, const struct node *n);

#endif
