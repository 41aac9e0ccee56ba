/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of the device, shared by device.c (life, connection, stopping),
 * vhost_user.c (the message table) and the message handlers in vhost_vring.c and
 * vhost_memory.c. Everything here belongs to the control thread.
 */
#ifndef OVFS_VIRTIO_DEVICE_PRIV_H
#define OVFS_VIRTIO_DEVICE_PRIV_H

#include "base/log.h"
#include "base/loop.h"
#include "virtio/backend_channel.h"
#include "virtio/device.h"
#include "virtio/dirty_log.h"
#include "virtio/guest_mem.h"
#include "virtio/inflight.h"
#include "virtio/queue.h"
#include "virtio/vhost_user_msg.h"

/* What a connection has negotiated; plain data without pointers. */
struct device_state {
	uint64_t features;
	uint64_t protocol_features;
	uint8_t status; /* virtio 1.3, 2.1 */
};

struct virtio_device {
	struct virtio_device_config config;
	char tag[VIRTIO_FS_TAG_MAX + 1]; /* config.tag points here */
	const struct virtio_device_ops *ops;
	void *ctx;
	struct loop *loop;
	int nobody_fd; /* see struct queue_params */
	unsigned queue_count;
	struct queue *queues[VIRTIO_FS_QUEUES_MAX];

	/* The connection. */
	int sock; /* -1: none */
	struct loop_fd watch;
	bool leaving; /* the front end is gone, its requests are not */
	struct loop_timer leave;
	uint64_t leave_log_ns;
	struct vhost_user_receiver receiver;
	struct log_limit log_limit; /* of lines that a front end can cause at will */
	struct device_state state;
	struct guest_mem *mem; /* NULL: none yet */
	struct dirty_log *log;
	int log_fd;
	int inflight_fd;      /* what SET_INFLIGHT_FD brought, -1: nothing */
	bool inflight_packed; /* the format in which the queues have it */
	struct vhost_user_inflight inflight;
	struct backend_channel backend; /* our requests to the front end go here */
	_Atomic bool has_window;	/* agreed on, with all that it takes */
};

/* ---- device.c ---- */

/* Stops @q for GET_VRING_BASE or a new set-up: halts it, waits up to the
 * configured time for its requests, gives up on those that remain. */
void device_stop_queue(struct virtio_device *device, struct queue *q);

/* Virtio device reset: rings, features, status; memory and connection stay. */
void device_reset(struct virtio_device *device);

/* ---- vhost_user.c ---- */

/* What a message with a reply of its own answers. */
struct vhost_user_answer {
	union vhost_user_body body;
	size_t size; /* 0: none of its own */
	int fd;	     /* sent along and closed; -1 for none */
};

/*
 * Acts on one message. Descriptors that it takes from @msg it owns, whatever
 * the result. Negative errno: refused.
 */
typedef int vhost_user_handler(struct virtio_device *device, struct vhost_user_msg *msg,
			       struct vhost_user_answer *answer);

/* Handles @msg and replies. Negative errno: the connection is of no more use,
 * which has been logged. */
int vhost_user_dispatch(struct virtio_device *device, struct vhost_user_msg *msg);

/* ---- vhost_vring.c ---- */

vhost_user_handler vhost_set_vring_num;
vhost_user_handler vhost_set_vring_addr;
vhost_user_handler vhost_set_vring_base;
vhost_user_handler vhost_get_vring_base;
vhost_user_handler vhost_set_vring_kick;
vhost_user_handler vhost_set_vring_call;
vhost_user_handler vhost_set_vring_err;
vhost_user_handler vhost_set_vring_enable;

/* ---- vhost_memory.c ---- */

/* The ring format may have changed: gives the queues their inflight area in it. */
int device_reopen_inflight(struct virtio_device *device);
/* Forgets the area; the queues keep theirs until they are reset. */
void device_drop_inflight(struct virtio_device *device);

vhost_user_handler vhost_set_mem_table;
vhost_user_handler vhost_get_max_mem_slots;
vhost_user_handler vhost_add_mem_reg;
vhost_user_handler vhost_rem_mem_reg;
vhost_user_handler vhost_set_log_base;
vhost_user_handler vhost_set_log_fd;
vhost_user_handler vhost_get_inflight_fd;
vhost_user_handler vhost_set_inflight_fd;

#endif
