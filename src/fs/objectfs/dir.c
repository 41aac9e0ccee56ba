/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Directory streams: OPENDIR, READDIR, READDIRPLUS, RELEASEDIR.
 *
 * A stream walks from page to page (listing.h) and holds the one it is in, thus a thousand
 * names, however many there are; between its requests only as long as all streams together do not
 * hold too much. For each page it has met it remembers how to ask for it
 * again, so that seekdir() leads back. What no listing can show, because it is ours
 * and not in the storage yet, follows at the end. The position that the guest is given for what
 * follows an entry is
 *
 *	1, 2				"." and ".."
 *	(page + 1) << 20 | row + 1	a row of a page, counted from 0
 *	1 << 62 | n			one of ours, counted from 1
 *
 * which stays what it is as long as the stream is open: rows of a page in memory never
 * move. Only when a page had to be fetched again, for a seek in a directory that is too
 * large to be remembered, rows may have moved within that page by what others did to it.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "fs/objectfs/claim.h"
#include "fs/objectfs/internal.h"

#define COOKIE_PAGE_SHIFT 20
#define COOKIE_ROW_MASK ((1u << COOKIE_PAGE_SHIFT) - 1)
#define COOKIE_EXTRA (1ull << 62)
/* Pages of one stream: with the 1000 rows of S3 more objects than a bucket was seen to have. */
#define ANCHORS_MAX (1u << 24)

struct anchor {
	char *lo, *token;
	uint32_t moves; /* page.moves of the page before, which the token is from */
};

struct dirstream {
	pthread_mutex_t lock; /* covers all below, held for a whole READDIR; outside of tree.lock */
	struct page *page;    /* or NULL */
	uint32_t number;      /* of page */
	struct anchor *anchors; /* of pages 1 .. anchor_count */
	uint32_t anchor_count, anchor_room;
	uint64_t begun_ns;  /* opened, or rewound */
	uint64_t oldest_ns; /* of the pages shown */

	uint32_t *shown; /* indices of nodes of ours that were in pages */
	uint32_t shown_count, shown_room;
	uint64_t shown_to; /* the furthest position looked at for that */
	uint64_t *extras;  /* nodeids of those that were not; made at the end of the pages */
	uint32_t extra_count;
	bool extras_made, started;
};

/* @page, with a reference that becomes the stream's, or NULL, is the current one. tree.lock is
 * held.
 */
static void dirstream_hold(struct objectfs *fs, struct dirstream *d, struct page *page)
{
	if (d->page) {
		fs->stream_rows -= d->page->count;
		page_put(d->page);
	}
	if (page)
		fs->stream_rows += page->count;
	d->page = page;
}

static void dirstream_reset(struct objectfs *fs, struct dirstream *d)
{
	tree_lock(&fs->tree);
	dirstream_hold(fs, d, NULL);
	tree_unlock(&fs->tree);
	for (uint32_t i = 0; i < d->anchor_count; i++) {
		free(d->anchors[i].lo);
		free(d->anchors[i].token);
	}
	d->anchor_count = 0;
	d->begun_ns = loop_now_ns();
	d->oldest_ns = UINT64_MAX;
	d->shown_count = 0;
	d->shown_to = 0;
	free(d->extras);
	d->extras = NULL;
	d->extra_count = 0;
	d->extras_made = false;
}

