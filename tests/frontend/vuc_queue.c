/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What both ring formats share: set-up, the vhost-user messages of a queue,
 * notification. The formats are in vuc_split.c and vuc_packed.c. See vuc.h.
 */
#include "vuc.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PAGE 4096u

static uint64_t page_align(uint64_t n)
{
	return (n + PAGE - 1) & ~(uint64_t)(PAGE - 1);
}

/* The part that the back end writes has pages of its own: the dirty log is exact. */
static int queue_alloc(struct vuc *c, struct vuc_queue *q)
{
	uint64_t driver_part, device_part;
	int err;

	if (q->packed) {
		driver_part = q->size * sizeof(struct vring_packed_desc) + 4;
		device_part = 4;
	} else {
		driver_part = q->size * (sizeof(struct vring_desc) + 2) + 6;
		device_part = q->size * sizeof(struct vring_used_elem) + 6;
	}
	err = vuc_mem_alloc(c, 0, page_align(driver_part) + page_align(device_part), PAGE,
			    &q->ring);
	if (err)
		return err;
	q->desc_gpa = q->ring.gpa;
	q->used_gpa = q->ring.gpa + page_align(driver_part);
	if (q->packed) {
		q->p.desc = (void *)q->ring.p;
		q->avail_gpa = q->ring.gpa + q->size * sizeof(struct vring_packed_desc);
		q->p.driver = vuc_mem_at(c, q->avail_gpa, 4);
		q->p.device = vuc_mem_at(c, q->used_gpa, 4);
	} else {
		q->s.desc = (void *)q->ring.p;
		q->avail_gpa = q->ring.gpa + q->size * sizeof(struct vring_desc);
		q->s.avail = vuc_mem_at(c, q->avail_gpa, 4);
		q->s.used = vuc_mem_at(c, q->used_gpa, 4);
	}
	if (!q->indirect)
		return 0;
	q->indirect_max = c->cfg.indirect_max;
	return vuc_mem_alloc(c, 0, (uint64_t)q->size * q->indirect_max * 16, PAGE,
			     &q->indirect_mem);
}

int vuc_queue_setup(struct vuc *c, unsigned int index)
{
	struct vuc_queue *q = &c->queues[index];
	int err;

	if (!q->slots) {
		q->c = c;
		q->index = index;
		q->size = c->cfg.queue_size;
		q->packed = c->features & VUC_BIT(VIRTIO_F_RING_PACKED);
		q->indirect = c->features & VUC_BIT(VIRTIO_RING_F_INDIRECT_DESC);
		q->event_idx = c->features & VUC_BIT(VIRTIO_RING_F_EVENT_IDX);
		q->slots = calloc(q->size, sizeof(*q->slots));
		if (!q->slots)
			return -ENOMEM;
		err = queue_alloc(c, q);
		if (err)
			return err;
		q->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		q->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		q->err_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (q->kick_fd < 0 || q->call_fd < 0 || q->err_fd < 0)
			return -EMFILE;
	}
	vuc_queue_reset(q);
	return 0;
}

void vuc_queue_reset(struct vuc_queue *q)
{
	memset(q->slots, 0, q->size * sizeof(*q->slots));
	memset(q->ring.p, 0, q->ring.len);
	for (unsigned int i = 0; i < q->size; i++)
		q->slots[i].next_free = (uint16_t)(i + 1);
	q->free_head = 0;
	q->free_entries = q->size;
	q->in_flight = 0;
	q->next_avail = 0;
	q->next_used = 0;
	q->kicked = 0;
	q->since_kick = 0;
	q->avail_wrap = true;
	q->used_wrap = true;
	q->broken = false;
	if (q->packed)
		vuc_packed_reset(q);
	else
		vuc_split_reset(q);
}

uint32_t vuc_queue_base(const struct vuc_queue *q)
{
	/* Used but not yet reaped is done all the same. */
	if (!q->packed)
		return __atomic_load_n(&q->s.used->idx, __ATOMIC_ACQUIRE);
	return (uint32_t)(q->next_used | q->used_wrap << 15) |
	       (uint32_t)(q->next_used | q->used_wrap << 15) << 16;
}

int vuc_queue_send_fd(struct vuc *c, uint32_t request, unsigned int index, int fd)
{
	uint64_t value = index;

	if (fd < 0)
		value |= VUC_VRING_NOFD;
	return vuc_request(c, request, &value, sizeof(value), &fd, fd < 0 ? 0 : 1);
}

