/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Retry: repeats what failed for a passing reason (-EAGAIN, -EIO, -ETIMEDOUT),
 * after a pause of random length below a bound that doubles with each attempt
 * ("full jitter"; what the pauses before were shorter than their bounds comes on top, so
 * that the attempts last for half of what they can at least), or longer where the
 * service asks for it. When the service was not
 * reached, and then answers anybody, nobody pauses on for long.
 *
 * The rules, by operation:
 *
 * - READ goes on behind what is already in place, on condition that the object is
 *   the one that the first answer came from. Is it another by now, a READ that was
 *   conditional itself ends in -ESTALE; one that was not begins anew, whole.
 * - LIST begins its page anew, after list.restart().
 * - DELETE_BATCH is repeated whole while a key of it fails for a passing reason.
 * - DELETE and ABORT that find nothing, after an attempt that may have been done
 *   although its answer was lost, were done.
 * - PUT and COMMIT whose condition does not hold, or whose session is gone, after
 *   such an attempt, may have failed because of ourselves: a STAT compares the
 *   object's write_id. It is ours: success. It is not: -ESTALE or -EEXIST; what
 *   somebody else wrote is never taken for ours. Without a write_id nothing can be
 *   known, and the error stands.
 * - COPY with if_absent likewise, but nothing is compared, not even with a write_id: the
 *   error stands.
 * - -EAGAIN, which says that nothing was done, is the end only if no attempt may have been
 *   done: after one whose answer was lost, or that was cut off at the deadline, it is -EIO.
 * - BEGIN is repeated; a session whose answer was lost is left over: the bucket's
 *   lifecycle rule ends it.
 * - STAT, PART, COPY_PART, LIST_SESSIONS are repeated.
 *
 * What no layer can help: a PUT that was given up for lost may still be under way, and
 * arrive after a later one. Only conditions keep it from overwriting that.
 */
#ifndef OVFS_STORE_LAYERS_RETRY_H
#define OVFS_STORE_LAYERS_RETRY_H

#include "store/operator.h"

struct store_retry_options {
	unsigned attempts_max;	 /* of one operation, the first included; >= 1 */
	uint64_t pause_first_ns; /* bound of the first pause */
	uint64_t pause_max_ns;
	/* For all of it, queues below included; then the last error, or -ETIMEDOUT.
	 * 0: none. */
	uint64_t total_ns;
	uint64_t seed; /* of the jitter; 0: random */
};

/* 8 attempts, 100 ms, 20 s, 5 minutes. */
extern const struct store_retry_options store_retry_defaults;

/* Takes @next over; on an error it stays the caller's. @options: NULL for the
 * defaults; copied. */
struct err *store_retry_new(struct store **out, struct store *next,
			    const struct store_retry_options *options)
	__attribute__((warn_unused_result));

/*
 * An end is near: operations that wait or are under way end soon, in the error that they have
 * met or -ETIMEDOUT, and those that come later get 5 s in all. Any thread, once, while
 * the loop runs.
 */
void store_retry_stop(struct store *layer);

struct store_retry_stats {
	uint64_t repeated; /* attempts after the first */
	uint64_t resumed;  /* READs that went on half-way */
	uint64_t compared; /* STATs to find out whose write it was */
	uint64_t ours;	   /* ... it was ours */
	uint64_t given_up;
};
/* Any thread. */
struct store_retry_stats store_retry_stats(const struct store *layer);

#endif
