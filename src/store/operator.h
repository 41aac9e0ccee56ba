/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The object operator: what a service that stores objects under keys can do,
 * modelled on Apache OpenDAL's operator.
 *
 * Services (s3, memory) and layers (retry, timeout, concurrency limit, ...)
 * have one vtable. A layer holds the next operator and is one itself; a stack
 * is built once, from the service outwards, and freed from its top.
 *
 *	metrics -> retry -> timeout -> limit -> s3
 *
 * An operation is a struct store_op, embedded in whatever the caller waits
 * with: submitting allocates nothing in the operator, and the number of
 * operations is bounded by their owners. It ends exactly once, by op->complete(),
 * with op->result 0 or a negative errno:
 *
 *	-ENOENT		no such key (READ, STAT, COPY source), or no such write session
 *	-ESTALE		a condition (if_match, if_absent, source_if_match) did not hold
 *	-EEXIST		if_absent did not hold, where the service can tell
 *	-EACCES		refused: credentials or policy
 *	-EINVAL		the service says that the request makes no sense
 *	-ERANGE		the range of a READ begins at or after the end of the object
 *	-EOPNOTSUPP	a capability that the service lacks
 *	-ETIMEDOUT	no answer in time
 *	-EAGAIN		the service asks to slow down (503, 429)
 *	-EIO		anything else that went wrong on the way, truncated bodies too
 *	-EDQUOT, -ENOSPC as the service says
 *	-ECANCELED	store_cancel()
 *
 * Data never passes through buffers of ours: READ writes into op->data as it
 * arrives, PUT and PART send from it. A failed READ may have written a part.
 *
 * Threads: store_submit() and store_cancel() from any thread. Everything else about
 * an operation happens on the transfer loop of its stack: op->progress() and
 * op->complete() are called there, must not block, and may submit. Layers
 * therefore need no locks for what they keep in a frame.
 */
#ifndef OVFS_STORE_OPERATOR_H
#define OVFS_STORE_OPERATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/iov.h"
#include "base/loop.h"

#define STORE_ETAG_MAX 72	/* bytes with the NUL, quotes included */
#define STORE_SESSION_MAX 256	/* upload id, bytes with the NUL */
#define STORE_KEY_MAX 1024	/* bytes, without a NUL, root prefix included */
#define STORE_LAYERS_MAX 8
#define STORE_DELETE_BATCH_MAX 1000

enum store_opcode {
	STORE_STAT,
	STORE_READ,
	STORE_PUT,	 /* a whole object in one request */
	STORE_BEGIN,	 /* begin a write session (multipart upload) */
	STORE_PART,	 /* one part of a session, from memory */
	STORE_COPY_PART, /* one part of a session, from a range of an object */
	STORE_COMMIT,	 /* end a session: the object appears, whole */
	STORE_ABORT,	 /* end a session: nothing appears */
	STORE_LIST,	 /* one page of a listing */
	STORE_DELETE,	 /* succeeds when there is none */
	STORE_DELETE_BATCH,
	STORE_COPY, /* server-side, metadata included unless replaced */
	STORE_LIST_SESSIONS, /* unfinished write sessions, for cleaning up */
	STORE_OPCODE_COUNT,
};

/* "stat", "read", ... for logs and metrics. */
const char *store_opcode_name(enum store_opcode opcode);

/* What is known of an object. */
struct store_meta {
	uint64_t size;	  /* bytes */
	int64_t mtime_ns; /* since the epoch, as the service keeps it */
	int64_t user_mtime_ns; /* x-amz-meta-mtime; valid with has_user_mtime */
	bool has_user_mtime;
	char etag[STORE_ETAG_MAX]; /* version; "" when the service gave none */
};

/* One row of a listing. Valid during the call of op->list.entry() only. */
struct store_entry {
	const char *key; /* relative to the root; not NUL-terminated */
	size_t key_len;
	bool is_prefix; /* a common prefix, ending in the delimiter */
	struct store_meta meta; /* no user_mtime: listings have none */
};

struct store_part {
	uint32_t number; /* 1 .. 10000, ascending in a commit */
	char etag[STORE_ETAG_MAX];
};

struct store_op;
struct store;

/* What a layer keeps of an operation while it is below it. */
struct store_frame {
	struct store *layer;
	void (*complete)(struct store *layer, struct store_op *op);
	uint64_t word[6];
	struct loop_timer timer;
};

struct store_op {
	/* ---- In; the memory pointed to outlives the operation. ---- */
	enum store_opcode opcode;
	const char *key; /* relative to the root; LIST and LIST_SESSIONS: the prefix */

	/* The operation fails unless the object has this etag (READ, STAT, PUT,
	 * COMMIT, DELETE), or does not exist (PUT, COMMIT, COPY). "" or NULL: no condition. */
	const char *if_match;
	bool if_absent;

