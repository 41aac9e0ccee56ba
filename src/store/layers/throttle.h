/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bandwidth throttle: a token bucket for each direction.
 *
 * An operation with a body may start as soon as the bucket holds any token, and
 * takes as many as its body has bytes: the bucket goes into debt, and who comes
 * next waits until it is paid. Over any time t no more than burst + rate * t bytes
 * and one body are begun. What was not moved in the end (a read at the end of an
 * object, a failure) is given back. Operations without a body pass.
 */
#ifndef OVFS_STORE_LAYERS_THROTTLE_H
#define OVFS_STORE_LAYERS_THROTTLE_H

#include "store/operator.h"

struct store_throttle_rate {
	uint64_t bytes_per_second; /* 0: no limit */
	uint64_t burst;		   /* bytes; 0: what a tenth of a second brings */
};

struct store_throttle_options {
	struct store_throttle_rate up, down;
};

/* Takes @next over; on an error it stays the caller's. @options are copied. */
struct err *store_throttle_new(struct store **out, struct store *next,
			       const struct store_throttle_options *options)
	__attribute__((warn_unused_result));

#endif
