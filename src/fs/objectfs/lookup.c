/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names to nodes: LOOKUP, and what everything else finds names by.
 *
 * Memory is asked first: nodes, files with changes of ours, pages of listings, names that were
 * missing lately. What memory does not know costs
 *
 *	a new name			STAT "a" and LIST "a/" with one row, at the same time
 *	a file, a directory that was	STAT, or LIST; the other one only if that fails
 *
 * Who asks for many names in one directory is soon given a page of them: burst.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "fs/objectfs/ask.h"
#include "fs/objectfs/burst.h"
#include "fs/objectfs/claim.h"
#include "fs/objectfs/internal.h"

/* How often an answer is thrown away because what was asked for was changed meanwhile. */
#define LOOKUP_TRIES 8

/* ---- Names that are missing: a table by hash, one name in each place ---- */

#define NEGATIVES 16384u

struct negative {
	struct {
		uint64_t hash, ns;
	} slot[NEGATIVES];
};

struct negative *negative_new(void)
{
	return calloc(1, sizeof(struct negative));
}

/* Keyed by a random seed, and of 64 bits: that two names have one is not to be expected. */
static uint64_t negative_hash(const struct tree *t, const struct node *parent, const char *name,
			      size_t len)
{
	return name_hash(name, len, t->seed + node_id(parent));
}

void negative_add(struct tree *t, const struct node *parent, const char *name, size_t len,
		  uint64_t ns)
{
	uint64_t hash = negative_hash(t, parent, name, len);

	t->negative->slot[hash % NEGATIVES].hash = hash;
	t->negative->slot[hash % NEGATIVES].ns = ns;
}

void negative_clear(struct tree *t, const struct node *parent, const char *name, size_t len)
{
	uint64_t hash = negative_hash(t, parent, name, len);

	if (t->negative->slot[hash % NEGATIVES].hash == hash)
		t->negative->slot[hash % NEGATIVES].ns = 0;
}

/* When it was last known to be missing; 0: never. */
static uint64_t negative_last(const struct tree *t, const struct node *parent, const char *name,
			      size_t len)
{
	uint64_t hash = negative_hash(t, parent, name, len);

	return t->negative->slot[hash % NEGATIVES].hash == hash
		       ? t->negative->slot[hash % NEGATIVES].ns
		       : 0;
}

uint64_t lookup_create_ns(const struct objectfs *fs)
{
	uint64_t ns = fs->config.negative_timeout_ns;

	return store_caps(fs->store)->if_absent ? MAX(ns, NSEC_PER_SEC) : ns;
}

/* ---- From memory; tree.lock is held ---- */

struct node *lookup_from_row(struct objectfs *fs, struct node *parent, struct page *p,
			     const struct page_row *row)
{
	struct node *n = node_add(&fs->tree, parent, row_name(p, row), row_name_len(row),
				  row->flags & ROW_DIR ? NODE_DIR : 0);
	struct store_meta meta;

	if (!n)
		return NULL;
	parent->pages->useful++;
	if (row->flags & ROW_DIR) {
		n->fetched_ns = p->fetched_ns;
		n->mtime_ns = fs->tree.root->mtime_ns;
	} else {
		row_meta(p, row, &meta);
		node_set_meta(n, &meta, p->fetched_ns);
		file_overtakes(fs, n);
	}
	return n;
}

/* What pages say; that a name is missing, those that are not older than @absent_ns: then *@page is
 * the older one of the two. @proof: pages_find()'s. An object "a" beside "a/" is not shown. */
static enum lookup_state lookup_pages(struct objectfs *fs, struct node *parent, const char *name,
				      size_t len, uint64_t absent_ns, bool proof,
				      struct page **page, struct page_row **row)
{
	uint64_t since = objectfs_since(loop_now_ns(), fs->config.entry_timeout_ns);
	enum page_answer as_dir, as_file;
	char slashed[NAME_MAX + 2];
	struct page *other;
	struct page_row *other_row;

