/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RENAME of a directory. It waits until nobody changes anything in or below it, and lets nobody
 * begin (tree_move_begin()). Then all objects are copied (move.c); what is cached of files below,
 * because they are open or not written yet, follows one by one; when all are where they belong, the
 * tree changes, in one step; then the originals are deleted. Before the tree changes everything can
 * be undone.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "fs/objectfs/rename.h"

/* A file below that is open or has changes. */
struct cached_file {
	struct node *node;	   /* with a reference */
	struct cache_file *file;   /* likewise */
	char etag[STORE_ETAG_MAX]; /* of the copy at its new key; "" when there is none */
};

struct cached_files {
	struct objectfs *fs;
	struct cached_file *files;
	size_t count, room;
	size_t moved; /* the first of them are at their new keys */
	bool failed;  /* no memory */
};

/* Those that are at their old keys. tree.lock is held. */
static void cached_collect(struct node *n, void *arg)
{
	struct cached_files *c = arg;
	char key[NODE_KEY_SIZE];
	struct cache_file *f;

	if (node_is(n, NODE_DIR) || !n->file || node_key(&c->fs->tree, n, NULL, 0, key) < 0)
		return;
	f = cache_file_peek(c->fs->cache, key);
	if (f && f == n->file && c->count == c->room) {
		size_t room = c->room ? c->room * 2 : 64;
		struct cached_file *files = reallocarray(c->files, room, sizeof(*files));

		c->failed |= !files;
		c->files = files ? files : c->files;
		c->room = files ? room : c->room;
	}
	if (f && f == n->file && c->count < c->room) {
		node_hold(n);
		c->files[c->count++] = (struct cached_file){ .node = n, .file = f };
	} else if (f) {
		cache_file_put(f);
	}
}

static void cached_put(struct cached_files *c)
{
	tree_lock(&c->fs->tree);
	for (size_t i = 0; i < c->count; i++)
		node_put(&c->fs->tree, c->files[i].node);
	tree_unlock(&c->fs->tree);
	for (size_t i = 0; i < c->count; i++)
		cache_file_put(c->files[i].file);
	free(c->files);
}

/* The keys of one of them. -ENOENT when it was removed. */
static int cached_keys(struct rename *r, const struct cached_file *c,
		       char from[static NODE_KEY_SIZE], char to[static NODE_KEY_SIZE])
{
	struct tree *t = &r->fs->tree;
	int ret;

	tree_lock(t);
	ret = node_is(c->node, NODE_GONE) ? -ENOENT : node_key(t, c->node, NULL, 0, from);
	tree_unlock(t);
	if (ret < 0)
		return ret;
	ret = snprintf(to, NODE_KEY_SIZE, "%s%s", r->to, from + strlen(r->from));
	return ret >= NODE_KEY_SIZE ? -ENAMETOOLONG : 0;
}

/* One of them, to its new key. It was copied with the others, maybe in an older version; or it was
 * not, being committed since they were listed: then @move hears of it. */
static int cached_move(struct rename *r, struct cached_file *c, struct move *move)
{
	char from[NODE_KEY_SIZE], to[NODE_KEY_SIZE];
	struct store_meta meta = { .size = 0 };
	struct cache_file_info info;
	bool object;
	int ret = cached_keys(r, c, from, to);

	cache_file_info(c->file, &info);
	if (ret || info.stale)
		return ret == -ENOENT ? 0 : ret;
	ret = rename_object(r->fs, c->file, from, to, false, info.size, &meta, &object);
	if (!ret && object) {
		memcpy(c->etag, meta.etag, sizeof(c->etag));
		ret = move_add(move, from);
	}
	return ret == -ENOENT ? 0 : ret; /* removed by another client */
}

/* Back to its former key, where its object still is, if it had one; but what was committed since is
 * at the new key. */
static void cached_move_back(struct rename *r, struct cached_file *c)
{
	char from[NODE_KEY_SIZE], to[NODE_KEY_SIZE];
	struct store_op stat = { .opcode = STORE_STAT, .key = from };
	struct store_meta meta = { .size = 0 };
	struct objectfs *fs = r->fs;
	struct cache_file_info info;
	int ret = cached_keys(r, c, from, to);

	cache_file_info(c->file, &info);
	if (ret || info.stale)
		return;
	if (info.created) {
		ret = cache_file_rename(c->file, from, NULL, NULL);
	} else if (!strcmp(info.etag, c->etag)) {
		ret = store_call(fs->store, &stat);
		if (!ret)
			ret = cache_file_rename(c->file, from, &stat.meta, info.etag);
	} else {
		ret = move_copy(fs, to, from, info.etag, info.size, &meta);
		if (!ret)
			ret = cache_file_rename(c->file, from, &meta, info.etag);
		if (!ret)
			ret = change_delete(fs, to);
	}
	if (ret && ret != -ESTALE)
		log_limited(&fs->rename_log, LOG_LEVEL_WARN, "rename_undo_failed",
			    "key=\"%s\" error=\"%s\"", from, strerror(-ret));
}

