/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RENAME: move.c for the objects, and here what is cached of them, open or not written yet, and
 * the tree.
 *
 * A file that was made through us and never committed has no object: its cached file gets the
 * other key, and no request is made, unless an object is to be replaced: then it is
 * committed first, because only a COPY replaces it in one step. Changes on top of an object go
 * along with it, uncommitted. While it is copied, a commit in the background may give the source
 * another version: then it is copied once more.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/util.h"
#include "fs/objectfs/move.h"

/* linux/fs.h's, which clashes with others. */
#define RENAME_FLAG_NOREPLACE 1u

/* How often a source is copied that changes all the time. */
#define RENAME_TRIES 4

struct rename {
	struct objectfs *fs;
	struct node *from_dir, *to_dir;
	const char *from_name, *to_name;
	struct node *node;			     /* with a reference */
	struct node *target;			     /* what is there, with a reference, or NULL */
	uint64_t size;				     /* of a file */
	char from[NODE_KEY_SIZE], to[NODE_KEY_SIZE]; /* keys; of a directory with the slash */
};

/* ---- Objects with something cached ---- */

/* The object that is cached as @f, in the version that is in the storage, is copied, and @f with
 * the changes on it follows. -EBUSY: it was committed meanwhile. */
static int rename_cached(struct objectfs *fs, struct cache_file *f, const char *from,
			 const char *to, struct store_meta *meta)
{
	struct cache_file_info info;
	int ret;

	cache_file_info(f, &info);
	if (info.created) {
		ret = cache_commit(f);
		if (ret)
			return ret;
		cache_file_info(f, &info);
	}
	ret = move_copy(fs, from, to, info.etag, info.size, meta);
	return ret ? ret : cache_file_rename(f, to, meta, info.etag);
}

/*
 * The object @from, of which @f (or NULL) is cached, goes to @to, where @replaces says that
 * there may be one. *@deletes: there is an object to be deleted at @from.
 */
static int rename_object(struct objectfs *fs, struct cache_file *f, const char *from,
			 const char *to, bool replaces, uint64_t size, struct store_meta *meta,
			 bool *deletes)
{
	struct cache_file_info info = { .created = false };
	int ret = -EBUSY;

	*deletes = false;
	if (f)
		cache_file_info(f, &info);
	if (f && info.created && !info.doubtful && !replaces) {
		ret = cache_file_rename(f, to, NULL, NULL);
		if (ret != -EINVAL && ret != -EBUSY)
			return ret;
		/* The cleaner has just committed it, or a part of it is on its way. */
		ret = cache_commit(f);
		if (ret)
			return ret;
		ret = -EBUSY;
	}
	*deletes = true;
	for (unsigned i = 0; f && i < RENAME_TRIES && ret == -EBUSY; i++) {
		if (i) {
			ret = cache_commit(f);
			if (ret)
				return ret;
		}
		ret = rename_cached(fs, f, from, to, meta);
	}
	/* Nothing cached, or what is cached is not what is there: somebody else's moves. */
	if (!f || ret == -ESTALE)
		ret = move_copy(fs, from, to, NULL, size, meta);
	return ret;
}

/* ---- The tree ---- */

static void rename_install(struct rename *r)
{
	struct tree *t = &r->fs->tree;
	size_t to_len = strlen(r->to_name);

	/* tree.lock is held. */
	if (r->target)
		change_forget(r->fs, r->target);
	dir_pages_removed(r->from_dir, r->from_name, strlen(r->from_name));
	if (node_move(t, r->node, r->to_dir, r->to_name, to_len) < 0) {
		/* No memory for the name: the guest has to look it up anew. */
		change_forget(r->fs, r->node);
	}
	negative_add(t, r->from_dir, r->from_name, strlen(r->from_name), loop_now_ns());
	negative_clear(t, r->to_dir, r->to_name, to_len);
}

/* The object of a file has another version and perhaps another time; the guest keeps seeing the
 * time that it knows. tree.lock is held. */
