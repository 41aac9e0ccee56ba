/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of a queue, shared by queue.c (what the control thread does),
 * queue_serve.c (what the queue's thread does) and queue_request.c (request
 * objects and their completion). See queue.h.
 */
#ifndef OVFS_VIRTIO_QUEUE_PRIV_H
#define OVFS_VIRTIO_QUEUE_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/log.h"
#include "base/loop.h"
#include "virtio/queue.h"
#include "virtio/queue_pace.h"
#include "virtio/vhost_user.h"

/*
 * Requests completed on the queue's own thread are signalled together: when the
 * ring is empty, or when this long has passed since the first of them was begun, or
 * before a request of so many bytes. At depth 1 that is one signal for each request; at
 * depth 32 one for several cheap requests, and one for one or two that take long:
 * queue_flush_due(). The second limit is for when our threads take all processors.
 */
#define QUEUE_NOTIFY_NS 5000u
#define QUEUE_CROWDED_NS 30000u
#define QUEUE_NOTIFY_BYTES (128u << 10)

/*
 * Where the driver is better not interrupted (queue_pace.h) as many are signalled
 * together, and the first of them has waited for so long, at most.
 */
#define QUEUE_HOLD_REQUESTS 16u
#define QUEUE_HOLD_NS 250000u

/* How often a ring without a kick descriptor is looked at, when it was empty. */
#define QUEUE_NOFD_POLL_NS 1000000ull

/* Chains of up to this many segments have them in the request itself; longer
 * ones use the queue's area of large arrays, whose pages exist only when used. */
#define REQUEST_INLINE_IOV 16

enum request_state {
	REQUEST_FREE,
	REQUEST_ACTIVE,
	REQUEST_ORPHAN, /* the ring was stopped without it */
};

struct request {
	struct virtio_req pub;
	struct queue *queue;
	struct request *next_free;
	struct guest_view *view; /* holds the memory mapped */
	struct virtq_chain chain;
	enum request_state state;
	struct iovec *large_iov; /* VIRTQ_IOV_MAX */
	struct iovec inline_iov[REQUEST_INLINE_IOV];
	/* followed by ops->priv_size bytes, 16-byte aligned */
};

static inline uint64_t request_bytes(const struct request *req)
{
	return (uint64_t)req->chain.in_bytes + req->chain.out_bytes;
}

/*
 * As many objects as the largest ring has entries, in one lazily populated
 * mapping: what was never used costs address space only. Covered by the lock.
 */
struct request_pool {
	char *base;
	size_t map_size;
	size_t object_size;
	struct iovec *large_iov;
	struct iovec *scratch; /* VIRTQ_IOV_MAX, for popping into */
	struct request *free;
	unsigned made; /* objects that exist, up to VIRTIO_QUEUE_SIZE_MAX */
};

/* What the front end configured; plain data without pointers. */
struct queue_config {
	uint64_t features;
	uint32_t size; /* 0: not set */
	uint32_t base;
	bool base_set;
	bool addr_set;
	bool enabled;
	bool kick_set; /* also when there is no descriptor */
	bool kick_nofd;
};

struct queue {
	/* Constant. */
	struct queue_params params;
	char context[64]; /* the thread's prefix in the log */
	struct loop *loop;
	pthread_t thread;
	int call_fd; /* the number stays, its meaning changes with dup3() */

	atomic_uint signals; /* completions that are about to write to call_fd */

	pthread_mutex_t lock;	/* covers all down to the next heading */
	pthread_cond_t changed; /* in_flight, orphans or update_done */
	struct virtqueue vq;
	struct queue_config config;
	struct inflight *inflight;
	struct dirty_log *log;	    /* set also while VHOST_F_LOG_ALL is off */
	bool halted;		    /* being stopped */
	struct log_limit log_limit; /* a guest can reset and break its ring at will */
	bool failed;		    /* could not start, or broke, and said so */
	bool starved;		    /* no request object was free for a chain */
	bool call_set;
	int err_fd;
	int log_fd;
	unsigned faults;    /* shm_map_faults() when last looked at */
	unsigned in_flight; /* popped, not pushed */
	unsigned orphans;
	unsigned waiting;  /* threads in queue_wait_idle() */
	unsigned deferred; /* pushed on the queue's thread, not yet signalled */
	struct request_pool pool;
	bool kick_changed; /* for the thread: watch kick_new in place of what it has */
	int kick_new;
	bool update_posted;
	unsigned update_want, update_done;

	/* The queue's thread only. */
	struct loop_task update;
	struct loop_fd kick;
	int kick_fd; /* -1: none watched */
	bool kick_is_event;
	struct loop_timer poll_timer;
	struct queue_pace pace; /* when to look at the ring instead of sleeping */
	uint64_t deferred_ns;	/* when the first of what is deferred was begun */
	bool turn_measured;	/* its processor time, since ... */
	uint64_t turn_cpu_ns;
};

/* ---- queue_request.c ---- */

struct err *request_pool_init(struct request_pool *pool, size_t priv_size);
void request_pool_fini(struct request_pool *pool);

/* Gives the pages of a pool without requests in use back to the kernel. */
void request_pool_trim(struct request_pool *pool);

/* A request for the next chain, NULL when there is none or the ring broke or
 * (q->starved) no object is free. Lock held. */
struct request *queue_pop(struct queue *q);

/* Turns every active request into an orphan; their number. Lock held. */
unsigned queue_orphan_requests(struct queue *q);

/* ---- queue_serve.c ---- */

/* Watches @q->update, q->kick; to be called before the thread runs. */
void queue_serve_init(struct queue *q);
void *queue_thread(void *arg);

/* Has the thread look at its kick descriptor and its ring. Lock held. */
void queue_poke(struct queue *q);

/* True when chains may be popped. Lock held. */
static inline bool queue_serving(const struct queue *q)
{
	return q->vq.running && !q->halted && !q->vq.error &&
	       (q->config.enabled ||
		!(q->config.features & (1ull << VHOST_USER_F_PROTOCOL_FEATURES)));
}

/* Adds 1 to an eventfd, or 8 bytes to a pipe or socket. */
void queue_signal_fd(int fd);

/* Breaks the ring when memory that the front end shares was truncated, and
 * reports a ring that broke: one log line, the err descriptor. Lock held. */
void queue_check_memory(struct queue *q);
void queue_report_error(struct queue *q);

#endif
