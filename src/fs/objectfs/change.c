/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names that come and go: MKDIR, RMDIR, UNLINK, MKNOD, and what CREATE makes. Straight-line
 * code on workers.
 *
 *	mkdir		PUT of the marker, if absent. That there is neither file nor
 *			directory of that name, LOOKUP has just found out
 *	create		nothing: the object appears with its first commit, if absent
 *	unlink		DELETE; nothing when the object was never made
 *	rmdir		LIST with two rows, unless memory knows that it is empty; DELETE
 *			of the marker, if there is one
 *
 * A directory without a marker goes when its last object goes. Where it may have been the
 * last one that was removed through us, a LIST finds out, and the directory gets a marker.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/util.h"
#include "fs/objectfs/internal.h"

/* How long an entry that was seen is taken as proof that a directory is there without
 * a marker. Other clients may be removing it meanwhile; then it is they who removed the last. */
#define WITNESS_NS (60 * NSEC_PER_SEC)
/* Children looked at for one. */
#define WITNESSES_MAX 64

int change_delete(struct objectfs *fs, const char *key)
{
	struct store_op op = { .opcode = STORE_DELETE, .key = key };
	int ret = store_call(fs->store, &op);

	return ret == -ENOENT ? 0 : ret;
}

int change_put_marker(struct objectfs *fs, const char *key, bool if_absent)
{
	struct store_op op = { .opcode = STORE_PUT, .key = key };
	char write_id[STORE_WRITE_ID_MAX];

	op.if_absent = if_absent && store_caps(fs->store)->if_absent;
	if (store_caps(fs->store)->write_id) {
		store_write_id(write_id);
		op.write_id = write_id;
	}
	return store_call(fs->store, &op);
}

void change_forget(struct objectfs *fs, struct node *n)
{
	struct node *parent = node_peek(&fs->tree, n->parent);

	if (node_is(n, NODE_GONE) || !parent)
		return;
	dir_pages_removed(parent, n->name, n->name_len);
	node_remove(&fs->tree, n);
	if (!node_is(n, NODE_DIR))
		file_settle(fs, n);
}

/* ---- Directories that would vanish ---- */

/* Whether @dir is known to be there when the name @gone is not. tree.lock is held. */
static bool dir_has_witness(struct objectfs *fs, struct node *dir, const char *gone, size_t len)
{
	uint64_t since = objectfs_since(loop_now_ns(), WITNESS_NS);
	uint32_t i = dir->first_child;

	if (dir == fs->tree.root || node_is(dir, NODE_MARKER | NODE_GONE))
		return true;
	for (unsigned looked = 0; i && looked < WITNESSES_MAX; looked++) {
		struct node *n = node_peek(&fs->tree, i);

		i = n->next_sibling;
		if (n->fetched_ns >= since && (node_is(n, NODE_DIR) || *n->etag))
			return true;
	}
	return pages_have_other(dir, gone, len, since);
}

int change_keep_dir(struct objectfs *fs, struct node *dir, const char *gone, size_t len)
{
	char key[NODE_KEY_SIZE];
	struct page *page;
	bool there;
	int ret;

	tree_lock(&fs->tree);
	there = dir_has_witness(fs, dir, gone, len);
	tree_unlock(&fs->tree);
	if (there)
		return 0;
	ret = listing_fetch(fs, dir, "", NULL, &page);
	if (ret)
		return ret;
	tree_lock(&fs->tree);
	there = *page->hi || node_is(dir, NODE_MARKER);
	page_put(page);
	ret = node_key(&fs->tree, dir, NULL, 0, key);
	tree_unlock(&fs->tree);
	if (there || ret < 0)
		return 0;
	ret = change_put_marker(fs, key, true);
	if (ret && ret != -EEXIST)
		return ret;
	tree_lock(&fs->tree);
	dir->flags |= NODE_MARKER;
	dir->flags &= (uint16_t)~NODE_NO_MARKER;
	dir->fetched_ns = loop_now_ns();
	tree_unlock(&fs->tree);
	return 0;
}

