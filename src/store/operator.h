/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The object operator: what a service that stores objects under keys can do,
 * modelled on Apache OpenDAL's operator.
 *
 * Services (s3, memory) and layers (retry, timeout, concurrency limit, ...)
 * have one vtable. A layer holds the next operator and is one itself; a stack
 * is built once, from the service outwards, and freed from its top.
 *
 *	metrics -> health -> switch -> retry -> throttle -> limit -> timeout -> metrics -> s3
 *
 * (timeout below limit: the time in the queue is not the service's; the metrics below count
 * requests). What is below the switch is exchanged as a whole: storage_side.h.
 *
 * An operation is a struct store_op, embedded in whatever the caller waits
 * with: submitting allocates nothing in the operator, and the number of
 * operations is bounded by their owners. It ends exactly once, by op->complete(),
 * with op->result 0 or a negative errno:
 *
 *	-ENOENT		no such key (READ, STAT, COPY source; DELETE with if_match),
 *			or no such write session (PART, COPY_PART, COMMIT, ABORT)
 *	-ESTALE		if_match or source_if_match did not hold; PUT and COMMIT also
 *			when if_match was given and there is no object at all
 *	-EEXIST		if_absent did not hold
 *	-EACCES		refused: credentials or policy
 *	-EINVAL		the request makes no sense, to us or to the service
 *	-ENAMETOOLONG	the key, with the root in front, is longer than the service's keys
 *	-ERANGE		the range of a READ begins at or after the end of the object;
 *			meta.size is set where the service says it
 *	-EFBIG		more than one request of the kind can carry (see store_caps)
 *	-EOPNOTSUPP	a capability that the service lacks; never silently left out
 *	-ETIMEDOUT	no answer in time
 *	-EAGAIN		the service asks to slow down (503, 429); it did nothing
 *	-EIO		anything else that went wrong on the way, truncated bodies too
 *	-EDQUOT, -ENOSPC as the service says; -ENOMEM
 *	-ECANCELED	store_cancel()
 *
 * -ETIMEDOUT and -EIO of an operation that changes something are ambiguous: it may
 * have happened. The retry layer knows how to find out.
 *
 * Data never passes through buffers of ours: READ writes into op->data as it
 * arrives, PUT and PART send from it. A failed READ may have written a part.
 *
 * Threads: store_submit() and store_cancel() from any thread. Everything else about
 * an operation happens on the transfer loop of its stack: op->progress(),
 * op->list.entry() and op->complete() are called there, must not block, and may
 * submit. Layers therefore need no locks for what they keep of an operation.
 */
#ifndef OVFS_STORE_OPERATOR_H
#define OVFS_STORE_OPERATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/iov.h"
#include "base/list.h"
#include "base/loop.h"

#define STORE_ETAG_MAX 72     /* bytes with the NUL, quotes included */
#define STORE_SESSION_MAX 256 /* upload id, bytes with the NUL */
#define STORE_KEY_MAX 1024    /* bytes, without a NUL, root prefix included */
#define STORE_CHECKSUM_MAX 16 /* base64 of 8 bytes and less, with the NUL */
#define STORE_WRITE_ID_MAX 33 /* 32 of [0-9A-Za-z] and the NUL */
#define STORE_TOKEN_MAX (STORE_KEY_MAX * 3 + STORE_SESSION_MAX + 2) /* with the NUL */
#define STORE_LAYERS_MAX 8
#define STORE_STATE_MAX 128 /* bytes that a layer may keep of an operation */
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
	STORE_DELETE,	 /* succeeds when there is none, but with if_match */
	STORE_DELETE_BATCH,
	STORE_COPY,	     /* server-side, metadata included unless replaced */
	STORE_LIST_SESSIONS, /* unfinished write sessions, for cleaning up */
	STORE_WRITE,	     /* ranges of an object that is there, in place */
	STORE_OPCODE_COUNT,
};

/* "stat", "read", ... for logs and metrics. */
const char *store_opcode_name(enum store_opcode opcode);

/* What is known of an object. */
struct store_meta {
	uint64_t size;	       /* bytes */
	int64_t mtime_ns;      /* since the epoch, as the service keeps it */
	int64_t user_mtime_ns; /* x-amz-meta-mtime; valid with has_user_mtime */
	bool has_user_mtime;
	char etag[STORE_ETAG_MAX];	   /* version; "" when the service gave none */
	char write_id[STORE_WRITE_ID_MAX]; /* STAT, READ: of the write; "" for none */
};