int vuc_queue_send_addr(struct vuc *c, unsigned int index)
{
	struct vuc_queue *q = &c->queues[index];
	struct vhost_vring_addr a = {
		.index = index,
		.flags = q->log_addr ? 1u << VHOST_VRING_F_LOG : 0,
		.desc_user_addr = vuc_mem_user_addr(c, q->desc_gpa),
		.avail_user_addr = vuc_mem_user_addr(c, q->avail_gpa),
		.used_user_addr = vuc_mem_user_addr(c, q->used_gpa),
		.log_guest_addr = q->log_addr,
	};

	return vuc_request(c, VUC_SET_VRING_ADDR, &a, sizeof(a), NULL, 0);
}

int vuc_queue_start(struct vuc *c, unsigned int index)
{
	struct vuc_queue *q = &c->queues[index];
	int err;

	err = vuc_set_state(c, VUC_SET_VRING_NUM, index, q->size);
	if (!err)
		err = vuc_set_state(c, VUC_SET_VRING_BASE, index, vuc_queue_base(q));
	if (!err)
		err = vuc_queue_send_addr(c, index);
	if (!err)
		err = vuc_queue_send_fd(c, VUC_SET_VRING_CALL, index, q->call_fd);
	if (!err)
		err = vuc_queue_send_fd(c, VUC_SET_VRING_ERR, index, q->err_fd);
	if (!err)
		err = vuc_queue_send_fd(c, VUC_SET_VRING_KICK, index, q->kick_fd);
	if (!err && (c->features & VUC_BIT(VUC_F_PROTOCOL_FEATURES)))
		err = vuc_queue_enable(c, index, true);
	if (!err)
		q->started = true;
	return err;
}

int vuc_queue_stop(struct vuc *c, unsigned int index, uint32_t *base)
{
	struct vhost_vring_state s = { .index = index };
	struct vuc_msg reply;
	int err = vuc_query(c, VUC_GET_VRING_BASE, &s, sizeof(s), &reply, sizeof(s));

	if (err)
		return err;
	if (reply.u.state.index != index)
		return -EPROTO;
	c->queues[index].started = false;
	if (base)
		*base = reply.u.state.num;
	return 0;
}

int vuc_queue_enable(struct vuc *c, unsigned int index, bool on)
{
	return vuc_set_state(c, VUC_SET_VRING_ENABLE, index, on);
}

int vuc_queue_submit(struct vuc_queue *q, const struct vuc_seg *segs, unsigned int nout,
		     unsigned int nin, void *cookie)
{
	if (nout + nin == 0 || nout + nin > VUC_MAX_SEGS)
		return -EINVAL;
	return q->packed ? vuc_packed_submit(q, segs, nout, nin, cookie)
			 : vuc_split_submit(q, segs, nout, nin, cookie);
}

static void eventfd_signal(int fd)
{
	uint64_t one = 1;

	/* EAGAIN: the counter is full, so the other side has not looked yet anyway. */
	if (write(fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		abort();
}

void vuc_queue_kick_always(struct vuc_queue *q)
{
	q->kicks++;
	eventfd_signal(q->kick_fd);
}

void vuc_queue_kick(struct vuc_queue *q)
{
	/* What was made available must be visible before the other's wish is read. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (q->packed ? vuc_packed_want_kick(q) : vuc_split_want_kick(q))
		vuc_queue_kick_always(q);
}

int vuc_queue_reap(struct vuc_queue *q, void **cookie, uint32_t *len)
{
	int n;

	if (q->broken)
		return -EPROTO;
	n = q->packed ? vuc_packed_reap(q, cookie, len) : vuc_split_reap(q, cookie, len);
	if (n < 0)
		q->broken = true;
	return n;
}

void vuc_queue_calls_off(struct vuc_queue *q)
{
	if (q->packed)
		vuc_packed_calls(q, false);
	else
		vuc_split_calls(q, false);
}

static bool queue_pending(const struct vuc_queue *q)
{
	return q->packed ? vuc_packed_pending(q) : vuc_split_pending(q);
}

int vuc_queue_wait(struct vuc_queue *q, int timeout_ms)
{
	for (;;) {
		struct pollfd p[3] = {
			{ .fd = q->call_fd, .events = POLLIN },
			{ .fd = q->err_fd, .events = POLLIN },
			{ .fd = q->c->sock, .events = POLLRDHUP },
		};
		uint64_t count;
		int n;

		if (queue_pending(q))
			return 0;
		if (q->packed)
			vuc_packed_calls(q, true);
		else
			vuc_split_calls(q, true);
		/* The wish must be visible before the ring is looked at a last time. */
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (queue_pending(q))
			return 0;
		n = poll(p, 3, timeout_ms);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return queue_pending(q) ? -EPROTO : -ETIMEDOUT;
		if (p[1].revents || p[2].revents)
			return queue_pending(q) ? 0 : -ECONNRESET;
		if (read(q->call_fd, &count, sizeof(count)) == sizeof(count))
			q->calls++;
	}
}
