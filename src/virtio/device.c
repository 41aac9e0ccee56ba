/* SPDX-License-Identifier: Apache-2.0 */
/* #syscalls eventfd2 */
/* The life of a device and of its connection. See device.h. */
#include "virtio/device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "virtio/device_priv.h"
#include "virtio/shm_map.h"

/* Messages handled before the loop gets to look at its other descriptors. */
#define MESSAGES_AT_ONCE 32

/* While queues are being stopped, ops->interrupt() is repeated at this interval: a
 * request may begin to wait just after it. */
#define INTERRUPT_MS 20u

/* How often a device whose front end is gone looks whether its requests are done, and how
 * long it waits on the spot. */
#define LEAVE_POLL_NS 20000000ull
#define LEAVE_WAIT_MS 1u
#define LEAVE_LOG_NS 10000000000ull

/* ---- Stopping ---- */

/*
 * Waits until the @count halted queues at @queues have nothing outstanding, up
 * to @timeout_ms; returns how many requests are left. Requests that wait for
 * something are told again and again, as one may begin to wait at any moment.
 */
static unsigned device_drain(struct virtio_device *device, struct queue **queues, unsigned count,
			     unsigned timeout_ms, bool orphans)
{
	const uint64_t give_up_ns = loop_now_ns() + timeout_ms * 1000000ull;
	unsigned wait_ms = 0;

	for (;;) {
		unsigned left = 0;

		for (unsigned i = 0; i < count; i++)
			left += queue_wait_idle(queues[i], left ? 0 : wait_ms, orphans);
		if (!left || loop_now_ns() >= give_up_ns) {
			backend_channel_release(&device->backend);
			return left;
		}
		device->ops->interrupt(device->ctx);
		/* Who would answer is waiting for us, most likely. */
		backend_channel_hold(&device->backend);
		wait_ms = MIN(INTERRUPT_MS, timeout_ms);
	}
}

void device_stop_queue(struct virtio_device *device, struct queue *q)
{
	unsigned orphans;

	queue_halt(q);
	device_drain(device, &q, 1, device->config.drain_timeout_ms, false);
	orphans = queue_stop(q);
	if (orphans)
		log_warn("queue_stopped_without", "device=%s requests=%u waited_ms=%u",
			 device->config.name, orphans, device->config.drain_timeout_ms);
}

static void device_halt_all(struct virtio_device *device)
{
	for (unsigned i = 0; i < device->queue_count; i++)
		queue_halt(device->queues[i]);
}

void device_reset(struct virtio_device *device)
{
	unsigned orphans = 0;

	device_halt_all(device);
	device_drain(device, device->queues, device->queue_count, device->config.drain_timeout_ms,
		     false);
	for (unsigned i = 0; i < device->queue_count; i++) {
		orphans += queue_stop(device->queues[i]);
		queue_reset(device->queues[i]);
	}
	if (orphans)
		log_warn("device_reset_without", "device=%s requests=%u waited_ms=%u",
			 device->config.name, orphans, device->config.drain_timeout_ms);
	device_drop_inflight(device);
	device->state.features = 0;
	device->state.status = 0;
}

