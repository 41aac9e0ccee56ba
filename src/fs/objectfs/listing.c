/* SPDX-License-Identifier: Apache-2.0 */
/* See listing.h. listing_fetch.c makes the pages. */
#include "fs/objectfs/listing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "fs/objectfs/burst.h"
#include "fs/objectfs/internal.h"

/* A page is memory without a single row, too. */
#define PAGE_CHARGE_MIN 4u
/* Guesses begin anywhere, so there may be many for few names, and each is looked into for a name.
 */
#define GUESS_CHARGE_MIN 256u

struct dir_pages *dir_pages_get(struct node *dir)
{
	if (!dir->pages) {
		dir->pages = calloc(1, sizeof(*dir->pages));
		if (dir->pages) {
			list_init(&dir->pages->pages);
			list_init(&dir->pages->fetches);
			dir->pages->patience = BURST_PATIENCE_MIN;
		}
	}
	return dir->pages;
}

static void page_free(struct page *p)
{
	free(p->lo);
	free(p->hi);
	free(p->token);
	for (uint32_t i = 0; i < p->count; i++)
		free(p->rows[i].etag);
	free(p->rows);
	free(p->text);
	free(p);
}

void page_put(struct page *p)
{
	if (--p->refs)
		return;
	if (p->dir)
		list_remove(&p->link);
	page_free(p);
}

/* It is no longer looked at but by the streams that have it. */
static void page_release(struct tree *t, struct page *p)
{
	if (!p->retained)
		return;
	p->retained = false;
	list_remove(&p->lru);
	t->page_rows -= p->charge;
	p->dir->pages->rows -= p->charge;
	page_put(p);
}

/* Since when pages are good for something. */
static uint64_t pages_since(const struct objectfs *fs)
{
	return objectfs_since(loop_now_ns(),
			      MAX(fs->config.entry_timeout_ns, fs->config.negative_timeout_ns));
}

void page_install(struct objectfs *fs, struct node *dir, struct page *p)
{
	struct tree *t = &fs->tree;
	const uint64_t all = (uint64_t)fs->config.listing_max * OBJECTFS_LISTINGS;
	const uint64_t since = pages_since(fs);
	struct dir_pages *d = dir->pages;
	struct list *pos, *next;

	p->dir = dir;
	p->refs = 1; /* the caller's */
	p->charge = MAX(p->count, p->guess ? GUESS_CHARGE_MIN : PAGE_CHARGE_MIN);
	list_push_back(&d->pages, &p->link);
	list_init(&p->lru);
	/* The newer page of a run takes the place of the older one. */
	list_for_each_safe (pos, next, &d->pages) {
		struct page *old = list_entry(pos, struct page, link);

		if (old != p && (old->fetched_ns < since || !strcmp(old->lo, p->lo)))
			page_release(t, old);
	}
	/* That names are missing, a guess proves to the caller alone. */
	if (p->charge > fs->config.listing_max || (p->guess && !p->count))
		return;
	list_for_each_safe (pos, next, &d->pages) {
		struct page *old = list_entry(pos, struct page, link);

		if (d->rows + p->charge <= fs->config.listing_max)
			break;
		page_release(t, old);
	}
	p->retained = true;
	p->refs++;
	d->rows += p->charge;
	t->page_rows += p->charge;
	list_push_back(&t->page_lru, &p->lru);
	while (t->page_rows > all)
		page_release(t, list_entry(t->page_lru.next, struct page, lru));
}

void dir_pages_free(struct tree *t, struct node *dir)
{
	struct list *pos, *next;

	if (!dir->pages)
		return;
	list_for_each_safe (pos, next, &dir->pages->pages) {
		struct page *p = list_entry(pos, struct page, link);

		if (p->retained)
			page_release(t, p);
	}
	/* Streams hold their directory, so none has a page of this one. */
	free(dir->pages);
	dir->pages = NULL;
}

void dir_pages_drop(struct tree *t, struct node *dir)
{
	struct list *pos, *next;

	if (!dir->pages)
		return;
	dir->pages->moves++;
	list_for_each_safe (pos, next, &dir->pages->pages) {
		struct page *p = list_entry(pos, struct page, link);

		p->suspect = true;
		page_release(t, p);
	}
}

void dir_pages_forget(struct node *dir, uint64_t listed_ns)
{
	struct dir_pages *d = dir->pages;

	/* Without it there are no pages to mislead, nor any being made: listing_fetch()
	 * makes it first. */
	if (d)
		d->unlisted_ns = MAX(d->unlisted_ns, listed_ns ? listed_ns : loop_now_ns());
}

void row_meta(const struct page *p, const struct page_row *row, struct store_meta *meta)
{
	*meta = (struct store_meta){ .size = row->size, .mtime_ns = row->mtime_ns };
	strncpy(meta->etag, row_etag(p, row), sizeof(meta->etag) - 1);
}

