/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/objectfs/burst.h"

#include <string.h>

#include "base/util.h"
#include "fs/objectfs/internal.h"

#define PATIENCE_MAX 4096u
#define PATIENCE_WINDOW_NS (2 * NSEC_PER_SEC)
/* Answers that a page must give to be worth its LIST. */
#define USEFUL_MIN 8u
/* ... for the next question to be answered with another page at once. */
#define USEFUL_AT_ONCE 64u
/* Rows of a directory of which all is worth as much as one name. */
#define SMALL_ROWS 128u

bool burst_due(struct objectfs *fs, struct node *dir, bool known)
{
	struct dir_pages *d = dir_pages_get(dir);
	uint64_t now = loop_now_ns();
	bool lately;

	if (!d || d->bursting || !store_caps(fs->store)->start_after)
		return false;
	lately = now - d->missed_ns <= PATIENCE_WINDOW_NS;
	if (!lately)
		d->missed = 0;
	d->missed_ns = now;
	if (++d->missed < d->patience && !(lately && d->useful >= USEFUL_AT_ONCE) &&
	    !(d->small && !known))
		return false;
	d->missed = 0;
	d->bursting = true;
	return true;
}

bool burst_wait(struct tree *t, struct node *dir)
{
	if (!dir->pages || !dir->pages->bursting)
		return false;
	while (dir->pages && dir->pages->bursting)
		pthread_cond_wait(&t->moved, &t->lock);
	return true;
}

static void burst_end(struct tree *t, struct node *dir)
{
	tree_lock(t);
	if (dir->pages)
		dir->pages->bursting = false;
	pthread_cond_broadcast(&t->moved);
	tree_unlock(t);
}

/* Before a page is fetched: what the one before was worth, as far as there was one; and where this
 * one is to begin, unless it is at the name. tree.lock is held. */
static bool burst_judge(struct dir_pages *d)
{
	if (d->guessed && d->useful < USEFUL_MIN && !d->small)
		d->patience = MIN(d->patience * 2, PATIENCE_MAX);
	else
		d->patience = BURST_PATIENCE_MIN;
	d->guessed = true;
	d->useful = 0;
	return d->small;
}

/*
 * A name just before @name, so that a listing that starts after it shows @name and little else
 * before: the last character less one and some of the last in ASCII; or @name without
 * its last character. Always valid UTF-8 if @name is.
 */
static void burst_before(const char *name, size_t len, char before[static NAME_MAX + 4])
{
	unsigned char last = (unsigned char)name[len - 1];

	memcpy(before, name, len);
	if (last > '!' && last <= '~') {
		before[len - 1] = (char)(last - 1);
		memcpy(before + len, "~~~", 4);
		return;
	}
	while (len > 1 && ((unsigned char)name[len - 1] & 0xc0) == 0x80)
		len--;
	before[len - 1] = '\0';
}

struct page *burst_fetch(struct objectfs *fs, struct node *dir, const char *name, size_t len)
{
	char before[NAME_MAX + 4];
	struct tree *t = &fs->tree;
	struct page *page;
	bool front;

	tree_lock(t);
	front = burst_judge(dir->pages); /* which stay while it is bursting */
	tree_unlock(t);
	burst_before(name, len, before);
	if (front)
		*before = '\0';
	if (listing_guess(fs, dir, before, &page)) {
		page = NULL;
	} else {
		tree_lock(t);
		dir->pages->small = page->last && page->count <= SMALL_ROWS;
		tree_unlock(t);
	}
	burst_end(t, dir);
	return page;
}
