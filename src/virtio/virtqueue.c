/* SPDX-License-Identifier: Apache-2.0 */
/* What a virtqueue does in either format: set-up, life, dispatch. */
#include <stdlib.h>

#include "virtio/virtqueue_impl.h"

void virtq_init(struct virtqueue *vq)
{
	*vq = (struct virtqueue){ .avail_wrap = true, .used_wrap = true };
}

void virtq_fini(struct virtqueue *vq)
{
	virtq_stop(vq);
	guest_view_unref(vq->view);
	dirty_log_unref(vq->log);
	inflight_unref(vq->inflight_area);
	virtq_init(vq);
}

void virtq_break(struct virtqueue *vq, const char *reason)
{
	/* The first reason is the one to tell. */
	if (!vq->error)
		vq->error = reason;
}

int virtq_fail(struct virtqueue *vq, const char *reason)
{
	virtq_break(vq, reason);
	return -EPROTO;
}

void virtq_set_features(struct virtqueue *vq, bool packed, bool event_idx, bool indirect)
{
	vq->packed = packed;
	vq->event_idx = event_idx;
	vq->indirect = indirect;
	vq->avail_idx = vq->used_idx = 0;
	vq->avail_wrap = vq->used_wrap = true; /* 2.8.1 */
}

static bool size_valid(bool packed, unsigned size)
{
	if (size == 0 || size > VIRTIO_QUEUE_SIZE_MAX)
		return false;
	return packed || (size & (size - 1)) == 0; /* 2.7 */
}

int virtq_set_size(struct virtqueue *vq, unsigned size)
{
	if (vq->running || !size_valid(vq->packed, size))
		return -EINVAL;
	vq->size = (uint16_t)size;
	return 0;
}

int virtq_set_base(struct virtqueue *vq, uint32_t base)
{
	uint32_t used = base >> 16;

	if (vq->running)
		return -EINVAL;
	if (!vq->packed) {
		if (base > UINT16_MAX)
			return -EINVAL;
		vq->avail_idx = (uint16_t)base;
		return 0;
	}
	if (used == 0 && base != vq->stopped_at)
		used = base;
	if ((base & 0x7fff) >= VIRTIO_QUEUE_SIZE_MAX || (used & 0x7fff) >= VIRTIO_QUEUE_SIZE_MAX)
		return -EINVAL;
	vq->avail_idx = base & 0x7fff;
	vq->avail_wrap = base & 0x8000;
	vq->used_idx = used & 0x7fff;
	vq->used_wrap = used & 0x8000;
	return 0;
}

uint32_t virtq_get_base(const struct virtqueue *vq)
{
	if (!vq->packed)
		return vq->avail_idx;
	return (uint32_t)vq->avail_idx | (vq->avail_wrap ? 1u << 15 : 0) |
	       (uint32_t)vq->used_idx << 16 | (vq->used_wrap ? 1u << 31 : 0);
}

int virtq_set_inflight(struct virtqueue *vq, struct inflight *area, unsigned index)
{
	struct inflight_queue part = { 0 };

	if (vq->running || (area && !inflight_get_queue(area, index, vq->packed, vq->size, &part)))
		return -EINVAL;
	inflight_unref(vq->inflight_area);
	vq->inflight_area = area ? inflight_ref(area) : NULL;
	vq->inflight = part;
	return 0;
}

/* Finds the three areas in our address space. On failure nothing has changed
 * and *@reason says why. */
static int resolve_ring(struct virtqueue *vq, const char **reason)
{
	struct ring_layout layout = vq->packed ? virtq_packed_layout(vq) : virtq_split_layout(vq);
	const uint64_t uva[3] = { vq->addr.desc, vq->addr.driver, vq->addr.device };
	const struct guest_mem *mem = vq->view->mem;
	uint64_t desc_gpa;
	void *hva[3];

	for (unsigned i = 0; i < 3; i++) {
		hva[i] = guest_mem_from_uva(mem, uva[i], layout.size[i]);
		if (!hva[i]) {
			*reason = "ring not in guest memory";
			return -EFAULT;
		}
		if ((uintptr_t)hva[i] % layout.align[i] != 0) {
			*reason = "ring not aligned";
			return -EINVAL;
		}
	}
	if (!guest_mem_uva_to_gpa(mem, vq->addr.desc, &desc_gpa)) {
		*reason = "ring not in guest memory";
		return -EFAULT;
	}
	guest_view_unref(vq->ring_view);
	vq->ring_view = guest_view_ref(vq->view);
	vq->desc = hva[0];
	vq->driver = hva[1];
	vq->device = hva[2];
	vq->desc_gpa = desc_gpa;
	return 0;
}

static void forget_ring(struct virtqueue *vq)
{
	guest_view_unref(vq->ring_view);
	vq->ring_view = NULL;
	vq->desc = vq->driver = vq->device = NULL;
}

static void free_buffers(struct virtqueue *vq)
{
	free(vq->resubmit);
	free(vq->scratch);
	vq->resubmit = NULL;
	vq->scratch = NULL;
	vq->resubmit_next = vq->resubmit_count = 0;
}