/* The cached files that were moved and all copies go back where they were. */
static void rename_undo(struct rename *r, struct cached_files *c, struct move *move)
{
	for (size_t i = 0; i < c->moved; i++)
		cached_move_back(r, &c->files[i]);
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

/*
 * Everything is where it belongs: the tree follows. RENAME_AGAIN when it does not, as somebody has
 * opened a file meanwhile: @c has that, too, now.
 */
static int rename_objects_install(struct rename *r, struct cached_files *c, bool marker)
{
	struct tree *t = &r->fs->tree;
	size_t count = c->count;

	tree_lock(t);
	node_walk(t, r->node, cached_collect, c);
	if (c->count > count || c->failed) {
		tree_unlock(t);
		return c->failed ? -ENOMEM : RENAME_AGAIN;
	}
	rename_install(r);
	node_walk(t, r->node, rename_stale, t);
	r->node->fetched_ns = loop_now_ns();
	if (marker)
		r->node->flags |= NODE_MARKER;
	if (marker || r->target)
		r->node->flags &= (uint16_t)~NODE_NO_MARKER;
	tree_unlock(t);
	return 0;
}

/* After the copies: what is cached, and the tree. */
static int rename_objects_follow(struct rename *r, struct cached_files *c, struct move *move)
{
	int ret = RENAME_AGAIN;

	for (unsigned i = 0; i < RENAME_TRIES && ret == RENAME_AGAIN; i++) {
		bool marker;

		for (ret = 0; !ret && c->moved < c->count;) {
			ret = cached_move(r, &c->files[c->moved], move);
			c->moved += !ret;
		}
		/* It had nothing but files that are in no storage yet. */
		marker = !ret && !move_count(move);
		if (marker)
			ret = change_put_marker(r->fs, r->to, false);
		if (!ret)
			ret = rename_objects_install(r, c, marker);
	}
	return ret == RENAME_AGAIN ? -EBUSY : ret;
}

static int rename_objects(struct rename *r, struct cached_files *c)
{
	struct move *move;
	int ret = move_begin(&move, r->fs, r->from, r->to);

	if (ret)
		return ret;
	ret = rename_objects_follow(r, c, move);
	if (ret) {
		rename_undo(r, c, move);
	} else {
		r->moved = true;
		ret = move_finish(move);
		rename_done(r, ret);
	}
	move_end(move);
	return ret;
}

/* Some copies may have stayed, where nothing was when it was looked for. */
static void rename_failed(struct rename *r)
{
	tree_lock(&r->fs->tree);
	change_uncertain(r->fs, r->to_dir, r->to_name, strlen(r->to_name));
	tree_unlock(&r->fs->tree);
}

/* The target, if there is one, is empty. */
static int rename_dir_onto(struct rename *r)
{
	struct objectfs *fs = r->fs;
	struct cached_files c = { .fs = fs };
	int ret;

	tree_move_begin(&fs->tree, r->node);
	tree_lock(&fs->tree);
	node_walk(&fs->tree, r->node, cached_collect, &c);
	tree_unlock(&fs->tree);
	ret = c.failed ? -ENOMEM : rename_objects(r, &c);
	tree_move_end(&fs->tree, r->node);
	cached_put(&c);
	if (ret && !r->moved)
		rename_failed(r);
	if (!ret && r->from_dir != r->to_dir)
		ret = change_keep_dir(fs, r->from_dir, r->from_name, strlen(r->from_name));
	if (ret)
		log_limited(&fs->rename_log, LOG_LEVEL_WARN,
			    r->moved ? "rename_unfinished" : "rename_failed",
			    "from=\"%s\" to=\"%s\" error=\"%s\"", r->from, r->to, strerror(-ret));
	return ret;
}

int rename_dir(struct rename *r)
{
	bool marker;
	int ret;

	if (!r->target)
		return rename_dir_onto(r);
	ret = tree_names_also(&r->fs->tree, r->target);
	if (ret)
		return ret;
	ret = change_dir_empty(r->fs, r->target, &marker);
	if (!ret)
		ret = rename_dir_onto(r);
	tree_names_end(&r->fs->tree, r->target, NULL);
	return ret;
}
