/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RENAME: move.c for the objects, and here what is cached of them, open or not written yet, and
 * the tree. Directories: rename_dir.c.
 *
 * A file that was made through us and never committed has no object: its cached file gets the
 * other key, and no request is made, unless an object is to be replaced: then it is
 * committed first, because only a COPY replaces it in one step. Changes on top of an object go
 * along with it, uncommitted. While it is copied, a commit in the background may give the source
 * another version: then it is copied once more. So it is when somebody opens it meanwhile: what
 * he has open follows, too.
 *
 * Both names are claimed (claim.h) until the originals are deleted: to everybody here the file or
 * the directory is at the old name until the tree changes, and from then on at the new one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/util.h"
#include "fs/objectfs/rename.h"

/* linux/fs.h's, which clashes with others. */
#define RENAME_FLAG_NOREPLACE 1u

/* ---- Objects with something cached ---- */

/* The object that is cached as @f, in the version that is in the storage, is copied, and @f with
 * the changes on it follows. -EBUSY: there is another version, of a commit of ours (which may not
 * have returned yet) or somebody else's: that is known, -ESTALE, when @tried is what @f has. */
static int rename_cached(struct objectfs *fs, struct cache_file *f, const char *from,
			 const char *to, struct store_meta *meta, char tried[static STORE_ETAG_MAX])
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
	if (!strcmp(tried, info.etag))
		return -ESTALE;
	memcpy(tried, info.etag, sizeof(info.etag));
	ret = move_copy(fs, from, to, info.etag, info.size, meta);
	if (ret)
		return ret == -ESTALE ? -EBUSY : ret;
	return cache_file_rename(f, to, meta, info.etag);
}

int rename_object(struct objectfs *fs, struct cache_file *f, const char *from, const char *to,
		  bool replaces, uint64_t size, struct store_meta *meta, bool *deletes)
{
	struct cache_file_info info = { .created = false };
	char tried[STORE_ETAG_MAX] = "";
	int ret = 0;

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
	}
	*deletes = true;
	for (unsigned i = 0; f && i < RENAME_TRIES; i++) {
		ret = i ? cache_commit(f) : 0; /* also waits for one that is under way */
		if (!ret)
			ret = rename_cached(fs, f, from, to, meta, tried);
		if (ret != -EBUSY)
			break;
	}
	/* Nothing cached, or what is cached is not what is there: somebody else's moves. */
	if (!f || ret == -ESTALE)
		ret = move_copy(fs, from, to, NULL, size, meta);
	return ret;
}

/* ---- The tree ---- */

void rename_install(struct rename *r)
{
	struct tree *t = &r->fs->tree;
	size_t to_len = strlen(r->to_name);

	if (r->target)
		change_forget(r->fs, r->target);
	dir_pages_removed(r->from_dir, r->from_name, strlen(r->from_name));
	/* Another client has removed it since it was copied, or no memory for the name: whatever is
	 * there, the guest has to look it up anew. */
	if (node_is(r->node, NODE_GONE) ||
	    node_move(t, r->node, r->to_dir, r->to_name, to_len) < 0) {
		change_forget(r->fs, r->node);
		change_uncertain(r->fs, r->to_dir, r->to_name, to_len);
	}
	negative_clear(t, r->to_dir, r->to_name, to_len);
}

