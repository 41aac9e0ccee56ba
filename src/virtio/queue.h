/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A queue of the device: a virtqueue with the thread that serves it, its
 * request objects, and its notifications.
 *
 * The thread waits in its own loop for the kick, pops chains, hands each to
 * ops->request() and signals what was completed meanwhile; a request that is
 * completed by another thread is pushed and signalled by that thread. One mutex
 * covers the virtqueue; it is never held while a request is handled or a
 * descriptor is written to.
 *
 * A queue is a permanent part of its device. What the front end configures is
 * kept in plain form and takes effect when the ring starts: as soon as it has
 * a size, addresses, memory, a kick and is enabled.
 *
 * Threads: every function here belongs to the control thread, but where it says any. Those
 * that can make the ring start or break return 0 or negative errno for the message that
 * caused it.
 */
#ifndef OVFS_VIRTIO_QUEUE_H
#define OVFS_VIRTIO_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/device.h"
#include "virtio/dirty_log.h"
#include "virtio/guest_mem.h"
#include "virtio/inflight.h"
#include "virtio/virtqueue.h"

struct queue;

struct queue_params {
	const char *name; /* of the device; outlives the queue */
	unsigned index;
	unsigned poll_us;
	enum virtio_poll poll;
	int nobody_fd;			     /* an eventfd that nobody reads; outlives the queue */
	const struct virtio_device_ops *ops; /* outlives the queue */
	void *ctx;
};

/* Starts the queue's thread. */
struct err *queue_new(struct queue **out, const struct queue_params *params);

/* The queue is stopped and nothing is outstanding. Accepts NULL. */
void queue_free(struct queue *q);

/* ---- What the front end tells (descriptors become the queue's) ---- */

/* Virtio feature bits; the ring's format follows at its next start. */
int queue_set_features(struct queue *q, uint64_t features);

/* Only while no ring runs; see queue_started(). -EINVAL: out of range. */
int queue_set_size(struct queue *q, uint32_t size);
int queue_set_base(struct queue *q, uint32_t base);

int queue_set_addr(struct queue *q, const struct virtq_addr *addr);

/*
 * @fd < 0: the front end will not kick, poll. The arrival of the descriptor
 * counts as a kick: one that came earlier may have been consumed by a back end
 * that did not live to act on it. -EINVAL: not a descriptor that can be waited for.
 */
int queue_set_kick(struct queue *q, int fd);

/* @fd < 0: none. A running queue signals the new descriptor once, in case a
 * signal went to the old one when nobody listened to it any more. */
int queue_set_call(struct queue *q, int fd);
int queue_set_err(struct queue *q, int fd);
int queue_set_enabled(struct queue *q, bool enabled);

/* These take their own references; NULL for none. */
int queue_set_mem(struct queue *q, struct guest_mem *mem);
void queue_set_log(struct queue *q, struct dirty_log *log);
int queue_set_inflight(struct queue *q, struct inflight *area);

/* Signalled after each write to the log; stays the caller's, -1 for none. */
void queue_set_log_fd(struct queue *q, int fd);

/* Checks that @fd can be written to and makes it non-blocking: a front end that does
 * not read its pipe must not hold up a queue. Negative errno. */
int queue_prepare_signal_fd(int fd);

/* As virtio_device_queue_info() and virtio_device_each_request(). Any thread. */
void queue_info(struct queue *q, struct virtio_queue_info *out);
void queue_each_request(struct queue *q, void (*look)(void *arg, const struct virtio_req *req),
			void *arg);

/* ---- Stopping ---- */

/* The ring runs or is broken: it has to be stopped before it is set up anew. */
bool queue_started(struct queue *q);

/* No further chain is popped. */
void queue_halt(struct queue *q);

/*
 * Waits up to @timeout_ms until the requests that were popped are completed;
 * returns how many are not. @orphans: count those that queue_stop() gave up on too.
 */
unsigned queue_wait_idle(struct queue *q, unsigned timeout_ms, bool orphans);

/*
 * Ends the halted ring and forgets the kick. Requests that are not completed
 * become orphans: their memory stays mapped until they are, but they write
 * nothing into the ring. Returns their number.
 */
unsigned queue_stop(struct queue *q);

/* Where the next start goes on (GET_VRING_BASE), once stopped. */
uint32_t queue_get_base(struct queue *q);

/* A stopped queue forgets its configuration but for call, err, memory and log. */
void queue_reset(struct queue *q);

/* A stopped queue without orphans forgets everything; its descriptors are closed
 * when this returns. */
void queue_detach(struct queue *q);

#endif
