/* SPDX-License-Identifier: Apache-2.0 */
/* MKDIR and RMDIR; see change.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/util.h"
#include "fs/objectfs/claim.h"
#include "fs/objectfs/internal.h"

/* ---- mkdir ---- */

/* A page that says that there is nothing. NULL: no memory. */
static struct page *page_empty(uint64_t now)
{
	struct page *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->lo = strdup("");
	p->hi = strdup("");
	p->text = strdup("");
	p->last = true;
	p->fetched_ns = now;
	if (p->lo && p->hi && p->text)
		return p;
	free(p->lo);
	free(p->hi);
	free(p->text);
	free(p);
	return NULL;
}

static int64_t now_realtime(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * (int64_t)NSEC_PER_SEC + ts.tv_nsec;
}

/* The directory is there, and empty. tree.lock is held. -ENOMEM or 0. */
static int mkdir_install(struct objectfs *fs, struct node *parent, const char *name,
			 struct node **out)
{
	struct tree *t = &fs->tree;
	uint64_t now = loop_now_ns();
	struct page *page;
	struct node *n;

	negative_clear(t, parent, name, strlen(name));
	n = node_add(t, parent, name, strlen(name), NODE_DIR | NODE_UNLISTED | NODE_MARKER);
	if (!n)
		return -ENOMEM;
	n->fetched_ns = now;
	n->mtime_ns = now_realtime();
	node_hold(n);
	page = dir_pages_get(n) ? page_empty(now) : NULL;
	if (page) { /* else the first LOOKUP asks */
		page_install(fs, n, page);
		page_put(page);
	}
	*out = n;
	return 0;
}

static int mkdir_in(struct objectfs *fs, struct node *parent, const char *name, struct node **out)
{
	struct tree *t = &fs->tree;
	char key[NODE_KEY_SIZE];
	struct claim claim;
	struct node *n;
	int ret = objectfs_find(fs, parent, name, lookup_create_ns(fs), &n);

	if (!ret)
		node_put_unlocked(t, n);
	if (ret != -ENOENT)
		return ret ? ret : -EEXIST;
	tree_lock(t);
	ret = node_key(t, parent, name, strlen(name), key);
	if (ret >= 0 && ret + 1 > STORE_KEY_MAX)
		ret = -ENAMETOOLONG;
	if (ret >= 0 && node_find(t, parent, name, strlen(name)))
		ret = -EEXIST; /* another client's, found by another guest just now */
	if (ret >= 0)
		claim_begin(t, &claim, parent, name);
	tree_unlock(t);
	if (ret < 0)
		return ret;
	strcpy(key + ret, "/");
	ret = change_put_marker(fs, key, true);
	tree_lock(t);
	if (!ret)
		ret = mkdir_install(fs, parent, name, out);
	else
		change_uncertain(fs, parent, name, strlen(name));
	claim_end(&claim);
	tree_unlock(t);
	return ret;
}

ssize_t objectfs_mkdir(struct objectfs_session *s, struct fs_req *req)
{
	struct objectfs *fs = objectfs_of(s);
	struct node *parent = node_get_unlocked(&fs->tree, req->nodeid), *n;
	int ret;

	if (!parent)
		return -ESTALE;
	ret = tree_names_begin(&fs->tree, parent, NULL);
	if (!ret) {
		ret = mkdir_in(fs, parent, req->name, &n);
		tree_names_end(&fs->tree, parent, NULL);
	}
	if (!ret)
		ret = change_reply(s, req, n);
	node_put_unlocked(&fs->tree, parent);
	return ret;
}

/* ---- rmdir ---- */

/* Something in @dir that is ours alone, or may be in a moment. tree.lock is held. */
static bool dir_has_ours(struct objectfs *fs, struct node *dir)
{
	for (uint32_t i = dir->first_child; i;) {
		struct node *n = node_peek(&fs->tree, i);

		i = n->next_sibling;
		if (node_is(n, NODE_DIR) ? n->changing > 0 : file_digest(fs, n))
			return true;
	}
	return false;
}

/* A page, not too old, shows all of @dir, and nothing is left in it. tree.lock is held. */
static bool dir_known_empty(struct objectfs *fs, struct node *dir)
{
	uint64_t since = objectfs_since(loop_now_ns(), fs->config.entry_timeout_ns);
	struct page *p = pages_from(dir, "", since);
	bool empty;

	if (!p)
		return false;
	empty = p->last && !p->suspect && p->fetched_ns > dir->pages->unlisted_ns;
	for (uint32_t i = 0; empty && i < p->count; i++)
		empty = p->rows[i].flags & ROW_DEAD;
	page_put(p);
	for (uint32_t i = dir->first_child; empty && i;) {
		i = node_peek(&fs->tree, i)->next_sibling;
		empty = false; /* made since: let the storage say */
	}
	return empty;
}

struct empty_check {
	struct store_op op;
	struct store_page page;
	size_t prefix_len;
	bool marker, other;
};

static void empty_entry(struct store_op *op, const struct store_entry *entry)
{
	struct empty_check *e = container_of(op, struct empty_check, op);

	if (entry->key_len == e->prefix_len)
		e->marker = true;
	else
		e->other = true;
}

static void empty_restart(struct store_op *op)
{
	struct empty_check *e = container_of(op, struct empty_check, op);

	e->marker = e->other = false;
}

