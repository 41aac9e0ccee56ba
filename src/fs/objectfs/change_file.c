/* SPDX-License-Identifier: Apache-2.0 */
/* Files that come and go: UNLINK, MKNOD, and what CREATE makes; see change.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "fs/objectfs/claim.h"
#include "fs/objectfs/internal.h"

/* ---- unlink ---- */

/* The object of @n at @key goes, and what is cached of it. *@there: there was an object. */
static int unlink_object(struct objectfs *fs, const char *key, bool *there)
{
	struct cache_file *f = cache_file_peek(fs->cache, key);
	struct cache_file_info info = { .created = false };
	int ret;

	if (f) {
		/* First, so that no commit brings the object back. */
		cache_file_unlink_begin(f);
		cache_file_info(f, &info);
	}
	*there = !info.created || info.doubtful;
	ret = *there ? change_delete(fs, key) : 0;
	if (f && ret)
		cache_file_restore(f);
	else if (f)
		cache_file_unlink(f);
	if (f)
		cache_file_put(f);
	return ret;
}

/* A file that was there lately need not be asked for once more: if it went meanwhile, then
 * DELETE does no harm. With a reference, or NULL. */
static struct node *unlink_known(struct objectfs *fs, struct node *parent, const char *name)
{
	uint64_t since = objectfs_since(loop_now_ns(), CHANGE_WITNESS_NS);
	struct tree *t = &fs->tree;
	struct node *n;

	tree_lock(t);
	n = node_find(t, parent, name, strlen(name));
	if (n && !node_is(n, NODE_DIR) && (file_digest(fs, n) || n->fetched_ns >= since))
		node_hold(n);
	else
		n = NULL;
	tree_unlock(t);
	return n;
}

/* It was not deleted, or who knows. tree.lock is held. */
static void unlink_failed(struct objectfs *fs, struct node *parent, const char *name)
{
	struct node *again;

	change_uncertain(fs, parent, name, strlen(name)); /* it may be there still: ask */
	/* What is ours of it has to have a node, or rmdir would not see it. */
	again = file_find_ours(fs, parent, name, strlen(name));
	if (again)
		node_reap(&fs->tree, again);
}

/* The file @n. */
static int unlink_node(struct objectfs *fs, struct node *parent, const char *name, struct node *n,
		       bool *there)
{
	struct tree *t = &fs->tree;
	char key[NODE_KEY_SIZE];
	struct claim claim;
	int ret;

	tree_lock(t);
	ret = node_is(n, NODE_GONE) ? -ENOENT : node_key(t, n, NULL, 0, key);
	if (ret >= 0) {
		claim_begin(t, &claim, parent, name);
		change_forget(fs, n); /* the name goes first: nobody opens it any more */
	}
	tree_unlock(t);
	if (ret < 0)
		return ret;
	ret = unlink_object(fs, key, there);
	tree_lock(t);
	if (!ret)
		change_removed(fs, parent, name, strlen(name));
	else
		unlink_failed(fs, parent, name);
	claim_end(&claim);
	tree_unlock(t);
	return ret;
}

static int unlink_in(struct objectfs *fs, struct node *parent, const char *name, bool *there)
{
	struct node *n = unlink_known(fs, parent, name);
	int ret = 0;
	bool dir;

	if (!n)
		ret = objectfs_find(fs, parent, name, fs->config.negative_timeout_ns, &n);
	if (ret)
		return ret;
	tree_lock(&fs->tree);
	dir = node_is(n, NODE_DIR);
	tree_unlock(&fs->tree);
	ret = dir ? -EISDIR : unlink_node(fs, parent, name, n, there);
	node_put_unlocked(&fs->tree, n);
	return ret;
}

ssize_t objectfs_unlink(struct objectfs_session *s, struct fs_req *req)
{
	struct objectfs *fs = objectfs_of(s);
	struct node *parent = node_get_unlocked(&fs->tree, req->nodeid);
	bool there;
	int ret;

	if (!parent)
		return -ESTALE;
	ret = tree_names_begin(&fs->tree, parent, NULL);
	if (!ret) {
		ret = unlink_in(fs, parent, req->name, &there);
		if (!ret && there)
			change_keep_or_log(fs, parent, req->name);
		tree_names_end(&fs->tree, parent, NULL);
	}
	node_put_unlocked(&fs->tree, parent);
	return ret;
}

/* ---- create ---- */

int change_create(struct objectfs *fs, struct node *parent, const char *name, struct node **out,
		  struct cache_file **file)
{
	struct tree *t = &fs->tree;
	size_t len = strlen(name);
	char key[NODE_KEY_SIZE];
	struct node *n;
	int ret;

	tree_lock(t);
	ret = node_key(t, parent, name, len, key);
	if (ret >= 0 && node_find(t, parent, name, len))
		ret = -EEXIST; /* another client's, found by another guest just now */
	if (ret >= 0) {
		ret = 0;
		*file = cache_file_create(fs->cache, key, &ret);
	}
	if (ret < 0 || !*file) {
		tree_unlock(t);
		return ret < 0 ? ret : -ENOMEM;
	}
	inquiries_overtake(t, parent, name, len);
	negative_clear(t, parent, name, len);
	n = node_add(t, parent, name, len, NODE_UNLISTED);
	if (n) {
		n->file = cache_file_ref(*file);
		node_hold(n);
		file_digest(fs, n);
	}
	tree_unlock(t);
	if (!n) {
		cache_file_unlink(*file);
		cache_file_put(*file);
		return -ENOMEM;
	}
	*out = n;
	return 0;
}

static int mknod_in(struct objectfs *fs, struct node *parent, const char *name, struct node **out)
{
	struct cache_file *file;
	struct node *n;
	int ret = objectfs_find(fs, parent, name, lookup_create_ns(fs), &n);

	if (!ret)
		node_put_unlocked(&fs->tree, n);
	if (ret != -ENOENT)
		return ret ? ret : -EEXIST;
	ret = change_create(fs, parent, name, &n, &file);
	if (ret)
		return ret;
	if (!fs->config.write_back)
		ret = io_commit(fs, n, file);
	tree_lock(&fs->tree);
	file_settle(fs, n);
	if (ret)
		node_put(&fs->tree, n);
	tree_unlock(&fs->tree);
	cache_file_put(file);
	*out = n;
	return ret;
}

ssize_t objectfs_mknod(struct objectfs_session *s, struct fs_req *req)
{
	struct objectfs *fs = objectfs_of(s);
	struct node *parent, *n;
	int ret;

	if (!S_ISREG(req->in.mknod.mode) && (req->in.mknod.mode & S_IFMT))
		return -EOPNOTSUPP;
	parent = node_get_unlocked(&fs->tree, req->nodeid);
	if (!parent)
		return -ESTALE;
	ret = tree_names_begin(&fs->tree, parent, NULL);
	if (!ret) {
		ret = mknod_in(fs, parent, req->name, &n);
		tree_names_end(&fs->tree, parent, NULL);
	}
	if (!ret)
		ret = change_reply(s, req, n);
	node_put_unlocked(&fs->tree, parent);
	return ret;
}
