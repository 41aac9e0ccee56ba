/* SPDX-License-Identifier: Apache-2.0 */
/* One LIST becomes a page. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "fs/objectfs/internal.h"

/* Rows of a page, whatever the service thinks a page is. */
#define PAGE_ROWS_MAX 100000u

/* How often a directory is listed that is renamed all the time. */
#define FETCH_TRIES 8
/* ... or whose names change so fast that no listing of them is true when it comes in. */
#define CHANGE_TRIES 3

struct builder {
	struct store_op op;
	struct store_page next;
	struct objectfs *fs;
	const char *prefix, *lo;
	size_t prefix_len;
	struct page *page;
	uint32_t rows_room;
	size_t text_used, text_room;
	char hi[NODE_KEY_SIZE]; /* the greatest key so far */
	size_t hi_len;
	bool marker;
	int64_t marker_mtime_ns;
	int error;
};

static struct builder *builder_of(struct store_op *op)
{
	return container_of(op, struct builder, op);
}

static void builder_restart(struct store_op *op)
{
	struct builder *b = builder_of(op);

	b->page->count = 0;
	b->text_used = 0;
	b->hi_len = 0;
	b->marker = false;
	b->error = 0;
}

/* At least @rows and @text more. */
static bool builder_room(struct builder *b, size_t text)
{
	if (b->page->count == b->rows_room) {
		uint32_t room = b->rows_room ? b->rows_room * 2 : 64;
		struct page_row *rows = reallocarray(b->page->rows, room, sizeof(*rows));

		if (!rows || room > PAGE_ROWS_MAX * 2)
			return false;
		b->page->rows = rows;
		b->rows_room = room;
	}
	if (b->text_used + text > b->text_room) {
		size_t room = MAX(b->text_room * 2, (size_t)4096);
		char *bytes = realloc(b->page->text, room);

		if (!bytes)
			return false;
		b->page->text = bytes;
		b->text_room = room;
	}
	return true;
}

static void builder_add(struct builder *b, const char *name, size_t len, bool dir,
			const struct store_meta *meta)
{
	size_t etag_len = dir ? 0 : strnlen(meta->etag, STORE_ETAG_MAX - 1);
	struct page_row *row;
	char *text;

	if (!builder_room(b, len + etag_len + 1)) {
		b->error = -ENOMEM;
		return;
	}
	row = &b->page->rows[b->page->count++];
	*row = (struct page_row){ .text = (uint32_t)b->text_used,
				  .name_len = (uint16_t)len,
				  .flags = dir ? ROW_DIR : 0,
				  .size = dir ? 0 : meta->size,
				  .mtime_ns = dir ? 0 : meta->mtime_ns };
	text = b->page->text + b->text_used;
	memcpy(text, name, len);
	memcpy(text + len, meta->etag, etag_len);
	text[len + etag_len] = '\0';
	b->text_used += len + etag_len + 1;
}

/* store_op.list.entry; transfer loop. */
static void builder_entry(struct store_op *op, const struct store_entry *entry)
{
	struct builder *b = builder_of(op);
	const char *name = entry->key + b->prefix_len;
	size_t len, name_len;

	if (entry->key_len < b->prefix_len || memcmp(entry->key, b->prefix, b->prefix_len) != 0)
		return; /* not what was asked for */
	len = entry->key_len - b->prefix_len;
	if (!len) {
		b->marker = true;
		b->marker_mtime_ns = entry->meta.mtime_ns;
		return;
	}
	if (len < sizeof(b->hi) && (len > b->hi_len ? memcmp(name, b->hi, b->hi_len) >= 0
						    : memcmp(name, b->hi, len) > 0)) {
		memcpy(b->hi, name, len);
		b->hi_len = len;
	}
	/* A service that starts after "a/" may well show the prefix "a/" once more. */
	if (*b->lo && strlen(b->lo) >= len && memcmp(name, b->lo, len) <= 0)
		return;
	name_len = entry->is_prefix && name[len - 1] == '/' ? len - 1 : len;
	if (!name_valid(name, name_len)) {
		atomic_fetch_add_explicit(&b->fs->warned.skipped, 1, memory_order_relaxed);
		names_warn(&b->fs->warned, "object_key_skipped", b->prefix, name, len);
		return;
	}
	builder_add(b, name, len, entry->is_prefix, &entry->meta);
}

