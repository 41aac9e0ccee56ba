/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A generation of the configuration: what was loaded at one time, immutable, and kept by
 * reference count for as long as a mount or a storage goes by it.
 *
 * Any thread.
 */
#ifndef OVFS_GENERATION_H
#define OVFS_GENERATION_H

#include <stdatomic.h>
#include <stdlib.h>

#include "conf/conf.h"

struct generation {
	_Atomic unsigned refs;
	unsigned number; /* 1 is the start's */
	struct ovfs_config config;
};

/* Takes over what @config holds, and leaves nothing in it. NULL for lack of memory. */
static inline struct generation *generation_new(struct ovfs_config *config, unsigned number)
{
	struct generation *g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	atomic_init(&g->refs, 1);
	g->number = number;
	g->config = *config;
	*config = (struct ovfs_config){ 0 };
	return g;
}

static inline struct generation *generation_get(struct generation *g)
{
	atomic_fetch_add_explicit(&g->refs, 1, memory_order_relaxed);
	return g;
}

/* Accepts NULL. */
static inline void generation_put(struct generation *g)
{
	if (!g || atomic_fetch_sub_explicit(&g->refs, 1, memory_order_acq_rel) != 1)
		return;
	ovfs_config_free(&g->config);
	free(g);
}

#endif
