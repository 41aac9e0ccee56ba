/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A switch: what is below it can be exchanged while operations are under way.
 *
 *	metrics -> switch -> retry -> ... -> s3 with the old keys
 *	                 `-> retry -> ... -> s3 with the new ones
 *
 * An operation stays with what it went to. What was replaced is let go when its last
 * operation is done. One that the replaced side refuses (-EACCES) without having begun is
 * sent once more, to the new side: of keys that are rotated, the old ones may be void by then.
 *
 * Whoever is above has copied the capabilities, so that these cannot change.
 */
#ifndef OVFS_STORE_LAYERS_SWITCH_H
#define OVFS_STORE_LAYERS_SWITCH_H

#include "store/operator.h"

struct store_switch_options {
	/* @side was replaced and nothing is in flight in it: to be freed, as store_free() does.
	 * Transfer loop, or who frees the switch. */
	void (*released)(void *arg, struct store *side);
	void *arg;
};

/* Takes @next over; on an error it stays the caller's. */
struct err *store_switch_new(struct store **out, struct store *next,
			     const struct store_switch_options *options)
	__attribute__((warn_unused_result));

/* Whether store_switch_to(@layer, @next) is possible: same loop, height and capabilities. */
bool store_switch_fits(const struct store *layer, const struct store *next);

/*
 * Operations go to @next, which fits, from now on; the switch owns it. Transfer loop. -ENOMEM:
 * nothing was changed, and @next stays the caller's.
 */
int store_switch_to(struct store *layer, struct store *next);

#endif