static int row_compare(const void *a, const void *b, void *text)
{
	const struct page_row *x = a, *y = b;
	int order = memcmp((char *)text + x->text, (char *)text + y->text,
			   (size_t)MIN(x->name_len, y->name_len));

	return order ? order : (x->name_len > y->name_len) - (x->name_len < y->name_len);
}

/* Keys and prefixes come each in order; together they have to be put in it. */
static void builder_sort(struct builder *b)
{
	struct page *p = b->page;
	bool sorted = true;

	for (uint32_t i = 1; i < p->count && sorted; i++)
		sorted = row_compare(&p->rows[i - 1], &p->rows[i], p->text) < 0;
	if (!sorted)
		qsort_r(p->rows, p->count, sizeof(p->rows[0]), row_compare, p->text);
}

/* What the page says about nodes that are known; the lock is held. */
static void builder_teach(struct builder *b, struct node *dir)
{
	struct tree *t = &b->fs->tree;
	struct page *p = b->page;

	for (uint32_t i = 0; i < p->count; i++) {
		const struct page_row *row = &p->rows[i];
		struct node *n = node_find(t, dir, row_name(p, row), row_name_len(row));
		struct store_meta meta;

		if (!n || (row->flags & ROW_DEAD) || p->suspect)
			continue;
		dir->pages->useful++;
		if (node_is(n, NODE_UNLISTED) && !n->listed_ns)
			n->listed_ns = p->fetched_ns;
		if (!!node_is(n, NODE_DIR) != !!(row->flags & ROW_DIR))
			continue; /* LOOKUP finds out */
		if (node_is(n, NODE_DIR)) {
			n->fetched_ns = MAX(n->fetched_ns, p->fetched_ns);
		} else {
			row_meta(p, row, &meta);
			objectfs_file_seen(b->fs, n, &meta, p->fetched_ns);
		}
	}
}

static void builder_teach_marker(struct builder *b, struct node *dir)
{
	if (*b->page->lo)
		return; /* it would be the first row of the first page */
	if (b->marker) {
		dir->flags |= NODE_MARKER;
		dir->flags &= (uint16_t)~NODE_NO_MARKER;
		if (!node_is(dir, NODE_USER_MTIME) && dir != b->fs->tree.root)
			dir->mtime_ns = b->marker_mtime_ns;
	} else if (dir->fetched_ns <= b->page->fetched_ns && dir != b->fs->tree.root) {
		dir->flags |= NODE_NO_MARKER;
		dir->flags &= (uint16_t)~NODE_MARKER;
	}
}

/* The buffers grew by doubling, from what is far too much for a small directory. */
static void builder_trim(struct builder *b)
{
	struct page *p = b->page;
	struct page_row *rows;
	char *text;

	if (!p->count)
		return;
	rows = reallocarray(p->rows, p->count, sizeof(*rows));
	p->rows = rows ? rows : p->rows;
	text = realloc(p->text, b->text_used);
	p->text = text ? text : p->text;
}

/* Fills in what is known only at the end. */
static bool builder_finish(struct builder *b, const char *lo)
{
	struct page *p = b->page;

	p->last = !b->next.truncated;
	p->lo = strdup(lo);
	p->hi = strndup(b->hi, b->hi_len);
	p->token = p->last ? NULL : strdup(b->next.token);
	if (!p->text)
		p->text = strdup("");
	if (!p->lo || !p->hi || !p->text || (!p->last && !p->token))
		return false;
	builder_sort(b);
	builder_trim(b);
	return true;
}

/* Whether the page goes beyond @lo: one that does not would be asked for for ever. */
static bool builder_advances(const struct builder *b, const char *lo)
{
	return b->page->last || strcmp(b->page->hi, lo) > 0;
}

static void builder_drop(struct builder *b)
{
	if (b->page) {
		free(b->page->lo);
		free(b->page->hi);
		free(b->page->token);
		free(b->page->rows);
		free(b->page->text);
		free(b->page);
	}
	free(b);
}

static struct builder *builder_new(struct objectfs *fs, const char *prefix, const char *lo)
{
	struct builder *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->fs = fs;
	b->prefix = prefix;
	b->prefix_len = strlen(prefix);
	b->lo = lo;
	b->page = calloc(1, sizeof(*b->page));
	if (!b->page) {
		free(b);
		return NULL;
	}
	return b;
}

