/* SPDX-License-Identifier: Apache-2.0 */
/* Latency histogram with a bounded relative error. See load.h. */
#include "load.h"

static unsigned int bucket_of(uint64_t v)
{
	unsigned int shift;

	if (v < HIST_STEPS)
		return (unsigned int)v;
	shift = 63u - (unsigned int)__builtin_clzll(v) - 6u;
	/* The top bit of the 7 that remain is implied by the group. */
	return (shift + 1) * HIST_STEPS + (unsigned int)((v >> shift) - HIST_STEPS);
}

/* The largest value that falls into a bucket. */
static uint64_t bucket_max(unsigned int b)
{
	unsigned int shift;

	if (b < HIST_STEPS)
		return b;
	shift = b / HIST_STEPS - 1;
	return (((uint64_t)(b % HIST_STEPS) + HIST_STEPS + 1) << shift) - 1;
}

void load_hist_add(struct load_hist *h, uint64_t ns)
{
	h->count[bucket_of(ns)]++;
	h->total++;
	h->sum += ns;
	if (ns > h->max)
		h->max = ns;
}

void load_hist_merge(struct load_hist *to, const struct load_hist *from)
{
	for (unsigned int b = 0; b < HIST_BUCKETS; b++)
		to->count[b] += from->count[b];
	to->total += from->total;
	to->sum += from->sum;
	if (from->max > to->max)
		to->max = from->max;
}

uint64_t load_hist_quantile(const struct load_hist *h, double fraction)
{
	uint64_t want = (uint64_t)(fraction * (double)h->total + 0.5);
	uint64_t seen = 0;

	for (unsigned int b = 0; b < HIST_BUCKETS; b++) {
		seen += h->count[b];
		if (seen && seen >= want)
			return bucket_max(b) < h->max ? bucket_max(b) : h->max;
	}
	return h->max;
}