void rename_done(struct rename *r, int ret)
{
	size_t len = strlen(r->from_name);

	tree_lock(&r->fs->tree);
	if (ret)
		change_uncertain(r->fs, r->from_dir, r->from_name, len);
	else
		change_removed(r->fs, r->from_dir, r->from_name, len);
	tree_unlock(&r->fs->tree);
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

/* What was opened at the former version of @to while it was replaced: a commit would only find that
 * out. What has the new version (@etag) is as good as any. */
static void rename_unlink_late(struct objectfs *fs, const char *to, const char *etag)
{
	struct cache_file *f = cache_file_peek(fs->cache, to);
	struct cache_file_info info;

	if (!f)
		return;
	cache_file_info(f, &info);
	if (strcmp(info.etag, etag) != 0)
		cache_file_unlink(f);
	cache_file_put(f);
}

/*
 * Copies, with what is cached, and has the tree follow; not before everybody who has the file open
 * follows. *@deletes: there is an object to be deleted at the old key.
 */
static int rename_copy_file(struct rename *r, bool *deletes)
{
	struct objectfs *fs = r->fs;
	struct store_meta meta = { .size = 0 };
	bool replaces = r->target, late = true, object;
	int ret = 0;

	*deletes = false;
	for (unsigned i = 0; i < RENAME_TRIES && late && !ret; i++) {
		struct cache_file *f = cache_file_peek(fs->cache, r->from), *now;

		ret = rename_object(fs, f, r->from, r->to, replaces, r->size, &meta, &object);
		if (ret && i) {
			ret = 0; /* it was copied: only who opened it late loses his version */
			object = late = false;
		}
		*deletes |= object;
		replaces |= object;
		if (!ret && !f)
			rename_unlink_late(fs, r->to, meta.etag);
		tree_lock(&fs->tree);
		now = ret || !late ? NULL : cache_file_peek(fs->cache, r->from);
		late = now && now != f && i < RENAME_TRIES - 1;
		if (!ret && !late) {
			rename_install(r);
			if (*deletes)
				rename_install_meta(r->node, &meta);
			file_settle(fs, r->node);
		}
		tree_unlock(&fs->tree);
		if (now)
			cache_file_put(now);
		if (f)
			cache_file_put(f);
	}
	return ret;
}

static int rename_file(struct rename *r)
{
	struct objectfs *fs = r->fs;
	struct cache_file *there = cache_file_peek(fs->cache, r->to);
	bool deletes;
	int ret;

	/* Before the copy, so that no commit of it comes after. Its holders keep what they have. */
	if (there)
		cache_file_unlink_begin(there);
	ret = rename_copy_file(r, &deletes);
	if (ret && there)
		cache_file_restore(there);
	else if (there)
		cache_file_unlink(there);
	if (!ret) {
		if (deletes)
			ret = change_delete(fs, r->from);
		rename_done(r, ret);
		if (!ret && deletes && r->from_dir != r->to_dir)
			ret = change_keep_dir(fs, r->from_dir, r->from_name, strlen(r->from_name));
	}
	if (there)
		cache_file_put(there);
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

/* What is at both names, with references. */
static int rename_find(struct rename *r)
{
	uint64_t negative_ns = r->fs->config.negative_timeout_ns;
	int ret;

	r->node = r->target = NULL;
	ret = objectfs_find(r->fs, r->from_dir, r->from_name, negative_ns, &r->node);
	if (ret)
		return ret;
	ret = objectfs_find(r->fs, r->to_dir, r->to_name, negative_ns, &r->target);
	return ret == -ENOENT ? 0 : ret;
}

/* What was found is there still: both names are ours from now on. RENAME_AGAIN when it is not.
 * tree.lock is held. */
static int rename_claim(struct rename *r)
{
	struct tree *t = &r->fs->tree;

	if (node_find(t, r->from_dir, r->from_name, strlen(r->from_name)) != r->node ||
	    node_find(t, r->to_dir, r->to_name, strlen(r->to_name)) != r->target)
		return RENAME_AGAIN;
	claim_begin(t, &r->from_claim, r->from_dir, r->from_name);
	claim_begin(t, &r->to_claim, r->to_dir, r->to_name);
	return 0;
}

static void rename_unclaim(struct rename *r)
{
	tree_lock(&r->fs->tree);
	claim_end(&r->from_claim);
	claim_end(&r->to_claim);
	tree_unlock(&r->fs->tree);
}

static void rename_put(struct rename *r)
{
	tree_lock(&r->fs->tree);
	if (r->target)
		node_put(&r->fs->tree, r->target);
	if (r->node)
		node_put(&r->fs->tree, r->node);
	tree_unlock(&r->fs->tree);
}

/* Source and target. RENAME_AS_DIR when it is a directory, for which a lock is missing (@as_dir).
 * RENAME_AGAIN when another client changed one of them meanwhile. */
static int rename_between(struct rename *r, uint32_t flags, bool as_dir)
{
	struct tree *t = &r->fs->tree;
	bool dir = false, same = false;
	int ret = rename_find(r);

	if (!ret) {
		tree_lock(t);
		dir = node_is(r->node, NODE_DIR);
		same = r->node == r->target;
		ret = rename_check(r, flags);
		if (!ret && dir && !as_dir)
			ret = RENAME_AS_DIR;
		if (!ret && !same)
			ret = rename_claim(r);
		tree_unlock(t);
	}
	if (!ret && !same) {
		ret = dir ? rename_dir(r) : rename_file(r);
		rename_unclaim(r);
	}
	rename_put(r);
	return ret;
}

static int rename_locked(struct rename *r, uint32_t flags, bool dir)
{
	struct tree *t = &r->fs->tree;
	int ret;

	if (dir)
		pthread_mutex_lock(&t->rename_lock);
	ret = tree_names_begin(t, r->from_dir, r->to_dir);
	if (!ret) {
		ret = RENAME_AGAIN;
		for (unsigned i = 0; i < RENAME_TRIES && ret == RENAME_AGAIN; i++)
			ret = rename_between(r, flags, dir);
		tree_names_end(t, r->from_dir, r->to_dir);
	}
	if (dir)
		pthread_mutex_unlock(&t->rename_lock);
	return ret == RENAME_AGAIN ? -EBUSY : ret;
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
		if (ret == RENAME_AS_DIR)
			ret = rename_locked(r, req->in.rename.flags, true);
	}
	if (r->from_dir)
		node_put_unlocked(&fs->tree, r->from_dir);
	if (r->to_dir)
		node_put_unlocked(&fs->tree, r->to_dir);
	free(r);
	return ret;
}