/* Byte order of keys. */
static int key_compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int order = memcmp(a, b, MIN(a_len, b_len));

	return order ? order : (a_len > b_len) - (a_len < b_len);
}

static bool page_covers(const struct page *p, const char *name, size_t len)
{
	if (*p->lo && key_compare(name, len, p->lo, strlen(p->lo)) <= 0)
		return false;
	return p->last || key_compare(name, len, p->hi, strlen(p->hi)) <= 0;
}

static struct page_row *page_find(const struct page *p, const char *name, size_t len)
{
	uint32_t low = 0, high = p->count;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		struct page_row *row = &p->rows[mid];
		int order = key_compare(row_name(p, row), row->name_len, name, len);

		if (!order)
			return row;
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

enum page_answer pages_find(struct node *dir, const char *name, size_t len, uint64_t since_ns,
			    bool proof, struct page **page, struct page_row **row)
{
	enum page_answer answer = PAGE_UNKNOWN;
	uint64_t newest = 0;
	struct list *pos;

	if (!dir->pages)
		return PAGE_UNKNOWN;
	list_for_each (pos, &dir->pages->pages) {
		struct page *p = list_entry(pos, struct page, link);
		struct page_row *r;

		if (p->fetched_ns < since_ns || p->fetched_ns < newest ||
		    !page_covers(p, name, len))
			continue;
		r = page_find(p, name, len);
		if (r && !(r->flags & ROW_DEAD)) {
			if (p->suspect)
				continue;
			answer = PAGE_PRESENT;
			*page = p;
			*row = r;
		} else {
			if ((p->guess && proof) || p->fetched_ns <= dir->pages->unlisted_ns)
				continue;
			answer = PAGE_ABSENT;
			*page = p;
		}
		newest = p->fetched_ns;
	}
	return answer;
}

struct page *pages_from(struct node *dir, const char *lo, uint64_t since_ns)
{
	struct list *pos;

	if (!dir->pages)
		return NULL;
	since_ns = MAX(since_ns, dir->pages->unlisted_ns + 1);
	list_for_each (pos, &dir->pages->pages) {
		struct page *p = list_entry(pos, struct page, link);

		if (p->retained && !p->guess && p->fetched_ns >= since_ns && !strcmp(p->lo, lo)) {
			p->refs++;
			return p;
		}
	}
	return NULL;
}

bool pages_have_other(struct node *dir, const char *name, size_t len, uint64_t since_ns)
{
	struct list *pos;

	if (!dir->pages)
		return false;
	list_for_each (pos, &dir->pages->pages) {
		struct page *p = list_entry(pos, struct page, link);

		if (p->fetched_ns < since_ns || p->suspect)
			continue;
		for (uint32_t i = 0; i < p->count; i++) {
			const struct page_row *r = &p->rows[i];

			if (!(r->flags & ROW_DEAD) &&
			    (row_name_len(r) != len || memcmp(row_name(p, r), name, len) != 0))
				return true;
		}
	}
	return false;
}

static void row_kill(struct page *p, const char *key, size_t len)
{
	struct page_row *row = page_find(p, key, len);

	if (row)
		row->flags |= ROW_DEAD;
}

void page_kill(struct page *p, const char *name, size_t len)
{
	char slashed[NAME_MAX + 2];

	memcpy(slashed, name, len);
	slashed[len] = '/';
	row_kill(p, name, len);
	row_kill(p, slashed, len + 1);
}

void dir_pages_removed(struct node *dir, const char *name, size_t len)
{
	struct dir_pages *d = dir->pages;
	struct list *pos;

	if (!d)
		return;
	list_for_each (pos, &d->pages)
		page_kill(list_entry(pos, struct page, link), name, len);
	listing_note_removed(d, name, len);
}

void page_update(struct page *p, const char *name, size_t len, const struct store_meta *meta,
		 const char *etag)
{
	struct page_row *row = page_find(p, name, len);
	char *copy;

	if (!row || !strcmp(row_etag(p, row), etag))
		return;
	copy = strdup(etag);
	if (!copy) {
		p->suspect = true;
		return;
	}
	free(row->etag);
	row->etag = copy;
	row->size = meta->size;
	row->mtime_ns = meta->mtime_ns;
}

void dir_pages_changed(struct node *dir, const struct node *n)
{
	const struct store_meta meta = { .size = n->size, .mtime_ns = n->mtime_ns };
	struct dir_pages *d = dir->pages;
	struct list *pos;

	if (!d)
		return;
	list_for_each (pos, &d->pages) {
		struct page *p = list_entry(pos, struct page, link);

		if (p->fetched_ns < n->fetched_ns)
			page_update(p, n->name, n->name_len, &meta, n->etag);
	}
	listing_note_changed(d, n);
}
