/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time-out of one attempt; belongs below retry and limit.
 *
 * What is timed is silence: the time since the attempt began or since the last
 * byte of its body moved. A large body on a thin line is slow, not dead, and is left
 * alone as long as it keeps up bytes_per_second_min on the whole.
 *
 * How much silence is too much is learnt for each kind of operation, as TCP learns
 * its retransmission time (RFC 6298): a smoothed mean and deviation of the longest
 * silence of attempts that were answered, of which
 *
 *	8 * (mean + 4 * deviation), within silence_min .. silence_max
 *
 * is allowed. The factor is there for the tail of object stores, whose slowest
 * answers take ten times the median. silence_max holds until enough was seen. Each
 * time-out doubles what is allowed, until an answer comes: a service that became
 * slower is waited for, rather than asked again and again.
 *
 * Copies and commits take as long as the object is large, which is not known here:
 * server_max is theirs, and nothing is learnt.
 *
 * An attempt that runs out of time is called back and ends in -ETIMEDOUT.
 */
#ifndef OVFS_STORE_LAYERS_TIMEOUT_H
#define OVFS_STORE_LAYERS_TIMEOUT_H

#include "store/operator.h"

struct store_timeout_options {
	uint64_t silence_min_ns, silence_max_ns;
	uint64_t server_max_ns;	       /* COPY, COPY_PART, COMMIT */
	uint64_t bytes_per_second_min; /* 0: however slow */
};

/* 5 s to 60 s, 300 s, 4 KiB/s. */
extern const struct store_timeout_options store_timeout_defaults;

/* Takes @next over; on an error it stays the caller's. @options: NULL for the
 * defaults; copied. */
struct err *store_timeout_new(struct store **out, struct store *next,
			      const struct store_timeout_options *options)
	__attribute__((warn_unused_result));

/* The silence that an attempt may have now. Any thread. */
uint64_t store_timeout_allowed_ns(const struct store *layer, enum store_opcode opcode);

#endif
