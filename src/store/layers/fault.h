/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fault injection, for tests: makes a storage that works one that fails, at
 * given rates for each kind of operation, repeatably from a seed, changeable while it
 * runs. What it does to an operation:
 *
 * - error	it is not done and ends in an error of choice;
 * - lost	it is done, its answer is lost: -EIO, and nothing of its results.
 *		Of READ and LIST: as if cut;
 * - cut	its body ends early: a READ is placed in part, a LIST delivers some of
 *		its rows, what is sent (PUT, PART) is not stored; -EIO. Others: as error;
 * - delay	it is held back before it is done, or its answer after; for ever, if
 *		asked: until it is cancelled or recalled.
 */
#ifndef OVFS_STORE_LAYERS_FAULT_H
#define OVFS_STORE_LAYERS_FAULT_H

#include "store/operator.h"

#define STORE_FAULT_FOREVER UINT64_MAX

/* Rates in thousandths of the operations; error, lost and cut exclude each other. */
struct store_fault {
	unsigned error_permille, lost_permille, cut_permille;
	unsigned delay_permille;	     /* before it is done */
	unsigned reply_delay_permille;	     /* after */
	int error;			     /* negative errno; 0: -EIO */
	uint32_t retry_after_ms;	     /* with error */
	uint64_t delay_min_ns, delay_max_ns; /* min STORE_FAULT_FOREVER: no end */
	unsigned skip;			     /* leave so many operations alone first */
	unsigned count;			     /* then treat so many, and no more; 0: all */
};

/* Takes @next over; on an error it stays the caller's. No faults at first. */
struct err *store_fault_new(struct store **out, struct store *next, uint64_t seed)
	__attribute__((warn_unused_result));

/* From now on, for all kinds of operation with 1u << opcode in @opcodes; each kind
 * counts for itself. NULL: none. Any thread. */
void store_fault_set(struct store *layer, uint32_t opcodes, const struct store_fault *fault);

#define STORE_FAULT_ALL ((1u << STORE_OPCODE_COUNT) - 1)

struct store_fault_stats {
	uint64_t errors, lost, cut, delayed;
};
/* Faults that were done. Any thread. */
struct store_fault_stats store_fault_stats(struct store *layer);

#endif
