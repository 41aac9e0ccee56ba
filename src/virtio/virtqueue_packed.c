/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packed virtqueue, virtio 1.3, 2.8:
 *
 *	descriptor ring		the driver makes slots available, we overwrite
 *				them, one for each chain, with used ones
 *	driver event		the driver writes: when to notify it
 *	device event		we write: when to notify us
 *
 * A slot's AVAIL and USED flags say whose it is, in comparison with a wrap
 * counter that changes with every lap of a position. Chains complete in any
 * order, so a used descriptor lands on slots of chains that are still being
 * worked on: chains are copied when they are popped.
 */
#include "virtio/virtqueue_impl.h"

#define F_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define F_USED (1u << VRING_PACKED_DESC_F_USED)

struct ring_layout virtq_packed_layout(const struct virtqueue *vq)
{
	const uint32_t event = sizeof(struct vring_packed_desc_event);

	return (struct ring_layout){
		.size = { vq->size * RING_DESC_SIZE, event, event },
		.align = { 16, 4, 4 }, /* 2.8.10.1 */
	};
}

static struct vring_packed_desc *slot_at(const struct virtqueue *vq, uint16_t idx)
{
	return (struct vring_packed_desc *)vq->desc + idx;
}

static struct inflight_packed_pos avail_pos(const struct virtqueue *vq)
{
	return (struct inflight_packed_pos){ .idx = vq->avail_idx, .wrap = vq->avail_wrap };
}

static struct inflight_packed_pos used_pos(const struct virtqueue *vq)
{
	return (struct inflight_packed_pos){ .idx = vq->used_idx, .wrap = vq->used_wrap };
}

/* AVAIL is the driver's wrap counter, USED is not (2.8.1). */
static bool is_available(uint16_t flags, bool wrap)
{
	return !!(flags & F_AVAIL) == wrap && !!(flags & F_USED) != wrap;
}

/*
 * User-mode Linux (6.1 to 7.2) sends base 0 for a new ring in either format,
 * which in this one says "wrap counters 0", where a ring starts with 1 (2.8.1).
 * Taken at its word the device would never see a request. The ring tells: at
 * index 0 with wrap counter 0 the lap before was one with 1, which left AVAIL
 * in the last descriptor; or the driver has gone over it since, and set USED.
 */
static void correct_base(struct virtqueue *vq)
{
	uint16_t last = ring_load16(&slot_at(vq, (uint16_t)(vq->size - 1))->flags);

	if (vq->avail_idx || vq->avail_wrap || vq->used_idx || vq->used_wrap)
		return;
	if (!(last & (F_AVAIL | F_USED))) {
		vq->avail_wrap = true;
		vq->used_wrap = true;
	}
}

int virtq_packed_start(struct virtqueue *vq)
{
	struct inflight_packed_pos used, avail;
	struct inflight_queue *area = &vq->inflight;
	unsigned slots = 0;
	bool fresh;
	int count;

	if (vq->avail_idx >= vq->size || vq->used_idx >= vq->size)
		return virtq_fail(vq, "base beyond the ring");
	correct_base(vq);
	used = used_pos(vq);
	avail = avail_pos(vq);
	vq->resubmit_count = 0;
	vq->in_flight = 0;
	if (!area->packed)
		return 0;
	count = inflight_packed_recover(area, vq->desc, vq->size, vq->resubmit, &fresh, &used,
					&avail);
	if (count < 0 || count > vq->size)
		return virtq_fail(vq, "inflight area malformed");
	for (int i = 0; i < count; i++) {
		int num = inflight_packed_read(area, vq->resubmit[i].index, vq->scratch, vq->size);

		if (num < 0)
			return virtq_fail(vq, "inflight area names no descriptors");
		slots += (unsigned)num;
	}
	if (slots > vq->size)
		return virtq_fail(vq, "inflight area names too many descriptors");
	vq->resubmit_count = (uint16_t)count;
	vq->in_flight = (uint16_t)slots;
	if (!fresh) {
		vq->used_idx = used.idx;
		vq->used_wrap = used.wrap;
		vq->avail_idx = avail.idx;
		vq->avail_wrap = avail.wrap;
	}
	return 0;
}