	memcpy(slashed, name, len);
	slashed[len] = '/';
	as_dir = pages_find(parent, slashed, len + 1, since, false, page, row);
	if (as_dir == PAGE_PRESENT)
		return LOOKUP_NODE;
	as_file = pages_find(parent, name, len, since, false, &other, &other_row);
	if (as_file == PAGE_PRESENT && as_dir == PAGE_ABSENT) {
		*page = other;
		*row = other_row;
		return LOOKUP_NODE;
	}
	if (pages_find(parent, slashed, len + 1, absent_ns, proof, page, row) != PAGE_ABSENT ||
	    pages_find(parent, name, len, absent_ns, proof, &other, row) != PAGE_ABSENT)
		return LOOKUP_ASK;
	if (other->fetched_ns < (*page)->fetched_ns)
		*page = other;
	return LOOKUP_ABSENT;
}

/* Something of ours is below, whatever the storage thinks. */
static bool lookup_holds_ours(struct objectfs *fs, struct node *dir)
{
	for (uint32_t i = dir->first_child; i;) {
		struct node *n = node_peek(&fs->tree, i);

		i = n->next_sibling;
		if (!node_is(n, NODE_DIR) && file_digest(fs, n))
			return true;
	}
	return false;
}

static bool lookup_believed(struct objectfs *fs, struct node *n, uint64_t now)
{
	if (!node_is(n, NODE_DIR) && file_digest(fs, n))
		return true;
	return n->fetched_ns >= objectfs_since(now, fs->config.entry_timeout_ns);
}

/* lookup_known(); *@missing_ns: when it was last known to be missing, for LOOKUP_ABSENT. */
static enum lookup_state lookup_memory(struct objectfs *fs, struct node *parent, const char *name,
				       size_t len, uint64_t timeout_ns, struct node **out,
				       uint64_t *missing_ns)
{
	uint64_t now = loop_now_ns(), since = objectfs_since(now, timeout_ns);
	struct tree *t = &fs->tree;
	struct node *n = node_find(t, parent, name, len);
	enum lookup_state state;
	struct page_row *row;
	struct page *page;

	*out = n;
	*missing_ns = now;
	if (claim_is(t, parent, name, len))
		return n ? LOOKUP_NODE : LOOKUP_ABSENT;
	if (n)
		return lookup_believed(fs, n, now) ? LOOKUP_NODE : LOOKUP_ASK;
	*out = n = file_find_ours(fs, parent, name, len);
	if (n)
		return LOOKUP_NODE;
	state = lookup_pages(fs, parent, name, len, since, true, &page, &row);
	if (state == LOOKUP_NODE) {
		*out = lookup_from_row(fs, parent, page, row);
		return *out ? LOOKUP_NODE : LOOKUP_ASK;
	}
	*missing_ns = negative_last(t, parent, name, len);
	if (state == LOOKUP_ABSENT)
		*missing_ns = MAX(*missing_ns, page->fetched_ns);
	return *missing_ns >= since ? LOOKUP_ABSENT : LOOKUP_ASK;
}

enum lookup_state lookup_known(struct objectfs *fs, struct node *parent, const char *name,
			       size_t len, uint64_t negative_ns, struct node **out)
{
	uint64_t missing_ns;

	return lookup_memory(fs, parent, name, len, negative_ns, out, &missing_ns);
}

/* ---- Putting the answer into the tree; tree.lock is held ---- */

static void install_dir(struct objectfs *fs, struct node *n, const struct asked *a)
{
	n->fetched_ns = MAX(n->fetched_ns, a->sent_ns);
	n->flags &= (uint16_t) ~(NODE_MARKER | NODE_NO_MARKER);
	n->flags |= a->marker ? NODE_MARKER : NODE_NO_MARKER;
	if (a->marker)
		n->mtime_ns = a->marker_mtime_ns;
	else if (!n->mtime_ns)
		n->mtime_ns = fs->tree.root->mtime_ns;
}

/* @n is what it is, whatever the answer: a file that is ours; a directory whose names are being
 * changed (it may be without a single object for a moment), or that has files of ours. */
static bool install_holds(struct objectfs *fs, struct node *n, bool dir)
{
	if (!node_is(n, NODE_DIR))
		return file_digest(fs, n);
	return !dir && (n->changing || lookup_holds_ours(fs, n));
}

