/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/suggest.h"

#include <ctype.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>

#include "base/util.h"

#define SUGGEST_WORD_MAX 64

static int suggest_fold(char c)
{
	return c == '-' ? '_' : tolower((unsigned char)c);
}

static bool suggest_same(char a, char b)
{
	return suggest_fold(a) == suggest_fold(b);
}

/* Optimal string alignment, keeping three rows of the table. */
unsigned suggest_distance(const char *a, const char *b)
{
	unsigned rows[3][SUGGEST_WORD_MAX + 1];
	size_t alen = strlen(a), blen = strlen(b);

	if (alen > SUGGEST_WORD_MAX || blen > SUGGEST_WORD_MAX)
		return UINT_MAX;
	for (unsigned j = 0; j <= blen; j++)
		rows[0][j] = j;
	for (unsigned i = 1; i <= alen; i++) {
		const unsigned *above = rows[(i - 1) % 3];
		unsigned *row = rows[i % 3];

		row[0] = i;
		for (unsigned j = 1; j <= blen; j++) {
			unsigned cost = suggest_same(a[i - 1], b[j - 1]) ? 0 : 1;

			row[j] = MIN(above[j], row[j - 1]) + 1;
			row[j] = MIN(row[j], above[j - 1] + cost);
			if (i > 1 && j > 1 && suggest_same(a[i - 1], b[j - 2]) &&
			    suggest_same(a[i - 2], b[j - 1]))
				row[j] = MIN(row[j], rows[(i - 2) % 3][j - 2] + 1);
		}
	}
	return rows[alen % 3][blen];
}

void suggest_offer(struct suggest *s, const char *candidate)
{
	unsigned distance = suggest_distance(s->word, candidate);
	size_t len = MAX(strlen(s->word), strlen(candidate));

	/* A third of the letters wrong is still a slip, more is another word. */
	if (distance == UINT_MAX || distance > MAX((len + 1) / 3, (size_t)1))
		return;
	if (s->best && distance >= s->distance)
		return;
	s->best = candidate;
	s->distance = distance;
}
