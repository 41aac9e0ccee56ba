/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device's side of one virtqueue, split (virtio 1.3, 2.7) or packed (2.8).
 *
 * The driver's side is another machine, perhaps a hostile one. Whatever is read
 * from the ring is loaded once and then checked; a ring that lies makes the
 * queue broken (virtq_error() says how), which ends only this queue: from then
 * on nothing is popped and pushes do nothing.
 *
 * Life: virtq_init(); while stopped the vhost-user messages set features,
 * size, addresses, base, memory, log, inflight area; virtq_start(); pop and
 * push; virtq_stop(), after which virtq_get_base() tells where to go on. Memory,
 * addresses and log may also be set while the queue runs.
 *
 * Threads: the structure has no lock of its own. Every function on one queue,
 * and on the view it hands out, is called under the mutex of that queue. pop
 * and push do not allocate, lock or enter the kernel.
 *
 * Ring sizes are at most VIRTIO_QUEUE_SIZE_MAX; split: a power of two; packed:
 * any. VIRTIO_F_IN_ORDER is not offered.
 */
#ifndef OVFS_VIRTIO_VIRTQUEUE_H
#define OVFS_VIRTIO_VIRTQUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "virtio/device.h"
#include "virtio/dirty_log.h"
#include "virtio/guest_mem.h"
#include "virtio/inflight.h"

/*
 * Descriptors in a chain, indirect ones included. Linux makes indirect tables
 * that are longer than the queue, in spite of 2.7.5.3.1, so the bound is not
 * the size of this queue but of the largest one.
 */
#define VIRTQ_CHAIN_MAX 1024

/* Segments that virtq_pop() needs room for: one a descriptor. A range that
 * spans regions not contiguous here counts as several. */
#define VIRTQ_IOV_MAX 1024

/* One chain, from virtq_pop() to virtq_push(); the caller keeps it. */
struct virtq_chain {
	/* What push needs. */
	uint16_t id;	   /* split: head descriptor; packed: buffer id */
	uint16_t slots;	   /* ring descriptors the chain occupies; split: 1 */
	uint16_t inflight; /* packed: entry in the inflight area */
	uint32_t run;	   /* virtq_start() it belongs to */

	/* iov[0 .. in_count) is device-readable, the next out_count writable. */
	uint16_t in_count, out_count;
	uint32_t in_bytes, out_bytes;
};

/* VHOST_USER_SET_VRING_ADDR; front-end addresses. */
struct virtq_addr {
	uint64_t desc;	  /* descriptor table or ring */
	uint64_t driver;  /* avail ring; packed: driver event suppression */
	uint64_t device;  /* used ring; packed: device event suppression */
	bool log;	  /* VHOST_VRING_F_LOG: log writes to the ring too */
	uint64_t log_gpa; /* guest address of @device */
};

struct virtqueue {
	/* Constant while running. */
	bool packed;
	bool event_idx; /* VIRTIO_F_EVENT_IDX */
	bool indirect;	/* VIRTIO_F_INDIRECT_DESC */
	bool running;
	uint16_t size;
	const char *error; /* NULL, or why the queue is broken */

	/* Where the ring lies in our address space; NULL when not resolved. */
	void *desc, *driver, *device;

	/* Positions. Split: free-running. Packed: below size, with a wrap counter. */
	uint16_t avail_idx; /* next to pop */
	uint16_t used_idx;  /* next to push */
	bool avail_wrap, used_wrap;
	uint16_t avail_seen; /* split: the driver's idx when last loaded */
	uint32_t stopped_at; /* packed: virtq_get_base() when it last stopped */

	uint16_t in_flight; /* slots popped and not pushed: at most size */

	/* Notifications. */
	uint32_t pushed;    /* slots since the last virtq_should_notify() */
	bool notify_anyway; /* whoever ran before may have died owing one */

	struct guest_view *view;
	struct guest_view *ring_view; /* keeps the ring mapped; NULL when not resolved */
	struct dirty_log *log;	      /* NULL: not migrating */
	uint64_t desc_gpa;	      /* packed: for logging */

	struct inflight_queue inflight;
	struct inflight *inflight_area;
	struct inflight_resubmit *resubmit; /* to be popped first */
	uint16_t resubmit_next, resubmit_count;
	struct inflight_packed_desc *scratch; /* packed: copy of one chain */
	uint32_t run;

	struct virtq_addr addr;
	bool addr_set;
};

/* Everything unset, split, size 0. */
void virtq_init(struct virtqueue *vq);

/* Drops every reference; the queue is stopped first. */
void virtq_fini(struct virtqueue *vq);

/* ---- While stopped ---- */

/* Also sets the base to the start of the ring (packed: wrap counters set), so not while it runs. */
void virtq_set_features(struct virtqueue *vq, bool packed, bool event_idx, bool indirect);

