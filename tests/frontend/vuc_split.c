/* SPDX-License-Identifier: Apache-2.0 */
/* The driver's side of a split virtqueue (virtio 1.2, 2.7). See vuc.h. */
#include "vuc.h"

#include <errno.h>

static uint16_t *used_event(struct vuc_queue *q)
{
	return &q->s.avail->ring[q->size];
}

static uint16_t avail_event(const struct vuc_queue *q)
{
	const uint16_t *p = (const void *)&q->s.used->ring[q->size];

	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

void vuc_split_reset(struct vuc_queue *q)
{
	(void)q; /* all of a split ring begins as zero */
}

static uint16_t take_entry(struct vuc_queue *q)
{
	uint16_t i = q->free_head;

	q->free_head = q->slots[i].next_free;
	q->free_entries--;
	return i;
}

static struct vring_desc seg_desc(const struct vuc_seg *s, bool write, bool more, uint16_t next)
{
	return (struct vring_desc){
		.addr = s->gpa,
		.len = s->len,
		.flags = (uint16_t)((write ? VRING_DESC_F_WRITE : 0) |
				    (more ? VRING_DESC_F_NEXT : 0)),
		.next = more ? next : 0,
	};
}

int vuc_split_submit(struct vuc_queue *q, const struct vuc_seg *segs, unsigned int nout,
		     unsigned int nin, void *cookie)
{
	unsigned int n = nout + nin;
	bool indirect = q->indirect && n > 1 && n <= q->indirect_max;
	unsigned int entries = indirect ? 1 : n;
	uint16_t head = q->free_head, i = 0;

	if (entries > q->free_entries)
		return -ENOSPC;
	if (indirect) {
		struct vring_desc *table;
		struct vuc_seg at = { .len = n * 16 };

		head = take_entry(q);
		at.gpa = q->indirect_mem.gpa + (uint64_t)head * q->indirect_max * 16;
		table = (void *)(q->indirect_mem.p + (uint64_t)head * q->indirect_max * 16);
		for (i = 0; i < n; i++)
			table[i] = seg_desc(&segs[i], i >= nout, i + 1u < n, (uint16_t)(i + 1));
		q->s.desc[head] = seg_desc(&at, false, false, 0);
		q->s.desc[head].flags = VRING_DESC_F_INDIRECT;
	} else {
		for (i = 0; i < n; i++) {
			uint16_t d = take_entry(q);

			/* The shadow of `next`, since the ring's may be tampered with. */
			q->s.desc[d] = seg_desc(&segs[i], i >= nout, i + 1u < n, q->free_head);
		}
	}
	q->slots[head].cookie = cookie;
	q->slots[head].ndesc = (uint16_t)entries;
	q->in_flight++;
	q->s.avail->ring[q->next_avail & (q->size - 1)] = head;
	q->next_avail++;
	__atomic_store_n(&q->s.avail->idx, q->next_avail, __ATOMIC_RELEASE);
	return head;
}

bool vuc_split_want_kick(struct vuc_queue *q)
{
	uint16_t old = q->kicked;

	q->kicked = q->next_avail;
	if (q->event_idx)
		return vring_need_event(avail_event(q), q->next_avail, old);
	return !(__atomic_load_n(&q->s.used->flags, __ATOMIC_RELAXED) & VRING_USED_F_NO_NOTIFY);
}

bool vuc_split_pending(const struct vuc_queue *q)
{
	return __atomic_load_n(&q->s.used->idx, __ATOMIC_ACQUIRE) != q->next_used;
}

/* Gives the entries of a chain back; the list of free ones runs through the slots. */
static void give_back(struct vuc_queue *q, uint16_t head)
{
	uint16_t last = head;

	for (unsigned int i = 1; i < q->slots[head].ndesc; i++)
		last = q->slots[last].next_free;
	q->slots[last].next_free = q->free_head;
	q->free_head = head;
	q->free_entries += q->slots[head].ndesc;
	q->slots[head].ndesc = 0;
	q->in_flight--;
}

int vuc_split_reap(struct vuc_queue *q, void **cookie, uint32_t *len)
{
	struct vring_used_elem e;

	if (!vuc_split_pending(q))
		return 0;
	e = q->s.used->ring[q->next_used & (q->size - 1)];
	if (e.id >= q->size || !q->slots[e.id].ndesc)
		return -EPROTO;
	q->next_used++;
	*cookie = q->slots[e.id].cookie;
	*len = e.len;
	give_back(q, (uint16_t)e.id);
	return 1;
}

void vuc_split_calls(struct vuc_queue *q, bool on)
{
	if (q->event_idx) {
		/* Off: the entry just passed, which is 65536 entries away. */
		__atomic_store_n(used_event(q), (uint16_t)(on ? q->next_used : q->next_used - 1),
				 __ATOMIC_RELAXED);
		return;
	}
	__atomic_store_n(&q->s.avail->flags, (uint16_t)(on ? 0 : VRING_AVAIL_F_NO_INTERRUPT),
			 __ATOMIC_RELAXED);
}
