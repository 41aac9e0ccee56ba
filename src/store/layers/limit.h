/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Concurrency limit: at most so many operations are below this layer; the rest
 * waits in the order of arrival. Data (READ, PUT, PART and the copies, which take
 * as long as what they copy is large) and metadata (all others) have a queue and
 * a limit each, so that an `ls` never waits behind a gigabyte.
 *
 * The queues need no bound of their own: each waiting operation is memory of its
 * owner, who bounds how many it has.
 */
#ifndef OVFS_STORE_LAYERS_LIMIT_H
#define OVFS_STORE_LAYERS_LIMIT_H

#include "store/operator.h"

enum store_limit_class { STORE_LIMIT_DATA, STORE_LIMIT_METADATA, STORE_LIMIT_CLASSES };

struct store_limit_options {
	unsigned in_flight_max[STORE_LIMIT_CLASSES]; /* 0: no limit */
};

/* 64 of each. */
extern const struct store_limit_options store_limit_defaults;

/* Takes @next over; on an error it stays the caller's. @options: NULL for the
 * defaults; copied. */
struct err *store_limit_new(struct store **out, struct store *next,
			    const struct store_limit_options *options)
	__attribute__((warn_unused_result));

struct store_limit_usage {
	unsigned in_flight, queued;
};
/* Any thread. */
struct store_limit_usage store_limit_usage(const struct store *layer, enum store_limit_class class);

#endif