/* @n: what was known of the name, or NULL. */
static int install(struct objectfs *fs, struct node *parent, const char *name, size_t len,
		   const struct asked *a, int result, struct node *n, struct node **out)
{
	struct tree *t = &fs->tree;
	bool dir = !result && a->rows;

	/* Or made, or found by somebody else, since we asked. */
	if (n && (n->fetched_ns >= a->sent_ns || install_holds(fs, n, dir))) {
		node_hold(n);
		*out = n;
		return 0;
	}
	if (n && (result == -ENOENT || dir != !!node_is(n, NODE_DIR))) {
		change_forget(fs, n); /* gone, or something else by now */
		n = NULL;
	}
	if (result == -ENOENT) {
		negative_add(t, parent, name, len, a->sent_ns);
		return -ENOENT;
	}
	if (!n) {
		n = node_add(t, parent, name, len, dir ? NODE_DIR : 0);
		if (!n)
			return -ENOMEM;
		/* Pages that are still being read may not show it; newer ones do. */
		if (pages_any(parent)) {
			n->flags |= NODE_UNLISTED | NODE_FOUND;
			n->listed_ns = loop_now_ns();
		}
	}
	negative_clear(t, parent, name, len);
	if (!dir)
		objectfs_file_seen(fs, n, &a->stat.meta, a->sent_ns);
	else
		install_dir(fs, n, a);
	node_hold(n);
	*out = n;
	return 0;
}

/* ---- Both ---- */

/* What @guess, which is put, says of the name for which it was fetched: 0, with a reference to
 * *@out; -ENOENT, which guesses prove of no other name, as they may be older than the question; or
 * -EAGAIN when it has to be asked for, or @guess is NULL. */
static int burst_answer(struct objectfs *fs, struct node *dir, const char *name, size_t len,
			struct page *guess, struct node **out)
{
	enum lookup_state state = LOOKUP_ABSENT;
	struct page_row *row;
	struct page *page;
	struct node *n = NULL;
	int ret = -EAGAIN;

	if (!guess)
		return -EAGAIN;
	tree_lock(&fs->tree);
	if (!node_is(dir, NODE_GONE))
		state = lookup_known(fs, dir, name, len, 0, &n);
	if (state == LOOKUP_NODE) {
		node_hold(n);
		*out = n;
		ret = 0;
	} else if (state == LOOKUP_ASK && !n &&
		   lookup_pages(fs, dir, name, len, guess->fetched_ns, false, &page, &row) ==
			   LOOKUP_ABSENT) {
		negative_add(&fs->tree, dir, name, len, guess->fetched_ns);
		ret = -ENOENT;
	}
	page_put(guess);
	tree_unlock(&fs->tree);
	return ret;
}

/* One try; -EAGAIN when the name was changed meanwhile, so that the answer may be old. */
static int find_once(struct objectfs *fs, struct node *parent, const char *name, size_t len,
		     uint64_t negative_ns, bool *burst_done, struct asked *a, struct node **out)
{
	struct tree *t = &fs->tree;
	enum lookup_state state = LOOKUP_ASK;
	char key[NODE_KEY_SIZE];
	enum what was = WAS_NOTHING;
	struct node *n = NULL;
	struct inquiry q;
	uint32_t moves = 0;
	bool page = false, good;
	int ret;

	tree_lock(t);
	if (!node_is(parent, NODE_DIR))
		ret = -ENOTDIR;
	else
		ret = node_is(parent, NODE_GONE) ? -ENOENT : node_key(t, parent, name, len, key);
	if (ret >= 0) {
		state = lookup_known(fs, parent, name, len, negative_ns, &n);
		if (state == LOOKUP_NODE) {
			node_hold(n);
			*out = n;
		}
		if (state == LOOKUP_ASK && !*burst_done) {
			page = *burst_done = burst_due(fs, parent, n != NULL);
			if (!page && burst_wait(t, parent)) {
				*burst_done = true; /* not for the next page, too */
				tree_unlock(t);
				return -EAGAIN;
			}
		}
		if (n)
			was = node_is(n, NODE_DIR) ? WAS_DIR : WAS_FILE;
		moves = dir_pages_get(parent) ? parent->pages->moves : 0;
		if (state == LOOKUP_ASK && !page)
			inquiry_begin(t, &q, parent, name, len);
	}
	tree_unlock(t);
	if (ret < 0 || state != LOOKUP_ASK)
		return ret < 0 ? ret : state == LOOKUP_NODE ? 0 : -ENOENT;
	if (page)
		return burst_answer(fs, parent, name, len, burst_fetch(fs, parent, name, len), out);
	ret = ask(fs, a, key, was);
	tree_lock(t);
	good = inquiry_end(&q) && (!parent->pages || parent->pages->moves == moves);
	if (ret && ret != -ENOENT)
		; /* what went wrong */
	else if (!good)
		ret = -EAGAIN;
	else if (node_is(parent, NODE_GONE))
		ret = -ENOENT;
	else
		ret = install(fs, parent, name, len, a, ret, node_find(t, parent, name, len), out);
	tree_unlock(t);
	return ret;
}