/*
 * What other clients stored with an object (content type, x-amz-meta-...), to be stored with the
 * next version of it, too: for STAT to fill in, for PUT and BEGIN to take. Only the service knows
 * how to read it. What is ours (user mtime, write_id) is not in it.
 */
/* Bytes that a service gives; S3 allows 2 KiB and some headers. */
#define STORE_PROPERTIES_MAX 4096

struct store_properties {
	char *text; /* the caller's, @room bytes of it */
	size_t room, len;
	bool cut; /* STAT: there is more than fits; len is 0 */
};

/* One row of a listing. Valid during the call of op->list.entry() only. */
struct store_entry {
	const char *key; /* relative to the root; not NUL-terminated */
	size_t key_len;
	bool is_prefix;		/* a common prefix, ending in the delimiter */
	const char *session;	/* LIST_SESSIONS: for ABORT, NUL-terminated; else NULL */
	struct store_meta meta; /* listings: no user_mtime, no write_id; sessions:
				 * mtime_ns, when it began */
};

struct store_part {
	uint32_t number; /* 1 .. 10000, ascending in a commit */
	char etag[STORE_ETAG_MAX];
	char checksum[STORE_CHECKSUM_MAX]; /* as PART and COPY_PART gave it */
};

/* What a page of a listing leaves behind. Owned by the caller. */
struct store_page {
	bool truncated;
	char token[STORE_TOKEN_MAX]; /* of the next page when truncated */
};

/* Of the bytes of an object. */
struct store_range {
	uint64_t offset, length;
};

struct store_op;
struct store;

/* What a layer keeps of an operation while it is at it or below it. Each layer of
 * a stack has one of its own, zeroed at store_submit(). */
struct store_frame {
	struct store_op *op;
	struct store *layer;
	void (*complete)(struct store *layer, struct store_op *op);
	struct list link;	 /* for queues of the layer */
	struct loop_timer timer; /* the layer's: container_of() leads back here */
	_Alignas(uint64_t) unsigned char state[STORE_STATE_MAX];
};

struct store_op {
	/* ---- In; the memory pointed to outlives the operation. ---- */
	enum store_opcode opcode;
	const char *key; /* relative to the root; LIST and LIST_SESSIONS: the prefix, maybe "" */

	/* The operation fails unless the object has this etag (READ, STAT, PUT,
	 * COMMIT, DELETE), or does not exist (PUT, COMMIT, COPY). "" or NULL: no
	 * condition. Not both. */
	const char *if_match;
	bool if_absent;

	/* PUT, BEGIN, COPY, WRITE: to be stored with the object. COPY: replaces what the
	 * source has, when set. WRITE: unless its time is later than this. */
	bool set_user_mtime;
	int64_t user_mtime_ns;
	const char *content_type; /* NULL: the service's default */
	/* PUT, BEGIN; COPY: instead of what the source has, which then need not be asked for.
	 * NULL: none; COPY: the source's. */
	const struct store_properties *properties;
	struct store_properties *properties_out; /* STAT: where caps.properties; or NULL */

	/* PUT, BEGIN, and COMMIT the same again; COPY with properties: names this write, see
	 * store_write_id(). Stored with the object where caps.write_id says so, to
	 * recognise a write of ours whose answer was lost. NULL: such a write ends
	 * in an error although it may have happened. */
	const char *write_id;

	/* READ: where to, PUT, PART and WRITE: where from; @length bytes, 0 for as many as
	 * the cursor has. READ: from @offset; short at the end of the object. As all
	 * above, no service changes these (see store_op_cursor()), and a layer puts
	 * back what it changes. */
	struct iov_cursor data;
	uint64_t offset, length;

	/* WRITE: where to, one after the other; @length bytes in all. Not as one: after a failure
	 * any of them may be written, or a part of one. */
	const struct store_range *ranges;
	size_t range_count;

	const char *session; /* PART, COPY_PART, COMMIT, ABORT: of BEGIN */
	uint32_t part_number;
	const struct store_part *parts; /* COMMIT */
	size_t part_count;

	/* COPY, COPY_PART (range @offset, @length; all of it must exist). */
	const char *source_key;
	const char *source_if_match;

	const char *const *keys; /* DELETE_BATCH */
	size_t key_count;
	int *key_results; /* one for each key: 0 or negative errno; when result is 0 */

