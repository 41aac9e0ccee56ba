/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The object storage of a mount: a service with its layers and the transfer loop that
 * runs them, as configured.
 *
 *	metrics -> health -> switch -> retry -> throttle -> limit -> timeout -> metrics -> s3
 *	metrics -> switch -> retry -> throttle -> limit -> timeout -> metrics -> memory
 *	metrics -> switch -> metrics -> files of a directory, when their data is cached
 *
 * The upper metrics count what the mount asked for, the lower ones what the service
 * was asked. A reload makes all that is below the switch anew, and exchanges it.
 *
 * Made and freed by one thread. In between, the store is everybody's (store/operator.h).
 */
#ifndef OVFS_STORAGE_STACK_H
#define OVFS_STORAGE_STACK_H

#include "base/err.h"
#include "conf/conf.h"
#include "store/layers/health.h"
#include "store/layers/metrics.h"
#include "store/operator.h"

struct filefs_data;
struct storage_stack;

/*
 * Starts the loop on a thread of its own, and has the service answer once: an error
 * says what is wrong with the configuration or the credentials. @config is not kept. Blocks until
 * that answer, or some seconds: a service that is not there is none of these, what it is asked for
 * fails until it is (store/layers/health.h). With @may_refuse so does one that says no.
 */
struct err *storage_stack_new(struct storage_stack **out, const struct ovfs_backend *config,
			      bool may_refuse) __attribute__((warn_unused_result));

/* Of type fs: for filefs_new(), and to be told of the cache; else NULL. Borrowed. */
struct filefs_data *storage_stack_files(struct storage_stack *stack);

/* The top, borrowed. */
struct store *storage_stack_store(struct storage_stack *stack);

/* Logs, for each kind of operation, what was asked for and what the service was asked
 * so far. Any thread. */
void storage_stack_log(struct storage_stack *stack);

/* What was asked for of a kind so far, and what the service was. Any thread. */
void storage_stack_asked(struct storage_stack *stack, enum store_opcode opcode,
			 struct store_metrics_opcode *out);
void storage_stack_sent(struct storage_stack *stack, enum store_opcode opcode,
			struct store_metrics_opcode *out);

struct storage_stack_usage {
	uint64_t retries;			/* tries after one that failed */
	unsigned connections, connections_busy; /* that there may be; with a request on them */
};
struct storage_stack_health {
	enum store_health_state state;
	uint64_t since_ns; /* loop_now_ns() */
	char error[256];   /* unless it is well: why; "" when nobody knows */
};
/* Any thread. */
void storage_stack_health(struct storage_stack *stack, struct storage_stack_health *out);

/* Any thread. */
void storage_stack_usage(struct storage_stack *stack, struct storage_stack_usage *out);

/* An end is near: nobody waits for long any more, see store_retry_stop(). Once. */
void storage_stack_stop(struct storage_stack *stack);

/* Nothing is in flight. Accepts NULL. */
void storage_stack_free(struct storage_stack *stack);

/*
 * Builds what @config asks for beside what there is, and has the service answer once; of type
 * memory the data stays, and of type fs the files. @same_place: as the one that there is; then its
 * silence says nothing of @config. On success exactly one of the other two follows:
 * the exchange, under operations in flight, which end where they began; or not. One thread, not the
 * loop's.
 */
struct err *storage_stack_prepare(struct storage_stack *stack, const struct ovfs_backend *config,
				  bool same_place) __attribute__((warn_unused_result));
void storage_stack_commit(struct storage_stack *stack);
void storage_stack_discard(struct storage_stack *stack);

#endif
