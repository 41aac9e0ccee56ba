/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Health: whether the service answers, and a closed door until it does for the first time.
 *
 *	closed	 it has not answered since the start: what is asked of it fails at once, -EIO.
 *		 Nothing was written yet that could be lost, and nobody waits for attempts that
 *		 are known to fail
 *	failing	 several operations in a row came back without an answer; all go through as ever,
 *		 with the time and the attempts that they may take
 *	well
 *
 * Unless it is well, the layer asks by itself now and then (a listing of one row, sent to the
 * layer below), so that the state is true without anybody's traffic. Changes are logged.
 *
 * It belongs above the retry layer: to it an operation fails when all attempts have.
 */
#ifndef OVFS_STORE_LAYERS_HEALTH_H
#define OVFS_STORE_LAYERS_HEALTH_H

#include "store/operator.h"

enum store_health_state {
	STORE_HEALTH_WELL,
	STORE_HEALTH_FAILING,
	STORE_HEALTH_CLOSED,
};

struct store_health_options {
	const char *name;	    /* for the log; copied */
	uint64_t probe_first_ns;    /* before the first question, then twice as long each time, */
	uint64_t probe_max_ns;	    /* up to this */
	uint64_t probe_patience_ns; /* how long a question may take at first; up to a minute */
};

/* Takes @next over; on an error it stays the caller's. Well, until something else is known. */
struct err *store_health_new(struct store **out, struct store *next,
			     const struct store_health_options *options)
	__attribute__((warn_unused_result));

/* The service did not answer @why, or not as it should. On the transfer loop. */
void store_health_close(struct store *layer, const char *why);

/* Something below has changed: asks soon, unless it is well. On the transfer loop. */
void store_health_look(struct store *layer);

/* Since when: loop_now_ns(). Any thread. */
enum store_health_state store_health_read(const struct store *layer, uint64_t *since_ns);

/* Asks no more. Not on the transfer loop, which runs; returns when no question is under way. Before
 * the loop is stopped. */
void store_health_stop(struct store *layer);

#endif