/* The indirect table @t (2.8.7): all of it, in order. Of the flags in it WRITE
 * alone counts, the others are to be ignored. */
static const char *walk_indirect(struct virtqueue *vq, struct chain_builder *b,
				 const struct inflight_packed_desc *t)
{
	uint32_t n = t->len / RING_DESC_SIZE;
	uint64_t end;

	if (!vq->indirect)
		return "indirect descriptor without VIRTIO_F_INDIRECT_DESC";
	if (n == 0 || t->len % RING_DESC_SIZE != 0)
		return "indirect table length not a multiple of 16";
	if (n > VIRTQ_CHAIN_MAX)
		return "descriptor chain too long";
	if (__builtin_add_overflow(t->addr, t->len, &end))
		return "indirect table outside guest memory";

	for (uint32_t i = 0; i < n; i++) {
		struct ring_desc d;
		const char *reason;

		if (unlikely(!ring_desc_load_gpa(b->view, t->addr + i * RING_DESC_SIZE, &d)))
			return "indirect table outside guest memory";
		reason =
			chain_add(b, d.addr, (uint32_t)d.rest, (d.rest >> 48) & VRING_DESC_F_WRITE);
		if (unlikely(reason != NULL))
			return reason;
	}
	return NULL;
}

static const char *walk_chain(struct virtqueue *vq, struct chain_builder *b,
			      const struct inflight_packed_desc *desc, unsigned num)
{
	if (desc[0].flags & VRING_DESC_F_INDIRECT) {
		if (num > 1) /* 2.8.19 */
			return "indirect descriptor with a next one";
		return walk_indirect(vq, b, &desc[0]);
	}
	for (unsigned i = 0; i < num; i++) {
		const char *reason;

		if (unlikely(desc[i].flags & VRING_DESC_F_INDIRECT))
			return "indirect descriptor in a chain of others";
		reason =
			chain_add(b, desc[i].addr, desc[i].len, desc[i].flags & VRING_DESC_F_WRITE);
		if (unlikely(reason != NULL))
			return reason;
	}
	return NULL;
}

/* Copies the next chain into vq->scratch and advances @pos over it. Returns the
 * slots it has, 0 when there is none, or broken. */
static int copy_chain(struct virtqueue *vq, struct inflight_packed_pos *pos)
{
	/* Acquire: the driver sets the flags of the first slot last (2.8.6). */
	uint16_t flags = ring_load16_acquire(&slot_at(vq, pos->idx)->flags);
	unsigned num = 0;

	if (!is_available(flags, pos->wrap))
		return 0;
	do {
		struct ring_desc d;

		if (unlikely(num + vq->in_flight >= vq->size))
			return virtq_fail(vq, "more descriptors available than the ring is long");
		d = ring_desc_load(slot_at(vq, pos->idx));
		flags = (uint16_t)(d.rest >> 48);
		vq->scratch[num++] = (struct inflight_packed_desc){
			.addr = d.addr,
			.len = (uint32_t)d.rest,
			.id = (uint16_t)(d.rest >> 32),
			.flags = flags,
		};
		inflight_packed_advance(pos, 1, vq->size);
	} while (flags & VRING_DESC_F_NEXT);
	return (int)num;
}

int virtq_packed_pop(struct virtqueue *vq, struct virtq_chain *chain, struct iovec *iov,
		     unsigned max)
{
	struct chain_builder b = { .view = vq->view, .iov = iov, .max = max };
	bool again = unlikely(vq->resubmit_next < vq->resubmit_count);
	struct inflight_packed_pos pos = avail_pos(vq);
	const char *reason;
	int num;

	if (again) {
		chain->inflight = vq->resubmit[vq->resubmit_next].index;
		num = inflight_packed_read(&vq->inflight, chain->inflight, vq->scratch, vq->size);
		if (num < 0)
			return virtq_fail(vq, "inflight area names no descriptors");
	} else {
		num = copy_chain(vq, &pos);
		if (num <= 0)
			return num;
	}
	reason = walk_chain(vq, &b, vq->scratch, (unsigned)num);
	if (likely(!reason))
		reason = chain_finish(&b, chain);
	if (unlikely(reason != NULL))
		return virtq_fail(vq, reason);

	chain->id = vq->scratch[num - 1].id; /* 2.8.6: the last one has it */
	chain->slots = (uint16_t)num;
	chain->run = vq->run;
	if (again) {
		vq->resubmit_next++;
		return 1;
	}
	if (vq->inflight.packed) {
		int entry = inflight_packed_begin(&vq->inflight, vq->scratch, (unsigned)num);

		if (entry < 0)
			return virtq_fail(vq, "inflight area malformed");
		chain->inflight = (uint16_t)entry;
	}
	vq->avail_idx = pos.idx;
	vq->avail_wrap = pos.wrap;
	vq->in_flight = (uint16_t)(vq->in_flight + num);
	return 1;
}