void dirstream_free(struct objectfs *fs, struct dirstream *d)
{
	dirstream_reset(fs, d);
	free(d->anchors);
	free(d->shown);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

ssize_t objectfs_opendir(struct objectfs_session *s, struct fs_req *req)
{
	struct objectfs *fs = objectfs_of(s);
	struct node *n = node_get_unlocked(&fs->tree, req->nodeid);
	struct dirstream *d;
	int ret = -ENOTDIR;
	bool dir;

	if (!n)
		return -ESTALE;
	tree_lock(&fs->tree);
	dir = node_is(n, NODE_DIR);
	tree_unlock(&fs->tree);
	d = dir ? calloc(1, sizeof(*d)) : NULL;
	if (d) {
		pthread_mutex_init(&d->lock, NULL);
		d->begun_ns = loop_now_ns();
		d->oldest_ns = UINT64_MAX;
		req->out.open = (struct fuse_open_out){ 0 };
		ret = handle_add(s, n, NULL, d, HANDLE_DIR, &req->out.open.fh);
		if (ret)
			dirstream_free(fs, d);
	} else if (dir) {
		ret = -ENOMEM;
	}
	node_put_unlocked(&fs->tree, n);
	return ret;
}

ssize_t objectfs_releasedir(struct objectfs_session *s, struct fs_req *req)
{
	file_reap(objectfs_of(s));
	return handle_release(s, req->in.release.fh, true) ? 0 : -EBADF;
}

struct dir_read {
	struct objectfs_session *s;
	struct objectfs *fs;
	struct fs_req *req;
	struct node *dir;
	struct dirstream *d;
	bool plus, may_block;
	size_t used;
};

/* Remembers where the page after the current one begins. */
static int dir_anchor(struct dirstream *d)
{
	struct page *p = d->page;
	struct anchor a;

	if (p->last || d->anchor_count != d->number)
		return 0;
	if (d->anchor_count == d->anchor_room) {
		uint32_t room = d->anchor_room ? d->anchor_room * 2 : 4;
		struct anchor *anchors = reallocarray(d->anchors, room, sizeof(*anchors));

		if (!anchors || room > ANCHORS_MAX)
			return -ENOMEM;
		d->anchors = anchors;
		d->anchor_room = room;
	}
	a = (struct anchor){ .lo = strdup(p->hi), .token = strdup(p->token), .moves = p->moves };
	if (!a.lo || !a.token) {
		free(a.lo);
		free(a.token);
		return -ENOMEM;
	}
	d->anchors[d->anchor_count++] = a;
	return 0;
}

/* Makes page @number the current one. OP_DEFER when that takes a request and may not; -ENOENT
 * when the directory is gone. */
static int dir_turn(struct dir_read *r, uint32_t number)
{
	struct objectfs *fs = r->fs;
	struct dirstream *d = r->d;
	const char *lo = "", *token = NULL;
	struct page *page;
	int ret = 0;

	if (d->page && d->number == number)
		return 0;
	if (number > d->anchor_count)
		return -EINVAL; /* no position that was given out */
	if (number) {
		lo = d->anchors[number - 1].lo;
		token = d->anchors[number - 1].token;
	}
	tree_lock(&fs->tree);
	/* A directory that was renamed since goes on by name. */
	if (token && r->dir->pages->moves != d->anchors[number - 1].moves)
		token = NULL;
	page = pages_from(r->dir, lo, objectfs_since(loop_now_ns(), fs->config.entry_timeout_ns));
	tree_unlock(&fs->tree);
	if (!page && !r->may_block)
		return (int)OP_DEFER;
	if (!page)
		ret = listing_fetch(fs, r->dir, lo, token, &page);
	if (ret)
		return ret;
	tree_lock(&fs->tree);
	dirstream_hold(fs, d, page);
	tree_unlock(&fs->tree);
	d->number = number;
	d->oldest_ns = MIN(d->oldest_ns, page->fetched_ns);
	return dir_anchor(d);
}

/* ---- Entries ---- */

/* A node of ours was in a page, before position @cookie. Who goes back and forth sees it again,
 * but it is noted once. tree.lock is held. */
static void dir_shown(struct dirstream *d, const struct node *n, uint64_t cookie)
{
	if (cookie <= d->shown_to)
		return;
	d->shown_to = cookie;
	if (d->shown_count == d->shown_room) {
		uint32_t room = d->shown_room ? d->shown_room * 2 : 16;
		uint32_t *shown = reallocarray(d->shown, room, sizeof(*shown));

		if (!shown)
			return; /* shown twice, then */
		d->shown = shown;
		d->shown_room = room;
	}
	d->shown[d->shown_count++] = n->slot.index;
}

/* Room for an entry of that length? */
static bool dir_room(const struct dir_read *r, size_t len)
{
	size_t size = r->plus ? fs_direntplus_size(len) : fs_dirent_size(len);

	return size <= r->req->reply_size - r->used;
}

/* @n: NULL for one that the guest gets no nodeid of. tree.lock is held. There is room. */
static void dir_emit(struct dir_read *r, struct node *n, const char *name, size_t len, bool dir,
		     uint64_t cookie)
{
	struct fuse_entry_out entry = { 0 };
	uint64_t ino = n ? n->ino : name_ino(r->dir->ino, name, len);
	uint32_t type = dir ? DT_DIR : DT_REG;

	if (!r->plus) {
		fs_dirent_add(r->req, &r->used, ino, cookie, type, name, len);
		return;
	}
	if (n && lookup_reply(r->s, n, &entry) < 0)
		entry = (struct fuse_entry_out){ 0 };
	fs_direntplus_add(r->req, &r->used, &entry, ino, cookie, type, name, len);
}

/* "." and "..". False: no room. */
static bool dir_emit_dots(struct dir_read *r, uint64_t *pos)
{
	static const char dots[] = "..";

	for (; *pos < 2; (*pos)++) {
		size_t len = *pos + 1;
		struct node *n, *up;

		if (!dir_room(r, len))
			return false;
		tree_lock(&r->fs->tree);
		up = node_peek(&r->fs->tree, r->dir->parent);
		n = len == 2 && up ? up : r->dir;
		if (r->plus) {
			struct fuse_entry_out entry = { 0 };

			fs_direntplus_add(r->req, &r->used, &entry, n->ino, len, DT_DIR, dots, len);
		} else {
			fs_dirent_add(r->req, &r->used, n->ino, len, DT_DIR, dots, len);
		}
		tree_unlock(&r->fs->tree);
	}
	return true;
}

/*
 * "a" beside "a/": the directory is shown. The two stand in one page but for rare cases, where
 * the file has been shown by then, and stays the only one. tree.lock is held.
 */
static bool dir_hidden(struct dir_read *r, const char *name, size_t len, bool dir)
{
	char slashed[NAME_MAX + 2];
	struct page *page;
	struct page_row *row;
	struct node *n;
	char key[NODE_KEY_SIZE];

	if (dir) {
		if (!*r->d->page->lo ||
		    memcmp(name, r->d->page->lo, MIN(len, strlen(r->d->page->lo))) > 0)
			return false;
		n = node_find(&r->fs->tree, r->dir, name, len);
		return n && !node_is(n, NODE_DIR);
	}
	memcpy(slashed, name, len);
	slashed[len] = '/';
	if (pages_find(r->dir, slashed, len + 1, r->d->page->fetched_ns, false, &page, &row) !=
	    PAGE_PRESENT)
		return false;
	if (node_key(&r->fs->tree, r->dir, NULL, 0, key) >= 0)
		names_warn(&r->fs->warned, "object_hidden_by_directory", key, name, len);
	return true;
}

/* One row. False: no room. */
static bool dir_emit_row(struct dir_read *r, struct page_row *row, uint64_t cookie)
{
	struct page *p = r->d->page;
	const char *name = row_name(p, row);
	struct tree *t = &r->fs->tree;
	bool dir, room = true;
	struct node *n;
	size_t len;

	tree_lock(t);
	dir = row->flags & ROW_DIR;
	len = row_name_len(row);
	if ((row->flags & ROW_DEAD) || dir_hidden(r, name, len, dir))
		goto out;
	room = dir_room(r, len);
	if (!room)
		goto out;
	n = node_find(t, r->dir, name, len);
	if (!n && claim_is(t, r->dir, name, len))
		goto out; /* being made, or removed */
	if (!n && r->plus)
		n = file_find_ours(r->fs, r->dir, name, len);
	if (n && node_is(n, NODE_UNLISTED))
		dir_shown(r->d, n, cookie);
	/* What it was before somebody put a directory in the place of a file. */
	if (n && !!node_is(n, NODE_DIR) != dir) {
		dir_emit(r, NULL, name, len, dir, cookie);
		node_reap(t, n);
		goto out;
	}
	if (!n && r->plus && !p->suspect)
		n = lookup_from_row(r->fs, r->dir, p, row);
	dir_emit(r, n, name, len, dir, cookie);
	if (n)
		node_reap(t, n);
out:
	tree_unlock(t);
	return room;
}

/* The rest of the current page. False: no room. */
static bool dir_emit_page(struct dir_read *r, uint32_t row)
{
	struct dirstream *d = r->d;

	for (; row < d->page->count; row++) {
		uint64_t next = ((uint64_t)d->number + 1) << COOKIE_PAGE_SHIFT | (row + 1);

		if (!dir_emit_row(r, &d->page->rows[row], next))
			return false;
	}
	return true;
}

static int index_compare(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

struct dir_proof {
	struct objectfs *fs;
	uint64_t since_ns;
	bool found;
};

static void dir_prove(struct node *n, void *arg)
{
	struct dir_proof *p = arg;
	bool ours = node_is(n, NODE_DIR) ? n->changing : file_digest(p->fs, n);

	p->found |= ours || n->fetched_ns >= p->since_ns;
}

/* Whether @n, which was made through us and that no page showed, has been removed by another
 * client: unless it, or something below, is ours still, or was there after the pages were asked
 * for. tree.lock is held. */
static bool dir_vanished(struct objectfs *fs, const struct dirstream *d, struct node *n)
{
	struct dir_proof p = { .fs = fs, .since_ns = d->oldest_ns };

	if (n->listed_ns || n->fetched_ns >= p.since_ns || p.since_ns == UINT64_MAX)
		return false;
	node_walk(&fs->tree, n, dir_prove, &p);
	return !p.found;
}

/* Whether @n need not be shown once more. One that was found while the directory was being read
 * either was in a page already, without a node, or has come since. */
static bool dir_listed(const struct dirstream *d, const struct node *n)
{
	if (!node_is(n, NODE_UNLISTED) || (n->listed_ns && n->listed_ns <= d->oldest_ns))
		return true;
	if (node_is(n, NODE_FOUND) && n->listed_ns > d->begun_ns)
		return true;
	return d->shown_count && bsearch(&n->slot.index, d->shown, d->shown_count,
					 sizeof(d->shown[0]), index_compare);
}

/* Those of ours that are in no page that was shown. */
static int dir_make_extras(struct dir_read *r)
{
	struct tree *t = &r->fs->tree;
	struct dirstream *d = r->d;
	uint32_t room = 0;
	int ret = 0;

	if (d->extras_made)
		return 0;
	if (d->shown_count)
		qsort(d->shown, d->shown_count, sizeof(d->shown[0]), index_compare);
	tree_lock(t);
	for (uint32_t i = r->dir->first_child; i && !ret;) {
		struct node *n = node_peek(t, i);

		i = n->next_sibling;
		if (dir_listed(d, n) || dir_vanished(r->fs, d, n))
			continue;
		if (d->extra_count == room) {
			uint64_t *extras;

			room = room ? room * 2 : 16;
			extras = reallocarray(d->extras, room, sizeof(*extras));
			if (!extras) {
				ret = -ENOMEM;
				break;
			}
			d->extras = extras;
		}
		d->extras[d->extra_count++] = node_id(n);
	}
	tree_unlock(t);
	d->extras_made = !ret;
	return ret;
}

/* From number @first on, as far as there is room. */
static void dir_emit_extras(struct dir_read *r, uint64_t first)
{
	struct tree *t = &r->fs->tree;
	struct dirstream *d = r->d;
	bool room = true;

	tree_lock(t);
	for (uint64_t i = first; i < d->extra_count && room; i++) {
		struct node *n = node_get(t, d->extras[i]);

		if (n && !node_is(n, NODE_GONE) && n->parent == r->dir->slot.index) {
			room = dir_room(r, n->name_len);
			if (room)
				dir_emit(r, n, n->name, n->name_len, node_is(n, NODE_DIR),
					 COOKIE_EXTRA | (i + 1));
		}
		if (n)
			node_put(t, n);
	}
	tree_unlock(t);
}

/* The rows of all pages from the position @pos on. 0: all were shown; 1: the reply is full. */
static int dir_fill_rows(struct dir_read *r, uint64_t pos)
{
	uint32_t number = 0, row = 0;
	int ret;

	if (pos > 2) {
		uint64_t page = pos >> COOKIE_PAGE_SHIFT;

		if (page == 0 || page > ANCHORS_MAX)
			return -EINVAL;
		number = (uint32_t)page - 1;
		row = (uint32_t)pos & COOKIE_ROW_MASK;
	}
	for (;; number++, row = 0) {
		ret = dir_turn(r, number);
		if (ret == -ENOENT)
			return 0; /* removed while it was open: there is nothing in it */
		if (ret)
			return ret;
		if (!dir_emit_page(r, row))
			return 1;
		if (r->d->page->last)
			return 0;
	}
}

/* From the position @pos on until the reply is full or the directory ends. */
static int dir_fill(struct dir_read *r, uint64_t pos)
{
	struct iov_cursor reply = r->req->reply;
	int ret = 0;

	if (pos < 2 && !dir_emit_dots(r, &pos))
		return r->used ? 0 : -EINVAL;
	if (!(pos & COOKIE_EXTRA)) {
		bool dots = r->used;
		size_t used = r->used;

		ret = dir_fill_rows(r, pos);
		if (ret == (int)OP_DEFER && dots && r->used == used) {
			r->req->reply = reply; /* all in one reply is better than two dots */
			r->used = 0;
		}
		if (ret)
			return MIN(ret, 0);
		pos = COOKIE_EXTRA;
	}
	ret = dir_make_extras(r);
	if (!ret)
		dir_emit_extras(r, pos & ~COOKIE_EXTRA);
	return ret;
}

static ssize_t dir_read(struct objectfs_session *s, struct fs_req *req, bool may_block)
{
	struct dir_read r = { .s = s,
			      .fs = objectfs_of(s),
			      .req = req,
			      .plus = req->opcode == FUSE_READDIRPLUS,
			      .may_block = may_block };
	struct handle *h = handle_get(s, req->in.read.fh, HANDLE_DIR);
	ssize_t ret;

	if (!h)
		return -EBADF;
	r.dir = h->node;
	r.d = h->dir;
	if (may_block) {
		pthread_mutex_lock(&r.d->lock);
	} else if (pthread_mutex_trylock(&r.d->lock)) {
		handle_put(s, h);
		return OP_DEFER;
	}
	/* rewinddir() wants what is there now. */
	if (!req->in.read.offset && r.d->started)
		dirstream_reset(r.fs, r.d);
	ret = dir_fill(&r, req->in.read.offset);
	r.d->started = true;
	tree_lock(&r.fs->tree);
	if (r.fs->stream_rows > r.fs->stream_rows_max)
		dirstream_hold(r.fs, r.d, NULL); /* it is found again as for a seek */
	tree_unlock(&r.fs->tree);
	pthread_mutex_unlock(&r.d->lock);
	handle_put(s, h);
	/* What went wrong behind the first entries will go wrong again, and is told then. */
	if (r.used)
		return (ssize_t)r.used;
	return ret;
}

ssize_t objectfs_readdir(struct objectfs_session *s, struct fs_req *req)
{
	return dir_read(s, req, false);
}

ssize_t objectfs_readdir_slow(struct objectfs_session *s, struct fs_req *req)
{
	return dir_read(s, req, true);
}
