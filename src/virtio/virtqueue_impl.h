/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the two ring formats share; only for virtqueue*.c.
 *
 * Ring memory is accessed with the functions below and no other way. They
 * convert from and to little-endian (virtio 1.3, 2.7.3), and a load gives one
 * value that no later statement can find changed.
 */
#ifndef OVFS_VIRTIO_VIRTQUEUE_IMPL_H
#define OVFS_VIRTIO_VIRTQUEUE_IMPL_H

#include <endian.h>
#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "virtio/virtqueue.h"

static inline uint16_t ring_load16(const void *p)
{
	return le16toh(__atomic_load_n((const uint16_t *)p, __ATOMIC_RELAXED));
}

/* Loads that follow are not done before this one. */
static inline uint16_t ring_load16_acquire(const void *p)
{
	return le16toh(__atomic_load_n((const uint16_t *)p, __ATOMIC_ACQUIRE));
}

static inline uint32_t ring_load32(const void *p)
{
	return le32toh(__atomic_load_n((const uint32_t *)p, __ATOMIC_RELAXED));
}

static inline void ring_store16(void *p, uint16_t v)
{
	__atomic_store_n((uint16_t *)p, htole16(v), __ATOMIC_RELAXED);
}

/* Not done before the loads and stores that precede it. */
static inline void ring_store16_release(void *p, uint16_t v)
{
	__atomic_store_n((uint16_t *)p, htole16(v), __ATOMIC_RELEASE);
}

static inline void ring_store32(void *p, uint32_t v)
{
	__atomic_store_n((uint32_t *)p, htole32(v), __ATOMIC_RELAXED);
}

/*
 * The full barrier: the one thing acquire and release do not give is that a
 * store is visible before a later load of something else is done. Both sides
 * of a ring need it where they "publish, then look whether the other is
 * asleep": with the load first, each could miss the other's news.
 */
static inline void ring_mb(void)
{
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan" /* the other side is not in this process */
#endif
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
}

/* The sixteen bytes of a descriptor, split or packed, in two registers: the
 * compiler may not go back to memory for any of it. @p needs no alignment
 * (indirect tables may lie anywhere). */
struct ring_desc {
	uint64_t addr;
	uint64_t rest;
};

static inline struct ring_desc ring_desc_load(const void *p)
{
	struct ring_desc d;

	memcpy(&d.addr, p, sizeof(d.addr));
	memcpy(&d.rest, (const char *)p + sizeof(d.addr), sizeof(d.rest));
	__asm__ volatile("" : "+r"(d.addr), "+r"(d.rest));
	d.addr = le64toh(d.addr);
	d.rest = le64toh(d.rest);
	return d;
}

#define RING_DESC_SIZE 16u
_Static_assert(sizeof(struct vring_desc) == RING_DESC_SIZE, "2.7.5");
_Static_assert(sizeof(struct vring_packed_desc) == RING_DESC_SIZE, "2.8.13");

/* One of an indirect table at guest address @gpa; false: not in guest memory. */
static inline bool ring_desc_load_gpa(struct guest_view *view, uint64_t gpa, struct ring_desc *d)
{
	const struct guest_mem_entry *e = guest_view_find(view, gpa);

	if (unlikely(!e || e->size - (gpa - e->gpa) < RING_DESC_SIZE))
		return false;
	*d = ring_desc_load(e->hva + (gpa - e->gpa));
	return true;
}

/* A chain while its segments are collected. */
struct chain_builder {
	struct guest_view *view;
	struct iovec *iov;
	unsigned max;
	unsigned count;	   /* segments so far */
	unsigned in_count; /* of those, device-readable, once one is writable */
	unsigned descs;
	bool writable;
	uint64_t bytes[2]; /* readable, writable */
};

/* Adds one buffer element. NULL, or what is wrong with it. */
static inline const char *chain_add(struct chain_builder *b, uint64_t addr, uint32_t len,
				    bool write)
{
	int count;

	if (unlikely(++b->descs > VIRTQ_CHAIN_MAX))
		return "descriptor chain too long";
	if (write && !b->writable) {
		b->writable = true;
		b->in_count = b->count;
	} else if (unlikely(!write && b->writable)) {
		return "device-readable descriptor after a writable one"; /* 2.7.4.2, 2.8.17 */
	}
	if (len == 0)
		return NULL;
	count = guest_view_translate(b->view, addr, len, b->iov, b->count, b->in_count, b->max);
	if (unlikely(count < 0))
		return count == -E2BIG ? "descriptor chain has too many segments"
				       : "descriptor outside guest memory";
	b->count = (unsigned)count;
	/* At most VIRTQ_CHAIN_MAX times 2^32: no overflow here. */
	b->bytes[write] += len;
	return NULL;
}

/* Puts what was collected into @chain. */
static inline const char *chain_finish(const struct chain_builder *b, struct virtq_chain *chain)
{
	unsigned in_count = b->writable ? b->in_count : b->count;

	if (unlikely(b->bytes[0] + b->bytes[1] > UINT32_MAX)) /* 2.7.5.2 */
		return "descriptor chain longer than 4 GiB";
	chain->in_count = (uint16_t)in_count;
	chain->out_count = (uint16_t)(b->count - in_count);
	chain->in_bytes = (uint32_t)b->bytes[0];
	chain->out_bytes = (uint32_t)b->bytes[1];
	return NULL;
}

/* Dirty-logs a write of ours to the device area: @offset from its start. */
static inline void ring_log_device(struct virtqueue *vq, uint64_t offset, uint64_t len)
{
	if (unlikely(vq->log && vq->addr.log))
		dirty_log_mark(vq->log, vq->addr.log_gpa + offset, len);
}

/* vring_need_event() of the specification (2.7.7.1): was @event stepped over
 * by one of the last @steps steps to @now? */
static inline bool ring_need_event(uint16_t event, uint16_t now, uint32_t steps)
{
	return (uint16_t)(now - event - 1) < steps;
}

/* Bytes of the three areas and their alignment; desc, driver, device. */
struct ring_layout {
	uint32_t size[3];
	uint32_t align[3];
};

/* The formats' own parts of the functions in virtqueue.h. */
struct ring_layout virtq_split_layout(const struct virtqueue *vq);
int virtq_split_start(struct virtqueue *vq);
int virtq_split_pop(struct virtqueue *vq, struct virtq_chain *chain, struct iovec *iov,
		    unsigned max);
void virtq_split_push(struct virtqueue *vq, const struct virtq_chain *chain, uint32_t written);
bool virtq_split_should_notify(struct virtqueue *vq);
bool virtq_split_has_chain(struct virtqueue *vq);
unsigned virtq_split_waiting(struct virtqueue *vq);
void virtq_split_set_kicks(struct virtqueue *vq, bool wanted);

struct ring_layout virtq_packed_layout(const struct virtqueue *vq);
int virtq_packed_start(struct virtqueue *vq);
int virtq_packed_pop(struct virtqueue *vq, struct virtq_chain *chain, struct iovec *iov,
		     unsigned max);
void virtq_packed_push(struct virtqueue *vq, const struct virtq_chain *chain, uint32_t written);
bool virtq_packed_should_notify(struct virtqueue *vq);
bool virtq_packed_has_chain(struct virtqueue *vq);
void virtq_packed_set_kicks(struct virtqueue *vq, bool wanted);

/* Breaks the queue and returns -EPROTO. */
int virtq_fail(struct virtqueue *vq, const char *reason);

#endif