static void rename_install_meta(struct node *n, const struct store_meta *meta)
{
	n->fetched_ns = loop_now_ns();
	memcpy(n->etag, meta->etag, sizeof(n->etag));
	n->flags |= NODE_USER_MTIME;
}

/* ---- A file ---- */

static int rename_file(struct rename *r)
{
	struct objectfs *fs = r->fs;
	struct cache_file *f = cache_file_peek(fs->cache, r->from);
	struct cache_file *there = cache_file_peek(fs->cache, r->to);
	struct store_meta meta = { .size = 0 };
	bool deletes;
	int ret;

	/* Before the copy, so that no commit of it comes after. Its holders keep what they have. */
	if (there)
		cache_file_unlink(there);
	ret = rename_object(fs, f, r->from, r->to, r->target, r->size, &meta, &deletes);
	if (ret && there)
		cache_file_restore(there);
	if (!ret) {
		tree_lock(&fs->tree);
		rename_install(r);
		if (deletes)
			rename_install_meta(r->node, &meta);
		file_settle(fs, r->node);
		tree_unlock(&fs->tree);
		if (deletes)
			ret = change_delete(fs, r->from);
		if (!ret && deletes && r->from_dir != r->to_dir)
			ret = change_keep_dir(fs, r->from_dir, r->from_name, strlen(r->from_name));
	}
	if (f)
		cache_file_put(f);
	if (there)
		cache_file_put(there);
	return ret;
}

/* ---- A directory ---- */

/* The files below that are open or have changes. */
struct cached_files {
	struct tree *tree;
	struct node **nodes; /* with references */
	size_t count, room;
	bool failed;
};

static void cached_collect(struct node *n, void *arg)
{
	struct cached_files *c = arg;

	if (node_is(n, NODE_DIR) || !n->file)
		return;
	if (c->count == c->room) {
		size_t room = c->room ? c->room * 2 : 64;
		struct node **nodes = reallocarray(c->nodes, room, sizeof(struct node *));

		if (!nodes) {
			c->failed = true;
			return;
		}
		c->nodes = nodes;
		c->room = room;
	}
	node_hold(n);
	c->nodes[c->count++] = n;
}

static void cached_put(struct cached_files *c)
{
	tree_lock(c->tree);
	for (size_t i = 0; i < c->count; i++)
		node_put(c->tree, c->nodes[i]);
	tree_unlock(c->tree);
	free(c->nodes);
}

/* One of them, to its new key. It was copied with the others, maybe in an older version. */
static int cached_move(struct rename *r, struct node *n)
{
	struct objectfs *fs = r->fs;
	char from[NODE_KEY_SIZE], to[NODE_KEY_SIZE];
	struct store_meta meta = { .size = 0 };
	struct cache_file_info info;
	struct cache_file *f = NULL;
	bool deletes;
	int ret;

	tree_lock(&fs->tree);
	ret = node_is(n, NODE_GONE) ? -ENOENT : node_key(&fs->tree, n, NULL, 0, from);
	if (ret >= 0 && n->file)
		f = cache_file_ref(n->file);
	tree_unlock(&fs->tree);
	if (!f)
		return 0;
	ret = snprintf(to, sizeof(to), "%s%s", r->to, from + strlen(r->from));
	cache_file_info(f, &info);
	if (ret >= NODE_KEY_SIZE)
		ret = -ENAMETOOLONG;
	else if (info.stale)
		ret = 0;
	else
		ret = rename_object(fs, f, from, to, false, info.size, &meta, &deletes);
	cache_file_put(f);
	return ret == -ENOENT ? 0 : ret; /* removed by somebody else */
}

