/* SPDX-License-Identifier: Apache-2.0 */
/* "Did you mean": the word of a list that is nearest to a mistyped one. */
#ifndef OVFS_CONF_SUGGEST_H
#define OVFS_CONF_SUGGEST_H

#include <stddef.h>

/* A search: zero-initialise but for @word, offer every candidate, read @best. */
struct suggest {
	const char *word;
	const char *best; /* NULL: nothing is near enough to be worth a mention */
	unsigned distance;
};

/* @candidate outlives the search. */
void suggest_offer(struct suggest *s, const char *candidate);

/* Insertions, deletions, replacements and swaps of neighbours that turn @a
 * into @b; UINT_MAX when either is longer than any word of ours. Case and the
 * difference of '-' and '_' count nothing. */
unsigned suggest_distance(const char *a, const char *b);

#endif