/* For callers who have done what they were asked for: the log hears of it. */
static void keep_dir_or_log(struct objectfs *fs, struct node *dir, const char *gone)
{
	static struct log_limit limit;
	int ret = change_keep_dir(fs, dir, gone, strlen(gone));

	if (ret)
		log_limited(&limit, LOG_LEVEL_WARN, "object_marker_failed", "error=\"%s\"",
			    strerror(-ret));
}

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
	struct node *n = node_find(t, parent, name, strlen(name));
	struct page *page;

	negative_clear(t, parent, name, strlen(name));
	if (n)
		change_forget(fs, n); /* what somebody else put there meanwhile */
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
	char key[NODE_KEY_SIZE];
	struct node *n;
	int ret = objectfs_find(fs, parent, name, lookup_create_ns(fs), &n);

	if (!ret)
		node_put_unlocked(&fs->tree, n);
	if (ret != -ENOENT)
		return ret ? ret : -EEXIST;
	tree_lock(&fs->tree);
	ret = node_is(parent, NODE_GONE) ? -ENOENT
					 : node_key(&fs->tree, parent, name, strlen(name), key);
	tree_unlock(&fs->tree);
	if (ret < 0)
		return ret;
	if (ret + 1 > STORE_KEY_MAX)
		return -ENAMETOOLONG;
	strcpy(key + ret, "/");
	ret = change_put_marker(fs, key, true);
	tree_lock(&fs->tree);
	if (!ret)
		ret = mkdir_install(fs, parent, name, out);
	else if (ret == -EEXIST)
		negative_clear(&fs->tree, parent, name, strlen(name));
	tree_unlock(&fs->tree);
	return ret;
}

/* Replies with the entry @n, whose reference is consumed. */
static int change_reply(struct objectfs_session *s, struct fs_req *req, struct node *n)
{
	struct tree *t = &objectfs_of(s)->tree;
	int ret;

	tree_lock(t);
	ret = lookup_reply(s, n, &req->out.entry);
	node_put(t, n);
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
	tree_names_begin(&fs->tree, parent, NULL);
	ret = mkdir_in(fs, parent, req->name, &n);
	tree_names_end(&fs->tree, parent, NULL);
	if (!ret)
		ret = change_reply(s, req, n);
	node_put_unlocked(&fs->tree, parent);
	return ret;
}

/* ---- rmdir ---- */