/* The LIST: 0 or what went wrong. */
static int empty_ask(struct objectfs *fs, struct empty_check *e, const char *key)
{
	memset(e, 0, sizeof(*e));
	e->prefix_len = strlen(key);
	e->op = (struct store_op){
		.opcode = STORE_LIST,
		.key = key,
		.list = { .limit = 2,
			  .entry = empty_entry,
			  .restart = empty_restart,
			  .page = &e->page },
	};
	return objectfs_call(fs, &e->op);
}

int change_dir_empty(struct objectfs *fs, struct node *dir, bool *marker)
{
	struct empty_check e;
	char key[NODE_KEY_SIZE];
	bool known;
	int ret;

	tree_lock(&fs->tree);
	ret = dir_has_ours(fs, dir) ? -ENOTEMPTY : node_key(&fs->tree, dir, NULL, 0, key);
	known = ret >= 0 && dir_known_empty(fs, dir);
	*marker = !node_is(dir, NODE_NO_MARKER);
	tree_unlock(&fs->tree);
	if (ret < 0 || known)
		return MIN(ret, 0);
	ret = empty_ask(fs, &e, key);
	*marker = e.marker;
	return ret ? ret : e.other ? -ENOTEMPTY : 0;
}

/* The empty directory that @claim, which ends here, is for. @key: its marker, or NULL. */
static int rmdir_claimed(struct objectfs *fs, struct node *parent, struct claim *claim,
			 struct node *n, const char *key)
{
	int ret = key ? change_delete(fs, key) : 0;

	tree_lock(&fs->tree);
	if (!ret && n)
		change_forget(fs, n);
	if (!ret)
		change_removed(fs, parent, claim->name, claim->len);
	else if (n)
		n->fetched_ns = 0; /* who knows: ask */
	claim_end(claim);
	tree_unlock(&fs->tree);
	return ret;
}

/*
 * A name that memory knows nothing of: that it is a directory and what is in it, one LIST tells.
 * -EAGAIN when it has to be looked up, or somebody else just did that: he may be at work in it.
 */
static int rmdir_unknown(struct objectfs *fs, struct node *parent, const char *name)
{
	struct tree *t = &fs->tree;
	char key[NODE_KEY_SIZE];
	struct empty_check e;
	struct claim claim;
	struct inquiry q;
	struct node *n;
	int ret = -EAGAIN;

	tree_lock(t);
	if (lookup_known(fs, parent, name, strlen(name), fs->config.negative_timeout_ns, &n) ==
		    LOOKUP_ASK &&
	    !n)
		ret = node_key(t, parent, name, strlen(name), key);
	if (n)
		node_reap(t, n);
	if (ret >= 0 && ret + 1 <= STORE_KEY_MAX)
		inquiry_begin(t, &q, parent, name, strlen(name));
	tree_unlock(t);
	if (ret < 0 || ret + 1 > STORE_KEY_MAX)
		return -EAGAIN;
	strcpy(key + ret, "/");
	ret = empty_ask(fs, &e, key);
	tree_lock(t);
	if (!inquiry_end(&q) || q.stirred || node_find(t, parent, name, strlen(name)))
		ret = ret ? ret : -EAGAIN;
	else if (!ret)
		ret = e.other ? -ENOTEMPTY : e.marker ? 0 : -EAGAIN; /* a file, or nothing */
	if (!ret)
		claim_begin(t, &claim, parent, name);
	tree_unlock(t);
	return ret ? ret : rmdir_claimed(fs, parent, &claim, NULL, key);
}

/* @n at @name has its names to ourselves. */
static int rmdir_node(struct objectfs *fs, struct node *parent, const char *name, struct node *n)
{
	struct tree *t = &fs->tree;
	char key[NODE_KEY_SIZE];
	struct claim claim;
	bool marker;
	int ret = change_dir_empty(fs, n, &marker);

	if (ret)
		return ret;
	tree_lock(t);
	ret = node_key(t, n, NULL, 0, key);
	if (ret >= 0)
		claim_begin(t, &claim, parent, name);
	tree_unlock(t);
	return ret < 0 ? ret : rmdir_claimed(fs, parent, &claim, n, marker ? key : NULL);
}

static int rmdir_in(struct objectfs *fs, struct node *parent, const char *name)
{
	struct tree *t = &fs->tree;
	struct node *n;
	bool dir;
	int ret = rmdir_unknown(fs, parent, name);

	if (ret != -EAGAIN)
		return ret;
	ret = objectfs_find(fs, parent, name, fs->config.negative_timeout_ns, &n);
	if (ret)
		return ret;
	tree_lock(t);
	dir = node_is(n, NODE_DIR);
	tree_unlock(t);
	ret = dir ? tree_names_also(t, n) : -ENOTDIR;
	if (!ret) {
		ret = rmdir_node(fs, parent, name, n);
		tree_names_end(t, n, NULL);
	}
	node_put_unlocked(t, n);
	return ret;
}

ssize_t objectfs_rmdir(struct objectfs_session *s, struct fs_req *req)
{
	struct objectfs *fs = objectfs_of(s);
	struct node *parent = node_get_unlocked(&fs->tree, req->nodeid);
	int ret;

	if (!parent)
		return -ESTALE;
	ret = tree_names_begin(&fs->tree, parent, NULL);
	if (!ret) {
		ret = rmdir_in(fs, parent, req->name);
		if (!ret)
			change_keep_or_log(fs, parent, req->name);
		tree_names_end(&fs->tree, parent, NULL);
	}
	node_put_unlocked(&fs->tree, parent);
	return ret;
}