void virtq_packed_push(struct virtqueue *vq, const struct virtq_chain *chain, uint32_t written)
{
	struct vring_packed_desc *d = slot_at(vq, vq->used_idx);
	struct inflight_packed_pos pos = used_pos(vq);
	uint16_t flags = (uint16_t)(vq->used_wrap ? F_AVAIL | F_USED : 0);

	if (written > 0)
		flags |= VRING_DESC_F_WRITE; /* 2.8.3: length counts with it only */
	inflight_packed_advance(&pos, chain->slots, vq->size);

	ring_store32(&d->len, written);
	ring_store16(&d->id, chain->id);
	if (vq->inflight.packed &&
	    inflight_packed_commit(&vq->inflight, chain->inflight, pos) < 0) {
		virtq_break(vq, "inflight area malformed");
		return;
	}
	/* Release: the rest of the descriptor, and the buffers, first. */
	ring_store16_release(&d->flags, flags);
	if (unlikely(vq->log && vq->addr.log))
		dirty_log_mark(vq->log, vq->desc_gpa + vq->used_idx * RING_DESC_SIZE, sizeof(*d));
	if (vq->inflight.packed)
		inflight_packed_end(&vq->inflight, chain->inflight);
	vq->used_idx = pos.idx;
	vq->used_wrap = pos.wrap;
}

/* Both halves of an event structure (2.8.14), at one load or store. */
static uint32_t event_word(uint16_t off_wrap, uint16_t flags)
{
	return off_wrap | (uint32_t)flags << 16;
}

bool virtq_packed_should_notify(struct virtqueue *vq)
{
	uint32_t event;
	uint16_t idx, flags;
	bool wrap;

	/* The driver writes its event structure, then looks at the next slot again;
	 * we have written the slot and now look at the structure. */
	ring_mb();
	event = ring_load32(vq->driver);
	flags = (event >> 16) & 3;
	if (flags == VRING_PACKED_EVENT_FLAG_DISABLE)
		return false;
	if (flags != VRING_PACKED_EVENT_FLAG_DESC || !vq->event_idx)
		return true;
	idx = event & 0x7fff;
	wrap = event & (1u << VRING_PACKED_EVENT_F_WRAP_CTR);
	/* Of the lap before: below this lap's 0. */
	if (wrap != vq->used_wrap)
		idx = (uint16_t)(idx - vq->size);
	return ring_need_event(idx, vq->used_idx, vq->pushed);
}

bool virtq_packed_has_chain(struct virtqueue *vq)
{
	return is_available(ring_load16(&slot_at(vq, vq->avail_idx)->flags), vq->avail_wrap);
}

void virtq_packed_set_kicks(struct virtqueue *vq, bool wanted)
{
	uint16_t off_wrap = (uint16_t)(vq->avail_idx |
				       (vq->avail_wrap ? 1u << VRING_PACKED_EVENT_F_WRAP_CTR : 0));

	if (!wanted)
		ring_store32(vq->device, event_word(0, VRING_PACKED_EVENT_FLAG_DISABLE));
	else if (vq->event_idx)
		ring_store32(vq->device, event_word(off_wrap, VRING_PACKED_EVENT_FLAG_DESC));
	else
		ring_store32(vq->device, event_word(0, VRING_PACKED_EVENT_FLAG_ENABLE));
	ring_log_device(vq, 0, sizeof(struct vring_packed_desc_event));
}
