/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The split virtqueue, virtio 1.3, 2.7:
 *
 *	descriptor table	the driver writes, we read
 *	available ring		the driver writes, we read: flags, idx, heads of
 *				chains, used_event
 *	used ring		we write, the driver reads: flags, idx, {head,
 *				length}, avail_event
 *
 * Indices run freely over 16 bits; the slot is the index modulo the size.
 */
#include "virtio/virtqueue_impl.h"

static uint16_t slot_of(const struct virtqueue *vq, uint16_t idx)
{
	return idx & (uint16_t)(vq->size - 1);
}

static struct vring_avail *avail_ring(const struct virtqueue *vq)
{
	return vq->driver;
}

static struct vring_used *used_ring(const struct virtqueue *vq)
{
	return vq->device;
}

/* used_event lies behind the available ring, avail_event behind the used one. */
static __virtio16 *used_event(const struct virtqueue *vq)
{
	return &avail_ring(vq)->ring[vq->size];
}

static __virtio16 *avail_event(const struct virtqueue *vq)
{
	return (__virtio16 *)(void *)&used_ring(vq)->ring[vq->size];
}

struct ring_layout virtq_split_layout(const struct virtqueue *vq)
{
	uint32_t n = vq->size, event = vq->event_idx ? sizeof(__virtio16) : 0;

	return (struct ring_layout){
		.size = { n * RING_DESC_SIZE, (uint32_t)sizeof(struct vring_avail) + n * 2u + event,
			  (uint32_t)sizeof(struct vring_used) +
				  n * (uint32_t)sizeof(struct vring_used_elem) + event },
		.align = { 16, 2, 4 }, /* 2.7 */
	};
}

int virtq_split_start(struct virtqueue *vq)
{
	bool fresh;
	int count;

	vq->used_idx = ring_load16(&used_ring(vq)->idx);
	vq->resubmit_count = 0;
	if (vq->inflight.split) {
		count = inflight_split_recover(&vq->inflight, vq->used_idx, vq->resubmit, &fresh);
		if (count < 0 || count > vq->size)
			return virtq_fail(vq, "inflight area malformed");
		for (int i = 0; i < count; i++) {
			if (vq->resubmit[i].index >= vq->size)
				return virtq_fail(vq, "inflight area names no descriptor");
		}
		vq->resubmit_count = (uint16_t)count;
		/* What was taken is what was given back and what is in flight. The front
		 * end does not know: the last it heard from the process that died is old. */
		if (!fresh)
			vq->avail_idx = (uint16_t)(vq->used_idx + count);
	}
	vq->in_flight = vq->resubmit_count;
	vq->avail_seen = vq->avail_idx;
	return 0;
}

/* Looks for new chains: 1, 0, or broken. */
static int refresh_avail(struct virtqueue *vq)
{
	/* Acquire: the slots below idx and their descriptors are read after it. */
	uint16_t seen = ring_load16_acquire(&avail_ring(vq)->idx);

	if (seen == vq->avail_idx)
		return 0;
	/* Every chain needs a descriptor of its own to be named by. */
	if (unlikely((uint16_t)(seen - vq->avail_idx) > vq->size - vq->in_flight))
		return virtq_fail(vq, "available index further ahead than the ring is long");
	vq->avail_seen = seen;
	return 1;
}

/* A descriptor's words taken apart (2.7.5). */
static uint32_t desc_len(struct ring_desc d)
{
	return (uint32_t)d.rest;
}

static uint16_t desc_flags(struct ring_desc d)
{
	return (uint16_t)(d.rest >> 32);
}

static uint16_t desc_next(struct ring_desc d)
{
	return (uint16_t)(d.rest >> 48);
}

/* The table that descriptor @t refers to (2.7.5.3). WRITE in @t is ignored. */
static const char *walk_indirect(struct virtqueue *vq, struct chain_builder *b, struct ring_desc t)
{
	uint32_t n = desc_len(t) / RING_DESC_SIZE, i = 0;
	uint64_t end;

	if (!vq->indirect)
		return "indirect descriptor without VIRTIO_F_INDIRECT_DESC";
	if (desc_flags(t) & VRING_DESC_F_NEXT) /* 2.7.5.3.1 */
		return "indirect descriptor with a next one";
	if (n == 0 || desc_len(t) % RING_DESC_SIZE != 0)
		return "indirect table length not a multiple of 16";
	if (__builtin_add_overflow(t.addr, desc_len(t), &end))
		return "indirect table outside guest memory";

	for (uint32_t visited = 0; visited < n; visited++) {
		struct ring_desc d;
		const char *reason;

		if (unlikely(!ring_desc_load_gpa(b->view, t.addr + i * RING_DESC_SIZE, &d)))
			return "indirect table outside guest memory";
		if (unlikely(desc_flags(d) & VRING_DESC_F_INDIRECT))
			return "indirect descriptor in an indirect table";
		reason = chain_add(b, d.addr, desc_len(d), desc_flags(d) & VRING_DESC_F_WRITE);
		if (unlikely(reason != NULL))
			return reason;
		if (!(desc_flags(d) & VRING_DESC_F_NEXT))
			return NULL;
		i = desc_next(d);
		if (unlikely(i >= n))
			return "next descriptor beyond the indirect table";
	}
	return "descriptor chain loops";
}