/* Back to its former key, where its object still is. */
static void cached_move_back(struct rename *r, struct node *n)
{
	struct store_op stat = { .opcode = STORE_STAT };
	struct objectfs *fs = r->fs;
	char from[NODE_KEY_SIZE];
	struct cache_file_info info;
	struct cache_file *f = NULL;
	int ret;

	tree_lock(&fs->tree);
	if (!node_is(n, NODE_GONE) && n->file && node_key(&fs->tree, n, NULL, 0, from) >= 0)
		f = cache_file_ref(n->file);
	tree_unlock(&fs->tree);
	if (!f)
		return;
	cache_file_info(f, &info);
	stat.key = from;
	ret = info.created ? 0 : store_call(fs->store, &stat);
	if (!ret)
		ret = cache_file_rename(f, from, info.created ? NULL : &stat.meta, info.etag);
	if (ret && ret != -ESTALE)
		log_limited(&fs->rename_log, LOG_LEVEL_WARN, "rename_undo_failed",
			    "key=\"%s\" error=\"%s\"", from, strerror(-ret));
	cache_file_put(f);
}

/* The first @moved cached files and all copies go back where they were. */
static void rename_undo(struct rename *r, struct cached_files *c, size_t moved, struct move *move)
{
	for (size_t i = 0; i < moved; i++)
		cached_move_back(r, c->nodes[i]);
	move_undo(move);
	/* A copy of the marker has taken the place of the target's. */
	if (r->target)
		change_put_marker(r->fs, r->to, false);
}

/* What is known of objects below is of the old ones. */
static void rename_stale(struct node *n, void *arg)
{
	(void)arg;
	n->fetched_ns = 0;
	if (node_is(n, NODE_DIR))
		dir_pages_drop(arg, n);
}

/* Everything is where it belongs: the tree follows. */
static void rename_objects_installed(struct rename *r, bool marker)
{
	struct tree *t = &r->fs->tree;

	tree_lock(t);
	rename_install(r);
	node_walk(t, r->node, rename_stale, t);
	r->node->fetched_ns = loop_now_ns();
	if (marker)
		r->node->flags |= NODE_MARKER;
	if (marker || r->target)
		r->node->flags &= (uint16_t)~NODE_NO_MARKER;
	tree_unlock(t);
}

static int rename_objects(struct rename *r, struct cached_files *c)
{
	struct move *move;
	size_t moved = 0;
	bool marker;
	int ret = move_begin(&move, r->fs, r->from, r->to);

	if (ret)
		return ret;
	while (!ret && moved < c->count) {
		ret = cached_move(r, c->nodes[moved]);
		if (!ret)
			moved++;
	}
	/* It had nothing but files that are in no storage yet. */
	marker = !ret && !move_count(move);
	if (marker)
		ret = change_put_marker(r->fs, r->to, false);
	if (ret) {
		rename_undo(r, c, moved, move);
	} else {
		rename_objects_installed(r, marker);
		ret = move_finish(move);
	}
	move_end(move);
	return ret;
}

/* The target, if there is one, is empty. */
static int rename_dir_onto(struct rename *r)
{
	struct objectfs *fs = r->fs;
	struct cached_files c = { .tree = &fs->tree };
	int ret;

	tree_move_begin(&fs->tree, r->node);
	tree_lock(&fs->tree);
	node_walk(&fs->tree, r->node, cached_collect, &c);
	tree_unlock(&fs->tree);
	ret = c.failed ? -ENOMEM : rename_objects(r, &c);
	tree_move_end(&fs->tree, r->node);
	cached_put(&c);
	if (!ret && r->from_dir != r->to_dir)
		ret = change_keep_dir(fs, r->from_dir, r->from_name, strlen(r->from_name));
	if (ret)
		log_limited(&fs->rename_log, LOG_LEVEL_WARN, "rename_failed",
			    "from=\"%s\" to=\"%s\" error=\"%s\"", r->from, r->to, strerror(-ret));
	return ret;
}

static int rename_dir(struct rename *r)
{
	bool marker;
	int ret;

	if (!r->target)
		return rename_dir_onto(r);
	tree_names_also(&r->fs->tree, r->target);
	ret = change_dir_empty(r->fs, r->target, &marker);
	if (!ret)
		ret = rename_dir_onto(r);
	tree_names_end(&r->fs->tree, r->target, NULL);
	return ret;
}

