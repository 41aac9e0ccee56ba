/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node and what the cache has of its file.
 *
 * While a file is open, or has changes that the storage lacks, its node refers to the
 * cached file, and that is where its size and times come from. Afterwards the node
 * has them itself, until they are too old.
 *
 * With write-back, changes outlive the last close, and may outlive the guest's memory of the
 * inode. Such a node holds itself (NODE_KEPT), so that READDIR finds a new file that no
 * listing shows yet. Once a second at most, when something is released, those that have
 * been committed are let go.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "fs/objectfs/claim.h"
#include "fs/objectfs/internal.h"

static void file_drop(struct node *n)
{
	cache_file_put(n->file);
	n->file = NULL;
}

static bool file_claimed(const struct tree *t, const struct node *n)
{
	return claim_is(t, node_peek(t, n->parent), n->name, n->name_len);
}

bool file_digest(struct objectfs *fs, struct node *n)
{
	struct cache_file_info info;
	bool kept, ours;

	if (!n->file)
		return false;
	cache_file_info(n->file, &info);
	/* What a rename is about to replace is to be as it was should that fail. */
	kept = info.stale && !node_is(n, NODE_GONE) && file_claimed(&fs->tree, n);
	if (info.stale && !node_is(n, NODE_GONE) && !kept) {
		file_drop(n); /* those who have it open have a reference of their own */
		return false;
	}
	ours = info.dirty || info.created || kept;
	if (!ours && strcmp(info.etag, n->etag) != 0) {
		/* A commit made it, and we know its time. */
		n->flags |= NODE_USER_MTIME | NODE_CHANGED;
		memcpy(n->etag, info.etag, sizeof(n->etag));
	}
	if (!ours)
		n->fetched_ns = MAX(n->fetched_ns, info.validated_ns);
	n->size = info.size;
	n->mtime_ns = info.mtime_ns;
	if (!ours && !n->opens && !node_is(n, NODE_GONE))
		file_drop(n);
	return ours;
}

/* Being renamed: the cached file may have the new key already, and the node has the old one yet. */
static bool file_in_motion(struct objectfs *fs, struct node *n)
{
	const struct tree *t = &fs->tree;

	return tree_moving(t, n) || file_claimed(t, n);
}

void objectfs_file_seen(struct objectfs *fs, struct node *n, const struct store_meta *meta,
			uint64_t seen_ns)
{
	char key[NODE_KEY_SIZE];
	struct cache_file *f;

	if (node_is(n, NODE_GONE) || file_digest(fs, n) || (n->file && file_in_motion(fs, n)))
		return;
	if (n->file && node_key(&fs->tree, n, NULL, 0, key) >= 0) {
		f = cache_file_get(fs->cache, key, meta, seen_ns);
		if (f == n->file && strcmp(meta->etag, n->etag) != 0) {
			cache_file_put(f); /* the cache knows something newer than this */
			return;
		}
		if (f) {
			file_drop(n);
			n->file = f;
		}
	}
	node_set_meta(n, meta, seen_ns);
}

int file_get(struct objectfs *fs, struct node *n, struct cache_file **out)
{
	char key[NODE_KEY_SIZE];
	struct store_meta meta;

	file_digest(fs, n);
	/* A new file that was removed, or is being, has no version that commits could depend on. */
	if (!n->file && (node_is(n, NODE_GONE) || (!n->fetched_ns && !*n->etag)))
		return -ESTALE;
	if (!n->file) {
		if (node_key(&fs->tree, n, NULL, 0, key) < 0)
			return -ENAMETOOLONG;
		node_meta(n, &meta);
		n->file = cache_file_get(fs->cache, key, &meta, n->fetched_ns);
	}
	if (!n->file)
		return -ENOMEM;
	*out = cache_file_ref(n->file);
	return 0;
}

bool file_cached(struct objectfs *fs, struct node *n)
{
	char key[NODE_KEY_SIZE];
	struct cache_file *f;

	if (node_is(n, NODE_DIR | NODE_GONE) || node_key(&fs->tree, n, NULL, 0, key) < 0)
		return false;
	f = cache_file_peek(fs->cache, key);
	if (f)
		cache_file_put(f);
	return f;
}

void file_overtakes(struct objectfs *fs, struct node *n)
{
	char key[NODE_KEY_SIZE];
	struct cache_file_info info;

	if (n->file || node_key(&fs->tree, n, NULL, 0, key) < 0)
		return;
	n->file = cache_file_peek(fs->cache, key);
	if (!n->file)
		return;
	cache_file_info(n->file, &info);
	if (info.stale || info.validated_ns <= n->fetched_ns)
		file_drop(n);
	else
		file_settle(fs, n);
}

struct node *file_find_ours(struct objectfs *fs, struct node *parent, const char *name, size_t len)
{
	char key[NODE_KEY_SIZE];
	struct cache_file_info info;
	struct cache_file *f;
	struct node *n;

	if (node_key(&fs->tree, parent, name, len, key) < 0)
		return NULL;
	f = cache_file_peek(fs->cache, key);
	if (!f)
		return NULL;
	cache_file_info(f, &info);
	if (info.stale || !(info.dirty || info.created)) {
		cache_file_put(f);
		return NULL;
	}
	n = node_add(&fs->tree, parent, name, len, 0);
	if (!n) {
		cache_file_put(f);
		return NULL;
	}
	n->file = f;
	n->flags |= NODE_UNLISTED;
	file_settle(fs, n);
	return n;
}

static void file_keep(struct objectfs *fs, struct node *n)
{
	if (node_is(n, NODE_KEPT))
		return;
	if (fs->kept_count == fs->kept_room) {
		uint32_t room = fs->kept_room ? fs->kept_room * 2 : 64;
		uint32_t *kept = reallocarray(fs->kept, room, sizeof(*kept));

		/* Then READDIR will miss it when the guest forgets it; LOOKUP finds it. */
		if (!kept)
			return;
		fs->kept = kept;
		fs->kept_room = room;
	}
	fs->kept[fs->kept_count++] = n->slot.index;
	n->flags |= NODE_KEPT;
	node_hold(n);
}

void file_settle(struct objectfs *fs, struct node *n)
{
	if (n->file && !n->opens && !node_is(n, NODE_GONE) && file_digest(fs, n))
		file_keep(fs, n);
	if (n->file && !n->opens && node_is(n, NODE_GONE))
		file_drop(n);
}

void file_reap(struct objectfs *fs)
{
	uint64_t now = loop_now_ns();

	tree_lock(&fs->tree);
	if (fs->kept_count && now >= fs->kept_scan_ns) {
		uint32_t left = 0;

		for (uint32_t i = 0; i < fs->kept_count; i++) {
			struct node *n = node_peek(&fs->tree, fs->kept[i]);

			if (!node_is(n, NODE_GONE) && file_digest(fs, n)) {
				fs->kept[left++] = fs->kept[i];
				continue;
			}
			n->flags &= (uint16_t)~NODE_KEPT;
			file_settle(fs, n);
			if (!node_is(n, NODE_KEPT))
				node_put(&fs->tree, n);
		}
		fs->kept_count = left;
		fs->kept_scan_ns = now + NSEC_PER_SEC;
	}
	tree_unlock(&fs->tree);
}