static int alloc_buffers(struct virtqueue *vq)
{
	if (vq->inflight_area) {
		vq->resubmit = calloc(vq->inflight.size, sizeof(vq->resubmit[0]));
		if (!vq->resubmit)
			return -ENOMEM;
	}
	if (vq->packed) {
		vq->scratch = calloc(vq->size, sizeof(vq->scratch[0]));
		if (!vq->scratch)
			return -ENOMEM;
	}
	return 0;
}

int virtq_start(struct virtqueue *vq)
{
	const char *reason;
	int ret;

	virtq_stop(vq);
	vq->error = NULL;
	if (!size_valid(vq->packed, vq->size) || !vq->addr_set || !vq->view) {
		virtq_break(vq, "size, addresses or memory not set");
		return -EINVAL;
	}
	if (vq->inflight_area && (vq->inflight.size < vq->size ||
				  (vq->packed ? !vq->inflight.packed : !vq->inflight.split))) {
		virtq_break(vq, "inflight area of another size or format");
		return -EINVAL;
	}
	ret = resolve_ring(vq, &reason);
	if (ret < 0) {
		virtq_break(vq, reason);
		return ret;
	}
	ret = alloc_buffers(vq);
	if (ret < 0)
		virtq_break(vq, "out of memory");
	else
		ret = vq->packed ? virtq_packed_start(vq) : virtq_split_start(vq);
	if (ret < 0) {
		free_buffers(vq);
		forget_ring(vq);
		return ret;
	}
	vq->pushed = 0;
	vq->notify_anyway = true;
	vq->running = true;
	return 0;
}

void virtq_stop(struct virtqueue *vq)
{
	if (vq->running)
		vq->stopped_at = vq->packed ? virtq_get_base(vq) : 0;
	vq->running = false;
	vq->in_flight = 0;
	vq->run++; /* chains still out there belong to the past */
	free_buffers(vq);
	forget_ring(vq);
}

int virtq_set_mem(struct virtqueue *vq, struct guest_mem *mem)
{
	struct guest_view *view = guest_view_new(mem);
	const char *reason;

	if (!view)
		return -ENOMEM;
	guest_view_unref(vq->view);
	vq->view = view;
	if (vq->running)
		(void)resolve_ring(vq, &reason); /* or the old mapping, see the header */
	return 0;
}

int virtq_set_addr(struct virtqueue *vq, const struct virtq_addr *addr)
{
	const char *reason;
	int ret = 0;

	vq->addr = *addr;
	vq->addr_set = true;
	if (vq->running) {
		ret = resolve_ring(vq, &reason);
		if (ret < 0)
			virtq_break(vq, reason);
	}
	return ret;
}

void virtq_set_log(struct virtqueue *vq, struct dirty_log *log)
{
	if (log)
		dirty_log_ref(log);
	dirty_log_unref(vq->log);
	vq->log = log;
}

/* A broken queue may have no ring to look at. */
static inline bool usable(const struct virtqueue *vq)
{
	return likely(vq->running && !vq->error);
}

int virtq_pop(struct virtqueue *vq, struct virtq_chain *chain, struct iovec *iov, unsigned max)
{
	if (!usable(vq))
		return vq->error ? -EPROTO : 0;
	return vq->packed ? virtq_packed_pop(vq, chain, iov, max)
			  : virtq_split_pop(vq, chain, iov, max);
}

void virtq_push(struct virtqueue *vq, const struct virtq_chain *chain, uint32_t written)
{
	if (!usable(vq) || chain->run != vq->run)
		return;
	if (vq->packed)
		virtq_packed_push(vq, chain, written);
	else
		virtq_split_push(vq, chain, written);
	vq->pushed += chain->slots;
	vq->in_flight = (uint16_t)(vq->in_flight - chain->slots);
}

bool virtq_should_notify(struct virtqueue *vq)
{
	bool notify = vq->notify_anyway;

	if (!usable(vq) || (vq->pushed == 0 && !notify))
		return false;
	notify = (vq->packed ? virtq_packed_should_notify(vq) : virtq_split_should_notify(vq)) ||
		 notify;
	vq->pushed = 0;
	vq->notify_anyway = false;
	return notify;
}

bool virtq_has_chain(struct virtqueue *vq)
{
	if (!usable(vq))
		return vq->error != NULL;
	if (vq->resubmit_next < vq->resubmit_count)
		return true;
	return vq->packed ? virtq_packed_has_chain(vq) : virtq_split_has_chain(vq);
}

unsigned virtq_waiting(struct virtqueue *vq)
{
	if (!virtq_has_chain(vq))
		return 0;
	return vq->packed ? 1 : virtq_split_waiting(vq);
}

static void set_kicks(struct virtqueue *vq, bool wanted)
{
	if (vq->packed)
		virtq_packed_set_kicks(vq, wanted);
	else
		virtq_split_set_kicks(vq, wanted);
}

bool virtq_enable_kicks(struct virtqueue *vq)
{
	if (usable(vq)) {
		set_kicks(vq, true);
		/* The driver makes a chain available, then looks whether to kick; we have
		 * asked for kicks and now look for a chain. */
		ring_mb();
	}
	return virtq_has_chain(vq);
}

void virtq_disable_kicks(struct virtqueue *vq)
{
	if (usable(vq))
		set_kicks(vq, false);
}