/* -EINVAL: not a size of this format. Checked again by virtq_start(), because
 * features may come later. */
int virtq_set_size(struct virtqueue *vq, unsigned size);

/*
 * VHOST_USER_SET_VRING_BASE and _GET_VRING_BASE. Split: the next avail index.
 * Packed: bits 0-14 next avail index, 15 its wrap counter, 16-30 next used
 * index, 31 its wrap counter. Front ends exist that leave the upper half 0
 * (DPDK's); it is then taken to be the same as the lower one, which it is
 * whenever the queue was stopped with nothing in flight; but not in the base that this
 * queue stopped at, where 0 is what it says. -EINVAL: out of range.
 */
int virtq_set_base(struct virtqueue *vq, uint32_t base);
uint32_t virtq_get_base(const struct virtqueue *vq);

/* Takes a reference on @area (NULL: none). -EINVAL: it has no such queue; the
 * size and features of the queue are to be set before. */
int virtq_set_inflight(struct virtqueue *vq, struct inflight *area, unsigned index);

/*
 * Resolves the ring, takes over the used index and what the inflight area has
 * left over, which virtq_pop() then yields first. 0, or
 *	-EINVAL	 size, address or memory not set, or not aligned (2.7, 2.8.10)
 *	-EFAULT	 the ring is not in guest memory
 *	-EPROTO	 the inflight area lies
 *	-ENOMEM
 * with the reason in virtq_error(). Clears an earlier error.
 */
int virtq_start(struct virtqueue *vq);

/* Chains that were popped may still be pushed later: that does nothing. */
void virtq_stop(struct virtqueue *vq);

/* ---- At any time ---- */

/*
 * New memory, of which the queue takes its own reference; -ENOMEM, and nothing
 * has changed. Popped chains keep the view they were popped with. A running
 * queue looks for its ring in the new memory; when it is not there it goes on
 * with the old mapping, which stays: front ends replace a region by removing
 * and adding it.
 */
int virtq_set_mem(struct virtqueue *vq, struct guest_mem *mem);

/* New addresses (the log flag changes in this way while the queue runs). On a
 * running queue they take effect at once: 0, or the queue is broken and the
 * result is -EFAULT or -EINVAL as for virtq_start(). */
int virtq_set_addr(struct virtqueue *vq, const struct virtq_addr *addr);

/* Takes its own reference; NULL ends logging. */
void virtq_set_log(struct virtqueue *vq, struct dirty_log *log);

/* Why the queue is broken, a static string; NULL when it is not. */
static inline const char *virtq_error(const struct virtqueue *vq)
{
	return vq->error;
}

/* Breaks the queue for a reason found elsewhere; @reason is a static string. */
void virtq_break(struct virtqueue *vq, const char *reason);

/* ---- While running ---- */

/*
 * Takes the next chain. Returns 1 and fills @chain and the segments in @iov
 * (room for @max; VIRTQ_IOV_MAX is enough for every honest driver); 0 when there is none; -EPROTO
 * when the ring lies and the queue is now, or was already, broken.
 * At no time are more chains popped and not pushed than the ring has entries.
 *
 * The segments point into memory of vq->view: the caller takes a reference on
 * it (guest_view_ref) for as long as it uses them.
 */
int virtq_pop(struct virtqueue *vq, struct virtq_chain *chain, struct iovec *iov, unsigned max);

/*
 * Gives a chain back: the first @written bytes of its writable part are filled.
 * Visible to the driver at once. Chains may be pushed in any order.
 */
void virtq_push(struct virtqueue *vq, const struct virtq_chain *chain, uint32_t written);

/* Logs what was written into a chain's memory, in regions of @view; called
 * before virtq_push(). */
static inline void virtq_log_written(struct virtqueue *vq, const struct guest_view *view,
				     const struct iovec *out, size_t count, uint64_t written)
{
	if (unlikely(vq->log != NULL))
		dirty_log_mark_iov(vq->log, view->mem, out, count, written);
}

/* True when what was pushed since the last call is to be signalled to the
 * driver. Call once after a batch of pushes, and once after virtq_start(): there
 * it is true, because a process before us may have died between the two. */
bool virtq_should_notify(struct virtqueue *vq);

/* True when virtq_pop() would return other than 0. Cheap: for busy polling. */
bool virtq_has_chain(struct virtqueue *vq);

/* Chains that virtq_pop() would take one after the other, as far as the ring tells at a
 * glance: a packed one that there is one. For people who look. */
unsigned virtq_waiting(struct virtqueue *vq);

/*
 * Asks the driver to kick (not to kick) when it adds chains. A chain may have
 * been added in the meantime: when virtq_enable_kicks() returns true there is
 * one (or the queue is broken), and the caller pops on before it sleeps.
 */
bool virtq_enable_kicks(struct virtqueue *vq);
void virtq_disable_kicks(struct virtqueue *vq);

#endif
