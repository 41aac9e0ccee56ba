/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to names while a LIST of their directory is under way; see listing.h. */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "fs/objectfs/listing.h"

struct note {
	struct list link;
	bool removed;
	/* Else what it has become. */
	uint64_t size, seen_ns;
	int64_t mtime_ns;
	char etag[STORE_ETAG_MAX];
	uint16_t name_len;
	char name[];
};

void listing_notes_begin(struct dir_pages *d, struct listing_notes *notes)
{
	*notes = (struct listing_notes){ .count = 0 };
	list_init(&notes->notes);
	list_push_back(&d->fetches, &notes->link);
}

void listing_notes_end(struct listing_notes *notes)
{
	struct list *pos;

	list_remove(&notes->link);
	while ((pos = list_pop_front(&notes->notes)))
		free(list_entry(pos, struct note, link));
}

/* In each LIST under way; those that have no room are done again. */
static void note_add(struct dir_pages *d, const struct note *what, const char *name, size_t len)
{
	struct list *pos;

	list_for_each (pos, &d->fetches) {
		struct listing_notes *notes = list_entry(pos, struct listing_notes, link);
		struct note *note =
			notes->count < LISTING_NOTES_MAX ? malloc(sizeof(*note) + len) : NULL;

		if (!note) {
			notes->overflow = true;
			continue;
		}
		*note = *what;
		note->name_len = (uint16_t)len;
		memcpy(note->name, name, len);
		list_push_back(&notes->notes, &note->link);
		notes->count++;
	}
}

void listing_note_removed(struct dir_pages *d, const char *name, size_t len)
{
	const struct note what = { .removed = true };

	note_add(d, &what, name, len);
}

void listing_note_changed(struct dir_pages *d, const struct node *n)
{
	struct note what = {
		.size = n->size,
		.mtime_ns = n->mtime_ns,
		.seen_ns = n->fetched_ns,
	};

	memcpy(what.etag, n->etag, sizeof(what.etag));
	note_add(d, &what, n->name, n->name_len);
}

void listing_notes_apply(const struct listing_notes *notes, struct page *p)
{
	struct list *pos;

	list_for_each (pos, &notes->notes) {
		const struct note *note = list_entry(pos, struct note, link);
		const struct store_meta meta = { .size = note->size, .mtime_ns = note->mtime_ns };

		if (note->removed)
			page_kill(p, note->name, note->name_len);
		else if (p->fetched_ns < note->seen_ns)
			page_update(p, note->name, note->name_len, &meta, note->etag);
	}
}