int objectfs_find(struct objectfs *fs, struct node *parent, const char *name, uint64_t negative_ns,
		  struct node **out)
{
	struct asked *a = malloc(sizeof(*a));
	bool burst_done = false;
	int ret = -EAGAIN;

	if (!a)
		return -ENOMEM;
	for (unsigned i = 0; i < LOOKUP_TRIES && ret == -EAGAIN; i++)
		ret = find_once(fs, parent, name, strlen(name), negative_ns, &burst_done, a, out);
	free(a);
	return ret == -EAGAIN ? -EIO : ret;
}

static int refresh_once(struct objectfs *fs, struct node *n, uint64_t since_ns,
			struct objectfs_seen *seen)
{
	struct tree *t = &fs->tree;
	struct asked a;
	char key[NODE_KEY_SIZE], now_key[NODE_KEY_SIZE], name[NAME_MAX + 1];
	struct node *parent;
	struct page *guess = NULL;
	bool page, done;
	int ret;

	tree_lock(t);
	ret = node_is(n, NODE_GONE) ? -ENOENT : node_key(t, n, NULL, 0, key);
	if (ret < 0 || attr_fresh(fs, n, since_ns)) {
		tree_unlock(t);
		return MIN(ret, 0);
	}
	parent = node_peek(t, n->parent);
	/* A page would be too old for the next one who wants to know it now. */
	page = since_ns <= attr_since(fs) && burst_due(fs, parent, true);
	node_hold(parent);
	memcpy(name, n->name, n->name_len + 1u);
	tree_unlock(t);
	if (page)
		guess = burst_fetch(fs, parent, name, strlen(name));
	tree_lock(t);
	if (guess)
		page_put(guess);
	node_put(t, parent);
	done = page && attr_fresh(fs, n, since_ns);
	tree_unlock(t);
	if (done)
		return 0;
	a.sent_ns = loop_now_ns();
	ret = ask_stat(fs, &a, key, seen ? &seen->properties : NULL);
	if (!ret && seen)
		memcpy(seen->etag, a.stat.meta.etag, sizeof(seen->etag));
	tree_lock(t);
	if (node_is(n, NODE_GONE)) {
		ret = -ENOENT;
	} else if (node_key(t, n, NULL, 0, now_key) < 0 || strcmp(key, now_key) != 0) {
		ret = -EAGAIN; /* renamed meanwhile */
	} else if (file_digest(fs, n) || n->fetched_ns >= a.sent_ns) {
		ret = 0;
	} else if (!ret) {
		objectfs_file_seen(fs, n, &a.stat.meta, a.sent_ns);
	} else if (ret == -ENOENT) {
		change_forget(fs, n);
	}
	tree_unlock(t);
	return ret;
}

int objectfs_refresh(struct objectfs *fs, struct node *n, uint64_t since_ns,
		     struct objectfs_seen *seen)
{
	int ret = -EAGAIN;

	if (seen) {
		seen->etag[0] = '\0';
		seen->properties =
			(struct store_properties){ .text = seen->text, .room = sizeof(seen->text) };
	}
	for (unsigned i = 0; i < LOOKUP_TRIES && ret == -EAGAIN; i++)
		ret = refresh_once(fs, n, since_ns, seen);
	return ret == -EAGAIN ? -EIO : ret;
}

/* ---- LOOKUP ---- */