/* The LIST itself. */
static int builder_run(struct builder *b, const char *lo, const char *token)
{
	char after[NODE_KEY_SIZE];

	b->op = (struct store_op){
		.opcode = STORE_LIST,
		.key = b->prefix,
		.list = { .delimiter = "/",
			  .token = token,
			  .limit = OBJECTFS_LIST_ROWS,
			  .entry = builder_entry,
			  .restart = builder_restart,
			  .page = &b->next },
	};
	if (!token && *lo) {
		if (b->prefix_len + strlen(lo) >= sizeof(after))
			return -ENAMETOOLONG;
		memcpy(after, b->prefix, b->prefix_len);
		strcpy(after + b->prefix_len, lo);
		b->op.list.start_after = after;
	}
	objectfs_call(b->fs, &b->op);
	return b->op.result ? b->op.result : b->error;
}

/* A LIST that is to become a page of a directory. */
struct fetch {
	struct node *dir;
	const char *lo, *token;
	bool guess, final; /* final: the page is taken as it is */
	uint32_t moves;
	struct listing_notes notes;
};

static int fetch_begin(struct objectfs *fs, struct fetch *f, char prefix[static NODE_KEY_SIZE])
{
	struct tree *t = &fs->tree;
	int ret;

	tree_lock(t);
	ret = node_is(f->dir, NODE_GONE) ? -ENOENT : node_key(t, f->dir, NULL, 0, prefix);
	if (ret >= 0 && !dir_pages_get(f->dir))
		ret = -ENOMEM;
	if (ret >= 0) {
		f->moves = f->dir->pages->moves;
		listing_notes_begin(f->dir->pages, &f->notes);
	}
	tree_unlock(t);
	return MIN(ret, 0);
}

/*
 * 0; -EAGAIN when the directory was renamed meanwhile, so that what was listed is not its;
 * -ERESTART when so much happened that the page cannot be put right, or when a name went from
 * memory that was ours when the LIST was sent and that only a newer one shows. The lock is held.
 */
static int fetch_verdict(const struct fetch *f, const struct page *p)
{
	const struct dir_pages *d = f->dir->pages;

	if (d->moves != f->moves)
		return -EAGAIN;
	if (!f->final && (f->notes.overflow || d->unlisted_ns > p->fetched_ns))
		return -ERESTART;
	return 0;
}

static int fetch_once(struct objectfs *fs, struct fetch *f, struct page **out)
{
	char prefix[NODE_KEY_SIZE];
	struct tree *t = &fs->tree;
	struct builder *b;
	int ret = fetch_begin(fs, f, prefix);

	if (ret < 0)
		return ret;
	b = builder_new(fs, prefix, f->lo);
	if (b) {
		b->page->fetched_ns = loop_now_ns();
		ret = builder_run(b, f->lo, f->token);
	}
	if (!b || (!ret && !builder_finish(b, f->lo)))
		ret = -ENOMEM;
	if (!ret && !builder_advances(b, f->lo))
		ret = -EIO;
	tree_lock(t);
	if (!ret)
		ret = fetch_verdict(f, b->page);
	if (!ret) {
		b->page->moves = f->moves;
		b->page->guess = f->guess;
		b->page->suspect = f->notes.overflow;
		listing_notes_apply(&f->notes, b->page);
		page_install(fs, f->dir, b->page);
		builder_teach(b, f->dir);
		builder_teach_marker(b, f->dir);
		if (b->marker || b->hi_len) /* it is there, then */
			f->dir->fetched_ns = MAX(f->dir->fetched_ns, b->page->fetched_ns);
		*out = b->page;
		b->page = NULL;
	}
	listing_notes_end(&f->notes);
	tree_unlock(t);
	if (b)
		builder_drop(b);
	return ret;
}

int listing_fetch(struct objectfs *fs, struct node *dir, const char *lo, const char *token,
		  struct page **out)
{
	struct fetch f = { .dir = dir, .lo = lo, .token = token };
	unsigned moved = 0, changed = 0;
	int ret;

	for (;;) {
		f.final = changed >= CHANGE_TRIES;
		ret = fetch_once(fs, &f, out);
		if (ret == -EAGAIN && moved++ < FETCH_TRIES)
			f.token = NULL; /* it is of the former prefix */
		else if (ret == -ERESTART)
			changed++;
		else
			return ret == -EAGAIN ? -EIO : ret;
	}
}

int listing_guess(struct objectfs *fs, struct node *dir, const char *lo, struct page **out)
{
	struct fetch f = { .dir = dir, .lo = lo, .guess = true, .final = true };

	return fetch_once(fs, &f, out);
}