/* ---- Both ---- */

/* What the kernel demands of source and target. tree.lock is held. */
static int rename_check(struct rename *r, uint32_t flags)
{
	const struct tree *t = &r->fs->tree;
	bool dir = node_is(r->node, NODE_DIR);
	int ret;

	if (r->target == r->node)
		return 0;
	if (r->target && (flags & RENAME_FLAG_NOREPLACE))
		return -EEXIST;
	if (dir && node_below(t, r->to_dir, r->node))
		return -EINVAL;
	if (r->target && dir != !!node_is(r->target, NODE_DIR))
		return dir ? -ENOTDIR : -EISDIR;
	if (r->target && dir && node_below(t, r->from_dir, r->target))
		return -ENOTEMPTY;
	r->size = dir ? 0 : r->node->size;
	ret = node_key(t, r->node, NULL, 0, r->from);
	if (ret >= 0)
		ret = node_key(t, r->to_dir, r->to_name, strlen(r->to_name), r->to);
	if (ret >= 0 && dir) {
		if (ret + 1 > STORE_KEY_MAX)
			return -ENAMETOOLONG;
		strcpy(r->to + ret, "/");
	}
	return MIN(ret, 0);
}

/* Source and target; whether it is a directory is known by then, and the locks are taken. */
static int rename_between(struct rename *r, uint32_t flags, bool as_dir)
{
	struct objectfs *fs = r->fs;
	struct tree *t = &fs->tree;
	bool dir = false;
	int ret;

	r->node = r->target = NULL;
	ret = objectfs_find(fs, r->from_dir, r->from_name, fs->config.negative_timeout_ns,
			    &r->node);
	if (ret)
		return ret;
	ret = objectfs_find(fs, r->to_dir, r->to_name, fs->config.negative_timeout_ns, &r->target);
	if (ret == -ENOENT)
		ret = 0;
	if (!ret) {
		tree_lock(t);
		ret = rename_check(r, flags);
		dir = node_is(r->node, NODE_DIR);
		tree_unlock(t);
	}
	if (!ret && dir != as_dir)
		ret = -EAGAIN;
	if (!ret && r->target != r->node)
		ret = dir ? rename_dir(r) : rename_file(r);
	tree_lock(t);
	if (r->target)
		node_put(t, r->target);
	node_put(t, r->node);
	tree_unlock(t);
	return ret;
}

static int rename_locked(struct rename *r, uint32_t flags, bool dir)
{
	struct tree *t = &r->fs->tree;
	int ret;

	if (dir)
		pthread_mutex_lock(&t->rename_lock);
	tree_names_begin(t, r->from_dir, r->to_dir);
	ret = rename_between(r, flags, dir);
	tree_names_end(t, r->from_dir, r->to_dir);
	if (dir)
		pthread_mutex_unlock(&t->rename_lock);
	return ret;
}

ssize_t objectfs_rename(struct objectfs_session *s, struct fs_req *req)
{
	struct objectfs *fs = objectfs_of(s);
	struct rename *r;
	int ret = -ESTALE;

	if (req->in.rename.flags & ~RENAME_FLAG_NOREPLACE)
		return -EINVAL;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->fs = fs;
	r->from_name = req->name;
	r->to_name = req->newname;
	r->from_dir = node_get_unlocked(&fs->tree, req->nodeid);
	r->to_dir = node_get_unlocked(&fs->tree, req->in.rename.newdir);
	if (r->from_dir && r->to_dir) {
		/* Most are files; a directory needs a lock that must be taken first. */
		ret = rename_locked(r, req->in.rename.flags, false);
		if (ret == -EAGAIN)
			ret = rename_locked(r, req->in.rename.flags, true);
		if (ret == -EAGAIN)
			ret = -EBUSY;
	}
	if (r->from_dir)
		node_put_unlocked(&fs->tree, r->from_dir);
	if (r->to_dir)
		node_put_unlocked(&fs->tree, r->to_dir);
	free(r);
	return ret;
}