int lookup_reply(struct objectfs_session *s, struct node *n, struct fuse_entry_out *out)
{
	struct objectfs *fs = objectfs_of(s);
	uint64_t since = n->fetched_ns;
	int ret = session_count(s, n);

	if (ret < 0)
		return ret;
	if (node_is(n, NODE_DIR) || file_digest(fs, n))
		since = loop_now_ns(); /* nothing of it can change but through us */
	memset(out, 0, sizeof(*out));
	out->nodeid = node_id(n);
	attr_fill(fs, n, &out->attr);
	attr_valid(since, fs->config.attr_timeout_ns, &out->attr_valid, &out->attr_valid_nsec);
	since = node_is(n, NODE_DIR) ? n->fetched_ns : since;
	attr_valid(since, fs->config.entry_timeout_ns, &out->entry_valid, &out->entry_valid_nsec);
	return 0;
}

/* A name that was missing at @since_ns: the guest may believe it for the rest of the time, or is
 * just told. */
static int lookup_missing(struct objectfs *fs, uint64_t since_ns, struct fuse_entry_out *out)
{
	if (!fs->config.negative_timeout_ns)
		return -ENOENT;
	memset(out, 0, sizeof(*out));
	attr_valid(since_ns, fs->config.negative_timeout_ns, &out->entry_valid,
		   &out->entry_valid_nsec);
	return 0;
}

ssize_t objectfs_lookup(struct objectfs_session *s, struct fs_req *req)
{
	struct objectfs *fs = objectfs_of(s);
	struct tree *t = &fs->tree;
	struct node *parent, *n;
	ssize_t ret = OP_DEFER;
	uint64_t missing_ns;

	tree_lock(t);
	parent = node_get(t, req->nodeid);
	if (!parent || node_is(parent, NODE_GONE)) {
		ret = -ESTALE;
	} else if (!node_is(parent, NODE_DIR)) {
		ret = -ENOTDIR;
	} else {
		enum lookup_state state =
			lookup_memory(fs, parent, req->name, strlen(req->name),
				      fs->config.negative_timeout_ns, &n, &missing_ns);

		if (state == LOOKUP_NODE) {
			ret = lookup_reply(s, n, &req->out.entry);
			node_reap(t, n);
		} else if (state == LOOKUP_ABSENT) {
			ret = lookup_missing(fs, missing_ns, &req->out.entry);
		}
	}
	if (parent)
		node_put(t, parent);
	tree_unlock(t);
	return ret;
}

/* Since when the name is missing that has just been found to be; 0 when it came since, or has been
 * forgotten: then nobody is to believe it. */
static uint64_t lookup_missing_since(struct objectfs *fs, struct node *parent, const char *name)
{
	enum lookup_state state = LOOKUP_ASK;
	uint64_t missing_ns = 0;
	struct node *n;

	tree_lock(&fs->tree);
	if (!node_is(parent, NODE_GONE)) {
		state = lookup_memory(fs, parent, name, strlen(name),
				      fs->config.negative_timeout_ns, &n, &missing_ns);
		if (n)
			node_reap(&fs->tree, n);
	}
	tree_unlock(&fs->tree);
	return state == LOOKUP_ABSENT ? missing_ns : 0;
}

/* The storage does not answer: what is cached is as it was last seen, with a reference. */
static bool lookup_offline(struct objectfs *fs, struct node *parent, const char *name,
			   struct node **out)
{
	struct tree *t = &fs->tree;
	struct node *n;
	bool cached;

	tree_lock(t);
	n = node_find(t, parent, name, strlen(name));
	cached = n && file_cached(fs, n);
	if (cached)
		node_hold(n);
	tree_unlock(t);
	*out = n;
	return cached;
}

ssize_t objectfs_lookup_slow(struct objectfs_session *s, struct fs_req *req)
{
	struct objectfs *fs = objectfs_of(s);
	struct tree *t = &fs->tree;
	struct node *parent = node_get_unlocked(t, req->nodeid), *n;
	int ret;

	if (!parent)
		return -ESTALE;
	ret = objectfs_find(fs, parent, req->name, fs->config.negative_timeout_ns, &n);
	if ((ret == -EIO || ret == -ETIMEDOUT) && lookup_offline(fs, parent, req->name, &n))
		ret = 0;
	if (!ret) {
		tree_lock(t);
		ret = lookup_reply(s, n, &req->out.entry);
		node_put(t, n);
		tree_unlock(t);
	} else if (ret == -ENOENT) {
		ret = lookup_missing(fs, lookup_missing_since(fs, parent, req->name),
				     &req->out.entry);
	}
	node_put_unlocked(t, parent);
	return ret;
}
