/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What listings said: pages of names, as LIST delivers them.
 *
 * A page is a run of names of one directory, in the order of keys, that begins behind the
 * key @lo and ends with the key @hi (relative to the directory; a subdirectory has its slash).
 * Within that run it tells what is there and, by what it does not show, what is not. Pages are
 * made by a LIST, then belong to their directory, which retains some for the time-outs:
 * LOOKUP and READDIR are answered from them. A directory stream walks
 * from page to page, from a retained one where there is one that fits, else by asking with the
 * token of the page before. So a small directory is a page or two that everybody shares,
 * and a huge one is never in memory as a whole.
 *
 * Rows never move: the number of a row stands in the cookies of READDIR. A name that is
 * removed through us is marked dead in every page that lives; one that has become another version,
 * and that no node tells of any more, gets that version's attributes there. A LIST that is under
 * way notes both, and its page gets them before anybody sees it.
 *
 * Locks: tree.lock covers everything but listing_fetch(), which blocks and is called
 * without it. What a row names is constant.
 */
#ifndef OVFS_FS_OBJECTFS_LISTING_H
#define OVFS_FS_OBJECTFS_LISTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fs/objectfs/node.h"

struct objectfs;

enum {
	ROW_DIR = 1 << 0,  /* name ends in a slash, which counts in name_len */
	ROW_DEAD = 1 << 1, /* removed since */
};

struct page_row {
	uint32_t text; /* where the name begins; the ETag follows it, NUL-terminated */
	uint16_t name_len;
	uint16_t flags;
	uint64_t size;
	int64_t mtime_ns;
	char *etag; /* in place of the one in the text, where it has changed since; or NULL */
};

struct page {
	struct list link; /* in dir_pages.pages */
	struct list lru;  /* in tree.page_lru while retained */
	struct node *dir; /* NULL before it is installed; who has a reference holds it */
	unsigned refs;	  /* streams that read it, and 1 while retained */
	bool retained;
	bool suspect; /* too much happened while it was made, or no memory: rows may be ghosts */
	bool last;    /* nothing follows: hi is beyond all */
	bool guess;   /* nobody asked for this listing: it does not prove that names are missing */
	uint32_t moves;	     /* dir_pages.moves: the token is of the prefix that it was then */
	uint64_t fetched_ns; /* when the LIST was sent */
	char *lo, *hi;
	char *token; /* for the page that follows; NULL with last */
	uint32_t count;
	uint32_t charge;       /* rows that it counts as while retained */
	struct page_row *rows; /* in the order of keys */
	char *text;
};

/* Of a directory, made when it is first needed. */
struct dir_pages {
	struct list pages;
	uint32_t rows;	      /* in retained pages, see page.charge */
	struct list fetches;  /* of struct listing_notes: LISTs under way */
	uint32_t moves;	      /* counts renames of the directory, or of one above */
	uint64_t unlisted_ns; /* a name that is there and no listing shows went from memory
			       * then: older pages do not prove that a name is missing */
	/* burst.c's: questions that memory could not answer. */
	uint64_t missed_ns;
	uint32_t missed, patience, useful;
	bool bursting; /* it fetches a page; tree.moved tells when that ends */
	bool guessed;  /* it has fetched one */
	bool small;    /* the last one went to the end of the directory, with few rows */
};

/* NULL: no memory. */
struct dir_pages *dir_pages_get(struct node *dir);
void dir_pages_free(struct tree *t, struct node *dir);
/* A child goes from memory that only pages newer than @listed_ns (0: none) show. */
void dir_pages_forget(struct node *dir, uint64_t listed_ns);
/* The objects below are others now: nothing that pages said holds. */
void dir_pages_drop(struct tree *t, struct node *dir);
/* The name is removed. */
void dir_pages_removed(struct node *dir, const char *name, size_t len);
/* The file @n, which has been another version before, goes from memory. */
void dir_pages_changed(struct node *dir, const struct node *n);

static inline const char *row_name(const struct page *p, const struct page_row *row)
{
	return p->text + row->text;
}
/* Without the slash. */
static inline size_t row_name_len(const struct page_row *row)
{
	return row->name_len - (row->flags & ROW_DIR ? 1u : 0u);
}
static inline const char *row_etag(const struct page *p, const struct page_row *row)
{
	return row->etag ? row->etag : p->text + row->text + row->name_len;
}
void row_meta(const struct page *p, const struct page_row *row, struct store_meta *meta);

void page_put(struct page *p);
/* In @p the name is gone, or what it has become. */
void page_kill(struct page *p, const char *name, size_t len);
void page_update(struct page *p, const char *name, size_t len, const struct store_meta *meta,
		 const char *etag);
/* A new page, complete, becomes its directory's, with a reference for the caller. */
void page_install(struct objectfs *fs, struct node *dir, struct page *p);

enum page_answer { PAGE_UNKNOWN, PAGE_ABSENT, PAGE_PRESENT };

/* What pages no older than @since_ns say about the key @name (with its slash for a
 * directory); *@page says so, and *@row is set when it is there. @proof: that it is missing is
 * to be believed, thus not what guesses say. */
enum page_answer pages_find(struct node *dir, const char *name, size_t len, uint64_t since_ns,
			    bool proof, struct page **page, struct page_row **row);

/* A retained page that begins behind @lo, is no older than @since_ns, and lacks nothing that nodes
 * do not have; with a reference, or NULL. */
struct page *pages_from(struct node *dir, const char *lo, uint64_t since_ns);

/* Whether there are pages, or are going to be. */
static inline bool pages_any(const struct node *dir)
{
	return dir->pages && (!list_empty(&dir->pages->pages) || !list_empty(&dir->pages->fetches));
}

/* Any name (not @name) that pages show alive, and that is no older than @since_ns. */
bool pages_have_other(struct node *dir, const char *name, size_t len, uint64_t since_ns);

/* ---- listing_notes.c: what happens to names while a LIST is under way ---- */

/* What is kept of that. */
#define LISTING_NOTES_MAX 512u

struct listing_notes {
	struct list link; /* in dir_pages.fetches */
	struct list notes;
	uint32_t count;
	bool overflow; /* there was more: the page cannot be put right */
};

void listing_notes_begin(struct dir_pages *d, struct listing_notes *notes);
void listing_notes_apply(const struct listing_notes *notes, struct page *p);
void listing_notes_end(struct listing_notes *notes);
void listing_note_removed(struct dir_pages *d, const char *name, size_t len);
void listing_note_changed(struct dir_pages *d, const struct node *n);

/*
 * Asks the storage for the page of @dir that begins behind @lo: with @token of the page before,
 * or else, when @lo is not "", with start-after. The page is installed: nodes that
 * are known get its attributes, and it is retained as far as the budget goes. With a
 * reference. Blocks; called without the lock. Negative errno.
 */
int listing_fetch(struct objectfs *fs, struct node *dir, const char *lo, const char *token,
		  struct page **out);
/* The same for a page that is fetched in the hope that it will be asked for. */
int listing_guess(struct objectfs *fs, struct node *dir, const char *lo, struct page **out);

#endif
