/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a session was asked, by opcode: how it ended, how long it took, how many bytes it moved;
 * and what a request is that is under way.
 *
 * Counting costs a request one reading of the clock and three additions without a lock
 * (base/counter.h). A request's time is that from its begun_ns to its reply.
 *
 * Threads: any.
 */
#ifndef OVFS_FUSE_METRICS_H
#define OVFS_FUSE_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/counter.h"
#include "base/span.h"
#include "fuse/session.h"

enum fuse_result {
	FUSE_RESULT_OK,
	FUSE_RESULT_ABSENT,	 /* ENOENT, ENODATA: an answer as good as any */
	FUSE_RESULT_REFUSED,	 /* what was asked is wrong: EEXIST, ENOTEMPTY, EINVAL, ... */
	FUSE_RESULT_DENIED,	 /* EACCES, EPERM, EROFS */
	FUSE_RESULT_UNSUPPORTED, /* ENOSYS, EOPNOTSUPP, ENOTTY */
	FUSE_RESULT_INTERRUPTED, /* EINTR; EAGAIN: the lock is held */
	FUSE_RESULT_FULL,	 /* ENOSPC, EDQUOT, EFBIG; memory, descriptors */
	FUSE_RESULT_STALE,	 /* ESTALE: somebody else changed the file */
	FUSE_RESULT_ERROR,	 /* EIO, ETIMEDOUT, and all else */
	FUSE_RESULTS,
};

/* "ok", "absent", ... */
const char *fuse_result_name(enum fuse_result result);

/* "LOOKUP"; NULL for what is no opcode. 0 stands for those that we do not know. */
const char *fuse_opcode_name(uint32_t opcode);

struct fuse_opcode_metrics {
	uint64_t results[FUSE_RESULTS];
	uint64_t bytes;	     /* of data, by READ and WRITE */
	uint64_t latency_ns; /* sum */
	uint64_t buckets[HISTOGRAM_BUCKETS];
};

/* The numbers of @opcode (< FUSE_OPCODE_COUNT) so far; false when there was none. */
bool fuse_session_metrics(const struct fuse_session *session, uint32_t opcode,
			  struct fuse_opcode_metrics *out);

/* Requests of all sessions that take longer are logged when they end, but for those that wait for a
 * lock; 0: none. */
void fuse_set_slow(uint64_t slow_ns);

/* A request under way. */
struct fuse_request_info {
	uint32_t opcode;
	uint64_t unique, nodeid;
	bool waits; /* for a lock, maybe without end */
	struct span_times times;
};

/*
 * What the request in @storage is that was begun at @begun_ns. The caller sees to it that the
 * storage is not used for another meanwhile. False when the session does not know yet.
 */
bool fuse_request_look(const void *storage, uint64_t begun_ns, struct fuse_request_info *out);

/* True once for each request: it takes very long, and is to be logged. As above. */
bool fuse_request_report(void *storage);

#endif
