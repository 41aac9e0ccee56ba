/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages about one ring (vhost-user, "Ring states").
 *
 * QEMU sends NUM, BASE, ADDR, KICK, CALL, ERR, ENABLE and stops a ring with
 * GET_VRING_BASE. User-mode Linux sends CALL, NUM, BASE, ADDR, KICK, ENABLE and
 * never stops a ring: it disables it and sets it up anew, so NUM and BASE for
 * a ring that runs stop it first.
 */
#include <errno.h>
#include <unistd.h>

#include "virtio/device_priv.h"

static struct queue *find_queue(struct virtio_device *device, uint64_t index)
{
	return index < device->queue_count ? device->queues[index] : NULL;
}

int vhost_set_vring_num(struct virtio_device *device, struct vhost_user_msg *msg,
			struct vhost_user_answer *answer)
{
	const struct vhost_vring_state *state = &msg->body.state;
	struct queue *q = find_queue(device, state->index);

	(void)answer;
	if (!q)
		return -EINVAL;
	if (queue_started(q))
		device_stop_queue(device, q);
	return queue_set_size(q, state->num);
}

int vhost_set_vring_base(struct virtio_device *device, struct vhost_user_msg *msg,
			 struct vhost_user_answer *answer)
{
	const struct vhost_vring_state *state = &msg->body.state;
	struct queue *q = find_queue(device, state->index);

	(void)answer;
	if (!q)
		return -EINVAL;
	if (queue_started(q))
		device_stop_queue(device, q);
	return queue_set_base(q, state->num);
}

int vhost_get_vring_base(struct virtio_device *device, struct vhost_user_msg *msg,
			 struct vhost_user_answer *answer)
{
	struct queue *q = find_queue(device, msg->body.state.index);

	if (!q)
		return -EINVAL;
	device_stop_queue(device, q);
	answer->body.state.index = msg->body.state.index;
	answer->body.state.num = queue_get_base(q);
	answer->size = sizeof(answer->body.state);
	return 0;
}

int vhost_set_vring_addr(struct virtio_device *device, struct vhost_user_msg *msg,
			 struct vhost_user_answer *answer)
{
	const struct vhost_vring_addr *addr = &msg->body.addr;
	struct queue *q = find_queue(device, addr->index);
	const struct virtq_addr ring = {
		.desc = addr->desc_user_addr,
		.driver = addr->avail_user_addr,
		.device = addr->used_user_addr,
		.log = addr->flags & (1u << VHOST_VRING_F_LOG),
		.log_gpa = addr->log_guest_addr,
	};

	(void)answer;
	/* Also while the ring runs: to turn the log flag on and off. */
	return q ? queue_set_addr(q, &ring) : -EINVAL;
}

/* The queue and in *@fd the descriptor (-1: none, as the message says) of
 * SET_VRING_KICK, CALL and ERR. NULL: the two do not agree, or there is no such queue. */
static struct queue *vring_fd(struct virtio_device *device, struct vhost_user_msg *msg, int *fd)
{
	const bool nofd = msg->body.u64 & VHOST_USER_VRING_NOFD;
	struct queue *q = find_queue(device, msg->body.u64 & VHOST_USER_VRING_INDEX_MASK);

	if (!q || msg->fd_count != (nofd ? 0 : 1))
		return NULL;
	*fd = vhost_user_msg_take_fd(msg, 0);
	return q;
}

int vhost_set_vring_kick(struct virtio_device *device, struct vhost_user_msg *msg,
			 struct vhost_user_answer *answer)
{
	int fd;
	struct queue *q = vring_fd(device, msg, &fd);

	(void)answer;
	return q ? queue_set_kick(q, fd) : -EINVAL;
}

int vhost_set_vring_call(struct virtio_device *device, struct vhost_user_msg *msg,
			 struct vhost_user_answer *answer)
{
	int fd;
	struct queue *q = vring_fd(device, msg, &fd);

	(void)answer;
	return q ? queue_set_call(q, fd) : -EINVAL;
}

int vhost_set_vring_err(struct virtio_device *device, struct vhost_user_msg *msg,
			struct vhost_user_answer *answer)
{
	int fd;
	struct queue *q = vring_fd(device, msg, &fd);

	(void)answer;
	return q ? queue_set_err(q, fd) : -EINVAL;
}

int vhost_set_vring_enable(struct virtio_device *device, struct vhost_user_msg *msg,
			   struct vhost_user_answer *answer)
{
	const struct vhost_vring_state *state = &msg->body.state;
	struct queue *q = find_queue(device, state->index);

	(void)answer;
	if (!q || state->num > 1)
		return -EINVAL;
	return queue_set_enabled(q, state->num);
}