/* Waits for every request, however long: what they use is about to go. */
static void device_drain_fully(struct virtio_device *device)
{
	unsigned left;

	for (;;) {
		left = device_drain(device, device->queues, device->queue_count,
				    MAX(device->config.drain_timeout_ms, 1000u), true);
		if (!left)
			return;
		log_warn("device_waits_for_requests", "device=%s requests=%u", device->config.name,
			 left);
	}
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void virtio_device_halt(struct virtio_device *device)
{
	if (device->sock >= 0)
		device_halt_all(device);
}

/* Every request is done: lets go of what the front end gave us. */
static void device_detached(struct virtio_device *device)
{
	for (unsigned i = 0; i < device->queue_count; i++) {
		queue_stop(device->queues[i]);
		queue_detach(device->queues[i]);
	}
	vhost_user_msg_release(&device->receiver);
	guest_mem_unref(device->mem);
	device->mem = NULL;
	dirty_log_unref(device->log);
	device->log = NULL;
	device_drop_inflight(device);
	close_fd(&device->log_fd);
	atomic_store(&device->has_window, false);
	device->state = (struct device_state){ 0 };
	close_fd(&device->sock);
	device->ops->detached(device->ctx);
}

static void device_leave_step(struct loop_timer *timer)
{
	struct virtio_device *device = container_of(timer, struct virtio_device, leave);
	unsigned left =
		device_drain(device, device->queues, device->queue_count, LEAVE_WAIT_MS, true);

	if (!left) {
		device_detached(device);
		return;
	}
	if (loop_now_ns() >= device->leave_log_ns) {
		device->leave_log_ns = loop_now_ns() + LEAVE_LOG_NS;
		log_warn("device_waits_for_requests", "device=%s requests=%u", device->config.name,
			 left);
	}
	loop_timer_arm(device->loop, timer, LEAVE_POLL_NS);
}

/* The front end is gone. What its requests use stays until they are done, which may take as
 * long as the storage hangs: the loop goes on meanwhile, a SIGTERM has to be heard. */
static void device_leave(struct virtio_device *device)
{
	loop_fd_remove(device->loop, &device->watch);
	device->leaving = true;
	device_halt_all(device);
	backend_channel_close(&device->backend);
	device->leave_log_ns = loop_now_ns() + LEAVE_LOG_NS;
	device_leave_step(&device->leave);
}

void virtio_device_detach(struct virtio_device *device)
{
	if (device->sock < 0)
		return;
	if (!device->leaving)
		loop_fd_remove(device->loop, &device->watch);
	loop_timer_disarm(&device->leave);
	device_halt_all(device);
	backend_channel_close(&device->backend);
	device_drain_fully(device);
	device_detached(device);
}

/* ---- The connection ---- */

/* Handles what the socket has; negative errno at its end. */
static int device_receive(struct virtio_device *device)
{
	for (unsigned i = 0; i < MESSAGES_AT_ONCE; i++) {
		const char *reason = "";
		int err = vhost_user_receive(&device->receiver, device->sock, &reason);

		if (err == -EAGAIN)
			return 0;
		if (err == -EPROTO)
			log_limited(&device->log_limit, LOG_LEVEL_ERROR,
				    "vhost_user_protocol_error", "device=%s reason=\"%s\"",
				    device->config.name, reason);
		else if (err == -ECONNRESET)
			log_debug("frontend_disconnected", "device=%s", device->config.name);
		else if (err < 0)
			log_warn("vhost_user_socket_failed", "device=%s error=\"%s\"",
				 device->config.name, strerror(-err));
		if (err < 0)
			return err;
		err = vhost_user_dispatch(device, &device->receiver.msg);
		vhost_user_msg_release(&device->receiver);
		if (err < 0)
			return err;
	}
	return 0;
}

static void device_ready(struct loop_fd *entry, uint32_t events)
{
	struct virtio_device *device = container_of(entry, struct virtio_device, watch);

	(void)events; /* a hang-up is found by receiving, after what came before it */
	if (device_receive(device) < 0)
		device_leave(device);
}

bool virtio_device_attached(const struct virtio_device *device)
{
	return device->sock >= 0;
}

int virtio_device_attach(struct virtio_device *device, int fd)
{
	int err = -EBUSY;

	if (device->sock < 0)
		err = loop_fd_add(device->loop, &device->watch, fd, EPOLLIN, device_ready);
	if (err < 0) {
		close(fd);
		return err;
	}
	device->sock = fd;
	device->leaving = false;
	vhost_user_receiver_init(&device->receiver);
	return 0;
}

/* ---- The window ---- */

bool virtio_device_has_window(const struct virtio_device *device)
{
	return atomic_load(&device->has_window);
}

int virtio_device_shmem_map(struct virtio_device *device, int fd, uint64_t fd_offset,
			    uint64_t window_offset, uint64_t length, bool writable)
{
	if (!virtio_device_has_window(device))
		return -ENOTCONN;
	return backend_channel_map(&device->backend, fd, fd_offset, window_offset, length,
				   writable);
}

int virtio_device_shmem_unmap(struct virtio_device *device, uint64_t window_offset, uint64_t length)
{
	if (!virtio_device_has_window(device))
		return -ENOTCONN;
	return backend_channel_unmap(&device->backend, window_offset, length);
}

/* ---- Life ---- */

static struct err *check_config(const struct virtio_device_config *config)
{
	if (!config->num_request_queues || config->num_request_queues >= VIRTIO_FS_QUEUES_MAX)
		return err_new("num_request_queues is %u, must be 1 to %d",
			       config->num_request_queues, VIRTIO_FS_QUEUES_MAX - 1);
	if (config->tag && (!*config->tag || strlen(config->tag) > VIRTIO_FS_TAG_MAX))
		return err_new("tag is %zu bytes long, must be 1 to %d", strlen(config->tag),
			       VIRTIO_FS_TAG_MAX);
	return NULL;
}

static struct err *make_queues(struct virtio_device *device)
{
	struct queue_params params = {
		.name = device->config.name,
		.poll_us = device->config.poll_us,
		.poll = device->config.poll,
		.nobody_fd = device->nobody_fd,
		.ops = device->ops,
		.ctx = device->ctx,
	};
	struct err *err;

	for (unsigned i = 0; i <= device->config.num_request_queues; i++) {
		params.index = i;
		err = queue_new(&device->queues[i], &params);
		if (err)
			return err;
		device->queue_count++;
	}
	return NULL;
}

struct err *virtio_device_new(struct virtio_device **out, const struct virtio_device_config *config,
			      const struct virtio_device_ops *ops, void *ctx, struct loop *loop)
{
	struct err *err = check_config(config);
	struct virtio_device *device;
	int guard;

	if (err)
		return err;
	guard = shm_map_install_guard();
	if (guard < 0)
		return err_errno(-guard, "SIGBUS handler");
	device = calloc(1, sizeof(*device));
	if (!device)
		return err_errno(ENOMEM, "device %s", config->name);
	device->config = *config;
	if (config->tag)
		device->config.tag = strcpy(device->tag, config->tag); /* length is checked */
	device->ops = ops;
	device->ctx = ctx;
	device->loop = loop;
	device->sock = -1;
	loop_timer_init(&device->leave, device_leave_step);
	device->log_fd = -1;
	device->inflight_fd = -1;
	device->nobody_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (backend_channel_init(&device->backend, device->config.name,
				 device->config.answer_timeout_ms) < 0 ||
	    device->nobody_fd < 0)
		err = err_errno(errno, "eventfd");
	else
		err = make_queues(device);
	if (err) {
		virtio_device_free(device);
		return err_wrap(err, "device %s", config->name);
	}
	*out = device;
	return NULL;
}

void virtio_device_free(struct virtio_device *device)
{
	if (!device)
		return;
	virtio_device_detach(device);
	for (unsigned i = 0; i < device->queue_count; i++)
		queue_free(device->queues[i]);
	close_fd(&device->nobody_fd);
	backend_channel_fini(&device->backend);
	free(device);
}

/* ---- What there is to see ---- */

unsigned virtio_device_queue_count(const struct virtio_device *device)
{
	return device->queue_count;
}

void virtio_device_queue_info(const struct virtio_device *device, unsigned queue,
			      struct virtio_queue_info *out)
{
	queue_info(device->queues[queue], out);
}

void virtio_device_each_request(const struct virtio_device *device,
				void (*look)(void *arg, const struct virtio_req *req), void *arg)
{
	for (unsigned i = 0; i < device->queue_count; i++)
		queue_each_request(device->queues[i], look, arg);
}