	/* PUT, BEGIN, COPY: to be stored with the object. COPY: replaces what the
	 * source has, when set. */
	bool set_user_mtime;
	int64_t user_mtime_ns;
	const char *content_type; /* NULL: the service's default */

	/* READ: where to, PUT and PART: where from. Of READ, @length bytes from @offset
	 * (length 0: to the end); the cursor has room for them. */
	struct iov_cursor data;
	uint64_t offset, length;

	const char *session; /* PART, COPY_PART, COMMIT, ABORT: of BEGIN */
	uint32_t part_number;
	const struct store_part *parts; /* COMMIT */
	size_t part_count;

	/* COPY, COPY_PART (range offset, length). */
	const char *source_key;
	const char *source_if_match;

	const char *const *keys; /* DELETE_BATCH */
	size_t key_count;
	int *key_results; /* one for each key: 0 or negative errno */

	struct {
		const char *delimiter;	 /* "/" or NULL */
		const char *start_after; /* NULL; only on the first page */
		const char *token;	 /* NULL on the first page, then of the page before */
		uint32_t limit;		 /* rows at most; 0: the service's page */
		void (*entry)(struct store_op *op, const struct store_entry *entry);
	} list;

	/* May be NULL: @done bytes of a READ are in place so far, in order. After a
	 * retry it may begin again from a smaller number. */
	void (*progress)(struct store_op *op, uint64_t done);
	void (*complete)(struct store_op *op);

	/* ---- Out, valid in complete(). ---- */
	int result;
	struct store_meta meta; /* STAT, READ (of the whole object), PUT, COMMIT, COPY, and the
				 * etag of PART and COPY_PART */
	uint64_t done;		/* READ: bytes in place */
	char session_out[STORE_SESSION_MAX]; /* BEGIN */
	struct {
		bool truncated;
		char token[STORE_KEY_MAX * 3 + 1]; /* of the next page when truncated */
	} *page; /* in: where to put it (LIST); the caller's */
	uint32_t retry_after_ms;  /* the service's wish with -EAGAIN; 0: none */
	unsigned attempts;	  /* requests sent for it */

	/* ---- The operator's, from submit to complete. ---- */
	struct store_frame frame[STORE_LAYERS_MAX];
	unsigned depth;
	void *service; /* the service's state of the request */
	struct loop_task task;
	bool cancelled;
};

struct store_caps {
	bool if_match;	    /* conditions are honoured: READ, STAT */
	bool write_if_match; /* ... PUT, COMMIT */
	bool if_absent;
	bool copy;
	bool copy_part;
	bool start_after;
	bool user_mtime;
	uint64_t part_min, part_max; /* bytes, but for the last part */
	uint32_t parts_max;
	uint64_t put_max;  /* bytes in one PUT */
	uint64_t copy_max; /* bytes of one COPY */
	uint32_t delete_batch_max; /* 0: no batches */
};

struct store_ops {
	const char *name;

	/* Transfer loop. Ends with store_op_complete(), now or later. */
	void (*submit)(struct store *store, struct store_op *op);

	/* Transfer loop: have @op complete soon. It may just have. NULL for layers
	 * that hold none back themselves. */
	void (*cancel)(struct store *store, struct store_op *op);

	/* Nothing is in flight. Frees this one only. */
	void (*free)(struct store *store);
};

/* The head of every service and layer. */
struct store {
	const struct store_ops *ops;
	struct store *next; /* NULL: a service */
	struct loop *loop;  /* the transfer loop, the same in a stack */
	struct store_caps caps;
};

/* Hands @op to the top of a stack. Any thread; complete() is never called from
 * within this, always from the transfer loop. */
void store_submit(struct store *store, struct store_op *op);

/* Asks for an early end; complete() comes in any case. Any thread, before
 * complete() has been called. */
void store_cancel(struct store *store, struct store_op *op);

static inline const struct store_caps *store_caps(const struct store *store)
{
	return &store->caps;
}

/* Frees a stack from its top. Nothing is in flight. Any thread but the transfer
 * loop's, after it ended; or the loop itself. */
void store_free(struct store *store);

/*
 * Submits and waits: for straight-line code on worker threads. Not on the
 * transfer loop. Returns op->result. @op->complete is overwritten.
 */
int store_call(struct store *store, struct store_op *op);

/* ---- For layers and services; transfer loop. ---- */

/* Takes a frame: @complete gets the operation back before whoever is above. */
struct store_frame *store_op_push(struct store_op *op, struct store *layer,
				  void (*complete)(struct store *layer, struct store_op *op));

/* The frame that @layer pushed. */
struct store_frame *store_op_frame(struct store_op *op, struct store *layer);

/* Passes @op down. */
void store_op_forward(struct store *layer, struct store_op *op);

/* Ends @op at this level: the innermost frame is popped and gets it, or the owner. */
void store_op_complete(struct store_op *op, int result);

#endif