/* Something in @dir that is ours alone. tree.lock is held. */
static bool dir_has_ours(struct objectfs *fs, struct node *dir)
{
	for (uint32_t i = dir->first_child; i;) {
		struct node *n = node_peek(&fs->tree, i);

		i = n->next_sibling;
		if (!node_is(n, NODE_DIR) && file_digest(fs, n))
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
	return store_call(fs->store, &e->op);
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

/*
 * A name that memory knows nothing of: that it is a directory and what is in it, one LIST tells.
 * -EAGAIN when it has to be looked up.
 */
static int rmdir_unknown(struct objectfs *fs, struct node *parent, const char *name)
{
	struct tree *t = &fs->tree;
	char key[NODE_KEY_SIZE];
	struct empty_check e;
	struct node *n;
	int ret = -EAGAIN;

	tree_lock(t);
	if (node_is(parent, NODE_DIR) && !node_is(parent, NODE_GONE) &&
	    lookup_known(fs, parent, name, strlen(name), fs->config.negative_timeout_ns, &n) ==
		    LOOKUP_ASK &&
	    !n)
		ret = node_key(t, parent, name, strlen(name), key);
	tree_unlock(t);
	if (ret < 0 || ret + 1 > STORE_KEY_MAX)
		return -EAGAIN;
	strcpy(key + ret, "/");
	ret = empty_ask(fs, &e, key);
	if (!ret && e.other)
		return -ENOTEMPTY;
	if (ret || !e.marker)
		return ret ? ret : -EAGAIN; /* a file, or nothing */
	ret = change_delete(fs, key);
	tree_lock(t);
	if (!ret) {
		dir_pages_removed(parent, name, strlen(name));
		negative_add(t, parent, name, strlen(name), loop_now_ns());
	}
	tree_unlock(t);
	return ret;
}

static int rmdir_in(struct objectfs *fs, struct node *parent, const char *name)
{
	struct tree *t = &fs->tree;
	char key[NODE_KEY_SIZE];
	bool marker, dir;
	struct node *n;
	int ret = rmdir_unknown(fs, parent, name);

	if (ret != -EAGAIN)
		return ret;
	ret = objectfs_find(fs, parent, name, fs->config.negative_timeout_ns, &n);
	if (ret)
		return ret;
	tree_lock(t);
	dir = node_is(n, NODE_DIR);
	node_key(t, n, NULL, 0, key);
	tree_unlock(t);
	if (dir)
		tree_names_also(t, n);
	ret = dir ? change_dir_empty(fs, n, &marker) : -ENOTDIR;
	if (!ret && marker)
		ret = change_delete(fs, key);
	if (!ret) {
		tree_lock(t);
		change_forget(fs, n);
		negative_add(t, parent, name, strlen(name), loop_now_ns());
		tree_unlock(t);
	}
	if (dir)
		tree_names_end(t, n, NULL);
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
	tree_names_begin(&fs->tree, parent, NULL);
	ret = rmdir_in(fs, parent, req->name);
	if (!ret)
		keep_dir_or_log(fs, parent, req->name);
	tree_names_end(&fs->tree, parent, NULL);
	node_put_unlocked(&fs->tree, parent);
	return ret;
}

/* ---- unlink ---- */

/* The object of @n at @key goes, and what is cached of it. *@there: there was an object. */
static int unlink_object(struct objectfs *fs, const char *key, bool *there)
{
	struct cache_file *f = cache_file_peek(fs->cache, key);
	struct cache_file_info info = { .created = false };
	int ret;

	if (f) {
		/* First, so that no commit brings the object back. */
		cache_file_unlink(f);
		cache_file_info(f, &info);
	}
	*there = !info.created || info.doubtful;
	ret = *there ? change_delete(fs, key) : 0;
	if (f && ret)
		cache_file_restore(f);
	if (f)
		cache_file_put(f);
	return ret;
}

/* A file that was there lately need not be asked for once more: if it went meanwhile, then
 * DELETE does no harm. With a reference, or NULL. */
static struct node *unlink_known(struct objectfs *fs, struct node *parent, const char *name)
{
	uint64_t since = objectfs_since(loop_now_ns(), WITNESS_NS);
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

static int unlink_in(struct objectfs *fs, struct node *parent, const char *name, bool *there)
{
	struct tree *t = &fs->tree;
	char key[NODE_KEY_SIZE];
	struct node *n = unlink_known(fs, parent, name);
	bool dir;
	int ret = 0;

	if (!n)
		ret = objectfs_find(fs, parent, name, fs->config.negative_timeout_ns, &n);
	if (ret)
		return ret;
	tree_lock(t);
	dir = node_is(n, NODE_DIR);
	node_key(t, n, NULL, 0, key);
	/* The name goes first: nobody opens it any more. */
	if (!dir)
		change_forget(fs, n);
	tree_unlock(t);
	ret = dir ? -EISDIR : unlink_object(fs, key, there);
	tree_lock(t);
	if (!ret)
		negative_add(t, parent, name, strlen(name), loop_now_ns());
	else if (!dir) {
		struct node *again = NULL;

		dir_pages_forget(parent, 0); /* it may be there still: ask */
		/* What is ours of it has to have a node, or rmdir would not see it. */
		if (!node_is(parent, NODE_GONE) && !node_find(t, parent, name, strlen(name)))
			again = file_find_ours(fs, parent, name, strlen(name));
		if (again)
			node_reap(t, again);
	}
	node_put(t, n);
	tree_unlock(t);
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
	tree_names_begin(&fs->tree, parent, NULL);
	ret = unlink_in(fs, parent, req->name, &there);
	if (!ret && there)
		keep_dir_or_log(fs, parent, req->name);
	tree_names_end(&fs->tree, parent, NULL);
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
	ret = node_is(parent, NODE_GONE) ? -ENOENT : node_key(t, parent, name, len, key);
	if (ret >= 0) {
		ret = 0;
		*file = cache_file_create(fs->cache, key, &ret);
	}
	if (ret < 0 || !*file) {
		tree_unlock(t);
		return ret < 0 ? ret : -ENOMEM;
	}
	negative_clear(t, parent, name, len);
	n = node_find(t, parent, name, len);
	if (n)
		change_forget(fs, n);
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
	tree_names_begin(&fs->tree, parent, NULL);
	ret = mknod_in(fs, parent, req->name, &n);
	tree_names_end(&fs->tree, parent, NULL);
	if (!ret)
		ret = change_reply(s, req, n);
	node_put_unlocked(&fs->tree, parent);
	return ret;
}
