/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Write sessions that nobody will commit: the ABORT of each, again and again until the service has
 * taken it.
 *
 * An unfinished upload is in no listing of objects, and costs what its parts cost. While a service
 * is down no ABORT gets through, so those that failed for a reason that may pass are remembered
 * here, by key and session. The cleaner tries one of them after a pause that doubles with each
 * failure, and the others one after the other as soon as one has succeeded; the drain tries all of
 * them once. What is given up (too many of them, a refusal for good, the end of the storage) is
 * named in the log: upload_left_over.
 *
 * Only sessions that this process has begun are ever aborted. What a killed daemon has left cannot
 * be told from an upload that another one is just doing, so that is for the bucket's rules.
 *
 * Threads: any, unless said otherwise. Aborts are counted with storage_begin(), and are thus over
 * before a storage is freed.
 */
#ifndef OVFS_CACHE_LEFTOVER_H
#define OVFS_CACHE_LEFTOVER_H

#include <stdint.h>

#include "base/list.h"

/* Remembered of one storage: some 4 KiB each, at most. */
#define LEFTOVER_MAX 1024

struct cache_storage;

/* With storage.lock. */
struct leftovers {
	struct list waiting; /* to be tried again; the one whose last try is longest ago first */
	struct list trying;  /* under way, also for the first time */
	unsigned count;	     /* of those that have failed: all that wait, some under way */
	unsigned failures;   /* in a row, */
	uint64_t due_ns;     /* thus the next try, loop_now_ns() */
};

void leftover_init(struct cache_storage *s);
/* No abort is under way. Names in the log what is left. */
void leftover_exit(struct cache_storage *s);

/* Has @session of @key aborted, in the background. @key and @session are copied. */
void leftover_abort(struct cache_storage *s, const char *key, const char *session);

/* For the cleaner, with storage.lock: tries one, if it is time. When to look again, UINT64_MAX: not
 * before cleaner_wake(). */
uint64_t leftover_look(struct cache_storage *s);

/* Tries all of them once more, and waits, for seconds at most and until @deadline_ns. */
void leftover_drain(struct cache_storage *s, uint64_t deadline_ns);

#endif