	/* LIST, LIST_SESSIONS. Keys and prefixes come each in ascending byte order. */
	struct {
		const char *delimiter;	 /* "/" or NULL */
		const char *start_after; /* NULL; only on the first page */
		const char *token;	 /* NULL on the first page, then of the page before */
		uint32_t limit;		 /* rows at most; 0: the service's page */
		void (*entry)(struct store_op *op, const struct store_entry *entry);
		/* Forget the entries of this page: it failed half-way and begins anew.
		 * NULL: then it is not repeated once an entry was delivered. */
		void (*restart)(struct store_op *op);
		struct store_page *page; /* the caller's, not where token points */
	} list;

	/* May be NULL: @done bytes of a READ are in place so far, in order. May begin
	 * again from 0: the object changed between two attempts of a READ without
	 * if_match, and what was in place is no longer valid. */
	void (*progress)(struct store_op *op, uint64_t done);
	void (*complete)(struct store_op *op);

	/* ---- Out, valid in complete(). ---- */
	int result;
	/* STAT, READ (of the whole object; from the first headers on, also when the
	 * body then fails), PUT, COMMIT, COPY, WRITE: as far as the service tells, etag always
	 * (a READ with caps.write_range: no etag).
	 * PART, COPY_PART: etag. */
	struct store_meta meta;
	char checksum[STORE_CHECKSUM_MAX];   /* PART, COPY_PART: for COMMIT; "" for none */
	char former[STORE_ETAG_MAX];	     /* WRITE: the version that it changed */
	uint64_t done;			     /* READ: bytes in place, also of a failed one */
	char session_out[STORE_SESSION_MAX]; /* BEGIN */
	uint32_t entries;		     /* LIST: delivered by this attempt */
	uint32_t retry_after_ms;	     /* the service's wish with an error; 0: none */
	unsigned attempts;		     /* times that the service was asked */

	/* ---- Of the attempt under way; kept by store_op_moved(). ---- */
	uint64_t moved;	     /* bytes of body sent or received */
	uint64_t moved_ns;   /* loop_now_ns() of the start or the last movement */
	uint64_t silence_ns; /* the longest time without any */

	/* ---- The operator's, from submit to complete. ---- */
	struct store *top; /* where it was submitted */
	struct store *at;  /* who has it: complete() of layers above is still to come */
	unsigned stop;	   /* recalled by the layer of this height; 0: by nobody */
	_Atomic int phase;
	bool finished;
	bool cancel_ran;
	bool length_open; /* the caller's length is 0 */
	void *service;	  /* the service's state of the request */
	void *waiter;
	struct loop_task task, cancel_task;
	struct store_frame frame[STORE_LAYERS_MAX];
};

/* Of what may be left out as NULL or "": it is not. */
static inline bool store_given(const char *text)
{
	return text && *text;
}

struct store_caps {
	bool if_match;	      /* conditions are honoured: READ, STAT */
	bool write_if_match;  /* ... PUT, COMMIT */
	bool delete_if_match; /* ... DELETE */
	bool if_absent;	      /* ... PUT, COMMIT */
	bool copy_if_absent;  /* ... COPY */
	bool sessions;	      /* BEGIN, PART, COMMIT, ABORT, LIST_SESSIONS */
	bool copy;
	bool copy_part;
	/* WRITE. Such objects have no versions that a READ could ask for: it gets what there is,
	 * and zeros for what is not there any more. */
	bool write_range;
	bool start_after;
	bool user_mtime;
	bool write_id;
	bool properties;	     /* STAT tells them */
	uint64_t part_min, part_max; /* bytes; the last part may be smaller */
	uint32_t parts_max;
	uint64_t put_max;	   /* bytes in one PUT */
	uint64_t copy_max;	   /* bytes of one COPY */
	uint32_t delete_batch_max; /* 0: no batches */
	uint32_t list_max;	   /* rows of a page */
};

struct store_ops {
	const char *name;

	/* Transfer loop. Ends with store_op_complete() (services, or layers that
	 * refuse) or store_op_forward() (layers), now or later. */
	void (*submit)(struct store *store, struct store_op *op);

	/* Transfer loop: have @op, which is at this store, complete soon, with
	 * -ECANCELED if nothing better is known. NULL for layers that never hold
	 * an operation back. */
	void (*cancel)(struct store *store, struct store_op *op);

	/* Nothing is in flight. Frees this one only. */
	void (*free)(struct store *store);
};