static const char *walk_chain(struct virtqueue *vq, struct chain_builder *b, uint16_t i)
{
	const struct vring_desc *table = vq->desc;

	for (unsigned visited = 0; visited < vq->size; visited++) {
		struct ring_desc d = ring_desc_load(&table[i]);
		const char *reason;

		/* The last one of a chain may be indirect (2.7.5.3.2). */
		if (desc_flags(d) & VRING_DESC_F_INDIRECT)
			return walk_indirect(vq, b, d);
		reason = chain_add(b, d.addr, desc_len(d), desc_flags(d) & VRING_DESC_F_WRITE);
		if (unlikely(reason != NULL))
			return reason;
		if (!(desc_flags(d) & VRING_DESC_F_NEXT))
			return NULL;
		i = desc_next(d);
		if (unlikely(i >= vq->size))
			return "next descriptor beyond the table";
	}
	return "descriptor chain loops";
}

int virtq_split_pop(struct virtqueue *vq, struct virtq_chain *chain, struct iovec *iov,
		    unsigned max)
{
	struct chain_builder b = { .view = vq->view, .iov = iov, .max = max };
	bool again = unlikely(vq->resubmit_next < vq->resubmit_count);
	const char *reason;
	uint16_t head;

	if (again) {
		head = vq->resubmit[vq->resubmit_next].index;
	} else {
		if (vq->avail_idx == vq->avail_seen) {
			int ret = refresh_avail(vq);

			if (ret <= 0)
				return ret;
		}
		head = ring_load16(&avail_ring(vq)->ring[slot_of(vq, vq->avail_idx)]);
		if (unlikely(head >= vq->size))
			return virtq_fail(vq, "available ring names no descriptor");
	}

	reason = walk_chain(vq, &b, head);
	if (likely(!reason))
		reason = chain_finish(&b, chain);
	if (unlikely(reason != NULL))
		return virtq_fail(vq, reason);

	chain->id = head;
	chain->slots = 1;
	chain->run = vq->run;
	if (again) {
		vq->resubmit_next++;
		return 1;
	}
	if (vq->inflight.split)
		inflight_split_begin(&vq->inflight, head);
	vq->avail_idx++;
	vq->in_flight++;
	return 1;
}

void virtq_split_push(struct virtqueue *vq, const struct virtq_chain *chain, uint32_t written)
{
	struct vring_used *used = used_ring(vq);
	uint16_t slot = slot_of(vq, vq->used_idx);
	struct vring_used_elem *elem = &used->ring[slot];

	ring_store32(&elem->id, chain->id);
	ring_store32(&elem->len, written);
	ring_log_device(vq, (uint64_t)((char *)elem - (char *)used), sizeof(*elem));
	if (vq->inflight.split)
		inflight_split_commit(&vq->inflight, chain->id);
	vq->used_idx++;
	/* Release: the element, and what was written into the buffers, first. */
	ring_store16_release(&used->idx, vq->used_idx);
	ring_log_device(vq, offsetof(struct vring_used, idx), sizeof(used->idx));
	if (vq->inflight.split)
		inflight_split_end(&vq->inflight, chain->id, vq->used_idx);
}

bool virtq_split_should_notify(struct virtqueue *vq)
{
	/* The driver writes used_event (or clears the flag), then looks at our idx
	 * again; we have written idx and now look at used_event. */
	ring_mb();
	if (vq->event_idx) /* 2.7.7.2 */
		return ring_need_event(ring_load16(used_event(vq)), vq->used_idx, vq->pushed);
	return !(ring_load16(&avail_ring(vq)->flags) & VRING_AVAIL_F_NO_INTERRUPT);
}

bool virtq_split_has_chain(struct virtqueue *vq)
{
	return vq->avail_idx != vq->avail_seen ||
	       ring_load16(&avail_ring(vq)->idx) != vq->avail_idx;
}

unsigned virtq_split_waiting(struct virtqueue *vq)
{
	unsigned count = (uint16_t)(ring_load16(&avail_ring(vq)->idx) - vq->avail_idx);

	return MIN(count, (unsigned)vq->size); /* it may lie */
}

void virtq_split_set_kicks(struct virtqueue *vq, bool wanted)
{
	struct vring_used *used = used_ring(vq);

	if (vq->event_idx) { /* 2.7.10.1 */
		/* An event index left behind asks for nothing. */
		if (wanted) {
			ring_store16(avail_event(vq), vq->avail_idx);
			ring_log_device(vq, (uint64_t)((char *)avail_event(vq) - (char *)used),
					sizeof(__virtio16));
		}
		return;
	}
	ring_store16(&used->flags, wanted ? 0 : VRING_USED_F_NO_NOTIFY);
	ring_log_device(vq, offsetof(struct vring_used, flags), sizeof(used->flags));
}
