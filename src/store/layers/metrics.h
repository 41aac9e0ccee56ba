/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metrics: what goes through a place of a stack, counted by operation and result.
 *
 * On top of a stack it counts what the owners asked for; below the retry layer,
 * the attempts; just above the service, the requests (the economy that tests
 * assert). A stack may have several. An operation costs two clock readings and a
 * handful of plain stores: the transfer loop is the only writer, and readers of any
 * thread see each counter whole, though not all of one moment.
 */
#ifndef OVFS_STORE_LAYERS_METRICS_H
#define OVFS_STORE_LAYERS_METRICS_H

#include "store/operator.h"

enum store_metrics_result {
	STORE_METRICS_OK,
	STORE_METRICS_ABSENT,	 /* -ENOENT, -ERANGE */
	STORE_METRICS_CONDITION, /* -ESTALE, -EEXIST */
	STORE_METRICS_REFUSED,	 /* -EACCES */
	STORE_METRICS_SLOW_DOWN, /* -EAGAIN */
	STORE_METRICS_TIMEOUT,	 /* -ETIMEDOUT */
	STORE_METRICS_CANCELLED, /* -ECANCELED */
	STORE_METRICS_ERROR,	 /* all else */
	STORE_METRICS_RESULTS,
};

/* "ok", "absent", ... */
const char *store_metrics_result_name(enum store_metrics_result result);

/* Bucket i of a histogram counts latencies below store_metrics_bound_ns(i), and not
 * below that of i - 1; the last one has no bound. */
#define STORE_METRICS_BUCKETS 24
#define STORE_METRICS_FIRST_SHIFT 15 /* the first bound is 2^15 ns, "32 us" */

/* 32 us for the first, twice as much for each next; UINT64_MAX for the last. */
uint64_t store_metrics_bound_ns(unsigned bucket);

struct store_metrics_cell {
	uint64_t count;	     /* the sum of the buckets */
	uint64_t latency_ns; /* sum */
	uint64_t buckets[STORE_METRICS_BUCKETS];
};

struct store_metrics_opcode {
	uint64_t in_flight;
	uint64_t requests; /* to the service, on behalf of these; at least one each if it got there
			    */
	uint64_t bytes_read;	/* put in place by READs */
	uint64_t bytes_written; /* of bodies that were stored */
	uint64_t entries;	/* delivered by listings that succeeded */
	struct store_metrics_cell results[STORE_METRICS_RESULTS];
};

/* Takes @next over; on an error it stays the caller's. */
struct err *store_metrics_new(struct store **out, struct store *next)
	__attribute__((warn_unused_result));

/* The numbers of one kind of operation so far. Any thread. */
void store_metrics_read(const struct store *layer, enum store_opcode opcode,
			struct store_metrics_opcode *out);

/* The sum of requests over all kinds. Any thread. */
uint64_t store_metrics_requests(const struct store *layer);

#endif