/* The head of every service and layer. */
struct store {
	const struct store_ops *ops;
	struct store *next; /* NULL: a service */
	struct loop *loop;  /* the transfer loop, the same in a stack */
	unsigned height;    /* 0: a service */
	struct store_caps caps;
};

/*
 * Hands @op to the top of a stack. Any thread; complete() is never called from
 * within this, always from the transfer loop. Requests that break the rules above or
 * ask for what store_caps() denies end with -EINVAL, -EOPNOTSUPP or -EFBIG.
 */
void store_submit(struct store *store, struct store_op *op);

/*
 * Asks for an early end; complete() comes in any case, with whatever result the
 * operation has by then. Any thread, after store_submit() returned, and as long as
 * @op exists: who cancels from another thread than the transfer loop holds a lock or
 * a reference that complete() needs, too. Harmless on one that is completing.
 */
void store_cancel(struct store_op *op);

static inline const struct store_caps *store_caps(const struct store *store)
{
	return &store->caps;
}

/* Frees a stack from its top. Nothing is in flight. Any thread but the transfer
 * loop's, after it ended; or the loop itself. Accepts NULL. */
void store_free(struct store *store);

/*
 * Submits and waits: for straight-line code on worker threads. Not on the
 * transfer loop. Returns op->result. @op->complete is overwritten.
 */
int store_call(struct store *store, struct store_op *op);

/* A fresh random name for a write. Any thread. */
void store_write_id(char id[static STORE_WRITE_ID_MAX]);

/* ---- For layers and services; transfer loop. ---- */

/* Fills in the head of a service, with no capabilities. */
void store_init(struct store *store, const struct store_ops *ops, struct loop *loop);

/* Fills in the head of a layer: loop and capabilities of @next, which becomes its
 * own. An error when the stack is too high; @next then stays the caller's. */
struct err *store_init_layer(struct store *store, const struct store_ops *ops, struct store *next)
	__attribute__((warn_unused_result));

/* What @layer keeps of @op. */
static inline struct store_frame *store_op_frame(struct store_op *op, const struct store *layer)
{
	return &op->frame[layer->height - 1];
}

/* The layer's own part of it, as its struct @type. */
#define store_op_state(op, layer, type)                                                            \
	({                                                                                         \
		_Static_assert(sizeof(type) <= STORE_STATE_MAX, "layer state is too large");       \
		(type *)(void *)store_op_frame(op, layer)->state;                                  \
	})

/* The frame, thus the operation, that a timer of store_frame belongs to. */
static inline struct store_frame *store_timer_frame(struct loop_timer *timer)
{
	return container_of(timer, struct store_frame, timer);
}

/*
 * Passes @op to the next below. @complete (may be NULL: not interested) gets it
 * back before whoever is above does; it passes the result on with
 * store_op_complete(), or has the operation done once more by forwarding it again.
 */
void store_op_forward(struct store *layer, struct store_op *op,
		      void (*complete)(struct store *layer, struct store_op *op));

/* Before it is forwarded to others than it came back from: layers below @layer find what they
 * keep of @op as empty as after store_submit(). */
void store_op_renew(struct store *layer, struct store_op *op);

/* Ends @op at the store where it is: the next above gets it, or the owner.
 * @result: 0 or negative errno. A READ of a service that is shorter than both what was
 * asked for and meta.size, and a BEGIN without session_out, become -EIO. Do not touch @op
 * afterwards. */
void store_op_complete(struct store_op *op, int result);

/* Asks whoever below @layer has @op to give it back, as store_cancel() does, but
 * ends only what is below. May call the layer's complete() from within. */
void store_op_recall(struct store *layer, struct store_op *op);

/* It was cancelled or recalled from above where it is: do not begin anything for it. */
static inline bool store_op_stopped(const struct store_op *op)
{
	return op->stop > op->at->height;
}

/* READ: where the next byte goes, op->data advanced by op->done; the next byte
 * is at op->offset + op->done. Services begin there: after a failure half-way the
 * retry layer leaves op->done as it is. PUT, PART: the beginning of op->data. */
struct iov_cursor store_op_cursor(const struct store_op *op);

/* Services: @bytes more of the body were sent or, for READ, put in place, never more than
 * op->length in all (a service that sends more is cut short or failed). Advances
 * op->done of a READ and calls op->progress(). @bytes may be 0: a sign of life. */
void store_op_moved(struct store_op *op, uint64_t bytes);

/* Services: delivers a row of a listing. */
void store_op_entry(struct store_op *op, const struct store_entry *entry);

#endif
