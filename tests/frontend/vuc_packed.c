/* SPDX-License-Identifier: Apache-2.0 */
/* The driver's side of a packed virtqueue (virtio 1.2, 2.8). See vuc.h. */
#include "vuc.h"

#include <errno.h>

#define F_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define F_USED (1u << VRING_PACKED_DESC_F_USED)

void vuc_packed_reset(struct vuc_queue *q)
{
	q->p.driver->flags = VRING_PACKED_EVENT_FLAG_ENABLE;
}

static uint16_t avail_flags(const struct vuc_queue *q)
{
	return (uint16_t)(q->avail_wrap ? F_AVAIL : F_USED);
}

static uint16_t take_id(struct vuc_queue *q, unsigned int entries, void *cookie)
{
	uint16_t id = q->free_head;

	q->free_head = q->slots[id].next_free;
	q->slots[id].cookie = cookie;
	q->slots[id].ndesc = (uint16_t)entries;
	q->free_entries -= entries;
	q->in_flight++;
	q->since_kick += entries;
	return id;
}

/* The flags come last for the head, so that the back end sees whole chains only. */
static void publish(struct vring_packed_desc *d, uint16_t flags)
{
	__atomic_store_n(&d->flags, flags, __ATOMIC_RELEASE);
}

static void step(struct vuc_queue *q)
{
	if (++q->next_avail == q->size) {
		q->next_avail = 0;
		q->avail_wrap = !q->avail_wrap;
	}
}

static void submit_indirect(struct vuc_queue *q, const struct vuc_seg *segs, unsigned int nout,
			    unsigned int n, uint16_t id)
{
	uint64_t at = (uint64_t)id * q->indirect_max * 16;
	struct vring_packed_desc *table = (void *)(q->indirect_mem.p + at);
	struct vring_packed_desc *d = &q->p.desc[q->next_avail];

	for (unsigned int i = 0; i < n; i++)
		table[i] = (struct vring_packed_desc){
			.addr = segs[i].gpa,
			.len = segs[i].len,
			.flags = i >= nout ? VRING_DESC_F_WRITE : 0,
		};
	d->addr = q->indirect_mem.gpa + at;
	d->len = n * 16;
	d->id = id;
	publish(d, (uint16_t)(VRING_DESC_F_INDIRECT | avail_flags(q)));
	step(q);
}

int vuc_packed_submit(struct vuc_queue *q, const struct vuc_seg *segs, unsigned int nout,
		      unsigned int nin, void *cookie)
{
	unsigned int n = nout + nin;
	bool indirect = q->indirect && n > 1 && n <= q->indirect_max;
	struct vring_packed_desc *head = &q->p.desc[q->next_avail];
	uint16_t head_flags = 0;
	uint16_t id;

	if ((indirect ? 1 : n) > q->free_entries)
		return -ENOSPC;
	id = take_id(q, indirect ? 1 : n, cookie);
	if (indirect) {
		submit_indirect(q, segs, nout, n, id);
		return id;
	}
	for (unsigned int i = 0; i < n; i++) {
		struct vring_packed_desc *d = &q->p.desc[q->next_avail];
		uint16_t flags = (uint16_t)(avail_flags(q) | (i >= nout ? VRING_DESC_F_WRITE : 0) |
					    (i + 1 < n ? VRING_DESC_F_NEXT : 0));

		d->addr = segs[i].gpa;
		d->len = segs[i].len;
		d->id = id;
		if (i == 0)
			head_flags = flags;
		else
			d->flags = flags;
		step(q);
	}
	publish(head, head_flags);
	return id;
}

bool vuc_packed_want_kick(struct vuc_queue *q)
{
	uint16_t new = q->next_avail;
	uint16_t old = (uint16_t)(new - q->since_kick);
	uint32_t snapshot = __atomic_load_n((uint32_t *)q->p.device, __ATOMIC_RELAXED);
	uint16_t off_wrap = (uint16_t)snapshot;
	uint16_t flags = (uint16_t)(snapshot >> 16);
	uint16_t event = off_wrap & 0x7fff;

	q->since_kick = 0;
	if (flags != VRING_PACKED_EVENT_FLAG_DESC)
		return flags != VRING_PACKED_EVENT_FLAG_DISABLE;
	if (off_wrap >> VRING_PACKED_EVENT_F_WRAP_CTR != q->avail_wrap)
		event = (uint16_t)(event - q->size);
	return vring_need_event(event, new, old);
}

bool vuc_packed_pending(const struct vuc_queue *q)
{
	uint16_t flags = __atomic_load_n(&q->p.desc[q->next_used].flags, __ATOMIC_ACQUIRE);
	bool avail = flags & F_AVAIL, used = flags & F_USED;

	return avail == used && used == q->used_wrap;
}

int vuc_packed_reap(struct vuc_queue *q, void **cookie, uint32_t *len)
{
	const struct vring_packed_desc *d = &q->p.desc[q->next_used];
	uint16_t id;

	if (!q->in_flight || !vuc_packed_pending(q))
		return 0;
	id = d->id;
	if (id >= q->size || !q->slots[id].ndesc)
		return -EPROTO;
	*cookie = q->slots[id].cookie;
	*len = d->len;
	q->next_used = (uint16_t)(q->next_used + q->slots[id].ndesc);
	if (q->next_used >= q->size) {
		q->next_used = (uint16_t)(q->next_used - q->size);
		q->used_wrap = !q->used_wrap;
	}
	q->free_entries += q->slots[id].ndesc;
	q->slots[id].ndesc = 0;
	q->slots[id].next_free = q->free_head;
	q->free_head = id;
	q->in_flight--;
	return 1;
}

void vuc_packed_calls(struct vuc_queue *q, bool on)
{
	uint16_t flags = VRING_PACKED_EVENT_FLAG_DISABLE;

	if (on && q->event_idx) {
		q->p.driver->off_wrap =
			(uint16_t)(q->next_used | q->used_wrap << VRING_PACKED_EVENT_F_WRAP_CTR);
		flags = VRING_PACKED_EVENT_FLAG_DESC;
	} else if (on) {
		flags = VRING_PACKED_EVENT_FLAG_ENABLE;
	}
	__atomic_store_n(&q->p.driver->flags, flags, __ATOMIC_RELEASE);
}
